"""Memory of an index: what a surge leaves behind, what a budget refuses, and address space that is scarce."""

import resource
import subprocess
import sys

import msgpack
import pytest

from online.core.index import Budget, Index
from online.core.wire import apply_hits
from online.errors import FullError

NOW = 1_800_000_000_000
WINDOW_MS = 1_800_000


def fill(index, users, *, first=0, now_ms=NOW, url=b"/page/%d"):
    for user in range(first, first + users):
        index.hit(b"user%d" % user, url % (user % 500), now_ms=now_ms)


def test_an_empty_index_is_small():
    assert Index().statistics().memory_bytes < 200_000


def test_after_a_surge_the_memory_goes_back():
    index = Index()
    fill(index, 50_000)
    full = index.statistics().memory_bytes
    index.expire(now_ms=NOW + WINDOW_MS)
    for nth in range(100_000):  # the hash table shrinks as it is written to
        index.hit(b"user", b"/page", now_ms=NOW + WINDOW_MS + nth)
        index.leave(b"user", now_ms=NOW + WINDOW_MS + nth)
    index._check()
    assert index.statistics().memory_bytes < full / 3


def test_what_stays_of_a_surge_stays_findable():
    index = Index()
    fill(index, 20_000)
    fill(index, 700, first=5_000, now_ms=NOW + 60_000)
    index.expire(now_ms=NOW + WINDOW_MS)
    index._check()
    assert index.statistics().users == 700
    assert index.seen([b"user5000", b"user4999"], now_ms=NOW + WINDOW_MS)[1] is None
    fill(index, 20_000, first=100_000, now_ms=NOW + WINDOW_MS)
    index._check()
    assert index.statistics().users == 20_700


def test_a_budget_is_charged_and_given_back():
    budget = Budget(2**30)
    index = Index(budget=budget)
    fill(index, 10_000)
    assert budget.used_bytes == index.statistics().memory_bytes > 10_000 * 50
    del index
    assert budget.used_bytes == 0


@pytest.mark.parametrize("limit_bytes", [0, -1, 2**62])
def test_a_budget_has_limits(limit_bytes):
    with pytest.raises(ValueError, match="limit_bytes takes 1 to"):
        Budget(limit_bytes)


def test_an_index_that_has_no_room_at_all_is_refused():
    budget = Budget(10_000)
    with pytest.raises(FullError, match="max_memory is reached: 10000"):
        Index(budget=budget)
    assert budget.used_bytes == 0


def test_at_the_limit_new_ones_are_refused_and_the_others_go_on():
    index = Index(budget=Budget(1_000_000))
    with pytest.raises(FullError, match="max_memory is reached: 1000000"):
        fill(index, 100_000)
    index._check()
    before = index.statistics()
    users = before.users
    assert before.max_memory_reached == before.refused == 1
    assert index.hit(b"user0", b"/page/1", now_ms=NOW + 1)
    assert index.seen([b"user0"], now_ms=NOW + 1) == [(b"/page/1", NOW + 1)]
    index.expire(now_ms=NOW + WINDOW_MS)
    assert index.hit(b"user%d" % users, b"/again", now_ms=NOW + WINDOW_MS)
    index._check()


def test_urls_of_all_lengths_at_the_limit_change_nothing_when_refused():
    index = Index(budget=Budget(600_000))
    refused = 0
    for nth in range(4_000):
        user, url = b"user%d" % (nth % 900), b"/" + b"x" * (nth * 37 % 2_000) + b"%d" % nth
        before = index.seen([user], now_ms=NOW + nth)
        try:
            index.hit(user, url, now_ms=NOW + nth)
        except FullError:
            refused += 1
            assert index.seen([user], now_ms=NOW + nth) == before
    index._check()
    assert refused == index.statistics().max_memory_reached > 0


def test_two_indexes_share_a_budget():
    budget = Budget(1_500_000)
    one, other = Index(budget=budget), Index(budget=budget)
    with pytest.raises(FullError):
        fill(one, 100_000)
    with pytest.raises(FullError):
        fill(other, 100_000)
    assert other.statistics().users < one.statistics().users
    assert one.statistics().memory_bytes + other.statistics().memory_bytes == budget.used_bytes <= 1_500_000


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds address space on Linux alone")
def test_with_little_address_space_an_index_makes_do():
    """As under `ulimit -v`: it reserves less, and a user beyond what there is gets MemoryError, not a crash."""
    script = """
from online.core.index import Index
index = Index()
try:
    for user in range(10_000_000):
        index.hit(b"user%d" % user, b"/page", now_ms=1_800_000_000_000)
except MemoryError:
    print(index.statistics().users)
"""
    room = 1 << 28
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (room, room)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert 10_000 < int(done.stdout) < 10_000_000


def test_a_table_that_has_stopped_growing_gives_its_old_half_back():
    """385 users make a table of 512 slots grow; from then on nobody is new, and hits alone end its rehash."""
    index = Index()
    users = [b"user%d" % number for number in range(390)]
    for user in users:
        index.hit(user, b"/", now_ms=NOW)
    growing = index.statistics().memory_bytes
    for later_ms in (1, 2):
        hits = [[user, b"/", NOW + later_ms] for user in users]
        apply_hits(index, msgpack.packb([2, "hits", hits]), now_ms=NOW + later_ms)
    assert index.statistics().memory_bytes == growing - 512 * 8
    index._check()
