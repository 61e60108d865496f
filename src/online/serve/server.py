"""The server: sockets, TLS, housekeeping and shutdown, in one Trio run. The only file that opens sockets.

Not its job: what bytes mean (wire), what verbs do (index, verbs), what is in the state file (state), and the course
of a connection. That is a sans-I/O object, and two transports drive it: streams (streams.py), an ordinary Trio task
for each connection, and the reactor (reactor.pyx), plain sockets served by C code, all by one Trio task.

Invariants:
1. A connection that fails ends alone, and is counted. A housekeeping task that fails ends the server, and
   says so.
2. A state file is written after the last hit was answered, and never by a server whose housekeeping failed.
"""

import errno
import logging
import math
import os
import resource
import signal
import socket
import ssl
import stat
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import trio

from online import __version__, errors, files
from online.core.sites import Sites
from online.core.wire import Connection
from online.errors import ConfigError, OnlineError, StateError
from online.keep import state
from online.serve import config
from online.serve.clock import Clock
from online.serve.config import Address, Config
from online.serve.streams import GRACE_S, ProgressListener, Streams
from online.serve.syslog import Settings, Syslog
from online.serve.verbs import Verbs
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

HAS_REACTOR = sys.platform == "linux"
if sys.platform == "linux":
    from online.core.reactor import Reactor

#: Descriptors beside those of connections: listeners, files, and whatever libraries hold.
SPARE_FILES = 64

#: After accept(2) failed for want of descriptors or memory.
ACCEPT_PAUSE_S = 0.1
ACCEPT_CAPACITY_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

#: Faults of the server that are logged with a traceback; more are counted alone, so as not to fill a disk.
TRACEBACKS = 20

#: Lines about wrong tokens and failed TLS.
WARNINGS_A_MINUTE = 10

logger = logging.getLogger("online")


class Statistics(NamedTuple):
    """What a server is doing. INFO tells more."""

    connections: int  #: open now
    connections_accepted: int
    connections_failed: int  #: ended by a fault of the server
    buffered_bytes: int  #: waiting input and output
    users: int
    pages: int
    limits: dict[str, int]  #: how often each was reached
    clock_steps: int


class _Ration:
    """How often strangers may have something logged: they must not fill a disk."""

    def __init__(self) -> None:
        self._began = -math.inf
        self._taken = 0
        self._left_out = 0

    def take(self, now_s: float) -> int | None:
        """Return how many lines were left out since the last that was not, or None if this one is to be, too."""
        if now_s - self._began >= 60:
            self._began, self._taken = now_s, 0
        if self._taken == WARNINGS_A_MINUTE:
            self._left_out += 1
            return None
        self._taken += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Host:
    """What both transports ask of the server."""

    def __init__(self, server: "Server") -> None:
        self.server = server

    def begin(self) -> tuple[Connection, OnlineError | None]:
        self.server.counts.connections_accepted += 1
        return self.server.verbs.connect(), self.server.refusal()

    def end(self, connection: Connection) -> None:
        self.server.verbs.disconnect(connection)

    def reached(self, limit: str) -> None:
        self.server.reached(limit)

    def no_room(self, code: int) -> None:
        self.server.no_room(code)

    def failed(self) -> None:
        self.server.failed()

    def failed_handshake(self, connection: Connection, error: Exception) -> None:
        self.server.suspected(connection, f"TLS failed: {_why_no_handshake(error)}")

    def bound_buffers(self) -> None:
        self.server.bound_buffers()


