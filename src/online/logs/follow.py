"""Logs that grow: yields their lines as they come, through every way of rotation, and knows how far it is.

Not here: what lines say (formats, pages), where they go (feed), where files are after a rotation (rotation), and
reading finished logs (hitlog).

1. A line is handed out once, when its newline has come; half a line never, but at the end of what is packed. Of a line
   that is too long no more is kept than shows that it is.
2. A log is the files that have been at its path. One that was renamed is read on, as long as somebody writes
   to it, for DRAIN_S; what is at the path now is read beside it.
3. A file is known by device, inode and its first bytes, so that neither a truncated file that has grown again
   nor a new one with an old one's inode is read on in its middle.
4. What was open at the start may become unreadable, such as a new file whose owner is still to be changed: that is
   a `problem` while it lasts, and no end.
5. `Place`s that are stored and given back lose no line, as long as what was renamed, copied or packed meanwhile can be
   found. What cannot be found is one of the `losses`; of a log that is not followed it stays the `problem`.
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

#: A renamed file without news for so long is done with. Servers go on writing to it until they reopen their
#: logs, and old workers of Apache until their last request has ended.
DRAIN_S = 60.0


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


class _File:
    """One file that is, or has been, at the path of a log."""

    def __init__(self, descriptor: int, *, offset: int = 0, head: bytes = b"") -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self.settled = self.handed_out = offset  #: the offsets after the last line of either
        self.news_at_s = time.monotonic() - max(0.0, time.time() - status.st_mtime)
        self._head = head or os.pread(descriptor, min(HEAD_BYTES, offset), 0)
        self._read_to = offset
        self._lines = Lines(is_begun=offset > 0)
        self._starts = 0  #: how often it was begun anew

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
        """Tell if it was truncated, perhaps to grow again."""
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
    """A file that was packed, and grows no more. Its offsets are those of the bytes that were packed."""

    def __init__(self, descriptor: int, *, offset: int = 0) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self.settled = self.handed_out = offset
        self.damage = ""  #: why the rest cannot be read
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
        """What is packed and not yet read."""
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
        """Yield what is behind the place where the last run ended."""
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
    """One log, as `tail -F` follows it."""

    def __init__(
        self,
        path: str,
        *,
        places: Sequence[Place] = (),
        from_start: bool = False,
        is_followed: bool = True,
        folders: Sequence[Path] = (),
    ) -> None:
        """Go on at `places`; without any begin at the end of the file that is there, or at its start.

        Unless it `is_followed`, the log has ended where the file ends. Renamed files are also looked for in `folders`.
        Raises LogError.
        """
        self.name = path
        self.is_ended = False
        self.problem = ""  #: why what is at the path cannot be read now; empty if it can, or if nothing is there
        self.losses: list[str] = []  #: files that were not read to their end and cannot be found, or are damaged
        self._path = Path(path)
        self._is_followed = is_followed
        self._files: list[_File | _Packed] = []
        try:
            self._resume(places, folders)
            opened = None if self._files else self._open_new()
        except OSError as error:
            raise LogError(f"cannot read {path}: {error.strerror}") from error
        if isinstance(opened, _Packed) and not (places or from_start):
            raise LogError(f"cannot read {path} from its end: it is packed; --from-start reads it")
        if opened is not None:
            self._files.append(opened if isinstance(opened, _Packed) or places or from_start else _at_end(opened))

    @property
    def places(self) -> list[Place]:
        """How far its files are settled."""
        return [file.place for file in self._files]

    @property
    def behind_bytes(self) -> int:
        """What has been written and not yet handed out."""
        return sum(file.behind_bytes for file in self._files)

    def read(self) -> Block | None:
        """Return the next lines, of the oldest file that has some; None if there are none now. Raises LogError."""
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
                self.losses.append(f"cannot read all of a packed file of {self.name}: {file.damage}")
                file.damage = ""
        opened = self._look()
        if opened is not None:
            self._files.append(opened)
            return opened.read()
        self._forget_drained()
        self.is_ended = not self._is_followed
        return None

    def _look(self) -> "_File | _Packed | None":
        """Open what is new at the path, if it can be read."""
        self.problem = "; ".join(self.losses) if not self._is_followed else ""
        try:
            return self._open_new()
        except OSError as error:
            self.problem = f"cannot read {self.name}: {error.strerror}"
        except LogError as error:
            self.problem = str(error)
        return None

    def _open_new(self) -> "_File | _Packed | None":
        """Open what is at the path, unless that is known or nothing is."""
        try:
            status = self._path.stat()
            if any(file.identity == (status.st_dev, status.st_ino) for file in self._files):
                return None
            return _opened(self._path, may_be_packed=not self._is_followed)
        except FileNotFoundError:
            return None

    def _forget_drained(self) -> None:
        """Close renamed files to which nobody has written for long, and packed ones that are read."""
        for file in self._files[:-1]:
            if file.settled == file.handed_out and file.is_drained:
                file.close()
                self._files.remove(file)

    def _resume(self, places: Sequence[Place], folders: Sequence[Path]) -> None:
        """Open the files of `places`, wherever they are now, and what was rotated after them."""
        if not places:
            return
        rotation = Rotation(self._path, folders)
        found: Found | None = None
        for place in places:
            found = rotation.find(place)
            if found is not None:
                self._files.append(_resumed(found.path, place))
            elif place.head:  # something had been settled of it
                self.losses.append(_loss(self._path, place))
        for file in rotation.between(found) if found is not None else ():
            try:
                self._files.append(_opened(file.path, may_be_packed=True))
            except LogError as error:
                self.losses.append(str(error))


def _loss(path: Path, place: Place) -> str:
    return (
        f"cannot find the file that was {path}, read to byte {place.offset:,}: what came after, if anything, is lost;"
        " if it lies elsewhere, give it as a log of its own"
    )


def _opened(path: Path, *, may_be_packed: bool = False) -> _File | _Packed:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LogError(f"cannot read {path}: it is no regular file; standard input is -")
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
    """Raise LogError if a log that grows begins with anything but lines."""
    name = packed_with(begin)
    if name:
        how = "is in UTF-16" if name == "UTF-16" else f"is packed with {name}"
        way = way_to_read(name) or "online feed --once --from-start FILE reads it"
        raise LogError(f"{what}it {how}, and cannot be followed; {way}")


def _at_end(file: _File) -> _File:
    """Go to the start of the last line, which may still be written."""
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
    """Lines from standard input, which cannot wait: whoever writes there would be held up."""

    def __init__(self, descriptor: int = 0) -> None:
        self.name = "standard input"
        self.is_ended = False
        self.descriptor = descriptor
        self._lines = Lines()
        self._begin = b""

    def read(self) -> Block | None:
        """Return what has come, waiting for it if nothing has; None at the end. Raises LogError."""
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
