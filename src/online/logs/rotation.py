"""Finds the files of a log that were renamed, copied or compressed while no feed was running.

Not here: reading them (follow), and saving how far they were read (places).

1. A file is identified by device, inode and its first bytes, whatever its name. It is looked for in the log's folder,
   in the folders inside that, and in folders that are given. The number of a device can change after a reboot.
2. A copy or a compressed file is a different file. It is identified by its first bytes alone, among files named like
   the log, and only if there are enough bytes to be sure.
3. Files rotated since then have the same name as the found one except for digits, and were written later.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from online.logs.packing import MAGIC_BYTES, Damage, Unpackable, packed_with, unpacked

#: How many of its first bytes identify a file. They include the time of its first line.
HEAD_BYTES = 128

#: Another log could begin with the same bytes if there are fewer.
_TELLING_BYTES = 40

#: How many folders inside the log's folder are searched, and how many files in each.
_MAX_FOLDERS, _MAX_FILES = 100, 10_000

_PACKED_NAME = re.compile(r"\.(?:gz|bz2|xz|zst|lz4|zip|Z)$")


class Place(NamedTuple):
    """How far a file has been read, in the shape in which it is stored. Offsets count decompressed bytes."""

    device: int
    inode: int
    head: str  #: its first bytes, in hexadecimal
    offset: int

    @property
    def head_bytes(self) -> bytes:
        return bytes.fromhex(self.head)


class Found(NamedTuple):
    """A file that may belong to a log."""

    path: Path
    device: int
    inode: int
    size: int
    modified_s: float


class Rotation:
    """All files in the places where a log's files may be."""

    def __init__(self, path: Path, folders: Sequence[Path] = ()) -> None:
        """`folders` are searched in addition to the log's own folder."""
        self._path = path
        self._files = list(_files_of(path, folders))
        self._given: set[tuple[int, int]] = set()

    def find(self, place: Place) -> Found | None:
        """Find the file of a place, or a copy of it. Returns each file only once. O(files)."""
        head = place.head_bytes
        same = [file for file in self._files if file.inode == place.inode and self._is_free(file)]
        same.sort(key=lambda file: file.device != place.device)
        if not head:  # nothing was settled
            return self._give(next((file for file in same if file.device == place.device), None))
        found = next((file for file in same if is_same(file.path, head, place.offset)), None)
        return self._give(found or self._find_copy(head, place))

    def between(self, found: Found) -> list[Found]:
        """Return the files that were rotated after `found`, oldest first. None were if `found` is at the log's path."""
        if found.path.resolve() == self._path.resolve():
            return []
        shape = _shape(found.path)
        later = [
            file
            for file in self._files
            if self._is_free(file) and _shape(file.path) == shape and file.modified_s > found.modified_s
        ]
        later.sort(key=lambda file: file.modified_s)
        return [file for file in later if self._give(file)]

    def _find_copy(self, head: bytes, place: Place) -> Found | None:
        if len(head) < _TELLING_BYTES:
            return None
        stem = self._path.name.partition(".")[0]
        alike = [file for file in self._files if file.path.name.startswith(stem) and self._is_free(file)]
        return next((file for file in alike if is_same(file.path, head, place.offset)), None)

    def _is_free(self, file: Found) -> bool:
        return (file.device, file.inode) not in self._given

    def _give(self, file: Found | None) -> Found | None:
        if file is not None:
            self._given.add((file.device, file.inode))
        return file


def is_same(path: Path, head: bytes, offset: int) -> bool:
    """Return whether a file, plain or compressed, begins with `head` and is long enough. False if unreadable."""
    try:
        with open(path, "rb") as file:
            begin = file.read(max(len(head), MAGIC_BYTES))
            if not packed_with(begin):
                return begin.startswith(head) and os.fstat(file.fileno()).st_size >= offset
            file.seek(0)
            return _begin_of(unpacked(iter(lambda: file.read(HEAD_BYTES * 64), b"")), len(head)) == head
    except OSError:
        return False


def _begin_of(pieces: Iterator[bytes], length: int) -> bytes:
    begin = b""
    try:
        while len(begin) < length:
            begin += next(pieces)
    except (StopIteration, Damage, Unpackable):
        pass
    return begin[:length]


def _files_of(path: Path, folders: Sequence[Path]) -> Iterator[Found]:
    own = [path.parent, path.resolve().parent]
    seen: set[tuple[int, int]] = set()
    for folder in dict.fromkeys([*own, *_folders_in(path.parent), *folders]):
        for file in _regular_files(folder):
            if (file.device, file.inode) not in seen:
                seen.add((file.device, file.inode))
                yield file


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(each.path) for each in entries if each.is_dir(follow_symlinks=False))[:_MAX_FOLDERS]
    except OSError:
        return []


def _regular_files(folder: Path) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(each.path for each in entries)[:_MAX_FILES]
    except OSError:
        return
    for name in names:
        try:
            status = os.stat(name)
        except OSError:  # removed meanwhile, or a broken link
            continue
        if stat.S_ISREG(status.st_mode):
            yield Found(Path(name), status.st_dev, status.st_ino, status.st_size, status.st_mtime)


def _shape(path: Path) -> str:
    """Return a file name without digits and without the suffix of compressed files."""
    return re.sub(r"\d+", "", _PACKED_NAME.sub("", path.name))
