"""Hits and questions at once, over sockets to a server of its own: how long questions take at a given rate.

An open loop: a question, COUNT and a PAGE of 30 in turn, counts from when it was due, whatever the server was doing
then. The site is warm.
"""

import statistics
import sys
import time
from dataclasses import replace
from typing import NamedTuple

import pytest
from bench.native.load import Opened, closed_loop, open_loop
from bench.native.yardstick import longest_gap_ns
from bench.processes import Server, cpu_ns, serving
from bench.recording import Recorder
from bench.workloads import FORUM, FRAME_HITS, Workload, warmed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PAGES_ASKED = 100

#: How long before a batch its hits began: none is from the future, which would make it of now.
BEHIND_MS = 500


class Rate(NamedTuple):
    hits_a_second: int  # 0: as many as it takes
    questions_a_second: int
    p99_ms: float | None = None
    longest_ms: float | None = None

    def __str__(self) -> str:
        hits = f"{self.hits_a_second:,} hits/s" if self.hits_a_second else "as many hits as it takes"
        return f"{hits}, {self.questions_a_second:,} questions/s"


RATES = [Rate(5_000, 1_000), Rate(200_000, 5_000, p99_ms=2, longest_ms=50), Rate(0, 5_000)]


def questions(workload: Workload) -> list[bytes]:
    """COUNT and PAGE in turn, the pages those with most users."""
    pages = [b"PAGE %b 30\r\n" % workload.url(number) for number in range(PAGES_ASKED)]
    return [question for page in pages for question in (b"COUNT\r\n", page)]


def placed(workload: Workload, rate: Rate) -> Workload:
    """Put a workload into time, so that what follows its warm hits begins now and keeps to the rate."""
    now_ms = time.time_ns() // 1_000_000
    if not rate.hits_a_second:
        return workload.ending_at(now_ms)
    workload = replace(workload, span_ms=workload.n_hits * 1_000 // rate.hits_a_second)
    return replace(workload, start_ms=now_ms - BEHIND_MS - workload.n_warm * 1_000 // rate.hits_a_second)


def warm_server(server: Server, workload: Workload) -> None:
    frames = workload.frames(0, workload.n_warm, wants_answers=True)
    assert closed_loop(server.port, frames, "batch").became == (workload.n_warm, 0, 0)


def mix(server: Server, workload: Workload, rate: Rate) -> Opened:
    frames = workload.frames(workload.n_warm, wants_answers=True)
    return open_loop(
        server.port,
        frames,
        questions(workload),
        frames_a_second=rate.hits_a_second / FRAME_HITS,
        questions_a_second=rate.questions_a_second,
        window=0 if rate.hits_a_second else 8,
    )


@pytest.mark.parametrize("transport", ["reactor", "streams"])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_questions(record: Recorder, quick: bool, transport: str, rate: Rate) -> None:
    for_s = 1 if quick else 5
    n_hits = (rate.hits_a_second or 1_000_000) * for_s
    p50s_ms, p99s_ms, longests_ms, speeds, cpu_percents, gaps_ms = [], [], [], [], [], []
    workload = warmed(FORUM, n_hits)
    for _ in range(1 if quick else 3):
        with serving("--transport", transport) as server:
            moved = placed(workload, rate)
            warm_server(server, moved)
            before_ns = cpu_ns(server.pid)
            found = mix(server, moved, rate)
            spent_ns = cpu_ns(server.pid) - before_ns
        assert found.became == (n_hits, 0, 0)
        assert found.users == len(found.question_ns) // 2 * 30
        percentiles = statistics.quantiles(found.question_ns, n=100)
        p50s_ms.append(percentiles[49] / 1e6)
        p99s_ms.append(percentiles[98] / 1e6)
        longests_ms.append(max(found.question_ns) / 1e6)
        speeds.append(n_hits / found.took_s)
        cpu_percents.append(spent_ns / 1e7 / found.took_s)
        gaps_ms.append(longest_gap_ns(for_s) / 1e6)
    what, note = f"{transport}, {rate}", workload.id
    record(f"{what}: hits", speeds, "hits/s", note=note)
    record(f"{what}: server's processor time", cpu_percents, "% of a core", note=note)
    record(f"{what}: median question", p50s_ms, "ms", note=note)
    record(f"{what}: 99th percentile", p99s_ms, "ms", at_most=rate.p99_ms, note=note)
    record(f"{what}: longest question", longests_ms, "ms", at_most=rate.longest_ms, note=note)
    record(f"{what}: longest gap of a process that spins", gaps_ms, "ms", note=f"for {for_s} s")
