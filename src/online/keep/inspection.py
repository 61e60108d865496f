"""What is in a state directory, read without changing it, while a server runs or not.

Not its job: how it is shown (cli/state.py).

A server may write and delete while files are read. A last record that is only half there is a torn tail, as after a
crash; when files have come or gone meanwhile, everything is read again.
"""

import json
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from online.core.frames import dump
from online.core.journal import HEAD_BYTES as RECORD_HEAD_BYTES
from online.core.replay import MAX_RECORD_BYTES, frames_of
from online.core.sites import Sites
from online.errors import StateError
from online.keep import history
from online.keep.folder import HEAD_BYTES, HISTORY, Folder, Kept
from online.keep.recovery import Recovery, Report
from online.keep.snapshots import is_end
from online.limits import Limits
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

#: So often is read again what a server changes meanwhile.
ATTEMPTS = 5


class Inspected(NamedTuple):
    """What is in a directory."""

    report: Report
    sites: Sites
    at_ms: int  #: the moment of which users and sites are: the newest hit's
    snapshots: list[Kept]
    segments: list[Kept]


class History(NamedTuple):
    """What is in the file of the history."""

    rows: int
    damage: str  #: why it cannot be read; "" if it can


def inspect(path: Path, *, window_s: int = 1_800, at_ms: int | None = None) -> Inspected:
    """Read a state directory, as of `at_ms` or the newest hit. O(bytes). Raises StateError."""
    folder = open_folder(path)
    for _ in range(ATTEMPTS):
        snapshots, segments = folder.kept("snapshot"), folder.kept("journal")
        moment = at_ms
        if moment is None:
            report, _ = _recover(folder, SEEN_MAX_MS, window_s)
            moment = report.last_ms or SEEN_MIN_MS
        report, sites = _recover(folder, moment, window_s)
        if (snapshots, segments) == (folder.kept("snapshot"), folder.kept("journal")):
            return Inspected(report, sites, moment, snapshots, segments)
    raise StateError(f"state directory {path} changes faster than it can be read; copy it, and read the copy")


def open_folder(path: Path) -> Folder:
    """Return the directory at `path`. Raises StateError if there is none, or no state in it."""
    folder = Folder(path)
    if not path.is_dir() or not folder.has_state:
        why = "it has no journal, no snapshot and no history" if path.is_dir() else "it is not a directory"
        raise StateError(f"{path} is not a state directory of a server: {why if path.exists() else 'it is not there'}")
    return folder


def history_of(path: Path) -> History | None:
    """Look into the history of a state directory; None without one."""
    file = path / HISTORY
    if not any(each.exists() for each in (file, path / f"{HISTORY}-wal")):
        return None
    try:
        return History(history.inspect(file), "")
    except (sqlite3.Error, OSError) as error:
        return History(0, str(error))


def _recover(folder: Folder, now_ms: int, window_s: int) -> tuple[Report, Sites]:
    """Read everything as a server would that starts at `now_ms`, with no limit but memory."""
    most = 2**31 - 1
    sites = Sites(
        Limits(max_users=most, max_pages=most, max_sites=1_000_000, max_user=16_384, max_url=16_384),
        window_s=window_s,
    )
    recovery = Recovery(folder, sites, lambda: now_ms, sets_aside=False)
    for _ in recovery.pieces():
        pass
    return recovery.report, sites


def digest(sites: Sites) -> str:
    """Return 32 hexadecimal digits that are the same for the same sessions, in whatever order they came. O(users)."""
    total = 0
    for name, index in sites.items():
        for frames in dump(index):
            unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
            unpacker.feed(frames)
            for _, method, params in unpacker:
                for session in params if method == b"hits" else [params]:
                    total += int.from_bytes(blake2b(msgpack.packb([name, *session]), digest_size=16).digest())
    return f"{total % 2**128:032x}"


# Dumps


def frames_in(folder: Folder) -> Iterator[bytes]:
    """Yield the frames of the newest readable snapshot, and of the journal since it began, record by record.

    The times in them are wall time. What is damaged is left out. Raises StateError.
    """
    snapshots = [kept for kept in folder.kept("snapshot") if not kept.is_damaged]
    begun = 0
    for kept in reversed(snapshots):
        if any(is_end(frames) for frames in records_of(kept)):
            yield from records_of(kept)
            begun = kept.number
            break
    for kept in folder.kept("journal"):
        if kept.number >= begun:
            yield from records_of(kept)


def records_of(kept: Kept) -> Iterator[bytes]:
    """Yield the frames of each record of a file, up to the first that is bad. Raises StateError."""
    place = HEAD_BYTES
    try:
        with kept.path.open("rb") as file:
            file.seek(place)
            while head := file.read(RECORD_HEAD_BYTES):
                n_bytes = int.from_bytes(head[:4], "little")
                if n_bytes > MAX_RECORD_BYTES:
                    return
                frames = frames_of(head + file.read(n_bytes), kept.number, place)
                if frames is None:
                    return
                yield frames
                place += RECORD_HEAD_BYTES + n_bytes
    except FileNotFoundError:  # a snapshot has replaced it meanwhile
        return
    except OSError as error:
        raise StateError(f"{kept.path} cannot be read: {error.strerror}") from None


def lines_of(frames: Iterator[bytes]) -> Iterator[str]:
    """Turn frames into lines of JSON, one for each hit and leave.

    Names that are not UTF-8 have lone surrogates, as Python's surrogateescape makes them.
    """
    site = ""
    for each in frames:
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        unpacker.feed(each)
        for _, method, params in unpacker:
            if method == b"SITE":
                site = _text(params[0])
            elif method == b"hits":
                for user, url, seen_ms, kind in params:
                    yield _line(seen_ms, site=site, user=_text(user), url=_text(url), kind=_text(kind))
            elif method == b"LEAVE":
                yield _line(params[1], site=site, user=_text(params[0]), leave=True)


def _line(seen_ms: int, **fields: Any) -> str:
    return json.dumps({"time": seen_ms / 1000, **fields}, separators=(",", ":"))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
