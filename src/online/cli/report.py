"""`online report`: what a site looked like, from its logs: how many people were online, when most, and where.

Not here: reading logs (hitlog), and who is online (index). Event time is now: the greatest time read so far,
so a line out of order never moves time back, and a silent year costs no more than a silent minute.

1. Every figure is exact: what the index said at that moment, with all hits read until then.
2. Memory is bounded by the hits of four windows, the names of users and urls, and MAX_POINTS points.
"""

import argparse
import json
import os
import shutil
import sys
import textwrap
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import chain, islice, pairwise
from typing import NamedTuple

from online.core.index import Index
from online.errors import ConfigError, same_file
from online.limits import Limits
from online.logs.hitlog import LogError, LoggedHit, LogReader, add_format_arguments, log_bytes, read_from, reader_from
from online.logs.pages import Pages, guest_key
from online.logs.rules import Rules, add_rule_arguments, rules_from
from online.terms import SEEN_MAX_MS, WINDOW_MAX_S, WINDOW_MIN_S

#: At most so many points stand for the whole time, about as many as a picture can show.
MAX_POINTS = 1000

#: Seconds between two points; beyond the last they double. Each divides the next, so that points stay points.
STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)

#: Logs together shorter than this are read before a progress bar could be looked at.
LONG_LOG_BYTES = 1 << 20

_HITS_PER_PROGRESS = 4096
_BLOCKS = " ▁▂▃▄▅▆▇█"
_CHART_ROWS = 10

_EXAMPLES = """\
examples:
  online report access.log
  online report access.log.2.gz access.log.1 access.log --svg online.svg
  ssh www cat /var/log/nginx/access.log | online report - --window 300
  online report clicks.csv --format csv --columns user,item,,,time --url-prefix /item/
"""


class Point(NamedTuple):
    """How many people were online at a moment, and the most at once since the point before."""

    at_ms: int
    people: int
    most: int


