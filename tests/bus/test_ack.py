"""`--bus-ack yes`: an answer to a hit says that the bus has it."""

import threading

import pytest
import trio
from tests.bus.servers import ON_ALL_ENGINES, async_test, equal, replicas, until
from tests.serving import TRANSPORTS, server_process
from tests.serving import until as until_so

from online_client import Client, ConnectionFailed, LoadingError


@ON_ALL_ENGINES
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("has_state", [False, True], ids=["memory", "state"])
def test_an_answer_comes_when_the_bus_has_the_hit(broker, tmp_path, transport, has_state):
    async def answer():
        state = (lambda number: tmp_path / str(number)) if has_state else None
        async with replicas(broker.url, bus_ack="yes", transport=transport, state=state) as (one, two):
            for number in range(20):
                await one.hit(b"user%d" % number, b"/a")
                assert b"user%d" % number in broker.stored()
            await equal(one, two, users=20)
            # Hits that change nothing are answered as well.
            await one.hit(b"user1", b"/a", b"%d" % (one.server.clock.now_ms() - 1_000_000))
            assert await one.ask(b"COUNT") == ":20"

    async_test(answer)()


@ON_ALL_ENGINES
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_while_the_bus_is_away_hits_are_refused_and_questions_answered(broker, transport):
    async def refuse():
        async with replicas(broker.url, bus_ack="yes", transport=transport) as (one, two):
            await one.hit(b"ada", b"/a")
            await equal(one, two, users=1)
            broker.kill()
            await until(lambda: one.server.service.refusing)
            assert (await one.ask(b"HIT kim /a")).startswith("-MISCONF the bus does not take hits")
            assert await one.ask(b"COUNT") == ":1"
            await trio.to_thread.run_sync(broker.start)
            await until(lambda: not one.server.service.refusing)
            await one.hit(b"kim", b"/a")
            await equal(one, two, users=2)

    async_test(refuse)()


@async_test
async def test_a_bus_without_memory_keeps_an_answer_back(broker):
    async with replicas(broker.url, 1, bus_ack="yes") as (one,):
        broker.client.config_set("maxmemory", 1)
        answers = []

        async def hit():
            answers.append(await one.ask(b"HIT ada /a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hit)
            await until(lambda: one.server.service.refusing)
            assert answers == []
            broker.client.config_set("maxmemory", 0)
        assert not answers[0].startswith("-")
        await until(lambda: not one.server.service.refusing)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("has_state", [False, True], ids=["memory", "state"])
def test_a_hit_does_not_wait_for_ever(broker, tmp_path, monkeypatch, transport, has_state):
    """Nobody knows if the bus has it, so it is neither confirmed nor refused: its connection ends."""
    monkeypatch.setattr("online.bus.replica.ACK_S", 0.3)

    async def wait():
        state = tmp_path / "state" if has_state else None
        async with replicas(broker.url, 1, bus_ack="yes", transport=transport, state=state) as (one,):
            await one.hit(b"ada", b"/a")
            broker.client.config_set("maxmemory", 1)
            peer = await one.connect()
            await peer.send(b"HIT kim /a\r\n")
            assert await peer.stream.receive_some() == b""
            await peer.stream.aclose()
            assert (await one.ask(b"HIT kim /a")).startswith("-MISCONF")
            assert await one.ask(b"COUNT") == ":2"
            broker.client.config_set("maxmemory", 0)
            await until(lambda: not one.server.service.refusing)
            await one.hit(b"theo", b"/a")
            assert b"kim" in broker.stored()

    async_test(wait)()


@ON_ALL_ENGINES
def test_no_hit_that_was_answered_is_lost_when_a_server_is_killed(broker):
    answered = 0
    with (
        server_process("--bus", broker.url) as other,
        server_process("--bus", broker.url, "--bus-ack", "yes") as process,
        Client(process.url, timeout=10) as client,
        Client(other.url, timeout=10) as second,
    ):
        until_so(lambda: is_ready(client) and is_ready(second))
        killing = threading.Timer(0.5, process.popen.kill)
        killing.start()
        try:
            while True:
                client.hit(f"user{answered}", "/a")
                answered += 1
        except ConnectionFailed:
            pass
        killing.join()
        assert answered > 0
        until_so(lambda: second.count() >= answered)
        for begin in range(0, answered, 50):
            assert None not in second.seen(*(f"user{n}" for n in range(begin, min(begin + 50, answered))))


def is_ready(client):
    try:
        return client.count() >= 0
    except LoadingError:
        return False
