"""`online replay`: how times are re-stamped and kept, and whole logs into a real server."""

import gzip
import io
import math
import sys

import pytest

from online.cli import main as cli
from online.cli import replay
from online.cli.replay import BATCH_HITS, TICK_S, Traffic, ending, live
from online.logs.hitlog import LoggedHit
from online.terms import SEEN_MIN_MS
from online_client import BatchResult, ConnectionFailed

NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
START_MS = 1_800_000_000_000


def hit(second, user=b"theo", url=b"/a"):
    return LoggedHit(user, url, NOON_MS + round(second * 1000))


class Times:
    """A clock that goes on when somebody sleeps, and by `cost_ms` with every batch."""

    def __init__(self, cost_ms=0):
        self.now_ms = START_MS
        self.cost_ms = cost_ms
        self.batches = []  # (when it was sent, its hits)

    def hits(self, hits):
        self.batches.append((self.now_ms, list(hits)))
        self.now_ms += self.cost_ms
        return BatchResult(len(hits), 0, 0, None)

    def sleep(self, seconds):
        self.now_ms += math.ceil(seconds * 1000)

    def traffic(self):
        return Traffic(lambda site: self, now_ms=lambda: self.now_ms, sleep=self.sleep)

    def feed(self, hits, stamp):
        shown = []
        traffic = self.traffic()
        traffic.feed(hits, stamp, shown.append)
        return traffic, shown

    @property
    def stamps(self):
        return [seen_ms for _, hits in self.batches for _, _, seen_ms in hits]


def test_as_fast_as_it_happened():
    times = Times()
    times.feed([hit(0), hit(10), hit(11.5)], live(START_MS, 1))
    assert times.stamps == [START_MS, START_MS + 10_000, START_MS + 11_500]
    assert [sent_ms - START_MS for sent_ms, _ in times.batches] == [0, 10_000, 11_500]


def test_sixty_times_as_fast():
    times = Times()
    times.feed([hit(0), hit(60), hit(3_600)], live(START_MS, 60))
    assert times.stamps == [START_MS, START_MS + 1_000, START_MS + 60_000]


def test_slower_than_it_happened():
    times = Times()
    times.feed([hit(0), hit(1)], live(START_MS, 0.5))
    assert times.stamps == [START_MS, START_MS + 2_000]


@pytest.mark.parametrize("speed", [0.5, 1, 60, 1_000])
def test_no_hit_is_sent_before_its_time(speed):
    times = Times(cost_ms=3)
    times.feed([hit(second * second % 97) for second in range(300)], live(START_MS, speed))
    assert all(seen_ms <= sent_ms for sent_ms, hits in times.batches for _, _, seen_ms in hits)
    assert len(times.stamps) == 300


def test_a_hit_out_of_order_keeps_its_time_and_makes_nobody_wait():
    times = Times()
    times.feed([hit(0), hit(10), hit(-5), hit(7), hit(12)], live(START_MS, 1))
    assert [stamp - START_MS for stamp in times.stamps] == [0, 10_000, -5_000, 7_000, 12_000]
    assert times.now_ms == START_MS + 12_000


def test_hits_that_are_due_together_go_together():
    times = Times()
    times.feed([hit(millisecond / 1000) for millisecond in range(1_000)], live(START_MS, 1))
    assert 1 < len(times.batches) <= 2 + 1 / TICK_S
    assert times.stamps == list(range(START_MS, START_MS + 1_000))


def test_at_once_with_the_end_as_now():
    times = Times(cost_ms=7)
    times.feed([hit(0), hit(3_600), hit(3_590)], ending(START_MS, NOON_MS + 3_600_000))
    assert [stamp - START_MS for stamp in times.stamps] == [-3_600_000, 0, -10_000]
    assert len(times.batches) == 1


def test_a_time_before_all_times_is_the_first_there_is():
    times = Times()
    times.feed([LoggedHit(b"theo", b"/a", SEEN_MIN_MS)], ending(START_MS, 10**14))
    assert times.stamps == [SEEN_MIN_MS]


