"""A relay: hits come in by every way, are published, and nobody is kept."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from tests.bus.servers import Broker, Running, async_test, free_port, replicas, until
from tests.serve.test_syslog import json_line
from tests.serving import LOCAL, environment
from tests.serving import until as until_in_real_time

from online.bus.relay import UNANSWERED
from online.cli.relay import assemble
from online.errors import ConfigError
from online.serve.config import Config
from online_client import Client, CommandError, OnlineError

QUESTIONS = (
    "COUNT", "COUNTS /a", "KINDS", "PAGE /a", "RECENT", "USERS", "SEEN ada", "SECTION /", "TOP", "PEAK",
    "SITES", "DBSIZE", "HISTORY", "LAST ada", "FORGET ada", "SUBSCRIBE count",
)  # fmt: skip


@contextlib.asynccontextmanager
async def relay(url, **settings):
    async with trio.open_nursery() as nursery:
        server = assemble(Config(listen=(LOCAL,), bus=url, http=(), **settings))
        await nursery.start(server.run)
        try:
            yield Running(server)
        finally:
            server.stop()


@pytest.mark.parametrize("transport", ["reactor", "streams"])
def test_what_a_relay_takes_all_servers_know(broker, transport):
    @async_test
    async def run():
        async with replicas(broker.url) as (one, two), relay(broker.url, transport=transport) as taking:
            await taking.hit(b"ada", b"/a")
            await taking.hit(b"theo", b"/b")
            await taking.hit(b"ada", b"/b")
            assert await taking.ask(b"LEAVE theo") == "+OK"
            for server in (one, two):
                await until(lambda server=server: server.bus.follower.hits >= 4)
                assert await server.ask(b"COUNT") == ":1"
                assert await server.ask(b"COUNT /b") == ":1"
            assert taking.users == 0
            assert taking.server.sites.statistics().accepted == 4

    run()


@async_test
async def test_batches_and_sites_are_handed_on_and_bad_hits_refused(broker):
    async with replicas(broker.url, 1) as (server,), relay(broker.url) as taking:
        port = taking.server.addresses[0].port

        def report():
            with Client(f"online://127.0.0.1:{port}/shop") as client:
                hits = [(f"u{number}", f"/{number % 7}") for number in range(1_000)]
                outcome = client.hits([*hits, ("", "/a")])
                assert (outcome.accepted, outcome.refused) == (1_000, 1)

        await trio.to_thread.run_sync(report)
        await until(lambda: server.users == 1_000)
        assert set(server.server.sites) == {b"default", b"shop"}
        assert taking.users == 0


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_gets_an_error_that_says_so(broker, question):
    @async_test
    async def run():
        async with relay(broker.url) as taking:
            assert await taking.ask(question.encode()) == f"-ERR {UNANSWERED}"

    run()


@async_test
async def test_syslog_is_relayed(broker):
    async with replicas(broker.url, 1) as (server,), relay(broker.url, syslog=(LOCAL,)) as taking:
        part = next(each for each in taking.server.parts if each.name == "syslog")
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sender:
            await sender.sendto(json_line("theo", "/x"), (part.addresses[0].host, part.addresses[0].port))
        await until(lambda: server.users == 1)
        assert await server.ask(b"COUNT /x") == ":1"
        assert taking.users == 0


@async_test
async def test_hits_wait_for_a_bus_that_is_away(tmp_path):
    broker = Broker(tmp_path)
    try:
        async with relay(broker.url) as taking:
            await taking.hit(b"ada", b"/a")
            await until(lambda: taking.bus.outlets[0].publisher.is_away)
            assert "bus_status:away" in await information(taking)
            broker.start()
            async with replicas(broker.url, 1) as (server,):
                await until(lambda: server.users == 1)
                await until(lambda: not taking.bus.outlets[0].publisher.is_away)
    finally:
        broker.close()


@async_test
async def test_what_finds_no_room_is_counted(tmp_path):
    broker = Broker(tmp_path)
    async with relay(broker.url) as taking:
        taking.bus.outlets[0].publisher.most_bytes = 100
        await until(lambda: taking.bus.outlets[0].publisher.is_away)
        for number in range(50):
            await taking.hit(b"u%d" % number, b"/a")
        await until(lambda: taking.bus.outlets[0].publisher.counts.dropped > 0)
        taken = taking.bus.outlets[0].publisher.counts.dropped + taking.bus.outlets[0].trail.n_hits
        assert taken + taking.bus.outlets[0].publisher._hits == 50
    broker.close()


async def information(running):
    peer = await running.connect()
    await peer.send(b"INFO bus\r\n")
    text = b""
    while b"retries:" not in text:
        text += await peer.receive()
    await peer.stream.aclose()
    return text.decode()


def test_a_relay_needs_a_bus():
    with pytest.raises(ConfigError, match="needs a bus"):
        assemble(Config())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"map": Path("/nowhere.toml")}, "nowhere.toml cannot be read"),
        ({"map": Path("/map.toml"), "partition": 1}, "leave out --partition"),
    ],
    ids=["map", "partition"],
)
def test_a_map_that_a_relay_cannot_go_by_is_told(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        assemble(Config(bus="redis://127.0.0.1:1", **settings))


def test_a_process_publishes_what_it_has_when_it_ends(broker):
    port = free_port()
    words = [sys.executable, "-m", "online", "relay", "--listen", f"127.0.0.1:{port}", "--bus", broker.url]
    process = subprocess.Popen(words, env=environment(ONLINE_HTTP=""), stderr=subprocess.DEVNULL)
    try:
        with Client(f"online://127.0.0.1:{port}/default", timeout=5) as client:
            until_in_real_time(lambda: is_taken(client))
            with pytest.raises(CommandError, match="this is a relay"):
                client.count()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
    [(_, fields)] = broker.client.xrange("online:hits:0")
    assert b"ada" in fields[b"f"]


def is_taken(client):
    try:
        client.hit("ada", "/a")
    except OnlineError:
        return False
    return True
