"""The server: connections that behave and those that do not, limits, timeouts, shutdown, listeners.

Behaviour is tried with a clock that jumps, over memory streams and over the reactor; each kind of socket once, in
real time, over both.
"""

import errno
import inspect
import os
import re
import resource
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial, wraps

import msgpack
import pytest
import trio
import trustme
from tests.serving import (
    LOCAL,
    START_MS,
    TRANSPORTS,
    Peer,
    Wall,
    environment,
    join,
    make_server,
    memory_line,
    peer_of,
    run,
    run_in_real_time,
    server_process,
    serving,
    transport_in_use,
    unbuffered,
)

from online.cli import serve as command_module
from online.cli.serve import raise_open_files
from online.errors import ConfigError, OnlineError, StateError
from online.keep import state
from online.serve import connections as connections_module
from online.serve import listeners as listeners_module
from online.serve import streams as streams_module
from online.serve.config import Address, Config
from online.serve.progress import ProgressStream
from online.serve.server import Server


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    """Each of the transports in turn."""
    return request.param


@pytest.fixture
def streams():
    return "streams"


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


def request(msgid, verb, *params):
    return msgpack.packb([0, msgid, verb, list(params)])


def echo(text):
    return b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(text), text)


def echoed(text):
    return b"$%d\r\n%b\r\n" % (len(text), text)


# Conversations


@in_memory
async def test_a_connection_is_answered(nursery):
    server = make_server()
    peer = join(server, nursery)
    assert await peer.ask(b"HIT theo /x") == b"+OK\r\n"
    assert await peer.ask(b"COUNT") == b":1\r\n"
    assert server.statistics().connections == 1


@in_memory
async def test_pipelined_requests_are_answered_in_turn(nursery):
    peer = join(make_server(), nursery)
    await peer.send(b"".join(request(n, "ECHO", str(n)) for n in range(1000)))
    await peer.stream.send_eof()
    unpacker = msgpack.Unpacker()
    unpacker.feed(await peer.receive_rest())
    assert list(unpacker) == [[1, n, None, str(n)] for n in range(1000)]


@in_memory
async def test_a_request_may_come_a_byte_at_a_time(nursery):
    peer = join(make_server(), nursery)
    for byte in request(7, "COUNT", "/x"):
        await peer.send(bytes([byte]))
        await trio.sleep(1)
    assert msgpack.unpackb(await peer.receive()) == [1, 7, None, 0]


@in_memory
async def test_what_was_asked_before_the_end_is_answered(nursery):
    server = make_server()
    peer = join(server, nursery)
    await peer.send(b"HIT theo /x\r\nCOUNT\r\n")
    await peer.stream.send_eof()
    assert await peer.receive_rest() == b"+OK\r\n:1\r\n"
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().connections == 0


@in_memory
async def test_quit_ends_a_connection(nursery):
    peer = join(make_server(), nursery)
    await peer.send(b"QUIT\r\nCOUNT\r\n")
    assert await peer.receive_rest() == b"+OK\r\n"


@in_memory
async def test_broken_framing_ends_this_connection_alone(nursery):
    server = make_server()
    good, bad = join(server, nursery), join(server, nursery)
    await bad.send(b"*1\r\n$1000000000\r\n")
    assert (await bad.receive_rest()).startswith(b"-PROTO ")
    await bad.stream.aclose()
    assert await good.ask(b"COUNT") == b":0\r\n"
    assert server.statistics().connections == 1


@in_memory
async def test_http_gets_one_line_and_the_end(nursery):
    server = make_server()
    peer = join(server, nursery)
    await peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nHIT theo /x\r\n")
    assert (await peer.receive_rest()).startswith(b"HTTP/1.1 400 ")
    assert server.statistics().users == 0


@in_memory
async def test_who_goes_away_is_no_failure(nursery):
    server = make_server()
    peer = join(server, nursery)
    await peer.send(b"COUNT\r\nPAGE")
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    statistics = server.statistics()
    assert (statistics.connections, statistics.connections_failed) == (0, 0)


