"""The Python surface of an index, for C code that needs its core."""

from libc.stdint cimport UINT32_MAX, int64_t, uint32_t

from online.core.arena cimport Purse
from online.core.core cimport Core, Hit, Outcome
from online.core.skiplist cimport Name
from online.core.slots cimport Slots

cdef class Budget:
    cdef Purse purse

cdef class Index:
    cdef Core core
    cdef Budget budget
    cdef Slots _slots                                    # whose users are taken; None: all are
    cdef int64_t max_pages                               # as it was made with; see relax

cdef refusal(Index index, const Hit* hit, Outcome outcome, seen_ms)

cdef inline Name name_from(bytes text):
    """Return a view of `text`, which must outlive it."""
    cdef Name name
    name.at = text
    name.n_bytes = <uint32_t>min(len(text), UINT32_MAX)
    return name

cdef inline bytes bytes_from(Name name):
    return name.at[:name.n_bytes]
