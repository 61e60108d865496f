"""The map of partitions: which servers know which users, where one machine cannot hold all.

Its job: to read the map from a file of TOML, or of JSON if its name ends in .json, and to say who owns a user. Not its
job: to ask anybody (divided; the server's gateway).

    format = 1
    version = 7

    [partition.0]
    slots = "0-8191"
    servers = ["online://10.0.0.5:8989", "online://10.0.0.6:8989"]

    [partition.1]
    slots = "8192-16383"
    servers = ["online://10.0.0.7:8989"]
    came_from = [0]        # partitions that had some of these slots within the last window
    began = 2026-11-29T12:00:00Z  # when it was new: nobody was there before

Invariants:
1. Every slot belongs to exactly one partition.
2. Every partition has at least one slot and one server.
"""

import json
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlsplit
from zlib import crc32

from online_client.errors import AddressError

SLOTS = 16_384

FORMAT = 1

#: A map that is larger is a mistake: slots and partitions are bounded by this, too.
MAX_PARTITIONS = 1_024

#: Of a slot, as it may be written.
_MOST_DIGITS = 9

#: Gaps and the like that an error lists.
_SHOWN = 3


@dataclass(frozen=True)
class Partition:
    """Some of the users, and who knows them."""

    number: int
    servers: tuple[str, ...] = field(repr=False)  #: urls; they may have tokens in them
    came_from: tuple[int, ...] = ()  #: numbers of partitions that had some of its slots not long ago
    began_ms: int = 0  #: nobody was there before; 0: it has always been there
    layout: str = field(default="", compare=False)  #: see PartitionMap.layout

    @property
    def address(self) -> str:
        """Where its first server is: HOST:PORT, without a token."""
        return urlsplit(self.servers[0]).netloc.rpartition("@")[2]

    def url(self, site: str | bytes) -> str:
        """Return the url of all its servers; the first one's token is good for all. Raises AddressError."""
        try:
            servers = [urlsplit(each) for each in self.servers]
        except ValueError:  # of brackets without an end
            servers = []
        first = servers[0] if servers else urlsplit("")
        if first.scheme not in ("online", "onlines") or any(
            each.scheme != first.scheme or each.path or each.query for each in servers
        ):
            raise AddressError("servers take online://[:TOKEN@]HOST:PORT, or all onlines://, without a site")
        token, at, _ = first.netloc.rpartition("@")
        hosts = ",".join(each.netloc.rpartition("@")[2] for each in servers)
        name = quote(site, safe="", errors="surrogateescape") if isinstance(site, str) else quote(site, safe="")
        return f"{first.scheme}://{token}{at}{hosts}/{name}?map={self.layout}"


@dataclass(frozen=True)
class PartitionMap:
    """All partitions, by number, and the owner of each slot."""

    version: int  #: a later map has a greater one
    partitions: tuple[Partition, ...]
    owners: tuple[int, ...] = field(repr=False)  #: slot -> place in `partitions`

    def place(self, user: bytes) -> int:
        """Return the place in `partitions` of who owns a user. O(bytes)."""
        return self.owners[slot(user)]

    def place_of(self, number: int) -> int:
        """Return the place of a partition, or -1 if it is not there: it owns nothing. O(partitions)."""
        return next((place for place, each in enumerate(self.partitions) if each.number == number), -1)

    def came_from(self, number: int) -> tuple[int, ...]:
        """Return the numbers of partitions that had some slots of one not long ago."""
        place = self.place_of(number)
        return self.partitions[place].came_from if place >= 0 else ()

    def layout(self, number: int) -> str:
        """Return a partition's number, and a checksum of who owns which slot.

        Whoever has the same divides users alike, and means the same partition.
        """
        place = self.place_of(number)
        return self.partitions[place].layout if place >= 0 else f"{number}-nothing"

    def had_before(self, number: int, before: "PartitionMap") -> set[int]:
        """Return the numbers of partitions that had slots before that are `number`'s now. O(slots)."""
        place, same = self.place_of(number), before.place_of(number)
        pairs = set(zip(self.owners, before.owners, strict=True))
        return {before.partitions[had].number for now, had in pairs if now == place and had != same}


def slot(user: bytes) -> int:
    """Return the slot of a user, 0 to SLOTS - 1.

    >>> slot(b"theo")
    4452
    """
    return crc32(user) % SLOTS