def test_batches_are_bounded_and_counted():
    times = Times()
    traffic, shown = times.feed([hit(0)] * (2 * BATCH_HITS + 1), live(START_MS, 1))
    assert [len(hits) for _, hits in times.batches] == [BATCH_HITS, BATCH_HITS, 1]
    assert traffic.hits == 2 * BATCH_HITS + 1
    assert traffic.result == BatchResult(2 * BATCH_HITS + 1, 0, 0, None)
    assert shown == [BATCH_HITS, 2 * BATCH_HITS, 2 * BATCH_HITS + 1]


def test_who_waits_is_shown_progress_each_second():
    _, shown = Times().feed([hit(0), hit(10)], live(START_MS, 1))
    assert shown == [1] * 11 + [2]


def test_what_was_sent_before_the_server_went_stays_counted():
    times = Times()
    traffic = times.traffic()

    def hits():
        yield from [hit(0)] * BATCH_HITS
        times.hits = failing
        yield from [hit(0)] * BATCH_HITS

    def failing(hits):
        raise ConnectionFailed("it went")

    with pytest.raises(ConnectionFailed):
        traffic.feed(hits(), live(START_MS, 1), lambda hits: None)
    assert traffic.hits == BATCH_HITS


# The command


def line(user, url, clock, day="01/Mar/2024"):
    return f'{user} - - [{day}:{clock} +0000] "GET {url} HTTP/1.1" 200 1\n'


@pytest.fixture
def log(tmp_path):
    def write(*lines, name="access.log"):
        path = tmp_path / name
        data = "".join(lines).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return write


def test_at_max_the_server_ends_as_the_log_did(client, log, capsys):
    path = log(
        line("gone", "/a", "11:29:59"),
        line("theo", "/a", "11:31:00"),
        line("dora", "/b", "11:59:00"),
        "what is this\n",
        line("theo", "/b", "12:00:00"),
        line("early", "/a", "11:40:00"),
        name="access.log.gz",
    )
    assert cli.main(["replay", path, "--speed", "max"]) == 0
    page = client.page("/b")
    assert (page.online, [viewer.user for viewer in page.users]) == (3, ["theo", "dora"])
    assert 60 <= page.users[1].age.total_seconds() < 120
    assert client.page("/a").users[0].user == "early"
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0].startswith("Sent 5 hits in ")
    assert "accepted 4, ignored 1 as too old, refused 0" in out
    assert "1 of 6 lines was left out; the first is " in out


def test_several_logs_are_one_stream(client, log):
    first = log(line("theo", "/a", "12:00:00"), name="access.log.1")
    second = log(line("dora", "/a", "12:20:00"), name="access.log")
    assert cli.main(["replay", first, second, "--speed", "max"]) == 0
    newer, older = (viewer.seen_at for viewer in client.page("/a").users)
    # The newer is stamped with the time of this process; a server whose clock is a little behind takes it as now.
    assert (newer - older).total_seconds() == pytest.approx(1_200, abs=0.1)


def test_fast_traffic_is_stamped_as_it_is_sent(client, log):
    path = log(*(line(f"u{second}", "/a", f"12:00:{second:02}") for second in range(60)))
    assert cli.main(["replay", path, "--speed", "1000"]) == 0
    assert client.count("/a") == 60
    assert [viewer.user for viewer in client.page("/a", 2).users] == ["u59", "u58"]


def test_without_a_terminal_progress_is_told_now_and_then(client, log, capsys, monkeypatch):
    monkeypatch.setattr(replay, "TOLD_S", 0.0)
    path = log(line("theo", "/a", "12:00:00"), line("theo", "/b", "12:00:02"))
    assert cli.main(["replay", path, "--speed", "20"]) == 0
    first, *rest, last = capsys.readouterr().err.splitlines()
    assert first == "online replay: sending 20 times as fast as in the log; --speed max sends all at once"
    assert "online replay: sending, 1 hit so far" in rest
    assert last == "online replay: sending, 2 hits so far"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"time": "x", "user": "a", "url": "/", "kind": "bot"}', "no time"),
        ('{"time": 1709294400, "user": "", "url": "/", "kind": "bot"}', "the user is empty"),
        ('{"time": 1709294400, "user": "a", "url": "", "kind": "bot"}', "the url is empty"),
        ('{"time": 1709294400, "user": "a", "site": "s", "leave": false}', "no url in field url"),
        ('{"time": 1709294400, "user": "\\ud800", "url": "/", "kind": "bot"}', "a lone surrogate in the text"),
    ],
)
def test_lines_of_a_dump_that_cannot_be_sent_are_counted(client, log, capsys, text, says):
    path = log('{"seen_ms": 1709294400000, "user": "theo", "url": "/", "kind": "guest"}\n', text)
    assert cli.main(["replay", path, "--speed", "max"]) == 0
    assert f"1 of 2 lines was left out; the first is {path}, line 2: {says}" in capsys.readouterr().out
    assert (client.kinds().guests, client.count()) == (1, 1)


