"""An access log through `online feed`: lines a second, on one core.

The log is made beforehand, in combined format. The feed is a process of its own, and so is the server; what counts is
the processor time of the whole feed, from its start to its end, and the time that it takes.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

from bench.accesslog import SEED, combined, requests
from bench.processes import serving
from bench.recording import Recorder

ROUNDS = 3


def write_log(path: Path, n_lines: int) -> None:
    """Write a log of the last ten minutes, about 230 bytes a line."""
    with path.open("w") as file:
        file.writelines(f"{combined(request)}\n" for request in requests(n_lines))


def test_feed(tmp_path: Path, record: Recorder, quick: bool) -> None:
    n_lines = 100_000 if quick else 1_000_000
    log = tmp_path / "access.log"
    write_log(log, n_lines)
    rates, rates_of_cpu = [], []
    for _ in range(ROUNDS):
        took_s, cpu_s = _feed(log, n_lines)
        rates.append(n_lines / took_s)
        rates_of_cpu.append(n_lines / cpu_s)
    size = log.stat().st_size // n_lines
    note = f"{n_lines:,} lines of {size} bytes, seed {SEED}; start and end of the process included"
    record("combined log through online feed", rates, "lines/s", at_least=None if quick else 800_000, note=note)
    record("the same by processor time", rates_of_cpu, "lines/s", note=note)


def _feed(log: Path, n_lines: int) -> tuple[float, float]:
    """Feed the log to a new server; return the time it takes, and the processor time."""
    with serving() as server:
        url = f"online://127.0.0.1:{server.port}"
        command = [sys.executable, "-m", "online", "feed", str(log), "--from-start", "--once", "--url", url]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.perf_counter()
        feed = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        took_s = time.perf_counter() - began_s
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert feed.returncode == 0
    assert f"{n_lines:,} lines" in feed.stderr
    assert " 0 not understood" in feed.stderr
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
