"""`online report`: its figures against a plain model, its points over time, and what it prints and draws."""

import argparse
import io
import json
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from tests.serving import command as cli_command
from tests.serving import environment

from online.cli import report
from online.cli.main import main
from online.cli.report import MAX_POINTS, STEPS_S, Point, Survey, survey
from online.errors import ConfigError
from online.logs.hitlog import LoggedHit

NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
YEAR_S = 365 * 24 * 3600


def hit(user, url, second):
    return LoggedHit(user, url, NOON_MS + round(second * 1000))


def hits_of(*triples):
    return [hit(user, url, second) for user, url, second in triples]


def shop_hits(seed, count=400, users=12, urls=4, stray_s=90):
    """A seeded site: busy and silent times, and lines out of order by up to `stray_s`."""
    rng = random.Random(seed)
    second = 0.0
    hits = []
    for _ in range(count):
        second += rng.choice([0, 0, 0, 0.25, 1, 2, 7, 30, rng.choice([0, 61, 119, 300])])
        seen = second - rng.choice([0, 0, 0, rng.uniform(0, stray_s)])
        hits.append(hit(b"u%d" % rng.randrange(users), b"/%d" % rng.randrange(urls), seen))
    return hits


class Model:
    """Who was online when, worked out anew for every moment from all hits read until then."""

    def __init__(self, hits, window_s):
        self.window_s = window_s
        self.now_ms = []
        self.hits = []
        now_ms = 0
        for user, url, seen_ms in hits:
            now_ms = max(now_ms, seen_ms)
            self.now_ms.append(now_ms)
            self.hits.append((user, url, seen_ms))

    def pages(self, length, at_ms):
        """People on each page at a time, by the first `length` hits."""
        newest = {}
        for (user, url, seen_ms), now_ms in zip(self.hits[:length], self.now_ms, strict=False):
            if self._inside(seen_ms, now_ms) and seen_ms >= newest.get(user, (0, b""))[0]:
                newest[user] = (seen_ms, url)
        return Counter(url for seen_ms, url in newest.values() if self._inside(seen_ms, at_ms))

    def people_at(self, at_ms):
        length = sum(now_ms <= at_ms for now_ms in self.now_ms)
        return self.pages(length, at_ms).total()

    def peak(self):
        """The most people at once, when that was first so, and the pages then."""
        moments = ((self.pages(length + 1, now_ms), now_ms) for length, now_ms in enumerate(self.now_ms))
        pages, at_ms = max(moments, key=lambda moment: moment[0].total())
        return pages.total(), at_ms, pages

    def _inside(self, seen_ms, now_ms):
        return seen_ms // 1000 > now_ms // 1000 - self.window_s


@pytest.fixture(params=range(8), ids=lambda seed: f"seed{seed}")
def seeded(request):
    hits = shop_hits(request.param)
    return hits, survey(hits, window_s=60, top=3)


# --- figures


def test_figures_of_a_few_hits():
    found = survey(
        hits_of(
            (b"ada", b"/a", 0),
            (b"theo", b"/a", 10),
            (b"ada", b"/b", 20),
            (b"kim", b"/b", 30),
            (b"late", b"/c", -1800),
            (b"theo", b"/a", 5000),
        )
    )
    assert found == Survey(
        window_s=1800,
        hits=6,
        users=4,
        urls=3,
        first_ms=NOON_MS - 1_800_000,
        last_ms=NOON_MS + 5_000_000,
        late=1,
        peak=3,
        peak_at_ms=NOON_MS + 30_000,
        peak_pages=2,
        peak_top=[(b"/b", 2), (b"/a", 1)],
        begin_ms=NOON_MS,
        points=found.points,
    )


