"""Connections on plain buffers, for C code; and how replies are written to them. See ext/connection.pyx.

What carries a connection (reactor, streams) needs these of it and nothing else: `connection_receive` and
`connection_proceed` (bytes in; answers stand in `output`), `has_work` (call proceed once output has gone), `is_closing`
(close once output has gone), `connection_in_frame` and `frames` (for the deadlines), and the sizes of its buffers.

A verb writes its reply by `put_int`, `put_text` and so on, in the dialect of the connection; inline, as the codec.

A dialect is a step: a function that takes the next frame from a connection's input and answers it, registered with
`dialect_register`. The first byte of a connection chooses it, once.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from online.core.arena cimport ref_t
from online.core.codec cimport Arg, Buffer
from online.core.msgpack_values cimport pack_array, pack_head, pack_int, pack_text
from online.core.resp_values cimport MOST_LINE_BYTES, resp_line, resp_text
from online.core.core cimport Core
from online.core.index cimport Index, name_from
from online.core.journal cimport Journal
from online.core.skiplist cimport Name

cdef enum Dialect:
    UNKNOWN
    RESP
    MSGPACK
    DEAF                                                 # it is told things, and what it says is thrown away
    GETS                                                 # the hottest requests of HTTP (ext/gets.pyx)

cdef enum Replying:
    REPLY_ON
    REPLY_OFF
    REPLY_SKIP                                           # leave out the next reply
    REPLY_SKIPPED                                        # leave out the reply that is being made

cdef enum:
    MAX_NESTING = 64                                     # the most that max_depth can be set to
    TALLEST_HEAD = 128                                   # bytes of the longest head of a MessagePack frame

cdef enum:
    # A turn ends after so much work, in units of about half a microsecond (a hit), so that other connections wait
    # for a millisecond or so at most.
    WORK_A_TURN = 2048
    WORK_ERROR = 4                                       # an exception is made and worded

cdef struct Scan:
    size_t at                                            # behind the last complete item, from the frame's start
    int64_t n_args                                       # complete arguments so far
    int64_t wanted                                       # arguments of the frame; -1 while that is not known
    int depth                                            # containers open inside the argument
    int64_t left[MAX_NESTING]                            # values still to come in each of them

cdef struct Frame:
    # A MessagePack frame whose head has been read.
    bint is_begun
    bint is_request
    bint is_batch
    bint is_barred                                       # hits of the batch came while the server takes none
    bint is_skipping                                     # over an item of the batch that is no hit, and may be long
    uint8_t msgid[9]
    int msgid_bytes
    char verb[TALLEST_HEAD]
    int verb_bytes
    size_t size                                          # bytes used up so far
    int64_t left                                         # items of a batch still to come
    int64_t n_taken
    int64_t accepted
    int64_t ignored
    int64_t refused

cdef class Service:
    cdef object host
    cdef readonly object limits
    cdef readonly bint auth_wanted
    cdef int64_t step_ms                                 # wall time less index time
    cdef readonly int64_t connections
    cdef readonly int64_t buffered_bytes
    cdef public int64_t carried_bytes
    cdef readonly int64_t commands
    cdef readonly int64_t errors
    cdef readonly bint is_barred                         # verbs are to look at the four that follow
    cdef str _loading                                    # why nothing can be answered yet; None: all can
    cdef str _refusing                                   # why no hit is taken; None: they are
    cdef str _unanswered                                 # why no question is answered; None: they are
    cdef bint _handing                                   # the host carries out hits and questions, too, and batches
    cdef public Journal journal                          # None: nothing is written
    cdef Index nobody
    cdef const char* last_verb                           # a constant; NULL: none since it was set to NULL
    # One array for all connections: what stands in it is good until the end of the step that filled it. A frame
    # that was read in pieces is therefore scanned a second time when it is complete (its bytes may have moved, too).
    cdef Arg* args
    cdef int64_t args_room                               # never less than before: a frame may have begun to fill them
    cdef ref_t* listed
    cdef size_t max_frame
    cdef size_t max_frame_before_auth
    cdef size_t max_output
    cdef int64_t max_items
    cdef int64_t max_limit
    cdef int max_depth

cdef inline int64_t wall_of(Service service, int64_t index_ms) noexcept:
    """The wall time of an index time: what clients and files are told."""
    return index_ms + service.step_ms

cdef inline int64_t index_of(Service service, int64_t wall_ms) noexcept:
    """The index time of a wall time: what the index is told."""
    return wall_ms - service.step_ms

ctypedef int (*step_t)(Connection) except -1

cdef class Connection:
    cdef Service service
    cdef Index _index
    cdef Core* core                                      # of _index, NULL until the site has one
    cdef object __weakref__
    cdef public bytes site
    cdef public bytes name
    cdef readonly int64_t id
    cdef bint is_counted                                 # by its service; no longer, once it was released
    cdef public bint authenticated
    cdef public bint may_write                           # its token, if one is wanted, allows hits and leaves
    cdef public int64_t n_subscriptions                  # to channels; in RESP2 most verbs have to wait for their end
    cdef public object last_error                        # of its last error reply, for whoever words it otherwise
    cdef public bint has_written                         # hits or leaves since whoever carries it took note
    cdef public bint answers_late                        # whoever carries it is to hold the output back for a while
    cdef readonly bint is_closing
    cdef readonly bint has_work
    cdef readonly int64_t frames
    cdef readonly int64_t began_ms                       # index time of the first bytes; 0 before
    cdef Dialect dialect
    cdef step_t step                                     # of its dialect
    cdef int _resp_version
    cdef Replying replying
    cdef readonly bint is_partly_answered                # the verb that comes next has begun its reply
    cdef bint is_waiting                                 # for the rest of a frame
    cdef bint is_misunderstood                           # a frame had no known verb with a right number of arguments
    cdef Buffer input
    cdef Buffer output
    cdef Scan scan
    cdef Frame frame
    cdef readonly object awaited                         # a Future: the reply of a verb of the host; None: none is
    cdef object first_error                              # of the batch that is being taken
    cdef public object pieces                            # what a rare verb has left to do; None: it is through
    cdef object transaction                              # verbs kept since MULTI; None: none is open
    cdef object asking                                   # what GETS knows of it; None in any other dialect
    cdef bint is_leaving                                 # what carries it is to hand it back, with its input
    cdef list words                                      # of the inline command that is being answered
    cdef int64_t now_ms
    cdef public int64_t work                             # done in this turn

    cdef int run(self) except -1

cdef int connection_receive(Connection c, const char* data, size_t n_bytes, int64_t now_ms) except -1
cdef int connection_proceed(Connection c, int64_t now_ms) except -1
cdef bint connection_in_frame(Connection c) noexcept
cdef void connection_lend(Connection c, Buffer* room) noexcept
cdef void connection_give_back(Connection c, Buffer* room) noexcept
cdef void connection_trim(Connection c) noexcept
cdef void connection_forget_input(Connection c) noexcept

cdef int buffer_reserve(Buffer* buffer, size_t n_bytes, int64_t* total) except -1
cdef int dialect_register(Dialect dialect, step_t step) except -1
cdef void connection_speak(Connection c, Dialect dialect) noexcept
cdef int put_object(Connection c, value) except -1
cdef int put_error(Connection c, error) except -1

cdef inline Core* core_of(Connection c) noexcept:
    return c.core if c.core != NULL else &c.service.nobody.core

cdef inline bint is_listening(Connection c) noexcept:
    """Whether it speaks RESP2 and has subscribed to channels: it can tell little else from their messages."""
    return c.n_subscriptions != 0 and c.dialect == RESP and c._resp_version == 2

cdef inline void scan_anew(Connection c) noexcept:
    c.scan.at = 0
    c.scan.n_args = 0
    c.scan.wanted = -1
    c.scan.depth = 0

cdef inline size_t frame_limit(Connection c) noexcept:
    return c.service.max_frame if c.authenticated else c.service.max_frame_before_auth

# Replies

cdef inline char* room(Connection c, size_t n_bytes) except NULL:
    """Return where `n_bytes` may be written before `wrote` tells how many were."""
    if c.output.end + n_bytes > c.output.size:
        buffer_reserve(&c.output, n_bytes, &c.service.buffered_bytes)
    return c.output.at + c.output.end

cdef inline void wrote(Connection c, size_t n_bytes) noexcept:
    c.output.end += n_bytes

cdef inline int put_int(Connection c, int64_t value) except -1:
    cdef char* out = room(c, MOST_LINE_BYTES)
    wrote(c, pack_int(out, value) if c.dialect == MSGPACK else resp_line(out, c':', value))
    return 0

cdef inline int put_array(Connection c, int64_t n) except -1:
    cdef char* out = room(c, MOST_LINE_BYTES)
    wrote(c, pack_array(out, <uint64_t>n) if c.dialect == MSGPACK else resp_line(out, c'*', n))
    return 0

cdef inline int put_map(Connection c, int64_t n) except -1:
    cdef char* out = room(c, MOST_LINE_BYTES)
    if c.dialect == MSGPACK:
        wrote(c, pack_head(out, <uint64_t>n, 0x80, 16, 0, 0xDE))
    elif c._resp_version == 3:
        wrote(c, resp_line(out, c'%', n))
    else:
        wrote(c, resp_line(out, c'*', 2 * n))
    return 0

cdef inline int put_text(Connection c, Name text) except -1:
    cdef char* out = room(c, text.n_bytes + 32)
    wrote(c, pack_text(out, text) if c.dialect == MSGPACK else resp_text(out, text))
    return 0

cdef inline int put_nil(Connection c) except -1:
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

cdef inline int put_line(Connection c, char head, bytes line) except -1:
    """Write a RESP line, such as a status or an error."""
    cdef char* out = room(c, len(line) + 3)
    cdef const char* at = line
    out[0] = head
    memcpy(out + 1, at, len(line))
    out[1 + len(line)], out[2 + len(line)] = c'\r', c'\n'
    wrote(c, len(line) + 3)
    return 0

cdef inline int put_ok(Connection c) except -1:
    if c.dialect == MSGPACK:
        return put_text(c, name_from(b"OK"))
    return put_line(c, c'+', b"OK")

cdef inline int begin_reply(Connection c, bint is_error) except -1:
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
