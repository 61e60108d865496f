"""While an index is read from disk nobody stands by name; then all names are put in order at once."""

import random

import pytest

from online.core.index import Index

NOW_MS = 1_700_000_000_000

#: Names that are hard to sort: parts of one another, zeros at their ends, bytes beyond ASCII, long common beginnings.
NAMES = {
    "numbers": [b"user%d" % n for n in range(3_000)],
    "zeros": [b"a" + bytes(n) for n in range(200)],
    "zeros and more": [bytes(n) + last for n in range(100) for last in (b"\1", b"\xff", b"\2\1")],
    "parts of one another": [b"ab" * n + b"c" * m for n in range(1, 60) for m in range(4)],
    "one byte": [bytes([n]) for n in range(256)],
    "a word apart": [b"x" * 8 * n + bytes([m]) for n in range(25) for m in range(60)],
    "few": [b"bob", b"alice", b"al"],
    "one": [b"alice"],
    "nobody": [],
}


def reading(names: list[bytes], seed: int) -> Index:
    """Return an index that is being read from disk, with a hit of each name, in no order."""
    index = Index(max_limit=5_000)
    index.relax(True)
    for n, name in enumerate(random.Random(seed).sample(names, len(names))):
        index.hit(name, b"/%d" % (n % 10), now_ms=NOW_MS)
    return index


def listed(index: Index, now_ms: int = NOW_MS) -> list[bytes]:
    return [row[0] for row in index.users(limit=5_000, now_ms=now_ms)[0]]


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_all_names_are_in_order_afterwards(names, seed):
    index = reading(names, seed)
    index.relax(False)
    index._check()
    assert listed(index) == sorted(names)
    index.hit(b"m", b"/", now_ms=NOW_MS)
    index.leave(names[0] if names else b"m", now_ms=NOW_MS)
    index._check()


def test_what_happens_meanwhile_is_as_ever():
    index = reading(NAMES["numbers"], 1)
    online = set(NAMES["numbers"])
    for n in range(0, 3_000, 3):
        index.leave(b"user%d" % n, now_ms=NOW_MS)
        index.hit(b"user%d" % (n + 1), b"/", kind="hidden", now_ms=NOW_MS)
        online -= {b"user%d" % n, b"user%d" % (n + 1)}
    for n in range(0, 3_000, 6):
        index.hit(b"user%d" % n, b"/", now_ms=NOW_MS + 1)
        index.hit(b"user%d" % (n + 1), b"/", kind="guest", now_ms=NOW_MS + 1)
        online |= {b"user%d" % n, b"user%d" % (n + 1)}
    index.relax(False)
    index._check()
    assert listed(index, NOW_MS + 1) == sorted(online)


def test_nobody_is_dropped_before_the_names_are_in_order():
    index = reading(NAMES["few"], 1)
    late_ms = NOW_MS + 1_801_000
    assert index.count(now_ms=late_ms) == 0
    assert index.expire(now_ms=late_ms) == 0
    index.relax(False)
    index._check()
    assert index.expire(now_ms=late_ms) == 3


def test_an_index_with_users_keeps_them_in_order():
    index = Index()
    index.hit(b"m", b"/", now_ms=NOW_MS)
    index.relax(True)
    index.hit(b"a", b"/", now_ms=NOW_MS)
    assert [row[0] for row in index.users(now_ms=NOW_MS)[0]] == [b"a", b"m"]
    index.relax(False)
    index._check()