def test_figures_are_those_of_a_plain_model(seeded):
    hits, found = seeded
    people, at_ms, pages = Model(hits, 60).peak()
    assert (found.peak, found.peak_at_ms, found.peak_pages) == (people, at_ms, len(pages))
    assert found.peak_top == sorted(pages.items(), key=lambda item: (-item[1], item[0]))[:3]
    assert (found.hits, found.users, found.urls) == (
        len(hits),
        len({user for user, _, _ in hits}),
        len({url for _, url, _ in hits}),
    )
    times = [seen_ms for _, _, seen_ms in hits]
    assert (found.first_ms, found.last_ms) == (min(times), max(times))


def test_model_is_tried_with_late_hits_and_with_peaks_in_the_middle():
    found = [survey(shop_hits(seed), window_s=60) for seed in range(8)]
    assert any(each.late for each in found)
    assert any(each.first_ms + 120_000 < each.peak_at_ms < each.last_ms - 120_000 for each in found)


def test_peak_is_where_it_was_first_reached():
    again = [(b"ada", b"/b", 1), (b"ada", b"/c", 1800), (b"theo", b"/d", 1800)]
    found = survey(hits_of((b"ada", b"/a", 0), (b"theo", b"/a", 0), *again))
    assert (found.peak, found.peak_at_ms, found.peak_top) == (2, NOON_MS, [(b"/a", 2)])


def test_pages_of_the_peak_are_known_after_a_silence_of_years():
    crowd = [hit(b"u%d" % number, b"/%d" % (number % 3), YEAR_S + number) for number in range(100)]
    found = survey([hit(b"ada", b"/old", 0), *crowd, hit(b"ada", b"/new", 9 * YEAR_S)], top=1)
    assert (found.peak, found.peak_pages, found.peak_top) == (100, 3, [(b"/0", 34)])


def test_line_out_of_order_never_moves_time_back():
    found = survey(hits_of((b"ada", b"/a", 100), (b"theo", b"/a", 0), (b"kim", b"/a", 100)))
    assert (found.peak, found.peak_at_ms) == (3, NOON_MS + 100_000)
    assert [point.at_ms for point in found.points] == [NOON_MS + 100_000]


def test_without_hits_there_is_nothing_to_tell():
    assert survey([]) is None


# --- over time


def test_points_are_exact(seeded):
    hits, found = seeded
    model = Model(hits, 60)
    assert [point.people for point in found.points] == [model.people_at(point.at_ms) for point in found.points]


def test_most_between_points_is_exact(seeded):
    hits, found = seeded
    model = Model(hits, 60)
    counts = [(now_ms, model.pages(length + 1, now_ms).total()) for length, now_ms in enumerate(model.now_ms)]
    since_ms, people = 0, 0
    for point in found.points:
        between = [count for now_ms, count in counts if since_ms < now_ms <= point.at_ms]
        assert point.most == max([people, *between])
        since_ms, people = point.at_ms, point.people
    assert max(point.most for point in found.points) == found.peak


