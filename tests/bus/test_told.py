"""What is said of a bus that fails: the words of who refused, when it begins, and that it is over. Nobody's data."""

import logging
import signal

import pytest
import trio
from tests.bus.servers import async_test, replicas, until
from tests.bus.test_relay import relay

from online.bus import replica
from online.bus.entries import TOLD_BYTES, BusError
from online.bus.redisbus import connected
from online_client import ConnectionFailed, verbs
from online_client.bus import BusClient

#: What no error may quote.
SECRET = "secret2@example.com"


def fill(broker):
    """Let the bus take nothing more."""
    broker.client.config_set("maxmemory", 1)


def free(broker):
    broker.client.config_set("maxmemory", 0)


def messages(caplog, words):
    return [record.message for record in caplog.records if words in record.message]


def test_an_error_is_a_line_of_bounded_length_without_a_command():
    assert str(BusError("a\r\nb" + "é" * 200)) == "a b" + "é" * 98
    assert str(BusError(f"unknown command 'XADD', with args beginning with: '{SECRET}'")) == "unknown command 'XADD'"


@async_test
async def test_who_is_refused_hears_the_words_of_the_bus_alone(broker, caplog):
    async with replicas(broker.url, 1, bus_ack="yes") as (one,):
        fill(broker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.ask, f"HIT {SECRET} /private".encode())
            await until(lambda: one.server.service.refusing)
            answer = await one.ask(b"HIT theo /a")
            assert answer.startswith("-MISCONF the bus does not take hits (writing: OOM command not allowed")
            told = answer + await one.ask(b"INFO bus") + caplog.text
            await until(lambda: messages(caplog, "takes no hits"))
            free(broker)
    assert SECRET not in told + caplog.text
    assert "/private" not in told + caplog.text
    assert len(answer) < TOLD_BYTES + 100


@async_test
async def test_a_command_that_is_unknown_is_not_quoted(broker):
    broker.client.execute_command("ACL SETUSER default -xadd")

    async def publish(bus):
        await bus.publish(SECRET.encode(), SECRET.encode())

    with pytest.raises(BusError, match="no permissions") as raised:
        await connected(broker.url, publish)
    assert SECRET not in str(raised.value)


@async_test
async def test_what_was_to_be_written_is_not_quoted(broker):
    fill(broker)

    async def publish(bus):
        await bus.publish(SECRET.encode(), SECRET.encode())

    with pytest.raises(BusError, match="OOM command not allowed") as raised:
        await connected(broker.url, publish)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("query", ["", "?replicas=1"])
def test_who_publishes_without_a_server_hears_no_data_either(broker, query):
    fill(broker)
    client = BusClient(broker.url + query)
    with pytest.raises(ConnectionFailed, match=r"does not take hits: (OOM )?command not allowed") as raised:
        client.call(verbs.batch([verbs.pack_hit(SECRET, "/a", None, "member")]))
    assert SECRET not in str(raised.value)
    free(broker)
    if query:
        with pytest.raises(ConnectionFailed, match="0 replicas have what was published, of 1 that should"):
            client.call(verbs.batch([verbs.pack_hit("ada", "/a", None, "member")]))
    client.close()


@async_test
async def test_a_full_bus_is_told_once_and_looks_like_trouble_until_it_is_over(broker, caplog):
    caplog.set_level(logging.INFO)
    async with replicas(broker.url, 1) as (one,):
        await until(lambda: not one.bus.is_healing)
        fill(broker)
        await one.hit(b"ada", b"/a")
        await until(lambda: one.bus.status == "refusing")
        await until(lambda: one.bus.lag_ms > 500 and one.bus.publisher.counts.retries > 3)
        told = await one.ask(b"INFO bus")
        assert "bus_status:refusing\r\n" in told
        assert "bus_last_error:writing: OOM command not allowed" in told
        assert one.server.verbs.unready() is None
        free(broker)
        await until(lambda: one.bus.status == "ok" and one.bus.lag_ms == 0)
        assert "bus_last_error:\r\n" in await one.ask(b"INFO bus")
    assert len(messages(caplog, "takes no hits, trying again: writing: OOM")) == 1
    assert len(messages(caplog, "takes hits again")) == 1
    assert not messages(caplog, "cannot be reached")