class Timeline:
    """People online at regular moments, as far apart as needed for MAX_POINTS to span the whole time.

    Points stand at multiples of the step since 1970, and one more at the end. Each one's `most` covers the
    time from the point before it, so the greatest of them is the most ever.
    """

    def __init__(self, count: Callable[[int], int]) -> None:
        """`count` tells how many people are online at a time; it is asked in the order of time."""
        self.points: list[Point] = []
        self.begin_ms = 0  #: when the first hit was taken
        self.most = 0  #: since the last point; who counts hits keeps it up
        self._count = count
        self._step_ms = STEPS_S[0] * 1000
        self._next_ms = 0

    def advance(self, now_ms: int) -> None:
        """Take the points before `now_ms`; to be called before a hit of that time is taken. O(points)."""
        if not self.begin_ms:
            self.begin_ms = now_ms
            self._next_ms = _round_up(now_ms, self._step_ms)
        while len(due := range(self._next_ms, now_ms, self._step_ms)) + len(self.points) >= MAX_POINTS:
            self._widen()
        for at_ms in due:
            self._take(at_ms)
            self._next_ms = at_ms + self._step_ms

    def finish(self, now_ms: int) -> None:
        """Take the points up to `now_ms`, the end of the time, and one that stands there."""
        self.advance(now_ms)
        self._take(now_ms)

    def _take(self, at_ms: int) -> None:
        people = self._count(at_ms)
        self.points.append(Point(at_ms, people, self.most))
        self.most = people

    def _widen(self) -> None:
        step_s = self._step_ms // 1000
        self._step_ms = next((step for step in STEPS_S if step > step_s), 2 * step_s) * 1000
        self._next_ms = _round_up(self._next_ms, self._step_ms)
        kept: list[Point] = []
        most = 0
        for point in self.points:
            most = max(most, point.most)
            if point.at_ms % self._step_ms == 0:
                kept.append(point._replace(most=most))
                most = point.people
        self.points = kept
        self.most = max(self.most, most)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class _Peak(NamedTuple):
    """The most people so far, and the hits that tell where they were: `earlier` and the first of `block`."""

    people: int
    at_ms: int
    earlier: Sequence[LoggedHit]
    block: Sequence[LoggedHit]
    length: int


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a stream of hits says of its site; all times in milliseconds since 1970."""

    window_s: int
    hits: int
    users: int
    urls: int
    first_ms: int
    last_ms: int
    late: int  #: hits that were outside the window when they were read
    peak: int  #: the most people online at once
    peak_at_ms: int  #: when that was first so
    peak_pages: int  #: pages with people then
    peak_top: list[tuple[bytes, int]]  #: those with most people then
    begin_ms: int  #: the time of the first hit read; the points follow
    points: list[Point]


def survey(hits: Iterable[LoggedHit], *, window_s: int = 1800, top: int = 10) -> Survey | None:
    """Feed hits to an index and tell what it saw; None without any hit. O(1) a hit, as the index.

    Whatever stands in the index at a moment came with hits of the last window. So they are kept in blocks
    that each begin a window or more after the one before: a peak needs its own block and the one before,
    nothing else.
    """
    index = Index(window_s=window_s)
    timeline = Timeline(lambda at_ms: index.count(now_ms=at_ms))
    users, urls, taken = set(), set(), 0
    first_ms, now_ms, block_ms = SEEN_MAX_MS, 0, 0
    earlier: list[LoggedHit] = []
    block: list[LoggedHit] = []
    peak = _Peak(0, 0, earlier, block, 0)
    for hit in hits:
        user, url, seen_ms = hit
        taken += 1
        users.add(user)
        urls.add(url)
        first_ms = min(first_ms, seen_ms)
        if seen_ms > now_ms:
            now_ms = seen_ms
            timeline.advance(now_ms)
            if now_ms >= block_ms + window_s * 1000:
                earlier, block, block_ms = block, [], now_ms
        if index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms):
            block.append(hit)
            people = index.count(now_ms=now_ms)
            if people > timeline.most:
                timeline.most = people
            if people > peak.people:
                peak = _Peak(people, now_ms, earlier, block, len(block))
    if not taken:
        return None
    timeline.finish(now_ms)
    peak_pages, peak_top = _places(peak, window_s, top)
    return Survey(
        window_s=window_s,
        hits=taken,
        users=len(users),
        urls=len(urls),
        first_ms=first_ms,
        last_ms=now_ms,
        late=index.statistics().late,
        peak=peak.people,
        peak_at_ms=peak.at_ms,
        peak_pages=peak_pages,
        peak_top=peak_top,
        begin_ms=timeline.begin_ms,
        points=timeline.points,
    )


def _places(peak: _Peak, window_s: int, top: int) -> tuple[int, list[tuple[bytes, int]]]:
    """Tell the number of pages and the top ones at the peak, by an index that sees its hits again."""
    index = Index(window_s=window_s)
    now_ms = 0
    for user, url, seen_ms in chain(peak.earlier, islice(peak.block, peak.length)):
        now_ms = max(now_ms, seen_ms)
        index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms)
    index.expire(now_ms=peak.at_ms)
    return index.statistics().pages, index.top(top, now_ms=peak.at_ms)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online report` on the command line."""
    parser.description = (
        "Reads access logs, plain or gzip, as one stream in the order given, and tells how many people"
        " were online at once, when most, and on which pages. Every line counts as a person: the"
        " authenticated user if it has one, else the host. With --pages-only and the options that go with it,"
        " page views by people count alone, without the files of pages, errors and bots."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument("logs", metavar="LOG", nargs="+", help="a log, oldest first; - is standard input")
    parser.add_argument(
        "--window",
        metavar="SECONDS",
        type=_between(WINDOW_MIN_S, WINDOW_MAX_S),
        default=1800,
        help=f"how long a hit keeps its user online, {WINDOW_MIN_S} to {WINDOW_MAX_S} (default: 1800)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=_between(0, Limits.max_limit),
        default=10,
        help=f"how many of the top pages to show, 0 to {Limits.max_limit} (default: 10)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write people online over time to FILE")
    parser.add_argument("--svg", metavar="FILE", help="draw people online over time to FILE")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--pages-only", action="store_true", help="count page views by people alone, by the rules of online feed"
    )
    add_format_arguments(parser)
    add_rule_arguments(parser)


