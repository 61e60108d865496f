"""All sessions into the order by name at once, when a directory has been read.

Its job: `core_order_names`. Not its job: one name's place (skiplist), and when (index.relax).

A search for each name's place took more than half of the time of reading a snapshot, as it waits for memory at each
step. Sorting all of them takes about a fifth of that (a million users, 2026-11-28). They are sorted by eight bytes at a
time, which are kept beside the references, so that a name is only looked at again where eight bytes do not tell it from
others.

Peter McIlroy, Keith Bostic and Douglas McIlroy, "Engineering Radix Sort" (1993), section 3: American flag sort.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport Core, core_later, core_oldest
from online.core.skiplist cimport (
    BY_NAME, MAX_NAME_BYTES, Name, Skiplist, big_endian, compare_names, name_of, prefetch_record, prev_of,
    skiplist_link, skiplist_seek_name,
)
from online.core.table cimport table_used

cdef enum:
    WORD = 8                                             # bytes of a name that are looked at together
    FEW = 24                                             # sorted by insertion
    AHEAD = 12                                           # records fetched before they are looked at

cdef packed struct Entry:
    uint64_t word                                        # of the name, from a multiple of WORD on; zeros behind its end
    ref_t ref


cdef inline void fetch_ahead(const Skiplist* skiplist, const Entry* entries, int64_t i, int64_t n) noexcept nogil:
    if i + AHEAD < n:
        prefetch_record(skiplist, entries[i + AHEAD].ref, 1)


cdef void read_words(const Skiplist* skiplist, Entry* entries, int64_t n, uint32_t depth) noexcept nogil:
    """Let each word be the bytes of its name from `depth` on."""
    cdef Name name
    cdef uint64_t word
    cdef int64_t i
    for i in range(n):
        fetch_ahead(skiplist, entries, i, n)
        name = name_of(skiplist, entries[i].ref)
        word = 0
        if name.n_bytes > depth:
            memcpy(&word, name.at + depth, min(name.n_bytes - depth, <uint32_t>WORD))
        entries[i].word = big_endian(word)


cdef inline bint is_before(const Skiplist* skiplist, const Entry* one, const Entry* other) noexcept nogil:
    """Whether a name is less than another one that has the same bytes before those in the words."""
    if one.word != other.word:
        return one.word < other.word
    return compare_names(name_of(skiplist, one.ref), name_of(skiplist, other.ref)) < 0


cdef void sort_few(const Skiplist* skiplist, Entry* entries, int64_t n) noexcept nogil:
    """Sort by insertion. O(n^2)."""
    cdef Entry entry
    cdef int64_t i, place
    for i in range(1, n):
        entry = entries[i]
        place = i
        while place > 0 and is_before(skiplist, &entry, &entries[place - 1]):
            entries[place] = entries[place - 1]
            place -= 1
        entries[place] = entry


cdef inline uint8_t byte_of(const Entry* entry, uint32_t depth) noexcept nogil:
    return <uint8_t>(entry.word >> (8 * (WORD - 1 - depth % WORD)))


cdef int divide(Entry* entries, int64_t n, uint32_t depth, uint32_t* sizes) noexcept nogil:
    """Bring entries with the same byte at `depth` together, in order of it; return the byte that most have. O(n)."""
    cdef uint32_t ends[256]
    cdef uint32_t places[256]
    cdef Entry entry
    cdef int64_t i
    cdef uint32_t begin = 0
    cdef int byte, largest = 0
    memset(sizes, 0, 256 * sizeof(uint32_t))
    for i in range(n):
        sizes[byte_of(&entries[i], depth)] += 1
    for byte in range(256):
        if sizes[byte] > sizes[largest]:
            largest = byte
        places[byte] = begin
        begin += sizes[byte]
        ends[byte] = begin
    if sizes[largest] == n:
        return largest
    for byte in range(256):
        while places[byte] < ends[byte]:
            entry = entries[places[byte]]
            while byte_of(&entry, depth) != byte:
                i = places[byte_of(&entry, depth)]
                places[byte_of(&entry, depth)] += 1
                entries[i], entry = entry, entries[i]
            entries[places[byte]] = entry
            places[byte] += 1
    return largest


cdef void sort_names(const Skiplist* skiplist, Entry* entries, int64_t n, uint32_t depth) noexcept nogil:
    """Sort entries whose names have the first `depth` bytes in common. O(bytes of the names).

    What most names share is gone on with in place, so that calls nest no deeper than log2(n).
    """
    cdef uint32_t sizes[256]
    cdef int64_t begin, part = 0
    cdef int byte, largest
    while n > FEW and depth < MAX_NAME_BYTES:
        if depth and depth % WORD == 0:
            read_words(skiplist, entries, n, depth)
        largest = divide(entries, n, depth, sizes)
        depth += 1
        begin = 0
        for byte in range(256):
            if byte == largest:
                part = begin
            elif sizes[byte] > 1:
                sort_names(skiplist, entries + begin, sizes[byte], depth)
            begin += sizes[byte]
        entries += part
        n = sizes[largest]
    sort_few(skiplist, entries, n)


cdef void link_one_by_one(Core* core) noexcept nogil:
    """Search for each name's place. O(n log n); takes no memory."""
    cdef Skiplist* skiplist = &core.skiplist
    cdef ref_t session = core_oldest(core, True)
    while session != NO_REF:
        skiplist_link(skiplist, BY_NAME, session, skiplist_seek_name(skiplist, core.named, name_of(skiplist, session)))
        session = core_later(core, session, True)


cdef void core_order_names(Core* core) noexcept nogil:
    """Give all sessions that lists may name their place by name; none has one yet. O(bytes of their names).

    Takes 12 bytes for each meanwhile, or much more time if they cannot be had.
    """
    cdef Skiplist* skiplist = &core.skiplist
    cdef Entry* entries = <Entry*>malloc(table_used(&core.users) * sizeof(Entry))
    cdef ref_t session = core_oldest(core, True)
    cdef int64_t i, n = 0
    if entries == NULL:
        link_one_by_one(core)
        return
    while session != NO_REF:
        entries[n].ref = session
        n += 1
        session = core_later(core, session, True)
    read_words(skiplist, entries, n, 0)
    sort_names(skiplist, entries, n, 0)
    for i in range(n):
        fetch_ahead(skiplist, entries, i, n)
        skiplist_link(skiplist, BY_NAME, entries[i].ref, prev_of(skiplist, BY_NAME, core.named))
    free(entries)
