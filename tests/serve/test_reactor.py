"""The reactor: what only real sockets do. What both transports must do alike is in test_server.py.

Sockets of this machine deliver at once, so the clock may jump here, too.
"""

import os
import resource
import select
import socket
import struct
import time
from contextlib import ExitStack
from functools import wraps

import pytest
import trio
from tests.serving import (
    LOCAL,
    TRANSPORTS,
    Peer,
    join,
    join_by_socket,
    make_server,
    peer_of,
    run,
    run_in_real_time,
    unbuffered,
)

from online.errors import ConfigError
from online.serve import sockets as sockets_module
from online.serve.delays import LONG_NS

pytestmark = pytest.mark.skipif("reactor" not in TRANSPORTS, reason="there is no epoll here")


def with_reactor(**settings):
    """Run a test with a clock that jumps, and a server that serves TCP by the reactor."""

    def decorate(async_test):
        @wraps(async_test)
        def test():
            run(with_server)

        async def with_server():
            failure = None
            async with trio.open_nursery() as nursery:
                server = make_server(listen=(LOCAL,), transport="reactor", **settings)
                await nursery.start(server.run)
                try:
                    await async_test(server)
                except Exception as error:
                    failure = error
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure

        del test.__wrapped__
        return test

    return decorate


def connect(server, *, receive_bytes=None):
    """A socket that is connected, though perhaps not accepted yet."""
    connected = socket.socket()
    if receive_bytes is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    address = server.addresses[0]
    connected.connect((address.host, address.port))
    return connected


def reset(peer):
    """Break a connection off, as a machine does that has lost it."""
    peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.stream.socket.close()


def echo(text):
    return b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(text), text)


def reached(server):
    return {name: n for name, n in server.statistics().limits.items() if n}


async def settled():
    await trio.testing.wait_all_tasks_blocked()


def is_clean(server):
    """Whether nobody is connected, nothing waits, and nothing has failed or reached a limit."""
    statistics = server.statistics()
    left = (statistics.connections, statistics.connections_failed, statistics.buffered_bytes)
    return left == (0, 0, 0) and reached(server) == {} and server.service.connections == 0


# Coming in


@with_reactor()
async def test_a_storm_of_connections_is_accepted(server):
    peers = [peer_of(connect(server)) for _ in range(500)]
    for n, peer in enumerate(peers):
        await peer.send(b"ECHO %d\r\n" % n)
    for n, peer in enumerate(peers):
        assert await peer.receive() == b"$%d\r\n%d\r\n" % (len(str(n)), n)
    assert server.statistics().connections == 500


@with_reactor()
async def test_connections_queue_while_no_more_files_may_be_open(server):
    waiting = [connect(server) for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(waiting[0].fileno())
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        await trio.sleep(0.25)
        assert reached(server) == {"open_files_reached": 3}
        assert server.statistics().connections == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for connected in waiting:
        assert await peer_of(connected).ask(b"COUNT") == b":0\r\n"
    assert reached(server) == {"open_files_reached": 3}


@with_reactor()
async def test_who_has_gone_before_being_accepted_is_no_failure(server):
    for _ in range(10):
        reset(peer_of(connect(server)))
    await settled()
    assert is_clean(server)


@with_reactor(limits={"max_connections": 2})
async def test_connections_of_both_transports_are_counted_together(server):
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.streams.serve, theirs)
        for peer in (Peer(ours), peer_of(connect(server))):
            assert await peer.ask(b"COUNT") == b":0\r\n"
        assert await peer_of(connect(server)).receive_rest() == b"-ERR max number of clients reached\r\n"
        await ours.aclose()


@with_reactor()
async def test_numbers_of_files_are_used_again(server):
    """Some go while others come, within the same turn, and everybody is answered what they asked."""
    peers = []
    for n in range(20):
        for peer in peers[::2]:
            peer.stream.socket.close()
        peers = peers[1::2] + [peer_of(connect(server)) for _ in range(10)]
        for m, peer in enumerate(peers):
            await peer.send(echo(b"%04d %04d" % (n, m)))
        for m, peer in enumerate(peers):
            assert await peer.receive() == b"$9\r\n%04d %04d\r\n" % (n, m)
    await settled()
    assert server.statistics().connections == len(peers)


