"""What the tests of the server share: runs with a clock that jumps, servers, and the peers of their connections."""

import contextlib
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from weakref import WeakSet

import msgpack
import trio
import trio.testing
from tests.wiring import feed

from online.cli.serve import assemble
from online.limits import Limits
from online.serve.clock import Clock
from online.serve.config import Address, Config
from online.serve.keeper import Keeper
from online.serve.past import PastKeeper
from online.serve.sockets import HAS_REACTOR

#: Wall time at the start of a run with a clock that jumps.
START_MS = 1_700_000_000_000

LOCAL = Address("127.0.0.1", 0)

TRANSPORTS = ("streams", "reactor") if HAS_REACTOR else ("streams",)

#: What servers of the running test use.
transport_in_use = ContextVar("transport_in_use", default="streams")


def run(async_test, *args):
    """Run an async test with a clock that jumps to the next deadline when everybody waits.

    A test in which everybody waits for ever fails, some years later by that clock.
    """

    async def bounded():
        with trio.fail_after(1e9):
            return await async_test(*args)

    try:
        return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        while _sockets:
            _sockets.pop().close()


def run_in_real_time(async_test, *args):
    """Run an async test with sockets; one that hangs fails."""

    async def bounded():
        with trio.fail_after(20):
            return await async_test(*args)

    return trio.run(bounded)


@dataclass
class Wall:
    """A wall clock that goes with the run's, and can be set."""

    ahead_ms: int = START_MS

    def __call__(self):
        return steady() + self.ahead_ms


def steady():
    return round(trio.current_time() * 1000)


async def at_once(function, *args):
    """Make a call that waits for the disk. In a thread, the run's clock would jump meanwhile."""
    return function(*args)


class AtOnce(Executor):
    """Makes calls that wait for the disk at once, as `at_once`."""

    def submit(self, function, /, *args):
        done = Future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def make_server(*, wall=None, limits=None, listen=(), **settings):
    """A server whose time is that of the run; to be called inside one."""
    clock = Clock(steady=steady, wall=wall or Wall())
    settings = {"transport": transport_in_use.get(), **settings}
    server = assemble(Config(listen=listen, http=(), limits=Limits(**(limits or {})), **settings), clock=clock)
    for part in server.parts:
        if isinstance(part, Keeper):
            part.in_thread = at_once
        if isinstance(part, PastKeeper):
            part.in_thread, part.writing, part.reading = at_once, AtOnce(), AtOnce()
    return server


class Peer:
    """The other end of a connection."""

    def __init__(self, stream):
        self.stream = stream

    async def send(self, data):
        await self.stream.send_all(data)

    async def receive(self):
        """What comes next; b"" at the end."""
        return bytes(await self.stream.receive_some())

    async def receive_rest(self):
        """All that comes until the end."""
        chunks = []
        while chunk := await self.receive():
            chunks.append(chunk)
        return b"".join(chunks)

    async def receive_bytes(self, n_bytes):
        received = b""
        while len(received) < n_bytes:
            chunk = await self.stream.receive_some(n_bytes - len(received))
            assert chunk, f"the end after {received!r}"
            received += bytes(chunk)
        return received

    async def ask(self, line):
        """Send an inline command and return what comes back."""
        await self.send(line + b"\r\n")
        return await self.receive()


def memory_line():
    """A way to a server through memory."""
    return trio.testing.memory_stream_one_way_pair()


def unbuffered():
    """One that holds nothing: who sends waits for the reader. Over a socket it holds as little as it can."""
    return trio.testing.lockstep_stream_one_way_pair()


def join(server, nursery, *, make_line=memory_line):
    """Connect a peer to `server`, through memory or, if the reactor is in use, a pair of sockets.

    `make_line` makes the way from the server to the peer.
    """
    if server.config.transport == "reactor":
        return join_by_socket(server, nursery, is_tight=make_line is unbuffered)
    ours, to_server = memory_line()
    theirs, to_peer = make_line()
    nursery.start_soon(server.streams.serve, trio.StapledStream(theirs, to_server))
    return Peer(trio.StapledStream(ours, to_peer))


