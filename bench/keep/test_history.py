"""The past: what a minute of many sites costs, how large a year is, and how soon questions about it are answered.

Measured on the file alone, in one thread: a server does this in threads of its own. What it does in its turns is the
piece of a minute on one site.
"""

import random
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.recording import Recorder

from online.core.index import Index
from online.core.past import Past, estimate, sketch
from online.keep.history import DAY, FINE_DAYS, HOUR, LEVELS, MINUTE_MS, History, Minute

NOW = 1_700_000_000_000 // MINUTE_MS // DAY * DAY
DAYS = 400
ROUNDS = 5


def site(number: int) -> bytes:
    return b"site%04d" % number


def year(number: int) -> Iterator[tuple[int, ...]]:
    """Every row that a site has after a year, as they stand in the file."""
    draw = random.Random(number)
    for level in LEVELS:
        for at in range(NOW - FINE_DAYS.get(level, DAYS) * DAY, NOW, level):
            people = draw.randrange(1_000)
            yield number, level, at, people, people // 2, people // 2, 20, 90 * level, people, at * MINUTE_MS


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, int]:
    """The file of a thousand sites after a year, and their number."""
    n_sites = 5 if request.config.getoption("--quick") else 1_000
    path = tmp_path_factory.mktemp("past") / "history"
    history = History(path)
    with history._whole():
        for number in range(1, n_sites + 1):
            assert history._new_id(site(number)) == number
            history._db.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", year(number))
    history.close()
    return path, n_sites


def each_ms(work: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """How long some work takes each time, in milliseconds."""
    found = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began_s))
    return found


def test_a_year(old: tuple[Path, int], record: Recorder) -> None:
    path, n_sites = old
    note = f"{n_sites} sites, {DAYS} days"
    record("a year on disk", [path.stat().st_size / n_sites / 2**20], "MiB/site", at_most=5, note=note)

    def start() -> None:
        History(path).close()

    record("opening it", each_ms(start), "ms", note=note)
    history = History(path, reads_only=True)
    begin_ms, now_ms = (NOW - 30 * DAY) * MINUTE_MS, NOW * MINUTE_MS
    name = site(n_sites // 2)
    assert len(history.rows(name, begin_ms, now_ms, HOUR * MINUTE_MS)) == 30 * 24
    month = each_ms(lambda: history.rows(name, begin_ms, now_ms, HOUR * MINUTE_MS))
    record("a month's curve, by hours", month, "ms", at_most=5, note=note)
    day = each_ms(lambda: history.rows(name, (NOW - DAY) * MINUTE_MS, now_ms, MINUTE_MS))
    record("a day's curve, by minutes", day, "ms", note=note)
    record("the most ever since a month", each_ms(lambda: history.peak(name, begin_ms)), "ms", note=note)
    history.close()


def test_a_minute_of_many_sites(old: tuple[Path, int], record: Recorder, quick: bool) -> None:
    path, _ = old
    history = History(path)
    n_sites = 50 if quick else 1_000
    minutes = iter(range(NOW, NOW + ROUNDS))

    def write() -> None:
        at = next(minutes)
        history.add((site(n), Minute(at, 9, 5, 3, 1, 90, 9, 9, 9, at * MINUTE_MS)) for n in range(1, n_sites + 1))

    written = [1000 * ms / n_sites for ms in each_ms(write)]
    record("a minute written, in its thread", written, "us/site", note=f"{n_sites:,} sites in one transaction")
    history.close()


@pytest.mark.parametrize("n_users", [100, 10_000, 1_000_000])
def test_a_sketch(record: Recorder, quick: bool, n_users: int) -> None:
    n_users = n_users // 10 if quick else n_users
    registers = sketch(b"user%d" % n for n in range(n_users))
    note = f"{n_users:,} visitors"
    record("visitors of an hour or a day on disk", [len(zlib.compress(registers, 1))], "B", note=note)
    record("visitors of an hour, estimated", each_ms(lambda: estimate(registers)), "ms", note=note)


def test_a_minute_of_a_site_in_a_turn(record: Recorder, quick: bool) -> None:
    index = Index()
    past = Past(index, keeps_last=True)
    now_ms = NOW * MINUTE_MS
    past.begin(now_ms, now_ms, now_ms, now_ms=now_ms)
    for n in range(10_000 if quick else 100_000):
        index.hit(b"user%d" % n, b"/", now_ms=now_ms)

    def turn() -> None:
        past.so_far()
        past.take_sketch()
        past.begin(now_ms, now_ms, now_ms, now_ms=now_ms)

    record("a minute of a site, in a turn", each_ms(turn), "ms", at_most=2)


def test_last_seen(tmp_path: Path, record: Recorder, quick: bool) -> None:
    n_users, at_once = (20_000, 5_000) if quick else (1_000_000, 50_000)
    history = History(tmp_path / "history")
    rates = []
    for begin in range(0, n_users, at_once):
        seen = [(b"user%d" % (n * 7919 % n_users), b"/forum/%d" % (n % 999), n) for n in range(begin, begin + at_once)]
        [took_ms] = each_ms(lambda seen=seen: history.add_last(b"a", seen), 1)  # type: ignore[misc]
        rates.append(1000 * at_once / took_ms)
    note = f"{n_users:,} users, {at_once:,} in one transaction"
    record("where members were last seen, written", rates, "users/s", at_least=100_000, note=note)
    draw = random.Random(1)
    found = each_ms(lambda: history.last(b"a", [b"user%d" % draw.randrange(n_users)]), 200)
    record("where a member was last seen, found", found, "ms", at_most=1, note=note)
    history.close()
