"""Observers: every way in for hits passes them, in order; and every page that changes is noted, by expiry too."""

import random
from zlib import crc32

import msgpack
import pytest
from tests.wiring import NOW, Wiring, feed, notification, resp

from online.core.index import Index
from online.core.journal import site
from online.core.observers import Changed, Fork, Trail, Written
from online.core.wire import apply_hits, dump


def read(frames):
    unpacker = msgpack.Unpacker()
    unpacker.feed(frames)
    return list(unpacker)


def test_hits_and_leaves_of_every_way_in_are_written_in_order():
    wiring = Wiring()
    written = Written(wiring.index)
    line = wiring.connect()
    feed(line, resp("HIT", "resp", "/a"))
    feed(line, resp("LEAVE", "resp"))
    packed = wiring.connect()
    feed(packed, notification("hits", ["batch", "/b", NOW - 5, "guest"], ["late", "/b", NOW - 3_600_000]))
    feed(packed, notification("HIT", "alone", "/b"))
    apply_hits(wiring.index, notification("hits", ["applied", "/c"]), now_ms=NOW)
    wiring.index.hit(b"python", b"/d", kind="bot", now_ms=NOW)
    assert read(written.take()) == [
        [2, "hits", [["resp", "/a", NOW, "member"]]],
        [2, "LEAVE", ["resp", NOW]],
        [
            2,
            "hits",
            [
                ["batch", "/b", NOW - 5, "guest"],
                ["alone", "/b", NOW, "member"],
                ["applied", "/c", NOW, "member"],
                ["python", "/d", NOW, "bot"],
            ],
        ],
    ]
    assert written.take() == b""


def taken(trail):
    """What a trail holds: verbs and users, in order."""
    found = []
    for _, verb, given in read(b"".join(iter(lambda: trail.take()[0], b""))):
        found += [user for user, *_ in given] if verb == "hits" else [(verb, given[0])]
    return found


def test_hits_and_leaves_of_all_sites_go_to_the_trail_of_the_user_s_slot():
    trails, indexes = [Trail(), Trail(), Trail()], {b"shop": Index(), b"forum": Index()}
    fork = Fork(trails, [slot % 2 for slot in range(16_384)])
    for name, index in indexes.items():
        fork.follow(index, site(name))
    users = [b"user-%d" % number for number in range(20)]
    for index in indexes.values():
        for user in users:
            index.hit(user, b"/a", now_ms=NOW)
    indexes[b"forum"].leave(users[0], now_ms=NOW + 1)
    for place in range(2):
        own = [user.decode() for user in users if crc32(user) % 2 == place]
        left = [("LEAVE", "user-0")] if "user-0" in own else []
        assert trails[place].n_hits == 2 * len(own) + len(left)
        assert taken(trails[place]) == [("SITE", "shop"), *own, ("SITE", "forum"), *own, *left]
    fork.change(trails, [2] * 16_384)
    indexes[b"shop"].hit(users[1], b"/b", now_ms=NOW + 1)
    assert [taken(trail) for trail in trails] == [[], [], [("SITE", "shop"), "user-1"]]
    fork.close()
    indexes[b"shop"].hit(users[1], b"/c", now_ms=NOW + 2)
    assert taken(trails[2]) == []


@pytest.mark.parametrize("owners", [[0] * 16_383, [1] * 16_384, [-1] * 16_384], ids=["few", "beyond", "below"])
def test_each_slot_needs_a_trail(owners):
    with pytest.raises(ValueError, match="16384 slots"):
        Fork([Trail()], owners)


def test_what_is_ignored_or_refused_is_not_written():
    index = Index(max_users=1)
    index.hit(b"a", b"/1", now_ms=NOW)
    written = Written(index)
    index.hit(b"a", b"/1", now_ms=NOW)  # an exact repeat
    index.hit(b"a", b"/1", seen_ms=NOW - 1, now_ms=NOW)  # stale
    with pytest.raises(Exception, match="max_users"):
        index.hit(b"b", b"/1", now_ms=NOW)
    assert written.take() == b""


