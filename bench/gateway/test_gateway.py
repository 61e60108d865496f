"""A gateway before 4 partitions: what a question costs it, how many it answers, and how long they take.

All six processes are on this machine. On few cores they wait for each other: the gateway's processor time for a
question says what one core of its own would answer.
"""

import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.native.load import closed_loop, open_loop
from bench.processes import Server, cpu_ns, gateway, serving
from bench.recording import Recorder
from bench.workloads import FORUM, Workload, warmed

from online.partitions import SLOTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PARTITIONS = 4
PAGES_ASKED = 100
CONNECTIONS = 32
RATE = 2_000
EMPTY_BATCH = b"\x94\x00\x01\xa4hits\x90"


def questions(workload: Workload) -> dict[str, list[bytes]]:
    return {"count": [b"COUNT\r\n"], "page": [b"PAGE %b 30\r\n" % workload.url(nth) for nth in range(PAGES_ASKED)]}


@contextlib.contextmanager
def divided(folder: Path) -> Iterator[Server]:
    """A gateway, and its partitions."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving()).port for _ in range(PARTITIONS)]
        lines = ["format = 1", "version = 1"]
        for nth, port in enumerate(ports):
            first, last = SLOTS * nth // PARTITIONS, SLOTS * (nth + 1) // PARTITIONS - 1
            lines += [f"[partition.{nth}]", f'slots = "{first}-{last}"', f'servers = ["online://127.0.0.1:{port}"]']
        path = folder / "map.toml"
        path.write_text("\n".join(lines))
        yield stack.enter_context(gateway(path))


def ask_all(port: int, items: list[bytes], answer: str) -> None:
    """Ask over many connections at once, one question after the other on each."""
    threads = [
        threading.Thread(target=closed_loop, args=(port, items, answer), kwargs={"window": 1})
        for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_gateway(record: Recorder, quick: bool, tmp_path: Path) -> None:
    n, rounds, for_s = (100, 1, 1) if quick else (1_000, 3, 5)
    workload = warmed(FORUM, 1).ending_at(time.time_ns() // 1_000_000)
    asked = questions(workload)
    with divided(tmp_path) as server:
        frames = workload.frames(0, workload.n_warm, wants_answers=True)
        before_ns = cpu_ns(server.pid)
        assert closed_loop(server.port, frames, "batch").became == (workload.n_warm, 0, 0)
        hit_ns = (cpu_ns(server.pid) - before_ns) / workload.n_warm
        record("hits in batches of 500: gateway's processor time", [hit_ns], "ns/hit", note=workload.id)
        for verb, items in asked.items():
            costs_us, speeds = [], []
            for _ in range(rounds):
                before_ns, began_s = cpu_ns(server.pid), time.perf_counter()
                ask_all(server.port, (items * n)[:n], verb)
                costs_us.append((cpu_ns(server.pid) - before_ns) / 1e3 / n / CONNECTIONS)
                speeds.append(n * CONNECTIONS / (time.perf_counter() - began_s))
            note = f"{CONNECTIONS} connections, {PARTITIONS} partitions"
            record(f"{verb}: gateway's processor time", costs_us, "us/question", at_most=100, note=note)
            record(f"{verb}: questions", speeds, "questions/s", note=note)
        found = [
            open_loop(
                server.port,
                [EMPTY_BATCH] * (10 * for_s),
                asked["page"],
                frames_a_second=10,
                questions_a_second=RATE,
                connections=16,
            )
            for _ in range(rounds)
        ]
        p99s_ms = [statistics.quantiles(each.question_ns, n=100)[98] / 1e6 for each in found]
        record(f"page at {RATE:,} questions/s: 99th percentile", p99s_ms, "ms", at_most=3)
