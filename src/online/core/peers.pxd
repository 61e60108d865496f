"""The peers of a server. See ext/peers.pyx."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from online.core.codec cimport Buffer
from online.core.connection cimport Connection, Service

cdef enum:
    LOOK_EVERY_MS = 1_000                                # what the kernel holds of who is not read from

cdef extern from "<stdint.h>":
    const int64_t FOREVER "INT64_MAX"                    # of a time: there is none

cdef enum State:
    RECEIVING                                            # rests until something comes
    WORKING                                              # stands in the queue, with input that has come
    AWAITING                                             # rests until the host has the reply to a rare verb
    HELD                                                 # has answers to hits that are not in the journal yet
    SENDING                                              # rests until output can go on
    DELAYING                                             # its last answer is held back
    DRAINING                                             # has had its last reply; what still comes is thrown away
    CLOSED

cdef class Peers

cdef class Peer:
    # A socket with its connection.
    cdef Peers peers
    cdef Connection connection
    cdef State state
    cdef int fd
    cdef uint32_t slot
    cdef uint32_t serial
    cdef uint32_t events                                 # what epoll watches for
    cdef bint has_last_words                             # the server ends it; its deadline is the last
    cdef bint has_ended                                  # nothing more will come from it
    cdef bint is_queued
    cdef bint is_long                                    # its last step took long, or it had none yet
    cdef bint was_in_frame                               # when it was read from last
    cdef int64_t frames                                  # when it was read from last
    cdef int64_t carried_bytes                           # held by the kernel while it is SENDING or DRAINING
    cdef int64_t rests_since_ms
    cdef int64_t left_ms                                 # of the time for what it is sending; FOREVER between messages
    cdef int64_t auth_at_ms                              # when its token must have come, or FOREVER
    cdef int64_t deadline_ms                             # of its state, or FOREVER
    cdef int64_t held_turn                               # of the journal, that its answers wait for

cdef class Peers:
    cdef object connections
    cdef Service service
    cdef object wake                                     # to be called when a turn is wanted before rest_s is over
    cdef int epoll
    cdef list slots                                      # peers, None where a slot is free
    cdef list free_slots
    cdef list freed_slots                                # free from the end of the turn on
    cdef object queue                                    # of those who work or take long; others are passed over
    cdef Peer served                                     # in this step
    cdef list held                                       # whose answers wait for the end of this round
    cdef uint32_t serial                                 # of the newest peer, from 1
    cdef readonly int64_t sockets
    cdef bint is_ending
    cdef int64_t now_ms
    cdef int64_t check_at_ms                             # no deadline is before it, or it was looked at lately
    cdef int64_t frame_timeout_ms
    cdef int64_t auth_timeout_ms
    cdef int64_t send_timeout_ms
    cdef int64_t max_buffers
    cdef size_t max_output
    cdef char* input                                     # what was received last; shared by all
    cdef Buffer room                                     # lent to who is answering

    cdef int place(self, Peer peer) except -1
    cdef int enqueue(self, Peer peer) except -1
    cdef int serve(self, Peer peer) except -1
    cdef bint receive(self, Peer peer) except -1
    cdef void follow_token(self, Peer peer) noexcept
    cdef bint may_work(self, Peer peer) noexcept
    cdef bint may_read(self, Peer peer) noexcept
    cdef int answer(self, Peer peer, ssize_t n_received) except -1
    cdef int send(self, Peer peer) except -1
    cdef int push(self, Peer peer, const char* message, size_t n_bytes) except -1
    cdef int bound_buffers(self) except -1
    cdef int hold(self, Peer peer) except -1
    cdef int wait_to_send(self, Peer peer, bint is_progress) except -1
    cdef void look_again(self) noexcept
    cdef int carry(self, Peer peer, int64_t n_bytes) except -1
    cdef int delay(self, Peer peer) except -1
    cdef int go_on(self, Peer peer) except -1
    cdef int replied(self, Peer peer) except -1
    cdef int rest(self, Peer peer) except -1
    cdef int finish(self, Peer peer) except -1
    cdef int drain(self, Peer peer) except -1
    cdef int fail(self, Peer peer, error) except -1
    cdef int lose(self, Peer peer) except -1
    cdef int drop(self, Peer peer) except -1
    cdef int hand_back(self, Peer peer) except -1
    cdef int forget(self, Peer peer) except -1
    cdef int watch_for(self, Peer peer, uint32_t events) except -1
    cdef int time(self, Peer peer, int64_t left_ms) except -1
    cdef int out_of_time(self, Peer peer) except -1
    cdef int drain_on(self, Peer peer) except -1
    cdef int catch_up(self, Peer peer) except -1

cdef inline uint64_t event_data(Peer peer) noexcept:
    """What epoll says of a peer that is ready. Serial numbers begin at 1: 0 is a listener."""
    return <uint64_t>peer.serial << 32 | peer.slot
