"""Hits side by side: what a batch will touch is brought into the cache before it is carried out.

Its job: `core_hits`. Not its job: what a hit does (core, hit by hit, in order).

What hits will touch is fetched a step of every hit at a time. While they are applied, a finger is not greater than its
name: records that come between are walked over, and one that goes hands it back.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport (
    HITS_AT_ONCE, TIE_MASK, Ahead, Core, Hit, Outcome,
    core_look, core_settle_hit, core_tell, head_of, key_of, names, sessions_on,
)
from online.core.skiplist cimport (
    BY_NAME, BY_PAGE, BY_TIME, DEPARTED, Link, Order, Search, Skiplist,
    height_at, height_of, highest_link, is_behind, later_by, link_at, newest_of, page_at, prefetch_link,
    prefetch_record, prev_of, record_at, search_name, search_page, search_time, skiplist_search,
)
from online.core.table cimport HashKey, table_guess, table_prefetch, table_settle

cdef enum:
    SEARCHES_A_HIT = 4
    CLIMB_STEPS = 16                                     # four on average find a record of two levels


cdef struct Found:
    # What a hit will probably touch; NO_REF where there is nothing.
    ref_t session
    ref_t page

cdef struct Searches:
    Search at[SEARCHES_A_HIT * HITS_AT_ONCE]
    int n
    # Those by name find fingers: which ones, and which search it was.
    uint8_t fingers[2 * HITS_AT_ONCE]
    uint8_t of[2 * HITS_AT_ONCE]
    int n_fingers


cdef inline void prefetch_neighbours(const Core* core, ref_t ref, Order order) noexcept nogil:
    """Fetch what unlinking a record will touch."""
    cdef Link link = link_at(&core.skiplist, order, 0, ref)[0]
    prefetch_link(&core.skiplist, order, link.prev)
    prefetch_link(&core.skiplist, order, link.next)


cdef inline void prefetch_links(const Core* core, Found found) noexcept nogil:
    """Fetch what stands beside a hit's session and beside its new place."""
    cdef ref_t page
    if found.session != NO_REF:
        prefetch_neighbours(core, found.session, BY_TIME)
        prefetch_neighbours(core, found.session, BY_PAGE)
        page = record_at(&core.skiplist, found.session).page
        if page != found.page:
            prefetch_record(&core.skiplist, page, 1)
    if found.page != NO_REF:
        prefetch_record(&core.skiplist, newest_of(&core.skiplist, found.page), 1)


cdef inline void prefetch_left(const Core* core, Found found) noexcept nogil:
    """Fetch what dropping the page that a hit's user leaves will touch, if nobody else is there."""
    cdef ref_t left = NO_REF
    if found.session != NO_REF:
        left = record_at(&core.skiplist, found.session).page
    if left != NO_REF and left != found.page and sessions_on(core, left) == 1:
        prefetch_neighbours(core, left, BY_NAME)
        table_prefetch(&core.pages, page_at(&core.skiplist, left).hash)


cdef void begin_names(const Core* core, const Hit* hit, int nth, Found found, Searches* searches) noexcept nogil:
    """Begin the searches by name that a new user or url needs: they find fingers."""
    if found.session == NO_REF and names(hit.kind) and not core.without_names:
        search_name(&core.skiplist, &searches.at[searches.n], core.named, hit.user)
        note_finger(searches, 2 * nth)
    if found.page == NO_REF and hit.kind != DEPARTED:
        search_name(&core.skiplist, &searches.at[searches.n], core.urls, hit.url)
        note_finger(searches, 2 * nth + 1)


cdef inline void note_finger(Searches* searches, int finger) noexcept nogil:
    searches.fingers[searches.n_fingers] = <uint8_t>finger
    searches.of[searches.n_fingers] = <uint8_t>searches.n
    searches.n_fingers += 1
    searches.n += 1


cdef inline bint is_old(const Core* core, Found found, uint64_t key) noexcept nogil:
    """Whether a hit is no newer than what its user has: it will be ignored, as most are that come twice."""
    return found.session != NO_REF and later_by(record_at(&core.skiplist, found.session).key | TIE_MASK, key) >= 0


cdef inline void begin_late(const Core* core, const Hit* hit, Found found, Searches* searches) noexcept nogil:
    """Begin the searches by time that a late hit needs: in its order, and in its page's run."""
    cdef uint64_t key = key_of(min(hit.seen_ms, core.now_ms), TIE_MASK)
    cdef const Skiplist* skiplist = &core.skiplist
    cdef ref_t head = head_of(core, hit.kind)
    if not is_behind(skiplist, prev_of(skiplist, BY_TIME, head), head, key):
        if is_old(core, found, key):
            return
        search_time(skiplist, &searches.at[searches.n], head, key)
        searches.n += 1
    if found.page != NO_REF and names(hit.kind):
        if not is_behind(skiplist, newest_of(skiplist, found.page), found.page, key):
            search_page(skiplist, &searches.at[searches.n], found.page, key)
            searches.n += 1


