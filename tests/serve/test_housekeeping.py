"""Housekeeping: what happens at each full second, and what a failure does."""

import os

import pytest
import trio
from tests.serving import START_MS, Wall, in_memory, join, make_server

from online.errors import OnlineError


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
    monkeypatch.setattr(server.verbs, "expire", lambda now_ms: iter([times_ms.append(now_ms - START_MS)]))
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
    assert sorted(os.listdir(tmp_path / "state")) == ["history", "journal-000000000001", "lock"]
