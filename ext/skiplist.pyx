"""The multi-indexed skiplist: each record stands in several orders at once, with one height in all of them.

Its job: keep records linked by time, by name and by page, and find a place in an order. Not its job: when a record
should move and what a kind means (core.pyx), or how a record is found by its name in O(1) (table.pyx).

A record is a session or a page. A reference names its header, which is small and of odd length; its levels stand before
it, where they are aligned, and its name behind it. The sessions of a page are its run. The page's record is the head of
it, so that a run has no header of its own and an empty one no special case.

    by time     head <-> session <-> session <-> ...                    oldest first
    by name     head <-> session <-> session <-> ...                    in order of bytes; pages likewise, own head
    by page     page <-> its sessions, oldest first; a run for each page

Runs are not linked to each other: most pages have one session or few, and whoever comes or goes there, or brings or
ends the page, touches nobody else's.

Invariants:
1. Every order is a ring through its head, doubly linked at every level; level k holds the records of height > k.
   (So unlinking needs no search, and no link is ever NO_REF.)
2. A head has MAX_HEIGHT levels. A page has what its own height is, and sessions in its run may be taller. So a run is a
   ring at level 0 alone; above it, the first and the last session of each level are linked to the page, and it to none.
3. Along an order, keys (by time and by page) or names (by name) strictly increase.

William Pugh, "Skip lists: a probabilistic alternative to balanced trees" (1990); the walk back from a known place is
the finger search of his "A skip list cookbook" (1990), section 3.1.
"""

from libc.string cimport memcpy, memset

from online.core.arena cimport NO_REF, UNIT_SHIFT, arena_close, arena_give, arena_open, arena_take

cdef extern from *:
    """
    /* A build with -DONLINE_COUNT_STEPS counts the records that searches look at, for tests of the claims of O(1). */
    #ifdef ONLINE_COUNT_STEPS
    static long long online_steps = 0;
    #define count_step() ((void)online_steps++)
    #define steps_taken() (online_steps)
    #else
    #define count_step() ((void)0)
    #define steps_taken() (-1LL)
    #endif
    """
    void count_step() noexcept nogil
    long long steps_taken() noexcept nogil


cdef enum:
    LEVEL_UNITS = sizeof(Level) >> UNIT_SHIFT            # of the arena


def steps():
    return None if steps_taken() < 0 else steps_taken()


cdef bint skiplist_open(Skiplist* skiplist, Purse* purse) noexcept nogil:
    """Make an empty skiplist; False if no memory can be had."""
    return arena_open(&skiplist.arena, purse)


cdef void skiplist_close(Skiplist* skiplist) noexcept nogil:
    """Free all records."""
    arena_close(&skiplist.arena)


cdef ref_t skiplist_new(Skiplist* skiplist, Kind kind, Name name, uint32_t hash, int height) noexcept nogil:
    """Make a record that stands in no order yet; a head, of MAX_HEIGHT, stands in all, empty ones. O(1).

    `name` has at most MAX_NAME_BYTES and is copied; a page keeps `hash`. Returns NO_REF if there is no memory.
    """
    cdef uint16_t n_bytes = <uint16_t>name.n_bytes
    cdef bint is_long = n_bytes >= LONG_NAME
    cdef size_t n_fixed = height * sizeof(Level) + sizeof(Record) + is_long * sizeof(n_bytes)
    cdef ref_t ref = arena_take(&skiplist.arena, n_fixed + n_bytes)
    cdef Record* record
    cdef Page* page
    cdef char* at
    cdef int level, order
    if ref == NO_REF:
        return NO_REF
    ref += height * LEVEL_UNITS
    record = record_at(skiplist, ref)
    record.shape = <uint8_t>(height | kind << KIND_SHIFT)
    record.name_bytes = LONG_NAME if is_long else <uint8_t>n_bytes
    if kind == PAGE:
        page = page_at(skiplist, ref)
        memset(page.counts, 0, sizeof(page.counts))
        page.hash = hash
        link_at(skiplist, BY_PAGE, 0, ref).prev = link_at(skiplist, BY_PAGE, 0, ref).next = ref
    elif kind == HEAD:
        for level in range(height):
            for order in range(ORDERS):
                link_at(skiplist, <Order>order, level, ref).prev = ref
                link_at(skiplist, <Order>order, level, ref).next = ref
    at = <char*>record + sizeof(Record)
    if is_long:
        memcpy(at, &n_bytes, sizeof(n_bytes))
        at += sizeof(n_bytes)
    memcpy(at, name.at, n_bytes)
    return ref


cdef void skiplist_free(Skiplist* skiplist, ref_t ref) noexcept nogil:
    """Free a record that stands in no order any more. O(1)."""
    arena_give(&skiplist.arena, ref - height_at(skiplist, ref) * LEVEL_UNITS)


# Searches. One descent serves all orders; many searches go side by side, so that their waits for memory overlap.

cdef inline bint is_after(const Skiplist* skiplist, ref_t ref, const Search* search) noexcept nogil:
    """Whether a record (not a head) stands after the place."""
    if search.order == BY_NAME:
        return compare_names(name_of(skiplist, ref), search.name) > 0
    return later_by(record_at(skiplist, ref).key, search.key) > 0


