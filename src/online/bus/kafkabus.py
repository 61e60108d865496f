"""A bus in a topic of Kafka: `kafka://[USER:PASSWORD@]HOST[:PORT],...[?SETTING=VALUE]`, with settings of librdkafka.

    topic online.hits.PARTITION (Kafka allows no colon), its partition 0; key SOURCE, value FRAMES

A place is `ms@n`: n entries are at or before it, and the last of them was taken at ms. So n is also the offset that
comes next. Not its job: to try again (publisher, replica).

Invariants:
1. The library blocks, so it is called in threads, one call at a time for a connection. No call is longer than ANSWER_S.
2. Nothing but BusError comes out.
3. Entries are not let go here: the broker does so, by `retention.ms`. `kept` says if that is too soon.
4. A topic that was deleted and made again is noticed as long as it has fewer entries than before.
5. Kafka has no clock to ask. An entry's time is the broker's (LogAppendTime), or that of who published it; then it is
   never later than when it is read, so that nobody's clock moves index time ahead.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import trio
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from online.bus.entries import BEGINNING, Bus, BusError, Entry, Look, order
from online.errors import ConfigError

Setting = str | int | float | bool

#: How long is waited for an answer.
ANSWER_S = 3.0

#: How long a thread waits for entries: a server that stops waits for it.
POLL_S = 0.1

#: What a consumer and a producer are told, if the url does not say otherwise.
_SETTINGS: Mapping[str, Setting] = {
    "log_level": 0,  # what is worth telling, the replica tells
    "reconnect.backoff.max.ms": 1_000,
}
_READING: Mapping[str, Setting] = {
    "group.id": "online",  # needed, but places are kept elsewhere
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a gap is to be seen, not jumped over
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 100,  # so long a new place waits for the answer to what was asked before
    "queued.max.messages.kbytes": 16_384,
}
_WRITING: Mapping[str, Setting] = {
    "acks": "all",
    "linger.ms": 0,  # entries are packed already
    "max.in.flight.requests.per.connection": 1,  # in order, also when the library tries again
}

_Result = TypeVar("_Result")


def topic_of(partition: int) -> str:
    """Return the topic of a partition.

    >>> topic_of(3)
    'online.hits.3'
    """
    return f"online.hits.{partition}"


def settings_of(url: str) -> dict[str, Setting]:
    """Return the settings of librdkafka that a url names.

    >>> settings_of("kafka://a,b:9093?ssl.ca.location=ca.pem")
    {'bootstrap.servers': 'a,b:9093', 'ssl.ca.location': 'ca.pem'}
    """
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    settings: dict[str, Setting] = {"bootstrap.servers": hosts}
    if login:
        user, _, password = login.partition(":")
        settings |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
        settings |= {"sasl.username": unquote(user), "sasl.password": unquote(password)}
    return settings | dict(parse_qsl(parts.query))


def check(url: str) -> None:
    """See that the library takes the settings of a url. Raises ConfigError."""
    try:
        Producer({**_SETTINGS, **settings_of(url)})
    except KafkaException as error:
        raise ConfigError(f"the url of the bus has a setting that Kafka does not take: {_told(error)}") from None


async def connected(
    url: str, work: Callable[[Bus], Awaitable[_Result]], *, partition: int = 0, window_s: int | None = None
) -> _Result:
    """See engines."""
    bus = KafkaBus(settings_of(url), topic_of(partition), least_ms=2000 * window_s if window_s is not None else 0)
    try:
        await bus.open()
        return await work(bus)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(bus.close)


class KafkaBus(Bus):
    """See Bus."""

    def __init__(self, settings: Mapping[str, Setting], topic: str, *, least_ms: int = 0) -> None:
        """`least_ms`: so long entries should be kept; 0 if nobody knows."""
        self._settings = {**_SETTINGS, **settings}
        self._topic = topic
        self._least_ms = least_ms
        self._consumer: Any = None
        self._producer: Any = None
        self._after = -1  #: the offset that `read` asked for, or asks for next; -1: it is elsewhere
        self._can_tell = False  #: brokers can be asked for settings

    async def open(self) -> None:
        """Connect, and make the topic if there is none. Raises BusError."""
        await self._ask(self._open)

    def _open(self) -> None:
        self._consumer = Consumer({**self._settings, **_READING})
        metadata = self._consumer.list_topics(self._topic, timeout=ANSWER_S)
        self._can_tell = metadata.controller_id in metadata.brokers
        error = metadata.topics[self._topic].error
        if error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._make_topic()
        elif error is not None and error.code() != KafkaError.LEADER_NOT_AVAILABLE:
            raise KafkaException(error)

    def _make_topic(self) -> None:
        config = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
        if self._least_ms:
            config |= {"retention.ms": str(self._least_ms), "segment.ms": str(max(60_000, self._least_ms // 4))}
        made = AdminClient(self._settings).create_topics(
            [NewTopic(self._topic, num_partitions=1, replication_factor=-1, config=config)], request_timeout=ANSWER_S
        )
        try:
            made[self._topic].result(ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BusError(f"there is no topic {self._topic}, and it cannot be made: {_told(error)}") from None

    def close(self) -> None:
        """Hang up. What was not sent is given up."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    async def _ask(self, ask: Callable[[], _Result]) -> _Result:
        try:
            return await trio.to_thread.run_sync(ask)
        except BusError:
            raise
        except Exception as error:  # the library may raise more than it says, and none of it is to end a server
            raise BusError(_told(error)) from None

    # Publishing

    async def publish(self, source: bytes, *entries: bytes) -> bytes:
        return await self._ask(partial(self._publish, source, entries))

    def _publish(self, source: bytes, entries: tuple[bytes, ...]) -> bytes:
        if self._producer is None:
            self._producer = Producer({**self._settings, **_WRITING, "message.timeout.ms": round(1000 * ANSWER_S)})
        reports: list[tuple[Any, Any]] = []
        for frames in entries:
            self._producer.produce(
                self._topic, frames, source, 0, on_delivery=lambda error, message: reports.append((error, message))
            )
        self._producer.flush(ANSWER_S + 1)
        for error, _ in reports:
            if error is not None:
                raise KafkaException(error)
        if len(reports) != len(entries):
            raise BusError(f"no answer within {ANSWER_S:g} s")
        return _entry(reports[-1][1]).place

    # Reading

    async def read(self, place: bytes, most: int, *, wait_ms: int = 0) -> list[Entry]:
        offset = order(place)[0]
        until_s = trio.current_time() + wait_ms / 1000
        while True:
            entries = await self._ask(partial(self._poll, offset, most, is_waiting=wait_ms > 0))
            if entries or trio.current_time() >= until_s:
                return entries

    def _poll(self, offset: int, most: int, *, is_waiting: bool) -> list[Entry]:
        """Return what comes within POLL_S, or without waiting, what is there."""
        if offset != self._after:
            self._read_from(offset)
            self._after = offset
        first = self._consumer.poll(POLL_S if is_waiting else 0)
        if first is None and not is_waiting and offset < self._bounds()[1]:
            first = self._consumer.poll(ANSWER_S)
            if first is None:
                raise BusError(f"no answer within {ANSWER_S:g} s")
        if first is None:
            return []
        entries: list[Entry] = []
        for message in (first, *(self._consumer.consume(most - 1, 0) if most > 1 else ())):
            error = message.error()
            if error is not None:
                if not entries:
                    self._go_on(error, offset)
                break
            entries.append(_entry(message))
            self._after = message.offset() + 1
        return entries

    def _read_from(self, offset: int) -> None:
        self._consumer.assign([TopicPartition(self._topic, 0, offset)])

    def _go_on(self, error: KafkaError, offset: int) -> None:
        """Go on at the first entry if those that come next have gone. Behind the end, `look` shows what is wrong."""
        if error.code() not in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise KafkaException(error)
        self._read_from(max(offset, self._bounds()[0]))
        time.sleep(POLL_S)  # the library has waited for nothing

    def _bounds(self) -> tuple[int, int]:
        """Return the offset of the first entry, and of the next that will be."""
        first, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), timeout=ANSWER_S)
        return first, end

    async def at(self, at_ms: int) -> bytes:
        offset = await self._ask(partial(self._offset_at, max(0, at_ms)))
        return _place(at_ms, offset)

    def _offset_at(self, at_ms: int) -> int:
        [found] = self._consumer.offsets_for_times([TopicPartition(self._topic, 0, at_ms)], timeout=ANSWER_S)
        if found.error is not None:
            raise KafkaException(found.error)
        if found.offset >= 0:
            return int(found.offset)
        first, end = self._bounds()
        if first == end:
            return end
        # It has nothing of that time, or it does not know times: brokers that are not Kafka's may not.
        self._after = -1
        self._read_from(end - 1)
        last = self._consumer.poll(ANSWER_S)
        is_known = last is not None and last.error() is None and last.timestamp()[1] < at_ms
        return end if is_known else first

    async def look(self) -> Look:
        first, end = await self._ask(self._bounds)
        now_ms = _now_ms()
        return Look(
            now_ms=now_ms,
            first=_place(0, first + 1) if first < end else BEGINNING,
            last=_place(now_ms, end) if end else BEGINNING,
            added=end,
            held=end - first,
        )

    # Letting go

    async def trim(self, window_s: int, *, is_reader: bool = True) -> set[int]:
        """Leave it to the broker."""
        return {window_s}

    async def kept(self) -> list[str]:
        try:
            settings = await self._ask(self._settings_of_topic)
        except BusError as error:
            return [f"the settings of the bus cannot be read ({error}); docs/scale.md says what they should be"]
        return list(warnings(settings, self._least_ms))

    def _settings_of_topic(self) -> dict[str, str]:
        if not self._can_tell:
            raise BusError("it has no controller")
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
        asked = AdminClient(self._settings).describe_configs([resource], request_timeout=ANSWER_S)
        return {name: entry.value for name, entry in asked[resource].result(ANSWER_S).items()}


