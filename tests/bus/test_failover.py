"""A bus of several nodes, of which one stands in for another: Sentinel, and a cluster."""

from contextlib import closing, suppress

import pytest
import trio
from tests.bus.nodes import Cluster, Watched, agree
from tests.bus.servers import async_test, share_while

from online.bus.entries import BusError
from online.bus.redisbus import STREAM, RedisBus, connected
from online_client import ConnectionFailed, verbs
from online_client.bus import BusClient


@pytest.fixture
def watched(tmp_path):
    with closing(Watched(tmp_path)) as made:
        yield made.start()


@pytest.fixture
def cluster(tmp_path):
    with closing(Cluster(tmp_path)) as made:
        yield made.start()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bus_ack"), [(Watched, "yes"), (Cluster, "no")], ids=["sentinel", "cluster"])
def test_nobody_is_lost_when_a_replica_takes_over(tmp_path, kind, bus_ack):
    with closing(kind(tmp_path)) as nodes:
        nodes.start()
        share_while(nodes.url, nodes.fail, bus_ack=bus_ack)


@pytest.mark.slow
def test_nobody_is_lost_when_the_slot_is_moved(cluster):
    share_while(cluster.url, cluster.move, bus_ack="yes")
    assert cluster.other.client.exists(STREAM)


@pytest.mark.slow
@async_test
async def test_what_is_published_waits_for_replicas(watched):
    async def publish(bus):
        await bus.publish(b"x", b"", b"")

    url = f"{watched.url}?replicas=1"
    await connected(url, publish)
    assert watched.replica.client.xlen(STREAM) == 2
    watched.replica.kill()
    with pytest.raises(BusError, match=r"0 replicas have what was published, of 1 that should"):
        await connected(url, publish)


@pytest.mark.slow
def test_a_sentinel_with_a_password(tmp_path):
    with closing(Watched(tmp_path, password="s p:w")) as nodes:
        url = f"{nodes.start().url}?sentinel_password=s%20p%3Aw"
        trio.run(lambda: connected(url, RedisBus.look))
        with pytest.raises(BusError, match="authenti"):
            trio.run(lambda: connected(nodes.url, RedisBus.look))
        with closing(BusClient(url)) as client:
            client.call(verbs.batch([verbs.pack_hit("ada", "/a", None, "member")]))
        assert nodes.master.client.xlen(STREAM) == 1


@async_test
async def test_a_master_that_sentinel_does_not_know(watched):
    with pytest.raises(BusError, match="Sentinel knows no master 'other'"):
        await connected(watched.url.replace("/hits", "/other"), RedisBus.look)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Watched, Cluster], ids=["sentinel", "cluster"])
def test_who_publishes_without_a_server_goes_to_who_takes_over(tmp_path, kind):
    with closing(kind(tmp_path)) as nodes, closing(BusClient(nodes.start().url, timeout=1)) as client:

        def is_published():
            with suppress(ConnectionFailed):
                client.call(verbs.batch([verbs.pack_hit("ada", "/a", None, "member")]))
                return True

        assert is_published()
        nodes.fail()
        agree(is_published)