_served = WeakSet()


def join_by_socket(server, nursery, *, is_tight=False):
    """Connect a peer by a pair of sockets, served by the reactor of a server that need not run."""
    if server not in _served and not server.listening.is_set():
        _served.add(server)
        nursery.start_soon(server.sockets.run)
    ours, theirs = socket.socketpair()
    if is_tight:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    server.sockets.adopt(theirs.detach())
    return peer_of(ours)


#: Of peers of the running test.
_sockets = []


def peer_of(connected):
    """The peer at a connected socket, which is closed at the end of the test."""
    _sockets.append(connected)
    return Peer(trio.SocketStream(trio.socket.from_stdlib_socket(connected)))


class Serving:
    """A server that runs, and its peers."""

    def __init__(self, server):
        self.server = server
        self.addresses = server.addresses
        self.streams = []
        self.ended = trio.Event()

    async def connect(self, address=None, wrap=lambda stream: stream):
        """Connect a peer to one of the addresses."""
        address = address or self.addresses[0]
        if address.path is not None:
            stream = await trio.open_unix_socket(str(address.path))
        else:
            stream = await trio.open_tcp_stream(address.host, address.port)
        self.streams.append(stream)
        return Peer(wrap(stream))


async def _run(server, *, task_status):
    """Run a server; once it listens, tell how to reach it, and at its end, that it has ended."""
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        running = Serving(server)
        task_status.started(running)
    running.ended.set()


@contextlib.asynccontextmanager
async def serving(**settings):
    """A server that runs and listens, as in `settings`; at the end it is stopped and its peers are closed."""
    server = assemble(Config(**{"listen": (LOCAL,), "http": (), "transport": transport_in_use.get(), **settings}))
    failure = None
    async with trio.open_nursery() as nursery:
        running = await nursery.start(_run, server)
        try:
            yield running
        except Exception as error:
            failure = error
        server.stop()
    for stream in running.streams:
        await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure


# Tests over each transport


def in_memory(async_test, transport="transport"):
    """Run a test with a clock that jumps, over each transport; its first argument is a nursery for connections."""
    _, *fixtures = inspect.signature(async_test).parameters

    async def with_nursery(arguments):
        failure = None
        async with trio.open_nursery() as nursery:
            try:
                await async_test(nursery, **arguments)
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    return _with_fixtures(async_test, fixtures, transport, lambda arguments: run(with_nursery, arguments))


def over_streams(async_test):
    """The same over streams alone."""
    return in_memory(async_test, "streams")


def with_sockets(async_test):
    """Run a test with sockets, in real time, over each transport."""
    fixtures = inspect.signature(async_test).parameters
    return _with_fixtures(
        async_test, fixtures, "transport", lambda arguments: run_in_real_time(partial(async_test, **arguments))
    )


def _with_fixtures(async_test, fixtures, transport, run_test):
    """A test that asks pytest for `fixtures` and hands them on, over what the fixture `transport` says."""

    @wraps(async_test)
    def test(**arguments):
        reset = transport_in_use.set(arguments[transport])
        try:
            run_test({name: arguments[name] for name in fixtures})
        finally:
            transport_in_use.reset(reset)

    kind = inspect.Parameter.KEYWORD_ONLY
    names = [transport, *(name for name in fixtures if name != transport)]
    test.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return test


def reached(server):
    """The limits that were reached."""
    return {name: n for name, n in server.statistics().limits.items() if n}


def echo(text):
    return b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(text), text)


def echoed(text):
    return b"$%d\r\n%b\r\n" % (len(text), text)


# Waiting for other processes

PATIENCE_S = 30.0


