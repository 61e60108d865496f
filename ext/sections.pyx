"""Sections of a site: how many people and pages are under a prefix, and which pages have most people.

Its job: SECTION and TOP, exact and in slices. Not its job: who the people are (lists), and what a page is (core).

A large section is walked page by page, a slice in each turn, and then kept up to date as hits come, as long as
somebody asks for it. So only the first question of a section takes time, and no question makes others wait.

- **Sums.** Pages before `at`, in order of url, have been counted. What changes before `at` is added to the sums; what
  changes behind it will be counted when the walk gets there.
- **Ranks.** Pages are ranked by people, equals by url. The *hot* ones, a few thousand, are all that rank at or above
  a bound. A page becomes hot or ceases to be when its people cross the bound: two comparisons a hit. When too many are
  hot, the bound rises to leave half of them. When fewer are hot than one answer may list, the bound falls to the
  bottom, and another walk finds those that are missing; meanwhile `sure` is the old bound, above which none is missing.
- A page ranks by all its sessions, overdue or not, so nothing is answered while any is overdue.

Invariants, of each section that is kept:
1. `at` is NO_REF or a page of the section; what is before it has been looked at.
2. `hot` holds no page that ranks below `least`, all those before `at` that do not, and all at or above `sure`.
3. No page stands in `hot` when it goes: it has passed the bound before, which is never below one person.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from online.core.arena cimport NO_REF, purse_give, purse_take, ref_t
from online.core.core cimport (
    Core, Watch, are_people, core_expire_some, core_page_people, core_unwatch, core_watch, sessions_on,
)
from online.core.lists cimport first_from
from online.core.skiplist cimport BY_NAME, Name, begins_with, compare_names, name_of, next_of, same_name

cdef enum:
    KEPT = 8                                             # sections of a site
    KEPT_MS = 10_000                                     # since somebody asked
    FRESH_MS = 1_000                                     # who waits for a section asks in each turn
    AT_ONCE = 1_024                                      # pages of a section that is not worth keeping
    PAGES_A_SESSION = 8                                  # pages can be looked at in the time that it takes to drop one
    HOT_LEAST = 1_000                                    # pages that TOP can always list; more if max_limit is more

cdef Bound BOTTOM                                        # every page with people is at or above it
BOTTOM.people = 1
BOTTOM.url.at = ""
BOTTOM.url.n_bytes = 0


# A hash set of pages. It is twice as large as it needs to be, and never grows.

cdef inline uint32_t slot_of(const Section* section, ref_t page) noexcept nogil:
    return <uint32_t>(<uint64_t>page * <uint64_t>0x9E3779B97F4A7C15 >> 32) & section.mask  # Fibonacci hashing


cdef void heat(Section* section, ref_t page) noexcept nogil:
    """Let a page be hot, if it is not."""
    cdef uint32_t i = slot_of(section, page)
    while section.hot[i] != NO_REF:
        if section.hot[i] == page:
            return
        i = (i + 1) & section.mask
    section.hot[i] = page
    section.n_hot += 1
    if section.n_hot == section.most:
        raise_bound(section)


cdef void cool(Section* section, ref_t page) noexcept nogil:
    """Let a page not be hot. The slots behind it move up, as far as that brings them nearer to their own."""
    cdef uint32_t i = slot_of(section, page), j, home
    while section.hot[i] != page:
        if section.hot[i] == NO_REF:
            return
        i = (i + 1) & section.mask
    j = i
    while True:
        j = (j + 1) & section.mask
        if section.hot[j] == NO_REF:
            break
        home = slot_of(section, section.hot[j])
        if ((j - home) & section.mask) >= ((j - i) & section.mask):
            section.hot[i] = section.hot[j]
            i = j
    section.hot[i] = NO_REF
    section.n_hot -= 1


# Ranks

cdef inline bint is_bound(const Bound* bound, int64_t people, Name url) noexcept nogil:
    """Whether a page is at or above a bound."""
    if people != bound.people:
        return people > bound.people
    return bound.url.n_bytes == 0 or compare_names(url, bound.url) <= 0


cdef inline bint is_bottom(const Bound* bound) noexcept nogil:
    return bound.people == BOTTOM.people and bound.url.n_bytes == 0


cdef inline void set_bound(Bound* bound, const Bound* other) noexcept nogil:
    bound.people = other.people
    bound.url.n_bytes = other.url.n_bytes
    memcpy(<char*>bound.url.at, other.url.at, other.url.n_bytes)


cdef inline bint ranks_below(const Core* core, const Ranked* one, const Ranked* other) noexcept nogil:
    """Whether a page has fewer people, or as many and the later url."""
    if one.people != other.people:
        return one.people < other.people
    return compare_names(name_of(&core.skiplist, one.page), name_of(&core.skiplist, other.page)) > 0


cdef void sift_down(const Core* core, Ranked* heap, int64_t n, int64_t i) noexcept nogil:
    """Restore a heap with the lowest rank on top, after entry `i` was raised."""
    cdef Ranked moved = heap[i]
    cdef int64_t child
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and ranks_below(core, &heap[child + 1], &heap[child]):
            child += 1
        if not ranks_below(core, &heap[child], &moved):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = moved


cdef int64_t highest(Section* section, int64_t most) noexcept nogil:
    """Put the `most` highest of the hot pages into `room`, as a heap with the lowest on top; return how many."""
    cdef const Core* core = section.core
    cdef Ranked* heap = section.room
    cdef Ranked ranked
    cdef int64_t n = 0, i
    cdef uint32_t slot
    for slot in range(section.mask + 1):
        ranked.page = section.hot[slot]
        if ranked.page == NO_REF:
            continue
        ranked.people = core_page_people(core, ranked.page)
        if n < most:
            heap[n] = ranked
            n += 1
            if n == most:
                for i in range(n // 2 - 1, -1, -1):
                    sift_down(core, heap, n, i)
        elif ranks_below(core, &heap[0], &ranked):
            heap[0] = ranked
            sift_down(core, heap, n, 0)
    if n < most:
        for i in range(n // 2 - 1, -1, -1):
            sift_down(core, heap, n, i)
    return n


cdef void put_in_order(const Core* core, Ranked* heap, int64_t n) noexcept nogil:
    """Turn a heap into a list, the highest rank first."""
    cdef Ranked lowest
    while n > 1:
        n -= 1
        lowest = heap[0]
        heap[0] = heap[n]
        sift_down(core, heap, n, 0)
        heap[n] = lowest


cdef void raise_bound(Section* section) noexcept nogil:
    """Leave the higher half of the hot pages hot. O(hot pages), once for half as many that became hot."""
    cdef int64_t n = highest(section, section.most // 2), i
    cdef Bound least
    least.people = section.room[0].people
    least.url = name_of(&section.core.skiplist, section.room[0].page)
    set_bound(&section.least, &least)
    memset(section.hot, 0, (section.mask + 1) * sizeof(ref_t))
    section.n_hot = 0
    for i in range(n):
        heat(section, section.room[i].page)
    if is_bound(&section.sure, least.people, least.url) and section.is_summed:
        end_walk(section)  # nothing that is missing would be hot


cdef inline void rank_page(Section* section, ref_t page, Name url, int by) noexcept nogil:
    """Let a page be hot or not, after it got `by` people more: -1, 0 or 1."""
    cdef int64_t people = core_page_people(section.core, page)
    if people > section.least.people + 1:
        return
    if people and is_bound(&section.least, people, url):
        if by > 0:
            heat(section, page)
    elif by < 0:
        cool(section, page)


# The walk

cdef inline void end_walk(Section* section) noexcept nogil:
    section.at = NO_REF
    section.is_summed = True
    set_bound(&section.sure, &section.least)


cdef inline void go_to(Section* section, ref_t page) noexcept nogil:
    """Go on at a page, unless it is no longer one of the section."""
    section.at = page
    if page == section.core.urls or not begins_with(name_of(&section.core.skiplist, page), section.prefix):
        end_walk(section)


cdef void walk(Section* section, int64_t* left) noexcept nogil:
    """Look at up to `left` pages."""
    cdef const Core* core = section.core
    cdef ref_t page
    cdef int64_t people
    while section.at != NO_REF and left[0] > 0:
        page = section.at
        left[0] -= 1
        people = core_page_people(core, page)
        if not section.is_summed:
            section.people += people
            section.n_pages += 1
        go_to(section, next_of(&core.skiplist, BY_NAME, page))
        if people and is_bound(&section.least, people, name_of(&core.skiplist, page)):
            heat(section, page)


cdef void walk_again(Section* section) noexcept nogil:
    """Look for pages below the bound."""
    set_bound(&section.sure, &section.least)
    set_bound(&section.least, &BOTTOM)
    go_to(section, first_from(section.core, section.core.urls, section.prefix))


cdef void follow(Watch* watch, ref_t page, int kind, int by) noexcept nogil:
    """Take note of a session that came to a page or left it."""
    cdef Section* section = <Section*>watch
    cdef const Core* core = section.core
    cdef Name url
    cdef int64_t n_sessions
    if page == NO_REF:
        return
    url = name_of(&core.skiplist, page)
    if not begins_with(url, section.prefix):
        return
    n_sessions = sessions_on(core, page)
    if section.is_summed or compare_names(url, name_of(&core.skiplist, section.at)) < 0:
        section.people += by * are_people(kind)
        section.n_pages += (n_sessions == 1 and by > 0) - (n_sessions == 0)
    if are_people(kind):
        rank_page(section, page, url, by)
    if n_sessions == 0 and section.at == page:  # it may go now
        go_to(section, next_of(&core.skiplist, BY_NAME, page))


# Sections come and go

cdef int64_t bytes_of(const Section* section, const Core* core) noexcept nogil:
    return (<int64_t>sizeof(Section) + section.prefix.n_bytes + 2 * core.max_url
            + (section.mask + 1) * <int64_t>sizeof(ref_t) + section.most * <int64_t>sizeof(Ranked))


cdef Section* open_section(Core* core, Name prefix) noexcept nogil:
    """Begin to keep a section; NULL if there is no memory."""
    cdef Section sizes
    cdef Section* section
    cdef char* at
    sizes.prefix = prefix
    sizes.most = 4 * max(<int64_t>HOT_LEAST, <int64_t>core.max_limit)
    sizes.mask = 1
    while sizes.mask + 1 < 2 * sizes.most:
        sizes.mask = 2 * sizes.mask + 1
    if not purse_take(core.skiplist.arena.purse, bytes_of(&sizes, core)):
        return NULL
    section = <Section*>calloc(1, bytes_of(&sizes, core))
    if section == NULL:
        purse_give(core.skiplist.arena.purse, bytes_of(&sizes, core))
        return NULL
    section.core, section.most, section.mask = core, sizes.most, sizes.mask
    section.room = <Ranked*>(section + 1)
    section.hot = <ref_t*>(section.room + section.most)
    at = <char*>(section.hot + section.mask + 1)
    section.least.url.at = at
    section.sure.url.at = at + core.max_url
    section.prefix.at = at + 2 * core.max_url
    section.prefix.n_bytes = prefix.n_bytes
    memcpy(at + 2 * core.max_url, prefix.at, prefix.n_bytes)
    set_bound(&section.least, &BOTTOM)
    section.sure.people = INT64_MAX
    section.watch.changed = follow
    core_watch(core, &section.watch)
    section.next = <Section*>core.sections
    core.sections = section
    go_to(section, first_from(core, core.urls, prefix))
    return section


cdef void close_section(Section* section) noexcept nogil:
    cdef Core* core = section.core
    cdef Section** link = <Section**>&core.sections
    while link[0] != section:
        link = &link[0].next
    link[0] = section.next
    core_unwatch(core, &section.watch)
    purse_give(core.skiplist.arena.purse, bytes_of(section, core))
    free(section)


cdef inline bint goes_before(const Section* one, const Section* other, int64_t fresh_ms) noexcept nogil:
    """Whether one section is to make place rather than another.

    Those that nobody waits for go first, the one asked for longest ago before others. Of those that are waited for, the
    one goes whose walk has come least far: so the others get to their ends, however many are asked for at once.
    """
    cdef bint is_idle = one.at == NO_REF or one.asked_ms < fresh_ms
    cdef bint is_other_idle = other.at == NO_REF or other.asked_ms < fresh_ms
    if is_idle != is_other_idle:
        return is_idle
    return one.asked_ms < other.asked_ms if is_idle else one.n_pages < other.n_pages


cdef void make_place(Core* core) noexcept nogil:
    """Close a section if as many are kept as may be."""
    cdef Section* section = <Section*>core.sections
    cdef Section* first = section
    cdef int n = 0
    while section != NULL:
        n += 1
        if goes_before(section, first, core.now_ms - FRESH_MS):
            first = section
        section = section.next
    if n >= KEPT:
        close_section(first)


cdef Section* find_section(Core* core, Name prefix) noexcept nogil:
    """Find the section of a prefix, or begin to keep it; NULL if there is no memory."""
    cdef Section* section = <Section*>core.sections
    while section != NULL and not same_name(section.prefix, prefix):
        section = section.next
    if section == NULL:
        make_place(core)
        section = open_section(core, prefix)
    if section != NULL:
        section.asked_ms = core.now_ms
    return section


cdef void sections_retire(Core* core) noexcept nogil:
    """Keep no section any longer that nobody has asked for lately."""
    cdef Section* section = <Section*>core.sections
    cdef Section* following
    while section != NULL:
        following = section.next
        if section.asked_ms < core.now_ms - KEPT_MS:
            close_section(section)
        section = following


cdef void sections_close(Core* core) noexcept nogil:
    """Keep no section any longer."""
    while core.sections != NULL:
        close_section(<Section*>core.sections)


# Questions

cdef bint is_nobody_overdue(Core* core, int64_t* left) noexcept nogil:
    left[0] -= PAGES_A_SESSION * core_expire_some(core, left[0] // PAGES_A_SESSION)
    return core.overdue == 0


cdef bint sum_at_once(Core* core, Name prefix, int64_t* people, int64_t* n_pages) noexcept nogil:
    """Add up a section of few pages; False if it has more."""
    cdef ref_t page = first_from(core, core.urls, prefix)
    people[0] = n_pages[0] = 0
    while page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
        if n_pages[0] == min(<int64_t>AT_ONCE, core.max_scan):
            return False
        n_pages[0] += 1
        people[0] += core_page_people(core, page)
        page = next_of(&core.skiplist, BY_NAME, page)
    return True


cdef Asked core_section(Core* core, Name prefix, int64_t* left, int64_t* people, int64_t* n_pages) noexcept nogil:
    """Add up people and pages over the urls that begin with `prefix`; `left` falls by the pages that are looked at.

    O(log n), and O(pages) if nobody has asked for this section lately.
    """
    cdef Section* section
    if not is_nobody_overdue(core, left):
        return NOT_YET
    if sum_at_once(core, prefix, people, n_pages):
        left[0] -= n_pages[0]
        return ANSWERED
    section = find_section(core, prefix)
    if section == NULL:
        return NO_MEMORY
    if not section.is_summed:
        walk(section, left)
    people[0], n_pages[0] = section.people, section.n_pages
    if section.n_pages > core.max_scan:
        return TOO_LONG
    return ANSWERED if section.is_summed else NOT_YET


cdef Asked core_top(Core* core, Name prefix, int64_t limit, int64_t* left, Ranked** top, int64_t* n) noexcept nogil:
    """Find the `limit` pages with most people under `prefix`, most first; `left` falls by the pages looked at.

    `top` is good until the index changes. O(limit log limit + hot pages), and O(pages) if nobody has asked for this
    section lately.
    """
    cdef Section* section
    cdef Ranked* lowest
    n[0] = 0
    if limit == 0:
        return ANSWERED
    if not is_nobody_overdue(core, left):
        return NOT_YET
    section = find_section(core, prefix)
    if section == NULL:
        return NO_MEMORY
    if section.at == NO_REF and section.n_hot < limit and not is_bottom(&section.least):
        walk_again(section)
    walk(section, left)
    n[0] = highest(section, limit)
    top[0] = lowest = section.room
    if section.at != NO_REF and (n[0] < limit or not is_bound(
            &section.sure, lowest.people, name_of(&core.skiplist, lowest.page))):
        return NOT_YET
    put_in_order(core, section.room, n[0])
    if section.is_summed and section.n_pages <= AT_ONCE:
        section.asked_ms = 0  # the first to go
    return ANSWERED
