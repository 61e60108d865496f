"""Datagrams that were received together, for C code. See ext/datagrams.pyx."""

from online.core.skiplist cimport Name

cdef enum:
    MOST_DATAGRAMS = 64                                  # of one call
    DATAGRAM_BYTES = 64 * 1024                           # the longest that UDP carries; what is longer is cut

cdef class Datagrams:
    cdef char* room
    cdef Name[MOST_DATAGRAMS] taken                      # in `room`, until the next are received
    cdef int n_taken
    cdef object may_send                                 # None: everybody may
    cdef dict known                                      # address -> whether it may send
    cdef char[16] last_sender                            # who may: who sent last
    cdef int n_last
    cdef readonly int foreign
    cdef readonly object dropped

    cdef bint is_known(self, const char* address, int n_bytes) except -1
