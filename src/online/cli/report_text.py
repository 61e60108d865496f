"""A report as text, with a chart in block characters, and as JSON and CSV.

Not here: the figures (survey, reading), and the SVG chart (picture).
"""

import textwrap
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from online.cli.axis import time_ticks
from online.cli.outcomes import BOT, Outcomes, Sample, ranked
from online.cli.reading import Reading
from online.cli.survey import Survey
from online.cli.visits import Visits
from online.cli.words import Nouns, cut, iso, many, readable_bytes, utc
from online.terms import span

#: With more days, months are shown; with more months, years.
MAX_DAYS, MAX_MONTHS = 31, 36

_BLOCKS = " ▁▂▃▄▅▆▇█"
_CHART_ROWS = 10


def as_text(found: Survey | None, reading: Reading, nouns: Nouns, *, width: int, top: int) -> str:
    """Return all figures as text, in lines of at most `width` characters where words allow it.

    `top` is how many referrers to list.
    """
    parts = [f"No {nouns.hit}s."]
    if found is not None:
        parts = [
            _summary(found, nouns, width),
            _visits("By day (UTC)", _days(found), nouns),
            _visits("By hour (UTC)", found.hours, nouns),
            _top(f"Top {nouns.url}s, by {nouns.hit}s", found.top, width),
            _top(f"Top {nouns.url}s at the peak, by people", found.peak_top, width),
            _top(f"Top referrers, by {nouns.hit}s", ranked(reading.referrers, top), width),
            chart(found, width),
        ]
    parts += [_statuses(reading, width), _bots(reading, width), *_left_out(reading.outcomes, width)]
    return "\n\n".join(part for part in parts if part)


def _summary(found: Survey, nouns: Nouns, width: int) -> str:
    lines = [
        f"{many(found.hits, nouns.hit)} by {many(found.users, nouns.user)} on {many(found.urls, nouns.url)},"
        f" {_unbroken(utc(found.first_ms))} to {_unbroken(utc(found.last_ms) + ' UTC')}",
        "",
        f"Most people online at once: {found.peak:,}, on {many(found.peak_pages, 'page')},"
        f" at {_unbroken(utc(found.peak_at_ms) + ' UTC')}",
        f"People online on average: {found.average:{',.1f' if found.average >= 1 else '.2g'}}",
        f"(online: a {nouns.hit} within the last {span(found.window_s)})",
    ]
    if found.late:
        lines.append(
            f"{many(found.late, nouns.hit)} {'was' if found.late == 1 else 'were'} more than {span(found.window_s)}"
            " out of order in the logs, and did not count as online."
        )
    return "\n".join(_filled(line, width) for line in lines)


def _unbroken(text: str) -> str:
    return text.replace(" ", "\xa0")  # textwrap does not break lines here


