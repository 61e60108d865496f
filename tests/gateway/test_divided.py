"""The clients that ask partitions by themselves, against servers in processes: as one server that has all users."""

import itertools
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import anyio
import pytest
from tests.bus.servers import async_test
from tests.gateway.test_gateway import map_of, server_at, started
from tests.serving import LOCAL, server_process

from online.cli import gateway
from online.serve.config import Config
from online_client import (
    AddressError,
    AsyncClient,
    AsyncDividedClient,
    Client,
    CommandError,
    DividedClient,
    OnlineError,
    PartialError,
    RangeError,
    divided,
    partitions,
    verbs,
)
from online_client.divided import Divided

SERVERS = 4
USERS = [f"user-{number}" for number in range(60)] + ["ü", "a\udcff", "7"]
URLS = ["/a", "/b", "/c/1", "/c/2", "/ü", "/\udcfe"]
KINDS = ["member", "member", "guest", "hidden", "bot"]


class Awaited:
    """An AsyncDividedClient with the methods of a DividedClient, each run to its end in an event loop of its own."""

    def __init__(self, *args, **options):
        self._given = args, options

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            async with AsyncDividedClient(*self._given[0], **self._given[1]) as client:
                if name.startswith("all_"):
                    return [each async for each in getattr(client, name)(*args, **kwargs)]
                return await getattr(client, name)(*args, **kwargs)

        return lambda *args, **kwargs: anyio.run(lambda: call(*args, **kwargs))

    def close(self):
        pass


@pytest.fixture(scope="module")
def servers():
    """The ports of servers, each in a process."""
    with ExitStack() as stack:
        yield [stack.enter_context(server_process()).port for _ in range(SERVERS)]


CLIENTS = pytest.mark.parametrize("kind", [DividedClient, Awaited])


class Compared:
    """A client of some partitions, and one of a server that has all users."""

    def __init__(self, kind, path, ports, site):
        self.divided = kind(map_of(path, *ports[1:]), site, timeout=30)
        self.one = Client(f"online://127.0.0.1:{ports[0]}/{site}", timeout=30)

    def same(self, verb, *args, **kwargs):
        """Ask both. Time passes, so the one is asked twice, until it answers alike."""
        while True:
            before = ageless(getattr(self.one, verb)(*args, **kwargs))
            given = ageless(getattr(self.divided, verb)(*args, **kwargs))
            if before == ageless(getattr(self.one, verb)(*args, **kwargs)):
                assert given == before, (verb, args)
                return given

    def same_error(self, verb, *args):
        with pytest.raises(OnlineError) as one:
            getattr(self.one, verb)(*args)
        with pytest.raises(type(one.value)) as given:
            getattr(self.divided, verb)(*args)
        assert str(given.value) == str(one.value)

    def done(self, verb, *args, **kwargs):
        """Do the same to both."""
        assert getattr(self.divided, verb)(*args, **kwargs) == getattr(self.one, verb)(*args, **kwargs), (verb, args)

    def pages(self, verb, *args):
        """Page through a list, and compare what is listed, and how many there are."""
        cursors = [None, None]
        while True:
            parts = [
                getattr(client, verb)(*args, limit=7, cursor=cursor)
                for client, cursor in zip((self.divided, self.one), cursors, strict=True)
            ]
            cursors = [part.cursor for part in parts]
            given, wanted = (ageless(replace(part, cursor=None)) for part in parts)
            assert given == wanted
            if None in cursors:
                assert cursors == [None, None]
                return


def ageless(answer):
    """Leave out what changes as time passes."""
    if isinstance(answer, list | tuple):
        return [ageless(each) for each in answer]
    if hasattr(answer, "users"):
        return replace(answer, users=ageless(answer.users))
    return replace(answer, age=None) if hasattr(answer, "age") else answer


def hits_of(chosen, n):
    """Make hits, each of a millisecond of its own."""
    now_ms = time.time_ns() // 1_000_000
    times = chosen.sample(range(now_ms - 1_500_000, now_ms - 1_000), n)
    return [
        (user, chosen.choice(URLS), seen_ms, KINDS[USERS.index(user) % len(KINDS)])
        for seen_ms in times
        for user in [chosen.choice(USERS)]
    ]