def until(is_so, *not_yet):
    """Wait until something is so; return what was found. Errors of the types `not_yet` say that it is not so yet."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(*not_yet):
            if found := is_so():
                return found
        assert time.monotonic() < deadline_s, "it does not come true"
        time.sleep(0.01)


async def until_turn(is_so):
    """`until`, within Trio."""
    with trio.fail_after(PATIENCE_S):
        while not (found := is_so()):
            await trio.sleep(0.01)
    return found


def listens(where):
    """Whether somebody accepts connections at a port of this machine, or at a path."""
    is_port = isinstance(where, int)
    with socket.socket(socket.AF_INET if is_port else socket.AF_UNIX) as trial:
        return trial.connect_ex(("127.0.0.1", where) if is_port else str(where)) == 0


# Verbs without sockets

#: What a `Line` begins with as its time.
NOW_MS = 1_700_000_000_000


class Line:
    """A connection with its own idea of the time."""

    def __init__(self, verbs, now_ms=NOW_MS):
        self.verbs = verbs
        self.connection, _ = verbs.connections.open()
        self.now_ms = now_ms

    def ask(self, verb, *args):
        """Return the result, or the error as `CODE message`."""
        output = feed(self.connection, msgpack.packb([0, 1, verb, list(args)]), now_ms=self.now_ms)
        _, _, error, result = msgpack.unpackb(output)
        return " ".join(error) if error else result

    def resp(self, *words):
        """Send an inline command; return the bytes that come back."""
        return feed(self.connection, b" ".join(words) + b"\r\n", now_ms=self.now_ms)


# Servers in a process of their own


def command(*args):
    return [sys.executable, "-m", "online", *map(str, args)]


def environment(**variables):
    """The environment of a command: ours, without settings of a server, and without HTTP unless that is asked for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONLINE_")}
    kept["PYTHONPATH"] = os.pathsep.join(sys.path)
    return kept | {"ONLINE_HTTP": ""} | variables


def run_command(*args, **variables):
    return subprocess.run(command(*args), env=environment(**variables), capture_output=True, text=True, timeout=60)


@dataclass
class Process:
    popen: subprocess.Popen
    address: str
    port: int
    log: list

    @property
    def url(self):
        return f"online://{self.address}"

    @property
    def syslog(self):
        """Where it receives syslog: `host:port`."""
        return next(match[1] for told in self.log if (match := re.search(r"syslog at (\S+)", told)))

    @property
    def http(self):
        """The address of its dashboard."""
        return next(match[1] for told in self.log if (match := re.search(r"dashboard and API at (\S+)", told)))

    def end(self, sent=signal.SIGTERM):
        """Send a signal and return the exit code."""
        self.popen.send_signal(sent)
        self.log += [line for line in self.popen.stderr.read().splitlines() if "clients waited for" not in line]
        return self.popen.wait(30)


@contextlib.contextmanager
def server_process(*args, **variables):
    """`online serve` in a process of its own, once it listens and, if it keeps state, has read what it kept.

    One with a bus may still be LOADING: that ends when it has caught up, and some tests keep the bus away from it.
    """
    given = args if "--listen" in args else ("--listen", "127.0.0.1:0", *args)
    with contextlib.ExitStack() as stack:
        manager = None
        if "--state" in args and "--bus" not in args and "NOTIFY_SOCKET" not in variables:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            manager.bind(f"{folder}/notify")
            variables |= {"NOTIFY_SOCKET": f"{folder}/notify"}
        process = stack.enter_context(_listening(*given, **variables))
        if manager is not None:
            _wait_ready(process, manager)
        yield process


def _wait_ready(process, manager):
    manager.settimeout(0.1)
    until_s = time.monotonic() + 60
    while process.popen.poll() is None:
        assert time.monotonic() < until_s, f"it does not get ready: {process.log}"
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in manager.recv(1000):
                break


@contextlib.contextmanager
def _listening(*args, **variables):
    popen = subprocess.Popen(command("serve", *args), env=environment(**variables), stderr=subprocess.PIPE, text=True)
    log = []
    try:
        for line in popen.stderr:
            if "clients waited for" not in line:  # a busy machine is no news
                log.append(line.rstrip())
            if listening := re.search(r" listens on (\S+?(?::(\d+))?)(?:,|$)", line):
                break
        else:
            raise AssertionError(f"it does not listen: {log}")
        yield Process(popen, listening[1], int(listening[2] or 0), log)
    finally:
        popen.kill()
        popen.wait()
        popen.stderr.close()
