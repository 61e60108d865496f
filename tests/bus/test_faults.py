"""What may go wrong with a bus, each against a real redis-server. In the end all replicas hold the same sessions."""

import signal
import socket

import msgpack
import pytest
import trio
from tests.bus.servers import ON_ALL_ENGINES, async_test, equal, quiet, replicas, until
from tests.serving import run_command, server_process
from tests.serving import until as until_so

from online.bus import replica
from online.bus.entries import BusError, order
from online.bus.redisbus import STREAM, RedisBus
from online.core.journal import site
from online.serve.clock import wall_ms


def entry(*hits, name=b"default", source=b"elsewhere"):
    """The fields of an entry with `(user, url, seen_ms, kind)`, as a publisher without an index writes it."""
    return {b"s": source, b"f": site(name) + msgpack.packb([2, "hits", hits])}


@ON_ALL_ENGINES
@async_test
async def test_a_bus_that_is_away_at_the_start(broker):
    broker.kill()
    async with replicas(broker.url, bus_wait_s=0) as (one, two):
        await one.hit(b"ada", b"/a")
        await two.hit(b"theo", b"/b")
        assert await one.ask(b"COUNT") == ":1"
        assert "bus_status:away" in await one.ask(b"INFO bus")
        assert one.bus.lag_ms > 0
        await trio.to_thread.run_sync(broker.start)
        await equal(one, two, users=2)
        await until(lambda: one.bus.status == "ok")


@async_test
async def test_a_start_waits_for_a_bus_that_is_away_and_then_reads_the_window(broker):
    async with replicas(broker.url, 1) as (one,):
        await one.hit(b"ada", b"/a")
        await quiet(broker, one)
        broker.client.config_set("appendonly", "yes")
        await until(lambda: not broker.client.info("persistence")["aof_rewrite_in_progress"])
        broker.kill()
        async with replicas(broker.url, 1, is_ready=False) as (later,):
            await until(lambda: "without it in" in later.server.service.loading)
            answer = await later.ask(b"COUNT")
            assert answer.startswith("-LOADING ")
            assert "the bus cannot be read, without it in " in answer
            assert "bus_status:away" in await later.ask(b"INFO bus")
            await trio.to_thread.run_sync(lambda: broker.start("--appendonly", "yes"))
            await until(lambda: later.server.service.loading is None)
            assert await later.ask(b"COUNT") == ":1"
            assert later.server.verbs.unready() is None


@async_test
async def test_who_serves_without_having_read_the_window_is_not_ready(broker):
    broker.kill()
    async with replicas(broker.url, 1, bus_wait_s=0) as (one,):
        assert await one.ask(b"COUNT") == ":0"
        assert "was not read since the start" in one.server.verbs.unready()
        one.bus._begun_s -= 1_800  # after a window it knows as much as anybody can
        assert one.server.verbs.unready() is None
        one.bus._begun_s += 1_800
        await trio.to_thread.run_sync(broker.start)
        await until(lambda: one.server.verbs.unready() is None)
        assert one.bus.status == "ok"


@async_test
async def test_a_start_does_not_wait_if_the_state_directory_has_what_there_was(broker, tmp_path, monkeypatch):
    monkeypatch.setattr(replica, "START_S", 0.1)
    async with replicas(broker.url, 1, state=tmp_path / "state") as (one,):
        await one.hit(b"ada", b"/a")
        await quiet(broker, one)
    broker.kill()
    async with replicas(broker.url, 1, state=tmp_path / "state") as (one,):
        assert await one.ask(b"COUNT") == ":1"
        assert one.server.verbs.unready() is None


@async_test
async def test_a_bus_that_goes_away_and_comes_back_empty(broker):
    async with replicas(broker.url) as (one, two):
        await one.hit(b"ada", b"/a")
        await equal(one, two, users=1)
        broker.kill()
        await one.hit(b"kim", b"/a")
        await two.hit(b"theo", b"/b")
        assert await one.ask(b"COUNT") == ":2"
        await until(lambda: one.bus.is_away and one.bus.lag_ms > 100)
        await trio.to_thread.run_sync(broker.start)
        await equal(one, two, users=3)
        async with replicas(broker.url, 1) as (later,):
            await equal(one, two, later, users=3)


