"""The journal: what was applied is in the file before answers may leave, and replays to the same indexes."""

import errno
import os
import random

import msgpack
import pytest
from tests.wiring import NOW, Wiring, feed, notification, resp

from online.core.index import Index
from online.core.journal import HEAD_BYTES, Journal, record, site, totals
from online.core.observers import Written
from online.core.replay import Replay, frames_of
from online.core.wire import dump
from online.errors import FullError


class Host:
    """Opens sites for a replay, and keeps what was noted."""

    def __init__(self, **settings):
        self.sites, self.texts, self.settings = {}, [], settings

    def open(self, name):
        return self.sites.setdefault(name, Index(**self.settings))

    def noted(self, text):
        self.texts.append(text)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "segment"


@pytest.fixture
def journal(path):
    journal = Journal()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    journal.begin(fd, 7, 0)
    yield journal
    os.close(fd)


def frames_in(path, segment=7):
    """All frames of a segment, and where the last record ends."""
    data, place, frames = path.read_bytes(), 0, []
    while (found := frames_of(data[place:], segment, place)) is not None:
        unpacker = msgpack.Unpacker()
        unpacker.feed(found)
        frames += unpacker
        place += HEAD_BYTES + len(found)
    assert place == len(data)
    return frames


def replayed(path, segment=7, now_ms=NOW, **settings):
    host = Host(**settings)
    replay = Replay(host)
    data = path.read_bytes()
    assert replay.feed(data, segment, 0, now_ms=now_ms) == len(data)
    for index in host.sites.values():
        index._check()
    return host, replay


def test_every_way_in_is_written_once_a_turn(journal, path):
    wiring = Wiring()
    journal.follow(wiring.index, b"default")
    line = wiring.connect()
    feed(line, resp("HIT", "a", "/1"))
    feed(line, resp("LEAVE", "a"))
    feed(wiring.connect(), notification("hits", ["b", "/2", NOW - 5, "guest"], ["c", "/2"]))
    assert path.read_bytes() == b""
    journal.flush()
    assert frames_in(path) == [
        [2, "SITE", ["default"]],
        [2, "hits", [["a", "/1", NOW, "member"]]],
        [2, "LEAVE", ["a", NOW]],
        [2, "hits", [["b", "/2", NOW - 5, "guest"], ["c", "/2", NOW, "member"]]],
        [2, "ECHO", [f"totals 2 {NOW} 4 0 0 0 0 0 0 0"]],
    ]
    journal.flush()
    assert (journal.turn, journal.offset) == (1, path.stat().st_size)


def test_what_is_ignored_or_refused_is_not_written(journal, path):
    index = Index(max_users=1)
    journal.follow(index, b"s")
    index.hit(b"a", b"/1", now_ms=NOW)
    journal.flush()
    before = path.read_bytes()
    index.hit(b"a", b"/1", now_ms=NOW)  # an exact repeat
    index.hit(b"a", b"/2", seen_ms=NOW - 1, now_ms=NOW)  # stale
    with pytest.raises(FullError):
        index.hit(b"b", b"/1", now_ms=NOW)
    journal.flush()
    assert path.read_bytes() == before
    journal.note_totals()
    journal.flush()
    assert frames_in(path)[-1] == [2, "ECHO", [f"totals 1 {NOW} 2 0 1 0 1 1 0 0"]]
    before = path.read_bytes()
    journal.note_totals()
    journal.flush()
    assert path.read_bytes() == before


def test_sites_take_turns_in_a_segment(journal, path):
    names = [b"one", b"\xff\x00", b"x" * 300]
    indexes = {name: Index() for name in names}
    for name, index in indexes.items():
        journal.follow(index, name)
    draw = random.Random(1)
    for step in range(3_000):
        index = indexes[draw.choice(names)]
        user, url = b"u%d" % draw.randrange(50), b"/%d\xfe" % draw.randrange(9)
        if draw.random() < 0.2:
            index.leave(user, seen_ms=NOW + step - draw.randrange(9), now_ms=NOW + step)
        else:
            kind = draw.choice(["member", "guest", "hidden", "bot"])
            index.hit(user, url, seen_ms=NOW + step - draw.randrange(9), kind=kind, now_ms=NOW + step)
        if draw.random() < 0.1:
            journal.flush()
    journal.note_totals()
    journal.flush()
    host, replay = replayed(path, now_ms=NOW + 3_000)
    assert replay.first_ms >= NOW - 9
    assert {name: b"".join(dump(index)) for name, index in host.sites.items()} == {
        name: b"".join(dump(index)) for name, index in indexes.items()
    }
    for name, index in indexes.items():
        (*peak, accepted, late, stale), n_since = replay.totals()[name][0][:5], replay.totals()[name][1]
        assert (*peak, accepted + n_since, late, stale) == (*index.peak(), *index.statistics()[3:6])


