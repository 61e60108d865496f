"""What both dialects share: the progress of a scan, buffers, and arguments. Inline C.

Its job: shapes. Not its job: how a value is written in a dialect (resp_values, msgpack_values), frames (resp, msgpack),
limits (connection), and what values mean.
"""

from libc.stdint cimport int64_t

from online.core.skiplist cimport Name

cdef enum Progress:
    BROKEN = -1
    INCOMPLETE
    COMPLETE
    REFUSED                                              # answered already, and closed

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

cdef inline size_t buffer_used(const Buffer* buffer) noexcept nogil:
    return buffer.end - buffer.start
