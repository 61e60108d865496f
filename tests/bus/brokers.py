"""Brokers of Kafka for tests: those that librdkafka brings, in this process, which keep all in memory.

They can be told to be down, and where a topic is. They know no times, no settings, and stamp entries as their
publishers say.
"""

import ctypes
from pathlib import Path

import pytest

try:
    import confluent_kafka
    import confluent_kafka.admin
except ImportError:
    confluent_kafka = None

TOPIC = "online.hits.0"


def _library():
    if confluent_kafka is None:
        pytest.skip("a bus of Kafka needs confluent-kafka, of the extra kafka")
    [path] = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs").glob("librdkafka*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class Kafka:
    """Brokers that run, with a topic."""

    def __init__(self, n_brokers=1):
        self._library = _library()
        self._handle = ctypes.c_void_p(self._library.rd_kafka_new(0, None, None, ctypes.c_size_t(0)))
        self._library.rd_kafka_set_log_level(self._handle, 0)
        self._cluster = ctypes.c_void_p(self._library.rd_kafka_mock_cluster_new(self._handle, n_brokers))
        self._brokers = range(1, n_brokers + 1)
        self.hosts = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.url = f"kafka://{self.hosts}"
        self._library.rd_kafka_mock_topic_create(self._cluster, TOPIC.encode(), 1, n_brokers)
        self._is_down = False

    def start(self):
        if self._is_down:
            for broker in self._brokers:
                self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)
        self._is_down = False
        return self

    def kill(self, *brokers):
        for broker in brokers or self._brokers:
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)
        self._is_down = True

    def lead(self, broker):
        """Let a broker have the topic."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, TOPIC.encode(), 0, broker)

    def add(self, fields, *, at_ms=0):
        """Append an entry, with the fields that it has in Redis, and return its place."""
        places = []
        producer = confluent_kafka.Producer({"bootstrap.servers": self.hosts, "linger.ms": 0})
        producer.produce(
            TOPIC,
            fields.get(b"f"),
            fields.get(b"s"),
            0,
            timestamp=at_ms,
            on_delivery=lambda error, message: places.append(error or message.offset()),
        )
        producer.flush(10)
        [offset] = places
        return offset

    def stored(self):
        """Return the frames of all entries, joined."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.hosts, "group.id": "test"})
        partition = confluent_kafka.TopicPartition(TOPIC, 0, 0)
        _, end = consumer.get_watermark_offsets(partition, timeout=10)
        consumer.assign([partition])
        frames = [(message.value() or b"") for message in consumer.consume(end, 10)]
        consumer.close()
        return b"".join(frames)

    def close(self):
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)
