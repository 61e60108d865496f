"""The keeper: what a server remembers, what it answers while it reads, and what it does when the disk fails."""

import errno
import os
import shutil
from itertools import islice
from pathlib import Path

import pytest
import trio
from tests.keep.test_state import make_sites, state_file
from tests.serving import in_memory, join, make_server, over_streams, serving, with_sockets
from tests.serving import run as run_with_clock

from online.core.sites import DEFAULT_SITE
from online.errors import OnlineError, StateError
from online.keep.disk import Disk
from online.keep.inspection import digest, inspect
from online.serve import keeper as keeper_module
from online.serve.keeper import Keeper

#: The clock of a run may jump far while sockets are waited for.
DAY_S = 24 * 3600


class FaultyDisk(Disk):
    """A disk that fails while it is told to."""

    def __init__(self):
        self.code = 0
        self.sync_code = 0
        self.syncs = 0

    def check(self, code):
        if code:
            raise OSError(code, os.strerror(code))

    def create(self, path):
        self.check(self.code)
        return super().create(path)

    def write(self, fd, data):
        self.check(self.code)
        super().write(fd, data)

    def sync(self, fd):
        self.check(self.code or self.sync_code)
        self.syncs += 1
        super().sync(fd)


def keeper_of(server):
    return next(part for part in server.parts if isinstance(part, Keeper))


def with_faults(server):
    """Let the disk of a server be a faulty one."""
    disk = keeper_of(server).folder.disk = FaultyDisk()
    return disk


def fill(server):
    """Let the disk be full from here on: for the journal's own writes too."""
    keeper = keeper_of(server)
    keeper.folder.disk.code = errno.ENOSPC
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, keeper._fd)
    os.close(full)


async def info(peer, name):
    answer = (await peer.ask(b"INFO persistence")).decode()
    return next(line.partition(":")[2] for line in answer.split("\r\n") if line.startswith(f"{name}:"))


async def until(condition):
    """Wait for something that happens by itself."""
    for _ in range(10_000):
        if condition():
            return
        await trio.sleep(0.05)
    raise AssertionError("it does not happen")


@in_memory
async def test_what_was_answered_is_in_the_file(nursery, tmp_path):
    server = make_server(state=tmp_path / "state")
    await nursery.start(server.run)
    peer = join(server, nursery)
    assert await peer.ask(b"HIT theo /x") == b"+OK\r\n"
    assert inspect(tmp_path / "state").report.users == 1
    assert await peer.ask(b"LEAVE theo") == b"+OK\r\n"
    assert inspect(tmp_path / "state").sites[DEFAULT_SITE].count(now_ms=server.clock.now_ms()) == 0


@in_memory
async def test_a_restart_forgets_nobody(nursery, tmp_path, caplog):
    caplog.set_level("INFO")
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        peer = join(first, nursery)
        await peer.ask(b"HIT theo /x")
        await peer.ask(b"SITE shop")
        await peer.ask(b"HIT kim /y")
        first.stop()
    await trio.sleep(600)
    second = make_server(state=tmp_path / "state")
    await nursery.start(second.run)
    peer = join(second, nursery)
    assert await peer.ask(b"COUNT '' 602") == b":1\r\n"
    assert await peer.ask(b"COUNT '' 599") == b":0\r\n"
    assert (await peer.ask(b"SITES")).count(b":1\r\n") == 2
    assert f"state directory {tmp_path}/state holds nobody yet, beginning empty" in caplog.text
    assert f"read 2 users from {tmp_path}/state" in caplog.text