def test_a_long_turn_is_many_records(journal, path):
    index = Index(max_url=5_000)
    journal.follow(index, b"s")
    for n in range(100):
        index.hit(b"u%d" % n, b"/" * 4_000, now_ms=NOW)
    journal.flush()
    host, replay = replayed(path, max_url=5_000)
    assert replay.records == 6
    assert host.sites[b"s"].count(now_ms=NOW) == 100


def test_times_are_wall_time(journal, path):
    journal.change_step(3_600_000)
    index = Index()
    journal.follow(index, b"s")
    index.hit(b"a", b"/1", now_ms=NOW)
    index.leave(b"a", now_ms=NOW + 1)
    journal.flush()
    frames = frames_in(path)
    assert frames[1:3] == [[2, "hits", [["a", "/1", NOW + 3_600_000, "member"]]], [2, "LEAVE", ["a", NOW + 3_600_001]]]


def test_any_changed_byte_makes_a_bad_record(journal, path):
    index = Index()
    journal.follow(index, b"s")
    for n in range(3):
        index.hit(b"u%d" % n, b"/x", now_ms=NOW)
        journal.flush()
    data = path.read_bytes()
    first = HEAD_BYTES + int.from_bytes(data[:4], "little")
    for place in range(first, len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        replay = Replay(Host())
        used = replay.feed(bytes(changed), 7, 0, now_ms=NOW)
        assert first <= used <= place
        assert replay.n_applied < 3


def test_a_part_of_a_record_is_not_applied(journal, path):
    index = Index()
    journal.follow(index, b"s")
    index.hit(b"a", b"/x", now_ms=NOW)
    journal.flush()
    data = path.read_bytes()
    for cut in range(len(data)):
        host = Host()
        replay = Replay(host)
        assert (replay.feed(data[:cut], 7, 0, now_ms=NOW), replay.is_bad, host.sites) == (0, False, {})


@pytest.mark.parametrize(("segment", "offset"), [(8, 0), (7, 1), (6, 100)])
def test_a_record_of_another_place_is_none(segment, offset):
    made = record(site(b"s"), 7, 0)
    assert frames_of(made, 7, 0) == site(b"s")
    assert frames_of(made, segment, offset) is None


def test_zeros_are_no_record():
    replay = Replay(Host())
    assert replay.feed(bytes(100), 7, 0, now_ms=NOW) == 0
    assert replay.is_bad


@pytest.mark.parametrize(
    "frames",
    [
        notification("hits", ["a", "/x"]),
        notification("hits", ["a", "/x", NOW, "departed"]),
        notification("hits", ["a", "/x", "now", "member"]),
        notification("LEAVE", "a"),
        notification("AUTH", "x"),
        b"\xc1",
        b"\x93\x02\xa4SITE\x91\xa9short",
        b"\x93\x02\xa4hits\xdd\xff\xff\xff\xff",
    ],
)
def test_frames_of_another_shape_are_bad_and_apply_nothing_else(frames):
    replay = Replay(Host())
    made = record(site(b"s") + frames, 7, 0)
    assert replay.feed(made, 7, 0, now_ms=NOW) == 0
    assert replay.is_bad


def test_a_site_without_room_is_refused():
    class Full(Host):
        def open(self, name):
            raise FullError("no room")

    frames = site(b"s") + notification("hits", ["a", "/x", NOW, "member"]) + notification("LEAVE", "a", NOW)
    replay = Replay(Full())
    made = record(frames, 7, 0)
    assert replay.feed(made, 7, 0, now_ms=NOW) == len(made)
    assert (replay.n_applied, replay.refused) == (2, 2)


def test_totals_restore_an_index():
    index = Index()
    index.hit(b"a", b"/x", now_ms=NOW)
    text = msgpack.unpackb(totals(index, 5))[2][0]
    assert text == f"totals 1 {NOW + 5} 1 0 0 0 0 0 0 0"
    other = Index()
    other.restore(peak=1, peak_at_ms=NOW, statistics=index.statistics())
    assert other.peak() == index.peak()
    assert other.statistics()[3:] == index.statistics()[3:]


# A disk that fails


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


def test_a_failed_write_gives_the_file_up_and_is_said():
    journal, index, codes = Journal(), Index(), []
    journal.failed = codes.append
    journal.follow(index, b"s")
    fd = full_disk()
    journal.begin(fd, 1, 0)
    index.hit(b"a", b"/x", now_ms=NOW)
    journal.flush()
    os.close(fd)
    assert (codes, journal.is_off, journal.written_bytes) == ([errno.ENOSPC], True, 0)
    assert journal.may_leave(journal.turn)  # nobody said that it must not
    index.hit(b"b", b"/x", now_ms=NOW)
    journal.note_totals()
    journal.flush()
    assert len(codes) == 1


def test_answers_of_a_lost_turn_must_not_leave(path):
    journal, index = Journal(), Index()
    journal.failed = lambda code: journal.give_up(is_lost=True)
    journal.follow(index, b"s")
    fd = full_disk()
    journal.begin(fd, 1, 0)
    index.hit(b"a", b"/x", now_ms=NOW)
    journal.flush()
    lost = journal.turn
    assert journal.may_leave(lost) is None
    good = os.open(path, os.O_CREAT | os.O_WRONLY)
    journal.begin(good, 2, 0)
    index.hit(b"b", b"/x", now_ms=NOW)
    journal.flush()
    assert journal.may_leave(journal.turn) is True
    assert journal.may_leave(lost) is None
    assert frames_in(path, 2)[1] == [2, "hits", [["b", "/x", NOW, "member"]]]
    os.close(fd)
    os.close(good)


def test_what_was_noted_when_a_file_was_given_up_is_not_in_the_next(path):
    journal, indexes = Journal(), {"one": Index(), "two": Index()}
    for name, index in indexes.items():
        journal.follow(index, name.encode())
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    journal.begin(fd, 2, 0)
    for index in indexes.values():
        index.hit(b"a", b"/x", now_ms=NOW)
    journal.give_up(is_lost=False)  # a sync has failed
    journal.begin(fd, 2, 0)
    for index in indexes.values():
        index.hit(b"b", b"/x", now_ms=NOW)
    journal.flush()
    os.close(fd)
    batch = [2, "hits", [["b", "/x", NOW, "member"]]]
    hits = [frame for frame in frames_in(path, 2) if frame[1] in ("SITE", "hits")]
    assert hits[:4] == [[2, "SITE", ["one"]], batch, [2, "SITE", ["two"]], batch]


def test_with_sync_answers_wait_until_it_was(journal):
    index, wanted = Index(), []
    journal.waits_for_sync = True
    journal.wanted = lambda: wanted.append(journal.turn)
    journal.follow(index, b"s")
    index.hit(b"a", b"/x", now_ms=NOW)
    journal.flush()
    assert wanted == [1]
    assert journal.may_leave(1) is False
    journal.synced(1)
    assert journal.may_leave(1) is True


def test_an_index_has_one_journal(journal):
    index = Index()
    journal.follow(index, b"s")
    with pytest.raises(ValueError, match="already"):
        Journal().follow(index, b"s")
    journal.close()
    Journal().follow(index, b"s")


def test_others_observe_beside_a_journal(journal, path):
    index = Index()
    written = Written(index)
    journal.follow(index, b"s")
    index.hit(b"a", b"/x", now_ms=NOW)
    wiring = Wiring()
    wiring.host.sites[b"default"] = index
    feed(wiring.connect(), notification("hits", ["b", "/x"], ["c", "/x"]))
    journal.flush()
    assert frames_in(path)[1][2] == msgpack.unpackb(written.take())[2]
    written.close()
    index.hit(b"d", b"/x", now_ms=NOW)
    journal.flush()
    assert frames_in(path)[-2] == [2, "hits", [["d", "/x", NOW, "member"]]]


@pytest.mark.parametrize("text", [b"place 1-0", b"x" * 300, b"\xff" * 17_000], ids=["short", "long", "not utf-8"])
def test_what_others_note_is_told_when_all_that_stands_before_it_was_applied(journal, path, text):
    index = Index()
    journal.follow(index, b"default")
    index.hit(b"ada", b"/before", now_ms=NOW)
    journal.note(text)
    index.hit(b"kim", b"/after", now_ms=NOW)
    journal.flush()

    class Noting(Host):
        def noted(self, text):
            super().noted(text)
            self.users = self.sites[b"default"].statistics().users

    host = Noting()
    replay, data = Replay(host), path.read_bytes()
    assert replay.feed(data, 7, 0, now_ms=NOW) == len(data)
    assert (host.texts, host.users, host.sites[b"default"].statistics().users) == ([text], 1, 2)
