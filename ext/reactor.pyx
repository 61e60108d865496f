"""Plain TCP and Unix sockets served by C code over an epoll set of their own. Linux only.

Its job: accept, receive, send and close, the time that each may take, and whose turn it is. Not its job: to open
listeners (listeners.py), to wait (sockets.py), and what bytes mean (wire).

A turn serves who is ready for about a millisecond, and what it does not get to is left for the next. A round is the
events of one epoll_wait, and then the queue: those who have work left, and those whose last step took long. It ends
when the queue has been served once, or the turn is over: so who comes with a small question waits for one long step,
not for all of them.

A connection's life. In streams.py it is the same, as the steps of a task:

                       accept
                         |
                         v
    +---------------> RECEIVING                rests until something comes
    |                    | bytes
    |                    v
    |                 answer <-----------------+
    |                    +-- hits were answered: HELD until the journal has them
    |                    v                     |
    |                  send <------------------+----------------+
    |                    |                     | its turn       | writable, or bytes while little waits
    |                    +-- input is left -> WORKING           |
    |                    +-- a reply is made elsewhere -> AWAITING, then WORKING
    |                    +-- not all is sent --------------> SENDING
    |                    +-- a wrong token --> DELAYING, then send
    +-- all is done -----+
                         | closing: after QUIT or broken framing, or by `fail`
                         v
                      `finish` --> DRAINING --> `drop` --> CLOSED

It ends in three ways:

- `fail(error)`: say why, then end. The error is the last output. Where a reply is half sent it is `drop`.
- `finish`: the rest has been sent; close our half, and throw away what still comes, for a second at most.
- `drop`: at once. So ends who has gone, who did not take what was sent, and who rests at the end of the server. Where
  output is left it is a reset, so that the kernel frees what it holds, too.

Invariants:
1. Within a round each peer gets at most one step: one receive or one go at waiting input, and one send.
2. Nobody is read from while more than max_output waits for them, or while input of theirs does that could be answered.
3. An event belongs to the peer in its slot only if their serial numbers agree: a peer may have gone since, and
   its slot and its file descriptor may be used again.
4. A peer that rests between messages owns no buffer.
5. Answers to hits leave when the journal, if there is one, says that they may: at the end of a round, after one
   write for all, or when that was synced. What is lost is never answered: its connection ends.
6. No deadline is before `check_at_ms`, apart from those that were looked at less than CHECK_EVERY_MS ago.
7. Nobody is ended for a deadline before what has come from them was read: the server may have stood still.
8. `service.carried_bytes` holds what the kernel has of each peer that is SENDING, WORKING, AWAITING, HELD or DRAINING,
   as of the last look. Who is HELD for one round, or WORKING or AWAITING for less than LOOK_EVERY_MS, is not looked at.
9. Each turn, step and wait between turns is counted by its time, with the clock that ends turns.
"""

from libc.errno cimport (
    EAGAIN, ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EINTR, EMFILE, ENETDOWN, ENETUNREACH, ENFILE, ENOBUFS, ENOMEM,
    ENONET, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO, ETIMEDOUT, errno,
)
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import math
import os
from collections import deque

from online import errors
from online.limits import ACCEPT_PAUSE_S, FAREWELL_S, WRONG_TOKEN_DELAY_S

from online.core.codec cimport Buffer, buffer_used
from online.core.connection cimport (
    Connection, Service, buffer_reserve,
    connection_forget_input, connection_give_back, connection_in_frame, connection_lend, connection_proceed,
    connection_receive, connection_trim,
)
from online.core.journal cimport Journal

__all__ = ["Peer", "Reactor"]

cdef extern from "<sys/epoll.h>" nogil:
    int EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int op, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int n_events, int timeout_ms)

cdef extern from "<sys/socket.h>" nogil:
    struct linger:
        int l_onoff
        int l_linger
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, SHUT_WR, SOL_SOCKET, SO_LINGER
    int accept4(int fd, void* address, void* n_bytes, int flags)
    ssize_t recv(int fd, void* at, size_t n_bytes, int flags)
    ssize_t send(int fd, const void* at, size_t n_bytes, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, unsigned int n_bytes)

cdef extern from "<sys/ioctl.h>" nogil:
    int FIONREAD
    int ioctl(int fd, unsigned long request, int* n_bytes)

cdef extern from "<linux/sockios.h>" nogil:
    int SIOCOUTQ

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID
    int clock_gettime(int clock, timespec* now)

cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil

