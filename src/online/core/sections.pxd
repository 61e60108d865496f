"""Sections: all urls that begin with a prefix; their sums, and the pages with most people. See ext/sections.pyx."""

from libc.stdint cimport int64_t, uint32_t

from online.core.arena cimport ref_t
from online.core.core cimport Core, Watch
from online.core.skiplist cimport Name

cdef enum Asked:
    ANSWERED
    NOT_YET                                              # more pages or sessions than `left` are in the way
    TOO_LONG                                             # more pages than `max_scan`
    NO_MEMORY

cdef struct Ranked:
    int64_t people
    ref_t page

cdef struct Bound:                                       # a place in the order by people
    int64_t people
    Name url                                             # of those with as many people, the last; empty: all

cdef struct Section:
    Watch watch                                          # the first, so that it stands for the section
    Core* core
    Section* next
    Name prefix
    ref_t at                                             # the next page to look at; NO_REF when all have been
    bint is_summed                                       # the sums are of all pages, not only of those before `at`
    int64_t people
    int64_t n_pages
    int64_t asked_ms
    Bound least                                          # pages at or above it are hot, if they have been looked at
    Bound sure                                           # pages at or above it are hot, all of them
    ref_t* hot                                           # a hash set of pages
    uint32_t mask
    int64_t n_hot
    int64_t most                                         # pages that may be hot
    Ranked* room                                         # for `most` of them, to put in order

cdef Asked core_section(Core* core, Name prefix, int64_t* left, int64_t* people, int64_t* n_pages) noexcept nogil
cdef Asked core_top(Core* core, Name prefix, int64_t limit, int64_t* left, Ranked** top, int64_t* n) noexcept nogil
cdef void sections_retire(Core* core) noexcept nogil
cdef void sections_close(Core* core) noexcept nogil