@in_memory
async def test_a_connection_that_fails_ends_alone(nursery, caplog, monkeypatch):
    server = make_server()
    good, bad = join(server, nursery), join(server, nursery)
    monkeypatch.setattr(server.verbs, "call", lambda *args: 1 / 0)
    assert await bad.ask(b"TOP") == b""
    await trio.testing.wait_all_tasks_blocked()
    assert await good.ask(b"COUNT") == b":0\r\n"
    assert server.statistics().connections_failed == 1
    assert "a connection failed; the others go on" in caplog.text


@in_memory
async def test_a_connection_that_cannot_even_begin_ends_alone(nursery, caplog, monkeypatch):
    server = make_server()
    with monkeypatch.context() as patch:
        patch.setattr(server.connections, "open", raising(MemoryError()))
        assert await join(server, nursery).receive() == b""
        await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().connections_failed == 1
    assert await join(server, nursery).ask(b"COUNT") == b":0\r\n"


def raising(error):
    def behave(*args):
        raise error

    return behave


@in_memory
async def test_failures_are_logged_only_so_often(nursery, caplog, monkeypatch):
    server = make_server()
    monkeypatch.setattr(server.verbs, "call", lambda *args: 1 / 0)
    for _ in range(connections_module.TRACEBACKS + 5):
        await join(server, nursery).ask(b"TOP")
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().connections_failed == connections_module.TRACEBACKS + 5
    assert len(caplog.records) == connections_module.TRACEBACKS


# Back pressure and its limits


