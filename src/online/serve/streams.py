"""Connections over any Trio stream, a task each: for TLS, and wherever there is no epoll.

Its job: accept, receive and send, the time that each may take, and the end of a connection. Not its job: to open
listeners (listeners.py), and what bytes mean (wire). The reactor does the same for plain sockets, and what is said,
limited and counted is the same there; a connection's life is drawn in reactor.pyx.

Invariants:
1. A connection that fails ends alone, and is counted.
2. Nobody is read from while output for them waits.
3. Nobody is waited for without a bound, except between messages: there a connection may rest for ever.
"""

import errno
import math
from collections.abc import Callable

import trio

from online import errors
from online.core.wire import Connection, Service
from online.errors import OnlineError
from online.limits import ACCEPT_PAUSE_S, FAREWELL_S
from online.serve import tls
from online.serve.connections import Connections
from online.serve.progress import ProgressListener, ProgressStream

RECEIVE_BYTES = 64 * 1024

#: Output is sent in pieces of this size where a stream does not tell of progress: each that has gone is some. It is
#: also the most that a TLS record holds, and of half a record a peer has nothing.
SEND_BYTES = 16 * 1024

#: How long all connections are given to take their last replies at the end of the server.
GRACE_S = 2.0

#: Why accept(2) fails when the system has no descriptor or memory.
ACCEPT_CAPACITY_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class StreamPeer:
    """A stream with its connection."""

    connection: Connection

    def __init__(self, stream: trio.abc.Stream) -> None:
        """Begin without a connection; whoever calls this still closes `stream`."""
        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.stream = stream
        self.socket = below if isinstance(below, ProgressStream) else None  # below the stream, if there is one
        self.last_words: OnlineError | None = None  # why the server ends it
        self.scope = trio.CancelScope()  # all of its work; the deadline is that of the step at hand
        self.is_receiving = False
        self.sending_bytes = 0  # taken from the connection and not yet sent

    def fileno(self) -> int:
        """Return the socket, or -1."""
        return -1 if self.socket is None else self.socket.fileno()

    @property
    def waiting_bytes(self) -> int:
        """Input and output that wait."""
        return self.connection.buffered_bytes + self.sending_bytes

    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """Say why, then end: with `error` as the last reply, unless one is half sent. Return whether this is news."""
        if self.last_words is not None:
            return False
        self.last_words = error
        self.scope.cancel()
        return True

    def follow_progress(self, send_timeout_s: float) -> None:
        """Renew the time for sending whenever the socket below the stream, if there is one, tells of progress."""

        def progressed() -> None:
            if self.sending_bytes:
                self.scope.deadline = trio.current_time() + send_timeout_s

        if self.socket is not None:
            self.socket.progressed = progressed

    def ignore_progress(self) -> None:
        """Let go of the socket, so that the buffers of the connection are freed with the last who knows it."""
        if self.socket is not None:
            self.socket.progressed = lambda: None

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
            if peer.is_receiving:
                peer.scope.cancel()
        everybody.deadline = trio.current_time() + GRACE_S

    # A connection

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, over any stream, until one side ends it; close the stream."""
        try:
            try:
                await self._serve(StreamPeer(stream))
            finally:
                await self._drop(stream)
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
                peer.follow_progress(self._limits.send_timeout_s)
                with peer.scope:
                    await self._converse(peer)
                if peer.scope.cancelled_caught and peer.last_words is None and not self._is_ending:
                    peer.last_words = self._out_of_time(peer)
            if peer.last_words is not None:
                peer.connection.fail(peer.last_words)
            if peer.connection.is_closing and not peer.sending_bytes:
                await self._finish(peer)
        finally:
            self._peers.discard(peer)
            peer.ignore_progress()
            self._service.sending_bytes -= peer.sending_bytes
            self._connections.closed(peer.connection)

    async def _converse(self, peer: StreamPeer) -> None:
        """Receive and answer in turn, each in its time."""
        connection = peer.connection
        left_s = self._limits.auth_timeout_s if self._service.auth_wanted else math.inf
        if isinstance(peer.stream, trio.SSLStream) and not self._is_ending:
            await self._shake_hands(peer, peer.stream, min(left_s, self._limits.frame_timeout_s))
        while not (connection.is_closing or self._is_ending):
            frames, was_in_frame = connection.frames, connection.in_frame
            data, waited_s = await self._receive(peer, left_s)
            if not data:
                return
            connection.receive(data, now_ms=self._now_ms())
            self._connections.bound_buffers(now_ms=self._now_ms())
            if self._is_ending:  # it came in while everybody was told to end; it is answered nevertheless
                with trio.move_on_after(GRACE_S, shield=True):
                    await self._answer(peer)
                return
            await self._answer(peer)
            if self._service.auth_wanted and connection.frames == 0:
                left_s -= waited_s  # bytes that are no message yet do not renew the time for the first one
            elif not connection.in_frame:
                left_s = math.inf
            elif connection.frames == frames and was_in_frame:
                left_s -= waited_s
            else:
                left_s = self._limits.frame_timeout_s

    async def _shake_hands(self, peer: StreamPeer, stream: trio.SSLStream[trio.abc.Stream], left_s: float) -> None:
        """Let TLS begin within `left_s` seconds."""
        peer.scope.deadline = trio.current_time() + left_s
        peer.is_receiving = True
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            what = f"TLS failed: {tls.why_no_handshake(error)}"
            self._connections.suspected(peer.connection, what, now_ms=self._now_ms())
            raise
        peer.is_receiving = False

    async def _receive(self, peer: StreamPeer, left_s: float) -> tuple[bytes, float]:
        """Receive something within `left_s` seconds; return it, and how long that took."""
        before = trio.current_time()
        peer.scope.deadline = before + left_s
        peer.is_receiving = True
        data = await peer.stream.receive_some(RECEIVE_BYTES)
        peer.is_receiving = False
        return bytes(data), trio.current_time() - before

    async def _answer(self, peer: StreamPeer) -> None:
        """Send all answers to what was received, as they are made. Others have their turn in between.

        Where no answer is wanted, nothing but a look tells that the other end has broken off.
        """
        connection = peer.connection
        while True:
            await self._settle(connection)
            if connection.output_bytes:
                await self._send(peer, connection.take_output())
            elif connection.has_work:
                await trio.lowlevel.checkpoint()
                if peer.is_reset():
                    raise trio.BrokenResourceError
            if not connection.has_work:
                return
            connection.proceed(now_ms=self._now_ms())

    async def _settle(self, connection: Connection) -> None:
        """Wait until the journal, if there is one, has the hits that the output answers."""
        journal = self._service.journal
        if journal is None or not connection.has_written:
            return
        if connection.output_bytes:
            connection.has_written = False
            await journal.settled()
        else:
            journal.flush()

    async def _send(self, peer: StreamPeer, data: bytes) -> None:
        """Send `data`: at once where the stream tells of progress, else in pieces, each within the time for it."""
        piece_bytes = len(data) if isinstance(peer.stream, ProgressStream) else SEND_BYTES
        peer.sending_bytes = len(data)
        self._service.sending_bytes += len(data)
        with memoryview(data) as view:
            for begin in range(0, len(view), piece_bytes):
                piece = view[begin : begin + piece_bytes]
                peer.scope.deadline = trio.current_time() + self._limits.send_timeout_s
                await peer.stream.send_all(piece)
                peer.sending_bytes -= len(piece)
                self._service.sending_bytes -= len(piece)

    async def _finish(self, peer: StreamPeer) -> None:
        """Send the rest, close our half, and throw away what still comes, for FAREWELL_S at most.

        To close a socket with unread input would reset it, and the last reply might be lost.
        """
        with trio.move_on_after(FAREWELL_S):
            await self._settle(peer.connection)
            await peer.stream.send_all(peer.connection.take_output())
            if isinstance(peer.stream, trio.abc.HalfCloseableStream):
                await peer.stream.send_eof()
                while await peer.stream.receive_some(RECEIVE_BYTES):
                    pass

    async def _drop(self, stream: trio.abc.Stream) -> None:
        """Close a stream at once; TLS may say so first."""
        with trio.move_on_after(FAREWELL_S, shield=True):
            await stream.aclose()

    def _out_of_time(self, peer: StreamPeer) -> OnlineError | None:
        """Count whose deadline has passed, and why; return what to tell them, if they can be told."""
        if not peer.is_receiving:
            self._connections.reached("slow")
            return None
        if self._service.auth_wanted and peer.connection.frames == 0:
            self._connections.reached("auth_timeout")
            return errors.too_slow_auth(self._limits.auth_timeout_s)
        self._connections.reached("frame_timeout")
        return errors.too_slow_frame(self._limits.frame_timeout_s)
