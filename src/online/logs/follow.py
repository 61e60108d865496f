"""Logs that grow: yields their lines as they come, through every way of rotation, and knows how far it is.

Not here: what lines say (formats, pages), where they go (feed), and reading finished or packed logs (hitlog).

1. A line is handed out once, when its newline has come; half a line never. Of a line that is too long no more
   is kept than shows that it is.
2. A log is the files that have been at its path. One that was renamed is read on, as long as somebody writes
   to it, for DRAIN_S; what is at the path now is read beside it.
3. A file is known by device, inode and its first bytes, so that neither a truncated file that has grown again
   nor a new one with an old one's inode is read on in its middle.
4. What was open at the start may become unreadable, such as a new file whose owner is still to be changed: that is
   a `problem` while it lasts, and no end.
5. `Place`s that are stored and given back lose no line, as long as what was renamed still lies in the same
   folder under a name that begins with the log's. Of a log that is rotated twice before anybody looks, the file
   between is not seen.
"""

import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from online.logs.hitlog import MAX_LINE_BYTES, LogError

BLOCK_BYTES = 256 * 1024

#: A renamed file without news for so long is done with. Servers go on writing to it until they reopen their
#: logs, and old workers of Apache until their last request has ended.
DRAIN_S = 60.0

#: By so many of its first bytes a file is known again: they span the time of its first line.
HEAD_BYTES = 128


class Place(NamedTuple):
    """How far a file has been read; in this shape it is stored."""

    device: int
    inode: int
    head: str  #: its first bytes, in hexadecimal
    offset: int


class Block(NamedTuple):
    """Lines without their newlines, and what to call when nobody needs them any more."""

    lines: list[bytes]
    settle: Callable[[], None]


class Source(Protocol):
    """What lines come from."""

    name: str
    is_ended: bool  #: no more will come

    def read(self) -> Block | None:
        """Return the next lines, or None if there are none now. Never waits. Raises LogError."""


class _Lines:
    """Cuts pieces of a file into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, piece: bytes) -> list[bytes]:
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()[: MAX_LINE_BYTES + 1]
        return lines

    def last(self) -> list[bytes]:
        """Return what no newline has ended, when nothing more comes."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class _File:
    """One file that is, or has been, at the path of a log."""

    def __init__(self, descriptor: int, *, offset: int = 0, head: bytes = b"") -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self.settled = self.handed_out = offset  #: the offsets after the last line of either
        self.news_at_s = time.monotonic()
        self._head = head or os.pread(descriptor, min(HEAD_BYTES, offset), 0)
        self._read_to = offset
        self._lines = _Lines()
        self._starts = 0  #: how often it was begun anew

    @property
    def place(self) -> Place:
        return Place(*self.identity, self._head[: self.settled].hex(), self.settled)

    def read(self) -> Block | None:
        if self._is_another():
            self._begin_anew()
        piece = os.pread(self.descriptor, BLOCK_BYTES, self._read_to)
        if not piece:
            return None
        self.news_at_s = time.monotonic()
        lines = self._lines.take(piece)
        newline = piece.rfind(b"\n")
        if newline >= 0:
            self.handed_out = self._read_to + newline + 1
        self._read_to += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head = os.pread(self.descriptor, min(HEAD_BYTES, self._read_to), 0)
        start, offset = self._starts, self.handed_out

        def settle() -> None:
            if self._starts == start:
                self.settled = offset

        return Block(lines, settle)

    def _is_another(self) -> bool:
        """Tell if it was truncated, perhaps to grow again."""
        if os.fstat(self.descriptor).st_size < self._read_to:
            return True
        return os.pread(self.descriptor, len(self._head), 0) != self._head

    def _begin_anew(self) -> None:
        self._starts += 1
        self._lines = _Lines()
        self._head = b""
        self._read_to = self.settled = self.handed_out = 0

    def close(self) -> None:
        os.close(self.descriptor)


