"""Partitions on the bus: servers share hits with those of their own partition alone."""

import pytest
from tests.bus.servers import async_test, replicas, until

from online.errors import ConfigError
from online.serve.config import Config
from online_client import AddressError
from online_client.bus import BusClient
from online_client.verbs import batches


@async_test
async def test_partitions_have_streams_of_their_own(broker):
    async with replicas(broker.url, 2, partition=3) as (one, two), replicas(broker.url, 1) as (other,):
        await one.hit(b"ada", b"/a")
        [request] = batches([("theo", "/a")])
        BusClient(f"{broker.url}?partition=3").call(request)
        await other.hit(b"kim", b"/a")
        for server in (one, two):
            await until(lambda server=server: server.users == 2)
        await until(lambda: other.bus.publisher.is_idle and other.bus.follower.entries >= 1)
        assert other.users == 1
        assert broker.client.exists("online:hits:0", "online:hits:3") == 2


def test_a_partition_needs_a_bus():
    with pytest.raises(ConfigError, match="partition needs a bus"):
        Config(partition=1)


def test_a_partition_is_a_number():
    with pytest.raises(AddressError, match="a partition is a number"):
        BusClient("redis://127.0.0.1?partition=x")
