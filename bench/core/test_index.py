"""What the index does in-process: hits in batches and one by one, workloads that are hard on it, pages.

*Warm* is an index in which every user of the workload is online and has moved since (`warmed`); *from empty* is the
same work on an index that begins without anybody. Rounds of what is compared alternate, for the machine's speed changes
from minute to minute; no hit is given twice to an index, for a repeat costs next to nothing.
"""

import random
from itertools import islice
from typing import Any

import msgpack
import pytest
from bench.inprocess import check_same, fill, take_batches, take_hits, warm_index
from bench.recording import Recorder
from bench.workloads import FORUM, LATE, LONGTAIL, SURGE, LogWorkload, Workload, from_log, warmed

from online.core.index import Index
from online.core.reference import ReferenceIndex
from online.core.wire import Connection, Service
from online.limits import Limits

ROUNDS = 5
PAGE_USERS = 30
PAGE_ROUNDS = 30
ASKED = 10_000


@pytest.fixture(scope="module")
def slice_hits(quick: bool) -> int:
    """Hits in a round that the reference takes too."""
    return 10_000 if quick else 50_000


@pytest.fixture(scope="module")
def forum(slice_hits: int) -> Workload:
    return warmed(FORUM, 2 * ROUNDS * slice_hits)


def record_pairs(
    record: Recorder, what: str, ours_ns: list[float], theirs_ns: list[float], *, note: str, at_least: float | None
) -> None:
    """Keep the speed of both, and how many times as fast the first is: the times are a hit's, by round."""
    record(f"{what}: the index", [1e9 / ns for ns in ours_ns], "hits/s", note=note)
    record(f"{what}: reference.py", [1e9 / ns for ns in theirs_ns], "hits/s", note=note)
    ratios = [theirs / ours for ours, theirs in zip(ours_ns, theirs_ns, strict=True)]
    record(f"{what}: times as fast as reference.py", ratios, "x", at_least=at_least, note=note)


def test_batches_and_single_hits_warm(record: Recorder, forum: Workload, slice_hits: int) -> None:
    batched, single, reference = warm_index(forum), warm_index(forum), ReferenceIndex()
    take_hits(reference, list(forum.hits(0, forum.n_warm)))
    batch_ns, single_ns, reference_ns = [], [], []
    for first in range(forum.n_warm, forum.n_warm + ROUNDS * slice_hits, slice_hits):
        batches, hits = list(forum.batches(first, slice_hits)), list(forum.hits(first, slice_hits))
        taken = take_batches(batched, batches)
        assert (taken.accepted, taken.ignored, taken.refused) == (slice_hits, 0, 0)
        batch_ns.append(taken.took_ns / slice_hits)
        reference_ns.append(take_hits(reference, hits) / slice_hits)
        single_ns.append(take_hits(single, hits) / slice_hits)
    check_same(batched, reference, forum)
    check_same(single, reference, forum)
    record_pairs(record, "batches, warm", batch_ns, reference_ns, note=forum.id, at_least=40)
    record_pairs(record, "hits one by one, warm", single_ns, reference_ns, note=forum.id, at_least=None)


def test_batches_from_empty(record: Recorder, log: Any, quick: bool) -> None:
    """With `--log`, its hits take the forum's place."""
    workload: Workload | LogWorkload = from_log(log) if log else FORUM
    n_hits = min(50_000 if quick else 300_000, workload.n_hits)
    batches, hits = list(workload.batches(0, n_hits)), list(workload.hits(0, n_hits))
    ours_ns, theirs_ns = [], []
    for _ in range(ROUNDS):
        index, reference = Index(), ReferenceIndex()
        taken = take_batches(index, batches)
        assert taken.accepted + taken.ignored == n_hits
        ours_ns.append(taken.took_ns / n_hits)
        theirs_ns.append(take_hits(reference, hits) / n_hits)
        check_same(index, reference, workload)
    note = f"the first {n_hits:,} of {workload.id}"
    at_least = None if log or quick else 40
    record_pairs(record, "batches, from empty", ours_ns, theirs_ns, note=note, at_least=at_least)


#: Workload -> how many times the cost of forum it may be.
HARD = {LONGTAIL: 3.0, SURGE: 4.0, LATE: 1.5}


