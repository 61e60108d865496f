"""Snapshots: all sessions of all sites, written a little at a time while hits go on.

Why a snapshot that is taken while the index changes is exact, together with the journal since it began: a session is
its user's newest hit, and applying a hit twice changes nothing. A session that nobody writes to while the snapshot is
taken is in it. One that somebody writes to has that hit, or leave, in the journal, which is applied after the snapshot,
in order, and so has the last word; whichever state the snapshot holds is that user's at some moment since, and no newer
than the journal's end. Times do not stand in the way: a hit that is older than its session is ignored again.
Totals are noted when the snapshot begins, so that hits of the journal since then are counted once. So is up to which
number of the history's list users were forgotten before: the journal that told of them is not needed any more, and what
the snapshot has of them came later.

Not its job: when one is taken (serve/keeper.py), and reading (recovery).
"""

import os
from collections.abc import Iterator
from contextlib import suppress

from online.core.frames import dump
from online.core.journal import record, site, totals
from online.core.sites import Sites
from online.keep.folder import Folder, Head

#: Of one record: less than a tenth of a millisecond to write, half a millisecond to read.
FRAME_BYTES = 24 * 1024

_ECHO = b"\x93\x02\xa4ECHO\x91"


def end_frame(users: int) -> bytes:
    """Return the last frame of a complete snapshot."""
    return _echo(b"end %d" % users)


def _echo(text: bytes) -> bytes:
    return _ECHO + (bytes([0xA0 | len(text)]) if len(text) < 32 else bytes([0xD9, len(text)])) + text


def is_end(frames: bytes) -> bool:
    """Whether this record is the last of a complete snapshot."""
    return frames.startswith(_ECHO) and frames[len(_ECHO) + 1 :].startswith(b"end ")


class Snapshot:
    """A snapshot that is being taken."""

    def __init__(self, folder: Folder, sites: Sites, head: Head, *, forgotten: int = 0) -> None:
        """Begin one: the segment of the same number begins now. O(sites). Raises OSError.

        Users were forgotten up to the number `forgotten`.
        """
        self.is_written = False  #: all pieces
        self.users = 0
        self.n_bytes = 0
        self._folder = folder
        self._head = head
        self._forgotten = forgotten
        self._path = folder.path / f"snapshot-{head.number:012}"
        self._new = folder.path / f".{self._path.name}.new"
        self._sites = [(name, index, totals(index, head.step_ms)) for name, index in sites.items()]
        self._fd = folder.disk.create(self._new)

    def pieces(self) -> Iterator[None]:
        """Write it, resting after each piece. O(users). Raises OSError."""
        self._write(self._head.packed())
        for name, index, noted in self._sites:
            for frames in dump(index, clock_step_ms=self._head.step_ms, frame_bytes=FRAME_BYTES):
                self._write_record(site(name) + frames)
                yield
            self._write_record(site(name) + noted)
            self.users += index.statistics().users
        if self._forgotten:
            self._write_record(_echo(b"forgotten %d %d" % (self._forgotten, self._head.created_ms)))
        self._write_record(end_frame(self.users))
        self.is_written = True
        yield

    def sync(self) -> None:
        """Wait until what was written so far is on the disk. Raises OSError."""
        self._folder.disk.sync(self._fd)

    def finish(self) -> None:
        """Give it its name, now that it is complete. Raises OSError."""
        self.sync()
        os.close(self._fd)
        self._fd = -1
        self._new.rename(self._path)
        self._folder.disk.sync_folder(self._folder.path)

    def discard(self) -> None:
        """Forget it, if it was not finished."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with suppress(OSError):
            self._new.unlink(missing_ok=True)

    def _write_record(self, frames: bytes) -> None:
        self._write(record(frames, self._head.number, self.n_bytes))

    def _write(self, data: bytes) -> None:
        self._folder.disk.write(self._fd, data)
        self.n_bytes += len(data)