def _between(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"takes {low} to {high}, not {text!r}")
        return int(text)

    return number


def run(args: argparse.Namespace) -> int:
    """Do `online report`. Returns 0, or 1 if a log was not read to its end or a file could not be written.

    Raises ConfigError if a file to write is one of the logs or the other one, before anything is read, and
    FullError if more people were online at once than an index holds.
    """
    _check_files(args)
    rules = rules_from(args)
    if rules != Rules() and not args.pages_only:
        raise ConfigError("what is a page view, and who is the user, is asked with --pages-only alone")
    reader = _pages_reader(args, rules) if args.pages_only else reader_from(args)
    errors: list[str] = []
    hits = _with_progress(_hits(reader, args.logs, errors), reader, args.logs)
    found = survey(hits, window_s=args.window, top=args.top)
    if args.json:
        _say(json.dumps(_figures(found, reader), indent=2))
    elif reader.lines:
        _say(_text(found, reader, shutil.get_terminal_size().columns))
    if found is not None:
        errors.extend(_write_files(found, args))
    elif not errors:
        errors.append(f"no line of {_names(args.logs)} is a hit")
    for message in errors:
        print(f"online report: {message}", file=sys.stderr)
    return 1 if errors else 0


def _pages_reader(args: argparse.Namespace, rules: Rules) -> LogReader:
    """Make the reader of logs that takes page views by people alone."""
    read = read_from(args, visitor=rules.visitor)
    pages = Pages(read, rules, key=guest_key(rules.guest_key), url_prefix=args.url_prefix)

    def parse(line: bytes) -> LoggedHit | str:
        view = pages.parse(line)
        if isinstance(view, str):
            return view
        return LoggedHit(*view[:3]) if view.kind != "bot" else "it is no page view of a person: its agent is a bot"

    return LogReader(parse)


def _check_files(args: argparse.Namespace) -> None:
    """Raise ConfigError if writing a file would destroy a log or the other file."""
    outputs = [(option, path) for option, path in (("--csv", args.csv), ("--svg", args.svg)) if path is not None]
    for option, path in outputs:
        if any(_is_same_file(path, "/dev/stdin" if log == "-" else log) for log in args.logs):
            raise same_file(option, "a log", path)
    if len(outputs) == 2 and _is_same_file(args.csv, args.svg):
        raise same_file("--csv", "--svg", args.svg)


def _is_same_file(one: str, other: str) -> bool:
    """Tell if two names are of one file, also if it is still to be made; a device may be named twice."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.isfile(one) and os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _hits(reader: LogReader, logs: Sequence[str], errors: list[str]) -> Iterator[LoggedHit]:
    """Read all logs as one stream; what cannot be read goes to `errors`, and the next one follows."""
    for log in logs:
        try:
            yield from reader.read(log)
        except LogError as error:
            errors.append(str(error))


def _with_progress(hits: Iterator[LoggedHit], reader: LogReader, logs: Sequence[str]) -> Iterator[LoggedHit]:
    """Pass hits on; with long logs and a terminal, show on stderr how far they are read."""
    total = log_bytes(logs)
    if not sys.stderr.isatty() or (total is not None and total < LONG_LOG_BYTES):
        yield from hits
        return
    # Slow to import, and of no use elsewhere.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress("Reading", *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for number, hit in enumerate(hits):
            if number % _HITS_PER_PROGRESS == 0:
                progress.update(task, completed=reader.bytes_read)
            yield hit


def _say(text: str) -> None:
    """Print, with ? for what the terminal's encoding does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def _write_files(found: Survey, args: argparse.Namespace) -> Iterator[str]:
    """Write the files asked for, and yield a message for each that cannot be written."""
    if args.csv is not None:
        yield from _write(args.csv, table(found))
    if args.svg is not None:
        yield from _write(args.svg, picture(found, _names(args.logs)))


