"""Connections over any Trio stream, a task each: for TLS, and wherever there is no epoll.

Its job: receive and send, the time that each may take, and the end of a connection. Not its job: to open listeners
(server.py), and what bytes mean (wire.pyx). The reactor does the same for plain sockets, and what is said, limited
and counted is the same there.

Invariants:
1. A connection that fails ends alone, and is counted.
2. Nobody is read from while output for them waits.
3. Nobody is waited for without a bound, except between messages: there a connection may rest for ever.
"""

import math
from collections.abc import Callable
from typing import Protocol

import trio

from online import errors
from online.core.wire import Connection, Service
from online.errors import OnlineError

RECEIVE_BYTES = 64 * 1024

#: Output is sent in pieces of this size where a stream does not tell of progress: each that has gone is some. It is
#: also the most that a TLS record holds, and of half a record a peer has nothing.
SEND_BYTES = 16 * 1024

#: How often a socket that is not writable is tried nevertheless: it may have room for less than makes it so.
TRY_EVERY_S = 1.0

#: How long a connection is given to take its last reply, and how long all are at the end of the server.
FAREWELL_S = 1.0
GRACE_S = 2.0


class Host(Protocol):
    """What streams need from above: connections, and somebody to tell."""

    def begin(self) -> tuple[Connection, OnlineError | None]:
        """Begin the connection of a stream that has come in, with the reason if it is to end at once."""

    def end(self, connection: Connection) -> None:
        """Forget a connection that has ended."""

    def reached(self, limit: str) -> None:
        """Count that a limit was reached: `slow`, `frame_timeout` or `auth_timeout`."""

    def failed_handshake(self, connection: Connection, error: Exception) -> None:
        """Log that TLS did not begin, and why."""

    def failed(self) -> None:
        """Count a connection that was ended by the exception being handled."""

    def bound_buffers(self) -> None:
        """End the largest connections if all together have more waiting than max_buffers."""