def warnings(settings: Mapping[str, str], least_ms: int) -> Iterator[str]:
    """Say in plain words which settings of a topic may lose hits, that should be kept for so long."""
    policy, kept_ms = settings.get("cleanup.policy", "delete"), int(settings.get("retention.ms", -1))
    if policy != "delete":
        yield (
            f"the topic keeps the newest entry of each server alone (cleanup.policy {policy}), servers that start miss "
            "the others; set it to delete"
        )
    if 0 <= kept_ms < least_ms:
        yield (
            f"the topic keeps entries for {kept_ms / 1000:g} s (retention.ms {kept_ms}), servers that start may miss "
            f"hits; set it to twice the window, {least_ms}, or more"
        )
    if int(settings.get("retention.bytes", -1)) >= 0:
        yield (
            f"the topic lets entries go when it is too large (retention.bytes {settings['retention.bytes']}), which "
            "may be too soon; set it to -1"
        )
    if settings.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        yield (
            "entries have the time of who publishes them (message.timestamp.type CreateTime), and a wrong clock there "
            "is a wrong time here; set it to LogAppendTime"
        )


def _place(at_ms: int, n: int) -> bytes:
    return b"%d@%d" % (at_ms, n)


def _entry(message: Message) -> Entry:
    kind, at_ms = message.timestamp()
    if kind != TIMESTAMP_LOG_APPEND_TIME:
        at_ms = min(at_ms, _now_ms())
    return Entry(_place(at_ms, (message.offset() or 0) + 1), message.key() or b"", message.value() or b"")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _told(error: Exception) -> str:
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return str(error.args[0].str())
    return str(error) if isinstance(error, BusError | OSError) and str(error) else type(error).__name__
