"""State files of version 0.1: one file with the sessions of all sites. They are read once, into a state directory.

Not its job: where the file is kept after that (folder), and what is written from then on (snapshots, the journal).
The file holds frames of MessagePack, the same as on the wire:

    [2, "ECHO", ["online state 1"]]                     a mark: a state file, in format 1
    [2, "SITE", [name]], then what wire.dump gives      for each site
    [2, "ECHO", ["online state 1 ends, crc32 ..."]]     of all bytes before this frame

A file is read like hits that come now: sessions have aged by the time that the server was off, and those that have left
the window since count as late.

Invariants:
1. The readable part of a damaged file is applied: half a site is better than an empty one.
2. A file that does not begin with the mark belongs to somebody else and was named by mistake. It is neither read nor
   moved, and the server does not start.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgpack

from online import errors
from online.core.index import Index
from online.core.sites import DEFAULT_SITE, Sites
from online.core.wire import OK, Connection, Service
from online.errors import StateError
from online.limits import Limits

CHUNK_BYTES = 128 * 1024


def _notification(method: str, text: str | bytes) -> bytes:
    packed: bytes = msgpack.packb([2, method, [text]])
    return packed


def _end(checksum: int) -> bytes:
    return _notification("ECHO", f"online state 1 ends, crc32 {checksum:08x}")


MARK = _notification("ECHO", "online state 1")
END_BYTES = len(_end(0))


@dataclass(frozen=True)
class Loaded:
    """What came of reading a state file."""

    users: int = 0  #: sessions inside the window
    late: int = 0  #: sessions that have left the window since
    refused: int = 0  #: sessions beyond a limit
    damage: str = ""  #: what is wrong with the file; empty if nothing is
    is_empty: bool = False  #: whether the file has 0 bytes


def check_mark(path: Path) -> None:
    """Make sure that a file is a state file that can be read, or empty. Raises StateError."""
    try:
        with path.open("rb") as file:
            mark = file.read(len(MARK))
    except OSError as error:
        raise StateError(f"state file {path} cannot be read: {error.strerror}") from None
    if MARK.startswith(mark):
        return
    if version := re.fullmatch(re.escape(MARK[:-1]) + rb"(\d)", mark):
        raise StateError(
            f"state file {path} was written by a later version of online: its format is {version[1].decode()}, this "
            "version reads 1. It was left untouched. Use the later version, or give another path"
        )
    if sum(one != other for one, other in zip(mark, MARK, strict=False)) <= 2 and len(mark) == len(MARK):
        raise StateError(
            f"state file {path} is damaged at its beginning: bytes have changed since it was written. It was left "
            "untouched. Move it away to start empty, or give another path"
        )
    raise StateError(f"{path} is not a state file of online. It was left untouched; give another path")


class Loading:
    """Reads a state file into sites that are still empty."""

    def __init__(self, path: Path, sites: Sites, now_ms: Callable[[], int], *, clock_step_ms: int = 0) -> None:
        """Nothing is read yet."""
        self.loaded = Loaded()
        self._path = path
        self._sites = sites
        self._now_ms = now_ms
        self._connection = _connection(sites, clock_step_ms)
        self._damage = ""

    def pieces(self) -> Iterator[None]:
        """Read the file, resting after each piece. O(users). Raises StateError."""
        check_mark(self._path)
        size = -1
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size:
                    yield from self._feed(file, size)
        except OSError as error:
            self._damage = f"it cannot be read: {error.strerror}"
        totals = self._sites.statistics()
        self.loaded = Loaded(totals.users, totals.late, totals.refused, self._damage, size == 0)

    def _feed(self, file: BinaryIO, size: int) -> Iterator[None]:
        """Give the whole file to a connection of its own, and see whether it ends as it should."""
        connection = self._connection
        checksum, place, tail = 0, 0, b""
        while chunk := file.read(CHUNK_BYTES):
            connection.receive(chunk, now_ms=self._now_ms())
            while connection.has_work:
                connection.take_output()
                connection.proceed(now_ms=self._now_ms())
            if connection.is_closing:
                self._damage = f"bytes have changed: bytes {place} to {place + len(chunk)} of {size} hold no message"
                return
            checksum = crc32(chunk[: max(0, size - END_BYTES - place)], checksum)
            place += len(chunk)
            tail = (tail + chunk)[-END_BYTES:]
            yield
        if connection.in_frame or not tail.startswith(_end(0)[:-8]):
            self._damage = f"it is cut off at byte {place}"
        elif tail != _end(checksum):
            self._damage = "bytes have changed: the checksum differs"


class _Host:
    """Carries out what a state file asks for beside hits: it names sites."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def call(self, connection: Connection, verb: str, args: list[bytes], now_ms: int) -> object:
        if verb != "SITE":
            raise errors.unknown_verb(verb.encode())
        connection.site = args[0]
        connection.index = self._sites.get(args[0])
        return OK

    def open_site(self, connection: Connection, now_ms: int) -> Index:
        connection.index = index = self._sites.open(connection.site)
        return index


def _connection(sites: Sites, clock_step_ms: int) -> Connection:
    """A connection that takes frames of the size that `dump` makes, whatever clients may send."""
    ours = Limits()
    limits = replace(sites.limits, max_frame=ours.max_frame, max_items=ours.max_items, max_depth=ours.max_depth)
    service = Service(_Host(sites), limits)
    service.clock_step_ms = clock_step_ms
    return Connection(service, sites[DEFAULT_SITE], DEFAULT_SITE)