@pytest.mark.parametrize("span_s", [1, 60, 3600, 86_400, 40 * 86_400, 13 * YEAR_S, 60 * YEAR_S])
def test_points_are_regular_and_few_over_any_time(span_s):
    found = survey([hit(b"ada", b"/a", span_s * number / 50) for number in range(51)])
    times = [point.at_ms for point in found.points]
    steps = {after - before for before, after in pairwise(times[:-1])}
    assert len(times) <= MAX_POINTS
    assert len(times) > min(span_s, MAX_POINTS // 6)
    assert len(steps) <= 1
    assert times[-1] == found.last_ms
    assert all(at_ms % step == 0 for step in steps for at_ms in times[:-1])


def test_silent_years_have_points_with_nobody():
    found = survey(hits_of((b"ada", b"/a", 0), (b"ada", b"/a", 10 * YEAR_S)))
    assert {point.people for point in found.points[1:-1]} == {0}
    assert found.points[-1] == Point(NOON_MS + 10 * YEAR_S * 1000, 1, 1)


def test_steps_divide_one_another():
    assert all(after % before == 0 for before, after in pairwise(STEPS_S))


def test_table_lists_the_points():
    found = survey(hits_of((b"ada", b"/a", 0), (b"theo", b"/a", 1.5)))
    assert report.table(found) == (
        "time,people,most\n2024-03-01T12:00:00Z,1,1\n2024-03-01T12:00:01Z,1,1\n2024-03-01T12:00:01.500Z,2,2\n"
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_chart_fits_the_width(seeded, width):
    lines = report.chart(seeded[1], width).splitlines()
    assert lines
    assert max(len(line) for line in lines[1:]) <= width


def test_chart_draws_each_column_as_high_as_its_most():
    found = survey([hit(b"u%d" % number, b"/a", number) for number in range(80)])
    lines = report.chart(found, 85).splitlines()
    assert lines[1] == f"80 │{'▁▂▃▄▅▆▇█':>80}"
    assert lines[10] == "   │▁▂▃▄▅▆▇█" + "█" * 72
    assert lines[11].startswith(" 0 ┼┬───")
    assert lines[12].split() == [f"12:0{second // 60}:{second % 60:02}" for second in range(0, 80, 10)]


def test_chart_without_room_or_time_is_left_out():
    assert report.chart(survey(hits_of((b"ada", b"/a", 0), (b"ada", b"/a", 9))), 12) == ""
    assert report.chart(survey(hits_of((b"ada", b"/a", 0))), 80) == ""


@pytest.mark.parametrize(
    ("span_s", "labels"),
    [
        (0, ["12:00:00"]),
        (5, ["12:00:00", "12:00:01", "12:00:02", "12:00:03", "12:00:04", "12:00:05"]),
        (3600, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50", "13:00"]),
        (86_400, ["12:00", "15:00", "18:00", "21:00", "2 Mar", "03:00", "06:00", "09:00", "12:00"]),
        (6 * 86_400, ["2 Mar", "3 Mar", "4 Mar", "5 Mar", "6 Mar", "7 Mar"]),
        (200 * 86_400, ["Apr 2024", "May 2024", "Jun 2024", "Jul 2024", "Aug 2024", "Sep 2024"]),
        (2 * YEAR_S, ["Apr 2024", "Jul 2024", "Oct 2024", "Jan 2025", "Apr 2025", "Jul 2025", "Oct 2025", "Jan 2026"]),
        (12 * YEAR_S, ["2026", "2028", "2030", "2032", "2034", "2036"]),
        (60 * YEAR_S, ["2030", "2040", "2050", "2060", "2070", "2080"]),
        (900 * YEAR_S, ["2100", "2200", "2300", "2400", "2500", "2600", "2700", "2800", "2900"]),
    ],
)
def test_time_axis_has_round_moments(span_s, labels):
    ticks = report._time_ticks(NOON_MS, NOON_MS + span_s * 1000, 10)
    assert [label for _, label in ticks] == labels
    assert all(NOON_MS <= at_ms <= NOON_MS + span_s * 1000 for at_ms, _ in ticks)


@pytest.mark.parametrize("people", [1, 2, 7, 8, 9, 15, 59, 100, 17_427, 999_999, 10_000_000])
def test_people_axis_has_few_round_steps(people):
    step = report._people_step(people)
    assert str(step).rstrip("0") in {"1", "2", "5"}
    assert people <= 8 * step
    assert step == 1 or people >= 3 * step


@pytest.mark.parametrize("hits", [hits_of((b"ada", b"/a", 0)), shop_hits(1), hits_of((b"a", b"/", 0), (b"b", b"/", 9))])
def test_picture_is_whole_and_labelled(hits):
    found = survey(hits)
    root = ElementTree.fromstring(report.picture(found, "a <b> & \x1b \udcff"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "People online"
    assert texts[1].startswith("a <b> & ? ?: ")
    assert any(text.startswith(f"{found.peak} at 2024-03-01 12:") for text in texts)
    assert any(text.startswith("2024-03-01 1") and text.endswith(" UTC") for text in texts)


def test_picture_stays_inside_its_frame():
    root = ElementTree.fromstring(report.picture(survey(shop_hits(2)), "log"))
    line = root.find("{http://www.w3.org/2000/svg}polyline").get("points")
    for x, y in (map(float, pair.split(",")) for pair in line.split()):
        assert report._LEFT <= x <= report._RIGHT
        assert report._TOP <= y <= report._BOTTOM


# --- the command


def logged(user, url, second, form='%s - - [01/Mar/2024:12:%02d:%02d +0000] "GET %s HTTP/1.1" 200 5\n'):
    return (form % (user, second // 60, second % 60, url)).encode()


LOG = logged("ada", "/a", 0) + logged("theo", "/a", 10) + logged("kim", "/b", 600)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run `online report` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")

    def run(*arguments):
        parser = argparse.ArgumentParser("online report")
        report.add_arguments(parser)
        code = report.run(parser.parse_args(arguments))
        return code, *capsys.readouterr()

    return run


def test_report_says_when_most_people_were_online_and_where(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    code, out, err = command("access.log")
    assert (code, err) == (0, "")
    summary, online, *rest = out.split("\n\n")
    assert summary == "3 hits by 3 users on 2 urls, 2024-03-01 12:00:00 to\n2024-03-01 12:10:00 UTC"
    assert online == (
        "Most people online at once: 3, on 2 pages, at\n2024-03-01 12:10:00 UTC\n"
        "(online: a hit within the last 30 min)"
    )
    assert rest[0] == "Top pages then\n  2  /a\n  1  /b"
    assert rest[1].startswith("People online over time (UTC)\n3 │")
    assert len(rest) == 2


def test_several_logs_are_one_stream(command, tmp_path):
    (tmp_path / "1").write_bytes(LOG)
    (tmp_path / "2").write_bytes(logged("eve", "/c", 601))
    code, out, _ = command("1", "2")
    assert code == 0
    assert "Most people online at once: 4, on 3 pages, at\n2024-03-01 12:10:01 UTC" in out


def test_logs_in_the_wrong_order_are_noticed(command, tmp_path):
    (tmp_path / "1").write_bytes(LOG)
    (tmp_path / "2").write_bytes(logged("eve", "/c", 3599))
    _, out, _ = command("2", "1")
    assert "3 hits came more than 30 min late, and made nobody online;\nare the logs given oldest first?" in out


def test_window_and_top_are_options(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    _, out, _ = command("access.log", "--window", "90", "--top", "0")
    assert "Most people online at once: 2, on 1 page, at\n2024-03-01 12:00:10 UTC" in out
    assert "the last 90 s)" in out
    assert "Top pages" not in out


def test_csv_logs_are_read(command, tmp_path):
    (tmp_path / "clicks").write_bytes(b"u1,12,x,pv,1709294400\nu2,12,x,pv,1709294401\n")
    code, out, _ = command("clicks", "--format", "csv", "--columns", "user,item,,,time", "--url-prefix", "/item/")
    assert code == 0
    assert "  2  /item/12\n" in out


def test_skipped_lines_are_counted_and_shown_harmless(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG + b"\x1b[2Jbroken\n" * 7)
    code, out, _ = command("access.log")
    assert code == 0
    assert "Skipped 7 of 10 lines, the first:\n  access.log line 4: it is not in common or combined format\n" in out
    assert r'    "\x1b[2Jbroken"' in out
    assert "\x1b" not in out


def test_urls_are_shown_harmless_and_fit_the_width(command, tmp_path):
    (tmp_path / "access.log").write_bytes(
        logged("a", "/\x1b[31m\u202e", 0) + logged("b", "/é", 0) + logged("c", "/" + "x" * 500, 0)
    )
    _, out, _ = command("access.log")
    shown = out.split("Top pages then\n")[1].splitlines()[:3]
    assert shown == ["  1  /\\x1b[31m\\u202e", "  1  /" + "x" * 51 + "...", "  1  /é"]


def test_terminal_without_block_characters_gets_question_marks(command, tmp_path, monkeypatch):
    (tmp_path / "access.log").write_bytes(LOG)
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert command("access.log")[0] == 0
    ascii_only.flush()
    assert b"\n3 ?" in ascii_only.buffer.getvalue()


def test_figures_come_as_json(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG + b"broken\n" + b'x - - [01/Mar/2024:12:10:00 +0000] "GET /\xff" 200 5\n')
    code, out, _ = command("access.log", "--json", "--top", "9")
    assert code == 0
    assert json.loads(out) == {
        "lines": 5,
        "skipped": 1,
        "hits": 4,
        "users": 4,
        "urls": 3,
        "late": 0,
        "window_s": 1800,
        "first": "2024-03-01T12:00:00Z",
        "last": "2024-03-01T12:10:00Z",
        "peak": {
            "people": 4,
            "at": "2024-03-01T12:10:00Z",
            "pages": 3,
            "top": [["/a", 2], ["/b", 1], ["/\udcff", 1]],
        },
    }


def test_time_series_is_written_as_csv_and_svg(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    code, _, err = command("access.log", "--csv", "o.csv", "--svg", "o.svg")
    assert (code, err) == (0, "")
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert (rows[0], rows[-1]) == ("time,people,most", "2024-03-01T12:10:00Z,3,3")
    assert ElementTree.parse(tmp_path / "o.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_file_that_cannot_be_written_is_named(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    code, out, err = command("access.log", "--csv", "no/o.csv", "--svg", ".")
    assert code == 1
    assert out.startswith("3 hits")
    assert err == (
        "online report: cannot write no/o.csv: No such file or directory\n"
        "online report: cannot write .: Is a directory\n"
    )


@pytest.mark.parametrize("columns", [40, 80])
def test_text_fits_the_width_and_no_time_is_broken(command, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [logged(f"u{number % 60}", f"/{number % 300}", number) for number in range(2000)]
    (tmp_path / "access.log").write_bytes(b"".join(lines) + b"\xff\x1b" * 99 + b"\n" + LOG)
    _, out, _ = command("access.log", "--window", "60")
    assert max(map(len, out.splitlines())) <= columns
    assert out.startswith("2,003 hits by 63 users on 302 urls,")
    assert "2024-03-01 12:33:19 UTC\n\n" in out
    assert "are the logs given oldest first?" in out.replace("\n", " ")


@pytest.mark.parametrize("option", ["--csv", "--svg"])
@pytest.mark.parametrize("name", ["access.log", "./access.log", "symbolic", "hard"])
def test_file_that_is_a_log_is_not_written(command, tmp_path, option, name):
    log = tmp_path / "access.log"
    log.write_bytes(LOG)
    (tmp_path / "symbolic").symlink_to(log)
    (tmp_path / "hard").hardlink_to(log)
    with pytest.raises(ConfigError, match=f"{option} and a log are the same file, {name}; choose another"):
        command("missing", "access.log", option, name)
    assert log.read_bytes() == LOG


@pytest.mark.parametrize("exists", [False, True])
def test_two_files_in_one_are_not_written(command, tmp_path, exists):
    (tmp_path / "access.log").write_bytes(LOG)
    (tmp_path / "symbolic").symlink_to("out")
    if exists:
        (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="--csv and --svg are the same file, symbolic"):
        command("access.log", "--csv", "out", "--svg", "symbolic")
    assert not exists or (tmp_path / "out").read_bytes() == b"mine"


def test_a_device_may_be_named_twice(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    assert command("access.log", "--csv", "/dev/null", "--svg", "/dev/null")[0] == 0


def test_the_file_at_standard_input_is_not_written(tmp_path):
    log = tmp_path / "access.log"
    log.write_bytes(LOG)
    with log.open() as stdin:
        ended = subprocess.run(
            cli_command("report", "-", "--csv", log), env=environment(), stdin=stdin, capture_output=True, text=True
        )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"online report: --csv and a log are the same file, {log}; choose another\n"
    assert log.read_bytes() == LOG


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("rows", [0, 1000])
def test_output_that_finds_no_room_is_one_line(tmp_path, rows):
    log = tmp_path / "access.log"
    log.write_bytes(b"".join(logged(f"u{row}", f"/{row}", row) for row in range(rows)) + LOG)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            cli_command("report", log, "--top", "1000"), env=environment(), stdout=full, stderr=subprocess.PIPE
        )
    assert (ended.returncode, ended.stderr) == (1, b"online: cannot write the output: No space left on device\n")


def test_log_that_cannot_be_read_is_named_and_the_others_are_reported(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    (tmp_path / "empty").write_bytes(b"")
    code, out, err = command("missing", "access.log", ".", "empty")
    assert code == 1
    assert out.startswith("3 hits")
    assert err == (
        "online report: cannot read missing: No such file or directory\n"
        "online report: cannot read .: it is a directory, name the logs in it\n"
        "online report: empty is empty\n"
    )


def test_nothing_read_is_one_line(command):
    assert command("missing") == (1, "", "online report: cannot read missing: No such file or directory\n")


def test_log_without_a_single_hit_is_named(command, tmp_path):
    (tmp_path / "access.log").write_bytes(b"not\na\nlog\n")
    code, out, err = command("access.log")
    assert (code, err) == (1, "online report: no line of access.log is a hit\n")
    assert out.startswith("No hits.\n\nSkipped 3 of 3 lines, namely:\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "LOG"),
        (["log", "--window", "59"], "--window: takes 60 to 86400, not '59'"),
        (["log", "--window", "-1"], "--window: takes 60 to 86400, not '-1'"),
        (["log", "--window", "soon"], "--window: takes 60 to 86400, not 'soon'"),
        (["log", "--top", "1001"], "--top: takes 0 to 1000, not '1001'"),
        (["log", "--format", "xml"], "--format"),
    ],
)
def test_wrong_usage_exits_with_2(command, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_info:
        command(*arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_long_log_shows_its_progress_on_a_terminal_only(command, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    (tmp_path / "access.log").write_bytes(LOG)
    monkeypatch.setattr(report, "LONG_LOG_BYTES", 0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    code, out, _ = command("access.log")
    assert code == 0
    assert "Reading" in terminal.getvalue()
    assert "Reading" not in out
    monkeypatch.setattr(sys, "stderr", quiet := io.StringIO())
    command("access.log")
    assert quiet.getvalue() == ""


def test_page_views_of_people_alone_count_if_that_is_asked_for(tmp_path, capsys):
    line = '%s - %s [01/Mar/2024:12:00:00 +0000] "GET %s HTTP/1.1" %d 5 "-" "%s"\n'
    requests = [
        ("h1", "-", "/forum?page=2", 200, "Firefox"),
        ("h2", "theo", "/forum", 200, "Firefox"),
        ("h3", "-", "/a.css", 200, "Firefox"),
        ("h4", "-", "/gone", 404, "Firefox"),
        ("h5", "-", "/forum", 200, "Googlebot/2.1"),
    ]
    log = tmp_path / "access.log"
    log.write_text("".join(line % request for request in requests))

    def figures(*options):
        assert main(["report", str(log), "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["hits"], found["users"], found["urls"]

    assert figures() == (5, 5, 4)
    assert figures("--pages-only") == (2, 2, 1)
    assert figures("--pages-only", "--keep-param", "page") == (2, 2, 2)
    assert main(["report", str(log), "--keep-param", "page"]) == 2
    assert "is asked with --pages-only alone" in capsys.readouterr().err
