"""Plain TCP and Unix sockets served by C code over an epoll set of their own. Linux only.

Its job: accept, receive, send and close, the time that each may take, and whose turn it is. Not its job: to open
listeners (listeners.py), to wait (sockets.py), and what bytes mean (wire).

A turn serves who is ready for about a millisecond. What it does not get to is left for the next: a round, that is
the events of one epoll_wait and those who had work left at its begin, is finished before the next one begins.

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
    |                    |                     | its turn       | writable
    |                    +-- input is left -> WORKING           |
    |                    +-- not all is sent --------------> SENDING
    +-- all is done -----+
                         | closing: after QUIT or broken framing, or by `fail`
                         v
                      `finish` --> DRAINING --> `drop` --> CLOSED

It ends in three ways:

- `fail(error)`: say why, then end. The error is the last output. Where a reply is half sent it is `drop`.
- `finish`: the rest has been sent; close our half, and throw away what still comes, for a second at most.
- `drop`: at once. So ends who has gone, who did not take what was sent, and who rests at the end of the server.

Invariants:
1. Within a round each peer gets at most one step: one receive or one go at waiting input, and one send.
2. Nobody is read from while output for them waits, or while input of theirs does that could be answered.
3. An event belongs to the peer in its slot only if their serial numbers agree: a peer may have gone since, and
   its slot and its file descriptor may be used again.
4. A peer that rests between messages owns no buffer.
5. Answers to hits leave when the journal, if there is one, says that they may: at the end of a round, after one
   write for all, or when that was synced. What is lost is never answered: its connection ends.
6. No deadline is before `check_at_ms`, apart from those that were looked at less than CHECK_EVERY_MS ago.
"""

from libc.errno cimport (
    EAGAIN, ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EINTR, EMFILE, ENETDOWN, ENETUNREACH, ENFILE, ENOBUFS, ENOMEM,
    ENONET, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO, errno,
)
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import math
import os
from collections import deque

from online import errors
from online.limits import ACCEPT_PAUSE_S, FAREWELL_S

from online.core.codec cimport Buffer, buffer_used
from online.core.connection cimport (
    Service,
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
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, SHUT_WR
    int accept4(int fd, void* address, void* n_bytes, int flags)
    ssize_t recv(int fd, void* at, size_t n_bytes, int flags)
    ssize_t send(int fd, const void* at, size_t n_bytes, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, unsigned int n_bytes)

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_NODELAY

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)

cdef enum:
    TURN_NS = 1_000_000
    RECEIVE_BYTES = 64 * 1024
    ACCEPTED_AT_ONCE = 64
    CHECK_EVERY_MS = 100                                 # deadlines are looked at, at most

cdef int64_t FOREVER = INT64_MAX

cdef int64_t FAREWELL_MS = round(1000 * FAREWELL_S)
cdef int64_t ACCEPT_PAUSE_MS = round(1000 * ACCEPT_PAUSE_S)


