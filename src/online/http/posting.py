"""Hits, leaves and who is to be forgotten, by POST: JSON or MessagePack -> the arguments of `hits`, LEAVE and FORGET.

Not here: what hits mean, which their verbs check as everywhere (asking). Names that are not UTF-8 are written
`{"base64": "..."}` in JSON, and as bytes in MessagePack.

What is no hit is refused by `hits`, as any other bad hit: it is handed on as nil. Only the reason is told here.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack
import orjson

from online import errors
from online.errors import RangeError
from online.http.bodies import READING, NoList, UnknownField, json_items, msgpack_items, unknown_field
from online.http.messages import Request, Response, problem
from online.limits import Limits
from online.terms import KINDS, SEEN_MAX_MS, SEEN_MIN_MS

#: The types of a body that are read.
JSON, MESSAGEPACK = "application/json", ("application/msgpack", "application/vnd.msgpack", "application/x-msgpack")

FIELDS = ("user", "url", "seen_ms", "kind")

#: Hits that are read at a time: about a millisecond's work, also where each is wrong.
HITS_A_PIECE = 500

#: What parsers raise.
UNREADABLE = (ValueError, msgpack.UnpackException, RecursionError)


def media_type(request: Request) -> str:
    """Return the type of the body of a request, without its parameters."""
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode(errors="replace")


def refused_body(request: Request) -> Response | None:
    """Return what to answer to a body of a type that is not read, or that is compressed, or None."""
    given = media_type(request)
    if given != JSON and given not in MESSAGEPACK:
        takes = f"Content-Type takes {JSON} or {MESSAGEPACK[0]}, not {errors.quote(given.encode())}"
        accepted = f"{JSON}, {MESSAGEPACK[0]}".encode()
        return problem(415, "ERR", takes, [(b"Accept-Post", accepted)], field="content-type")
    return refused_coding(request)


def refused_coding(request: Request) -> Response | None:
    """Return what to answer to a body that is compressed, or None."""
    coding = request.headers.get(b"content-encoding", b"")
    if coding.strip().lower() in (b"", b"identity"):
        return None
    told = f"a body is not compressed here: leave out Content-Encoding, which is {errors.quote(coding)}"
    return problem(415, "ERR", told, [(b"Accept-Encoding", b"identity")], field="content-encoding")


class Hits:
    """The hits of a body, which is `{"hits": [...]}`, or a list, of objects or of arrays."""

    def __init__(self) -> None:
        self.params: list[list[object] | None] = []  #: of the verb `hits`; None: what is no hit
        self._first_wrong: tuple[int, RangeError] | None = None

    def read(self, request: Request) -> Iterator[None]:
        """Read them, a millisecond's work at a time. Raises RangeError for a body that is no list of hits."""
        for items in _items(request):
            for begin in range(0, max(1, len(items)), HITS_A_PIECE):
                for hit in items[begin : begin + HITS_A_PIECE]:
                    self.params.append(self._read(hit))
                yield

    def _read(self, hit: object) -> list[object] | None:
        try:
            return _read_hit(hit)
        except RangeError as error:
            if self._first_wrong is None:
                self._first_wrong = len(self.params), error
            return None

    def reason(self, begin: int, code: str, message: str, limits: Limits) -> dict[str, object]:
        """Return the first error of all, which is that of a part with the hits from `begin` on, with its facts.

        The hit has its place in the whole batch in it.
        """
        of_part = re.match(r"hit (\d+) of the batch: ", message)
        if of_part is None:
            return {"code": code, "detail": message}
        place, why = begin + int(of_part[1]) - 1, message[of_part.end() :]
        if self._first_wrong is not None and self._first_wrong[0] == place:
            error = self._first_wrong[1]
            code, why = error.code, str(error)
            facts = {"field": error.field, "limit": error.limit, "value": error.value}
        else:
            facts = _facts(why, self.params[place] or [], limits)
        told = {"code": code, "detail": f"hit {place + 1} of the batch: {why}", **facts}
        return {name: value for name, value in told.items() if value is not None}


def _facts(why: str, hit: Sequence[object], limits: Limits) -> dict[str, object]:
    """Return the field, limit and value that a message of the verb `hits` begins with, whose reply is text alone."""
    field = why.partition(" ")[0]
    given = dict(zip(FIELDS, hit, strict=False)).get(field)
    text = given if isinstance(given, bytes) else b"" if given is None else str(given).encode()
    match field:
        case "user" | "url":
            return {"field": field, "limit": limits.max_user if field == "user" else limits.max_url, "value": len(text)}
        case "seen_ms":
            value = given if isinstance(given, int) else errors.shown(text)
            return {"field": field, "limit": [SEEN_MIN_MS, SEEN_MAX_MS], "value": value}
        case "kind":
            return {"field": field, "limit": list(KINDS), "value": errors.shown(text)}
        case "max_users" | "max_pages" | "max_memory":
            reached = re.match(r"\w+ is reached: (\d+);", why)
            return {"field": field, "limit": int(reached[1]) if reached is not None else None}
    return {}


