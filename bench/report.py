"""The report of a run of the benchmarks: `python -m bench.report DIR` makes latest.md, latest.svg and rivals.svg.

Not here: measuring (test_*.py), keeping (recording.py). A panel of the charts is one group of rows in one kind of unit;
a mark is the median, the line through it goes from the least to the most, and what is not ours is grey.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from bench.recording import CPU_TIMES, LATENCIES, MEMORY, SPEEDS, Results, Row

#: What panels are drawn of, in their order, and how their titles begin.
KINDS = {"Speed": SPEEDS, "Server CPU": CPU_TIMES, "Time to the answer": LATENCIES, "Memory": MEMORY}
NOT_OURS = ("Redis", "Valkey", "MariaDB", "PostgreSQL", "SQLite", "reference", "a process that spins")

#: How the groups begin that README shows, in rivals.svg.
FRONT = ("Hits: ", "PAGE, one at a time", "Memory of a server")

#: A wider spread than this has a logarithmic scale.
LINEAR_SPREAD = 15.0

WIDTH, COLUMNS, MARGIN = 1000, 2, 24
PANEL_WIDTH = (WIDTH - (COLUMNS + 1) * MARGIN) // COLUMNS
#: From a panel's left edge: where the scale begins and ends. Figures stand to the right of it.
SCALE_FROM, SCALE_TO = 4, PANEL_WIDTH - 80
LINE_PX, ROW_PX, FOOT_PX = 16, 34, 26
TITLE_CHARACTERS, WORK_CHARACTERS = 58, 72

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; stroke: #ffffff; stroke-width: 3; paint-order: stroke }
.title { font-weight: 600; font-size: 13px }
.dim { fill: #57606a; font-size: 11px } .page { fill: #ffffff }
.grid { stroke: #d0d7de } .bar, .mark { fill: #8c959f } .range { stroke: #57606a; stroke-width: 1.5 }
.bar { opacity: .55 } .ours.bar, .ours.mark { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; stroke: #0d1117 } .dim { fill: #9198a1 } .page { fill: #0d1117 } .grid { stroke: #3d444d }
.bar, .mark { fill: #7d8590 } .range { stroke: #c9d1d9 } .ours.bar, .ours.mark { fill: #4493f8 }
}
"""


def main() -> None:
    folder = Path(sys.argv[1])
    results = Results.read(folder)
    (folder / "latest.md").write_text(table(results))
    (folder / "latest.svg").write_text(charts(results.rows))
    (folder / "rivals.svg").write_text(charts(row for row in results.rows if row.group.startswith(FRONT)))
    print(f"{summary(results)} The report is in {folder / 'latest.md'}, its charts beside it.")


# The table


