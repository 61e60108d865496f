"""Connections, sans-I/O: take bytes, run verbs on an index, return bytes. No sockets, no clock, no Trio.

A `Service` holds what all connections of a server share. A `Connection` turns the bytes of one peer into replies. Hot
verbs run in C. Rare verbs are passed to the service's `Host`, in order, so replies keep their order.

Times on the wire are wall time. Indexes use a clock that never steps. `Service.clock_step_ms` is the difference: it is
added to times that go out, and subtracted from times that come in. `now_ms` is always index time.
"""

from concurrent.futures import Future
from typing import Any, Final, Protocol

from online.core.index import Index
from online.core.journal import Journal
from online.core.slots import Slots
from online.limits import Limits
from online.terms import IndexStatistics

class Status(str):
    """Text that RESP sends as a simple string (`+OK`)."""

OK: Final[Status]

NOT_YET: Final[object]
"""What a host returns for a verb that goes on in the next turn: it will be asked again, with the same arguments."""

class Written(bytes):
    """A reply that is written already, in the dialect of its connection."""

class Packed(bytes):
    """A reply in MessagePack, which is written in the dialect of its connection."""

class Host(Protocol):
    """What a service needs from the server: the rare verbs, and new sites."""

    def call(self, connection: Connection, verb: str, args: list[bytes], now_ms: int) -> object:
        """Run a rare verb. `verb` is in upper case, the number of arguments is valid, and nil arrives as b"".

        Returns the reply: None, int, str, bytes, Status, or lists, tuples and dicts of them; or NOT_YET. Raises
        OnlineError.

        It may also return a Future of the reply, which is to be done in the thread of the server. The connection rests
        until then, and the others do not wait.
        """

    def open_site(self, connection: Connection, now_ms: int) -> Index:
        """Return the index of `connection.site`, and create it if needed. Raises FullError at max_sites.

        Called for a hit while `connection.index` is None.
        """

class Service:
    def __init__(self, host: Host, limits: Limits, *, auth_wanted: bool = False, window_s: int = 1800) -> None:
        """Share `limits` and `host` among connections. With `auth_wanted`, each must authenticate first.

        `window_s` is the window of all sites. It also applies to questions about a site that does not exist yet.
        """
    def judge_by(self, limits: Limits, *, window_s: int) -> None:
        """Judge messages and questions by another window and other limits from now on, between two turns.

        Only where nobody is kept: those who are would stay within the old ones. Raises RangeError for one that cannot
        be, and MemoryError.
        """
    clock_step_ms: int  # wall time minus index time
    loading: str | None  # why most verbs are answered LOADING now; None: they are not
    refusing: str | None  # why hits are answered MISCONF now; None: they are not
    unanswered: str | None  # why questions about who is online are answered with an error; None: they are not
    handing: bool  # whether the host carries out hits and questions, too, and as verb "hits" whole batches
    journal: Journal | None  # what answers wait for that acknowledge hits; None: they need not
    def wall_of(self, index_ms: int) -> int:
        """Convert index time to wall time, for clients."""
    def index_of(self, wall_ms: int) -> int:
        """Convert wall time to index time, for an index."""
    carried_bytes: int  # what transports hold beside the buffers: output being sent, here and in the kernel; handshakes
    @property
    def waiting_bytes(self) -> int:
        """All that waits for clients: `buffered_bytes` and `carried_bytes`, limited by max_buffers. O(1)."""
    @property
    def limits(self) -> Limits: ...
    @property
    def auth_wanted(self) -> bool: ...
    @property
    def connections(self) -> int:
        """Connections that exist and were not released. O(1)."""
    @property
    def buffered_bytes(self) -> int:
        """Bytes of waiting input and output in all connections. O(1)."""
    def divide(self, slots: Slots) -> None:
        """Refuse hits of users who are not of our slots, also those to sites that do not exist yet."""
    def unplaced(self) -> IndexStatistics:
        """Return the statistics of hits that were ignored or refused before their site had an index."""
    @property
    def commands(self) -> int:
        """The number of frames answered so far. A batch of hits counts as one."""
    @property
    def errors(self) -> int:
        """The number of error replies so far."""

class Connection:
    def __init__(self, service: Service, index: Index | None, site: bytes = b"default") -> None:
        """Begin a connection to `site`, whose index is None until its first hit."""
    index: Index | None
    site: bytes
    id: int  # unique in this process, from 1
    name: bytes  # CLIENT SETNAME
    authenticated: bool
    may_write: bool  # hits and leaves are taken; a token may be for reading only
    n_subscriptions: int  # to channels: in RESP2, most verbs are refused while there are any
    last_error: Exception | None  # what the last error reply told
    pieces: object  # what a rare verb has left to do, which is its host's matter; None: it is through
    has_written: bool  # it had hits or leaves; whoever carries it sets this back when their answers may leave
    answers_late: bool  # the transport is to hold the output back for a while: it answers a wrong token
    resp_version: int  # 2, or 3 after HELLO 3; 0 for MessagePack
    began_ms: int  # index time of the first bytes; 0 before
    reply: str  # CLIENT REPLY: "on", "off" or "skip" (omits this reply and the next)

    work: int  # work done in this turn, in units of about a hit; rare verbs add what they cost

    def receive(self, data: bytes | bytearray | memoryview, *, now_ms: int) -> None:
        """Take bytes from the peer and answer complete messages.

        Stops when the input is used up, more than `max_output` bytes of output wait, or about a millisecond of work is
        done. `has_work` says whether there is more to do.
        """

    def proceed(self, *, now_ms: int) -> None:
        """Continue with waiting input, like `receive` without new bytes. Call this while `has_work`."""

    def take_output(self) -> bytes:
        """Return and clear all waiting output."""

    def close(self) -> None:
        """Stop reading input. Waiting output can still be sent. For QUIT and for the server."""

    def deafen(self) -> None:
        """Throw away what comes from now on. Messages can still be sent."""
    def forget_input(self) -> None:
        """Free the input of a connection that is closing. Not from inside a verb."""

    def release(self) -> None:
        """Free everything and be counted no more: at the end of a connection, by whoever carried it. Idempotent.

        Without it this waits until nobody refers to the connection any more.
        """

    def reset(self) -> None:
        """Return to the state of a new connection in the same dialect (RESET). Keeps input and output."""

    def fail(self, error: Exception) -> None:
        """Send an error that does not answer a message, and close. For timeouts and limits of the server."""

    @property
    def input_bytes(self) -> int:
        """Input that waits, with the command that is being answered."""
    @property
    def output_bytes(self) -> int:
        """Bytes of waiting output."""
    @property
    def buffered_bytes(self) -> int:
        """Bytes of waiting input and output, and of what an open transaction keeps."""
    @property
    def has_work(self) -> bool:
        """Complete messages may be waiting: call `proceed` once output was sent, or at once if there is none."""
    @property
    def awaited(self) -> Future[Any] | None:
        """The reply of a verb that the host does not have yet. Call `proceed` once it is done; until then there is no
        work, and no more is to be received."""
    @property
    def is_closing(self) -> bool:
        """No more input is read. Close the connection once the output was sent."""
    @property
    def heard_ms(self) -> int:
        """Index time of the last bytes; 0 before."""
    @property
    def is_partly_answered(self) -> bool:
        """A reply has begun, and goes on in a later turn: nothing else may be sent now."""
    @property
    def in_transaction(self) -> bool:
        """Verbs are being kept for EXEC."""
    @property
    def in_frame(self) -> bool:
        """A message has begun but is not complete."""
    @property
    def frames(self) -> int:
        """The number of complete messages so far."""
