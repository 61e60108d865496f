"""What a hit costs as a site grows, in loads from memory; and how long the longest call takes while it does.

A load is one step along a shuffled chain over as many bytes as the index occupies, in the same round: what the machine
takes to fetch a line that it has in no cache and could not foresee. The target is judged by pages of the size in which
the index itself stands; the other is told beside it.
"""

import gc
import time

import pytest
from bench.inprocess import take_batches, warm_index
from bench.native.yardstick import Yardstick, longest_gap_ns
from bench.processes import huge_page_bytes
from bench.recording import Recorder
from bench.workloads import FORUM, SURGE, sized, warmed

from online.core.index import Index
from online.core.wire import apply_hits

ROUNDS = 5
N_LOADS = 1_000_000

#: Users -> how many loads a hit may cost.
SIZES = {10_000: None, 100_000: 4.0, 1_000_000: 4.0, 10_000_000: 4.0}
QUICK_USERS = 1_000_000


@pytest.mark.parametrize("n_users", SIZES)
def test_loads_a_hit(record: Recorder, quick: bool, n_users: int) -> None:
    if quick and n_users > QUICK_USERS:
        pytest.skip("takes too long for a quick run")
    round_hits = 50_000 if quick else 100_000
    workload = warmed(sized(FORUM, n_users), ROUNDS * round_hits)
    before_bytes = huge_page_bytes()
    index = warm_index(workload)
    n_bytes = index.statistics().memory_bytes
    is_huge = huge_page_bytes() - before_bytes > n_bytes // 2
    yardsticks = {huge: Yardstick(n_bytes, huge_pages=huge) for huge in (False, True)}
    hit_ns: list[float] = []
    load_ns: dict[bool, list[float]] = {False: [], True: []}
    for first in range(workload.n_warm, workload.n_hits, round_hits):
        batches = list(workload.batches(first, round_hits))
        taken = take_batches(index, batches)
        assert (taken.accepted, taken.ignored) == (round_hits, 0)
        hit_ns.append(taken.took_ns / round_hits)
        for huge, yardstick in yardsticks.items():
            load_ns[huge].append(yardstick.load_ns(N_LOADS))
    assert index.count(now_ms=workload.end_ms) == n_users
    note = f"{workload.id}; {n_bytes / 1e6:,.1f} MB"
    record(f"a hit, {n_users:,} users, warm", hit_ns, "ns/hit", note=note)
    for huge, loads_ns in load_ns.items():
        pages = "2 MiB" if huge else "4 KiB"
        is_target = huge == is_huge
        record(f"a load, {n_users:,} users, {pages} pages", loads_ns, "ns/load", note=note)
        ratios = [hit / load for hit, load in zip(hit_ns, loads_ns, strict=True)]
        what = f"a hit, {n_users:,} users, warm, by loads from {pages} pages"
        of_index = "; the index stands in such pages" if is_target else ""
        record(what, ratios, "loads/hit", at_most=SIZES[n_users] if is_target else None, note=note + of_index)


@pytest.mark.parametrize("frame_hits", [500, 32])
def test_longest_pause(record: Recorder, quick: bool, frame_hits: int) -> None:
    """Load users at full speed, from empty, every hit a new one; a batch is a call."""
    n_users = QUICK_USERS if quick else 10_000_000
    workload = sized(SURGE, n_users)
    pauses_ms, gaps_ms = [], []
    for _ in range(1 if quick else 3):
        index = Index()
        longest_ns = total_ns = 0
        gc.disable()
        for frame, _, now_ms in workload.batches(0, n_users, frame_hits):
            began_ns = time.perf_counter_ns()
            apply_hits(index, frame, now_ms=now_ms)
            took_ns = time.perf_counter_ns() - began_ns
            longest_ns = max(longest_ns, took_ns)
            total_ns += took_ns
        gc.enable()
        assert index.count(now_ms=workload.end_ms) == n_users
        pauses_ms.append(longest_ns / 1e6)
        gaps_ms.append(longest_gap_ns(total_ns / 1e9) / 1e6)
    note = f"the first {n_users:,} of {workload.id}"
    record(f"longest call, batches of {frame_hits}, {n_users:,} new users", pauses_ms, "ms", at_most=20, note=note)
    record(f"longest gap of a process that spins as long as batches of {frame_hits} took", gaps_ms, "ms", note=note)
