"""Clients that do not read, do not finish, or come late: what they hold is bounded, counted, and given back at once."""

import gc
import select
import signal
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
import trio
import trustme
from tests.serving import (
    LOCAL,
    TRANSPORTS,
    make_server,
    reached,
    run,
    run_in_real_time,
    server_process,
    serving,
    until,
    until_turn,
)

from online.limits import Limits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Settings of a server that speaks TLS, and the context of its clients."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}, context


@pytest.fixture
def no_collector():
    """What is given back only when Python looks for cycles is not given back."""
    gc.disable()
    yield
    gc.enable()


@contextmanager
def connected(server, *, receive_bytes=64 * 1024):
    """A connection to a server process."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.settimeout(20)
        made.connect(("127.0.0.1", server.port))
        yield made


def figure(server, name):
    """One figure of INFO, of a server without a token."""
    with connected(server) as asking:
        asking.sendall(b"INFO\r\n")
        told = b""
        while b"\r\n%b:" % name.encode() not in told or not told.endswith(b"\r\n"):
            told += asking.recv(65536)
    return int(told.split(b"\r\n%b:" % name.encode())[1].split(b"\r\n")[0])


# At the end of a connection


def test_a_connection_over_tls_gives_back_what_it_held(certificate, no_collector):
    settings, context = certificate

    async def test():
        async with serving(listen=(LOCAL,), **settings) as served:
            wrap = partial(trio.SSLStream, ssl_context=context, server_hostname="localhost")
            for how in ("unfinished", "unread", "halfway"):
                peer = await served.connect(wrap=wrap)
                if how == "halfway":
                    await peer.stream.transport_stream.send_all(b"\x16\x03\x01")
                elif how == "unread":
                    await peer.send(b"ECHO " + b"x" * 60_000 + b"\r\n")
                else:
                    await peer.send(b"*1\r\n$1000000\r\n" + b"x" * 900_000)
                    await until_turn(lambda: served.server.statistics().buffered_bytes > 500_000)
                await peer.stream.transport_stream.aclose()
                await until_turn(lambda: served.server.statistics().connections == 0)
                assert served.server.statistics().buffered_bytes == 0
                assert served.server.service.connections == 0

    run_in_real_time(test)


@pytest.mark.slow
def test_clients_that_go_with_much_unfinished_do_not_lock_others_out(certificate):
    """With limits as they are unless set: 240 clients over TLS with a megabyte each, twice."""
    settings, context = certificate
    token = "0123456789abcdef"

    @contextmanager
    def logged_in(server):
        with connected(server) as plain, context.wrap_socket(plain, server_hostname="localhost") as peer:
            peer.sendall(b"AUTH %b\r\n" % token.encode())
            assert peer.recv(100) == b"+OK\r\n"
            yield peer

    def told(peer, name):
        peer.sendall(b"INFO\r\n")
        answer = peer.recv(65536)
        while len(answer) < int(answer[1:].split(b"\r\n")[0]):
            answer += peer.recv(65536)
        return int(answer.split(b"\r\n%b:" % name.encode())[1].split(b"\r\n")[0])

    arguments = ("--tls-cert", settings["tls_cert"], "--tls-key", settings["tls_key"], "--token", token)
    with ExitStack() as stack:
        server = stack.enter_context(server_process(*arguments))
        innocent = [stack.enter_context(logged_in(server)) for _ in range(10)]
        for _ in range(2):
            with ExitStack() as greedy:
                for _ in range(240):
                    peer = greedy.enter_context(logged_in(server))
                    peer.sendall(b"*2\r\n$4\r\nECHO\r\n$1040000\r\n" + b"x" * 1_000_000)
            until(lambda: told(innocent[0], "connected_clients") == len(innocent))
            assert told(innocent[0], "buffered_bytes") < 1024 * 1024
            with logged_in(server) as newcomer:
                newcomer.sendall(b"COUNT\r\n")
                assert newcomer.recv(100) == b":0\r\n"
        for peer in innocent:
            peer.sendall(b"PING\r\n")
            assert peer.recv(100) == b"+PONG\r\n"


def test_handshakes_that_are_not_done_count(certificate):
    settings, _ = certificate

    async def test():
        limits = Limits(max_buffers=1024 * 1024)
        async with serving(listen=(LOCAL,), limits=limits, **settings) as served:
            for _ in range(30):
                await served.connect()
            await until_turn(lambda: served.server.connections.accepted == 30)
            await until_turn(lambda: served.server.statistics().buffered_bytes <= 1024 * 1024)
            assert reached(served.server)["max_buffers_reached"] >= 10

    run_in_real_time(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_limit_ends_only_who_holds_much(transport):
    async def test():
        limits = Limits(max_buffers=1024 * 1024)
        async with serving(listen=(LOCAL,), limits=limits, transport=transport) as served:
            modest = [await served.connect() for _ in range(20)]
            for peer in modest:
                await peer.send(b"*2\r\n$4\r\nECHO\r\n$5\r\nhel")
            greedy = [await served.connect() for _ in range(4)]
            for peer in greedy:
                with trio.move_on_after(5):
                    await peer.send(b"*1\r\n$1000000\r\n" + b"x" * 400_000)
            await until_turn(lambda: "max_buffers_reached" in reached(served.server))
            for peer in modest:
                await peer.send(b"lo\r\n")
                assert await peer.receive() == b"$5\r\nhello\r\n"
            assert 1 <= reached(served.server)["max_buffers_reached"] <= 4

    run_in_real_time(test)


# What the system holds


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_does_not_read_is_counted_and_then_reset(transport):
    with server_process("--transport", transport, "--send-timeout", "1", "--max-output", "4KiB") as server:
        with connected(server, receive_bytes=4096) as unread:
            unread.settimeout(0.2)
            with suppress(TimeoutError):
                while True:
                    unread.sendall(b"ECHO " + b"x" * 4_000 + b"\r\n")
            assert figure(server, "buffered_bytes") > 64 * 1024
            until(lambda: figure(server, "slow") == 1)
            unread.settimeout(20)
            with suppress(ConnectionError):
                while unread.recv(65536):
                    pass
                raise AssertionError("an end that waits for what was not read")
        until(lambda: figure(server, "buffered_bytes") < 64 * 1024)


# Time that the server lost itself


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_was_in_time_while_the_server_stood_still_is_answered(transport):
    options = ("--transport", transport, "--frame-timeout", "1", "--auth-timeout", "1", "--token", "sesame")
    with (
        server_process(*options) as server,
        connected(server) as asking,
        connected(server) as silent,
        connected(server) as halfway,
    ):
        halfway.sendall(b"AUTH sesame\r\n*1\r\n$5\r\nCOU")
        assert halfway.recv(100) == b"+OK\r\n"
        server.popen.send_signal(signal.SIGSTOP)
        halfway.sendall(b"NT\r\n")
        asking.sendall(b"AUTH sesame\r\n")
        time.sleep(1.5)
        server.popen.send_signal(signal.SIGCONT)
        assert halfway.recv(100) == b":0\r\n"
        assert asking.recv(100) == b"+OK\r\n"
        assert silent.recv(100).startswith(b"-NOAUTH no token within 1 s")


# Turns


@pytest.mark.skipif("reactor" not in TRANSPORTS, reason="there is no epoll here")
def test_long_questions_of_many_do_not_hold_up_a_short_one():
    """Sixty clients have a millisecond of work each; whoever comes meanwhile waits for one or two of them."""

    async def test():
        server = make_server(transport="reactor")
        now_ms = server.clock.now_ms()
        for n in range(1_000):
            server.verbs.sites[b"default"].hit(b"user%d" % n, b"/p", now_ms=now_ms)
        pairs = [socket.socketpair() for _ in range(61)]
        for ours, theirs in pairs:
            ours.setblocking(False)
            server.sockets.adopt(theirs.detach())
        (asking, _), *busy = pairs
        for ours, _ in busy:
            ours.send(b"PAGE /p 1000\r\n" * 2_000)

        def turn():
            """Take a turn, and read as much as was sent."""
            server.sockets.reactor.turn(now_ms)
            for ours, _ in busy:
                with suppress(BlockingIOError):
                    ours.recv(1_000_000)

        for _ in range(100):
            turn()
        turns = 0
        for _ in range(20):
            asking.send(b"COUNT /p\r\n")
            while not select.select([asking], [], [], 0)[0]:
                turn()
                turns += 1
            assert asking.recv(100) == b":1000\r\n"
        assert turns <= 100  # one or two each, and more on a busy machine; not one for each that is busy
        server.sockets.reactor.close()
        for ours, _ in pairs:
            ours.close()

    run(test)


# Pipelines


def test_a_long_pipeline_over_tls_is_answered_whole(certificate):
    settings, context = certificate
    with (
        server_process("--tls-cert", settings["tls_cert"], "--tls-key", settings["tls_key"]) as server,
        connected(server) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as asking,
    ):
        asking.sendall(b"*1\r\n$5\r\nCOUNT\r\n" * 100_000)
        received = 0
        while received < 4 * 100_000:
            received += len(asking.recv(65536))
        assert received == 4 * 100_000
