"""The multi-indexed skiplist: records that stand in several orders at once. See ext/skiplist.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from online.core.arena cimport Arena, Purse, arena_at, prefetch, ref_t

cdef enum:
    MAX_HEIGHT = 12                                      # towers of 4^12 records are served well
    HEIGHT_BITS = 2 * (MAX_HEIGHT - 1)                   # that a height is drawn from
    MAX_NAME_BYTES = 16 * 1024
    MAX_SEARCHES = 128                                   # side by side

cdef enum Order:
    BY_TIME
    BY_NAME
    BY_PAGE
    ORDERS

cdef enum Kind:
    MEMBER
    GUEST
    HIDDEN
    BOT
    DEPARTED
    PAGE
    HEAD

cdef struct Link:
    ref_t prev
    ref_t next

cdef struct Level:
    Link by[ORDERS]                                      # indexed by Order

cdef packed struct Record:
    uint32_t hash                                        # of the name
    uint16_t name_bytes
    uint8_t height                                       # number of levels
    uint8_t kind
    ref_t page                                           # of a session; in a page or head: `newest`, see Page
    uint64_t key                                         # place in time, see key_of
    Level levels[MAX_HEIGHT]                             # `height` of them; the name follows at once

cdef packed struct Page:
    # A record with kind PAGE: it stands in no order by time, so that counts have the room of its key and first link.
    uint32_t hash
    uint16_t name_bytes
    uint8_t height
    uint8_t kind
    ref_t newest                                         # of its run; itself while the run is empty
    uint32_t counts[4]                                   # sessions by kind, MEMBER to BOT

cdef struct Skiplist:
    Arena arena
    uint64_t dice                                        # state of the generator of heights

cdef struct Name:
    const char* at
    uint32_t n_bytes

cdef struct Search:
    # A search on its way to the last record that is not after a place: by name, or by key, in one page or not.
    Order order
    Name name
    ref_t page
    uint64_t key
    ref_t head
    ref_t at                                             # the head, or a record after the place
    ref_t before                                         # the next record to look at, while level >= 0
    ref_t overshot                                       # not after the place; in the end, the answer
    int level

cdef bint skiplist_open(Skiplist* skiplist, Purse* purse, uint64_t seed) noexcept nogil
cdef void skiplist_close(Skiplist* skiplist) noexcept nogil
cdef ref_t skiplist_new(Skiplist* skiplist, Kind kind, Name name, uint32_t hash, int height) noexcept nogil
cdef void skiplist_free(Skiplist* skiplist, ref_t ref) noexcept nogil
cdef void skiplist_link(Skiplist* skiplist, Order order, ref_t ref, ref_t after) noexcept nogil
cdef void skiplist_unlink(Skiplist* skiplist, Order order, ref_t ref) noexcept nogil
cdef ref_t skiplist_seek_name(const Skiplist* skiplist, ref_t head, Name name) noexcept nogil
cdef ref_t skiplist_walk_name(const Skiplist* skiplist, ref_t head, ref_t finger, Name name) noexcept nogil
cdef ref_t skiplist_seek_time(const Skiplist* skiplist, ref_t head, uint64_t key) noexcept nogil
cdef ref_t skiplist_seek_page(const Skiplist* skiplist, ref_t page, uint64_t key) noexcept nogil
cdef void search_name(const Skiplist* skiplist, Search* search, ref_t head, Name name) noexcept nogil
cdef void search_time(const Skiplist* skiplist, Search* search, ref_t head, uint64_t key) noexcept nogil
cdef void search_page(const Skiplist* skiplist, Search* search, ref_t page, uint64_t key) noexcept nogil
cdef void skiplist_search(const Skiplist* skiplist, Search* searches, int n_searches) noexcept nogil

cdef extern from *:
    """
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define big_endian(word) __builtin_bswap64(word)
    #else
    #define big_endian(word) (word)
    #endif
    """
    uint64_t big_endian(uint64_t word) noexcept nogil
    int __builtin_ctz(unsigned int bits) noexcept nogil

cdef inline uint8_t height_from(uint64_t bits) noexcept nogil:
    """Return a height: 1 with probability 3/4, 2 with 3/16 ... at most MAX_HEIGHT. Takes HEIGHT_BITS random bits."""
    return <uint8_t>(1 + __builtin_ctz(<uint32_t>bits | 1 << HEIGHT_BITS) // 2)

cdef inline void skiplist_draw_heights(Skiplist* skiplist, uint8_t* one, uint8_t* other) noexcept nogil:
    """Draw the heights of two records to be. O(1).

    Source: Sebastiano Vigna, xorshift64* (2014); its high bits are the good ones.
    """
    cdef uint64_t x = skiplist.dice
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    skiplist.dice = x
    x *= <uint64_t>0x2545F4914F6CDD1D
    one[0] = height_from(x >> (64 - HEIGHT_BITS))
    other[0] = height_from(x >> (64 - 2 * HEIGHT_BITS) & ((1 << HEIGHT_BITS) - 1))

cdef inline Record* record_at(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    return <Record*>arena_at(&skiplist.arena, ref)

cdef inline Page* page_at(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    return <Page*>arena_at(&skiplist.arena, ref)

cdef inline ref_t next_of(const Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    return record_at(skiplist, ref).levels[0].by[<int>order].next

cdef inline ref_t prev_of(const Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    return record_at(skiplist, ref).levels[0].by[<int>order].prev

cdef inline Name name_of(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    """Return a record's name; it stands in the record, and is valid as long as that."""
    cdef Record* record = record_at(skiplist, ref)
    cdef Name name
    name.at = <const char*>record + (sizeof(Record) - MAX_HEIGHT * sizeof(Level) + record.height * sizeof(Level))
    name.n_bytes = record.name_bytes
    return name

