"""Plain TCP and Unix sockets served by C code over an epoll set of their own. Linux only.

Its job: to accept, and whose turn it is; and to wait in the host's place, for peers and for whatever the host waits
for. Not its job: what a peer does in its step (peers), to open listeners (listeners.py), and who the host is
(sockets.py).

A turn serves who is ready for about a millisecond, and what it does not get to is left for the next. A round is the
events of one epoll_wait, and then the queue: those who have work left, and those whose last step took long. It ends
when the queue has been served once, or the turn is over: so who comes with a small question waits for one long step,
not for all of them.

Invariants:
1. Within a round each peer gets at most one step.
2. An event belongs to the peer in its slot only if their serial numbers agree: a peer may have gone since, and
   its slot and its file descriptor may be used again.
3. Answers to hits leave at the end of a round, after one write for all, or when that was synced, if there is a journal.
4. Each turn, step and wait between turns is counted by its time, with the clock that ends turns.
"""

from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

import math
from collections import deque

from online.limits import ACCEPT_PAUSE_S

from online.core.connection cimport Connection, Service
from online.core.journal cimport Journal
from online.core.peers cimport (
    AWAITING, DELAYING, FOREVER, HELD, LOOK_EVERY_MS, RECEIVING, SENDING, WORKING, Peer, Peers, event_data,
)
from online.core.system cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLHUP, EPOLLIN, SOCK_CLOEXEC, SOCK_NONBLOCK,
    accept4, clock_ns, close, epoll_event, epoll_wait, failed_before_accept, processor_ns, raise_errno,
    unread_bytes, unsent_bytes, watch,
)

__all__ = ["Reactor"]

cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil

cdef enum:
    TURN_NS = 1_000_000
    LONG_NS = 10_000_000                                 # what takes so long is told (serve/delays.py)
    MEASURED_NS = 2_000_000                              # of turns so long, the processor time is counted, too
    GUESSED_NS = 500_000                                 # so much of it is guessed, to save the system call
    LONG_STEP_NS = 50_000                                # whose step took so long is served after all others,
    LONG_WORK = 32                                       # if by its own work, not because the system ran others
    ACCEPTED_AT_ONCE = 16                                # 0.4 ms
    CHECK_EVERY_MS = 100                                 # deadlines are looked at, at most
    LONGEST_WAIT_S = 60
    HOST = 0xFFFFFFFF                                    # the slot of the host's set, whose serial number is 0

cdef int64_t ACCEPT_PAUSE_MS = round(1000 * ACCEPT_PAUSE_S)


