"""Who publishes without an index: `Reporter(bus=...)` and `online feed --bus`."""

import subprocess
import sys
import time

import pytest
import trio
from tests.bus.servers import ON_ALL_ENGINES, Broker, async_test, equal, replicas, until
from tests.serving import command, environment
from tests.serving import until as until_so

from online.bus.redisbus import STREAM
from online.serve.clock import wall_ms
from online_client import AddressError, CommandError, Reporter, verbs
from online_client.bus import BusClient


@ON_ALL_ENGINES
@async_test
async def test_a_reporter_reaches_all_replicas_over_the_bus(broker):
    async with replicas(broker.url) as (one, two):
        reporter = Reporter(bus=f"{broker.url}?site=shop")
        for number in range(100):
            reporter.hit(f"user{number}", "/a")
        reporter.hit(42, b"/b", kind="guest", seen_ms=wall_ms() - 5_000)
        reporter.leave("user7")
        assert await trio.to_thread.run_sync(reporter.close, 30)
        await until(lambda: b"shop" in one.server.sites)
        await equal(one, two, users=101)
        assert reporter.statistics().sent == 102
        index = one.server.sites[b"shop"]
        await until(lambda: index.count(now_ms=one.server.clock.now_ms()) == 100)


def test_a_reporter_without_its_bus_does_not_wait_and_counts(tmp_path):
    broker = Broker(tmp_path)
    reporter = Reporter(bus=broker.url, max_waiting=10, timeout=0.2)
    began_s = time.thread_time()
    for number in range(50):
        reporter.hit(f"user{number}", "/a")
    assert time.thread_time() - began_s < 1
    until_so(lambda: reporter.statistics().last_error)
    assert reporter.statistics().dropped >= 30
    broker.start()
    assert reporter.close(10)
    assert broker.client.xlen(STREAM) >= 1
    broker.close()


@ON_ALL_ENGINES
def test_what_no_server_could_read_is_refused(broker):
    client = BusClient(broker.url)
    good, bad = verbs.pack_hit("ada", "/a", None, "member"), b"\x91\xa3ada"
    result = client.call(verbs.batch([good, bad]))
    assert (result.accepted, result.refused) == (1, 1)
    with pytest.raises(CommandError, match="ask a server"):
        client.call(verbs.count())
    client.close()


#: Publishes one hit before a fork, one in the child, and one in the parent after that.
FORKS = """
import os, sys, warnings
from online_client import verbs
from online_client.bus import BusClient
warnings.simplefilter("ignore")
client = BusClient(sys.argv[1], timeout=10)
hit = lambda user: client.call(verbs.batch([verbs.pack_hit(user, "/a", None, "member")]))
hit("before")
child = os.fork()
hit("after" if child else "child")
if child:
    assert os.waitpid(child, 0)[1] == 0
idle = os.fork()
if idle:
    assert os.waitpid(idle, 0)[1] == 0
"""


@ON_ALL_ENGINES
def test_forked_children_publish_too(broker):
    subprocess.run([sys.executable, "-c", FORKS, broker.url], env=environment(), check=True, timeout=60)
    stored = broker.stored()
    assert all(user in stored for user in (b"before", b"child", b"after"))


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "redis://",
        "redis://a?sites=b",
        "redis://a?site=" + "x" * 65,
        "redis://a,b",
        "redis+sentinel://a",
        "kafka://",
        "kafka://a?acs=1",
    ],
)
def test_a_wrong_address_of_a_bus_is_an_error_at_once(url):
    with pytest.raises(AddressError):
        Reporter(bus=url)


@async_test
async def test_a_feed_publishes_and_goes_on_when_the_bus_comes_back(broker, tmp_path):
    log = tmp_path / "access.log"
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    line = "198.51.100.%d - user%d [" + stamp + '] "GET /a HTTP/1.1" 200 5 "-" "Mozilla/5.0"\n'
    log.write_text("".join(line % (n, n) for n in range(1, 101)))
    async with replicas(broker.url) as (one, two):
        words = command("feed", log, "--from-start", "--bus", broker.url, "--quiet")
        feed = subprocess.Popen(words, env=environment())
        try:
            await equal(one, two, users=100, within_s=60)
            broker.kill()
            with log.open("a") as more:
                more.write("".join(line % (n, n) for n in range(101, 151)))
            await trio.sleep(0.5)
            await trio.to_thread.run_sync(broker.start)
            await equal(one, two, users=150, within_s=60)
        finally:
            feed.terminate()
            await trio.to_thread.run_sync(feed.wait)
