"""The command `online`: finds the module of a command, runs it, and turns errors into exit codes.

Not its job: what a command does. Each is a module with `add_arguments(parser)` and `run(args) -> int`, and
only the one that is asked for is imported, so that `online query` starts quickly.

What every command ends with stands in _EPILOG, once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from online import __version__
from online.cli.arguments import WRONG, Parser
from online.errors import ConfigError, OnlineError, StateError

#: Command -> its module, and what it does in a few words.
COMMANDS = {
    "serve": ("online.cli.serve", "run a server"),
    "query": ("online.cli.query", "ask a server: who is online, who is on a page"),
    "top": ("online.cli.top", "watch a server, live on a terminal"),
    "report": ("online.cli.report", "read access logs and show what the site looked like"),
    "feed": ("online.cli.feed", "follow access logs and report their page views to a server"),
    "replay": ("online.cli.replay", "send a log to a server as live traffic"),
    "state": ("online.cli.state", "look into the directory that a server keeps its state in"),
    "demo": ("online.cli.demo", "run a server with a simulated site, to try things out"),
}

FAILED, INTERRUPTED, UNREAD = 1, 130, 141

#: What a write to stdout fails with when its disk is full or broken.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_DESCRIPTION = """\
Who is online now, and on which page.

Web servers or an application report every page load (a hit) to a server. It keeps the newest hit of every user of the
last 30 minutes, and answers who is online and on which page: counts and lists, exact at that moment."""

_EPILOG = """\
examples:
  online demo                          try things out
  online serve                         a server on 127.0.0.1:8989
  online query page /forum/1           who is on this page?
  online report access.log             what did the site look like?

exit codes, of every command:
  0    it worked; a server or a feed was told to end, and did
  1    it failed: a log that cannot be read or understood, no answer from the server
  2    it cannot be done as asked: a wrong option, setting, address or state file
  130  Ctrl-C
  141  nobody reads the output any more

See `online COMMAND --help`, or `online help COMMAND`, for more."""


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
    if arguments[:1] == ["help"]:  # `online help query page`
        arguments = [*arguments[1:], "--help"]
    parser = _parser(arguments[0] if arguments else "")
    if not arguments:
        parser.print_help(sys.stderr)
        return WRONG
    args = parser.parse_args(arguments)
    try:
        code: int = import_module(COMMANDS[args.command][0]).run(args)
    except OnlineError as error:
        print(f"online {args.command}: {error}", file=sys.stderr)
        return WRONG if isinstance(error, ConfigError | StateError) else FAILED
    return code


def _parser(wanted: str) -> Parser:
    """Describe all commands in a line each, and the one that is wanted in full."""
    parser = Parser("online", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"online {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == wanted:
            import_module(module).add_arguments(command)
    commands.add_parser("help", help="show this, or the help of a command: online help COMMAND")
    return parser
