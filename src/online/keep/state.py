"""The sessions of all sites, to a file and back, so that a restart does not show an empty site.

Not its job: when to do so (serve/statefile.py), how a session is written (`wire.dump`), how a file is replaced (files).
The file holds frames of MessagePack, the same as on the wire:

    [2, "ECHO", ["online state 1"]]                     a mark: this file is ours, in version 1
    [2, "SITE", [name]], then what wire.dump gives      for each site
    [2, "ECHO", ["online state 1 ends, crc32 ..."]]     of all bytes before this frame

A file is read by the rules for hits: sessions come back aged by the time away, and those that have left the
window meanwhile are late.

Invariants:
1. What cannot be read is said, and kept: a damaged or truncated file is renamed to FILE.damaged, and the
   server starts with the sessions that could be read. Half a site shown beats an empty one, and beats none.
2. A file that does not begin with the mark is not ours but somebody's, named by mistake. It is neither read
   nor moved, and the server does not start: at its end it would replace it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgpack

from online import errors, files
from online.core.index import Index
from online.core.sites import DEFAULT_SITE, Sites
from online.core.wire import OK, Connection, Service, dump
from online.errors import StateError
from online.limits import Limits

CHUNK_BYTES = 256 * 1024


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

    users: int = 0  #: sessions that are inside the window
    late: int = 0  #: outside the window meanwhile
    refused: int = 0  #: at a limit
    damage: str = ""  #: what is wrong with the file, if anything
    is_found: bool = True  #: there was a file


def hold(path: Path) -> AbstractContextManager[None]:
    """Keep other servers from the state file at `path`. Raises StateError if one has it."""
    return files.hold(path, "server")


def save(path: Path, sites: Sites, *, clock_step_ms: int = 0) -> int:
    """Write all sessions of all sites and return how many. O(users).

    Times are written as wall time, which is index time plus `clock_step_ms`.

    Raises StateError, leaving what was at `path` as it was.
    """
    with files.replacing(path) as file:
        checksum = 0
        for frame in _frames(sites, clock_step_ms):
            checksum = crc32(frame, checksum)
            file.write(frame)
        file.write(_end(checksum))
    return sites.statistics().users


def load(path: Path, sites: Sites, now_ms: Callable[[], int], *, clock_step_ms: int = 0) -> Loaded:
    """Read the sessions of a state file, if there is one, into sites that are still empty. O(users).

    Raises StateError for a file that cannot be read or is not a state file.
    """
    try:
        with path.open("rb") as file:
            loaded = _read(path, file, _connection(sites, clock_step_ms), sites, now_ms)
        if loaded.damage:
            path.resolve().rename(damaged(path))
    except FileNotFoundError:
        return Loaded(is_found=False)
    except OSError as error:
        raise StateError(f"state file {path} cannot be read: {error.strerror}") from None
    return loaded


def damaged(path: Path) -> Path:
    """Where a damaged file is kept."""
    path = path.resolve()
    return path.with_name(f"{path.name}.damaged")


# Writing


def _frames(sites: Sites, clock_step_ms: int) -> Iterator[bytes]:
    yield MARK
    for name, index in sites.items():
        yield _notification("SITE", name)
        yield from dump(index, clock_step_ms=clock_step_ms)


# Reading


def _read(
    path: Path, file: BinaryIO, connection: Connection, sites: Sites, now_ms: Callable[[], int]
) -> Loaded:
    """Feed the file to a connection of its own and see whether it ends as it should."""
    mark = file.read(len(MARK))
    if not MARK.startswith(mark):
        raise StateError(f"state file {path} is no state file, it is left as it is; give another path")
    if not mark:  # an empty file, such as mktemp makes
        return Loaded()
    damage = _feed(file, connection, now_ms)
    totals = sites.statistics()
    return Loaded(totals.users, totals.late, totals.refused, damage)


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


def _feed(file: BinaryIO, connection: Connection, now_ms: Callable[[], int]) -> str:
    """Give the whole file to `connection`; return what is wrong with it, if anything."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    checksum, place, tail = 0, 0, b""
    while chunk := file.read(CHUNK_BYTES):
        connection.receive(chunk, now_ms=now_ms())
        while connection.has_work:
            connection.take_output()
            connection.proceed(now_ms=now_ms())
        if connection.is_closing:
            return f"no message among bytes {place} to {place + len(chunk)} of {size}"
        checksum = crc32(chunk[: max(0, size - END_BYTES - place)], checksum)
        place += len(chunk)
        tail = (tail + chunk)[-END_BYTES:]
    if connection.in_frame or not tail.startswith(_end(0)[:-8]):
        return f"truncated at byte {place}"
    if tail != _end(checksum):
        return "the checksum differs"
    return ""
