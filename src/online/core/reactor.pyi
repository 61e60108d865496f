"""Plain TCP and Unix sockets served by C code over an epoll set of their own. Linux only.

A `Reactor` never waits. Whoever owns it waits until `fileno()` is readable, or for `rest_s()`, and then calls `turn`
until no work is left.
"""

from collections.abc import Callable
from typing import Protocol

from online.core.connection import Connection, Service
from online.errors import OnlineError

class Connections(Protocol):
    """What a reactor needs of the connections of its server (serve/connections.py)."""

    def open(self, peer: Peer) -> tuple[Connection, OnlineError | None]:
        """Begin the connection of a socket that has come in, with the reason if it is to end at once."""

    def closed(self, connection: Connection) -> None:
        """Forget a connection that has ended."""

    def bound_buffers(self, *, now_ms: int) -> None:
        """End the largest: all together have more waiting than max_buffers."""

    def reached(self, limit: str) -> None:
        """Count that a limit was reached: `slow`, `frame_timeout` or `auth_timeout`."""

    def no_room(self, code: int) -> None:
        """Count that accept(2) had no descriptor or memory; `code` is its errno."""

    def failed(self) -> None:
        """Count a connection that was ended by the exception being handled."""

class Peer:
    """A socket with its connection. The reactor alone makes them."""

    def fileno(self) -> int:
        """Return the socket, which stays the peer's, or -1 once it is closed."""
    @property
    def waiting_bytes(self) -> int:
        """Input and output that wait."""
    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """Say why, then end: with `error` as the last reply, unless one is half sent. Return whether this is news."""

class Reactor:
    def __init__(self, connections: Connections, service: Service, wake: Callable[[], None]) -> None:
        """Begin with no sockets, and the limits of `service`. Raises OSError.

        `wake` is called when a turn is wanted although nobody waits for less than `rest_s()`.
        """

    def fileno(self) -> int:
        """Return the descriptor that is readable when a turn would find something to do; -1 once closed."""

    def listen(self, fd: int) -> None:
        """Accept connections from a listening socket, which stays its owner's and must not block. Raises OSError."""

    def adopt(self, fd: int, *, now_ms: int) -> None:
        """Serve a connected socket, and own it from here on."""

    def turn(self, now_ms: int) -> bool:
        """Serve who is ready, for about a millisecond, and end whose time is over. Return whether work is left.

        Raises OSError when the system refuses what it must not.
        """

    def rest_s(self, now_ms: int) -> float:
        """Return after how long a turn is wanted although the set is not readable; may be infinite."""

    def end(self, *, now_ms: int) -> None:
        """Accept nobody more, answer what has come, and end each connection as soon as it rests. O(connections)."""

    def close(self) -> None:
        """Close all connections, and the set."""

    @property
    def sockets(self) -> int:
        """Sockets of connections that are open. O(1)."""
