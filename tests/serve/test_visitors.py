"""Different visitors of each hour and day, of streams through an index and its history, against exact numbers."""

import os
import random
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
from tests.serving import AtOnce

from online.core.past import estimate, merged, sketch
from online.core.sites import Sites
from online.keep.history import DAY, HOUR, MINUTE_MS
from online.limits import Limits
from online.logs.hitlog import CsvColumns, CsvParser, LogReader
from online.serve.config import Config
from online.serve.past import PastKeeper
from online.serve.slices import Slices

BEGIN_MS = 1_800_057_600_000  # a midnight

#: Streams that are made up: users, and hits.
SIZES = {5: 100, 300: 2_000, 5_000: 20_000, 60_000: 60_000}

#: Logs of real servers are not part of the project; this is their directory, if there is one.
FOLDER = os.environ.get("ONLINE_REAL_LOGS")
LOGS = {
    "taobao/hour1.csv.gz": CsvColumns(user=0, url=1, time=4),
    "elastic-apache/apache_logs.gz": None,
    "basjes-hackers/hackers-access.log.gz": None,
    "mountaintel/access.log.gz": None,
}

STEPS = (HOUR, DAY, 36 * HOUR)


class Unstepped:
    """A service whose clock is wall time."""

    loading = None
    clock_step_ms = 0

    def wall_of(self, ms):
        return ms


def rows_of(hits, *steps):
    """Replay `(seen_ms, user)`, in the order of time; return for each step (minutes) the rows by their first minute."""
    now = [0]
    sites = Sites(Limits())
    keeper = PastKeeper(Config(), sites, Unstepped(), lambda: now[0], Slices())
    keeper.writing = keeper.reading = AtOnce()
    keeper._open()
    for seen_ms, user in hits:
        if seen_ms // MINUTE_MS != now[0] // MINUTE_MS:
            now[0] = seen_ms
            _turn(keeper, seen_ms)
        now[0] = max(now[0], seen_ms)
        sites[b"default"].hit(user, b"/", seen_ms=seen_ms, now_ms=now[0])
    _turn(keeper, now[0] + MINUTE_MS)
    rows = [keeper._writer.rows(b"default", 0, now[0] + DAY * MINUTE_MS, step * MINUTE_MS) for step in steps]
    keeper._note_end()
    keeper._close()
    return [{row[0] // MINUTE_MS: row for row in found} for found in rows]


def _turn(keeper, now_ms):
    if keeper._minute < 0:
        keeper._begin()
    else:
        for _ in keeper._turn_minute(now_ms // MINUTE_MS):
            pass


def exact(hits, step_minutes):
    """How many different users each step has."""
    came = defaultdict(set)
    for seen_ms, user in hits:
        came[seen_ms // MINUTE_MS // step_minutes * step_minutes].add(user)
    return {at: len(users) for at, users in came.items()}


def stream(n_users, n_hits, hours, seed=1):
    """Hits of users, few of whom come often."""
    draw = random.Random(seed)
    times = sorted(BEGIN_MS + draw.randrange(hours * HOUR * MINUTE_MS) for _ in range(n_hits))
    return [(at, b"user%d" % int(n_users * draw.random() ** 2)) for at in times]


def logged(log, columns):
    """Hits of a log of a real server, in the order of time."""
    read = LogReader(CsvParser(columns).parse if columns else None).read(str(Path(FOLDER) / log))
    return sorted((hit[2], hit[0]) for hit in read)


STREAMS = {f"{n_users} users": partial(stream, n_users, n_hits, hours=50) for n_users, n_hits in SIZES.items()}
if FOLDER:
    STREAMS |= {log.partition("/")[0]: partial(logged, log, columns) for log, columns in LOGS.items()}


@pytest.mark.parametrize("name", STREAMS)
def test_visitors_are_within_two_percent(name):
    hits = STREAMS[name]()
    for step, found in zip(STEPS, rows_of(hits, *STEPS), strict=True):
        wanted = exact(hits, step)
        assert found.keys() == wanted.keys()
        for at, n in wanted.items():
            assert found[at][6] == pytest.approx(n, rel=0.02, abs=1), at
        assert sum(row[5] for row in found.values()) == len(hits)


def test_visitors_of_minutes_are_counted():
    hits = stream(200, 5_000, hours=2)
    for step, found in zip((1, 10), rows_of(hits, 1, 10), strict=True):
        assert {at: row[6] for at, row in found.items()} == exact(hits, step)


@pytest.mark.parametrize("n_users", [40, 5_000, 100_000])
def test_three_servers_with_parts_know_what_one_with_all_does(n_users):
    users = [user for _, user in stream(n_users, 2 * n_users, hours=1)]
    draw = random.Random(2)
    parts = [[], [], []]
    for user in users:
        draw.choice(parts).append(user)
    one, two, three = map(sketch, parts)
    assert merged(merged(three, one), two) == merged(one, merged(two, three)) == sketch(users)
    assert estimate(sketch(users)) == pytest.approx(len(set(users)), rel=0.02)


def test_the_more_registers_are_full_the_more_visitors_there_are_and_if_all_are_nobody():
    n = len(sketch([]))
    found = [estimate(b"\xff" * full + bytes([30]) * (n - full)) for full in range(0, n, n // 64)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.7213 * n * 2**30, rel=0.01)
    assert estimate(b"\xff" * n) == estimate(b"\xff" * (n - 1) + b"\x32") == 0