@ON_ALL_ENGINES
@async_test
async def test_what_found_no_room_while_the_bus_was_away_is_counted_and_made_up_for(broker):
    async with replicas(broker.url) as (one, two):
        one.bus.publisher.most_bytes = 100
        broker.kill()
        n_users = 0
        while one.bus.publisher.counts.dropped < 10:  # what is on its way when the bus goes is kept, however much it is
            await one.hit(b"user%d" % n_users, b"/a")
            n_users += 1
        await trio.to_thread.run_sync(broker.start)
        await equal(one, two, users=n_users)
        assert one.bus.dumps >= 1


@async_test
async def test_a_bus_that_comes_back_empty_before_we_have_read_what_it_took(broker, monkeypatch):
    read = RedisBus.read

    async def read_nothing(bus, place, most, *, wait_ms=0):
        await trio.sleep(0.01)
        return []

    monkeypatch.setattr(RedisBus, "read", read_nothing)
    async with replicas(broker.url, 1) as (one,):
        await one.hit(b"ada", b"/a")
        await until(lambda: one.bus.publisher.counts.hits == 1)
        broker.kill()
        await trio.to_thread.run_sync(broker.start)
        await until(lambda: one.bus.gaps)
        monkeypatch.setattr(RedisBus, "read", read)
        async with replicas(broker.url, 1) as (later,):
            await equal(one, later, users=1)
        assert one.bus.gaps == 1


@async_test
async def test_a_stream_that_is_deleted_while_we_wait_on_it(broker):
    async with replicas(broker.url) as (one, two):
        await one.hit(b"ada", b"/a")
        await equal(one, two, users=1)
        await quiet(broker, one, two)
        broker.client.delete(STREAM)
        await until(lambda: one.bus.gaps and two.bus.gaps)
        await two.hit(b"theo", b"/b")
        await equal(one, two, users=2)
        async with replicas(broker.url, 1) as (later,):
            await equal(one, two, later, users=2)


@async_test
async def test_a_stream_whose_last_entries_are_lost(broker):
    async with replicas(broker.url) as (one, two):
        await one.hit(b"ada", b"/a")
        await equal(one, two, users=1)
        await quiet(broker, one, two)
        before = broker.client.dump(STREAM)
        await one.hit(b"kim", b"/a")
        await two.hit(b"theo", b"/a")
        await equal(one, two, users=3)
        broker.client.restore(STREAM, 0, before, replace=True)  # as after a power loss
        await until(lambda: one.bus.gaps and two.bus.gaps)
        async with replicas(broker.url, 1) as (later,):
            await equal(one, two, later, users=3)


@async_test
async def test_a_start_goes_on_after_a_read_that_failed(broker, monkeypatch):
    """What was read before is applied while the next is read; the place is that of what was applied."""
    read, places = RedisBus.read, []

    async def fail_once(bus, place, most, *, wait_ms=0):
        places.append(place)
        if len(places) == 3:
            raise BusError("it went away")
        return await read(bus, place, most, wait_ms=wait_ms)

    monkeypatch.setattr(replica, "REPLAYED_ENTRIES", 2)
    monkeypatch.setattr(RedisBus, "read", fail_once)
    added = [broker.client.xadd(STREAM, entry([b"user%d" % n, b"/a", wall_ms(), "member"])) for n in range(7)]
    async with replicas(broker.url, 1) as (one,):
        assert one.users == 7
        assert one.bus.retries == 1
        assert places[1:5] == [added[1], added[3], added[3], added[5]]


