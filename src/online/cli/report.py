"""`online report`: summarises access logs: page views, visitors, and how many people were online.

Connects the parts: reading logs (reading), figures (survey), text and JSON (report_text), the chart (picture), and the
page for browsers (webpage).
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from itertools import combinations

from online.cli.arguments import add_jobs_argument, whole, whole_time
from online.cli.picture import picture
from online.cli.reading import Reading, with_progress
from online.cli.report_text import as_text, figures, table
from online.cli.survey import Survey, survey
from online.cli.webpage import webpage
from online.cli.words import LINES, VIEWS, Nouns
from online.errors import ConfigError, same_file
from online.limits import Limits
from online.logs.hitlog import add_format_arguments
from online.logs.rules import Rules, add_rule_arguments, rules_from
from online.terms import WINDOW_MAX_S, WINDOW_MIN_S

STDOUT = "-"

_DESCRIPTION = """\
Summarise access logs, plain or compressed: page views and visitors by day and by hour of the day, the top pages and
referrers, and how many people were online at once, on average and at the peak.

Only page views of people count, by the same rules as online feed: no files, errors or bots. --all-lines counts every
line; this is the default for CSV and TSV.

Logs can be given in any order; the oldest is read first."""

_EXAMPLES = """\
examples:
  online report access.log
  online report /var/log/nginx/access.log* --html report.html
  online report access.log --compare access.log.1 --html weeks.html
  online report access.log --svg online.svg
  online report access.log --csv - > online.csv
  ssh www cat /var/log/nginx/access.log | online report - --window 5min
  online report clicks.csv --format csv --columns user,item,,,time --url-prefix /item/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online report`."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.add_argument("logs", metavar="LOG", nargs="+", help="a log, or - for standard input")
    parser.add_argument(
        "--window",
        metavar="TIME",
        type=whole_time(WINDOW_MIN_S, WINDOW_MAX_S),
        default=1800,
        help="how long a user stays online after a hit (default: 30min)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=whole(0, Limits.max_limit),
        default=10,
        help=f"how many top pages and referrers to show, 0 to {Limits.max_limit} (default: 10)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write people online over time to FILE, or - for standard output")
    parser.add_argument("--svg", metavar="FILE", help="draw people online over time to FILE, or - for standard output")
    parser.add_argument(
        "--html", metavar="FILE", help="write the report as one self-contained page of HTML to FILE, or -"
    )
    parser.add_argument(
        "--compare",
        metavar="LOG",
        action="append",
        default=[],
        help="with --html: compare with the figures of LOG; several are read as one",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--all-lines", action="store_true", help="count every line, including files, errors and bots")
    parser.add_argument("--pages-only", action="store_true", help="count only page views of people (the default)")
    add_jobs_argument(parser)
    add_format_arguments(parser)
    add_rule_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `online report`. Returns 0, or 1 if a log was not read to its end or a file could not be written.

    Before reading, raises ConfigError for options that conflict and for files that cannot be written.
    """
    rules = _rules(args)
    _check_outputs(args)
    nouns = LINES if rules is None else VIEWS
    reading, logs, found = _read(args, rules, args.logs)
    errors = reading.errors
    outputs: list[tuple[str | None, Callable[[], str]]] = []
    if found is not None:
        outputs = [(args.csv, lambda: table(found)), (args.svg, lambda: picture(found, _names(logs), nouns))]
        if args.html is not None:
            reports = [(_names(logs), found, reading), *_others(args, rules, nouns, reading)]
            outputs.append((args.html, lambda: webpage(reports, nouns, top=args.top)))
    elif not errors:
        errors.append(_nothing(logs, reading, rules, nouns))
    try:
        for path, make in sorted(outputs, key=lambda output: output[0] == STDOUT):
            _write(path, make, errors)
        # Files come first: the reader of standard output may close it.
        if args.json:
            _say(json.dumps(figures(found, reading, top=args.top), indent=2))
        elif reading.outcomes.lines and STDOUT not in (args.csv, args.svg, args.html):
            _say(as_text(found, reading, nouns, width=shutil.get_terminal_size().columns, top=args.top))
    finally:
        for message in (*reading.notes, *errors):
            print(f"online report: {message}", file=sys.stderr)
    return 1 if errors else 0


def _read(
    args: argparse.Namespace, rules: Rules | None, logs: Sequence[str]
) -> tuple[Reading, list[str], Survey | None]:
    """Read logs: what happened to their lines, their order, and the figures."""
    reading = Reading(args, rules)
    ordered = reading.in_order(logs)
    hits = with_progress(reading.hits(ordered), reading, ordered)
    return reading, ordered, survey(hits, window_s=args.window, top=args.top)


def _others(
    args: argparse.Namespace, rules: Rules | None, nouns: Nouns, first: Reading
) -> list[tuple[str, Survey, Reading]]:
    """Read the logs to compare with, if there are any. What is wrong with them is said with the first."""
    if not args.compare:
        return []
    reading, logs, found = _read(args, rules, args.compare)
    first.notes += reading.notes
    first.errors += reading.errors
    if found is not None:
        return [(_names(logs), found, reading)]
    if not reading.errors:
        first.errors.append(_nothing(logs, reading, rules, nouns))
    return []


def _rules(args: argparse.Namespace) -> Rules | None:
    """Return the rules for page views; None if every line counts."""
    if args.all_lines and args.pages_only:
        raise ConfigError("--all-lines and --pages-only exclude each other; give only one")
    rules = rules_from(args)
    is_separated = args.format in ("csv", "tsv") or (args.format is None and args.columns is not None)
    if args.pages_only or not (args.all_lines or is_separated):
        return rules
    if rules != Rules():
        why = "--all-lines" if args.all_lines else "a CSV or TSV log without --pages-only"
        raise ConfigError(f"options for page views and users cannot be used with {why}")
    return None


def _nothing(logs: Sequence[str], reading: Reading, rules: Rules | None, nouns: Nouns) -> str:
    """Say that nothing counted, and what to try."""
    if reading.outcomes.is_nothing_understood:
        way_out = "; set the format of the log with --format"
    else:
        way_out = "" if rules is None or not reading.outcomes.lines else "; --all-lines counts every line"
    return f"no {nouns.hit}s in {_names(logs)}{way_out}"


def _outputs(args: argparse.Namespace) -> list[tuple[str, str]]:
    given = ("--csv", args.csv), ("--svg", args.svg), ("--html", args.html)
    return [(option, path) for option, path in given if path is not None]


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise ConfigError if an output cannot be written, or would overwrite a log or another output."""
    outputs = _outputs(args)
    if args.compare and args.html is None:
        raise ConfigError("--compare needs --html FILE, which shows two logs side by side")
    logs = [*args.logs, *args.compare]
    if args.json and any(path == STDOUT for _, path in outputs):
        raise ConfigError("--json already writes to standard output; use a file name instead of -")
    for option, path in outputs:
        if path != STDOUT and any(_is_same_file(path, "/dev/stdin" if log == "-" else log) for log in logs):
            raise same_file(option, "a log", path)
    for (one, path), (other, again) in combinations(outputs, 2):
        if _is_same_file(path, again):
            raise same_file(one, other, "standard output" if again == STDOUT else again)
    for option, path in outputs:
        if path != STDOUT:
            _try(option, path)


def _try(option: str, path: str) -> None:
    """Raise ConfigError if a file cannot be opened for writing. Leaves the file unchanged, and skips pipes."""
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
    """Return whether two paths name the same file, even one that does not exist yet. Devices do not count."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.isfile(one) and os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _say(text: str) -> None:
    """Print, with ? for characters that the encoding of the terminal lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def _write(path: str | None, make: Callable[[], str], errors: list[str]) -> None:
    """Write an output, if its path was given."""
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
