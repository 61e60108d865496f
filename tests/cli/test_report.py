"""`online report`: its figures against a plain model, its points over time, and what it prints and draws."""

import gzip
import io
import json
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from xml.etree import ElementTree

import msgpack
import pytest
from tests.serving import command as cli_command
from tests.serving import environment

from online.cli import picture, reading, report, report_text
from online.cli.arguments import Parser
from online.cli.axis import people_step, time_ticks
from online.cli.main import main
from online.cli.outcomes import in_words
from online.cli.stays import Stays
from online.cli.survey import MAX_POINTS, STEPS_S, Survey
from online.cli.survey import survey as survey_of
from online.cli.visits import Visits
from online.cli.words import LINES, VIEWS
from online.errors import ConfigError
from online.logs.hitlog import LoggedHit
from online.logs.pages import NO_PAGE_VIEW

NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
YEAR_S = 365 * 24 * 3600


NOT_COMMON = "not understood: not in common or combined format"


def hit(user, url, second):
    return LoggedHit(user, url, NOON_MS + round(second * 1000))


def survey(hits, **options):
    return survey_of([b"".join(map(msgpack.packb, hits))], **options)


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
        top=[(b"/a", 3), (b"/b", 2), (b"/c", 1)],
        days=[Visits("2024-03-01", 6, 4)],
        months=[Visits("2024-03", 6, 4)],
        years=[Visits("2024", 6, 4)],
        hours=[Visits("11:00", 1, 1), Visits("12:00", 4, 3), Visits("13:00", 1, 1)],
        average=(1820 + 1800 + 1800) / 5000,
        peak=3,
        peak_at_ms=NOON_MS + 30_000,
        peak_pages=2,
        peak_top=[(b"/b", 2), (b"/a", 1)],
        stays=Stays(4, 5, 3, 20, 20.0, [0, 1, 0, 0, 0, 0, 0, 0]),
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
        assert point.peak == max([people, *between])
        assert point.hits == len(between)
        since_ms, people = point.at_ms, point.people
    assert max(point.peak for point in found.points) == found.peak


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
    assert found.points[-1].people == found.points[-1].peak == 1
    assert sum(point.average > 0 for point in found.points) == 1  # half an hour of the first days


def test_steps_divide_one_another():
    assert all(after % before == 0 for before, after in pairwise(STEPS_S))


