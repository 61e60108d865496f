"""How long the COUNT of one client waits while others ask for much, or the server has much to do by itself.

A client asks COUNT about a thousand times a second; what disturbs it comes from a process of its own. Beside what the
client saw stand the longest turn, step and wait that the server has counted itself (INFO latency), and how long the
server was ready to run and the kernel ran others (the second figure of /proc/PID/schedstat): a wait on the client's
side without a long turn, and with much of that, is the kernel's. Both are by the clock.
"""

import multiprocessing
import os
import re
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.native.load import closed_loop
from bench.processes import Server, serving
from bench.recording import Recorder

from online.terms import WINDOW_MIN_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PAGES = 10_000

#: ONLINE_BENCH_USERS chooses another number.
N_USERS = int(os.environ.get("ONLINE_BENCH_USERS", "1000000"))
FILLED_AT_ONCE = 100_000
COUNT = b"COUNT\r\n"


def ask(port: int, command: bytes, n: int = 1) -> None:
    """Send a command so many times at once, and read until the end."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(command * n)
        line.shutdown(socket.SHUT_WR)
        while line.recv(1 << 20):
            pass


def nothing(port: int) -> None:
    time.sleep(0.1)


def top(port: int) -> None:
    ask(port, b"TOP 1000\r\n")


def section(port: int) -> None:
    for n in range(10):
        ask(port, b"SECTION /forum/%d\r\n" % n)


def closes(port: int) -> None:
    """9,900 connections that end at once."""
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(9_900)]
    time.sleep(0.5)
    for line in lines:
        line.close()


def client_list(port: int) -> None:
    ask(port, b"CLIENT LIST\r\nINFO\r\nSITES\r\n")


def transaction(port: int) -> None:
    ask(port, b"MULTI\r\n" + b"PAGE /forum/1 1000\r\n" * 1_000 + b"EXEC\r\n")


def hits(port: int) -> None:
    """All users hit again, in batches with pauses: about 200,000 hits a second."""
    frames = [b"".join(b"HIT user-%d /forum/%d\r\n" % (n, n % PAGES) for n in range(b, b + 500)) for b in
              range(0, 100_000, 500)]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port)) as line:
        for frame in frames:
            line.sendall(frame)
            got = 0
            while got < 5 * 500:
                got += len(line.recv(1 << 16))
            time.sleep(0.001)


def connects(port: int) -> None:
    """About 1,000 a second."""
    for _ in range(10):
        socket.create_connection(("127.0.0.1", port)).close()
    time.sleep(0.01)


def pages(port: int) -> None:
    """200 clients that pipeline PAGE 1000 and read all of it."""
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for line in lines:
        line.sendall(b"PAGE /forum/1 1000\r\n" * 10)
        line.shutdown(socket.SHUT_WR)
    for line in lines:
        while line.recv(1 << 20):
            pass
        line.close()


DISTURBANCES = {
    "nothing": nothing,
    "TOP": top,
    "SECTION": section,
    "CLIENT LIST, INFO, SITES": client_list,
    "an EXEC of 1,000 PAGE": transaction,
    "9,900 closes at once": closes,
    "1,000 connects a second": connects,
    "pipelined PAGE": pages,
}

#: Times that the server counts -> what they are called.
TIMES = {
    "turn": "turn of the server",
    "turn_cpu": "turn of the server, by the processor's clock",
    "step": "step of the server",
    "wait": "wait of the server",
}


def disturb(what: Callable[[int], None], port: int) -> None:
    """Do it over and over."""
    while True:
        what(port)


def fill(server: Server, n_users: int, seen_ms: bytes = b"") -> None:
    """Let so many users be on PAGES pages, now or since then."""
    for first in range(0, n_users, FILLED_AT_ONCE):
        each = range(first, min(first + FILLED_AT_ONCE, n_users))
        told = [b"HIT user-%d /forum/%d%b\r\n" % (n, n % PAGES, seen_ms) for n in each]
        frames = [b"".join(told[begin : begin + 500]) for begin in range(0, len(told), 500)]
        closed_loop(server.port, frames, "same", expected=b"+OK\r\n" * 500)


def count_for(port: int, for_s: float) -> list[int]:
    """Ask COUNT about a thousand times a second; return how long each answer took, in ns."""
    took_ns = []
    with socket.create_connection(("127.0.0.1", port)) as line:
        until_ns = time.perf_counter_ns() + int(for_s * 1e9)
        while (began_ns := time.perf_counter_ns()) < until_ns:
            line.sendall(COUNT)
            line.recv(64)
            took_ns.append(time.perf_counter_ns() - began_ns)
            time.sleep(0.001)
    return took_ns


def told_by(port: int, section: bytes) -> dict[str, str]:
    """Return a section of INFO."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"INFO " + section + b"\r\n")
        told = line.recv(1 << 16).decode()
    return dict(re.findall(r"^(\w+):(.*?)\r$", told, re.MULTILINE))


