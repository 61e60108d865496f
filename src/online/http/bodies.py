"""Lists in bodies, piece by piece: a body of a megabyte takes 10 ms, and others would wait for it.

Its job: JSON and MessagePack -> the items of the one list, about PIECE_BYTES of the body at a time. Not its job: what
the items mean (posting).

JSON is cut at commas, such as stand behind an object or array if there is one near. Pieces are parsed from the left: a
piece that is JSON, put into brackets, ends where an item does, for everything before it was read as the whole would
have been. A piece that ends inside of an item is no JSON, for a string or a bracket is open in it: another comma is
tried.

Bodies of another form, such as a list that stands behind other members or before another list, are read at once.
"""

import re
from collections.abc import Iterator, Set
from contextlib import suppress
from typing import Any

import msgpack
import orjson

#: Up to 800 hits, and so a millisecond's work.
PIECE_BYTES = 8 * 1024

#: What stands before the items, and behind them.
_BEGINS = re.compile(rb'[ \t\n\r]*(?:(\{)[ \t\n\r]*"hits"[ \t\n\r]*:[ \t\n\r]*)?\[')
_ENDS = re.compile(rb"\][ \t\n\r]*(\})?[ \t\n\r]*\Z")

#: A comma behind an object or array.
_COMMA = re.compile(rb"[\]}][ \t\n\r]*(,)")

#: How many commas are tried as ends of pieces of about one length: in a name may stand what looks like one.
TRIES = 8

#: No hit is as long, whatever its escapes and the limits of names.
MOST_ITEM_BYTES = 256 * 1024

#: First bytes of arrays in MessagePack.
_ARRAYS = (b"\xdc", b"\xdd", *(bytes([0x90 + n]) for n in range(16)))

#: How MessagePack is read: text that is not UTF-8, too.
READING: dict[str, Any] = {"raw": False, "unicode_errors": "surrogateescape", "strict_map_key": True}

#: Where an end is looked for: no JSON that somebody writes has more blanks.
_TAIL_BYTES = 64


class NoList(Exception):
    """The body is no list, and no object with the list `hits`."""


class UnknownField(Exception):
    """The body is an object with another field than `hits`, which is the argument."""


def json_items(body: bytes) -> Iterator[list[Any]]:
    """Yield the items of a JSON body, some or none at a time. Raises ValueError, NoList and UnknownField."""
    begin = _BEGINS.match(body)
    end = _ENDS.search(body, max(len(body) - _TAIL_BYTES, 0 if begin is None else begin.end()))
    if len(body) <= PIECE_BYTES or begin is None or end is None or (begin[1] is None) != (end[1] is None):
        yield _list_of(orjson.loads(body))
        return
    at, n_bytes, n_tries = begin.end(), PIECE_BYTES, 0
    while at < end.start():
        cut = _cut(body, at + n_bytes, at + 2 * n_bytes, end.start())
        try:
            items = orjson.loads(b"[%b]" % body[at:cut])
        except ValueError as error:
            if cut == end.start() or cut - at > MOST_ITEM_BYTES:
                if begin[1] is not None:
                    _refuse_others(body)
                raise ValueError(f"behind byte {at}: {error}") from None
            n_tries += 1
            n_bytes = (cut - at) * (1 if n_tries % TRIES else 2) + 1
            yield []
            continue
        is_all = at == begin.end() and cut == end.start()
        at, n_bytes, n_tries = cut + 1, PIECE_BYTES, 0
        if at == end.start() or not (items or is_all):
            raise ValueError(f"at byte {cut}: nothing stands beside a comma")
        yield items


def _cut(body: bytes, begin: int, near: int, end: int) -> int:
    """Return the place of a comma from `begin` on, of the better sort if one is `near`; `end` if there is none."""
    comma = _COMMA.search(body, begin, min(near, end))
    at = comma.start(1) if comma is not None else body.find(b",", begin, end)
    return end if at < 0 else at


def msgpack_items(body: bytes) -> Iterator[list[Any]]:
    """Yield the items of a body in MessagePack, some at a time.

    Raises ValueError, UnpackException, NoList and UnknownField.
    """
    packed = body.removeprefix(b"\x81\xa4hits")  # {"hits": ...}
    if not packed.startswith(_ARRAYS):
        yield _list_of(msgpack.unpackb(body, **READING))
        return
    unpacker = msgpack.Unpacker(max_buffer_size=len(packed), **READING)
    unpacker.feed(packed)
    items: list[Any] = []
    began = 0
    for _ in range(unpacker.read_array_header()):
        items.append(unpacker.unpack())
        if unpacker.tell() - began >= PIECE_BYTES:
            yield items
            items, began = [], unpacker.tell()
    yield items
    if unpacker.tell() < len(packed):
        raise ValueError(f"there are {len(packed) - unpacker.tell()} bytes behind the list")


def unknown_field(found: dict[Any, Any], known: Set[str]) -> bytes | None:
    """Return a name that an object has beside those that are `known`, if it has any."""
    names = (name if isinstance(name, bytes) else name.encode(errors="replace") for name in found.keys() - known)
    return min(names, default=None)


def _refuse_others(body: bytes) -> None:
    """Raise UnknownField if what is wrong with a body is that another list stands behind `hits`."""
    with suppress(ValueError):
        _list_of(orjson.loads(body))


def _list_of(body: Any) -> list[Any]:
    if isinstance(body, dict) and (unknown := unknown_field(body, {"hits"})) is not None:
        raise UnknownField(unknown)
    found = body.get("hits") if isinstance(body, dict) else body
    if not isinstance(found, list):
        raise NoList
    return found
