"""Sessions as frames, and back: `dump` and `apply_hits`."""

import msgpack
import pytest
from tests.wiring import NOW, Wiring, feed, notification, request

from online.core.index import Index
from online.core.wire import apply_hits, dump
from online.errors import FramingError

#: Older than the window of 30 minutes.
LONG_AGO = NOW - 3_600_000


def restored(frames, *, now_ms=NOW):
    index = Index()
    return index, apply_hits(index, frames, now_ms=now_ms)


def odd_people():
    """An index with every kind, ties, and names of every sort."""
    index = Index()
    for number in range(60):
        kind = ("member", "guest", "hidden", "bot")[number % 4]
        user = (b"u%d", b"\xff%d", b"\0\r\n %d", b"%d" + b"x" * 200)[number % 7 % 4] % number
        index.hit(user, b"/%d\xfe" % (number % 5), seen_ms=NOW - number // 3 * 1000, kind=kind, now_ms=NOW)
    for number in range(7):
        index.leave(b"gone\xff%d" % number, seen_ms=NOW - number * 100, now_ms=NOW)
    return index


def everything(index, now_ms=NOW):
    urls = [b"/%d\xfe" % number for number in range(5)]
    return (
        index.recent(1000, now_ms=now_ms),
        index.users(b"", 1000, now_ms=now_ms),
        [index.page(url, 1000, now_ms=now_ms) for url in urls],
        [index.kinds(url, now_ms=now_ms) for url in [None, *urls]],
        index.statistics().users,
        sorted(b"".join(dump(index))),
    )


@pytest.mark.parametrize("frame_bytes", [1, 100, 65_536])
def test_a_dump_restores_everything(frame_bytes):
    index = odd_people()
    again, became = restored(b"".join(dump(index, frame_bytes=frame_bytes)))
    assert became == (67, 0, 0)
    assert everything(again) == everything(index)
    again._check()


def test_a_departed_user_stays_away_after_a_dump():
    index = Index()
    index.leave(b"theo", seen_ms=NOW - 10, now_ms=NOW)
    again, _ = restored(b"".join(dump(index)))
    assert not again.hit(b"theo", b"/x", seen_ms=NOW - 11, now_ms=NOW)
    assert again.hit(b"theo", b"/x", seen_ms=NOW - 9, now_ms=NOW)


def test_a_dump_fed_twice_changes_nothing():
    index = odd_people()
    before = everything(index)
    assert apply_hits(index, b"".join(dump(index)), now_ms=NOW) == (67, 0, 0)
    assert everything(index) == before


def test_a_dump_is_read_by_the_rules_after_a_while():
    index, (accepted, ignored, refused) = restored(b"".join(dump(odd_people())), now_ms=NOW + 1_790_000)
    assert (accepted, ignored, refused) == (37, 30, 0)
    assert index.statistics().users == 37


def test_a_dump_has_wall_time():
    index = Index()
    index.hit(b"a", b"/x", seen_ms=NOW - 5, now_ms=NOW)
    index.leave(b"b", seen_ms=NOW - 6, now_ms=NOW)
    frames = b"".join(dump(index, clock_step_ms=10**6))
    unpacker = msgpack.Unpacker()
    unpacker.feed(frames)
    assert list(unpacker) == [
        [2, "hits", [["a", "/x", NOW - 5 + 10**6, "member"]]],
        [2, "LEAVE", ["b", NOW - 6 + 10**6]],
    ]


def test_frames_of_a_dump_are_as_small_as_asked_and_can_be_sent():
    index = Index()
    for number in range(10_000):
        index.hit(b"user%d" % number, b"/x", now_ms=NOW)
    frames = list(dump(index, frame_bytes=1000))
    assert max(map(len, frames)) < 1100
    frames = list(dump(index))
    assert all(len(msgpack.unpackb(frame)[2]) <= 4096 for frame in frames)
    wiring = Wiring()
    assert feed(wiring.connect(), b"".join(frames)) == b""
    assert wiring.index.count(now_ms=NOW) == 10_000


def test_an_empty_dump():
    assert list(dump(Index())) == []
    assert apply_hits(Index(), b"", now_ms=NOW) == (0, 0, 0)


def test_truncated_frames_are_told():
    frames = b"".join(dump(odd_people(), frame_bytes=500))
    ends = {0}
    for frame in dump(odd_people(), frame_bytes=500):
        for _ in range(frame.count(b"\x93\x02\xa5LEAVE") or 1):
            ends.add(max(ends) + (len(frame) if b"LEAVE" not in frame else len(frame) // frame.count(b"LEAVE")))
    for cut in range(len(frames)):
        if cut in ends:
            restored(frames[:cut])
        else:
            with pytest.raises(FramingError):
                restored(frames[:cut])


@pytest.mark.parametrize(
    "frames",
    [
        notification("NOSUCHVERB"),
        notification("LEAVE"),
        notification("HIT", "a"),
        notification("SITES"),
        b"HIT a /x\r\n",
        b"\xc1",
        b"\x93\x02\xa4hits\xc0",
        b"\x93\x02\xa4hits\x91\x92\xa1a\xc1",
        b"\x94\x07",
    ],
)
def test_frames_that_are_none_are_told(frames):
    with pytest.raises(FramingError):
        apply_hits(Index(), frames, now_ms=NOW)


def test_apply_hits_counts_what_became_of_them():
    frames = notification("hits", ["a", "/x"], ["a", "/x", NOW - 1], ["b", "/x", LONG_AGO], ["", "/x"], ["c"])
    index = Index()
    assert apply_hits(index, frames, now_ms=NOW) == (1, 2, 2)
    assert index.count(now_ms=NOW) == 1


def test_apply_hits_counts_refused_leaves():
    frames = notification("LEAVE", "a") + notification("LEAVE", "b") + notification("LEAVE", "a", 5)
    assert apply_hits(Index(max_users=1), frames, now_ms=NOW) == (1, 0, 2)


def test_apply_hits_takes_batches_as_long_as_they_come():
    hits = [[f"user{number}", "/x"] for number in range(65_536)]
    assert apply_hits(Index(), request("hits", *hits) * 2, now_ms=NOW) == (131_072, 0, 0)
