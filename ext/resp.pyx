"""RESP, Redis' protocol: arrays of bulk strings, and inline commands, to arguments.

Its job: to find the end of a command, its arguments on the way, and have it answered. Not its job: what it means
(verbs), how replies are written (codec, resp_values).

Invariants:
1. Input before `scan.at`, counted from the frame's start, has been found well formed and is not looked at again until
   the frame is complete. So input that comes a byte at a time costs O(1) a byte.
2. Every length is checked against its limit before anything is allocated for it.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

import re

from online import errors
from online.errors import FramingError

from online.core.arguments cimport arg_text
from online.core.codec cimport COMPLETE, INCOMPLETE, REFUSED, TEXT, Arg, buffer_used
from online.core.resp_values cimport parse_int
from online.core.connection cimport (
    RESP, Connection, Scan, Service, dialect_register, frame_limit, scan_anew,
    room, wrote,
)
from online.core.index cimport name_from
from online.core.skiplist cimport Name
from online.core.verbs cimport LATER, answer

cdef enum:
    LONGEST_LINE = 64 * 1024                             # of an inline command, as in Redis
    LONGEST_HEADER = 32                                  # of a RESP length line
    FIRST_VERB = 8                                       # where a verb of a few letters stands, behind *3 and $3

cdef size_t line_end(const char* at, size_t n, size_t start) noexcept nogil:
    """Return where the line feed of a line stands, or `n`."""
    cdef const char* found = NULL if start >= n else <const char*>memchr(at + start, c'\n', n - start)
    return n if found == NULL else <size_t>(found - at)


cdef inline int resp_header(const char* at, size_t n, size_t* size, int64_t* value) except -2:
    """Read `*123\\r\\n` or `$123\\r\\n`; returns a Progress. Lengths of one or two digits need no call."""
    cdef int first, second
    if n >= 5:
        first, second = at[1] - c'0', at[2] - c'0'
        if 0 <= first <= 9 and at[2] == c'\r' and at[3] == c'\n':
            size[0] = 4
            value[0] = first
            return COMPLETE
        if 0 <= first <= 9 and 0 <= second <= 9 and at[3] == c'\r' and at[4] == c'\n':
            size[0] = 5
            value[0] = 10 * first + second
            return COMPLETE
    return any_header(at, n, size, value)


cdef int any_header(const char* at, size_t n, size_t* size, int64_t* value) except -2:
    """Read a header as `resp_header` does, of any length."""
    cdef size_t end = line_end(at, min(n, <size_t>LONGEST_HEADER), 1)
    cdef Name digits
    if end == min(n, <size_t>LONGEST_HEADER):
        if n >= LONGEST_HEADER:
            raise FramingError(f"a length in RESP ends with CR LF, not {errors.quote(at[:LONGEST_HEADER])}")
        return INCOMPLETE
    digits.at = at + 1
    digits.n_bytes = <uint32_t>(end - 2) if end >= 2 else 0
    if at[end - 1] != c'\r' or not parse_int(digits, value):
        raise FramingError(f"a length in RESP is a number and CR LF, not {errors.quote(at[:end + 1])}")
    size[0] = end + 1
    return COMPLETE


cdef int resp_scan(Connection c, const char* at, size_t n) except -2:
    """Find the end of a RESP frame at `at`, and its arguments where it is complete; returns a Progress."""
    cdef Scan* scan = &c.scan
    cdef Service service = c.service
    cdef size_t max_frame = frame_limit(c)
    cdef size_t size
    cdef int64_t length
    cdef Arg* arg
    cdef int progress
    if scan.wanted < 0:
        if at[0] != c'*':
            return inline_scan(c, at, n)
        progress = resp_header(at, n, &size, &length)
        if progress != COMPLETE:
            return progress
        if length < 0:  # as Redis: no command, and no answer
            length = 0
        if length > service.max_items:
            raise FramingError(f"a command has {length} arguments, 0 to {service.max_items} are taken")
        scan.at = size
        scan.wanted = length
    while scan.n_args < scan.wanted:
        if scan.at == n:
            return INCOMPLETE
        if at[scan.at] != c'$':
            raise FramingError(f"an argument in RESP begins with $, not {errors.quote(at[scan.at:scan.at + 1])}")
        progress = resp_header(at + scan.at, n - scan.at, &size, &length)
        if progress != COMPLETE:
            return progress
        arg = &service.args[scan.n_args]
        if length < 0 or scan.at + size + <uint64_t>length + 2 > max_frame:
            raise FramingError(f"an argument has {length} bytes, a command has at most {max_frame}")
        if scan.at + size + length + 2 > n:
            return INCOMPLETE
        arg.type = TEXT
        arg.text.at = at + scan.at + size
        arg.text.n_bytes = <uint32_t>length
        if arg.text.at[length] != c'\r' or arg.text.at[length + 1] != c'\n':
            raise FramingError(f"an argument of {length} bytes is followed by CR LF, "
                               f"not {errors.quote(arg.text.at[length:length + 2])}")
        scan.at += size + length + 2
        scan.n_args += 1
    return COMPLETE


HTTP_VERSION = re.compile(rb"HTTP/\d(\.\d)?", re.IGNORECASE)
cdef tuple HTTP_METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
cdef bytes HTTP_ANSWER = b"HTTP/1.1 400 This port speaks RESP and MessagePack, not HTTP\r\n\r\n"


cdef bint is_http(list words):
    """Whether the first line of a connection is one of HTTP: a web page must not be able to speak to this port."""
    cdef bytes first
    if not words:
        return False
    first = words[0].upper()
    return first in HTTP_METHODS or first.startswith(b"HOST:") or HTTP_VERSION.fullmatch(words[-1]) is not None


cdef int inline_scan(Connection c, const char* at, size_t n) except -2:
    """Find the end of an inline command, and its arguments; returns a Progress."""
    cdef Scan* scan = &c.scan
    cdef size_t most = min(frame_limit(c), <size_t>LONGEST_LINE)
    cdef size_t end = line_end(at, n, scan.at)
    cdef bytes word
    cdef list words
    if end == n:
        if n > most:
            raise FramingError(f"a line has more than {most} bytes: {errors.quote(at[:n])}")
        scan.at = n
        return INCOMPLETE
    if end > most:
        raise FramingError(f"a line has {end} bytes, at most {most} are taken: {errors.quote(at[:end])}")
    scan.at = end + 1
    words = split_line(at[:end])
    c.work += 1 + len(words)
    if c.frames == 0 and is_http(words):
        memcpy(room(c, len(HTTP_ANSWER)), <const char*>HTTP_ANSWER, len(HTTP_ANSWER))
        wrote(c, len(HTTP_ANSWER))
        c.close()
        return REFUSED
    if not words:
        scan.n_args = scan.wanted = 0
        return COMPLETE
    if len(words) > c.service.max_items:
        raise FramingError(f"a command has {len(words)} arguments, at most {c.service.max_items} are taken")
    c.words = words
    for word in words:
        c.service.args[scan.n_args].type = TEXT
        c.service.args[scan.n_args].text = name_from(word)
        scan.n_args += 1
    scan.wanted = scan.n_args
    return COMPLETE


INLINE_WORD = re.compile(
    r"""(?x) " (?P<double> (?: \\. | [^"\\] )* ) " (?=\s|$)
      | ' (?P<single> (?: \\' | \\(?!') | [^'\\] )* ) ' (?=\s|$)
      | (?P<plain> [^\s"'] \S* )
      | (?P<broken> ["'] )""",
    re.ASCII | re.DOTALL,
)
INLINE_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
cdef dict LINE_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}


cdef list split_line(bytes line):
    """Split an inline command at blanks; "..." may hold \\n \\r \\t \\b \\a \\xHH, '...' only \\'.

    As Redis does, but a quote within a word stands for itself: urls and names have apostrophes.
    """
    cdef bytes stripped = line.strip(b" \t\r\n\0\v\f")
    cdef str text
    cdef list words = []
    if b'"' not in stripped and b"'" not in stripped:
        return stripped.split()
    text = stripped.decode("latin-1")
    for match in INLINE_WORD.finditer(text):
        if match["broken"] is not None:
            raise FramingError(f"unbalanced quotes: {errors.quote(line)}")
        if match["double"] is not None:
            word = INLINE_ESCAPE.sub(unescape, match["double"])
        elif match["single"] is not None:
            word = match["single"].replace("\\'", "'")
        else:
            word = match["plain"]
        words.append(word.encode("latin-1"))
    return words


def unescape(match):
    """Return what an escape in double quotes stands for."""
    digits, letter = match.groups()
    return chr(int(digits, 16)) if digits else LINE_ESCAPES.get(letter, letter)


cdef hits_call_t HITS = NULL


cdef int hits_register(hits_call_t hits) except -1:
    """Let `hits` take the HITs that the input begins with."""
    global HITS
    HITS = hits
    return 0


cdef int run_resp(Connection c) except -1:
    """Scan one RESP frame and answer it if it is complete; of HITs in a row, several."""
    cdef const char* at = c.input.at + c.input.start
    cdef size_t n = buffer_used(&c.input)
    cdef bint is_resumed = c.scan.n_args > 0
    cdef Name verb
    cdef int result, progress
    if c.scan.wanted < 0 and n > FIRST_VERB + 3 and memcmp(at + FIRST_VERB, b"HIT", 3) == 0 and HITS(c, at, n):
        return 0
    progress = resp_scan(c, at, n)
    if (n if progress == INCOMPLETE else c.scan.at) > frame_limit(c):
        raise FramingError(f"a command has more than {frame_limit(c)} bytes")
    c.is_waiting = progress == INCOMPLETE
    if progress != COMPLETE:
        return 0
    if is_resumed:  # service.args has been anybody's meanwhile, and the input may have moved
        scan_anew(c)
        resp_scan(c, at, n)
    if c.scan.n_args:
        arg_text(&c.service.args[0], "a verb", &verb)
        result = answer(c, verb, &c.service.args[1], c.scan.n_args - 1, True)
        c.words = None
        if result == LATER:
            scan_anew(c)
            return 0
    c.input.start += c.scan.at
    scan_anew(c)
    return 0


dialect_register(RESP, run_resp)
