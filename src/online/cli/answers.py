"""Lays out answers of a server as facts and a table, for a terminal, a pipe or JSON.

Not here: which verb has which answer (questions).

1. Names come from visitors of a site. No control character in them reaches a terminal or a pipe.
2. Each answer is laid out once. Terminal and pipe differ only in how cells are separated.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from online.cli.words import readable, spoken_age
from online_client.replies import (
    Kinds,
    Listing,
    Page,
    Past,
    Peak,
    Section,
    Seen,
    Session,
    Site,
    TopPage,
    Viewer,
)


class Answer(NamedTuple):
    """What to show of a reply: facts, each with a name ("" for none), then a table."""

    facts: Sequence[tuple[str, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class HitOutcome:
    """Whether a hit was accepted, and why not."""

    result: str
    why: str | None = None


#: Reasons why a hit is ignored.
HAS_NEWER = "the user has a newer hit"
TOO_OLD = "older than the server's window, or from before the user left"


def is_nothing(reply: object) -> bool:
    """Return whether an answer counts no people, bots or pages."""
    match reply:
        case Kinds():
            return reply.people == reply.bots == 0
        case Page():
            return reply.here == 0
        case Section():
            return reply.pages == 0
        case list():  # of pages, or of counts
            return not any(reply)
    return reply == 0


# As JSON


def plain(value: object) -> object:
    """Convert a reply to dictionaries, lists, text and numbers. Times are ISO 8601, ages seconds (`age_s`)."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name + "_s" * isinstance(item, timedelta): plain(item) for name, item in named}
    return value


# Laid out


def _spoken_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def number(reply: int, args: argparse.Namespace) -> Answer:
    return Answer([("", str(reply))])


def text(reply: str, args: argparse.Namespace) -> Answer:
    return Answer([("", reply)])


def hit(reply: HitOutcome, args: argparse.Namespace) -> Answer:
    return Answer([("", "OK" if reply.why is None else f"{reply.result}: {reply.why}")])


def done(reply: None, args: argparse.Namespace) -> Answer:
    return Answer([("", "OK")])


def time(reply: datetime, args: argparse.Namespace) -> Answer:
    return Answer([("", _spoken_time(reply))])


def counts(reply: list[int], args: argparse.Namespace) -> Answer:
    return Answer(columns=("people", "url"), rows=[(str(n), url) for n, url in zip(reply, args.urls, strict=True)])


def kinds(reply: Kinds, args: argparse.Namespace) -> Answer:
    counts = reply.people, reply.members, reply.guests, reply.hidden, reply.bots
    return Answer(list(zip(("people", "members", "guests", "hidden", "bots"), map(str, counts), strict=True)))


def page(reply: Page, args: argparse.Namespace) -> Answer:
    facts = [("online", str(reply.online)), ("here", str(reply.here)), *_cursor(reply.cursor)]
    return Answer(facts, ("user", "seen", "kind"), [_viewer(viewer) for viewer in reply.users])


def _viewer(viewer: Viewer) -> Sequence[str]:
    return viewer.user, spoken_age(viewer.age), viewer.kind


def listing(reply: Listing, args: argparse.Namespace) -> Answer:
    columns = "user", "url", "seen", "kind"
    return Answer(_cursor(reply.cursor), columns, [_session(session) for session in reply.users])


def _session(session: Session) -> Sequence[str]:
    return session.user, session.url, spoken_age(session.age), session.kind


def _cursor(cursor: str | None) -> list[tuple[str, str]]:
    """Return the cursor as a fact, if the list goes on."""
    return [] if cursor is None else [("cursor", cursor)]


def seen(reply: list[Seen | None], args: argparse.Namespace) -> Answer:
    rows = [
        (user, "-", "-") if seen is None else (user, seen.url, spoken_age(seen.age))
        for user, seen in zip(args.users, reply, strict=True)
    ]
    return Answer(columns=("user", "url", "seen"), rows=rows)


def section(reply: Section, args: argparse.Namespace) -> Answer:
    return Answer([("people", str(reply.people)), ("pages", str(reply.pages))])


def top(reply: list[TopPage], args: argparse.Namespace) -> Answer:
    return Answer(columns=("people", "url"), rows=[(str(page.people), page.url) for page in reply])


def peak(reply: Peak, args: argparse.Namespace) -> Answer:
    if reply.at is None:
        return Answer([("people", "0")])
    ago = max(timedelta(0), datetime.now(UTC) - reply.at)
    return Answer([("people", str(reply.people)), ("at", f"{_spoken_time(reply.at)}, {spoken_age(ago)} ago")])


def estimate(reply: int | None, args: argparse.Namespace) -> Answer:
    return Answer([("", _spoken_count(reply))])


def history(reply: list[Past], args: argparse.Namespace) -> Answer:
    columns = ("at", "people", "members", "guests", "bots", "hits", "visitors")
    return Answer(columns=columns, rows=[(_spoken_time(row.at), *map(_spoken_count, counts_of(row))) for row in reply])


def _spoken_count(count: int | None) -> str:
    return "?" if count is None else str(count)


def counts_of(row: Past) -> tuple[int, int, int, int, int, int | None]:
    """Return the counts of a row of history."""
    return row.people, row.members, row.guests, row.bots, row.hits, row.visitors


def sites(reply: list[Site], args: argparse.Namespace) -> Answer:
    return Answer(columns=("people", "site"), rows=[(str(site.people), site.name) for site in reply])


def info(reply: dict[str, dict[str, str]], args: argparse.Namespace) -> Answer:
    rows = [
        (section, *row)
        for section, values in reply.items()
        for name, value in values.items()
        for row in _info_rows(name, value)
    ]
    if not rows:
        section = args.section.lower()
        why = "is no gateway" if section == "gateway" else f"runs without --{section}"
        return Answer(facts=[("", f"no section {section}: the server {why}")])
    return Answer(columns=("section", "name", "value"), rows=rows)


def _info_rows(name: str, value: str) -> list[tuple[str, str]]:
    """Lay out a value of INFO. The value of a site is a list: `people=3,users=4,...`."""
    if not name.startswith("site_"):
        return [(name, value)]
    each = (part.partition("=") for part in value.split(","))
    return [(f"{name} {key}", number) for key, _, number in each]


# Shown


def show(answer: Answer) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # ? for characters that the encoding lacks
    if sys.stdout.isatty():
        _show_on_terminal(answer)
    else:
        print(as_plain_text(answer))


def as_plain_text(answer: Answer) -> str:
    """Return facts and table with tabs between cells, and an empty line between facts and table."""
    facts = [fact if fact[0] else fact[1:] for fact in answer.facts]
    table = [answer.columns, *answer.rows] if answer.columns else []
    return "\n\n".join(_lines(part) for part in (facts, table) if part)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("\t".join(map(readable, row)) for row in rows)


def _show_on_terminal(answer: Answer) -> None:
    # Slow to import, and needed only here.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    width = max((len(name) + 2 for name, _ in answer.facts if name), default=0)
    for name, value in answer.facts:
        console.print(Text.assemble((name.ljust(width), "dim"), readable(value)), soft_wrap=True)
    if answer.columns:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for column in answer.columns:
            is_right = column in ("people", "seen")
            table.add_column(column, justify="right" if is_right else "left", overflow="fold", no_wrap=is_right)
        for row in answer.rows:
            table.add_row(*(Text(readable(cell)) for cell in row))
        console.print(table)
