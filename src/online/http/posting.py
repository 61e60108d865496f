"""Hits, leaves and who is to be forgotten, by POST: JSON or MessagePack -> the arguments of `hits`, LEAVE and FORGET.

Not here: what hits mean, which their verbs check as everywhere (asking). Names that are not UTF-8 are written
`{"base64": "..."}` in JSON, and as bytes in MessagePack.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import msgpack
import orjson

from online import errors
from online.errors import RangeError
from online.http.bodies import READING, NoList, json_items, msgpack_items
from online.http.messages import Request, Response, problem

#: The types of a body that are read.
JSON, MESSAGEPACK = "application/json", ("application/msgpack", "application/vnd.msgpack", "application/x-msgpack")

FIELDS = ("user", "url", "seen_ms", "kind")

#: What parsers raise.
UNREADABLE = (ValueError, msgpack.UnpackException, RecursionError)


def media_type(request: Request) -> str:
    """Return the type of the body of a request, without its parameters."""
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode(errors="replace")


def refused_type(request: Request) -> Response | None:
    """Return what to answer to a body of a type that is not read, or None."""
    given = media_type(request)
    if given == JSON or given in MESSAGEPACK:
        return None
    takes = f"Content-Type takes {JSON} or {MESSAGEPACK[0]}, not {errors.quote(given.encode())}"
    return problem(415, "ERR", takes, [(b"Accept-Post", f"{JSON}, {MESSAGEPACK[0]}".encode())], field="content-type")


def read_hits(request: Request) -> Iterator[list[list[object]]]:
    """Yield the hits of a body, some at a time, each a millisecond's work at most. Raises RangeError.

    The body is `{"hits": [...]}`, or a list, of objects or of arrays.
    """
    place = 0
    for items in _items(request):
        yield [_read_hit(place + n, hit) for n, hit in enumerate(items)]
        place += len(items)


def _items(request: Request) -> Iterator[list[Any]]:
    try:
        yield from json_items(request.body) if media_type(request) == JSON else msgpack_items(request.body)
    except NoList:
        raise _wrong("hits", 'the body is {"hits": [...]}, or a list of hits') from None
    except UNREADABLE as error:
        raise _unreadable(error) from None


def read_leave(request: Request) -> list[object]:
    """Return the arguments of LEAVE: `{"user": ..., "seen_ms": ...}`. Raises RangeError."""
    body = _parsed(request)
    if not isinstance(body, dict) or "user" not in body or body.keys() - {"user", "seen_ms"}:
        raise _wrong("user", 'the body is {"user": ...}, with seen_ms if it was not just now')
    return _trimmed([_read(name, body.get(name)) for name in ("user", "seen_ms")])


def read_forget(request: Request) -> list[object]:
    """Return the arguments of FORGET: `{"users": [...]}`. Raises RangeError."""
    body = _parsed(request)
    users = body.get("users") if isinstance(body, dict) and body.keys() == {"users"} else None
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


def _unreadable(error: Exception) -> RangeError:
    return _wrong("body", f"the body cannot be read: {str(error)[:100] or type(error).__name__}")


def _read_hit(place: int, hit: object) -> list[object]:
    if isinstance(hit, dict):
        unknown = hit.keys() - set(FIELDS)
        if unknown:
            shown = errors.quote(str(min(unknown)).encode(errors="replace"))
            raise _wrong(f"hits[{place}]", f"hits[{place}] has the field {shown}; a hit has {', '.join(FIELDS)}")
        hit = [hit.get(name) for name in FIELDS]
    if not isinstance(hit, list) or not 2 <= len(hit) <= len(FIELDS):
        raise _wrong(f"hits[{place}]", f"hits[{place}] is to be an object or array of {', '.join(FIELDS)}")
    return _trimmed([_read(f"hits[{place}].{name}", value) for name, value in zip(FIELDS, hit, strict=False)])


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
    raise _wrong(field, f'{field} takes text, {{"base64": ...}} or a whole number')


def _trimmed(args: list[object]) -> list[object]:
    """Leave out what is not given, from the right; what is left of that is not given either."""
    while args and args[-1] is None:
        args.pop()
    return args


def _wrong(field: str, message: str) -> RangeError:
    return errors.with_facts(RangeError(message), field, None, None)