class Server:
    """A server and its sites.

        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server.run)
            ...
            server.stop()
    """

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        """Make a server that does nothing yet. Raises ConfigError when TLS files cannot be used."""
        self.config = config
        self.limits = config.limits
        self.clock = clock or Clock()
        self.sites = Sites(config.limits, window_s=config.window_s)
        self.verbs = Verbs(self.sites, token=config.token)
        self.verbs.started_ms = self.clock.now_ms()
        self.verbs.suspected = lambda connection: self.suspected(connection, "a wrong token")
        self.service = self.verbs.service
        self.counts = self.verbs.counts
        self._tls = _tls_context(config)
        self.syslog = Syslog(_syslog_settings(config), self.sites, self.service, self.clock.now_ms)
        if config.syslog:
            self.verbs.syslog = self.syslog.counts
        host = _Host(self)
        self._streams = Streams(host, self.service, self.clock.now_ms)
        self._reactor = self._make_reactor(host)
        self._reactor_rests = trio.CancelScope()
        self._ration = _Ration()
        self.addresses: tuple[Address, ...] = ()  #: where it listens
        self.listening = trio.Event()
        self._stop = trio.Event()
        self._failure = ""

    # Its life

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read the state file, listen, and serve until `stop` is called; then save the state.

        Reports the bound addresses as started. Raises ConfigError or StateError when it cannot start, and
        OnlineError when housekeeping or saving has failed. When cancelled it ends at once, saving nothing.
        """
        if not SEEN_MIN_MS <= self.clock.now_ms() <= SEEN_MAX_MS:
            raise errors.implausible_clock(self.clock.now_ms())
        with state.hold(self.config.state) if self.config.state is not None else nullcontext():
            self._load_state()
            with self.syslog.open():
                await self._run(task_status)
            self._save_state()

    async def _run(self, task_status: trio.TaskStatus[tuple[Address, ...]]) -> None:
        """Listen and serve until `stop` is called. Raises OnlineError when housekeeping has failed."""
        async with _listeners(self.config, self._tls) as listeners:
            self.addresses = tuple(address for address, _ in listeners)
            for address in self.syslog.addresses:
                logger.info("receives syslog at %s", address)
            logger.info("online %s listens on %s", __version__, self._told(listeners))
            async with trio.open_nursery() as house:
                house.start_soon(self._keep, self._expire)
                house.start_soon(self._keep, self._follow_clock)
                house.start_soon(self._keep, self.syslog.run)
                async with trio.open_nursery() as visitors:
                    if self._reactor is not None:
                        visitors.start_soon(self._keep, self.serve_sockets)
                    async with trio.open_nursery() as doors:
                        for _, listener in listeners:
                            if self._reactor is not None and isinstance(listener, trio.SocketListener):
                                self._reactor.listen(listener.socket.fileno())
                            else:
                                doors.start_soon(self._keep, self._accept, listener, visitors)
                        self.listening.set()
                        task_status.started(self.addresses)
                        await self._stop.wait()
                        logger.info("stopping, %d connections", self.connections)
                        doors.cancel_scope.cancel()
                    self._end_sockets()
                    for _, listener in listeners:
                        await listener.aclose()
                    visitors.start_soon(self._end_streams, visitors.cancel_scope)
                house.cancel_scope.cancel()
        if self._failure:
            raise OnlineError(self._failure)

    def stop(self) -> None:
        """Accept nobody more, answer what has been read, save the state, end `run`."""
        self._stop.set()

    def _told(self, listeners: list[tuple[Address, trio.abc.Listener[trio.abc.Stream]]]) -> str:
        """Say where the server listens, and what clients need there."""
        told = [str(address) for address, _ in listeners]
        if any(isinstance(listener, trio.SSLListener) for _, listener in listeners):
            told.append("TLS over TCP")
        if self.config.token is not None:
            told.append("token wanted")
        return ", ".join(told)

    @property
    def connections(self) -> int:
        """Connections that are open, without those that were too many. O(1)."""
        return self._streams.connections + (self._reactor.connections if self._reactor is not None else 0)

    def statistics(self) -> Statistics:
        """Return what the server is doing. O(sites)."""
        totals = self.verbs.totals()
        return Statistics(
            connections=self.connections,
            connections_accepted=self.counts.connections_accepted,
            connections_failed=self.counts.connections_failed,
            buffered_bytes=self.service.buffered_bytes + self.service.sending_bytes,
            users=totals.users,
            pages=totals.pages,
            limits=dict(self.counts.limits) | {"max_sites_reached": self.sites.max_reached},
            clock_steps=self.clock.steps,
        )

    def _load_state(self) -> None:
        path = self.config.state
        if path is None:
            return
        files.check(path)
        loaded = state.load(path, self.sites, self.clock.now_ms, clock_step_ms=self.service.clock_step_ms)
        if not loaded.is_found:
            logger.info("no state file %s yet, beginning empty", path)
            return
        if loaded.damage:
            kept = state.damaged(path)
            logger.warning("state file %s is damaged, it is now %s: %s", path, kept, loaded.damage)
        if loaded.refused:
            logger.warning("state file %s: %d users were refused at a limit", path, loaded.refused)
        logger.info(
            "read %d users from %s; %d more had left the window meanwhile", loaded.users, path, loaded.late
        )

    def _save_state(self) -> None:
        if self.config.state is None:
            return
        try:
            users = state.save(self.config.state, self.sites, clock_step_ms=self.service.clock_step_ms)
        except StateError as error:
            raise OnlineError(str(error)) from None
        logger.info("saved %d users to %s", users, self.config.state)

    # Housekeeping

    async def _keep(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task that must not fail; if it does, say so and stop the server."""
        try:
            await task(*args)
        except Exception as error:
            self._failure = f"housekeeping failed: {task.__name__.strip('_')}: {error!r}"
            logger.exception("%s; stopping", self._failure)
            self.stop()

    async def _next_second(self) -> None:
        """Sleep until the next full second of index time: a server that nobody uses wakes up no oftener."""
        await trio.sleep(1 - self.clock.now_ms() % 1000 / 1000)

    async def _expire(self) -> None:
        """Expire as soon as something is due: by the grain of the window, at full seconds alone."""
        while True:
            await self._next_second()
            self.verbs.expire(self.clock.now_ms())

    async def _follow_clock(self) -> None:
        while True:
            await self._next_second()
            moved_ms = self.clock.follow()
            if moved_ms:
                self.service.clock_step_ms = self.clock.step_ms
                self.counts.clock_steps = self.clock.steps
                logger.warning("the wall clock was set by %+.1f s; ages are kept", moved_ms / 1000)

    # Accepting

    async def _accept(self, listener: trio.abc.Listener[trio.abc.Stream], visitors: trio.Nursery) -> None:
        """Start a task for each connection that comes in. While the system has no room, they queue there."""
        if isinstance(listener, trio.SocketListener):
            listener = ProgressListener(listener)
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in ACCEPT_CAPACITY_ERRORS:
                    raise
                self.no_room(error.errno)
                await trio.sleep(ACCEPT_PAUSE_S)
            else:
                visitors.start_soon(self.serve_stream, stream)

    # The reactor

    def _make_reactor(self, host: _Host) -> "Reactor | None":
        wanted = self.config.transport
        if wanted == "reactor" and not HAS_REACTOR:
            raise ConfigError("transport reactor needs epoll, which this system does not have")
        return Reactor(host, self.service) if HAS_REACTOR and wanted != "streams" else None

    def adopt(self, connected: socket.socket) -> None:
        """Serve a connected socket by the reactor, which owns it from here on."""
        assert self._reactor is not None
        self._reactor.adopt(connected.detach(), now_ms=self.clock.now_ms())
        self._reactor_rests.cancel()

    async def serve_sockets(self) -> None:
        """Let the reactor serve its sockets in turns, until the server stops and the last has gone."""
        reactor = self._reactor
        assert reactor is not None
        try:
            while reactor.sockets or not self._stop.is_set():
                if reactor.turn(self.clock.now_ms()):
                    await trio.lowlevel.checkpoint()
                    continue
                rest_s = reactor.rest_s(self.clock.now_ms())
                self._reactor_rests = trio.CancelScope(deadline=trio.current_time() + rest_s)
                with self._reactor_rests:
                    await trio.lowlevel.wait_readable(reactor.fileno())
        finally:
            trio.lowlevel.notify_closing(reactor.fileno())
            reactor.close()

    def _end_sockets(self) -> None:
        """Accept nobody more there; end who rests between messages now, and the others as soon as they do."""
        if self._reactor is not None:
            self._reactor.end(now_ms=self.clock.now_ms())
            self._reactor_rests.cancel()

    # Streams

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, over any stream, until one side ends it; close the stream."""
        await self._streams.serve(stream)

    async def _end_streams(self, everybody: trio.CancelScope) -> None:
        """End who rests between messages now, and everybody after GRACE_S."""
        self._streams.end()
        everybody.deadline = trio.current_time() + GRACE_S

    # Limits that all connections share, whatever drives them

    def refusal(self) -> OnlineError | None:
        """Return why another connection is to be sent away, if it is, and count that."""
        if self.connections < self.limits.max_connections:
            return None
        self.reached("max_connections_reached")
        return errors.too_many_connections()

    def bound_buffers(self) -> None:
        """Close the largest connections while all together have more waiting than they may."""
        excess = self.service.buffered_bytes + self.service.sending_bytes - self.limits.max_buffers
        if excess <= 0:
            return
        sizes = self._streams.sizes()
        if self._reactor is not None:
            sizes += self._reactor.sizes()
        for size, largest in sorted(sizes, key=itemgetter(0), reverse=True):
            self._close_for_its_size(largest)
            excess -= size
            if excess <= 0:
                return

    def _close_for_its_size(self, largest: Connection) -> None:
        """Tell a connection that it is closed because of max_buffers, unless it is being ended anyway."""
        error = errors.too_much_waiting(self.limits.max_buffers)
        is_news = self._streams.part(largest, error)
        if self._reactor is not None and self._reactor.part(largest, error, now_ms=self.clock.now_ms()):
            is_news = True
            self._reactor_rests.cancel()
        if is_news:
            self.reached("max_buffers_reached")

    def no_room(self, code: int) -> None:
        """Count that the system had no descriptor or memory for a connection; say so the first time."""
        if not self.counts.limits["open_files_reached"]:
            logger.warning("no room for another connection: %s; INFO counts how often", os.strerror(code))
        self.reached("open_files_reached")

    def reached(self, limit: str) -> None:
        self.counts.limits[limit] += 1

    def suspected(self, connection: Connection, what: str) -> None:
        """Log that somebody may have no business here; who does it often is not logged each time."""
        left_out = self._ration.take(trio.current_time())
        if left_out is not None:
            more = f"; {left_out} more of such were not logged" if left_out else ""
            logger.warning("%s from %s%s", what, self._address_of(connection), more)

    def _address_of(self, connection: Connection) -> str:
        """Return where a connection comes from, as far as that is known."""
        fd = self._streams.fd_of(connection)
        if fd < 0 and self._reactor is not None:
            fd = self._reactor.fd_of(connection)
        return "an unknown address" if fd < 0 else _told_address(fd)

    def failed(self) -> None:
        self.counts.connections_failed += 1
        if self.counts.connections_failed <= TRACEBACKS:
            logger.exception("a connection failed; the others go on")


# Listeners


@asynccontextmanager
async def _listeners(
    config: Config, tls: ssl.SSLContext | None
) -> AsyncIterator[list[tuple[Address, trio.abc.Listener[trio.abc.Stream]]]]:
    """Open all listeners, or none; close them at the end, and remove the sockets of Unix ones."""
    opened: list[tuple[Address, trio.SocketListener]] = []
    inodes: dict[Path, int] = {}
    try:
        for address in config.listen:
            try:
                if address.path is None:
                    opened += await _open_tcp(address)
                else:
                    opened.append((address, await _open_unix(address.path, config.unix_mode)))
                    inodes[address.path] = address.path.stat().st_ino
            except (OSError, UnicodeError) as error:
                raise ConfigError(_why_not(address, error)) from None
        yield [(address, _with_tls(address, listener, tls)) for address, listener in opened]
    finally:
        for _, listener in opened:
            listener.socket.close()
        for path, inode in inodes.items():
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()


async def _open_tcp(address: Address) -> list[tuple[Address, trio.SocketListener]]:
    """Listen at all addresses of a host."""
    listeners = await trio.open_tcp_listeners(address.port, host=address.host)
    names = [listener.socket.getsockname() for listener in listeners]
    return [(Address(name[0], name[1]), listener) for name, listener in zip(names, listeners, strict=True)]


async def _open_unix(path: Path, mode: int | None) -> trio.SocketListener:
    """Listen at a path. Between bind and listen nobody can connect: the mode is set by then."""
    await _remove_stale(path)
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await listening.bind(str(path))
        if mode is not None:
            path.chmod(mode)
        listening.listen(socket.SOMAXCONN)
    except BaseException:
        listening.close()
        raise
    return trio.SocketListener(listening)


async def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at any more. Raises OSError if somebody does, or it is none."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "exists and is no socket")
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            await probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink()
    except FileNotFoundError:
        pass
    else:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _with_tls(
    address: Address, listener: trio.SocketListener, tls: ssl.SSLContext | None
) -> trio.abc.Listener[trio.abc.Stream]:
    """Let the connections of a TCP listener speak TLS."""
    if tls is None or address.path is not None:
        return listener
    return trio.SSLListener(ProgressListener(listener), tls)


def _why_not(address: Address, error: Exception) -> str:
    """Say in one line why nobody can listen at an address."""
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        reason = f"{reason}, another server listens there"
    return f"cannot listen on {address}: {reason}"


def _told_address(fd: int) -> str:
    """Say where a connected socket leads to."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connected:
            name = connected.getpeername()
    except OSError:  # the peer has gone, or no more files may be open
        return "an unknown address"
    return str(Address(name[0], name[1])) if isinstance(name, tuple) else "a Unix socket"


