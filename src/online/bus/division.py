"""The part of a server that makes it one of several that divide the users: it has those of its own slots alone.

It reads the map of partitions, and again at SIGHUP. Hits of users of other slots are refused with MOVED, which names
their owner. When the map has changed, users of slots that went are dropped, and those of slots that came are read from
the bus: from the streams of the partitions that had them (`came_from`), and from our own. Until all of that is done,
everybody gets LOADING. The streams of `came_from` are followed as long as the map names them, since their servers take
hits as long as anybody goes by the map before.

Not its job: who owns a slot (partitions), that hits are refused (core/slots), and to merge answers (gateway).

Why no answer is wrong meanwhile. Each connection of a gateway says by which map it divides the users (CLIENT MAP), and
gets LOADING here unless ours divides them alike. So all answers that a gateway merges are of servers that go by one
map, in which each user has one owner; and a server goes by a map when it has read all that it owns by it, and dropped
the rest. With two servers a partition, one goes first and the other answers until the gateway has the new map.

Invariants:
1. A server that is not LOADING has all users of its slots whom the streams hold, and nobody else.
2. What is read here is not published again, and counted nowhere: it was, when it was taken.
3. A stream that cannot be read is waited for, however long it takes, and LOADING says so. One that does not reach back
   a window is a gap: it is told and counted, and the server goes on without what is missing.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgpack
import trio

from online import partitions
from online.bus import engines
from online.bus.entries import BEGINNING, Bus, BusError, Entry, Look, order, time_of, were_trimmed
from online.bus.follower import Follower
from online.bus.replica import (
    FIRST_PAUSE_S,
    FOLLOWED_ENTRIES,
    JUMP_MS,
    LONGEST_PAUSE_S,
    LOOK_MS,
    REPLAYED_ENTRIES,
    Replica,
)
from online.core.frames import dump
from online.core.sites import Sites
from online.core.slots import Slots
from online.core.wire import Service
from online.errors import ConfigError
from online.pieces import Pieces
from online.serve.connections import Connections
from online.serve.parts import Part
from online.serve.slices import in_turns
from online.serve.verb import Lines

logger = logging.getLogger("online")

#: Frames that are looked at in one piece: about 80 sessions, 0.1 ms.
PIECE_BYTES = 4_096


class Division(Part):
    """See above."""

    name = "map"

    def __init__(
        self,
        path: Path,
        number: int,
        sites: Sites,
        service: Service,
        connections: Connections,
        now_ms: Callable[[], int],
        replica: Replica,
    ) -> None:
        """`number` is that of our partition. Raises ConfigError."""
        self.owners = partitions.read(path)
        self.dropped = 0  #: users, as they went to others
        self.follower = Follower(sites, replica.source, now_ms, counts_others=False)
        self.follower.forget_by(replica.forget)
        self._path, self._number = path, number
        self._sites, self._service, self._connections, self._now_ms = sites, service, connections, now_ms
        self._replica = replica
        self._slots = Slots(*self._view())
        self._places: dict[int, bytes] = {}  #: in the streams of other partitions
        self._changed = trio.Event()
        self._away: set[int] = set()  #: partitions whose streams cannot be read now
        self._torn: dict[int, bytes] = {}  #: where streams began that had lost entries
        self.gaps = 0  #: streams of others that had lost entries of the window
        sites.divide(self._slots)
        service.divide(self._slots)
        connections.layout = self._layout
        replica.before_ready = lambda: self._read(self._came_from)

    def _view(self) -> tuple[tuple[int, ...], list[str], int]:
        names = [each.address for each in self.owners.partitions]
        return self.owners.owners, names, self.owners.place_of(self._number)

    @property
    def _layout(self) -> str:
        return self.owners.layout(self._number)

    @property
    def _came_from(self) -> tuple[int, ...]:
        return self.owners.came_from(self._number)

    def reload(self) -> None:
        """Go by the map as it is now. Raises ConfigError if that cannot be done yet, or would lose users."""
        owners, before = partitions.read(self._path), self.owners
        if not partitions.is_newer(owners, before):
            return
        if self._service.loading is not None:
            raise ConfigError("the map cannot be changed while the server is LOADING; send SIGHUP again later")
        came_from, went_to = owners.had_before(self._number, before), before.had_before(self._number, owners)
        missing = came_from - set(owners.came_from(self._number))
        if missing:
            raise ConfigError(
                f"partition.{self._number} gets slots of partition {min(missing)}: add it to its came_from in the map, "
                "so that their users are read from the bus"
            )
        self.owners = owners
        self._slots.change(*self._view())
        if came_from or went_to:
            self._service.loading = f"users move between partitions, by version {owners.version} of the map"
        self._connections.divide(self._layout, now_ms=self._now_ms())
        self._changed.set()
        logger.info("map version %d: %d slots are here", owners.version, self._slots.mine)

    async def run(self) -> None:
        """Follow the streams of others, and do what a change of the map asks for, for ever."""
        while True:
            async with trio.open_nursery() as nursery:
                for number in self._came_from:
                    nursery.start_soon(self._follow, number)
                await self._changed.wait()
                nursery.cancel_scope.cancel()
            self._changed = trio.Event()
            self._away.clear()
            if self._service.loading is not None:
                await in_turns(self._drop())
                self._places.clear()
                await self._read((*self._came_from, self._number))
                self._service.loading = None

    def _drop(self) -> Pieces[None]:
        """Forget who is of slots that are not ours."""
        for index in list(self._sites.values()):
            for frames in dump(index, frame_bytes=PIECE_BYTES):
                for user in _users_in(frames):
                    if not self._slots.owns(user):
                        self.dropped += index.forget(user, now_ms=self._now_ms())
                yield

    async def _read(self, numbers: Collection[int]) -> None:
        """Read the window from streams, up to their ends as they are now, however long it takes."""
        why = self._service.loading
        for number in numbers:

            async def read(number: int, bus: Bus) -> None:
                if why is not None:
                    self._service.loading = f"{why}; the stream of partition {number} is being read"
                await self._read_window(number, bus)

            def is_away(number: int) -> None:
                if why is not None:
                    self._service.loading = f"{why}; the bus of partition {number} is away, trying again"

            await self._connected(number, read, is_away)

    async def _read_window(self, number: int, bus: Bus) -> None:
        look = await bus.look()
        self._reached(number)
        begin = await bus.at(look.now_ms - 1000 * self._sites.window_s)
        self._places[number] = max(self._places.get(number, BEGINNING), begin, key=order)
        self._check_reach(number, look)
        first_read = b""
        while order(self._places[number]) < order(look.last):
            entries = await self._take(number, bus, REPLAYED_ENTRIES)
            if not entries:
                break  # the rest has been trimmed meanwhile
            first_read = first_read or entries[0].place
        now = await bus.look()
        if were_trimmed(look, first_read or look.last, now):
            self._gap(number, now)

    def _check_reach(self, number: int, look: Look) -> None:
        """See if a stream has all that was published behind our place."""
        place = order(self._places[number])
        is_there = look.first != BEGINNING and order(look.first) <= place
        if not is_there and order(look.last) > place and look.added > look.held:
            self._gap(number, look)

    def _gap(self, number: int, look: Look) -> None:
        if self._torn.get(number) == look.first:  # a read that is tried again finds the same gap
            return
        self._torn[number] = look.first
        self.gaps += 1
        logger.warning(
            "bus: the stream of partition %d does not reach back a whole window, as entries were deleted from it; "
            "users who came from there may be missing until they are seen again",
            number,
        )

    async def _follow(self, number: int) -> None:
        """Apply what others still publish there, for ever."""

        async def follow(number: int, bus: Bus) -> None:
            while True:
                if not await self._take(number, bus, FOLLOWED_ENTRIES, wait_ms=LOOK_MS):
                    look = await bus.look()
                    if order(look.last) < order(self._places[number]):  # started again, or without its end
                        self._places[number] = await bus.at(look.now_ms - 1000 * self._sites.window_s)

        await self._connected(number, follow)

    async def _take(self, number: int, bus: Bus, most: int, *, wait_ms: int = 0) -> list[Entry]:
        """Apply the next entries of a partition, and return them."""
        entries = await bus.read(self._places[number], most, wait_ms=wait_ms)
        self._reached(number)
        if entries:
            if wait_ms and time_of(entries[0].place) - time_of(self._places[number]) > JUMP_MS:
                self._check_reach(number, await bus.look())
            await self._replica.apply_by(self.follower, entries)
            self._places[number] = entries[-1].place
        return entries

    async def _connected(
        self,
        number: int,
        work: Callable[[int, Bus], Awaitable[None]],
        is_away: Callable[[int], None] = lambda number: None,
    ) -> None:
        """Do some work with a connection to the bus of a partition, until it is done; `is_away` hears failures."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await engines.connected(self._replica.url, partial(work, number), partition=number)
                return
            except BusError as error:
                if number not in self._away:
                    logger.warning("bus: users of partition %d cannot be read, trying again: %s", number, error)
                self._away.add(number)
                is_away(number)
            await trio.sleep(random.uniform(0.5, 1) * pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _reached(self, number: int) -> None:
        if number in self._away:
            logger.info("bus: users of partition %d are read again", number)
            self._away.discard(number)

    def info(self) -> Mapping[str, Lines]:
        """Return the section `map`."""
        return {"map": self._lines}

    def _lines(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "map_version", self.owners.version
        yield "map_layout", self._layout
        yield "slots", self._slots.mine
        yield "moved_hits", self._slots.moved
        yield "dropped_users", self.dropped
        yield "came_from", ",".join(map(str, self._came_from))
        yield "came_from_away", ",".join(map(str, sorted(self._away)))
        yield "came_from_gaps", self.gaps

    def told(self) -> Iterator[str]:
        """Say which map it is."""
        yield f"partition {self._number} of the map, version {self.owners.version}: {self._slots.mine} slots"


def _users_in(frames: bytes) -> Iterator[bytes]:
    """Yield the users of frames of sessions."""
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(frames)
    for _, verb, given in unpacker:
        if verb == b"hits":
            yield from (user for user, *_ in given)
        else:
            yield given[0]
