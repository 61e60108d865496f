"""The server: connections that behave and those that do not, back pressure, timeouts, and the end.

Behaviour is tried with a clock that jumps, over memory streams and over the reactor; each kind of socket once, in
real time, over both.
"""

import errno
import os
import resource
import socket
import subprocess
import sys
from contextlib import asynccontextmanager

import msgpack
import pytest
import trio
from tests.serving import (
    LOCAL,
    Peer,
    Wall,
    echo,
    echoed,
    environment,
    in_memory,
    join,
    make_server,
    memory_line,
    over_streams,
    peer_of,
    reached,
    run,
    server_process,
    serving,
    unbuffered,
    with_sockets,
)

from online.errors import ConfigError
from online.limits import WRONG_TOKEN_DELAY_S
from online.serve import listeners as listeners_module
from online.serve import streams as streams_module
from online.serve.config import Address
from online.serve.progress import ProgressStream


def request(msgid, verb, *params):
    return msgpack.packb([0, msgid, verb, list(params)])


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
    assert await bad.ask(b"SITES") == b""
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
    assert (await peer.receive_rest()).startswith(b"-NOAUTH no token within 5 s")
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
    assert await peer.ask(b"AUTH shop sesame") == b"+OK\r\n"
    await trio.sleep(1_000)
    assert await peer.ask(b"COUNT") == b":0\r\n"


@in_memory
async def test_a_message_is_not_the_token(nursery):
    """Answered messages do not keep a connection: not one that is refused, and not RESET after the token."""
    server = make_server(token=b"sesame")
    refused, forgotten = join(server, nursery), join(server, nursery)
    assert (await refused.ask(b"X")).startswith(b"-NOAUTH ")
    await trio.sleep(4)
    assert (await refused.ask(b"HELLO 3")).startswith(b"-NOAUTH ")
    assert await forgotten.ask(b"AUTH sesame") == b"+OK\r\n"
    await trio.sleep(2)
    assert reached(server) == {"auth_timeout": 1}
    assert await forgotten.ask(b"RESET") == b"+RESET\r\n"
    await trio.sleep(4)
    assert await forgotten.ask(b"AUTH sesame") == b"+OK\r\n"
    assert await forgotten.ask(b"RESET") == b"+RESET\r\n"
    await trio.sleep(7)
    assert reached(server) == {"auth_timeout": 2}
    assert server.statistics().connections == 0


@in_memory
async def test_a_wrong_token_is_answered_late_and_ends_the_connection(nursery):
    server = make_server(token=b"sesame")
    for question in (b"AUTH open", b"AUTH shop open", b"HELLO 3 AUTH shop open", b"CLIENT REPLY OFF\r\nAUTH open"):
        began = trio.current_time()
        peer, other = join(server, nursery), join(server, nursery)
        await peer.send(question + b"\r\nAUTH sesame\r\n")
        assert await other.ask(b"AUTH sesame") == b"+OK\r\n"
        assert trio.current_time() == began
        answer = await peer.receive_rest()
        assert answer.count(b"-WRONGPASS ") <= 1
        assert b"OK" not in answer
        assert WRONG_TOKEN_DELAY_S <= trio.current_time() - began < 1
    assert reached(server)["wrong_token"] >= 3


@in_memory
async def test_messages_are_small_until_the_token_has_come(nursery):
    peer = join(make_server(token=b"sesame"), nursery)
    await peer.send(b"*2\r\n$4\r\nAUTH\r\n$5000\r\n")
    assert (await peer.receive_rest()).startswith(b"-PROTO ")


# Number of connections


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


# The end


@pytest.fixture
def entrance(transport, tmp_path_factory, monkeypatch):
    """Where peers come in to a server that runs: through memory, or a Unix socket if the reactor is in use."""
    path = tmp_path_factory.mktemp("entrance") / "socket"
    entrance = MemoryEntrance() if transport == "streams" else SocketEntrance(path)

    @asynccontextmanager
    async def listeners(addresses, **settings):
        try:
            yield [(LOCAL, entrance.open())]
        finally:
            entrance.close()

    monkeypatch.setattr(listeners_module, "open_listeners", listeners)
    return entrance


class SocketEntrance:
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


class MemoryEntrance(trio.abc.Listener):
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
async def test_the_end_waits_for_nobody_who_rests(nursery, entrance):
    server = make_server()
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peers = [entrance.come() for _ in range(100)]
        await peers[0].send(b"COU")
        await trio.testing.wait_all_tasks_blocked()
        server.stop()
    assert trio.current_time() == 0
    for peer in peers:
        assert await peer.receive_rest() == b""


@in_memory
async def test_what_has_been_read_is_answered_at_the_end(nursery, entrance):
    for n_turns in range(10):
        server = make_server()
        async with trio.open_nursery() as running:
            await running.start(server.run)
            peer = entrance.come()
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(b"COUNT\r\n")
            for _ in range(n_turns):
                await trio.lowlevel.checkpoint()
            server.stop()
        assert await peer.receive_rest() == b":0\r\n"


@in_memory
async def test_a_long_answer_is_sent_to_its_end_while_nobody_comes_in(nursery, entrance):
    server = make_server()
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peer = entrance.come(make_line=unbuffered)
        await peer.send(echo(b"x" * 50_000))
        await trio.testing.wait_all_tasks_blocked()
        server.stop()
        await trio.sleep(1)
        assert not entrance.is_open
        assert len(await peer.receive_rest()) == 50_010


@in_memory
async def test_who_never_reads_is_not_waited_for_at_the_end(nursery, entrance, tmp_path):
    server = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(server.run)
        for _ in range(10):
            await entrance.come(make_line=unbuffered).send(b"HIT theo /x\r\n" * 1000)
        await trio.testing.wait_all_tasks_blocked()
        server.stop()
    assert trio.current_time() < 5
    again = make_server(state=tmp_path / "state")
    await nursery.start(again.run)
    assert again.statistics().users == 1


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
        assert caplog.messages[1].endswith(f" listens on {served.addresses[0]}, token wanted")


@with_sockets
async def test_an_error_arrives_although_the_peer_goes_on_sending(tmp_path):
    async with serving() as served:
        peer = await served.connect()
        await peer.send(b"*1\r\n$1000000000\r\n" + b"x" * 500_000)
        assert (await peer.receive_rest()).startswith(b"-PROTO ")
        await peer.stream.aclose()


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
            assert any(f"stopping, {wanted} connections" in line for line in server.log)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_clock_that_was_never_set_is_refused():
    async def start():
        await make_server(wall=Wall(ahead_ms=0)).run()

    with pytest.raises(ConfigError, match=r"^the system clock says 0 ms since 1970, which"):
        run(start)