@in_memory
async def test_nothing_is_read_while_output_waits(nursery):
    server = make_server(limits={"max_output": 4096})
    peer = join(server, nursery, make_line=unbuffered)
    for n in range(100):
        await peer.send(b"ECHO " + b"%0100d" % n + b"\r\n")
    await peer.send(b"HIT theo /x\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().users == 0
    await peer.receive_bytes(100 * 108)
    assert await peer.receive() == b"+OK\r\n"


@in_memory
async def test_who_sends_and_never_reads_is_closed_and_counted(nursery):
    server = make_server()
    good, bad = join(server, nursery), join(server, nursery, make_line=unbuffered)
    await bad.send(b"INFO\r\n" * 1000)
    await trio.sleep(9)
    assert reached(server) == {}
    await trio.sleep(2)
    assert reached(server) == {"slow": 1}
    assert server.statistics().connections == 1
    assert await good.ask(b"COUNT") == b":0\r\n"


async def receive_slowly(peer, n_bytes):
    """Receive as little at a time as counts as progress, as late as it does."""
    received = b""
    while len(received) < n_bytes:
        await trio.sleep(9)
        received += await peer.receive_bytes(min(streams_module.SEND_BYTES, n_bytes - len(received)))
    return received


@in_memory
async def test_who_reads_slowly_is_waited_for(nursery):
    server = make_server()
    peer = join(server, nursery, make_line=unbuffered)
    await peer.send(echo(b"x" * 100_000))
    assert await receive_slowly(peer, 100_011) == echoed(b"x" * 100_000)
    assert reached(server) == {}


def join_by_tight_socket(server, nursery):
    """Connect a peer by a pair of sockets that hold little, over either transport."""
    if server.config.transport == "reactor":
        return join(server, nursery, make_line=unbuffered)
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    nursery.start_soon(server.streams.serve, ProgressStream(stream))
    return peer_of(ours)


@in_memory
async def test_any_progress_of_a_socket_is_progress(nursery):
    server = make_server()
    peer = join_by_tight_socket(server, nursery)
    await peer.send(echo(b"x" * 50_000))
    received = b""
    while len(received) < 50_010:
        await trio.sleep(8)
        received += await peer.receive_bytes(min(4_000, 50_010 - len(received)))
    assert received == echoed(b"x" * 50_000)
    assert reached(server) == {}


@in_memory
async def test_no_progress_of_a_socket_is_too_slow(nursery):
    server = make_server()
    peer = join_by_tight_socket(server, nursery)
    await peer.send(echo(b"x" * 50_000))
    await peer.receive_bytes(4_000)
    await trio.sleep(9)
    assert reached(server) == {}
    await trio.sleep(12)  # it may be that the room for 4,000 bytes was seen at the end of the time
    assert reached(server) == {"slow": 1}
    assert server.statistics().connections == 0


@in_memory
async def test_the_largest_connection_is_closed_when_buffers_are_full(nursery):
    server = make_server(limits={"max_buffers": 1024 * 1024, "max_output": 1024 * 1024})
    small, large = (join(server, nursery, make_line=unbuffered) for _ in range(2))
    await small.send(echo(b"s" * 300_000))
    await large.send(echo(b"l" * 500_000))
    await trio.testing.wait_all_tasks_blocked()
    assert reached(server) == {}
    other = join(server, nursery)
    await other.send(echo(b"o" * 400_000)[:-3])
    await trio.testing.wait_all_tasks_blocked()
    assert reached(server) == {"max_buffers_reached": 1}
    assert server.statistics().connections == 2
    assert server.statistics().buffered_bytes < 1024 * 1024
    await other.send(b"o\r\n")
    assert await other.receive_bytes(400_011) == echoed(b"o" * 400_000)
    assert await small.receive_bytes(300_011) == echoed(b"s" * 300_000)
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().buffered_bytes < 4096


@in_memory
async def test_who_is_closed_for_its_input_is_told(nursery):
    server = make_server(limits={"max_buffers": 100_000})
    peer = join(server, nursery)
    await peer.send(echo(b"o" * 400_000)[:200_000])
    assert (await peer.receive_rest()).startswith(b"-FULL max_buffers is reached: 100000; this connection")


# Timeouts


@in_memory
async def test_who_says_nothing_may_stay(nursery):
    peer = join(make_server(), nursery)
    await trio.sleep(1_000_000)
    assert await peer.ask(b"COUNT") == b":0\r\n"
    await trio.sleep(1_000_000)
    assert await peer.ask(b"COUNT") == b":0\r\n"


@in_memory
async def test_a_byte_a_second_is_too_slow(nursery):
    server = make_server()
    peer = join(server, nursery)
    for byte in b"*2\r\n$4\r\nECHO\r\n$1000\r\n" + b"x" * 8:
        await peer.send(bytes([byte]))
        await trio.sleep(1)
    assert await peer.receive_rest() == b"-PROTO a message must be complete 30 s after its first byte\r\n"
    assert trio.current_time() == 30
    assert reached(server) == {"frame_timeout": 1}


@in_memory
async def test_each_message_has_its_own_time(nursery):
    server = make_server()
    peer = join(server, nursery)
    await peer.send(b"COU")
    for _ in range(5):
        await trio.sleep(29)
        await peer.send(b"NT\r\nCOU")
        assert await peer.receive() == b":0\r\n"
    await trio.sleep(29)
    assert reached(server) == {}
    await trio.sleep(2)
    assert reached(server) == {"frame_timeout": 1}


@in_memory
async def test_the_time_for_a_message_begins_with_it(nursery):
    peer = join(make_server(), nursery)
    await trio.sleep(100)
    await peer.send(b"COU")
    await trio.sleep(29)
    assert await peer.ask(b"NT") == b":0\r\n"


@in_memory
async def test_time_in_which_the_server_did_not_read_is_not_counted(nursery):
    server = make_server()
    peer = join(server, nursery, make_line=unbuffered)
    await peer.send(echo(b"x" * 40_000) + b"COU")
    await receive_slowly(peer, 40_010)
    await trio.sleep(25)
    assert await peer.ask(b"NT") == b":0\r\n"
    assert reached(server) == {}


# Tokens


@in_memory
async def test_who_needs_a_token_and_says_nothing_is_closed(nursery):
    server = make_server(token=b"sesame")
    peer = join(server, nursery)
    await trio.sleep(4.9)
    assert server.statistics().connections == 1
    assert (await peer.receive_rest()).startswith(b"-NOAUTH no message within 5 s")
    assert reached(server) == {"auth_timeout": 1}


@in_memory
async def test_bytes_that_are_no_message_yet_do_not_count_as_one(nursery):
    server = make_server(token=b"sesame")
    peer = join(server, nursery)
    for byte in b"AUTH ":
        await peer.send(bytes([byte]))
        await trio.sleep(0.99)
    assert server.statistics().connections == 1
    await trio.sleep(0.1)
    assert reached(server) == {"auth_timeout": 1}


@in_memory
async def test_who_brings_the_token_may_stay(nursery):
    peer = join(make_server(token=b"sesame"), nursery)
    assert (await peer.ask(b"COUNT")).startswith(b"-NOAUTH ")
    assert (await peer.ask(b"AUTH open")).startswith(b"-WRONGPASS ")
    assert await peer.ask(b"AUTH shop sesame") == b"+OK\r\n"
    await trio.sleep(1_000)
    assert await peer.ask(b"COUNT") == b":0\r\n"


@with_sockets
async def test_a_wrong_token_is_logged_with_the_address(tmp_path, caplog):
    async with serving(token=b"right") as served:
        for question in (b"AUTH wrong", b"HELLO 3 AUTH default wrong"):
            caplog.clear()
            peer = await served.connect()
            assert (await peer.ask(question)).startswith(b"-WRONGPASS ")
            port = peer.stream.socket.getsockname()[1]
            assert caplog.messages == [f"a wrong token from 127.0.0.1:{port}"]


@in_memory
async def test_a_flood_of_wrong_tokens_does_not_fill_the_log(nursery, caplog):
    server = make_server(token=b"right")
    peer = join(server, nursery)
    for _ in range(100):
        await peer.ask(b"AUTH wrong")
    assert len(caplog.messages) == connections_module.WARNINGS_A_MINUTE
    await trio.sleep(60)
    await peer.ask(b"AUTH wrong")
    assert caplog.messages[-1].endswith("; 90 more of such were not logged")


@in_memory
async def test_messages_are_small_until_the_token_has_come(nursery):
    peer = join(make_server(token=b"sesame"), nursery)
    await peer.send(b"*2\r\n$4\r\nAUTH\r\n$5000\r\n")
    assert (await peer.receive_rest()).startswith(b"-PROTO ")


# Number of connections


@in_memory
async def test_one_connection_too_many_is_told_and_closed(nursery):
    server = make_server(limits={"max_connections": 2})
    peers = [join(server, nursery) for _ in range(2)]
    await trio.testing.wait_all_tasks_blocked()
    assert await join(server, nursery).receive_rest() == b"-ERR max number of clients reached\r\n"
    for peer in peers:
        assert await peer.ask(b"COUNT") == b":0\r\n"
    assert reached(server) == {"max_connections_reached": 1}
    await peers[0].stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert await join(server, nursery).ask(b"COUNT") == b":0\r\n"


@in_memory
async def test_who_is_sent_away_and_stays_holds_nothing_up(nursery):
    server = make_server(limits={"max_connections": 1})
    first = join(server, nursery)
    await trio.testing.wait_all_tasks_blocked()
    refused = join(server, nursery)
    await trio.testing.wait_all_tasks_blocked()
    await first.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert await join(server, nursery).ask(b"COUNT") == b":0\r\n"
    await trio.sleep(streams_module.FAREWELL_S + 0.1)
    with pytest.raises(trio.BrokenResourceError):
        await refused.send(b"COUNT\r\n")


class FullListener(trio.abc.Listener):
    """Accepts one connection, but only after the system had no room for a while."""

    def __init__(self, stream):
        self.refusals = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS]
        self.stream = stream

    async def accept(self):
        await trio.lowlevel.checkpoint()
        if self.refusals:
            code = self.refusals.pop()
            raise OSError(code, os.strerror(code))
        if self.stream is None:
            await trio.sleep_forever()
        stream, self.stream = self.stream, None
        return stream

    async def aclose(self):
        await trio.lowlevel.checkpoint()