def _write(path: str, text: str) -> Iterator[str]:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        yield f"cannot write {path}: {error.strerror or error}"


# --- as text and JSON


def _text(found: Survey | None, reader: LogReader, width: int) -> str:
    parts = ["No hits."]
    if found is not None:
        parts = [_summary(found, width), _top_pages(found, width), chart(found, width)]
    return "\n\n".join(part for part in [*parts, _skipped(reader, width)] if part)


def _summary(found: Survey, width: int) -> str:
    lines = [
        f"{_many(found.hits, 'hit')} by {_many(found.users, 'user')} on {_many(found.urls, 'url')},"
        f" {_unbroken(_utc(found.first_ms))} to {_unbroken(_utc(found.last_ms) + ' UTC')}",
        "",
        f"Most people online at once: {found.peak:,}, on {_many(found.peak_pages, 'page')},"
        f" at {_unbroken(_utc(found.peak_at_ms) + ' UTC')}",
        f"(online: a hit within the last {_span(found.window_s)})",
    ]
    if found.late:
        lines.append(
            f"{_many(found.late, 'hit')} came more than {_span(found.window_s)} late, and made nobody online;"
            " are the logs given oldest first?"
        )
    return "\n".join(_filled(line, width) for line in lines)


def _unbroken(text: str) -> str:
    return text.replace(" ", "\xa0")  # textwrap breaks lines at other spaces only


def _filled(text: str, width: int, indent: str = "") -> str:
    """Break text between words, so that it fits the width, and indent what follows its first line."""
    lines = textwrap.wrap(
        text, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\xa0", " ")


def _top_pages(found: Survey, width: int) -> str:
    if not found.peak_top:
        return ""
    digits = len(f"{found.peak_top[0][1]:,}")
    room = max(8, width - digits - 4)
    rows = [f"  {people:>{digits},}  {_readable(url, room)}" for url, people in found.peak_top]
    return "\n".join(["Top pages then", *rows])


def _skipped(reader: LogReader, width: int) -> str:
    if not reader.skipped:
        return ""
    first = "the first:" if reader.skipped > len(reader.samples) else "namely:"
    rows = [
        f"{_filled(f'  {line.log} line {line.number}: {line.reason}', width, '    ')}\n    {_cut(line.text, width - 4)}"
        for line in reader.samples
    ]
    return "\n".join([f"Skipped {reader.skipped:,} of {_many(reader.lines, 'line')}, {first}", *rows])


def _figures(found: Survey | None, reader: LogReader) -> dict[str, object]:
    figures: dict[str, object] = {"lines": reader.lines, "skipped": reader.skipped, "hits": 0}
    if found is not None:
        figures |= {
            "hits": found.hits,
            "users": found.users,
            "urls": found.urls,
            "late": found.late,
            "window_s": found.window_s,
            "first": _iso(found.first_ms),
            "last": _iso(found.last_ms),
            "peak": {
                "people": found.peak,
                "at": _iso(found.peak_at_ms),
                "pages": found.peak_pages,
                "top": [[url.decode("utf-8", "surrogateescape"), people] for url, people in found.peak_top],
            },
        }
    return figures


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _span(seconds: int) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _names(logs: Sequence[str]) -> str:
    first = "standard input" if logs[0] == "-" else os.path.basename(logs[0])
    return first if len(logs) == 1 else f"{first} and {len(logs) - 1} more"


def _readable(name: bytes, width: int) -> str:
    """Show a name on one line of `width`, with nothing in it that a terminal would obey."""
    text = name[: 4 * width].decode("utf-8", "backslashreplace")
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )
    return _cut(shown, width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC)