cdef class Reactor(Peers):
    def __cinit__(self, connections, Service service not None, wake):
        self.listeners, self.syncing = [], deque()
        self.accept_at_ms = FOREVER

    # Coming in

    def listen(self, int fd):
        watch(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN, <uint64_t>len(self.listeners))
        self.listeners.append(fd)

    def adopt(self, int fd, *, int64_t now_ms):
        self.now_ms = now_ms
        self.admit(fd)

    def take_over(self, int fd, Connection connection not None, *, int64_t now_ms):
        cdef Peer peer = Peer(self, fd)
        peer.connection = connection
        self.now_ms = now_ms
        self.place(peer)
        watch(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN, event_data(peer))
        peer.events = EPOLLIN
        self.rest(peer)
        return peer

    cdef int accept(self, int fd) except -1:
        """Let in who waits at a listener. While the system has no room, they queue there."""
        cdef int accepted
        for _ in range(ACCEPTED_AT_ONCE):
            accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if accepted >= 0:
                self.admit(accepted)
            elif errno == EAGAIN:
                break
            elif errno in (EMFILE, ENFILE, ENOMEM, ENOBUFS):
                self.connections.no_room(errno)
                self.watch_listeners(0)
                self.accept_at_ms = self.now_ms + ACCEPT_PAUSE_MS
                break
            elif not failed_before_accept():
                raise_errno()
        return 0

    cdef int watch_listeners(self, uint32_t events) except -1:
        cdef uint64_t i
        for i in range(<uint64_t>len(self.listeners)):
            watch(self.epoll, EPOLL_CTL_MOD, self.listeners[i], events, i)
        return 0

    cdef int admit(self, int fd) except -1:
        """Begin a connection; one that cannot begin fails alone."""
        cdef Peer peer = Peer(self, fd)
        try:
            peer.connection, last_words = self.connections.open(peer)
        except Exception:
            close(fd)
            peer.fd = -1
            self.connections.failed()
            return 0
        self.place(peer)
        try:
            watch(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN, event_data(peer))
        except OSError:
            self.connections.failed()
            return self.drop(peer)
        peer.events = EPOLLIN
        if last_words is not None:
            return self.fail(peer, last_words)
        self.follow_token(peer)
        return self.rest(peer)

    # Turns

    def turn(self, int64_t now_ms):
        cdef int64_t turn_ns = clock_ns()
        cdef int64_t began_ns = turn_ns
        cdef int64_t end_ns = began_ns + TURN_NS
        cdef int64_t now_ns
        cdef bint is_work_left = True
        self.now_ms = now_ms
        if self.left_at_ns:
            self.took(&self.waits, "wait", turn_ns - self.left_at_ns)
        if not self.is_waiting or self.guessed_ns >= GUESSED_NS:
            self.cpu_ns, self.guessed_ns = processor_ns(), 0
        if self.n_handled == self.n_ready and self.n_served:
            self.n_waiting = 0                           # the round is over
        if now_ms >= self.accept_at_ms:
            self.accept_at_ms = FOREVER
            self.watch_listeners(EPOLLIN)
        if now_ms >= self.check_at_ms:
            self.check_deadlines(end_ns)
            self.bound_buffers()
            began_ns = clock_ns()
        while is_work_left:
            self.served = None
            self.service.last_verb = NULL
            is_work_left = self.step()
            now_ns = clock_ns()
            self.took(&self.steps, "step", now_ns - began_ns)
            if self.served is not None:
                self.served.is_long = now_ns - began_ns >= LONG_STEP_NS and self.served.connection.work >= LONG_WORK
            if now_ns >= end_ns:
                break
            began_ns = now_ns
        self.served = None
        self.end_round()
        self.free_slots += self.freed_slots
        self.freed_slots.clear()
        is_work_left = is_work_left or len(self.queue) > 0
        now_ns = clock_ns()
        self.took(&self.turns, "turn", now_ns - turn_ns)
        if now_ns - turn_ns >= MEASURED_NS:
            self.took(&self.turns_cpu, "turn_cpu", self.processor_time(now_ns - turn_ns))
        self.left_at_ns = now_ns if is_work_left else 0
        if self.is_waiting:                              # next turn's beginning, if nothing else ran in this one
            self.cpu_ns += now_ns - turn_ns
            self.guessed_ns += now_ns - turn_ns
        return is_work_left

    def host(self, int fd):
        watch(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN, HOST)

    def wait(self, double for_s, now_ms):
        cdef int64_t until_ns = clock_ns() + <int64_t>(1e9 * min(max(for_s, 0.0), LONGEST_WAIT_S))
        cdef int64_t left_ms, due_ms
        cdef int n_ready
        cdef bint is_last = False, is_work_left = len(self.queue) > 0
        self.is_host_ready = False
        while not (is_last or is_work_left or self.is_host_ready or self.is_host_wanted or self.has_ended()):
            left_ms = max(0, (until_ns - clock_ns() + 999_999) // 1_000_000)
            is_last = left_ms == 0
            due_ms = min(self.check_at_ms, self.accept_at_ms)
            if due_ms != FOREVER:
                left_ms = max(0, min(left_ms, due_ms - <int64_t>now_ms()))
            with nogil:
                n_ready = epoll_wait(self.epoll, self.ready, EVENTS_AT_ONCE, <int>left_ms)
            if n_ready < 0:
                if errno != EINTR:
                    raise_errno()
                break
            if n_ready == 1 and self.ready[0].data.u64 == HOST:
                return True
            self.n_ready, self.n_handled, self.n_served, self.n_waiting = n_ready, 0, 0, 0
            if n_ready > 0 or due_ms <= <int64_t>now_ms():
                self.is_waiting = True                   # so a turn does not look for more
                try:
                    is_work_left = self.turn(now_ms())
                finally:
                    self.is_waiting = False
        return self.is_host_ready or for_s <= 0 and not (is_work_left or self.has_ended())

    cdef bint has_ended(self) noexcept:
        return self.is_ending and not self.sockets

    cdef int took(self, Times* times, str name, int64_t ns) except -1:
        cdef uint64_t us = <uint64_t>ns // 1000
        times.counts[min(64 - __builtin_clzll(us), BUCKETS - 1) if us else 0] += 1
        if ns > times.longest_ns:
            times.longest_ns = ns
        if ns >= LONG_NS and self.noted is not None:
            verb = None if self.service.last_verb == NULL else self.service.last_verb.decode()
            self.noted(name, ns, verb, self.processor_time(ns))
        return 0

    cdef int64_t processor_time(self, int64_t ns) noexcept:
        """Return how much of the last `ns` of this turn the processor worked for us; its beginning may be guessed."""
        return min(ns, processor_ns() - self.cpu_ns)

    def take_times(self):
        told = {
            "turn": times_of(&self.turns), "turn_cpu": times_of(&self.turns_cpu),
            "step": times_of(&self.steps), "wait": times_of(&self.waits),
        }
        memset(&self.turns, 0, sizeof(Times))
        memset(&self.turns_cpu, 0, sizeof(Times))
        memset(&self.steps, 0, sizeof(Times))
        memset(&self.waits, 0, sizeof(Times))
        return told

    cdef int end_round(self) except -1:
        """Let the journal write what this round, or its part in this turn, has noted, and send what may leave."""
        cdef Journal journal = self.service.journal
        cdef Peer peer
        if journal is None:
            return 0
        journal.flush_turn()
        while self.syncing and self.let_go(self.syncing[0]):
            self.syncing.popleft()
        for peer in self.held:
            peer.held_turn = journal.turn
            if not self.let_go(peer):
                self.watch_for(peer, 0)
                self.syncing.append(peer)
                self.look_again()
        self.held.clear()
        return 0

    cdef bint let_go(self, Peer peer) except -1:
        """Send the answers of a peer that was held, if they may leave; return False if they have to wait."""
        cdef int fate
        if peer.state != HELD:
            return True
        fate = self.service.journal.fate(peer.held_turn)
        if fate < 0:
            self.drop(peer)
        elif fate > 0:
            self.send(peer)
        return fate != 0

    cdef bint step(self) except -1:
        """Serve the next of this round, or begin another. Return False if it would be empty."""
        cdef epoll_event* event
        cdef Peer peer
        if self.n_handled < self.n_ready:
            event = &self.ready[self.n_handled]
            self.n_handled += 1
            self.handle(<uint32_t>(event.data.u64 >> 32), <uint32_t>event.data.u64, event.events)
            return True
        if self.n_waiting:
            self.n_waiting -= 1
            self.n_served += 1
            peer = self.queue.popleft()
            peer.is_queued = False
            self.serve(peer)
            return True
        if self.is_waiting and len(self.queue) == 0:
            return False
        self.end_round()
        self.n_handled = self.n_served = 0
        self.n_ready = epoll_wait(self.epoll, self.ready, EVENTS_AT_ONCE, 0)
        if self.n_ready < 0:
            self.n_ready = 0
            if errno != EINTR:
                raise_errno()
        if self.n_ready == 1 and self.ready[0].data.u64 == HOST:
            self.n_ready = 0                             # it is for `wait`, and stays until the host has looked
        self.n_waiting = len(self.queue)
        return self.n_ready > 0 or self.n_waiting > 0

    cdef int handle(self, uint32_t serial, uint32_t slot, uint32_t events) except -1:
        """Do what an event asks for, at once or, for a peer whose last step took long, after all others.

        Who works off input for which no answer is wanted would not be found to have broken off by sending.
        """
        cdef Peer peer
        if serial == 0:
            self.is_host_ready = self.is_host_ready or slot == HOST
            return self.accept(self.listeners[slot]) if slot < <uint32_t>len(self.listeners) else 0
        peer = self.slots[slot]
        if peer is None or peer.serial != serial:
            return 0
        if peer.state == WORKING and events & EPOLLERR:
            return self.drop(peer)
        if (peer.state == HELD or peer.state == DELAYING or peer.state == AWAITING) and events & (EPOLLERR | EPOLLHUP):
            return self.drop(peer)
        if peer.is_queued or peer.state == WORKING:
            return 0
        if not peer.is_long:
            return self.serve(peer)
        self.enqueue(peer)
        self.n_waiting += 1
        return 0

    # Time

    cdef int check_deadlines(self, int64_t end_ns) except -1:
        """End whose time is over. O(sockets), at most every CHECK_EVERY_MS, or again in the next turn."""
        cdef Peer peer
        cdef int64_t next_ms = FOREVER
        self.check_at_ms = FOREVER
        for peer in self.slots:
            if peer is not None and peer.deadline_ms <= self.now_ms:
                if clock_ns() >= end_ns:
                    self.check_at_ms = self.now_ms
                    return 0
                self.out_of_time(peer)
        for peer in self.slots:
            if peer is not None:
                next_ms = min(next_ms, peer.deadline_ms)
                if peer.state in (SENDING, WORKING, AWAITING, HELD):
                    self.carry(peer, unsent_bytes(peer.fd) + unread_bytes(peer.fd))
                    next_ms = min(next_ms, self.now_ms + LOOK_EVERY_MS)
        self.check_at_ms = next_ms if next_ms == FOREVER else max(next_ms, self.now_ms + CHECK_EVERY_MS)
        return 0

    def rest_s(self, int64_t now_ms):
        cdef int64_t until_ms = min(self.check_at_ms, self.accept_at_ms)
        return math.inf if until_ms == FOREVER else max(until_ms - now_ms, 0) / 1000.0

    # From above

    def end(self, *, int64_t now_ms):
        cdef Peer peer
        self.now_ms = now_ms
        self.is_ending = True
        for fd in self.listeners:
            watch(self.epoll, EPOLL_CTL_DEL, fd, 0, 0)
        self.listeners.clear()
        self.accept_at_ms = FOREVER
        for peer in list(self.slots):
            if peer is not None and peer.state == RECEIVING:
                self.receive(peer)
                if peer.state == RECEIVING:
                    self.drop(peer)

    def close(self):
        cdef Peer peer
        self.listeners.clear()
        for peer in list(self.slots):
            if peer is not None:
                self.drop(peer)
        if self.epoll >= 0:
            close(self.epoll)
        self.epoll = -1


cdef times_of(Times* times):
    return [times.counts[i] for i in range(BUCKETS)], times.longest_ns
