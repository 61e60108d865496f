"""Serves plain TCP and Unix sockets in C, with its own epoll set. Linux only.

A `Reactor` never blocks. Its owner waits until `fileno()` is readable, or for `rest_s()`, and then calls `turn` until
no work is left.
"""

from collections.abc import Callable

from online.core.connection import Connection
from online.core.peers import Peer, Peers

class Reactor(Peers):
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
