"""`online report`: what a site looked like, from its logs: its page views and visitors, and how many were online.

Here the parts are put together: logs are read (reading), their hits surveyed (survey), and what that tells is printed
(report_text) and drawn (picture).
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from online.cli.arguments import whole, whole_time
from online.cli.picture import picture
from online.cli.reading import Reading, with_progress
from online.cli.report_text import as_text, figures, table
from online.cli.survey import survey
from online.cli.words import LINES, VIEWS
from online.errors import ConfigError, same_file
from online.limits import Limits
from online.logs.hitlog import add_format_arguments, read_from
from online.logs.rules import Rules, add_rule_arguments, rules_from
from online.terms import WINDOW_MAX_S, WINDOW_MIN_S

STDOUT = "-"

_DESCRIPTION = """\
Read access logs, plain or gzip, and tell what the site looked like: page views and visitors by day and by hour of the
day, the top pages, and how many people were online at once, when most, and where.

Only page views of people count, by the rules of online feed: no files, no errors, no bots. --all-lines counts every
line, which is the default for CSV and TSV.

Logs may be given in any order: they are read oldest first."""

_EXAMPLES = """\
examples:
  online report access.log
  online report /var/log/nginx/access.log* --svg online.svg
  online report access.log --csv - > online.csv
  ssh www cat /var/log/nginx/access.log | online report - --window 5min
  online report clicks.csv --format csv --columns user,item,,,time --url-prefix /item/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online report` on the command line."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.add_argument("logs", metavar="LOG", nargs="+", help="a log; - is standard input")
    parser.add_argument(
        "--window",
        metavar="TIME",
        type=whole_time(WINDOW_MIN_S, WINDOW_MAX_S),
        default=1800,
        help="how long a hit keeps its user online (default: 30min)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=whole(0, Limits.max_limit),
        default=10,
        help=f"how many of the top pages to show, 0 to {Limits.max_limit} (default: 10)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write people online over time to FILE; - is standard output")
    parser.add_argument("--svg", metavar="FILE", help="draw people online over time to FILE; - is standard output")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--all-lines", action="store_true", help="count every line: files, errors and bots, too")
    parser.add_argument("--pages-only", action="store_true", help="count page views of people only: the default")
    add_format_arguments(parser)
    add_rule_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do `online report`. Returns 0, or 1 if a log was not read to its end or a file could not be written.

    Raises ConfigError for options that do not go together and for files that cannot be written, before anything is
    read, and FullError if more people were online at once than an index holds.
    """
    rules = _rules(args)
    _check_outputs(args)
    nouns = LINES if rules is None else VIEWS
    reading = Reading(read_from(args, visitor=rules.visitor if rules else ""), rules, url_prefix=args.url_prefix)
    logs = reading.in_order(args.logs)
    found = survey(with_progress(reading.hits(logs), reading, logs), window_s=args.window, top=args.top)
    if args.json:
        _say(json.dumps(figures(found, reading), indent=2))
    elif reading.outcomes.lines and STDOUT not in (args.csv, args.svg):
        _say(as_text(found, reading, nouns, shutil.get_terminal_size().columns))
    errors = reading.errors
    if found is not None:
        _write(args.csv, lambda: table(found), errors)
        _write(args.svg, lambda: picture(found, _names(logs), nouns), errors)
    elif not errors:
        errors.append(f"no line of {_names(logs)} is a {nouns.hit}{_way_out(reading, rules)}")
    for message in (*reading.notes, *errors):
        print(f"online report: {message}", file=sys.stderr)
    return 1 if errors else 0


def _rules(args: argparse.Namespace) -> Rules | None:
    """Return what a page view is; None where every line counts."""
    if args.all_lines and args.pages_only:
        raise ConfigError("--all-lines and --pages-only are opposites: give one of them")
    rules = rules_from(args)
    is_separated = args.format in ("csv", "tsv") or (args.format is None and args.columns is not None)
    if args.pages_only or not (args.all_lines or is_separated):
        return rules
    if rules != Rules():
        why = "--all-lines" if args.all_lines else "a CSV or TSV log without --pages-only"
        raise ConfigError(f"options about page views and users do not go with {why}")
    return None


def _way_out(reading: Reading, rules: Rules | None) -> str:
    """Say what to try when nothing counted."""
    if reading.outcomes.is_nothing_understood:
        return "; see --format for how it may be written"
    return "" if rules is None or not reading.outcomes.lines else "; --all-lines counts every line"


def _outputs(args: argparse.Namespace) -> list[tuple[str, str]]:
    return [(option, path) for option, path in (("--csv", args.csv), ("--svg", args.svg)) if path is not None]


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise ConfigError if a file cannot be written, or if that would destroy a log or the other file."""
    outputs = _outputs(args)
    if args.json and any(path == STDOUT for _, path in outputs):
        raise ConfigError("--json goes to standard output itself: name a file in place of -")
    for option, path in outputs:
        if path != STDOUT and any(_is_same_file(path, "/dev/stdin" if log == "-" else log) for log in args.logs):
            raise same_file(option, "a log", path)
    if len(outputs) == 2 and _is_same_file(args.csv, args.svg):
        raise same_file("--csv", "--svg", "standard output" if args.svg == STDOUT else args.svg)
    for option, path in outputs:
        if path != STDOUT:
            _try(option, path)


def _try(option: str, path: str) -> None:
    """Raise ConfigError if a file cannot be opened for writing. It is left as it is; a pipe is not tried."""
    is_new = not os.path.exists(path)
    if not (is_new or os.path.isfile(path) or os.path.isdir(path)):
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        if is_new:
            os.unlink(os.path.realpath(path))
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {path}: {error.strerror or error}") from None


def _is_same_file(one: str, other: str) -> bool:
    """Tell if two names are of one file, also if it is still to be made; a device may be named twice."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.isfile(one) and os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _say(text: str) -> None:
    """Print, with ? for what the terminal's encoding does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def _write(path: str | None, make: Callable[[], str], errors: list[str]) -> None:
    """Write a file that was asked for."""
    if path is None:
        return
    if path == STDOUT:
        sys.stdout.write(make())
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(make())
    except OSError as error:
        errors.append(f"cannot write {path}: {error.strerror or error}")


def _names(logs: Sequence[str]) -> str:
    first = "standard input" if logs[0] == "-" else os.path.basename(logs[0])
    return first if len(logs) == 1 else f"{first} and {len(logs) - 1} more"