class Log:
    """One log, as `tail -F` follows it."""

    def __init__(
        self, path: str, *, places: Sequence[Place] = (), from_start: bool = False, is_followed: bool = True
    ) -> None:
        """Go on at `places`; without any begin at the end of the file that is there, or at its start.

        Unless it `is_followed`, the log has ended where the file ends. Raises LogError.
        """
        self.name = path
        self.is_ended = False
        self.problem = ""  #: why what is at the path cannot be read now; empty if it can, or if nothing is there
        self._path = Path(path)
        self._is_followed = is_followed
        self._files: list[_File] = []
        try:
            self._resume(places)
            opened = None if self._files else self._open_new()
        except OSError as error:
            raise LogError(f"cannot read {path}: {error.strerror}") from error
        if opened is not None:
            self._files.append(opened if places or from_start else _at_end(opened))

    @property
    def places(self) -> list[Place]:
        """How far its files are settled."""
        return [file.place for file in self._files]

    @property
    def behind_bytes(self) -> int:
        """What has been written and not yet handed out."""
        return sum(max(0, os.fstat(file.descriptor).st_size - file.handed_out) for file in self._files)

    def read(self) -> Block | None:
        """Return the next lines, of the oldest file that has some; None if there are none now. Raises LogError."""
        try:
            return self._next()
        except OSError as error:
            raise LogError(f"cannot read {self.name}: {error.strerror}") from error

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def _next(self) -> Block | None:
        for file in self._files:
            block = file.read()
            if block is not None:
                return block
        opened = self._look()
        if opened is not None:
            self._files.append(opened)
            return opened.read()
        self._forget_drained()
        self.is_ended = not self._is_followed
        return None

    def _look(self) -> _File | None:
        """Open what is new at the path, if it can be read."""
        self.problem = ""
        try:
            return self._open_new()
        except OSError as error:
            self.problem = f"cannot read {self.name}: {error.strerror}"
        except LogError as error:
            self.problem = str(error)
        return None

    def _open_new(self) -> _File | None:
        """Open what is at the path, unless that is known or nothing is."""
        try:
            status = self._path.stat()
            if any(file.identity == (status.st_dev, status.st_ino) for file in self._files):
                return None
            return _opened(self._path)
        except FileNotFoundError:
            return None

    def _forget_drained(self) -> None:
        """Close renamed files to which nobody has written for long."""
        now_s = time.monotonic()
        for file in self._files[:-1]:
            if file.settled == file.handed_out and now_s - file.news_at_s > DRAIN_S:
                file.close()
                self._files.remove(file)

    def _resume(self, places: Sequence[Place]) -> None:
        """Open the files of `places`, wherever they have been renamed to."""
        if not places:
            return
        known = {(place.device, place.inode): place for place in places}
        folder = self._path.parent
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(self._path.name) and path.is_file():
                status = path.stat()
                place = known.get((status.st_dev, status.st_ino))
                if place is not None:
                    self._files.append(_resumed(path, place))
        order = list(known)
        self._files.sort(key=lambda file: order.index(file.identity))


def _opened(path: Path) -> _File:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LogError(f"cannot read {path}: it is no regular file; standard input is -")
    return _File(descriptor)


def _at_end(file: _File) -> _File:
    """Go to the start of the last line, which may still be written."""
    end = os.fstat(file.descriptor).st_size
    begin = max(0, end - MAX_LINE_BYTES)
    tail = os.pread(file.descriptor, end - begin, begin)
    return _File(file.descriptor, offset=begin + tail.rfind(b"\n") + 1)


def _resumed(path: Path, place: Place) -> _File:
    """Open a file at its place, or at its start if it is another than it was."""
    file = _opened(path)
    head = bytes.fromhex(place.head)
    is_same = os.fstat(file.descriptor).st_size >= place.offset and os.pread(file.descriptor, len(head), 0) == head
    return _File(file.descriptor, offset=place.offset, head=head) if is_same else file


class Pipe:
    """Lines from standard input, which cannot wait: whoever writes there would be held up."""

    def __init__(self, descriptor: int = 0) -> None:
        self.name = "standard input"
        self.is_ended = False
        self.descriptor = descriptor
        self._lines = _Lines()

    def read(self) -> Block | None:
        """Return what has come, waiting for it if nothing has; None at the end. Raises LogError."""
        try:
            piece = os.read(self.descriptor, BLOCK_BYTES)
        except OSError as error:
            raise LogError(f"cannot read {self.name}: {error.strerror}") from error
        lines = self._lines.take(piece)
        if not piece:
            lines = self._lines.last()
            self.is_ended = True
        return Block(lines, lambda: None)
