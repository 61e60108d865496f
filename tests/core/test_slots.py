"""Indexes that have the users of some slots alone."""

from zlib import crc32

import msgpack
import pytest

from online.core.index import Index
from online.core.replay import Replay
from online.core.slots import Slots
from online.errors import MovedError

NOW_MS = 1_700_000_000_000
SLOTS = 16_384


def halves(own):
    """Two owners: 0 has the lower half of the slots."""
    return Slots([slot >= SLOTS // 2 for slot in range(SLOTS)], ["a:8989", "b:8989"], own)


def is_low(user):
    return crc32(user) % SLOTS < SLOTS // 2


def divided(own=0):
    index = Index()
    index.slots = halves(own)
    return index


@pytest.mark.parametrize("user", [b"", b"a", b"theo", bytes(range(256)), b"x" * 1_000], ids=len)
def test_the_slot_is_that_of_zlib(user):
    assert halves(0).owns(user) == is_low(user) != halves(1).owns(user)


def test_hits_of_users_of_others_are_refused_and_counted_and_the_owner_is_named():
    index = divided()
    for number in range(100):
        user = b"user-%d" % number
        if is_low(user):
            assert index.hit(user, b"/a", now_ms=NOW_MS)
            continue
        for refuse in (
            lambda user=user: index.hit(user, b"/a", now_ms=NOW_MS),
            lambda user=user: index.leave(user, now_ms=NOW_MS),
        ):
            with pytest.raises(MovedError) as refused:
                refuse()
            assert (refused.value.code, str(refused.value)) == ("MOVED", f"{crc32(user) % SLOTS} b:8989")
    n_low = sum(is_low(b"user-%d" % number) for number in range(100))
    statistics = index.statistics()
    assert (statistics.users, statistics.accepted, statistics.refused) == (n_low, n_low, 2 * (100 - n_low))
    assert index.slots.moved == 2 * (100 - n_low)
    index._check()


def test_a_replay_passes_over_users_of_others_and_counts_them():
    index = divided(1)

    class Host:
        def open(self, name):
            return index

    users = [b"user-%d" % number for number in range(100)]
    frames = [[2, "SITE", ["default"]], [2, "hits", [[user, "/a", NOW_MS, "member"] for user in users]]]
    frames += [[2, "LEAVE", [user, NOW_MS + 1]] for user in users[:50]]
    replay = Replay(Host())
    packed = b"".join(map(msgpack.packb, frames)).replace(b"\xc4\x06", b"\xa6").replace(b"\xc4\x07", b"\xa7")
    assert replay.apply(packed, now_ms=NOW_MS + 1, latest_ms=NOW_MS + 1)
    assert index.count(now_ms=NOW_MS + 1) == sum(not is_low(user) for user in users[50:])
    assert (replay.refused, index.slots.moved, index.statistics().refused) == (0, 0, 0)
    assert replay.foreign == sum(is_low(user) for user in users) + sum(is_low(user) for user in users[:50])


def test_slots_that_change_hold_for_the_next_hit():
    index = divided()
    slots = index.slots
    assert slots.mine == SLOTS // 2
    slots.change([1] * SLOTS, ["a:8989", "b:8989"], 0)
    assert slots.mine == 0
    with pytest.raises(MovedError):
        index.hit(next(user for user in (b"%d" % n for n in range(99)) if is_low(user)), b"/a", now_ms=NOW_MS)
    with pytest.raises(ValueError, match="2 owners for 16384 slots"):
        slots.change([0, 1], [], 0)
