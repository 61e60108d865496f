"""Counts of what lines say beside page views, for C code. See ext/tally.pyx."""

from libc.stdint cimport uint32_t

from online.core.known cimport Known, Slot, Text
from online.core.logfields cimport Fields

cdef class Tally:
    cdef Known known
    cdef dict counts                                     # of what has no slot, or has no longer

    cdef bint has(self, const Text* key) noexcept
    cdef int learn(self, const Text* key, what) except -1
    cdef int count(self, what, uint32_t n) except -1
    cdef int settle(self, Slot* slot) except -1
    cdef int settle_all(self) except -1

cdef class LineTally:
    cdef Tally statuses, agents, referrers
    cdef object status_of, agent_of, host_of
    cdef set bots, members
    cdef Py_ssize_t bot_hits, member_hits

    cdef int take_status(self, const Fields* fields) except -1
    cdef int take_view(self, const Fields* fields, user, kind) except -1
    cdef int take_referrer(self, const Fields* fields) except -1
