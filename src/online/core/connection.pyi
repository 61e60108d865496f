"""Connections, sans-I/O: bytes in, verbs carried out on an index, bytes out. No sockets, no clock, no Trio.

A `Service` holds what all connections of a server share; a `Connection` turns the bytes of one peer into answers.
The hot verbs run in C; the rare ones are handed to the service's `Host`, in turn, so that answers keep their order.

Times on the wire are wall time; an index lives on a clock that never steps. `Service.clock_step_ms` is the
difference, added to what goes out and taken from what comes in. `now_ms` is always the index's clock.
"""

from typing import Final, Protocol

from online.core.index import Index
from online.core.journal import Journal
from online.limits import Limits
from online.terms import IndexStatistics

class Status(str):
    """Text that RESP sends as a simple string (`+OK`)."""

OK: Final[Status]

class Host(Protocol):
    """What a service needs from above: the rare verbs, and new sites."""

    def call(self, connection: Connection, verb: str, args: list[bytes], now_ms: int) -> object:
        """Carry out a rare verb (upper case; the number of arguments is right; nil arrives as b"").

        Return the reply: None, int, str, bytes, Status, or lists, tuples and dicts of them. Raise OnlineError to fail.
        """

    def open_site(self, connection: Connection, now_ms: int) -> Index:
        """Return the index of `connection.site`, made for the hit that is about to be its first, or raise FullError.

        Called at a hit while `connection.index` is None.
        """

class Service:
    def __init__(
        self, host: Host, limits: Limits, *, auth_wanted: bool = False, window_s: int = 1800
    ) -> None:
        """Share `limits` and `host` among connections; with `auth_wanted` each must authenticate first.

        `window_s` is the window of all sites: what is asked about one that does not exist yet is judged by it.
        """
    clock_step_ms: int  # wall time less index time
    loading: str | None  # why most verbs are answered LOADING now; None: they are not
    refusing: str | None  # why hits are answered MISCONF now; None: they are not
    journal: Journal | None  # what answers wait for that acknowledge hits; None: they need not
    def wall_of(self, index_ms: int) -> int:
        """Return the wall time of an index time: what clients are told."""
    def index_of(self, wall_ms: int) -> int:
        """Return the index time of a wall time: what an index is told."""
    sending_bytes: int  # output that transports have taken and not yet sent
    @property
    def limits(self) -> Limits: ...
    @property
    def auth_wanted(self) -> bool: ...
    @property
    def connections(self) -> int:
        """Connections that exist. O(1)."""
    @property
    def buffered_bytes(self) -> int:
        """Input and output that wait in all connections (design: max_buffers). O(1)."""
    def unplaced(self) -> IndexStatistics:
        """Return what became of hits that were ignored or refused before their site had an index."""
    @property
    def commands(self) -> int:
        """Frames answered so far; a batch of hits counts once."""
    @property
    def errors(self) -> int:
        """Error replies so far."""

class Connection:
    def __init__(self, service: Service, index: Index | None, site: bytes = b"default") -> None:
        """Begin a connection that speaks of `site`, whose index is None until its first hit."""
    index: Index | None
    site: bytes
    id: int  # unique in this process, from 1
    name: bytes  # CLIENT SETNAME
    authenticated: bool
    has_written: bool  # it had hits or leaves; whoever carries it sets this back when their answers may leave
    resp_version: int  # 2, or 3 after HELLO 3; a MessagePack connection has 0
    reply: str  # CLIENT REPLY: "on", "off" or "skip" (which leaves out this reply and the next)

    work: int  # units done in this turn, each about a hit; a rare verb adds what it takes

    def receive(self, data: bytes | bytearray | memoryview, *, now_ms: int) -> None:
        """Take bytes from the peer and answer what is complete, until the input is used up, more than
        `max_output` bytes of output wait, or about a millisecond of work is done; then `has_work` tells which."""

    def proceed(self, *, now_ms: int) -> None:
        """Go on with input that waits, as `receive` without new bytes. To be called while `has_work`."""

    def take_output(self) -> bytes:
        """Return all waiting output and forget it."""

    def close(self) -> None:
        """Parse nothing more; what waits as output may still be sent. For QUIT, and from above."""

    def reset(self) -> None:
        """Back to the state of a new connection of the same dialect, input and output aside (RESET)."""

    def fail(self, error: Exception) -> None:
        """Answer with an unasked error and close: for timeouts and limits judged above."""

    @property
    def output_bytes(self) -> int:
        """Output that waits."""
    @property
    def buffered_bytes(self) -> int:
        """Input and output that wait."""
    @property
    def has_work(self) -> bool:
        """Complete input may be waiting: call `proceed` once output has gone (or at once, if there is none)."""
    @property
    def is_closing(self) -> bool:
        """Nothing more is read; close once the output has gone."""
    @property
    def in_frame(self) -> bool:
        """A message has begun and is not complete."""
    @property
    def frames(self) -> int:
        """Messages completed so far."""