def test_hard_workloads(record: Recorder, quick: bool) -> None:
    n_hits = 20_000 if quick else 100_000
    took_ns: dict[str, list[float]] = {workload.name: [] for workload in [FORUM, *HARD]}
    for _ in range(ROUNDS):
        for base in [FORUM, *HARD]:
            workload = warmed(base, n_hits)
            index = warm_index(workload)
            taken = take_batches(index, list(workload.batches(workload.n_warm)))
            assert taken.accepted + taken.ignored == n_hits
            assert bool(taken.ignored) == (base is LATE)
            assert index.count(now_ms=workload.end_ms) == workload.users_in_the_end
            took_ns[base.name].append(taken.took_ns / n_hits)
    record("batches, warm: forum", took_ns["forum"], "ns/hit", note=warmed(FORUM, n_hits).id)
    for base, at_most in HARD.items():
        note = warmed(base, n_hits).id
        record(f"batches, warm: {base.name}", took_ns[base.name], "ns/hit", note=note)
        ratios = [ns / forum_ns for ns, forum_ns in zip(took_ns[base.name], took_ns["forum"], strict=True)]
        record(f"{base.name}: times the cost of forum", ratios, "x", at_most=at_most, note=note)


@pytest.fixture(scope="module")
def site(forum: Workload) -> Index:
    """A warm forum with all its hits."""
    index = warm_index(forum)
    fill(index, forum.batches(forum.n_warm))
    return index


@pytest.fixture(scope="module")
def full_pages(site: Index, forum: Workload) -> list[bytes]:
    """The urls on which there are enough users for a list."""
    urls = [forum.url(number) for number in range(forum.n_urls)]
    return [url for url in urls if site.count(url, now_ms=forum.end_ms) >= PAGE_USERS]


def asked_as_hit(full_pages: list[bytes], forum: Workload) -> list[bytes]:
    """Pages as often as hits go to them: every page view asks."""
    full = set(full_pages)
    return list(islice((hit.url for hit in forum.hits() if hit.url in full), ASKED))


def asked_alike(full_pages: list[bytes], forum: Workload) -> list[bytes]:
    """All pages equally often, so that what is asked for was not asked for lately."""
    return random.Random(forum.seed).choices(full_pages, k=ASKED)


class NoHost:
    """The host of a service that is asked for pages alone."""

    def call(self, connection: Connection, verb: str, args: list[bytes], now_ms: int) -> object:
        raise AssertionError(f"{verb} was not asked for")

    def open_site(self, connection: Connection, now_ms: int) -> Index:
        raise AssertionError("the index is there")


def in_resp(nth: int, url: bytes) -> bytes:
    return b"*3\r\n$4\r\nPAGE\r\n$%d\r\n%b\r\n$2\r\n%d\r\n" % (len(url), url, PAGE_USERS)


def in_msgpack(nth: int, url: bytes) -> bytes:
    return bytes(msgpack.packb([0, nth, "PAGE", [url.decode(), PAGE_USERS]]))


def ask(connection: Connection, questions: bytes, now_ms: int) -> list[bytes]:
    """Give pipelined questions to a connection and take its output, piece by piece as it makes it."""
    connection.receive(questions, now_ms=now_ms)
    output = [connection.take_output()]
    while connection.has_work:
        connection.proceed(now_ms=now_ms)
        output.append(connection.take_output())
    return output


@pytest.mark.parametrize(
    ("dialect", "asked", "at_least"),
    [(in_msgpack, asked_as_hit, 1e6), (in_msgpack, asked_alike, None), (in_resp, asked_as_hit, None)],
)
def test_pages_as_bytes(
    benchmark: Any,
    record: Recorder,
    site: Index,
    full_pages: list[bytes],
    forum: Workload,
    dialect: Any,
    asked: Any,
    at_least: float | None,
) -> None:
    """What a connection does for a page of 30, but for the socket: question parsed, users copied out."""
    service = Service(NoHost(), Limits())
    connection = Connection(service, site)
    questions = b"".join(dialect(nth, url) for nth, url in enumerate(asked(full_pages, forum)))
    args = (connection, questions, forum.end_ms)
    output = benchmark.pedantic(ask, args=args, rounds=PAGE_ROUNDS, warmup_rounds=1)
    assert (service.commands, service.errors) == ((1 + PAGE_ROUNDS) * ASKED, 0)
    assert b"".join(output).count(b"member") == ASKED * PAGE_USERS
    speeds = [ASKED / seconds for seconds in benchmark.stats.stats.data]
    what = f"page of {PAGE_USERS}, as bytes, {dialect.__name__[3:]}, {asked.__name__.replace('_', ' ')}"
    record(what, speeds, "questions/s", at_least=at_least, note=forum.id)


def test_pages_as_objects(
    benchmark: Any, record: Recorder, site: Index, full_pages: list[bytes], forum: Workload
) -> None:
    urls = asked_as_hit(full_pages, forum)

    def ask_all() -> int:
        return sum(len(site.page(url, PAGE_USERS, now_ms=forum.end_ms)[2]) for url in urls)

    listed = benchmark.pedantic(ask_all, rounds=PAGE_ROUNDS, warmup_rounds=1)
    assert listed == ASKED * PAGE_USERS
    speeds = [ASKED / seconds for seconds in benchmark.stats.stats.data]
    record(f"page of {PAGE_USERS}, as Python objects, asked as hit", speeds, "questions/s", note=forum.id)
