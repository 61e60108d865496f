"""`online history`: people, hits and visitors over time, from a running server or from a state directory.

Not its job: which rows there are (keep/history), and the drawing (picture).
"""

import argparse
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from online.cli.arguments import add_server_argument, url_of_site, whole_time, with_token
from online.cli.picture import curve
from online.cli.words import explained, iso, readable, utc
from online.core.sites import DEFAULT_SITE, SITE_MAX_BYTES
from online.errors import StateError
from online.keep.folder import HISTORY
from online.keep.history import MINUTE_MS, MOST_ROWS, History, Row, check_head, fitting_step_ms
from online_client import Client, OnlineError

COLUMNS = ("at", "people", "members", "guests", "bots", "hits", "visitors")

DAY_S = 86_400

_DESCRIPTION = """\
Show how many people were online over time: the most of each step, with hits and different visitors (an estimate).

Asks a running server, or reads DIR, its state directory or a copy of it, while the server runs or not. Steps in which
the server was away are left out."""

_EPILOG = """\
examples:
  online history
  online history --last 30d --step 1h --csv > month.csv
  online history /var/lib/online/state --site shop --last 7d --svg > week.svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online history`."""
    parser.usage = "online history [DIR] [OPTION ...]"
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path, help="a state directory (default: a server)")
    add_server_argument(parser)
    parser.add_argument(
        "--site", type=_site, help="the site (default: that of the server's address, or default)"
    )
    parser.add_argument(
        "--last", metavar="TIME", type=whole_time(60, 10_000 * DAY_S), default=DAY_S, help="how long ago (default: 24h)"
    )
    parser.add_argument(
        "--step", metavar="TIME", type=whole_time(60, 366 * DAY_S), help="how long a row is: whole minutes"
    )
    form = parser.add_mutually_exclusive_group()
    for name, what in (("csv", "CSV, for spreadsheets"), ("json", "JSON"), ("svg", "a drawing, for browsers")):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=f"print {what}")
    parser.set_defaults(form="text")


def _site(text: str) -> bytes:
    name = os.fsencode(text)
    if not 1 <= len(name) <= SITE_MAX_BYTES:
        raise argparse.ArgumentTypeError(f"takes a name of 1 to {SITE_MAX_BYTES} bytes, not {text!r}")
    return name


def run(args: argparse.Namespace) -> int:
    """Print the history. Returns 0, or 1 if the server does not answer. Raises StateError for no state directory."""
    to_ms = int(datetime.now(UTC).timestamp() * 1000)
    step_ms = (args.step or 0) * 1000 or fitting_step_ms(args.last * 1000)
    if step_ms % MINUTE_MS:
        print("online history: --step must be whole minutes", file=sys.stderr)
        return 2
    if args.last * 1000 // step_ms > MOST_ROWS:
        print(f"online history: this would be more than {MOST_ROWS:,} rows, so take a longer --step", file=sys.stderr)
        return 2
    from_ms = (to_ms - args.last * 1000) // step_ms * step_ms
    try:
        if args.directory is not None:
            rows = _kept(args.directory, args.site or DEFAULT_SITE, from_ms, to_ms, step_ms)
        else:
            rows = _asked(with_token(args.server), args.site, from_ms, to_ms, step_ms)
    except OnlineError as error:
        print(f"online history: {explained(error)}", file=sys.stderr)
        return 1
    sys.stdout.write(FORMS[args.form](rows))
    return 0


def _kept(directory: Path, site: bytes, from_ms: int, to_ms: int, step_ms: int) -> Sequence[Row]:
    """Read a state directory. Raises StateError."""
    path = directory / HISTORY
    if not directory.is_dir():
        why = "is not a directory" if directory.exists() else "is not there"
        raise StateError(f"state directory {directory} {why}")
    if not path.is_file():
        raise StateError(f"state directory {directory} has no history")
    try:
        check_head(path)
        history = History(path, reads_only=True)
        try:
            known = history.sites()
            if not known:
                _say(f"{directory} has no rows yet; a server writes them when a minute is over")
            elif site not in known:  # it may be new; or it is a slip
                _say(f"{directory} has no rows of the site {_shown(site)}, but of: {_shown(b', '.join(known))}")
            return history.rows(site, from_ms, to_ms, step_ms)
        finally:
            history.close()
    except (sqlite3.Error, OSError) as error:
        raise StateError(f"{path} cannot be read: {error}") from None


def _say(what: str) -> None:
    print(f"online history: {what}", file=sys.stderr)


def _shown(name: bytes) -> str:
    return readable(name.decode(errors="replace"))


def _asked(server: str | None, site: bytes | None, from_ms: int, to_ms: int, step_ms: int) -> Sequence[Row]:
    """Ask a server. Raises OnlineError of the client."""
    with Client(server) as client:
        address = client.address
    with Client(server if site is None else url_of_site(server, site)) as client:
        found = client.history(from_ms, to_ms, step_ms // 1000)
    if not found:
        wanted = readable(address.site) if site is None else _shown(site)
        _say(f"the server has no rows of the site {wanted} in this time; it writes them when a minute is over")
    return [
        (round(row.at.timestamp() * 1000), row.people, row.members, row.guests, row.bots, row.hits, row.visitors)
        for row in found
    ]


def _csv(rows: Sequence[Row]) -> str:
    lines = [",".join([iso(at), *("" if value is None else str(value) for value in row)]) for at, *row in rows]
    return "\n".join([",".join(COLUMNS), *lines]) + "\n"


def _json(rows: Sequence[Row]) -> str:
    return json.dumps([dict(zip(COLUMNS, (iso(at), *row), strict=True)) for at, *row in rows], indent=2) + "\n"


def _text(rows: Sequence[Row]) -> str:
    lines = [f"{'at (UTC)':19}" + "".join(f"{name:>10}" for name in COLUMNS[1:])]
    for at, *row in rows:
        lines.append(utc(at) + "".join(f"{'?' if value is None else f'{value:,}':>10}" for value in row))
    return "\n".join(lines) + "\n"


def _svg(rows: Sequence[Row]) -> str:
    return curve([(row[0], row[1]) for row in rows])


FORMS: dict[str, Callable[[Sequence[Row]], str]] = {"csv": _csv, "json": _json, "svg": _svg, "text": _text}
