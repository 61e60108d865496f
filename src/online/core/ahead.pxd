"""Hits side by side. See ext/ahead.pyx."""

from online.core.core cimport Core, Hit, Outcome

cdef void core_hits(Core* core, const Hit* hits, int n_hits, Outcome* outcomes) noexcept nogil