def table(results: Results) -> str:
    """The whole report in Markdown, one table."""
    lines = ["# Benchmarks", "", "Made by `make bench`; see CONTRIBUTING.md. Do not edit.", ""]
    lines += [f"- {name}: {fact}" for name, fact in results.machine.items()]
    lines += ["- versions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items())]
    lines += ["", summary(results), "", "![charts](latest.svg)", ""]
    lines += ["| what | median | range | rounds | target | | note |", "|---|--:|--:|--:|---|---|---|"]
    for group, rows in grouped(results.rows):
        lines += [f"| **{cell(group)}** | | | | | | |", *map(line, rows)]
    lines += told_apart("Not measured", (f"{name}: {why}" for name, why in results.skipped.items()))
    lines += told_apart("Failed, and missing above", results.failed)
    return "\n".join(lines) + "\n"


def summary(results: Results) -> str:
    judged = [row.met for row in results.rows if row.has_target]
    text = f"{len(results.rows)} figures; of {len(judged)} targets {sum(judged)} met, {judged.count(False)} missed."
    return text + (f" {len(results.failed)} benchmarks failed." if results.failed else "")


def grouped(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows by their group, groups in the order in which they first came."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return iter(groups.items())


def line(row: Row) -> str:
    median = f"{figure(row.median)} {row.unit}"
    span = "" if len(row.values) == 1 else f"{figure(min(row.values))} to {figure(max(row.values))}"
    verdict = "" if not row.has_target else "met" if row.met else "**missed**"
    cells = [cell(row.work), median, span, str(len(row.values)), target(row), verdict, cell(row.note)]
    return "| " + " | ".join(cells) + " |"


def target(row: Row) -> str:
    least = [] if row.at_least is None else [f"at least {figure(row.at_least)}"]
    most = [] if row.at_most is None else [f"at most {figure(row.at_most)}"]
    return ", ".join(least + most)


def figure(value: float) -> str:
    """Three digits that count, and thousands apart: 2.16 M, 96,100, 0.438."""
    if abs(value) >= 999_500:
        return f"{figure(value / 1e6)} M"
    if abs(value) >= 1_000:
        return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.0f}"
    return f"{value:.3g}" if abs(value) < 999.5 else "1,000"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def told_apart(title: str, entries: Iterable[str]) -> list[str]:
    listed = [f"- {entry}" for entry in entries]
    return ["", f"{title}:", "", *listed] if listed else []


# The charts


class Scale(NamedTuple):
    """From values to places, in px from the left edge of a panel."""

    low: float
    high: float
    is_log: bool

    def at(self, value: float) -> float:
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return SCALE_FROM + share * (SCALE_TO - SCALE_FROM)

    def ticks(self) -> list[float]:
        if self.is_log:
            decades = round(math.log10(self.high / self.low))
            return [self.low * 10**decade for decade in range(decades + 1)]
        return [self.high * quarter / 4 for quarter in range(5)]


def scale_of(rows: list[Row]) -> Scale:
    """A linear scale from 0, or one of whole decades if the medians are too far apart for it."""
    high = max(max(row.values) for row in rows)
    low = min(min(row.values) for row in rows)
    medians = [row.median for row in rows]
    if low > 0 and max(medians) > LINEAR_SPREAD * min(medians):
        return Scale(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)), is_log=True)
    return Scale(0, _round_up(high), is_log=False)


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 2.4, ... of its decade: quarters of it are short to write."""
    if value <= 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    return next(step for step in (x / 5 * decade for x in (5, 6, 8, 10, 12, 16, 20, 30, 40, 50)) if step >= value)


def charts(rows: Iterable[Row]) -> str:
    """All panels in one SVG, readable on light and dark pages."""
    panels = [panel(group, kind, members) for group, kind, members in drawn(rows)]
    tops, bottom = [MARGIN] * COLUMNS, MARGIN
    placed = []
    for height, body in panels:
        column = tops.index(min(tops))
        left = MARGIN + column * (PANEL_WIDTH + MARGIN)
        placed.append(f'<g transform="translate({left} {tops[column]})">{body}</g>')
        tops[column] += height + MARGIN
        bottom = max(tops)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" height="{bottom}">'
    page = f'<rect class="page" width="{WIDTH}" height="{bottom}"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, *placed, "</svg>"]) + "\n"


def drawn(rows: Iterable[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """What there is a panel for: `(group, kind, rows of one unit)`."""
    for group, members in grouped(rows):
        for kind, units in KINDS.items():
            for unit in units:
                if found := [row for row in members if row.unit == unit]:
                    yield group, kind, found


def panel(group: str, kind: str, rows: list[Row]) -> tuple[int, str]:
    """A panel's height and what stands in it."""
    scale = scale_of(rows)
    titles = wrap(group, TITLE_CHARACTERS)
    top = LINE_PX * (len(titles) + 2)
    bottom = top + ROW_PX * len(rows)
    subtitle = f"{kind}, {rows[0].unit}" + (", logarithmic" if scale.is_log else "")
    parts = [f'<text class="title" y="{14 + LINE_PX * nth}">{escape(title)}</text>' for nth, title in enumerate(titles)]
    parts.append(f'<text class="dim" y="{top - 16}">{escape(subtitle)}</text>')
    for tick in scale.ticks():
        x = round(scale.at(tick), 1)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top - 6}" y2="{bottom}"/>')
        anchor = "start" if x == SCALE_FROM else "middle"
        parts.append(f'<text class="dim" x="{x}" y="{bottom + 14}" text-anchor="{anchor}">{figure(tick)}</text>')
    for nth, row in enumerate(rows):
        parts.append(mark(row, scale, top + ROW_PX * nth))
    return bottom + FOOT_PX, "\n".join(parts)


def mark(row: Row, scale: Scale, top: int) -> str:
    """A row: its name, and under it a bar from 0 or, where there is no 0, a dot; its range; its figure."""
    ours = "" if any(other in row.work for other in NOT_OURS) else "ours "
    low, median, high = (round(scale.at(value), 1) for value in (min(row.values), row.median, max(row.values)))
    middle = top + 21
    if scale.is_log:
        body = f'<circle class="{ours}mark" cx="{median}" cy="{middle}" r="5"/>'
    else:
        width = round(median - SCALE_FROM, 1)
        body = f'<rect class="{ours}bar" x="{SCALE_FROM}" y="{middle - 6}" width="{width}" height="12"/>'
    return (
        f'<text x="{SCALE_FROM}" y="{top + 10}">{escape(shortened(row.work))}</text>{body}'
        f'<line class="range" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
        f'<text x="{SCALE_TO + 12}" y="{middle + 4}">{figure(row.median)}</text>'
    )


def shortened(work: str) -> str:
    return work if len(work) <= WORK_CHARACTERS else work[: WORK_CHARACTERS - 1].rstrip() + "…"


if __name__ == "__main__":
    main()
