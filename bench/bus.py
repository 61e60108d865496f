"""The bus, measured on this machine: `python -m bench.bus [HITS [URL]]`. Without a URL it needs redis-server.

A URL names a bus that runs, of any kind that servers take (`kafka://`, `redis+sentinel://` ...). Each measurement takes
a partition of its own there, from PARTITION on, with whatever is in it. So use a bus where nobody else does, and run it
once: what was published is left behind.

    publish   hits that wait, published by one connection as a server does it, in entries of 50 and of 500 hits
    replay    a window of HITS hits, in such entries, read and applied by a server that starts; 9,000,000 are 30 minutes
              at 5,000 hits/s
    visible   from a hit on one replica to its being seen on another, on an idle site and at LOAD hits/s
    taken     hits that a server takes by batches in a second, and in a second of its processor, with a bus and without

Cores may be shared with others, and redis-server shares them with the servers: ratios within one run are worth more
than the figures. Prints one line each.
"""

import logging
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from typing import Any, NamedTuple, TypeVar

import msgpack
import redis
import trio
from bench.peers.serving import free_port
from bench.processes import cpu_ns

from online.bus import engines
from online.bus.entries import BEGINNING, Bus
from online.bus.publisher import MOST_PIECES
from online.bus.redisbus import STREAM
from online.cli.serve import assemble
from online.core.journal import site
from online.core.sites import Sites
from online.core.wire import apply_hits
from online.limits import Limits
from online.serve.clock import wall_ms
from online.serve.config import Address, Config

HITS = 1_000_000
USERS = 200_000
RATE = 5_000
BATCHES = 3_000
LOAD = 20_000
PARTITION = 1_000

_partitions = count(PARTITION)

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Where:
    """A bus, and a partition that nothing was published in."""

    url: str
    partition: int = 0
    is_ours: bool = True  #: a redis-server of this process

    def do(self, work: Callable[[Bus], Awaitable[_Result]]) -> _Result:
        """Do some work with a connection."""
        return trio.run(lambda: engines.connected(self.url, work, partition=self.partition))

    def memory(self) -> int:
        """The bytes of the stream, if somebody can be asked."""
        return int(redis.Redis.from_url(self.url).memory_usage(STREAM) or 0) if self.is_ours else 0


@contextmanager
def on(url: str) -> Iterator[Where]:
    """The next partition of a bus that runs already; without its url, a new redis-server."""
    if url:
        yield Where(url, next(_partitions), is_ours=False)
    else:
        with broker() as own:
            yield Where(own)


@contextmanager
def broker() -> Iterator[str]:
    """A redis-server that keeps nothing on disk."""
    port = free_port()
    directory = tempfile.mkdtemp()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    try:
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        client.close()
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def entries(n_hits: int, hits_each: int) -> list[bytes]:
    """Frames of `n_hits` hits in order of time, RATE a second, the last of them now; `hits_each` in an entry."""
    leading, begin_ms = site(b"default"), wall_ms() - 1000 * n_hits // RATE
    made = []
    for begin in range(0, n_hits, hits_each):
        hits = [
            (
                b"user%d" % (n * 7919 % USERS),
                b"/forum/thread/%d" % (n % 5000),
                begin_ms + 1000 * n // RATE,
                "member",
            )
            for n in range(begin, begin + hits_each)
        ]
        made.append(leading + msgpack.packb([2, "hits", hits]))
    return made


async def publish(bus: Bus, made: list[bytes]) -> float:
    began_s = time.perf_counter()
    for begin in range(0, len(made), MOST_PIECES):
        await bus.publish(b"bench", *made[begin : begin + MOST_PIECES])
    return time.perf_counter() - began_s


async def read_all(bus: Bus, n: int) -> float:
    began_s = time.perf_counter()
    place = BEGINNING
    while n > 0:
        found = await bus.read(place, 1_000, wait_ms=1_000)
        n -= len(found)
        place = found[-1].place if found else place
    return time.perf_counter() - began_s


def applied_alone_s(made: list[bytes]) -> float:
    """How long an index takes for the same hits when nobody has to read them."""
    index = Sites(Limits()).open(b"default")
    skipped = len(site(b"default"))
    began_s = time.perf_counter()
    for frames in made:
        apply_hits(index, frames[skipped:], now_ms=wall_ms())
    return time.perf_counter() - began_s


async def ready_s(where: Where) -> float:
    """How long a server takes from its start until it answers, with a bus and less what it takes without one."""

    async def start(**bus: Any) -> float:
        server = assemble(Config(listen=(Address("127.0.0.1", 0),), http=(), **bus))
        began_s = time.perf_counter()
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            while server.service.loading is not None:
                await trio.sleep(0.005)
            took_s = time.perf_counter() - began_s
            server.stop()
        return took_s

    return await start(bus=where.url, partition=where.partition) - await start()


