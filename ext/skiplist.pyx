"""The multi-indexed skiplist: each record stands in several orders at once, with one height in all of them.

Its job: keep records linked by time, by name and by page, and find a place in an order. Not its job: when a record
should move and what a kind means (core.pyx), or how a record is found by its name in O(1) (table.pyx).

A record is a session or a page, its name inline behind its links. A page's record is the head of its own run: in the
order by page it stands right before its sessions, so that a run has no header of its own, an empty one no special
case, and a page's place among urls is its sessions' place too.

    by time     head <-> session <-> session <-> ...                    oldest first
    by name     head <-> session <-> session <-> ...                    in order of bytes; pages likewise, own head
    by page     head <-> page <-> its sessions, oldest first <-> page <-> its sessions <-> ...

Invariants:
1. Every order is a ring through its head, doubly linked at every level; level k holds the records of height > k.
   (So unlinking needs no search, and no link is ever NO_REF.)
2. A head has MAX_HEIGHT levels and serves each order that begins at it.
3. Along an order, keys (by time), names (by name), or keys within a run (by page) strictly increase.
4. A page's `newest` is the last session of its run, or the page itself while the run is empty.

William Pugh, "Skip lists: a probabilistic alternative to balanced trees" (1990); the walk back from a known place is
the finger search of his "A skip list cookbook" (1990), section 3.1.
"""

from libc.string cimport memcpy

from online.arena cimport NO_REF, arena_close, arena_give, arena_open, arena_take


cdef bint skiplist_open(Skiplist* skiplist, Purse* purse, uint64_t seed) noexcept nogil:
    """Make an empty skiplist; False if no memory can be had. `seed` makes the heights, and should be secret."""
    skiplist.dice = seed | 1
    return arena_open(&skiplist.arena, purse)


cdef void skiplist_close(Skiplist* skiplist) noexcept nogil:
    """Free all records."""
    arena_close(&skiplist.arena)


cdef inline int draw_height(Skiplist* skiplist) noexcept nogil:
    """Return 1 with probability 3/4, 2 with 3/16 ... at most MAX_HEIGHT. Source: Vigna, xorshift64* (2014)."""
    cdef uint64_t x = skiplist.dice
    cdef int height = 1
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    skiplist.dice = x
    x = (x * <uint64_t>0x2545F4914F6CDD1D) >> 32
    while height < MAX_HEIGHT and (x & 3) == 0:
        x >>= 2
        height += 1
    return height


cdef ref_t skiplist_new(Skiplist* skiplist, Kind kind, Name name, uint32_t hash) noexcept nogil:
    """Make a record that stands in no order yet; a head stands in all, empty ones. O(1).

    `name` has at most MAX_NAME_BYTES and is copied. Returns NO_REF if there is no memory.
    """
    cdef int height = MAX_HEIGHT if kind == HEAD else draw_height(skiplist)
    cdef size_t fixed = sizeof(Record) - (MAX_HEIGHT - height) * sizeof(Level)
    cdef ref_t ref = arena_take(&skiplist.arena, fixed + name.n_bytes)
    cdef Record* record
    cdef int level, order
    if ref == NO_REF:
        return NO_REF
    record = record_at(skiplist, ref)
    record.hash = hash
    record.name_bytes = <uint16_t>name.n_bytes
    record.height = <uint8_t>height
    record.kind = <uint8_t>kind
    record.page = ref
    record.key = 0
    if kind == PAGE:
        record.levels[0].by[<int>BY_TIME].prev = record.levels[0].by[<int>BY_TIME].next = 0
    elif kind == HEAD:
        for level in range(height):
            for order in range(ORDERS):
                record.levels[level].by[order].prev = record.levels[level].by[order].next = ref
    memcpy(<char*>record + fixed, name.at, name.n_bytes)
    return ref


cdef void skiplist_free(Skiplist* skiplist, ref_t ref) noexcept nogil:
    """Free a record that stands in no order any more. O(1)."""
    arena_give(&skiplist.arena, ref)


cdef inline void splice(Skiplist* skiplist, int order, int level, ref_t ref, ref_t prev, ref_t next) noexcept nogil:
    cdef Link* link = &record_at(skiplist, ref).levels[level].by[order]
    link.prev = prev
    link.next = next
    record_at(skiplist, prev).levels[level].by[order].next = ref
    record_at(skiplist, next).levels[level].by[order].prev = ref