@over_streams
async def test_a_system_without_room_is_waited_for(nursery):
    server = make_server()
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(server.streams.accept, FullListener(theirs), nursery)
    assert await Peer(ours).ask(b"COUNT") == b":0\r\n"
    assert reached(server) == {"open_files_reached": 4}
    assert trio.current_time() - 4 * streams_module.ACCEPT_PAUSE_S < 1


def test_the_limit_on_open_files_is_raised_to_fit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_open_files(1_000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1_000 + command_module.SPARE_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_limit_on_open_files_that_stays_too_low_is_said(monkeypatch, caplog):
    def refuse(which, limits):
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 100))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files(1_000)
    assert "100 open files are allowed: too few for max_connections, 1000" in caplog.text


# Housekeeping


@in_memory
async def test_sessions_expire_while_nobody_asks(nursery):
    server = make_server(window_s=60)
    await nursery.start(server.run)
    await join(server, nursery).ask(b"HIT theo /x")
    await trio.sleep(59.9)
    assert server.statistics().users == 1
    await trio.sleep(0.2)
    assert server.statistics().users == 0


@in_memory
async def test_a_server_that_nobody_uses_wakes_up_once_a_second(nursery, monkeypatch):
    server = make_server()
    times_ms = []
    monkeypatch.setattr(server.verbs, "expire", lambda now_ms: times_ms.append(now_ms - START_MS))
    await trio.sleep(0.25)
    await nursery.start(server.run)
    await trio.sleep(3.5)
    assert times_ms == [1_000, 2_000, 3_000]


