"""The state directory: its files, their names and heads, and the lock.

    lock                one server at a time
    journal-N           a segment of the journal: records of hits, in the order in which they were applied
    snapshot-N          all sessions, begun when journal-N was; replaces all segments before N
    history             what was, in SQLite (history)
    *.damaged           what could not be read as a whole; deleted by `purge` alone
    state-file          a state file of version 0.1 that was given as --state, until the first snapshot

N has twelve digits and only ever grows. Segments and snapshots begin with the same head, and hold the same records.
Not its job: when files are made and synced (serve/keeper.py), what is in a record (core/journal), reading (recovery).

Invariants:
1. A snapshot has its name only when it is complete and on the disk. Before, it is `.snapshot-N.new`.
2. The two newest snapshots are kept, and all segments since the older of them: should the newest be unreadable, the
   other and the journal hold everything. After a purge there is one, until the next is taken.
3. What could not be read is renamed to *.damaged, and deleted only by a purge: when somebody is to be forgotten.
"""

import errno
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import NamedTuple

from online import files
from online.core.checksum import crc32c
from online.errors import StateError
from online.keep import state
from online.keep.disk import Disk

VERSION = 1

#: Magic number, version, number of the file, clock step, run, time of creation; then the checksum of these.
_HEAD = struct.Struct("<8sIQqQQ")
HEAD_BYTES = _HEAD.size + 4

#: What is written on trial at the start, so that a full disk is noticed then.
PROBE_BYTES = 1024 * 1024

_NAME = re.compile(r"(journal|snapshot)-(\d{12})(\.damaged)?")

LOCK, STATE_FILE, HISTORY = "lock", "state-file", "history"


class Head(NamedTuple):
    """The first bytes of a file."""

    kind: str  #: journal or snapshot
    number: int
    step_ms: int  #: times in the file are wall time, as this run of the server knew it then: its clock's step
    run: int  #: of the server; another for each process
    created_ms: int  #: wall time

    def packed(self) -> bytes:
        """Return the bytes."""
        magic = f"online-{self.kind[0]}".encode()
        packed = _HEAD.pack(magic, VERSION, self.number, self.step_ms, self.run, self.created_ms)
        return packed + crc32c(packed).to_bytes(4, "little")


class Kept(NamedTuple):
    """A file that is there."""

    path: Path
    kind: str
    number: int
    is_damaged: bool  #: it was found so before


def read_head(kept: Kept, data: bytes) -> Head | None:
    """Read the head of a file; None if it has none. Raises StateError for one of a later version."""
    if len(data) < HEAD_BYTES:
        return None
    packed = data[: _HEAD.size]
    magic, version, number, step_ms, run, created_ms = _HEAD.unpack(packed)
    if crc32c(packed) != int.from_bytes(data[_HEAD.size : HEAD_BYTES], "little"):
        return None
    if version > VERSION:
        raise StateError(
            f"{kept.path} was written by a later version of online: its format is {version}, this one reads "
            f"{VERSION}; nothing was changed. Use that version, or give another directory"
        )
    head = Head(kept.kind, number, step_ms, run, created_ms)
    is_ours = magic == f"online-{kept.kind[0]}".encode() and number == kept.number
    return head if is_ours else None