cdef class Peer:
    def __cinit__(self, Reactor reactor not None, int fd):
        self.reactor = reactor
        self.fd = fd
        self.state = RECEIVING

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    def fileno(self):
        return self.fd

    @property
    def waiting_bytes(self):
        return self.connection.buffered_bytes

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
        cdef int is_on = 1
        try:
            peer.connection, last_words = self.connections.open(peer)
        except Exception:
            close(fd)
            peer.fd = -1
            self.connections.failed()
            return 0
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &is_on, sizeof(is_on))  # Unix sockets refuse it: they never delay
        self.place(peer)
        try:
            watch(self.epoll, EPOLL_CTL_ADD, fd, EPOLLIN, event_data(peer))
        except OSError:
            self.connections.failed()
            return self.drop(peer)
        peer.events = EPOLLIN
        if last_words is not None:
            return self.fail(peer, last_words)
        peer.left_ms = self.auth_timeout_ms if self.service.auth_wanted else FOREVER
        return self.time(peer, peer.left_ms)

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
        cdef int64_t end_ns = clock_ns() + TURN_NS
        cdef bint is_work_left = True
        self.now_ms = now_ms
        if now_ms >= self.accept_at_ms:
            self.accept_at_ms = FOREVER
            self.watch_listeners(EPOLLIN)
        if now_ms >= self.check_at_ms:
            self.check_deadlines()
        while is_work_left:
            is_work_left = self.step()
            if clock_ns() >= end_ns:
                break
        self.end_round()
        self.free_slots += self.freed_slots
        self.freed_slots.clear()
        return is_work_left or len(self.queue) > 0

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
        if self.n_handled < self.n_ready:
            event = &self.ready[self.n_handled]
            self.n_handled += 1
            self.handle(<uint32_t>(event.data.u64 >> 32), <uint32_t>event.data.u64, event.events)
            return True
        if self.n_waiting:
            self.n_waiting -= 1
            self.work(self.queue.popleft())
            return True
        self.end_round()
        self.n_handled = 0
        self.n_ready = epoll_wait(self.epoll, self.ready, EVENTS_AT_ONCE, 0)
        if self.n_ready < 0:
            self.n_ready = 0
            if errno != EINTR:
                raise os_error()
        self.n_waiting = len(self.queue)
        return self.n_ready > 0 or self.n_waiting > 0

    cdef int handle(self, uint32_t serial, uint32_t slot, uint32_t events) except -1:
        """Do what an event asks for.

        Who works off input for which no answer is wanted would not be found to have broken off by sending.
        """
        cdef Peer peer
        if serial == 0:
            return self.accept(self.listeners[slot]) if slot < <uint32_t>len(self.listeners) else 0
        peer = self.peers[slot]
        if peer is None or peer.serial != serial:
            return 0
        if peer.state == RECEIVING:
            return self.receive(peer)
        if peer.state == SENDING:
            return self.send(peer)
        if peer.state == DRAINING:
            return self.drain(peer)
        if peer.state == WORKING and events & EPOLLERR or peer.state == HELD and events & (EPOLLERR | EPOLLHUP):
            return self.drop(peer)
        return 0

    # A peer

    cdef int receive(self, Peer peer) except -1:
        cdef ssize_t n_bytes = recv(peer.fd, self.input, RECEIVE_BYTES, MSG_DONTWAIT)
        if n_bytes <= 0:
            return 0 if n_bytes < 0 and errno in (EAGAIN, EINTR) else self.drop(peer)
        peer.frames = peer.connection.frames
        peer.was_in_frame = connection_in_frame(peer.connection)
        if peer.deadline_ms != FOREVER:
            peer.left_ms = peer.deadline_ms - self.now_ms
            peer.deadline_ms = FOREVER
        return self.answer(peer, n_bytes)

    cdef int work(self, Peer peer) except -1:
        """Go on with input that waits."""
        return self.answer(peer, 0) if peer.state == WORKING else 0

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
        if peer.connection.has_written and self.service.journal is not None:
            self.hold(peer)
        else:
            self.send(peer)
        if self.service.buffered_bytes + self.service.sending_bytes > self.max_buffers:
            self.connections.bound_buffers(now_ms=self.now_ms)
        return 0

    cdef int hold(self, Peer peer) except -1:
        """Keep answers to hits until the journal has the hits. As long as there is none, `has_written` stays."""
        if buffer_used(&peer.connection.output) == 0:
            return self.send(peer)
        peer.connection.has_written = False
        peer.state = HELD
        peer.deadline_ms = FOREVER
        self.held.append(peer)
        return 0

    cdef int send(self, Peer peer) except -1:
        """Send what waits in one call, and see what comes next for this peer."""
        cdef Buffer* output = &peer.connection.output
        cdef size_t n_bytes = output.end - output.start
        cdef ssize_t n_sent = 0
        if n_bytes:
            n_sent = send(peer.fd, output.at + output.start, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
            if n_sent < 0:
                if errno not in (EAGAIN, EINTR, ENOBUFS, ENOMEM):
                    return self.drop(peer)
                n_sent = 0
            output.start += n_sent
        if <size_t>n_sent < n_bytes:
            connection_trim(peer.connection)
            if (n_sent or peer.state != SENDING) and not peer.has_last_words:
                self.time(peer, self.send_timeout_ms)
            peer.state = SENDING
            return self.watch_for(peer, EPOLLOUT)
        connection_give_back(peer.connection, &self.room)
        return self.go_on(peer)

    cdef int go_on(self, Peer peer) except -1:
        """See what comes next for a peer whose output has gone."""
        if peer.connection.is_closing:
            return self.finish(peer)
        if peer.connection.has_work:
            peer.deadline_ms = FOREVER
            peer.state = WORKING
            self.queue.append(peer)
            return 0
        if self.is_ending:
            return self.drop(peer)
        if not (self.service.auth_wanted and peer.connection.frames == 0):
            if not connection_in_frame(peer.connection):
                peer.left_ms = FOREVER
            elif not peer.was_in_frame or peer.connection.frames != peer.frames:
                peer.left_ms = self.frame_timeout_ms
        peer.state = RECEIVING
        self.time(peer, peer.left_ms)
        return self.watch_for(peer, EPOLLIN)

    cdef int finish(self, Peer peer) except -1:
        """Close our half, now that all is sent, and throw away what still comes.

        To close a socket with unread input would reset it, and the last reply might be lost.
        """
        if shutdown(peer.fd, SHUT_WR) < 0:
            return self.drop(peer)
        peer.state = DRAINING
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
        if peer.state == HELD or peer.state == SENDING or peer.state == DRAINING:
            return self.drop(peer)
        peer.connection.fail(error)
        connection_forget_input(peer.connection)
        peer.has_last_words = True
        self.time(peer, FAREWELL_MS)
        return self.send(peer)

    cdef int drop(self, Peer peer) except -1:
        """Close a socket and free its buffers. Its slot is free from the end of the turn on."""
        cdef Buffer* output = &peer.connection.output
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
        """Give a peer so long for what it is doing."""
        peer.deadline_ms = FOREVER
        if left_ms != FOREVER:
            peer.deadline_ms = self.now_ms + left_ms
            self.check_at_ms = min(self.check_at_ms, peer.deadline_ms)
        return 0

    cdef int check_deadlines(self) except -1:
        """End whose time is over. O(sockets), at most every CHECK_EVERY_MS."""
        cdef Peer peer
        cdef int64_t next_ms = FOREVER
        self.check_at_ms = FOREVER
        for peer in self.peers:
            if peer is not None and peer.deadline_ms <= self.now_ms:
                self.out_of_time(peer)
        for peer in self.peers:
            if peer is not None:
                next_ms = min(next_ms, peer.deadline_ms)
        self.check_at_ms = next_ms if next_ms == FOREVER else max(next_ms, self.now_ms + CHECK_EVERY_MS)
        return 0

    cdef int out_of_time(self, Peer peer) except -1:
        """End a peer whose time is over, and count why."""
        limits = self.service.limits
        if peer.has_last_words or peer.state == DRAINING:
            return self.drop(peer)
        if peer.state == SENDING:
            # There may be room for less than what makes the socket writable. That, too, is progress.
            self.send(peer)
            if peer.state != SENDING or peer.deadline_ms > self.now_ms:
                return 0
            self.connections.reached("slow")
            return self.drop(peer)
        if self.service.auth_wanted and peer.connection.frames == 0:
            self.connections.reached("auth_timeout")
            return self.fail(peer, errors.too_slow_auth(limits.auth_timeout_s))
        self.connections.reached("frame_timeout")
        return self.fail(peer, errors.too_slow_frame(limits.frame_timeout_s))

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


cdef os_error():
    return OSError(errno, os.strerror(errno))


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec
