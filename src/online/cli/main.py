"""The command `online`: imports the module of a command, runs it, and turns errors into exit codes.

Not here: what a command does. Each command is a module with `add_arguments(parser)` and `run(args) -> int`. Only the
module that is needed is imported, so that `online query` starts quickly.

EPILOG lists the exit codes of all commands.
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from online import __version__
from online.cli.arguments import WRONG, Parser
from online.errors import ConfigError, OnlineError, StateError

#: Command -> its module and a short summary.
COMMANDS = {
    "serve": ("online.cli.serve", "run a server"),
    "relay": ("online.cli.relay", "take hits, and publish them on the bus that servers share"),
    "gateway": ("online.cli.gateway", "answer for a site whose users are divided among servers"),
    "query": ("online.cli.query", "ask a server: who is online, who is on a page"),
    "top": ("online.cli.top", "watch a server, live on a terminal"),
    "history": ("online.cli.history", "show people, hits and visitors over time"),
    "report": ("online.cli.report", "summarise access logs: visitors, page views, most people online"),
    "feed": ("online.cli.feed", "follow access logs and report their page views to a server"),
    "replay": ("online.cli.replay", "send a log to a server as live traffic"),
    "state": ("online.cli.state", "look into the directory that a server keeps its state in"),
    "init": ("online.cli.init", "write a file with all settings of a server, explained"),
    "config": ("online.cli.config", "check the settings of a server, and show where each comes from"),
    "doctor": ("online.cli.doctor", "look at a server and what reaches it, and say what is missing"),
    "plan": ("online.cli.plan", "say how much memory, disk and processor time a site needs"),
    "bench": ("online.cli.bench", "load a server, and show how long its answers take"),
    "completion": ("online.cli.completion", "write a completion script for bash, zsh or fish"),
    "demo": ("online.cli.demo", "run a server with a simulated site, to try things out"),
}

FAILED, INTERRUPTED, UNREAD = 1, 130, 141

#: Errors of a write to stdout on a full or broken disk.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_DESCRIPTION = """\
Shows who is online now, and on which page.

Web servers or an application report every page load (a hit) to a server. The server keeps the newest hit of each user
in the last 30 minutes. Counts and lists of who is online, and on which page, are always exact."""

#: Shown below the commands.
EPILOG = """\
examples:
  online demo                          try things out
  online serve                         a server on 127.0.0.1:8989
  online query page /forum/1           list who is on this page
  online report access.log             summarise an access log

exit codes of all commands:
  0    success; for a server or a feed, a clean stop
  1    failure: a log cannot be read or understood, or the server does not answer
  2    usage error: a wrong option, setting, address or state file
  130  interrupted with Ctrl-C
  141  the reader of the output closed it

See `online COMMAND --help` or `online help COMMAND` for the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. Raises SystemExit for `--help`, `--version` and usage errors."""
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
    """Drop buffered output, so that it does not fail again when the interpreter exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:  # `online help query page`
        arguments = [*arguments[1:], "--help"]
    parser = parser_of(*arguments[:1])
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


def parser_of(*wanted: str) -> Parser:
    """Return a parser with one line for each command, and all options of the `wanted` ones."""
    parser = Parser("online", description=_DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"online {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in wanted:
            import_module(module).add_arguments(command)
    commands.add_parser("help", help="show this help, or the help of a command")
    return parser