class Folder:
    """A state directory."""

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        """Nothing is read or made yet."""
        self.path = path
        self.disk = disk or Disk()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only server with this directory, inside the context; it is made if there is none.

        A state file at the path becomes `state-file` in a directory of the same name. Raises StateError.
        """
        self._make()
        with files.hold(self.path, "server", lock=self.path / LOCK):
            for left in self.path.glob(".*.new"):
                with suppress(OSError):
                    left.unlink()
            yield

    def _make(self) -> None:
        new = files.beside(self.path, "new")
        try:
            if self.path.is_file():
                state.check_mark(self.path)
                with files.hold(self.path, "server"):
                    new.mkdir(mode=0o700, exist_ok=True)
                    self.path.resolve().rename(new / STATE_FILE)
                files.beside(self.path, "lock").unlink()
            if (new / STATE_FILE).exists():
                new.rename(self.path.resolve())
                self.disk.sync_folder(self.path.resolve().parent)
            if self.path.exists() and not self.path.is_dir():
                raise StateError(f"state file {self.path} is neither a regular file nor a directory")
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateError(f"state directory {self.path} cannot be made: {error.strerror}") from None

    def check(self) -> None:
        """Raise StateError where `hold` could not make the directory, write to it or lock it. Leaves nothing behind."""
        path = self.path
        try:
            if path.is_dir():
                if not os.access(path, os.R_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                files.check_unused(path, "server", lock=path / LOCK)
                with TemporaryFile(dir=path):
                    return
            if path.is_file():
                state.check_mark(path)
                files.check_unused(path, "server")
            elif path.exists():
                raise StateError(f"state file {path} is neither a regular file nor a directory")
            elif path.is_symlink():  # to nothing
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rmdir(mkdtemp(dir=path.resolve().parent))
        except OSError as error:
            done = "written" if path.is_dir() else "made"
            raise StateError(f"state directory {path} cannot be {done}: {error.strerror}") from None

    def probe(self) -> None:
        """Make sure that there is room to write. Raises OSError."""
        probe = self.path / ".probe.new"
        with suppress(FileNotFoundError):
            probe.unlink()
        fd = self.disk.create(probe)
        try:
            self.disk.write(fd, bytes(PROBE_BYTES))
            self.disk.sync(fd)
        finally:
            os.close(fd)
            probe.unlink()

    # What is there

    def kept(self, kind: str) -> list[Kept]:
        """Return the segments or snapshots, by number. Raises StateError."""
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise StateError(f"state directory {self.path} cannot be read: {error.strerror}") from None
        found = [match for name in names if (match := _NAME.fullmatch(name)) and match[1] == kind]
        kept = [Kept(self.path / match[0], kind, int(match[2]), bool(match[3])) for match in found]
        return sorted(kept, key=lambda each: each.number)

    @property
    def state_file(self) -> Path:
        """Where a state file that was taken over is, or was."""
        return self.path / STATE_FILE

    @property
    def has_state(self) -> bool:
        """Whether a server has kept anything here, damaged or not. Raises StateError."""
        others = self.state_file, self.path / HISTORY
        return any(each.exists() for each in others) or any(map(self.kept, ("journal", "snapshot")))

    def next_number(self) -> int:
        """Return a number that no file has had."""
        return max((each.number for kind in ("journal", "snapshot") for each in self.kept(kind)), default=0) + 1

    # What changes

    def create(self, head: Head) -> int:
        """Make a segment, safe on the disk, and return its descriptor. Raises OSError."""
        path = self.path / f"journal-{head.number:012}"
        fd = self.disk.create(path)
        try:
            self.disk.write(fd, head.packed())
            self.disk.sync(fd)
            self.disk.sync_folder(self.path)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
            raise
        return fd

    def discard(self, kept: Kept) -> None:
        """Delete a segment whose making was cut off: it holds nothing, and is not to be taken for damage later."""
        with suppress(OSError):
            kept.path.unlink()

    def set_aside(self, kept: Kept) -> Path:
        """Rename a file that is damaged, and return where it is."""
        to = kept.path if kept.is_damaged else kept.path.with_name(f"{kept.path.name}.damaged")
        with suppress(OSError):  # of a disk that fails; it is said again at the next start
            kept.path.rename(to)
        return to

    def purge(self, number: int) -> None:
        """Delete everything before a snapshot: also the older one, and damaged files. Raises OSError.

        They may hold users who are to be forgotten.
        """
        self.state_file.unlink(missing_ok=True)
        for each in self.path.glob(f"{HISTORY}.damaged*"):
            each.unlink()
        for kept in [*self.kept("snapshot"), *self.kept("journal")]:
            if kept.number < number:
                kept.path.unlink()

    def prune(self) -> None:
        """Delete what the two newest snapshots have replaced. Raises OSError."""
        snapshots = [each for each in self.kept("snapshot") if not each.is_damaged]
        if not snapshots:
            return
        self.state_file.unlink(missing_ok=True)
        oldest = snapshots[-2:][0].number if len(snapshots) > 1 else 0
        for each in [*snapshots[:-2], *self.kept("journal")]:
            if each.number < oldest and not each.is_damaged:
                each.path.unlink()
