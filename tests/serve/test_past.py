"""The past of a server: history, peaks, visitors, who was last seen where, and who is forgotten."""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from types import SimpleNamespace

import pytest
import trio
from tests.keep.killing import Server, free_port
from tests.serving import make_server, run, run_in_real_time, server_process, until

from online.core.index import Index
from online.core.past import Past, estimate, merged, sketch
from online.core.sites import Sites
from online.errors import RangeError
from online.keep.history import DAY, HOUR, MINUTE_MS, Forgotten, History, Minute
from online.keep.inspection import inspect
from online.keep.recovery import Report
from online.limits import Limits
from online.serve import verbs_past
from online.serve.config import Config
from online.serve.connections import replied
from online.serve.past import MEMORY_DAYS, PastKeeper
from online.serve.slices import Slices
from online_client import Client

NOW = 1_800_000_000_000
AT = NOW // MINUTE_MS // DAY * DAY


def minute(at, people, *, hits=1, visitors=1, hour_visitors=0):
    return Minute(at, people, people, 0, 0, hits, visitors, visitors, hour_visitors, at * MINUTE_MS + 30_000)


@pytest.fixture
def history(tmp_path):
    opened = History(tmp_path / "history")
    yield opened
    opened.close()


# What is noted in the core


@pytest.mark.parametrize("n", [0, 1, 10, 1_000, 30_000, 200_000])
def test_a_sketch_counts_within_two_percent(n):
    assert estimate(sketch(b"user%d" % i for i in range(n))) == pytest.approx(n, rel=0.02)


def test_three_parts_merge_to_the_sketch_of_all():
    users = [b"user%d" % i for i in range(9_000)]
    parts = [sketch(users[nth::3]) for nth in range(3)]
    assert merged(merged(parts[0], parts[1]), parts[2]) == sketch(users)


def test_a_minute_has_the_greatest_counts_and_those_who_came():
    index = Index()
    past = Past(index)
    past.begin(NOW, NOW, NOW, now_ms=NOW)
    index.hit(b"ada", b"/a", now_ms=NOW + 1)
    index.hit(b"kim", b"/a", kind="guest", now_ms=NOW + 2)
    index.hit(b"crawler", b"/a", kind="bot", now_ms=NOW + 3)
    index.leave(b"kim", now_ms=NOW + 4)
    index.hit(b"ada", b"/b", now_ms=NOW + 5)
    assert past.so_far() == (2, 1, 1, 1, 4, 2, 2, 2, NOW + 2)  # four page loads: a leave is none
    later = NOW + 60_000
    past.begin(later, NOW, NOW, now_ms=later)
    assert past.so_far() == (1, 1, 0, 1, 0, 0, 2, 2, later)
    index.hit(b"ada", b"/b", now_ms=later + 1)
    assert past.so_far() == (1, 1, 0, 1, 1, 1, 2, 2, later)


def test_a_session_that_ends_is_noted_once_in_whichever_way():
    index = Index(window_s=60)
    past = Past(index, keeps_last=True)
    for user, kind in ((b"ada", "member"), (b"kim", "guest"), (b"theo", "hidden"), (b"zoe", "member")):
        index.hit(user, b"/a", kind=kind, now_ms=NOW)
    index.leave(b"zoe", now_ms=NOW + 1)
    index.hit(b"late", b"/l", seen_ms=NOW - 90_000, now_ms=NOW + 2)
    index.expire(now_ms=NOW + 120_000)
    noted = sorted(past.take_gone(5))
    assert noted == [
        (b"ada", b"/a", NOW + 5),
        (b"late", b"/l", NOW - 89_995),
        (b"theo", None, NOW + 5),
        (b"zoe", b"/a", NOW + 5),
    ]
    assert past.take_gone() is None


