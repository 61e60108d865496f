"""Serves plain TCP and Unix sockets in C, with its own epoll set. Linux only.

Its owner waits until `fileno()` is readable, or for `rest_s()`, and then calls `turn`, which does not block, until no
work is left. Or its owner has an epoll set, too, and lets `wait` wait for both: that takes one system call for each
question, where it takes four the other way.
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

    is_host_wanted: bool
    """To be set when the host has something to do, so that `wait` returns."""

    def host(self, fd: int) -> None:
        """Say what the host waits at: an epoll set of which this one is no part. Once; raises OSError."""

    def wait(self, for_s: float, now_ms: Callable[[], int]) -> bool:
        """Wait in the host's place for `for_s`, and serve peers meanwhile, in turns. With 0, only see who is ready.

        Returns early if something has come where the host waits; or if the host is wanted, a turn leaves work, the last
        peer has gone at the end, or after a signal. Tells whether the host may go on as if it had waited itself: not if
        its own time is over, or the owner is to take a turn. Raises OSError as `turn` does.
        """

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
