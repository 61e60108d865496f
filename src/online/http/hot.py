"""Connections that ask the same again and again: they go to the reactor, which answers them in C, and come back.

A plain socket goes when two requests in turn differ in their targets alone, within a second. It comes back with the
first request that C leaves alone, or when it asks seldom. Not here: what C answers (ext/gets.pyx), and conversations.

Invariants:
1. What Python found out about a request holds for all that C answers: who may ask, and of which site. So its headers
   are remembered for its connection alone, and are nothing that ends with time (cookies) or changes the answer.
2. Nothing has been read of the next request when a connection goes, and all was sent.
"""

import sys
from collections.abc import Callable
from typing import Protocol

import trio

from online.core.sites import DEFAULT_SITE
from online.core.wire import Connection
from online.http.bare import BareStream
from online.http.messages import JSON, Response, write
from online.http.routes import Exchange
from online.serve.connections import Peer
from online.serve.listeners import socket_of
from online.serve.meter import BOUNDS_S, Histogram
from online.serve.verb import Shared

if sys.platform == "linux":
    from online.core.gets import PATHS, Gets

#: Who carries plain sockets whose connections C can serve.
TakeOver = Callable[[int, Connection], Peer]

#: Who goes on with a connection, and with what was read of its next request.
GoOn = Callable[[BareStream, Connection, bytes], None]

#: A request that comes so soon after one like it is one of many.
AGAIN_S = 1.0

#: Longer heads are not remembered: each of max_connections may have one.
MOST_TAIL_BYTES = 1024

#: Headers of requests that are left alone: with a body, for pages of other sites, or good for some time only.
LEFT_ALONE = {b"cookie", b"origin", b"expect", b"upgrade", b"content-length", b"transfer-encoding"}


class Asked(Protocol):
    """What is kept of a peer."""

    connection: Connection
    tail: bytes
    tail_s: float


class Hot:
    """Lets connections go, and takes them back."""

    def __init__(self, shared: Shared, take_over: TakeOver, date: Callable[[int], bytes], go_on: GoOn) -> None:
        """`date` writes a wall time in seconds for a header."""
        self._shared = shared
        self._take_over = take_over
        self._date = date
        self._go_on = go_on
        self._gets = Gets(self._write_head, BOUNDS_S)

    def is_again(self, peer: Asked, data: bytes, exchange: Exchange, response: Response) -> bool:
        """Take note of an answer to all of `data`; return whether C may answer more of its kind."""
        before, before_s = peer.tail, peer.tail_s
        peer.tail, peer.tail_s = tail_of(data, exchange), trio.current_time()
        is_good = response.status == 200 and exchange.visitor.may_ask
        return is_good and peer.tail != b"" and peer.tail == before and peer.tail_s - before_s < AGAIN_S

    def let_go(self, peer: Asked, stream: BareStream) -> Peer:
        """Let the reactor carry a connection; return its peer there."""
        home = self._shared.connections.own_site(peer.connection) or DEFAULT_SITE
        self._gets.take(peer.connection, peer.tail, home, self._take_back)
        return self._take_over(stream.detach(), peer.connection)

    def _take_back(self, fd: int, connection: Connection, unread: bytes) -> None:
        self._go_on(BareStream(socket_of(fd)), connection, unread)

    def settle(self, times: dict[str, Histogram]) -> None:
        """Add the times of what C has answered since the last call, by verb."""
        for verb, (sum_s, counts) in self._gets.take_times().items():
            if any(counts):
                times[verb.lower()].merge(sum_s, counts)

    def _write_head(self, wall_s: int) -> bytes:
        """Return the head of an answer up to the length of its body."""
        whole = write(Response(200, b"", JSON), date=self._date(wall_s), keep_alive=True)
        head = whole.removesuffix(b"0\r\n\r\n")
        assert head.endswith(b"\r\nContent-Length: ")
        return head


def tail_of(data: bytes, exchange: Exchange) -> bytes:
    """Return what follows the target, if `data` is one request and C may answer others like it; else nothing."""
    request = exchange.request
    is_one = data.startswith(b"GET /api/v1/") and data.find(b"\r\n\r\n") == len(data) - 4
    if not is_one or request.path not in PATHS or not request.keep_alive or request.headers.keys() & LEFT_ALONE:
        return b""
    tail = data[data.index(b" ", len(b"GET ")) :]
    return tail if tail.startswith(b" HTTP/1.1\r\n") and len(tail) <= MOST_TAIL_BYTES else b""
