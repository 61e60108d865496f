"""What a server keeps on disk: a journal of every hit, and snapshots. The promise and its proof are in
docs/persistence.md.

Its job: to read the state directory at the start, to let the journal write while the server serves, to sync it, to
take snapshots, and to go on when the disk fails. Not its job: names and heads of files (keep/folder), what is in them
(core/journal, keep/snapshots), how they are read (keep/recovery), and what INFO shows of it (serve/kept).

    open   hold the directory; read for FIRST_S
    load   read the rest, in slices, while the server answers LOADING
    run    sync, rotate, take snapshots, heal
    close  write and sync what is left

Invariants:
1. While files are read, no index is followed: what was read is not written again.
2. The journal never goes on in a file that a write or sync has failed for, nor in one that an earlier process wrote.
3. A descriptor is closed only while no thread syncs it.
4. After the disk has failed, the server is whole again (`is_whole`) only when a snapshot that was begun since then
   is complete. With `--on-disk-error refuse` no hit is taken before.
"""

import errno
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any

import trio

from online.core.index import Index
from online.core.journal import Journal
from online.core.sites import Sites
from online.core.wire import Service
from online.errors import OnlineError, StateError
from online.keep.disk import Disk
from online.keep.folder import HEAD_BYTES, Folder, Head
from online.keep.recovery import Recovery, Report, synced_note
from online.keep.snapshots import Snapshot
from online.serve.config import Config
from online.serve.kept import describe, lines, users
from online.serve.parts import Part
from online.serve.slices import Slices
from online.serve.verb import Lines

logger = logging.getLogger("online")

#: How long is read before the server listens: small sites are never seen loading.
FIRST_S = 0.1

#: How often is looked whether there is something to do.
TEND_S = 1.0

#: A segment of this size is followed by another: damage in one leaves the others readable.
SEGMENT_BYTES = 16 * 1024 * 1024

#: A snapshot is due when the journal since the last one is larger than this, and than that one.
SNAPSHOT_BYTES = 64 * 1024 * 1024

#: Pieces of a snapshot between two syncs of it, about 6 MB: a disk that is given all at once keeps others waiting.
PIECES_A_SYNC = 256

#: How long after a failure the disk is tried again.
HEAL_S = 5.0

#: Who wants to know that a snapshot is complete, and then that all files before it are deleted.
Purge = tuple[int, Callable[[], Awaitable[None]], Callable[[], None]]

