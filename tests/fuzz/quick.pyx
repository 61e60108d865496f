"""Fuzzers that run a hundred times as often: the target, what it checks, and the loop are C.

Its job: what can be checked in a microsecond or ten. Inputs are read by compiled code alone, where they end is the end
of their memory, and answers must be the same however an input is cut. Not its job: what has to be compared with Python
or with an index looked at as a whole after each input (targets).

Two loops: `guided` hands the targets to libFuzzer, which is led by the code that it reaches, in a core that is built
for that; `shaken` changes seeds at random, in any build.

An index, and all else that takes long to make, lives for INPUTS_A_WORLD inputs; then it is examined and made anew. So
what an input does may depend on those before it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcmp, memcpy, memmove

import json
import sys
import traceback

from tests.fuzz.targets import HEAD, LIMITS, PIECES, TAIL, TARGETS, USUAL, Opener, named
from tests.wiring import NOW, SmallHost

from online.core.connection import Service as _Service
from online.core.gets import Gets
from online.core.index import Index as _Index
from online.core.replay import Replay
from online.core.states import States
from online.limits import Limits
from online.logs.formats import reader_of
from online.logs.jsonlines import json_shapes

from online.core.codec cimport COMPLETE, NUMBER, TEXT, buffer_used
from online.core.connection cimport Connection, Service, connection_proceed, connection_receive
from online.core.journal cimport RECORD_HEAD, read_word, record_checksum
from online.core.jsonfields cimport JsonShapes
from online.core.logfields cimport NO_HOST, PERHAPS_HOST, WITH_HOST, Fields, read_usual, usual_header
from online.core.msgpack_values cimport ARRAY, SCALAR, Token, is_utf8, pack_array, pack_int, pack_text, read_token
from online.core.resp_values cimport parse_int, resp_line
from online.core.skiplist cimport Name
from online.core.system cimport clock_ns

__all__ = ["QUICK", "guided", "run", "shaken"]

cdef extern from *:
    """
    typedef int (*online_callback_t)(const uint8_t*, size_t);
    extern int LLVMFuzzerRunDriver(int*, char***, online_callback_t) __attribute__((weak));
    static int has_driver(void) { return LLVMFuzzerRunDriver != 0; }
    """
    ctypedef int (*callback_t "online_callback_t")(const uint8_t*, size_t) noexcept
    int LLVMFuzzerRunDriver(int* argc, char*** argv, callback_t callback) noexcept
    bint has_driver()

cdef enum:
    INPUTS_A_WORLD = 256
    MOST_OUTPUT = 1 << 16                                # of a conversation that is compared; more is not kept
    MOST_BYTES = 4_096                                   # of an input of `shaken`
    CAREFUL_EVERY = 16                                   # lines of which one is read with care, too

ctypedef int (*target_t)(const uint8_t*, size_t) except -1


cdef int check(bint is_right, str what) except -1:
    if not is_right:
        raise AssertionError(what)
    return 0


# The wire

class _Host(SmallHost):
    def call(self, connection, verb, args, now_ms):
        self.calls.clear()
        return super().call(connection, verb, args, now_ms)


cdef struct Said:
    char at[MOST_OUTPUT]
    size_t n_bytes
    bint is_closing
    int64_t frames


cdef class Side:
    """A server; two that are told the same must say the same."""

    cdef object host
    cdef Service service
    cdef Said said

    def __init__(self, auth_wanted):
        self.host = _Host()
        self.service = _Service(self.host, Limits(**LIMITS), auth_wanted=auth_wanted)

    cdef int renew(self) except -1:
        for index in self.host.sites.values():
            index._check()
        self.host.sites = {b"default": _Index(seed=bytes(16), max_user=16, max_url=32, max_limit=8, max_users=4)}
        return 0

    cdef int converse(self, const uint8_t* data, size_t n_bytes, size_t piece) except -1:
        cdef Connection connection = Connection(self.service, self.host.sites[b"default"], b"default")
        cdef size_t begin = 0, n
        cdef char* part
        self.said.n_bytes = 0
        while begin < n_bytes:
            n = min(piece, n_bytes - begin)
            part = <char*>malloc(n)                      # what is beyond its end is not ours
            memcpy(part, data + begin, n)
            try:
                connection_receive(connection, part, n, NOW_MS)
            finally:
                free(part)
            self.drain(connection)
            begin += n
        self.said.is_closing, self.said.frames = connection.is_closing, connection.frames
        check(not connection.has_work, "work is left")
        connection.release()
        check(self.service.buffered_bytes == 0, "bytes of buffers are lost count of")
        return 0

    cdef int drain(self, Connection connection) except -1:
        cdef size_t n
        while True:
            n = buffer_used(&connection.output)
            if n:
                if self.said.n_bytes + n <= MOST_OUTPUT:
                    memcpy(self.said.at + self.said.n_bytes, connection.output.at + connection.output.start, n)
                self.said.n_bytes = min(self.said.n_bytes + n, <size_t>MOST_OUTPUT)
                connection.output.start = connection.output.end = 0
            if not connection.has_work:
                return 0
            connection_proceed(connection, NOW_MS)


cdef int64_t NOW_MS = NOW
cdef list sides = [[Side(auth_wanted) for _ in range(2)] for auth_wanted in (False, True)]
cdef int64_t n_talked = 0


cdef size_t framing_error(const Said* said) noexcept:
    """Where it is said what is wrong with the framing: that may depend on how much had come."""
    cdef size_t i
    for i in range(6, said.n_bytes):
        if memcmp(said.at + i - 6, b"PROTO ", 6) == 0:
            return i - 6
    return said.n_bytes


cdef int conversation(const uint8_t* data, size_t n_bytes) except -1:
    """Commands or requests: answered alike wherever they are cut."""
    global n_talked
    cdef Side whole, cut
    cdef uint8_t knob
    cdef size_t n
    if n_bytes < 2:
        return 0
    knob = data[0]
    n_talked += 1
    if n_talked % INPUTS_A_WORLD == 1:
        for pair in sides:
            for whole in pair:
                whole.renew()
    whole, cut = sides[1 if knob & 8 else 0]
    whole.converse(data + 1, n_bytes - 1, n_bytes)
    cut.converse(data + 1, n_bytes - 1, PIECES[knob % 8] or n_bytes)
    check(whole.said.is_closing == cut.said.is_closing and whole.said.frames == cut.said.frames, "another end")
    n = framing_error(&whole.said)
    check(n == framing_error(&cut.said) and memcmp(whole.said.at, cut.said.at, n) == 0, "another answer")
    return 0


# HTTP

cdef Side asked = Side(False)
cdef object gets = Gets(lambda now_s: HEAD, [0.001])
cdef bytes HEAD_OF_ANSWERS = HEAD


def _nobody(fd, connection, unread):
    """Take a connection that asks something else."""


cdef int http_gets(const uint8_t* data, size_t n_bytes) except -1:
    """Requests that C answers: what it says is whole answers, and what it leaves was not touched."""
    cdef Connection connection
    cdef const char* at
    cdef const char* end
    cdef size_t n_head = len(HEAD_OF_ANSWERS), length
    if asked.host.sites[b"default"].statistics().users == 0:
        for number in range(40):
            asked.host.sites[b"default"].hit(
                b"user-%d" % number, b"/a" if number else b"/\xff b", seen_ms=NOW - number, now_ms=NOW)
    connection = Connection(asked.service, asked.host.sites[b"default"], b"default")
    gets.take(connection, TAIL, b"default", _nobody)
    asked.said.n_bytes = 0
    connection_receive(connection, <const char*>data, n_bytes, NOW_MS)
    asked.drain(connection)
    at, end = asked.said.at, asked.said.at + asked.said.n_bytes
    while at < end and asked.said.n_bytes < MOST_OUTPUT:
        check(<size_t>(end - at) > n_head and memcmp(at, <const char*>HEAD_OF_ANSWERS, n_head) == 0, "no head")
        at += n_head
        length = 0
        while c'0' <= at[0] <= c'9':
            length = 10 * length + <size_t>(at[0] - c'0')
            at += 1
        check(<size_t>(end - at) >= length + 4 and memcmp(at, b"\r\n\r\n", 4) == 0, "another length")
        at += 4
        check(length >= 2 and at[0] == c'{' and at[length - 1] == c'}', "no object")
        at += length
    check(<size_t>buffer_used(&connection.input) <= n_bytes, "more is left than came")
    connection.release()
    return 0


# Logs

cdef list readers = [reader_of(name) for name in USUAL]
cdef JsonShapes shapes = json_shapes()


cdef int inside(Name name, const uint8_t* data, size_t n_bytes) except -1:
    if name.n_bytes and not (name.n_bytes == 1 and name.at[0] == c'-'):  # a constant may stand for nobody
        check(data <= <const uint8_t*>name.at and <const uint8_t*>name.at + name.n_bytes <= data + n_bytes, "outside")
    return 0


cdef int all_inside(const Fields* fields, const uint8_t* data, size_t n_bytes) except -1:
    inside(fields.address, data, n_bytes)
    inside(fields.user, data, n_bytes)
    inside(fields.method, data, n_bytes)
    inside(fields.url, data, n_bytes)
    inside(fields.status, data, n_bytes)
    inside(fields.agent, data, n_bytes)
    inside(fields.host, data, n_bytes)
    inside(fields.visitor, data, n_bytes)
    inside(fields.forwarded, data, n_bytes)
    inside(fields.referrer, data, n_bytes)
    inside(fields.kind, data, n_bytes)
    return 0


cdef int usual_lines(const uint8_t* data, size_t n_bytes) except -1:
    """Lines that C reads in one pass, and heads of syslog: fields stand in the line; some are read with care, too."""
    cdef Fields fields
    cdef const uint8_t* end = data + n_bytes
    cdef const uint8_t* behind
    cdef bint is_usual = False
    cdef uint32_t sum = 0
    cdef size_t i
    if n_bytes < 2:
        return 0
    for shape in (NO_HOST, WITH_HOST, PERHAPS_HOST):
        if read_usual(data + 1, end, shape, &fields):
            is_usual = True
            all_inside(&fields, data, n_bytes)
    if data[1] == c'{' and shapes.read(data + 1, end, &fields):
        is_usual = True
        all_inside(&fields, data, n_bytes)
    behind = usual_header(data + 1, end)
    check(behind == NULL or data < behind <= end, "the head ends elsewhere")
    if is_usual:
        for i in range(n_bytes):
            sum = 31 * sum + data[i]
        if sum % CAREFUL_EVERY == 0:
            compare(data[0], data[1:n_bytes])
    return 0


cdef int compare(uint8_t number, bytes line) except -1:
    reader = readers[number % len(readers)]
    record = reader.usual.read(line)
    check(record is None or record == reader.careful(line), "read otherwise with care")
    return 0


# What a disk or a bus gives back

cdef object opener = None
cdef int64_t n_opened = 0


cdef object sites_opener():
    """Return what opens sites, some of which may be there already."""
    global opener, n_opened
    n_opened += 1
    if n_opened % INPUTS_A_WORLD == 1:
        if opener is not None:
            for index in opener.sites.values():
                index._check()
        opener = Opener()
    return opener


cdef int journal_records(const uint8_t* data, size_t n_bytes) except -1:
    """Records, their checksums made right: used from the beginning, each whole."""
    cdef bytes mended = data[:n_bytes]
    cdef char* at = PyBytes_AS_STRING(mended)
    cdef size_t used = 0, n
    cdef uint32_t checksum
    while n_bytes - used >= RECORD_HEAD:
        n = read_word(at + used)
        if n == 0 or n > n_bytes - used - RECORD_HEAD:
            break
        checksum = record_checksum(at + used + RECORD_HEAD, n, 1, used)
        memcpy(at + used + 4, &checksum, 4)
        used += RECORD_HEAD + n
    replay = Replay(sites_opener())
    n = replay.feed(mended, 1, 0, now_ms=NOW)
    check(n <= used and (n == used or replay.is_bad), "a whole record is left")
    replay.totals()
    return 0


cdef int bus_entries(const uint8_t* data, size_t n_bytes) except -1:
    """An entry of a bus: what applies it twice changes nothing the second time."""
    cdef bytes frames = data[1:n_bytes] if n_bytes else b""
    opener = sites_opener()
    replay = Replay(opener)
    is_good = replay.apply(frames, now_ms=NOW, latest_ms=NOW + 5_000, is_echo=n_bytes and data[0] & 1)
    before = opener.sites.statistics().users
    check(replay.apply(frames, now_ms=NOW, latest_ms=NOW + 5_000) == is_good, "good only once")
    check(opener.sites.statistics().users == before, "users came twice")
    return 0


# Values

cdef int values(const uint8_t* data, size_t n_bytes) except -1:
    """Values of both dialects: what is read and written again is read as the same. UTF-8 is what Python says it is."""
    cdef Token token, again
    cdef size_t used = 0, n
    cdef int64_t number
    cdef Name text
    cdef char* out = <char*>malloc(n_bytes + 64)
    text.at, text.n_bytes = <const char*>data, <uint32_t>n_bytes
    try:
        while used < n_bytes and read_token(&token, data + used, n_bytes - used) == COMPLETE:
            n = 0
            if token.type == ARRAY:
                n = pack_array(out, <uint64_t>token.n)
            elif token.type == SCALAR and token.arg.type == NUMBER:
                n = pack_int(out, token.arg.number)
            elif token.type == SCALAR and token.arg.type == TEXT and token.size <= n_bytes - used:
                n = pack_text(out, token.arg.text)
            if n:
                check(n <= n_bytes + 9, "longer than it can be")
                check(read_token(&again, <const uint8_t*>out, n) == COMPLETE, "no token")
                check(again.type == token.type, "another type")
                if token.type == ARRAY:
                    check(again.n == token.n, "another length")
                elif token.arg.type == NUMBER:
                    check(again.arg.number == token.arg.number and again.size == n, "another number")
                else:
                    check(again.arg.text.n_bytes == token.arg.text.n_bytes and again.size == n, "another length")
                    check(memcmp(again.arg.text.at, token.arg.text.at, token.arg.text.n_bytes) == 0, "another text")
            used += token.size
        if parse_int(text, &number):
            n = resp_line(out, c':', number)
            check(n >= 4 and out[n - 2] == c'\r' and out[n - 1] == c'\n', "no line")
            text.at, text.n_bytes = out + 1, <uint32_t>(n - 3)
            check(parse_int(text, &token.arg.number) and token.arg.number == number, "another number")
            text.at, text.n_bytes = <const char*>data, <uint32_t>n_bytes
        if is_utf8(text):
            data[:n_bytes].decode("utf-8")
        else:
            try:
                data[:n_bytes].decode("utf-8")
            except UnicodeDecodeError:
                return 0
            check(False, "it is UTF-8")
    finally:
        free(out)
    return 0


cdef object states_index = None
cdef object states = States()
cdef int64_t n_states = 0


cdef int states_of_names(const uint8_t* data, size_t n_bytes) except -1:
    """A user, a zero, and a url: states are JSON, and say these names."""
    global states_index, n_states
    user, _, url = data[:n_bytes].partition(b"\0")
    if not (0 < len(user) <= 256 and 0 < len(url) <= 512):
        return 0
    if n_states % INPUTS_A_WORLD == 0:
        if states_index is not None:
            states_index._check()
        states_index = _Index(seed=bytes(16))
    n_states += 1
    states_index.hit(user, url, seen_ms=NOW, now_ms=NOW)
    text, _ = states.user(states_index, user, now_ms=NOW, step_ms=5)
    [told] = json.loads(text + b"}")["users"]
    check(told == {"user": named(user), "url": named(url), "seen_ms": NOW + 5}, "other names")
    text, _ = states.page(states_index, url, now_ms=NOW, step_ms=5)
    page = json.loads(text + b"}")
    check(page["here"] > 30 or named(user) in [each["user"] for each in page["users"]], "nobody of this name")
    return 0


# Loops

cdef struct Entry:
    const char* name
    target_t run

cdef Entry[9] ENTRIES
ENTRIES[:] = [
    Entry(name=b"resp_commands", run=conversation), Entry(name=b"msgpack_requests", run=conversation),
    Entry(name=b"http_gets", run=http_gets), Entry(name=b"usual_lines", run=usual_lines),
    Entry(name=b"syslog_datagrams", run=usual_lines), Entry(name=b"journal_records", run=journal_records),
    Entry(name=b"bus_entries", run=bus_entries), Entry(name=b"values", run=values),
    Entry(name=b"states_of_names", run=states_of_names),
]

#: What is fuzzed; the seeds are those of the target of this name, if there is one.
QUICK = tuple(entry.name.decode() for entry in ENTRIES)


cdef target_t target_of(str name) except NULL:
    cdef int i
    for i in range(9):
        if ENTRIES[i].name == name.encode():
            return ENTRIES[i].run
    raise KeyError(name)


def seeds_of(name):
    if name in TARGETS:
        return list(TARGETS[name].seeds())
    many = b"\xdc\0\1\xa1a\xd9\1b\xc4\1c\xd3\x80" + bytes(7)
    return ["é✓💩".encode(), b"-9223372036854775807", b"\xcf" + b"\xff" * 8, many]


def run(str name, bytes data):
    """Run a target on an input. Raises AssertionError if something does not hold."""
    target_of(name)(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline uint64_t drawn(uint64_t* state) noexcept nogil:
    """Splitmix64."""
    cdef uint64_t z
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    z = state[0]
    z = (z ^ z >> 30) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ z >> 27) * <uint64_t>0x94D049BB133111EB
    return z ^ z >> 31


cdef size_t change(uint64_t* draw, char* at, size_t n, const char* other, size_t n_other) noexcept nogil:
    """Overwrite, insert, cut out or double something in `n` bytes, where there is room for MOST_BYTES; return how many
    there are then.
    """
    cdef uint64_t chance = drawn(draw)
    cdef size_t begin = <size_t>(chance >> 8) % (n + 1)
    cdef size_t length = 1 + <size_t>(chance >> 24) % 12
    cdef size_t from_other = 0
    cdef char number[12]
    cdef const char* piece = number
    cdef uint64_t bits = drawn(draw)
    memcpy(number, &bits, 8)
    if chance & 8 and n_other:
        from_other = <size_t>(chance >> 32) % n_other
        piece, length = other + from_other, min(length, n_other - from_other)
    else:
        length = min(length, <size_t>4)
    if chance & 3 == 0 and begin < n:                    # cut out
        length = min(length, n - begin)
        memmove(at + begin, at + begin + length, n - begin - length)
        return n - length
    if chance & 3 == 1 and begin < n:                    # a bit
        at[begin] ^= <char>(1 << (chance >> 40 & 7))
        return n
    if chance & 3 == 2 and n + length <= MOST_BYTES:     # insert
        memmove(at + begin + length, at + begin, n - begin)
        memcpy(at + begin, piece, length)
        return n + length
    length = min(length, n - begin)
    memcpy(at + begin, piece, length)
    return n


def shaken(str name, list seeds, int64_t n_inputs, uint64_t seed):
    """Run a target on so many inputs, each a seed with up to eight changes; return the nanoseconds that it took.

    The same arguments give the same inputs. What raises AssertionError is noted with the input.
    """
    cdef target_t target = target_of(name)
    cdef int64_t began_ns = clock_ns()
    cdef uint64_t draw = seed
    cdef size_t n
    cdef char room[MOST_BYTES]
    cdef uint8_t* exact
    cdef bytes origin, other
    for _ in range(n_inputs):
        origin = seeds[<size_t>(drawn(&draw) % <uint64_t>len(seeds))]
        other = seeds[<size_t>(drawn(&draw) % <uint64_t>len(seeds))]
        n = min(<size_t>PyBytes_GET_SIZE(origin), <size_t>MOST_BYTES)
        memcpy(room, PyBytes_AS_STRING(origin), n)
        for _ in range(<int>(1 + drawn(&draw) % 8)):
            n = change(&draw, room, n, PyBytes_AS_STRING(other), PyBytes_GET_SIZE(other))
        exact = <uint8_t*>malloc(n + 1)
        memcpy(exact, room, n)
        try:
            target(exact, n)
        except Exception as error:
            error.add_note(f"the input was {room[:n]!r}")
            raise
        finally:
            free(exact)
    return clock_ns() - began_ns


cdef target_t chosen = NULL


cdef int run_chosen(const uint8_t* data, size_t n_bytes) noexcept:
    try:
        chosen(data, n_bytes)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        abort()                                          # libFuzzer then keeps the input
    return 0


def guided(str name, list options):
    """Hand a target to libFuzzer, with its options. It does not return. Raises RuntimeError where there is none."""
    global chosen
    cdef list texts = [option.encode() for option in ["quick", *options]]
    cdef char** arguments = <char**>malloc((len(texts) + 1) * sizeof(char*))
    cdef int n = <int>len(texts), i
    if not has_driver():
        raise RuntimeError("there is no libFuzzer in this process; see make fuzz")
    for i in range(n):
        arguments[i] = PyBytes_AS_STRING(<bytes>texts[i])
    arguments[n] = NULL
    chosen = target_of(name)
    LLVMFuzzerRunDriver(&n, &arguments, run_chosen)
