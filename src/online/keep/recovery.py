"""A state directory -> the indexes of all sites, at the start of a server.

First the newest snapshot, or the one before if that is damaged, then the journal since it began, in order. A hit older
than the window is late, and left out; a clock that the server saw being set meanwhile is allowed for: each file says
which step its times have.

Not its job: what a record is (core/replay), to wait (it is an iterator, for slices), and what is written next.

Invariants:
1. Nothing is applied that does not have its checksum. What could be read before damage is applied.
2. A record that is bad ends its segment. If a good one stands behind it, that is damage: it is counted, and the segment
   is set aside as *.damaged, which later starts read as before. If none does, it is a torn tail: the last thing that
   a crash or a full disk cut off, of which nobody had an answer. Several segments may have one: a power failure takes
   what no sync had reached. Where a later segment notes that a sync had reached more, it is damage.
3. A head is on the disk before anything follows it. So a segment without one is damage, but for the last of all, as
   long as it is no longer than a head: a crash cut its making off. The start deletes it, as it holds nothing.
4. Files are never written to. The server goes on in a new one.
5. Who was forgotten is erased where the journal says so, in its order: what came later stays, whatever its time.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from online.core.index import Index
from online.core.journal import HEAD_BYTES as RECORD_HEAD_BYTES
from online.core.replay import MAX_RECORD_BYTES, Replay, frames_of
from online.core.sites import Sites
from online.errors import RangeError
from online.keep import forgotten, state
from online.keep.folder import HEAD_BYTES, Folder, Head, Kept, read_head

#: Read and applied at once: about half a millisecond.
CHUNK_BYTES = 32 * 1024

#: How long a piece waits for the thread that orders names.
ORDER_REST_S = 0.001

#: The memory that may be used meanwhile, of max_memory: the same sessions take a little more or less each time.
MEMORY_PERCENT = 125

#: Searched at once for good records behind a bad one.
SEARCHED_BYTES = 1024 * 1024

#: How every record begins.
_FIRST_FRAME = b"\x93\x02\xa4SITE\x91"


def synced_note(number: int, n_bytes: int) -> bytes:
    """Return what is noted (Journal.note) when all bytes of a segment are on the disk, and another is written."""
    return b"synced %d %d" % (number, n_bytes)


@dataclass
class Damage:
    """A file that could not be read as a whole."""

    path: Path  #: where it is now
    what: str


@dataclass
class Report:
    """What was found."""

    users: int = 0
    refused: int = 0  #: hits and leaves that found no room
    n_applied: int = 0  #: hits and leaves
    records: int = 0
    journal_bytes: int = 0  #: since the snapshot that was read began
    snapshot: Kept | None = None  #: the one that was read
    snapshot_bytes: int = 0
    snapshot_ms: int = 0  #: when it was begun, wall time
    snapshot_users: int = 0
    torn: dict[Path, int] = field(default_factory=dict)  #: bytes of tails that were cut off
    damage: list[Damage] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  #: segments between others
    first_ms: int = 0  #: wall time of the oldest and newest hit; 0 without hits
    last_ms: int = 0
    noted: bytes = b""  #: what others noted last (Journal.note)
    forgotten: dict[tuple[bytes, bytes], int] = field(default_factory=dict)  #: site and user: when, as the journal says
    forgotten_before: tuple[int, int] = (0, 0)  #: the snapshot: number of the last of them, and when it began
    taken_over: state.Loaded | None = None  #: a state file of an earlier version
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)  #: bytes and records of each file that was read

    @property
    def is_clean(self) -> bool:
        """Whether everything could be read. A torn tail is what every crash leaves."""
        return not self.damage and not self.missing


class Recovery:
    """Reads a state directory once."""

    def __init__(
        self,
        folder: Folder,
        sites: Sites,
        now_ms: Callable[[], int],
        *,
        clock_step_ms: int = 0,
        sets_aside: bool = True,
    ) -> None:
        """Look at what there is. Without `sets_aside` no file is renamed.

        Raises StateError for files of a later version.
        """
        self.report = Report()
        self.is_done = False
        self._folder = folder
        self._sites = sites
        self._now_ms = now_ms
        self._clock_step_ms = clock_step_ms
        self._sets_aside = sets_aside
        self._replay = Replay(self)
        self._max_memory = sites.budget.limit_bytes
        self._ended_users = -1  #: users of the snapshot whose end was read
        self._synced: dict[int, int] = {}  #: bytes of segments that were wholly on the disk
        self._failure = ""  #: why the file that was read last could not be
        self._snapshots, self._segments = folder.kept("snapshot"), folder.kept("journal")
        self._heads = {kept: self._read_head(kept) for kept in [*self._snapshots, *self._segments]}
        self._shifts = self._find_shifts()
        self._began_s = time.monotonic()
        self._done_bytes = 0
        self._total_bytes = max(1, sum(self._size(kept) for kept in self._expected()))

    # Progress

    @property
    def done(self) -> float:
        """How much of it has been read, 0 to 1."""
        return min(1.0, self._done_bytes / self._total_bytes)

    @property
    def left_s(self) -> float:
        """How long the rest will take, about."""
        taken_s = time.monotonic() - self._began_s
        return taken_s / self.done * (1 - self.done) if self.done else 0.0

    # The host of the replay

    def open(self, name: bytes) -> Index:
        """Return the index of a site, with limits that suit what is read: see `_finish`."""
        index = self._sites.open(name)
        index.relax(True)
        return index

    def noted(self, text: bytes) -> None:
        """Take note of the end of a snapshot, of segments that were synced, and of what others have noted."""
        word, *numbers = text.split(b" ")
        if word == b"end" and len(numbers) == 1 and numbers[0].isdigit():
            self._ended_users = int(numbers[0])
        elif word == b"synced" and len(numbers) == 2 and all(map(bytes.isdigit, numbers)):
            self._synced[int(numbers[0])] = int(numbers[1])
        elif word == b"forgotten" and len(numbers) == 2 and all(map(bytes.isdigit, numbers)):
            self.report.forgotten_before = int(numbers[0]), int(numbers[1])
        elif (told := forgotten.told_by(text)) is not None:
            self._forget(*told)
        elif word not in (b"end", b"synced", b"forgotten"):
            self.report.noted = text

    def _forget(self, name: bytes, user: bytes, at_ms: int) -> None:
        index = self._sites.get(name)
        if index is not None:
            with suppress(RangeError):  # nobody is here whose name is longer than the limit is now
                index.forget(user, now_ms=self._now_ms())
        self.report.forgotten[name, user] = at_ms

    # Reading

    def pieces(self) -> Iterator[None]:
        """Read everything, resting after each piece. O(bytes). Raises StateError."""
        self._sites.budget.limit_bytes = self._max_memory * MEMORY_PERCENT // 100
        yield from self._read_state_file()
        begun = 0
        for kept in reversed(self._snapshots):
            if kept.is_damaged:
                continue
            if (yield from self._read_snapshot(kept)):
                begun = kept.number
                break
        yield from self._read_journal([kept for kept in self._segments if kept.number >= begun], begun)
        yield from self._order()
        self._finish()

    def _read_state_file(self) -> Iterator[None]:
        """Read a state file that was taken over and that no snapshot has replaced yet."""
        path = self._folder.state_file
        if path.exists():
            loading = state.Loading(path, self._sites, self._now_ms, clock_step_ms=self._clock_step_ms)
            yield from loading.pieces()
            self.report.taken_over = loading.loaded
            if loading.loaded.damage:
                self._damaged(Kept(path, "", 0, False), loading.loaded.damage)

    def _read_snapshot(self, kept: Kept) -> Generator[None, None, bool]:
        """Read a snapshot; return whether it is complete."""
        self._ended_users = -1
        self.report.forgotten_before = (0, 0)
        end = yield from self._read(kept)
        if end == self._size(kept) and self._ended_users >= 0 and not self._failure:
            head = self._heads[kept]
            report = self.report
            report.snapshot, report.snapshot_bytes, report.snapshot_users = kept, end, self._ended_users
            report.snapshot_ms = head.created_ms if head else 0
            return True
        self._damaged(kept, self._failure or f"bytes have changed, or are missing, from byte {end} on")
        return False

    def _read_journal(self, segments: list[Kept], begun: int) -> Iterator[None]:
        """Read segments in order; the first is to be `begun`, or any if that is 0."""
        expected = begun or (segments[0].number if segments else 0)
        ends: list[tuple[Kept, int, int]] = []
        for kept in segments:
            self.report.missing += range(expected, kept.number)
            expected = kept.number + 1
            end, size = (yield from self._read(kept)), self._size(kept)
            self.report.journal_bytes += size
            what = self._failure
            if not what and end < size and (yield from self._has_records(kept, end, size)):
                what = f"record at byte {end} is bad; the segment is left out from there on"
            what = what or self._why_lost(kept, size)
            if what:
                self._damaged(kept, what)
            else:
                ends.append((kept, end, size))
            if self._is_unfinished(kept, size) and self._sets_aside:
                self._folder.discard(kept)
        for kept, end, size in ends:
            if end < self._synced.get(kept.number, 0):
                self._damaged(kept, f"its end is lost: {end} of {self._synced[kept.number]} bytes can be read")
            elif end < size:
                self.report.torn[kept.path] = size - end

    def _why_lost(self, kept: Kept, size: int) -> str:
        """Say why a segment without any record must have lost some; "" if it need not."""
        if self._heads[kept] is not None or self._is_unfinished(kept, size):
            return ""
        return "its head is damaged, and no record can be read" if size else "it is empty"

    def _is_unfinished(self, kept: Kept, size: int) -> bool:
        """Whether a crash cut the making of this segment off."""
        others = [each.number for each in [*self._snapshots, *self._segments] if each is not kept]
        is_last = not kept.is_damaged and kept.number > max(others, default=0)
        return self._heads[kept] is None and is_last and size <= HEAD_BYTES and not self._failure

    def _read(self, kept: Kept) -> Generator[None, None, int]:
        """Apply the records of a file; return where the good ones end."""
        replay, records = self._replay, self._replay.records
        replay.clock_step_ms = self._clock_step_ms - self._shifts.get(kept, 0)
        place, wanted = HEAD_BYTES, CHUNK_BYTES
        self._failure = ""
        try:
            with kept.path.open("rb", buffering=0) as file:
                while True:
                    data = os.pread(file.fileno(), wanted, place)
                    used = replay.feed(data, kept.number, place, now_ms=self._now_ms())
                    place += used
                    self._done_bytes += used
                    yield
                    if used:
                        wanted = CHUNK_BYTES
                    elif replay.is_bad or len(data) < wanted or wanted > CHUNK_BYTES:
                        break
                    else:  # a record that is longer than a chunk
                        wanted = RECORD_HEAD_BYTES + int.from_bytes(data[:4], "little")
        except OSError as error:
            self._failure = f"cannot be read: {error.strerror}"
        size = self._size(kept)
        self.report.sizes[kept.path] = (size, replay.records - records)
        if self._heads[kept] is None and place > HEAD_BYTES:
            self._failure = self._failure or "its head is damaged; the records behind it were read"
        return place if size >= HEAD_BYTES else 0

    def _has_records(self, kept: Kept, begin: int, size: int) -> Generator[None, None, bool]:
        """Whether a good record stands anywhere from `begin` on."""
        try:
            with kept.path.open("rb", buffering=0) as file:
                for base in range(begin, size, SEARCHED_BYTES):
                    data = os.pread(file.fileno(), SEARCHED_BYTES + len(_FIRST_FRAME) - 1, base)
                    found = data.find(_FIRST_FRAME)
                    while found >= 0:
                        if self._is_record(file.fileno(), kept.number, base + found - RECORD_HEAD_BYTES):
                            return True
                        found = data.find(_FIRST_FRAME, found + 1)
                    yield
        except OSError:
            pass
        return False

    def _is_record(self, fd: int, number: int, place: int) -> bool:
        if place < HEAD_BYTES:
            return False
        n_bytes = int.from_bytes(os.pread(fd, 4, place), "little")
        if n_bytes > MAX_RECORD_BYTES:
            return False
        return frames_of(os.pread(fd, RECORD_HEAD_BYTES + n_bytes, place), number, place) is not None

    def _order(self) -> Iterator[None]:
        """Bring all indexes back in order, in a thread: it takes a second for ten million users."""

        def order() -> None:
            for _, index in list(self._sites.items()):
                index.relax(False)

        thread = threading.Thread(target=order, name="order names")
        thread.start()
        while thread.is_alive():
            thread.join(ORDER_REST_S)
            yield

    def _damaged(self, kept: Kept, what: str) -> None:
        """Take note of damage, and set the file aside."""
        path = self._folder.set_aside(kept) if self._sets_aside else kept.path
        self.report.damage.append(Damage(path, what))

    def _finish(self) -> None:
        """Restore limits, peaks and totals.

        While records are applied, some users stand where a snapshot saw them and others where they were when it began:
        together on up to twice the pages that there ever were. And who left was online before, though that is not
        always told. In the end everybody stands where they were last.
        """
        self._sites.budget.limit_bytes = self._max_memory
        now_ms, totals = self._now_ms(), self._replay.totals()
        for name, index in self._sites.items():
            index.expire(now_ms=now_ms)
            if name in totals:
                self._restore(index, *totals[name], now_ms)
        report, replay = self.report, self._replay
        report.users = self._sites.statistics().users
        report.refused, report.n_applied, report.records = replay.refused, replay.n_applied, replay.records
        if replay.n_applied:
            report.first_ms, report.last_ms = replay.first_ms, replay.last_ms
        self._done_bytes = self._total_bytes
        self.is_done = True

    def _restore(self, index: Index, noted: list[int], n_since: int, now_ms: int) -> None:
        """Let totals be as noted last, with the hits and leaves since, which were accepted."""
        peak, peak_at_ms, accepted, late, stale, skewed, refused, *full = noted
        people = index.count(now_ms=now_ms)
        if people > peak:
            peak, peak_at_ms = people, now_ms + self._clock_step_ms
        max_users, max_pages, max_memory = full
        statistics = index.statistics()._replace(
            accepted=accepted + n_since,
            late=late,
            stale=stale,
            skewed=skewed,
            refused=refused,
            max_users_reached=max_users,
            max_pages_reached=max_pages,
            max_memory_reached=max_memory,
        )
        index.restore(peak=peak, peak_at_ms=peak_at_ms - self._clock_step_ms, statistics=statistics)

    # Files

    def _expected(self) -> list[Kept]:
        """What will be read, if the newest snapshot is good."""
        good = [kept for kept in self._snapshots if not kept.is_damaged][-1:]
        begun = good[0].number if good else 0
        return good + [kept for kept in self._segments if kept.number >= begun]

    def _size(self, kept: Kept) -> int:
        for path in (kept.path, kept.path.with_name(f"{kept.path.name}.damaged")):
            try:
                return path.stat().st_size
            except OSError:
                continue
        return 0

    def _read_head(self, kept: Kept) -> Head | None:
        try:
            with kept.path.open("rb") as file:
                return read_head(kept, file.read(HEAD_BYTES))
        except OSError:
            return None

    def _find_shifts(self) -> dict[Kept, int]:
        """Return by how much the wall clock was set, as servers saw it, after each file was begun."""
        shifts: dict[Kept, int] = {}
        later: Head | None = None
        shift = 0
        files = sorted([*self._snapshots, *self._segments], key=lambda kept: (kept.number, kept.kind != "snapshot"))
        for kept in reversed(files):
            head = self._heads[kept]
            if head is None:
                continue
            if later is not None and later.run == head.run:
                shift += later.step_ms - head.step_ms
            elif later is not None:
                shift += later.step_ms
            shifts[kept] = shift
            later = head
        return shifts
