"""Both dialects, sans-I/O: bytes in, verbs carried out on an index, bytes out.

Its job: RESP and MessagePack, the verb table, the hot verbs. Not its job: sockets and time limits (server.py), the
rare verbs (verbs.py), what a verb means (core.pyx).

    bytes -> Buffer -> Scan -> Arg[] -> verb -> Buffer -> bytes

A frame is scanned until it is complete, resumably, every length checked against its limit before anything is
allocated for it; then its verb runs and writes its answer straight into the output. A batch (`hits`) is taken hit by
hit as it comes. An error is raised as an exception by whoever notices it, and becomes a reply in one place (`answer`).

Invariants:
1. Input before `scan.at`, counted from the frame's start, has been found well formed and is not looked at again
   until the frame is complete. So input that comes a byte at a time costs O(1) a byte.
2. The answers stand in the output in the order of the requests.
3. After `is_closing` nothing more is parsed.
4. `service.buffered_bytes` is the sum of the sizes of all buffers.
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

import itertools
import re

from online import errors
from online.errors import CommandError, FramingError, OnlineError
from online.limits import Limits
from online.terms import KINDS
from online.terms import SEEN_MAX_MS as _SEEN_MAX_MS, SEEN_MIN_MS as _SEEN_MIN_MS

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport (
    ACCEPTED, BAD_USER, CURSOR_TAG_BYTES, HITS_AT_ONCE, OF_PAGE, OF_RECENT, OF_USERS,
    Core, Hit, Listing, Outcome, Scope,
    core_continue, core_cursor, core_expire, core_find_page, core_find_user, core_has_more, core_hit, core_hits,
    core_is_named, core_later, core_list, core_list_page, core_list_recent, core_list_users, core_oldest,
    core_page_people, core_people_within, core_section, core_seen_ms, core_weigh_hit,
)
from online.core.index cimport Index, bytes_from, name_from, refusal
from online.core.skiplist cimport DEPARTED, MAX_NAME_BYTES, MEMBER, Name, Record, name_of, page_at, record_at

__all__ = ["OK", "Connection", "Service", "Status", "apply_hits", "dump"]

cdef int64_t SEEN_MIN_MS = _SEEN_MIN_MS
cdef int64_t SEEN_MAX_MS = _SEEN_MAX_MS

cdef enum:
    # A turn ends after so much work, in units of about half a microsecond (a hit), so that other connections wait
    # for a millisecond or so at most.
    WORK_A_TURN = 2048
    WORK_RARE_VERB = 64
    WORK_ERROR = 4                                       # an exception is made and worded
    PAGES_A_UNIT = 16                                    # pages that SECTION adds up in a unit of work
    SECONDS_A_UNIT = 512                                 # counters that COUNT within a time adds up
    ARGS_A_UNIT = 8                                      # arguments of a rare verb
    USERS_A_UNIT = 8                                     # users that a list takes in a unit of work
    LONGEST_LINE = 64 * 1024                             # of an inline command, as in Redis
    LONGEST_HEADER = 32                                  # of a RESP length line
    LONGEST_CURSOR = CURSOR_TAG_BYTES + 2 * MAX_NAME_BYTES
    MOST_LENT_BYTES = 512 * 1024                         # of a lent buffer that is kept for the next
    KIND_BYTES = 16                                      # room for a kind in either dialect
    DEFAULT_LIMIT = 30                                   # users in a list, where none is given


class Status(str):
    """Text that RESP sends as a simple string (`+OK`)."""

    __slots__ = ()


OK = Status("OK")


# Buffers

cdef bint buffer_reserve(Buffer* buffer, size_t n_bytes, int64_t* total) except -1:
    """Make room for `n_bytes` behind the end, moving what is there; `total` follows the size. Amortised O(n)."""
    cdef size_t used = buffer.end - buffer.start
    cdef size_t size = max(buffer.size, <size_t>256)
    cdef void* at
    if buffer.end + n_bytes <= buffer.size:
        return True
    while size < used + n_bytes:
        size *= 2
    if size > buffer.size:
        at = realloc(buffer.at, size)
        if at == NULL:
            raise MemoryError("no memory for a connection's buffer")
        buffer.at = <char*>at
        total[0] += <int64_t>(size - buffer.size)
        buffer.size = size
    if buffer.start:
        memmove(buffer.at, buffer.at + buffer.start, used)
        buffer.start = 0
        buffer.end = used
    return True


cdef int buffer_append(Buffer* buffer, const char* data, size_t n_bytes, int64_t* total) except -1:
    buffer_reserve(buffer, n_bytes, total)
    memcpy(buffer.at + buffer.end, data, n_bytes)
    buffer.end += n_bytes
    return 0


cdef void buffer_free(Buffer* buffer, int64_t* total) noexcept:
    total[0] -= <int64_t>buffer.size
    free(buffer.at)
    memset(buffer, 0, sizeof(Buffer))


cdef inline size_t buffer_used(const Buffer* buffer) noexcept nogil:
    return buffer.end - buffer.start


# Writing values, in the dialect of the connection. Small integers and headers have the compact forms.

cdef inline char* room(Connection c, size_t n_bytes) except NULL:
    """Return where `n_bytes` may be written before `wrote` tells how many were."""
    if c.output.end + n_bytes > c.output.size:
        buffer_reserve(&c.output, n_bytes, &c.service.buffered_bytes)
    return c.output.at + c.output.end


cdef inline void wrote(Connection c, size_t n_bytes) noexcept:
    c.output.end += n_bytes


cdef inline size_t big_endian(char* out, uint8_t head, uint64_t value, int n_bytes) noexcept nogil:
    cdef int i
    out[0] = <char>head
    for i in range(n_bytes):
        out[1 + i] = <char>(value >> (8 * (n_bytes - 1 - i)))
    return 1 + n_bytes


cdef size_t pack_int(char* out, int64_t value) noexcept nogil:
    """Write a MessagePack integer, at most 9 bytes."""
    if value >= 0:
        if value < 128:
            out[0] = <char>value
            return 1
        if value < 1 << 8:
            return big_endian(out, 0xCC, <uint64_t>value, 1)
        if value < 1 << 16:
            return big_endian(out, 0xCD, <uint64_t>value, 2)
        if value < <int64_t>1 << 32:
            return big_endian(out, 0xCE, <uint64_t>value, 4)
        return big_endian(out, 0xCF, <uint64_t>value, 8)
    if value >= -32:
        out[0] = <char>value
        return 1
    return big_endian(out, 0xD3, <uint64_t>value, 8)


cdef size_t pack_head(
        char* out, uint64_t n, uint8_t fix, uint64_t fix_below, uint8_t head8, uint8_t head16) noexcept nogil:
    """Write the head of text, array or map; `head8` 0 where there is no form of 8 bits. At most 5 bytes."""
    if n < fix_below:
        out[0] = <char>(fix | n)
        return 1
    if head8 and n < 1 << 8:
        return big_endian(out, head8, n, 1)
    if n < 1 << 16:
        return big_endian(out, head16, n, 2)
    return big_endian(out, head16 + 1, n, 4)


cdef inline size_t pack_array(char* out, uint64_t n) noexcept nogil:
    return pack_head(out, n, 0x90, 16, 0, 0xDC)


cdef inline bint is_ascii(Name text) noexcept nogil:
    """Whether text is ASCII, as nearly all is. O(n), eight bytes at a time."""
    cdef uint64_t eight, bits = 0
    cdef uint32_t i = 0
    while i + 8 <= text.n_bytes:
        memcpy(&eight, text.at + i, 8)
        bits |= eight
        i += 8
    while i < text.n_bytes:
        bits |= <uint8_t>text.at[i]
        i += 1
    return (bits & <uint64_t>0x8080808080808080) == 0


cdef bint is_utf8(Name text) noexcept nogil:
    """Whether text is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. O(n)."""
    cdef const uint8_t* at = <const uint8_t*>text.at
    cdef const uint8_t* end = at + text.n_bytes
    cdef uint8_t low, high
    cdef int following
    if is_ascii(text):
        return True
    while at < end:
        if at[0] < 0x80:
            at += 1
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= at[0] <= 0xDF:
            following = 1
        elif 0xE0 <= at[0] <= 0xEF:
            following = 2
            if at[0] == 0xE0:
                low = 0xA0
            elif at[0] == 0xED:
                high = 0x9F
        elif 0xF0 <= at[0] <= 0xF4:
            following = 3
            if at[0] == 0xF0:
                low = 0x90
            elif at[0] == 0xF4:
                high = 0x8F
        else:
            return False
        at += 1
        while following:
            if at == end or not low <= at[0] <= high:
                return False
            low, high = 0x80, 0xBF
            at += 1
            following -= 1
    return True


cdef size_t pack_text(char* out, Name text) noexcept nogil:
    """Write text as `str` if it is UTF-8, else as `bin`; at most 5 bytes more than it has."""
    cdef size_t n
    if is_utf8(text):
        n = pack_head(out, text.n_bytes, 0xA0, 32, 0xD9, 0xDA)
    else:
        n = pack_head(out, text.n_bytes, 0, 0, 0xC4, 0xC5)
    memcpy(out + n, text.at, text.n_bytes)
    return n + text.n_bytes


#: 00 01 ... 99: a number is written two digits at a time.
cdef bytes _PAIRS = b"".join(b"%02d" % pair for pair in range(100))
cdef const char* PAIRS = _PAIRS


cdef size_t resp_line(char* out, char head, int64_t value) noexcept nogil:
    """Write a RESP head, a number and CR LF; at most 23 bytes."""
    cdef char digits[20]
    cdef int begin = 20
    cdef size_t size = 1
    cdef uint64_t left = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    out[0] = head
    if value < 0:
        out[size] = c'-'
        size += 1
    while left >= 10:
        begin -= 2
        memcpy(digits + begin, &PAIRS[2 * (left % 100)], 2)
        left //= 100
    if left or begin == 20:
        begin -= 1
        digits[begin] = <char>(c'0' + left)
    memcpy(out + size, digits + begin, 20 - begin)
    size += 20 - begin
    out[size], out[size + 1] = c'\r', c'\n'
    return size + 2


cdef size_t resp_text(char* out, Name text) noexcept nogil:
    """Write a RESP bulk string, at most 25 bytes more than the text has."""
    cdef size_t n = resp_line(out, c'$', text.n_bytes)
    memcpy(out + n, text.at, text.n_bytes)
    n += text.n_bytes
    out[n], out[n + 1] = c'\r', c'\n'
    return n + 2


cdef int put_int(Connection c, int64_t value) except -1:
    cdef char* out = room(c, 24)
    wrote(c, pack_int(out, value) if c.dialect == MSGPACK else resp_line(out, c':', value))
    return 0


cdef int put_array(Connection c, int64_t n) except -1:
    cdef char* out = room(c, 24)
    wrote(c, pack_array(out, <uint64_t>n) if c.dialect == MSGPACK else resp_line(out, c'*', n))
    return 0


cdef int put_map(Connection c, int64_t n) except -1:
    cdef char* out = room(c, 24)
    if c.dialect == MSGPACK:
        wrote(c, pack_head(out, <uint64_t>n, 0x80, 16, 0, 0xDE))
    elif c._resp_version == 3:
        wrote(c, resp_line(out, c'%', n))
    else:
        wrote(c, resp_line(out, c'*', 2 * n))
    return 0


cdef int put_text(Connection c, Name text) except -1:
    cdef char* out = room(c, text.n_bytes + 32)
    wrote(c, pack_text(out, text) if c.dialect == MSGPACK else resp_text(out, text))
    return 0


cdef int put_nil(Connection c) except -1:
    cdef char* out = room(c, 8)
    if c.dialect == MSGPACK:
        out[0] = <char>0xC0
        wrote(c, 1)
    elif c._resp_version == 3:
        memcpy(out, b"_\r\n", 3)
        wrote(c, 3)
    else:
        memcpy(out, b"$-1\r\n", 5)
        wrote(c, 5)
    return 0


cdef int put_line(Connection c, char head, bytes line) except -1:
    """Write a RESP line, such as a status or an error."""
    cdef char* out = room(c, len(line) + 3)
    cdef const char* at = line
    out[0] = head
    memcpy(out + 1, at, len(line))
    out[1 + len(line)], out[2 + len(line)] = c'\r', c'\n'
    wrote(c, len(line) + 3)
    return 0


cdef int put_ok(Connection c) except -1:
    if c.dialect == MSGPACK:
        return put_text(c, name_from(b"OK"))
    return put_line(c, c'+', b"OK")


cdef int put_object(Connection c, value) except -1:
    """Write what a rare verb returned."""
    if value is None:
        return put_nil(c)
    if isinstance(value, int):
        return put_int(c, value)
    if isinstance(value, bytes):
        return put_text(c, name_from(value))
    if isinstance(value, Status) and c.dialect != MSGPACK:
        return put_line(c, c'+', value.encode())
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogateescape")
        return put_text(c, name_from(text))
    if isinstance(value, dict):
        put_map(c, len(value))
        for key, item in value.items():
            put_object(c, key)
            put_object(c, item)
        return 0
    if isinstance(value, (list, tuple)):
        put_array(c, len(value))
        for item in value:
            put_object(c, item)
        return 0
    raise TypeError(f"a verb returned {type(value).__name__}, which no dialect can say")


cdef int begin_reply(Connection c, bint is_error) except -1:
    """Write what stands before a result or an error."""
    cdef char* out
    cdef size_t n
    if c.dialect != MSGPACK:
        return 0
    out = room(c, 16)
    out[0], out[1] = <char>0x94, 1
    memcpy(out + 2, c.frame.msgid, c.frame.msgid_bytes)
    n = 2 + c.frame.msgid_bytes
    if not is_error:
        out[n] = <char>0xC0
        n += 1
    wrote(c, n)
    return 0


cdef int put_error(Connection c, error) except -1:
    """Write a whole error reply."""
    code = getattr(error, "code", "ERR")
    c.work += WORK_ERROR
    c.service.errors += 1
    c.is_misunderstood |= isinstance(error, CommandError)
    if c.dialect != MSGPACK:
        return put_line(c, c'-', f"{code} {error}".encode("ascii", "backslashreplace"))
    begin_reply(c, True)
    put_object(c, [code, str(error)])
    return put_nil(c)


# Arguments

cdef bint parse_int(Name text, int64_t* value) noexcept nogil:
    """Read a decimal integer of 64 bits, nothing around it."""
    cdef uint32_t i = 0
    cdef uint64_t magnitude = 0
    cdef bint is_negative = text.n_bytes > 0 and text.at[0] == c'-'
    if is_negative:
        i = 1
    if not 0 < text.n_bytes - i <= 19:
        return False
    while i < text.n_bytes:
        if not c'0' <= text.at[i] <= c'9':
            return False
        magnitude = magnitude * 10 + <uint64_t>(text.at[i] - c'0')
        i += 1
    if magnitude > <uint64_t>INT64_MAX:
        return False
    value[0] = -<int64_t>magnitude if is_negative else <int64_t>magnitude
    return True


cdef Name arg_text(Arg* arg, str what) except *:
    """Return an argument as text; a number is written out. `what` is its name, for the error."""
    cdef bytes digits
    if arg.type == NUMBER or arg.type == HUGE_NUMBER:
        digits = b"%d" % (arg.number if arg.type == NUMBER else <uint64_t>arg.number)
        memcpy(arg.digits, <const char*>digits, len(digits))
        arg.text.at = arg.digits
        arg.text.n_bytes = <uint32_t>len(digits)
    elif arg.type == NIL:
        arg.text.at = ""
        arg.text.n_bytes = 0
    elif arg.type == OTHER:
        raise errors.not_text(what)
    return arg.text


cdef inline bint is_given(Arg* args, int64_t n_args, int64_t i) noexcept:
    """Whether the argument at `i` is there: neither left out, nor nil, nor empty."""
    return i < n_args and args[i].type != NIL and not (args[i].type == TEXT and args[i].text.n_bytes == 0)


cdef int64_t arg_number(Arg* arg, str what, int64_t low, int64_t high) except? -1:
    """Return a number of 64 bits; `low` and `high`, which are not judged here, are for the error of a longer one."""
    cdef int64_t value
    cdef bytes text
    if arg.type == NUMBER:
        return arg.number
    if arg.type == TEXT and parse_int(arg.text, &value):
        return value
    if arg.type == OTHER:
        raise errors.not_text(what)
    text = bytes_from(arg_text(arg, what))
    if len(text) <= errors.SHOWN_BYTES and text.removeprefix(b"-").isdigit():
        raise errors.bad_number(what, int(text), low, high)
    raise errors.not_a_number(what, text)


cdef int64_t arg_within(Arg* arg, str what, int64_t low, int64_t high) except? -1:
    cdef int64_t value = arg_number(arg, what, low, high)
    if not low <= value <= high:
        raise errors.bad_number(what, value, low, high)
    return value


cdef Name arg_name(Arg* arg, str what, uint32_t most, bint may_be_empty=False) except *:
    """Return a user, url or prefix given in a question."""
    cdef Name name = arg_text(arg, what)
    if name.n_bytes > most or not (name.n_bytes or may_be_empty):
        raise errors.bad_name(what, bytes_from(name), most)
    return name


cdef int arg_kind(Arg* arg) except -1:
    cdef Name text = arg_text(arg, "kind")
    cdef int kind
    cdef bytes name
    for kind in range(<int>DEPARTED):
        name = KIND_NAMES[kind]
        if text.n_bytes == len(name) and memcmp(text.at, <const char*>name, text.n_bytes) == 0:
            return kind
    raise errors.bad_kind(bytes_from(text))


cdef tuple KIND_NAMES = tuple(kind.encode() for kind in KINDS)

#: Kinds as they stand in lists, in either dialect: written once, and copied ever after.
cdef struct KindTexts:
    char[KIND_BYTES] packed
    char[KIND_BYTES] resp
    size_t n_packed
    size_t n_resp

cdef KindTexts[<int>DEPARTED] KIND_TEXTS


for _kind in range(<int>DEPARTED):
    KIND_TEXTS[_kind].n_packed = pack_text(KIND_TEXTS[_kind].packed, name_from(KIND_NAMES[_kind]))
    KIND_TEXTS[_kind].n_resp = resp_text(KIND_TEXTS[_kind].resp, name_from(KIND_NAMES[_kind]))


# Hits

cdef int hit_from(
        Hit* hit, const Core* core, Service service, Arg* args, int64_t n_args, bint is_leave) except -1:
    """Fill `hit` from `user url [seen_ms [kind]]`, or `user [seen_ms]` of a leave."""
    cdef int64_t seen = 1 if is_leave else 2
    cdef int64_t seen_ms
    hit.user = arg_text(&args[0], "user")
    hit.kind = DEPARTED
    if not is_leave:
        hit.url = arg_text(&args[1], "url")
        hit.kind = MEMBER
    hit.seen_ms = core.now_ms
    if is_given(args, n_args, seen):
        seen_ms = arg_number(&args[seen], "seen_ms", SEEN_MIN_MS, SEEN_MAX_MS)
        if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
            raise errors.bad_seen(seen_ms)
        hit.seen_ms = index_of(service, seen_ms)
    if is_given(args, n_args, 3):
        hit.kind = arg_kind(&args[3])
    return 0


cdef Outcome take_hit(Connection c, Arg* args, int64_t n_args, bint is_leave) except *:
    """Carry out HIT or LEAVE; a site that is not there yet begins with a good hit."""
    cdef Hit hit
    cdef Outcome outcome
    cdef Index index = c._index if c.core != NULL else c.service.nobody
    try:
        hit_from(&hit, &index.core, c.service, args, n_args, is_leave)
    except OnlineError:
        index.core.tally.refused += 1
        raise
    if c.core == NULL:
        outcome = core_weigh_hit(&index.core, &hit)
        if outcome >= BAD_USER:
            raise refusal(index, &hit, outcome, wall_of(c.service, hit.seen_ms))
        if outcome != ACCEPTED:
            return outcome
        c.index = index = open_site(c)
    outcome = core_hit(c.core, &hit)
    if outcome >= BAD_USER:
        raise refusal(index, &hit, outcome, wall_of(c.service, hit.seen_ms))
    return outcome


cdef Index open_site(Connection c):
    """Ask the host for the index of a site's first hit."""
    try:
        return c.service.host.open_site(c, c.now_ms)
    except OnlineError:
        c.service.nobody.core.tally.refused += 1
        raise


