"""Both dialects, for C code: connections on plain buffers. See ext/wire.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from online.core.arena cimport ref_t
from online.core.core cimport Core
from online.core.index cimport Index
from online.core.skiplist cimport Name

cdef enum Dialect:
    UNKNOWN
    RESP
    MSGPACK

cdef enum Replying:
    REPLY_ON
    REPLY_OFF
    REPLY_SKIP                                           # leave out the next reply
    REPLY_SKIPPED                                        # leave out the reply that is being made

cdef enum:
    MAX_NESTING = 64                                     # the most that max_depth can be set to
    TALLEST_HEAD = 128                                   # bytes of the longest head of a MessagePack frame

cdef struct Buffer:
    char* at                                             # from malloc, except for the input inside connection_receive
    size_t start                                         # bytes before it are used up
    size_t end                                           # bytes from it on are room
    size_t size

cdef enum ArgType:
    NIL
    TEXT
    NUMBER
    HUGE_NUMBER                                          # beyond int64
    OTHER                                                # a fraction, truth value, array, map or extension

cdef struct Arg:
    ArgType type
    Name text                                            # of TEXT; of a number after arg_text
    int64_t number
    char digits[24]

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
    bint is_item_odd                                     # the batch's next item is being skipped
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
    cdef public int64_t clock_step_ms
    cdef readonly int64_t connections
    cdef readonly int64_t buffered_bytes
    cdef public int64_t sending_bytes
    cdef readonly int64_t commands
    cdef readonly int64_t errors
    cdef Index nobody
    cdef Arg* args
    cdef ref_t* listed
    cdef size_t max_frame
    cdef size_t max_frame_before_auth
    cdef size_t max_output
    cdef int64_t max_items
    cdef int64_t max_limit
    cdef int max_depth

cdef inline int64_t wall_of(Service service, int64_t index_ms) noexcept:
    """The wall time of an index time: what clients and files are told."""
    return index_ms + service.clock_step_ms

cdef inline int64_t index_of(Service service, int64_t wall_ms) noexcept:
    """The index time of a wall time: what the index is told."""
    return wall_ms - service.clock_step_ms

cdef class Connection:
    cdef Service service
    cdef Index _index
    cdef Core* core                                      # of _index, NULL until the site has one
    cdef object __weakref__
    cdef public bytes site
    cdef public bytes name
    cdef readonly int64_t id
    cdef public bint authenticated
    cdef readonly bint is_closing
    cdef readonly bint has_work
    cdef readonly int64_t frames
    cdef Dialect dialect
    cdef int _resp_version
    cdef Replying replying
    cdef bint is_waiting                                 # for the rest of a frame
    cdef bint is_misunderstood                           # a frame had no known verb with a right number of arguments
    cdef Buffer input
    cdef Buffer output
    cdef Scan scan
    cdef Frame frame
    cdef object first_error                              # of the batch that is being taken
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