# Going


@with_reactor()
async def test_a_half_closed_socket_gets_its_answers(server):
    peer = peer_of(connect(server, receive_bytes=2048))
    await peer.send(echo(b"x" * 500_000) * 3 + b"COU")
    await peer.stream.send_eof()
    assert await peer.receive_rest() == (b"$500000\r\n" + b"x" * 500_000 + b"\r\n") * 3
    await settled()
    assert is_clean(server)


STATES = {
    "between messages": b"COUNT\r\n",
    "inside a message": b"*2\r\n$4\r\nECHO\r\n$9\r\nxx",
    "with work left": b"COUNT\r\n" * 9_000,
    "with output that waits": echo(b"x" * 900_000) * 2,
    "after its last reply": b"QUIT\r\nCOUNT\r\n",
    "after an error that ends it": b"*1\r\n$9999999999\r\n" + b"x" * 90_000,
}


@pytest.mark.parametrize("sent", STATES.values(), ids=STATES)
def test_a_peer_may_break_off_in_any_state(sent):
    @with_reactor()
    async def test(server):
        good = peer_of(connect(server))
        for n_turns in range(12):
            bad = peer_of(connect(server, receive_bytes=2048))
            with trio.move_on_after(0.1):  # it may be that not all is taken
                await bad.send(sent)
            for _ in range(n_turns):
                await trio.lowlevel.checkpoint()
            reset(bad)
            assert await good.ask(b"COUNT") == b":0\r\n"
            await settled()
            assert server.statistics().connections == 1
        good.stream.socket.close()
        await settled()
        assert is_clean(server)

    test()


@with_reactor()
async def test_a_connection_that_fails_ends_alone(server):
    server.verbs.call = lambda *args: 1 / 0
    good, bad = peer_of(connect(server)), peer_of(connect(server))
    await bad.send(b"COUNT\r\nSITES\r\nCOU")
    assert await bad.receive_rest() == b""
    assert await good.ask(b"COUNT") == b":0\r\n"
    assert server.statistics().connections_failed == 1
    assert server.statistics().buffered_bytes == 0


@with_reactor()
async def test_a_long_step_is_told_with_its_verb(server):
    def call(*args):
        end_ns = time.monotonic_ns() + LONG_NS
        while time.monotonic_ns() < end_ns:
            pass
        return "done"

    told = []
    server.verbs.call = call
    server.sockets.reactor.noted = lambda *about: told.append(about)
    peer = peer_of(connect(server))
    assert await peer.ask(b"COUNT") == b":0\r\n"
    assert await peer.ask(b"SITES") == b"$4\r\ndone\r\n"
    # On a busy machine others may be long as well.
    [(_, ns, _, cpu_ns)] = [about for about in told if about[::2] == ("step", "SITES")]
    assert ns >= LONG_NS
    assert cpu_ns > 0
    assert server.verbs.delays.events()["turn_cpu"].longest_ns > 0


# Replies that do not fit


@with_reactor()
async def test_a_reply_that_is_read_late_arrives_whole(server):
    peer, other = peer_of(connect(server, receive_bytes=2048)), peer_of(connect(server))
    texts = [bytes([65 + n]) * 400_000 for n in range(6)]
    await peer.send(b"".join(map(echo, texts[:2])))
    assert await other.ask(b"COUNT") == b":0\r\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, b"".join(map(echo, texts[2:])))
        for text in texts:
            expected = b"$400000\r\n" + text + b"\r\n"
            assert await peer.receive_bytes(len(expected)) == expected
    await settled()
    assert server.statistics().buffered_bytes == 0


@with_reactor()
async def test_a_slow_client_is_closed_and_counted(server):
    peer = peer_of(connect(server, receive_bytes=2048))
    with trio.move_on_after(1):
        await peer.send(echo(b"x" * 900_000) * 20)
    while not reached(server):  # as long as the system takes something, that is progress
        await trio.sleep(1)
    assert reached(server) == {"slow": 1}
    assert server.statistics().connections == 0
    assert server.statistics().buffered_bytes == 0


