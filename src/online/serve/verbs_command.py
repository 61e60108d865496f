"""COMMAND: the verbs of this server, described as Redis describes its own. redis-cli makes its hints and help of it."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from online import errors
from online.core import verbs
from online.core.wire import Connection, Status
from online.serve.verb import Shared, verb

_USAGE = "COUNT, LIST [FILTERBY PATTERN pattern], INFO [verb ...] or DOCS [verb ...]"

#: The verbs of each version: what each that came with it does, in a line.
_CAME_WITH = {
    "0.1.0": {
        "HIT": "Reports that a user has loaded a page.",
        "LEAVE": "Takes a user offline, until a newer hit.",
        "COUNT": "Counts the people on the site, on a page, or seen in the last so many seconds.",
        "COUNTS": "Counts the people on each of several pages.",
        "KINDS": "Counts members, guests, hidden users and bots.",
        "PAGE": "Counts the people on a page, and lists its users, newest first.",
        "RECENT": "Lists the users of the site, newest first.",
        "USERS": "Lists the users whose name begins with a prefix.",
        "SEEN": "Shows where and when users were last seen.",
        "SECTION": "Adds up the people and pages of all urls that begin with a prefix.",
        "TOP": "Lists the pages with the most people.",
        "PEAK": "Shows the most people ever online at once, or since a time, and when.",
        "SITE": "Chooses the site for this connection.",
        "SITES": "Lists all sites with their people.",
        "INFO": "Shows what the server is doing, and which limits were reached.",
        "PING": "Answers PONG, or the text.",
        "ECHO": "Answers the text.",
        "TIME": "Shows the time of the server, which is a given one at least.",
        "QUIT": "Closes the connection.",
        "RESET": "Resets the connection to its initial state.",
        "AUTH": "Sends the token, and chooses a site.",
        "HELLO": "Chooses the version of the protocol.",
        "CLIENT": "Names, lists and ends connections.",
        "SELECT": "Goes back to the site that the connection began with.",
        "CONFIG": "Shows settings, under the names that Redis has for them.",
        "COMMAND": "Describes the verbs.",
    },
    "1.0.0": {
        "PAGES": "Lists the urls that begin with a prefix, in order, for gateways.",
        "HISTORY": "Shows people, hits and visitors over time.",
        "LAST": "Shows where and when members were last seen, also those who are offline.",
        "FORGET": "Erases users from memory and from all files.",
        "MULTI": "Begins a transaction.",
        "EXEC": "Runs the verbs of a transaction.",
        "DISCARD": "Drops the verbs of a transaction.",
        "WATCH": "Does nothing: no key makes a transaction fail.",
        "UNWATCH": "Does nothing.",
        "SUBSCRIBE": "Sends the state of channels: now, and whenever it changes.",
        "UNSUBSCRIBE": "Stops sending, for some channels or for all.",
        "DBSIZE": "Counts the people on the site, as COUNT does.",
        "ROLE": "Answers that this server is not a replica.",
        "LATENCY": "Shows what took long, and how long everything took.",
        "SLOWLOG": "Answers with an empty list: slow verbs are not recorded.",
        "MEMORY": "Shows how much memory is used.",
        "WAIT": "Answers 0: there are no replicas.",
        "CLUSTER": "Answers that this server is not part of a cluster.",
    },
}

#: What each verb does, in a line.
SUMMARIES = {name: summary for summaries in _CAME_WITH.values() for name, summary in summaries.items()}

#: The version that each verb came with.
_SINCE = {name: version for version, summaries in _CAME_WITH.items() for name in summaries}

_WRITES = {"HIT", "LEAVE", "FORGET"}


class _Verb(NamedTuple):
    usage: str
    fewest: int
    most: int  #: -1: any number
    before_auth: bool

    @property
    def arity(self) -> int:
        """How many words a command has, with the verb; negative: at least so many."""
        return self.fewest + 1 if self.fewest == self.most else -(self.fewest + 1)


#: The rows of the wire's table, by name.
_VERBS = {row.usage.split()[0]: row for row in map(_Verb._make, verbs.rows())}


@verb("COMMAND")
def command(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    match [args[0].upper(), *args[1:]] if args else [b"INFO"]:
        case [b"COUNT"]:
            return len(_VERBS)
        case [b"LIST"]:
            return [name.lower() for name in _VERBS]
        case [b"LIST", filterby, pattern_word, pattern] if (filterby + pattern_word).upper() == b"FILTERBYPATTERN":
            wanted = pattern.lower().decode(errors="replace")
            return [name.lower() for name in _VERBS if fnmatchcase(name.lower(), wanted)]
        case [b"INFO", *names]:
            return [_described(name) if name in _VERBS else None for name in _named(names)]
        case [b"DOCS", *names]:
            return {name.lower(): _documented(name) for name in _named(names) if name in _VERBS}
    raise errors.unknown_subcommand("COMMAND", args[0], _USAGE)


def _named(names: list[bytes]) -> Iterable[str]:
    """Return the verbs that were named, or all."""
    return [name.upper().decode(errors="replace") for name in names] or _VERBS


def _described(name: str) -> list[object]:
    """Return what COMMAND INFO answers of a verb: it has no keys, and so no first, last and step of them."""
    row = _VERBS[name]
    flags = [Status("write" if name in _WRITES else "readonly"), *[Status("no_auth")] * row.before_auth]
    acl, tips, key_specs, subcommands = [], [], [], []  # type: ignore[var-annotated]
    return [name.lower(), row.arity, flags, 0, 0, 0, acl, tips, key_specs, subcommands]


def _documented(name: str) -> dict[str, object]:
    """Return what COMMAND DOCS answers of a verb."""
    arguments = list(_arguments(_VERBS[name].usage))
    docs: dict[str, object] = {"summary": SUMMARIES[name], "since": _SINCE[name], "group": "online"}
    return docs | ({"arguments": arguments} if arguments else {})


def _arguments(usage: str) -> Iterator[dict[str, object]]:
    """Read the arguments out of a usage such as `SEEN user [user ...]` or `HELLO [version [AUTH site token]]`."""
    flags: dict[str, list[Status]] = {}
    depth, name = 0, ""
    for word in re.findall(r"\[|\]|\.\.\.|[\w-]+", usage)[1:]:
        if word in "[]":
            depth += 1 if word == "[" else -1
        elif word == "...":
            flags[name].append(Status("multiple"))
        else:
            name = word
            flags.setdefault(name, [Status("optional")] * (depth > 0))
    for name, its_flags in flags.items():
        yield {"name": name, "type": "string", "display_text": name} | ({"flags": its_flags} if its_flags else {})
