"""The journal, for what carries connections. See ext/journal.pyx."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from online.core.core cimport Core, Tally
from online.core.notes cimport Notes

cdef enum:
    RECORD_HEAD = 8                                      # bytes of length and checksum

cdef extern from *:
    """
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define little_endian32(word) (word)
    #define little_endian64(word) (word)
    #else
    #define little_endian32(word) __builtin_bswap32(word)
    #define little_endian64(word) __builtin_bswap64(word)
    #endif
    """
    uint32_t little_endian32(uint32_t word) noexcept nogil
    uint64_t little_endian64(uint64_t word) noexcept nogil

cdef inline uint32_t read_word(const char* at) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, at, 4)
    return little_endian32(word)

cdef uint32_t record_checksum(const char* frames, size_t n_bytes, int64_t segment, int64_t offset) noexcept nogil

cdef struct Log

cdef struct Track:
    # A site whose hits are written.
    Log* log
    Core* core
    const char* site                                     # a frame: SITE name
    size_t site_bytes
    int64_t peak                                         # as written last
    Tally tally                                          # as written last
    bint is_touched                                      # since the last flush
    Track* next_touched

cdef struct Log:
    Notes notes                                          # records: closed ones, then the open one
    Track* current                                       # of the open record; NULL: none is open
    size_t record                                        # where the open record begins
    Track* touched
    int64_t segment
    int64_t offset                                       # of the end of the segment's file
    bint is_off                                          # nothing is written, and nothing noted
    bint has_unwritten                                   # something was applied in this turn meanwhile

cdef class Journal:
    cdef Log log
    cdef int fd
    cdef dict tracks                                     # by site
    cdef readonly int64_t turn
    cdef readonly int64_t durable_turn
    cdef int64_t lost_after                              # turns after this one, up to the next, are lost
    cdef int64_t lost_turn
    cdef readonly int64_t written_bytes
    cdef public bint waits_for_sync
    cdef public bint waits_for_bus
    cdef readonly int64_t published_turn                 # the bus has all turns up to this one
    cdef public object wanted
    cdef public object failed
    cdef public object settled
    cdef public object stepped

    cdef int flush_turn(self) except -1
    cdef int fail(self, int code) except -1
    cdef void forget(self) noexcept
    cdef int fate(self, int64_t turn) noexcept
