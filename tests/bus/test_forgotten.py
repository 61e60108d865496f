"""Who is forgotten stays so, whatever the bus still has of them; who comes later stays, whatever the time."""

import time

import pytest
import trio
from tests.bus.servers import async_test, replicas, until

from online.bus.echoes import Echoes
from online.bus.forgetting import Forgetting, frames

AT_MS = 1_800_000_000_000


@async_test
async def test_who_is_forgotten_is_not_brought_back_by_the_bus(broker, tmp_path):
    kept = {"state": tmp_path / "state", "last_seen": 90}
    async with replicas(broker.url, 1, **kept) as (one,):
        for user in (b"unforgettable", b"theo"):
            await one.hit(user, b"/a")
        await until(lambda: one.bus.follower.entries >= 2)
        assert await one.ask(b"FORGET unforgettable nobody") == ":1"
        await until(lambda: one.bus.follower.entries >= 3)  # it has read that the user left
        assert await one.ask(b"COUNT") == ":1"
        assert await one.ask(b"LAST unforgettable") == "*1\r\n$-1"
    async with replicas(broker.url, 1, **kept) as (one,), replicas(broker.url, 1) as (other,):
        await until(lambda: all(each.bus.follower.entries >= 3 for each in (one, other)))
        for each in (one, other):
            assert await each.ask(b"COUNT") == ":1"
            assert await each.ask(b"SEEN unforgettable") == "*1\r\n$-1"
        assert await one.ask(b"LAST unforgettable") == "*1\r\n$-1"
        await one.hit(b"unforgettable", b"/again")
        assert await one.ask(b"COUNT") == ":2"
        assert "/again" in await one.ask(b"LAST unforgettable")


@async_test
async def test_all_servers_forget_whom_one_is_asked_to_forget(broker, tmp_path):
    kept = [{"state": tmp_path / name, "last_seen": 90} for name in ("one", "other")]
    async with replicas(broker.url, 1, **kept[0]) as (one,), replicas(broker.url, 1, **kept[1]) as (other,):
        for user in (b"unforgettable", b"theo"):
            await one.hit(user, b"/a")
        await until_answer(other, b"COUNT", ":2")
        assert await one.ask(b"FORGET unforgettable") == ":1"
        await until_answer(other, b"COUNT", ":1")
        await until_answer(other, b"LAST unforgettable", "*1\r\n$-1")
        assert await other.ask(b"SEEN unforgettable") == "*1\r\n$-1"
        await other.hit(b"unforgettable", b"/again")  # who comes back is known
        await until_answer(one, b"COUNT", ":2")
        assert await other.ask(b"COUNT") == ":2"


@async_test
async def test_who_was_away_forgets_when_it_starts(broker, tmp_path):
    kept = {"state": tmp_path / "state", "last_seen": 90}
    async with replicas(broker.url, 1) as (one,):
        async with replicas(broker.url, 1, **kept) as (other,):
            await one.hit(b"unforgettable", b"/a")
            await until_answer(other, b"COUNT", ":1")
        assert await one.ask(b"FORGET unforgettable") == ":1"
        await until(lambda: one.bus.follower.entries >= 3)  # the hit, that the user left, and whom to forget
        async with replicas(broker.url, 1, **kept) as (other,):
            await until_answer(other, b"LAST unforgettable", "*1\r\n$-1")
            assert await other.ask(b"COUNT") == ":0"
            assert await other.ask(b"SEEN unforgettable") == "*1\r\n$-1"


@async_test
async def test_a_hit_that_comes_after_forget_stays_on_all_servers_and_over_a_restart(broker, tmp_path):
    kept = {"state": tmp_path / "state"}
    seen_ms = b"%d" % (time.time() * 1000 - 5_000)
    async with replicas(broker.url, 1) as (other,):
        async with replicas(broker.url, 1, **kept) as (one,):
            await one.hit(b"ada", b"/before")
            await until_answer(other, b"COUNT", ":1")
            assert await one.ask(b"FORGET ada") == ":1"
            await one.hit(b"ada", b"/after", seen_ms)
            await until(lambda: one.bus.publisher.is_idle and one.bus.place == other.bus.place)
            await until_found(other, b"/after")
            await until_found(one, b"/after")
        async with replicas(broker.url, 1, **kept) as (one,), replicas(broker.url, 1) as (young,):
            await until(lambda: one.bus.publisher.is_idle and one.bus.place == young.bus.place == other.bus.place)
            for each in (one, young, other):
                await until_found(each, b"/after")


@async_test
async def test_who_was_forgotten_while_the_bus_was_away_is_forgotten_by_all_when_it_is_back(broker):
    async with replicas(broker.url, 2) as (one, other):
        await one.hit(b"ada", b"/")
        await until_answer(other, b"COUNT", ":1")
        broker.kill()
        await until(lambda: one.bus.is_away and other.bus.is_away)
        assert await one.ask(b"FORGET ada") == ":1"
        broker.start()
        await until_answer(other, b"COUNT", ":0")
        await until_answer(one, b"COUNT", ":0")  # it may have read everybody of the other before that one knew


class Past:
    """Knows whom it was told to forget."""

    def __init__(self):
        self.told = []

    def forget_as_told(self, site, user, at_ms, *, is_own):
        self.told.append(user)
        return True


@pytest.fixture
def published():
    return []


@pytest.fixture
def forgetting(published):
    made = Forgetting(Past(), Echoes(), published.append, lambda: 0, lambda: b"5-0")
    made.loaded()
    return made


def test_who_is_forgotten_while_everybody_is_published_is_told_again_behind_that(forgetting, published):
    forgetting.dumping()
    forgetting.share(b"default", [b"ada"], AT_MS)
    forgetting.heard(b"default", b"kim", AT_MS, False)
    assert published == [frames(b"default", b"ada", AT_MS)]
    forgetting.ended(b"6-0")
    assert published[1:] == [frames(b"default", user, AT_MS) for user in (b"ada", b"kim")]
    forgetting.heard(b"default", b"zoe", AT_MS, False)  # our dump may stand behind that
    assert published[3:] == [frames(b"default", b"zoe", AT_MS)]


def test_what_is_not_on_the_bus_yet_is_told_again_if_it_was_dropped(forgetting, published):
    forgetting.share(b"default", [b"ada"], AT_MS)
    forgetting.taken()
    forgetting.share(b"default", [b"kim"], AT_MS)
    forgetting.lost()
    assert published[2:] == [frames(b"default", b"kim", AT_MS)]
    forgetting.sent()
    forgetting.lost()
    assert published[3:] == [frames(b"default", b"kim", AT_MS)]


def test_what_the_server_before_has_told_is_not_told_again(published):
    forgetting = Forgetting(Past(), Echoes(), published.append, lambda: 0, lambda: b"5-0")
    forgetting.share(b"default", [b"ada", b"kim"], AT_MS)
    for user in (b"ada", b"zoe"):
        forgetting.heard(b"default", user, AT_MS, False)
    forgetting.loaded()
    forgetting.share(b"default", [b"zoe"], AT_MS)
    assert published == [frames(b"default", b"kim", AT_MS)]


async def until_found(server, url):
    with trio.fail_after(10):
        while url.decode() not in await server.ask(b"SEEN ada"):
            await trio.sleep(0.02)


async def until_answer(server, question, answer):
    with trio.fail_after(10):
        while await server.ask(question) != answer:
            await trio.sleep(0.02)
