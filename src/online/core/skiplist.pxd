"""The multi-indexed skiplist: records that stand in several orders at once. See ext/skiplist.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from online.core.arena cimport Arena, Purse, arena_at, prefetch, ref_t

cdef enum:
    MAX_HEIGHT = 12                                      # towers of 4^12 records are served well
    HEIGHT_BITS = 2 * (MAX_HEIGHT - 1)                   # that a height is drawn from
    MAX_NAME_BYTES = 16 * 1024
    LONG_NAME = 255
    HEIGHT_MASK = 15
    KIND_SHIFT = 4
    MAX_SEARCHES = 128                                   # side by side

cdef enum Order:
    BY_NAME
    BY_PAGE
    BY_TIME
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
    # Its levels stand before it, the lowest one next to it; its name follows at once, or its length does.
    uint64_t key                                         # place in time, see key_of
    ref_t page                                           # of a session
    uint8_t shape                                        # number of levels, and from HEIGHT_MASK on the kind
    uint8_t name_bytes                                   # LONG_NAME: two bytes follow that say how many

cdef packed struct Page:
    # A record with kind PAGE: it stands in no order by time, so that counts have the room of its key and lowest link.
    uint32_t counts[4]                                   # sessions by kind, MEMBER to BOT
    uint32_t hash                                        # of the url
    uint8_t shape
    uint8_t name_bytes

cdef struct Skiplist:
    Arena arena

cdef struct Name:
    const char* at
    uint32_t n_bytes

cdef struct Search:
    # A search on its way to the last record that is not after a place: by name, or by key, in one page or not.
    Order order
    Name name
    uint64_t key
    ref_t head                                           # in a run, its page
    const Link* link                                     # of the head, or of a record after the place, at `level`
    ref_t before                                         # the next record to look at, while level >= 0
    ref_t overshot                                       # not after the place; in the end, the answer
    int level

cdef bint skiplist_open(Skiplist* skiplist, Purse* purse) noexcept nogil
cdef void skiplist_close(Skiplist* skiplist) noexcept nogil
cdef ref_t skiplist_new(Skiplist* skiplist, Kind kind, Name name, uint32_t hash, int height) noexcept nogil
cdef void skiplist_free(Skiplist* skiplist, ref_t ref) noexcept nogil
cdef ref_t skiplist_seek_name(const Skiplist* skiplist, ref_t head, Name name) noexcept nogil
cdef ref_t skiplist_walk_name(const Skiplist* skiplist, ref_t head, ref_t finger, Name name) noexcept nogil
cdef ref_t skiplist_seek_back_time(const Skiplist* skiplist, ref_t head, uint64_t key) noexcept nogil
cdef ref_t skiplist_seek_back_page(const Skiplist* skiplist, ref_t page, uint64_t key) noexcept nogil
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

cdef inline int height_of(uint64_t hash) noexcept nogil:
    """Return the height for a record whose name has this keyed hash: 1 with probability 3/4, 2 with 3/16 and so on.

    It takes bits of the upper half, as tables take the lower one. So it needs no generator, and is drawn where a record
    is made; nobody who does not know the key can choose it.
    """
    return 1 + __builtin_ctz(<uint32_t>(hash >> 32) | 1 << HEIGHT_BITS) // 2

cdef inline Record* record_at(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    return <Record*>arena_at(&skiplist.arena, ref)

cdef inline Page* page_at(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    return <Page*>(arena_at(&skiplist.arena, ref) - (sizeof(Page) - sizeof(Record)))

cdef inline int height_at(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    return record_at(skiplist, ref).shape & HEIGHT_MASK

cdef inline int kind_at(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    return record_at(skiplist, ref).shape >> KIND_SHIFT

cdef inline void set_kind(Record* record, int kind) noexcept nogil:
    record.shape = <uint8_t>(record.shape & HEIGHT_MASK | kind << KIND_SHIFT)

cdef inline Link* link_at(const Skiplist* skiplist, Order order, int level, ref_t ref) noexcept nogil:
    return &(<Level*>arena_at(&skiplist.arena, ref) - (level + 1)).by[<int>order]

cdef inline ref_t next_of(const Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    return link_at(skiplist, order, 0, ref).next

cdef inline ref_t prev_of(const Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    return link_at(skiplist, order, 0, ref).prev

cdef inline Name name_of(const Skiplist* skiplist, ref_t ref) noexcept nogil:
    """Return a record's name; it stands in the record, and is valid as long as that."""
    cdef Record* record = record_at(skiplist, ref)
    cdef uint16_t n_bytes
    cdef Name name
    name.at = <const char*>record + sizeof(Record)
    name.n_bytes = record.name_bytes
    if name.n_bytes == LONG_NAME:
        memcpy(&n_bytes, name.at, sizeof(n_bytes))
        name.n_bytes = n_bytes
        name.at += sizeof(n_bytes)
    return name

cdef inline void prefetch_record(const Skiplist* skiplist, ref_t ref, int height) noexcept nogil:
    """Fetch what a search reads of a record that is probably of this height: its links there, and its name."""
    cdef const char* at = arena_at(&skiplist.arena, ref)
    prefetch(at - height * <int>sizeof(Level))
    prefetch(at + (sizeof(Record) + 9))

