"""Memory of one index: blocks named by 32-bit references. See ext/arena.pyx for the design and the invariants."""

from libc.stdint cimport int64_t, uint16_t, uint32_t

#: A block: its distance from the arena's base, in units of 8 bytes.
ctypedef uint32_t ref_t

cdef enum:
    NO_REF = 0
    UNIT_SHIFT = 3
    CHUNK_SHIFT = 15                                     # a chunk has 32 KiB
    CHUNK_UNITS = 1 << (CHUNK_SHIFT - UNIT_SHIFT)
    MAX_BLOCK_UNITS = 2304                               # a name of 16 KiB and the tallest tower, rounded up

cdef struct Purse:
    int64_t limit_bytes                                  # 0: none
    int64_t used_bytes

cdef bint purse_take(Purse* purse, int64_t n_bytes) noexcept nogil
cdef void purse_give(Purse* purse, int64_t n_bytes) noexcept nogil

cdef struct Chunk:
    uint16_t block_units                                 # size of its blocks
    uint16_t live                                        # blocks in use
    uint16_t free                                        # first block given back, in units from the chunk's start
    uint16_t fresh                                       # first unit never used
    uint32_t prev                                        # in the list that this chunk stands in
    uint32_t next

cdef struct Arena:
    char* base
    size_t reserved_bytes
    Chunk* chunks                                        # entry 0 is not a chunk
    uint32_t n_chunks                                    # entries in use, so also the first chunk never taken
    uint32_t n_entries                                   # entries that there is room for
    uint32_t n_writable                                  # chunks below this one may be read and written
    uint32_t empty                                       # list of chunks without blocks, in memory
    uint32_t n_empty
    uint32_t returned                                    # list of chunks whose memory the system has back
    uint32_t partial[MAX_BLOCK_UNITS + 1]                # by block size: list of chunks with room
    int64_t used_bytes
    Purse* purse

cdef bint arena_open(Arena* arena, Purse* purse) noexcept nogil
cdef void arena_close(Arena* arena) noexcept nogil
cdef ref_t arena_take(Arena* arena, size_t n_bytes) noexcept nogil
cdef void arena_give(Arena* arena, ref_t ref) noexcept nogil

cdef extern from *:
    """
    /* GCC 12 takes a function that only prefetches for one without effect, and drops the calls of it: not with this. */
    static inline void online_prefetch(const void* at) {
        __builtin_prefetch(at);
        __asm__ __volatile__("");
    }
    """
    void prefetch "online_prefetch"(const void* at) noexcept nogil

cdef inline char* arena_at(const Arena* arena, ref_t ref) noexcept nogil:
    """Return the address of a block, valid until it is given back. O(1), one addition."""
    return <char*>arena.base + (<size_t>ref << UNIT_SHIFT)
