"""A bus of several nodes, of which one stands in for another: Sentinel, and a cluster."""

from contextlib import closing

import pytest
import trio
from tests.bus.nodes import Cluster, Watched
from tests.bus.servers import async_test, equal, replicas, until

from online.bus.entries import BusError
from online.bus.redisbus import STREAM, RedisBus, connected


@pytest.fixture
def watched(tmp_path):
    with closing(Watched(tmp_path)) as made:
        yield made.start()


@pytest.fixture
def cluster(tmp_path):
    with closing(Cluster(tmp_path)) as made:
        yield made.start()


async def hit_without_a_pause(running, counts, *, stopped):
    """Let users come, one after the other, until `stopped`; those that were refused are tried again."""
    while not stopped.is_set():
        answer = await running.ask(b"HIT %s%d /a" % (running.bus.source, len(counts)))
        if answer.startswith("-MISCONF"):
            await trio.sleep(0.01)
            continue
        assert not answer.startswith("-"), answer
        counts.append(answer)


@async_test
async def share_while(nodes, change, **settings):
    """See that nobody is lost while nodes change and two servers take hits."""
    async with replicas(nodes.url, **settings) as (one, two), trio.open_nursery() as nursery:
        counts, stopped = ([], []), trio.Event()
        nursery.start_soon(lambda: hit_without_a_pause(one, counts[0], stopped=stopped))
        nursery.start_soon(lambda: hit_without_a_pause(two, counts[1], stopped=stopped))
        await until(lambda: all(map(len, counts)) and one.users == two.users > 10)
        await trio.to_thread.run_sync(change)
        n_before = len(counts[0])
        await until(lambda: not one.bus.is_away and not two.bus.is_away and len(counts[0]) > n_before + 10)
        stopped.set()
        await until(lambda: not one.bus.publisher.is_away and one.bus.publisher.is_idle)
        async with replicas(nodes.url, 1) as (later,):
            await equal(one, two, later, users=len(counts[0]) + len(counts[1]))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bus_ack"), [(Watched, "yes"), (Cluster, "no")], ids=["sentinel", "cluster"])
def test_nobody_is_lost_when_a_replica_takes_over(tmp_path, kind, bus_ack):
    with closing(kind(tmp_path)) as nodes:
        nodes.start()
        share_while(nodes, nodes.fail, bus_ack=bus_ack)


@pytest.mark.slow
def test_nobody_is_lost_when_the_slot_is_moved(cluster):
    share_while(cluster, cluster.move, bus_ack="yes")
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


@async_test
async def test_a_master_that_sentinel_does_not_know(watched):
    with pytest.raises(BusError, match="Sentinel knows no master 'other'"):
        await connected(watched.url.replace("/hits", "/other"), RedisBus.look)
