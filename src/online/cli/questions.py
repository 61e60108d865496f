"""The verbs of `online query`: the arguments, the request and the layout function of each.

Not here: requests and replies (online_client.verbs), and the layout of answers (answers).
"""

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from online.cli import answers
from online.cli.answers import Answer, HitOutcome
from online.cli.arguments import whole_time
from online.terms import KINDS, MEMBER, SEEN_MIN_MS
from online_client import Client

#: What INFO tells of.
SECTIONS = (
    *("server", "clients", "memory", "hits", "sites", "push", "limits", "settings", "latency", "syslog"),
    *("history", "persistence", "bus", "map", "gateway", "stats", "replication", "cpu", "cluster", "keyspace"),
)


class Argument(NamedTuple):
    """An argument of a verb: its name and its argparse options. "" stands for "not given"."""

    name: str
    options: dict[str, Any]
    is_url: bool = False  #: a url, or the beginning of urls


class Verb(NamedTuple):
    summary: str
    arguments: Sequence[Argument]
    ask: Callable[[Client, argparse.Namespace], Any]
    lay_out: Callable[[Any, argparse.Namespace], Answer]


def _whole(text: str) -> int | None:
    """Parse a whole number; "" stands for "not given"."""
    try:
        return int(text) if text else None
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a whole number, not {text!r}") from None


def _moment(text: str) -> int | None:
    """Parse milliseconds since 1970, whose range the server checks; 0 is before everything."""
    value = _whole(text)
    if value and value < SEEN_MIN_MS:
        hint = "; that looks like seconds" if value > 0 else ""
        raise argparse.ArgumentTypeError(f"takes milliseconds since 1970, not {text!r}{hint}")
    return value


