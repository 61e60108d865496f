"""Who does not read, over TCP: what the kernel holds of them is counted, and given back with the connection.

The clock may jump here: the kernel delivers at once between sockets of one machine.
"""

import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import wraps

import pytest
import trio
from tests.serving import LOCAL, TRANSPORTS, join, make_server, reached, run

from online import errors
from online.core.journal import Journal
from online.limits import FAREWELL_S
from online.serve.keeper import Keeper

needs_reactor = pytest.mark.skipif("reactor" not in TRANSPORTS, reason="there is no epoll here")


def jumping(test):
    """Run an async test with a clock that jumps."""

    @wraps(test)
    def run_it(**given):
        async def bound():
            await test(**given)

        run(bound)

    return run_it


@asynccontextmanager
async def listening(**settings):
    """A server that listens to TCP."""
    async with trio.open_nursery() as nursery:
        server = make_server(listen=(LOCAL,), **settings)
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server):
    """A client's socket, which never blocks and takes little at a time."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = server.addresses[0]
        made.connect((address.host, address.port))
        made.setblocking(False)
        yield made


async def settled():
    await trio.testing.wait_all_tasks_blocked()


async def fill(server, client, *, at_least):
    """Ask, and do not read, until so much waits; and then a little more."""
    n_more = 4
    while n_more:
        n_more -= server.statistics().buffered_bytes >= at_least
        client.send(b"ECHO " + b"x" * 4_000 + b"\r\n")
        await settled()


async def received(client):
    """What comes until the end, a little each half second. Raises ConnectionResetError."""
    chunks = []
    while True:
        await trio.sleep(0.5)
        with suppress(BlockingIOError):
            chunk = client.recv(16 * 1024)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)


@pytest.mark.parametrize("transport", TRANSPORTS)
@jumping
async def test_input_that_waits_in_the_kernel_is_counted(transport):
    limits = {"max_output": 4096}
    async with listening(transport=transport, limits=limits) as server, connected(server) as client:
        await fill(server, client, at_least=10_000)
        before = server.statistics().buffered_bytes
        n_sent = 0
        with suppress(BlockingIOError):
            while n_sent < 100_000:
                n_sent += client.send(b"COUNT\r\n" * 1_000)
        await trio.sleep(2.5)
        assert n_sent >= 100_000
        assert server.statistics().buffered_bytes >= before + 50_000


@pytest.mark.parametrize("transport", TRANSPORTS)
@jumping
async def test_input_that_waits_in_the_kernel_is_bounded(transport):
    """It grows without the server: so the server looks, without being asked."""
    limits = {"max_output": 4096, "max_buffers": 1024 * 1024}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(transport=transport, limits=limits))
        modest, *greedy = [await stack.enter_async_context(connected(server)) for _ in range(11)]
        for client in greedy:
            await fill(server, client, at_least=server.statistics().buffered_bytes + 8_000)
        assert reached(server) == {}
        for client in greedy:
            with suppress(BlockingIOError):
                for _ in range(100):
                    client.send(b"COUNT\r\n" * 1_000)
        await trio.sleep(2.5)
        assert reached(server)["max_buffers_reached"] >= 1
        assert server.statistics().buffered_bytes <= 1024 * 1024
        modest.send(b"COUNT\r\n")
        await settled()
        assert modest.recv(100) == b":0\r\n"


@needs_reactor
@jumping
async def test_who_does_not_take_the_last_replies_is_counted_and_reset():
    async with listening(transport="reactor") as server, connected(server) as client:
        client.send(b"ECHO " + b"x" * 60_000 + b"\r\nQUIT\r\n")
        await settled()
        assert server.statistics().buffered_bytes > 20_000
        await trio.sleep(3)
        assert server.statistics().connections == 0
        with pytest.raises(ConnectionResetError):
            await received(client)


@needs_reactor
@jumping
async def test_who_is_slow_to_take_the_last_replies_gets_them():
    async with listening(transport="reactor") as server, connected(server) as client:
        client.send(b"ECHO " + b"x" * 60_000 + b"\r\nQUIT\r\n")
        assert len(await received(client)) == len(b"$60000\r\n" + b"\r\n+OK\r\n") + 60_000
        await trio.sleep(2 * FAREWELL_S)
        assert server.statistics().connections == 0
        assert server.statistics().buffered_bytes == 0


@needs_reactor
@jumping
async def test_to_hit_is_no_progress_in_reading(tmp_path):
    """Answers to hits wait for the journal, which does not renew the time for what waits already."""
    async with listening(transport="reactor", state=tmp_path / "state") as server, connected(server) as client:
        await trio.sleep(1)
        await fill(server, client, at_least=100_000)
        for _ in range(5):
            client.send(b"HIT theo /x\r\n")
            await trio.sleep(3)
            if reached(server):
                break
        assert reached(server) == {"slow": 1}
        assert server.statistics().users == 1


@jumping
async def test_who_is_ended_while_the_disk_is_waited_for_is_told_of_no_hit():
    """The journal may never have it."""
    async with trio.open_nursery() as nursery:
        server = make_server(transport="streams")
        server.service.journal = Journal()
        server.service.journal.settled = trio.sleep_forever
        peer = join(server, nursery)
        await peer.send(b"HIT theo /x\r\n")
        await settled()
        for connection in list(server.connections):
            assert server.connections.end(connection, errors.killed(), now_ms=server.clock.now_ms())
        assert await peer.receive_rest() == b""
        nursery.cancel_scope.cancel()


@needs_reactor
@jumping
async def test_input_of_who_waits_for_the_disk_is_counted(tmp_path):
    async with (
        listening(transport="reactor", state=tmp_path / "state", sync=0.0) as server,
        connected(server) as client,
    ):
        keeper = next(part for part in server.parts if isinstance(part, Keeper))
        in_thread, may_sync = keeper.in_thread, trio.Event()

        async def held(function, *args):
            if function == keeper._sync_all:
                await may_sync.wait()
            return await in_thread(function, *args)

        keeper.in_thread = held
        client.send(b"HIT theo /x\r\n")
        await settled()
        n_sent = client.send(b"COUNT\r\n" * 5_000)
        before = server.statistics().buffered_bytes
        await trio.sleep(2.5)
        assert server.statistics().buffered_bytes >= before + n_sent
        may_sync.set()
        await trio.sleep(1)
        assert server.statistics().buffered_bytes < n_sent
        assert client.recv(100).startswith(b"+OK\r\n:1\r\n")