def _items(request: Request) -> Iterator[list[Any]]:
    try:
        yield from json_items(request.body) if media_type(request) == JSON else msgpack_items(request.body)
    except NoList:
        raise _wrong("hits", 'the body is {"hits": [...]}, or a list of hits') from None
    except UnknownField as error:
        raise _no_field("the body", error.args[0], ["hits"]) from None
    except UNREADABLE as error:
        raise _unreadable(error) from None


def read_leave(request: Request) -> list[object]:
    """Return the arguments of LEAVE: `{"user": ..., "seen_ms": ...}`. Raises RangeError."""
    body = _object(request, ("user", "seen_ms"))
    if "user" not in body:
        raise _wrong("user", 'the body is {"user": ...}, with seen_ms if it was not just now')
    return _trimmed([_read(name, body.get(name)) for name in ("user", "seen_ms")], 1)


def read_forget(request: Request) -> list[object]:
    """Return the arguments of FORGET: `{"users": [...]}`. Raises RangeError."""
    users = _object(request, ("users",)).get("users")
    if not isinstance(users, list) or not users:
        raise _wrong("users", 'the body is {"users": [...]}, of one user or more')
    return [_read(f"users[{place}]", user) for place, user in enumerate(users)]


def _parsed(request: Request) -> Any:
    try:
        if media_type(request) == JSON:
            return orjson.loads(request.body)
        return msgpack.unpackb(request.body, **READING)
    except UNREADABLE as error:
        raise _unreadable(error) from None


def _object(request: Request, fields: Sequence[str]) -> dict[Any, Any]:
    """Return an object that has these fields at most; without any, what is no object."""
    body = _parsed(request)
    if not isinstance(body, dict):
        return {}
    _check_fields("the body", body, fields)
    return body


def _unreadable(error: Exception) -> RangeError:
    return _wrong("body", f"the body cannot be read: {str(error)[:100] or type(error).__name__}")


def _read_hit(hit: object) -> list[object]:
    if isinstance(hit, dict):
        _check_fields("a hit", hit, FIELDS)
        hit = [hit.get(name) for name in FIELDS]
    if not isinstance(hit, list) or not 2 <= len(hit) <= len(FIELDS):
        raise _wrong("hits", f"a hit is an object or array of {', '.join(FIELDS)}; the last two are optional")
    return _trimmed([_read(name, value) for name, value in zip(FIELDS, hit, strict=False)], 2)


def _check_fields(what: str, found: dict[Any, Any], known: Sequence[str]) -> None:
    """Refuse an object with a field that is not known."""
    unknown = unknown_field(found, frozenset(known))
    if unknown is not None:
        raise _no_field(what, unknown, known)


def _no_field(what: str, unknown: bytes, known: Sequence[str]) -> RangeError:
    if unknown == b"site":
        hint = ": the site goes into the query, as ?site=NAME"
    elif unknown.decode(errors="replace") in known:
        hint = " in bytes (bin); names of fields are text (str)"
    else:
        hint = f"; it takes {', '.join(known)}"
    return _wrong(errors.shown(unknown), f"{what} has no field {errors.quote(unknown)}{hint}")


def _read(field: str, value: object) -> object:
    """Return one argument as MessagePack carries it: text, a number or nil."""
    match value:
        case bool() | float():
            pass
        case str():
            return value.encode("utf-8", "surrogateescape")
        case int() if -(2**63) <= value < 2**64:
            return value
        case None | bytes():
            return value
        case {"base64": str(coded), **rest} if not rest:
            try:
                return b64decode(coded, validate=True)
            except (binascii.Error, ValueError):
                raise _wrong(field, f"{field} is not base64: {errors.quote(coded.encode(errors='replace'))}") from None
    if field == "seen_ms":
        takes = f"milliseconds since 1970, a whole number from {SEEN_MIN_MS} to {SEEN_MAX_MS}"
    else:
        takes = 'text, {"base64": ...} or a whole number'
    raise _wrong(field, f"{field} takes {takes}, not {_shown(value)}")


def _shown(value: object) -> str:
    """Return what a message calls a value that is neither text nor a whole number."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(value)
        case list():
            return "an array"
        case dict():
            return "an object"
    return "a value of another type"


def _trimmed(args: list[object], least: int) -> list[object]:
    """Leave out what is not given, from the right, but not of the first `least`; what is left is not given either."""
    while len(args) > least and args[-1] is None:
        args.pop()
    return args


def _wrong(field: str, message: str) -> RangeError:
    return errors.with_facts(RangeError(message), field, None, None)
