"""Sums over pages: how many people are in a section, and which pages have most.

Its job: SECTION and TOP on a core. Not its job: who the people are (lists).
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from online.core.arena cimport NO_REF, ref_t
from online.core.core cimport Core, core_page_people
from online.core.lists cimport first_from
from online.core.skiplist cimport BY_NAME, Name, begins_with, compare_names, name_of, next_of, record_at
from online.core.table cimport Slots

cdef extern from *:
    """
    #define prefetch(at) __builtin_prefetch((at), 1)
    """
    void prefetch(const void* at) noexcept nogil

cdef enum:
    TOP_AHEAD = 8                                        # slots by which TOP fetches pages ahead


cdef bint core_section(Core* core, Name prefix, int64_t* people, int64_t* n_pages) noexcept nogil:
    """Add up people and pages over the urls that begin with `prefix`; False beyond `max_scan` pages."""
    cdef ref_t page = first_from(core, core.urls, prefix)
    people[0] = n_pages[0] = 0
    while page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
        if n_pages[0] == core.max_scan:
            return False
        n_pages[0] += 1
        people[0] += core_page_people(core, page)
        page = next_of(&core.skiplist, BY_NAME, page)
    return True


cdef inline bint ranks_below(const Core* core, const Ranked* one, const Ranked* other) noexcept nogil:
    """Whether a page has fewer people, or as many and the later url. Places without people are all alike."""
    if one.people != other.people or one.people == 0:
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


cdef inline void rank(const Core* core, ref_t page, Ranked* heap, int64_t n) noexcept nogil:
    """Let a page take the place of the lowest in the heap, if it ranks above."""
    cdef Ranked ranked
    ranked.people = core_page_people(core, page)
    ranked.page = page
    if ranks_below(core, &heap[0], &ranked):
        heap[0] = ranked
        sift_down(core, heap, n, 0)


cdef void rank_all(const Core* core, const Slots* slots, Ranked* heap, int64_t n) noexcept nogil:
    """Rank the pages of a hash table as they stand there: side by side, so that memory can be fetched ahead."""
    cdef uint64_t i, n_slots = 0 if slots.at == NULL else <uint64_t>slots.mask + 1
    for i in range(n_slots):
        if i + TOP_AHEAD < n_slots and slots.at[i + TOP_AHEAD].ref != NO_REF:
            prefetch(record_at(&core.skiplist, slots.at[i + TOP_AHEAD].ref))
        if slots.at[i].ref != NO_REF:
            rank(core, slots.at[i].ref, heap, n)


cdef int64_t core_top(Core* core, Name prefix, Ranked* heap, int64_t limit) noexcept nogil:
    """Find the `limit` pages with most people among those that begin with `prefix`, most first; returns how many.

    O(pages that begin so). `heap` has room for `limit`, at least 1.
    """
    cdef ref_t page
    cdef int64_t n = limit, n_ranked = 0
    cdef Ranked lowest
    memset(heap, 0, limit * sizeof(Ranked))
    if prefix.n_bytes == 0:
        rank_all(core, &core.pages.now, heap, limit)
        rank_all(core, &core.pages.old, heap, limit)
    else:
        page = first_from(core, core.urls, prefix)
        while page != core.urls and begins_with(name_of(&core.skiplist, page), prefix):
            rank(core, page, heap, limit)
            page = next_of(&core.skiplist, BY_NAME, page)
    while n > 0:
        n -= 1
        lowest = heap[0]
        heap[0] = heap[n]
        sift_down(core, heap, n, 0)
        heap[n] = lowest
        n_ranked += lowest.people > 0
    return n_ranked