def test_many_sessions_that_end_are_noted_whole_and_what_finds_no_room_is_counted():
    index = Index(window_s=60)
    past = Past(index, keeps_last=True)
    urls = [b"/" + b"u" * (nth % 2_000) for nth in range(50_000)]
    for nth, url in enumerate(urls):
        index.hit(b"user%d" % nth, url, now_ms=NOW)
    index.expire(now_ms=NOW + 120_000)
    first = past.take_gone()
    index.hit(b"ada", b"/a", now_ms=NOW + 120_000)
    index.leave(b"ada", now_ms=NOW + 120_001)
    assert list(past.take_gone()) == [(b"ada", b"/a", NOW + 120_000)]
    assert sorted(first) == sorted((b"user%d" % nth, url, NOW) for nth, url in enumerate(urls))
    assert list(first) == []  # it is read once
    assert past.lost == 0
    for nth in range(34_000):  # of 2,070 bytes each, beyond 64 MiB
        index.hit(b"user%d" % nth, b"/" + b"u" * 2_040 + b"%d" % (nth % 10), now_ms=NOW + 130_000)
    index.expire(now_ms=NOW + 250_000)
    left = past.take_gone()
    n_left = sum(1 for _ in left)
    assert past.lost == 34_000 - n_left > 0
    past.close()


def test_who_was_online_before_a_restart_is_seen_by_the_sketch():
    index = Index()
    for nth in range(100):
        index.hit(b"user%d" % nth, b"/", kind=("member", "hidden", "bot")[nth % 3], now_ms=NOW + nth)
    past = Past(index)
    past.begin(NOW, NOW, NOW, now_ms=NOW + 100)
    past.revisit(NOW + 30, NOW + 90)
    assert past.so_far()[7] == pytest.approx(sum(nth % 3 < 2 for nth in range(30, 90)), abs=1)


# The file


def test_rows_of_a_minute_merge(history):
    history.add([(b"a", minute(AT, 3)), (b"a", minute(AT, 5)), (b"b", minute(AT, 9))])
    history.add([(b"a", minute(AT + 1, 4))])
    rows = history.rows(b"a", AT * MINUTE_MS, (AT + 10) * MINUTE_MS, MINUTE_MS)
    assert rows == [(AT * MINUTE_MS, 5, 5, 0, 0, 2, 1), ((AT + 1) * MINUTE_MS, 4, 4, 0, 0, 1, 1)]
    assert history.rows(b"a", AT * MINUTE_MS, (AT + 10) * MINUTE_MS, 5 * MINUTE_MS)[0][5] == 3


@pytest.mark.parametrize("step", [1, 7, 10, 30, 60, 120, DAY])
def test_old_rows_are_longer_and_nothing_is_counted_twice(history, step):
    begin, days = AT - 70 * DAY, 70
    minutes = [minute(at, at % 97) for at in range(begin, AT, 30)]
    history.add((b"a", each) for each in minutes)
    history.prune(AT * MINUTE_MS, days=400, last_days=0)
    rows = history.rows(b"a", begin * MINUTE_MS, AT * MINUTE_MS, step * MINUTE_MS)
    assert sum(row[5] for row in rows) == len(minutes) == days * 48
    assert len({row[0] for row in rows}) == len(rows)
    assert max(row[1] for row in rows) == 96
    history.prune(AT * MINUTE_MS, days=3, last_days=0)
    assert history.rows(b"a", begin * MINUTE_MS, AT * MINUTE_MS, HOUR * MINUTE_MS)[0][0] == (AT - 3 * DAY) * MINUTE_MS


def test_a_peak_since_a_time(history):
    history.add((b"a", minute(AT + nth, people)) for nth, people in ((0, 9), (61, 7), (65, 8), (130, 5)))
    since = AT * MINUTE_MS + 30_000
    assert history.peak(b"a", since) == (9, since)
    assert history.peak(b"a", since + 1) == (8, since + 65 * MINUTE_MS)
    assert history.peak(b"a", since + 65 * MINUTE_MS + 1) == (5, since + 130 * MINUTE_MS)
    assert history.peak(b"a", since + 131 * MINUTE_MS) == history.peak(b"nobody", 0) == (0, 0)


def test_visitors_of_a_day_are_those_of_its_hours_each_once(history):
    for hour in range(24):
        at = AT + hour * HOUR
        history.add(
            [(b"a", minute(at, 1, hour_visitors=100))], [(b"a", at, sketch(b"u%d" % i for i in range(hour, 100)))]
        )
    [day] = history.rows(b"a", AT * MINUTE_MS, (AT + DAY) * MINUTE_MS, DAY * MINUTE_MS)
    assert day[6] == pytest.approx(100, rel=0.02)


