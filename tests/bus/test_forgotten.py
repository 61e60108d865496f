"""Who is forgotten stays so, whatever the bus still has of them."""

import trio
from tests.bus.servers import async_test, replicas, until


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


async def until_answer(server, question, answer):
    with trio.fail_after(10):
        while await server.ask(question) != answer:
            await trio.sleep(0.02)
