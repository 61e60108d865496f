"""What subscribers cost: memory and processor time of each, and how long after a hit they are told.

Subscribers of both kinds (RESP and server-sent events) share pages that are hit at a steady rate, so every state
changes each second. Some of the hits are probes: it is noted how long they take to the first event that shows them.
Half a `push_interval` (1 s) in the mean, and all of it at most, is due to the interval itself. Meanwhile a process of
its own asks COUNT and PAGE, about a thousand times a second.

There are 10,000 subscribers of each kind where a process may open 21,000 files, in the server and in the client. Where
it may open 20,000, as on the machine of the results, there are 9,000.

Last, pub/sub of Redis tells as many subscribers of RESP the same bytes as often, when somebody publishes them.
"""

import contextlib
import multiprocessing
import re
import resource
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgpack
import pytest
from bench.peers.online_server import OnlineServer
from bench.peers.redis_recipe import RedisRecipe
from bench.peers.serving import Speaking
from bench.processes import HttpServer, cpu_ns, resident_bytes, serving_http
from bench.recording import Recorder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

FRAME_HITS = 100

MOST = 10_000 if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 21_000 else 9_000
FEW = 1_000


class Crowd(NamedTuple):
    """So many subscribers of each kind, on so many pages, for so long."""

    n: int
    n_pages: int
    hits_a_second: int
    for_s: int


CROWDS = {
    "many pages": (Crowd(MOST, 1_000, 20_000, 20), Crowd(FEW, 100, 2_000, 6)),
    "one page": (Crowd(MOST, 1, 20_000, 20), Crowd(FEW, 1, 2_000, 6)),
}


def subscribe_resp(served: HttpServer, page: str) -> tuple[socket.socket, bytes]:
    connected = socket.create_connection(("127.0.0.1", served.port))
    connected.sendall(f"SUBSCRIBE page:{page}\r\n".encode())
    return connected, b'"at_ms"'


