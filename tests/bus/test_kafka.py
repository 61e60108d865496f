"""A bus in a topic of Kafka. Brokers are those that librdkafka brings for tests; see tests/bus/brokers.py."""

import signal
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
import trio
from tests.bus.brokers import Kafka
from tests.bus.servers import async_test, equal, replicas, share_while, until
from tests.bus.test_faults import ask, entry
from tests.serving import server_process

from online.bus import engines
from online.bus.entries import BEGINNING, BusError, order
from online.errors import ConfigError
from online.serve.clock import wall_ms

#: What the brokers of tests cannot be asked; see `kept`.
UNTOLD = "the settings of the bus cannot be read"


@pytest.fixture
def kafka(monkeypatch):
    with closing(Kafka(2)) as made:
        monkeypatch.setattr("online.bus.kafkabus.ANSWER_S", 0.5)
        yield made


@pytest.mark.slow
def test_nobody_is_lost_when_another_broker_takes_over(kafka):
    def fail():
        kafka.lead(2)
        kafka.kill(1)

    kafka.lead(1)
    share_while(kafka.url, fail, bus_ack="yes")


@pytest.mark.slow
@async_test
async def test_a_bus_that_was_started_again_empty(kafka):
    with closing(Kafka()) as other:
        other.kill()
        async with replicas(f"{kafka.url},{other.hosts}") as (one, two):
            await one.hit(b"ada", b"/a")
            for number in range(30):  # more than a few entries, as an empty topic is noticed by its number of them
                kafka.add(entry([b"ada", b"/%d" % number, wall_ms() - 5_000, "member"]))
            await until(lambda: min(order(one.bus.place), order(two.bus.place)) > (30, 0))
            await equal(one, two, users=1)
            await trio.to_thread.run_sync(kafka.kill)
            await two.hit(b"kim", b"/a")
            await trio.to_thread.run_sync(other.start)
            await equal(one, two, users=2)
            async with replicas(other.url, 1) as (later,):
                await equal(one, two, later, users=2)


@pytest.mark.slow
@async_test
async def test_a_topic_that_is_trimmed_past_our_place(kafka):
    async with replicas(kafka.url, 1) as (one,):
        with server_process("--bus", kafka.url) as process:
            await one.hit(b"first", b"/a")
            await until(lambda: ask(process.port, "COUNT") == ":1")
            process.popen.send_signal(signal.SIGSTOP)
            kafka.add(entry([b"kim", b"/b", wall_ms(), "member"]))
            await until(lambda: one.users == 2)
            for _ in range(7):  # these brokers keep 5 MB
                kafka.add({b"s": b"x", b"f": bytes(900_000)})
            kafka.add(entry([b"ada", b"/b", wall_ms(), "member"]))
            process.popen.send_signal(signal.SIGCONT)
            await until(lambda: ask(process.port, "COUNT") == ":3")
            await until(lambda: "gaps:1" in ask(process.port, "INFO bus", whole=True))


def on(kafka, work, **options):
    """Do some work with a connection, and return what it returns."""
    return trio.run(lambda: engines.connected(kafka.url, work, **options))


def test_places_go_on_from_one_connection_to_the_next(kafka):
    async def publish(bus):
        return await bus.publish(b"x", b"1", b"2"), await bus.publish(b"x", b"3")

    async def read(bus):
        all_of_it = await bus.read(BEGINNING, 10)
        while len(all_of_it) < 3:
            all_of_it += await bus.read(all_of_it[-1].place, 10)
        second = await bus.read(all_of_it[0].place, 1)
        return all_of_it, second, await bus.read(all_of_it[2].place, 10), await bus.look()

    places = on(kafka, publish)
    entries, second, none, look = on(kafka, read)
    assert [(each.source, each.frames) for each in entries] == [(b"x", b"1"), (b"x", b"2"), (b"x", b"3")]
    assert [each.place.partition(b"@")[2] for each in entries] == [b"1", b"2", b"3"]
    assert [place.partition(b"@")[2] for place in places] == [b"2", b"3"]
    assert (second, none) == (entries[1:2], [])
    assert (look.first, look.last.partition(b"@")[2], look.added) == (b"0@1", b"3", 3)