@contextmanager
def load(port: int, rate: int) -> Iterator[None]:
    """A process that sends `rate` hits/s in batches of 10 ms each; without a rate, none."""
    if not rate:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _LOADING, str(port), str(rate // 100)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


#: Sends known users, so that the number of users tells when a new one is seen.
_LOADING = """
import sys, time
from online_client import Client
client, n = Client(f"online://127.0.0.1:{sys.argv[1]}"), int(sys.argv[2])
due_s = time.monotonic()
while True:
    client.hits([(f"known{i}", f"/{i % 50}") for i in range(n)])
    due_s = max(due_s + 0.01, time.monotonic() - 0.1)
    time.sleep(max(0, due_s - time.monotonic()))
"""


async def visible_ms(where: Where, rate: int, n: int = 400) -> list[float]:
    """Milliseconds from a hit on one replica until it is in the index of the other; both share one process."""
    config = Config(listen=(Address("127.0.0.1", 0),), http=(), bus=where.url, partition=where.partition)
    one, two = (assemble(config) for _ in range(2))
    times = []
    async with trio.open_nursery() as nursery:
        for server in (one, two):
            await nursery.start(server.run)
        while one.service.loading is not None or two.service.loading is not None:
            await trio.sleep(0.01)
        index = two.sites[b"default"]
        with load(one.addresses[0].port, rate):
            while rate and index.statistics().accepted < rate:  # for a second
                await trio.sleep(0.01)
            stream = await trio.open_tcp_stream("127.0.0.1", one.addresses[0].port)
            for number in range(n):
                users = index.statistics().users
                began_s = time.perf_counter()
                await stream.send_all(b"HIT new%d /\r\n" % number)
                while index.statistics().users == users:
                    await trio.sleep(0.0005)
                times.append(1000 * (time.perf_counter() - began_s))
            await stream.aclose()
        one.stop()
        two.stop()
    return sorted(times)


class Taken(NamedTuple):
    """What batches of hits from one connection took, in seconds."""

    answered_s: float
    on_the_bus_s: float  #: until it has them, and the server has read them there
    cpu_s: float  #: of the server, until then


def taken(where: Where | None = None) -> Taken:
    """Let a server take batches of hits, each of other users than those before it: none of them is a repeat."""
    port = free_port()
    words = [sys.executable, "-m", "online", "serve", "--listen", f"127.0.0.1:{port}"]
    words += ["--bus", where.url, "--partition", str(where.partition)] if where else []
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    hits = [(b"user%d" % (n * 7919 % USERS), b"/forum/thread/%d" % (n % 5000)) for n in range(USERS)]
    packed = [msgpack.packb([0, 1, "hits", hits[n : n + 1_000]]) for n in range(0, USERS, 1_000)]
    batches = list(islice(cycle(packed), BATCHES))
    unpacker = msgpack.Unpacker()
    try:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port))
                connection.sendall(msgpack.packb([0, 0, "count", []]))
                if b"LOADING" not in connection.recv(4096):
                    break
            except OSError:
                time.sleep(0.02)
        cpu_before_ns, began_s = cpu_ns(process.pid), time.perf_counter()
        answered = sent = 0
        while answered < len(batches):
            while sent < len(batches) and sent - answered < 8:
                connection.sendall(batches[sent])
                sent += 1
            unpacker.feed(connection.recv(65_536))
            answered += sum(1 for _ in unpacker)
        answered_s = time.perf_counter() - began_s
        is_on_the_bus = where is None
        while not is_on_the_bus:
            connection.sendall(msgpack.packb([0, 0, "info", ["bus"]]))
            told = connection.recv(65_536)
            is_on_the_bus = b"waiting_bytes:0" in told and b"lag_entries:0" in told
        on_the_bus_s = time.perf_counter() - began_s
        return Taken(answered_s, on_the_bus_s, (cpu_ns(process.pid) - cpu_before_ns) / 1e9)
    finally:
        connection.close()
        process.kill()
        process.wait()


def main() -> None:
    logging.disable(logging.WARNING)
    n_hits = int(sys.argv[1]) if len(sys.argv) > 1 else HITS
    url = sys.argv[2] if len(sys.argv) > 2 else ""
    print(f"{n_hits:,} hits, {os.cpu_count()} cores, {engines.shown(url) or 'a redis-server'}")
    for hits_each in (50, 500):
        made = entries(n_hits, hits_each)
        with on(url) as where:
            n_bytes = sum(map(len, made))
            publishing_s = where.do(partial(publish, made=made))
            memory = where.memory()
            reading_s = where.do(partial(read_all, n=len(made)))
            starting_s = trio.run(ready_s, where)
            alone_s = applied_alone_s(made)
        print(
            f"entries of {hits_each} hits: publish {n_hits / publishing_s / 1e6:.2f} M hits/s, read "
            f"{n_hits / reading_s / 1e6:.2f} M hits/s, start {n_hits / starting_s / 1e6:.2f} M hits/s "
            f"({starting_s:.2f} s, {starting_s / alone_s:.1f} times what the index alone takes), "
            f"{n_bytes / n_hits:.0f} bytes/hit sent" + f", {memory / n_hits:.0f} bytes/hit in Redis" * bool(memory)
        )
    for n_a_second in (0, LOAD):
        with on(url) as where:
            times = trio.run(visible_ms, where, n_a_second)
        print(
            f"visible on another replica, at {n_a_second:,} hits/s: median {statistics.median(times):.1f} ms, "
            f"p99 {times[int(len(times) * 0.99)]:.1f} ms"
        )
    without, with_bus = [], []
    for _ in range(5):
        without.append(taken())
        with on(url) as where:
            with_bus.append(taken(where))
    alone, beside = (Taken(*map(statistics.median, zip(*each, strict=True))) for each in (without, with_bus))
    for what, took_s in (("answered", beside.answered_s), ("and on the bus", beside.on_the_bus_s)):
        rate = BATCHES / 1000 / took_s
        print(f"hits {what}: {alone.answered_s / took_s:.2f} of those without a bus ({rate:.2f} M hits/s)")
    print(f"hits of a second of the server's processor: {alone.cpu_s / beside.cpu_s:.2f} of those without a bus")


if __name__ == "__main__":
    main()
