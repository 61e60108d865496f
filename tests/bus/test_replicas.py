"""Servers on one bus: what one takes, all know."""

import trio
from tests.bus.servers import ON_ALL_ENGINES, async_test, equal, replicas, until

from online.http.metrics import METRICS

pytestmark = ON_ALL_ENGINES


@async_test
async def test_a_hit_is_known_to_all_replicas(broker):
    async with replicas(broker.url, 3) as (one, two, three):
        await one.hit(b"ada", b"/a")
        await two.hit(b"theo", b"/b")
        await equal(one, two, three, users=2)
        assert await three.ask(b"COUNT") == ":2"
        await until(lambda: one.bus.publisher.counts.hits == 1)  # the answer may come after the echo


@async_test
async def test_a_leave_and_a_later_hit_are_known_to_all(broker):
    async with replicas(broker.url) as (one, two):
        await one.hit(b"ada", b"/a")
        await equal(one, two, users=1)
        await two.ask(b"LEAVE ada")
        await until(lambda: one.server.sites[b"default"].count(now_ms=one.server.clock.now_ms()) == 0)
        await one.hit(b"ada", b"/b")
        await equal(one, two, users=1)
        assert await two.ask(b"PAGE /b") == await one.ask(b"PAGE /b")


@async_test
async def test_each_site_is_a_site_everywhere(broker):
    async with replicas(broker.url) as (one, two):
        peer = await one.connect()
        for site in (b"blog", b"shop", b"blog"):
            await peer.ask(b"SITE " + site)
            await peer.ask(b"HIT ada-" + site + b" /a")
        await until(lambda: {b"blog", b"shop"} <= set(two.server.sites))
        await equal(one, two, users=2)
        await peer.stream.aclose()


@async_test
async def test_an_own_entry_is_not_counted_twice(broker):
    async with replicas(broker.url) as (one, two):
        for _ in range(3):
            await one.hit(b"ada", b"/a")
            await trio.sleep(0.005)  # the same hit within a millisecond is no news, and is not published
        await equal(one, two, users=1)
        published = one.bus.publisher.counts
        await until(lambda: published.hits >= 3 and one.bus.follower.entries >= published.entries)
        # A slow machine may make them heal a gap that they could not rule out: by a dump, of one session each.
        assert one.server.sites.statistics().accepted == 3
        assert published.hits <= 3 + one.bus.dumps, "an echo was published again"


@async_test
async def test_of_two_hits_in_one_millisecond_all_keep_the_same(broker):
    async with replicas(broker.url, 3) as all_three:
        now_ms = all_three[0].server.clock.now_ms()
        for turn in range(10):
            async with trio.open_nursery() as nursery:
                for number, each in enumerate(all_three):
                    nursery.start_soon(each.hit, b"user%d" % turn, b"/%d" % number, b"%d" % now_ms)
        await equal(*all_three, users=10)


@async_test
async def test_a_server_that_starts_knows_the_window(broker):
    async with replicas(broker.url, 1) as (one,):
        for number in range(300):
            await one.hit(b"user%d" % number, b"/%d" % (number % 7))
        async with replicas(broker.url, 1) as (two,):
            await equal(one, two, users=300)
            assert two.server.sites.statistics().users == 300


@async_test
async def test_info_tells_of_the_bus(broker):
    async with replicas(broker.url) as (one, two):
        await one.hit(b"ada", b"/a")
        await equal(one, two, users=1)
        await until(lambda: one.bus.publisher.counts.hits)  # the answer comes after the echo
        told = await one.ask(b"INFO bus")
        assert "bus_status:ok" in told
        published = int(told.split("published_hits:")[1].split("\r\n")[0])
        assert 1 <= published <= 1 + one.bus.dumps
        figures = {line.partition(":")[0] for line in told.split("\r\n")}
        assert {name for section, name in METRICS if section == "bus"} <= figures
