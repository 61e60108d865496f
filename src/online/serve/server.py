"""A server: the tree of its tasks, and the order in which they end.

Not its job: what the tasks do. Connections are served by two transports, streams and sockets, and known to one hub
(connections); what else a server does are its parts (parts.py), which it does not know by name.

Invariants:
1. A connection that fails ends alone, and is counted. A housekeeping task that fails ends the server, and says so.
2. The parts are open before anybody can connect, and close after the last connection has ended.
"""

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

import trio

from online import __version__, errors
from online.core.sites import Sites
from online.errors import ConfigError, OnlineError
from online.pieces import whole
from online.serve import housekeeping, listeners, sockets, tls
from online.serve.clock import Clock
from online.serve.config import Address, Config
from online.serve.listeners import Listener
from online.serve.parts import Part
from online.serve.slices import Slices
from online.serve.sockets import Sockets
from online.serve.streams import Streams
from online.serve.tokens import Tokens
from online.serve.verbs import Verbs
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

logger = logging.getLogger("online")


class Statistics(NamedTuple):
    """What a server is doing. INFO tells more."""

    connections: int  #: open now
    connections_accepted: int
    connections_failed: int  #: ended by a fault of the server
    buffered_bytes: int  #: waiting input and output
    users: int
    pages: int
    limits: Mapping[str, int]  #: how often each was reached
    clock_steps: int


