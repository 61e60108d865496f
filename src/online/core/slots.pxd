"""Whose users a server has, for C code. See ext/slots.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from online.core.skiplist cimport Name

cdef enum:
    N_SLOTS = 16384

cdef struct Owned:
    uint8_t mine[N_SLOTS]                                # whether each slot is
    int64_t moved                                        # hits and leaves that were refused, as their users are not

cdef uint32_t slot_of(Name user) noexcept nogil

cdef inline bint owns(const Owned* owned, Name user) noexcept nogil:
    """Whether a user is of a slot that is ours. O(bytes)."""
    return owned.mine[slot_of(user)]

cdef class Slots:
    cdef Owned owned
    cdef object owners
    cdef object names
    cdef error_of(self, bytes user)
