"""The peers of a server: sockets with their connections, and each one's steps. C code for Linux.

Its job: what a peer does next, as its socket allows, and the time that this may take. Not its job: whose turn it is,
and to accept (reactor), and what bytes mean (connection).

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

Or it goes on elsewhere: `hand_back` lets the host have the socket of who asked by GETS, and asks something else, or
seldom.

Invariants:
1. A step is one receive or one go at waiting input, and one send.
2. Nobody is read from while more than max_output waits for them, or while input of theirs does that could be answered.
3. A peer that rests between messages owns no buffer.
4. Answers to hits leave when the journal, if there is one, says that they may (reactor). What is lost is never
   answered: its connection ends.
5. No deadline is before `check_at_ms`, apart from those that were looked at less than CHECK_EVERY_MS ago.
6. Nobody is ended for a deadline before what has come from them was read: the server may have stood still.
7. `service.carried_bytes` holds what the kernel has of each peer that is SENDING, WORKING, AWAITING, HELD or DRAINING,
   as of the last look. Who is HELD for one round, or WORKING or AWAITING for less than LOOK_EVERY_MS, is not looked at.
"""

from libc.errno cimport EAGAIN, EINTR, ENOBUFS, ENOMEM, ETIMEDOUT, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from collections import deque

from online import errors
from online.limits import FAREWELL_S, WRONG_TOKEN_DELAY_S

from online.core.codec cimport Buffer, buffer_used
from online.core.connection cimport (
    Service, buffer_reserve,
    connection_forget_input, connection_give_back, connection_in_frame, connection_lend, connection_proceed,
    connection_receive, connection_trim,
)
from online.core.system cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SO_LINGER,
    SOL_SOCKET, close, epoll_create1, linger, raise_errno, recv, send_bytes, setsockopt, shutdown, unread_bytes,
    unsent_bytes, watch,
)

__all__ = ["Peer", "Peers"]

cdef enum:
    RECEIVE_BYTES = 64 * 1024
    SELDOM_MS = 10_000                                   # who asks by GETS no more often is handed back
    OFFERED_BEHIND_BYTES = 8 * 1024                      # of what was sent before, behind which a message may wait

cdef int64_t FAREWELL_MS = round(1000 * FAREWELL_S)
cdef int64_t DELAY_MS = round(1000 * WRONG_TOKEN_DELAY_S)


cdef class Peer:
    def __cinit__(self, Peers peers not None, int fd):
        self.peers = peers
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
        self.peers.now_ms = now_ms
        self.peers.push(self, message, len(message))
        return True

    def replied(self, _awaited):
        self.peers.replied(self)

    def fail(self, error, *, int64_t now_ms):
        if self.has_last_words or self.state == CLOSED:
            return False
        self.peers.now_ms = now_ms
        self.peers.fail(self, error)
        self.peers.wake()
        return True


cdef class Peers:
    def __cinit__(self, connections, Service service not None, wake):
        self.epoll = -1
        self.connections = connections
        self.service = service
        self.wake = wake
        self.slots, self.free_slots, self.freed_slots, self.queue, self.held = [], [], [], deque(), []
        self.check_at_ms = FOREVER
        limits = service.limits
        self.frame_timeout_ms = round(limits.frame_timeout_s * 1000)
        self.auth_timeout_ms = round(limits.auth_timeout_s * 1000)
        self.send_timeout_ms = round(limits.send_timeout_s * 1000)
        self.max_buffers = limits.max_buffers
        self.max_output = limits.max_output
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise_errno()
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

    cdef int place(self, Peer peer) except -1:
        """Give a peer a slot and a serial number, never 0: that is the listeners'."""
        if self.free_slots:
            peer.slot = self.free_slots.pop()
            self.slots[peer.slot] = peer
        else:
            peer.slot = <uint32_t>len(self.slots)
            self.slots.append(peer)
        self.serial = self.serial + 1 if self.serial < 0xFFFFFFFF else 1
        peer.serial = self.serial
        self.sockets += 1
        return 0

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
        if peer.connection.has_work or peer.connection.awaited is not None or peer.connection.is_leaving:
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
            n_sent = send_bytes(peer.fd, output.at + output.start, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
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
            n_sent = send_bytes(peer.fd, message, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
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
        if peer.connection.is_leaving:
            return self.hand_back(peer)
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
        self.time(peer, peer.left_ms if peer.connection.asking is None else SELDOM_MS)
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
        connection_forget_input(peer.connection)
        close(peer.fd)
        self.forget(peer)
        self.connections.closed(peer.connection)
        return 0

    cdef int hand_back(self, Peer peer) except -1:
        """Let the host go on with a connection and its socket, which is its own from here on, whatever happens."""
        cdef int fd = peer.fd
        watch(self.epoll, EPOLL_CTL_DEL, fd, 0, 0)
        self.carry(peer, 0)
        self.forget(peer)
        try:
            peer.connection.asking.leave(fd, peer.connection)
        except Exception:
            self.connections.failed()
            self.connections.closed(peer.connection)
        return 0

    cdef int forget(self, Peer peer) except -1:
        """Free the slot of a peer, from the end of the turn on."""
        connection_give_back(peer.connection, &self.room)
        peer.fd = -1
        peer.state = CLOSED
        peer.deadline_ms = FOREVER
        self.slots[peer.slot] = None
        self.freed_slots.append(peer.slot)
        self.sockets -= 1
        return 0

    cdef int watch_for(self, Peer peer, uint32_t events) except -1:
        if peer.events != events:
            watch(self.epoll, EPOLL_CTL_MOD, peer.fd, events, event_data(peer))
            peer.events = events
        return 0

    cdef int time(self, Peer peer, int64_t left_ms) except -1:
        """Give a peer so long for what it is doing, and no longer than it has for its token."""
        peer.deadline_ms = peer.auth_at_ms
        if left_ms != FOREVER:
            peer.deadline_ms = min(peer.deadline_ms, self.now_ms + left_ms)
        if peer.deadline_ms != FOREVER:
            self.check_at_ms = min(self.check_at_ms, peer.deadline_ms)
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
        if peer.connection.asking is not None:
            return self.hand_back(peer)
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
        for _ in range(self.service.limits.max_frame // RECEIVE_BYTES + 2):
            if peer.deadline_ms > self.now_ms or peer.state != RECEIVING or not self.receive(peer):
                break
        return 0