cdef int verb_hit(Connection c, Arg* args, int64_t n_args) except -1:
    take_hit(c, args, n_args, False)
    return put_ok(c)


cdef int verb_leave(Connection c, Arg* args, int64_t n_args) except -1:
    take_hit(c, args, n_args, True)
    return put_ok(c)


# Questions. A site without an index yet is answered like an empty one.

cdef inline Core* core_of(Connection c) noexcept:
    return c.core if c.core != NULL else &c.service.nobody.core


cdef int verb_count(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name url
    cdef int64_t within_s
    if is_given(args, n_args, 0):
        if is_given(args, n_args, 1):
            raise errors.within_one_page()
        url = arg_name(&args[0], "url", core.max_url)
        return put_int(c, core_page_people(core, core_find_page(core, url)))
    if is_given(args, n_args, 1):
        within_s = arg_within(&args[1], "within_s", 1, core.window_s)
        c.work += within_s // SECONDS_A_UNIT
        return put_int(c, core_people_within(core, within_s))
    return put_int(c, core.people)


cdef int check_number_of(Connection c, str what, int64_t n) except -1:
    if n > c.service.max_limit:
        raise errors.too_many(what, n, c.service.max_limit)
    c.work += n // USERS_A_UNIT
    return 0


cdef int verb_counts(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef int64_t i
    check_number_of(c, "urls", n_args)
    put_array(c, n_args)
    for i in range(n_args):
        put_int(c, core_page_people(core, core_find_page(core, arg_name(&args[i], "url", core.max_url))))
    return 0


cdef int verb_kinds(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef ref_t page = NO_REF
    cdef int kind
    cdef bint of_page = is_given(args, n_args, 0)
    if of_page:
        page = core_find_page(core, arg_name(&args[0], "url", core.max_url))
    put_array(c, <int>DEPARTED)
    for kind in range(<int>DEPARTED):
        if of_page:
            put_int(c, 0 if page == NO_REF else page_at(&core.skiplist, page).counts[kind])
        else:
            put_int(c, core.kinds[kind])
    return 0


cdef int put_kind(Connection c, int kind) except -1:
    cdef char* out = room(c, KIND_BYTES)
    cdef const KindTexts* texts = &KIND_TEXTS[kind]
    if c.dialect == MSGPACK:
        memcpy(out, &texts.packed, KIND_BYTES)
        wrote(c, texts.n_packed)
    else:
        memcpy(out, &texts.resp, KIND_BYTES)
        wrote(c, texts.n_resp)
    return 0


cdef int put_session(Connection c, Core* core, ref_t session, bint with_url) except -1:
    cdef Record* record = record_at(&core.skiplist, session)
    put_array(c, 4 if with_url else 3)
    put_text(c, name_of(&core.skiplist, session))
    if with_url:
        put_text(c, name_of(&core.skiplist, record.page))
    put_int(c, wall_of(c.service, core_seen_ms(core, session)))
    return put_kind(c, record.kind)


cdef int put_list(Connection c, Listing* listing, Scope scope, Name of, Arg* args, int64_t n_args) except -1:
    """Write a list and the cursor behind it; `args` are `[limit [cursor]]`."""
    cdef Core* core = core_of(c)
    cdef int64_t most = c.service.max_limit, limit = min(<int64_t>DEFAULT_LIMIT, most), n, i
    cdef Name cursor
    cdef char room_for_cursor[LONGEST_CURSOR]
    if is_given(args, n_args, 0):
        limit = arg_within(&args[0], "limit", 0, most)
    if is_given(args, n_args, 1):
        cursor = arg_text(&args[1], "cursor")
        if not core_continue(core, listing, scope, of, cursor):
            raise errors.bad_cursor(bytes_from(cursor))
    n = core_list(core, listing, c.service.listed, limit)
    c.work += n // USERS_A_UNIT
    put_array(c, n)
    for i in range(n):
        put_session(c, core, c.service.listed[i], scope != OF_PAGE)
    if n == 0 or not core_has_more(core, listing):
        return put_nil(c)
    cursor.at = room_for_cursor
    cursor.n_bytes = <uint32_t>core_cursor(core, scope, of, c.service.listed[n - 1], room_for_cursor)
    return put_text(c, cursor)


cdef int verb_page(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name url = arg_name(&args[0], "url", core.max_url)
    cdef ref_t page = core_find_page(core, url)
    cdef Listing listing = core_list_page(core, page)
    put_array(c, 4)
    put_int(c, core.people)
    put_int(c, core_page_people(core, page))
    return put_list(c, &listing, OF_PAGE, url, args + 1, n_args - 1)


cdef int verb_recent(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Listing listing = core_list_recent(core_of(c))
    put_array(c, 2)
    return put_list(c, &listing, OF_RECENT, name_from(b""), args, n_args)


cdef int verb_users(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name prefix = name_from(b"")
    cdef Listing listing
    if n_args:
        prefix = arg_name(&args[0], "prefix", core.max_user, True)
    listing = core_list_users(core, prefix)
    put_array(c, 2)
    return put_list(c, &listing, OF_USERS, prefix, args + 1, n_args - 1)


cdef int verb_seen(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef ref_t session
    cdef int64_t i
    check_number_of(c, "users", n_args)
    put_array(c, n_args)
    for i in range(n_args):
        session = core_find_user(core, arg_name(&args[i], "user", core.max_user))
        if session == NO_REF or not core_is_named(core, session):
            put_nil(c)
            continue
        put_array(c, 2)
        put_text(c, name_of(&core.skiplist, record_at(&core.skiplist, session).page))
        put_int(c, wall_of(c.service, core_seen_ms(core, session)))
    return 0


cdef int verb_section(Connection c, Arg* args, int64_t n_args) except -1:
    cdef Core* core = core_of(c)
    cdef Name prefix = arg_name(&args[0], "prefix", core.max_url, True)
    cdef int64_t people, n_pages
    if not core_section(core, prefix, &people, &n_pages):
        c.work += core.max_scan // PAGES_A_UNIT
        raise errors.scan_too_long(bytes_from(prefix), core.max_scan)
    c.work += n_pages // PAGES_A_UNIT
    put_array(c, 2)
    put_int(c, people)
    return put_int(c, n_pages)


cdef int verb_ping(Connection c, Arg* args, int64_t n_args) except -1:
    if n_args:
        return put_text(c, arg_text(&args[0], "text"))
    return put_text(c, name_from(b"PONG")) if c.dialect == MSGPACK else put_line(c, c'+', b"PONG")


cdef int verb_echo(Connection c, Arg* args, int64_t n_args) except -1:
    return put_text(c, arg_text(&args[0], "text"))


# The verb table

ctypedef int (*verb_t)(Connection, Arg*, int64_t) except -1

cdef enum:
    ANY = -1                                             # number of arguments
    MAX_VERBS = 64
    VERB_BYTES = 16                                      # longer than every verb

cdef struct Verb:
    char name[VERB_BYTES]                                # upper case, NULs behind it
    verb_t run                                           # NULL: handed to the host
    int64_t fewest
    int64_t most
    bint before_auth

cdef Verb VERBS[MAX_VERBS]
cdef int N_VERBS = 0
cdef dict USAGES = {}


cdef int verb(str usage, verb_t run, int64_t fewest, int64_t most, bint before_auth=False) except -1:
    """Add a row to the verb table; the first ones are found first."""
    global N_VERBS
    name = usage.split()[0].encode()
    memcpy(VERBS[N_VERBS].name, <const char*>name, len(name))
    VERBS[N_VERBS].run = run
    VERBS[N_VERBS].fewest = fewest
    VERBS[N_VERBS].most = most
    VERBS[N_VERBS].before_auth = before_auth
    USAGES[name.decode()] = usage
    N_VERBS += 1
    return 0


verb("HIT user url [seen_ms [kind]]", verb_hit, 2, 4)
verb("PAGE url [limit [cursor]]", verb_page, 1, 3)
verb("COUNT [url [within_s]]", verb_count, 0, 2)
verb("LEAVE user [seen_ms]", verb_leave, 1, 2)
verb("COUNTS url [url ...]", verb_counts, 1, ANY)
verb("KINDS [url]", verb_kinds, 0, 1)
verb("RECENT [limit [cursor]]", verb_recent, 0, 2)
verb("USERS [prefix [limit [cursor]]]", verb_users, 0, 3)
verb("SEEN user [user ...]", verb_seen, 1, ANY)
verb("SECTION prefix", verb_section, 1, 1)
verb("PING [text]", verb_ping, 0, 1)
verb("ECHO text", verb_echo, 1, 1)
verb("TOP [limit [prefix]]", NULL, 0, 2)
verb("PEAK", NULL, 0, 0)
verb("SITE name", NULL, 1, 1)
verb("SITES", NULL, 0, 0)
verb("INFO [section ...]", NULL, 0, 16)
verb("TIME", NULL, 0, 0)
verb("QUIT", NULL, 0, ANY, True)
verb("RESET", NULL, 0, 0, True)
verb("AUTH [site] token", NULL, 1, 2, True)
verb("HELLO [version [AUTH site token] [SETNAME name]]", NULL, 0, 6, True)
verb("CLIENT subcommand [argument ...]", NULL, 1, ANY)
verb("SELECT site_number", NULL, 1, 1)
verb("CONFIG subcommand [argument ...]", NULL, 1, ANY)
verb("COMMAND [subcommand [argument ...]]", NULL, 0, ANY)


cdef const Verb* find_verb(Name name) noexcept nogil:
    """Return the row of a verb, in either case, or NULL."""
    cdef char upper[VERB_BYTES]
    cdef uint32_t i
    if name.n_bytes >= VERB_BYTES or memchr(name.at, 0, name.n_bytes) != NULL:
        return NULL
    memset(upper, 0, VERB_BYTES)
    for i in range(name.n_bytes):
        upper[i] = name.at[i] - 32 if c'a' <= name.at[i] <= c'z' else name.at[i]
    for i in range(N_VERBS):
        if memcmp(VERBS[i].name, upper, VERB_BYTES) == 0:
            return &VERBS[i]
    return NULL


cdef int call_host(Connection c, str name, Arg* args, int64_t n_args) except -1:
    """Hand a rare verb up."""
    cdef int64_t i
    c.work += WORK_RARE_VERB + n_args // ARGS_A_UNIT
    given = [bytes_from(arg_text(&args[i], "an argument")) for i in range(n_args)]
    return put_object(c, c.service.host.call(c, name, given, core_of(c).now_ms))


cdef int run_verb(Connection c, Name name, Arg* args, int64_t n_args) except -1:
    """Carry out a verb and write its result; raises OnlineError for what is to be an error reply."""
    cdef const Verb* row = find_verb(name)
    if not c.authenticated and (row == NULL or not row.before_auth):
        raise errors.token_wanted(bytes_from(name))
    if row == NULL:
        raise errors.unknown_verb(bytes_from(name))
    if n_args < row.fewest or (row.most != ANY and n_args > row.most):
        raise errors.wrong_arity(verb_text(row), USAGES[verb_text(row)], n_args)
    if row.run == NULL:
        return call_host(c, verb_text(row), args, n_args)
    return row.run(c, args, n_args)


cdef str verb_text(const Verb* row):
    return (<bytes>row.name).decode()


cdef inline void begin_answer(Connection c) noexcept:
    if c.replying == REPLY_SKIP:
        c.replying = REPLY_SKIPPED


cdef inline bint end_answer(Connection c) noexcept:
    """Whether CLIENT REPLY, which may have been the verb just answered, lets the reply out."""
    cdef bint is_let_out = c.replying == REPLY_ON
    if c.replying == REPLY_SKIPPED:
        c.replying = REPLY_ON
    return is_let_out


cdef int answer(Connection c, Name name, Arg* args, int64_t n_args, bint wants_reply) except -1:
    """Carry out a verb and leave its whole reply in the output, or none where none is wanted."""
    cdef size_t mark = buffer_used(&c.output)
    begin_answer(c)
    c.work += 1
    c.frames += 1
    c.service.commands += 1
    try:
        begin_reply(c, False)
        run_verb(c, name, args, n_args)
    except OnlineError as error:
        c.output.end = c.output.start + mark
        put_error(c, error)
    if not end_answer(c) or not wants_reply:
        c.output.end = c.output.start + mark
    return 0


# RESP: arrays of bulk strings, and inline commands

cdef enum Progress:
    BROKEN = -1
    INCOMPLETE
    COMPLETE
    REFUSED                                              # answered already, and closed

cdef size_t line_end(const char* at, size_t n, size_t start) noexcept nogil:
    """Return where the line feed of a line stands, or `n`."""
    cdef const char* found = NULL if start >= n else <const char*>memchr(at + start, c'\n', n - start)
    return n if found == NULL else <size_t>(found - at)


cdef int resp_header(const char* at, size_t n, size_t* size, int64_t* value) except -2:
    """Read `*123\\r\\n` or `$123\\r\\n`; returns a Progress."""
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
        if not 0 <= length <= service.max_items:
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
        if length == -1:
            arg.type = NIL
            scan.at += size
            scan.n_args += 1
            continue
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


cdef tuple HTTP_METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
cdef bytes HTTP_ANSWER = b"HTTP/1.1 400 This port speaks RESP and MessagePack, not HTTP\r\n\r\n"


cdef inline bint is_http(bytes word):
    return word in HTTP_METHODS or word.startswith(b"HOST:")


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
    if words and is_http(words[0].upper()):
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


cdef int run_resp(Connection c) except -1:
    """Scan one RESP frame and answer it if it is complete."""
    cdef const char* at = c.input.at + c.input.start
    cdef size_t n = buffer_used(&c.input)
    cdef bint is_resumed = c.scan.n_args > 0
    cdef int progress = resp_scan(c, at, n)
    if (n if progress == INCOMPLETE else c.scan.at) > frame_limit(c):
        raise FramingError(f"a command has more than {frame_limit(c)} bytes")
    c.is_waiting = progress == INCOMPLETE
    if progress != COMPLETE:
        return 0
    if is_resumed:
        scan_anew(c)
        resp_scan(c, at, n)
    if c.scan.n_args:
        answer(c, arg_text(&c.service.args[0], "a verb"), &c.service.args[1], c.scan.n_args - 1, True)
        c.words = None
    c.input.start += c.scan.at
    scan_anew(c)
    return 0


cdef inline void scan_anew(Connection c) noexcept:
    c.scan.at = 0
    c.scan.n_args = 0
    c.scan.wanted = -1
    c.scan.depth = 0


cdef inline size_t frame_limit(Connection c) noexcept:
    return c.service.max_frame if c.authenticated else c.service.max_frame_before_auth


# MessagePack: [0, msgid, method, params] and [2, method, params]

cdef enum TokenType:
    SCALAR
    ARRAY
    MAP

cdef struct Token:
    TokenType type
    Arg arg                                              # of a scalar
    int64_t n                                            # items of an array, pairs of a map
    size_t size                                          # head, and body of text


cdef inline uint64_t read_big_endian(const uint8_t* at, int n_bytes) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(n_bytes):
        value = value << 8 | at[i]
    return value


cdef inline int token_other(Token* token, size_t size) noexcept nogil:
    token.arg.type = OTHER
    token.size = size
    return COMPLETE


cdef int token_text(Token* token, const uint8_t* at, size_t n, int n_length, uint64_t length) noexcept nogil:
    """A token whose length follows its first byte in `n_length` bytes, or is `length`."""
    if n_length:
        if n < <size_t>(1 + n_length):
            return INCOMPLETE
        length = read_big_endian(at + 1, n_length)
    token.arg.type = TEXT
    token.arg.text.at = <const char*>at + 1 + n_length
    token.arg.text.n_bytes = <uint32_t>length
    token.size = 1 + n_length + length
    return COMPLETE


cdef int token_number(Token* token, const uint8_t* at, size_t n, int n_bytes, bint is_signed) noexcept nogil:
    cdef uint64_t value
    if n < <size_t>(1 + n_bytes):
        return INCOMPLETE
    value = read_big_endian(at + 1, n_bytes)
    token.arg.type = NUMBER
    token.size = 1 + n_bytes
    if is_signed:
        value <<= 64 - 8 * n_bytes
        token.arg.number = <int64_t>value >> (64 - 8 * n_bytes)
    else:
        token.arg.number = <int64_t>value
        if value > <uint64_t>INT64_MAX:
            token.arg.type = HUGE_NUMBER
    return COMPLETE


cdef int token_container(Token* token, const uint8_t* at, size_t n, int n_length, TokenType type) noexcept nogil:
    if n < <size_t>(1 + n_length):
        return INCOMPLETE
    token.type = type
    token.n = <int64_t>read_big_endian(at + 1, n_length)
    token.size = 1 + n_length
    return COMPLETE


cdef int read_token(Token* token, const uint8_t* at, size_t n) noexcept nogil:
    """Read the token at `at`; returns a Progress. COMPLETE means its head: the body may still be to come."""
    cdef uint8_t head
    if n == 0:
        return INCOMPLETE
    head = at[0]
    token.type = SCALAR
    if head < 0x80 or head >= 0xE0:
        token.arg.type = NUMBER
        token.arg.number = <int64_t>head if head < 0x80 else <int64_t>head - 256
        token.size = 1
        return COMPLETE
    if head < 0xA0:
        token.type = MAP if head < 0x90 else ARRAY
        token.n = head & 15
        token.size = 1
        return COMPLETE
    if head < 0xC0:
        return token_text(token, at, n, 0, head & 31)
    if head == 0xC0:
        token.arg.type = NIL
        token.size = 1
        return COMPLETE
    if head == 0xC1:
        return BROKEN
    if head <= 0xC3:
        return token_other(token, 1)
    if head <= 0xC6:
        return token_text(token, at, n, 1 << (head - 0xC4), 0)
    if head <= 0xC9:
        token.arg.type = OTHER
        if token_text(token, at, n, 1 << (head - 0xC7), 0) == INCOMPLETE:
            return INCOMPLETE
        return token_other(token, token.size + 1)
    if head <= 0xCB:
        return token_other(token, 5 if head == 0xCA else 9)
    if head <= 0xCF:
        return token_number(token, at, n, 1 << (head - 0xCC), False)
    if head <= 0xD3:
        return token_number(token, at, n, 1 << (head - 0xD0), True)
    if head <= 0xD8:
        return token_other(token, 2 + (1 << (head - 0xD4)))
    if head <= 0xDB:
        return token_text(token, at, n, 1 << (head - 0xD9), 0)
    if head <= 0xDD:
        return token_container(token, at, n, 2 if head == 0xDC else 4, ARRAY)
    return token_container(token, at, n, 2 if head == 0xDE else 4, MAP)


cdef int check_token(Connection c, const Token* token, int progress, size_t used, int depth) except -1:
    """Check a token that begins `used` bytes into its frame, inside `depth` arrays, against the limits."""
    if progress == BROKEN:
        raise FramingError("0xc1 begins no MessagePack value")
    if progress == INCOMPLETE:
        return 0
    if token.type != SCALAR:
        if token.n > c.service.max_items:
            raise FramingError(f"an array has {token.n} items, at most {c.service.max_items} are taken")
        if depth >= c.service.max_depth:
            raise FramingError(f"arrays are nested more than {c.service.max_depth} deep")
    if used + token.size > frame_limit(c):
        raise FramingError(f"a message has more than {frame_limit(c)} bytes, "
                           f"with a value of {token.size} bytes at {used}")
    return 0


cdef int pack_scan(Connection c, const uint8_t* at, size_t n, int depth) except -2:
    """Scan values until `scan.wanted` are complete, the first ones as arguments; returns a Progress.

    `depth`: arrays around the values.
    """
    cdef Scan* scan = &c.scan
    cdef Token token
    cdef int progress
    while scan.n_args < scan.wanted or scan.depth:
        progress = read_token(&token, at + scan.at, n - scan.at)
        check_token(c, &token, progress, c.frame.size + scan.at, depth + scan.depth)
        if progress == INCOMPLETE or scan.at + token.size > n:
            return INCOMPLETE
        scan.at += token.size
        if scan.depth:
            scan.left[scan.depth - 1] -= 1
        else:
            c.service.args[scan.n_args] = token.arg
            if token.type != SCALAR:
                c.service.args[scan.n_args].type = OTHER
            scan.n_args += 1
        if token.type != SCALAR and token.n:
            scan.left[scan.depth] = token.n if token.type == ARRAY else 2 * token.n
            scan.depth += 1
        while scan.depth and scan.left[scan.depth - 1] == 0:
            scan.depth -= 1
    return COMPLETE


cdef int pack_head_field(Connection c, Token* token, const uint8_t* at, size_t n, size_t* size) except -2:
    """Read one more value of a frame's head, at `size`, which follows; returns a Progress."""
    cdef int progress = read_token(token, at + size[0], n - size[0])
    check_token(c, token, progress, size[0], 0)
    if progress == INCOMPLETE:
        return INCOMPLETE
    # A verb that is too long for the head is refused whole: no verb comes near it.
    if token.size > TALLEST_HEAD - 32:
        raise FramingError(f"the head of a message has a value of {token.size} bytes")
    size[0] += token.size
    return COMPLETE if size[0] <= n else INCOMPLETE


cdef bint same_word(const Token* token, bytes lower) noexcept:
    """Whether text is this lower-case word, in either case."""
    cdef const char* word = lower
    cdef uint32_t i
    if token.arg.type != TEXT or token.arg.text.n_bytes != <uint32_t>len(lower):
        return False
    for i in range(token.arg.text.n_bytes):
        if token.arg.text.at[i] | 32 != word[i]:
            return False
    return True


cdef int begin_frame(Connection c, const uint8_t* at, size_t n) except -2:
    """Read a frame's head, up to the number of its params; returns a Progress."""
    cdef Frame* frame = &c.frame
    cdef Token token
    cdef size_t size = 0, msgid_at
    cdef bint is_request
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != ARRAY or not 3 <= token.n <= 4:
        raise FramingError("a message is an array: [0, msgid, method, params] or [2, method, params]")
    is_request = token.n == 4
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != SCALAR or token.arg.type != NUMBER or token.arg.number != (0 if is_request else 2):
        raise FramingError("a message begins with 0 (a request, of 4 items) or 2 (a notification, of 3)")
    frame.is_request = is_request
    frame.msgid_bytes = 0
    if is_request:
        msgid_at = size
        if pack_head_field(c, &token, at, n, &size) != COMPLETE:
            return INCOMPLETE
        if token.type != SCALAR or token.arg.type not in (NUMBER, HUGE_NUMBER):
            raise FramingError("a msgid is a whole number")
        frame.msgid_bytes = <int>(size - msgid_at)
        memcpy(frame.msgid, at + msgid_at, frame.msgid_bytes)
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != SCALAR or token.arg.type != TEXT:
        raise FramingError("a method is text")
    frame.is_batch = c.authenticated and same_word(&token, b"hits")
    frame.verb_bytes = min(<int>token.arg.text.n_bytes, <int>sizeof(frame.verb))
    memcpy(frame.verb, token.arg.text.at, frame.verb_bytes)
    if pack_head_field(c, &token, at, n, &size) != COMPLETE:
        return INCOMPLETE
    if token.type != ARRAY:
        raise FramingError("params are an array")
    frame.is_begun = True
    frame.size = size
    frame.left = token.n
    frame.n_taken = frame.accepted = frame.ignored = frame.refused = 0
    frame.is_item_odd = False
    c.first_error = None
    c.input.start += size
    scan_anew(c)
    c.scan.wanted = 1 if frame.is_batch else token.n
    return COMPLETE


cdef int run_pack(Connection c) except -1:
    """Take one step in a MessagePack frame: its head, its whole, or as many hits of a batch as there are."""
    cdef const uint8_t* at = <const uint8_t*>c.input.at + c.input.start
    cdef size_t n = buffer_used(&c.input)
    cdef bint is_resumed = c.scan.n_args > 0
    cdef int progress
    cdef Name name
    if not c.frame.is_begun:
        progress = begin_frame(c, at, n)
        c.is_waiting = progress == INCOMPLETE
        return 0
    if c.frame.is_batch:
        return run_batch(c, at, n)
    progress = pack_scan(c, at, n, 2)
    c.is_waiting = progress == INCOMPLETE
    if progress == INCOMPLETE:
        return 0
    if is_resumed:
        c.scan.at = c.scan.n_args = 0
        pack_scan(c, at, n, 2)
    name.at = c.frame.verb
    name.n_bytes = c.frame.verb_bytes
    answer(c, name, c.service.args, c.scan.n_args, c.frame.is_request)
    end_frame(c)
    return 0


cdef void end_frame(Connection c) noexcept:
    c.input.start += c.scan.at
    c.frame.is_begun = False
    c.frame.msgid_bytes = 0
    scan_anew(c)


# A batch of hits

cdef int read_hit(Connection c, Arg* args, const uint8_t* at, size_t n, size_t* size, int64_t* n_args) except -2:
    """Read an item `[user, url, seen_ms, kind]` of a batch; returns a Progress, BROKEN for one of another shape."""
    cdef Token token
    cdef int64_t i
    cdef int progress = read_token(&token, at, n)
    check_token(c, &token, progress, c.frame.size, 2)
    if progress == INCOMPLETE:
        return INCOMPLETE
    if token.type != ARRAY or not 2 <= token.n <= 4:
        return BROKEN
    n_args[0] = token.n
    size[0] = token.size
    for i in range(n_args[0]):
        progress = read_token(&token, at + size[0], n - size[0])
        check_token(c, &token, progress, c.frame.size + size[0], 3)
        if progress == INCOMPLETE:
            return INCOMPLETE
        if token.type != SCALAR:
            return BROKEN
        args[i] = token.arg
        size[0] += token.size
        if size[0] > n:
            return INCOMPLETE
    return COMPLETE


cdef int batch_error(Connection c, int64_t nth, error) except -1:
    """Count a hit that was refused; the first error of a batch is kept for its answer."""
    c.work += WORK_ERROR
    c.frame.refused += 1
    if c.first_error is None:
        c.first_error = [error.code, f"hit {nth} of the batch: {error}"]
    return 0


cdef int take_first_hit(Connection c, Arg* args, int64_t n_args) except -1:
    """Take a hit of a batch for a site that has no index yet, and may get one by it."""
    try:
        if take_hit(c, args, n_args, False) == ACCEPTED:
            c.frame.accepted += 1
        else:
            c.frame.ignored += 1
    except OnlineError as error:
        batch_error(c, c.frame.n_taken, error)
    return 0


cdef int settle_hits(Connection c, const Hit* hits, int n_hits) except -1:
    """Carry out the hits of a batch that were read last, if any, and count what became of them."""
    cdef Outcome outcomes[HITS_AT_ONCE]
    cdef int i
    if n_hits == 0:
        return 0
    core_hits(c.core, hits, n_hits, outcomes)
    for i in range(n_hits):
        if outcomes[i] == ACCEPTED:
            c.frame.accepted += 1
        elif outcomes[i] < BAD_USER:
            c.frame.ignored += 1
        else:
            error = None
            if c.first_error is None:
                error = refusal(c._index, &hits[i], outcomes[i], wall_of(c.service, hits[i].seen_ms))
            batch_error(c, c.frame.n_taken - n_hits + i + 1, error)
    return 0


cdef int skip_item(Connection c, const uint8_t* at, size_t n) except -2:
    """Step over an item of a batch that is no hit; returns a Progress."""
    cdef int progress
    c.frame.is_item_odd = True
    progress = pack_scan(c, at, n, 2)
    if progress != COMPLETE:
        return progress
    core_of(c).tally.refused += 1
    batch_error(c, c.frame.n_taken, errors.bad_hit())
    c.input.start += c.scan.at
    c.frame.size += c.scan.at
    c.frame.is_item_odd = False
    scan_anew(c)
    c.scan.wanted = 1
    return COMPLETE


cdef int read_hits(Connection c, const uint8_t* at, size_t n, size_t* used) except -2:
    """Read and carry out hits of a batch, at most HITS_AT_ONCE; returns the Progress of the one that it stopped at."""
    cdef Frame* frame = &c.frame
    cdef Arg args[4 * HITS_AT_ONCE]
    cdef Hit hits[HITS_AT_ONCE]
    cdef size_t size = 0
    cdef int64_t n_args = 0
    cdef int n_hits = 0, _n_read
    cdef int progress = COMPLETE
    for _n_read in range(<int>min(<int64_t>HITS_AT_ONCE, frame.left)):
        try:
            progress = read_hit(c, &args[4 * n_hits], at + used[0], n - used[0], &size, &n_args)
        except FramingError:
            settle_hits(c, hits, n_hits)
            raise
        if progress != COMPLETE:
            break
        frame.left -= 1
        frame.size += size
        used[0] += size
        c.work += 1
        if c.core == NULL:
            frame.n_taken += 1
            take_first_hit(c, args, n_args)
            continue
        try:
            hit_from(&hits[n_hits], c.core, c.service, &args[4 * n_hits], n_args, False)
        except OnlineError as error:
            settle_hits(c, hits, n_hits)
            n_hits = 0
            frame.n_taken += 1
            c.core.tally.refused += 1
            batch_error(c, frame.n_taken, error)
            continue
        frame.n_taken += 1
        n_hits += 1
    settle_hits(c, hits, n_hits)
    return progress


cdef int run_batch(Connection c, const uint8_t* at, size_t n) except -1:
    """Take the hits of a batch that are there, as long as the turn lasts, and answer after the last."""
    cdef Frame* frame = &c.frame
    cdef size_t used = 0
    cdef int progress = COMPLETE
    while frame.left and progress == COMPLETE and c.work < WORK_A_TURN and not frame.is_item_odd:
        progress = read_hits(c, at, n, &used)
    c.input.start += used
    if progress == BROKEN or frame.is_item_odd:
        if not frame.is_item_odd:
            frame.left -= 1
            frame.n_taken += 1
        progress = skip_item(c, at + used, n - used)
    c.is_waiting = progress == INCOMPLETE
    if frame.left == 0 and not frame.is_item_odd:
        finish_batch(c)
    return 0


cdef int finish_batch(Connection c) except -1:
    """Answer a batch: [accepted, ignored, refused, first error or nil]."""
    c.frames += 1
    c.service.commands += 1
    begin_answer(c)
    if end_answer(c) and c.frame.is_request:
        begin_reply(c, False)
        put_object(c, [c.frame.accepted, c.frame.ignored, c.frame.refused, c.first_error])
    c.first_error = None
    end_frame(c)
    return 0


# Connections

cdef object CONNECTION_IDS = itertools.count(1)


cdef class Service:
    def __cinit__(self, host, limits, *, bint auth_wanted=False, window_s=1800):
        self.host = host
        self.limits = limits
        self.auth_wanted = auth_wanted
        self.max_frame = limits.max_frame
        self.max_frame_before_auth = min(limits.max_frame_before_auth, limits.max_frame)
        self.max_output = limits.max_output
        self.max_items = limits.max_items
        self.max_limit = limits.max_limit
        self.max_depth = limits.max_depth
        if self.max_depth > MAX_NESTING:
            raise errors.bad_number("max_depth", self.max_depth, 3, MAX_NESTING)
        self.nobody = Index(
            window_s=window_s, max_user=limits.max_user, max_url=limits.max_url, max_limit=limits.max_limit)
        self.args = <Arg*>malloc((self.max_items + 1) * sizeof(Arg))
        self.listed = <ref_t*>malloc(self.max_limit * sizeof(ref_t))
        if self.args == NULL or self.listed == NULL:
            raise MemoryError("no memory for a service")

    def unplaced(self):
        """Return what became of hits that were ignored or refused before their site had an index."""
        return self.nobody.statistics()

    def wall_of(self, int64_t index_ms):
        return wall_of(self, index_ms)

    def index_of(self, int64_t wall_ms):
        return index_of(self, wall_ms)

    def __dealloc__(self):
        free(self.args)
        free(self.listed)


# Without no_gc_clear, the collector of cycles could take `service` away before __dealloc__ settles up with it.
@cython.no_gc_clear
cdef class Connection:
    def __cinit__(self, Service service not None, Index index, bytes site not None=b"default"):
        self.service = service
        self.index = index
        self.site = site
        self.name = b""
        self.id = next(CONNECTION_IDS)
        self.authenticated = not service.auth_wanted
        self._resp_version = 2
        service.connections += 1
        scan_anew(self)

    def __dealloc__(self):
        if self.service is not None:
            self.service.connections -= 1
            buffer_free(&self.input, &self.service.buffered_bytes)
            buffer_free(&self.output, &self.service.buffered_bytes)

    @property
    def index(self):
        return self._index

    @index.setter
    def index(self, Index index):
        self._index = index
        self.core = NULL if index is None else &index.core
        core_expire(core_of(self), self.now_ms)

    @property
    def resp_version(self):
        return 0 if self.dialect == MSGPACK else self._resp_version

    @resp_version.setter
    def resp_version(self, int version):
        self._resp_version = version

    @property
    def reply(self):
        return ("on", "off", "skip", "skip")[<int>self.replying]

    @reply.setter
    def reply(self, str value):
        if value != "skip" or self.replying != REPLY_OFF:
            self.replying = {"on": REPLY_ON, "off": REPLY_OFF, "skip": REPLY_SKIP}[value]

    @property
    def output_bytes(self):
        return buffer_used(&self.output)

    @property
    def buffered_bytes(self):
        return self.input.size + self.output.size

    @property
    def in_frame(self):
        return connection_in_frame(self)

    def receive(self, data, *, int64_t now_ms):
        cdef const uint8_t[::1] view
        if len(data):
            view = data
            connection_receive(self, <const char*>&view[0], view.shape[0], now_ms)

    def proceed(self, *, int64_t now_ms):
        connection_proceed(self, now_ms)

    cdef int run(self) except -1:
        """Parse and answer until the input is used up, enough output waits, or the turn is over."""
        cdef uint8_t first
        self.work = 0
        self.is_waiting = False
        self.has_work = False
        while not self.is_closing and not self.is_waiting:
            if buffer_used(&self.input) == 0 and not self.frame.is_begun:
                break
            if self.work >= WORK_A_TURN or buffer_used(&self.output) > self.service.max_output:
                self.has_work = True
                break
            if self.dialect == UNKNOWN:
                first = <uint8_t>self.input.at[self.input.start]
                self.dialect = MSGPACK if first in (0x93, 0x94, 0xDC, 0xDD) else RESP
            if self.dialect == RESP:
                run_resp(self)
            else:
                run_pack(self)
        return 0

    def take_output(self):
        cdef bytes output = self.output.at[self.output.start:self.output.end]
        buffer_free(&self.output, &self.service.buffered_bytes)
        return output

    def close(self):
        self.is_closing = True
        self.has_work = False

    def reset(self):
        self.index = None
        self.site = b"default"
        self.name = b""
        self.authenticated = not self.service.auth_wanted
        self._resp_version = 2
        self.replying = REPLY_ON

    def fail(self, error):
        if self.dialect == MSGPACK and not self.frame.msgid_bytes:
            self.frame.msgid[0] = 0xC0
            self.frame.msgid_bytes = 1
        put_error(self, error)
        self.close()


cdef int connection_receive(Connection c, const char* data, size_t n_bytes, int64_t now_ms) except -1:
    """`Connection.receive` for bytes anywhere in memory. They are parsed in place; what is left over is copied."""
    cdef Buffer* input = &c.input
    cdef const char* left
    cdef size_t n_left
    if c.is_closing or n_bytes == 0:
        return 0
    if input.size:
        buffer_append(input, data, n_bytes, &c.service.buffered_bytes)
        return connection_proceed(c, now_ms)
    # Nothing waits, so what came is parsed where it lies. Only what is left over is copied.
    input.at, input.start, input.end = <char*>data, 0, n_bytes
    try:
        answer_input(c, now_ms)
    finally:
        left = input.at + input.start
        n_left = buffer_used(input)
        memset(input, 0, sizeof(Buffer))
    if n_left and not c.is_closing:
        buffer_append(input, left, n_left, &c.service.buffered_bytes)
    return 0


cdef int connection_proceed(Connection c, int64_t now_ms) except -1:
    """`Connection.proceed`."""
    answer_input(c, now_ms)
    if c.input.size and buffer_used(&c.input) == 0:
        buffer_free(&c.input, &c.service.buffered_bytes)
    return 0


cdef int answer_input(Connection c, int64_t now_ms) except -1:
    c.now_ms = now_ms
    core_expire(core_of(c), now_ms)
    try:
        c.run()
    except FramingError as error:
        c.fail(error)
    return 0


cdef void connection_forget_input(Connection c) noexcept:
    """Free the input of a connection that is closing. Not from inside a verb, which may stand in it."""
    buffer_free(&c.input, &c.service.buffered_bytes)


cdef bint connection_in_frame(Connection c) noexcept:
    """`Connection.in_frame`."""
    return c.is_waiting and (buffer_used(&c.input) > 0 or c.frame.is_begun)


cdef void connection_lend(Connection c, Buffer* room) noexcept:
    """Let a connection without an output buffer write into `room`, which becomes its own; `room` is empty then."""
    if c.output.size == 0:
        c.output = room[0]
        c.service.buffered_bytes += <int64_t>room.size
        memset(room, 0, sizeof(Buffer))


cdef void connection_give_back(Connection c, Buffer* room) noexcept:
    """Take the buffer of an output that has gone, for the next to lend it to; free it if it has grown large."""
    if c.output.size == 0 or buffer_used(&c.output):
        return
    if room.size or c.output.size > MOST_LENT_BYTES:
        buffer_free(&c.output, &c.service.buffered_bytes)
        return
    room[0] = c.output
    room.start = room.end = 0
    c.service.buffered_bytes -= <int64_t>room.size
    memset(&c.output, 0, sizeof(Buffer))


cdef void connection_trim(Connection c) noexcept:
    """Let waiting output take no more than 4/3 of the memory that it needs. O(output), seldom."""
    cdef size_t used = buffer_used(&c.output)
    cdef char* at
    if 4 * used >= 3 * c.output.size:
        return
    at = <char*>malloc(used)
    if at == NULL:
        return
    memcpy(at, c.output.at + c.output.start, used)
    buffer_free(&c.output, &c.service.buffered_bytes)
    c.output.at, c.output.start, c.output.end, c.output.size = at, 0, used, used
    c.service.buffered_bytes += <int64_t>used


# The sessions of an index as frames, and back

def dump(Index index not None, *, int64_t clock_step_ms=0, int frame_bytes=65_536):
    cdef ref_t session
    cdef bint named
    hits = bytearray()
    leaves = bytearray()
    n_hits = 0
    for named in (True, False):
        session = core_oldest(&index.core, named)
        while session != NO_REF:
            if record_at(&index.core.skiplist, session).kind == DEPARTED:
                leaves += pack_session(&index.core, session, clock_step_ms)
            else:
                hits += pack_session(&index.core, session, clock_step_ms)
                n_hits += 1
            if len(hits) >= frame_bytes or n_hits == 4096:
                yield batch_head(n_hits) + bytes(hits)
                hits.clear()
                n_hits = 0
            if len(leaves) >= frame_bytes:
                yield bytes(leaves)
                leaves.clear()
            session = core_later(&index.core, session, named)
    if n_hits:
        yield batch_head(n_hits) + bytes(hits)
    if leaves:
        yield bytes(leaves)


cdef bytes batch_head(int n_hits):
    """Return the head of a notification of so many hits."""
    cdef char head[16]
    return b"\x93\x02\xa4hits" + head[:pack_array(head, n_hits)]


cdef bytes pack_session(Core* core, ref_t session, int64_t clock_step_ms):
    """Return a session as an item of a batch; a departed one as a whole LEAVE notification."""
    cdef Record* record = record_at(&core.skiplist, session)
    cdef Name user = name_of(&core.skiplist, session)
    cdef Name url
    cdef bint is_departed = record.kind == DEPARTED
    cdef bytes packed
    cdef char* out
    cdef size_t n = 0
    url.n_bytes = 0
    if not is_departed:
        url = name_of(&core.skiplist, record.page)
    packed = bytes(user.n_bytes + url.n_bytes + 64)
    out = packed
    if is_departed:
        memcpy(out, b"\x93\x02\xa5LEAVE\x92", 9)
        n = 9
    else:
        n = pack_array(out, 4)
    n += pack_text(out + n, user)
    if not is_departed:
        n += pack_text(out + n, url)
    n += pack_int(out + n, core_seen_ms(core, session) + clock_step_ms)
    if not is_departed:
        n += pack_text(out + n, name_from(KIND_NAMES[record.kind]))
    return packed[:n]


_UNBOUND = Limits(max_frame=2**40)


class _NoHost:
    """The host of a service that is fed hits alone."""

    def call(self, connection, verb, args, now_ms):
        raise errors.unknown_verb(verb.encode())

    def open_site(self, connection, now_ms):
        raise AssertionError("the index is there")


_hits_alone = None


def apply_hits(Index index not None, frames, *, int64_t now_ms):
    global _hits_alone
    if _hits_alone is None:
        _hits_alone = Service(_NoHost(), _UNBOUND)
    cdef Service service = _hits_alone
    cdef Connection connection = Connection(service, index)
    before = index.statistics()
    connection.dialect = MSGPACK
    connection.receive(frames, now_ms=now_ms)
    while connection.has_work:
        connection.take_output()
        connection.proceed(now_ms=now_ms)
    if connection.is_closing or connection.in_frame or connection.is_misunderstood:
        raise FramingError("these are no whole frames of hits")
    after = index.statistics()
    return (
        after.accepted - before.accepted,
        after.late + after.stale - before.late - before.stale,
        after.refused - before.refused,
    )