def subscribe_events(served: HttpServer, page: str) -> tuple[socket.socket, bytes]:
    connected = socket.create_connection(("127.0.0.1", served.http_port))
    connected.sendall(f"GET /api/v1/events?channel=page:{page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connected, b'"at_ms"'


KINDS = {"RESP": subscribe_resp, "SSE": subscribe_events}


def wait_for_states(sockets: list[tuple[socket.socket, bytes]]) -> None:
    """Wait until everybody was told the first state."""
    for connected, end in sockets:
        data = b""
        while end not in data:
            data += connected.recv(65_536)
        connected.setblocking(False)


class Hits(threading.Thread):
    """Hits pages at a steady rate, each user on a page of its own; notes when each probe was sent."""

    def __init__(self, served: HttpServer, crowd: Crowd) -> None:
        super().__init__(daemon=True)
        self.probes: dict[bytes, float] = {}
        self.is_over = False
        self._crowd = crowd
        self._socket = socket.create_connection(("127.0.0.1", served.port))

    def run(self) -> None:
        n, began = 0, time.perf_counter()
        while not self.is_over:
            hits = []
            for _ in range(FRAME_HITS):
                hits.append((f"u{n % 20_000}", f"/p/{n % self._crowd.n_pages}"))
                n += 1
            probe = f"probe-{n}"
            hits.append((probe, f"/p/{n % self._crowd.n_pages}"))
            self.probes[probe.encode()] = time.perf_counter()
            self._socket.sendall(msgpack.packb([2, "hits", hits]))
            time.sleep(max(0.0, began + n / self._crowd.hits_a_second - time.perf_counter()))
        self._socket.close()


def listen(
    sockets: list[tuple[socket.socket, bytes]], probes: dict[bytes, float], for_s: float
) -> tuple[int, list[float]]:
    """Read what is told; return how many states that were, and after how many ms each probe was first seen."""
    selector = selectors.DefaultSelector()
    for connected, _ in sockets:
        selector.register(connected, selectors.EVENT_READ)
    n_events, delays, seen = 0, [], set()
    until = time.perf_counter() + for_s
    while time.perf_counter() < until:
        for key, _ in selector.select(0.1):
            data = key.fileobj.recv(262_144)  # type: ignore[union-attr]
            now = time.perf_counter()
            n_events += data.count(b'"at_ms"')
            for probe in re.findall(rb'"(probe-\d+)"', data):
                if probe not in seen:
                    seen.add(probe)
                    delays.append(1000 * (now - probes[probe]))
    selector.close()
    return n_events, delays


def questions_ms(port: int, for_s: float) -> list[float]:
    """Ask COUNT and PAGE in turn, about a thousand a second; return how long each answer took, in ms."""
    took_ms: list[float] = []
    packer = msgpack.Packer()
    questions = [packer.pack([0, 1, "COUNT", []]), packer.pack([0, 1, "PAGE", ["/p/0"]])]
    with socket.create_connection(("127.0.0.1", port)) as line:
        until = time.perf_counter() + for_s
        while (began := time.perf_counter()) < until:
            line.sendall(questions[len(took_ms) % 2])
            unpacker = msgpack.Unpacker(raw=True)
            while not list(unpacker):
                unpacker.feed(line.recv(65_536))
            took_ms.append(1000 * (time.perf_counter() - began))
            time.sleep(0.001)
    return took_ms


def longest_turn_ms(port: int) -> float:
    """Return the longest turn since the last question, by the processor's clock: what others took is not in it."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"INFO latency\r\nLATENCY RESET\r\nQUIT\r\n")
        told = b"".join(iter(lambda: line.recv(65_536), b""))
    found = re.search(rb"longest_turn_cpu_us:(\d+)", told)
    assert found is not None
    return int(found[1]) / 1000


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


@pytest.mark.parametrize("name", CROWDS)
def test_subscribers(record: Recorder, quick: bool, name: str) -> None:
    crowd = CROWDS[name][quick]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * crowd.n), hard))
    spawning = multiprocessing.get_context("spawn")
    with serving_http(2 * crowd.n + 100) as served, spawning.Pool(1) as pool, contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        everybody = []
        for kind, subscribe in KINDS.items():
            before = resident_bytes(served.pid)
            sockets = [subscribe(served, f"/p/{n % crowd.n_pages}") for n in range(crowd.n)]
            for connected, _ in sockets:
                stack.callback(connected.close)
            wait_for_states(sockets)
            each = (resident_bytes(served.pid) - before) / crowd.n
            record(f"memory of a subscriber, {kind}, of {crowd.n:,} on {name}", [each], "bytes", at_most=4096)
            everybody += sockets
        hits = Hits(served, crowd)
        used_ns = cpu_ns(served.pid)
        longest_turn_ms(served.port)
        hits.start()
        asking = pool.apply_async(questions_ms, (served.port, crowd.for_s))
        n_events, delays = listen(everybody, hits.probes, crowd.for_s)
        took_ms = asking.get()
        turn_ms = longest_turn_ms(served.port)
        hits.is_over = True
        hits.join()
        used_ns = cpu_ns(served.pid) - used_ns
    what = f"{2 * crowd.n:,} subscribers, {name} ({crowd.n_pages:,}), {crowd.hits_a_second:,} hits/s"
    assert n_events > crowd.n
    record(f"{what}: states", [n_events / crowd.for_s], "states/s")
    record(f"{what}: CPU a state, with the hits", [used_ns / n_events / 1000], "us CPU/state")
    record(f"{what}: 99th percentile of COUNT and PAGE meanwhile", [percentile(took_ms, 0.99)], "ms", at_most=2)
    record(f"{what}: longest turn, by the processor's clock", [turn_ms], "ms")
    record(f"{what}: 99th percentile from hit to event", [percentile(delays, 0.99)], "ms", at_most=1050)



#: A page that is hit by so many users each second.
PAGE, HERE = "/p/0", 30


def hit(server: Speaking, nth: int) -> None:
    with server.client.pipeline(transaction=False) as pipeline:
        for user in range(HERE):
            pipeline.execute_command("HIT", f"u{nth % 2}-{user}", PAGE)
        pipeline.execute()


def state_of(server: OnlineServer) -> bytes:
    """Return what subscribers of the page are told when it is full."""
    hit(server, 0)
    with server.client.pubsub(ignore_subscribe_messages=True) as told:
        told.subscribe(f"page:{PAGE}")
        while (message := told.get_message(timeout=5)) is None:
            pass
    state: bytes = message["data"]
    return state


def us_cpu_a_state(server: Speaking, n: int, for_s: int, tell: Callable[[int], object]) -> float:
    """Let `tell` give the subscribers of the page a state each second; return the processor time of one, in us."""
    with contextlib.ExitStack() as stack:
        everybody = []
        for _ in range(n):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            line.sendall(f"SUBSCRIBE page:{PAGE}\r\n".encode())
            line.setblocking(False)
            everybody.append((line, b""))
        listen(everybody, {}, 2)  # to what comes at once
        used_ns = server.cpu_ns()

        def tell_each_second() -> None:
            for nth in range(for_s):
                tell(nth)
                time.sleep(1)

        telling = threading.Thread(target=tell_each_second)
        telling.start()
        n_states, _ = listen(everybody, {}, for_s + 1)
        telling.join()
        assert 0.5 * n * for_s < n_states <= n * (for_s + 1)
        return (server.cpu_ns() - used_ns) / n_states / 1000


def test_beside_pub_sub_of_redis(record: Recorder, quick: bool) -> None:
    n, for_s, rounds = (FEW, 2, 1) if quick else (9_000, 8, 3)
    ours, theirs = [], []
    with OnlineServer() as online, RedisRecipe() as redis:
        state = state_of(online)
        for _ in range(rounds):
            ours.append(us_cpu_a_state(online, n, for_s, lambda nth: hit(online, nth)))
            theirs.append(us_cpu_a_state(redis, n, for_s, lambda nth: redis.client.publish(f"page:{PAGE}", state)))
        note = f"{n:,} subscribers of RESP, a state of {len(state):,} bytes each second"
        record(f"a state told, online, with {HERE} hits", ours, "us CPU/state", note=note)
        record(f"a message told, Redis {redis.version()}", theirs, "us CPU/state", note=note)
        record("as much processor time as Redis", [a / b for a, b in zip(ours, theirs, strict=True)], "x", note=note)
