"""A rare verb: who carries it out, and what that may use. Rare ones are not worth C.

A function that carries out a verb stands in one of the `verbs_*` files, under its name:

    @verb("PEAK")
    def peak(shared, connection, args, now_ms): ...

`args` are as many as its row in `wire.RARE` says; what is returned is written in the connection's dialect. A verb that
raises has changed nothing. One that may take long is a generator: it yields wherever it may rest while others are
served, after 0.1 ms or so, and returns its reply. Sites and connections may come and go meanwhile. One that waits for a
thread returns a Future of its reply.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Protocol

from online.core.index import Index
from online.core.sites import Sites
from online.core.wire import Connection, Service
from online.limits import Limits
from online.pieces import Pieces
from online.serve.config import Address
from online.serve.connections import Connections
from online.serve.delays import Delays
from online.serve.meter import Meter
from online.serve.push import Push, Subscriber
from online.serve.tokens import Tokens
from online.terms import IndexStatistics

_Seen = list[tuple[bytes, int] | None]


class Remembering(Protocol):
    """Who knows what was (past.py)."""

    keeps_last: bool

    def rows(self, site: bytes, from_ms: int, to_ms: int, step_ms: int) -> object: ...
    def peak(self, site: bytes, since_ms: int) -> object: ...
    def last(self, site: bytes, users: list[bytes], then: Callable[[_Seen], object]) -> object: ...
    def forget(self, site: bytes, users: list[bytes]) -> object: ...


class Shared:
    """What verbs may use, of the server that they are asked of."""

    service: Service
    connections: Connections
    push: Push

    def __init__(self, sites: Sites, tokens: Tokens) -> None:
        """Without `tokens` any is taken."""
        self.sites = sites
        self.tokens = tokens
        self.sections: dict[str, Lines] = {}  #: of INFO: what parts of the server add to it
        self.meter = Meter()
        self.delays = Delays()
        self.run_id = secrets.token_hex(20)  #: another for each start
        self.started_ms: int | None = None  #: index time; the server sets it
        self.unready: Callable[[], str | None] = lambda: None  #: why it answers, and is not to be asked yet
        self.addresses: tuple[Address, ...] = ()  #: where the server listens; it sets this, and the next
        self.is_tls = False  #: whether it speaks TLS there, over TCP
        self.past: Remembering | None = None  #: what was; None: nobody keeps it
        self.clock_steps = 0
        self.auth_without_token = 0  #: tokens that came though none is configured
        self.auth_to_new_site = 0  #: times that AUTH or HELLO named a site that does not exist yet
        self.new_sites: set[bytes] = set()  #: those sites, as far as they were logged

    @property
    def limits(self) -> Limits:
        """The limits of the server; what a gateway judges questions by may change."""
        return self.sites.limits

    @property
    def tcp_port(self) -> int:
        """The port of the first listener on TCP; 0 if there is none."""
        return next((each.port for each in self.addresses if each.path is None), 0)

    def visible_sites(self, connection: Connection) -> list[tuple[bytes, Index]]:
        """Return the sites that a connection may know of, by name. O(sites log sites)."""
        own = self.connections.own_site(connection)
        return sorted(each for each in self.sites.items() if own in (None, each[0]))

    def subscriber(self, connection: Connection) -> Subscriber | None:
        """Return who is told of channels by a connection, if anybody was so far."""
        found = self.connections.subscriber(connection)
        assert found is None or isinstance(found, Subscriber)
        return found

    def totals(self) -> Pieces[IndexStatistics]:
        """Add up the statistics of all sites, and of hits that found none, in pieces. O(sites)."""
        each = (self.service.unplaced(), (yield from self.sites.add_up()))
        return IndexStatistics(*map(sum, zip(*each, strict=True)))

    def limits_reached(self) -> dict[str, int]:
        """Return how often each limit of the server was reached, but for those of a site."""
        return self.connections.limits_reached | {"max_sites_reached": self.sites.max_reached}


Run = Callable[[Shared, Connection, list[bytes], int], object]

#: A figure of INFO: its name and value.
Row = tuple[str, object]

#: A section of INFO that knows what it is about: its rows, as of now_ms, and None wherever it may rest.
Lines = Callable[[int], Iterable[Row | None]]

#: Who carries out which verb.
VERBS: dict[str, Run] = {}


def verb(name: str) -> Callable[[Run], Run]:
    """Let the function below carry out a verb."""

    def add(run: Run) -> Run:
        VERBS[name] = run
        return run

    return add


def is_heard(connection: Connection) -> bool:
    """Whether an answer goes out: after CLIENT REPLY OFF none does, and what only asks need not be carried out."""
    return connection.reply == "on"
