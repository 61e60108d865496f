"""`online query`: asks a running server, and shows the answer as a table, as plain text, or as JSON.

Not here: what a verb sends and answers (online_client.verbs). A verb is one row of _VERBS: its arguments, its
request, and how its answer is laid out.

1. Names come from visitors of a site. None reaches a terminal or a pipe with a control character in it.
2. Each answer is laid out once, as facts and a table of text; a terminal and a pipe differ in the frame
   alone.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from online.terms import KINDS, MEMBER
from online_client import AddressError, Client, OnlineError
from online_client.replies import (
    Kinds,
    Listing,
    Page,
    Peak,
    Section,
    Seen,
    Session,
    Site,
    TopPage,
    Viewer,
)

DEFAULT_TIMEOUT_S = 5.0
TIMEOUT_MIN_S, TIMEOUT_MAX_S = 0.001, 86_400.0

#: What INFO tells of.
SECTIONS = ("server", "clients", "memory", "hits", "sites", "limits", "syslog")

_DESCRIPTION = """\
Ask a running server who is online and on which page, or report a hit to it.

The answer is a table on a terminal, and plain text with tabs elsewhere; --json prints it as JSON."""

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

`online query VERB --help` tells the arguments of a verb."""


class Answer(NamedTuple):
    """What is shown of a reply: facts, each with its name ("" for one that stands alone), then a table."""

    facts: Sequence[tuple[str, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


class Argument(NamedTuple):
    """An argument of a verb: its name, and the rest of what argparse is told. "" stands for "not given"."""

    name: str
    options: dict[str, Any]


class Verb(NamedTuple):
    summary: str
    arguments: Sequence[Argument]
    ask: Callable[[Client, argparse.Namespace], Any]
    lay_out: Callable[[Any, argparse.Namespace], Answer]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online query`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    _add_options(parser, with_defaults=True)
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_VerbParser)
    for name, verb in _VERBS.items():
        command = commands.add_parser(name, help=verb.summary, description=_sentence(verb.summary))
        _add_options(command, with_defaults=False)
        for argument in verb.arguments:
            command.add_argument(argument.name, **argument.options)


class _VerbParser(argparse.ArgumentParser):
    """Takes options before, between and after the arguments, also where arguments may be left out."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options = argparse.ArgumentParser(self.prog, add_help=False, allow_abbrev=False)
        options.usage = self.format_usage().removeprefix("usage: ")
        _add_options(options, with_defaults=False)
        end = args.index("--") if "--" in args else len(args)
        namespace, rest = options.parse_known_args(args[:end], namespace)
        return super().parse_known_args(rest + args[end:], namespace)


def _add_options(parser: argparse.ArgumentParser, *, with_defaults: bool) -> None:
    """Add the options. After the verb they have no defaults, which would undo what stood before it."""

    def default(value: object) -> Any:
        return value if with_defaults else argparse.SUPPRESS

    parser.add_argument(
        "--url",
        dest="server",
        default=default(None),
        help="the server and its site (default: ONLINE_URL, or online://127.0.0.1:8989/default)",
    )
    parser.add_argument("--json", action="store_true", default=default(False), help="print the answer as JSON")
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=_timeout,
        default=default(DEFAULT_TIMEOUT_S),
        help=f"seconds to wait for the answer (default: {DEFAULT_TIMEOUT_S:g})",
    )


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not TIMEOUT_MIN_S <= seconds <= TIMEOUT_MAX_S:
        raise argparse.ArgumentTypeError(f"takes {TIMEOUT_MIN_S:g} to {TIMEOUT_MAX_S:,.0f} seconds, not {text!r}")
    return seconds


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def run(args: argparse.Namespace) -> int:
    """Ask and print the answer. Returns 0, 1 if the server refused or did not answer, 2 for a wrong address."""
    verb = _VERBS[args.verb]
    try:
        with Client(args.server, timeout=args.timeout) as client:
            reply = verb.ask(client, args)
    except AddressError as error:
        return _failed(error, 2)
    except (OnlineError, ValueError) as error:  # ValueError: a name that is no text
        return _failed(error, 1)
    if args.json:
        print(json.dumps(plain(reply), indent=2))
    else:
        _show(verb.lay_out(reply, args))
    return 0


def _failed(error: Exception, code: int) -> int:
    print(f"online query: {readable(str(error))}", file=sys.stderr)
    return code


# Replies as JSON


def plain(value: object) -> object:
    """Make dictionaries, lists, text and numbers of a reply: times in ISO 8601, ages in seconds (`age_s`)."""
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


# Text


def readable(text: str) -> str:
    r"""Return `text` on one line, with escapes for what is not printable.

    >>> readable("a\tb\x1b[31m\udcff\u202e")
    'a\\tb\\x1b[31m\\xff\\u202e'
    """
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return ascii(char)[1:-1]


def spoken_age(age: timedelta) -> str:
    """Say an age in one or two units.

    >>> [spoken_age(timedelta(seconds=s)) for s in (0, 12.9, 60, 185, 3_600, 8_100, 90_000)]
    ['0 s', '12 s', '1 min', '3 min', '1 h', '2 h 15 min', '1 d 1 h']
    """
    seconds = int(age.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    large, small, units = (*divmod(minutes, 60), ("h", "min"))
    if large >= 24:
        large, small, units = (*divmod(large, 24), ("d", "h"))
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")


def _spoken_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


# Answers laid out


def _number(reply: int, args: argparse.Namespace) -> Answer:
    return Answer([("", str(reply))])


def _text(reply: str, args: argparse.Namespace) -> Answer:
    return Answer([("", reply)])


def _done(reply: None, args: argparse.Namespace) -> Answer:
    return Answer([("", "OK")])


def _time(reply: datetime, args: argparse.Namespace) -> Answer:
    return Answer([("", _spoken_time(reply))])


def _counts(reply: list[int], args: argparse.Namespace) -> Answer:
    return Answer(columns=("people", "url"), rows=[(str(n), url) for n, url in zip(reply, args.urls, strict=True)])


def _kinds(reply: Kinds, args: argparse.Namespace) -> Answer:
    counts = reply.people, reply.members, reply.guests, reply.hidden, reply.bots
    return Answer(list(zip(("people", "members", "guests", "hidden", "bots"), map(str, counts), strict=True)))


def _page(reply: Page, args: argparse.Namespace) -> Answer:
    facts = [("online", str(reply.online)), ("here", str(reply.here)), *_cursor(reply.cursor)]
    return Answer(facts, ("user", "seen", "kind"), [_viewer(viewer) for viewer in reply.users])


def _viewer(viewer: Viewer) -> Sequence[str]:
    return viewer.user, spoken_age(viewer.age), viewer.kind


def _listing(reply: Listing, args: argparse.Namespace) -> Answer:
    columns = "user", "url", "seen", "kind"
    return Answer(_cursor(reply.cursor), columns, [_session(session) for session in reply.users])


def _session(session: Session) -> Sequence[str]:
    return session.user, session.url, spoken_age(session.age), session.kind


def _cursor(cursor: str | None) -> list[tuple[str, str]]:
    """What continues a list, if it goes on."""
    return [] if cursor is None else [("cursor", cursor)]


def _seen(reply: list[Seen | None], args: argparse.Namespace) -> Answer:
    rows = [
        (user, "-", "-") if seen is None else (user, seen.url, spoken_age(seen.age))
        for user, seen in zip(args.users, reply, strict=True)
    ]
    return Answer(columns=("user", "url", "seen"), rows=rows)


def _section(reply: Section, args: argparse.Namespace) -> Answer:
    return Answer([("people", str(reply.people)), ("pages", str(reply.pages))])


def _top(reply: list[TopPage], args: argparse.Namespace) -> Answer:
    return Answer(columns=("people", "url"), rows=[(str(page.people), page.url) for page in reply])


def _peak(reply: Peak, args: argparse.Namespace) -> Answer:
    if reply.at is None:
        return Answer([("people", "0")])
    ago = max(timedelta(0), datetime.now(UTC) - reply.at)
    return Answer([("people", str(reply.people)), ("at", f"{_spoken_time(reply.at)}, {spoken_age(ago)} ago")])


def _sites(reply: list[Site], args: argparse.Namespace) -> Answer:
    return Answer(columns=("people", "site"), rows=[(str(site.people), site.name) for site in reply])


def _info(reply: dict[str, dict[str, str]], args: argparse.Namespace) -> Answer:
    rows = [
        (section, *row)
        for section, values in reply.items()
        for name, value in values.items()
        for row in _info_rows(name, value)
    ]
    if not rows:  # syslog is the one section that a server may do without
        return Answer(facts=[("", "no section syslog: the server was started without --syslog")])
    return Answer(columns=("section", "name", "value"), rows=rows)


def _info_rows(name: str, value: str) -> list[tuple[str, str]]:
    """Lay out a value of INFO; that of a site is many: `people=3,users=4,...`."""
    if not name.startswith("site_"):
        return [(name, value)]
    each = (part.partition("=") for part in value.split(","))
    return [(f"{name} {key}", number) for key, _, number in each]


# Answers on a terminal, and elsewhere


def _show(answer: Answer) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # ? for what the encoding of the output does not have
    if sys.stdout.isatty():
        _show_on_terminal(answer)
    else:
        print(as_plain_text(answer))


def as_plain_text(answer: Answer) -> str:
    """Write facts and table with a tab between cells, and an empty line between the two."""
    facts = [fact if fact[0] else fact[1:] for fact in answer.facts]
    table = [answer.columns, *answer.rows] if answer.columns else []
    return "\n\n".join(_lines(part) for part in (facts, table) if part)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("\t".join(map(readable, row)) for row in rows)


def _show_on_terminal(answer: Answer) -> None:
    # Slow to import, and of no use elsewhere.
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


# The verbs


def _whole(text: str) -> int | None:
    """Read a whole number; "" stands for "not given"."""
    try:
        return int(text) if text else None
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a whole number, not {text!r}") from None


def _section_name(text: str) -> str:
    """Read a section of INFO, in any case; "" stands for "not given"."""
    if text and text.lower() not in SECTIONS:
        raise argparse.ArgumentTypeError(f"takes {_SECTIONS_SPOKEN}, not {text!r}")
    return text


_SECTIONS_SPOKEN = f"{', '.join(SECTIONS[:-1])} or {SECTIONS[-1]}"


def _required(name: str, help: str) -> Argument:
    return Argument(name, {"help": help})


def _optional(name: str, help: str, **options: Any) -> Argument:
    return Argument(name, {"help": help, "nargs": "?", **options})


def _several(name: str, metavar: str, help: str) -> Argument:
    return Argument(name, {"help": help, "metavar": metavar, "nargs": "+"})


_URL = _required("url", "the page")
_ANY_URL = _optional("url", "the page (default: the whole site)")
_CURSOR = _optional("cursor", "continue after an earlier answer, with the cursor that it gave")
_WHEN = _optional("seen_ms", "when, in milliseconds since 1970 (default: now)", type=_whole)


def _limit(default: int) -> Argument:
    return _optional("limit", f"at most so many (default: {default})", type=_whole, default=default)


_VERBS: dict[str, Verb] = {
    "count": Verb(
        "count the people online, on the site or on a page",
        [_ANY_URL, _optional("within_s", "only those seen in the last so many seconds", type=_whole)],
        lambda client, args: client.count(args.url, within=args.within_s),
        _number,
    ),
    "counts": Verb(
        "count the people on each of several pages",
        [_several("urls", "url", "the pages")],
        lambda client, args: client.counts(*args.urls),
        _counts,
    ),
    "kinds": Verb(
        "count members, guests, hidden users and bots, on the site or on a page",
        [_ANY_URL],
        lambda client, args: client.kinds(args.url),
        _kinds,
    ),
    "page": Verb(
        "list who is on a page, newest first",
        [_URL, _limit(30), _CURSOR],
        lambda client, args: client.page(args.url, args.limit, args.cursor),
        _page,
    ),
    "recent": Verb(
        "list who is on the site, newest first",
        [_limit(30), _CURSOR],
        lambda client, args: client.recent(args.limit, args.cursor),
        _listing,
    ),
    "users": Verb(
        "list who is on the site, by name",
        [_optional("prefix", "what the names begin with", default=""), _limit(30), _CURSOR],
        lambda client, args: client.users(args.prefix, args.limit, args.cursor),
        _listing,
    ),
    "seen": Verb(
        "tell where users are, and when they were seen",
        [_several("users", "user", "the users")],
        lambda client, args: client.seen(*args.users),
        _seen,
    ),
    "section": Verb(
        "count people and pages of all urls that begin alike",
        [_required("prefix", "what the urls begin with")],
        lambda client, args: client.section(args.prefix),
        _section,
    ),
    "top": Verb(
        "list the pages with most people",
        [_limit(10), _optional("prefix", "only urls that begin with this", default="")],
        lambda client, args: client.top(args.limit, args.prefix),
        _top,
    ),
    "peak": Verb("tell the most people ever online at once", [], lambda client, args: client.peak(), _peak),
    "sites": Verb("list the sites of the server", [], lambda client, args: client.sites(), _sites),
    "info": Verb(
        "tell how the server is doing",
        [_optional("section", f"only this: {_SECTIONS_SPOKEN}", type=_section_name)],
        lambda client, args: client.info(args.section),
        _info,
    ),
    "ping": Verb("see if the server is there", [], lambda client, args: client.ping(), _text),
    "time": Verb("tell the server's time", [], lambda client, args: client.time(), _time),
    "hit": Verb(
        "report that a user loads a page",
        [
            _required("user", "the user"),
            _URL,
            _WHEN,
            Argument("kind", {"nargs": "?", "default": MEMBER, "help": f"{', '.join(KINDS)} (default: {MEMBER})"}),
        ],
        lambda client, args: client.hit(args.user, args.url, seen_ms=args.seen_ms, kind=args.kind),
        _done,
    ),
    "leave": Verb(
        "take a user offline",
        [_required("user", "the user"), _WHEN],
        lambda client, args: client.leave(args.user, seen_ms=args.seen_ms),
        _done,
    ),
}
