"""The map of partitions: which servers know which users, where one machine cannot hold all.

Its job: to read the map from a file of TOML, and to say who owns a user. Not its job: to ask anybody (gateway).

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

import tomllib
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

from online.errors import ConfigError

SLOTS = 16_384

FORMAT = 1

#: A map that is larger is a mistake: slots and partitions are bounded by this, too.
MAX_PARTITIONS = 1_024

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
    """Read a map from a file. Raises ConfigError, which names the file."""
    try:
        return parse(path.read_text())
    except OSError as error:
        raise ConfigError(f"the map {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the map {path} cannot be read: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"the map {path}: {error}") from None


def parse(text: str) -> PartitionMap:
    """Make a map of its text. Raises ConfigError, which says what is wrong with it."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is no TOML: {error}") from None
    _only(given, "the map", {"format", "version", "partition"})
    if "format" not in given:
        raise ConfigError(f"format is missing; write: format = {FORMAT}")
    if given["format"] != FORMAT:
        raise ConfigError(f"format takes {FORMAT}, not {given['format']!r}; a newer online may read it")
    version = given.get("version")
    if type(version) is not int or version < 1:
        raise ConfigError(f"version takes a whole number from 1 on, not {version!r}; make it greater with each change")
    tables = given.get("partition")
    if not isinstance(tables, dict) or not 1 <= len(tables) <= MAX_PARTITIONS:
        raise ConfigError(f"needs 1 to {MAX_PARTITIONS:,} partitions, each a table such as [partition.0]")
    numbers = sorted(_number(name) for name in tables)
    partitions, spans = [], []
    for place, number in enumerate(numbers):
        table = tables[str(number)]
        if not isinstance(table, dict):
            raise ConfigError(f"partition.{number} takes a table with slots and servers")
        _only(table, f"partition.{number}", {"slots", "servers", "came_from", "began"})
        servers, came_from = _servers(number, table.get("servers")), _came_from(number, table.get("came_from", []))
        partitions.append(Partition(number, servers, came_from, _began_ms(number, table.get("began"))))
        spans += [(first, last, place) for first, last in _slots(number, table.get("slots"))]
    owners = _owners(spans, numbers)
    checksum = crc32(" ".join(str(numbers[place]) for place in owners).encode())
    divided = (replace(each, layout=f"{each.number}-{checksum:08x}") for each in partitions)
    return PartitionMap(version, tuple(divided), owners)


def _only(given: dict[str, object], where: str, known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f"{where} takes {', '.join(sorted(known))}, not {unknown[0]!r}")


def _number(name: str) -> int:
    if not name.isascii() or not name.isdigit() or str(int(name)) != name or int(name) >= SLOTS:
        raise ConfigError(f"a partition has a number from 0 to {SLOTS - 1}, not {name!r}")
    return int(name)


def _servers(number: int, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(f'partition.{number} needs servers, a list such as ["online://10.0.0.5:8989"]')
    return tuple(given)


def _came_from(number: int, given: object) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(each) is int and 0 <= each < SLOTS for each in given):
        raise ConfigError(f"partition.{number}: came_from takes numbers of partitions, such as [0, 1], not {given!r}")
    return tuple(sorted(set(given) - {number}))


def _began_ms(number: int, given: object) -> int:
    if given is None:
        return 0
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise ConfigError(f"partition.{number}: began takes a time with its zone, such as 2026-11-29T12:00:00Z")
    return round(1000 * given.timestamp())


def _slots(number: int, given: object) -> list[tuple[int, int]]:
    """Read "0-8191" or "0-99,500,7000-8000"."""
    wanted = f'partition.{number} needs slots from 0 to {SLOTS - 1}, such as "0-8191" or "0-99,500", not {given!r}'
    if not isinstance(given, str):
        raise ConfigError(wanted)
    spans = []
    for span in given.split(","):
        first, dash, last = (part.strip() for part in span.partition("-"))
        if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
            raise ConfigError(wanted)
        low, high = int(first), int(last if dash else first)
        if not low <= high < SLOTS:
            raise ConfigError(wanted)
        spans.append((low, high))
    return spans


def _owners(spans: list[tuple[int, int, int]], numbers: list[int]) -> tuple[int, ...]:
    """Return the owner of each slot. Raises ConfigError where there is none, or more than one."""
    owners: list[int] = []
    gaps = []
    before = 0
    for first, last, place in [*sorted(spans), (SLOTS, SLOTS, 0)]:
        if first < len(owners):
            both = f"partition.{numbers[before]} and partition.{numbers[place]}"
            raise ConfigError(f"slot {first} is of two partitions: {both}")
        if first > len(owners):
            gaps.append(f"{len(owners)}-{first - 1}")
        owners += [place] * (last + 1 - len(owners))
        before = place
    if gaps:
        more = f" and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
        raise ConfigError(f"no partition has the slots {', '.join(gaps[:_SHOWN])}{more}")
    return tuple(owners[:SLOTS])
