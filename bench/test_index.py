"""What the index does in one second, in-process, and what `reference.py` does of the same work in the same run.

Read the table's median and the column of operations a second; every round starts with an index in the same state.
"""

from typing import Any

import pytest
from bench.workloads import FORUM, BenchHit, Workload

from online.index import Index
from online.reference import ReferenceIndex
from online.wire import apply_hits

ROUNDS = 5


@pytest.fixture(scope="module")
def forum() -> list[BenchHit]:
    return list(FORUM.hits())


@pytest.fixture(scope="module")
def forum_frames() -> bytes:
    return b"".join(FORUM.frames())


@pytest.fixture(scope="module", params=[Index, ReferenceIndex])
def warm(request: pytest.FixtureRequest, forum: list[BenchHit]) -> Any:
    """An index that has seen the whole forum."""
    index = request.param()
    hit_all(index, forum, FORUM.end_ms)
    return index


def hit_all(index: Any, hits: list[BenchHit], now_ms: int) -> None:
    for user, url, seen_ms in hits:
        index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms)


def check_state(index: Any, workload: Workload) -> None:
    statistics = index.statistics()
    assert statistics.accepted == workload.n_hits
    assert statistics.users == index.count(now_ms=workload.end_ms)


@pytest.mark.benchmark(group="forum, hits one by one from Python")
@pytest.mark.parametrize("make", [Index, ReferenceIndex])
def test_hit(benchmark: Any, forum: list[BenchHit], make: Any) -> None:
    made: list[Any] = []

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        made[:] = [make()]
        return (made[0], forum, FORUM.end_ms), {}

    benchmark.pedantic(hit_all, setup=setup, rounds=ROUNDS)
    benchmark.extra_info.update(workload=FORUM.id, hits_a_second=round(FORUM.n_hits / benchmark.stats["median"]))
    check_state(made[0], FORUM)


@pytest.mark.benchmark(group="forum, hits in batches")
def test_batches(benchmark: Any, forum_frames: bytes) -> None:
    """MessagePack frames to an index that is empty at first: decoding is part of it."""
    made: list[Any] = []

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        made[:] = [Index()]
        return (made[0], forum_frames), {"now_ms": FORUM.end_ms}

    benchmark.pedantic(apply_hits, setup=setup, rounds=ROUNDS)
    benchmark.extra_info.update(workload=FORUM.id, hits_a_second=round(FORUM.n_hits / benchmark.stats["median"]))
    check_state(made[0], FORUM)


@pytest.mark.benchmark(group="forum, a page of 30")
def test_page(benchmark: Any, warm: Any) -> None:
    online, here, users, cursor = benchmark(warm.page, FORUM.url(0), now_ms=FORUM.end_ms)
    assert online > here > len(users) == 30
    assert cursor is not None


@pytest.mark.benchmark(group="forum, count")
def test_count(benchmark: Any, warm: Any) -> None:
    assert benchmark(warm.count, now_ms=FORUM.end_ms) > 0