#: What a disk may get over, or be helped with: it is full or broken, not forbidden.
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Keeper(Part):
    """The part of a server that remembers."""

    name = "state"

    def __init__(
        self,
        config: Config,
        sites: Sites,
        service: Service,
        now_ms: Callable[[], int],
        slices: Slices,
        *,
        disk: Disk | None = None,
        wake: Callable[[], None] = lambda: None,
        show: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is read yet. `wake` is called when answers may leave; `show` is given progress, a line at a time."""
        if config.state is None:
            raise ValueError("there is no directory to keep anything in")
        self.config = config
        self.folder = Folder(config.state, disk=disk)
        self.journal = Journal()
        self.report = Report()  #: of the start
        self.is_whole = True  #: the disk has every hit, but for those of this turn
        self.errors = 0  #: of the disk
        self.last_error = ""
        self.synced_ms = 0  #: when everything up to then was on the disk; wall time
        self.snapshot_ms = self.snapshot_bytes = self.snapshot_users = 0  #: of the last complete one
        self.is_snapshotting = False
        self.in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync  #: makes calls that wait for the disk
        self._sites = sites
        self._service = service
        self._now_ms = now_ms
        self._slices = slices
        self._wake = wake
        self._show = show
        self._recovery: Recovery | None = None
        self._pieces: Iterator[None] = iter(())  #: of the recovery
        self._run_number = int.from_bytes(os.urandom(7))
        self._fd = -1  #: the segment that is written to
        self._old_fds: list[int] = []  #: segments that are still to be synced
        self._ended: dict[int, tuple[int, int]] = {}  #: the number of each of these and its bytes, if all were written
        self._dead_fds: list[int] = []  #: those that are only to be closed
        self._is_syncing = False
        self._synced_bytes = 0
        self._since_bytes = 0  #: of the journal before this process, since the last snapshot
        self._mark_bytes = 0  #: `written_bytes` when the last snapshot was begun
        self._next = 1  #: number of the next segment
        self._heal_at_s = 0.0
        self._is_snapshot_wanted = False
        self._purges: list[Purge] = []  #: who waits for a snapshot without who was forgotten
        self._settled = trio.lowlevel.ParkingLot()
        self._sync_wanted = trio.Event()
        journal = self.journal
        journal.waits_for_sync = config.sync == 0
        journal.wanted = lambda: self._sync_wanted.set()
        journal.failed = lambda code: self._failed(OSError(code, os.strerror(code)), "written")
        journal.settled = self._wait_settled
        journal.stepped = self._rotate_now

    # The life of a part

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the directory, and begin to read it. Raises StateError."""
        with self.folder.hold():
            self._probe()
            self._recovery = Recovery(
                self.folder, self._sites, self._now_ms, clock_step_ms=self._service.clock_step_ms
            )
            self._pieces = self._read(self._recovery)
            until_s = time.perf_counter() + FIRST_S
            while time.perf_counter() < until_s and not self._recovery.is_done:
                next(self._pieces, None)
            if self._recovery.is_done:
                self._begin()
            else:
                self._service.loading = _told(self._recovery)
            try:
                yield
            except BaseException:
                with suppress(OnlineError):
                    self._end()
                raise
            self._end()

    async def load(self) -> None:
        """Read the rest of the directory. Raises StateError."""
        if self._recovery is not None:
            await self._slices.finish("load", self._pieces)
            self._begin()

    async def run(self) -> None:
        """Sync, rotate, take snapshots and heal, for ever."""
        async with trio.open_nursery() as nursery:
            if self.config.sync == 0:
                nursery.start_soon(self._sync_when_wanted)
            elif self.config.sync < math.inf:
                nursery.start_soon(self._sync_often)
            await self._tend()

    def info(self) -> Mapping[str, Lines]:
        """Return the section `persistence`."""
        return {"persistence": lambda now_ms: lines(self)}

    # Reading

    @property
    def recovery(self) -> Recovery | None:
        """What is being read; None once everything was."""
        return self._recovery

    def _probe(self) -> None:
        """See at once if the disk takes nothing. Raises StateError, unless the server is to go on without."""
        try:
            self.folder.probe()
        except OSError as error:
            if self.config.on_disk_error == "refuse" or error.errno not in _PASSING:
                raise StateError(
                    f"state directory {self.folder.path} cannot be written: {error.strerror}"
                ) from None
            self._failed(error, "written")

    def _read(self, recovery: Recovery) -> Iterator[None]:
        """Read the directory, and say how far it is."""
        shown_s = 0.0
        for _ in recovery.pieces():
            self._service.loading = _told(recovery)
            if self._show is not None and time.monotonic() >= shown_s:
                shown_s = time.monotonic() + 0.2
                self._show(f"state directory {self.folder.path}: {_told(recovery)}")
            yield

    def _begin(self) -> None:
        """Follow all sites, now that everything was read, and open for hits."""
        if self._recovery is None:
            return
        report = self.report = self._recovery.report
        self._recovery = None
        if self._show is not None:
            self._show("")
        for line, is_bad in describe(report, self.folder.path):
            logger.log(logging.WARNING if is_bad else logging.INFO, "%s", line)
        self.snapshot_ms, self.snapshot_bytes = report.snapshot_ms, report.snapshot_bytes
        self.snapshot_users = report.snapshot_users
        self._since_bytes = report.journal_bytes
        self._is_snapshot_wanted = not report.is_clean or report.taken_over is not None
        self._next = self.folder.next_number()
        self.journal.change_step(self._service.clock_step_ms)
        self._rotate_now()
        for name, index in self._sites.items():
            self.journal.follow(index, name)
        self._sites.opened.append(self._opened)
        self._service.journal = self.journal
        self._service.loading = None

    def _opened(self, index: Index, name: bytes) -> None:
        self.journal.follow(index, name)

    # Segments

    def _head(self, kind: str, number: int) -> Head:
        step_ms = self.journal.clock_step_ms
        return Head(kind, number, step_ms, self._run_number, self._now_ms() + step_ms)

    def _new_head(self) -> Head:
        """Return the head of the next segment."""
        self._next += 1
        return self._head("journal", self._next - 1)

    def _rotate_now(self) -> None:
        """Go on in a new segment, at once: what was noted before and after are not to be in one."""
        head = self._new_head()
        try:
            self._go_on_in(self.folder.create(head), head)
        except OSError as error:
            self._not_created(head, error)

    async def _rotate(self) -> bool:
        """Go on in a new segment, which a thread makes; return whether there is one."""
        while True:
            head = self._new_head()
            try:
                fd = await self.in_thread(self.folder.create, head)
            except OSError as error:
                self._not_created(head, error)
                return False
            if head.step_ms == self.journal.clock_step_ms:
                self._go_on_in(fd, head)
                return True
            os.close(fd)  # the clock was set meanwhile

    def _not_created(self, head: Head, error: OSError) -> None:
        """Give a number back that no file has, if none follows it: a gap would look like a file that is missing."""
        if self._next == head.number + 1 and not isinstance(error, FileExistsError):
            self._next = head.number
        self._failed(error, "written")

    def _go_on_in(self, fd: int, head: Head) -> None:
        self.journal.flush()  # to the segment before, which may fail by that
        before, self._fd = self._fd, fd
        if before >= 0:
            self._ended[before] = self.journal.segment, self.journal.offset
            self._old_fds.append(before)
            if self.config.sync == math.inf:
                self._retire([before])
        self.journal.begin(fd, head.number, HEAD_BYTES)

    async def _tend(self) -> None:
        """Look after everything that is not urgent, for ever."""
        while True:
            await trio.sleep(TEND_S)
            if self.journal.is_off:
                await self._heal()
                continue
            self.journal.note_totals()
            self.journal.flush()
            if self.journal.offset >= SEGMENT_BYTES:
                await self._rotate()
            if self._is_snapshot_due():
                await self._take_snapshot()

    # Syncs

    async def _sync_often(self) -> None:
        while True:
            await trio.sleep(self.config.sync)
            if self.journal.written_bytes != self._synced_bytes and not self.journal.is_off:
                await self._sync()

    async def _sync_when_wanted(self) -> None:
        """Sync for all answers that wait, then for all that came meanwhile."""
        while True:
            await self._sync_wanted.wait()
            self._sync_wanted = trio.Event()
            if not self.journal.is_off:
                await self._sync()

    async def _sync(self) -> None:
        """Force to the disk what was written so far, in a thread."""
        turn, n_bytes, now_ms = self.journal.turn, self.journal.written_bytes, self._now_ms()
        old, fds = list(self._old_fds), [*self._old_fds, self._fd]
        self._is_syncing = True
        try:
            await self.in_thread(self._sync_all, fds)
        except OSError as error:
            if not self.journal.is_off:
                self._failed(error, "synced")
        else:
            self.journal.synced(turn)
            self._synced_bytes = n_bytes
            self.synced_ms = self._service.wall_of(now_ms)
            for fd in old:  # a start can then tell what was lost since from what a power failure took
                if fd in self._ended:
                    self.journal.note(synced_note(*self._ended[fd]))
            self._retire(old)
        finally:
            self._is_syncing = False
            self._close_dead()
            self.answers_may_leave()

    def _sync_all(self, fds: list[int]) -> None:
        for fd in fds:
            self.folder.disk.sync(fd)

    async def _wait_settled(self) -> None:
        """Wait until what was answered so far may leave. Raises BrokenResourceError if it must not."""
        self.journal.flush()
        turn = self.journal.turn
        while not (fate := self.journal.may_leave(turn)):
            if fate is None:
                raise trio.BrokenResourceError("what was to be answered is lost")
            await self._settled.park()

    def answers_may_leave(self) -> None:
        """Look again which answers may leave."""
        self._settled.unpark_all()
        self._wake()

    def _retire(self, fds: list[int]) -> None:
        """Close segments that are not written to any more, those that are still open, as soon as nobody syncs them."""
        self._dead_fds += [fd for fd in self._old_fds if fd in fds]
        for fd in fds:
            self._ended.pop(fd, None)
        self._old_fds = [fd for fd in self._old_fds if fd not in fds]
        if not self._is_syncing:
            self._close_dead()

    def _retire_all(self) -> None:
        """Write to no segment any more, and close all."""
        if self._fd >= 0:
            self._old_fds.append(self._fd)
        self._fd = -1
        self._retire(self._old_fds)

    def _close_dead(self) -> None:
        for fd in self._dead_fds:
            with suppress(OSError):
                os.close(fd)
        self._dead_fds.clear()

    # Snapshots

    def purge(self, number: int, taken: Callable[[], Awaitable[None]], done: Callable[[], None]) -> None:
        """Take a snapshot soon and delete all files before it, damaged ones too.

        `number`: users were forgotten up to that of the history's list. `taken` is awaited when the snapshot is
        complete and nothing was deleted yet; `done` is told in the end.
        """
        self._purges.append((number, taken, done))
        self._is_snapshot_wanted = True

    @property
    def journal_bytes(self) -> int:
        """Of the journal since the last snapshot."""
        return self._since_bytes + self.journal.written_bytes - self._mark_bytes

    def _is_snapshot_due(self) -> bool:
        if trio.current_time() < self._heal_at_s:
            return False
        return self._is_snapshot_wanted or self.journal_bytes > max(SNAPSHOT_BYTES, self.snapshot_bytes)

    async def _take_snapshot(self) -> None:
        """Take a snapshot while hits go on, and delete what it replaces."""
        if not await self._rotate():
            return
        purges, self._purges = self._purges, []
        mark_bytes, errors = self.journal.written_bytes, self.errors
        head = self._head("snapshot", self.journal.segment)
        snapshot = None
        self.is_snapshotting = True
        try:
            number = max((number for number, _, _ in purges), default=0)
            snapshot = Snapshot(self.folder, self._sites, head, forgotten=number)
            pieces = snapshot.pieces()
            while not snapshot.is_written:
                await self._slices.finish("snapshot", islice(pieces, PIECES_A_SYNC))
                await self.in_thread(snapshot.sync)
            await self.in_thread(snapshot.finish)
        except OSError as error:
            self._later(error, "a snapshot cannot be written")
            self._purge_later(purges)
            return
        finally:
            self.is_snapshotting = False
            if snapshot is not None:
                snapshot.discard()
        self.snapshot_ms, self.snapshot_bytes, self.snapshot_users = head.created_ms, snapshot.n_bytes, snapshot.users
        self._since_bytes, self._mark_bytes = 0, mark_bytes
        if errors == self.errors:
            self._is_snapshot_wanted = bool(self._purges)
            self._healed()
        for _, taken, _ in purges:
            await taken()
        try:
            await self.in_thread(partial(self.folder.purge, head.number) if purges else self.folder.prune)
        except OSError as error:
            self._later(error, "files that a snapshot has replaced cannot be deleted")
            self._purge_later(purges)
        else:
            for _, _, done in purges:
                done()

    def _purge_later(self, purges: list[Purge]) -> None:
        """Go on waiting: nothing was deleted."""
        self._purges = purges + self._purges
        self._is_snapshot_wanted = self._is_snapshot_wanted or bool(purges)

    # A disk that fails

    def _count(self, error: OSError) -> None:
        self.errors += 1
        self.last_error = error.strerror or str(error)

    def _later(self, error: OSError, what: str) -> None:
        """Say what failed, and take no snapshot for a while. The journal goes on."""
        self._count(error)
        self._heal_at_s = trio.current_time() + HEAL_S
        logger.error("state directory %s: %s: %s", self.folder.path, what, self.last_error)

    def _failed(self, error: OSError, what: str) -> None:
        """Give the segment up, and go on in memory, or refuse hits."""
        self._count(error)
        refuses = self.config.on_disk_error == "refuse"
        self.journal.give_up(is_lost=refuses)
        self._heal_at_s = trio.current_time() + HEAL_S
        self._retire_all()
        self._is_snapshot_wanted = True
        if self.is_whole:
            logger.error(
                "state directory %s: the journal cannot be %s: %s; %s until it can",
                self.folder.path,
                what,
                self.last_error,
                "hits are refused" if refuses else "hits are kept in memory alone",
            )
        self.is_whole = False
        if refuses:
            self._service.refusing = (
                f"the disk fails ({self.last_error}) and hits that may be lost are not taken; try again later"
            )
        self.answers_may_leave()

    async def _heal(self) -> None:
        """Try a new segment, if it is time to. A snapshot follows, as hits are missing from the journal."""
        if trio.current_time() >= self._heal_at_s and await self._rotate():
            self._heal_at_s = 0.0

    def _healed(self) -> None:
        """Take note that a complete snapshot was begun since the disk failed last, if it ever did."""
        if self.is_whole:
            return
        self.is_whole = True
        self._service.refusing = None
        logger.warning("state directory %s: the disk works again, and has everything", self.folder.path)

    # The end

    def _end(self) -> None:
        """Write and sync what is left. Raises OnlineError if that fails."""
        self._service.journal = None
        if self._opened in self._sites.opened:
            self._sites.opened.remove(self._opened)
        self.journal.note_totals()
        self.journal.close()
        try:
            if self._fd >= 0:
                self._sync_all([*self._old_fds, self._fd])
            if not self.is_whole and self._recovery is None:
                self._save()
        except OSError as error:
            self._count(error)
            self.is_whole = False
        self._retire_all()
        if not self.is_whole:
            raise OnlineError(
                f"state directory {self.folder.path} cannot be written: {self.last_error}; "
                "the newest hits are not in it"
            )
        if self._recovery is None:
            logger.info("kept %s in %s", users(self._sites.statistics().users), self.folder.path)

    def _save(self) -> None:
        """Take a last snapshot, as the journal lacks hits. O(users). Raises OSError.

        Requires: everything was read. A snapshot of less would replace what was not.
        """
        head = self._new_head()
        self._old_fds.append(self.folder.create(head))
        snapshot = Snapshot(self.folder, self._sites, head._replace(kind="snapshot"))
        try:
            for _ in snapshot.pieces():
                pass
            snapshot.finish()
            self.is_whole = True
        finally:
            snapshot.discard()


def _told(recovery: Recovery) -> str:
    """Say how far the start is."""
    return f"{recovery.done:.0%} read from disk, about {recovery.left_s:.0f} s left"
