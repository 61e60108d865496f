"""This server and what people would use instead: the same hits and the same questions, in turns, in one run.

In each round every peer takes the next hits of the same stream, so that all of them hold the same people and must
give the same answers. Ratios are taken within a round. The drivers of SQL databases are part of the time, as they are
in use; the server's own CPU is told beside it. Not here: what a peer does (bench/peers).
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import pytest
from bench.peers import LISTED, Peer, Question
from bench.peers.mariadb_table import MariadbTable
from bench.peers.online_server import OnlineBatches, OnlineServer
from bench.peers.postgres_table import PostgresTable
from bench.peers.redis_recipe import RedisRecipe, ValkeyRecipe
from bench.peers.reference_index import ReferencePeer
from bench.peers.serving import Serving
from bench.peers.sqlite_table import SqliteTable
from bench.processes import placed
from bench.recording import Recorder
from bench.workloads import FORUM, FRAME_HITS, Workload, sized, warmed

DATABASES: list[type[Peer]] = [RedisRecipe, ValkeyRecipe, MariadbTable, PostgresTable, SqliteTable]
RIVALS = [*DATABASES, ReferencePeer]
#: What is asked of hits against a rival: batches, and commands, as a multiple of its rate.
TARGETS = {"Redis": (40, 30), "Valkey": (40, 30)}
ROUNDS = 5
QUICK_USERS = 20_000
ASKING_S, FEWEST_ASKED = 0.5, 10

HITS = "Hits: {:,} users on 10,000 urls, over one connection"
ASKED = {
    "COUNT": "COUNT, one at a time: how many of {:,} are online",
    "PAGE": "PAGE, one at a time: the 30 newest users of a page",
}


def name(peer: type[Peer]) -> str:
    return peer.name


def note(peer: Peer) -> str:
    return "" if peer.is_server else "in the asking process: no socket, no server"


class Ring(NamedTuple):
    """A rival and ours, warm, and the stream from which they are."""

    rival: Peer
    batches: Peer
    commands: Peer
    workload: Workload
    is_first: bool  # of all rivals; ours are told of once

    @property
    def peers(self) -> tuple[Peer, Peer, Peer]:
        return self.rival, self.batches, self.commands


class Spent(NamedTuple):
    """What some hits or questions took, and the server of it."""

    n: int
    took_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.n / self.took_s

    @property
    def cpu_us(self) -> float:
        return 1e6 * self.cpu_s / self.n


class Asked(NamedTuple):
    """What questions of one kind took, one after the other."""

    median_us: float
    p99_us: float
    cpu_us: float  # of the server


@pytest.fixture(scope="module")
def met() -> list[str]:
    """The rivals that there were so far."""
    return []


@pytest.fixture(scope="module")
def ring(request: pytest.FixtureRequest, quick: bool, met: list[str]) -> Iterator[Ring]:
    with ExitStack() as stack:
        makers = request.param, OnlineBatches, OnlineServer
        rival, batches, commands = (stack.enter_context(make()) for make in makers)
        n_hits = rival.n_hits // (4 if quick else 1) // FRAME_HITS * FRAME_HITS
        # The first of the hits expire ten minutes from here.
        forum = sized(FORUM, QUICK_USERS) if quick else FORUM
        workload = warmed(forum, ROUNDS * n_hits).ending_at(time.time_ns() // 1_000_000)
        for peer in (rival, batches, commands):
            peer.hitting(workload, 0, workload.n_warm)()
        yield Ring(rival, batches, commands, workload, is_first=not met)
        met.append(rival.name)


@pytest.mark.parametrize("ring", RIVALS, indirect=True, scope="module", ids=name)
def test_hits(ring: Ring, record: Recorder) -> None:
    n_hits = (ring.workload.n_hits - ring.workload.n_warm) // ROUNDS
    spent: dict[Peer, list[Spent]] = {peer: [] for peer in ring.peers}
    for first in range(ring.workload.n_warm, ring.workload.n_hits, n_hits):
        for peer in ring.peers:
            spent[peer].append(spend(peer, peer.hitting(ring.workload, first, n_hits), n_hits))
    check_answers(ring)

    record.version(ring.rival.name, ring.rival.version())
    group = HITS.format(ring.workload.n_users)
    told = ring.peers if ring.is_first else ring.peers[:1]
    for peer in told:
        record(f"{peer.name}, {peer.form}", [took.rate for took in spent[peer]], "hits/s", group=group)
    for peer in told:
        record(f"{peer.name}, {peer.form}", [took.cpu_us for took in spent[peer]], "us CPU/hit", group=group)
    for peer, target in zip(ring.peers[1:], TARGETS.get(ring.rival.name, (None, None)), strict=True):
        ratios = [ours.rate / theirs.rate for ours, theirs in zip(spent[peer], spent[ring.rival], strict=True)]
        record(f"{peer.name}, {peer.form}, to {ring.rival.name}", ratios, "x", at_least=target, group=group)


def spend(peer: Peer, work: Callable[[], None], n: int) -> Spent:
    cpu_ns, began = peer.cpu_ns(), time.perf_counter()
    work()
    took_s = time.perf_counter() - began
    return Spent(n, took_s, (peer.cpu_ns() - cpu_ns) / 1e9)


def check_answers(ring: Ring) -> None:
    """All must count the same people, and list the same times on pages: those of everybody's last hits."""
    last = {hit.user: hit for hit in ring.workload.hits()}
    urls = [url for url, _n in Counter(hit.url for hit in last.values()).most_common(20)]
    for peer in ring.peers:
        assert peer.count() == len(last)
        for url in urls:
            newest = sorted((hit.seen_ms for hit in last.values() if hit.url == url), reverse=True)
            assert peer.seen(url) == newest[:LISTED]


