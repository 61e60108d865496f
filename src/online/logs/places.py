"""Saves how far each log was sent, so that the next run of a feed continues there.

Not here: what a place is (rotation), when one is settled (feed), and how a file is replaced (files).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from online import files
from online.errors import StateError
from online.logs.follow import Log
from online.logs.rotation import Place

VERSION = 1


class Places:
    """The saved places of logs by name, and the logs that are followed now. Without a path, nothing is saved."""

    def __init__(self, path: Path | None, kept: dict[str, list[Place]] | None = None) -> None:
        self._path = path
        self._kept = kept or {}
        self._logs: list[Log] = []

    @classmethod
    @contextmanager
    def held(cls, path: Path | None) -> Iterator[Self]:
        """Lock a state file and read it. Raises StateError if that fails or the file cannot be written."""
        if path is None:
            yield cls(None)
            return
        with files.hold(path, "feed"):
            files.check(path)
            yield cls(path, _read(path))

    @property
    def is_kept(self) -> bool:
        """Whether the next run can continue where this one ends."""
        return self._path is not None

    def of(self, name: str) -> list[Place]:
        """Return the saved places of a log: how far it was sent."""
        return self._kept.get(name, [])

    def add(self, log: Log) -> None:
        """Add a log, whose places `save` saves from now on."""
        self._logs.append(log)

    def save(self) -> None:
        """Save how far all logs are settled. Places of other logs stay as they are. Raises StateError."""
        if self._path is None:
            return
        now = self._kept | {log.name: log.places for log in self._logs if log.places}
        if now != self._kept:
            with files.replacing(self._path) as file:
                file.write(json.dumps({"version": VERSION, "logs": now}).encode())
            self._kept = now


def _read(path: Path) -> dict[str, list[Place]]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"state file {path} cannot be read: {error.strerror}") from None
    try:
        document: dict[str, Any] = json.loads(text) if text else {"version": VERSION, "logs": {}}
        if document["version"] != VERSION:
            raise ValueError(f"its version is {document['version']}, not {VERSION}")
        return {log: [_place(*place) for place in places] for log, places in document["logs"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"{path} is not a state file of online feed, left unchanged: {error}") from None


def _place(device: int, inode: int, head: str, offset: int) -> Place:
    bytes.fromhex(head)
    return Place(int(device), int(inode), head, int(offset))