def test_table_lists_the_points():
    found = survey(hits_of((b"ada", b"/a", 0), (b"theo", b"/a", 1.5), (b"theo", b"/a", 2)))
    assert report_text.table(found).splitlines() == [
        "time,people,average,peak",
        "2024-03-01T12:00:00Z,1,1.00,1",
        "2024-03-01T12:00:01Z,1,1.00,1",
        "2024-03-01T12:00:02Z,2,1.50,2",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_chart_fits_the_width(seeded, width):
    lines = report_text.chart(seeded[1], width).splitlines()
    assert lines
    assert max(len(line) for line in lines[1:]) <= width


def test_chart_draws_each_column_as_high_as_its_most():
    found = survey([hit(b"u%d" % number, b"/a", number) for number in range(80)])
    lines = report_text.chart(found, 85).splitlines()
    assert lines[1] == f"80 │{'▁▂▃▄▅▆▇█':>80}"
    assert lines[10] == "   │▁▂▃▄▅▆▇█" + "█" * 72
    assert lines[11].startswith(" 0 ┼┬───")
    assert lines[12].split() == [f"12:0{second // 60}:{second % 60:02}" for second in range(0, 80, 10)]


def test_chart_without_room_or_time_is_left_out():
    assert report_text.chart(survey(hits_of((b"ada", b"/a", 0), (b"ada", b"/a", 9))), 12) == ""
    assert report_text.chart(survey(hits_of((b"ada", b"/a", 0))), 80) == ""


@pytest.mark.parametrize(
    ("span_s", "labels"),
    [
        (0, ["12:00:00"]),
        (5, ["12:00:00", "12:00:01", "12:00:02", "12:00:03", "12:00:04", "12:00:05"]),
        (3600, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50", "13:00"]),
        (86_400, ["12:00", "15:00", "18:00", "21:00", "2 Mar 2024", "03:00", "06:00", "09:00", "12:00"]),
        (6 * 86_400, [f"{day} Mar 2024" for day in range(2, 8)]),
        (200 * 86_400, ["Apr 2024", "May 2024", "Jun 2024", "Jul 2024", "Aug 2024", "Sep 2024"]),
        (2 * YEAR_S, ["Apr 2024", "Jul 2024", "Oct 2024", "Jan 2025", "Apr 2025", "Jul 2025", "Oct 2025", "Jan 2026"]),
        (12 * YEAR_S, ["2026", "2028", "2030", "2032", "2034", "2036"]),
        (60 * YEAR_S, ["2030", "2040", "2050", "2060", "2070", "2080"]),
        (900 * YEAR_S, ["2100", "2200", "2300", "2400", "2500", "2600", "2700", "2800", "2900"]),
    ],
)
def test_time_axis_has_round_moments(span_s, labels):
    ticks = time_ticks(NOON_MS, NOON_MS + span_s * 1000, 10)
    assert [label for _, label in ticks] == labels
    assert all(NOON_MS <= at_ms <= NOON_MS + span_s * 1000 for at_ms, _ in ticks)


@pytest.mark.parametrize("people", [1, 2, 7, 8, 9, 15, 59, 100, 17_427, 999_999, 10_000_000])
def test_people_axis_has_few_round_steps(people):
    step = people_step(people)
    assert str(step).rstrip("0") in {"1", "2", "5"}
    assert people <= 8 * step
    assert step == 1 or people >= 3 * step


@pytest.mark.parametrize("hits", [hits_of((b"ada", b"/a", 0)), shop_hits(1), hits_of((b"a", b"/", 0), (b"b", b"/", 9))])
def test_picture_is_whole_and_labelled(hits):
    found = survey(hits)
    root = ElementTree.fromstring(picture.picture(found, "a <b> & \x1b \udcff", VIEWS))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "People online"
    assert texts[1].startswith("a <b> & ? ?: ")
    assert any(text.startswith(f"peak: {found.peak} at 2024-03-01 12:") for text in texts)
    assert any(text.startswith("2024-03-01 1") and text.endswith(" UTC") for text in texts)
    assert texts[-2:] == ["average", "peak"]


def test_picture_stays_inside_its_frame():
    root = ElementTree.fromstring(picture.picture(survey(shop_hits(2)), "log", LINES))
    line = root.find("{http://www.w3.org/2000/svg}polyline").get("points")
    for x, y in (map(float, pair.split(",")) for pair in line.split()):
        assert picture._LEFT <= x <= picture._RIGHT
        assert picture._TOP <= y <= picture._BOTTOM


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
        parser = Parser("online report")
        report.add_arguments(parser)
        code = report.run(parser.parse_args(arguments))
        return code, *capsys.readouterr()

    return run


def test_report_says_when_most_people_were_online_and_where(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    code, out, err = command("access.log")
    assert (code, err) == (0, "")
    summary, online, days, hours, top, top_then, drawn, statuses = out.split("\n\n")
    assert summary == "3 page views by 3 visitors on 2 pages, 2024-03-01 12:00:00\nto 2024-03-01 12:10:00 UTC"
    assert online == (
        "Most people online at once: 3, on 2 pages, at\n2024-03-01 12:10:00 UTC\n"
        "People online on average: 2.0\n"
        "(online: a page view within the last 30min)"
    )
    assert [line.split() for line in days.splitlines()] == [
        ["By", "day", "(UTC)", "page", "views", "visitors"],
        ["2024-03-01", "3", "3"],
    ]
    assert [line.split() for line in hours.splitlines()][1:] == [["12:00", "3", "3"]]
    assert top == "Top pages, by page views\n  2  /a\n  1  /b"
    assert top_then == "Top pages at the peak, by people\n  2  /a\n  1  /b"
    assert drawn.startswith("Most people online over time (UTC)\n3 │")
    assert statuses == "Statuses of all lines: 200 (3)\n"


def test_several_logs_are_one_stream(command, tmp_path):
    (tmp_path / "1").write_bytes(LOG)
    (tmp_path / "2").write_bytes(logged("eve", "/c", 601))
    code, out, _ = command("1", "2")
    assert code == 0
    assert "Most people online at once: 4, on 3 pages, at\n2024-03-01 12:10:01 UTC" in out


def test_logs_given_newest_first_are_read_oldest_first(command, tmp_path):
    (tmp_path / "access.log").write_bytes(logged("eve", "/c", 3599))
    (tmp_path / "access.log.1").write_bytes(b"no line\n" + LOG)
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(LOG.replace(b"Mar/2024", b"Feb/2024")))
    (tmp_path / "empty").touch()
    code, out, err = command("access.log", "access.log.1", "empty", "access.log.2.gz")
    assert (code, err) == (
        0,
        "online report: the logs are read oldest first: access.log.2.gz, access.log.1, access.log, empty\n"
        "online report: empty is empty\n",
    )
    assert "out of order" not in out
    assert out.startswith("7 page views by 4 visitors")


def test_lines_out_of_order_are_told(command, tmp_path):
    (tmp_path / "log").write_bytes(logged("eve", "/c", 3599) + LOG)
    _, out, _ = command("log")
    assert "3 page views were more than 30min out of order in the logs, and did not count as online." in out.replace(
        "\n", " "
    )


@pytest.mark.parametrize("again", ["log", "./log", "symbolic", "hard"])
def test_the_same_log_twice_is_said_and_read_once(command, tmp_path, again):
    (tmp_path / "log").write_bytes(LOG)
    (tmp_path / "symbolic").symlink_to("log")
    (tmp_path / "hard").hardlink_to(tmp_path / "log")
    code, out, err = command("log", again)
    assert (code, err) == (0, f"online report: {again} and log are the same file; it is read once\n")
    assert out.startswith("3 page views")


def test_a_copy_of_a_log_is_noticed(command, tmp_path):
    (tmp_path / "log").write_bytes(LOG)
    (tmp_path / "log.gz").write_bytes(gzip.compress(LOG))
    code, out, err = command("log", "log.gz")
    assert (code, err) == (0, "online report: log.gz and log begin with the same line; are they copies of one log?\n")
    assert out.startswith("6 page views")


def test_window_and_top_are_options(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    _, out, _ = command("access.log", "--window", "90", "--top", "0")
    assert "Most people online at once: 2, on 1 page, at\n2024-03-01 12:00:10 UTC" in out
    assert "the last 90s)" in out
    assert "Top pages" not in out


def test_csv_logs_are_read(command, tmp_path):
    (tmp_path / "clicks").write_bytes(b"u1,12,x,pv,1709294400\nu2,12,x,pv,1709294401\n")
    code, out, _ = command("clicks", "--format", "csv", "--columns", "user,item,,,time", "--url-prefix", "/item/")
    assert code == 0
    assert out.startswith("2 hits by 2 users on 1 url,")
    assert "  2  /item/12\n" in out


def test_lines_that_are_not_understood_are_counted_and_shown_harmless(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG + b"\x1b[2Jbroken\n" * 7)
    code, out, _ = command("access.log")
    assert code == 0
    assert f"\n\n7 of 10 lines are left out:\n  7  {NOT_COMMON}\n\nNot understood, the first 5:\n" in out
    assert "  access.log line 4: not in common or combined format\n" in out
    assert r'    "\x1b[2Jbroken"' in out
    assert "\x1b" not in out


def test_urls_are_shown_harmless_and_fit_the_width(command, tmp_path):
    (tmp_path / "access.log").write_bytes(
        logged("a", "/\x1b[31m\u202e", 0) + logged("b", "/é", 0) + logged("c", "/" + "x" * 500, 0)
    )
    _, out, _ = command("access.log")
    shown = out.split("Top pages at the peak, by people\n")[1].splitlines()[:3]
    assert shown == ["  1  /%1B[31m%E2%80%AE", "  1  /" + "x" * 51 + "...", "  1  /é"]


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
        "left_out": {"not_understood": 1},
        "bots": 0,
        "statuses": {"200": 4},
        "hits": 4,
        "users": 4,
        "urls": 3,
        "late": 0,
        "window_s": 1800,
        "first": "2024-03-01T12:00:00Z",
        "last": "2024-03-01T12:10:00Z",
        "average": 1.983,
        "top": [["/a", 2], ["/%FF", 1], ["/b", 1]],
        "referrers": [],
        "days": [{"period": "2024-03-01", "hits": 4, "users": 4}],
        "months": [{"period": "2024-03", "hits": 4, "users": 4}],
        "hours": [{"period": "12:00", "hits": 4, "users": 4}],
        "peak": {
            "people": 4,
            "at": "2024-03-01T12:10:00Z",
            "pages": 3,
            "top": [["/a", 2], ["/%FF", 1], ["/b", 1]],
        },
        "kinds": {
            "members": {"hits": 0, "users": 0},
            "guests": {"hits": 4, "users": 4},
            "bots": {"hits": 0, "users": 0},
        },
        "stays": {
            "number": 4,
            "hits": 4,
            "single": 4,
            "median_s": 0,
            "average_s": 0.0,
            "by_length": [0, 0, 0, 0, 0, 0, 0, 0],
        },
        "browsers": {"not told": 4},
        "systems": {"not told": 4},
    }


def test_time_series_is_written_as_csv_and_svg(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    code, _, err = command("access.log", "--csv", "o.csv", "--svg", "o.svg")
    assert (code, err) == (0, "")
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert (rows[0], rows[-1]) == ("time,people,average,peak", "2024-03-01T12:10:00Z,3,2.00,3")
    assert ElementTree.parse(tmp_path / "o.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("option", ["--csv", "--svg"])
@pytest.mark.parametrize(
    ("path", "why"),
    [("no/o.csv", "No such file or directory"), (".", "Is a directory"), ("dangling", "No such file or directory")],
)
def test_a_file_that_cannot_be_written_is_named_before_anything_is_read(command, tmp_path, option, path, why):
    (tmp_path / "dangling").symlink_to("no/o.csv")
    with pytest.raises(ConfigError, match=f"{option}: cannot write {path}: {why}"):
        command("missing", option, path)


def test_to_try_a_file_leaves_it_as_it_is(command, tmp_path):
    (tmp_path / "old.svg").write_bytes(b"mine")
    assert command("missing", "--csv", "new.csv", "--svg", "old.svg")[0] == 1
    assert (tmp_path / "old.svg").read_bytes() == b"mine"
    assert not (tmp_path / "new.csv").exists()


def test_a_file_that_cannot_be_written_any_more_is_named(command, tmp_path):
    (tmp_path / "access.log").write_bytes(LOG)
    code, out, err = command("access.log", "--csv", "/dev/full")
    assert out.startswith("3 page views")
    assert (code, err) == (1, "online report: cannot write /dev/full: No space left on device\n")


@pytest.mark.parametrize(("option", "begins"), [("--csv", "time,people,average,peak\n2024-"), ("--svg", "<svg xmlns=")])
def test_a_dash_is_standard_output(command, tmp_path, option, begins):
    (tmp_path / "access.log").write_bytes(LOG + b"broken\n")
    code, out, err = command("access.log", option, "-")
    assert (code, err) == (0, "")
    assert out.startswith(begins)
    assert "page views" not in out.partition("<title>")[0]
    assert not (tmp_path / "-").exists()


def test_standard_output_takes_one_thing(command):
    with pytest.raises(ConfigError, match="--csv and --svg are the same file, standard output"):
        command("missing", "--csv", "-", "--svg", "-")
    with pytest.raises(ConfigError, match="--json already writes to standard output"):
        command("missing", "--csv", "-", "--json")


@pytest.mark.parametrize("columns", [40, 80])
def test_text_fits_the_width_and_no_time_is_broken(command, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [logged(f"u{number % 60}", f"/{number % 300}", number) for number in range(2000)]
    (tmp_path / "access.log").write_bytes(b"".join(lines) + b"\xff\x1b" * 99 + b"\n" + LOG)
    _, out, _ = command("access.log", "--window", "60")
    assert max(map(len, out.splitlines())) <= columns
    assert out.startswith("2,003 page views by 63 visitors on 302")
    assert "2024-03-01 12:33:19 UTC\n\n" in out
    assert "out of order" in out.replace("\n", " ")


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
    assert out.startswith("3 page views")
    assert err == (
        "online report: empty is empty\n"
        "online report: cannot read missing: No such file or directory\n"
        "online report: cannot read .: it is a directory; name the files in it\n"
    )


@pytest.mark.parametrize("empty", [b"", gzip.compress(b"")], ids=["plain", "packed"])
def test_an_empty_log_among_good_ones_is_no_failure(command, tmp_path, empty):
    (tmp_path / "access.log").write_bytes(LOG)
    (tmp_path / "empty").write_bytes(empty)
    code, out, err = command("empty", "access.log")
    assert (code, err) == (0, "online report: empty is empty\n")
    assert out.startswith("3 page views")


def test_empty_logs_alone_are_a_failure(command, tmp_path):
    (tmp_path / "empty").touch()
    code, out, err = command("empty")
    assert (code, out) == (1, "")
    assert err == "online report: empty is empty\nonline report: no page views in empty\n"


def test_nothing_read_is_one_line(command):
    assert command("missing") == (1, "", "online report: cannot read missing: No such file or directory\n")


def test_log_without_a_single_hit_is_named(command, tmp_path):
    (tmp_path / "access.log").write_bytes(b"not\na\nlog\n")
    code, out, err = command("access.log")
    assert (code, err) == (
        1,
        "online report: no page views in access.log; set the format of the log with --format\n",
    )
    assert out.startswith(f"No page views.\n\n3 of 3 lines are left out:\n  3  {NOT_COMMON}\n\nNot understood:\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "LOG"),
        (["log", "--window", "59"], "--window takes 1min to 24h, such as 90, 90s, 30min or 2h, not '59'"),
        (["log", "--window", "-1"], "--window takes 1min to 24h, such as 90, 90s, 30min or 2h, not '-1'"),
        (["log", "--window", "soon"], "--window takes 1min to 24h, such as 90, 90s, 30min or 2h, not 'soon'"),
        (["log", "--top", "1001"], "--top takes 0 to 1,000, not '1001'"),
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
    monkeypatch.setattr(reading, "LONG_LOG_BYTES", 0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    code, out, _ = command("access.log")
    assert code == 0
    assert "Reading" in terminal.getvalue()
    assert "Reading" not in out
    monkeypatch.setattr(sys, "stderr", quiet := io.StringIO())
    command("access.log")
    assert quiet.getvalue() == ""


VIEW = '%s - %s [01/Mar/2024:12:00:00 +0000] "%s %s HTTP/1.1" %d 5 "-" "%s"\n'

MIXED = [
    ("192.0.2.1", "-", "GET", "/forum?page=2", 200, "Firefox"),
    ("192.0.2.2", "theo", "GET", "/forum", 200, "Firefox"),
    ("192.0.2.3", "-", "GET", "/a.css", 200, "Firefox"),
    ("192.0.2.3", "-", "GET", "/b.css", 200, "Firefox"),
    ("192.0.2.4", "-", "GET", "/gone", 404, "Firefox"),
    ("192.0.2.5", "-", "GET", "/forum", 200, "Googlebot/2.1"),
    ("192.0.2.5", "-", "GET", "/news", 200, "Googlebot/2.1"),
    ("192.0.2.5", "-", "GET", "/more", 200, "Googlebot/2.1"),
    ("192.0.2.6", "-", "DELETE", "/forum", 200, "Firefox"),
    ("192.0.2.6", "-", "GET", "x", 200, "Firefox"),
]


@pytest.fixture
def mixed(tmp_path):
    log = tmp_path / "access.log"
    log.write_text("".join(VIEW % request for request in MIXED) + "nonsense\n")
    return str(log)


def test_page_views_of_people_count_unless_all_lines_are_asked_for(mixed, capsys):
    def figures(*options):
        assert main(["report", mixed, "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["hits"], found["users"], found["urls"]

    assert figures() == figures("--pages-only") == (2, 2, 1)
    assert figures("--keep-param", "page") == (2, 2, 2)
    assert figures("--all-lines") == (10, 6, 8)


def test_what_is_left_out_is_counted_by_reason(mixed, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command(mixed)
    assert code == 0
    assert out.split("\n\n")[-3] == ("Bots: 3 page views by 1 bot, not counted above.")
    assert out.split("\n\n")[-2] == (
        "9 of 11 lines are left out:\n"
        "  3  page views by bots\n"
        "  2  requests for files: images, styles, scripts and so on\n"
        "  1  methods other than GET, HEAD and POST\n"
        "  1  statuses other than 200, 203, 206 and 304\n"
        "  1  urls that do not begin with /\n"
        f"  1  {NOT_COMMON}"
    )
    assert out.split("\n\n")[-1].startswith("Not understood:\n")
    assert "Statuses of all lines: 200 (9), 404 (1)\n" in out


def test_referrers_are_counted_by_host(command, tmp_path):
    view = '192.0.2.1 - - [01/Mar/2024:12:00:00 +0000] "GET /%s HTTP/1.1" 200 5 "%s" "%s"\n'
    from_search = [("", "https://search.example/?q=cats", "Firefox"), ("a", "http://SEARCH.example:80", "Firefox")]
    others = [("b", "https://blog.example/post", "Firefox"), ("c", "-", "Firefox"), ("d", "", "Firefox")]
    odd = [("e", "about:blank", "Firefox"), ("f", "https://", "Firefox"), ("g", "/search.example//", "Firefox")]
    not_counted = [("x.css", "https://www.example/", "Firefox"), ("y", "https://spam.example/", "Googlebot/2.1")]
    views = [*others, *from_search, *odd, *not_counted]
    (tmp_path / "access.log").write_text("".join(view % each for each in views))
    assert "Top referrers, by page views\n  2  search.example\n  1  blog.example\n\n" in command("access.log")[1]
    found = json.loads(command("access.log", "--json", "--top", "1")[1])
    assert found["referrers"] == [["search.example", 2]]


def test_links_within_a_site_are_not_referrers_where_the_log_has_the_host(command, tmp_path):
    line = {"time": 1709294400, "url": "/", "address": "192.0.2.1", "host": "WWW.example.com:443"}
    referrers = ["https://www.example.com/a", "https://www.example.com.other.example/", "https://example.com/"]
    lines = [json.dumps(line | {"referrer": each}) for each in referrers]
    absolute = json.dumps(line | {"url": "http://shop.example/", "referrer": "http://shop.example/a"})
    (tmp_path / "access.log").write_text("\n".join([*lines, absolute]))
    found = json.loads(command("access.log", "--json")[1])
    assert found["referrers"] == [["example.com", 1], ["www.example.com.other.example", 1]]


def test_reasons_come_as_json(mixed, command):
    found = json.loads(command(mixed, "--json")[1])
    reasons = {"bot": 3, "file": 2, "status": 1, "method": 1, "target": 1, "not_understood": 1}
    assert (found["lines"], found["left_out"], found["bots"]) == (11, reasons, 1)
    assert found["statuses"] == {"200": 9, "404": 1}


@pytest.mark.parametrize("name", sorted(NO_PAGE_VIEW.values()))
def test_every_reason_has_words(name):
    assert in_words(name) not in ("", name)


def test_odd_statuses_are_one(command, tmp_path):
    line = '{"time": 1709294400, "user": "u", "url": "/", "status": "%s"}\n'
    (tmp_path / "log").write_text("".join(line % status for status in ("200", "odd", "2", "", "1e9")))
    assert json.loads(command("log", "--json", "--all-lines")[1])["statuses"] == {"200": 1, "other": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--all-lines", "--pages-only"], "--all-lines and --pages-only exclude each other"),
        (["--all-lines", "--keep-param", "x"], "options for page views and users cannot be used with --all-lines"),
        (["--format", "csv", "--guests-only"], "cannot be used with a CSV or TSV log without --pages-only"),
    ],
)
def test_options_that_do_not_go_together(command, options, message):
    with pytest.raises(ConfigError, match=message):
        command("log", *options)


# --- averages, days and hours


@pytest.mark.slow
def test_averages_are_exact(seeded):
    hits, found = seeded
    model = Model(hits, 60)
    before_ms = found.begin_ms
    for point in found.points:
        # People change at hits and at whole seconds alone.
        moments = {before_ms, point.at_ms, *range(-(-before_ms // 1000) * 1000, point.at_ms, 1000)}
        moments |= {now_ms for now_ms in model.now_ms if before_ms < now_ms < point.at_ms}
        people_ms = sum((end - begin) * model.people_at(begin) for begin, end in pairwise(sorted(moments)))
        took_ms = point.at_ms - before_ms
        assert point.average == pytest.approx(people_ms / took_ms if took_ms else point.people)
        before_ms = point.at_ms


@pytest.mark.parametrize("span_s", [1, 3600, 40 * 86_400, 13 * YEAR_S])
def test_the_average_of_the_whole_is_that_of_its_points(span_s):
    found = survey([hit(b"u%d" % (number % 7), b"/a", span_s * number / 500) for number in range(501)])
    times = [found.begin_ms, *(point.at_ms for point in found.points)]
    people_ms = sum(
        point.average * (end - begin) for point, (begin, end) in zip(found.points, pairwise(times), strict=True)
    )
    assert found.average == pytest.approx(people_ms / (found.last_ms - found.begin_ms))


def test_the_picture_of_years_draws_peak_and_average(tmp_path):
    busy = [hit(b"u%d" % number, b"/a", 2 * YEAR_S + number) for number in range(50)]
    found = survey(
        [hit(b"ada", b"/a", day * 86_400) for day in range(2 * 365)] + busy + [hit(b"ada", b"/a", 4 * YEAR_S)]
    )
    root = ElementTree.fromstring(picture.picture(found, "log", VIEWS))
    line = root.find("{http://www.w3.org/2000/svg}polyline").get("points")
    heights = {float(pair.split(",")[1]) for pair in line.split()}
    assert min(heights) > picture._BOTTOM - 10  # half an hour a day is no height
    area = root.findall("{http://www.w3.org/2000/svg}path")[-3].get("d")
    assert f"V{picture._TOP}" in area
    labels = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Jan 2026" in labels


def test_days_and_hours_count_users_once():
    day_s, hour_s = 86_400, 3600
    found = survey(
        hits_of(
            (b"a", b"/", 0),
            (b"a", b"/", 60),
            (b"b", b"/", 0),
            (b"a", b"/", day_s),
            (b"b", b"/", day_s - 1),
            (b"c", b"/", 40 * day_s + hour_s),
        )
    )
    assert found.days == [
        Visits("2024-03-01", 3, 2),
        Visits("2024-03-02", 2, 2),
        Visits("2024-04-10", 1, 1),
    ]
    assert found.months == [Visits("2024-03", 5, 2), Visits("2024-04", 1, 1)]
    assert found.years == [Visits("2024", 6, 3)]
    assert found.hours == [Visits("11:00", 1, 1), Visits("12:00", 4, 2), Visits("13:00", 1, 1)]


def test_a_user_who_comes_after_midnight_out_of_order_is_counted_once():
    days = [(b"a", 0), (b"b", 1), (b"a", 0), (b"c", 0), (b"b", 2), (b"d", 0)]
    found = survey([hit(user, b"/", 86_400 * day) for user, day in days])
    assert found.days == [Visits("2024-03-01", 4, 2), Visits("2024-03-02", 1, 1), Visits("2024-03-03", 1, 1)]


@pytest.mark.parametrize(
    ("days", "title", "rows"), [(31, "By day", 31), (32, "By month", 2), (1095, "By month", 36), (1200, "By year", 4)]
)
def test_long_lists_of_days_are_told_by_months_or_years(command, tmp_path, days, title, rows):
    line = '{"time": %d, "user": "u", "url": "/"}\n'
    start_s = 1_704_067_200  # 2024-01-01
    (tmp_path / "log").write_text("".join(line % (start_s + day * 86_400) for day in range(days)))
    section = command("log")[1].split("\n\n")[2].splitlines()
    assert section[0].startswith(f"{title} (UTC)")
    assert len(section) == rows + 1
    assert sum(int(row.split()[1]) for row in section[1:]) == days
