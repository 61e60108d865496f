"""Sums over pages. See ext/sections.pyx."""

from libc.stdint cimport int64_t

from online.core.arena cimport ref_t
from online.core.core cimport Core
from online.core.skiplist cimport Name

cdef struct Ranked:
    int64_t people
    ref_t page

cdef bint core_section(Core* core, Name prefix, int64_t* people, int64_t* n_pages) noexcept nogil
cdef int64_t core_top(Core* core, Name prefix, Ranked* heap, int64_t limit) noexcept nogil