@pytest.mark.parametrize("ring", DATABASES, indirect=True, scope="module", ids=name)
@pytest.mark.parametrize("question", ASKED)
def test_questions(ring: Ring, question: Question, record: Recorder, quick: bool) -> None:
    """One question after the other, each waiting for its answer; what the asking program adds is in it, for all."""
    url = ring.workload.url(0)
    peers = (ring.rival, ring.commands)
    asks = {peer: peer.asking(question, url) for peer in peers}
    took: dict[Peer, list[Asked]] = {peer: [] for peer in peers}
    with placed(*(peer.pid for peer in peers if isinstance(peer, Serving))):
        for _round in range(ROUNDS):
            for peer, ask in asks.items():
                took[peer].append(go_on_asking(peer, ask, ASKING_S / (5 if quick else 1)))

    record.version(ring.rival.name, ring.rival.version())
    group = ASKED[question].format(ring.workload.n_users)
    told = peers if ring.is_first else peers[:1]
    for peer in told:
        record(f"{peer.name}, median", [one.median_us for one in took[peer]], "us", group=group, note=note(peer))
        record(f"{peer.name}, 99th percentile", [one.p99_us for one in took[peer]], "us", group=group, note=note(peer))
    for peer in told:
        record(peer.name, [one.cpu_us for one in took[peer]], "us CPU/question", group=group, note=note(peer))
    ratios = [theirs.median_us / ours.median_us for theirs, ours in zip(*took.values(), strict=True)]
    record(f"median of {ring.rival.name}, to that of online", ratios, "x", group=group, note=note(ring.rival))


def go_on_asking(peer: Peer, ask: Callable[[], None], for_s: float) -> Asked:
    took_us: list[float] = []
    cpu_ns, began = peer.cpu_ns(), time.perf_counter()
    answered = began
    while answered < began + for_s or len(took_us) < FEWEST_ASKED:
        asked = answered
        ask()
        answered = time.perf_counter()
        took_us.append(1e6 * (answered - asked))
    percentiles = statistics.quantiles(took_us, n=100, method="inclusive")
    return Asked(percentiles[49], percentiles[98], (peer.cpu_ns() - cpu_ns) / 1000 / len(took_us))


@pytest.mark.parametrize("rival", [RedisRecipe, ValkeyRecipe], ids=name)
def test_memory(rival: type[RedisRecipe], record: Recorder, quick: bool) -> None:
    """What servers grow by, against the empty ones, all in: buffers, scripts, fragments."""
    n_users, n_urls = (200_000, 2_000) if quick else (1_000_000, 10_000)
    filling = replace(FORUM, n_users=n_users, n_urls=n_urls, n_hits=n_users, n_warm=n_users, exponent=0.0)
    workload = filling.ending_at(time.time_ns() // 1_000_000)
    bytes_a_user = []
    for make in (OnlineBatches, rival):
        with make() as peer:
            empty = peer.resident_bytes()
            peer.hitting(workload, 0, n_users)()
            bytes_a_user.append((peer.resident_bytes() - empty) / n_users)
            assert peer.count() == n_users
            version = peer.version()
    record.version(rival.name, version)
    ours, theirs = bytes_a_user
    group = f"Memory of a server: {n_users:,} users on {n_urls:,} pages"
    names = "names of 10 bytes, urls of 14 to 17"
    record("online", [ours], "bytes/user", at_most=75, group=group, note=names)
    record(rival.name, [theirs], "bytes/user", group=group, note=names)
    record(f"online, as a share of {rival.name}", [ours / theirs], "x", at_most=0.4, group=group)
