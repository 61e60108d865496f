"""Plain TCP and Unix sockets served by C code over an epoll set of their own. Linux only.

A `Reactor` never waits. Whoever owns it waits until `fileno()` is readable, or for `rest_s()`, and then calls `turn`
until no work is left.
"""

from typing import Protocol

from online.core.connection import Connection, Service
from online.errors import OnlineError

FAREWELL_MS: int
ACCEPT_PAUSE_MS: int

class Host(Protocol):
    """What a reactor needs from above: connections, and somebody to tell."""

    def begin(self) -> tuple[Connection, OnlineError | None]:
        """Begin the connection of a socket that has come in, with the reason if it is to end at once."""

    def end(self, connection: Connection) -> None:
        """Forget a connection that has ended."""

    def reached(self, limit: str) -> None:
        """Count that a limit was reached: `slow`, `frame_timeout` or `auth_timeout`."""

    def no_room(self, code: int) -> None:
        """Count that accept(2) had no descriptor or memory; `code` is its errno."""

    def failed(self) -> None:
        """Count a connection that was ended by the exception being handled."""

    def bound_buffers(self) -> None:
        """End the largest connections: all together have more waiting than max_buffers."""

class Reactor:
    def __init__(self, host: Host, service: Service) -> None:
        """Begin with no sockets, and the limits of `service`. Raises OSError."""

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

    def fd_of(self, connection: Connection) -> int:
        """Return the socket of a connection, which stays the reactor's, or -1. O(connections)."""

    def sizes(self) -> list[tuple[int, Connection]]:
        """Return every connection with its waiting input and output, in bytes. O(connections)."""

    def part(self, connection: Connection, error: OnlineError, *, now_ms: int) -> bool:
        """End a connection with `error` as its last reply, unless a reply is half sent: then without.

        Return whether this is news. O(connections).
        """

    def end(self, *, now_ms: int) -> None:
        """Accept nobody more, answer what has come, and end each connection as soon as it rests. O(connections)."""

    def close(self) -> None:
        """Close all connections, and the set."""

    @property
    def connections(self) -> int:
        """Connections that are open, without those that were too many. O(1)."""
    @property
    def sockets(self) -> int:
        """Sockets of connections that are open. O(1)."""
