"""The command `online`: finds the module of a subcommand, runs it, and turns errors into exit codes.

Not its job: what a subcommand does. Each is a module with `add_arguments(parser)` and `run(args) -> int`, and
only the one that is asked for is imported, so that `online query` starts quickly.

| exit code | |
|---|---|
| 0 | all went well; for a server: it was told to stop, and did |
| 1 | it failed, one line on stderr says how |
| 2 | it was asked for wrongly: an option, a configuration, an address in use |
| 130, 141 | ended by Ctrl-C, or because nobody reads its output any more |
"""

import argparse
import errno
import os
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import NoReturn

from online import __version__
from online.errors import ConfigError, OnlineError, StateError

#: Subcommand -> its module, and what it does in a few words.
COMMANDS = {
    "serve": ("online.cli.serve", "run a server"),
    "query": ("online.cli.query", "ask a server: who is online, who is on a page"),
    "top": ("online.cli.top", "watch a server, live on a terminal"),
    "report": ("online.cli.report", "read access logs and tell who was online"),
    "feed": ("online.cli.feed", "follow access logs and tell a server of their page views"),
    "replay": ("online.cli.replay", "feed a log to a server as live traffic"),
    "demo": ("online.cli.demo", "run a server with a simulated site, to look around"),
}

FAILED, WRONG, INTERRUPTED, UNREAD = 1, 2, 130, 141

#: What a write to stdout fails with when its disk is full or broken.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_DESCRIPTION = """\
Who is online now, and on which page.

A web server or an application tells a server of every page load (a hit); the server keeps the newest hit of
every user of the last 30 minutes and answers counts and lists of users, exact as of now."""

_EPILOG = """\
examples:
  online demo                          look around
  online serve                         a server on 127.0.0.1:8989
  online query page /forum/1           who is on this page?
  online report access.log             what did the site look like?

`online COMMAND --help` tells more."""


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, and leaves those alone that have indented lines: lists and examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = textwrap.dedent(text).strip().split("\n\n")
        fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        return "\n\n".join(each if "\n " in each else fill(each) for each in paragraphs)


class _Parser(argparse.ArgumentParser):
    """Ends what it refuses with where to read more."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG, f"{self.prog}: error: {message}\nsee: {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. `--help`, `--version` and wrong usage raise SystemExit."""
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return UNREAD
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _discard_output()
        print(f"online: cannot write the output: {error.strerror}", file=sys.stderr)
        return FAILED


def _discard_output() -> None:
    """Forget what is still buffered, which must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    parser, asked = _parsers(arguments[0] if arguments else "")
    if not arguments:
        parser.print_help(sys.stderr)
        return WRONG
    args, unknown = parser.parse_known_args(arguments)
    if unknown:  # parse_args would show the usage of `online`, where that of the subcommand helps
        asked.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = import_module(COMMANDS[args.command][0]).run(args)
    except OnlineError as error:
        print(f"online {args.command}: {error}", file=sys.stderr)
        return WRONG if isinstance(error, ConfigError | StateError) else FAILED
    return code


def _parsers(wanted: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Describe all subcommands in a line each, and the one that is wanted in full.

    Returns the parser of all, and that of the subcommand, which is the same if none is wanted.
    """
    parser = asked = _Parser("online", allow_abbrev=False, formatter_class=_Formatter)
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("--version", action="version", version=f"online {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, allow_abbrev=False)
        if name == wanted:
            import_module(module).add_arguments(command)
            command.formatter_class = _Formatter
            asked = command
    return parser, asked