cdef inline void look_from(const Skiplist* skiplist, Search* search, ref_t ref) noexcept nogil:
    """Let a search be at the highest link of a record."""
    search.link = highest_link(skiplist, search.order, ref)
    search.level = height_at(skiplist, ref) - 1


cdef inline void go_down(Search* search) noexcept nogil:
    search.link = <const Link*>(<const Level*>search.link + 1)  # lower levels stand behind higher ones
    search.level -= 1


cdef inline void choose_next(const Skiplist* skiplist, Search* search) noexcept nogil:
    """Let `before` be the next record to look at, and fetch it; at the end, let `level` be less than 0."""
    while search.level >= 0:
        search.before = search.link.prev
        if search.before != search.head and search.before != search.overshot:
            prefetch_record(skiplist, search.before, search.level + 1)
            return
        search.overshot = search.before
        go_down(search)


cdef inline void step(const Skiplist* skiplist, Search* search) noexcept nogil:
    """Look at one record: walk on to it, or find that its link overshoots and go down a level."""
    count_step()
    if is_after(skiplist, search.before, search):
        look_from(skiplist, search, search.before)
    else:
        search.overshot = search.before
        go_down(search)
    choose_next(skiplist, search)


cdef inline void begin(const Skiplist* skiplist, Search* search, ref_t finger) noexcept nogil:
    """Begin at the head, or at a record after the place."""
    search.overshot = NO_REF
    look_from(skiplist, search, finger)
    choose_next(skiplist, search)


cdef void search_name(const Skiplist* skiplist, Search* search, ref_t head, Name name) noexcept nogil:
    """Begin a search by name for the last record that is not greater than `name`. O(log n) expected steps."""
    search.order = BY_NAME
    search.head = head
    search.name = name
    begin(skiplist, search, head)


cdef void search_time(const Skiplist* skiplist, Search* search, ref_t head, uint64_t key) noexcept nogil:
    """Begin a search by time for the last record whose key is not later than `key`: not that of the newest one.

    O(log d) expected steps, d being the number of records after it.
    """
    search.order = BY_TIME
    search.head = head
    search.key = key
    begin(skiplist, search, prev_of(skiplist, BY_TIME, head))


cdef void search_page(const Skiplist* skiplist, Search* search, ref_t page, uint64_t key) noexcept nogil:
    """Begin a search in a page's run for the last session whose key is not later than `key`. As by time."""
    search.order = BY_PAGE
    search.head = page
    search.key = key
    begin(skiplist, search, newest_of(skiplist, page))


cdef inline ref_t finish(const Skiplist* skiplist, Search* search) noexcept nogil:
    """Return the last record that is not after the place, or the head.

    Walks back from where it began: up while towers are taller and their links do not overshoot, then down.
    """
    while search.level >= 0:
        step(skiplist, search)
    return search.overshot


cdef void skiplist_search(const Skiplist* skiplist, Search* searches, int n_searches) noexcept nogil:
    """Carry out up to MAX_SEARCHES searches side by side, a step of each at a time; `overshot` is then the answer.

    A step waits for one record; fetched together, those of many searches take little more time than one.
    """
    cdef uint8_t under_way[MAX_SEARCHES]
    cdef int i, n_left, n_under_way = 0
    for i in range(n_searches):
        if searches[i].level >= 0:
            under_way[n_under_way] = <uint8_t>i
            n_under_way += 1
    while n_under_way > 0:
        n_left = 0
        for i in range(n_under_way):
            step(skiplist, &searches[under_way[i]])
            if searches[under_way[i]].level >= 0:
                under_way[n_left] = under_way[i]
                n_left += 1
        n_under_way = n_left


cdef ref_t skiplist_walk_name(const Skiplist* skiplist, ref_t head, ref_t finger, Name name) noexcept nogil:
    """As `skiplist_seek_name`, from a record (or the head) that is known not to be greater. O(records between)."""
    cdef ref_t next = next_of(skiplist, BY_NAME, finger)
    count_step()
    while next != head and compare_names(name_of(skiplist, next), name) <= 0:
        count_step()
        finger = next
        next = next_of(skiplist, BY_NAME, finger)
    return finger


cdef ref_t skiplist_seek_name(const Skiplist* skiplist, ref_t head, Name name) noexcept nogil:
    """Return the last record by name that is not greater than `name`, or the head. O(log n) expected."""
    cdef Search search
    search_name(skiplist, &search, head, name)
    return finish(skiplist, &search)


cdef ref_t skiplist_seek_back_time(const Skiplist* skiplist, ref_t head, uint64_t key) noexcept nogil:
    """`skiplist_seek_time` for a place before the newest record."""
    cdef Search search
    search_time(skiplist, &search, head, key)
    return finish(skiplist, &search)


cdef ref_t skiplist_seek_back_page(const Skiplist* skiplist, ref_t page, uint64_t key) noexcept nogil:
    """`skiplist_seek_page` for a place before the newest session."""
    cdef Search search
    search_page(skiplist, &search, page, key)
    return finish(skiplist, &search)