@async_test
async def test_a_bus_that_is_only_read_is_read_and_told(broker, monkeypatch):
    monkeypatch.setattr(replica, "TRIM_EVERY_S", 0)
    async with replicas(broker.url, 1) as (one,):
        broker.client.replicaof("127.0.0.1", "1")
        await until(lambda: one.bus.status == "refusing")  # though nobody hits: it cannot be trimmed
        assert "read only" in one.bus.error
        broker.client.replicaof("NO", "ONE")
        await until(lambda: one.bus.status == "ok")
        assert one.bus.error == ""


@async_test
async def test_a_bus_that_is_read_and_lets_no_publisher_connect_is_refusing(broker, caplog):
    async with replicas(broker.url, 1) as (one,):
        await one.hit(b"ada", b"/a")
        await until(lambda: one.bus.publisher.counts.hits == 1 and not one.bus.is_healing)
        [publishing] = [each["id"] for each in broker.client.client_list() if each["cmd"] == "xadd"]
        broker.client.config_set("maxclients", 1)
        broker.client.client_kill_filter(_id=publishing)
        await one.hit(b"theo", b"/a")
        await until(lambda: one.bus.status == "refusing")
        assert one.bus.error.startswith("writing: ")
        await until(lambda: one.bus.lag_ms > 1_500)
        assert one.bus.unread_ms < 1_500
        broker.client.config_set("maxclients", 1_000)
        await until(lambda: one.bus.status == "ok" and one.bus.lag_ms == 0)
    assert len(messages(caplog, "takes no hits, trying again: writing: ")) == 1


@async_test
async def test_too_much_is_dropped_while_a_bus_hangs(broker):
    async with replicas(broker.url, 1) as (one,):
        one.bus.publisher.most_bytes = 100
        broker._process.send_signal(signal.SIGSTOP)
        try:
            for number in range(20):
                await one.hit(b"ada%d" % number, b"/a")
                await trio.sleep(0.02)
            await until(lambda: one.bus.publisher.counts.dropped)
            assert one.bus.publisher.counts.retries == 0
        finally:
            broker._process.send_signal(signal.SIGCONT)


@async_test
async def test_a_reason_that_is_over_is_not_told(broker):
    async with replicas(broker.url, 1, bus_ack="yes") as (one,):
        broker.kill()
        await until(lambda: one.bus.status == "away")
        assert one.bus.error.startswith("reading: ")
        await trio.to_thread.run_sync(broker.start)
        await until(lambda: one.bus.status == "ok" and not one.server.service.refusing)
        assert one.bus.error == ""
        fill(broker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.ask, b"HIT ada /a")
            await until(lambda: one.bus.status == "refusing")
            assert "OOM" in one.server.service.refusing
            free(broker)


@async_test
async def test_a_relay_tells_of_a_full_bus(broker, caplog):
    caplog.set_level(logging.INFO)
    async with relay(broker.url) as taking:
        await until(lambda: broker.client.info("clients")["connected_clients"] > 1)
        fill(broker)
        await taking.hit(SECRET.encode(), b"/a")
        publisher = taking.bus.outlets[0].publisher
        await until(lambda: publisher.is_refused and publisher.waiting_ms > 100)
        told = dict(taking.bus.info()["bus"](0))
        assert (told["bus_status"], told["lag_ms"] > 100, told["waiting_bytes"] > 0) == ("refusing", True, True)
        assert told["bus_last_error"].startswith("writing: OOM command not allowed")
        free(broker)
        await until(lambda: publisher.is_idle)
        told = dict(taking.bus.info()["bus"](0))
        assert (told["bus_status"], told["lag_ms"], told["bus_last_error"]) == ("ok", 0, "")
    assert len(messages(caplog, "takes no hits, trying again: OOM")) == 1
    assert len(messages(caplog, "takes hits again")) == 1
    assert SECRET not in caplog.text
