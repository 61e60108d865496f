"""`online state`: what is in a state directory.

Not its job: to read one (keep/inspection), and how it comes about (serve/keeper).
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from online.cli.words import many
from online.keep.inspection import (
    History,
    Inspected,
    digest,
    frames_in,
    history_of,
    inspect,
    lines_of,
    open_folder,
)
from online.serve.settings import whole_seconds
from online.terms import WINDOW_MAX_S, WINDOW_MIN_S

DAMAGED = 1

_DESCRIPTION = """\
Look into the directory that a server keeps its state in (online serve --state DIR), while the server runs or not.
Nothing in it is changed.

  check  read every record and the history, and say what is there and what is damaged
  dump   write all hits that are in it: JSON lines for `online replay`, or the frames that a server takes"""

_EPILOG = """\
examples:
  online state check /var/lib/online/state
  online state dump /var/lib/online/state > hits.jsonl
  online replay hits.jsonl --speed max --url online://127.0.0.1/copy

exit codes: 0 everything can be read, 1 something is damaged, 2 there is no state"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online state`."""
    parser.usage = "online state check|dump DIR [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("what", choices=("check", "dump"), metavar="check|dump", help="what to do")
    parser.add_argument("directory", metavar="DIR", type=Path, help="the directory, or a copy of it")
    parser.add_argument("--digest", action="store_true", help="with check: print a checksum of the sessions")
    window_help = "with check: the server's window (default: 1800)"
    parser.add_argument("--window", metavar="SECONDS", type=_window, default=1_800, help=window_help)
    parser.add_argument("--frames", action="store_true", help="with dump: MessagePack frames, as a server takes them")


def _window(text: str) -> int:
    try:
        seconds: int = whole_seconds(WINDOW_MIN_S, WINDOW_MAX_S).read(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes {WINDOW_MIN_S} to {WINDOW_MAX_S} seconds, not {text!r}") from None
    return seconds


def run(args: argparse.Namespace) -> int:
    """Look, and return the exit code. Raises StateError."""
    if args.what == "dump":
        return _dump(args.directory, as_frames=args.frames)
    inspected = inspect(args.directory, window_s=args.window)
    history = history_of(args.directory)
    _print(inspected, history)
    if args.digest:
        print(f"digest      {digest(inspected.sites)}")
    return DAMAGED if _damaged_files(inspected, history) else 0


def _damaged_files(inspected: Inspected, history: History | None) -> int:
    report = inspected.report
    return len(report.damage) + len(report.missing) + bool(history and history.damage)


def _dump(directory: Path, *, as_frames: bool) -> int:
    frames = frames_in(open_folder(directory))
    if as_frames:
        for each in frames:
            sys.stdout.buffer.write(each)
    else:
        for line in lines_of(frames):
            print(line)
    return 0


def _print(inspected: Inspected, history: History | None) -> None:
    report = inspected.report
    for kept in [*inspected.snapshots, *inspected.segments]:
        size, records = report.sizes.get(kept.path, (None, 0))
        what = "not needed, not read" if size is None else f"{size:,} bytes, {many(records, 'record')}"
        print(f"{kept.path.name}  {what}{_state_of(inspected, kept.path)}")
    if history is not None:
        print(f"history  {f'DAMAGED: {history.damage}' if history.damage else many(history.rows, 'row')}")
    print()
    if report.first_ms:
        print(f"hits        {report.n_applied:,}, {_moment(report.first_ms)} to {_moment(report.last_ms)}")
        print(f"users       {report.users:,}, as of the newest hit")
    else:
        print("hits        none")
    print(f"sites       {len(inspected.sites):,}")
    for number in report.missing:
        print(f"missing     journal-{number:012}")
    n_damaged = _damaged_files(inspected, history)
    print(f"damage      {many(n_damaged, 'file') if n_damaged else 'none'}")


def _state_of(inspected: Inspected, path: Path) -> str:
    report = inspected.report
    for damage in report.damage:
        if damage.path == path:
            return f"; DAMAGED: {damage.what}"
    if path in report.torn:
        return f"; the last {report.torn[path]:,} bytes are not a whole record"
    return ""


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