def test_a_hit_from_the_future_is_written_as_it_was_applied():
    index = Index()
    written = Written(index)
    written.clock_step_ms = 3_600_000
    index.hit(b"a", b"/1", seen_ms=NOW + 60_000, now_ms=NOW)
    assert read(written.take()) == [[2, "hits", [["a", "/1", NOW + 3_600_000, "member"]]]]


def test_a_trail_is_taken_in_pieces_that_each_name_their_site():
    index, trail, n_hits = Index(), Trail(), 5_000
    trail.follow(index, site(b"s"))
    for n in range(n_hits):
        index.hit(b"u%d" % n, b"/a/page/of/this/site", now_ms=NOW)
    assert trail.has_piece
    assert trail.n_hits == n_hits
    pieces = []
    while (piece := trail.take()) != (b"", 0):
        pieces.append(piece)
    assert len(pieces) > 2
    assert all(len(frames) < 64 * 1024 + 100 for frames, _ in pieces)
    said = [read(frames) for frames, _ in pieces]
    assert all(frames[0] == [2, "SITE", ["s"]] for frames in said)
    users = [item[0] for frames in said for frame in frames[1:] for item in frame[2]]
    assert users == [f"u{n}" for n in range(n_hits)]
    assert (trail.n_hits, trail.n_bytes, trail.has_piece) == (0, 0, False)


def test_what_was_written_makes_the_same_index():
    draw = random.Random(5)
    index, copy = Index(), Index()
    written = Written(index)
    for step in range(20_000):
        now_ms = NOW + step * 40
        user, url = b"u%d" % draw.randrange(300), b"/%d" % draw.randrange(40)
        if draw.random() < 0.1:
            index.leave(user, seen_ms=now_ms - draw.randrange(5_000), now_ms=now_ms)
        else:
            kind = draw.choice(["member", "guest", "hidden", "bot"])
            index.hit(user, url, seen_ms=now_ms - draw.randrange(-100, 5_000), kind=kind, now_ms=now_ms)
        if step % 1_000 == 999:
            apply_frames(copy, written.take(), now_ms)
    assert b"".join(dump(copy)) == b"".join(dump(index))


def apply_frames(index, frames, now_ms):
    wiring = Wiring()
    wiring.host.sites[b"default"] = index
    feed(wiring.connect(), frames, now_ms=now_ms)


def test_every_page_that_gains_or_loses_somebody_has_changed():
    index = Index(window_s=60)
    changed = Changed(index)
    index.hit(b"a", b"/1", now_ms=NOW)
    assert changed.take() == (True, {b"/1"})
    index.hit(b"a", b"/2", now_ms=NOW + 1)
    assert changed.take() == (True, {b"/1", b"/2"})
    index.hit(b"a", b"/2", now_ms=NOW + 1)  # an exact repeat
    assert changed.take() == (False, frozenset())
    index.expire(now_ms=NOW + 61_000)
    assert changed.take() == (True, {b"/2"})
    index.leave(b"b", now_ms=NOW + 61_000)
    assert changed.take() == (True, frozenset())


def test_any_number_may_watch_what_changes():
    index = Index()
    first, second = Changed(index), Changed(index)
    index.hit(b"a", b"/1", now_ms=NOW)
    assert first.take() == second.take() == (True, {b"/1"})
    first.close()
    index.hit(b"a", b"/2", now_ms=NOW + 1)
    assert first.take() == (False, frozenset())
    assert second.take() == (True, {b"/1", b"/2"})


@pytest.mark.parametrize("observer", [Written, Changed])
def test_an_observer_may_go_before_its_index(observer):
    index = Index()
    first = observer(index)
    if observer is Written:
        with pytest.raises(ValueError, match="already"):
            observer(index)
    first.close()
    second = observer(index)
    first.close()
    index.hit(b"a", b"/1", now_ms=NOW)
    assert second.take()
    del second
    index.hit(b"b", b"/1", now_ms=NOW)
    observer(index)
