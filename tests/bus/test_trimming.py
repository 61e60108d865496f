"""How long the stream keeps entries: for twice the longest window of those who read it. And what Redis may lose."""

import pytest
import trio
from tests.bus.servers import async_test, replicas, until
from tests.bus.test_relay import relay

from online.bus import relay as relaying
from online.bus import replica
from online.bus.entries import BusError
from online.bus.redisbus import STREAM, RedisBus, connected

WINDOWS = b"online:hits:windows:{online:hits:0}"


def old_entry(broker, age_s):
    at_s, _ = broker.client.time()
    return broker.client.xadd(STREAM, {"s": "x", "f": ""}, id=f"{(at_s - age_s) * 1000}-0")


def trim(url, window_s, **options):
    return trio.run(lambda: connected(url, lambda bus: bus.trim(window_s, **options)))


def test_the_stream_is_kept_for_the_longest_window(broker):
    broker.client.config_set("stream-node-max-entries", 1)
    places = [old_entry(broker, age_s) for age_s in (7_000, 3_000, 100)]
    assert trim(broker.url, 1_800) == {1_800}
    assert trim(broker.url, 60) == {60, 1_800}
    assert [place for place, _ in broker.client.xrange(STREAM)] == places[1:]
    assert trim(broker.url, 10, is_reader=False) == {60, 1_800}
    at_s, _ = broker.client.time()
    broker.client.zadd(WINDOWS, {"1800": (at_s - 3_000) * 1000})  # no server has it any more, but one may come back
    assert trim(broker.url, 60) == {60}
    assert [place for place, _ in broker.client.xrange(STREAM)] == places[1:]
    broker.client.zadd(WINDOWS, {"1800": (at_s - 3_700) * 1000})  # whoever had that has not been seen for two windows
    assert trim(broker.url, 60) == {60}
    assert [place for place, _ in broker.client.xrange(STREAM)] == places[2:]


def test_a_bus_that_is_full_lets_go_what_is_old(broker):
    broker.client.config_set("stream-node-max-entries", 1)
    old_entry(broker, 7_000)
    broker.client.config_set("maxmemory", 1)
    with pytest.raises(BusError, match="OOM"):
        trim(broker.url, 1_800)
    assert broker.client.xlen(STREAM) == 0


@async_test
async def test_servers_with_different_windows_say_so(broker, caplog, monkeypatch):
    monkeypatch.setattr(replica, "TRIM_EVERY_S", 0)
    async with replicas(broker.url, 2, window_s=lambda number: (60, 1_800)[number]):
        await until(lambda: "servers have different windows (60 s, 1800 s)" in caplog.text)


def test_a_relay_trims_where_no_server_does(broker, monkeypatch):
    monkeypatch.setattr(relaying, "TRIM_EVERY_S", 0.01)
    broker.client.config_set("stream-node-max-entries", 1)
    old_entry(broker, 7_000)

    @async_test
    async def run():
        async with relay(broker.url):
            await until(lambda: not broker.client.xlen(STREAM))

    run()
    assert not broker.client.exists(WINDOWS)


@pytest.mark.parametrize(("save", "words"), [("3600 1", "only now and then"), ("", "keeps nothing on disk")])
def test_a_bus_that_writes_seldom_is_warned_of(broker, save, words):
    broker.client.config_set("save", save)
    [warning] = trio.run(lambda: connected(broker.url, RedisBus.kept))
    assert words in warning
