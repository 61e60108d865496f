"""A report as one page of HTML that needs nothing else: no server, no network, and no file beside it.

Not here: the figures (report_text), and how the page shows them (pages/report.js, with the style and the charts of the
dashboard).

1. Names come from strangers. They are data in the page, as JSON without a `<`, and reach it as text alone.
2. The page's own policy lets nothing run, and nothing load, but the one style and the one script that stand in it.
"""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from online.cli.outcomes import in_words, ranked
from online.cli.reading import Reading
from online.cli.report_text import figures
from online.cli.stays import LENGTHS_S
from online.cli.survey import Survey
from online.cli.words import Nouns

#: The script is made of modules; each is used only by those after it.
_MODULES = (("online.http", "dom.js"), ("online.http", "chart.js"), ("online.cli", "report.js"))

_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def webpage(reports: Sequence[tuple[str, Survey, Reading]], nouns: Nouns, *, top: int) -> str:
    """Return a page with the figures of a report: its title, figures and reading. A second stands beside it.

    Rows of names get a third figure then: that of the same name in the second, which need not be among its own top.
    """
    told: list[dict[str, Any]] = [
        {
            "title": title,
            **figures(found, reading, top=top, named=_named),
            "left_out": {in_words(name): number for name, number in ranked(reading.outcomes.left_out) if number},
            "begin_ms": found.begin_ms,
            "points": [[point.at_ms, point.peak, point.hits] for point in found.points],
        }
        for title, found, reading in reports
    ]
    if len(reports) > 1:
        _with_others(told[0], reports[0][1:], reports[1][1:], top)
    data = {"nouns": nouns._asdict(), "lengths_s": LENGTHS_S, "reports": told}
    style = _page("online.http", "style.css")
    script = "".join(_EXPORT.sub("", _IMPORT.sub("", _page(*module))) for module in _MODULES)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_page("online.cli", "report.html")).substitute(
        title=escape(_printable(reports[0][0])),
        policy=policy,
        icon=_page("online.http", "icon.svg"),
        style=style,
        figures=json.dumps(data).replace("<", "\\u003c"),
        script=script,
    )


def _with_others(
    told: dict[str, Any], one: tuple[Survey, Reading], other: tuple[Survey, Reading], top: int
) -> None:
    """Add to each row of names what the other log has of that name, be it among its top or not. O(its names)."""
    (found, reading), (others, others_reading) = one, other
    for rows, names, known in (
        (told["top"], found.top, others.all_urls),
        (told["peak"]["top"], found.peak_top, others.all_at_peak),
        (told["referrers"], ranked(reading.referrers, top), others_reading.referrers.items()),
    ):
        numbers = dict(known)
        for row, (name, _) in zip(rows, names, strict=True):
            row.append(numbers.get(name, 0))


def _page(package: str, name: str) -> str:
    return files(package).joinpath("pages", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return how a policy names what may stand inline."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _named(name: bytes) -> str | dict[str, str]:
    """Return a name as the pages of the dashboard take it: as text, or as bytes if it is none."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(name).decode()}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