def _utc(at_ms: int) -> str:
    return f"{_moment(at_ms):%Y-%m-%d %H:%M:%S}"


def _iso(at_ms: int) -> str:
    fraction = f".{at_ms % 1000:03}" if at_ms % 1000 else ""
    return f"{_moment(at_ms):%Y-%m-%dT%H:%M:%S}{fraction}Z"


# --- over time


def table(found: Survey) -> str:
    """List the points as CSV: time, people online then, and the most at once since the row before."""
    rows = (f"{_iso(point.at_ms)},{point.people},{point.most}\n" for point in found.points)
    return "".join(["time,people,most\n", *rows])


def chart(found: Survey, width: int) -> str:
    """Draw people online over time with block characters, `width` wide; each column shows its most."""
    label = f"{found.peak:,}"
    columns = width - len(label) - 3
    points = found.points
    if len(points) < 2 or columns < 10:
        return ""
    bounds = [column * len(points) // columns for column in range(columns + 1)]
    eighths = [
        -(-8 * _CHART_ROWS * max(point.most for point in points[start : max(stop, start + 1)]) // found.peak)
        for start, stop in pairwise(bounds)
    ]
    rows = [
        "".join(_BLOCKS[min(8, max(0, eighth - 8 * row))] for eighth in eighths)
        for row in reversed(range(_CHART_ROWS))
    ]
    axis, labels = ["─"] * columns, ""
    for at_ms, text in _time_ticks(found.begin_ms, found.last_ms, columns // 10):
        column = bisect_left(points, (at_ms,)) * columns // len(points)
        if column + len(text) <= columns:
            axis[column] = "┬"
            labels = f"{labels:<{column}}{text}"
    blank = " " * len(label)
    lines = [
        "People online over time (UTC)",
        *(f"{label if number == 0 else blank} │{row}" for number, row in enumerate(rows)),
        f"{'0':>{len(label)}} ┼{''.join(axis)}",
        f"{blank}  {labels}",
    ]
    return "\n".join(line.rstrip() for line in lines)


_WIDTH, _HEIGHT = 960, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 930, 84, 380


def picture(found: Survey, title: str) -> str:
    """Draw people online over time as an SVG document that needs nothing else."""
    first_ms, last_ms = found.begin_ms, found.last_ms
    people_step = _people_step(found.peak)
    people_max = -(-found.peak // people_step) * people_step

    def x(at_ms: int) -> float:
        return round(_LEFT + (at_ms - first_ms) / max(1, last_ms - first_ms) * (_RIGHT - _LEFT), 1)

    def y(people: int) -> float:
        return round(_BOTTOM - people / people_max * (_BOTTOM - _TOP), 1)

    steps = [f"M{x(first_ms)},{_BOTTOM}"]
    for point in found.points:
        steps.append(f"V{y(point.most)}H{x(point.at_ms)}")
    line = " ".join(f"{x(point.at_ms)},{y(point.people)}" for point in found.points)
    peak_x, peak_y = x(found.peak_at_ms), y(found.peak)
    anchor = "end" if peak_x > (_LEFT + _RIGHT) / 2 else "start"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="13"'
        f' viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="system-ui, sans-serif" fill="#5a6772">',
        f"<title>People online: {_xml(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="30" font-size="19" font-weight="600" fill="#1b2733">People online</text>',
        f'<text x="{_LEFT}" y="51">{_xml(title)}: {_many(found.hits, "hit")} by {_many(found.users, "user")};'
        f" online: a hit within the last {_span(found.window_s)}</text>",
        *_people_axis(range(0, people_max + 1, people_step), y),
        *_time_axis(first_ms, last_ms, x),
        f'<path d="{"".join(steps)}V{_BOTTOM}Z" fill="#9cc4ea" fill-opacity=".6"/>',
        f'<polyline points="{line}" fill="none" stroke="#1a5fa8" stroke-width="1.5"/>',
        f'<circle cx="{peak_x}" cy="{peak_y}" r="4" fill="#c2410c"/>',
        f'<text x="{peak_x}" y="{peak_y - 9}" text-anchor="{anchor}" fill="#c2410c" font-weight="600">'
        f"{found.peak:,} at {_utc(found.peak_at_ms)}</text>",
        *_legend(),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _people_axis(ticks: Iterable[int], y: Callable[[int], float]) -> Iterator[str]:
    for people in ticks:
        yield (
            f'<path d="M{_LEFT},{y(people)}H{_RIGHT}" stroke="#e3e8ed"/>'
            f'<text x="{_LEFT - 10}" y="{y(people) + 4.5}" text-anchor="end">{people:,}</text>'
        )


def _time_axis(first_ms: int, last_ms: int, x: Callable[[int], float]) -> Iterator[str]:
    yield f'<path d="M{_LEFT},{_BOTTOM}H{_RIGHT}" stroke="#5a6772"/>'
    for at_ms, label in _time_ticks(first_ms, last_ms, 10):
        yield (
            f'<path d="M{x(at_ms)},{_BOTTOM}v5" stroke="#5a6772"/>'
            f'<text x="{x(at_ms)}" y="{_BOTTOM + 20}" text-anchor="middle">{label}</text>'
        )
    yield (
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 43}" text-anchor="middle">'
        f"{_utc(first_ms)} to {_utc(last_ms)} UTC</text>"
    )


def _legend() -> Iterator[str]:
    for left, stroke, text in (
        (_RIGHT - 335, 'stroke="#1a5fa8" stroke-width="2"', "at the moment"),
        (_RIGHT - 195, 'stroke="#9cc4ea" stroke-width="9"', "most at once in between"),
    ):
        yield f'<path d="M{left},26h16" {stroke}/><text x="{left + 22}" y="30">{text}</text>'


def _xml(text: str) -> str:
    return escape("".join(char if char.isprintable() else "?" for char in text))


def _people_step(people: int) -> int:
    """Choose a round distance, so that four to ten of them reach up to `people`."""
    step = 1
    while people > 8 * step:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return step


_TICKS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(days * 24 * 3600 for days in (1, 2, 4, 7, 14)),
)
_TICKS_MONTHS = (1, 2, 3, 6, 12, 24, 36, 60, 120, 240, 600, 1200, 6000, 12000)


def _time_ticks(first_ms: int, last_ms: int, limit: int) -> list[tuple[int, str]]:
    """Choose at most `limit` round moments in UTC, each with what to write beside it."""
    span_s = (last_ms - first_ms) // 1000
    for step_s in _TICKS_S:
        if span_s < limit * step_s:
            step_ms = step_s * 1000
            moments = range(-(-first_ms // step_ms) * step_ms, last_ms + 1, step_ms)
            return [(at_ms, _tick_label(_moment(at_ms), step_s)) for at_ms in moments]
    first, last = _moment(first_ms), _moment(last_ms)
    months = range(first.year * 12 + first.month, last.year * 12 + last.month)
    for step in _TICKS_MONTHS:
        if len(chosen := range(-(-months.start // step) * step, months.stop, step)) <= limit:
            break
    starts = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in chosen]
    form = "%Y" if step >= 12 else "%b %Y"
    return [(round(start.timestamp()) * 1000, start.strftime(form)) for start in starts]


def _tick_label(moment: datetime, step_s: int) -> str:
    if step_s >= 24 * 3600 or (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        return f"{moment.day} {moment:%b}"
    return f"{moment:%H:%M:%S}" if step_s < 60 else f"{moment:%H:%M}"
