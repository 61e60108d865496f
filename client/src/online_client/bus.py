"""Hits straight to the bus that servers share: Redis or Valkey Streams, or Kafka.

    redis://[[user]:password@]host[:port][/db][?site=NAME&partition=NUMBER&replicas=NUMBER]     rediss:// with TLS
    redis+sentinel://host[:port],.../master[/db]    redis+cluster://host[:port],...    rediss+... with TLS
    kafka://[user:password@]host[:port],...[?SETTING=VALUE]

Whoever publishes needs no server, and no server has to run: those that start later read it. Not its job: to wait and
to try again (Reporter, `online feed`), and how a bus is spoken to (brokers).

1. What is sent is what servers publish: one entry a batch, `SITE name` and then `hits` or `LEAVE`.
2. Nobody answers for a hit but the bus: limits and windows are the servers' matter. Only what no server could read is
   refused here.
3. A failure of the bus, be it away, full or loading, is a ConnectionFailed: it passes, and hits are sent again.
"""

import time
import uuid
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgpack

from online_client import brokers
from online_client.address import DEFAULT_SITE
from online_client.errors import AddressError, CommandError
from online_client.options import check_timeout, check_url
from online_client.verbs import MEMBER, Request

_KINDS = ("member", "guest", "hidden", "bot")

T = TypeVar("T")


class BusClient:
    """Publishes the batches and leaves that a `Client` would send. Threads may share it, and forked children too."""

    def __init__(self, url: str, *, timeout: float | None = 2.0) -> None:
        """Raises AddressError, and ImportError if what the bus needs is not installed. Opens nothing yet."""
        check_url(url)
        check_timeout(timeout)
        try:
            parts = urlsplit(url)
        except ValueError:  # of brackets without an end
            parts = urlsplit("")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        site = query.pop("site", DEFAULT_SITE)
        partition = query.pop("partition", "0")
        if not 1 <= len(site.encode()) <= 64:
            raise AddressError("the name of a site has 1 to 64 bytes")
        if not partition.isascii() or not partition.isdigit():
            raise AddressError("a partition is a number, 0 for a site that is not divided")
        host = parts.netloc.rpartition("@")[2]
        self.address = f"{parts.scheme}://{host}{parts.path} (site {site})"  #: without the password
        self._broker = brokers.named(parts, query, int(partition), timeout)
        self._source = uuid.uuid4().hex[:16]
        self._leading: bytes = msgpack.packb([2, "SITE", [site]])

    def call(self, request: Request[T]) -> T:
        """Publish `hits` or `leave`, or see that the bus is there: `ping`. Raises ConnectionFailed or CommandError."""
        now_ms = time.time_ns() // 1_000_000
        params = msgpack.unpackb(request.params, raw=True)
        if request.verb == "hits":
            good = [hit for hit in (_whole(params, now_ms) for params in params) if hit is not None]
            self._publish(msgpack.packb([2, "hits", good]) if good else b"")
            refused = len(params) - len(good)
            return request.read([len(good), 0, refused, "RANGE this is not a hit" if refused else None], now_ms)
        if request.verb == "leave":
            user, seen_ms = params[0], params[1] if len(params) > 1 else None
            self._publish(msgpack.packb([2, "LEAVE", [_name(user), now_ms if seen_ms is None else seen_ms]]))
            return request.read(None, now_ms)
        if request.verb == "ping":
            self._broker.reach(self.address)
            return request.read("PONG", now_ms)
        raise CommandError("ERR", f"a bus takes hits and leaves; ask a server for {request.verb}")

    def close(self) -> None:
        """Close all connections."""
        self._broker.close()

    def _publish(self, frame: bytes) -> None:
        if frame:
            self._broker.add(self._source, self._leading + frame, self.address)


def _whole(params: object, now_ms: int) -> list[object] | None:
    """Return a hit with all of its four fields, as servers publish it; None if it is none."""
    if not isinstance(params, list) or not 2 <= len(params) <= 4:
        return None
    user, url, seen_ms, kind = params + [None] * (4 - len(params))
    word = MEMBER.encode() if kind is None else kind
    word = word.decode(errors="replace") if isinstance(word, bytes) else word
    seen_ms = now_ms if seen_ms is None else seen_ms
    if not isinstance(user, bytes | int) or not isinstance(url, bytes) or type(seen_ms) is not int:
        return None
    return [_name(user), url, seen_ms, word] if word in _KINDS else None


def _name(user: object) -> bytes:
    return user if isinstance(user, bytes) else str(user).encode()
