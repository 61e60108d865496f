"""What connections cost: a server that rests, ten thousand that say nothing, and a flood beside a timer.

Each server is a process of its own. What is compared is measured in turn, question by question.
"""

import contextlib
import json
import re
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from bench.processes import placed
from bench.workloads import FORUM

IDLE = 10_000
FLOODING = 8
TICKS = 500

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

#: A server that notes by how many ms a task beside it wakes up too late, once it has something to do.
TIMER = """
import json, sys, trio
from online.cli.serve import serve
from online.serve.config import Address, Config
from online.serve.server import Server

async def tick(server):
    await server.listening.wait()
    print(server.addresses[0].port, flush=True)
    while server.service.commands < 100:
        await trio.sleep(0.01)
    late_ms = []
    for _ in range(int(sys.argv[1])):
        due = trio.current_time() + 0.01
        await trio.sleep_until(due)
        late_ms.append(1000 * (trio.current_time() - due))
    print(json.dumps(late_ms), flush=True)
    server.stop()

trio.run(serve, Server(Config(listen=(Address("127.0.0.1", 0),), transport="reactor")), tick)
"""


@contextlib.contextmanager
def serving(*options: str) -> Iterator[tuple[int, int]]:
    """A server of its own on a free port: `(port, process id)`."""
    command = [sys.executable, "-m", "online", "serve", "--http", "", "--listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    listening = re.search(r"127\.0\.0\.1:(\d+)", next(line for line in process.stderr if " listens on " in line))
    assert listening is not None
    try:
        yield int(listening[1]), process.pid
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def connect(port: int) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def ask(connected: socket.socket, question: bytes = b"COUNT\r\n") -> float:
    """Ask and return how long the answer took, in seconds."""
    began = time.perf_counter()
    connected.sendall(question)
    answer = connected.recv(65_536)
    took_s = time.perf_counter() - began
    assert answer[:1] in b":+*", answer
    return took_s


@contextlib.contextmanager
def crowd(port: int, n: int) -> Iterator[None]:
    """So many connections that have asked once and say nothing more."""
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            ask(stack.enter_context(connect(port)))
        yield


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process hold a crowd; servers see to themselves."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 500, max(IDLE + 500, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def cpu_s(pid: int) -> float:
    """The processor time of a process with one thread, in seconds, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


@pytest.mark.parametrize("n_users", [0, 10_000])
def test_a_server_that_rests(record: Any, quick: bool, n_users: int) -> None:
    """With users whose time runs out evenly over the window."""
    rounds, round_s = (1, 5) if quick else (3, 20)
    shares = []
    with serving() as (port, pid):
        now_ms = time.time_ns() // 1_000_000
        hits = [(FORUM.user(n), FORUM.url(n % 100), now_ms - n * 1_790_000 // n_users) for n in range(n_users)]
        with connect(port) as sending:
            for begin in range(0, n_users, 1_000):
                sending.sendall(msgpack.packb([0, 1, "hits", hits[begin : begin + 1_000]]))
                assert msgpack.unpackb(sending.recv(1_000))[3] == [1_000, 0, 0, None]
        time.sleep(1)
        for _ in range(rounds):
            before_s, began = cpu_s(pid), time.perf_counter()
            time.sleep(round_s)
            shares.append(100 * (cpu_s(pid) - before_s) / (time.perf_counter() - began))
    record(f"a server that rests, with {n_users:,} users", shares, "% of a core", at_most=0.5)


def test_memory_of_a_connection_that_rests(record: Any, quick: bool, many_files: None) -> None:
    n = IDLE // 10 if quick else IDLE
    costs = []
    for _ in range(1 if quick else 3):
        with serving("--max-connections", str(IDLE + 100)) as (port, pid):
            with connect(port) as first:
                ask(first)
            before = resident_bytes(pid)
            with crowd(port, n):
                costs.append((resident_bytes(pid) - before) / n)
    record(f"memory of a connection that rests, of {n:,}", costs, "B", at_most=4_096)


def test_count_beside_connections_that_rest(record: Any, quick: bool, many_files: None) -> None:
    n = IDLE // 10 if quick else IDLE
    alone_us, beside_us = [], []
    with contextlib.ExitStack() as stack:
        empty, empty_pid = stack.enter_context(serving())
        crowded, crowded_pid = stack.enter_context(serving("--max-connections", str(IDLE + 100)))
        stack.enter_context(placed(empty_pid, crowded_pid))
        stack.enter_context(crowd(crowded, n))
        alone, beside = (stack.enter_context(connect(port)) for port in (empty, crowded))
        for _ in range(3 if quick else 7):
            took_s = [(ask(alone), ask(beside)) for _ in range(3_000)]
            alone_us.append(1e6 * p99([pair[0] for pair in took_s]))
            beside_us.append(1e6 * p99([pair[1] for pair in took_s]))
    record("COUNT, p99, nobody else connected", alone_us, "us")
    record(f"COUNT, p99, beside {n:,} connections that rest", beside_us, "us")
    ratios = [beside / alone for alone, beside in zip(alone_us, beside_us, strict=True)]
    record(f"COUNT, p99, beside {n:,} connections that rest, as a multiple", ratios, "x", at_most=1.2)


def flood(connected: socket.socket, nth: int, until: threading.Event) -> None:
    """Send batches of hits of now, as fast as they are taken."""
    hits = [(FORUM.user(n), FORUM.url(n % FORUM.n_urls)) for n in range(nth, FORUM.n_users, FLOODING)]
    frames = b"".join(msgpack.packb([2, "hits", hits[n : n + 500]]) for n in range(0, len(hits), 500))
    with contextlib.suppress(OSError):
        while not until.is_set():
            connected.sendall(frames)


def test_a_timer_beside_a_flood(record: Any, quick: bool) -> None:
    """Eight connections keep the reactor busy, while a Trio task of the server wants to wake up every 10 ms."""
    lateness_ms = []
    for _ in range(1 if quick else 5):
        command = [sys.executable, "-c", TIMER, str(TICKS)]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            assert server.stdout is not None
            port = int(server.stdout.readline())
            done = threading.Event()
            for nth in range(FLOODING):
                flooding = threading.Thread(target=flood, args=(stack.enter_context(connect(port)), nth, done))
                flooding.start()
                stack.callback(flooding.join)
            stack.callback(done.set)
            lateness_ms.append(p99(json.loads(server.stdout.readline())))
    record("a timer of 10 ms beside eight floods, p99 of its lateness", lateness_ms, "ms", at_most=10)
