"""A hash table of references to records, by name. See ext/table.pyx for the design and the invariants."""

from libc.stdint cimport uint32_t, uint64_t

from online.core.arena cimport NO_REF, Purse, prefetch, ref_t
from online.core.skiplist cimport Name, Skiplist, name_of, same_name

cdef struct Slot:
    uint32_t hash
    ref_t ref                                            # NO_REF: the slot is empty

cdef struct Slots:
    Slot* at
    uint32_t mask                                        # number of slots - 1; a power of two of them
    uint32_t used

cdef struct Table:
    Slots now
    Slots old                                            # at is NULL unless a rehash is under way
    uint32_t moved                                       # slots of `old` before this one are empty
    Purse* purse

cdef struct HashKey:
    uint64_t k0
    uint64_t k1

cdef uint64_t siphash(HashKey key, const void* data, size_t n_bytes) noexcept nogil
cdef bint table_open(Table* table, Purse* purse) noexcept nogil
cdef void table_close(Table* table) noexcept nogil
cdef bint table_reserve(Table* table) noexcept nogil
cdef void table_add(Table* table, uint32_t hash, ref_t ref) noexcept nogil
cdef void table_remove(Table* table, uint32_t hash, ref_t ref) noexcept nogil
cdef void table_move(Table* table, uint32_t n_slots) noexcept nogil
cdef size_t table_bytes(const Table* table) noexcept nogil

cdef inline uint32_t table_used(const Table* table) noexcept nogil:
    """Return how many references the table holds. O(1)."""
    return table.now.used + table.old.used

cdef inline ref_t slots_find(const Slots* slots, const Skiplist* skiplist, uint32_t hash, Name name) noexcept nogil:
    cdef uint32_t i = hash & slots.mask
    while slots.at[i].ref != NO_REF:
        if slots.at[i].hash == hash and same_name(name_of(skiplist, slots.at[i].ref), name):
            return slots.at[i].ref
        i = (i + 1) & slots.mask
    return NO_REF

cdef inline ref_t table_find(const Table* table, const Skiplist* skiplist, uint32_t hash, Name name) noexcept nogil:
    """Return the record of this name, or NO_REF. O(1) expected."""
    cdef ref_t ref = slots_find(&table.now, skiplist, hash, name)
    if ref == NO_REF and table.old.at != NULL:
        ref = slots_find(&table.old, skiplist, hash, name)
    return ref

cdef inline void table_settle(Table* table, uint32_t n_slots) noexcept nogil:
    """Do a part of a rehash, if one is under way: it should end, though nothing is added or removed any more."""
    if table.old.at != NULL:
        table_move(table, n_slots)

cdef inline void table_prefetch(const Table* table, uint32_t hash) noexcept nogil:
    """Fetch the slots where a search for this hash begins. O(1), without waiting."""
    prefetch(&table.now.at[hash & table.now.mask])
    if table.old.at != NULL:
        prefetch(&table.old.at[hash & table.old.mask])

cdef inline ref_t slots_guess(const Slots* slots, uint32_t hash) noexcept nogil:
    cdef uint32_t i = hash & slots.mask
    while slots.at[i].ref != NO_REF:
        if slots.at[i].hash == hash:
            return slots.at[i].ref
        i = (i + 1) & slots.mask
    return NO_REF

cdef inline ref_t table_guess(const Table* table, uint32_t hash) noexcept nogil:
    """Return the record that most probably has this hash, or NO_REF: without reading records. O(1)."""
    cdef ref_t ref = slots_guess(&table.now, hash)
    if ref == NO_REF and table.old.at != NULL:
        ref = slots_guess(&table.old, hash)
    return ref
