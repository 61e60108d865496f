"""The journal: what it costs a hit, beside Redis with its own log, and how fast a state directory is read.

Servers are processes of their own, with their state in the folder of temporary files; each round asks all in turn. The
directories that are read are written beforehand by the same code that a server runs, without sockets.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgpack
import pytest
from bench.peers.online_server import OnlineBatches, OnlineServer
from bench.peers.redis_recipe import RedisRecipe
from bench.peers.serving import Speaking
from bench.recording import Recorder
from bench.workloads import FORUM, FRAME_HITS, sized, warmed

from online.core.journal import Journal
from online.core.sites import DEFAULT_SITE, Sites
from online.core.wire import apply_hits
from online.keep.folder import HEAD_BYTES, Folder, Head
from online.keep.recovery import Recovery
from online.keep.snapshots import Snapshot
from online.limits import Limits

ROUNDS = 5
NOW_MS = 1_700_000_000_000


class KeptCommands(OnlineServer):
    """Ours with further options; `{folder}` in them is its folder."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options

    def command(self, folder: Path) -> Sequence[str]:
        self.folder = folder
        return [*super().command(folder), *(option.format(folder=folder) for option in self.options)]


class KeptBatches(KeptCommands, OnlineBatches):
    """The same with batches."""


class KeptRedis(RedisRecipe):
    """Redis with its append-only file."""

    def command(self, folder: Path) -> Sequence[str | Path]:
        self.folder = folder
        keeping = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"]
        return [*super().command(folder), *keeping]


def disk_bytes(peer: KeptCommands | KeptRedis) -> int:
    """What a server has on disk."""
    return sum(path.stat().st_size for path in peer.folder.rglob("*") if path.is_file())


STATE = ("--state", "{folder}/state")
FORMS = {"batches": KeptBatches, "RESP": KeptCommands}
POLICIES: dict[str, tuple[str, ...]] = {"off": (), "--sync 1s": STATE, "--sync always": (*STATE, "--sync", "always")}


@pytest.mark.parametrize("form", FORMS)
def test_hits_with_and_without(form: str, record: Recorder, quick: bool) -> None:
    n_hits = (50_000 if quick else 400_000) // FRAME_HITS * FRAME_HITS
    workload = warmed(sized(FORUM, 20_000) if quick else FORUM, ROUNDS * n_hits).ending_at(_now_ms())
    rates: dict[str, list[float]] = {name: [] for name in POLICIES}
    cpu_ns: dict[str, list[float]] = {name: [] for name in POLICIES}
    with ExitStack() as stack:
        peers = {name: stack.enter_context(FORMS[form](*options)) for name, options in POLICIES.items()}
        for peer in peers.values():
            peer.hitting(workload, 0, workload.n_warm)()
        for number in range(ROUNDS):
            for name, peer in peers.items():
                hit = peer.hitting(workload, workload.n_warm + number * n_hits, n_hits)
                took_s, spent_ns = _spend(peer, hit)
                rates[name].append(n_hits / took_s)
                cpu_ns[name].append(spent_ns / n_hits)
    for name in POLICIES:
        record(f"{form}, journal {name}", rates[name], "hits/s", note=f"{n_hits:,} hits over one connection")
    for name, least in (("--sync 1s", 0.8), ("--sync always", 0.3)):
        shares = [on / off for on, off in zip(rates[name], rates["off"], strict=True)]
        record(f"{form}, journal {name} beside off", shares, "x", at_least=least)
    more_ns = [on - off for on, off in zip(cpu_ns["--sync 1s"], cpu_ns["off"], strict=True)]
    record(f"{form}, journal --sync 1s: processor time of the server", more_ns, "ns/hit more", at_most=60)


def test_redis_with_its_log(record: Recorder, quick: bool) -> None:
    n_hits = (20_000 if quick else 100_000) // FRAME_HITS * FRAME_HITS
    workload = warmed(sized(FORUM, 20_000), ROUNDS * n_hits).ending_at(_now_ms())
    times: list[float] = []
    sizes: list[float] = []
    with KeptBatches(*STATE) as ours, KeptRedis() as redis:
        peers: tuple[KeptCommands | KeptRedis, ...] = (ours, redis)
        for peer in peers:
            peer.hitting(workload, 0, workload.n_warm)()
        for number in range(ROUNDS):
            found = []
            for peer in peers:
                before = disk_bytes(peer)
                took_s, _ = _spend(peer, peer.hitting(workload, workload.n_warm + number * n_hits, n_hits))
                found.append((took_s, disk_bytes(peer) - before))
            times.append(found[1][0] / found[0][0])
            sizes.append(found[0][1] / found[1][1])
    note = f"{n_hits:,} hits, ours in batches"
    record("hits/s beside Redis, appendonly everysec", times, "x", at_least=20, note=note)
    record("bytes on disk a hit beside Redis", sizes, "x", at_most=0.5)


