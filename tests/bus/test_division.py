"""Servers that divide the users: what they refuse, and what happens when slots move, under load."""

import contextlib
import logging
from zlib import crc32

import msgpack
import pytest
import trio
from tests.bus.servers import Running, async_test, equal, quiet, until
from tests.serve.test_syslog import json_line
from tests.serving import LOCAL

from online.bus import relay as relaying_parts
from online.bus.division import Division
from online.bus.publisher import MAX_WAITING_BYTES
from online.bus.redisbus import STREAM
from online.cli import gateway, relay, serve
from online.errors import ConfigError
from online.partitions import SLOTS
from online.serve.clock import wall_ms
from online.serve.config import Address, Config

USERS = [b"user-%d" % number for number in range(300)]


class Site:
    """A map and the servers and gateways that go by it; it all runs in one process."""

    def __init__(self, path, url, nursery):
        self.path, self._url, self._nursery = path, url, nursery
        self.version = 0
        self.ports = {}
        self.running = []

    def write(self, slots, came_from=None):
        """Write the next version: `slots` by partition."""
        self.version += 1
        lines = ["format = 1", f"version = {self.version}"]
        for number, spans in slots.items():
            servers = [f"online://127.0.0.1:{port}" for port in self.ports.get(number, [1])]
            lines += [f"[partition.{number}]", f'slots = "{spans}"', f"servers = {servers}".replace("'", '"')]
            lines += [f"came_from = {(came_from or {}).get(number, [])}"]
        self.path.write_text("\n".join(lines))

    async def loading_server(self, number, **settings):
        config = Config(listen=(LOCAL,), http=(), bus=self._url, partition=number, map=self.path, **settings)
        return await self._start(serve.assemble(config))

    async def server(self, number, **settings):
        running = await self.loading_server(number, **settings)
        self.ports.setdefault(number, []).append(running.server.addresses[0].port)
        await until(lambda: running.server.service.loading is None)
        return running

    async def gateway(self):
        return await self._start(gateway.assemble(self.path, Config(listen=(LOCAL,), http=())))

    async def relay(self, **settings):
        config = Config(listen=(LOCAL,), http=(), bus=self._url, **settings)
        return await self._start(relay.assemble(config))

    async def _start(self, server):
        await self._nursery.start(server.run)
        self.running.append(Running(server))
        return self.running[-1]


@contextlib.asynccontextmanager
async def site(tmp_path, broker):
    async with trio.open_nursery() as nursery:
        made = Site(tmp_path / "map.toml", broker.url, nursery)
        try:
            yield made
        finally:
            for each in made.running:
                each.server.stop()


async def reload(running):
    """Do what SIGHUP does, and wait until it is done."""
    running.server.reload(running.server.config)
    await until(lambda: running.server.service.loading is None)


def division(running):
    return next(part for part in running.server.parts if part.name == "map")


def owned(users, first, last):
    return sum(first <= crc32(user) % SLOTS <= last for user in users)


