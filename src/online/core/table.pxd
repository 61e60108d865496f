"""A hash table of references to records, by name. See ext/table.pyx for the design and the invariants."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

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

cdef bint table_open(Table* table, Purse* purse) noexcept nogil
cdef void table_close(Table* table) noexcept nogil
cdef bint table_reserve(Table* table) noexcept nogil
cdef void table_add(Table* table, uint32_t hash, ref_t ref) noexcept nogil
cdef void table_remove(Table* table, uint32_t hash, ref_t ref) noexcept nogil
cdef void table_move(Table* table, uint32_t n_slots) noexcept nogil
cdef size_t table_bytes(const Table* table) noexcept nogil

cdef extern from *:
    """
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define little_endian(word) (word)
    #define little_endian_half(word) (word)
    #else
    #define little_endian(word) __builtin_bswap64(word)
    #define little_endian_half(word) __builtin_bswap32(word)
    #endif
    """
    uint64_t little_endian(uint64_t word) noexcept nogil
    uint32_t little_endian_half(uint32_t word) noexcept nogil

cdef inline uint64_t rotate(uint64_t x, int by) noexcept nogil:
    return (x << by) | (x >> (64 - by))

cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotate(v[1], 13) ^ v[0]
    v[3] = rotate(v[3], 16) ^ v[2]
    v[0] = rotate(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotate(v[1], 17) ^ v[2]
    v[3] = rotate(v[3], 21) ^ v[0]
    v[2] = rotate(v[2], 32)

cdef inline uint64_t rest_of(const uint8_t* at, size_t left, size_t n_bytes) noexcept nogil:
    """Return the last bytes of data, fewer than eight, as a word: by whole reads, as a copy of so few is a call."""
    cdef uint64_t word = 0
    cdef uint32_t low, high
    if left == 0:
        return 0
    if n_bytes >= 8:
        memcpy(&word, at + left - 8, 8)                  # with bytes before them, which go
        return little_endian(word) >> (64 - 8 * left)
    if left >= 4:
        memcpy(&low, at, 4)
        memcpy(&high, at + left - 4, 4)                  # they may overlap
        return little_endian_half(low) | <uint64_t>little_endian_half(high) << (8 * (left - 4))
    return at[0] | <uint64_t>at[left >> 1] << (8 * (left >> 1)) | <uint64_t>at[left - 1] << (8 * (left - 1))

cdef inline uint64_t siphash(HashKey key, const void* data, size_t n_bytes) noexcept nogil:
    """Return SipHash-1-3 of `data`. O(n)."""
    cdef const uint8_t* at = <const uint8_t*>data
    cdef size_t left = n_bytes
    cdef uint64_t v[4]
    cdef uint64_t word
    v[0] = key.k0 ^ <uint64_t>0x736F6D6570736575
    v[1] = key.k1 ^ <uint64_t>0x646F72616E646F6D
    v[2] = key.k0 ^ <uint64_t>0x6C7967656E657261
    v[3] = key.k1 ^ <uint64_t>0x7465646279746573
    while left >= 8:
        memcpy(&word, at, 8)
        word = little_endian(word)
        v[3] ^= word
        sip_round(v)
        v[0] ^= word
        at += 8
        left -= 8
    word = rest_of(at, left, n_bytes) | <uint64_t>n_bytes << 56
    v[3] ^= word
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]

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
