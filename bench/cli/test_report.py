"""`online report` of a combined log, in turns with GoAccess where it is installed.

Both read the same log in a process of their own, from its start to its end, and write all their figures as JSON. What
counts is the processor time, with that of all their processes.
"""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench.accesslog import SEED
from bench.cli.test_feed import write_log
from bench.recording import Recorder

ROUNDS = 5
GOACCESS = shutil.which("goaccess")


def cpu_s_of(command: list[str]) -> float:
    """Run a command; return its processor time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.skipif(GOACCESS is None, reason="goaccess is not installed")
def test_report_against_goaccess(tmp_path: Path, record: Recorder, quick: bool) -> None:
    n_lines = 100_000 if quick else 1_000_000
    log = tmp_path / "access.log"
    write_log(log, n_lines)
    ours = [sys.executable, "-m", "online", "report", str(log), "--json"]
    theirs = [str(GOACCESS), str(log), "--log-format=COMBINED", "--no-progress", "-o", str(tmp_path / "report.json")]
    rates, ratios = [], []
    for _ in range(1 if quick else ROUNDS):
        other_s = cpu_s_of(theirs)
        cpu_s = cpu_s_of(ours)
        rates.append(n_lines / cpu_s)
        ratios.append(other_s / cpu_s)
    note = f"{n_lines:,} lines, seed {SEED}; by processor time, start and end of the process included"
    record("combined log through online report", rates, "lines/s", note=note)
    record("the same, to GoAccess", ratios, "x", at_least=None if quick else 5, note=note)