def _filled(text: str, width: int, indent: str = "") -> str:
    """Wrap text to the width, and indent all lines but the first."""
    lines = textwrap.wrap(
        text, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\xa0", " ")


def _days(found: Survey) -> Sequence[Visits]:
    """Return the days, or the months or years if there are too many."""
    if len(found.days) <= MAX_DAYS:
        return found.days
    return found.months if len(found.months) <= MAX_MONTHS else found.years


def _visits(title: str, visits: Sequence[Visits], nouns: Nouns) -> str:
    kinds = {4: "By year (UTC)", 7: "By month (UTC)"}
    title = kinds.get(len(visits[0].period), title)
    heads = f"{nouns.hit}s", f"{nouns.user}s"
    hits, users = (max(len(head), 9) + 2 for head in heads)
    rows = [f"{each.period:<14}{each.hits:>{hits},}{each.users:>{users},}" for each in visits]
    return "\n".join([f"{title:<14}{heads[0]:>{hits}}{heads[1]:>{users}}", *rows])


def _top(title: str, urls: Sequence[tuple[bytes, int]], width: int) -> str:
    if not urls:
        return ""
    digits = len(f"{urls[0][1]:,}")
    room = max(8, width - digits - 4)
    rows = [f"  {number:>{digits},}  {readable_bytes(url, room)}" for url, number in urls]
    return "\n".join([title, *rows])


def _statuses(reading: Reading, width: int) -> str:
    told = (_unbroken(f"{status} ({number:,})") for status, number in ranked(reading.statuses))
    return _filled(f"Statuses of all lines: {', '.join(told)}", width, "  ") if reading.statuses else ""


def _bots(reading: Reading, width: int) -> str:
    views = reading.outcomes.left_out["bot"]
    told = f"Bots: {many(views, 'page view')} by {many(len(reading.bots), 'bot')}, not counted above."
    return _filled(told, width) if views else ""


def _left_out(outcomes: Outcomes, width: int) -> Iterator[str]:
    number = outcomes.left_out.total()
    if number:
        title = f"{number:,} of {many(outcomes.lines, 'line')} {'is' if number == 1 else 'are'} left out:"
        yield "\n".join([title, *(_filled(f"  {row}", width, "    ") for row in outcomes.table())])
    if outcomes.samples:
        shown = len(outcomes.samples)
        title = "Not understood:" if shown == outcomes.not_understood else f"Not understood, the first {shown}:"
        yield "\n".join([title, *(_sample(line, width) for line in outcomes.samples)])


def _sample(line: Sample, width: int) -> str:
    reason = _filled(f"  {line.log} line {line.number}: {line.reason}", width, "    ")
    return f"{reason}\n    {cut(line.text, width - 4)}"


def surrogates(name: bytes) -> str:
    """Return a name as text. Bytes that are not UTF-8 become surrogates."""
    return name.decode("utf-8", "surrogateescape")


def figures(
    found: Survey | None, reading: Reading, *, top: int, named: Callable[[bytes], object] = surrogates
) -> dict[str, object]:
    """Return all figures for JSON, with `top` referrers; `named` says how names stand there."""
    outcomes = reading.outcomes
    figures: dict[str, object] = {
        "lines": outcomes.lines,
        "left_out": {name: number for name, number in ranked(outcomes.left_out) if number},
        "bots": len(reading.bots),
        "statuses": dict(ranked(reading.statuses)),
        "hits": 0,
    }
    if found is not None:
        figures |= {
            "hits": found.hits,
            "users": found.users,
            "urls": found.urls,
            "late": found.late,
            "window_s": found.window_s,
            "first": iso(found.first_ms),
            "last": iso(found.last_ms),
            "average": round(found.average, 3),
            "peak": {
                "people": found.peak,
                "at": iso(found.peak_at_ms),
                "pages": found.peak_pages,
                "top": _named(found.peak_top, named),
            },
            "top": _named(found.top, named),
            "referrers": _named(ranked(reading.referrers, top), named),
            "kinds": _kinds(found, reading),
            "stays": found.stays._asdict(),
            "browsers": dict(ranked(reading.browsers)),
            "systems": dict(ranked(reading.systems)),
            "days": [each._asdict() for each in found.days],
            "months": [each._asdict() for each in found.months],
            "hours": [each._asdict() for each in found.hours],
        }
    return figures


def _named(urls: Sequence[tuple[bytes, int]], named: Callable[[bytes], object]) -> list[list[object]]:
    return [[named(url), number] for url, number in urls]


def _kinds(found: Survey, reading: Reading) -> dict[str, dict[str, int]] | None:
    """Return hits and users by kind; None where every line counts, and nobody knows who is a member."""
    if not reading.knows_kinds:
        return None
    members, hits = len(reading.members), reading.member_hits
    return {
        "members": {"hits": hits, "users": members},
        "guests": {"hits": found.hits - hits, "users": found.users - members},
        "bots": {"hits": reading.outcomes.left_out[BOT], "users": len(reading.bots)},
    }


# Over time


def table(found: Survey) -> str:
    """Return the points as CSV: time, people online then, and the average and peak since the previous row."""
    rows = (f"{iso(point.at_ms)},{point.people},{point.average:.2f},{point.peak}\n" for point in found.points)
    return "".join(["time,people,average,peak\n", *rows])


def chart(found: Survey, width: int) -> str:
    """Draw people online over time in block characters, `width` wide. Each column shows its peak."""
    label = f"{found.peak:,}"
    columns = width - len(label) - 3
    points = found.points
    if len(points) < 2 or columns < 10:
        return ""
    bounds = [column * len(points) // columns for column in range(columns + 1)]
    eighths = [
        -(-8 * _CHART_ROWS * max(point.peak for point in points[start : max(stop, start + 1)]) // found.peak)
        for start, stop in pairwise(bounds)
    ]
    rows = [
        "".join(_BLOCKS[min(8, max(0, eighth - 8 * row))] for eighth in eighths) for row in reversed(range(_CHART_ROWS))
    ]
    axis, labels = ["─"] * columns, ""
    for at_ms, text in time_ticks(found.begin_ms, found.last_ms, columns // 10):
        column = bisect_left(points, (at_ms,)) * columns // len(points)
        axis[min(column, columns - 1)] = "┬"
        if len(labels) + bool(labels) <= column <= columns - len(text):
            labels = f"{labels:<{column}}{text}"
    blank = " " * len(label)
    lines = [
        "Most people online over time (UTC)",
        *(f"{label if number == 0 else blank} │{row}" for number, row in enumerate(rows)),
        f"{'0':>{len(label)}} ┼{''.join(axis)}",
        f"{blank}  {labels}",
    ]
    return "\n".join(line.rstrip() for line in lines)