@async_test
async def test_a_stream_that_is_trimmed_past_our_place(broker):
    async with replicas(broker.url, 1) as (one,):
        with server_process("--bus", broker.url) as process:
            await until(lambda: one.bus.follower.calls == 1)  # it found a young stream, and now rests
            await quiet(broker, one)
            place = f"place:{one.bus.place.decode()}\r\n"
            await until(lambda: place in ask(process.port, "INFO bus", whole=True))
            process.popen.send_signal(signal.SIGSTOP)
            broker.client.xadd(STREAM, entry([b"first", b"/b", wall_ms(), "member"]))  # it may be read
            broker.client.xadd(STREAM, entry([b"kim", b"/b", wall_ms(), "member"]))
            await until(lambda: one.users == 2)
            broker.client.xtrim(STREAM, maxlen=0)
            broker.client.xadd(STREAM, entry([b"ada", b"/b", wall_ms(), "member"]))
            process.popen.send_signal(signal.SIGCONT)
            await until(lambda: ask(process.port, "COUNT") == ":3")
            await until(lambda: "gaps:1" in ask(process.port, "INFO bus", whole=True))


TRIMMED = {
    "what_was_read": ({"maxlen": 3}, 1),
    "what_is_to_be_read": ({"maxlen": 1}, 1),
    "all": ({"maxlen": 0}, 1),
    "what_is_older_than_the_window": ({"minid": 2}, 0),
}


@pytest.mark.parametrize(("trim", "gaps"), TRIMMED.values(), ids=TRIMMED)
@async_test
async def test_entries_that_go_while_the_window_is_read_are_a_gap(trim, gaps, broker, monkeypatch, caplog):
    read, reads = RedisBus.read, []

    async def read_late(bus, place, most, *, wait_ms=0):
        reads.append(place)
        if len(reads) == 2:
            broker.client.xtrim(STREAM, approximate=False, **trim)
        return await read(bus, place, most, wait_ms=wait_ms)

    broker.client.xadd(STREAM, entry([b"old", b"/a", 10**12, "member"]), id=b"1-1")
    async with replicas(broker.url, 1) as (one,):
        for n in range(7):
            broker.add(entry([b"user%d" % n, b"/a", wall_ms(), "member"]))
        await until(lambda: one.users == 7)
        await quiet(broker, one)
        monkeypatch.setattr(replica, "REPLAYED_ENTRIES", 2)
        monkeypatch.setattr(RedisBus, "read", read_late)
        async with replicas(broker.url, 1) as (two,):
            await equal(one, two, users=7)
            await until(lambda: not (one.bus.is_healing or two.bus.is_healing))
            assert two.bus.gaps == gaps
    assert ("entries have gone while the window was read" in caplog.text) == bool(gaps)


@async_test
async def test_entries_that_go_soon_after_the_start_are_missed(broker, monkeypatch):
    """The stream never rests before they go, and all is in the same millisecond: only their number tells."""
    look, read, looks, losses = RedisBus.look, RedisBus.read, [], []

    def add(name):
        now = broker.client.xinfo_stream(STREAM)["last-generated-id"].partition(b"-")[0] + b"-*" if looks else b"*"
        broker.client.xadd(STREAM, entry([name, b"/b", wall_ms(), "member"]), id=now)

    async def look_at_a_stream_that_goes_on(bus):
        looks.append(bus)
        if len(looks) == 2:
            add(b"theo")
        return await look(bus)

    async def read_late(bus, place, count, *, wait_ms=0):
        entries = await read(bus, place, count, wait_ms=wait_ms)
        if wait_ms and b"theo" in b"".join(each.frames for each in entries) and not losses:
            losses.append(place)
            add(b"kim")
            broker.client.xtrim(STREAM, maxlen=0)
            add(b"max")
        return entries

    add(b"ada")
    monkeypatch.setattr(RedisBus, "look", look_at_a_stream_that_goes_on)
    monkeypatch.setattr(RedisBus, "read", read_late)
    async with replicas(broker.url, 1) as (one,):
        await until(lambda: one.bus.gaps == 1)


