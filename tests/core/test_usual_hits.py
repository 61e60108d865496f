"""Hits of a batch in the usual shape are read in one pass; what comes of them is the same as with care.

The same hit with a head of sixteen bits is not usual, and is read with care.
"""

import random

import msgpack
import pytest
from tests.wiring import NOW, Wiring, feed

NAMES = ["", "a", "é", "x" * 31, "y" * 32, "z" * 255, "w" * 256, "v" * 300, b"\xff\0", b"b" * 40, 7, None, -1]
TIMES = [NOW, NOW - 5_000, NOW + 1, NOW - 3_600_000, 0, -1, 2**31, 2**40, 2**63, 2**64 - 1, "1", None, 1.5]
KINDS = ["member", "guest", "hidden", "bot", "Member", "departed", "", "robots", b"guest", None, 1]


def hits(n, seed):
    dice = random.Random(seed)
    for _ in range(n):
        hit = [dice.choice(NAMES), dice.choice(NAMES), dice.choice(TIMES), dice.choice(KINDS)]
        if dice.random() < 0.7:  # mostly good ones
            hit = [f"user{dice.randrange(50)}", f"/{dice.randrange(20)}", NOW - dice.randrange(9_999), *hit[3:]]
        yield hit[: dice.choice([2, 3, 3, 4, 4])]


def usual(hit):
    return msgpack.packb(hit)


def careful(hit):
    packed = msgpack.packb(hit)
    return b"\xdc" + len(hit).to_bytes(2, "big") + packed[1:]


def outcome(packed, *, piece=None, **limits):
    """Return the answer to a batch, and the index after it."""
    wiring = Wiring(**limits)
    connection = wiring.connect()
    answer = feed(
        connection, b"\x94\x00\x07\xa4hits\xdc" + len(packed).to_bytes(2, "big") + b"".join(packed), piece=piece
    )
    index = wiring.index
    return answer, index.statistics(), index.users(b"", 1_000, now_ms=NOW), index.top(1_000, now_ms=NOW)


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_gives_the_same_as_with_care(seed):
    batch = list(hits(200, seed))
    wanted = outcome([careful(hit) for hit in batch])
    assert wanted[1].accepted > 50
    assert wanted[1].refused > 20
    for piece in (None, 7, 100):
        assert outcome([usual(hit) for hit in batch], piece=piece) == wanted


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("seen_ms", [NOW, NOW - 4_000_000, 2**63])
def test_a_hit_gives_the_same_as_with_care(name, seen_ms):
    for hit in ([name, "/", seen_ms], ["user", name, seen_ms], ["user", "/", seen_ms, name]):
        assert outcome([usual(hit)]) == outcome([careful(hit)])


def test_limits_are_the_same_as_with_care():
    long = [f"user{n}" + "x" * 200 for n in range(30)]
    batch = [[name, "/", NOW] for name in long]
    for limits in ({"max_items": 3}, {"max_depth": 2}, {"max_user": 100}, {"max_url": 1}, {"max_users": 9}):
        assert outcome([usual(hit) for hit in batch], **limits) == outcome([careful(hit) for hit in batch], **limits)
    for pack in (usual, careful):
        assert b"PROTO" in outcome([pack(hit) for hit in batch], max_frame=4_096)[0]
