"""The part of a server that makes it a full replica: it publishes every hit that it takes, and applies all others'.

    load    read the window from the bus, while clients get LOADING
    run     read what is published; publish; after a gap, publish everybody we know

Not its job: how hits get to the bus (publisher), and what entries do (follower, where it is said why echoes, duplicates
and any order are harmless).

What heals a gap. An index is a set of newest hits, so whoever publishes all sessions that it has (a dump) brings all
replicas up to what it knows, at no risk. That is done whenever hits may be missing on the bus: hits were dropped while
it was away, it was started again empty or lost its end, the state directory has users that a crash kept from being
published, the stream does not reach back a whole window. Who may have missed entries itself (the stream was trimmed
past its place) calls, and all others publish a dump.

Invariants:
1. What comes from the bus is not published again: the trail is paused while it is applied.
2. While the bus is away the server answers, and takes hits. With --bus-ack yes it refuses hits then, and an answer to a
   hit leaves when the bus has the hit.
3. Times on the bus follow the clock of the bus. Where the server's own differs by more than CLOCK_MS, its times are
   changed on the way.
"""

import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import trio

from online import partitions
from online.bus import engines, told
from online.bus.echoes import Echoes
from online.bus.entries import (
    BEGINNING,
    DUMP,
    TRIM_EVERY_S,
    Bus,
    BusError,
    Entry,
    Look,
    order,
    time_of,
    were_trimmed,
)
from online.bus.follower import Follower
from online.bus.forgetting import Forgetting, Past
from online.bus.gate import Answers, Gate
from online.bus.places import Keeping, Places
from online.bus.publisher import Publisher
from online.core.frames import dump
from online.core.index import Index
from online.core.journal import site
from online.core.observers import Trail
from online.core.sites import Sites
from online.core.wire import Service
from online.errors import StateError
from online.serve.config import Config
from online.serve.parts import Part
from online.serve.slices import Slices
from online.serve.verb import Lines

logger = logging.getLogger("online")

#: Entries that are read at once: while the window is read, and then.
REPLAYED_ENTRIES, FOLLOWED_ENTRIES = 1_000, 200

#: How long an answer without entries may take: so often we look what the log is like, even if nothing comes.
LOOK_MS = 1_000

#: Two clocks that differ by less are the same. Index time may be half a second from the wall clock.
CLOCK_MS = 1_000

#: A gap in time between entries from which on we look whether our place is still there.
JUMP_MS = 100

#: How long a start waits for a bus that does not answer, if the state directory has nearly all that stands there.
START_S = 3.0

#: How long a hit waits for a bus that does not take it, with --bus-ack yes.
ACK_S = 5.0

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0

#: How often it is noted in the state directory how far that goes.
NOTE_S = 1.0

#: So much before the end of a state directory is read again: a bus that failed over may have given places anew.
MARGIN_MS = 30_000

#: The least time from one dump to the next.
DUMP_REST_S = 1.0


class Keeper(Answers, Keeping, Protocol):
    """Who writes the state directory (serve/keeper.py)."""