@async_test
async def test_a_bus_that_lost_its_end_is_noticed_though_others_publish_already(broker):
    async with replicas(broker.url, 1) as (one,):
        for number in range(20):
            await one.hit(b"user%d" % number, b"/a")
        await quiet(broker, one)
        last, *rest = broker.client.xrevrange(STREAM)
        added = broker.client.xinfo_stream(STREAM)["entries-added"]
        for place, _ in (last, *rest[:1]):
            broker.client.xdel(STREAM, place)
        with broker.client.pipeline() as changes:  # a redis that was killed before it wrote them, and what came since
            changes.execute_command("XSETID", STREAM, rest[1][0] if len(rest) > 1 else "0-1", "ENTRIESADDED", added - 2)
            changes.xadd(STREAM, {"s": "x", "f": b"\x93\x02\xa4SITE\x91\xa7default"})
            changes.execute()
        await until(lambda: one.bus.gaps == 1 and one.bus.dumps)
        async with replicas(broker.url, 1) as (two,):
            await equal(one, two, users=20)


@async_test
async def test_a_bus_without_memory_is_told_and_made_up_for(broker):
    async with replicas(broker.url) as (one, two):
        broker.client.config_set("maxmemory", 1)
        await one.hit(b"ada", b"/a")
        await until(lambda: one.bus.publisher.counts.retries > 1)
        assert "OOM" in await one.ask(b"INFO bus")
        assert await one.ask(b"COUNT") == ":1"
        broker.client.config_set("maxmemory", 0)
        await equal(one, two, users=1)


@async_test
async def test_a_bus_that_evicts_is_warned_of(broker, caplog):
    broker.client.config_set("maxmemory-policy", "allkeys-lru")
    async with replicas(broker.url, 1) as (one,):
        await one.hit(b"ada", b"/a")
    assert any("maxmemory-policy allkeys-lru" in record.message for record in caplog.records)
    assert any("appendonly no" in record.message for record in caplog.records)


@ON_ALL_ENGINES
@async_test
async def test_duplicates_and_any_order_change_nothing(broker):
    now_ms = wall_ms()
    async with replicas(broker.url) as (one, two):
        entries = [entry([b"ada", b"/%d" % n, now_ms - 1000 * n, "member"]) for n in (3, 0, 2, 1, 0, 3)]
        for fields in entries:
            broker.add(fields)
        await one.hit(b"theo", b"/b")
        await equal(one, two, users=2)
        assert "/0" in await two.ask(b"SEEN ada")


BAD = {
    "no frames of ours": b"\x00\x01rubbish",
    "without a site": msgpack.packb([2, "hits", [[b"bad", b"/a", 1, "member"]]]),
    "cut off": (site(b"default") + msgpack.packb([2, "hits", [[b"bad", b"/a", 1, "member"]] * 9]))[:-30],
    "of another verb": site(b"default") + msgpack.packb([2, "AUTH", [b"x"]]),
    "with a hit that is none": site(b"default") + msgpack.packb([2, "hits", [["bad", 7]]]),
    "with a count that lies": site(b"default") + b"\x93\x02\xa4hits\xdd\xff\xff\xff\xff",
}


@ON_ALL_ENGINES
@pytest.mark.parametrize("frames", BAD.values(), ids=BAD)
def test_a_poisoned_entry_is_skipped_and_counted(broker, frames):
    async def skip():
        async with replicas(broker.url, 1) as (one,):
            broker.add({b"s": b"x", b"f": frames})
            broker.add({b"other": b"fields"})
            broker.add(entry([b"ada", b"/a", wall_ms(), "member"]))
            await until(lambda: one.users == 1)
            assert one.bus.follower.poisoned == 1
            assert await one.ask(b"COUNT") == ":1"

    async_test(skip)()