cdef enum:
    TURN_NS = 1_000_000
    LONG_NS = 10_000_000                                 # what takes so long is told (serve/delays.py)
    MEASURED_NS = 2_000_000                              # of turns so long, the processor time is counted, too
    LONG_STEP_NS = 50_000                                # whose step took so long is served after all others,
    LONG_WORK = 32                                       # if by its own work, not because the system ran others
    RECEIVE_BYTES = 64 * 1024
    ACCEPTED_AT_ONCE = 16                                # 0.4 ms
    CHECK_EVERY_MS = 100                                 # deadlines are looked at, at most
    LOOK_EVERY_MS = 1_000                                # what the kernel holds of who is not read from
    OFFERED_BEHIND_BYTES = 8 * 1024                      # of what was sent before, behind which a message may wait

cdef int64_t FOREVER = INT64_MAX

cdef int64_t FAREWELL_MS = round(1000 * FAREWELL_S)
cdef int64_t DELAY_MS = round(1000 * WRONG_TOKEN_DELAY_S)
cdef int64_t ACCEPT_PAUSE_MS = round(1000 * ACCEPT_PAUSE_S)


cdef class Peer:
    def __cinit__(self, Reactor reactor not None, int fd):
        self.reactor = reactor
        self.fd = fd
        self.state = RECEIVING
        self.is_long = True                              # until it has shown that it is not
        self.left_ms = self.auth_at_ms = self.deadline_ms = FOREVER

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    def fileno(self):
        return self.fd

    @property
    def waiting_bytes(self):
        return self.connection.buffered_bytes + self.carried_bytes

    @property
    def has_room(self):
        if buffer_used(&self.connection.output) or self.state == CLOSED:
            return False
        return unsent_bytes(self.fd) <= OFFERED_BEHIND_BYTES

    def offer(self, bytes message not None, *, int64_t now_ms):
        if self.has_last_words or self.connection.is_closing or self.state in (DELAYING, DRAINING, CLOSED):
            return False
        if self.connection.is_partly_answered or buffer_used(&self.connection.output) > OFFERED_BEHIND_BYTES:
            return False
        self.reactor.now_ms = now_ms
        self.reactor.push(self, message, len(message))
        return True

    def replied(self, _awaited):
        self.reactor.replied(self)

    def fail(self, error, *, int64_t now_ms):
        if self.has_last_words or self.state == CLOSED:
            return False
        self.reactor.now_ms = now_ms
        self.reactor.fail(self, error)
        self.reactor.wake()
        return True


