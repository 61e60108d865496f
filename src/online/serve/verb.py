"""A rare verb: how it gets its row, and what it may use. Rare ones are not worth C.

A function that carries out a verb stands in one of the `verbs_*` files, and its row above it:

    @verb("PEAK")
    def peak(shared, connection, args, now_ms): ...

`args` are as many as the wire's table says; what is returned is written in the connection's dialect. A verb that raises
has changed nothing. INFO's sections have rows, too (`section`).
"""

from collections.abc import Callable, Iterable

from online.core.sites import Sites
from online.core.wire import Connection, Service
from online.serve.connections import Connections
from online.terms import IndexStatistics


class Shared:
    """What verbs may use, of the server that they are asked of."""

    service: Service
    connections: Connections

    def __init__(self, sites: Sites, *, token: bytes | None) -> None:
        """Without `token` any token is taken."""
        self.sites = sites
        self.limits = sites.limits
        self.token = token
        self.sections: dict[str, Lines] = {}  #: of INFO, after those that every server has
        self.started_ms: int | None = None  #: index time; the server sets it
        self.clock_steps = 0

    def totals(self) -> IndexStatistics:
        """Add up the statistics of all sites, and of hits that found none. O(sites)."""
        each = (self.service.unplaced(), self.sites.statistics())
        return IndexStatistics(*map(sum, zip(*each, strict=True)))

    def limits_reached(self) -> dict[str, int]:
        """Return how often each limit of the server was reached, but for those of a site."""
        return self.connections.limits_reached | {"max_sites_reached": self.sites.max_reached}


Run = Callable[[Shared, Connection, list[bytes], int], object]

Section = Callable[[Shared, int], Iterable[tuple[str, object]]]

#: A section that knows of what it tells: its lines, as of now_ms.
Lines = Callable[[int], Iterable[tuple[str, object]]]

#: The rows: who carries out a verb, and who writes a section.
VERBS: dict[str, Run] = {}
SECTIONS: dict[str, Section] = {}


def verb(name: str) -> Callable[[Run], Run]:
    """Give the function below its row."""

    def add(run: Run) -> Run:
        VERBS[name] = run
        return run

    return add


def section(name: str) -> Callable[[Section], Section]:
    """Let the function below write a section of INFO."""

    def add(lines: Section) -> Section:
        SECTIONS[name] = lines
        return lines

    return add


def is_heard(connection: Connection) -> bool:
    """Whether an answer goes out: after CLIENT REPLY OFF none does, and what only asks need not be carried out."""
    return connection.reply == "on"
