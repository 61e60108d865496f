"""The same hits to this server and to what people would use instead, in one run: hits a second, server CPU a hit."""

import contextlib
import socket
import statistics
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench.peers.online_server import OnlineBatches, OnlineServer
from bench.peers.redis_recipe import RedisRecipe
from bench.workloads import FORUM, BenchHit

WORKLOAD = replace(FORUM, n_hits=400_000)
HALF = WORKLOAD.n_hits // 2
ROUNDS = 5


def cpu_s(pid: int) -> float:
    """The processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def send(port: int, data: bytes, reply_bytes: int) -> int:
    """Send a pipelined stream over one connection; return how many bytes of answers came."""
    received = 0
    with socket.create_connection(("127.0.0.1", port)) as sending:
        writer = threading.Thread(target=sending.sendall, args=(data,))
        writer.start()
        while received < reply_bytes:
            answers = sending.recv(1 << 20)
            assert answers
            received += len(answers)
        writer.join()
    return received


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.benchmark(group="the same hits to peers, pipelined over one connection")
@pytest.mark.parametrize("peer", [OnlineBatches, OnlineServer, RedisRecipe])
def test_hits(benchmark: Any, peer: Any) -> None:
    """The second half of the workload, to a server of its own each round that has had the first half.

    The same hits to the same server again would be repeats, which cost us next to nothing.
    """
    shift_ms = time.time_ns() // 1_000_000 - WORKLOAD.end_ms
    hits = [BenchHit(user, url, seen_ms + shift_ms) for user, url, seen_ms in WORKLOAD.hits()]
    reply_bytes = round(peer.reply_bytes * HALF)
    received, spent_s = [], []
    with contextlib.ExitStack() as servers:

        def setup() -> tuple[tuple[int, bytes, int], dict[str, int]]:
            servers.close()
            server = servers.enter_context(peer())
            send(server.port, server.hits(hits[:HALF]), reply_bytes)
            data = server.hits(hits[HALF:])
            before_s = cpu_s(server.pid)
            servers.callback(lambda: spent_s.append(cpu_s(server.pid) - before_s))
            return (server.port, data, reply_bytes), {}

        benchmark.pedantic(lambda *args: received.append(send(*args)), setup=setup, rounds=ROUNDS)
    assert received == [reply_bytes] * ROUNDS
    benchmark.extra_info.update(
        workload=WORKLOAD.id,
        hits_a_second=round(HALF / benchmark.stats["median"]),
        server_cpu_us_a_hit=round(1e6 * statistics.median(spent_s) / HALF, 3),
    )
