"""Connections over any Trio stream, a task each: for TLS, and wherever there is no epoll.

Its job: accept, receive and send, the time that each may take, and the end of a connection. Not its job: to open
listeners (listeners.py), and what bytes mean (wire). The reactor does the same for plain sockets, and what is said,
limited and counted is the same there; a connection's life is drawn in peers.pyx.

Invariants:
1. A connection that fails ends alone, and is counted.
2. Nobody is read from while more than max_output waits for them.
3. Nobody is waited for without a bound, except between messages: there a connection may rest for ever.
4. Nobody is ended for a deadline before what has come from them was read: the server may have stood still.
5. What a connection holds is given back at its end, not when Python finds that nobody refers to it.
"""

import errno
import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from online import errors
from online.core.wire import Connection, Service
from online.errors import OnlineError
from online.limits import ACCEPT_PAUSE_S, FAREWELL_S, WRONG_TOKEN_DELAY_S
from online.serve import tls
from online.serve.connections import Connections, replied
from online.serve.progress import ProgressListener, ProgressStream, TooSlowError

RECEIVE_BYTES = 64 * 1024

#: Output is sent in pieces of this size: each that has gone is progress. It is also the most that a TLS record holds.
SEND_BYTES = 16 * 1024

#: Output that a socket takes at once if it holds nothing yet; a task is started only for more.
SMALL_BYTES = 8 * 1024

#: What TLS holds until its handshake is done, at most: 57 to 102 KB were measured.
HANDSHAKE_BYTES = 100 * 1024

#: How often it is looked at what the system holds of who does not read.
LOOK_EVERY_S = 1.0

#: How long a read may take whose time is over: it finds what has come by now.
LOOK_S = 0.01

#: A deadline that is noticed so late was missed by the server itself. The other end has so long again.
LATE_S = 1.0

#: How long all connections are given to take their last replies at the end of the server.
GRACE_S = 2.0

#: Why accept(2) fails when the system has no descriptor or memory.
ACCEPT_CAPACITY_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class StreamPeer:
    """A stream with its connection."""

    connection: Connection
    nursery: trio.Nursery  #: of its tasks: one that receives and answers, and at times one that sends

    def __init__(self, stream: trio.abc.Stream, service: Service) -> None:
        """Begin without a connection; whoever calls this still closes `stream`."""
        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.stream = stream
        self.socket = below if isinstance(below, ProgressStream) else None  # below the stream, if there is one
        self.last_words: OnlineError | None = None  # why the server ends it
        self.scope = trio.CancelScope()  # all of its work
        self.rest: trio.CancelScope | None = None  # while it waits for the other end
        self.start_sending: Callable[[], None] | None = None  # as long as the conversation lasts
        self.unsent: deque[bytes] = deque()  # output that may leave
        self.unsent_bytes = 0
        self.is_sending = False  # stays true where sending was broken off
        self.sent_at = -math.inf  # when the last output had gone
        self.room = trio.lowlevel.ParkingLot()  # for who waits until a piece of output has gone
        self.carried_bytes = 0  # held beside the buffers of the connection
        self._service = service
        if self.socket is not None:
            self.socket.patience_s = service.limits.send_timeout_s

    def fileno(self) -> int:
        """Return the socket, or -1."""
        return -1 if self.socket is None else self.socket.fileno()

    @property
    def waiting_bytes(self) -> int:
        """Input and output that wait."""
        return self.connection.buffered_bytes + self.carried_bytes

    @property
    def has_room(self) -> bool:
        """Whether the other end has nearly all that was sent."""
        on_its_way = self.socket.unsent_bytes() if self.socket is not None else 0
        return not self.connection.output_bytes and self.unsent_bytes + on_its_way <= SMALL_BYTES

    def offer(self, message: bytes, *, now_ms: int) -> bool:
        """Send a message that answers nothing, unless more than SMALL_BYTES wait; return whether it was taken."""
        connection = self.connection
        if self.start_sending is None or self.last_words is not None or connection.is_closing:
            return False
        if connection.is_partly_answered or connection.output_bytes or self.unsent_bytes > SMALL_BYTES:
            return False
        self.put(message)
        if not self.is_sending:
            self.is_sending = True
            self.start_sending()
        return True

    def put(self, output: bytes) -> None:
        """Take output that is to be sent."""
        self.unsent.append(output)
        self.unsent_bytes += len(output)
        self.carry(self.carried_bytes + len(output))

    def sent(self, n_bytes: int) -> None:
        """Account for output that has gone, and let those go on who waited for that."""
        self.unsent_bytes -= n_bytes
        self.look()
        self.room.unpark_all()

    def look(self) -> None:
        """Account for output that waits, here and in the system, and for input that waits there meanwhile."""
        self.carry(self.unsent_bytes + (self.socket.held_by_system() if self.socket and self.unsent_bytes else 0))

    def carry(self, n_bytes: int) -> None:
        """Account for what is held beside the buffers of the connection."""
        self._service.carried_bytes += n_bytes - self.carried_bytes
        self.carried_bytes = n_bytes

    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """Say why, then end: with `error` as the last reply, unless one is half sent. Return whether this is news."""
        if self.last_words is not None:
            return False
        self.last_words = error
        self.scope.cancel()
        return True

    def idle_s(self) -> float:
        """How long no output has been waiting."""
        return 0 if self.is_sending else trio.current_time() - self.sent_at

    def takes_at_once(self, n_bytes: int) -> bool:
        """Whether output is so small that sending it does not wait for the other end."""
        return n_bytes <= SMALL_BYTES and self.socket is not None and not self.socket.unsent_bytes()

    def is_reset(self) -> bool:
        """Whether the other end has broken off, as far as that is known."""
        return self.socket is not None and self.socket.is_reset()


