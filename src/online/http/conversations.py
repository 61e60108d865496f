"""Conversations over HTTP: a task each over any stream, and the time that each step may take.

Not here: how requests are read (reader), what they are answered (routes), and where peers come from (service).

Invariants:
1. A connection that fails ends alone, and is counted. It counts in max_connections, and its buffers in max_buffers.
2. Nobody is read from while answers for them wait. Answers come in the order of the requests.
3. Nobody is waited for without a bound: for a request, from its first byte to its last; for the next one; in sending.
"""

import email.utils
import math
import os
from collections.abc import Callable
from functools import lru_cache

import trio

from online.core.wire import Connection
from online.errors import OnlineError
from online.http.bare import BareStream
from online.http.hot import Hot, TakeOver
from online.http.messages import Request, Response, problem, problem_of, write
from online.http.reader import Reader, Refusal
from online.http.routes import Exchange, Routes
from online.limits import FAREWELL_S
from online.serve import tls
from online.serve.connections import Peer
from online.serve.progress import ProgressStream
from online.serve.push import Subscriber
from online.serve.streams import RECEIVE_BYTES, SMALL_BYTES
from online.serve.verb import Shared

#: How long a connection may rest between two requests, as long as web servers keep theirs.
IDLE_S = 75.0

#: Answers are sent together while they have no more bytes than this.
TOGETHER_BYTES = 64 * 1024

#: Each piece of an answer has the time for sending to itself.
PIECE_BYTES = 64 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: What keeps the connections of those open who wait for events: proxies close what is silent for a minute.
COMMENT = b":\n\n"
COMMENT_EVERY_S = 15.0
COMMENTS_A_TURN = 50


class HttpPeer:
    """A stream with its connection."""

    connection: Connection

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.socket = below if isinstance(below, BareStream | ProgressStream) else None
        self.scope = trio.CancelScope()  # all of its work; the deadline is that of the step at hand
        self.last_words: OnlineError | None = None  # why the server ends it
        self.is_receiving = False
        self.in_message = False  # a request has begun, and is not complete
        self.waiting_bytes = 0  # kept of a request, and being sent
        self.events: bytearray | None = None  # that were not sent yet, once it has asked for events and nothing else
        self.rest: trio.CancelScope | None = None  # while it waits for nothing but the next event
        self.has_moved = False  # somebody else carries its connection
        self.answered: tuple[Exchange, Response] | None = None  # last
        self.tail = b""  # of the request before: see hot
        self.tail_s = -math.inf

    def fileno(self) -> int:
        """Return the socket, or -1."""
        return -1 if self.socket is None else self.socket.fileno()

    def rest_until(self, deadline: float) -> None:
        """Let the peer end at about `deadline`; to move that by less than a second is not worth it."""
        if abs(self.scope.deadline - deadline) > 1:
            self.scope.deadline = deadline

    @property
    def has_room(self) -> bool:
        """Whether the other end has nearly all that was sent."""
        on_its_way = self.socket.unsent_bytes() if self.socket is not None else 0
        return len(self.events or b"") + on_its_way <= SMALL_BYTES

    def offer(self, message: bytes, *, now_ms: int) -> bool:
        """Send an event, unless too much waits to be sent; return whether it was taken."""
        if self.events is None or len(self.events) > SMALL_BYTES:
            return False
        n_sent = 0
        if not self.events and isinstance(self.stream, BareStream):
            try:
                n_sent = self.stream.send_now(message)
            except trio.BrokenResourceError:
                self.scope.cancel()
        if n_sent < len(message):
            self.events += message[n_sent:]
            if self.rest is not None:
                self.rest.cancel()
        return True

    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """Say why, then end, unless an answer is half sent. Return whether this is news."""
        if self.last_words is not None:
            return False
        self.last_words = error
        self.scope.cancel()
        return True


