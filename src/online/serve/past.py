"""The past of all sites: minutes of history, visitors, and where members were last seen.

Its job: to close a minute when it is over, to have it written, to read what is asked of it, and to forget. Not its job:
what is noted while hits come in (core/past), and the file (keep/history). Without a state directory the history is in
memory, of the last 30 hours; there is no `last` then.

One thread writes and another reads: nobody's turn waits for the disk. A verb that asks gets a Future, which is done in
the thread of the server.

Invariants:
1. A minute is that of wall time. It is written once by each process, when it is over or the server ends. A minute in
   which no server ran is absent. One that the wall clock went through twice is one row.
2. Minutes that somebody's setting of the clock skipped have the counts of that moment and no hits, up to a day of them:
   the server was there.
3. What is written was noted before what is asked: a reader waits for minutes that are under way.
4. Who is forgotten is noted in the file first, and is known there until no other file and no bus has that user. Until
   then no late session is taken for where the user was last seen.
5. What was before FORGET, and what came later, is a matter of order, not of time: a hit that comes later may have been
   seen before. So journal and bus have FORGET among the hits, at its place. Only where the journal lacks it, as the
   process ended just then or the disk failed, is what was seen up to that time erased at the start.
"""

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

import trio

from online.core.index import Index
from online.core.past import Past
from online.core.sites import Sites
from online.core.wire import Service
from online.errors import FullError, RangeError, StateError
from online.keep import forgotten
from online.keep.folder import HISTORY
from online.keep.history import DAY, HOUR, MINUTE_MS, Forgotten, History, Minute, Row, set_aside
from online.keep.recovery import Report
from online.serve.config import Config
from online.serve.connections import replied
from online.serve.parts import Part
from online.serve.slices import Slices
from online.serve.verb import Lines
from online.terms import SEEN_MAX_MS

logger = logging.getLogger("online")

#: Without a state directory.
MEMORY_DAYS = 30 / 24

#: Minutes between two looks for what is kept no longer.
PRUNE_MINUTES = 60

#: Seconds of sessions that are looked through at once, at the start.
REVISITED_MS = 1_000

T = TypeVar("T")
R = TypeVar("R")


class Purging(Protocol):
    """What can write all files anew, without who was forgotten."""

    report: Report  #: of the start

    def purge(self, number: int, taken: Callable[[], Awaitable[None]], done: Callable[[], None]) -> None: ...