@CLIENTS
@pytest.mark.parametrize("n", [1, 2, 3])
def test_answers_are_those_of_one_server_with_all_users(servers, tmp_path, kind, n):
    chosen = random.Random(n)
    both = Compared(kind, tmp_path / "map.toml", servers[: n + 1], f"alike-{n}-{kind.__name__}")
    for _ in range(4):
        both.done("hits", [*hits_of(chosen, 40), ("", "/a"), ("ada", "")])
        for hit in hits_of(chosen, 3):
            both.done("hit", *hit[:2], seen_ms=hit[2], kind=hit[3])
        both.done("leave", chosen.choice(USERS))
        both.same("count")
        both.same("count", within=chosen.choice([300, 900]))
        for url in (*URLS, "/none"):
            both.same("count", url)
            both.same("kinds", url)
            both.pages("page", url)
        both.same("counts", *URLS, "/none")
        both.same("kinds")
        both.pages("recent")
        both.pages("users", "")
        both.pages("users", "user-1")
        both.same("seen", *USERS, "nobody")
        for prefix in ("", "/c", "/none"):
            both.same("section", prefix)
            for limit in (0, 1, 3, 100):
                both.same("top", limit, prefix)
        both.same("top", None)
        for verb, *args in (("page", "/a", 1_001), ("recent", -1), ("top", 10**30), ("top", -1), ("seen",)):
            both.same_error(verb, *args)
        both.done("forget", chosen.choice(USERS), "nobody")
        assert ageless(list(both.divided.all_recent(7))) == ageless(list(both.one.all_recent()))
        assert ageless(list(both.divided.all_on_page("/a", 7))) == ageless(list(both.one.all_on_page("/a")))
        assert ageless(list(both.divided.all_users("u", 7))) == ageless(list(both.one.all_users("u")))
    both.divided.close()
    both.one.close()


@CLIENTS
def test_sections_and_top_of_many_pages_are_exact(servers, tmp_path, kind):
    both = Compared(kind, tmp_path / "map.toml", servers[:4], f"pages-{kind.__name__}")
    chosen = random.Random(3)
    both.done("hits", [(f"user-{nth}", f"/{chosen.randrange(3_000)}") for nth in range(6_000)])
    both.same("section", "/")
    both.same("top", 10)
    assert sum(each.people for each in both.divided.sites() if each.name == f"pages-{kind.__name__}") == 6_000
    both.divided.close()
    both.one.close()


def test_a_cursor_is_good_for_its_question_alone(servers, tmp_path):
    with DividedClient(map_of(tmp_path / "map.toml", *servers[:2]), "cursors", timeout=30) as client:
        client.hits((f"user-{nth}", "/a") for nth in range(50))
        cursor = client.recent(10).cursor
        with pytest.raises(RangeError):
            client.users("", 10, cursor)
        with pytest.raises(RangeError):
            client.recent(10, "x")