@in_memory
async def test_a_step_of_the_wall_clock_keeps_ages(nursery, caplog):
    wall = Wall()
    server = make_server(wall=wall)
    await nursery.start(server.run)
    peer = join(server, nursery)
    await peer.ask(b"HIT theo /x")
    await trio.sleep(59)
    wall.ahead_ms += 86_400_000
    await trio.sleep(1.5)
    assert server.statistics().clock_steps == 1
    assert "the wall clock was set by +86400.0 s" in caplog.text
    assert await peer.ask(b"COUNT '' 61") == b":1\r\n"
    assert await peer.ask(b"COUNT '' 59") == b":0\r\n"
    assert f":{START_MS + 86_400_000}\r\n".encode() in await peer.ask(b"PAGE /x")
    assert b"clock_steps:1\r\n" in await peer.ask(b"INFO server")
    tomorrow_ms = START_MS + 86_400_000 + 30_000
    assert await peer.ask(b"HIT vera /x %d" % tomorrow_ms) == b"+OK\r\n"
    assert await peer.ask(b"COUNT '' 61") == b":2\r\n"


@in_memory
async def test_housekeeping_that_fails_ends_the_server(nursery, caplog, tmp_path, monkeypatch):
    server = make_server(state=tmp_path / "state")
    monkeypatch.setattr(server.verbs, "expire", lambda now_ms: 1 / 0)
    with pytest.raises(OnlineError, match="housekeeping failed: expire: ZeroDivisionError"):
        await server.run()
    assert "housekeeping failed: expire" in caplog.text
    assert os.listdir(tmp_path) == [".state.lock"]


# The end


@pytest.fixture
def door(transport, tmp_path_factory, monkeypatch):
    """Where peers come in to a server that runs: through memory, or a Unix socket if the reactor is in use."""
    door = MemoryDoor() if transport == "streams" else SocketDoor(tmp_path_factory.mktemp("door") / "socket")

    @asynccontextmanager
    async def listeners(addresses, *, unix_mode, tls):
        try:
            yield [(LOCAL, door.open())]
        finally:
            door.close()

    monkeypatch.setattr(listeners_module, "open_listeners", listeners)
    return door


class SocketDoor:
    """A Unix socket at which peers connect without waiting."""

    def __init__(self, path):
        self.path = path

    def open(self):
        self.path.unlink(missing_ok=True)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.path))
        self.listening.listen(128)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self.listening))
        self.listening = listener.socket
        return listener

    def close(self):
        self.listening.close()

    @property
    def is_open(self):
        return self.listening.fileno() >= 0

    def come(self, *, make_line=memory_line):
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(self.path))
        return peer_of(connected)


class MemoryDoor(trio.abc.Listener):
    """A listener whose connections go through memory."""

    def __init__(self):
        self._bring, self._take = trio.open_memory_channel(100)
        self.is_open = True

    def open(self):
        return self

    def close(self):
        self.is_open = False

    def come(self, *, make_line=memory_line):
        ours, to_server = memory_line()
        theirs, to_peer = make_line()
        self._bring.send_nowait(trio.StapledStream(theirs, to_server))
        return Peer(trio.StapledStream(ours, to_peer))

    async def accept(self):
        return await self._take.receive()

    async def aclose(self):
        self.is_open = False
        await trio.lowlevel.checkpoint()