class PastKeeper(Part):
    """The part of a server that knows what was."""

    name = "past"

    def __init__(
        self,
        config: Config,
        sites: Sites,
        service: Service,
        now_ms: Callable[[], int],
        slices: Slices,
        *,
        purging: Purging | None = None,
    ) -> None:
        """Nothing is opened yet."""
        self.config = config
        self.keeps_last = config.last_seen > 0
        self.errors = 0
        self.last_error = ""
        self.minutes = 0  #: written by this process, of all sites
        self._sites = sites
        self._service = service
        self._now_ms = now_ms
        self._slices = slices
        self._purging = purging
        self.share: Callable[[bytes, list[bytes], int], object] = lambda site, users, at_ms: None  #: with other servers
        self.all_know: Callable[[], bool] = lambda: True  #: that all was shared
        self._pasts: dict[bytes, Past] = {}
        self._minute = -1  #: that is open; -1: none is
        self._step_ms = 0
        self._writer: History | None = None
        self._reader: History | None = None
        self.writing: Executor = ThreadPoolExecutor(1, "history writer")
        self.reading = self.writing if config.state is None else ThreadPoolExecutor(1, "history reader")
        self.in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync  #: makes calls that wait for the disk
        self._written: Future[None] | None = None
        self._token: trio.lowlevel.TrioToken | None = None  #: of the thread of the server
        for name, index in sites.items():
            self._follow(index, name)
        sites.opened.append(self._follow)

    @property
    def days(self) -> float:
        """How long history is kept."""
        return min(self.config.history, MEMORY_DAYS) if self.config.state is None else self.config.history

    # The life of a part

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the file. Raises StateError."""
        self._token = trio.lowlevel.current_trio_token()
        await self.in_thread(self._open)
        if self._service.loading is None:  # all that is kept was read, as it was little
            for _ in self._revisit(await self._known_visitors()):
                pass
        try:
            yield
        finally:
            self._note_end()
            with trio.CancelScope(shield=True):
                await self.in_thread(self._close)

    async def load(self) -> None:
        """Let the sketches of this hour have seen who came before, and finish what a server before could not.

        Nobody is answered until they have: a row that is written before would count too few visitors of its hour.
        """
        if self._minute < 0:
            waits = self._service.loading is None
            if waits:
                self._service.loading = "the history is being read"
            try:
                await self._slices.finish("past", self._revisit(await self._known_visitors()))
            finally:
                if waits:
                    self._service.loading = None
        await self._forget_again()

    async def _known_visitors(self) -> dict[bytes, bytes | None]:
        """Begin the first minute. Return the sketches that the file has of its hour, by site."""
        self._begin()
        if self._writer is None:
            return {}
        hour = self._minute - self._minute % HOUR
        found = self._ask(lambda history: {name: history.sketch(name, hour) for name in history.sites()}, _found)
        await replied(found)
        return found.result()

    async def run(self) -> None:
        """Close minutes, and have written who has gone, for ever."""
        while True:
            await trio.sleep(1 - self._now_ms() % 1000 / 1000)
            await self._tick()

    def told(self) -> Iterator[str]:
        """Say what is lost at the end."""
        if self.config.state is None and self.config.history:
            yield "history of the last 30 hours is in memory alone, and lost at the end; --state keeps it"

    def info(self) -> Mapping[str, Lines]:
        """Return the section `history`."""
        return {"history": self._lines}

    def _lines(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "history_days", f"{self.days:g}"
        yield "last_seen_days", self.config.last_seen
        yield "history_minutes", self.minutes
        yield "history_errors", self.errors
        yield "last_history_error", self.last_error
        yield "last_seen_lost", sum(past.lost for past in self._pasts.values())

    # Beginning and end

    def _open(self) -> None:
        path = None if self.config.state is None else self.config.state / HISTORY
        try:
            try:
                self._writer = History(path)
            except sqlite3.DatabaseError as error:
                if path is None or isinstance(error, sqlite3.OperationalError):
                    raise
                kept = set_aside(path)
                logger.warning("%s is damaged (%s); kept as %s; a new one is begun", path, error, kept.name)
                self._writer = History(path)
            self._reader = self._writer if path is None else History(path, reads_only=True)
        except (sqlite3.Error, OSError) as error:
            if self.config.on_disk_error == "refuse":
                raise StateError(f"history {path} cannot be opened: {error}") from None
            self._failed(error)

    def _follow(self, index: Index, name: bytes) -> None:
        past = self._pasts[name] = Past(index, keeps_last=self.keeps_last)
        if self._minute >= 0:
            self._begin_minute(past, self._now_ms())

    def _begin(self) -> None:
        """Begin the first minute."""
        if self._minute >= 0:
            return
        now_ms = self._now_ms()
        self._minute, self._step_ms = self._service.wall_of(now_ms) // MINUTE_MS, self._service.clock_step_ms
        for past in self._pasts.values():
            self._begin_minute(past, now_ms)

    def _begin_minute(self, past: Past, now_ms: int) -> None:
        minute, ten, hour = (self._index_ms(self._minute - self._minute % level) for level in (1, 10, HOUR))
        past.begin(minute, ten, hour, now_ms=now_ms)

    def _index_ms(self, minute: int) -> int:
        return minute * MINUTE_MS - self._step_ms

    def _revisit(self, kept: dict[bytes, bytes | None]) -> Iterator[None]:
        """Add to the sketches of this hour what is known of it: those of the file, and who is online."""
        hour = self._minute - self._minute % HOUR
        begin_ms, now_ms = self._index_ms(hour), self._now_ms()
        for name, past in list(self._pasts.items()):
            if (found := kept.get(name)) is not None:
                past.merge_sketch(found)
            yield
            since_ms = max(begin_ms, now_ms - self._sites.window_s * 1000)
            for from_ms in range(since_ms, now_ms, REVISITED_MS):
                past.revisit(from_ms, from_ms + REVISITED_MS)
                if from_ms // REVISITED_MS % 16 == 0:
                    yield

    def _note_end(self) -> None:
        """Have written what is known of the minute that is open, and who has gone."""
        if self._follow in self._sites.opened:
            self._sites.opened.remove(self._follow)
        if self._minute >= 0:
            self._write([self._taken(name, past) for name, past in self._pasts.items()])
            self._write_gone()
        for past in self._pasts.values():
            past.close()

    def _close(self) -> None:
        """Close the file when everything was written. Waits for the disk."""
        self.writing.shutdown()
        self.reading.shutdown()
        for history in (self._reader, self._writer):
            if history is not None:
                history.close()

    # Minutes

    async def _tick(self) -> None:
        """Do what is due in this second."""
        self._write_gone()
        minute = self._service.wall_of(self._now_ms()) // MINUTE_MS
        if minute != self._minute:
            await self._slices.finish("past", self._turn_minute(minute))
            if minute % PRUNE_MINUTES == 0:
                self._submit(self._prune, self._service.wall_of(self._now_ms()))
                await self._purge_again()

    def _turn_minute(self, minute: int) -> Iterator[None]:
        """Close the open minute on all sites, a site a piece, and begin another."""
        step_ms = self._service.clock_step_ms
        skipped = min(minute - self._minute - 1, (step_ms - self._step_ms) // MINUTE_MS, DAY)
        taken = []
        pasts = list(self._pasts.items())
        closed, self._minute, self._step_ms = self._minute, minute, step_ms
        for name, past in pasts:
            site = self._taken(name, past, closed)
            self._begin_minute(past, self._now_ms())
            taken.append(site)
            if skipped > 0:
                people, members, guests, bots, *_ = past.so_far()
                for nth in range(minute - skipped, minute):
                    level = Minute(nth, people, members, guests, bots, 0, 0, 0, 0, nth * MINUTE_MS)
                    taken.append((name, level, None))
            yield
        self.minutes += len(taken)
        self._write(taken)

    def _taken(self, name: bytes, past: Past, minute: int | None = None) -> tuple[bytes, Minute, bytes | None]:
        minute = self._minute if minute is None else minute
        noted = past.so_far()
        most_at_ms = noted[8] + self._service.clock_step_ms
        return name, Minute(minute, *noted[:8], most_at_ms), past.take_sketch()

    # Writing, in the thread

    def _submit(self, work: Callable[..., None], *args: object) -> Future[None]:
        def do() -> None:
            try:
                work(*args)
            except (sqlite3.Error, OSError) as error:
                self._failed(error)

        return self.writing.submit(do)

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        if str(error) != self.last_error:
            logger.error("history cannot be written: %s", error)
        self.last_error = str(error)

    def _write(self, taken: list[tuple[bytes, Minute, bytes | None]]) -> None:
        if self._writer is None or not self.config.history:
            return
        rows = [(name, minute) for name, minute, _ in taken]
        sketches = [(name, minute.at, sketch) for name, minute, sketch in taken if sketch is not None]
        self._written = self._submit(self._writer.add, rows, sketches)

    def _write_gone(self) -> None:
        """Have written who has gone since the last time."""
        if self._writer is None or not self.keeps_last:
            return
        for name, past in self._pasts.items():
            gone = past.take_gone(self._service.clock_step_ms)
            if gone is not None:
                self._submit(self._writer.add_last, name, gone)

    def _prune(self, wall_ms: int) -> None:
        if self._writer is not None:
            self._writer.prune(wall_ms, days=self.days, last_days=self.config.last_seen)

    # Asking

    def _ask(
        self, work: Callable[[History], T], then: Callable[[T], R], *, writes: bool = False
    ) -> Future[R]:
        """Have `work` done in a thread, and `then` with what it gave in this one, which gives the reply.

        Raises StateError, now or as the result, if there is no history to be read.
        """
        history, written, token = self._writer if writes else self._reader, self._written, self._token
        if history is None or token is None:
            raise StateError(f"the history cannot be read: {self.last_error}")
        answer: Future[R] = Future()

        def do() -> T:
            if written is not None:
                written.result()
            try:
                return work(history)
            except sqlite3.Error as error:
                self._failed(error)
                raise StateError(f"the history cannot be read: {error}") from None

        def settle(done: Future[T]) -> None:
            try:
                answer.set_result(then(done.result()))
            except Exception as error:
                answer.set_exception(error)

        def hand_over(done: Future[T]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(settle, done)

        threads = self.writing if writes else self.reading
        threads.submit(do).add_done_callback(hand_over)
        return answer

    def rows(self, site: bytes, from_ms: int, to_ms: int, step_ms: int) -> Future[list[Row]]:
        """Return the history of complete minutes."""
        return self._ask(lambda history: history.rows(site, from_ms, to_ms, step_ms), _found)

    def peak(self, site: bytes, since_ms: int) -> Future[tuple[int, int]]:
        """Return the most people at once since a time (wall time), and when that was."""

        def with_now(found: tuple[int, int]) -> tuple[int, int]:
            peaks = [found]
            if site in self._pasts:
                for people, at_ms in (self._pasts[site].most(), self._sites[site].peak()):
                    if people and self._service.wall_of(at_ms) >= since_ms:
                        peaks.append((people, self._service.wall_of(at_ms)))
            return max(peaks, key=lambda each: (each[0], -each[1]))

        return self._ask(lambda history: history.peak(site, since_ms), with_now)

    def last(
        self, site: bytes, users: list[bytes], then: Callable[[list[tuple[bytes, int] | None]], R]
    ) -> Future[R]:
        """Return what `then` makes of where each user was last seen, of those who have left the window by now."""
        self._write_gone()
        written = self.writing.submit(lambda: None)

        def look(history: History) -> list[tuple[bytes, int] | None]:
            if self.reading is not self.writing:
                written.result()
            return history.last(site, users)

        return self._ask(look, then)

    # Forgetting

    def forget(self, site: bytes, users: list[bytes]) -> Future[int]:
        """Erase users: from where members were last seen, from memory, and from all files as soon as can be.

        Returns how many were known. The others on a bus are told.
        """
        when_ms = self._service.wall_of(self._now_ms())

        def erase(found: tuple[list[bool], int]) -> int:
            known, number = found
            here = [self._erase(site, user, when_ms, until_ms=SEEN_MAX_MS) for user in users]
            self.share(site, users, when_ms)
            self._purge(number)
            return sum(map(any, zip_longest(known, here)))

        return self._ask(lambda history: history.forget(site, users, when_ms), erase, writes=True)

    def forget_as_told(self, site: bytes, user: bytes, at_ms: int, *, is_own: bool) -> bool:
        """Erase a user as of now, because a bus says so at this place: who came since `at_ms` (wall time) stays.

        Returns whether the user was here. `is_own`: we have told that, and do it again, as hits of others may have come
        between. Raises StateError.
        """
        was_here = self._erase(site, user, at_ms, until_ms=at_ms)
        if was_here or not is_own:
            self._ask(
                lambda history: history.forget(site, [user], at_ms, at_ms),
                lambda found: self._purge(found[1]),
                writes=True,
            )
        return was_here

    def _erase(self, site: bytes, user: bytes, at_ms: int, *, until_ms: int) -> bool:
        """Erase a user who was seen up to a time from an index; return whether there was one. Who left goes anyway.

        The journal is told where that was. It and the bus are told that the user left, too, for readers who know hits
        and leaves alone.
        """
        index, now_ms = self._sites.get(site), self._now_ms()
        found = None
        with suppress(RangeError):  # who told may have longer names
            found = None if index is None else index.last(user, now_ms=now_ms)
        if index is not None and found is not None:
            if found[2] != "departed" and self._service.wall_of(found[1]) > until_ms:
                return False
            index.forget(user, now_ms=now_ms)
            with suppress(FullError):
                index.leave(user, now_ms=now_ms)
            index.forget(user, now_ms=now_ms)
        if self._service.journal is not None:
            self._service.journal.note(forgotten.text(site, user, at_ms))
        return found is not None

    async def _forget_again(self) -> None:
        """Finish, at the start, what the server before could not."""
        listed, number = await self._forgotten()
        report = self._purging.report if self._purging is not None else Report()
        noted, (number_before, before_ms) = report.forgotten, report.forgotten_before
        for each in listed:
            if each.is_settled:
                continue
            is_erased = each.number <= number_before and each.at_ms <= before_ms  # numbers are given again
            if not is_erased and noted.get((each.site, each.user), -1) < each.at_ms:
                self._erase(each.site, each.user, each.at_ms, until_ms=each.at_ms)
            self.share(each.site, [each.user], each.at_ms)  # a crash may have kept the others from being told
        if listed or noted:
            self._purge(number)

    async def _purge_again(self) -> None:
        """Write all files anew when a bus can bring nobody back any more."""
        listed, number = await self._forgotten()
        if listed and min(each.at_ms for each in listed) < self._known_until_ms():
            self._purge(number)

    async def _forgotten(self) -> tuple[list[Forgotten], int]:
        if self._writer is None:
            return [], 0
        found = self._ask(History.forgotten, _found, writes=True)
        await replied(found)
        return found.result()

    def _known_until_ms(self) -> int:
        """Return as of when nothing but files can bring anybody back. A bus keeps hits for twice the window."""
        if self.config.bus is None:
            return SEEN_MAX_MS
        return self._service.wall_of(self._now_ms()) - 2 * self._sites.window_s * 1000

    def _purge(self, number: int) -> None:
        """Have all files written anew, without those who are to be forgotten, up to `number`."""
        purged = partial(self._purged, number)
        if self._purging is None:
            purged()
        else:
            self._purging.purge(number, partial(self._settle, number), purged)

    async def _settle(self, number: int) -> None:
        """Take note, before files are deleted, that the order of hits and FORGET is kept by what is left."""
        if self._writer is not None and self.all_know():
            await self.in_thread(self._submit(self._writer.settle, number).result)

    def _purged(self, number: int) -> None:
        if self._writer is not None:
            self._submit(self._writer.purged, number, self._known_until_ms())


def _found(found: T) -> T:
    """Let what a thread has found be the reply."""
    return found