@async_test
async def test_hits_of_users_of_others_are_refused_in_every_dialect(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-8191", 1: "8192-16383"})
        one = await made.server(0)
        theirs = next(user for user in USERS if not owned([user], 0, 8191))
        ours = next(user for user in USERS if owned([user], 0, 8191))
        moved = f"-MOVED {crc32(theirs) % SLOTS} 127.0.0.1:1"
        assert await one.ask(b"HIT %s /a" % theirs) == moved
        assert await one.ask(b"LEAVE %s" % theirs) == moved
        peer = await one.connect()
        assert await peer.ask(b"SITE shop") == b"+OK\r\n"
        assert (await peer.ask(b"HIT %s /a" % theirs)).decode().strip() == moved
        await peer.stream.aclose()
        assert sorted(one.server.sites) == [b"default"]
        peer = await one.connect()
        batch = b"\x94\x00\x01\xa4hits\x92" + b"".join(
            b"\x92" + bytes([0xA0 + len(user)]) + user + b"\xa2/a" for user in (theirs, ours)
        )
        await peer.stream.send_all(batch)
        answer = await peer.receive()
        assert answer.startswith(b"\x94\x01\x01\xc0\x94\x01\x00\x01\x92\xa5MOVED")  # one accepted, one refused
        assert answer.endswith(b"hit 1 of the batch: " + moved.split(" ", 1)[1].encode())
        await peer.stream.aclose()
        assert (one.users, one.server.sites[b"default"].statistics().refused) == (1, 3)
        assert dict(division(one).info()["map"](0))["moved_hits"] == 4


class Load:
    """Hits and questions that go on while servers change. What is answered is right, or says that it is not known."""

    def __init__(self, asked, *, may_be_partial):
        self._asked, self._may_be_partial = asked, may_be_partial
        self.rounds = self.partial = 0
        self.pages = {}  #: where each user may be: a hit that was not acknowledged may have been taken
        self._stopped = trio.Event()

    async def run(self):
        peer = await self._asked.connect()
        while not self._stopped.is_set():
            for number, user in enumerate(USERS[self.rounds % 7 :: 7]):
                page = b"/%d" % ((number + self.rounds) % 5)
                answer = await self._answer(peer, b"HIT %s %s" % (user, page))
                self.pages[user] = {page} if answer is not None else self.pages.get(user, {b"/"}) | {page}
                if number % 5 == 0:
                    assert await self._answer(peer, b"COUNT") in (None, b":%d" % len(USERS))
            self.rounds += 1
        await peer.stream.aclose()

    async def _answer(self, peer, line):
        answer = (await peer.ask(line)).rstrip(b"\r\n")
        if not answer.startswith(b"-"):
            return answer
        assert self._may_be_partial, answer
        assert answer.startswith(b"-PARTIAL"), answer
        self.partial += 1
        return None

    async def more(self, rounds=2):
        """Wait until that goes on for some time."""
        until_round = self.rounds + rounds
        await until(lambda: self.rounds >= until_round)

    def stop(self):
        self._stopped.set()


async def all_know(asked, load):
    """Every user stands where the last hit that was acknowledged says."""
    peer = await asked.connect()

    async def wrong():
        answers = {user: await peer.ask(b"SEEN %s" % user) for user in load.pages}
        return {
            user: answer
            for user, answer in answers.items()
            if not any(page + b"\r\n" in answer for page in load.pages[user])
        }

    with trio.move_on_after(5):
        while await wrong():
            await trio.sleep(0.02)
    assert await wrong() == {}, load.pages
    await peer.stream.aclose()


@pytest.mark.parametrize("n_servers", [1, 2])
def test_slots_go_to_a_new_partition_and_come_back_under_load(tmp_path, broker, n_servers):
    @async_test
    async def run():
        async with site(tmp_path, broker) as made:
            made.write({0: "0-16383"})
            old = [await made.server(0) for _ in range(n_servers)]
            made.write({0: "0-16383"})
            asked = await made.gateway()
            for each in old:
                await reload(each)
            for user in USERS:
                assert await asked.ask(b"HIT %s /" % user) == "+OK"
            for each in old:
                await until(lambda each=each: each.users == len(USERS))
            load = Load(asked, may_be_partial=n_servers == 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await load.more()
                made.write({0: "0-8191", 1: "8192-16383"}, {1: [0]})
                new = [await made.server(1) for _ in range(n_servers)]
                made.write({0: "0-8191", 1: "8192-16383"}, {1: [0]})
                await _change(load, [*new, *old], asked)
                assert old[0].users == owned(USERS, 0, 8191)
                assert new[0].users == owned(USERS, 8192, 16383)

                made.write({0: "0-12000", 1: "12001-16383"}, {0: [1]})
                await _change(load, [*old, *new], asked)
                assert old[0].users == owned(USERS, 0, 12000)

                made.write({0: "0-16383"}, {0: [1]})
                await _change(load, [*old, *new], asked)
                assert old[0].users == len(USERS)
                assert new[0].users == 0
                load.stop()
            await all_know(asked, load)
            await equal(*old, users=len(USERS))
            if n_servers == 2:
                assert load.partial == 0

    run()


async def _change(load, servers, asked):
    """Let a new map be used: by the first server of each partition, by the gateway, by the others."""
    first = {each.server.config.partition: each for each in reversed(servers)}
    for each in first.values():
        await reload(each)
    asked.server.reload(asked.server.config)
    await load.more(1)
    for each in servers:
        if each not in first.values():
            await reload(each)
    await load.more()


@async_test
async def test_a_server_that_starts_again_drops_whom_its_state_has_of_others(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-16383"})
        one = await made.server(0, state=tmp_path / "state")
        for user in USERS:
            await one.hit(user, b"/a")
    async with site(tmp_path, broker) as made:
        made.version = 1
        made.write({0: "0-99", 1: "100-16383"})
        one = await made.server(0, state=tmp_path / "state")
        assert one.users == owned(USERS, 0, 99)


def figures(running):
    return dict(division(running).info()["map"](0))


@async_test
async def test_a_new_owner_waits_for_a_bus_that_is_away_and_says_so(tmp_path, broker, caplog):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-16383"})
        old = await made.server(0)
        for user in USERS[:20]:
            await old.hit(user, b"/a")
        broker.kill()
        made.write({0: "0-8191", 1: "8192-16383"}, {1: [0]})
        new = await made.loading_server(1, bus_wait_s=0)
        loading = "the bus of partition 0 is away, trying again"
        await until(lambda: loading in (new.server.service.loading or ""))
        assert (await new.ask(b"COUNT")).startswith("-LOADING ")
        assert loading in await new.ask(b"COUNT")
        assert figures(new)["came_from_away"] == "0"
        await trio.to_thread.run_sync(broker.start)
        await until(lambda: new.server.service.loading is None)
        await until(lambda: new.users == owned(USERS[:20], 8192, 16383))
        await until(lambda: figures(new)["came_from_away"] == "")
        assert figures(new)["came_from_gaps"] == 0
    told = [record.message for record in caplog.records if "users of partition 0 cannot be read" in record.message]
    assert len(told) == 1


@pytest.mark.parametrize("is_trimmed", [False, True])
@async_test
async def test_a_stream_that_was_trimmed_inside_the_window_is_told(tmp_path, broker, caplog, is_trimmed):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-16383"})
        old = await made.server(0)
        for user in USERS[:4]:
            await old.hit(user, b"/a")
            await quiet(broker, old)
        if is_trimmed:
            broker.client.xtrim(STREAM, maxlen=1, approximate=False)
        made.write({0: "0-99", 1: "100-16383"}, {1: [0]})
        new = await made.server(1)
        assert figures(new)["came_from_gaps"] == is_trimmed
        assert new.users == (1 if is_trimmed else owned(USERS[:4], 100, 16383))
    assert ("the stream of partition 0 does not reach back a whole window" in caplog.text) is is_trimmed


@async_test
async def test_a_stream_that_is_trimmed_while_others_read_it_is_told(tmp_path, broker, monkeypatch):
    take = Division._take

    async def take_late(part, number, bus, most, *, wait_ms=0):
        taken = await take(part, number, bus, most, wait_ms=wait_ms)
        if not wait_ms:
            broker.client.xtrim(STREAM, maxlen=1, approximate=False)
        return taken

    async with site(tmp_path, broker) as made:
        made.write({0: "0-16383"})
        old = await made.server(0)
        for user in USERS[:4]:
            await old.hit(user, b"/a")
            await quiet(broker, old)
        monkeypatch.setattr("online.bus.division.REPLAYED_ENTRIES", 2)
        monkeypatch.setattr(Division, "_take", take_late)
        made.write({0: "0-99", 1: "100-16383"}, {1: [0]})
        new = await made.server(1)
        assert figures(new)["came_from_gaps"] == 1
        with broker.client.pipeline() as at_once:
            at_once.xadd(STREAM, {b"s": b"x", b"f": b""}, id=f"{wall_ms() + 500}-1")
            at_once.xtrim(STREAM, maxlen=0, approximate=False)
            at_once.xadd(STREAM, {b"s": b"x", b"f": b""}, id=f"{wall_ms() + 500}-2")
            at_once.execute()
        await until(lambda: figures(new)["came_from_gaps"] == 2)


@async_test
async def test_a_map_that_would_lose_users_changes_nothing(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-99", 1: "100-16383"})
        one = await made.server(0)
        made.write({0: "0-199", 1: "200-16383"})
        with pytest.raises(ConfigError, match=r"partition\.0 gets slots of partition 1: add it to its came_from"):
            one.server.reload(one.server.config)
        made.version = 0
        made.write({0: "0-16383"})
        with pytest.raises(ConfigError, match="version 1"):
            one.server.reload(one.server.config)
        assert (division(one).owners.version, one.server.service.loading) == (1, None)


@async_test
async def test_who_goes_by_another_map_gets_no_answer(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-99", 1: "100-16383"})
        one = await made.server(0)
        layout = division(one).owners.layout(0)
        peer = await one.connect()
        assert await peer.ask(b"CLIENT MAP " + layout.encode()) == b"+OK\r\n"
        assert (await peer.ask(b"CLIENT MAP 1-12345678")).startswith(b"-LOADING the map here is ")
        assert await peer.ask(b"COUNT") == b":0\r\n"
        made.write({0: "0-98", 1: "99-16383"})
        await reload(one)
        assert (await peer.stream.receive_some()).startswith(b"-LOADING the map here is ")
        assert await peer.stream.receive_some() == b""
        await peer.stream.aclose()


def test_a_map_needs_a_bus(tmp_path):
    with pytest.raises(ConfigError, match="map needs a bus"):
        serve.assemble(Config(listen=(Address("127.0.0.1", 0),), map=tmp_path / "map.toml"))


# A relay with the map


def told_of_the_bus(running):
    return dict(running.bus.info()["bus"](0))


@async_test
async def test_a_relay_with_the_map_sends_each_hit_to_the_partition_of_its_user(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-8191", 1: "8192-16383"})
        servers = [await made.server(number) for number in (0, 1)]
        relaying = await made.relay(map=made.path, syslog=(LOCAL,))
        users = USERS[:40]
        for user in users[:20]:
            assert await relaying.ask(b"HIT %s /a" % user) == "+OK"
        await _send_batch(relaying, users[20:30])
        await _send_syslog(relaying, users[30:])
        low = owned(users, 0, 8191)
        await until(lambda: [each.users for each in servers] == [low, len(users) - low])
        assert await relaying.ask(b"LEAVE %s" % users[0]) == "+OK"
        await until(lambda: sum(each.server.sites[b"default"].count(now_ms=wall_ms()) for each in servers) == 39)
        assert [told_of_the_bus(each)["foreign_hits"] for each in servers] == [0, 0]
        assert told_of_the_bus(relaying)["published_hits"] == len(users) + 1
        assert dict(relaying.bus.info()["map"](0)) == {"map_version": 1, "partitions": 2, "partitions_away": ""}


async def _send_batch(running, users):
    peer = await running.connect()
    await peer.stream.send_all(msgpack.packb([0, 1, "hits", [[user, "/a"] for user in users]]))
    assert msgpack.unpackb(await peer.receive())[3] == [len(users), 0, 0, None]
    await peer.stream.aclose()


async def _send_syslog(running, users):
    [address] = next(each for each in running.server.parts if each.name == "syslog").addresses
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sender:
        for user in users:
            await sender.sendto(json_line(user.decode(), "/a"), (address.host, address.port))


@async_test
async def test_a_relay_goes_by_a_new_map_and_sends_to_new_partitions(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-16383"})
        old = await made.server(0)
        relaying = await made.relay(map=made.path)
        await _send_batch(relaying, USERS[:100])
        await until(lambda: old.users == 100)
        made.write({0: "0-8191", 1: "8192-16383"}, {1: [0]})
        new = await made.server(1)
        await _send_batch(relaying, USERS[100:200])  # by the map before, which came_from allows for
        await until(lambda: new.users == owned(USERS[:200], 8192, 16383))
        relaying.server.reload(relaying.server.config)
        await _send_batch(relaying, USERS[200:])
        await until(lambda: new.users == owned(USERS, 8192, 16383))
        await until(lambda: old.users == 200 + owned(USERS[200:], 0, 8191))
        outlets = relaying.bus.outlets
        assert [outlets[number].publisher.most_bytes for number in (0, 1)] == 2 * [MAX_WAITING_BYTES // 2]
        published = told_of_the_bus(relaying)["published_hits"]
        made.write({0: "0-16383"})
        relaying.server.reload(relaying.server.config)
        await until(lambda: sorted(outlets) == [0])
        assert outlets[0].publisher.most_bytes == MAX_WAITING_BYTES
        assert told_of_the_bus(relaying)["published_hits"] == published
        made.version = 0
        made.write({0: "0-16383"})
        with pytest.raises(ConfigError, match="version 1, and another of 3 is in use"):
            relaying.server.reload(relaying.server.config)


@async_test
async def test_a_bus_that_is_away_is_said_once_for_all_partitions(tmp_path, broker, caplog):
    caplog.set_level(logging.INFO)
    async with site(tmp_path, broker) as made:
        made.write({number: f"{4096 * number}-{4096 * number + 4095}" for number in range(4)})
        relaying = await made.relay(map=made.path)
        publishers = [each.publisher for each in relaying.bus.outlets.values()]
        await _send_batch(relaying, USERS)
        await until(lambda: all(each.counts.hits for each in publishers))
        broker.kill()
        await _send_batch(relaying, USERS)
        await until(lambda: all(each.counts.retries > 3 for each in publishers))
        await trio.to_thread.run_sync(broker.start)
        await until(lambda: sum(each.counts.hits for each in publishers) == 2 * len(USERS))
    said = [text for text in caplog.messages if text.startswith("bus redis://")]
    assert "cannot be reached, trying again" in said[0]
    assert "takes hits again" in said[-1]
    assert len(said) in (2, 4), "while it comes back, it may refuse one and take from another"


@async_test
async def test_a_bus_that_cannot_be_trimmed_is_said_once_for_all_partitions(tmp_path, broker, caplog, monkeypatch):
    monkeypatch.setattr(relaying_parts, "TRIM_EVERY_S", 0.05)
    async with site(tmp_path, broker) as made:
        made.write({0: "0-8191", 1: "8192-16383"})
        relaying = await made.relay(map=made.path)
        await until(lambda: broker.client.info("clients")["connected_clients"] > 2)
        broker.kill()
        await until(lambda: all(each.untrimmed for each in relaying.bus.outlets.values()))
    assert sum("cannot be trimmed" in text for text in caplog.messages) == 1


@async_test
async def test_hits_on_the_stream_of_a_wrong_partition_are_counted(tmp_path, broker):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-8191", 1: "8192-16383"})
        server = await made.server(0)
        relaying = await made.relay(partition=0)
        await _send_batch(relaying, USERS)
        await until(lambda: server.users == owned(USERS, 0, 8191))
        told = told_of_the_bus(server)
        assert (told["applied_hits"], told["foreign_hits"]) == (server.users, len(USERS) - server.users)


@async_test
async def test_hits_of_sites_that_are_not_here_are_counted(broker, tmp_path):
    async with site(tmp_path, broker) as made:
        made.write({0: "0-16383"})
        server = await made.server(0, sites=("shop",))
        relaying = await made.relay()
        peer = await relaying.connect()
        assert await peer.ask(b"SITE blog") == b"+OK\r\n"
        assert await peer.ask(b"HIT ada /a") == b"+OK\r\n"
        assert await peer.ask(b"SITE shop") == b"+OK\r\n"
        assert await peer.ask(b"HIT ada /a") == b"+OK\r\n"
        await peer.stream.aclose()
        await until(lambda: server.users == 1)
        told = told_of_the_bus(server)
        assert (told["applied_hits"], told["refused_hits"]) == (1, 1)
