"""The Python surface of the compiled index, as far as it differs from the reference's: garbage collection, copies."""

import copy
import gc
import pickle

import pytest

from online.core.index import Budget, Index
from online.errors import RangeError
from online.terms import KINDS

NOW = 1_800_000_000_000
LATER = NOW + 86_400_000


@pytest.fixture
def index():
    index = Index(max_limit=100_000)
    for user in range(20_000):
        index.hit(b"user%d" % user, b"/page/%d" % (user % 3_000), now_ms=NOW)
    return index


def when_collecting(write):
    """Let the next garbage collection, wherever it happens, run `write` once."""

    def collect(phase, info):
        gc.callbacks.remove(collect)
        write()

    gc.collect()
    gc.callbacks.append(collect)


@pytest.mark.parametrize(
    ("ask", "answered"),
    [
        (lambda index: index.recent(20_000, now_ms=NOW)[0], 20_000),
        (lambda index: index.users(b"user", 20_000, now_ms=NOW)[0], 20_000),
        (lambda index: index.top(3_000, now_ms=NOW), 3_000),
    ],
    ids=["recent", "users", "top"],
)
def test_an_answer_is_of_one_moment_though_a_collection_writes_meanwhile(index, ask, answered):
    when_collecting(lambda: index.expire(now_ms=LATER))
    assert len(ask(index)) == answered
    gc.collect()
    assert index.count(now_ms=LATER) == 0
    assert gc.isenabled()
    index._check()


def test_an_index_in_a_cycle_gives_its_memory_back_to_its_budget():
    class Site(Index):
        pass

    budget = Budget(2**26)
    site = Site(budget=budget)
    site.itself = site
    del site
    gc.collect()
    assert budget.used_bytes == 0


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_index_is_not_copied(index, duplicate):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(index)


@pytest.mark.parametrize("window_s", [60, 300, 86_400])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "used"])
def test_an_index_of_nobody_goes_by_another_window_and_other_limits(window_s, is_new):
    budget = Budget(2**30)
    index = Index(window_s=300, budget=budget)
    if not is_new:
        index.top(5, now_ms=NOW)
        index.hit(b"ada", b"/a", now_ms=NOW)
        with pytest.raises(ValueError, match="with users"):
            index.judge_by(window_s=60, max_user=9, max_url=9, max_limit=9, max_scan=9)
        assert index.expire(now_ms=LATER) == 1
    index.judge_by(window_s=window_s, max_user=3, max_url=9, max_limit=5, max_scan=2)
    then = LATER + 7_000
    index.hit(b"ada", b"/a", now_ms=then)
    index._check()
    for user, url in ((b"theo", b"/a"), (b"ada", 10 * b"/")):
        with pytest.raises(RangeError):
            index.hit(user, url, now_ms=then)
    with pytest.raises(RangeError, match="limit"):
        index.recent(6, now_ms=then)
    with pytest.raises(RangeError, match="within_s"):
        index.count(None, window_s + 1, now_ms=then)
    assert index.count(None, window_s, now_ms=then + 1000 * (window_s - 1)) == 1
    assert index.count(now_ms=then + 1000 * window_s) == 0
    index._check()
    del index
    assert budget.used_bytes == 0


def test_an_index_refuses_to_judge_by_what_cannot_be():
    for wrong in ({"window_s": 59}, {"max_user": 0}, {"max_url": 2**15}, {"max_limit": 0}, {"max_scan": 0}):
        usual = {"window_s": 300, "max_user": 9, "max_url": 9, "max_limit": 9, "max_scan": 9}
        with pytest.raises(RangeError):
            Index().judge_by(**usual | wrong)


def test_a_time_before_a_window_has_passed_since_1970_is_counted_right():
    index = Index(window_s=86_400)
    early_ms = 10**11
    for nth, kind in enumerate(KINDS):
        index.hit(b"%d" % nth, b"/", kind=kind, seen_ms=early_ms + nth * 1000, now_ms=early_ms + 3_000)
    counted = [index.count(within_s=within_s, now_ms=early_ms + 3_000) for within_s in (1, 2, 3, 4, 86_400)]
    assert counted == [0, 1, 2, 3, 3]  # the bot, seen last, is nobody


@pytest.mark.parametrize("n_bytes", [1, 7, 8, 254, 255, 256, 257, 16_384])
def test_names_of_every_length_are_found_listed_and_expire(n_bytes):
    """Lengths up to 254 stand in one byte of a record, longer ones in two that follow."""
    index = Index(max_user=16_384, max_url=16_384)
    users = [bytes([97 + n]) * n_bytes for n in range(20)]
    url = b"/" * n_bytes
    for n, user in enumerate(users):
        index.hit(user, url, now_ms=NOW + n)
        index.hit(user[:-1] + b"z", b"u", now_ms=NOW + n)
    index._check()
    assert index.seen(users[3:4], now_ms=NOW + 20) == [(url, NOW + 3)]
    assert [item[0] for item in index.page(url, 30, now_ms=NOW + 20)[2]] == users[::-1]
    index.expire(now_ms=LATER)
    index._check()
    assert (index.statistics().users, index.statistics().pages) == (0, 0)