class Server:
    """A server and its sites.

        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server.run)
            ...
            server.stop()
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, keeps_nothing: bool = False) -> None:
        """Make a server without parts that does nothing yet. Raises ConfigError when TLS files cannot be used.

        One that `keeps_nothing` has empty indexes for ever, and hands hits to whoever observes them.
        """
        self.config = config
        self.clock = clock or Clock()
        served = [name.encode(errors="surrogateescape") for name in config.sites]
        self.sites = Sites(config.limits, window_s=config.window_s, keeps_nothing=keeps_nothing, served=served)
        self.verbs = Verbs(self.sites, Tokens(config.grants))
        self.verbs.started_ms = self.clock.now_ms()
        self.service = self.verbs.service
        self.connections = self.verbs.connections
        self.streams = Streams(self.connections, self.service, self.clock.now_ms)
        self.sockets = self._make_sockets()
        self.parts: list[Part] = []
        self.addresses: tuple[Address, ...] = ()  #: where it listens
        self.listening = trio.Event()
        self.tls = tls.server_context(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
        self.slices = Slices(delays=self.verbs.delays)  #: for long work, whoever does it
        self._stop = trio.Event()
        self._housekeeping = housekeeping.Housekeeping(self.stop)

    def _make_sockets(self) -> Sockets | None:
        wanted = self.config.transport
        if wanted == "reactor" and not sockets.HAS_REACTOR:
            raise ConfigError("transport reactor needs epoll, which this system does not have")
        if wanted == "streams" or not sockets.HAS_REACTOR:
            return None
        return Sockets(self.connections, self.service, self.clock.now_ms, self.verbs.delays)

    def attach(self, part: Part) -> None:
        """Let a part run beside the connections, from the start of `run` on."""
        self.parts.append(part)
        self.verbs.sections.update(part.info())

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Open the parts, listen, and serve until `stop` is called.

        Reports the bound addresses as started. Raises OnlineError when it cannot start, and when housekeeping or a
        part has failed. When cancelled it ends at once.
        """
        if not SEEN_MIN_MS <= self.clock.now_ms() <= SEEN_MAX_MS:
            raise errors.implausible_clock(self.clock.now_ms())
        async with AsyncExitStack() as stack:
            for part in self.parts:
                await stack.enter_async_context(part.open())
            opened = await stack.enter_async_context(
                listeners.open_listeners(
                    self.config.listen,
                    unix_mode=self.config.unix_mode,
                    tls=self.tls,
                    send_timeout_s=self.config.limits.send_timeout_s,
                )
            )
            self.addresses = tuple(address for address, _ in opened)
            self.verbs.addresses, self.verbs.is_tls = self.addresses, self.tls is not None
            self._tell(opened)
            await self._serve([listener for _, listener in opened], task_status)
            if self._housekeeping.failure:
                raise OnlineError(self._housekeeping.failure)

    def reload(self, config: Config) -> None:
        """Take over the token and the certificate from `config`, and what parts read; all else stays as it is.

        Who is connected stays connected, unless the token is no longer good. Raises ConfigError, and has changed
        nothing then.
        """
        if bool(config.grants) != bool(self.config.grants):
            raise ConfigError("a token can be changed while the server runs, not added or removed; restart the server")
        if self.tls is not None and config.tls_cert and config.tls_key:
            tls.server_context(config.tls_cert, config.tls_key)  # are they good?
        for part in self.parts:
            part.reload()
        if self.tls is not None and config.tls_cert and config.tls_key:
            tls.read_again(self.tls, config.tls_cert, config.tls_key)
        self.verbs.tokens = Tokens(config.grants)
        n_ended = self.connections.revoke(config.grants, now_ms=self.clock.now_ms())
        if n_ended:
            logger.info("%d connection%s ended: the token is no longer good", n_ended, "" if n_ended == 1 else "s")

    def stop(self) -> None:
        """Accept nobody more, answer what has been read, close the parts, end `run`."""
        self._stop.set()

    async def _serve(
        self, opened: list[Listener], task_status: trio.TaskStatus[tuple[Address, ...]]
    ) -> None:
        """Serve until `stop` is called. Who accepts ends first, then connections, then housekeeping."""
        keep = self._housekeeping.keep
        async with trio.open_nursery() as house:
            house.start_soon(keep, "slices", self.slices.run)
            house.start_soon(keep, "expire", housekeeping.expire, self.verbs, self.clock, self.slices)
            house.start_soon(keep, "follow_clock", housekeeping.follow_clock, self.verbs, self.clock)
            house.start_soon(keep, "push", self.verbs.push.run, self.slices, self.clock.now_ms)
            house.start_soon(self._run_parts, house)
            async with trio.open_nursery() as clients:
                if self.sockets is not None:
                    clients.start_soon(keep, "sockets", self.sockets.run)
                for part in self.parts:
                    clients.start_soon(keep, part.name, part.serve)
                async with trio.open_nursery() as accepting:
                    for listener in opened:
                        self._accept(listener, accepting, clients)
                    self.listening.set()
                    task_status.started(self.addresses)
                    await self._stop.wait()
                    n = self.connections.n_counted
                    logger.info("stopping, %d connection%s", n, "" if n == 1 else "s")
                    accepting.cancel_scope.cancel()
                for part in self.parts:
                    part.end()
                if self.sockets is not None:
                    self.sockets.end()
                for listener in opened:
                    await listener.aclose()
                clients.start_soon(self.streams.end, clients.cancel_scope)
            house.cancel_scope.cancel()

    async def _run_parts(self, house: trio.Nursery) -> None:
        """Let all parts load, then run their tasks. Until then nothing comes in but by connections."""
        keep = self._housekeeping.keep
        for part in self.parts:
            await keep(part.name, part.load)
            if self._housekeeping.failure:
                return
        for part in self.parts:
            house.start_soon(keep, part.name, part.run)

    def _accept(self, listener: Listener, accepting: trio.Nursery, clients: trio.Nursery) -> None:
        """Let in who comes: plain sockets to the reactor where there is one, all else to streams."""
        if self.sockets is not None and isinstance(listener, trio.SocketListener):
            self.sockets.listen(listener.socket.fileno())
        else:
            accepting.start_soon(self._housekeeping.keep, "accept", self.streams.accept, listener, clients)

    def _tell(self, opened: list[tuple[Address, Listener]]) -> None:
        """Log where the server and its parts listen, and what clients need there."""
        for part in self.parts:
            for line in part.told():
                logger.info("%s", line)
        told = [str(address) for address, _ in opened]
        if any(isinstance(listener, trio.SSLListener) for _, listener in opened):
            told.append("TLS over TCP")
        if self.config.grants:
            told.append("token wanted")
        logger.info("online %s listens on %s", __version__, ", ".join(told))
        for name in listeners.HANDED.left():
            logger.warning("systemd opened a socket at %s, where this server was not told to listen", name)

    def statistics(self) -> Statistics:
        """Return what the server is doing. O(sites)."""
        totals = whole(self.verbs.totals())
        return Statistics(
            connections=self.connections.n_counted,
            connections_accepted=self.connections.accepted,
            connections_failed=self.connections.failures,
            buffered_bytes=self.service.waiting_bytes,
            users=totals.users,
            pages=totals.pages,
            limits=self.verbs.limits_reached(),
            clock_steps=self.clock.steps,
        )
