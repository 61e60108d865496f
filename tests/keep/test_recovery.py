"""Recovery: whatever a crash leaves, everything up to the last sync comes back; crash after crash."""

import os
import random
import shutil
from contextlib import suppress

import pytest
from tests.keep.directories import NOW_MS, Writer, make_sites, recover, sessions
from tests.keep.test_state import state_file

from online.core.sites import DEFAULT_SITE
from online.errors import FullError, StateError
from online.keep import recovery as recovery_module
from online.keep.folder import HEAD_BYTES, Folder
from online.keep.inspection import digest

KINDS = ("member", "guest", "hidden", "bot")


def some_hits(sites, draw, n, *, now_ms=NOW_MS, users=40, names=(b"default", b"shop \xff")):
    """Hits and leaves of a few users on two sites, not in order."""
    for _ in range(n):
        index = sites.open(draw.choice(names))
        user = b"u%d\xfe" % draw.randrange(users)
        seen_ms = now_ms - draw.randrange(20)
        if draw.random() < 0.1:
            index.leave(user, seen_ms=seen_ms, now_ms=now_ms)
        else:
            index.hit(user, b"/%d" % draw.randrange(9), seen_ms=seen_ms, kind=draw.choice(KINDS), now_ms=now_ms)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def draw():
    return random.Random(4)


def test_a_journal_comes_back(path, draw):
    writer = Writer(path)
    for _ in range(20):
        some_hits(writer.sites, draw, 30)
        writer.journal.flush()
    sites, report = recover(path)
    assert report.is_clean
    assert not report.torn
    assert sessions(sites) == sessions(writer.sites)
    assert digest(sites) == digest(writer.sites)


