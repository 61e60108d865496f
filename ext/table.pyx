"""A hash table of references to records, by name: it finds what the orders keep sorted.

Its job: name -> record in O(1), with no pause when it grows or shrinks. Not its job: the records.

Open addressing with linear probing; a slot holds the 32-bit hash, so that probing touches records only where the
hash agrees. The hash is keyed with a secret, so that nobody can choose names that collide. A rehash is spread over
the writes that follow it: each moves a few slots from `old` to `now`.

Invariants:
1. The slots from a reference's home (hash & mask) to its place are all used: removal shifts back what follows.
2. A reference stands in `now` or in `old`, never in both; the slots of `old` before `moved` are empty.
3. `now` is at most 3/4 full after `table_reserve`.

Jean-Philippe Aumasson and Daniel J. Bernstein, "SipHash: a fast short-input PRF" (2012), here with 1 and 3 rounds.
"""

from libc.string cimport memset

from online.core.arena cimport purse_give, purse_take

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int madvise(void* address, size_t length, int advice)
    int PROT_READ, PROT_WRITE
    int MAP_PRIVATE, MAP_ANONYMOUS
    int MADV_DONTNEED
    void* MAP_FAILED

cdef enum:
    LEAST_SLOTS = 512                                    # one page of memory
    # Slots moved by a write. A table of n slots begins to grow with 3/4 n used, and its successor of 2 n slots
    # has room for as many again: 8 finish in n / 8 writes, long before that.
    MOVED_AT_ONCE = 8
    # Slots of an outgrown table whose memory goes back in one call: giving back a large one whole takes milliseconds.
    RETURNED_AT_ONCE = 1 << 17


cdef bint slots_open(Slots* slots, uint32_t n_slots, Purse* purse) noexcept nogil:
    cdef size_t n_bytes = n_slots * sizeof(Slot)
    cdef void* at
    if not purse_take(purse, n_bytes):
        return False
    at = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if at == MAP_FAILED:
        purse_give(purse, n_bytes)
        return False
    slots.at = <Slot*>at
    slots.mask = n_slots - 1
    slots.used = 0
    return True


cdef size_t slots_bytes(const Slots* slots) noexcept nogil:
    return 0 if slots.at == NULL else (<size_t>slots.mask + 1) * sizeof(Slot)


cdef void slots_close(Slots* slots, Purse* purse) noexcept nogil:
    if slots.at != NULL:
        munmap(slots.at, slots_bytes(slots))
        purse_give(purse, slots_bytes(slots))
    memset(slots, 0, sizeof(Slots))


cdef void slots_add(Slots* slots, uint32_t hash, ref_t ref) noexcept nogil:
    cdef uint32_t i = hash & slots.mask
    while slots.at[i].ref != NO_REF:
        i = (i + 1) & slots.mask
    slots.at[i].hash = hash
    slots.at[i].ref = ref
    slots.used += 1


cdef void slots_clear(Slots* slots, uint32_t hole) noexcept nogil:
    """Empty a used slot, shifting back the references behind it that would be cut off from their homes."""
    cdef uint32_t i = hole
    while True:
        i = (i + 1) & slots.mask
        if slots.at[i].ref == NO_REF:
            break
        if ((i - slots.at[i].hash) & slots.mask) >= ((i - hole) & slots.mask):
            slots.at[hole] = slots.at[i]
            hole = i
    slots.at[hole].ref = NO_REF
    slots.used -= 1


cdef bint slots_remove(Slots* slots, uint32_t hash, ref_t ref) noexcept nogil:
    """Remove a reference; False if it is not here."""
    cdef uint32_t i = hash & slots.mask
    while slots.at[i].ref != ref:
        if slots.at[i].ref == NO_REF:
            return False
        i = (i + 1) & slots.mask
    slots_clear(slots, i)
    return True


cdef bint table_open(Table* table, Purse* purse) noexcept nogil:
    """Make an empty table; `purse` must outlive it. Returns False if there is no memory."""
    memset(table, 0, sizeof(Table))
    table.purse = purse
    return slots_open(&table.now, LEAST_SLOTS, purse)


cdef void table_close(Table* table) noexcept nogil:
    """Free the table. Allowed on one that was never opened, if it was zeroed."""
    slots_close(&table.now, table.purse)
    slots_close(&table.old, table.purse)


cdef size_t table_bytes(const Table* table) noexcept nogil:
    """Return the memory that the table takes. O(1)."""
    return slots_bytes(&table.now) + slots_bytes(&table.old)


cdef void table_move(Table* table, uint32_t n_slots) noexcept nogil:
    """Go on with a rehash that is under way: empty the next `n_slots` of `old`. O(n_slots) expected."""
    cdef Slot slot
    cdef uint64_t end = min(<uint64_t>table.moved + n_slots, <uint64_t>table.old.mask + 1)
    while table.moved < end:
        slot = table.old.at[table.moved]
        if slot.ref != NO_REF:
            slots_clear(&table.old, table.moved)
            slots_add(&table.now, slot.hash, slot.ref)
            continue
        table.moved += 1
        if table.moved % RETURNED_AT_ONCE == 0:
            madvise(&table.old.at[table.moved - RETURNED_AT_ONCE], RETURNED_AT_ONCE * sizeof(Slot), MADV_DONTNEED)
    if table.moved > table.old.mask:
        slots_close(&table.old, table.purse)


cdef bint begin_rehash(Table* table, uint64_t n_slots) noexcept nogil:
    """Let `now` be `old` and begin to move it to a table of `n_slots`. False if there is no memory."""
    cdef Slots slots
    if n_slots > <uint64_t>1 << 31:
        return False
    if table.old.at != NULL:
        table_move(table, table.old.mask + 1)
    if not slots_open(&slots, <uint32_t>n_slots, table.purse):
        return False
    table.old = table.now
    table.now = slots
    table.moved = 0
    return True


cdef bint table_reserve(Table* table) noexcept nogil:
    """Make sure that one more reference fits. Returns False, and changes nothing, if there is no memory.

    O(1): growth begins here, and each later write does a part of it.
    """
    cdef uint64_t n_slots = <uint64_t>table.now.mask + 1
    if (<uint64_t>table_used(table) + 1) * 4 <= n_slots * 3:
        return True
    return begin_rehash(table, n_slots * 2)


cdef void table_add(Table* table, uint32_t hash, ref_t ref) noexcept nogil:
    """Add a reference that is not in the table, after `table_reserve`. O(1) expected."""
    slots_add(&table.now, hash, ref)
    if table.old.at != NULL:
        table_move(table, MOVED_AT_ONCE)


cdef void table_remove(Table* table, uint32_t hash, ref_t ref) noexcept nogil:
    """Remove a reference that is in the table. O(1) expected."""
    cdef uint64_t n_slots = <uint64_t>table.now.mask + 1
    if not slots_remove(&table.now, hash, ref):
        slots_remove(&table.old, hash, ref)
    if table.old.at != NULL:
        table_move(table, MOVED_AT_ONCE)
    elif n_slots > LEAST_SLOTS and table.now.used < n_slots // 8:
        begin_rehash(table, n_slots // 2)