def test_a_place_at_a_time(kafka):
    async def find(bus):
        return [(await bus.at(at_ms)).partition(b"@")[2] for at_ms in (0, 500, 5_000)]

    async def find_as_kafka_does(bus):
        bus._consumer = SimpleNamespace(
            offsets_for_times=lambda asked, timeout: [SimpleNamespace(error=None, offset=asked[0].offset // 1000)],
            close=bus._consumer.close,
        )
        return await bus.at(2_000)

    assert on(kafka, find) == [b"0", b"0", b"0"]
    kafka.add({b"f": b"1"}, at_ms=1_000)
    kafka.add({b"f": b"2"}, at_ms=2_000)
    assert on(kafka, find) == [b"0", b"0", b"2"]
    assert on(kafka, find_as_kafka_does) == b"2000@2"


def test_a_place_behind_the_end_keeps_nobody_busy(kafka):
    async def read(bus):
        polls, poll = [], bus._poll
        bus._poll = lambda *args, **options: polls.append(args) or poll(*args, **options)
        return await bus.read(b"0@77", 10, wait_ms=500), len(polls)

    entries, n_polls = on(kafka, read)
    assert entries == []
    assert n_polls <= 10


def test_a_time_of_who_published_is_never_later_than_when_it_is_read(kafka):
    kafka.add({b"f": b"1"}, at_ms=wall_ms() + 600_000)
    [found] = on(kafka, lambda bus: bus.read(BEGINNING, 1))
    assert int(found.place.partition(b"@")[0]) <= wall_ms()


def test_a_topic_that_cannot_be_made_is_told(kafka):
    with pytest.raises(BusError, match=r"there is no topic online\.hits\.7, and it cannot be made"):
        on(kafka, lambda bus: bus.look(), partition=7)


def test_a_topic_is_made_to_keep_twice_the_window(kafka, monkeypatch):
    made = []

    class Admin:
        def __init__(self, settings):
            assert settings["bootstrap.servers"] == kafka.hosts

        def create_topics(self, topics, **options):
            made.extend(topics)
            return {topics[0].topic: SimpleNamespace(result=lambda timeout: None)}

    monkeypatch.setattr("online.bus.kafkabus.AdminClient", Admin)
    with pytest.raises(BusError):  # it is not there for all that
        on(kafka, lambda bus: bus.look(), partition=7, window_s=1_800)
    assert (made[0].topic, made[0].num_partitions) == ("online.hits.7", 1)
    assert made[0].config == {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": "3600000",
        "segment.ms": "900000",
    }


def test_what_the_topic_keeps_is_told(kafka, monkeypatch):
    class Admin:
        def __init__(self, settings):
            pass

        def describe_configs(self, resources, **options):
            told = {"cleanup.policy": "compact", "retention.ms": "1000", "message.timestamp.type": "CreateTime"}
            told |= {"retention.bytes": "5000"}
            found = {name: SimpleNamespace(value=value) for name, value in told.items()}
            return {resources[0]: SimpleNamespace(result=lambda timeout: found)}

    async def kept(bus):
        bus._can_tell = True
        return await bus.kept()

    [untold] = on(kafka, lambda bus: bus.kept())
    assert UNTOLD in untold
    monkeypatch.setattr("online.bus.kafkabus.AdminClient", Admin)
    told = on(kafka, kept, window_s=1_800)
    for n, words in enumerate(("policy compact", "for 1 s", "retention.bytes 5000", "CreateTime")):
        assert words in told[n]
    assert len(told) == 4


@pytest.mark.parametrize(("url", "settings"), [
    ("kafka://a,b:9093", {"bootstrap.servers": "a,b:9093"}),
    ("kafka://a?ssl.ca.location=/ca.pem", {"ssl.ca.location": "/ca.pem"}),
    ("kafka://me:p%40ss@a", {"security.protocol": "SASL_SSL", "sasl.username": "me", "sasl.password": "p@ss"}),
    ("kafka://me:x@a?sasl.mechanism=SCRAM-SHA-256", {"sasl.mechanism": "SCRAM-SHA-256"}),
])  # fmt: skip
def test_settings_of_a_url(kafka, url, settings):
    from online.bus.kafkabus import settings_of

    assert settings_of(engines.check_url(url) if "ca.pem" not in url else url).items() >= settings.items()


def test_a_setting_that_kafka_does_not_know_is_told_at_the_start(kafka):
    with pytest.raises(ConfigError, match=r"a setting that Kafka does not take: .*acs"):
        engines.check_url("kafka://a?acs=all")


def test_what_lacks_is_told_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.delitem(sys.modules, "online.bus.kafkabus", raising=False)
    with pytest.raises(ConfigError, match=r"--bus kafka:// needs more packages .*pip install '\.\[kafka\]'"):
        engines.check_url("kafka://a")


def test_a_password_is_not_shown():
    assert engines.shown("kafka://me:secret@a,b?sasl.password=secret&acks=1") == "kafka://a,b?acks=1"
    secrets = "sasl.oauthbearer.client.secret=S&ssl.key.pem=S&sasl.oauthbearer.config=S&sasl.jaas.config=S"
    assert engines.shown(f"kafka://a?{secrets}&ssl.ca.location=ca.pem") == "kafka://a?ssl.ca.location=ca.pem"
