"""How long the COUNT of one client waits while others ask for much, or the server has much to do by itself.

A client asks COUNT about a thousand times a second; what disturbs it comes from a process of its own. Beside what the
client saw stand the longest turn, step and wait that the server has counted itself (INFO latency), and how long the
server was ready to run and the kernel ran others (the second figure of /proc/PID/schedstat): a wait on the client's
side without a long turn, and with much of that, is the kernel's. Both are by the clock.
"""

import multiprocessing
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

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PAGES = 10_000
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
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(900)]
    for line in lines:
        line.close()


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


DISTURBANCES = [nothing, top, section, closes, connects, pages]


def disturb(what: Callable[[int], None], port: int) -> None:
    """Do it over and over."""
    while True:
        what(port)


def fill(server: Server, n_users: int) -> None:
    """Let so many users be on PAGES pages."""
    hits = [b"HIT user-%d /forum/%d\r\n" % (n, n % PAGES) for n in range(n_users)]
    frames = [b"".join(hits[begin : begin + 500]) for begin in range(0, n_users, 500)]
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


def latency(port: int) -> dict[str, int]:
    """Return the longest times that the server has counted, in microseconds."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"INFO latency\r\n")
        told = line.recv(1 << 16).decode()
    return {name: int(us) for name, us in re.findall(r"longest_(\w+)_us:(\d+)", told)}


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


def test_stalls(record: Recorder, quick: bool) -> None:
    n_users, for_s = (100_000, 1) if quick else (1_000_000, 10)
    with serving("--window", str(86_400)) as server:
        fill(server, n_users)
        for what in DISTURBANCES:
            took_ns, longest_us, kept_ns = stalls(server, what, for_s)
            percentiles = statistics.quantiles(took_ns, n=10_000, method="inclusive")
            note = f"{n_users:,} users, {PAGES:,} pages"
            for name, at in (("median", 5_000), ("99th", 9_900), ("99.9th", 9_990), ("99.99th", 9_999)):
                record(f"COUNT during {what.__name__}: {name}", [percentiles[at - 1] / 1e6], "ms", note=note)
            record(f"COUNT during {what.__name__}: longest", [max(took_ns) / 1e6], "ms", note=note)
            for name in ("turn", "step", "wait"):
                record(f"{what.__name__}: longest {name} of the server", [longest_us[name] / 1e3], "ms", note=note)
            record(f"{what.__name__}: time that the kernel ran others", [kept_ns / 1e6], "ms", note=f"in {for_s} s")