def _why_no_handshake(error: Exception) -> str:
    """Say in one line why TLS did not begin."""
    cause = error.__cause__
    return cause.reason or str(cause) if isinstance(cause, ssl.SSLError) else str(cause or error)


def _tls_context(config: Config) -> ssl.SSLContext | None:
    """Read certificate and key. Raises ConfigError that names the file."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    for name, path in (("tls_cert", config.tls_cert), ("tls_key", config.tls_key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise errors.unusable_file(name, path, error) from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except ssl.SSLError as error:
        raise ConfigError(_why_no_tls(config.tls_cert, config.tls_key, error)) from None
    return context


def _why_no_tls(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    """Say in one line why OpenSSL refuses two files; of most it says no more than `PEM lib`."""
    if b"CERTIFICATE-----" not in certificate.read_bytes():
        return f"tls_cert {certificate} holds no certificate (PEM)"
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return f"tls_key {key} holds no private key (PEM)"
    both = f"tls_cert {certificate} and tls_key {key}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{both} do not belong together: the key is that of another certificate"
    return f"{both} cannot be used: {error.reason or error}"


def _syslog_settings(config: Config) -> Settings:
    return Settings(
        addresses=config.syslog,
        senders=config.syslog_from,
        format=config.syslog_format,
        rules=config.syslog_rules,
        state=config.state,
        unix_mode=config.unix_mode,
    )


def raise_open_files(max_connections: int) -> None:
    """Raise the limit on open files to fit; if the system does not let us, log a warning."""
    wanted = max_connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    for limits in ((wanted, max(hard, wanted)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (ValueError, OSError):
            continue
        break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        logger.warning("%d open files are allowed: too few for max_connections, %d", soft, max_connections)


# The command

_DESCRIPTION = """\
Run a server that knows who is online now, and on which page. Web servers and applications
send it hits; it answers counts and lists of users, to clients of online and to any Redis
client. It keeps everything in memory.

