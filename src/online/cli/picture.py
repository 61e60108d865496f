"""Draws people online over time as an SVG document.

Not here: the figures (survey).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from online.cli.axis import people_step, time_ticks
from online.cli.survey import Survey
from online.cli.words import Nouns, many, utc
from online.terms import span

_WIDTH, _HEIGHT = 960, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 930, 84, 380


def picture(found: Survey, title: str, nouns: Nouns) -> str:
    """Return an SVG document with the peak and the average of each step over time."""
    first_ms, last_ms = found.begin_ms, found.last_ms
    step = people_step(found.peak)
    people_max = -(-found.peak // step) * step

    def x(at_ms: int) -> float:
        return round(_LEFT + (at_ms - first_ms) / max(1, last_ms - first_ms) * (_RIGHT - _LEFT), 1)

    def y(people: float) -> float:
        return round(_BOTTOM - people / people_max * (_BOTTOM - _TOP), 1)

    peaks, averages = [f"M{x(first_ms)},{_BOTTOM}"], []
    left = x(first_ms)
    for point in found.points:
        right = x(point.at_ms)
        peaks.append(f"V{y(point.peak)}H{right}")
        averages += [f"{left},{y(point.average)}", f"{right},{y(point.average)}"]
        left = right
    peak_x, peak_y = x(found.peak_at_ms), y(found.peak)
    anchor = "end" if peak_x > (_LEFT + _RIGHT) / 2 else "start"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="13"'
        f' viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="system-ui, sans-serif" fill="#5a6772">',
        f"<title>People online: {_xml(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="30" font-size="19" font-weight="600" fill="#1b2733">People online</text>',
        f'<text x="{_LEFT}" y="51">{_xml(title)}: {many(found.hits, nouns.hit)} by {many(found.users, nouns.user)};'
        f" online: a {nouns.hit} within the last {span(found.window_s)}</text>",
        *_people_axis(range(0, people_max + 1, step), y),
        *_time_axis(first_ms, last_ms, x),
        f'<path d="{"".join(peaks)}V{_BOTTOM}Z" fill="#9cc4ea" fill-opacity=".6"/>',
        f'<polyline points="{" ".join(averages)}" fill="none" stroke="#1a5fa8" stroke-width="1.5"/>',
        f'<circle cx="{peak_x}" cy="{peak_y}" r="4" fill="#c2410c"/>',
        f'<text x="{peak_x}" y="{peak_y - 9}" text-anchor="{anchor}" fill="#c2410c" font-weight="600">'
        f"peak: {found.peak:,} at {utc(found.peak_at_ms)}</text>",
        *_legend(),
        "</svg>\n",
    ]
    return "\n".join(parts)


def curve(points: Sequence[tuple[int, int]]) -> str:
    """Return an SVG document with people over time; `points` are (at_ms, people), and may be none."""
    first_ms, last_ms = (points[0][0], points[-1][0]) if points else (0, 1)
    peak = max((people for _, people in points), default=0)
    step = people_step(max(1, peak))
    people_max = -(-max(1, peak) // step) * step

    def x(at_ms: int) -> float:
        return round(_LEFT + (at_ms - first_ms) / max(1, last_ms - first_ms) * (_RIGHT - _LEFT), 1)

    def y(people: float) -> float:
        return round(_BOTTOM - people / people_max * (_BOTTOM - _TOP), 1)

    line = " ".join(f"{x(at_ms)},{y(people)}" for at_ms, people in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="13"'
        f' viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="system-ui, sans-serif" fill="#5a6772">',
        "<title>People online</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="30" font-size="19" font-weight="600" fill="#1b2733">'
        f"People online, at most {peak:,}</text>",
        *_people_axis(range(0, people_max + 1, step), y),
        *(_time_axis(first_ms, last_ms, x) if points else ()),
        f'<polyline points="{line}" fill="none" stroke="#1a5fa8" stroke-width="1.5"/>',
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
    for at_ms, label in time_ticks(first_ms, last_ms, 10):
        yield (
            f'<path d="M{x(at_ms)},{_BOTTOM}v5" stroke="#5a6772"/>'
            f'<text x="{x(at_ms)}" y="{_BOTTOM + 20}" text-anchor="middle">{label}</text>'
        )
    yield (
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 43}" text-anchor="middle">'
        f"{utc(first_ms)} to {utc(last_ms)} UTC</text>"
    )


def _legend() -> Iterator[str]:
    for left, stroke, text in (
        (_RIGHT - 170, 'stroke="#1a5fa8" stroke-width="2"', "average"),
        (_RIGHT - 70, 'stroke="#9cc4ea" stroke-width="9"', "peak"),
    ):
        yield f'<path d="M{left},26h16" {stroke}/><text x="{left + 22}" y="30">{text}</text>'


def _xml(text: str) -> str:
    return escape("".join(char if char.isprintable() else "?" for char in text))
