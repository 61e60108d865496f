"""Follows logs that grow: yields their lines as they arrive, through any rotation, and keeps track of its place.

Not here: parsing lines (formats, pages), sending them (feed), finding rotated files (rotation), and reading finished
logs (hitlog).

1. A line is handed out once, when its newline has arrived. Only a compressed file may end in an incomplete line. Lines
   that are too long are cut, and stay recognisable as too long.
2. A log consists of the files that have been at its path. A renamed file is read until nothing was written to it for
   DRAIN_S. The file that is at the path now is read at the same time.
3. A file is identified by device, inode and its first bytes. So reading never continues in the middle of a file that
   was truncated and has grown again, or of a new file that reuses the inode.
4. A log can become unreadable while it is followed, such as a new file whose owner is not yet set. That is a `problem`
   while it lasts, and does not end the reading.
5. Saved `Place`s that are given back lose no line, as long as files that were renamed, copied or compressed meanwhile
   can be found. Files that cannot be found are `losses`. In a log that is not followed they also stay the `problem`.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from online.logs.hitlog import LogError
from online.logs.lines import MAX_LINE_BYTES, Lines
from online.logs.packing import MAGIC_BYTES, Damage, Unpackable, packed_with, unpacked, way_to_read
from online.logs.rotation import HEAD_BYTES, Found, Rotation
from online.logs.rotation import Place as Place

BLOCK_BYTES = 256 * 1024

#: A renamed file is closed when nothing was written to it for this long. Servers go on writing to it until they reopen
#: their logs, and old workers of Apache until their last request has ended.
DRAIN_S = 60.0


class Block(NamedTuple):
    """Lines without their newlines, and a function to call when they are no longer needed."""

    lines: list[bytes]
    settle: Callable[[], None]


class Source(Protocol):
    """A source of lines."""

    name: str
    is_ended: bool  #: no more will come

    def read(self) -> Block | None:
        """Return the next lines, or None if there are none now. Never blocks. Raises LogError."""


class _File:
    """A file that is, or was, at the path of a log."""

    def __init__(self, descriptor: int, *, offset: int = 0, head: bytes = b"") -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self.settled = self.handed_out = offset  #: offset after the last line settled, and handed out
        self.news_at_s = time.monotonic() - max(0.0, time.time() - status.st_mtime)
        self._head = head or os.pread(descriptor, min(HEAD_BYTES, offset), 0)
        self._read_to = offset
        self._lines = Lines(is_begun=offset > 0)
        self._starts = 0  #: how often reading began again

    @property
    def place(self) -> Place:
        return Place(*self.identity, self._head[: self.settled].hex(), self.settled)

    @property
    def behind_bytes(self) -> int:
        return max(0, os.fstat(self.descriptor).st_size - self.handed_out)

    @property
    def is_drained(self) -> bool:
        return time.monotonic() - self.news_at_s > DRAIN_S

    def read(self) -> Block | None:
        if self._is_another():
            self._begin_anew()
        piece = os.pread(self.descriptor, BLOCK_BYTES, self._read_to)
        if not piece:
            return None
        if not self._read_to:
            _check_plain(piece)
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
        """Return whether the file was truncated, even if it has grown again."""
        if os.fstat(self.descriptor).st_size < self._read_to:
            return True
        return os.pread(self.descriptor, len(self._head), 0) != self._head

    def _begin_anew(self) -> None:
        self._starts += 1
        self._lines = Lines()
        self._head = b""
        self._read_to = self.settled = self.handed_out = 0

    def close(self) -> None:
        os.close(self.descriptor)


class _Packed:
    """A compressed file, which does not grow. Offsets count decompressed bytes."""

    def __init__(self, descriptor: int, *, offset: int = 0) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self.settled = self.handed_out = offset
        self.damage = ""  #: why the rest cannot be read; "" if it can
        self._size = status.st_size
        self._head = b""
        self._read_to = 0
        self._begin = offset
        self.is_drained = False
        self._lines = Lines(is_begun=offset > 0)
        self._pieces = unpacked(iter(lambda: os.read(descriptor, BLOCK_BYTES), b""))

    @property
    def place(self) -> Place:
        return Place(*self.identity, self._head[: self.settled].hex(), self.settled)

    @property
    def behind_bytes(self) -> int:
        """Compressed bytes that are not yet read."""
        return 0 if self.is_drained else max(0, self._size - os.lseek(self._descriptor, 0, os.SEEK_CUR))

    def read(self) -> Block | None:
        for piece in self._new_pieces():
            lines = self._lines.take(piece)
            if lines:
                newline = piece.rfind(b"\n")
                return self._block(lines, self._read_to - len(piece) + newline + 1)
        last = self._lines.last()
        return self._block(last, self._read_to) if last else None

    def _new_pieces(self) -> Iterator[bytes]:
        """Yield what comes after the place where the last run ended."""
        try:
            for piece in self._pieces:
                self._head += piece[: HEAD_BYTES - len(self._head)]
                known = max(0, self._begin - self._read_to)
                self._read_to += len(piece)
                if piece[known:]:
                    yield piece[known:]
        except (Damage, Unpackable) as error:
            self.damage = str(error)
        self.is_drained = True

    def _block(self, lines: list[bytes], offset: int) -> Block:
        self.handed_out = offset

        def settle() -> None:
            self.settled = offset

        return Block(lines, settle)

    def close(self) -> None:
        os.close(self._descriptor)


class Log:
    """One log, followed as by `tail -F`."""

    def __init__(
        self,
        path: str,
        *,
        places: Sequence[Place] = (),
        from_start: bool = False,
        is_followed: bool = True,
        folders: Sequence[Path] = (),
    ) -> None:
        """Continue at `places`. Without any, begin at the end of the file, or at its start if `from_start`.

        If not `is_followed`, the log ends at the end of the file. Renamed files are also searched for in `folders`.
        Raises LogError.
        """
        self.name = path
        self.is_ended = False
        self.problem = ""  #: why the file at the path cannot be read now; empty if it can, or does not exist
        self.losses: list[str] = []  #: files that cannot be read to their end: not found, or damaged
        self._path = Path(path)
        self._is_followed = is_followed
        self._files: list[_File | _Packed] = []
        try:
            self._resume(places, folders)
            opened = None if self._files else self._open_new()
        except OSError as error:
            raise LogError(f"cannot read {path}: {error.strerror}") from error
        if isinstance(opened, _Packed) and not (places or from_start):
            raise LogError(f"cannot read {path} from its end: it is compressed; use --from-start")
        if opened is not None:
            self._files.append(opened if isinstance(opened, _Packed) or places or from_start else _at_end(opened))

    @property
    def places(self) -> list[Place]:
        """How far each file of the log is settled."""
        return [file.place for file in self._files]

    @property
    def behind_bytes(self) -> int:
        """Bytes that were written and not yet handed out."""
        return sum(file.behind_bytes for file in self._files)

    def read(self) -> Block | None:
        """Return the next lines, from the oldest file that has any; None if there are none now. Raises LogError."""
        try:
            return self._next()
        except OSError as error:
            raise LogError(f"cannot read {self.name}: {error.strerror}") from error
        except LogError as error:
            raise LogError(f"cannot read {self.name}: {error}") from None

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def _next(self) -> Block | None:
        for file in self._files:
            block = file.read()
            if block is not None:
                return block
            if isinstance(file, _Packed) and file.damage:
                self.losses.append(f"cannot read all of a compressed file of {self.name}: {file.damage}")
                file.damage = ""
        opened = self._look()
        if opened is not None:
            self._files.append(opened)
            return opened.read()
        self._forget_drained()
        self.is_ended = not self._is_followed
        return None

    def _look(self) -> "_File | _Packed | None":
        """Open a new file at the path, if there is one and it can be read."""
        self.problem = "; ".join(self.losses) if not self._is_followed else ""
        try:
            return self._open_new()
        except OSError as error:
            self.problem = f"cannot read {self.name}: {error.strerror}"
        except LogError as error:
            self.problem = str(error)
        return None

    def _open_new(self) -> "_File | _Packed | None":
        """Open the file at the path. Returns None if it is already open or does not exist."""
        try:
            status = self._path.stat()
            if any(file.identity == (status.st_dev, status.st_ino) for file in self._files):
                return None
            return _opened(self._path, may_be_packed=not self._is_followed)
        except FileNotFoundError:
            return None

    def _forget_drained(self) -> None:
        """Close renamed files that are no longer written to, and compressed files that are read."""
        for file in self._files[:-1]:
            if file.settled == file.handed_out and file.is_drained:
                file.close()
                self._files.remove(file)

    def _resume(self, places: Sequence[Place], folders: Sequence[Path]) -> None:
        """Open the files of `places`, wherever they are now, and the files rotated after them."""
        if not places:
            return
        rotation = Rotation(self._path, folders)
        found: Found | None = None
        for place in places:
            found = rotation.find(place)
            if found is not None:
                self._files.append(_resumed(found.path, place))
            elif place.head:  # a part of it was settled
                self.losses.append(_loss(self._path, place))
        for file in rotation.between(found) if found is not None else ():
            try:
                self._files.append(_opened(file.path, may_be_packed=True))
            except LogError as error:
                self.losses.append(str(error))


def _loss(path: Path, place: Place) -> str:
    return (
        f"cannot find the rotated file of {path}, which was read to byte {place.offset:,}:"
        " any later lines in it are lost; if it was moved, name it on the command line as another log"
    )


def _opened(path: Path, *, may_be_packed: bool = False) -> _File | _Packed:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LogError(f"cannot read {path}: not a regular file; use - for standard input")
        begin = os.pread(descriptor, MAGIC_BYTES, 0)
        name = packed_with(begin)
        if may_be_packed and name and not way_to_read(name):
            return _Packed(descriptor)
        _check_plain(begin, f"cannot read {path}: ")
    except LogError:
        os.close(descriptor)
        raise
    return _File(descriptor)


def _check_plain(begin: bytes, what: str = "") -> None:
    """Raise LogError if a log to follow is compressed or in UTF-16."""
    name = packed_with(begin)
    if name:
        how = "is in UTF-16" if name == "UTF-16" else f"is compressed with {name}"
        way = way_to_read(name) or "to read it once, use online feed --once --from-start FILE"
        raise LogError(f"{what}it {how} and cannot be followed; {way}")


def _at_end(file: _File) -> _File:
    """Begin at the start of the last line, which may be incomplete."""
    end = os.fstat(file.descriptor).st_size
    begin = max(0, end - MAX_LINE_BYTES)
    tail = os.pread(file.descriptor, end - begin, begin)
    return _File(file.descriptor, offset=begin + tail.rfind(b"\n") + 1)


def _resumed(path: Path, place: Place) -> _File | _Packed:
    """Open a file at its place."""
    file = _opened(path, may_be_packed=True)
    if isinstance(file, _Packed):
        file.close()
        return _Packed(os.open(path, os.O_RDONLY | os.O_CLOEXEC), offset=place.offset)
    return _File(file.descriptor, offset=place.offset, head=place.head_bytes)


class Pipe:
    """Lines from standard input, which cannot wait: the program that writes them would block."""

    def __init__(self, descriptor: int = 0) -> None:
        self.name = "standard input"
        self.is_ended = False
        self.descriptor = descriptor
        self._lines = Lines()
        self._begin = b""

    def read(self) -> Block | None:
        """Return the lines that have arrived. Blocks until there are some. Raises LogError."""
        try:
            piece = os.read(self.descriptor, BLOCK_BYTES)
        except OSError as error:
            raise LogError(f"cannot read {self.name}: {error.strerror}") from error
        if len(self._begin) < MAGIC_BYTES:
            self._begin = (self._begin + piece)[:MAGIC_BYTES]
            _check_plain(self._begin, f"cannot read {self.name}: ")
        lines = self._lines.take(piece)
        if not piece:
            lines = self._lines.last()
            self.is_ended = True
        return Block(lines, lambda: None)
