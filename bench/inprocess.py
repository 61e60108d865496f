"""Indexes in this process: made warm, given hits, timed; and what they take of memory, in a process of their own.

Not here: sockets, and which figure is good.
"""

import multiprocessing
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from bench.processes import resident_bytes
from bench.workloads import Batch, BenchHit, LogWorkload, Workload

from online.core.index import Index
from online.core.reference import ReferenceIndex
from online.core.wire import apply_hits
from online.terms import IndexStatistics


class Taken(NamedTuple):
    took_ns: int
    accepted: int
    ignored: int
    refused: int


def take_batches(index: Index, batches: Sequence[Batch]) -> Taken:
    """Apply frames, a call each, as a connection gets them: decoding is part of it."""
    became = []
    began_ns = time.perf_counter_ns()
    for frame, _, now_ms in batches:
        became.append(apply_hits(index, frame, now_ms=now_ms))
    took_ns = time.perf_counter_ns() - began_ns
    return Taken(took_ns, *(sum(counts) for counts in zip(*became, strict=True)))


def take_hits(index: Index | ReferenceIndex, hits: Sequence[BenchHit]) -> int:
    """Apply hits one by one from Python, each as it happens; return the nanoseconds."""
    hit, now_ms = index.hit, 0
    began_ns = time.perf_counter_ns()
    for user, url, seen_ms in hits:
        now_ms = max(now_ms, seen_ms)
        hit(user, url, seen_ms=seen_ms, now_ms=now_ms)
    return time.perf_counter_ns() - began_ns


def warm_index(workload: Workload) -> Index:
    """Make an index that has had the workload's warm hits: every user is online."""
    index = Index()
    fill(index, workload.batches(0, workload.n_warm))
    assert index.statistics().users == workload.n_users
    return index


def fill(index: Index, batches: Iterable[Batch]) -> None:
    for frame, _, now_ms in batches:
        apply_hits(index, frame, now_ms=now_ms)


def check_same(index: Index, reference: Index | ReferenceIndex, workload: Workload | LogWorkload) -> None:
    """Assert that two indexes have had the same hits and give the same answers."""
    found, wanted = index.statistics(), reference.statistics()
    assert found._replace(memory_bytes=0) == wanted._replace(memory_bytes=0)
    assert found.users > 0
    url = next(iter(workload.hits())).url
    end_ms = workload.end_ms
    assert index.count(now_ms=end_ms) == reference.count(now_ms=end_ms) == found.users
    assert index.page(url, now_ms=end_ms)[:3] == reference.page(url, now_ms=end_ms)[:3]


class Growth(NamedTuple):
    resident_bytes: int
    statistics: IndexStatistics


def memory_of(workload: Workload) -> Growth:
    """What a warm index takes of memory, all in, beyond what its process takes without it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as new_process:
        return new_process.submit(_memory_of, workload).result()


def _memory_of(workload: Workload) -> Growth:
    index = Index()
    batches = workload.batches(0, workload.n_warm)
    first = next(batches)
    before = resident_bytes()
    fill(index, [first])
    fill(index, batches)
    return Growth(resident_bytes() - before, index.statistics())
