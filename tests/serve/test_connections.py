"""The hub of connections: how many there may be, what they take together, and what is logged of them."""

import pytest
import trio
from tests.serving import echo, echoed, in_memory, join, make_server, reached, serving, unbuffered, with_sockets

from online.serve import connections as connections_module
from online.serve import streams as streams_module


@in_memory
async def test_failures_are_logged_only_so_often(nursery, caplog, monkeypatch):
    server = make_server()
    monkeypatch.setattr(server.verbs, "call", lambda *args: 1 / 0)
    for _ in range(connections_module.TRACEBACKS + 5):
        await join(server, nursery).ask(b"SITES")
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().connections_failed == connections_module.TRACEBACKS + 5
    assert len(caplog.records) == connections_module.TRACEBACKS


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
    for _ in range(100):
        await join(server, nursery).send(b"AUTH wrong\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert len(caplog.messages) == connections_module.WARNINGS_A_MINUTE
    await trio.sleep(60)
    await join(server, nursery).ask(b"AUTH wrong")
    assert caplog.messages[-1].endswith("; 90 more of such were not logged")


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