@pytest.mark.parametrize(("hits_a_turn", "least"), [(500, 3_000_000), (1, 2_250_000)])
def test_reading_a_journal(tmp_path: Path, record: Recorder, quick: bool, hits_a_turn: int, least: int) -> None:
    n_hits, n_users = (100_000, 20_000) if quick else (2_000_000, 200_000)
    sites = _written(tmp_path, n_hits, n_users, hits_a_turn)
    rates = []
    for _ in range(1 if quick else 3):
        found, took_s, longest_ms = _read(tmp_path)
        assert found.statistics().users == sites.statistics().users
        rates.append(n_hits / took_s)
    note = f"{n_hits:,} hits of {n_users:,} users; longest piece {longest_ms:.1f} ms"
    record(f"reading a journal, {hits_a_turn} a turn", rates, "hits/s", at_least=least, note=note)


def test_snapshots(tmp_path: Path, record: Recorder, quick: bool) -> None:
    n_users = 50_000 if quick else 1_000_000
    sites = _written(tmp_path, n_users, n_users, 500)
    folder = Folder(tmp_path)
    snapshot = Snapshot(folder, sites, Head("snapshot", 2, 0, 1, NOW_MS))
    began_s = last_s = time.perf_counter()
    pieces_ms = []
    for _ in snapshot.pieces():
        now_s = time.perf_counter()
        pieces_ms.append(1000 * (now_s - last_s))
        last_s = now_s
    took_s = last_s - began_s
    snapshot.finish()
    note = f"{n_users:,} users; pieces: median {statistics.median(pieces_ms):.2f} ms, longest {max(pieces_ms):.2f} ms"
    record("writing a snapshot", [n_users / took_s], "users/s", note=note)
    rates = []
    for _ in range(1 if quick else 3):
        found, took_s, longest_ms = _read(tmp_path)
        assert found.statistics().users == n_users
        rates.append(n_users / took_s)
    note = f"{n_users:,} users; longest piece {longest_ms:.1f} ms"
    record("reading a snapshot", rates, "users/s", at_least=4_000_000, note=note)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _spend(peer: Speaking, work: Callable[[], None]) -> tuple[float, int]:
    """Do some work; return how long it took, and the processor time of the server in nanoseconds."""
    before_ns, began_s = peer.cpu_ns(), time.perf_counter()
    work()
    return time.perf_counter() - began_s, peer.cpu_ns() - before_ns


def _written(path: Path, n_hits: int, n_users: int, hits_a_turn: int) -> Sites:
    """Write a journal of hits, so many a turn and 5,000 a second; return the sites."""
    sites, journal, folder = Sites(Limits()), Journal(), Folder(path)
    index = sites[DEFAULT_SITE]
    journal.begin(folder.create(Head("journal", 1, 0, 1, NOW_MS)), 1, HEAD_BYTES)
    journal.follow(index, DEFAULT_SITE)
    for begin in range(0, n_hits, hits_a_turn):
        hits = [
            (f"user{n * 7919 % n_users}", f"/forum/{n * 31 % 5_000}", NOW_MS + n // 5, "member")
            for n in range(begin, begin + hits_a_turn)
        ]
        apply_hits(index, msgpack.packb([2, "hits", hits]), now_ms=NOW_MS + (begin + hits_a_turn) // 5)
        journal.flush()
    journal.close()
    return sites


def _read(path: Path) -> tuple[Sites, float, float]:
    """Read a directory; return the sites, how long that took, and the longest piece in milliseconds."""
    sites = Sites(Limits())
    recovery = Recovery(Folder(path), sites, lambda: NOW_MS + 1_000_000)
    began_s = last_s = time.perf_counter()
    longest_s = 0.0
    for _ in recovery.pieces():
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    assert recovery.report.is_clean
    return sites, last_s - began_s, 1000 * longest_s