cdef inline void prefetch_link(const Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    """Fetch the lowest link of a record: most neighbours have no other."""
    prefetch(link_at(skiplist, order, 0, ref))

cdef inline bint same_word(const char* one, const char* other) noexcept nogil:
    """Whether eight bytes are the same."""
    cdef uint64_t a, b
    memcpy(&a, one, 8)
    memcpy(&b, other, 8)
    return a == b

cdef inline bint same_name(Name one, Name other) noexcept nogil:
    """Whether two names are the same byte by byte; by words, without a call, unless they are short."""
    cdef uint32_t i = 8
    if one.n_bytes != other.n_bytes:
        return False
    if one.n_bytes < 8:
        return memcmp(one.at, other.at, one.n_bytes) == 0
    while i < one.n_bytes:
        if not same_word(one.at + i - 8, other.at + i - 8):
            return False
        i += 8
    return same_word(one.at + one.n_bytes - 8, other.at + one.n_bytes - 8)

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

# Links. Inline, as each hit unlinks and links its session by time and in a run.

cdef inline Link* highest_link(const Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    return link_at(skiplist, order, height_at(skiplist, ref) - 1, ref)

cdef inline void splice(Skiplist* skiplist, Order order, int level, ref_t ref, ref_t prev, ref_t next) noexcept nogil:
    cdef Link* link = link_at(skiplist, order, level, ref)
    link.prev = prev
    link.next = next
    link_at(skiplist, order, level, prev).next = ref
    link_at(skiplist, order, level, next).prev = ref

cdef inline void skiplist_link(Skiplist* skiplist, Order order, ref_t ref, ref_t after) noexcept nogil:
    """Put a record right behind `after`, a record or head of the order by time or by name. O(1) expected.

    The successors of a tall tower are found by climbing from the record behind `after` along its highest links: that
    is where a search for the place has just come by, and at the end of an order it is the head, which is tall enough.
    """
    cdef ref_t next = next_of(skiplist, order, after)
    cdef int level
    splice(skiplist, order, 0, ref, after, next)
    for level in range(1, height_at(skiplist, ref)):
        while height_at(skiplist, next) <= level:
            next = highest_link(skiplist, order, next).next
        splice(skiplist, order, level, ref, link_at(skiplist, order, level, next).prev, next)

cdef inline void skiplist_unlink(Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    """Take a record out of the order by time or by name. O(1) expected."""
    cdef int level
    cdef Link link
    for level in range(height_at(skiplist, ref)):
        link = link_at(skiplist, order, level, ref)[0]
        link_at(skiplist, order, level, link.prev).next = link.next
        link_at(skiplist, order, level, link.next).prev = link.prev

# Runs: rings through a page's record at level 0, and above it chains that end at the page.

cdef inline ref_t newest_of(const Skiplist* skiplist, ref_t page) noexcept nogil:
    """Return the last session of a page's run, or the page itself while the run is empty. O(1)."""
    return prev_of(skiplist, BY_PAGE, page)

cdef inline void skiplist_enter_run(Skiplist* skiplist, ref_t page, ref_t ref, ref_t after) noexcept nogil:
    """Put a session right behind `after`, the page or a session of its run. O(1) expected.

    The neighbours of a tall tower are found by climbing from its place both ways, as far as the page. Nearly always
    the place is the run's end, so that only the way back is climbed.
    """
    cdef ref_t prev = after, next = next_of(skiplist, BY_PAGE, after)
    cdef Link* link
    cdef int level
    splice(skiplist, BY_PAGE, 0, ref, prev, next)
    for level in range(1, height_at(skiplist, ref)):
        while prev != page and height_at(skiplist, prev) <= level:
            prev = highest_link(skiplist, BY_PAGE, prev).prev
        while next != page and height_at(skiplist, next) <= level:
            next = highest_link(skiplist, BY_PAGE, next).next
        link = link_at(skiplist, BY_PAGE, level, ref)
        link.prev = prev
        link.next = next
        if prev != page:
            link_at(skiplist, BY_PAGE, level, prev).next = ref
        if next != page:
            link_at(skiplist, BY_PAGE, level, next).prev = ref

cdef inline void skiplist_leave_run(Skiplist* skiplist, ref_t page, ref_t ref) noexcept nogil:
    """Take a session out of its page's run. O(1) expected."""
    cdef Link link = link_at(skiplist, BY_PAGE, 0, ref)[0]
    cdef int level
    link_at(skiplist, BY_PAGE, 0, link.prev).next = link.next
    link_at(skiplist, BY_PAGE, 0, link.next).prev = link.prev
    for level in range(1, height_at(skiplist, ref)):
        link = link_at(skiplist, BY_PAGE, level, ref)[0]
        if link.prev != page:
            link_at(skiplist, BY_PAGE, level, link.prev).next = link.next
        if link.next != page:
            link_at(skiplist, BY_PAGE, level, link.next).prev = link.prev

# Places by time, nearly all of them behind the newest record.

cdef inline bint is_behind(const Skiplist* skiplist, ref_t newest, ref_t head, uint64_t key) noexcept nogil:
    """Whether a place is behind the newest record of an order by time, or of a run; `head` is that of an empty one."""
    return newest == head or later_by(record_at(skiplist, newest).key, key) <= 0

cdef inline ref_t skiplist_seek_time(const Skiplist* skiplist, ref_t head, uint64_t key) noexcept nogil:
    """Return the last record by time whose key is not later than `key`, or the head. O(1) at the end."""
    cdef ref_t newest = prev_of(skiplist, BY_TIME, head)
    return newest if is_behind(skiplist, newest, head, key) else skiplist_seek_back_time(skiplist, head, key)

cdef inline ref_t skiplist_seek_page(const Skiplist* skiplist, ref_t page, uint64_t key) noexcept nogil:
    """Return the last session of a page's run whose key is not later than `key`, or the page. As by time."""
    cdef ref_t newest = newest_of(skiplist, page)
    return newest if is_behind(skiplist, newest, page, key) else skiplist_seek_back_page(skiplist, page, key)
