"""The connections of a server: who is open, what they may take together, and what has become of them.

The one hub of both transports (streams, reactor) and of the verbs. Not its job: to receive and send (the transports
do), and what bytes mean (wire).

Invariants:
1. A connection is here from `open` to `closed`, and its peer with it: from one to the other is O(1).
2. Who was one too many is here, to be told so, and counts in no limit.
"""

import logging
import math
import os
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from operator import attrgetter
from typing import Any, Protocol

import trio

from online import errors
from online.core.sites import DEFAULT_SITE, Sites
from online.core.wire import Connection, Service
from online.errors import OnlineError
from online.serve.listeners import peer_address
from online.serve.tokens import Grant

#: How often a limit was reached, as INFO lists it. `slow` counts connections closed for want of progress in sending,
#: `wrong_token` those closed for one, `open_files_reached` each time that accept(2) had no descriptor or memory.
LIMITS_REACHED = (
    "max_connections_reached",
    "max_buffers_reached",
    "max_sites_reached",
    "open_files_reached",
    "slow",
    "frame_timeout",
    "auth_timeout",
    "wrong_token",
    "max_subscriptions_reached",
    "max_all_subscriptions_reached",
)

#: Faults of the server that are logged with a traceback; more are counted alone, so as not to fill a disk.
TRACEBACKS = 20

#: Lines about wrong tokens and failed TLS.
WARNINGS_A_MINUTE = 10

logger = logging.getLogger("online")


class Peer(Protocol):
    """What carries a connection: its socket or stream, in one of the transports."""

    def fileno(self) -> int:
        """Return the socket, which stays the peer's, or -1."""

    @property
    def waiting_bytes(self) -> int:
        """Input and output that wait."""

    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """Say why, then end: with `error` as the last reply, unless one is half sent. Return whether this is news."""

    @property
    def has_room(self) -> bool:
        """Whether the other end has nearly all that was sent."""

    def offer(self, message: bytes, *, now_ms: int) -> bool:
        """Send a message that answers nothing; or, if too much waits to be sent, do nothing and return False."""


class Leaver(Protocol):
    """Who is to be told that a connection has ended."""

    def leave(self) -> None:
        """Give back what is held for the connection."""


async def replied(awaited: Future[Any]) -> None:
    """Wait until the reply that a connection awaits is there."""
    is_there = trio.Event()
    awaited.add_done_callback(lambda _: is_there.set())
    await is_there.wait()


class _Open:
    """What is known of a connection while it is open."""

    __slots__ = ("grant", "home", "is_counted", "layout", "peer", "subscriber")

    def __init__(self, peer: Peer | None, *, is_counted: bool) -> None:
        self.peer = peer
        self.home = DEFAULT_SITE
        self.grant: Grant | None = None
        self.layout: str | None = None
        self.is_counted = is_counted
        self.subscriber: Leaver | None = None