cdef void skiplist_link(Skiplist* skiplist, Order order, ref_t ref, ref_t after) noexcept nogil:
    """Put a record right behind `after`, a record or head of the order. O(1) expected.

    The predecessors of a tall tower are found by climbing back from `after` along its highest links.
    """
    cdef int height = record_at(skiplist, ref).height
    cdef int level
    cdef ref_t prev = after
    cdef Record* record = record_at(skiplist, prev)
    for level in range(height):
        while record.height <= level:
            prev = record.levels[record.height - 1].by[<int>order].prev
            record = record_at(skiplist, prev)
        splice(skiplist, order, level, ref, prev, record.levels[level].by[<int>order].next)


cdef void skiplist_append(Skiplist* skiplist, Order order, ref_t ref, ref_t head) noexcept nogil:
    """Put a record at the end of an order: as `skiplist_link`, without a climb, as the head knows all last records."""
    cdef int height = record_at(skiplist, ref).height
    cdef int level
    for level in range(height):
        splice(skiplist, order, level, ref, record_at(skiplist, head).levels[level].by[<int>order].prev, head)


cdef void skiplist_unlink(Skiplist* skiplist, Order order, ref_t ref) noexcept nogil:
    """Take a record out of an order. O(1) expected."""
    cdef Record* record = record_at(skiplist, ref)
    cdef int level
    cdef Link link
    for level in range(record.height):
        link = record.levels[level].by[<int>order]
        record_at(skiplist, link.prev).levels[level].by[<int>order].next = link.next
        record_at(skiplist, link.next).levels[level].by[<int>order].prev = link.prev


cdef struct Place:
    # What is sought: the last record that is not after this.
    Order order
    Name name
    ref_t page
    uint64_t key


cdef inline bint is_after(Skiplist* skiplist, ref_t ref, const Place* place) noexcept nogil:
    """Whether a record (not a head) stands after the place. A page's record is never after a place in its run."""
    cdef Record* record = record_at(skiplist, ref)
    if place.order == BY_TIME:
        return later_by(record.key, place.key) > 0
    if place.order == BY_PAGE:
        return record.page == place.page and later_by(record.key, place.key) > 0
    return compare_names(name_of(skiplist, ref), place.name) > 0


cdef ref_t seek(Skiplist* skiplist, ref_t head, ref_t finger, const Place* place) noexcept nogil:
    """Return the last record that is not after `place`, or the head. The one descent of all orders.

    Walks back from `finger`, which is the head or a record after the place: up while towers are taller and their
    links do not overshoot, then down. O(log d) expected, d being the number of records between.
    """
    cdef int order = place.order
    cdef ref_t at = finger, before, overshot = NO_REF
    cdef int level = record_at(skiplist, at).height - 1
    while level >= 0:
        before = record_at(skiplist, at).levels[level].by[order].prev
        if before != head and before != overshot and is_after(skiplist, before, place):
            at = before
            level = record_at(skiplist, at).height - 1
        else:
            overshot = before
            level -= 1
    return overshot


cdef ref_t skiplist_seek_name(Skiplist* skiplist, ref_t head, Name name) noexcept nogil:
    """Return the last record by name that is not greater than `name`, or the head. O(log n) expected."""
    cdef Place place
    place.order = BY_NAME
    place.name = name
    return seek(skiplist, head, head, &place)


cdef ref_t skiplist_seek_time(Skiplist* skiplist, ref_t head, uint64_t key) noexcept nogil:
    """Return the last record by time whose key is not later than `key`, or the head.

    O(log d) expected, d being the number of records after it: O(1) at the end.
    """
    cdef ref_t newest = prev_of(skiplist, BY_TIME, head)
    cdef Place place
    place.order = BY_TIME
    place.key = key
    if newest == head or not is_after(skiplist, newest, &place):
        return newest
    return seek(skiplist, head, newest, &place)


cdef ref_t skiplist_seek_page(Skiplist* skiplist, ref_t page, uint64_t key) noexcept nogil:
    """Return the last session of a page's run whose key is not later than `key`, or the page. As by time."""
    cdef ref_t newest = page_at(skiplist, page).newest
    cdef Place place
    place.order = BY_PAGE
    place.page = page
    place.key = key
    if newest == page or not is_after(skiplist, newest, &place):
        return newest
    return seek(skiplist, NO_REF, newest, &place)