@with_reactor(limits={"max_output": 4096})
async def test_nothing_is_parsed_while_output_waits(server):
    async with trio.open_nursery() as nursery:
        peer = join(server, nursery, make_line=unbuffered)
        await peer.send(b"INFO\r\n" * 200 + b"HIT theo /x\r\n")
        await settled()
        assert server.statistics().users == 0
        assert server.statistics().buffered_bytes < 32 * 1024  # with what the system holds
        while not server.statistics().users:
            await peer.receive()


@with_reactor()
async def test_who_rests_owns_no_buffer(server):
    peers = [peer_of(connect(server)) for _ in range(20)]
    for peer in peers:
        await peer.ask(b"INFO")
    await settled()
    assert server.statistics().buffered_bytes == 0


# Turns


@with_reactor()
async def test_a_busy_connection_holds_nobody_up(server):
    """The reply of INFO to one says how far the other had come by then."""
    async with trio.open_nursery() as nursery:
        busy, other = (join_by_socket(server, nursery) for _ in range(2))
        await settled()
        busy.stream.socket._sock.setblocking(False)
        sent = busy.stream.socket._sock.send(b"COUNT\r\n" * 9_000) // 7
        await other.send(b"INFO clients\r\n")
        info = await other.receive()
        commands = int(info.split(b"commands:")[1].split(b"\r\n")[0])
        assert commands < sent
        assert await busy.receive_bytes(4 * sent) == b":0\r\n" * sent


def test_a_turn_ends_although_work_is_left():
    async def test():
        server = make_server(transport="reactor")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            server.sockets.adopt(theirs.detach())
            ours.setblocking(False)
            now_ms = server.clock.now_ms()
            turns = 0
            received = 0
            for _ in range(200):
                while select.select([], [ours], [], 0)[1]:
                    ours.send(b"KINDS\r\n" * 9_000)
                turns += server.sockets.reactor.turn(now_ms)
                if select.select([ours], [], [], 0)[0]:
                    received += len(ours.recv(1_000_000))
            assert turns > 1
            assert received > 0
            server.sockets.reactor.close()

    run(test)


# What serves


def test_the_reactor_is_used_where_there_is_one(monkeypatch):
    async def test():
        assert make_server(transport="auto").sockets is not None
        assert make_server(transport="streams").sockets is None
        monkeypatch.setattr(sockets_module, "HAS_REACTOR", False)
        assert make_server(transport="auto").sockets is None
        with pytest.raises(ConfigError, match=r"^transport reactor needs epoll, which this system does not have$"):
            make_server(transport="reactor")

    run(test)


@with_reactor()
async def test_turns_and_steps_are_counted(server):
    peer = peer_of(connect(server))
    for _ in range(3):
        assert await peer.ask(b"COUNT") == b":0\r\n"
    events = server.verbs.delays.events()
    assert sum(events["turn"].counts) >= 3
    assert sum(events["step"].counts) >= sum(events["turn"].counts)
    assert events["turn"].longest_ns >= events["step"].longest_ns > 0


# In Trio's place


class Waiting:
    """A reactor that waits in the place of a host, whose set is `host`; and a socket that it serves."""

    def __init__(self, stack, server):
        self.reactor = server.sockets.reactor
        self.host = stack.enter_context(select.epoll())
        self.news, self.bell = (stack.enter_context(each) for each in socket.socketpair())
        self.host.register(self.news, select.EPOLLIN)
        self.reactor.host(self.host.fileno())
        self.client, theirs = socket.socketpair()
        stack.enter_context(self.client)
        self.client.settimeout(20)
        self.now_ms = server.clock.now_ms
        self.reactor.adopt(theirs.detach(), now_ms=self.now_ms())

    def wait(self, for_s=20.0):
        return self.reactor.wait(for_s, self.now_ms)


def while_waiting(test):
    """Run a test with a reactor that waits."""

    @wraps(test)
    def in_run():
        async def with_server():
            with ExitStack() as stack:
                waiting = Waiting(stack, make_server(transport="reactor"))
                stack.callback(waiting.reactor.close)
                test(waiting)

        run(with_server)

    del in_run.__wrapped__
    return in_run