def read(path: Path) -> PartitionMap:
    """Read a map from a file. Raises AddressError, which names the file."""
    try:
        return parse(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")
    except OSError as error:
        raise AddressError(f"the map {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise AddressError(f"the map {path} cannot be read: {error}") from None
    except AddressError as error:
        raise AddressError(f"the map {path}: {error}") from None


def parse(text: str, *, is_json: bool = False) -> PartitionMap:
    """Make a map of its text. Raises AddressError, which says what is wrong with it."""
    try:
        given = json.loads(text, object_pairs_hook=_object) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise AddressError(f"is no {'JSON' if is_json else 'TOML'}: {error}") from None
    if not isinstance(given, dict):
        raise AddressError(f"takes an object of JSON with format, version and partition, not {given!r:.64}")
    _only(given, "the map", {"format", "version", "partition"})
    if "format" not in given:
        raise AddressError(f"format is missing; write: format = {FORMAT}")
    if type(given["format"]) is not int or given["format"] != FORMAT:
        raise AddressError(f"format takes {FORMAT}, not {given['format']!r}; a newer online may read it")
    version = given.get("version")
    if type(version) is not int or version < 1:
        raise AddressError(f"version takes a whole number from 1 on, not {version!r}; make it greater with each change")
    tables = given.get("partition")
    if not isinstance(tables, dict) or not 1 <= len(tables) <= MAX_PARTITIONS:
        raise AddressError(f"needs 1 to {MAX_PARTITIONS:,} partitions, each a table such as [partition.0]")
    numbers = sorted(_number(name) for name in tables)
    partitions, spans = [], []
    for place, number in enumerate(numbers):
        table = tables[str(number)]
        if not isinstance(table, dict):
            raise AddressError(f"partition.{number} takes a table with slots and servers")
        _only(table, f"partition.{number}", {"slots", "servers", "came_from", "began"})
        servers, came_from = _servers(number, table.get("servers")), _came_from(number, table.get("came_from", []))
        partitions.append(Partition(number, servers, came_from, _began_ms(number, table.get("began"))))
        spans += [(first, last, place) for first, last in _slots(number, table.get("slots"))]
    owners = _owners(spans, numbers)
    checksum = crc32(" ".join(str(numbers[place]) for place in owners).encode())
    divided = (replace(each, layout=f"{each.number}-{checksum:08x}") for each in partitions)
    return PartitionMap(version, tuple(divided), owners)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON. Raises ValueError for two keys that are alike, as TOML does."""
    given = dict(pairs)
    if len(given) < len(pairs):
        twice = next(key for nth, (key, _) in enumerate(pairs) if key in dict(pairs[:nth]))
        raise ValueError(f"{twice!r:.64} stands there twice")
    return given


def _only(given: dict[str, object], where: str, known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise AddressError(f"{where} takes {', '.join(sorted(known))}, not {unknown[0]!r}")


def _number(name: str) -> int:
    if not _is_slot(name) or str(int(name)) != name:
        raise AddressError(f"a partition has a number from 0 to {SLOTS - 1}, not {name!r:.64}")
    return int(name)


def _is_slot(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) < SLOTS


def _servers(number: int, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(each, str) and each for each in given):
        raise AddressError(f'partition.{number} needs servers, a list such as ["online://10.0.0.5:8989"]')
    return tuple(given)


def _came_from(number: int, given: object) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(each) is int and 0 <= each < SLOTS for each in given):
        raise AddressError(f"partition.{number}: came_from takes numbers of partitions, such as [0, 1], not {given!r}")
    return tuple(sorted(set(given) - {number}))


def _began_ms(number: int, given: object) -> int:
    if given is None:
        return 0
    if isinstance(given, str):  # as JSON writes it
        with suppress(ValueError):
            given = datetime.fromisoformat(given)
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise AddressError(f"partition.{number}: began takes a time with its zone, such as 2026-11-29T12:00:00Z")
    return round(1000 * given.timestamp())


def _slots(number: int, given: object) -> list[tuple[int, int]]:
    """Read "0-8191" or "0-99,500,7000-8000"."""
    wanted = f'partition.{number} needs slots from 0 to {SLOTS - 1}, such as "0-8191" or "0-99,500", not {given!r:.64}'
    if not isinstance(given, str):
        raise AddressError(wanted)
    spans = []
    for span in given.split(","):
        first, dash, last = (part.strip() for part in span.partition("-"))
        if not _is_slot(first) or (dash and not _is_slot(last)):
            raise AddressError(wanted)
        low, high = int(first), int(last if dash else first)
        if low > high:
            raise AddressError(wanted)
        spans.append((low, high))
    return spans


def _owners(spans: list[tuple[int, int, int]], numbers: list[int]) -> tuple[int, ...]:
    """Return the owner of each slot. Raises AddressError where there is none, or more than one."""
    owners: list[int] = []
    gaps = []
    before = 0
    for first, last, place in [*sorted(spans), (SLOTS, SLOTS, 0)]:
        if first < len(owners):
            both = f"partition.{numbers[before]} and partition.{numbers[place]}"
            raise AddressError(f"slot {first} is of two partitions: {both}")
        if first > len(owners):
            gaps.append(f"{len(owners)}-{first - 1}")
        owners += [place] * (last + 1 - len(owners))
        before = place
    if gaps:
        more = f" and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
        raise AddressError(f"no partition has the slots {', '.join(gaps[:_SHOWN])}{more}")
    return tuple(owners[:SLOTS])
