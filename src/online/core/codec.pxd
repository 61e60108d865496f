"""What both dialects share: the progress of a scan, buffers, and arguments. Inline C.

Its job: shapes. Not its job: how a value is written in a dialect (resp_values, msgpack_values), frames (resp, msgpack),
limits (connection), and what values mean.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

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

cdef inline void copy_text(char* out, Name text) noexcept nogil:
    """Copy text, without a call where it is as short as most names: its two ends, which may overlap."""
    if text.n_bytes > 32 or text.n_bytes < 4:
        memcpy(out, text.at, text.n_bytes)
    elif text.n_bytes >= 16:
        memcpy(out, text.at, 16)
        memcpy(out + text.n_bytes - 16, text.at + text.n_bytes - 16, 16)
    elif text.n_bytes >= 8:
        memcpy(out, text.at, 8)
        memcpy(out + text.n_bytes - 8, text.at + text.n_bytes - 8, 8)
    else:
        memcpy(out, text.at, 4)
        memcpy(out + text.n_bytes - 4, text.at + text.n_bytes - 4, 4)