class Conversations:
    """The connections of a server that speak HTTP."""

    def __init__(
        self, shared: Shared, routes: Routes, now_ms: Callable[[], int], take_over: TakeOver | None = None
    ) -> None:
        """Begin with none, and the limits of `shared`; `now_ms` tells index time.

        `take_over` carries plain sockets on which nothing but events is sent any more, or nothing but the hottest
        questions is asked.
        """
        self._take_over = take_over
        self._hot = Hot(shared, take_over, _date, self._take_back) if take_over is not None else None
        if self._hot is not None:
            routes.settle = self._hot.settle
        self._carriers: set[Peer] = set()
        self.is_ending = False
        self._shared = shared
        self._connections = shared.connections
        self._limits = shared.limits
        self._routes = routes
        self._now_ms = now_ms
        self.nursery: trio.Nursery | None = None  #: of who comes back; None: nobody may any more
        self._peers: set[HttpPeer] = set()

    def _take_back(self, stream: BareStream, connection: Connection, unread: bytes) -> None:
        """Go on with a connection that was let go; or, after the end, close it."""
        if self.nursery is None:
            os.close(stream.detach())
            self._connections.closed(connection)
            return
        self.nursery.start_soon(self.serve, stream, (connection, unread))

    def end(self) -> None:
        """Let each end as soon as it has its answers."""
        self.is_ending = True
        for peer in self._peers:
            if peer.is_receiving:
                peer.scope.cancel()

    async def serve(self, stream: trio.abc.Stream, begun: tuple[Connection, bytes] | None = None) -> None:
        """Serve one connection, over any stream, until one side ends it; close the stream.

        `begun`: a connection that was let go and has come back, and what was read of its next request.
        """
        try:
            try:
                await self._serve_peer(HttpPeer(stream), begun)
            finally:
                with trio.move_on_after(FAREWELL_S, shield=True):
                    await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has gone, which is its right
        except Exception:
            self._connections.failed()

    async def _serve_peer(self, peer: HttpPeer, begun: tuple[Connection, bytes] | None) -> None:
        """Have a conversation, and finish it; at once, when there are too many."""
        unread, too_many = None, None
        if begun is None:
            peer.connection, too_many = self._connections.open(peer)
        else:
            peer.connection, unread = begun
            self._connections.move(peer.connection, peer)
        last: bytes | None = None
        try:
            if too_many is not None:
                most = self._limits.max_connections
                told = f"max_connections is reached: {most}; this connection is closed"
                last = self._write(problem(503, "FULL", told, field="max_connections", limit=most))
            else:
                self._peers.add(peer)
                with peer.scope:
                    last = await self._converse(peer, unread)
                if peer.scope.cancelled_caught:
                    last = self._last_words(peer)
            self._account(peer, len(last or b""))
            if last is not None and not peer.has_moved:
                await self._finish(peer, last)
        finally:
            self._peers.discard(peer)
            self._account(peer, 0)
            if not peer.has_moved:
                self._connections.closed(peer.connection)

    async def _converse(self, peer: HttpPeer, unread: bytes | None) -> bytes | None:
        """Receive and answer in turn, each in its time. Returns the last answer, still to be sent, if there is one.

        `unread`: what has been received already, of somebody who was here before.
        """
        reader = Reader(self._routes.body_limit)
        if isinstance(peer.stream, trio.SSLStream):
            await self._shake_hands(peer, peer.stream)
        deadline = trio.current_time() + (self._limits.frame_timeout_s if unread is None else IDLE_S)
        while not self.is_ending or unread:
            was_in_message, n_before = reader.in_message, len(reader.events)
            peer.in_message = was_in_message
            data, unread = unread or await self._receive(peer, deadline), None
            if not data:
                return None
            reader.receive(data)
            self._account(peer, reader.kept_bytes)
            self._connections.bound_buffers(now_ms=self._now_ms())
            if reader.in_message and not (was_in_message and n_before == len(reader.events)):
                deadline = trio.current_time() + self._limits.frame_timeout_s
            if reader.events:
                peer.rest_until(trio.current_time() + IDLE_S)  # a question may wait for the disk, or be long
                is_open, output = await self._answer(peer, reader)
                if not is_open:
                    return output
                await self._send(peer, output)
                if not (was_in_message or reader.in_message) and self._let_go(peer, data):
                    return None
            if reader.wants_continue:
                reader.wants_continue = False
                await self._send(peer, CONTINUE)
            if not reader.in_message:
                deadline = trio.current_time() + IDLE_S
        return None

    async def _shake_hands(self, peer: HttpPeer, stream: trio.SSLStream[trio.abc.Stream]) -> None:
        """Let TLS begin."""
        peer.scope.deadline = trio.current_time() + self._limits.frame_timeout_s
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            what = f"TLS failed: {tls.why_no_handshake(error)}"
            self._connections.suspected(peer.connection, what, now_ms=self._now_ms())
            raise

    async def _receive(self, peer: HttpPeer, deadline: float) -> bytes:
        peer.rest_until(deadline)
        peer.is_receiving = True
        data = await peer.stream.receive_some(RECEIVE_BYTES)
        peer.is_receiving = False
        return bytes(data)

    async def _answer(self, peer: HttpPeer, reader: Reader) -> tuple[bool, bytes]:
        """Answer the requests that have come. Returns whether more may come, and what is left to send."""
        output = b""
        while reader.events:
            event = reader.events.popleft()
            if isinstance(event, Refusal):
                return False, output + self._write(_told(event))
            response = await self._respond(peer, event)
            keep_alive = event.keep_alive and not response.closes and not self.is_ending
            output += self._write(response, keep_alive=keep_alive, head_only=event.method == "HEAD")
            if response.subscriber is not None:
                peer.events = bytearray(output)
                if not self._move(peer, response.subscriber):
                    await self._send_events(peer)
                return False, b""
            if not keep_alive:
                return False, output
            if len(output) > TOGETHER_BYTES:
                await self._send(peer, output)
                output = b""
        return True, output

    def _let_go(self, peer: HttpPeer, data: bytes) -> bool:
        """Let the reactor answer from here on who asks the same again and again."""
        answered, peer.answered = peer.answered, None
        if self._hot is None or answered is None or not isinstance(peer.stream, BareStream) or self.is_ending:
            return False
        if not self._hot.is_again(peer, data, *answered):
            return False
        self._account(peer, 0)
        peer.has_moved = True
        self._connections.move(peer.connection, self._hot.let_go(peer, peer.stream))
        return True

    def _move(self, peer: HttpPeer, subscriber: Subscriber) -> bool:
        """Let plain sockets be carried by the reactor from here on, if there is one: a task takes ten times as much."""
        if self._take_over is None or not isinstance(peer.stream, BareStream):
            return False
        assert peer.events is not None
        del peer.events[: peer.stream.send_now(peer.events)]
        if peer.events:
            return False
        self._account(peer, 0)
        peer.connection.deafen()
        carrier = self._take_over(peer.stream.detach(), peer.connection)
        self._connections.move(peer.connection, carrier)
        subscriber.peer = carrier
        peer.has_moved = True
        self._carriers.add(carrier)
        return True

    async def comment(self) -> None:
        """Send comments to those who were moved, for ever."""
        while True:
            await trio.sleep(COMMENT_EVERY_S)
            for n, carrier in enumerate(list(self._carriers)):
                if carrier.fileno() < 0:
                    self._carriers.discard(carrier)
                else:
                    carrier.offer(COMMENT, now_ms=self._now_ms())
                if n % COMMENTS_A_TURN == 0:
                    await trio.lowlevel.checkpoint()

    async def _send_events(self, peer: HttpPeer) -> None:
        """Send what is offered to a peer, and a comment now and then, until it goes. What it still says is ignored."""
        assert peer.events is not None
        comment_s = trio.current_time() + COMMENT_EVERY_S
        while not self.is_ending:
            if peer.events:
                data = bytes(peer.events)
                await self._send(peer, data)
                del peer.events[: len(data)]
            peer.scope.deadline = math.inf
            peer.is_receiving = True
            with trio.CancelScope(deadline=comment_s) as peer.rest:
                if not peer.events and not await peer.stream.receive_some(RECEIVE_BYTES):
                    return
            peer.rest, peer.is_receiving = None, False
            if trio.current_time() >= comment_s:
                comment_s = trio.current_time() + COMMENT_EVERY_S
                if not peer.events:
                    peer.events += COMMENT

    async def _respond(self, peer: HttpPeer, request: Request) -> Response:
        try:
            is_tls = isinstance(peer.stream, trio.SSLStream)
            exchange = Exchange(request, peer, peer.connection, self._now_ms(), is_tls)
            response = await self._routes.respond(exchange)
            peer.answered = exchange, response
            return response
        except OnlineError as error:
            return problem_of(error)
        except Exception:
            self._connections.failed()
            return problem(500, "ERR", "this is a fault of the server; its log tells more", closes=True)

    def _write(self, response: Response, *, keep_alive: bool = False, head_only: bool = False) -> bytes:
        return write(response, date=_date(self._shared.service.wall_of(self._now_ms()) // 1000), keep_alive=keep_alive,
                     head_only=head_only)  # fmt: skip

    async def _send(self, peer: HttpPeer, data: bytes) -> None:
        """Send `data`: at once, if the system takes it, else in pieces, each within the time for it."""
        n_sent = peer.stream.send_now(data) if isinstance(peer.stream, BareStream) else 0
        if n_sent == len(data):
            return
        kept_bytes = peer.waiting_bytes
        with memoryview(data) as view:
            for begin in range(n_sent, len(view), PIECE_BYTES):
                self._account(peer, kept_bytes + len(view) - begin)
                peer.scope.deadline = trio.current_time() + self._limits.send_timeout_s
                await peer.stream.send_all(view[begin : begin + PIECE_BYTES])
        self._account(peer, kept_bytes)

    def _account(self, peer: HttpPeer, n_bytes: int) -> None:
        """Let the bytes that wait for a peer count in max_buffers."""
        self._shared.service.carried_bytes += n_bytes - peer.waiting_bytes
        peer.waiting_bytes = n_bytes

    def _last_words(self, peer: HttpPeer) -> bytes | None:
        """Count whose deadline has passed, and why; return what to tell them, if they can be told."""
        if not peer.is_receiving:
            self._connections.reached("slow")
            return None
        if peer.events is not None:
            return None  # an answer would be taken for an event
        if peer.last_words is not None:
            return self._write(problem(503, peer.last_words.code, str(peer.last_words)))
        if self.is_ending or not peer.in_message:
            return None
        self._connections.reached("frame_timeout")
        limit_s = self._limits.frame_timeout_s
        late = f"a request must be complete {limit_s:g} s after its first byte"
        return self._write(problem(408, "PROTO", late, field="frame_timeout", limit=limit_s))

    async def _finish(self, peer: HttpPeer, last: bytes) -> None:
        """Send the last answer, close our half, and throw away what still comes, for FAREWELL_S at most.

        To close a socket with unread input would reset it, and the last answer might be lost.
        """
        with trio.move_on_after(self._limits.send_timeout_s):
            await peer.stream.send_all(last)
        with trio.move_on_after(FAREWELL_S):
            if isinstance(peer.stream, trio.abc.HalfCloseableStream):
                await peer.stream.send_eof()
                while await peer.stream.receive_some(RECEIVE_BYTES):
                    pass


def _told(refusal: Refusal) -> Response:
    """Return the answer to bytes that are not read any further."""
    return problem(
        refusal.status, "PROTO", refusal.detail, field=refusal.field, limit=refusal.limit, value=refusal.value
    )


@lru_cache(maxsize=1)
def _date(wall_s: int) -> bytes:
    return email.utils.formatdate(wall_s, usegmt=True).encode()
