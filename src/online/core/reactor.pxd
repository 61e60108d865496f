"""Sockets in turns. See ext/reactor.pyx."""

from libc.stdint cimport int64_t, uint32_t

from online.core.peers cimport Peer, Peers
from online.core.system cimport epoll_event

cdef enum:
    EVENTS_AT_ONCE = 256
    BUCKETS = 28                                         # of times: as in serve/delays.py

cdef struct Times:
    int64_t counts[BUCKETS]                              # the n-th: of times below 2^n microseconds
    int64_t longest_ns

cdef class Reactor(Peers):
    cdef list listeners                                  # file descriptors
    cdef public object noted                             # told of long times (reactor.pyi); None: nobody is
    cdef Times turns
    cdef Times turns_cpu                                 # by the processor's clock, of those that were long
    cdef int64_t cpu_ns                                  # by that clock, when the turn began
    cdef int64_t guessed_ns                              # so much of it was not read
    cdef Times steps
    cdef Times waits                                     # between two turns, where the first left work
    cdef int64_t left_at_ns                              # when a turn left work; 0: the last left none
    cdef object syncing                                  # whose answers wait for a sync, in the order of held_turn
    cdef bint is_host_ready                              # something has come there
    cdef public bint is_host_wanted                      # the host has something to do
    cdef bint is_waiting                                 # for more, itself, after this turn
    cdef int64_t accept_at_ms                            # when the pause in accepting ends, or FOREVER
    cdef epoll_event ready[EVENTS_AT_ONCE]
    cdef int n_ready
    cdef int n_handled                                   # of `ready`, in this round
    cdef Py_ssize_t n_waiting                            # of `queue`, in this round
    cdef Py_ssize_t n_served                             # of `queue`, in this round

    cdef bint has_ended(self) noexcept
    cdef int64_t processor_time(self, int64_t ns) noexcept
    cdef int took(self, Times* times, str name, int64_t ns) except -1
    cdef int accept(self, int fd) except -1
    cdef int watch_listeners(self, uint32_t events) except -1
    cdef int admit(self, int fd) except -1
    cdef bint step(self) except -1
    cdef int handle(self, uint32_t serial, uint32_t slot, uint32_t events) except -1
    cdef int end_round(self) except -1
    cdef bint let_go(self, Peer peer) except -1
    cdef int check_deadlines(self, int64_t end_ns) except -1
