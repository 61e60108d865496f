"""The verbs that ask, as GET requests: their arguments by name, and their answers as JSON objects with a schema.

Routes follow from the verb table of the wire: each verb there that has an `ANSWERS` row here is a path. Not here: to
carry verbs out (asking), and what posts hits (posting).

Text that is not UTF-8 is `{"base64": "..."}` in answers. In a query string any byte is percent-encoded as usual.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from online import errors
from online.core import verbs
from online.errors import CommandError
from online.serve.verbs_command import SUMMARIES
from online.terms import KINDS

Schema = dict[str, Any]


class Argument(NamedTuple):
    """An argument of a verb."""

    name: str
    is_optional: bool
    is_many: bool

    @property
    def is_number(self) -> bool:
        return self.name == "limit" or self.name.endswith(("_s", "_ms"))


class Question(NamedTuple):
    """A verb that asks, as a path."""

    verb: str
    arguments: tuple[Argument, ...]
    shape: Callable[[Any, list[bytes]], dict[str, object]]
    schema: Schema
    example: Mapping[str, str]

    @property
    def path(self) -> str:
        return f"/api/v1/{self.verb.lower()}"

    @property
    def summary(self) -> str:
        return SUMMARIES[self.verb]

    def read(self, query: Mapping[str, list[bytes]]) -> list[bytes]:
        """Return the arguments of a query string in the order of the verb's. Raises CommandError or RangeError."""
        known = {each.name for each in self.arguments} | {"site"}
        for name, values in query.items():
            if name not in known:
                shown = errors.quote(name.encode())
                takes = ", ".join(sorted(known))
                raise _about(f"{self.verb.lower()} has no parameter {shown}; it takes {takes}", name)
            if len(values) > 1 and not any(each.name == name and each.is_many for each in self.arguments):
                raise _about(f"{name} was given {len(values)} times, once is enough", name)
        args: list[bytes] = []
        for each in self.arguments:
            if each.name not in query and not each.is_optional:
                raise _about(f"{self.verb.lower()} needs the parameter {each.name}", each.name)
            args += query.get(each.name, [] if each.is_many else [b""])
        while args and args[-1] == b"" and not self.arguments[min(len(args), len(self.arguments)) - 1].is_many:
            if self.arguments[len(args) - 1].name in query:
                break  # given and empty: the verb says what it thinks of that
            args.pop()
        if self.verb == "COUNT" and len(args) > 1 and all(args):
            raise errors.within_one_page("leave out url")
        return args


def _about(message: str, name: str) -> CommandError:
    return errors.with_facts(CommandError(message), name, None, None)


def arguments_of(usage: str) -> tuple[Argument, ...]:
    """Read the arguments out of a usage.

    >>> [each.name for each in arguments_of("PAGE url [limit [cursor]]")]
    ['url', 'limit', 'cursor']
    >>> arguments_of("SEEN user [user ...]")
    (Argument(name='user', is_optional=False, is_many=True),)
    """
    found: dict[str, Argument] = {}
    depth, name = 0, ""
    for word in re.findall(r"\[|\]|\.\.\.|\w+", usage)[1:]:
        if word in "[]":
            depth += 1 if word == "[" else -1
        elif word == "...":
            found[name] = found[name]._replace(is_many=True)
        else:
            name = word
            found.setdefault(name, Argument(name, is_optional=depth > 0, is_many=False))
    return tuple(found.values())


# Answers