def test_a_snapshot_that_was_taken_while_hits_went_on_is_exact(path, draw, monkeypatch):
    monkeypatch.setattr("online.keep.snapshots.FRAME_BYTES", 200)
    for seed in range(30):
        shutil.rmtree(path, ignore_errors=True)
        draw = random.Random(seed)
        writer = Writer(path)
        some_hits(writer.sites, draw, 300)
        for step, _ in enumerate(writer.snapshot()):
            some_hits(writer.sites, draw, draw.randrange(4), now_ms=NOW_MS + step // 5)
            if draw.random() < 0.3:
                writer.journal.flush()
        writer.journal.note_totals()
        writer.journal.flush()
        writer.folder.prune()
        for old in writer.folder.kept("journal")[:-1]:
            old.path.unlink()  # so that the snapshot alone has what was before it
        sites, report = recover(path, now_ms=NOW_MS + 100)
        assert report.snapshot is not None
        assert report.is_clean
        assert digest(sites) == digest(writer.sites)
        assert {name: index.peak() for name, index in sites.items()} == {
            name: index.peak() for name, index in writer.sites.items()
        }
        assert sites.statistics()[3:] == writer.sites.statistics()[3:]


def test_peaks_and_totals_come_back_also_of_a_site_that_nobody_is_on(path):
    writer = Writer(path)
    shop = writer.sites.open(b"shop")
    for n in range(5):
        shop.hit(b"u%d" % n, b"/x", now_ms=NOW_MS + n)
    shop.hit(b"u1", b"/x", seen_ms=NOW_MS, now_ms=NOW_MS + 5)  # stale
    writer.journal.note_totals()
    writer.journal.flush()
    later_ms = NOW_MS + 3_600_000
    for _ in range(2):
        sites, _ = recover(path, now_ms=later_ms)
        assert sites[b"shop"].count(now_ms=later_ms) == 0
        assert sites[b"shop"].peak() == (5, NOW_MS + 4)
        statistics = sites[b"shop"].statistics()
        assert (statistics.accepted, statistics.stale, statistics.late) == (5, 1, 0)
        writer = Writer(path, sites, run=2)  # then from a snapshot alone
        writer.take_snapshot()
        for old in writer.folder.kept("journal")[:-1]:
            old.path.unlink()


def test_hits_since_the_last_totals_are_counted(path):
    writer = Writer(path)
    index = writer.sites[DEFAULT_SITE]
    for n in range(3):
        index.hit(b"a", b"/%d" % n, now_ms=NOW_MS + n)
        writer.journal.flush()
    sites, _ = recover(path, now_ms=NOW_MS + 10)
    assert sites[DEFAULT_SITE].statistics().accepted == 3


@pytest.mark.parametrize("max_pages", [2, 3])
def test_a_site_that_is_full_comes_back(path, draw, max_pages):
    """Users of a snapshot and of the journal together are on more pages than ever were at once."""
    writer = Writer(path, make_sites(max_users=6, max_pages=max_pages))
    index = writer.sites[DEFAULT_SITE]

    def try_hits(n):
        for _ in range(n):
            user, url = b"u%d" % draw.randrange(9), b"/%d" % draw.randrange(5)
            with suppress(FullError):
                index.hit(user, url, now_ms=NOW_MS)

    try_hits(30)
    for _ in writer.snapshot():
        try_hits(30)
    try_hits(30)
    writer.journal.flush()
    sites, report = recover(path, max_users=6, max_pages=max_pages)
    assert (report.refused, digest(sites)) == (0, digest(writer.sites))
    for n in range(9):
        with suppress(FullError):
            sites[DEFAULT_SITE].hit(b"u1", b"/new%d" % n, now_ms=NOW_MS)
    assert sites[DEFAULT_SITE].statistics().pages <= max_pages


def test_a_full_memory_comes_back_as_it_was(path):
    writer = Writer(path, make_sites(max_memory=2**20))
    index, refused = writer.sites[DEFAULT_SITE], 0
    for n in range(20_000):
        try:
            index.hit(b"user%d" % (n % 12_000), b"/page/%d" % (n % 3_000), now_ms=NOW_MS + n // 100)
        except FullError:
            refused += 1
        if n % 50 == 0:
            writer.journal.flush()
    assert refused
    index._check()
    writer.journal.note_totals()
    writer.journal.flush()
    for _ in range(2):
        sites, report = recover(path, now_ms=NOW_MS + 300, max_memory=2**20)
        assert (report.refused, digest(sites)) == (0, digest(writer.sites))
        assert sites.statistics()[3:] == writer.sites.statistics()[3:]
        writer = Writer(path, sites)
        writer.take_snapshot()


def test_who_has_left_comes_back_departed_however_many_they_are(path):
    writer = Writer(path, make_sites(max_users=6))
    index = writer.sites[DEFAULT_SITE]
    for n in range(6):
        index.hit(b"u%d" % n, b"/x", now_ms=NOW_MS)
        index.leave(b"u%d" % n, now_ms=NOW_MS)
    writer.take_snapshot()
    sites, report = recover(path, max_users=6)
    assert (report.refused, digest(sites)) == (0, digest(writer.sites))


def test_what_no_longer_fits_is_counted(path):
    writer = Writer(path)
    for n in range(5):
        writer.sites[DEFAULT_SITE].hit(b"u%d" % n, b"/x", now_ms=NOW_MS)
    writer.sites.open(b"other").hit(b"a", b"/x", now_ms=NOW_MS)
    writer.journal.flush()
    sites, report = recover(path, max_users=3, max_sites=1)
    assert (sites.statistics().users, report.refused) == (3, 3)


# Clocks


def test_ages_survive_a_wall_clock_that_was_set(path):
    """A user of a minute ago is one of a minute ago, though the clock went an hour on between journal and start."""
    hour_ms = 3_600_000
    writer = Writer(path)
    index = writer.sites[DEFAULT_SITE]
    index.hit(b"before", b"/x", now_ms=NOW_MS)
    writer.take_snapshot()
    index.hit(b"after", b"/x", now_ms=NOW_MS + 1_000)
    writer.journal.stepped = writer.begin
    writer.journal.change_step(hour_ms)
    index.hit(b"stepped", b"/x", now_ms=NOW_MS + 2_000)
    writer.journal.flush()
    now_ms = NOW_MS + hour_ms + 3_000
    sites, _ = recover(path, now_ms=now_ms)
    expected = [(b"/x", now_ms - 3_000), (b"/x", now_ms - 2_000), (b"/x", now_ms - 1_000)]
    users = [b"before", b"after", b"stepped"]
    assert sites[DEFAULT_SITE].seen(users, now_ms=now_ms) == expected
    assert sites[DEFAULT_SITE].peak() == (3, now_ms - 1_000)

    second = Writer(path, sites, run=2)  # another process, whose clock is set back by an hour, and a third
    second.journal.stepped = second.begin
    second.journal.change_step(-hour_ms)
    second.journal.flush()
    again, _ = recover(path, now_ms=NOW_MS + 4_000)
    shown = again[DEFAULT_SITE].seen(users, now_ms=NOW_MS + 4_000)
    assert shown == [(b"/x", NOW_MS), (b"/x", NOW_MS + 1_000), (b"/x", NOW_MS + 2_000)]


def test_times_are_read_with_the_step_of_the_reader(path):
    writer = Writer(path)
    writer.sites[DEFAULT_SITE].hit(b"a", b"/x", now_ms=NOW_MS)
    writer.journal.flush()
    sites, _ = recover(path, now_ms=NOW_MS - 5_000, clock_step_ms=10_000)
    assert sites[DEFAULT_SITE].seen([b"a"], now_ms=NOW_MS - 5_000) == [(b"/x", NOW_MS - 10_000)]


# Crashes, each twice


def crashed(path, writer, n_turns):
    """Turns of a writer, a record each: the digest after each, by the size of the segment then."""
    digests = {writer.path.stat().st_size: digest(writer.sites)}
    draw = random.Random(n_turns)
    for _ in range(n_turns):
        some_hits(writer.sites, draw, draw.randrange(1, 6), names=[draw.choice((b"default", b"shop \xff"))])
        writer.journal.flush()
        digests[writer.path.stat().st_size] = digest(writer.sites)
    return digests


def expected(digests, size):
    """The digest that a segment of this size is to give."""
    return digests[max(whole for whole in digests if whole <= size)]


def crash_again(path, sites):
    """Go on in a new segment after a recovery, and crash a second time: both lives are there, and stay."""
    writer = Writer(path, sites, run=99)
    sites[DEFAULT_SITE].hit(b"second life", b"/2", now_ms=NOW_MS)
    writer.journal.flush()
    whole, wanted = writer.path.stat().st_size, digest(sites)
    sites[DEFAULT_SITE].hit(b"lost", b"/3", now_ms=NOW_MS)
    writer.journal.flush()
    os.truncate(writer.path, whole + 20)
    writer.close()
    for _ in range(2):
        again, report = recover(path)
        assert digest(again) == wanted
        assert report.torn[writer.path] == 20
    return report


def test_every_prefix_of_a_segment_gives_what_was_whole(path, tmp_path):
    writer = Writer(path)
    digests = crashed(path, writer, 12)
    data = writer.path.read_bytes()
    cuts = {*digests, *(whole + 1 for whole in digests), *range(HEAD_BYTES, len(data), 31), 0, 1, HEAD_BYTES - 1}
    for cut in sorted(cut for cut in cuts if cut <= len(data)):
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        os.truncate(copy / writer.path.name, cut)
        sites, report = recover(copy)
        assert digest(sites) == expected(digests, max(cut, HEAD_BYTES))
        assert report.is_clean
        assert bool(report.torn) == (cut not in digests and cut > 0)
        crash_again(copy, sites)
        shutil.rmtree(copy)


@pytest.mark.parametrize("zeros", [1, 7, 4096, 100_000])
def test_a_tail_of_zeros_is_torn(path, zeros):
    writer = Writer(path)
    digests = crashed(path, writer, 5)
    data = writer.path.read_bytes()
    for cut in [*digests, len(data) - 3]:
        writer.path.write_bytes(data[:cut] + bytes(zeros))
        sites, report = recover(path)
        assert digest(sites) == expected(digests, cut)
        assert report.is_clean
        assert report.torn
        crash_again(path, sites)
        (path / "journal-000000000002").unlink()


def test_blocks_that_were_not_synced_arrive_in_any_order(path, draw):
    """After a power cut, of what was not synced any blocks are there and others are zeros: the synced part is whole."""
    writer = Writer(path)
    digests = crashed(path, writer, 60)
    data = writer.path.read_bytes()
    for _ in range(40):
        synced = draw.choice(sorted(digests))
        blocks = [data[at : at + 64] for at in range(synced, len(data), 64)]
        blocks = [block if draw.random() < 0.5 else bytes(len(block)) for block in blocks]
        writer.path.write_bytes(data[:synced] + b"".join(blocks))
        sites, _ = recover(path)
        # What is whole behind the synced part may be there, too, up to the first block that is missing.
        assert digest(sites) in {found for size, found in digests.items() if size >= synced}
        crash_again(path, sites)
        for other in path.glob("*"):
            if other != writer.path:
                other.unlink()


def test_a_segment_that_ended_torn_is_no_damage_ever_after(path):
    writer = Writer(path)
    crashed(path, writer, 5)
    os.truncate(writer.path, writer.path.stat().st_size - 1)
    for _ in range(4):
        sites, report = recover(path)
        assert report.is_clean
        Writer(path, sites).close()


# Damage


def test_damage_in_the_middle_ends_its_segment_and_the_next_is_read(path):
    writer = Writer(path)
    digests = crashed(path, writer, 8)
    size = sorted(digests)[4]
    damaged = writer.path
    writer.begin()
    writer.sites[DEFAULT_SITE].hit(b"next", b"/next", now_ms=NOW_MS)
    writer.journal.flush()
    writer.close()
    data = bytearray(damaged.read_bytes())
    data[size + 30] ^= 1
    damaged.write_bytes(data)
    for nth in range(3):  # the next starts read what is readable of it again
        sites, report = recover(path)
        assert [damage.path.name for damage in report.damage] == [f"{damaged.name}.damaged"]
        assert report.damage[0].what == f"record at byte {size} is bad; the segment is left out from there on"
        assert (path / f"{damaged.name}.damaged").read_bytes() == data
        assert sites[DEFAULT_SITE].seen([b"next"], now_ms=NOW_MS) == [(b"/next", NOW_MS)]
        again = make_sites()
        again[DEFAULT_SITE].hit(b"next", b"/next", now_ms=NOW_MS)
        assert sites.statistics().users >= 2
        Writer(path, sites, run=nth).close()


def test_a_changed_length_is_damage_too(path):
    writer = Writer(path)
    digests = crashed(path, writer, 8)
    size = sorted(digests)[3]
    for length in (b"\xff\xff\xff\x7f", b"\xff\xff\x00\x00", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"):
        data = writer.path.read_bytes()
        writer.path.write_bytes(data[:size] + length + data[size + 4 :])
        sites, report = recover(path, sets_aside=False)
        assert len(report.damage) == 1
        assert digest(sites) == digests[size]
        writer.path.write_bytes(data)


def test_a_changed_head_costs_nobody(path):
    writer = Writer(path)
    digests = crashed(path, writer, 3)
    for place in range(HEAD_BYTES):
        data = bytearray(writer.path.read_bytes())
        data[place] ^= 0x40
        writer.path.write_bytes(data)
        sites, report = recover(path, sets_aside=False)
        assert digest(sites) == max(digests.items())[1]
        assert report.damage[0].what == "its head is damaged; the records behind it were read"
        data[place] ^= 0x40
        writer.path.write_bytes(data)


def some_segments(path, draw, n, *, run=1):
    """So many segments of one run, each with records; return their paths."""
    writer, paths = Writer(path, run=run), []
    for nth in range(n):
        some_hits(writer.sites, draw, 20)
        writer.journal.flush()
        paths.append(writer.path)
        if nth < n - 1:
            writer.begin()
    writer.close()
    return paths


@pytest.mark.parametrize("nth", [0, 1])
@pytest.mark.parametrize(
    ("spoilt", "what"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: data[:1], "its head is damaged, and no record can be read"),
        (lambda data: bytes(len(data)), "its head is damaged, and no record can be read"),
        (lambda data: random.Random(5).randbytes(len(data)), "its head is damaged, and no record can be read"),
    ],
)
def test_a_segment_that_is_lost_as_a_whole_is_damage(path, draw, nth, spoilt, what):
    lost = some_segments(path, draw, 3)[nth]
    lost.write_bytes(data := spoilt(lost.read_bytes()))
    _, report = recover(path, sets_aside=False)
    assert [(damage.path, damage.what) for damage in report.damage] == [(lost, what)]
    for run in (2, 3):  # later starts say so, too
        sites, report = recover(path)
        kept = path / f"{lost.name}.damaged"
        assert [(damage.path, damage.what) for damage in report.damage] == [(kept, what)]
        assert kept.read_bytes() == data
        Writer(path, sites, run=run).close()


def test_a_last_segment_that_has_lost_its_head_and_all_records_is_damage(path, draw):
    lost = some_segments(path, draw, 2)[1]
    lost.write_bytes(bytes(lost.stat().st_size))
    _, report = recover(path)
    assert [damage.what for damage in report.damage] == ["its head is damaged, and no record can be read"]


@pytest.mark.parametrize("left", [b"", b"online-j", bytes(HEAD_BYTES)])
def test_a_segment_whose_making_a_crash_cut_off_is_no_damage_ever_after(path, draw, left):
    wanted = digest(recover(path)[0]) if some_segments(path, draw, 2) else ""
    unfinished = path / "journal-000000000003"
    unfinished.write_bytes(left)
    assert recover(path, sets_aside=False)[1].is_clean
    assert unfinished.exists()
    for run in (2, 3):
        sites, report = recover(path)
        assert report.is_clean
        assert digest(sites) == wanted
        Writer(path, sites, run=run).close()


def test_an_end_that_no_sync_reached_before_the_next_segment_is_torn(path, draw):
    """The power failed just when a segment was made."""
    first, last = some_segments(path, draw, 2)
    os.truncate(first, first.stat().st_size - 3)
    os.truncate(last, HEAD_BYTES)
    report = recover(path)[1]
    assert report.is_clean
    assert list(report.torn) == [first]


def test_a_damaged_snapshot_is_replaced_by_the_one_before_and_the_journal(path, draw):
    writer = Writer(path)
    some_hits(writer.sites, draw, 50)
    writer.take_snapshot()
    some_hits(writer.sites, draw, 50)
    writer.take_snapshot()
    some_hits(writer.sites, draw, 50)
    writer.journal.flush()
    writer.folder.prune()
    newest = path / "snapshot-000000000003"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 8
    newest.write_bytes(data)
    for _ in range(2):
        sites, report = recover(path)
        assert digest(sites) == digest(writer.sites)
        assert (path / f"{newest.name}.damaged").read_bytes() == data
        assert report.snapshot.number == 2
        Writer(path, sites).close()


def test_an_incomplete_snapshot_is_not_believed(path, draw):
    writer = Writer(path)
    some_hits(writer.sites, draw, 50)
    writer.take_snapshot()
    writer.journal.flush()
    snapshot = path / "snapshot-000000000002"
    os.truncate(snapshot, snapshot.stat().st_size - 1)
    sites, report = recover(path)
    assert digest(sites) == digest(writer.sites)
    assert report.snapshot is None


def test_a_segment_that_is_missing_is_said(path):
    writer = Writer(path)
    writer.begin()
    writer.begin()
    writer.close()
    (path / "journal-000000000002").unlink()
    _, report = recover(path)
    assert report.missing == [2]
    assert not report.is_clean


def test_the_segment_that_a_snapshot_began_with_is_missed_too(path):
    writer = Writer(path)
    writer.take_snapshot()
    writer.begin()
    writer.close()
    (path / "journal-000000000002").unlink()
    _, report = recover(path)
    assert report.missing == [2]


def test_files_of_a_later_version_are_left_alone(path):
    from online.core.checksum import crc32c

    writer = Writer(path)
    writer.close()
    data = bytearray(writer.path.read_bytes())
    data[8] = 2
    data[HEAD_BYTES - 4 : HEAD_BYTES] = crc32c(bytes(data[: HEAD_BYTES - 4])).to_bytes(4, "little")
    writer.path.write_bytes(data)
    with pytest.raises(StateError, match="was written by a later version of online: its format is 2, this one reads 1"):
        recover(path)
    assert writer.path.read_bytes() == data


def test_records_that_are_longer_than_a_chunk_are_read(path, monkeypatch):
    monkeypatch.setattr(recovery_module, "CHUNK_BYTES", 100)
    sizes, pread = [], os.pread
    monkeypatch.setattr(recovery_module.os, "pread", lambda fd, n, place: sizes.append(n) or pread(fd, n, place))
    writer = Writer(path)
    for n in range(300):
        writer.sites[DEFAULT_SITE].hit(b"u%d" % n, b"/x", now_ms=NOW_MS)
        if n % 20 == 0:
            writer.journal.flush()
    writer.journal.flush()
    sites, report = recover(path)
    assert report.is_clean
    assert digest(sites) == digest(writer.sites)
    assert max(sizes) < 2_000  # no piece is longer than its record


# What is kept


def test_two_snapshots_are_kept_and_the_journal_since_the_older(path, draw):
    writer = Writer(path)
    for _ in range(5):
        some_hits(writer.sites, draw, 20)
        writer.take_snapshot()
        writer.folder.prune()
    names = sorted(os.listdir(path))
    assert names == [f"journal-{n:012}" for n in (5, 6)] + [f"snapshot-{n:012}" for n in (5, 6)]


def test_what_was_damaged_is_never_deleted(path, draw):
    writer = Writer(path)
    crashed(path, writer, 4)
    data = bytearray(writer.path.read_bytes())
    data[HEAD_BYTES + 10] ^= 1
    writer.path.write_bytes(data)
    sites, _ = recover(path)
    writer = Writer(path, sites)
    for _ in range(4):
        writer.take_snapshot()
        writer.folder.prune()
    assert (path / "journal-000000000001.damaged").read_bytes() == data


# A state file of version 0.1


def test_a_state_file_is_taken_over_and_goes_with_the_first_snapshot(path):
    sites = make_sites()
    sites[DEFAULT_SITE].hit(b"a", b"/x", now_ms=NOW_MS)
    path.write_bytes(state_file(sites))
    for _ in range(2):
        with Folder(path).hold():
            found, report = recover(path)
        assert report.taken_over.users == 1
        assert digest(found) == digest(sites)
    assert sorted(os.listdir(path.parent)) == ["state"]
    writer = Writer(path, found)
    writer.take_snapshot()
    writer.folder.prune()
    assert not writer.folder.state_file.exists()
    assert digest(recover(path)[0]) == digest(sites)


def test_a_takeover_that_was_cut_off_is_finished(path):
    sites = make_sites()
    sites[DEFAULT_SITE].hit(b"a", b"/x", now_ms=NOW_MS)
    new = path.parent / ".state.new"
    new.mkdir()
    (new / "state-file").write_bytes(state_file(sites))
    with Folder(path).hold():
        assert digest(recover(path)[0]) == digest(sites)


def test_a_damaged_state_file_is_kept(path):
    sites = make_sites()
    sites[DEFAULT_SITE].hit(b"a", b"/x", now_ms=NOW_MS)
    data = state_file(sites)[:-1]
    path.write_bytes(data)
    with Folder(path).hold():
        found, report = recover(path)
    assert (found.statistics().users, len(report.damage)) == (1, 1)
    assert (path / "state-file.damaged").read_bytes() == data
