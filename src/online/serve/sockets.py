"""Plain sockets: a reactor, and the one Trio task that lets it serve them in turns. Linux only.

Not its job: what happens in a turn (reactor.pyx), and to open sockets (listeners.py).

Where Trio waits with epoll, too, the reactor waits in its place, with Trio's set in its own: then who asks one
question after the other costs no pass of Trio's loop for each. `_InPlaceOfTrio` does that, for one server in a run.
Otherwise the task waits like any other. In both ways Trio goes on as soon as it has anything to do.
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

_is_replaced: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("online: a reactor waits in Trio's place", False)


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
        descriptor = -1 if _is_replaced.get() else _epoll_of_trio()
        instead = _InPlaceOfTrio(reactor, self._now_ms, descriptor) if descriptor >= 0 else None
        try:
            while reactor.sockets or not self._is_ending:
                if reactor.turn(self._now_ms()):
                    await trio.lowlevel.checkpoint()
                    continue
                rest_s = reactor.rest_s(self._now_ms())
                self._rest = trio.CancelScope(deadline=trio.current_time() + rest_s)
                with self._rest:
                    if instead is None:
                        await trio.lowlevel.wait_readable(reactor.fileno())
                    else:
                        await instead.wait()
        finally:
            if instead is None:
                trio.lowlevel.notify_closing(reactor.fileno())
            else:
                instead.end()
            reactor.close()

    def end(self) -> None:
        """Accept nobody more; end who rests between messages now, and the others as soon as they do."""
        self._is_ending = True
        self.reactor.end(now_ms=self._now_ms())
        self.wake()

    def wake(self) -> None:
        """Take a turn soon, even if nothing comes."""
        self._rest.cancel()


class _InPlaceOfTrio(trio.abc.Instrument):
    """Lets a reactor wait for its own peers and for Trio at once, whenever Trio is about to wait.

    Trio has computed before how long it may wait. So if anything but its own set ended the wait, it is woken. While it
    has something to do, its waits take no time, but each lets peers be served: other tasks never keep them waiting.
    """

    def __init__(self, reactor: "Reactor", now_ms: Callable[[], int], descriptor: int) -> None:
        """Begin; `descriptor` is what Trio waits at."""
        self._reactor = reactor
        self._now_ms = now_ms
        self._trio = trio.lowlevel.current_trio_token()
        self._turn: trio.Event | None = None  # while the task waits
        self._failure: Exception | None = None
        reactor.host(descriptor)
        trio.lowlevel.add_instrument(self)
        _is_replaced.set(True)

    def end(self) -> None:
        """Let Trio wait itself again."""
        trio.lowlevel.remove_instrument(self)
        _is_replaced.set(False)

    async def wait(self) -> None:
        """Wait until the task is to take a turn itself. Raises what a turn has raised meanwhile."""
        self._turn = trio.Event()
        try:
            await self._turn.wait()
        finally:
            self._turn = None
        if self._failure is not None:
            raise self._failure

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Trio has something to do."""
        self._reactor.is_host_wanted = True

    def before_io_wait(self, timeout: float) -> None:
        """Wait, unless the task has something to do; where Trio has, too, see who is ready."""
        if self._turn is None:
            return
        self._reactor.is_host_wanted = False
        try:
            if self._reactor.wait(timeout, self._now_ms):
                return
        except Exception as error:
            self._failure = error
        self._turn.set()
        self._trio.run_sync_soon(_nothing, idempotent=True)


def _nothing() -> None:
    """Be called, which is all that it takes to wake Trio."""


def _epoll_of_trio() -> int:
    """Return the descriptor of the set at which Trio waits, or -1 if there is none, or time does not pass by itself.

    Trio tells both to nobody. Without them, servers work, but a question costs more.
    """
    try:
        run = trio._core._run
        runner = run.GLOBAL_RUN_CONTEXT.runner
        is_real = isinstance(runner.clock, run.SystemClock) and not runner.is_guest
        return runner.io_manager._epoll.fileno() if is_real else -1
    except AttributeError:
        return -1