class Streams:
    """The connections of a server that are served by tasks."""

    def __init__(self, connections: Connections, service: Service, now_ms: Callable[[], int]) -> None:
        """Begin with no streams, and the limits of `service`; `now_ms` tells index time."""
        self._connections = connections
        self._service = service
        self._limits = service.limits
        self._now_ms = now_ms
        self._peers: set[StreamPeer] = set()
        self._is_ending = False

    async def accept(self, listener: trio.abc.Listener[trio.abc.Stream], clients: trio.Nursery) -> None:
        """Start a task for each connection that comes in. While the system has no room, they queue there."""
        if isinstance(listener, trio.SocketListener):
            listener = ProgressListener(listener)
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in ACCEPT_CAPACITY_ERRORS:
                    raise
                self._connections.no_room(error.errno)
                await trio.sleep(ACCEPT_PAUSE_S)
            else:
                clients.start_soon(self.serve, stream)

    async def end(self, everybody: trio.CancelScope) -> None:
        """Answer what has come, and end each connection as soon as it rests; `everybody` after GRACE_S."""
        self._is_ending = True
        for peer in self._peers:
            if peer.rest is not None:
                peer.rest.cancel()
        everybody.deadline = trio.current_time() + GRACE_S

    # A connection

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, over any stream, until one side ends it; close the stream."""
        peer = StreamPeer(stream, self._service)
        try:
            try:
                await self._serve(peer)
            finally:
                await self._drop(peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has gone, which is its right
        except Exception:
            self._connections.failed()

    async def _serve(self, peer: StreamPeer) -> None:
        """Have a conversation, and finish it; at once, when there are too many."""
        peer.connection, peer.last_words = self._connections.open(peer)
        try:
            if peer.last_words is None:
                self._peers.add(peer)
                with peer.scope:
                    async with trio.open_nursery() as peer.nursery:
                        peer.start_sending = partial(peer.nursery.start_soon, self._while_there, peer, self._send)
                        try:
                            await self._while_there(peer, self._converse)
                        finally:
                            peer.start_sending = None
            if peer.last_words is not None:
                peer.connection.fail(peer.last_words)
                peer.connection.forget_input()
            if peer.connection.is_closing and not peer.carried_bytes:
                await self._finish(peer)
        finally:
            self._peers.discard(peer)
            peer.carry(0)
            self._connections.closed(peer.connection)

    async def _while_there(self, peer: StreamPeer, task: Callable[[StreamPeer], Awaitable[None]]) -> None:
        """Run a task of a peer. If the other end goes away or takes nothing, this ends all of them."""
        try:
            await task(peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if isinstance(error, TooSlowError):
                self._connections.reached("slow")
            peer.scope.cancel()

    async def _converse(self, peer: StreamPeer) -> None:
        """Receive and answer in turn, each in its time."""
        connection = peer.connection
        left_s = math.inf  # for the message that has begun
        token_by = self._token_by(peer, math.inf)
        n_looks = 0  # since the time was over
        if isinstance(peer.stream, trio.SSLStream) and not self._is_ending:
            await self._shake_hands(peer, peer.stream, token_by)
        while not (connection.is_closing or self._is_ending):
            frames, was_in_frame = connection.frames, connection.in_frame
            began = trio.current_time()
            by = min(began + left_s, token_by)
            n_looks = n_looks + 1 if by <= began else 0
            most_looks = self._service.limits.max_frame // RECEIVE_BYTES + 2  # a message may lie there whole
            data = await self._receive(peer, by) if n_looks <= most_looks else None
            if data is None and not self._is_ending:
                left_s = self._limits.frame_timeout_s - peer.idle_s()  # no message is hurried while answers wait
                if left_s > 0 and trio.current_time() < token_by:
                    continue
                self._out_of_time(peer)
            if not data:
                return
            left_s -= trio.current_time() - began
            connection.receive(data, now_ms=self._now_ms())
            self._connections.bound_buffers(now_ms=self._now_ms())
            await self._answer(peer)
            token_by = self._token_by(peer, token_by)
            if not connection.in_frame:
                left_s = math.inf
            elif connection.frames != frames or not was_in_frame:
                left_s = self._limits.frame_timeout_s

    def _token_by(self, peer: StreamPeer, token_by: float) -> float:
        """Return by when the token must come, given what was known so far."""
        if peer.connection.authenticated:
            return math.inf
        return trio.current_time() + self._limits.auth_timeout_s if token_by == math.inf else token_by

    async def _shake_hands(self, peer: StreamPeer, stream: trio.SSLStream[trio.abc.Stream], token_by: float) -> None:
        """Let TLS begin, in its time."""
        by = min(trio.current_time() + self._limits.frame_timeout_s, token_by)
        peer.carry(HANDSHAKE_BYTES)
        self._connections.bound_buffers(now_ms=self._now_ms())
        with trio.CancelScope() as peer.rest:
            watch = trio.CancelScope()
            peer.nursery.start_soon(self._watch_handshake, peer, by, watch)
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                what = f"TLS failed: {tls.why_no_handshake(error)}"
                self._connections.suspected(peer.connection, what, now_ms=self._now_ms())
                raise
            finally:
                watch.cancel()
            peer.carry(0)
        peer.rest = None

    async def _watch_handshake(self, peer: StreamPeer, by: float, watch: trio.CancelScope) -> None:
        """End a handshake that takes too long. It has a little more time after the server stood still."""
        with watch:
            await trio.sleep_until(by)
            if trio.current_time() - by >= LATE_S:
                await trio.sleep(LATE_S)
            self._out_of_time(peer)

    async def _receive(self, peer: StreamPeer, by: float) -> bytes | None:
        """Receive something by that time, or what has come by now; None if there is nothing, or at the end."""
        data = await self._receive_or_rest(peer, by - LOOK_S)
        if data is None and not self._is_ending:  # after a standstill the system may say no more than that time is over
            data = await self._receive_or_rest(peer, by)
        return data

    async def _receive_or_rest(self, peer: StreamPeer, by: float) -> bytes | None:
        with trio.CancelScope(deadline=max(by, trio.current_time() + LOOK_S)) as peer.rest:
            data = bytes(await peer.stream.receive_some(RECEIVE_BYTES))
        is_late = peer.rest.cancelled_caught
        peer.rest = None
        return None if is_late else data

    async def _answer(self, peer: StreamPeer) -> None:
        """Answer what was received, a turn at a time. Return when it is answered, and no more than max_output waits.

        Where no answer is wanted, nothing but a look tells that the other end has broken off.
        """
        connection = peer.connection
        while True:
            await self._settle(connection)
            if connection.answers_late:
                await trio.sleep(WRONG_TOKEN_DELAY_S)
            if connection.output_bytes:
                peer.put(connection.take_output())
            if peer.unsent_bytes and not peer.is_sending:
                peer.is_sending = True
                if peer.takes_at_once(peer.unsent_bytes):
                    await self._send(peer)
                else:
                    peer.nursery.start_soon(self._while_there, peer, self._send)
            await self._wait_for_room(peer)
            if connection.awaited is not None:
                await replied(connection.awaited)
            elif not connection.has_work:
                return
            await trio.lowlevel.checkpoint()
            if peer.is_reset():
                raise trio.BrokenResourceError
            connection.proceed(now_ms=self._now_ms())

    async def _wait_for_room(self, peer: StreamPeer) -> None:
        """Wait until no more than max_output waits. What has come and is not read grows meanwhile."""
        while peer.unsent_bytes > self._limits.max_output:
            peer.look()
            self._connections.bound_buffers(now_ms=self._now_ms())
            with trio.move_on_after(LOOK_EVERY_S):
                await peer.room.park()

    async def _settle(self, connection: Connection) -> None:
        """Wait until the journal, if there is one, has the hits that the output answers."""
        journal = self._service.journal
        if journal is None or not connection.has_written:
            return
        if connection.output_bytes:
            await journal.settled()
            connection.has_written = False  # not before: whoever breaks this off must still wait for it
        else:
            journal.flush()

    async def _send(self, peer: StreamPeer) -> None:
        """Send until nothing is unsent, in pieces, each within the time for it; a socket watches that itself."""
        timeout_s = math.inf if peer.socket else self._limits.send_timeout_s
        while peer.unsent:
            with memoryview(peer.unsent.popleft()) as view:
                for begin in range(0, len(view), SEND_BYTES):
                    piece = view[begin : begin + SEND_BYTES]
                    with trio.move_on_after(timeout_s) as scope:
                        await peer.stream.send_all(piece)
                    if scope.cancelled_caught:
                        raise TooSlowError
                    peer.sent(len(piece))
        peer.is_sending = False
        peer.sent_at = trio.current_time()
        peer.carry(0)

    async def _finish(self, peer: StreamPeer) -> None:
        """Send the rest, close our half, and throw away what still comes, for FAREWELL_S at most.

        To close a socket with unread input would reset it, and the last reply might be lost.
        """
        with trio.move_on_after(FAREWELL_S):
            await self._settle(peer.connection)
            peer.is_sending = True
            await peer.stream.send_all(peer.connection.take_output())
            peer.is_sending = False
            if isinstance(peer.stream, trio.abc.HalfCloseableStream):
                await peer.stream.send_eof()
                while await peer.stream.receive_some(RECEIVE_BYTES):
                    pass

    async def _drop(self, peer: StreamPeer) -> None:
        """Close a stream at once; TLS may say so first. Where sending was broken off, the system is to free it, too."""
        if peer.is_sending and peer.socket is not None:
            peer.socket.reset_at_close()
        with trio.move_on_after(FAREWELL_S, shield=True):
            await peer.stream.aclose()

    def _out_of_time(self, peer: StreamPeer) -> None:
        """End whose deadline has passed, say why, and count it."""
        if not peer.connection.authenticated:
            self._connections.reached("auth_timeout")
            error: OnlineError = errors.too_slow_auth(self._limits.auth_timeout_s)
        else:
            self._connections.reached("frame_timeout")
            error = errors.too_slow_frame(self._limits.frame_timeout_s)
        peer.fail(error, now_ms=self._now_ms())
