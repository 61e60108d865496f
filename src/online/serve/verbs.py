"""All rare verbs, as the `Host` of a wire's service.

The wire parses, counts the arguments, asks for the token and runs the hot verbs; whatever else comes arrives at
`Verbs.call` and leaves as a plain Python value, which the wire writes in the connection's dialect. Not its job: what
each verb does (info, verbs_*), sockets, framing, and the clock (it is handed `now_ms`).

Invariants:
1. The index of an open connection is that of its site, or None while the site does not exist.
2. A verb that raises has changed nothing.
3. Times that go out are wall time: index time plus `service.clock_step_ms`.
4. Work is what it costs: a verb is charged the time that it took by `clock_ns`, so that a turn ends by the clock.
5. A long verb goes on in the next turn of its connection, as often as it needs, and ends with its connection.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from time import perf_counter_ns

from online.core import wire
from online.core.index import Index
from online.core.sites import Sites
from online.core.wire import NOT_YET, Connection, Service
from online.limits import Limits
from online.serve import (
    info,
    verbs_access,
    verbs_clients,
    verbs_command,
    verbs_past,
    verbs_push,
    verbs_redis,
    verbs_sites,
)
from online.serve.connections import Connections
from online.serve.push import Push
from online.serve.tokens import Tokens
from online.serve.verb import VERBS, Run, Shared

#: The files whose verbs have their rows by now.
FAMILIES = (info, verbs_access, verbs_clients, verbs_command, verbs_past, verbs_push, verbs_redis, verbs_sites)

#: A unit of a connection's work is about a hit.
UNIT_NS = 500

#: What a verb may take of a turn, but for its last piece.
SLICE_NS = 500_000


class Verbs(Shared):
    """Every rare verb, on all sites."""

    def __init__(self, sites: Sites, tokens: Tokens | None = None) -> None:
        """Answer about `sites`. Without `tokens` any is taken. Raises LookupError for a verb that nobody runs."""
        super().__init__(sites, tokens or Tokens())
        self.runs: dict[str, Run] = VERBS  #: a gateway has others for some
        self.clock_ns: Callable[[], int] = perf_counter_ns
        check(usage.split()[0] for usage, *_ in wire.RARE)
        self.service = Service(self, sites.limits, auth_wanted=bool(self.tokens), window_s=sites.window_s)
        self.connections = Connections(sites, self.service)
        self.push = Push(self.service, sites)

    def call(self, connection: Connection, verb: str, args: list[bytes], now_ms: int) -> object:
        """Carry out a rare verb (upper case, with a right number of arguments) and return its reply.

        Returns NOT_YET for one that is to be called again in the next turn. Raises OnlineError, having changed nothing.
        """
        began_ns = self.clock_ns()
        try:
            if connection.pieces is None:
                reply = self.runs[verb](self, connection, args, now_ms)
                if not isinstance(reply, Generator):
                    return reply
                connection.pieces = reply
            return self._go_on(connection, began_ns + SLICE_NS)
        finally:
            ns = self.clock_ns() - began_ns
            connection.work += ns // UNIT_NS
            self.delays.took(verb, ns)

    def _go_on(self, connection: Connection, end_ns: int) -> object:
        """Take pieces of the verb that is under way until `end_ns`, one at least. Return its reply, or NOT_YET."""
        pieces, connection.pieces = connection.pieces, None
        assert isinstance(pieces, Generator)
        try:
            next(pieces)
            while self.clock_ns() < end_ns:
                next(pieces)
        except StopIteration as end:
            return end.value
        connection.pieces = pieces
        return NOT_YET

    def judge_by(self, limits: Limits, *, window_s: int) -> None:
        """Judge messages and questions by another window and other limits from now on; to be called between turns.

        Only where nobody is kept, as at a gateway. Raises RangeError for one that cannot be, and MemoryError.
        """
        self.service.judge_by(limits, window_s=window_s)
        self.sites.judge_by(limits, window_s=window_s)

    def open_site(self, connection: Connection, now_ms: int) -> Index:
        """Return the index of the connection's site, which begins to exist if it does not. O(connections).

        Raises FullError at max_sites.
        """
        is_new = connection.site not in self.sites
        index = self.sites.open(connection.site)
        if is_new:
            for other in self.connections:
                if other.site == connection.site:
                    other.index = index
        connection.index = index
        return index

    def expire(self, now_ms: int) -> Iterator[None]:
        """Drop, in slices, what has left the window on all sites.

        To be called about once a second: INFO's figures of the last second are taken here.
        """
        self.meter.look(now_ms, commands=self.service.commands, used_bytes=self.sites.budget.used_bytes)
        yield from self.sites.expire(now_ms)


def check(handed_up: Iterable[str]) -> None:
    """Make sure that each verb that the wire hands up has its function. Raises LookupError."""
    missing = sorted(set(handed_up) - set(VERBS))
    if missing:
        raise LookupError(f"nobody carries out {', '.join(missing)}: a function for it is to have @verb above it")