def test_a_kind_that_is_none_is_a_field_of_somebody_elses(client, log):
    path = log('{"time": 1709294400, "user": "theo", "url": "/", "kind": "pageview", "site": "www"}')
    assert cli.main(["replay", path, "--speed", "max"]) == 0
    assert client.kinds().members == 1


def test_csv_from_standard_input(client, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"theo,7,1709294400\n")))
    assert cli.main(["replay", "-", "--columns", "user,item,time", "--url-prefix", "/item/"]) == 0
    assert client.seen("theo")[0].url == "/item/7"


def test_on_a_terminal_there_is_a_progress_bar(client, log, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert cli.main(["replay", log(line("theo", "/a", "12:00:00")), "--speed", "max"]) == 0
    assert client.count() == 1
    assert "Sending" in capsys.readouterr().err


def test_a_log_that_cannot_be_read_is_named_and_the_next_one_follows(client, log, tmp_path, capsys):
    missing = str(tmp_path / "missing.log")
    assert cli.main(["replay", missing, log(line("theo", "/a", "12:00:00")), "--speed", "max"]) == 1
    assert client.count() == 1
    assert capsys.readouterr().err.splitlines() == [f"online replay: cannot read {missing}: No such file or directory"]


def test_a_log_without_hits_is_named(url, log, capsys):
    path = log("what is this\n")
    assert cli.main(["replay", path]) == 1
    assert f"no hits in {path}" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_named(log, capsys):
    path = log(line("theo", "/a", "12:00:00"))
    assert cli.main(["replay", path, "--url", "online://127.0.0.1:1"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("online replay: cannot connect to online://127.0.0.1:1/default")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-", "--speed", "max"], "--speed max reads logs twice, but standard input only once"),
        (["access.log", "--url", "http://h"], "should begin with online://"),
    ],
)
def test_options_that_do_not_go_together(args, says, capsys):
    assert cli.main(["replay", *args]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert says in error


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "inf", "1e9", ""])
def test_speeds_that_are_none(speed, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["replay", "access.log", "--speed", speed])
    assert caught.value.code == 2
    assert "takes 0.001 to 1,000,000, or max" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("speed", ["1000000", "max"])
@pytest.mark.parametrize(("counted_bytes", "is_counted"), [(1 << 20, True), (0, False)])
def test_progress_goes_by_what_was_sent(client, log, monkeypatch, speed, counted_bytes, is_counted):
    seen = []

    class Progress:
        def __init__(self, *columns, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_task(self, doing, total, hits):
            self.doing, self.total = doing, total

        def update(self, task, completed, hits):
            seen.append((self.doing, completed, self.total))

    monkeypatch.setattr("rich.progress.Progress", Progress)
    monkeypatch.setattr(replay, "COUNTED_BYTES", counted_bytes)
    monkeypatch.setattr(replay, "BATCH_HITS", 24)
    monkeypatch.setattr(sys, "stderr", Terminal())
    path = log(*(line("theo", "/a", f"12:{second // 60:02}:{second % 60:02}") for second in range(60)))
    assert cli.main(["replay", path, "--speed", speed]) == 0
    sending = [(completed, total) for doing, completed, total in seen if doing == "Sending"]
    if is_counted or speed == "max":
        assert sending[-1] == (60, 60)
        assert {total for _, total in sending} == {60}
        assert sending[0][0] <= 24
    else:
        assert sending[-1][0] == sending[-1][1] > 60


def test_ctrl_c_tells_what_was_sent(client, log, capsys, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(replay.time, "sleep", interrupted)
    path = log(line("theo", "/a", "12:00:00"), line("theo", "/b", "12:00:10"))
    assert cli.main(["replay", path]) == 130
    assert client.count("/a") == 1
    assert capsys.readouterr().out.startswith("Sent 1 hit in")