@ON_ALL_ENGINES
@async_test
async def test_a_site_of_no_good_name_is_refused(broker):
    async with replicas(broker.url, 1) as (one,):
        broker.add(entry([b"kim", b"/a", wall_ms(), "member"], name=b"x" * 65))
        broker.add(entry([b"ada", b"/a", wall_ms(), "member"]))
        await until(lambda: one.users == 1)
        assert list(one.server.sites) == [b"default"]


@async_test
async def test_a_publisher_whose_clock_is_ahead_is_taken_as_of_its_entry(broker):
    async with replicas(broker.url) as (one, two):
        place = broker.client.xadd(STREAM, entry([b"ada", b"/a", wall_ms() + 600_000, "member"]))
        await equal(one, two, users=1)
        await until(lambda: one.bus.follower.clamped == 1)
        now_ms = one.server.clock.now_ms()
        assert abs(order(place)[0] - now_ms) < 10_000
        await two.hit(b"ada", b"/later", b"%d" % (order(place)[0] + 3_000))
        await equal(one, two, users=1)


@pytest.mark.parametrize("ahead_ms", [600_000, -600_000])
def test_a_server_whose_clock_is_wrong(broker, ahead_ms):
    async def differ():
        async with replicas(broker.url, 2, wall=lambda: wall_ms() + ahead_ms) as (wrong, right):
            await wrong.hit(b"ada", b"/a")
            await right.hit(b"theo", b"/b")
            await until(lambda: wrong.users == right.users == 2)
            assert await wrong.ask(b"COUNT 5") == await right.ask(b"COUNT 5")
            assert abs(wrong.bus.clock_offset_ms + ahead_ms) < 1_000
            assert right.bus.clock_offset_ms == 0

    async_test(differ)()


class Hasty:
    """A client whose every answer comes at once, and is empty."""

    asked = 0

    async def create_request(self, name, *words, callback):
        self.asked += 1
        return callback(None)


@async_test
async def test_answers_that_come_at_once_and_empty_keep_nobody_busy():
    client = Hasty()
    with trio.move_on_after(1.2):
        while True:
            assert await RedisBus(client).read(b"1-0", 10, wait_ms=1000) == []
    assert 2 <= client.asked <= 5


@async_test
async def test_a_server_that_is_killed_and_started_again(broker, tmp_path):
    args = ("--bus", broker.url, "--state", tmp_path / "state")
    async with replicas(broker.url, 1) as (one,):
        with server_process(*args) as process:
            await trio.to_thread.run_sync(hit_many, process.port, 0, 500)
            process.popen.send_signal(signal.SIGKILL)  # some may not be on the bus
            process.popen.wait()
        with server_process(*args) as process:
            await until(lambda: one.users == 500)
            await trio.to_thread.run_sync(hit_many, process.port, 500, 600)
            await until(lambda: one.users == 600)
            assert await trio.to_thread.run_sync(lambda: process.end()) == 0
        checked = run_command("state", "check", tmp_path / "state", "--digest")
        assert one.digest in checked.stdout, (checked.stdout, one.digest)


def hit_many(port, begin, end):
    wait_ready(port)
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"".join(b"HIT user%d /%d\r\n" % (n, n % 9) for n in range(begin, end)))
        for _ in range(begin, end):
            assert not answers.readline().startswith(b"-")


def ask(port, line, *, whole=False):
    """The first line of an answer, or all of it."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        connection.sendall(line.encode() + b"\r\n")
        first = answers.readline().decode().rstrip()
        return answers.read(int(first[1:])).decode() if whole else first


def wait_ready(port):
    """Wait until a server answers."""
    until_so(lambda: not ask(port, "COUNT").startswith("-LOADING"))


def test_two_servers_with_one_state_directory_are_refused(broker, tmp_path):
    args = ("--bus", broker.url, "--state", tmp_path / "state")
    with server_process(*args):
        second = run_command("serve", "--listen", "127.0.0.1:0", *args)
    assert second.returncode != 0
    assert "state" in second.stderr
