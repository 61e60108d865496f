"""The hottest requests of HTTP in C: COUNT, PAGE and SEEN over connections that have asked them before.

Its job: to know a request again, and to answer it byte for byte as Python does (online.http), which has read, judged
and answered the one before. Not its job: HTTP. A request is known by its target, of a few strict shapes, and by all
that follows: the version and the headers are to be those of the request before, byte for byte, and so mean the same.

Anything else is left to the host with the connection: other paths, parameters and headers, what is not complete, what
would be an error, and whatever takes more than a turn.

Invariants:
1. Nothing is written unless the whole request is known.
2. What stands in the head of an answer is written by the host. Only the length is added.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from online.core.codec cimport buffer_used
from online.core.connection cimport (
    GETS, MSGPACK, Connection, connection_forget_input, connection_speak, core_of, dialect_register, room, wall_of,
    wrote,
)
from online.core.core cimport Core, core_page_people, core_settle_page
from online.core.arena cimport ref_t
from online.core.resp_values cimport MOST_LINE_BYTES, resp_line
from online.core.skiplist cimport Name
from online.core.states cimport MOST_USERS, States
from online.core.system cimport clock_ns

__all__ = ["PATHS", "Gets"]

cdef enum:
    MOST_NAME_BYTES = 2_048                              # of a url or user here; longer ones are left to the host
    MOST_BUCKETS = 16
    EXPIRED_A_REQUEST = 256                              # sessions that COUNT drops in a turn
    USERS_A_UNIT = 8                                     # users that a page takes in a unit of work

cdef enum Question:
    COUNT
    PAGE
    SEEN
    QUESTIONS

PATHS = (b"/api/v1/count", b"/api/v1/page", b"/api/v1/seen")

cdef const char* VERBS[3]
VERBS[:] = [b"COUNT", b"PAGE", b"SEEN"]
cdef const char* NAMES[3]
NAMES[:] = [b"url=", b"url=", b"user="]

#: What bytes stand for in a value: themselves, or else 0. A plus and percent signs are not among them.
cdef char[256] PLAIN

for _byte in range(256):
    PLAIN[_byte] = <char>(_byte if chr(_byte).isalnum() and _byte < 128 or chr(_byte) in "-._~/:@!$'()*,;" else 0)


cdef struct Times:
    int64_t ns
    int64_t counts[MOST_BUCKETS]


cdef struct Request:
    Question question
    bint has_name
    Name name
    int64_t limit                                        # -1: none is given
    bint has_site


cdef class Gets:
    cdef object write_head
    cdef bytes head
    cdef int64_t head_s                                  # the wall time that the head is of
    cdef States states
    cdef int n_bounds
    cdef int64_t[MOST_BUCKETS] bounds_ns
    cdef Times[3] times
    cdef char[MOST_NAME_BYTES] name                      # of the request at hand

    def __init__(self, write_head, bounds_s):
        self.write_head = write_head
        self.head, self.head_s = None, 0
        self.states = States()
        self.n_bounds = len(bounds_s)
        if self.n_bounds >= MOST_BUCKETS:
            raise ValueError(f"there is room for {MOST_BUCKETS - 1} bounds, not for {self.n_bounds}")
        for i, bound_s in enumerate(bounds_s):
            self.bounds_ns[i] = round(bound_s * 1e9)
        self.clear()

    cdef void clear(self) noexcept:
        cdef int question, i
        for question in range(QUESTIONS):
            self.times[question].ns = 0
            for i in range(MOST_BUCKETS):
                self.times[question].counts[i] = 0

    def take(self, Connection connection not None, bytes tail not None, bytes home not None, leave):
        cdef Asking asking = Asking()
        asking.gets, asking.tail, asking.home, asking.to_host = self, tail, home, leave
        connection.asking = asking
        connection_speak(connection, GETS)

    def take_times(self):
        cdef Times* times
        cdef int question, i
        taken = {}
        for question in range(QUESTIONS):
            times = &self.times[question]
            taken[VERBS[question].decode()] = times.ns / 1e9, [times.counts[i] for i in range(self.n_bounds + 1)]
        self.clear()
        return taken

    cdef void took(self, Question question, int64_t ns) noexcept:
        cdef Times* times = &self.times[<int>question]
        cdef int i = 0
        while i < self.n_bounds and ns > self.bounds_ns[i]:
            i += 1
        times.counts[i] += 1
        times.ns += ns

    cdef bint answer(self, Connection c, const Request* request) except -1:
        """Answer a request; or return False, and have written nothing."""
        cdef Core* core = core_of(c)
        cdef int64_t step_ms = c.service.step_ms, left = EXPIRED_A_REQUEST, most
        cdef Name name = request.name
        cdef ref_t page
        if request.has_name and not 0 < name.n_bytes <= (core.max_user if request.question == SEEN else core.max_url):
            return False
        if request.question == SEEN:
            self.states.write_user(core, name, step_ms)
        elif request.question == PAGE:
            most = min(<int64_t>MOST_USERS, c.service.max_limit)
            if request.limit > most:
                return False
            most = most if request.limit < 0 else request.limit
            c.work += most // USERS_A_UNIT
            if not self.states.write_page(core, name, most, False, step_ms):
                return False
        elif request.has_name:
            if not core_settle_page(core, name, False, &left, &page):
                return False
            self.states.write_count(core_page_people(core, page))
        else:
            self.states.write_count(core.people)
        self.put(c)
        return True

    cdef int put(self, Connection c) except -1:
        """Write the state that was made as the answer to a request."""
        cdef States states = self.states
        cdef int64_t at_ms = wall_of(c.service, c.now_ms)
        cdef const char* head
        cdef size_t n_head
        cdef char* out
        cdef char* begin
        if self.head is None or at_ms // 1000 != self.head_s:
            self.head_s = at_ms // 1000
            self.head = self.write_head(self.head_s)
        states.put(b',"at_ms":')
        states.put_int(at_ms)
        states.put(b"}")
        head, n_head = self.head, len(self.head)
        begin = out = room(c, n_head + MOST_LINE_BYTES + 2 + states.n_bytes)
        memcpy(out, head, n_head)
        out += n_head - 1
        out += resp_line(out, out[0], <int64_t>states.n_bytes)
        memcpy(out, b"\r\n", 2)
        memcpy(out + 2, states.at, states.n_bytes)
        out += 2 + states.n_bytes
        wrote(c, out - begin)
        return 0


cdef class Asking:
    """How a connection asks."""

    cdef Gets gets
    cdef bytes tail
    cdef bytes home
    cdef object to_host

    def leave(self, int fd, Connection c):
        """Hand a connection to the host, as it was before it asked by GETS."""
        unread = c.input.at[c.input.start:c.input.end] if buffer_used(&c.input) else b""
        connection_forget_input(c)
        c.asking, c.is_leaving = None, False
        connection_speak(c, MSGPACK)
        self.to_host(fd, c, unread)


cdef int step_get(Connection c) except -1:
    """Answer the request that comes next, or leave it to the host."""
    cdef Asking asking = <Asking>c.asking
    cdef const char* at = c.input.at + c.input.start
    cdef const char* end = c.input.at + c.input.end
    cdef const char* tail = asking.tail
    cdef ptrdiff_t n_tail = len(asking.tail)
    cdef int64_t began_ns = clock_ns()
    cdef Request request
    at = read_target(at, end, asking.gets.name, c.site, &request)
    if (
        at != NULL and end - at >= n_tail and memcmp(at, tail, n_tail) == 0 and not c.service.is_barred
        and (request.has_site or c.site == asking.home)
    ):
        c.service.last_verb = VERBS[<int>request.question]
        if asking.gets.answer(c, &request):
            c.input.start = at + n_tail - c.input.at
            c.work += 1
            c.frames += 1
            c.service.commands += 1
            asking.gets.took(request.question, clock_ns() - began_ns)
            return 0
    c.is_leaving = c.is_waiting = True
    return 0


cdef bint skip(const char** at, const char* end, const char* text, ptrdiff_t n_bytes) noexcept nogil:
    """Go behind `text` if it is what comes next."""
    if end - at[0] < n_bytes or memcmp(at[0], text, n_bytes):
        return False
    at[0] += n_bytes
    return True


cdef const char* read_target(const char* at, const char* end, char* buffer, bytes site, Request* request) noexcept:
    """Read method and target; return where they end, at a blank, or NULL if they are not of the known shapes."""
    cdef Question question
    cdef bint is_first = True
    request.has_name = request.has_site = False
    request.name.at, request.name.n_bytes = buffer, 0
    request.limit = -1
    if not skip(&at, end, b"GET /api/v1/", 12):
        return NULL
    if skip(&at, end, b"count", 5):
        question = COUNT
    elif skip(&at, end, b"page", 4):
        question = PAGE
    elif skip(&at, end, b"seen", 4):
        question = SEEN
    else:
        return NULL
    request.question = question
    while at < end and at[0] != c' ':
        if at[0] != (c'?' if is_first else c'&'):
            return NULL
        at, is_first = read_parameter(at + 1, end, site, request), False
        if at == NULL:
            return NULL
    return at if at < end and (request.has_name or question == COUNT) else NULL


cdef const char* read_parameter(const char* at, const char* end, bytes site, Request* request) noexcept:
    """Read one parameter; return where it ends, or NULL if it is not known, or came before."""
    cdef const char* name = NAMES[<int>request.question]
    if skip(&at, end, name, 5 if request.question == SEEN else 4):
        if request.has_name:
            return NULL
        request.has_name = True
        return read_value(at, end, <char*>request.name.at, &request.name.n_bytes)
    if request.question == PAGE and skip(&at, end, b"limit=", 6):
        if request.limit >= 0:
            return NULL
        return read_limit(at, end, &request.limit)
    if skip(&at, end, b"site=", 5):
        if request.has_site:
            return NULL
        request.has_site = True
        return read_site(at, end, site, <ptrdiff_t>len(site))
    return NULL


cdef const char* read_site(const char* at, const char* end, const char* site, ptrdiff_t n_bytes) noexcept nogil:
    """Read `site`, which is to stand for itself in a target; or return NULL."""
    cdef ptrdiff_t i
    for i in range(n_bytes):
        if PLAIN[<uint8_t>site[i]] == 0:
            return NULL
    return at if skip(&at, end, site, n_bytes) else NULL


cdef const char* read_limit(const char* at, const char* end, int64_t* limit) noexcept nogil:
    """Read a number of one digit or two, as one writes it."""
    if at == end or not c'0' <= at[0] <= c'9':
        return NULL
    limit[0] = at[0] - c'0'
    at += 1
    if limit[0] and at < end and c'0' <= at[0] <= c'9':
        limit[0] = 10 * limit[0] + at[0] - c'0'
        at += 1
    return at


cdef const char* read_value(const char* at, const char* end, char* out, uint32_t* n_bytes) noexcept nogil:
    """Read a name, percent-encoded as in forms; return where it ends, or NULL if it is too long or has other bytes."""
    cdef uint32_t n = 0
    cdef int high, low
    while at < end and at[0] != c'&' and at[0] != c' ':
        if n == MOST_NAME_BYTES:
            return NULL
        if at[0] == c'%':
            if end - at < 3:
                return NULL
            high, low = hex_digit(at[1]), hex_digit(at[2])
            if high < 0 or low < 0:
                return NULL
            out[n] = <char>(16 * high + low)
            at += 3
        else:
            out[n] = c' ' if at[0] == c'+' else PLAIN[<uint8_t>at[0]]
            if out[n] == 0:
                return NULL
            at += 1
        n += 1
    n_bytes[0] = n
    return at


cdef inline int hex_digit(char digit) noexcept nogil:
    if c'0' <= digit <= c'9':
        return digit - c'0'
    if c'a' <= (digit | 0x20) <= c'f':
        return (digit | 0x20) - c'a' + 10
    return -1


dialect_register(GETS, step_get)
