"""Serves plain TCP and Unix sockets in C, with its own epoll set. Linux only.

A `Reactor` never blocks. Its owner waits until `fileno()` is readable, or for `rest_s()`, and then calls `turn` until
no work is left.
"""

from collections.abc import Callable
from typing import Protocol

from online.core.connection import Connection, Service
from online.errors import OnlineError

class Connections(Protocol):
    """What a reactor needs from its server (serve/connections.py)."""

    def open(self, peer: Peer) -> tuple[Connection, OnlineError | None]:
        """Begin a connection for an accepted socket. Returns an error too if it must end at once."""

    def closed(self, connection: Connection) -> None:
        """Forget a connection that has ended."""

    def bound_buffers(self, *, now_ms: int) -> None:
        """End the connections with the most waiting data, because all together exceed max_buffers."""

    def reached(self, limit: str) -> None:
        """Count that a limit was reached: `slow`, `frame_timeout` or `auth_timeout`."""

    def no_room(self, code: int) -> None:
        """Count a failure of accept(2) for lack of descriptors or memory. `code` is its errno."""

    def failed(self) -> None:
        """Count a connection that was ended by the exception being handled."""

class Peer:
    """A socket with its connection. Only the reactor creates peers."""

    def fileno(self) -> int:
        """Return the descriptor of the socket, which the peer owns; -1 once it is closed."""
    @property
    def waiting_bytes(self) -> int:
        """Bytes of waiting input and output."""
    @property
    def has_room(self) -> bool:
        """The other end has all that was sent, but for 8 KiB: it takes what it is told."""
    def offer(self, message: bytes, *, now_ms: int) -> bool:
        """Send a message that answers nothing. Returns False, and has sent nothing, if more than 8 KiB wait."""
    def replied(self, awaited: object) -> None:
        """Take note that the reply that the connection awaits is there."""
    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """End with `error` as the last reply, unless a reply is half sent. Returns False if it was ending already."""

class Reactor:
    def __init__(self, connections: Connections, service: Service, wake: Callable[[], None]) -> None:
        """Begin without sockets, with the limits of `service`. Raises OSError.

        `wake` is called when a turn is needed before `rest_s()` is over.
        """

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is work for a turn; -1 once closed."""

    def listen(self, fd: int) -> None:
        """Accept connections from a non-blocking listening socket, which the caller still owns. Raises OSError."""

    def adopt(self, fd: int, *, now_ms: int) -> None:
        """Serve a connected socket, and take ownership of it."""

    def take_over(self, fd: int, connection: Connection, *, now_ms: int) -> Peer:
        """Serve a connected socket whose connection has begun elsewhere, and own both. Raises OSError."""
    def turn(self, now_ms: int) -> bool:
        """Serve peers that are ready, for about a millisecond, and end those past a deadline.

        Returns whether work is left. Raises OSError if a system call fails that must not fail.
        """

    def rest_s(self, now_ms: int) -> float:
        """Return after how long a turn is needed even if the set is not readable; can be infinite."""

    def end(self, *, now_ms: int) -> None:
        """Stop accepting, answer what has arrived, and end each connection when it is idle. O(connections)."""

    def close(self) -> None:
        """Close all connections, and the set."""

    noted: Callable[[str, int, str | None, int], None] | None
    """Told of each turn, step or wait of 10 ms or more.

    It is called with the name, the time in ns, the last verb in it or None, and how much of the time the processor
    worked for this thread since its turn began, or for a wait, since the turn before it began.
    """

    def take_times(self) -> dict[str, tuple[list[int], int]]:
        """Return the times of each `turn`, `step` and `wait` between turns since the last call, and begin anew.

        Each as counts of the times below 2^n microseconds for n from 0 to 27 (the last counts longer ones, too), and
        the longest in ns.
        """
    @property
    def sockets(self) -> int:
        """The number of open connections. O(1)."""