Every setting can be given as an option, as an environment variable (ONLINE_WINDOW for
--window) or as a key of a TOML file (window = 1800). An option goes before a variable, a
variable before the file. Sizes may be written 64KiB or 1MiB, times 90, 90s, 30min or 2h.

The server ends at SIGTERM and SIGINT (Ctrl-C); with --state, a restart forgets nobody."""

_EXAMPLES = """\
examples:
  online serve
  online serve --state /var/lib/online/state --listen 127.0.0.1:8989 --listen unix:/run/online.sock
  online serve --listen 0.0.0.0:8989 --token-file /etc/online/token --tls-cert cert.pem --tls-key key.pem

then, from another terminal:
  redis-cli -p 8989 HIT theo /forum/1
  redis-cli -p 8989 PAGE /forum/1 30"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online serve`."""
    parser.usage = "online serve [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    config.add_arguments(parser)


def run(args: Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises OnlineError when it cannot start or has failed."""
    settings = config.load(vars(args), os.environ)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.WARNING if settings.quiet else logging.INFO,
    )
    raise_open_files(settings.limits.max_connections)
    trio.run(serve, Server(settings))
    return 0


async def serve(server: Server, beside: Callable[[Server], Awaitable[None]] | None = None) -> None:
    """Run `server` until SIGTERM or SIGINT, and `beside` as long. Raises what `Server.run` raises."""
    failure = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_at_signal, server)
        if beside is not None:
            nursery.start_soon(beside, server)
        try:
            await server.run()
        except OnlineError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_at_signal(
    server: Server, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            server.stop()