@async_test
async def test_cursors_of_gateways_are_good_here_and_ours_there(tmp_path):
    async with started(server_at()) as one, started(server_at()) as two:
        path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in (one, two)))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            at = f"online://127.0.0.1:{asking.server.addresses[0].port}/shop"
            async with AsyncClient(at, timeout=30) as merged, AsyncDividedClient(path, "shop", timeout=30) as ours:
                now_ms = time.time_ns() // 1_000_000
                await ours.hits((user, "/a", now_ms - nth // 3) for nth, user in enumerate(USERS))  # three at a time
                for verb, *args in (("recent",), ("page", "/a"), ("users", "")):
                    found, cursor = [], None
                    for client in itertools.cycle((merged, ours)):
                        part = await getattr(client, verb)(*args, limit=7, cursor=cursor)
                        found += [each.user for each in part.users]
                        cursor = part.cursor
                        if cursor is None:
                            break
                    whole = await getattr(merged, verb)(*args, limit=1_000)
                    assert found == [each.user for each in whole.users]
                    assert set(found) == set(USERS)


@CLIENTS
def test_a_partition_that_is_away_is_named(servers, tmp_path, kind):
    path = map_of(tmp_path / "map.toml", servers[0], 1)
    client = kind(path, "away", timeout=30)
    mine, other = [next(user for user in USERS if place_of(path, user) == place) for place in (0, 1)]
    client.hit(mine, "/a")
    assert client.seen(mine)[0].url == "/a"
    for ask in (client.count, client.recent, lambda: client.hit(other, "/a"), lambda: client.hits([(other, "/a")])):
        with pytest.raises(PartialError, match="PARTIAL no answer from partition 1 of 2: cannot connect to online://"):
            ask()
    client.close()


def place_of(path, user):
    return partitions.read(path).place(user.encode("utf-8", "surrogateescape"))


@CLIENTS
def test_a_partition_that_is_silent_costs_the_time_of_a_call(servers, tmp_path, kind):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = kind(map_of(tmp_path / "map.toml", silent.getsockname()[1], servers[0]), timeout=1)
        for _ in range(2):
            with pytest.raises(PartialError, match=r"from partition 0 of 2: online://.* did not answer within"):
                client.count()
        client.close()


@CLIENTS
def test_another_server_of_the_partition_is_asked(servers, tmp_path, kind):
    path = map_of(tmp_path / "map.toml", 1, servers[1])
    path.write_text(path.read_text().replace(':1"', f':1", "online://127.0.0.1:{servers[0]}"'))
    client = kind(path, f"next-{kind.__name__}", timeout=30)
    client.hits((user, "/a") for user in USERS)
    assert client.count() == len(USERS)
    client.close()


@CLIENTS
def test_a_newer_map_is_read_when_a_partition_does_not_answer(servers, tmp_path, kind):
    path = map_of(tmp_path / "map.toml", servers[0], 1)
    client = kind(path, f"newer-{kind.__name__}", timeout=30)
    with pytest.raises(PartialError):
        client.count()
    path.write_text("format = 1")
    with pytest.raises((PartialError, AddressError)):
        client.count()
    path.write_text(map_of(path, servers[0], servers[1]).read_text().replace("version = 1", "version = 2"))
    assert client.count() == 0
    client.close()


def owners_and_clients_agree(divided):
    question, clients = divided.asking(verbs.count())
    return len(next(question)) == len(clients)


def test_threads_that_meet_a_newer_map_go_by_one_map_each(tmp_path):
    """Two threads ask on, while others renew the map from one partition to four and back."""
    path = map_of(tmp_path / "map.toml", 1)
    made = []
    divided = Divided(path, "default", lambda url: made.append(url) or url)
    texts = [map_of(path, *ports).read_text() for ports in ((1,), (1, 2, 3, 4))]
    is_over = threading.Event()

    def ask():
        while not is_over.is_set():
            if not owners_and_clients_agree(divided):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for version in range(2, 40):
                other = tmp_path / "next.toml"
                other.write_text(texts[version % 2].replace("version = 1", f"version = {version}"))
                before = divided.owners
                other.replace(path)
                renewed = [each.result() for each in [pool.submit(divided.renewed, before) for _ in range(2)]]
                assert [is_newer for is_newer, _ in renewed] == [True, True]
                assert sum(bool(retired) for _, retired in renewed) == 1
        finally:
            is_over.set()
    assert all(each.result() for each in asking)


def test_a_map_that_is_the_same_file_is_not_read_again_nor_any_after_close(tmp_path, monkeypatch):
    path = map_of(tmp_path / "map.toml", 1)
    made = Divided(path, "default", str)
    monkeypatch.setattr(divided, "read", lambda path: pytest.fail("it was read"))
    assert made.renewed(made.owners) == (False, [])
    assert made.close()
    path.write_text(path.read_text().replace("version = 1", "version = 22"))
    assert made.renewed(made.owners) == (False, [])


def test_what_one_server_alone_can_know_is_refused(servers, tmp_path):
    client = DividedClient(map_of(tmp_path / "map.toml", *servers[:2]), timeout=30)
    with client, pytest.raises(CommandError, match="PEAK is not answered for divided users"):
        client.call(verbs.peak())


def test_threads_share_it(servers, tmp_path):
    with DividedClient(map_of(tmp_path / "map.toml", *servers[:3]), "threads", timeout=30) as client:
        client.hits((user, "/a") for user in USERS)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: client.count(), range(200))) == {len(USERS)}
