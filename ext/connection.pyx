"""A connection, sans-I/O: bytes in, verbs carried out, bytes out, in turns.

Its job: buffers and who accounts for them, the turn, the choice of the dialect, and the end. Not its job: what a frame
is (resp, msgpack), what verbs are (verbs), sockets and deadlines (reactor, streams).

    bytes -> input -> step of the dialect: frame -> Arg[] -> verb -> output -> bytes

An error is raised as an exception by whoever notices it, and becomes a reply in one place: of a verb in `answer`
(verbs), of the framing in `answer_input` here.

Invariants:
1. After `is_closing` nothing more is parsed.
2. `service.buffered_bytes` is the sum of the sizes of all buffers.
3. Every byte of a client comes by `answer_input`, whatever carries it.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

import itertools

from online import errors
from online.errors import CommandError, FramingError

from online.core.arena cimport ref_t
from online.core.codec cimport COMPLETE, NIL, NUMBER, TEXT, Arg, Buffer, buffer_used
from online.core.core cimport core_advance
from online.core.index cimport Index, name_from
from online.core.msgpack_values cimport ARRAY, MAP, Token, read_token

__all__ = ["NOT_YET", "OK", "Connection", "Packed", "Service", "Status", "Written"]

cdef enum:
    MOST_LENT_BYTES = 512 * 1024                         # of a lent buffer that is kept for the next


class Status(str):
    """Text that RESP sends as a simple string (`+OK`)."""

    __slots__ = ()


OK = Status("OK")
NOT_YET = object()


class Written(bytes):
    """A reply that is written already, in the dialect of its connection."""

    __slots__ = ()


class Packed(bytes):
    """A reply in MessagePack, written in the dialect of its connection."""

    __slots__ = ()


# Buffers

cdef int buffer_reserve(Buffer* buffer, size_t n_bytes, int64_t* total) except -1:
    """Make room for `n_bytes` behind the end, moving what is there; `total` follows the size. Amortised O(n)."""
    cdef size_t used = buffer.end - buffer.start
    cdef size_t size = max(buffer.size, <size_t>256)
    cdef void* at
    if buffer.end + n_bytes <= buffer.size:
        return 0
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
    return 0


cdef int buffer_append(Buffer* buffer, const char* data, size_t n_bytes, int64_t* total) except -1:
    buffer_reserve(buffer, n_bytes, total)
    memcpy(buffer.at + buffer.end, data, n_bytes)
    buffer.end += n_bytes
    return 0


cdef void buffer_free(Buffer* buffer, int64_t* total) noexcept:
    total[0] -= <int64_t>buffer.size
    free(buffer.at)
    memset(buffer, 0, sizeof(Buffer))


# Replies that are Python objects

cdef int put_object(Connection c, value) except -1:
    """Write what a rare verb returned."""
    if value is None:
        return put_nil(c)
    if isinstance(value, int):
        return put_int(c, value)
    if type(value) is Written:
        memcpy(room(c, len(value)), <const char*><bytes>value, len(value))
        wrote(c, len(value))
        return 0
    if type(value) is Packed:
        return put_packed(c, value)
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


cdef int put_packed(Connection c, value) except -1:
    """Write a value that is packed: both dialects put a head before its items, so one token follows the other."""
    cdef const uint8_t* at = <const uint8_t*><const char*><bytes>value
    cdef const uint8_t* end = at + len(value)
    cdef Token token
    if c.dialect == MSGPACK:
        memcpy(room(c, len(value)), at, len(value))
        wrote(c, len(value))
        return 0
    while at < end:
        if read_token(&token, at, end - at) != COMPLETE or token.size > <size_t>(end - at):
            raise ValueError("a reply is no whole MessagePack")
        at += token.size
        if token.type == ARRAY:
            put_array(c, token.n)
        elif token.type == MAP:
            put_map(c, token.n)
        elif token.arg.type == TEXT:
            put_text(c, token.arg.text)
        elif token.arg.type == NUMBER:
            put_int(c, token.arg.number)
        elif token.arg.type == NIL:
            put_nil(c)
        else:
            raise ValueError("a reply has a value that no verb gives")
    return 0


cdef int put_error(Connection c, error) except -1:
    """Write a whole error reply."""
    code = getattr(error, "code", "ERR")
    c.last_error = error
    c.work += WORK_ERROR
    c.service.errors += 1
    c.is_misunderstood |= isinstance(error, CommandError)
    if c.dialect != MSGPACK:
        return put_line(c, c'-', f"{code} {error}".encode("ascii", "backslashreplace"))
    begin_reply(c, True)
    put_object(c, [code, str(error)])
    return put_nil(c)


# Dialects

cdef step_t STEPS[5]


cdef int dialect_register(Dialect dialect, step_t step) except -1:
    """Teach connections a dialect: `step` takes the next frame of the input, or as much as there is, and answers it."""
    STEPS[<int>dialect] = step
    return 0


cdef void connection_speak(Connection c, Dialect dialect) noexcept:
    """Settle the dialect of a connection, whatever its first byte will be."""
    c.dialect = dialect
    c.step = STEPS[<int>dialect]


cdef int choose_dialect(Connection c) except -1:
    """Settle the dialect of a connection by its first byte."""
    cdef uint8_t first = <uint8_t>c.input.at[c.input.start]
    connection_speak(c, MSGPACK if first in (0x93, 0x94, 0xDC, 0xDD) else RESP)
    if c.step == NULL:
        raise RuntimeError("no dialect is registered; import online.core.wire")
    return 0


cdef int throw_away(Connection c) except -1:
    """The step of a connection that is not listened to."""
    c.input.start = c.input.end
    return 0


dialect_register(DEAF, throw_away)


# Connections

cdef object CONNECTION_IDS = itertools.count(1)


cdef void weigh_bars(Service service) noexcept:
    service.is_barred = (
        service._loading is not None or service._refusing is not None or service._unanswered is not None
        or service._handing)


cdef int make_room(Service service, int64_t n_args, int64_t n_listed) except -1:
    """Have room for the arguments of a frame, and for what a list has."""
    cdef void* args = realloc(service.args, n_args * sizeof(Arg))
    cdef void* listed = realloc(service.listed, n_listed * sizeof(ref_t))
    if args != NULL:
        service.args, service.args_room = <Arg*>args, n_args
    if listed != NULL:
        service.listed = <ref_t*>listed
    if args == NULL or listed == NULL:
        raise MemoryError("no memory for a service")
    return 0


cdef class Service:
    def __cinit__(self, host, limits, *, bint auth_wanted=False, window_s=1800):
        self.host = host
        self.auth_wanted = auth_wanted
        self.nobody = Index()
        self.judge_by(limits, window_s=window_s)

    def judge_by(self, limits, *, window_s):
        if limits.max_depth > MAX_NESTING:
            raise errors.bad_number("max_depth", limits.max_depth, 3, MAX_NESTING)
        make_room(self, max(limits.max_items + 1, self.args_room), max(limits.max_limit, self.max_limit))
        self.nobody.judge_by(
            window_s=window_s, max_user=limits.max_user, max_url=limits.max_url, max_limit=limits.max_limit,
            max_scan=limits.max_scan)
        self.limits = limits
        self.max_frame = limits.max_frame
        self.max_frame_before_auth = min(limits.max_frame_before_auth, limits.max_frame)
        self.max_output = limits.max_output
        self.max_items = limits.max_items
        self.max_limit = limits.max_limit
        self.max_depth = limits.max_depth

    @property
    def clock_step_ms(self):
        return self.step_ms

    @clock_step_ms.setter
    def clock_step_ms(self, int64_t step_ms):
        if self.journal is not None:
            self.journal.change_step(step_ms)
        self.step_ms = step_ms

    @property
    def loading(self):
        return self._loading

    @loading.setter
    def loading(self, str why):
        self._loading = why
        weigh_bars(self)

    @property
    def refusing(self):
        return self._refusing

    @refusing.setter
    def refusing(self, str why):
        self._refusing = why
        weigh_bars(self)

    @property
    def unanswered(self):
        return self._unanswered

    @unanswered.setter
    def unanswered(self, str why):
        self._unanswered = why
        weigh_bars(self)

    @property
    def handing(self):
        return self._handing

    @handing.setter
    def handing(self, bint is_handing):
        self._handing = is_handing
        weigh_bars(self)

    def divide(self, slots):
        self.nobody.slots = slots

    def unplaced(self):
        """Return what became of hits that were ignored or refused before their site had an index."""
        return self.nobody.statistics()

    @property
    def waiting_bytes(self):
        return self.buffered_bytes + self.carried_bytes

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
        service.connections += 1
        self.is_counted = True
        self.index = index
        self.site = site
        self.name = b""
        self.id = next(CONNECTION_IDS)
        self.authenticated = not service.auth_wanted
        self.may_write = True
        self._resp_version = 2
        scan_anew(self)

    def __dealloc__(self):
        connection_release(self)

    def release(self):
        self.transaction = None
        self.pieces = None
        connection_release(self)

    @property
    def index(self):
        return self._index

    @index.setter
    def index(self, Index index):
        self._index = index
        self.core = NULL if index is None else &index.core
        core_advance(core_of(self), self.now_ms)

    @property
    def resp_version(self):
        return self._resp_version if self.dialect in (UNKNOWN, RESP) else 0

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
    def input_bytes(self):
        return buffer_used(&self.input)

    @property
    def output_bytes(self):
        return buffer_used(&self.output)

    @property
    def buffered_bytes(self):
        cdef int64_t queued = 0 if self.transaction is None else self.transaction.n_bytes
        return <int64_t>(self.input.size + self.output.size) + queued

    @property
    def heard_ms(self):
        return self.now_ms

    @property
    def in_transaction(self):
        return self.transaction is not None

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
        self.work = 0
        self.is_waiting = False
        self.has_work = False
        if self.awaited is not None and not self.awaited.done():
            return 0
        while not self.is_closing and not self.is_waiting:
            if buffer_used(&self.input) == 0 and not self.frame.is_begun:
                break
            if self.work >= WORK_A_TURN or buffer_used(&self.output) > self.service.max_output:
                self.has_work = True
                break
            if self.step == NULL:
                choose_dialect(self)
            self.step(self)
        if self.awaited is not None:
            self.has_work = self.awaited.done()
        return 0

    def take_output(self):
        cdef bytes output = self.output.at[self.output.start:self.output.end]
        buffer_free(&self.output, &self.service.buffered_bytes)
        return output

    def deafen(self):
        connection_speak(self, DEAF)
        self.authenticated = True

    def forget_input(self):
        connection_forget_input(self)

    def close(self):
        self.is_closing = True
        self.awaited = None
        self.has_work = False

    def reset(self):
        self.index = None
        self.site = b"default"
        self.name = b""
        self.authenticated = not self.service.auth_wanted
        self.may_write = True
        self._resp_version = 2
        self.replying = REPLY_ON
        self.transaction = None
        self.n_subscriptions = 0

    def fail(self, error):
        if self.dialect in (DEAF, GETS):                 # what it expects has no room for other words
            return self.close()
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
    if c.began_ms == 0:
        c.began_ms = now_ms
    core_advance(core_of(c), now_ms)
    try:
        c.run()
    except FramingError as error:
        c.fail(error)
    return 0


cdef void connection_forget_input(Connection c) noexcept:
    """Free the input of a connection that is closing. Not from inside a verb, which may stand in it."""
    buffer_free(&c.input, &c.service.buffered_bytes)


cdef void connection_release(Connection c) noexcept:
    """Settle up with the service: once, at the end of a connection."""
    if not c.is_counted:
        return
    c.is_counted = False
    c.is_closing = True
    c.awaited = None
    c.has_work = False
    c.service.connections -= 1
    buffer_free(&c.input, &c.service.buffered_bytes)
    buffer_free(&c.output, &c.service.buffered_bytes)


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