@in_memory
async def test_peak_and_totals_survive(nursery, tmp_path):
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        peer = join(first, nursery)
        for user in (b"a", b"b", b"c"):
            await peer.ask(b"HIT %b /x" % user)
        await peer.ask(b"LEAVE a")
        await peer.ask(b"HIT late /x %d" % (first.clock.now_ms() - 3_600_000))
        peak, hits = await peer.ask(b"PEAK"), await peer.ask(b"INFO hits")
        first.stop()
    await trio.sleep(7_200)
    second = make_server(state=tmp_path / "state")
    await nursery.start(second.run)
    peer = join(second, nursery)
    assert await peer.ask(b"PEAK") == peak
    shown = await peer.ask(b"INFO hits")
    assert shown.split(b"users:")[0] == hits.split(b"users:")[0]
    assert b"accepted:4\r\nlate:1\r\n" in shown


@in_memory
async def test_a_directory_is_one_servers(nursery, tmp_path):
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        with pytest.raises(StateError, match=f"^state directory {tmp_path}/state is in use by another server"):
            await make_server(state=tmp_path / "state").run()
        first.stop()
    await nursery.start(make_server(state=tmp_path / "state").run)


@in_memory
async def test_without_state_nothing_is_written(nursery, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = make_server()
    await nursery.start(server.run)
    await join(server, nursery).ask(b"HIT theo /x")
    assert server.service.journal is None
    assert os.listdir(tmp_path) == []


# A state file of version 0.1


@in_memory
async def test_a_state_file_is_taken_over(nursery, tmp_path, caplog):
    caplog.set_level("INFO")
    server = make_server(state=tmp_path / "state")
    sites = make_sites()
    now_ms = server.clock.now_ms()
    sites[DEFAULT_SITE].hit(b"theo", b"/x", now_ms=now_ms)
    (tmp_path / "state").write_bytes(state_file(sites))
    await nursery.start(server.run)
    assert await join(server, nursery).ask(b"COUNT") == b":1\r\n"
    assert f"took over 1 user from the state file {tmp_path}/state, which is a directory now" in caplog.text
    await until(lambda: (tmp_path / "state" / "snapshot-000000000002").exists())
    assert not (tmp_path / "state" / "state-file").exists()


@in_memory
async def test_an_empty_file_is_said_to_be_empty(nursery, tmp_path, caplog):
    (tmp_path / "state").touch()
    server = make_server(state=tmp_path / "state")
    await nursery.start(server.run)
    assert f"state file {tmp_path}/state was empty, 0 bytes" in caplog.text


@in_memory
async def test_somebody_elses_file_is_refused(nursery, tmp_path):
    (tmp_path / "state").write_bytes(b"[settings]\n" * 10)
    with pytest.raises(StateError, match="is not a state file of online"):
        await make_server(state=tmp_path / "state").run()
    assert (tmp_path / "state").is_file()


@in_memory
async def test_a_directory_that_cannot_be_made_is_refused_at_the_start(nursery, tmp_path):
    with pytest.raises(StateError, match="cannot be made: No such file or directory"):
        await make_server(state=tmp_path / "missing" / "state").run()
    with pytest.raises(StateError, match="is neither a regular file nor a directory"):
        await make_server(state=Path("/dev/null")).run()


# Loading


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A directory with a thousand users that is read in as many pieces, and never before the server listens."""
    monkeypatch.setattr(keeper_module, "FIRST_S", 0.0)
    monkeypatch.setattr("online.keep.recovery.CHUNK_BYTES", 100)
    return tmp_path / "state"


async def filled(path, nursery, users=1_000):
    """Write a directory with so many users, a record each."""
    server = make_server(state=path, window_s=DAY_S)
    async with trio.open_nursery() as running:
        await running.start(server.run)
        await until(lambda: server.service.journal is not None)
        peer = join(server, nursery)
        for n in range(users):
            assert await peer.ask(b"HIT u%d /x" % n) == b"+OK\r\n"
        server.stop()


@in_memory
async def test_while_it_loads_little_is_answered_and_hits_are_refused(nursery, slow):
    await filled(slow, nursery, 50)
    server = make_server(state=slow, window_s=DAY_S)
    reached, goes_on = trio.Event(), trio.Event()
    finish = server.slices.finish

    async def held(name, pieces):
        reached.set()
        await goes_on.wait()
        await finish(name, pieces)

    server.slices.finish = held
    nursery.start_soon(server.run)
    await reached.wait()
    peer = join(server, nursery)
    loading = b"-LOADING 0% read from disk, about 0 s left\r\n"
    for line in (b"HIT a /x", b"LEAVE a", b"COUNT", b"PAGE /x", b"SITES", b"ECHO a", b"MULTI", b"TOP"):
        assert await peer.ask(line) == loading, line
    assert await peer.ask(b"PING") == b"+PONG\r\n"
    assert b"loading:1\r\n" in await peer.ask(b"INFO persistence")
    assert await info(peer, "loading") == "1"
    assert await info(peer, "loading_loaded_perc") == "0.00"
    for line in (b"AUTH x", b"SELECT 0", b"CLIENT SETNAME me"):
        assert await peer.ask(line) == b"+OK\r\n"
    assert b"online" in await peer.ask(b"HELLO 3")
    goes_on.set()
    await until(lambda: server.service.loading is None)
    assert await peer.ask(b"COUNT") == b":50\r\n"
    assert b"loading:0\r\n" in await peer.ask(b"INFO persistence")


@in_memory
async def test_who_ends_while_it_loads_leaves_everything_as_it_was(nursery, slow):
    await filled(slow, nursery, 50)
    expected = digest(inspect(slow).sites)
    server = make_server(state=slow, window_s=DAY_S)
    with_faults(server).code = errno.ENOSPC  # so that it would save at the end, if it could
    reached = trio.Event()

    async def held(name, pieces):
        for _ in islice(pieces, 20):
            pass
        keeper_of(server).folder.disk.code = 0
        reached.set()
        await trio.sleep_forever()

    server.slices.finish = held
    nursery.start_soon(stop_once, server, reached)
    with pytest.raises(OnlineError, match="the newest hits are not in it"):
        await server.run()
    assert digest(inspect(slow).sites) == expected
    assert not list(slow.glob("snapshot*"))


async def stop_once(server, reached):
    await reached.wait()
    server.stop()


@in_memory
async def test_a_batch_while_it_loads_is_refused_as_a_whole(nursery, slow):
    import msgpack

    await filled(slow, nursery, 5)
    server = make_server(state=slow)
    server.service.loading = "0% read"
    peer = join(server, nursery)
    await peer.send(msgpack.packb([0, 7, "hits", [["a", "/x"], 5, ["b", "/x"]]]))
    assert msgpack.unpackb(await peer.receive()) == [1, 7, ["LOADING", "0% read"], None]


@in_memory
async def test_syslog_waits_until_everything_was_read(nursery, slow, tmp_path):
    from online.serve.config import Address

    await filled(slow, nursery, 5)
    server = make_server(state=slow, syslog=(Address(path=tmp_path / "log"),))
    runs = []
    for part in server.parts:
        part.run = note_run(runs, server, part.name)
    await nursery.start(server.run)
    await until(lambda: len(runs) == 3)
    assert sorted(runs) == [("past", None), ("state", None), ("syslog", None)]


def note_run(runs, server, name):
    async def run():
        runs.append((name, server.service.loading))

    return run


# Snapshots and segments


@in_memory
async def test_snapshots_replace_segments(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper_module, "SEGMENT_BYTES", 500)
    monkeypatch.setattr(keeper_module, "SNAPSHOT_BYTES", 2_000)
    server = make_server(state=tmp_path / "state")
    await nursery.start(server.run)
    peer = join(server, nursery)
    for n in range(300):
        await peer.ask(b"HIT u%d /x" % (n % 20))
        await trio.sleep(0.2)
    kept = keeper_of(server).folder
    assert len(kept.kept("snapshot")) == 2
    assert len(kept.kept("journal")) < 20
    assert int(await info(peer, "last_snapshot_users")) == 20
    assert int(await info(peer, "journal_bytes")) < 4_000
    inspected = inspect(tmp_path / "state")
    assert inspected.report.is_clean
    assert digest(inspected.sites) == digest(server.sites)


@in_memory
async def test_a_server_that_is_cancelled_in_a_snapshot_loses_nothing(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper_module, "SNAPSHOT_BYTES", 1_000)
    monkeypatch.setattr("online.keep.snapshots.FRAME_BYTES", 20)
    server = make_server(state=tmp_path / "state", window_s=DAY_S)
    reached = trio.Event()
    finish = server.slices.finish

    async def held(name, pieces):
        if not keeper_of(server).is_snapshotting:
            return await finish(name, pieces)
        next(pieces)
        reached.set()
        await trio.sleep_forever()

    server.slices.finish = held
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peer = join(server, nursery)
        for n in range(50):
            await peer.ask(b"HIT u%d /x" % n)
        await reached.wait()
        assert await peer.ask(b"HIT last /x") == b"+OK\r\n"
        for index in server.sites.values():
            index._check()
        expected = digest(server.sites)
        running.cancel_scope.cancel()
    assert not list((tmp_path / "state").glob(".*"))
    again = make_server(state=tmp_path / "state", window_s=DAY_S)
    await nursery.start(again.run)
    assert digest(again.sites) == expected


@in_memory
async def test_a_clock_that_is_set_begins_a_segment(nursery, tmp_path):
    from tests.serving import Wall

    wall = Wall()
    server = make_server(state=tmp_path / "state", wall=wall)
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peer = join(server, nursery)
        await peer.ask(b"HIT before /x")
        wall.ahead_ms += 3_600_000
        await trio.sleep(60)
        await peer.ask(b"HIT after /x")
        server.stop()
    again = make_server(state=tmp_path / "state", wall=wall)
    await nursery.start(again.run)
    peer = join(again, nursery)
    assert await peer.ask(b"COUNT") == b":2\r\n"
    assert await peer.ask(b"COUNT '' 59") == b":1\r\n"
    assert await peer.ask(b"COUNT '' 61") == b":2\r\n"


# A disk that fails


@in_memory
async def test_on_a_full_disk_it_goes_on_and_heals_by_a_snapshot(nursery, tmp_path, caplog):
    server = make_server(state=tmp_path / "state")
    disk = with_faults(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    await peer.ask(b"HIT before /x")
    fill(server)
    for n in range(3):
        assert await peer.ask(b"HIT during%d /x" % n) == b"+OK\r\n"
    assert await info(peer, "disk_status") == "err"
    assert await info(peer, "last_disk_error") == "No space left on device"
    await trio.sleep(30)
    assert await peer.ask(b"COUNT") == b":4\r\n"
    assert caplog.text.count("the journal cannot be written: No space left on device; hits are kept in memory") == 1
    disk.code = 0
    await until(lambda: keeper_of(server).is_whole)
    assert "the disk works again, and has everything" in caplog.text
    assert await info(peer, "disk_status") == "ok"
    await peer.ask(b"HIT behind /x")
    inspected = inspect(tmp_path / "state")
    assert inspected.report.is_clean
    assert digest(inspected.sites) == digest(server.sites)


@in_memory
async def test_a_failure_in_the_midst_of_a_snapshot_is_healed_by_another(nursery, tmp_path, monkeypatch):
    server = make_server(state=tmp_path / "state", window_s=DAY_S)
    disk, keeper = with_faults(server), keeper_of(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    await peer.ask(b"HIT before /x")
    finish, n_failed = server.slices.finish, 0

    async def fails_meanwhile(name, pieces):
        nonlocal n_failed
        if keeper.is_snapshotting and n_failed < 2:
            n_failed += 1
            keeper._failed(OSError(errno.EIO, "Input/output error"), "written")
        await finish(name, pieces)

    server.slices.finish = fails_meanwhile
    keeper._is_snapshot_wanted = True
    await until(lambda: n_failed == 2)
    await peer.ask(b"HIT between /x")
    assert not keeper.is_whole
    await until(lambda: keeper.is_whole)
    assert disk.code == 0
    inspected = inspect(tmp_path / "state")
    assert inspected.report.is_clean
    assert digest(inspected.sites) == digest(server.sites)


@in_memory
async def test_attempts_that_fail_leave_no_gap_in_the_numbers(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", window_s=DAY_S)
    disk = with_faults(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    await peer.ask(b"HIT before /x")
    fill(server)
    await peer.ask(b"HIT during /x")
    await trio.sleep(60)
    disk.code = 0
    await until(lambda: keeper_of(server).is_whole)
    numbers = [kept.number for kept in keeper_of(server).folder.kept("journal")]
    assert numbers == list(range(1, len(numbers) + 1))


@in_memory
async def test_a_disk_that_fails_can_refuse_hits(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", on_disk_error="refuse")
    disk = with_faults(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    await peer.ask(b"HIT before /x")
    fill(server)
    await peer.send(b"HIT lost /x\r\n")
    assert await peer.receive_rest() == b""  # nobody is told that it was taken
    peer = join(server, nursery)
    refusal = b"-MISCONF the disk fails (No space left on device) and hits that may be lost are not taken"
    assert (await peer.ask(b"HIT refused /x")).startswith(refusal)
    assert (await peer.ask(b"LEAVE before")).startswith(refusal)
    assert await peer.ask(b"COUNT /x") == b":2\r\n"
    disk.code = 0
    await until(lambda: server.service.refusing is None)
    assert await peer.ask(b"HIT lost /x") == b"+OK\r\n"
    assert digest(inspect(tmp_path / "state").sites) == digest(server.sites)


@in_memory
async def test_after_a_failed_sync_the_segment_is_given_up(nursery, tmp_path, caplog):
    server = make_server(state=tmp_path / "state")
    disk = with_faults(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    disk.sync_code = errno.EIO
    assert await peer.ask(b"HIT theo /x") == b"+OK\r\n"
    await trio.sleep(2)
    assert "the journal cannot be synced: Input/output error" in caplog.text
    size = (tmp_path / "state" / "journal-000000000001").stat().st_size
    disk.sync_code = 0
    await until(lambda: keeper_of(server).is_whole)
    assert await peer.ask(b"HIT kim /x") == b"+OK\r\n"
    assert (tmp_path / "state" / "journal-000000000001").stat().st_size == size
    assert digest(inspect(tmp_path / "state").sites) == digest(server.sites)


@in_memory
async def test_a_snapshot_that_cannot_be_written_is_tried_again(nursery, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(keeper_module, "SNAPSHOT_BYTES", 100)
    server = make_server(state=tmp_path / "state")
    disk = with_faults(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    create = disk.create

    def refuse(path):
        if "snapshot" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return create(path)

    disk.create = refuse
    for n in range(5):
        await peer.ask(b"HIT u%d /x" % n)
    await until(lambda: "a snapshot cannot be written: No space left on device" in caplog.text)
    assert await info(peer, "disk_status") == "ok"
    disk.create = create
    await until(lambda: keeper_of(server).snapshot_users == 5)
    assert not list((tmp_path / "state").glob(".*"))


@in_memory
async def test_a_full_disk_is_noticed_at_the_start(nursery, tmp_path, caplog):
    server = make_server(state=tmp_path / "state", on_disk_error="refuse")
    with_faults(server).code = errno.ENOSPC
    with pytest.raises(StateError, match="cannot be written: No space left on device"):
        await server.run()
    server = make_server(state=tmp_path / "state")
    disk = with_faults(server)
    disk.code = errno.ENOSPC
    await nursery.start(server.run)
    assert "the journal cannot be written: No space left on device; hits are kept in memory alone" in caplog.text
    peer = join(server, nursery)
    assert await peer.ask(b"HIT theo /x") == b"+OK\r\n"
    disk.code = 0
    await until(lambda: keeper_of(server).is_whole)
    assert digest(inspect(tmp_path / "state").sites) == digest(server.sites)


@in_memory
async def test_what_cannot_be_saved_is_an_error_at_the_end(nursery, tmp_path):
    server = make_server(state=tmp_path / "state")
    disk = with_faults(server)

    async def spoil():
        await server.listening.wait()
        await join(server, nursery).ask(b"HIT theo /x")
        disk.sync_code = errno.EIO
        server.stop()

    nursery.start_soon(spoil)
    with pytest.raises(OnlineError, match="cannot be written: Input/output error; the newest hits are not in it"):
        await server.run()


@in_memory
async def test_what_the_journal_lacks_is_saved_at_the_end_if_the_disk_works_again(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", window_s=DAY_S)
    disk = with_faults(server)
    async with trio.open_nursery() as running:
        await running.start(server.run)
        peer = join(server, nursery)
        await peer.ask(b"HIT before /x")
        fill(server)
        await peer.ask(b"HIT during /x")
        disk.code = 0
        server.stop()
    inspected = inspect(tmp_path / "state", window_s=DAY_S)
    assert inspected.report.is_clean
    assert digest(inspected.sites) == digest(server.sites)


@in_memory
async def test_a_directory_that_is_removed_is_a_failing_disk(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper_module, "SEGMENT_BYTES", 10)
    server = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        running.start_soon(refuse_to_end, server)
        await server.listening.wait()
        shutil.rmtree(tmp_path / "state")
        peer = join(server, nursery)
        assert await peer.ask(b"HIT theo /x") == b"+OK\r\n"
        await trio.sleep(3)
        assert await info(peer, "disk_status") == "err"
        assert await peer.ask(b"COUNT") == b":1\r\n"
        server.stop()


async def refuse_to_end(server):
    with pytest.raises(OnlineError, match="cannot be written: No such file or directory"):
        await server.run()


# Sync


@in_memory
async def test_with_sync_always_answers_to_hits_wait_for_the_disk(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", sync=0.0)
    disk = with_faults(server)
    keeper = keeper_of(server)
    may_sync, syncing = trio.Event(), trio.Event()

    async def held(function, *args):
        if function == keeper._sync_all:
            syncing.set()
            await may_sync.wait()
        return function(*args)

    keeper.in_thread = held
    await nursery.start(server.run)
    writers = [join(server, nursery) for _ in range(5)]
    reader = join(server, nursery)
    before = disk.syncs
    for n, peer in enumerate(writers):
        await peer.send(b"HIT u%d /x\r\nCOUNT\r\n" % n)
    await syncing.wait()
    assert await reader.ask(b"PING") == b"+PONG\r\n"
    answers = []

    async def take(peer):
        answers.append(await peer.receive())

    async with trio.open_nursery() as taking:
        for peer in writers:
            taking.start_soon(take, peer)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert answers == []
        may_sync.set()
    assert sorted(answers) == [b"+OK\r\n:%d\r\n" % n for n in range(1, 6)]
    assert disk.syncs - before <= 3  # one, and one for those who came meanwhile


@in_memory
async def test_with_sync_always_what_cannot_be_synced_is_not_answered(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", sync=0.0, on_disk_error="refuse")
    disk = with_faults(server)
    await nursery.start(server.run)
    peer = join(server, nursery)
    assert await peer.ask(b"HIT a /x") == b"+OK\r\n"
    disk.sync_code = errno.EIO
    await peer.send(b"HIT b /x\r\n")
    assert await peer.receive_rest() == b""


@over_streams
async def test_sync_never_syncs_only_at_the_end(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", sync=float("inf"))
    disk = with_faults(server)
    async with trio.open_nursery() as running:
        await running.start(server.run)
        before = disk.syncs
        await join(server, nursery).ask(b"HIT a /x")
        await trio.sleep(100)
        assert disk.syncs == before
        server.stop()
    assert disk.syncs == before + 1


@pytest.mark.parametrize("sync", [0.0, 1.0, float("inf")])
def test_segments_and_snapshots_leave_no_file_open(tmp_path, monkeypatch, sync):
    monkeypatch.setattr(keeper_module, "SEGMENT_BYTES", 100)
    monkeypatch.setattr(keeper_module, "SNAPSHOT_BYTES", 1_000)

    async def rotate(nursery):
        server = make_server(state=tmp_path / "state", window_s=DAY_S, sync=sync)
        await nursery.start(server.run)
        peer = join(server, nursery)
        for n in range(100):
            await peer.ask(b"HIT u%d /x" % n)
            await trio.sleep(1)
        opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(fd)]
        assert sum(f"{tmp_path}/state/journal" in path for path in opened) <= 4
        nursery.cancel_scope.cancel()

    async def run():
        async with trio.open_nursery() as nursery:
            await rotate(nursery)

    run_with_clock(run)


def is_open(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


@in_memory
async def test_a_rotation_whose_last_write_fails_goes_on_in_the_new_segment(nursery, tmp_path):
    server = make_server(state=tmp_path / "state", window_s=DAY_S)
    with_faults(server)
    await nursery.start(server.run)
    keeper = keeper_of(server)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, keeper._fd)
    os.close(full)
    server.sites[DEFAULT_SITE].hit(b"theo", b"/x", now_ms=server.clock.now_ms())  # noted, and not written yet
    keeper._rotate_now()
    assert not keeper.journal.is_off
    assert not keeper.is_whole
    peer = join(server, nursery)
    assert await peer.ask(b"HIT kim /x") == b"+OK\r\n"
    await until(lambda: keeper.is_whole)
    assert digest(inspect(tmp_path / "state").sites) == digest(server.sites)


@with_sockets
async def test_it_works_in_real_time(tmp_path):
    for n in range(2):
        async with serving(state=tmp_path / "state", sync=0.01) as running:
            peer = await running.connect()
            for i in range(20):
                assert await peer.ask(b"HIT u%d-%d /x" % (n, i)) == b"+OK\r\n"
            await until(lambda running=running: keeper_of(running.server).synced_ms)
            assert await peer.ask(b"COUNT") == b":%d\r\n" % (20 * (n + 1))


@pytest.mark.parametrize("sync", [1.0, 0.0])
@pytest.mark.parametrize("spoil", [lambda data: data[:-60], lambda data: data[:100] + bytes(len(data) - 100)])
def test_the_end_of_a_segment_that_was_synced_is_damage_when_it_is_lost(tmp_path, monkeypatch, caplog, sync, spoil):
    state = tmp_path / "state"
    lost = state / "journal-000000000001"

    async def live(nursery):
        async with trio.open_nursery() as running:
            server = make_server(state=state, window_s=DAY_S, sync=sync)
            await running.start(server.run)
            peer = join(server, running)
            for n in range(10):
                await peer.ask(b"HIT u%d /x" % n)
            keeper_of(server)._rotate_now()
            await peer.ask(b"HIT next /x")
            await until(lambda: not keeper_of(server)._old_fds)
            await peer.ask(b"HIT last /x")
            server.stop()

    async def run():
        async with trio.open_nursery() as nursery:
            await live(nursery)

    run_with_clock(run)
    assert inspect(state, window_s=DAY_S).report.is_clean
    lost.write_bytes(data := spoil(lost.read_bytes()))
    report = inspect(state, window_s=DAY_S).report
    assert [damage.path for damage in report.damage] == [lost]
    assert report.damage[0].what.startswith("its end is lost: ")
    assert not report.torn

    async def start():
        async with trio.open_nursery() as nursery:
            server = make_server(state=state, window_s=DAY_S, sync=sync)
            await nursery.start(server.run)
            assert await info(join(server, nursery), "damaged_files") == "1"
            server.stop()

    run_with_clock(start)
    assert "journal-000000000001.damaged is damaged and is kept: its end is lost: " in caplog.text
    assert (state / "journal-000000000001.damaged").read_bytes() == data
