"""Memory of one index: blocks of a few bytes, named by 32-bit references instead of pointers.

Its job: hand out and take back blocks in O(1), so tightly that a session costs little more than its fields, and
return to the system what a surge has left empty. Not its job: what stands in a block.

The arena reserves address space once, as much as references can name (32 GiB), and makes it writable as it grows.
So a block never moves, an address is one addition (no table of chunks to look up), and a reference is half a pointer.
The reserved space is cut into chunks of 32 KiB, each of blocks of one size. Sizes are exact up to 128 bytes, which
nearly all sessions have; above, they are rounded up by at most an eighth, so that a small site needs few chunks.

Invariants:
1. Chunk 0 is never used: NO_REF names no block, and reading through it is a segmentation fault, not a wrong answer.
2. A chunk is in exactly one place: in the list `partial` of its block size (it has blocks in use and room), in none
   (it is full), in `empty` (no blocks; memory kept for reuse), or in `returned` (no blocks, memory given back).
3. `purse` has been charged for every chunk that is not in `returned`.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int mprotect(void* address, size_t length, int protection)
    int madvise(void* address, size_t length, int advice)
    int PROT_NONE, PROT_READ, PROT_WRITE
    int MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE
    int MADV_DONTNEED
    void* MAP_FAILED

cdef extern from *:
    int __builtin_clz(unsigned int) noexcept nogil

cdef enum:
    EXACT_UNITS = 16
    CHUNK_BYTES = 1 << CHUNK_SHIFT
    NO_BLOCK = 0xFFFF
    # Empty chunks kept for reuse, so that a site on the edge of one chunk does not go to the system at every hit.
    KEPT_EMPTY = 16
    # Growth steps: one call to the system for at least a megabyte, and for an eighth of what is there.
    GROWTH_CHUNKS = 16

cdef size_t LARGEST_RESERVE = <size_t>1 << (32 + UNIT_SHIFT)
cdef size_t SMALLEST_RESERVE = <size_t>1 << 26


cdef bint purse_take(Purse* purse, int64_t n_bytes) noexcept nogil:
    """Charge `n_bytes`, or return False and charge nothing if that would exceed the limit. O(1)."""
    if purse.limit_bytes and purse.used_bytes + n_bytes > purse.limit_bytes:
        return False
    purse.used_bytes += n_bytes
    return True


cdef void purse_give(Purse* purse, int64_t n_bytes) noexcept nogil:
    """Take back a charge. O(1)."""
    purse.used_bytes -= n_bytes


cdef bint arena_open(Arena* arena, Purse* purse) noexcept nogil:
    """Reserve address space; `purse` must outlive the arena. Returns False if none can be had.

    It reserves what references can name, or what the purse can pay for. Where address space is scarce (ulimit -v),
    it takes a quarter of what there is, for others need some too.
    """
    cdef size_t reserve = LARGEST_RESERVE
    cdef void* base
    memset(arena, 0, sizeof(Arena))
    arena.purse = purse
    while purse.limit_bytes and reserve > SMALLEST_RESERVE and reserve // 2 > <size_t>purse.limit_bytes:
        reserve //= 2
    base = reserve_space(reserve)
    if base == MAP_FAILED:
        while base == MAP_FAILED and reserve > SMALLEST_RESERVE:
            reserve //= 2
            base = reserve_space(reserve)
        if base == MAP_FAILED:
            return False
        reserve //= 4
        munmap(<char*>base + reserve, 3 * reserve)
    arena.base = <char*>base
    arena.reserved_bytes = reserve
    arena.n_chunks = arena.n_writable = 1
    return True


cdef inline void* reserve_space(size_t n_bytes) noexcept nogil:
    return mmap(NULL, n_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)


cdef void arena_close(Arena* arena) noexcept nogil:
    """Give all memory back. Allowed on an arena that was never opened, if it was zeroed."""
    if arena.base != NULL:
        munmap(arena.base, arena.reserved_bytes)
        purse_give(arena.purse, arena.used_bytes)
    free(arena.chunks)
    memset(arena, 0, sizeof(Arena))


cdef inline void push(Arena* arena, uint32_t* first, uint32_t number) noexcept nogil:
    """Put a chunk at the head of a list."""
    arena.chunks[number].prev = 0
    arena.chunks[number].next = first[0]
    if first[0]:
        arena.chunks[first[0]].prev = number
    first[0] = number


cdef inline void remove(Arena* arena, uint32_t* first, uint32_t number) noexcept nogil:
    """Take a chunk out of the list that it stands in."""
    cdef Chunk* chunk = &arena.chunks[number]
    if chunk.prev:
        arena.chunks[chunk.prev].next = chunk.next
    else:
        first[0] = chunk.next
    if chunk.next:
        arena.chunks[chunk.next].prev = chunk.prev


cdef bint make_writable(Arena* arena) noexcept nogil:
    """Make room for at least one chunk behind the last one. Amortised O(1)."""
    cdef uint32_t most = <uint32_t>(arena.reserved_bytes >> CHUNK_SHIFT)
    cdef uint32_t n_writable = arena.n_writable + GROWTH_CHUNKS + arena.n_writable // 8
    cdef size_t start = <size_t>arena.n_writable << CHUNK_SHIFT
    if n_writable > most:
        n_writable = most
    if n_writable == arena.n_writable:
        return False
    if mprotect(arena.base + start, (<size_t>n_writable << CHUNK_SHIFT) - start, PROT_READ | PROT_WRITE) != 0:
        return False
    arena.n_writable = n_writable
    return True


cdef uint32_t fresh_chunk(Arena* arena) noexcept nogil:
    """Return the number of a chunk never used before, or 0. Amortised O(1)."""
    cdef uint32_t n_entries = arena.n_entries
    cdef void* chunks
    if arena.n_chunks >= n_entries:
        n_entries = 16 if n_entries == 0 else 2 * n_entries
        chunks = realloc(arena.chunks, n_entries * sizeof(Chunk))
        if chunks == NULL:
            return 0
        arena.chunks = <Chunk*>chunks
        arena.n_entries = n_entries
    if arena.n_chunks == arena.n_writable and not make_writable(arena):
        return 0
    arena.n_chunks += 1
    return arena.n_chunks - 1


cdef uint32_t take_chunk(Arena* arena, uint16_t block_units) noexcept nogil:
    """Return a chunk for blocks of this size, in the list `partial`; 0 if the purse or the system has none."""
    cdef uint32_t number = arena.empty
    cdef Chunk* chunk
    if number:
        remove(arena, &arena.empty, number)
        arena.n_empty -= 1
    else:
        if not purse_take(arena.purse, CHUNK_BYTES):
            return 0
        number = arena.returned
        if number:
            remove(arena, &arena.returned, number)
        else:
            number = fresh_chunk(arena)
            if number == 0:
                purse_give(arena.purse, CHUNK_BYTES)
                return 0
        arena.used_bytes += CHUNK_BYTES
    chunk = &arena.chunks[number]
    chunk.block_units = block_units
    chunk.live = 0
    chunk.free = NO_BLOCK
    chunk.fresh = 0
    push(arena, &arena.partial[block_units], number)
    return number


cdef void put_back_chunk(Arena* arena, uint32_t number) noexcept nogil:
    """Keep an empty chunk for reuse, or give its memory to the system when enough are kept."""
    if arena.n_empty < KEPT_EMPTY:
        push(arena, &arena.empty, number)
        arena.n_empty += 1
        return
    madvise(arena.base + (<size_t>number << CHUNK_SHIFT), CHUNK_BYTES, MADV_DONTNEED)
    push(arena, &arena.returned, number)
    arena.used_bytes -= CHUNK_BYTES
    purse_give(arena.purse, CHUNK_BYTES)


cdef inline bint is_full(const Chunk* chunk) noexcept nogil:
    return chunk.free == NO_BLOCK and chunk.fresh + chunk.block_units > CHUNK_UNITS


cdef inline uint16_t units_for(size_t n_bytes) noexcept nogil:
    """Return the size of the blocks that hold `n_bytes`."""
    cdef uint32_t units = <uint32_t>((n_bytes + (1 << UNIT_SHIFT) - 1) >> UNIT_SHIFT)
    cdef uint32_t step
    if units > EXACT_UNITS:
        step = 1 << (32 - __builtin_clz(units - 1) - 4)
        units = (units + step - 1) & ~(step - 1)
    return <uint16_t>units


cdef ref_t arena_take(Arena* arena, size_t n_bytes) noexcept nogil:
    """Return a block of at least `n_bytes` (up to a name of 16 KiB), contents undefined. O(1).

    Returns NO_REF if the purse's limit is reached or the system has no memory; nothing has changed then.
    """
    cdef uint16_t units = units_for(n_bytes)
    cdef uint32_t number = arena.partial[units]
    cdef Chunk* chunk
    cdef ref_t ref
    if number == 0:
        number = take_chunk(arena, units)
        if number == 0:
            return NO_REF
    chunk = &arena.chunks[number]
    ref = number << (CHUNK_SHIFT - UNIT_SHIFT)
    if chunk.free != NO_BLOCK:
        ref += chunk.free
        chunk.free = (<uint16_t*>arena_at(arena, ref))[0]
    else:
        ref += chunk.fresh
        chunk.fresh += units
    chunk.live += 1
    if is_full(chunk):
        remove(arena, &arena.partial[units], number)
    return ref


cdef void arena_give(Arena* arena, ref_t ref) noexcept nogil:
    """Take back a block that `arena_take` returned. O(1)."""
    cdef uint32_t number = ref >> (CHUNK_SHIFT - UNIT_SHIFT)
    cdef Chunk* chunk = &arena.chunks[number]
    if is_full(chunk):
        push(arena, &arena.partial[chunk.block_units], number)
    (<uint16_t*>arena_at(arena, ref))[0] = chunk.free
    chunk.free = <uint16_t>(ref & (CHUNK_UNITS - 1))
    chunk.live -= 1
    if chunk.live == 0:
        remove(arena, &arena.partial[chunk.block_units], number)
        put_back_chunk(arena, number)