class Replica(Part):
    """See above."""

    name = "bus"

    def __init__(
        self,
        config: Config,
        sites: Sites,
        service: Service,
        now_ms: Callable[[], int],
        slices: Slices,
        *,
        keeper: Keeper | None = None,
        past: Past | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called when answers may leave. Raises ConfigError."""
        if config.bus is None:
            raise ValueError("there is no bus")
        self.url = engines.check_url(config.bus)
        self._connected = partial(
            engines.connected, self.url, partition=config.partition, window_s=config.window_s
        )
        self.source = os.urandom(8).hex().encode()  #: how we sign what we publish
        self.trail = Trail()
        self.publisher = Publisher(self.source, self.trail)
        self.publisher.taken, self.publisher.sent = self._taken, self._sent
        self.publisher.failed, self.publisher.lost = self._not_sent, self._lost
        self._echoes = Echoes()
        self.follower = Follower(sites, self.source, now_ms, echoes=self._echoes)
        self.forgetting = Forgetting(
            past, self._echoes, self.trail.note, lambda: self.clock_offset_ms, lambda: self.place
        )
        self.follower.forget_by(self.forget)
        self.place = BEGINNING  #: of the entry that was applied last
        self._given = BEGINNING  #: of the entry of ours that the bus took last
        self._lacks_ours = False  #: the log ended before that when we looked
        self.is_away = True  #: it was not read when we tried last
        self._reading_error = ""  #: why
        self._healing_error = ""  #: why it did not take what heals a gap
        self._is_refusal_told = False
        self._stuck_s: float | None = None  #: since when it takes nothing
        self.retries = self.gaps = self.dumps = 0
        self.clock_offset_ms = 0  #: of the bus less ours, if it matters
        self.waits = config.bus_ack == "yes"
        self._taken_turn = 0  #: of the journal, when hits were taken to be sent
        self._sites, self._service, self._now_ms, self._slices = sites, service, now_ms, slices
        self._gate: Answers | None = (keeper or Gate(wake)) if self.waits else None
        self._own_journal = self.waits and keeper is None
        self._places = Places(keeper, self._what_is_taken(config)) if keeper is not None else None
        self._seen_s = -1.0  #: when the bus answered last
        self._look_s = self._trim_s = 0.0
        self._begun_s = 0.0
        self._wait_s = float(config.bus_wait_s)
        self._look: Look | None = None
        self._level: tuple[int, int] | None = None  #: entries of the log, and applied ones, when there was no lag
        self._is_ready = False
        self._kept: bytes | None = None  #: where the state directory ends
        self._is_dump_wanted = False
        self._dump_wanted = trio.Event()
        self._calls = 0  #: that a dump has answered
        self._is_call_wanted = False
        self._warned: set[str] = set()
        self._refusal: str | None = None
        self._has_loaded = False
        self._knows_window = False  #: of its own
        self.before_ready: Callable[[], Awaitable[None]] | None = None  #: reads what else must be there

    def _what_is_taken(self, config: Config) -> str:
        """Say what of a bus a server takes."""
        owners = partitions.read(config.map).layout(config.partition) if config.map is not None else ""
        where = engines.shown(self.url), config.partition, owners
        return repr((*where, config.window_s, sorted(config.sites), config.limits))

    # The life of a part

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Observe all sites. Until `load` has ended nobody is answered."""
        self.trail.is_paused = True
        for name, index in self._sites.items():
            self._opened(index, name)
        self._sites.opened.append(self._opened)
        if self._own_journal and self._gate is not None:
            self._service.journal = self._gate.journal
        if self._gate is not None:
            self._gate.journal.waits_for_bus = True
        if self._service.loading is None:
            self._service.loading = "the bus is being read"
        try:
            yield
        finally:
            self._sites.opened.remove(self._opened)
            self.trail.close()
            if self._own_journal:
                self._service.journal = None

    def _opened(self, index: Index, name: bytes) -> None:
        self.trail.follow(index, site(name))
        if self._own_journal and self._gate is not None:
            self._gate.journal.follow(index, name)

    async def load(self) -> None:
        """Read the window. A bus that cannot be read is not waited for longer than --bus-wait."""
        self._service.loading = "the bus is being read"
        if self._sites.statistics().users:
            self._want_dump()  # a crash may have kept some of them from being published
        self._begun_s = self._seen_s = trio.current_time()
        self._kept = self._places.kept() if self._places is not None else None
        wall_ms = self._service.wall_of(self._now_ms())
        if self._kept is not None and wall_ms - time_of(self._kept) <= 1000 * self._wait_s:
            self._wait_s, self._knows_window = min(START_S, self._wait_s), True  # it lacks no more than it would wait
        until_s, n_read, pause_s = self._seen_s + self._wait_s, 0, FIRST_PAUSE_S
        while not self._is_ready:
            try:
                await self._connected(self._catch_up)
            except BusError as error:
                self._failed(error)
                if self.follower.entries > n_read:
                    until_s, n_read = trio.current_time() + self._wait_s, self.follower.entries
                left_s = until_s - trio.current_time()
                if left_s <= 0:
                    break
                if self.retries == 1:
                    logger.warning("bus %s: waiting for it, %.0f s at most", engines.shown(self.url), left_s)
                self._service.loading = f"the bus cannot be read, without it in {left_s:.0f} s (--bus-wait)"
                await trio.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if not self._is_ready:
            logger.warning("bus %s: serving without it until it answers", engines.shown(self.url))
        if self.before_ready is not None:
            await self.before_ready()
        self._service.loading = None
        self._has_loaded = True
        self.forgetting.loaded()
        self.trail.is_paused = False

    async def run(self) -> None:
        """Read, publish and heal, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_up)
            nursery.start_soon(self.publisher.run, self._connected)
            nursery.start_soon(self._dump_when_wanted)
            nursery.start_soon(self._note_places)
            if self._gate is not None:
                nursery.start_soon(self._end_waits, self._gate)
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(1) as scope:
                    scope.shield = True
                    self._note_place()
                    await self._say_farewell()

    async def _say_farewell(self) -> None:
        """Publish what still waits."""
        rest = self.publisher.take_rest()
        if rest and not self.is_away:
            try:
                await self._connected(lambda bus: bus.publish(self.source, *rest))
            except BusError as error:
                logger.warning("bus: the newest hits are not on it: %s", error)

    def info(self) -> Mapping[str, Lines]:
        """Return the section `bus`."""
        return {"bus": lambda now_ms: told.lines(self)}

    def told(self) -> Iterator[str]:
        """Say which bus it is."""
        yield f"replica on the bus {engines.shown(self.url)}" + (", answers to hits wait for it" if self.waits else "")

    async def _note_places(self) -> None:
        """Note how far the state directory goes, for ever."""
        while self._places is not None:
            await trio.sleep(NOTE_S)
            self._note_place()

    def _note_place(self) -> None:
        if self._places is not None and self._is_ready:
            self._places.note(BEGINNING if self._is_call_wanted else self.place)

    # What is said of it

    @property
    def is_refused(self) -> bool:
        """The bus is read, and takes nothing."""
        return not self.is_away and (self.publisher.has_failed_again or bool(self._healing_error))

    @property
    def status(self) -> str:
        """Return how it is, in a word."""
        if self.is_away:
            return "away"
        if self.is_refused:
            return "refusing"
        return "ok" if self._is_ready else "reading"

    @property
    def error(self) -> str:
        """Return what is wrong now, and on which side."""
        if self.is_away and self._reading_error:
            return f"reading: {self._reading_error}"
        writing = self.publisher.error or self._healing_error
        return f"writing: {writing}" if writing else ""

    def unready(self) -> str | None:
        """Say why nobody should ask yet, though it answers: it has not read the window, nor been here for one."""
        if self._is_ready or self._knows_window:
            return None
        if trio.current_time() - self._begun_s >= self._sites.window_s:
            return None
        return "the bus was not read since the start, and users whom others know are missing"

    @property
    def lag_ms(self) -> int:
        """The age of the oldest hit that was not read from the bus yet, or not published yet."""
        return max(self.unread_ms, self.publisher.waiting_ms)

    # Reading

    @property
    def unread_ms(self) -> int:
        """How old the oldest entry may be that was not applied; while the bus is away, how long it has been."""
        if self.is_away or self._look is None:
            return round(1000 * (trio.current_time() - self._seen_s)) if self._seen_s >= 0 else 0
        if order(self._look.last) <= order(self.place):
            return 0
        return max(0, self._look.now_ms - time_of(self.place)) if self.place != BEGINNING else 0

    @property
    def is_healing(self) -> bool:
        """Something is still to be published to heal a gap."""
        return self._is_dump_wanted or self._is_call_wanted or self._calls != self.follower.calls

    @property
    def lag_entries(self) -> int:
        """Entries that were not applied when we looked last."""
        return max(0, self._not_applied(self._look)) if self._look is not None else 0

    def _not_applied(self, look: Look) -> int:
        """How many entries there are beyond those that were applied."""
        if self._level is None:
            return 0
        return look.added - self._level[0] - (self.follower.entries - self._level[1])

    async def _keep_up(self) -> None:
        """Read what is published, for ever."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = self.follower.entries
            try:
                await self._connected(self._follow if self._is_ready else self._catch_up)
                continue
            except BusError as error:
                self._failed(error)
            pause_s = FIRST_PAUSE_S if self.follower.entries != began else min(2 * pause_s, LONGEST_PAUSE_S)
            await trio.sleep(random.uniform(0.5, 1) * pause_s)

    async def _catch_up(self, bus: Bus) -> None:
        """Read the window, or what the state directory lacks of it, up to the end as it is now."""
        for warning in await bus.kept():
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("bus %s: %s", engines.shown(self.url), warning)
        look = await self._look_at(bus)
        since_ms = look.now_ms - 1000 * self._sites.window_s
        if self._kept is not None and order(self._kept) <= order(look.last):
            since_ms = max(since_ms, time_of(self._kept) - MARGIN_MS)
        self._kept = None
        begin = await bus.at(since_ms)
        if look.first == BEGINNING or order(look.first) > order(begin):
            # It does not reach back as far: because it is young, or because something was lost.
            if self._sites.statistics().users:
                self._want_dump()
            self._is_call_wanted = True
        self.place = max(self.place, begin, key=order)
        begin_ms, end = time_of(self.place), look.last
        began_s = trio.current_time()
        n_newer = 0
        entries = await bus.read(self.place, REPLAYED_ENTRIES) if order(self.place) < order(end) else []
        first_read = entries[0].place if entries else end
        while entries:  # none: the rest has been trimmed meanwhile
            self._answered()
            is_last = order(entries[-1].place) >= order(end)
            n_newer = sum(order(entry.place) > order(end) for entry in entries) if is_last else 0
            entries = await self._apply_and_read(bus, entries, 0 if is_last else REPLAYED_ENTRIES)
            done = (time_of(self.place) - begin_ms) / max(1, time_of(end) - begin_ms)
            left_s = (trio.current_time() - began_s) * (1 - done) / max(done, 0.001)
            if self._service.loading is not None:
                self._service.loading = f"{min(done, 1):.0%} read from the bus, about {left_s:.0f} s left"
        if not self.follower.entries:
            self.place = end
        self._level = (look.added, self.follower.entries - n_newer)
        now = await self._look_at(bus)
        if were_trimmed(look, first_read, now):
            self._missed("entries have gone while the window was read")
            if now.first == BEGINNING or order(now.first) > order(self.place):
                self.place = BEGINNING  # as when this is found later
        self._calls = self.follower.calls  # those of the past were answered
        self._is_ready = True

    async def _follow(self, bus: Bus) -> None:
        """Apply what comes, for ever. Raises BusError."""
        self._look_s = 0.0
        while True:
            if trio.current_time() - self._look_s >= LOOK_MS / 1000:
                self._check_place(await self._look_at(bus))
                await self._call_and_trim(bus)
            entries = await bus.read(self.place, FOLLOWED_ENTRIES, wait_ms=LOOK_MS)
            self._answered()
            begins_anew = False
            if entries and time_of(entries[0].place) - time_of(self.place) > JUMP_MS:
                begins_anew = self._check_place(await self._look_at(bus))
            before, end = order(self.place), order(self._look.last) if self._look is not None else order(BEGINNING)
            await self._apply(entries)
            if begins_anew:
                self.place = BEGINNING
            if self._look is not None and before < end <= order(self.place):
                self._compare(self._look, sum(order(entry.place) > end for entry in entries))
            if self.follower.calls > self._calls:
                self._calls = self.follower.calls
                self._want_dump()

    def _check_place(self, look: Look) -> bool:
        """See if the log goes on where we are; if not, begin to heal, and return that it is read from its beginning."""
        if order(look.last) < order(self.place) or self._lacks_ours:
            self._gap("it has lost its end, or was started again empty")
            self.place = self._given = BEGINNING
            self._want_dump()
            return True
        if look.first != BEGINNING and order(look.first) > order(self.place) and self.place != BEGINNING:
            self._missed("entries may have gone before we read them")
            # What is left is read from its beginning, and this gap is not seen again.
            self.place = BEGINNING
            return True
        if order(look.last) == order(self.place):
            self._compare(look)
        return False

    def _compare(self, look: Look, n_newer: int = 0) -> None:
        """See if as many entries were applied as the log was given, up to its end as we saw it.

        `n_newer` of those that were applied are behind that end.
        """
        entries = self.follower.entries - n_newer
        n_lacking = self._not_applied(look) + n_newer if self._level is not None else 0
        if n_lacking > 0:
            self._missed("entries have gone before we read them")
        elif n_lacking < 0:
            self._gap("it has lost entries that were read here")
            self._want_dump()
        self._level = (look.added, entries)

    def _missed(self, what: str) -> None:
        """Heal a gap of entries that were not read here: everybody publishes all sessions."""
        self._gap(what)
        self._want_dump()
        self._is_call_wanted = True

    def _gap(self, what: str) -> None:
        self.gaps += 1
        self._level = None
        logger.warning("bus %s: %s; publishing everybody who is known here", engines.shown(self.url), what)

    async def _call_and_trim(self, bus: Bus) -> None:
        """Ask for what is missing, and let go what nobody needs. A bus that takes nothing is read for all that."""
        try:
            if self._is_call_wanted:
                await bus.publish(self.source, b"")
                self._is_call_wanted = False
                self._healing_error = ""
            if trio.current_time() - self._trim_s >= TRIM_EVERY_S:
                self._trim_s = trio.current_time()
                self._compare_windows(await bus.trim(self._sites.window_s))
                self._healing_error = ""
        except BusError as error:
            self._not_healed(error)

    def _compare_windows(self, windows: Collection[int]) -> None:
        """Warn if servers of the bus have different windows."""
        told = ", ".join(f"{window_s} s" for window_s in sorted(windows))
        if len(windows) > 1 and told not in self._warned:
            self._warned.add(told)
            logger.warning(
                "bus %s: servers have different windows (%s), and count differently; give all the same --window. "
                "The stream is kept for twice the longest",
                engines.shown(self.url),
                told,
            )

    async def _apply(self, entries: list[Entry]) -> None:
        await self.apply_by(self.follower, entries)
        if entries:
            self.place = entries[-1].place

    async def _apply_and_read(self, bus: Bus, entries: list[Entry], most: int) -> list[Entry]:
        """Apply entries; meanwhile read the next ones, and return these. Raises BusError."""
        found, failures = list[Entry](), list[BusError]()

        async def read() -> None:
            try:
                found.extend(await bus.read(entries[-1].place, most))
            except BusError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            if most:
                nursery.start_soon(read)
            await self._apply(entries)
        if failures:
            raise failures[0]
        return found

    async def apply_by(self, follower: Follower, entries: list[Entry]) -> None:
        """Apply entries of a bus without publishing what they hold."""
        follower.step_to(self.follower.step_ms)
        await self._slices.finish("bus", follower.apply(entries, self._before, self._after))

    def _before(self) -> None:
        self.trail.is_paused = True

    def _after(self) -> None:
        self.trail.is_paused = not self._has_loaded
        if self._service.journal is not None:
            self._service.journal.flush()
        self._settle()

    async def _look_at(self, bus: Bus) -> Look:
        """Look what the log is like, and follow its clock."""
        began_s, given = trio.current_time(), self._given
        look = self._look = await bus.look()
        self._look_s = trio.current_time()
        self._lacks_ours = order(look.last) < order(given)
        self._answered()
        if 1000 * (self._look_s - began_s) < CLOCK_MS / 4:  # what came late tells little
            self._follow_clock(look.now_ms)
        return look

    def _follow_clock(self, bus_ms: int) -> None:
        """Let times on the bus be of its clock where ours is wrong."""
        own_ms = self._service.wall_of(self._now_ms())
        offset_ms = bus_ms - own_ms
        if abs(offset_ms) <= CLOCK_MS:
            offset_ms = 0
        elif abs(offset_ms - self.clock_offset_ms) <= CLOCK_MS:
            offset_ms = self.clock_offset_ms
        if offset_ms != self.clock_offset_ms:
            logger.warning("bus: its clock is %+.1f s from ours; times are changed on the way", offset_ms / 1000)
        self.clock_offset_ms = offset_ms
        step_ms = self._service.clock_step_ms + offset_ms
        self.trail.clock_step_ms = step_ms
        self.follower.step_to(step_ms)

    def _answered(self) -> None:
        if self.is_away and self._reading_error:
            logger.info("bus %s answers again", engines.shown(self.url))
        self.is_away, self._reading_error = False, ""
        self._seen_s = trio.current_time()
        self._tell_refusal()
        if not self.publisher.is_away:
            self._stuck_s = None
            if self._refusal is not None and self._service.refusing == self._refusal:
                self._service.refusing = None
            self._refusal = None

    def _failed(self, error: BusError) -> None:
        self.retries += 1
        if not self.is_away or not self._reading_error:
            logger.warning("bus %s cannot be reached, trying again: %s", engines.shown(self.url), error)
        self.is_away, self._reading_error, self._healing_error = True, str(error), ""
        self._refuse()

    # Publishing

    def _refuse(self) -> None:
        """Take no hits that the bus would have to have, and say why it does not take them now."""
        if not self.waits:
            return
        if self._stuck_s is None:
            self._stuck_s = trio.current_time()
        if self._service.refusing in (None, self._refusal):
            self._refusal = f"the bus does not take hits ({self.error}) and hits are to be on it; try again later"
            self._service.refusing = self._refusal

    def _not_sent(self, error: BusError) -> None:
        self._echoes.failed()
        self._tell_refusal()
        self._refuse()

    def _not_healed(self, error: BusError) -> None:
        self.retries += 1
        if not self.is_away:
            self._healing_error = str(error)
        self._tell_refusal()

    def _tell_refusal(self) -> None:
        """Say once that the bus takes nothing, and once that it does again."""
        if self.is_away or self.is_refused == self._is_refusal_told:
            return
        self._is_refusal_told = self.is_refused
        if self.is_refused:
            logger.warning("bus %s takes no hits, trying again: %s", engines.shown(self.url), self.error)
        elif not self.publisher.is_away:
            logger.info("bus %s takes hits again", engines.shown(self.url))

    async def _end_waits(self, gate: Answers) -> None:
        """End connections whose hits wait too long for a bus that does not take them, for ever.

        Nobody knows if it has them. Who asks again gets MISCONF.
        """
        while True:
            await trio.sleep(ACK_S / 10)
            if self._stuck_s is not None and trio.current_time() - self._stuck_s > ACK_S:
                gate.journal.flush()
                gate.journal.abandon()
                gate.answers_may_leave()

    def _taken(self) -> None:
        self.forgetting.taken()
        if not self._is_dump_wanted:
            self._echoes.taken()
        if self._gate is not None:
            self._gate.journal.flush()
            self._taken_turn = self._gate.journal.turn

    def _sent(self) -> None:
        self._tell_refusal()
        self._given = max(self._given, self.publisher.place, key=order)
        self._echoes.sent(self.publisher.place)
        self.forgetting.sent()
        if self._gate is not None and not self._is_dump_wanted:
            self._gate.journal.published(self._taken_turn)
            self._gate.answers_may_leave()
        self._settle()

        if self.trail.is_incomplete:
            self.trail.forget_incomplete()
            self._lost()

    def _settle(self) -> None:
        """Let answers leave that wait for nothing: their hits came from the bus, or changed nothing."""
        if self._gate is not None and self._is_ready and self.publisher.is_idle and not self._is_dump_wanted:
            self._gate.journal.published(self._gate.journal.turn)
            self._gate.answers_may_leave()

    def _lost(self) -> None:
        logger.error("bus: hits that waited for it found no room and were dropped; everybody will be published")
        self.forgetting.lost()
        self._want_dump()

    def _want_dump(self) -> None:
        self._echoes.tied()
        self._is_dump_wanted = True
        self._dump_wanted.set()

    def forget(self, site: bytes, user: bytes, bus_ms: int, is_own: bool) -> None:
        """Forget a user because the bus says so at this place."""
        try:
            self.forgetting.heard(site, user, bus_ms, is_own)
        except StateError as error:
            logger.error("a user who was to be forgotten is still in the history: %s", error)

    async def _dump_when_wanted(self) -> None:
        """Publish everybody whenever somebody may lack some, for ever."""
        while True:
            await self._dump_wanted.wait()
            self._dump_wanted = trio.Event()
            try:
                await self._connected(self._dump)
                self._healing_error = ""
            except BusError as error:
                self._not_healed(error)
                self._echoes.failed()
                self._dump_wanted.set()
            await trio.sleep(DUMP_REST_S)

    async def _dump(self, bus: Bus) -> None:
        self.forgetting.dumping()
        place = BEGINNING
        turn = self._gate.journal.turn if self._gate is not None else 0
        for name, index in list(self._sites.items()):
            leading = site(name) + DUMP
            for frames in dump(index, clock_step_ms=self.trail.clock_step_ms):
                place = await bus.publish(self.source, leading + frames)
        self._given = max(self._given, place, key=order)
        self.forgetting.ended(place)
        self.dumps += 1
        if not self._dump_wanted.is_set():
            self._is_dump_wanted = False
        if self._gate is not None:
            self._gate.journal.published(turn)
            self._gate.answers_may_leave()