cdef class Reactor:
    def __cinit__(self, connections, Service service not None, wake):
        self.epoll = -1
        self.connections = connections
        self.service = service
        self.wake = wake
        self.listeners, self.peers, self.free_slots, self.freed_slots, self.queue = [], [], [], [], deque()
        self.held, self.syncing = [], deque()
        self.check_at_ms = self.accept_at_ms = FOREVER
        limits = service.limits
        self.frame_timeout_ms = round(limits.frame_timeout_s * 1000)
        self.auth_timeout_ms = round(limits.auth_timeout_s * 1000)
        self.send_timeout_ms = round(limits.send_timeout_s * 1000)
        self.max_buffers = limits.max_buffers
        self.max_output = limits.max_output
        self.most_looks = limits.max_frame // RECEIVE_BYTES + 2
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise os_error()
        self.input = <char*>malloc(RECEIVE_BYTES)
        if self.input == NULL:
            raise MemoryError("no memory for a reactor")

    def __dealloc__(self):
        if self.epoll >= 0:
            close(self.epoll)
        free(self.input)
        free(self.room.at)

    def fileno(self):
        return self.epoll

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
            elif not is_of_peer(errno):
                raise os_error()
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

    cdef int place(self, Peer peer) except -1:
        """Give a peer a slot and a serial number, never 0: that is the listeners'."""
        if self.free_slots:
            peer.slot = self.free_slots.pop()
            self.peers[peer.slot] = peer
        else:
            peer.slot = <uint32_t>len(self.peers)
            self.peers.append(peer)
        self.serial = self.serial + 1 if self.serial < 0xFFFFFFFF else 1
        peer.serial = self.serial
        self.sockets += 1
        return 0

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
        self.cpu_ns = processor_ns()
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
            self.took(&self.turns_cpu, "turn_cpu", processor_ns() - self.cpu_ns)
        self.left_at_ns = now_ns if is_work_left else 0
        return is_work_left

    cdef int took(self, Times* times, str name, int64_t ns) except -1:
        cdef uint64_t us = <uint64_t>ns // 1000
        times.counts[min(64 - __builtin_clzll(us), BUCKETS - 1) if us else 0] += 1
        if ns > times.longest_ns:
            times.longest_ns = ns
        if ns >= LONG_NS and self.noted is not None:
            verb = None if self.service.last_verb == NULL else self.service.last_verb.decode()
            self.noted(name, ns, verb, processor_ns() - self.cpu_ns)
        return 0

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
        self.end_round()
        self.n_handled = self.n_served = 0
        self.n_ready = epoll_wait(self.epoll, self.ready, EVENTS_AT_ONCE, 0)
        if self.n_ready < 0:
            self.n_ready = 0
            if errno != EINTR:
                raise os_error()
        self.n_waiting = len(self.queue)
        return self.n_ready > 0 or self.n_waiting > 0

    cdef int handle(self, uint32_t serial, uint32_t slot, uint32_t events) except -1:
        """Do what an event asks for, at once or, for a peer whose last step took long, after all others.

        Who works off input for which no answer is wanted would not be found to have broken off by sending.
        """
        cdef Peer peer
        if serial == 0:
            return self.accept(self.listeners[slot]) if slot < <uint32_t>len(self.listeners) else 0
        peer = self.peers[slot]
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

    # A peer

    cdef int enqueue(self, Peer peer) except -1:
        if not peer.is_queued:
            peer.is_queued = True
            self.queue.append(peer)
        return 0

    cdef int serve(self, Peer peer) except -1:
        """Take the next step of a peer."""
        self.served = peer
        if peer.state == RECEIVING:
            self.receive(peer)
        elif peer.state == WORKING or peer.state == SENDING and self.may_work(peer):
            self.answer(peer, 0)
        elif peer.state == SENDING:
            if not (peer.events & EPOLLIN and self.receive(peer)):
                self.send(peer)
        elif peer.state == DRAINING:
            self.drain(peer)
        return 0

    cdef bint receive(self, Peer peer) except -1:
        """Read once, and answer. Return whether anything was there, be it the end."""
        cdef ssize_t n_bytes = recv(peer.fd, self.input, RECEIVE_BYTES, MSG_DONTWAIT)
        if n_bytes < 0:
            if errno in (EAGAIN, EINTR):
                return False
            self.lose(peer)
        elif n_bytes > 0:
            peer.frames = peer.connection.frames
            peer.was_in_frame = connection_in_frame(peer.connection)
            if peer.state == RECEIVING and peer.left_ms != FOREVER:
                peer.left_ms -= self.now_ms - peer.rests_since_ms
            self.answer(peer, n_bytes)
        elif peer.state == SENDING:                      # it has closed its half, and waits for its answers
            peer.has_ended = True
            self.send(peer)
        else:
            self.drop(peer)
        return True

    cdef int answer(self, Peer peer, ssize_t n_received) except -1:
        """Let a connection answer what was received, or what waits, and send that."""
        connection_lend(peer.connection, &self.room)
        try:
            if n_received:
                connection_receive(peer.connection, self.input, n_received, self.now_ms)
            else:
                connection_proceed(peer.connection, self.now_ms)
        except Exception:
            self.drop(peer)
            self.connections.failed()
            return 0
        if peer.connection.awaited is not None and not peer.connection.has_work:
            peer.connection.awaited.add_done_callback(peer.replied)
        if not connection_in_frame(peer.connection):
            peer.left_ms = FOREVER
        elif not peer.was_in_frame or peer.connection.frames != peer.frames:
            peer.left_ms = self.frame_timeout_ms
        self.follow_token(peer)
        if peer.connection.has_written and self.service.journal is not None:
            self.hold(peer)
        else:
            self.send(peer)
        return self.bound_buffers()

    cdef int bound_buffers(self) except -1:
        if self.service.buffered_bytes + self.service.carried_bytes > self.max_buffers:
            self.connections.bound_buffers(now_ms=self.now_ms)
        return 0

    cdef int hold(self, Peer peer) except -1:
        """Keep answers to hits until the journal has the hits. As long as there is none, `has_written` stays.

        Who was SENDING keeps the deadline of that: to hit is no progress in reading.
        """
        if buffer_used(&peer.connection.output) == 0:
            return self.send(peer)
        peer.connection.has_written = False
        if peer.state != SENDING:
            peer.deadline_ms = FOREVER
        peer.state = HELD
        self.held.append(peer)
        return 0

    cdef void follow_token(self, Peer peer) noexcept:
        """Let the time for the token begin or end."""
        if peer.connection.authenticated or peer.connection.is_closing:
            peer.auth_at_ms = FOREVER
        elif peer.auth_at_ms == FOREVER:
            peer.auth_at_ms = self.now_ms + self.auth_timeout_ms

    cdef bint may_work(self, Peer peer) noexcept:
        """Whether waiting input may be answered although output waits."""
        return peer.connection.has_work and buffer_used(&peer.connection.output) <= self.max_output

    cdef bint may_read(self, Peer peer) noexcept:
        """Whether somebody for whom output waits may be read from."""
        if peer.connection.has_work or peer.connection.awaited is not None:
            return False
        if peer.connection.is_closing or peer.has_ended or self.is_ending:
            return False
        return buffer_used(&peer.connection.output) <= self.max_output

    cdef int send(self, Peer peer) except -1:
        """Send what waits in one call, and see what comes next for this peer."""
        cdef Buffer* output = &peer.connection.output
        cdef size_t n_bytes = output.end - output.start
        cdef ssize_t n_sent = 0
        if peer.connection.answers_late:
            return self.delay(peer)
        if n_bytes:
            n_sent = send(peer.fd, output.at + output.start, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
            if n_sent < 0:
                if errno not in (EAGAIN, EINTR, ENOBUFS, ENOMEM):
                    return self.lose(peer)
                n_sent = 0
            output.start += n_sent
        if <size_t>n_sent < n_bytes:
            return self.wait_to_send(peer, n_sent > 0)
        peer.state = RECEIVING
        if peer.carried_bytes and not peer.connection.has_work:
            self.carry(peer, 0)
        connection_give_back(peer.connection, &self.room)
        return self.go_on(peer)

    cdef int push(self, Peer peer, const char* message, size_t n_bytes) except -1:
        """Send what nobody asked for: at once where nothing waits, else behind that."""
        cdef ssize_t n_sent = 0
        if buffer_used(&peer.connection.output) == 0:
            n_sent = send(peer.fd, message, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
            if n_sent < 0:
                if errno not in (EAGAIN, EINTR, ENOBUFS, ENOMEM):
                    self.wake()
                    return self.lose(peer)
                n_sent = 0
            if <size_t>n_sent == n_bytes:
                return 0
        buffer_reserve(&peer.connection.output, n_bytes - n_sent, &self.service.buffered_bytes)
        memcpy(peer.connection.output.at + peer.connection.output.end, message + n_sent, n_bytes - n_sent)
        peer.connection.output.end += n_bytes - n_sent
        if peer.state in (RECEIVING, WORKING, AWAITING):
            self.wait_to_send(peer, n_sent > 0)
            self.wake()
        return self.bound_buffers()

    cdef int wait_to_send(self, Peer peer, bint is_progress) except -1:
        """Let a peer rest until the system takes more. Read on, or work on, while no more than max_output waits."""
        if is_progress or not (peer.state == SENDING or peer.state == HELD and peer.deadline_ms != FOREVER):
            connection_trim(peer.connection)
            if not peer.has_last_words:
                self.time(peer, self.send_timeout_ms)
        peer.state = SENDING
        self.carry(peer, unsent_bytes(peer.fd) + unread_bytes(peer.fd))
        self.look_again()
        if self.may_work(peer):
            self.enqueue(peer)
        return self.watch_for(peer, EPOLLOUT | EPOLLIN if self.may_read(peer) else EPOLLOUT)

    cdef void look_again(self) noexcept:
        """See to it that what the kernel holds is looked at within LOOK_EVERY_MS: it grows without an event."""
        self.check_at_ms = min(self.check_at_ms, self.now_ms + LOOK_EVERY_MS)

    cdef int carry(self, Peer peer, int64_t n_bytes) except -1:
        """Account for what the kernel holds of a peer."""
        self.service.carried_bytes += n_bytes - peer.carried_bytes
        peer.carried_bytes = n_bytes
        return 0

    cdef int delay(self, Peer peer) except -1:
        """Hold the answer to a wrong token back: who guesses is to have few tries. Nobody else waits for it."""
        peer.connection.answers_late = False
        connection_trim(peer.connection)
        connection_forget_input(peer.connection)
        peer.state = DELAYING
        self.time(peer, DELAY_MS)
        return self.watch_for(peer, 0)

    cdef int go_on(self, Peer peer) except -1:
        """See what comes next for a peer whose output has gone."""
        if peer.connection.is_closing:
            return self.finish(peer)
        if peer.connection.has_work:
            peer.deadline_ms = FOREVER
            peer.state = WORKING
            self.enqueue(peer)
            self.look_again()
            return self.watch_for(peer, EPOLLIN)
        if peer.connection.awaited is not None:
            peer.deadline_ms = FOREVER
            peer.state = AWAITING
            self.look_again()
            return self.watch_for(peer, 0)
        if self.is_ending or peer.has_ended:
            return self.drop(peer)
        peer.state = RECEIVING
        return self.rest(peer)

    cdef int replied(self, Peer peer) except -1:
        """Let a peer go on whose reply is there. Who is HELD, or has much output, does so in time."""
        if peer.state == CLOSED or peer.connection.awaited is None:
            return 0
        peer.connection.has_work = True
        if peer.state == AWAITING:
            peer.state = WORKING
        if peer.state == WORKING or peer.state == SENDING and self.may_work(peer):
            self.enqueue(peer)
            self.wake()
        return 0

    cdef int rest(self, Peer peer) except -1:
        """Let a peer rest until something comes from it."""
        peer.rests_since_ms = self.now_ms
        self.time(peer, peer.left_ms)
        return self.watch_for(peer, EPOLLIN)

    cdef int finish(self, Peer peer) except -1:
        """Close our half, now that the kernel has all, and throw away what still comes.

        To close a socket with unread input would reset it, and the last reply might be lost.
        """
        if shutdown(peer.fd, SHUT_WR) < 0:
            return self.drop(peer)
        peer.state = DRAINING
        self.carry(peer, unsent_bytes(peer.fd))
        if not peer.has_last_words:
            self.time(peer, FAREWELL_MS)
        return self.watch_for(peer, EPOLLIN)

    cdef int drain(self, Peer peer) except -1:
        cdef ssize_t n_bytes = recv(peer.fd, self.input, RECEIVE_BYTES, MSG_DONTWAIT)
        if n_bytes > 0 or n_bytes < 0 and errno in (EAGAIN, EINTR):
            return 0
        return self.drop(peer)

    cdef int fail(self, Peer peer, error) except -1:
        """Say why, then end: with `error` as the last reply, unless one is half sent."""
        if peer.state in (HELD, SENDING, DELAYING, DRAINING):
            return self.drop(peer)
        peer.connection.fail(error)
        connection_forget_input(peer.connection)
        peer.has_last_words = True
        peer.auth_at_ms = FOREVER
        self.time(peer, FAREWELL_MS)
        return self.send(peer)

    cdef int lose(self, Peer peer) except -1:
        """Drop a peer whose socket has failed. The system gives up, too, where nobody takes what was sent."""
        if errno == ETIMEDOUT:
            self.connections.reached("slow")
        return self.drop(peer)

    cdef int drop(self, Peer peer) except -1:
        """Close a socket and free its buffers. Its slot is free from the end of the turn on."""
        cdef Buffer* output = &peer.connection.output
        cdef linger at_once = linger(1, 0)
        if peer.state == SENDING or peer.carried_bytes:
            setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
        self.carry(peer, 0)
        output.start = output.end
        connection_give_back(peer.connection, &self.room)
        connection_forget_input(peer.connection)
        close(peer.fd)
        peer.fd = -1
        peer.state = CLOSED
        peer.deadline_ms = FOREVER
        self.peers[peer.slot] = None
        self.freed_slots.append(peer.slot)
        self.sockets -= 1
        self.connections.closed(peer.connection)
        return 0

    cdef int watch_for(self, Peer peer, uint32_t events) except -1:
        if peer.events != events:
            watch(self.epoll, EPOLL_CTL_MOD, peer.fd, events, event_data(peer))
            peer.events = events
        return 0

    # Time

    cdef int time(self, Peer peer, int64_t left_ms) except -1:
        """Give a peer so long for what it is doing, and no longer than it has for its token."""
        peer.deadline_ms = peer.auth_at_ms
        if left_ms != FOREVER:
            peer.deadline_ms = min(peer.deadline_ms, self.now_ms + left_ms)
        if peer.deadline_ms != FOREVER:
            self.check_at_ms = min(self.check_at_ms, peer.deadline_ms)
        return 0

    cdef int check_deadlines(self, int64_t end_ns) except -1:
        """End whose time is over. O(sockets), at most every CHECK_EVERY_MS, or again in the next turn."""
        cdef Peer peer
        cdef int64_t next_ms = FOREVER
        self.check_at_ms = FOREVER
        for peer in self.peers:
            if peer is not None and peer.deadline_ms <= self.now_ms:
                if clock_ns() >= end_ns:
                    self.check_at_ms = self.now_ms
                    return 0
                self.out_of_time(peer)
        for peer in self.peers:
            if peer is not None:
                next_ms = min(next_ms, peer.deadline_ms)
                if peer.state in (SENDING, WORKING, AWAITING, HELD):
                    self.carry(peer, unsent_bytes(peer.fd) + unread_bytes(peer.fd))
                    next_ms = min(next_ms, self.now_ms + LOOK_EVERY_MS)
        self.check_at_ms = next_ms if next_ms == FOREVER else max(next_ms, self.now_ms + CHECK_EVERY_MS)
        return 0

    cdef int out_of_time(self, Peer peer) except -1:
        """End a peer whose time is over, and count why."""
        limits = self.service.limits
        if peer.state == DRAINING:
            return self.drain_on(peer)
        if peer.has_last_words:
            return self.drop(peer)
        if peer.state == HELD:
            return 0                                     # it is the journal that is late
        if peer.state == DELAYING:
            return self.send(peer)
        self.catch_up(peer)
        if peer.deadline_ms > self.now_ms:
            return 0
        if peer.auth_at_ms <= self.now_ms:
            self.connections.reached("auth_timeout")
            return self.fail(peer, errors.too_slow_auth(limits.auth_timeout_s))
        if peer.state == SENDING:
            self.connections.reached("slow")
            return self.drop(peer)
        self.connections.reached("frame_timeout")
        return self.fail(peer, errors.too_slow_frame(limits.frame_timeout_s))

    cdef int drain_on(self, Peer peer) except -1:
        """End a farewell, unless the last replies are still on their way and get on."""
        cdef int64_t unsent = unsent_bytes(peer.fd)
        if 0 < unsent < peer.carried_bytes:
            self.carry(peer, unsent)
            return self.time(peer, FAREWELL_MS)
        self.carry(peer, unsent)
        return self.drop(peer)

    cdef int catch_up(self, Peer peer) except -1:
        """Take what lies in a socket whose time is over: as much as a message, in as many steps as it needs.

        There may be room for less than what makes the socket writable. To send that, too, is progress.
        """
        if peer.state == SENDING:
            self.send(peer)
        for _ in range(self.most_looks):
            if peer.deadline_ms > self.now_ms or peer.state != RECEIVING or not self.receive(peer):
                break
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
        for peer in list(self.peers):
            if peer is not None and peer.state == RECEIVING:
                self.receive(peer)
                if peer.state == RECEIVING:
                    self.drop(peer)

    def close(self):
        cdef Peer peer
        self.listeners.clear()
        for peer in list(self.peers):
            if peer is not None:
                self.drop(peer)
        if self.epoll >= 0:
            close(self.epoll)
        self.epoll = -1


cdef times_of(Times* times):
    return [times.counts[i] for i in range(BUCKETS)], times.longest_ns


cdef inline uint64_t event_data(Peer peer) noexcept:
    return <uint64_t>peer.serial << 32 | peer.slot


cdef int watch(int epoll, int op, int fd, uint32_t events, uint64_t data) except -1:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = events
    event.data.u64 = data
    if epoll_ctl(epoll, op, fd, &event) < 0:
        raise os_error()
    return 0


cdef bint is_of_peer(int code) noexcept:
    """Whether accept(2) failed because of a connection that is no more, or of the network (see its manual page)."""
    return code in (
        EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP,
        ENETUNREACH,
    )


cdef int unsent_bytes(int fd) noexcept:
    """What the kernel was given to send and has not arrived."""
    cdef int n_bytes = 0
    ioctl(fd, SIOCOUTQ, &n_bytes)
    return n_bytes


cdef int unread_bytes(int fd) noexcept:
    """What has come and was not read."""
    cdef int n_bytes = 0
    ioctl(fd, FIONREAD, &n_bytes)
    return n_bytes


cdef os_error():
    return OSError(errno, os.strerror(errno))


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline int64_t processor_ns() noexcept nogil:
    """What this thread has used of a processor: less than the time that went by, if the system ran others."""
    cdef timespec used
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used)
    return <int64_t>used.tv_sec * 1_000_000_000 + used.tv_nsec
