"""Batches over one connection while another asks: hits a second, and how long COUNT and PAGE take meanwhile.

The server is a process of its own. The frames are made beforehand, so that sending them costs the generator little;
it shares the other core with the one who asks.
"""

import contextlib
import itertools
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from bench.workloads import FORUM, Workload

WORKLOAD = Workload("forum", FORUM.n_users, FORUM.n_urls, n_hits=1_500_000)
PAUSE_S = 0.002


@pytest.fixture(params=["reactor", "streams"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A server of its own on a free port: `(port, process id)`."""
    command = [sys.executable, "-m", "online", "serve", "--listen", "127.0.0.1:0", "--transport", request.param]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    listening = re.search(r"127\.0\.0\.1:(\d+)", next(line for line in process.stderr if " listens on " in line))
    assert listening is not None
    yield int(listening[1]), process.pid
    process.terminate()
    process.wait()
    process.stderr.close()


def cpu_s(pid: int) -> float:
    """The processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def ask(port: int, until: threading.Event, latencies_s: list[float]) -> None:
    """Ask COUNT and PAGE in turn over one connection, a few hundred times a second."""
    questions = itertools.cycle([b"COUNT\r\n", b"PAGE %b 30\r\n" % FORUM.url(0)])
    with socket.create_connection(("127.0.0.1", port)) as asking:
        asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not until.is_set():
            started = time.perf_counter()
            asking.sendall(next(questions))
            assert not asking.recv(65536).startswith(b"-")
            latencies_s.append(time.perf_counter() - started)
            time.sleep(PAUSE_S)


def send(port: int, frames: bytes, n_frames: int) -> list[Any]:
    """Send all frames over one connection and return the answers."""
    unpacker = msgpack.Unpacker()
    answers: list[Any] = []
    with socket.create_connection(("127.0.0.1", port)) as sending:
        writer = threading.Thread(target=sending.sendall, args=(frames,))
        writer.start()
        while len(answers) < n_frames:
            unpacker.feed(sending.recv(1 << 20))
            answers += unpacker
        writer.join()
    return answers


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.benchmark(group="server, batches over one connection while another asks")
def test_batches_while_asking(benchmark: Any, server: tuple[int, int]) -> None:
    port, pid = server
    shift_ms = time.time_ns() // 1_000_000 - WORKLOAD.end_ms
    frames = [_shifted(frame, shift_ms) for frame in WORKLOAD.frames(wants_answers=True)]
    latencies_s: list[float] = []
    with contextlib.ExitStack() as stack:
        stop = threading.Event()
        asker = threading.Thread(target=ask, args=(port, stop, latencies_s))
        asker.start()
        stack.callback(asker.join)
        stack.callback(stop.set)
        before_s = cpu_s(pid)
        answers = benchmark.pedantic(send, args=(port, b"".join(frames), len(frames)), rounds=1)
        spent_s = cpu_s(pid) - before_s
    assert sum(answer[3][0] for answer in answers) == WORKLOAD.n_hits
    percentiles = statistics.quantiles(latencies_s, n=100)
    benchmark.extra_info.update(
        workload=WORKLOAD.id,
        hits_a_second=round(WORKLOAD.n_hits / benchmark.stats["median"]),
        server_cpu_us_a_hit=round(1e6 * spent_s / WORKLOAD.n_hits, 3),
        questions=len(latencies_s),
        p50_ms=round(1000 * percentiles[49], 2),
        p99_ms=round(1000 * percentiles[98], 2),
        longest_ms=round(1000 * max(latencies_s), 2),
    )


def _shifted(frame: bytes, shift_ms: int) -> bytes:
    """A frame with its hits moved to the present."""
    kind, nth, method, hits = msgpack.unpackb(frame)
    moved = [(user, url, seen_ms + shift_ms) for user, url, seen_ms in hits]
    return bytes(msgpack.packb([kind, nth, method, moved]))
