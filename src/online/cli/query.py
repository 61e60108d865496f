"""`online query`: queries a running server, and prints the answer as a table, as plain text, or as JSON.

Not here: the verbs (questions), and the layout of answers (answers).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

from online.cli.answers import HitOutcome, is_nothing, plain, show
from online.cli.arguments import Parser, add_server_argument, did_you_mean, time_of, with_token
from online.cli.questions import VERBS, Verb
from online.cli.words import explained, readable
from online.terms import span
from online_client import AddressError, Client, OnlineError

DEFAULT_TIMEOUT_S = 5.0
TIMEOUT_MIN_S, TIMEOUT_MAX_S = 0.001, 86_400.0

_DESCRIPTION = """\
Ask a running server who is online and on which page, or report a hit to it.

Prints the answer as a table on a terminal, as plain text with tabs elsewhere, or as JSON with --json."""

_EPILOG = """\
examples:
  online query count
  online query count /forum/1
  online query count "" 300
  online query page /forum/1 30
  online query seen theo dora
  online query top --json
  ONLINE_URL=online://shop:token@192.0.2.1 online query kinds
  online query --url online+unix:///run/online.sock hit theo /forum/1

See `online query VERB --help` for the arguments of a verb."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online query`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    _add_options(parser, with_defaults=True)
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_VerbParser)
    for name, verb in VERBS.items():
        command = commands.add_parser(name, help=verb.summary, description=_sentence(verb.summary))
        _add_options(command, with_defaults=False)
        for argument in verb.arguments:
            command.add_argument(argument.name, **argument.options)


class _VerbParser(Parser):
    """Accepts options before, between and after arguments, even if arguments are optional."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        args = list(args or ())
        options = _Options(self.prog, add_help=False)
        _add_options(options, with_defaults=False)
        end = args.index("--") if "--" in args else len(args)
        namespace, rest = options.parse_known_args(args[:end], namespace)
        for each in rest:  # before its value is taken for an argument
            if each.startswith("--") and each.partition("=")[0] not in self._option_string_actions:
                self.refuse(each)
        return super().parse_known_args(rest + args[end:], namespace)

    def refuse(self, unknown: str) -> NoReturn:
        """Exit with an error. It may be an option of the command of the same name, or meant as a name."""
        option = unknown.partition("=")[0]
        if self.prog.endswith(" history") and option in _OF_HISTORY:
            self.error(f"unknown option {option}; `online history` takes it")
        if unknown.startswith("-") and not did_you_mean(unknown, self._option_string_actions):
            self.error(f"unknown option {unknown}; a name that begins with - must come after --")
        super().refuse(unknown)


#: Options of the command of the same name.
_OF_HISTORY = ("--last", "--step", "--site", "--csv", "--svg")


class _Options(Parser):
    """Parses options, and leaves all other arguments."""

    def refuse(self, unknown: str) -> None:  # type: ignore[override]
        pass


def _add_options(parser: argparse.ArgumentParser, *, with_defaults: bool) -> None:
    """Add the options. After the verb they have no defaults, which would override options before it."""

    def default(value: object) -> Any:
        return value if with_defaults else argparse.SUPPRESS

    add_server_argument(parser, default=default(None))
    parser.add_argument("--json", action="store_true", default=default(False), help="print the answer as JSON")
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=time_of(TIMEOUT_MIN_S, TIMEOUT_MAX_S),
        default=default(DEFAULT_TIMEOUT_S),
        help=f"how long to wait for an answer (default: {span(DEFAULT_TIMEOUT_S)})",
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def run(args: argparse.Namespace) -> int:
    """Query and print the answer. Returns 0; 1 if the server refused or did not answer; 2 for a wrong address."""
    verb = VERBS[args.verb]
    try:
        with Client(with_token(args.server), timeout=args.timeout) as client:
            reply = verb.ask(client, args)
    except AddressError as error:
        return _failed(error, 2)
    except (OnlineError, ValueError) as error:  # ValueError: a name that is not text
        return _failed(error, 1)
    if args.json:
        print(json.dumps(plain(reply), indent=2))
    else:
        show(verb.lay_out(reply, args))
    if isinstance(reply, HitOutcome) or is_nothing(reply):
        _hint_at_slash(verb, args)
    return 0


def _hint_at_slash(verb: Verb, args: argparse.Namespace) -> None:
    """Print a hint if a url does not begin with a slash, as urls of nearly all sites do."""
    for argument in verb.arguments:
        given = getattr(args, argument.name) if argument.is_url else None
        for url in given if isinstance(given, list) else [given]:
            if url and not url.startswith("/"):
                path = urlsplit(url).path if "://" in url else url
                meant = readable(f"/{path.removeprefix('/')}")
                print(f"online query: urls usually begin with /; did you mean {meant}?", file=sys.stderr)


def _failed(error: Exception, code: int) -> int:
    print(f"online query: {explained(error)}", file=sys.stderr)
    return code