cdef void take_fingers(Core* core, const Searches* searches, int n_hits) noexcept nogil:
    """Keep where new users and urls will stand."""
    cdef int i
    core.n_fingers = 2 * n_hits
    memset(core.fingers, 0, core.n_fingers * sizeof(ref_t))
    for i in range(searches.n_fingers):
        core.fingers[searches.fingers[i]] = searches.at[searches.of[i]].overshot


cdef inline int height_for(const Core* core, Found found, const Ahead* ahead) noexcept nogil:
    """Return the height of the session that a hit will link."""
    return height_of(ahead.user_hash) if found.session == NO_REF else height_at(&core.skiplist, found.session)


cdef void climb_ahead(const Core* core, const Found* found, int n_hits, const Ahead* ahead) noexcept nogil:
    """Fetch what tall sessions will climb along, back from the ends of runs, as far as CLIMB_STEPS."""
    cdef ref_t at[HITS_AT_ONCE]
    cdef ref_t pages[HITS_AT_ONCE]
    cdef int heights[HITS_AT_ONCE]
    cdef int i, n = 0, n_left, _step
    for i in range(n_hits):
        if found[i].page == NO_REF:
            continue
        at[n] = newest_of(&core.skiplist, found[i].page)
        pages[n] = found[i].page
        heights[n] = height_for(core, found[i], &ahead[i])
        n += heights[n] > 1
    for _step in range(CLIMB_STEPS):
        n_left = 0
        for i in range(n):
            if at[i] == pages[i] or height_at(&core.skiplist, at[i]) >= heights[i]:
                continue
            at[n_left] = highest_link(&core.skiplist, BY_PAGE, at[i]).prev
            pages[n_left] = pages[i]
            heights[n_left] = heights[i]
            prefetch_record(&core.skiplist, at[n_left], 1)
            n_left += 1
        n = n_left
        if n == 0:
            return


cdef void look_ahead(Core* core, const Hit* hits, int n_hits, const Ahead* ahead) noexcept nogil:
    """Bring into the cache what hits will touch, and take fingers.

    A hit touches about a dozen cache lines, each named by the one before, a search several times as many. Here the
    chains of all hits are walked side by side, so that the waits for memory overlap. Nothing but fingers is kept:
    applying the hits finds the rest again, at little cost, however one of them changes what the next one meets. Hits
    that will be refused are looked at, too, which does no harm.
    """
    cdef Searches searches
    cdef Found found[HITS_AT_ONCE]
    cdef int i
    for i in range(n_hits):
        table_prefetch(&core.users, <uint32_t>ahead[i].user_hash)
        table_prefetch(&core.pages, <uint32_t>ahead[i].url_hash)
    for i in range(n_hits):
        found[i].session = table_guess(&core.users, <uint32_t>ahead[i].user_hash)
        found[i].page = table_guess(&core.pages, <uint32_t>ahead[i].url_hash)
        prefetch_record(&core.skiplist, found[i].session, 1)
        prefetch_record(&core.skiplist, found[i].page, 1)
    for i in range(n_hits):
        prefetch_links(core, found[i])
    searches.n = searches.n_fingers = 0
    for i in range(n_hits):
        prefetch_left(core, found[i])
        if found[i].session == NO_REF or found[i].page == NO_REF:
            begin_names(core, &hits[i], i, found[i], &searches)
        begin_late(core, &hits[i], found[i], &searches)
    if searches.n:
        skiplist_search(&core.skiplist, searches.at, searches.n)
    if searches.n_fingers:
        take_fingers(core, &searches, n_hits)
    climb_ahead(core, found, n_hits, ahead)


cdef void core_hits(Core* core, const Hit* hits, int n_hits, Outcome* outcomes) noexcept nogil:
    """Carry out up to HITS_AT_ONCE hits in order, each as `core_hit` does; `outcomes` tells what became of them."""
    cdef Ahead ahead[HITS_AT_ONCE]
    cdef HashKey key = core.hash_key
    cdef int i
    for i in range(n_hits):
        core_look(key, &hits[i], &ahead[i])
    look_ahead(core, hits, n_hits, ahead)
    for i in range(n_hits):
        if core.n_fingers:
            ahead[i].user_finger = core.fingers[2 * i]
            ahead[i].url_finger = core.fingers[2 * i + 1]
        outcomes[i] = core_settle_hit(core, &hits[i], &ahead[i])
    if core.journal != NULL or core.written != NULL:
        for i in range(n_hits):
            core_tell(core, &hits[i], &ahead[i])
    core.n_fingers = 0
    table_settle(&core.users, n_hits)
    table_settle(&core.pages, n_hits)