class _Ration:
    """How often strangers may have something logged: they must not fill a disk."""

    def __init__(self) -> None:
        self._began_ms = -math.inf
        self._taken = 0
        self._left_out = 0

    def take(self, now_ms: int) -> int | None:
        """Return how many lines were left out since the last that was not, or None if this one is to be, too."""
        if now_ms - self._began_ms >= 60_000:
            self._began_ms, self._taken = now_ms, 0
        if self._taken == WARNINGS_A_MINUTE:
            self._left_out += 1
            return None
        self._taken += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class Connections:
    """Everybody who is connected. Iterates over the connections, oldest first."""

    def __init__(self, sites: Sites, service: Service) -> None:
        """Begin with none, and the limits of `service`. New connections speak of the site `default` of `sites`."""
        self.layout: str | None = None  #: how users are divided among servers; None: they are not
        self.n_counted = 0  #: open now, without those that were too many
        self.accepted = 0  #: since the start
        self.failures = 0  #: ended by a fault of the server
        self.limits_reached = dict.fromkeys(LIMITS_REACHED, 0)
        self._sites = sites
        self._service = service
        self._limits = service.limits
        self._open: dict[Connection, _Open] = {}
        self._ration = _Ration()

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._open)

    # Coming and going

    def open(self, peer: Peer | None = None) -> tuple[Connection, OnlineError | None]:
        """Begin the connection of `peer`, with the reason if it is to end at once. Who calls this calls `closed`."""
        self.accepted += 1
        connection = Connection(self._service, self._sites[DEFAULT_SITE], DEFAULT_SITE)
        is_counted = self.n_counted < self._limits.max_connections
        self._open[connection] = _Open(peer, is_counted=is_counted)
        if not is_counted:
            self.reached("max_connections_reached")
            return connection, errors.too_many_connections()
        self.n_counted += 1
        return connection, None

    def closed(self, connection: Connection) -> None:
        """Forget a connection that has ended, and free what it holds."""
        known = self._open.pop(connection, None)
        if known is not None:
            self.n_counted -= known.is_counted
            connection.release()
            if known.subscriber is not None:
                known.subscriber.leave()

    # What is known of them

    def home(self, connection: Connection) -> bytes:
        """Return the site to which SELECT 0 leads a connection back."""
        known = self._open.get(connection)
        return DEFAULT_SITE if known is None else known.home

    def settle(self, connection: Connection, site: bytes) -> None:
        """Make `site` the one to which SELECT 0 leads a connection back."""
        known = self._open.get(connection)
        if known is not None:
            known.home = site

    def grant(self, connection: Connection, found: Grant | None) -> None:
        """Keep what the token of a connection allows; None: everything."""
        known = self._open.get(connection)
        if known is not None:
            known.grant = found

    def revoke(self, good: Collection[Grant], *, now_ms: int) -> int:
        """End whose token is no longer among the good ones, as it was; return how many. O(connections * tokens)."""
        revoked = [known.peer for known in self._open.values() if known.grant is not None and known.grant not in good]
        return sum(peer.fail(errors.token_revoked(), now_ms=now_ms) for peer in revoked if peer is not None)

    def go_by(self, connection: Connection, layout: str) -> None:
        """Answer a connection only as long as users are divided so. Raises LoadingError if they are not, or not yet."""
        if self.layout is not None and layout != self.layout:
            raise errors.other_map(self.layout, layout)
        known = self._open.get(connection)
        if known is not None:
            known.layout = layout

    def divide(self, layout: str, *, now_ms: int) -> int:
        """End who goes by another map than this; return how many. O(connections)."""
        self.layout = layout
        others = [(each.peer, each.layout) for each in self._open.values() if each.layout not in (None, layout)]
        ended = (peer.fail(errors.other_map(layout, each), now_ms=now_ms) for peer, each in others if peer and each)
        return sum(ended)

    def may(self, connection: Connection, role: str) -> bool:
        """Whether the token of a connection allows what `role` may."""
        known = self._open.get(connection)
        return known is None or known.grant is None or known.grant.allows(role)

    def own_site(self, connection: Connection) -> bytes | None:
        """Return the only site that the token of a connection is good for; None: all."""
        known = self._open.get(connection)
        return None if known is None or known.grant is None else known.grant.site

    def address(self, connection: Connection) -> str:
        """Say where a connection comes from, as far as that is known."""
        known = self._open.get(connection)
        return peer_address(-1 if known is None or known.peer is None else known.peer.fileno())

    def fileno(self, connection: Connection) -> int:
        """Return the socket of a connection, which stays its own, or -1."""
        known = self._open.get(connection)
        return -1 if known is None or known.peer is None else known.peer.fileno()

    def peer(self, connection: Connection) -> Peer | None:
        """Return what carries a connection."""
        known = self._open.get(connection)
        return None if known is None else known.peer

    def move(self, connection: Connection, peer: Peer) -> None:
        """Take note that somebody else carries a connection from here on."""
        known = self._open.get(connection)
        if known is not None:
            known.peer = peer

    def subscriber(self, connection: Connection) -> Leaver | None:
        """Return who was bound to a connection."""
        known = self._open.get(connection)
        return None if known is None else known.subscriber

    def bind(self, connection: Connection, subscriber: Leaver) -> None:
        """Let `subscriber` know when a connection has ended."""
        known = self._open.get(connection)
        if known is not None:
            known.subscriber = subscriber

    def end(self, connection: Connection, error: OnlineError, *, now_ms: int) -> bool:
        """End a connection for no fault of its peer, with `error` as its last reply. Return whether this is news."""
        known = self._open.get(connection)
        return known is not None and known.peer is not None and known.peer.fail(error, now_ms=now_ms)

    # What they share

    def bound_buffers(self, *, now_ms: int) -> None:
        """End the largest while all together have more waiting than max_buffers. O(connections) if they have.

        Nobody is ended who has no more than an equal share of max_buffers: it would help little.
        """
        excess = self._service.waiting_bytes - self._limits.max_buffers
        if excess <= 0:
            return
        error = errors.too_much_waiting(self._limits.max_buffers)
        peers = [known.peer for known in self._open.values() if known.peer is not None]
        share = self._limits.max_buffers // max(len(peers), 1)
        for largest in sorted(peers, key=attrgetter("waiting_bytes"), reverse=True):
            waiting = largest.waiting_bytes
            if excess <= 0 or waiting <= share:
                return
            excess -= waiting
            if largest.fail(error, now_ms=now_ms):
                self.reached("max_buffers_reached")

    # What has become of them

    def reached(self, limit: str) -> None:
        """Count that a limit was reached, one of LIMITS_REACHED."""
        self.limits_reached[limit] += 1

    def no_room(self, code: int) -> None:
        """Count that accept(2) had no descriptor or memory, and say so the first time; `code` is its errno."""
        if not self.limits_reached["open_files_reached"]:
            logger.warning("no room for another connection: %s; INFO counts how often", os.strerror(code))
        self.reached("open_files_reached")

    def failed(self) -> None:
        """Count a connection that was ended by the exception being handled."""
        self.failures += 1
        if self.failures <= TRACEBACKS:
            logger.exception("a connection failed; the others go on")

    def suspected(self, connection: Connection, what: str, *, now_ms: int) -> None:
        """Log that somebody may have no business here; who does it often is not logged each time."""
        left_out = self._ration.take(now_ms)
        if left_out is not None:
            more = f"; {left_out} more of such were not logged" if left_out else ""
            logger.warning("%s from %s%s", what, self.address(connection), more)