@in_memory
async def test_the_end_waits_for_nobody_who_rests(nursery, door):
    server = make_server()
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peers = [door.come() for _ in range(100)]
        await peers[0].send(b"COU")
        await trio.testing.wait_all_tasks_blocked()
        server.stop()
    assert trio.current_time() == 0
    for peer in peers:
        assert await peer.receive_rest() == b""


@in_memory
async def test_what_has_been_read_is_answered_at_the_end(nursery, door):
    for n_turns in range(10):
        server = make_server()
        async with trio.open_nursery() as running:
            await running.start(server.run)
            peer = door.come()
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(b"COUNT\r\n")
            for _ in range(n_turns):
                await trio.lowlevel.checkpoint()
            server.stop()
        assert await peer.receive_rest() == b":0\r\n"


@in_memory
async def test_a_long_answer_is_sent_to_its_end_while_nobody_comes_in(nursery, door):
    server = make_server()
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peer = door.come(make_line=unbuffered)
        await peer.send(echo(b"x" * 50_000))
        await trio.testing.wait_all_tasks_blocked()
        server.stop()
        await trio.sleep(1)
        assert not door.is_open
        assert len(await peer.receive_rest()) == 50_010


@in_memory
async def test_who_never_reads_is_not_waited_for_at_the_end(nursery, door, tmp_path):
    server = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(server.run)
        for _ in range(10):
            await door.come(make_line=unbuffered).send(b"HIT theo /x\r\n" * 1000)
        await trio.testing.wait_all_tasks_blocked()
        server.stop()
    assert trio.current_time() < 5
    again = make_server(state=tmp_path / "state")
    await nursery.start(again.run)
    assert again.statistics().users == 1