@while_waiting
def test_peers_are_served_while_the_reactor_waits_in_the_hosts_place(waiting):
    waiting.client.sendall(b"PING\r\n")
    waiting.bell.send(b"!")
    assert waiting.wait()
    assert waiting.client.recv(100) == b"+PONG\r\n"
    assert waiting.wait(), "as long as the host has not looked"
    waiting.news.recv(1)
    assert not waiting.wait(0.001)


@while_waiting
def test_a_host_that_is_wanted_goes_on_at_once(waiting):
    waiting.reactor.is_host_wanted = True
    waiting.client.sendall(b"PING\r\n")
    assert not waiting.wait()
    assert not select.select([waiting.client], [], [], 0)[0]
    waiting.reactor.is_host_wanted = False
    waiting.bell.send(b"!")
    assert waiting.wait()
    assert waiting.client.recv(100) == b"+PONG\r\n"


@while_waiting
def test_a_turn_that_leaves_work_ends_the_wait(waiting):
    waiting.client.setblocking(False)
    sent = waiting.client.send(b"KINDS\r\n" * 100_000)
    assert sent > 64 * 1024, "more than one step takes"
    assert not waiting.wait()
    assert len(waiting.client.recv(1_000_000)) > 0


@while_waiting
def test_deadlines_pass_while_the_reactor_waits(waiting):
    """The clock of the run stands still here, but for this."""
    late_ms = waiting.now_ms() + 100_000_000
    waiting.client.sendall(b"*2\r\n$4\r\nECHO")
    assert not waiting.wait(0.001)
    waiting.now_ms = lambda: late_ms
    assert not waiting.wait(0.001)
    assert waiting.client.recv(1_000).startswith(b"-")


@while_waiting
def test_the_wait_ends_when_the_last_has_gone_at_the_end(waiting):
    assert not waiting.wait(0.001)
    waiting.reactor.end(now_ms=waiting.now_ms())
    assert not waiting.wait()
    assert waiting.reactor.sockets == 0


@while_waiting
def test_a_host_that_does_not_wait_has_peers_served_once(waiting):
    assert waiting.wait(0), "nobody is ready, and the host goes on"
    waiting.client.sendall(b"PING\r\n")
    assert waiting.wait(0)
    assert waiting.client.recv(100) == b"+PONG\r\n"
    waiting.client.sendall(b"INFO\r\n" * 1_000)  # which takes a turn long before its answers fill a buffer
    assert not waiting.wait(0), "work is left for the owner"


@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("n_servers", [1, 2])
def test_servers_in_one_run_serve_while_trio_waits(n_servers, is_busy):
    """In real time, the first waits in Trio's place; Trio may have something else to do, without an end."""

    async def be_busy():
        while True:
            await trio.lowlevel.checkpoint()

    async def test():
        async with trio.open_nursery() as nursery:
            if is_busy:
                nursery.start_soon(be_busy)
            servers = [make_server(listen=(LOCAL,), transport="reactor") for _ in range(n_servers)]
            for server in servers:
                await nursery.start(server.run)
            for server in servers:
                with connect(server) as client:
                    client.settimeout(20)
                    for _ in range(50):
                        client.sendall(b"PING\r\n")
                        assert await trio.to_thread.run_sync(client.recv, 100) == b"+PONG\r\n"
                peer = peer_of(connect(server))
                assert await peer.ask(b"COUNT") == b":0\r\n"
            nursery.cancel_scope.cancel()

    run_in_real_time(test)


def test_a_turn_that_fails_while_trio_waits_ends_the_task():
    class Failing:
        is_host_wanted = False

        def host(self, fd):
            pass

        def wait(self, for_s, now_ms):
            raise OSError("no turn")

    async def test():
        instead = sockets_module._InPlaceOfTrio(Failing(), lambda: 0, sockets_module._epoll_of_trio())
        try:
            with pytest.raises(OSError, match="no turn"):
                await instead.wait()
        finally:
            instead.end()

    run_in_real_time(test)


def test_trio_is_found_unless_its_clock_jumps():
    async def test():
        return sockets_module._epoll_of_trio()

    assert run_in_real_time(test) > 0
    assert run(test) == -1
