"""The hottest requests of HTTP, answered in C on connections that a reactor carries. See ext/gets.pyx. Linux only."""

from collections.abc import Callable, Sequence

from online.core.connection import Connection

#: Paths whose requests are answered here, if they come as this module wants them.
PATHS: tuple[bytes, ...]

#: Who goes on with a connection: it is given the socket, the connection, and the input that was not answered.
Leave = Callable[[int, Connection, bytes], None]

class Gets:
    """What the connections of a server that ask by GETS share."""

    def __init__(self, write_head: Callable[[int], bytes], bounds_s: Sequence[float]) -> None:
        """`write_head` returns what stands before the length of each answer, at a wall time in seconds.

        `bounds_s` are the upper bounds of the buckets that times are counted in, ascending.
        """

    def take(self, connection: Connection, tail: bytes, home: bytes, leave: Leave) -> None:
        """Let a connection ask by GETS from here on, whoever carries it.

        It has its site and its rights, which hold for each request that ends with `tail`: all from the blank before
        the version to the end of the headers. `home` is the site of a request that names none.
        """

    def take_times(self) -> dict[str, tuple[float, list[int]]]:
        """Return the times of questions since the last call, by verb: their sum in seconds, and counts by bucket."""