@pytest.fixture(scope="module")
def of_a_quarter():
    """A history of 90 days in which a hundred users come each hour, others each time."""
    opened = History(None)
    begin = AT - 90 * DAY
    opened.add(
        ((b"a", minute(at, 1, visitors=100, hour_visitors=100)) for at in range(begin, AT, HOUR)),
        ((b"a", at, sketch(b"%d-%d" % (at, nth) for nth in range(100))) for at in range(begin, AT, HOUR)),
    )
    opened.prune(AT * MINUTE_MS, days=400, last_days=0)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("first", "step"),
    [(0, DAY), (-HOUR, DAY), (9 * HOUR, DAY), (0, 36 * HOUR), (5 * HOUR, 7 * HOUR), (HOUR, 7 * DAY), (0, HOUR)],
    ids=["midnight", "UTC+1", "09:00", "36 h", "7 h", "weeks", "hours"],
)
def test_visitors_of_steps_of_whole_hours_are_right_wherever_they_begin(of_a_quarter, first, step):
    begin = AT - 42 * DAY + first
    rows = of_a_quarter.rows(b"a", begin * MINUTE_MS, AT * MINUTE_MS, step * MINUTE_MS)
    assert len(rows) == -(-(AT - begin) // step)
    for at_ms, *_, visitors in rows:
        hours = min(step, AT - at_ms // MINUTE_MS) // HOUR
        assert visitors == pytest.approx(100 * hours, rel=0.03)


def test_visitors_that_cannot_be_told_are_none(of_a_quarter):
    def visitors(first, step):
        begin = AT - 80 * DAY + first
        return [row[6] for row in of_a_quarter.rows(b"a", begin * MINUTE_MS, AT * MINUTE_MS, step * MINUTE_MS)]

    assert visitors(0, DAY) == pytest.approx([2_400] * 80, rel=0.03)  # of days
    beside = visitors(HOUR, DAY)  # of hours, for 60 days
    assert beside[:20] == [None] * 20
    assert beside[20:] == pytest.approx([2_400] * 59 + [2_300], rel=0.03)
    assert set(visitors(30, DAY)) == set(visitors(0, 2 * HOUR + 1)) == {None}
    assert set(visitors(0, 30)) == {100, None}  # of rows of an hour, as long as there are no others


def test_a_day_that_is_cut_has_the_visitors_of_its_part(of_a_quarter):
    begin, end = (AT - DAY) * MINUTE_MS, (AT - 6 * HOUR) * MINUTE_MS
    [row] = of_a_quarter.rows(b"a", begin, end, DAY * MINUTE_MS)
    assert row[6] == pytest.approx(1_800, rel=0.03)


def test_sketches_of_hours_are_deleted_in_whole_days(of_a_quarter):
    [[first]] = of_a_quarter._db.execute("SELECT min(at) FROM sketches WHERE level = 60").fetchall()
    assert first == AT - 60 * DAY


def test_the_newest_sighting_is_kept(history):
    history.add_last(b"a", [(b"ada", b"/2", 20), (b"ada", b"/1", 10), (b"theo", b"/1", 10), (b"theo", None, 30)])
    assert history.last(b"a", [b"ada", b"theo", b"kim"]) == [(b"/2", 20), None, None]


def test_who_is_forgotten_does_not_come_back_as_of_before(history):
    history.add_last(b"a", [(b"ada", b"/1", 10), (b"theo", b"/1", 10)])
    known, number = history.forget(b"a", [b"ada", b"kim"], 20)
    assert known == [True, False]
    listed = [Forgotten(b"a", b"ada", 20, False, number - 1), Forgotten(b"a", b"kim", 20, False, number)]
    assert history.forgotten() == (listed, number)
    history.add_last(b"a", [(b"ada", b"/2", 20), (b"theo", b"/2", 20)])
    assert history.last(b"a", [b"ada", b"theo"]) == [None, (b"/2", 20)]
    history.add_last(b"a", [(b"ada", b"/3", 21)])
    assert history.last(b"a", [b"ada"]) == [(b"/3", 21)]


def test_what_was_forgotten_during_a_purge_waits_for_the_next(history):
    _, first = history.forget(b"a", [b"ada"], 20)
    _, second = history.forget(b"a", [b"kim"], 30)
    history.purged(first, 10**13)
    assert history.forgotten() == ([Forgotten(b"a", b"kim", 30, False, second)], second)
    history.purged(second, 30)  # something else may bring kim back
    assert history.forgotten() == ([Forgotten(b"a", b"kim", 30, False, second)], second)
    history.settle(second)
    assert history.forgotten() == ([Forgotten(b"a", b"kim", 30, True, second)], second)
    history.purged(second, 31)
    assert history.forgotten() == ([], 0)


# What is asked


class Asked:
    """Stands for the past, and for a server whose clock says `now`: answers what it is asked."""

    tokens = ()
    loading = None

    def __init__(self, now):
        self.past = self.service = self
        self.wall_of = lambda now_ms: now

    def rows(self, site, *asked):
        return asked

    def peak(self, site, since_ms):
        return [since_ms, 0]


def asked(verb, *args, now=NOW):
    connection = SimpleNamespace(site=b"default", index=None)
    return verb(Asked(now), connection, [str(arg).encode() for arg in args], now)


@pytest.mark.parametrize("step_s", [60, 420, 600, 3_600, 7_200, 25 * 3_600, 86_400, 7 * 86_400])
def test_steps_begin_at_whole_multiples_unless_told_otherwise(step_s):
    now, step_ms = NOW + 12_345_678, step_s * 1000
    from_ms, to_ms, asked_ms = asked(verbs_past.history, "", "", step_s, now=now)
    assert (to_ms, asked_ms, from_ms % step_ms) == (now, step_ms, 0)
    assert 0 <= now - DAY * MINUTE_MS - from_ms < step_ms
    assert asked(verbs_past.history, now - 100_000, "", step_s, now=now)[0] == (now - 100_000) // MINUTE_MS * MINUTE_MS


@pytest.mark.parametrize(
    ("verb", "args", "facts", "said"),
    [
        (verbs_past.history, ("", "", 61), ("step_s", None, 61), "step_s takes whole minutes"),
        (verbs_past.history, ("", "", 59), ("step_s", [60, 31_622_400], 59), "step_s takes 60"),
        (verbs_past.history, (0, "", 60), ("step_s", None, 60), "the most is 2000; take longer steps"),
        (verbs_past.history, (NOW, NOW - 1), ("from_ms", NOW - 1, NOW), f"{NOW}, which is after to_ms, {NOW - 1}"),
        (verbs_past.history, (NOW // 1000,), ("from_ms", [10**11, 10**14], NOW // 1000), "looks like seconds"),
        (verbs_past.history, ("", NOW // 1000), ("to_ms", [10**11, 10**14], NOW // 1000), "looks like seconds"),
        (verbs_past.history, (-1,), ("from_ms", [10**11, 10**14], -1), "from_ms takes milliseconds since 1970"),
        (verbs_past.peak, (NOW // 1000,), ("since_ms", [10**11, 10**14], NOW // 1000), "looks like seconds"),
        (verbs_past.peak, (NOW * 1000,), ("since_ms", [10**11, 10**14], NOW * 1000), "looks like microseconds"),
    ],
)
def test_what_cannot_be_asked_is_named_with_limit_and_value(verb, args, facts, said):
    with pytest.raises(RangeError, match=said) as caught:
        asked(verb, *args)
    assert (caught.value.field, caught.value.limit, caught.value.value) == facts


def test_zero_is_the_beginning():
    assert asked(verbs_past.peak, 0) == [0, 0]
    assert asked(verbs_past.history, 0, "", 2_592_000)[0] == 0


# A server


def grep(folder, word):
    return [path.name for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


def test_history_and_peaks_go_on_after_a_restart(tmp_path):
    arguments = ("--state", str(tmp_path / "state"))
    began_ms = time.time_ns() // 1_000_000
    for nth in range(3):
        with server_process(*arguments) as server, Client(f"online://{server.address}", timeout=10) as client:
            client.hits([(f"user{nth}-{i}", "/") for i in range(5 + nth)])
            assert client.peak(since=began_ms).people == client.count()
            server.end()
    with server_process(*arguments) as server, Client(f"online://{server.address}", timeout=10) as client:
        peak = client.peak()
        assert client.peak(since=began_ms) == peak
        assert peak.people == 18
        rows = client.history(began_ms // 3_600_000 * 3_600_000, step=3_600)
        assert sum(row.hits for row in rows) == 18
        assert sum(row.visitors for row in rows) == pytest.approx(18, abs=1)
        assert client.visitors(began_ms) == pytest.approx(18, abs=1)
        assert client.peak(since=began_ms + 3_600_000).at is None
        server.end()


def test_history_without_a_state_directory_is_in_memory(tmp_path):
    with server_process() as server, Client(f"online://{server.address}", timeout=10) as client:
        client.hit("ada", "/")
        assert client.history() == []
        assert client.peak(since=10**11).people == 1
        assert client.last("ada")[0].url == "/"
        assert client.last("kim") == [None]
        assert client.forget("ada", "kim") == 1
        assert client.count() == 0
        assert "history of the last 30 hours is in memory" in " ".join(server.log)


@pytest.mark.parametrize("is_online", [True, False], ids=["online", "gone"])
def test_who_is_forgotten_leaves_no_trace_in_any_file(tmp_path, is_online):
    state = tmp_path / "state"
    server = Server(free_port(), "--state", str(state), "--last-seen", "90")
    try:
        with server.client() as client:
            client.hit("unforgettable", "/here")
            client.hit("theo", "/here")
            if not is_online:
                client.leave("unforgettable")
            assert [seen and seen.url for seen in client.last("unforgettable", "theo")] == ["/here", "/here"]
            assert client.forget("unforgettable") == 1
            until(lambda: not grep(state, b"unforgettable"))
            assert client.last("unforgettable", "theo")[0] is None
            assert client.forget("unforgettable") == 0
            until(lambda: not grep(state, b"unforgettable"))
    finally:
        server.kill()
    server = Server(free_port(), "--state", str(state), "--last-seen", "90")
    try:
        with server.client() as client:
            assert client.seen("unforgettable", "theo")[0] is client.last("unforgettable")[0] is None
            assert client.count() == 1
    finally:
        server.kill()


ENDS = pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])


@contextlib.contextmanager
def serving(state, *arguments):
    with (
        server_process("--state", str(state), *arguments) as server,
        Client(f"online://{server.address}", timeout=10) as client,
    ):
        yield server, client


def snapshots(state):
    return {path.name for path in state.glob("snapshot-*")}


@ENDS
@pytest.mark.parametrize("arguments", [(), ("--last-seen", "5")], ids=["", "last-seen"])
def test_who_is_forgotten_as_the_server_ends_leaves_no_trace_after_the_next_start(tmp_path, sent, arguments):
    state = tmp_path / "state"
    with serving(state, *arguments) as (server, client):
        client.hit("unforgettable", "/here")
        client.hit("theo", "/here")
        client.leave("unforgotten")
        assert client.forget("unforgettable", "unforgotten") == 2
        server.end(sent)
    assert grep(state, b"unforgettable")
    assert inspect(state).report.users == 1
    with serving(state, *arguments) as (server, client):
        assert client.info()["Hits"]["users"] == "1"
        until(lambda: not grep(state, b"unforg"))
        assert client.forget("unforgettable", "unforgotten") == 0
        server.end()


def test_a_crash_between_a_snapshot_and_the_note_of_it_forgets_nobody_who_came_later(tmp_path):
    state, asked_ms = tmp_path / "state", round(time.time() * 1000)

    def listed():
        with contextlib.closing(sqlite3.connect(state / "history")) as db:
            return db.execute("SELECT count(*) FROM forgotten").fetchone()[0]

    with serving(state) as (server, client):
        client.forget("ada")
        client.hit("ada", "/after", seen_ms=asked_ms - 5_000)
        until(lambda: snapshots(state) and not listed())
        server.end(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(state / "history")) as db, db:
        (site,) = db.execute("SELECT id FROM sites WHERE name = ?", (b"default",)).fetchone()
        db.execute("INSERT INTO forgotten VALUES (1, ?, ?, ?)", (site, b"ada", asked_ms))
    with serving(state) as (server, client):
        assert client.seen("ada")[0].url == "/after"
        server.end()


@ENDS
@pytest.mark.parametrize("before", ["here", "gone", "unknown", "twice"])
def test_a_hit_that_comes_after_forget_stays_whatever_its_time(tmp_path, sent, before):
    state, seen_ms = tmp_path / "state", round(time.time() * 1000) - 5_000
    with serving(state) as (server, client):
        if before != "unknown":
            client.hit("ada", "/before")
        if before == "gone":
            client.leave("ada")
        assert client.forget("ada") == (before != "unknown")
        if before == "twice":
            client.hit("ada", "/between")
            assert client.forget("ada") == 1
        client.hit("ada", "/after", seen_ms=seen_ms)
        assert client.seen("ada")[0].url == "/after"
        server.end(sent)
    for _ in range(2):  # from the journal, then from a snapshot
        known = snapshots(state)
        with serving(state) as (server, client):
            assert client.seen("ada")[0].url == "/after"
            if not known:
                until(lambda: snapshots(state) and not grep(state, b"/before"))
            assert client.seen("ada")[0].url == "/after"
            server.end(sent)


@ENDS
def test_a_hit_that_comes_after_forget_stays_though_a_snapshot_has_taken_both(tmp_path, sent):
    state, seen_ms = tmp_path / "state", round(time.time() * 1000) - 5_000
    with serving(state) as (server, client):
        client.hit("ada", "/before")
        client.forget("ada")
        client.hit("ada", "/after", seen_ms=seen_ms)
        until(lambda: snapshots(state) and not grep(state, b"/before"))
        server.end(sent)
    with serving(state) as (server, client):
        assert client.seen("ada")[0].url == "/after"
        server.end()


def test_to_forget_a_name_that_nobody_has_deletes_older_hits(tmp_path):
    """As docs/privacy.md advises."""
    state = tmp_path / "state"
    with server_process("--state", str(state)) as server, Client(f"online://{server.address}", timeout=10) as client:
        client.hit("ada", "/old-page")
        client.hit("ada", "/new-page")
        assert grep(state, b"/old-page")
        assert client.forget("nobody-has-this-name") == 0
        until(lambda: not grep(state, b"/old-page"))
        assert client.seen("ada")[0].url == "/new-page"


def test_a_damaged_history_is_set_aside(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "history").write_bytes(b"no database" * 1_000)
    with server_process("--state", str(state)) as server, Client(f"online://{server.address}", timeout=10) as client:
        assert client.history() == []
        server.end()
    assert (state / "history.damaged").exists()


@pytest.mark.parametrize("left", [b"", b"x"])
def test_a_history_that_is_cut_off_is_set_aside_with_its_log(tmp_path, left):
    state, source = tmp_path / "state", tmp_path / "history"
    state.mkdir()
    written = History(source)
    written.add([(b"default", Minute(28_333_333, 3, 1, 2, 0, 5, 3, 3, 3, 0))])
    shutil.copy(source, state / "history")
    shutil.copy(tmp_path / "history-wal", state / "history-wal")
    log = (state / "history-wal").read_bytes()
    assert log
    (state / "history").write_bytes(left)
    with server_process("--state", str(state)) as server, Client(f"online://{server.address}", timeout=10) as client:
        assert client.history() == []
        assert any("history is damaged (its size in bytes is" in line for line in server.log)
        server.end()
    written.close()
    assert (state / "history.damaged").read_bytes() == left
    assert (state / "history.damaged-wal").read_bytes() == log


def test_last_seen_needs_a_directory():
    done = subprocess.run(
        [sys.executable, "-m", "online", "serve", "--last-seen", "90"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--last-seen also needs --state DIR" in done.stderr


def test_complete_minutes_survive_kill_9_and_none_is_there_twice(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    writing = (
        "import sys; from pathlib import Path; from online.keep.history import History, Minute\n"
        "history = History(Path(sys.argv[1]))\n"
        "for at in range(int(sys.argv[2]), 10**9):\n"
        "    row = Minute(at, 1, 1, 0, 0, 1, 1, 1, 1, 0)\n"
        "    history.add([(b'a', row), (b'b', row)])\n"
        "    print(at, flush=True)"
    )
    at = AT
    for nth in range(5):
        popen = subprocess.Popen(
            [sys.executable, "-c", writing, str(state / "history"), str(at)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + 7 * nth):
            written = int(popen.stdout.readline())
        popen.kill()
        rest = popen.communicate()[0].split()
        written = int(rest[-1]) if rest else written
        history = History(state / "history")
        for site in (b"a", b"b"):
            rows = history.rows(site, AT * MINUTE_MS, (AT + 1_500) * MINUTE_MS, MINUTE_MS)
            found = [row[0] // MINUTE_MS for row in rows]
            assert found[: written - AT + 1] == list(range(AT, written + 1))
            assert {row[5] for row in rows} == {1}
        at = found[-1] + 1
        history.close()


class Steps:
    """A service whose wall clock is set by hand."""

    loading = None
    clock_step_ms = 0

    def wall_of(self, ms):
        return ms + self.clock_step_ms


@pytest.fixture
def kept():
    """A keeper of the past whose minutes are turned by hand: `pass_to(index time, step)`, and its rows."""
    sites, service, now = Sites(Limits()), Steps(), [AT * MINUTE_MS]
    keeper = PastKeeper(Config(), sites, service, lambda: now[0], Slices())
    keeper._open()
    keeper._begin()

    def pass_to(minutes, step_minutes=0):
        now[0], service.clock_step_ms = (AT + minutes) * MINUTE_MS, step_minutes * MINUTE_MS
        for _ in keeper._turn_minute(service.wall_of(now[0]) // MINUTE_MS):
            pass
        keeper._written.result()

    def rows():
        found = keeper._writer.rows(b"default", (AT - 600) * MINUTE_MS, (AT + 600) * MINUTE_MS, MINUTE_MS)
        return {row[0] // MINUTE_MS - AT: row[1] for row in found}

    def hit(user):
        sites[b"default"].hit(user, b"/", now_ms=now[0])

    yield pass_to, rows, hit
    keeper._note_end()
    keeper._close()


def test_a_minute_away_is_absent_and_one_that_the_clock_skipped_is_not(kept):
    pass_to, rows, hit = kept
    hit(b"ada")
    pass_to(1)
    pass_to(5)  # it was suspended
    assert rows() == {0: 1, 1: 1}
    pass_to(6, 4)  # the clock was set by 4 minutes, from 6 to 10
    assert rows() == {0: 1, 1: 1, 5: 1, **dict.fromkeys(range(6, 10), 1)}
    pass_to(7, 4)
    assert 10 in rows()


def test_a_minute_that_comes_twice_is_one_row(kept):
    pass_to, rows, hit = kept
    hit(b"ada")
    pass_to(1)
    hit(b"kim")
    pass_to(2, -2)
    hit(b"theo")
    for later in range(3, 6):
        pass_to(later, -2)
    assert rows() == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize("damage", [b"", b"junk", zlib.compress(b"short"), "text", None], ids=repr)
def test_a_damaged_sketch_is_as_none_and_the_next_takes_its_place(history, damage):
    users = sketch(b"u%d" % i for i in range(100))
    for at in (AT, AT + HOUR):
        history.add([(b"a", minute(at, 1, visitors=7, hour_visitors=7))], [(b"a", at, users)])
    history._db.execute("UPDATE sketches SET registers = ?", (damage,))
    asked = b"a", AT * MINUTE_MS, (AT + DAY) * MINUTE_MS, DAY * MINUTE_MS
    assert history.sketch(b"a", AT) is None
    assert history.rows(*asked)[0][-1] is None
    for at in (AT, AT + HOUR):
        history.add([(b"a", minute(at, 1))], [(b"a", at, users)])
        assert history.sketch(b"a", at) == users
    assert history.rows(*asked)[0][-1] == estimate(users)


# How long what is kept


def test_without_a_state_directory_the_last_thirty_hours_are_in_memory():
    history = History(None)
    for at in range(AT, AT + 3 * DAY, 7):
        history.add([(b"a", minute(at, 5))])
        history.prune((at + 1) * MINUTE_MS, days=MEMORY_DAYS, last_days=0)
    found = history.rows(b"a", AT * MINUTE_MS, (AT + 4 * DAY) * MINUTE_MS, MINUTE_MS)
    assert 30 * HOUR - 7 <= at - found[0][0] // MINUTE_MS <= 31 * HOUR
    assert history._db.execute("SELECT count(*) FROM rows").fetchone()[0] < 31 * HOUR
    assert history.peak(b"a", 1)[1] >= found[0][0]
    history.close()


class Purging:
    """Stands for the keeper of journals: knows who asked for a purge, and does it at once."""

    def __init__(self):
        self.n, self.report = 0, Report()

    def purge(self, number, taken, done):
        self.n += 1
        done()


def test_beside_a_bus_who_is_forgotten_is_remembered_for_twice_the_window():
    async def test():
        server = make_server(bus="redis://127.0.0.1:1")
        keeper = next(part for part in server.parts if isinstance(part, PastKeeper))
        keeper._purging = purging = Purging()
        index = server.sites[b"default"]
        index.hit(b"ada", b"/", now_ms=server.clock.now_ms())
        async with keeper.open():
            forgetting = keeper.forget(b"default", [b"ada", b"kim"])
            await replied(forgetting)
            assert (forgetting.result(), purging.n, index.count(now_ms=server.clock.now_ms())) == (1, 1, 0)
            index.hit(b"ada", b"/", seen_ms=server.clock.now_ms(), now_ms=server.clock.now_ms())  # the bus again
            await trio.sleep(2 * server.sites.window_s - 60)
            await keeper._purge_again()
            assert (purging.n, len(keeper._writer.forgotten()[0])) == (1, 2)
            await trio.sleep(120)
            await keeper._purge_again()
            assert (purging.n, len(keeper._writer.forgotten()[0])) == (2, 0)

    run(test)


def test_whom_a_journal_brings_back_is_forgotten_again_but_not_who_came_since():
    async def test():
        server = make_server()
        keeper = next(part for part in server.parts if isinstance(part, PastKeeper))
        index, now_ms = server.sites[b"default"], server.clock.now_ms()
        async with keeper.open(), trio.open_nursery() as nursery:
            nursery.start_soon(server.slices.run)
            keeper._writer.forget(b"default", [b"ada", b"kim"], now_ms)
            index.hit(b"ada", b"/", seen_ms=now_ms, now_ms=now_ms + 1)
            index.hit(b"kim", b"/", seen_ms=now_ms + 1, now_ms=now_ms + 1)
            await keeper.load()
            assert [found is not None for found in index.seen([b"ada", b"kim"], now_ms=now_ms + 2)] == [False, True]
            assert keeper._writer.forgotten() == ([], 0)
            nursery.cancel_scope.cancel()

    run(test)


def test_a_server_that_ends_at_once_keeps_the_visitors_of_servers_before(tmp_path):
    async def test():
        for users in (range(20), range(20, 30), ()):
            sites, service = Sites(Limits()), Steps()
            keeper = PastKeeper(Config(state=tmp_path), sites, service, lambda: AT * MINUTE_MS, Slices())
            async with keeper.open():  # and nothing of its tasks
                for number in users:
                    sites[b"default"].hit(b"user%d" % number, b"/", now_ms=AT * MINUTE_MS)
                hour = keeper._minute - keeper._minute % HOUR
        history = History(tmp_path / "history", reads_only=True)
        rows = history.rows(b"default", hour * MINUTE_MS, (hour + HOUR) * MINUTE_MS, HOUR * MINUTE_MS)
        assert [row[-1] for row in rows] == [pytest.approx(30, abs=1)]
        history.close()

    run_in_real_time(test)