@in_memory
async def test_a_state_that_cannot_be_saved_is_an_error_at_the_end(nursery, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    server = make_server(state=folder / "state")

    async def spoil():
        await server.listening.wait()
        shutil.rmtree(folder)
        server.stop()

    nursery.start_soon(spoil)
    with pytest.raises(OnlineError, match="cannot be written: No such file or directory"):
        await server.run()


# State


@in_memory
async def test_a_restart_forgets_nobody(nursery, tmp_path, caplog):
    caplog.set_level("INFO")
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        await join(first, nursery).ask(b"HIT theo /x")
        first.stop()
    await trio.sleep(600)
    second = make_server(state=tmp_path / "state")
    await nursery.start(second.run)
    peer = join(second, nursery)
    assert await peer.ask(b"COUNT '' 602") == b":1\r\n"
    assert await peer.ask(b"COUNT '' 599") == b":0\r\n"
    assert f"saved 1 users to {tmp_path}/state" in caplog.text
    assert f"no state file {tmp_path}/state yet, beginning empty" in caplog.text
    assert f"read 1 users from {tmp_path}/state; 0 more had left the window meanwhile" in caplog.text


@in_memory
async def test_a_state_file_of_another_server_is_refused(nursery, tmp_path):
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        with pytest.raises(StateError, match=f"^state file {tmp_path}/state is in use by another server"):
            await make_server(state=tmp_path / "state").run()
        first.stop()
    await nursery.start(make_server(state=tmp_path / "state").run)


@in_memory
async def test_a_damaged_state_file_is_said_and_kept(nursery, tmp_path, caplog):
    (tmp_path / "state").write_bytes(state.MARK + b"\xc1")
    server = make_server(state=tmp_path / "state")
    await nursery.start(server.run)
    assert await join(server, nursery).ask(b"COUNT") == b":0\r\n"
    assert f"{tmp_path}/state is damaged, it is now {tmp_path}/state.damaged: no message among" in caplog.text
    assert sorted(os.listdir(tmp_path)) == [".state.lock", "state.damaged"]


@in_memory
async def test_users_of_a_state_file_who_do_not_fit_are_said(nursery, tmp_path, caplog):
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        await join(first, nursery).send(b"HIT a /x\r\nHIT b /x\r\n")
        await trio.testing.wait_all_tasks_blocked()
        first.stop()
    second = make_server(state=tmp_path / "state", limits={"max_users": 1})
    await nursery.start(second.run)
    assert f"{tmp_path}/state: 1 users were refused at a limit" in caplog.text


@in_memory
async def test_a_state_file_that_cannot_be_written_is_refused_at_the_start(nursery, tmp_path):
    with pytest.raises(StateError, match="cannot be written: No such file or directory"):
        await make_server(state=tmp_path / "missing" / "state").run()


# Sockets


@with_sockets
async def test_tcp(tmp_path):
    async with serving(listen=(LOCAL, Address("localhost", 0))) as served:
        peers = [await served.connect(address) for address in served.addresses]
        for peer in peers:
            assert await peer.ask(b"HIT theo /x") == b"+OK\r\n"
        served.server.stop()
        for peer in peers:
            assert await peer.receive() == b""


@with_sockets
async def test_where_it_listens_is_logged_with_what_clients_need(caplog):
    caplog.set_level("INFO")
    async with serving(token=b"sesame") as served:
        assert caplog.messages[0].endswith(f" listens on {served.addresses[0]}, token wanted")


@with_sockets
async def test_an_error_arrives_although_the_peer_goes_on_sending(tmp_path):
    async with serving() as served:
        peer = await served.connect()
        await peer.send(b"*1\r\n$1000000000\r\n" + b"x" * 500_000)
        assert (await peer.receive_rest()).startswith(b"-PROTO ")
        await peer.stream.aclose()


@with_sockets
async def test_a_unix_socket_is_removed_at_the_end(tmp_path):
    path = tmp_path / "online.sock"
    async with serving(listen=(Address(path=path),), unix_mode=0o640) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert await (await served.connect()).ask(b"COUNT") == b":0\r\n"
    assert not path.exists()


@with_sockets
async def test_a_unix_socket_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "online.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(listen=(Address(path=path),)) as served:
        assert await (await served.connect()).ask(b"COUNT") == b":0\r\n"


@with_sockets
async def test_a_unix_socket_of_another_server_is_left_alone(tmp_path):
    path = tmp_path / "online.sock"
    async with serving(listen=(Address(path=path),)) as served:
        with pytest.raises(ConfigError, match=r"^cannot listen on unix:.*: Address already in use"):
            await Server(Config(listen=(Address(path=path),))).run()
        assert await (await served.connect()).ask(b"COUNT") == b":0\r\n"


@with_sockets
async def test_a_unix_socket_that_was_replaced_meanwhile_is_not_removed(tmp_path):
    path = tmp_path / "online.sock"
    async with serving(listen=(Address(path=path),)):
        path.rename(tmp_path / "away")
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


@with_sockets
async def test_a_path_that_cannot_be_listened_at_is_said(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path, reason in [
        (file, "exists and is no socket"),
        (file / "below", "Not a directory"),
        (tmp_path / "missing" / "socket", "No such file or directory"),
        (tmp_path / ("x" * 200), "AF_UNIX path too long"),
    ]:
        with pytest.raises(ConfigError, match=f"^cannot listen on unix:{path}: {reason}$"):
            await Server(Config(listen=(Address(path=path),))).run()
    assert os.listdir(tmp_path) == ["file"]


@with_sockets
async def test_a_port_in_use_is_said_and_the_others_are_closed(tmp_path):
    async with serving() as served:
        taken = served.addresses[0]
        other = Server(Config(listen=(Address(path=tmp_path / "socket"), taken)))
        with pytest.raises(ConfigError, match=f"^cannot listen on {taken}: Address already in use"):
            await other.run()
        assert os.listdir(tmp_path) == []


@with_sockets
async def test_a_host_that_is_unknown_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"^cannot listen on no\.such\.invalid:1: "):
        await Server(Config(listen=(Address("no.such.invalid", 1),), token=b"x")).run()


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority, tmp_path):
    """Settings with a certificate, and what a client needs to trust it."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}, context


def test_tls(tls, tmp_path, caplog):
    caplog.set_level("INFO")
    settings, context = tls
    unix = Address(path=tmp_path / "socket")

    async def test():
        async with serving(listen=(LOCAL, unix), **settings) as served:
            assert caplog.messages[0].endswith(f" listens on {served.addresses[0]}, {unix}, TLS over TCP")
            wrap = partial(trio.SSLStream, ssl_context=context, server_hostname="localhost")
            secure = await served.connect(wrap=wrap)
            assert await secure.ask(b"HIT theo /x") == b"+OK\r\n"
            assert await secure.ask(b"QUIT") == b"+OK\r\n"
            assert await secure.receive() == b""
            plain = await served.connect(unix)
            assert await plain.ask(b"COUNT") == b":1\r\n"
            lost = await served.connect()
            assert b":1\r\n" not in await lost.ask(b"COUNT")
        assert served.server.statistics().connections_failed == 0

    run_in_real_time(test)


@pytest.mark.parametrize(("token", "patience_s", "limit"), [(None, 30, "frame_timeout"), (b"t", 5, "auth_timeout")])
def test_who_says_nothing_where_tls_should_begin_is_closed(tls, token, patience_s, limit):
    settings, _ = tls

    async def test():
        server = make_server(token=token, **settings)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.streams.serve, trio.SSLStream(theirs, server.tls, server_side=True))
            await trio.sleep(patience_s - 1)
            assert reached(server) == {}
            assert await Peer(ours).receive() == b""
        assert reached(server) == {limit: 1}

    run(test)


def test_tls_that_fails_is_logged_with_the_address(tls, caplog):
    settings, _ = tls

    async def test():
        async with serving(listen=(LOCAL,), **settings) as served:
            lost = await served.connect()
            await lost.send(b"COUNT\r\n")
            await lost.receive()
            port = lost.stream.socket.getsockname()[1]
            while not caplog.records:
                await trio.sleep(0.01)
        assert caplog.messages == [f"TLS failed: WRONG_VERSION_NUMBER from 127.0.0.1:{port}"]

    run_in_real_time(test)


def test_certificates_that_cannot_be_used_are_named(tls, tmp_path):
    settings, _ = tls
    certificate, key = settings["tls_cert"], settings["tls_key"]
    missing, garbage, other = (tmp_path / f"{name}.pem" for name in ("missing", "garbage", "other"))
    garbage.write_text("nonsense")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(other)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text(certificate.read_text()[:200])
    for changed, message in [
        ({"tls_cert": missing}, f"tls_cert {missing}: No such file or directory"),
        ({"tls_key": missing}, f"tls_key {missing}: No such file or directory"),
        ({"tls_cert": garbage}, f"tls_cert {garbage} holds no certificate (PEM)"),
        ({"tls_key": garbage}, f"tls_key {garbage} holds no private key (PEM)"),
        ({"tls_cert": key, "tls_key": certificate}, f"tls_cert {key} holds no certificate (PEM)"),
        ({"tls_key": certificate}, f"tls_key {certificate} holds no private key (PEM)"),
        ({"tls_key": other}, f"tls_cert {certificate} and tls_key {other} do not belong together"),
        ({"tls_cert": damaged}, f"tls_cert {damaged} and tls_key {key} cannot be used: "),
    ]:
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
            Server(Config(**settings | changed))


# Many


CROWD = """
import socket, sys
port, wanted = map(int, sys.argv[1:])
peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(wanted)]
for n, peer in enumerate(peers):
    peer.sendall(b"HIT user%d /x\\r\\n" % n)
assert all(peer.recv(100) == b"+OK\\r\\n" for peer in peers)
peers[0].sendall(b"COUNT\\r\\n")
print(peers[0].recv(100).decode().strip(), flush=True)
sys.stdin.read()
print(sum(peer.recv(100) == b"" for peer in peers))
"""


@pytest.mark.slow
def test_ten_thousand_connections_and_their_end(transport):
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 100:
        pytest.skip(f"{hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 100 if hard == -1 else hard, hard))
    try:
        with server_process("--transport", transport) as server:
            crowd = subprocess.Popen(
                [sys.executable, "-c", CROWD, str(server.port), str(wanted)],
                **{"env": environment(), "text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
            )
            with crowd:
                assert crowd.stdout.readline() == f":{wanted}\n"
                assert server.end() == 0
                crowd.stdin.close()
                assert crowd.stdout.readline() == f"{wanted}\n"
            assert f"stopping, {wanted} connections" in server.log[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_clock_that_was_never_set_is_refused():
    async def start():
        await make_server(wall=Wall(ahead_ms=0)).run()

    with pytest.raises(ConfigError, match=r"^the system clock says 0 ms since 1970, which"):
        run(start)
