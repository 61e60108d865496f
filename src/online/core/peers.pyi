"""Sockets with their connections, for a reactor. Linux only."""

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
    def replied(self, _awaited: object) -> None:
        """Take note that the reply that the connection awaits is there."""
    def fail(self, error: OnlineError, *, now_ms: int) -> bool:
        """End with `error` as the last reply, unless a reply is half sent. Returns False if it was ending already."""

class Peers:
    """The peers of a reactor, which alone creates one: see `Reactor`, which is a `Peers`."""

    def __init__(self, connections: Connections, service: Service, wake: Callable[[], None]) -> None:
        """Begin without sockets, with the limits of `service`. Raises OSError.

        `wake` is called when a turn is needed before `rest_s()` is over.
        """

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is work for a turn; -1 once closed."""
    @property
    def sockets(self) -> int:
        """The number of open connections. O(1)."""