class ProgressStream(trio.abc.HalfCloseableStream):
    """The stream of a socket, which tells whenever the system has taken some of what is being sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Become the owner of `stream`."""
        self._stream = stream
        self.progressed: Callable[[], None] = lambda: None

    def fileno(self) -> int:
        return self._stream.socket.fileno()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            n_sent = 0
            while n_sent < len(view):
                with trio.move_on_after(TRY_EVERY_S), view[n_sent:] as rest:
                    n_sent += await self._send(rest)
                    self.progressed()

    async def _send(self, data: memoryview) -> int:
        try:
            return await self._stream.socket.send(data)
        except OSError as error:
            raise trio.BrokenResourceError(f"sending failed: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ProgressListener(trio.abc.Listener[ProgressStream]):
    """A listener whose streams tell of progress."""

    def __init__(self, listener: trio.SocketListener) -> None:
        """Become the owner of `listener`."""
        self._listener = listener

    async def accept(self) -> ProgressStream:
        return ProgressStream(await self._listener.accept())

    async def aclose(self) -> None:
        await self._listener.aclose()


class _Client:
    """A connection with what must be known to end it."""

    def __init__(self, connection: Connection, last_words: OnlineError | None) -> None:
        self.connection = connection
        self.last_words = last_words  # why the server ends it
        self.scope = trio.CancelScope()  # all of its work; the deadline is that of the step at hand
        self.socket: ProgressStream | None = None  # below its stream, if there is one
        self.is_receiving = False
        self.sending_bytes = 0  # taken from the connection and not yet sent


class Streams:
    """The connections of a server that are served by tasks."""

    def __init__(self, host: Host, service: Service, now_ms: Callable[[], int]) -> None:
        """Begin with no connections, and the limits of `service`; `now_ms` tells index time."""
        self._host = host
        self._service = service
        self._limits = service.limits
        self._now_ms = now_ms
        self._clients: dict[Connection, _Client] = {}
        self._is_ending = False

    # From above

    def fd_of(self, connection: Connection) -> int:
        """Return the socket of a connection, which stays its stream's, or -1. O(1)."""
        client = self._clients.get(connection)
        return -1 if client is None or client.socket is None else client.socket.fileno()

    @property
    def connections(self) -> int:
        """Connections that are open, without those that were too many. O(1)."""
        return len(self._clients)

    def sizes(self) -> list[tuple[int, Connection]]:
        """Return every connection with its waiting input and output, in bytes. O(connections)."""
        clients = self._clients.values()
        return [(client.connection.buffered_bytes + client.sending_bytes, client.connection) for client in clients]

    def part(self, connection: Connection, error: OnlineError) -> bool:
        """End a connection with `error` as its last reply, unless a reply is half sent: then without.

        Return whether this is news. O(1).
        """
        client = self._clients.get(connection)
        if client is None or client.last_words is not None:
            return False
        client.last_words = error
        client.scope.cancel()
        return True

    def end(self) -> None:
        """Answer what has come, and end each connection as soon as it rests. O(connections)."""
        self._is_ending = True
        for client in self._clients.values():
            if client.is_receiving:
                client.scope.cancel()

    # A connection

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, over any stream, until one side ends it; close the stream."""
        try:
            try:
                await self._serve(stream)
            finally:
                with trio.move_on_after(FAREWELL_S, shield=True):
                    await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has gone, which is its right
        except Exception:
            self._host.failed()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        """Have a conversation, and part; or part at once, when there are too many."""
        client = _Client(*self._host.begin())
        connection = client.connection
        try:
            if client.last_words is None:
                self._clients[connection] = client
                self._follow_progress(client, stream)
                with client.scope:
                    await self._converse(client, stream)
            await self._part(client, stream)
        finally:
            self._clients.pop(connection, None)
            self._service.sending_bytes -= client.sending_bytes
            self._host.end(connection)

    async def _converse(self, client: _Client, stream: trio.abc.Stream) -> None:
        """Receive and answer in turn, each in its time."""
        connection = client.connection
        left_s = self._limits.auth_timeout_s if self._service.auth_wanted else math.inf
        if isinstance(stream, trio.SSLStream) and not self._is_ending:
            await self._shake_hands(client, stream, min(left_s, self._limits.frame_timeout_s))
        while not (connection.is_closing or self._is_ending):
            frames, was_in_frame = connection.frames, connection.in_frame
            data, waited_s = await self._receive(client, stream, left_s)
            if not data:
                return
            connection.receive(data, now_ms=self._now_ms())
            self._host.bound_buffers()
            if self._is_ending:  # it came in while everybody was told to end; it is answered nevertheless
                with trio.move_on_after(GRACE_S, shield=True):
                    await self._answer(client, stream)
                return
            await self._answer(client, stream)
            if self._service.auth_wanted and connection.frames == 0:
                left_s -= waited_s
            elif not connection.in_frame:
                left_s = math.inf
            elif connection.frames == frames and was_in_frame:
                left_s -= waited_s
            else:
                left_s = self._limits.frame_timeout_s

    def _follow_progress(self, client: _Client, stream: trio.abc.Stream) -> None:
        """Renew the time for sending whenever the socket below `stream`, if there is one, tells of progress."""

        def progressed() -> None:
            if client.sending_bytes:
                client.scope.deadline = trio.current_time() + self._limits.send_timeout_s

        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if isinstance(below, ProgressStream):
            client.socket = below
            below.progressed = progressed

    async def _shake_hands(self, client: _Client, stream: trio.SSLStream[trio.abc.Stream], left_s: float) -> None:
        """Let TLS begin within `left_s` seconds."""
        client.scope.deadline = trio.current_time() + left_s
        client.is_receiving = True
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            self._host.failed_handshake(client.connection, error)
            raise
        client.is_receiving = False

    async def _receive(self, client: _Client, stream: trio.abc.Stream, left_s: float) -> tuple[bytes, float]:
        """Receive something within `left_s` seconds; return it, and how long that took."""
        before = trio.current_time()
        client.scope.deadline = before + left_s
        client.is_receiving = True
        data = await stream.receive_some(RECEIVE_BYTES)
        client.is_receiving = False
        return bytes(data), trio.current_time() - before

    async def _answer(self, client: _Client, stream: trio.abc.Stream) -> None:
        """Send all answers to what was received, as they are made. Others have their turn in between."""
        connection = client.connection
        while True:
            if connection.output_bytes:
                await self._send(client, stream, connection.take_output())
            elif connection.has_work:
                await trio.lowlevel.checkpoint()
            if not connection.has_work:
                return
            connection.proceed(now_ms=self._now_ms())

    async def _send(self, client: _Client, stream: trio.abc.Stream, data: bytes) -> None:
        """Send `data`: at once where the stream tells of progress, else in pieces, each within the time for it."""
        piece_bytes = len(data) if isinstance(stream, ProgressStream) else SEND_BYTES
        client.sending_bytes = len(data)
        self._service.sending_bytes += len(data)
        with memoryview(data) as view:
            for begin in range(0, len(view), piece_bytes):
                piece = view[begin : begin + piece_bytes]
                client.scope.deadline = trio.current_time() + self._limits.send_timeout_s
                await stream.send_all(piece)
                client.sending_bytes -= len(piece)
                self._service.sending_bytes -= len(piece)

    async def _part(self, client: _Client, stream: trio.abc.Stream) -> None:
        """Tell a connection that the server ends why; let the last reply arrive."""
        connection = client.connection
        if client.scope.cancelled_caught and client.last_words is None and not self._is_ending:
            client.last_words = self._out_of_time(client)
        if client.last_words is not None:
            connection.fail(client.last_words)
        if not connection.is_closing or client.sending_bytes:
            return
        with trio.move_on_after(FAREWELL_S):
            await stream.send_all(connection.take_output())
            if isinstance(stream, trio.abc.HalfCloseableStream):
                # To close a socket with unread input would reset it, and the peer might lose the reply.
                await stream.send_eof()
                while await stream.receive_some(RECEIVE_BYTES):
                    pass

    def _out_of_time(self, client: _Client) -> OnlineError | None:
        """Count whose deadline has passed, and why; return what to tell them, if they can be told."""
        if not client.is_receiving:
            self._host.reached("slow")
            return None
        if self._service.auth_wanted and client.connection.frames == 0:
            self._host.reached("auth_timeout")
            return errors.too_slow_auth(self._limits.auth_timeout_s)
        self._host.reached("frame_timeout")
        return errors.too_slow_frame(self._limits.frame_timeout_s)