cdef inline void prefetch_record(const Skiplist* skiplist, ref_t ref, int height) noexcept nogil:
    """Fetch what a search reads of a record that is probably of this height: its beginning, and that of its name."""
    cdef const char* at = arena_at(&skiplist.arena, ref)
    prefetch(at)
    prefetch(at + (sizeof(Record) - MAX_HEIGHT * sizeof(Level) + height * sizeof(Level) + 15))

cdef inline bint same_name(Name one, Name other) noexcept nogil:
    return one.n_bytes == other.n_bytes and memcmp(one.at, other.at, one.n_bytes) == 0

cdef inline int compare_words(const char* one, const char* other) noexcept nogil:
    """Compare eight bytes as memcmp does."""
    cdef uint64_t a, b
    memcpy(&a, one, 8)
    memcpy(&b, other, 8)
    a = big_endian(a)
    b = big_endian(b)
    return (a > b) - (a < b)

cdef inline int compare_names(Name one, Name other) noexcept nogil:
    """Return less than 0, 0 or more, as `one` is less than `other` byte by byte, the same, or greater.

    Inline and by words: searches spend most of their time here, and half of it was the call of memcmp.
    """
    cdef uint32_t n = min(one.n_bytes, other.n_bytes), i = 0
    cdef int difference = 0
    if n < 8:
        difference = memcmp(one.at, other.at, n)
    else:
        while difference == 0 and i < n - 8:
            difference = compare_words(one.at + i, other.at + i)
            i += 8
        if difference == 0:
            difference = compare_words(one.at + n - 8, other.at + n - 8)
    return difference if difference else (one.n_bytes > other.n_bytes) - (one.n_bytes < other.n_bytes)

cdef inline bint begins_with(Name name, Name prefix) noexcept nogil:
    return name.n_bytes >= prefix.n_bytes and memcmp(name.at, prefix.at, prefix.n_bytes) == 0

cdef inline int64_t later_by(uint64_t key, uint64_t other) noexcept nogil:
    """Return how far `key` is after `other`: keys wrap around, and are compared like TCP's sequence numbers."""
    return <int64_t>(key - other)
