"""Plain sockets: a reactor, and the one Trio task that lets it serve them in turns. Linux only.

Not its job: what happens in a turn (reactor.pyx), and to open sockets (listeners.py).
"""

import sys
from collections.abc import Callable

import trio

from online.core.wire import Connection, Service
from online.serve.connections import Connections, Peer
from online.serve.delays import Delays

HAS_REACTOR = sys.platform == "linux"
if sys.platform == "linux":
    from online.core.reactor import Reactor


class Sockets:
    """The connections of a server that are served by a reactor."""

    def __init__(
        self, connections: Connections, service: Service, now_ms: Callable[[], int], delays: Delays | None = None
    ) -> None:
        """Begin with no sockets; `now_ms` tells index time. Where there is no epoll, HAS_REACTOR is false."""
        self.reactor = Reactor(connections, service, self.wake)
        if delays is not None:
            self.reactor.noted = delays.incident
            delays.watch(self.reactor.take_times)
        self._now_ms = now_ms
        self._rest = trio.CancelScope()
        self._is_ending = False

    def listen(self, fd: int) -> None:
        """Accept connections from a listening socket, which stays its owner's and must not block."""
        self.reactor.listen(fd)

    def adopt(self, fd: int) -> None:
        """Serve a connected socket, and own it from here on."""
        self.reactor.adopt(fd, now_ms=self._now_ms())
        self.wake()

    def take_over(self, fd: int, connection: Connection) -> Peer:
        """Serve a connected socket whose connection has begun elsewhere, and own both from here on."""
        peer = self.reactor.take_over(fd, connection, now_ms=self._now_ms())
        self.wake()
        return peer

    async def run(self) -> None:
        """Serve in turns, until `end` is called and the last has gone; then close."""
        reactor = self.reactor
        try:
            while reactor.sockets or not self._is_ending:
                if reactor.turn(self._now_ms()):
                    await trio.lowlevel.checkpoint()
                    continue
                rest_s = reactor.rest_s(self._now_ms())
                self._rest = trio.CancelScope(deadline=trio.current_time() + rest_s)
                with self._rest:
                    await trio.lowlevel.wait_readable(reactor.fileno())
        finally:
            trio.lowlevel.notify_closing(reactor.fileno())
            reactor.close()

    def end(self) -> None:
        """Accept nobody more; end who rests between messages now, and the others as soon as they do."""
        self._is_ending = True
        self.reactor.end(now_ms=self._now_ms())
        self.wake()

    def wake(self) -> None:
        """Take a turn soon, even if nothing comes."""
        self._rest.cancel()