def text(value: str | bytes) -> str | dict[str, str]:
    """Return text as it stands in JSON."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _people(result: int, args: list[bytes]) -> dict[str, object]:
    return {"people": result}


def _counts(result: list[int], args: list[bytes]) -> dict[str, object]:
    return {"pages": [{"url": text(url), "people": n} for url, n in zip(args, result, strict=True)]}


COUNTED = ("members", "guests", "hidden", "bots")


def _kinds(result: list[int], args: list[bytes]) -> dict[str, object]:
    return dict(zip(COUNTED, result, strict=True))


def _page(result: list[Any], args: list[bytes]) -> dict[str, object]:
    online, here, users, cursor = result
    url = text(args[0])
    listed = [{"user": text(user), "url": url, "seen_ms": seen_ms, "kind": kind} for user, seen_ms, kind in users]
    return {"online": online, "here": here, "users": listed, "cursor": cursor}


def _users(result: list[Any], args: list[bytes]) -> dict[str, object]:
    users, cursor = result
    rows = [{"user": text(u), "url": text(url), "seen_ms": seen_ms, "kind": kind} for u, url, seen_ms, kind in users]
    return {"users": rows, "cursor": cursor}


def _seen(result: list[Any], args: list[bytes]) -> dict[str, object]:
    rows = []
    for user, found in zip(args, result, strict=True):
        url, seen_ms = (None, None) if found is None else (text(found[0]), found[1])
        rows.append({"user": text(user), "url": url, "seen_ms": seen_ms})
    return {"users": rows}


def _section(result: list[int], args: list[bytes]) -> dict[str, object]:
    return {"people": result[0], "pages": result[1]}


def _top(result: list[Any], args: list[bytes]) -> dict[str, object]:
    return {"pages": [{"url": text(url), "people": people} for url, people in result]}


def _peak(result: list[int], args: list[bytes]) -> dict[str, object]:
    return {"people": result[0], "reached_ms": result[1] if result[0] else None}


_ROW = ("at_ms", "people", "members", "guests", "bots", "hits", "visitors")


def _history(result: list[list[int | None]], args: list[bytes]) -> dict[str, object]:
    return {"rows": [dict(zip(_ROW, row, strict=True)) for row in result]}


def _sites(result: list[Any], args: list[bytes]) -> dict[str, object]:
    return {"sites": [{"site": text(site), "people": people} for site, people in result]}


def _info(result: str | bytes, args: list[bytes]) -> dict[str, object]:
    """Make objects of the lines of INFO: a section each, whose figures are numbers where they can be."""
    sections: dict[str, dict[str, object]] = {}
    written = result if isinstance(result, str) else result.decode(errors="replace")
    for line in written.split("\r\n"):
        if line.startswith("# "):
            section = sections.setdefault(line[2:].lower(), {})
        elif line:
            name, _, value = line.partition(":")
            section[name] = int(value) if re.fullmatch(r"-?\d{1,18}", value) else value
    return {"sections": sections}


# Their schemas

INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"$ref": "#/components/schemas/Text"}
CURSOR: Schema = {"type": ["string", "null"]}


def record(**fields: Schema) -> Schema:
    """Return the schema of an object that has exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def rows(**fields: Schema) -> Schema:
    return {"type": "array", "items": record(**fields)}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


USERS = rows(user=TEXT, url=TEXT, seen_ms=INTEGER, kind={"enum": list(KINDS)})
LAST_SEEN = rows(user=TEXT, url=or_null(TEXT), seen_ms=or_null(INTEGER))
PAGES = rows(url=TEXT, people=COUNT)

#: For each verb how its answer looks, and an example of its arguments.
ANSWERS: dict[str, tuple[Callable[[Any, list[bytes]], dict[str, object]], dict[str, Schema], dict[str, str]]] = {
    "COUNT": (_people, {"people": COUNT}, {}),
    "COUNTS": (_counts, {"pages": PAGES}, {"url": "/forum/1"}),
    "KINDS": (_kinds, dict.fromkeys(COUNTED, COUNT), {}),
    "PAGE": (_page, {"online": COUNT, "here": COUNT, "users": USERS, "cursor": CURSOR}, {"url": "/forum/1"}),
    "RECENT": (_users, {"users": USERS, "cursor": CURSOR}, {"limit": "10"}),
    "USERS": (_users, {"users": USERS, "cursor": CURSOR}, {"prefix": "a"}),
    "SEEN": (_seen, {"users": LAST_SEEN}, {"user": "ada"}),
    "LAST": (_seen, {"users": LAST_SEEN}, {"user": "ada"}),
    "SECTION": (_section, {"people": COUNT, "pages": COUNT}, {"prefix": "/forum/"}),
    "TOP": (_top, {"pages": PAGES}, {"limit": "5"}),
    "PEAK": (_peak, {"people": COUNT, "reached_ms": or_null(INTEGER)}, {}),
    "HISTORY": (_history, {"rows": rows(**dict.fromkeys(_ROW, INTEGER) | {"visitors": or_null(COUNT)})}, {}),
    "SITES": (_sites, {"sites": rows(site=TEXT, people=COUNT)}, {}),
    "INFO": (_info, {"sections": {"type": "object"}}, {"section": "hits"}),
}


def questions() -> list[Question]:
    """Return the verbs of the table that ask, in its order."""
    found = []
    for usage, *_ in verbs.rows():
        name = usage.split()[0]
        if name in ANSWERS:
            shape, fields, example = ANSWERS[name]
            found.append(Question(name, arguments_of(usage), shape, record(**fields, at_ms=INTEGER), example))
    return found