def _since(text: str) -> int | None:
    """Parse a time to look back to: a day or week (ISO: from Monday on) begins at midnight UTC."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match text:
        case "today":
            since = today
        case "week":
            since = today - timedelta(days=today.weekday())
        case _ if text and not text.lstrip("-").isdecimal():
            raise argparse.ArgumentTypeError(f"takes today, week or milliseconds since 1970, not {text!r}")
        case _:
            return _moment(text)
    return int(since.timestamp()) * 1000


def _when(text: str) -> int | None:
    """Parse a time of a hit; "" stands for "not given"."""
    if text in KINDS:
        raise argparse.ArgumentTypeError(f"takes a whole number, and {text} is a kind: hit USER URL '' {text}")
    return _whole(text)


def _section_name(text: str) -> str:
    """Parse a section of INFO, in any case; "" stands for "not given"."""
    if text and text.lower() not in SECTIONS:
        raise argparse.ArgumentTypeError(f"takes {_SECTIONS_SPOKEN}, not {text!r}")
    return text


_SECTIONS_SPOKEN = f"{', '.join(SECTIONS[:-1])} or {SECTIONS[-1]}"


def _within(text: str) -> int | None:
    """Parse seconds, whose range the server checks, or a time with a unit; "" stands for "not given"."""
    if not text or text.lstrip("-").isdecimal():
        return _whole(text)
    return whole_time(1, 24 * 3600)(text)


def _step(text: str) -> int | None:
    """Parse seconds, whose range the server checks, or a time with a unit; "" stands for "not given"."""
    if not text or text.lstrip("-").isdecimal():
        return _whole(text)
    return whole_time(60, 366 * 86_400)(text)


def _required(name: str, help: str, *, is_url: bool = False) -> Argument:
    return Argument(name, {"help": help}, is_url)


def _optional(name: str, help: str, *, is_url: bool = False, **options: Any) -> Argument:
    return Argument(name, {"help": help, "nargs": "?", **options}, is_url)


def _several(name: str, metavar: str, help: str, *, is_url: bool = False) -> Argument:
    return Argument(name, {"help": help, "metavar": metavar, "nargs": "+"}, is_url)


def _count(client: Client, args: argparse.Namespace) -> int:
    if args.url and args.within_s is not None:
        raise ValueError(f'within_s counts the whole site only; leave the url empty: count "" {args.within_s}')
    return client.count(args.url, within=args.within_s)


def _hit(client: Client, args: argparse.Namespace) -> HitOutcome:
    """Send a hit as a batch of one, because only the reply to a batch says whether a hit was ignored."""
    result = client.hits([(args.user, args.url, args.seen_ms, args.kind)])
    if result.refused:  # sent again alone, for an error that does not mention a batch
        client.hit(args.user, args.url, seen_ms=args.seen_ms, kind=args.kind)
    if not result.ignored:
        return HitOutcome("accepted")
    [seen] = client.seen(args.user)
    return HitOutcome("ignored", answers.HAS_NEWER if seen else answers.TOO_OLD)


_URL = _required("url", "the page, such as /forum/1", is_url=True)
_ANY_URL = _optional("url", "the page, such as /forum/1 (default: the whole site)", is_url=True)
_CURSOR = _optional("cursor", "the cursor of the previous answer, to get the next users")
_SEEN = "when, in milliseconds since 1970 (default: now)"


def _limit(default: int) -> Argument:
    return _optional("limit", f"the most to list (default: {default})", type=_whole, default=default)


VERBS: dict[str, Verb] = {
    "count": Verb(
        "count the people online, on the site or on a page",
        [_ANY_URL, _optional("within_s", "only people seen within this time, such as 300 or 5min", type=_within)],
        _count,
        answers.number,
    ),
    "counts": Verb(
        "count the people on each of several pages",
        [_several("urls", "url", "the pages", is_url=True)],
        lambda client, args: client.counts(*args.urls),
        answers.counts,
    ),
    "kinds": Verb(
        "count members, guests, hidden users and bots, on the site or on a page",
        [_ANY_URL],
        lambda client, args: client.kinds(args.url),
        answers.kinds,
    ),
    "page": Verb(
        "list who is on a page, newest first",
        [_URL, _limit(30), _CURSOR],
        lambda client, args: client.page(args.url, args.limit, args.cursor),
        answers.page,
    ),
    "recent": Verb(
        "list who is on the site, newest first",
        [_limit(30), _CURSOR],
        lambda client, args: client.recent(args.limit, args.cursor),
        answers.listing,
    ),
    "users": Verb(
        "list who is on the site, by name",
        [_optional("prefix", "only names that begin with this", default=""), _limit(30), _CURSOR],
        lambda client, args: client.users(args.prefix, args.limit, args.cursor),
        answers.listing,
    ),
    "seen": Verb(
        "show where users are, and when they were last seen",
        [_several("users", "user", "the users")],
        lambda client, args: client.seen(*args.users),
        answers.seen,
    ),
    "section": Verb(
        "count people and pages over all urls with a prefix",
        [_required("prefix", "what the urls begin with, such as /forum/", is_url=True)],
        lambda client, args: client.section(args.prefix),
        answers.section,
    ),
    "top": Verb(
        "list the pages with the most people",
        [_limit(10), _optional("prefix", "only urls that begin with this", default="", is_url=True)],
        lambda client, args: client.top(args.limit, args.prefix),
        answers.top,
    ),
    "peak": Verb(
        "show the most people online at once, and when",
        [_optional("since_ms", "only since today, week or milliseconds since 1970 (default: ever)", type=_since)],
        lambda client, args: client.peak(args.since_ms),
        answers.peak,
    ),
    "history": Verb(
        "show people, hits and visitors over time",
        [
            _optional("from_ms", "from when, in milliseconds since 1970 (default: a day before to_ms)", type=_moment),
            _optional("to_ms", "until when (default: now)", type=_moment),
            _optional("step_s", "how long each row is: minutes, such as 600 or 1h (default: fitting)", type=_step),
        ],
        lambda client, args: client.history(args.from_ms, args.to_ms, args.step_s),
        answers.history,
    ),
    "visitors": Verb(
        "estimate how many different people came, today or since another time",
        [
            _optional(
                "since",
                "today, week (both begin at midnight UTC) or milliseconds since 1970, "
                "rounded down to a full hour (UTC)",
                type=_since,
            )
        ],
        lambda client, args: client.visitors(args.since),
        answers.estimate,
    ),
    "last": Verb(
        "show where members were last seen, and when, also those who are offline",
        [_several("users", "user", "the members")],
        lambda client, args: client.last(*args.users),
        answers.seen,
    ),
    "forget": Verb(
        "erase users everywhere: from memory and from all files",
        [_several("users", "user", "the users")],
        lambda client, args: client.forget(*args.users),
        answers.number,
    ),
    "sites": Verb("list the sites of the server", [], lambda client, args: client.sites(), answers.sites),
    "info": Verb(
        "show figures about the server",
        [_optional("section", f"only this section: {_SECTIONS_SPOKEN}", type=_section_name)],
        lambda client, args: client.info(args.section),
        answers.info,
    ),
    "ping": Verb("check that the server answers", [], lambda client, args: client.ping(), answers.text),
    "time": Verb("show the server's time", [], lambda client, args: client.time(), answers.time),
    "hit": Verb(
        "report that a user has loaded a page",
        [
            _required("user", "the user"),
            _URL,
            _optional("seen_ms", _SEEN, type=_when),
            Argument("kind", {"nargs": "?", "default": MEMBER, "help": f"{', '.join(KINDS)} (default: {MEMBER})"}),
        ],
        _hit,
        answers.hit,
    ),
    "leave": Verb(
        "take a user offline at once",
        [_required("user", "the user"), _optional("seen_ms", _SEEN, type=_whole)],
        lambda client, args: client.leave(args.user, seen_ms=args.seen_ms),
        answers.done,
    ),
}
