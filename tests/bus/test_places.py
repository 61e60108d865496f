"""A server with a state directory reads of the bus only what the directory lacks."""

import pytest
from tests.bus.servers import async_test, equal, quiet, replicas, until

from online.bus import replica
from online.keep.folder import Folder

N = 50


@pytest.fixture(autouse=True)
def no_margin(monkeypatch):
    monkeypatch.setattr(replica, "MARGIN_MS", 0)


async def fill(broker, state, **settings):
    """A server that has N users, who came one after the other, and is stopped."""
    async with replicas(broker.url, 1, state=lambda number: state, **settings) as (one,):
        for number in range(N):
            await one.hit(b"user-%d" % number, b"/a")
        await quiet(broker, one)


async def entries_read(broker, state, users, **settings):
    """How many entries a server reads that starts, and ends with so many users."""
    async with replicas(broker.url, 1, state=lambda number: state, **settings) as (one,):
        n_entries = one.bus.follower.entries
        assert one.users == users
        one.server.sites[b"default"]._check()
        async with replicas(broker.url, 1) as (other,):
            await equal(one, other, users=users)
        return n_entries


@async_test
async def test_only_what_came_since_is_read(broker, tmp_path):
    await fill(broker, tmp_path / "state")
    n_before = broker.client.xlen("online:hits:0")
    async with replicas(broker.url, 1) as (other,):
        for number in range(N, N + 5):
            await other.hit(b"user-%d" % number, b"/a")
        await quiet(broker, other)
    n_since = broker.client.xlen("online:hits:0") - n_before
    assert await entries_read(broker, tmp_path / "state", N + 5) <= n_since + 2  # the place's own, and a call


@pytest.mark.parametrize("other", [{"window_s": 900}, {"sites": ("default", "shop")}], ids=["window", "sites"])
def test_a_server_with_other_settings_reads_the_window(broker, tmp_path, other):
    @async_test
    async def run():
        await fill(broker, tmp_path / "state")
        n_entries = broker.client.xlen("online:hits:0")
        assert await entries_read(broker, tmp_path / "state", N, **other) >= n_entries

    run()


@async_test
async def test_a_directory_that_is_damaged_is_made_up_for_by_the_whole_window(broker, tmp_path):
    await fill(broker, tmp_path / "state")
    n_entries = broker.client.xlen("online:hits:0")
    segment = Folder(tmp_path / "state").kept("journal")[0].path
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 1
    segment.write_bytes(data)
    assert await entries_read(broker, tmp_path / "state", N) >= n_entries


@async_test
async def test_a_directory_whose_end_was_cut_off_is_made_up_for(broker, tmp_path):
    async with replicas(broker.url, 1, state=lambda number: tmp_path / "state") as (one,):
        for number in range(N):
            await one.hit(b"user-%d" % number, b"/a")
            if number == N // 2:
                await quiet(broker, one)
                one.bus._note_place()
                segment = Folder(tmp_path / "state").kept("journal")[-1].path
                size = segment.stat().st_size
        await quiet(broker, one)
    with segment.open("r+b") as file:
        file.truncate(size + 20)
    n_entries = broker.client.xlen("online:hits:0")
    assert 0 < await entries_read(broker, tmp_path / "state", N) < n_entries


@async_test
async def test_a_bus_that_lost_what_was_read_is_read_as_a_whole(broker, tmp_path):
    await fill(broker, tmp_path / "state")
    broker.client.delete("online:hits:0")
    broker.client.xadd("online:hits:0", {"s": "x", "f": ""}, id="1-1")
    async with replicas(broker.url, 1, state=lambda number: tmp_path / "state") as (one,):
        await until(lambda: one.bus.dumps)
        async with replicas(broker.url, 1) as (other,):
            await equal(one, other, users=N)


@async_test
async def test_nothing_is_noted_while_the_directory_lacks_hits(broker, tmp_path):
    async with replicas(broker.url, 1, state=lambda number: tmp_path / "state") as (one,):
        await one.hit(b"ada", b"/a")
        await quiet(broker, one)
        keeper = next(part for part in one.server.parts if hasattr(part, "is_whole"))
        one.bus._note_place()
        offset = keeper.journal.offset
        keeper.is_whole = False
        await one.hit(b"kim", b"/a")
        await quiet(broker, one)
        written = keeper.journal.offset
        one.bus._note_place()
        assert keeper.journal.offset == written > offset
        keeper.is_whole = True
        one.bus._note_place()
        assert keeper.journal.offset > written