def latency(port: int) -> dict[str, int]:
    """Return the longest times that the server has counted, in microseconds."""
    found = ((re.fullmatch(r"longest_(\w+)_us", name), us) for name, us in told_by(port, b"latency").items())
    return {match[1]: int(us) for match, us in found if match}


def kept_waiting_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])


def stalls(server: Server, what: Callable[[int], None], for_s: float) -> tuple[list[int], dict[str, int], int]:
    """Return how long each COUNT took, the server's longest times, and how long the kernel kept it waiting."""
    ask(server.port, b"LATENCY RESET\r\n")
    before_ns = kept_waiting_ns(server.pid)
    other = multiprocessing.get_context("fork").Process(target=disturb, args=(what, server.port), daemon=True)
    other.start()
    try:
        took_ns = count_for(server.port, for_s)
    finally:
        other.kill()
        other.join()
    return took_ns, latency(server.port), kept_waiting_ns(server.pid) - before_ns


class Stalls:
    """What is recorded of each disturbance."""

    def __init__(self, record: Recorder, n_users: int, for_s: float) -> None:
        self._record = record
        self._for_s = for_s
        self._note = f"{n_users:,} users, {PAGES:,} pages"

    def during(self, server: Server, what: Callable[[int], None], name: str) -> None:
        took_ns, longest_us, kept_ns = stalls(server, what, self._for_s)
        percentiles = statistics.quantiles(took_ns, n=10_000, method="inclusive")
        for place, at in (("median", 5_000), ("99th", 9_900), ("99.9th", 9_990), ("99.99th", 9_999)):
            self._record(f"COUNT during {name}: {place}", [percentiles[at - 1] / 1e6], "ms", note=self._note)
        self._record(f"COUNT during {name}: longest", [max(took_ns) / 1e6], "ms", note=self._note)
        for time_of, shown in TIMES.items():
            told = f"{name}: longest {shown}"
            self._record(told, [longest_us[time_of] / 1e3], "ms", note=self._note)
        kept = f"in {self._for_s} s"
        self._record(f"{name}: time that the kernel ran others", [kept_ns / 1e6], "ms", note=kept)


def sizes(quick: bool) -> tuple[int, int]:
    """Return users, and seconds of each disturbance."""
    return (100_000, 1) if quick else (N_USERS, 10)


def test_stalls(record: Recorder, quick: bool) -> None:
    n_users, for_s = sizes(quick)
    stalls_of = Stalls(record, n_users, for_s)
    with serving("--window", str(86_400)) as server:
        fill(server, n_users)
        for name, what in DISTURBANCES.items():
            stalls_of.during(server, what, name)


def test_stalls_of_snapshots(record: Recorder, quick: bool, tmp_path: Path) -> None:
    n_users, for_s = sizes(quick)
    with serving("--window", str(86_400), "--state", str(tmp_path / "state")) as server:
        fill(server, n_users)
        Stalls(record, n_users, for_s).during(server, hits, "journal and snapshots")
        told = told_by(server.port, b"persistence")
        record("snapshots: users in the last", [int(told["last_snapshot_users"])], "users", note=f"of {n_users:,}")


@pytest.mark.parametrize("is_noted", [False, True], ids=["forgotten", "last seen"])
def test_stalls_of_expiry(record: Recorder, quick: bool, tmp_path: Path, is_noted: bool) -> None:
    n_users, for_s = sizes(quick)
    n_users = min(n_users, 1_000_000)
    noting = ("--state", str(tmp_path / "state"), "--last-seen", "90") if is_noted else ()
    name = "expiry in one second" + (", all noted as last seen" if is_noted else "")
    with serving("--window", str(WINDOW_MIN_S), *noting) as server:
        seen_ms = (time.time_ns() // 1_000_000_000 + 5 - WINDOW_MIN_S) * 1000
        fill(server, n_users, b" %d" % seen_ms)
        Stalls(record, n_users, for_s).during(server, nothing, name)
        told = told_by(server.port, b"hits")
        record(f"{name}: users", [int(told["expired"])], "users", note=f"of {n_users:,}")
