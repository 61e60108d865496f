"""The part of a server that makes it a relay: it takes hits as any server does, publishes them, and keeps nobody.

Web servers and syslog can send to a relay beside them, whatever becomes of the servers that answer questions. With a
map of partitions it divides the hits: each goes to the stream of its user's partition. Its job: to hand every good hit
on. Not its job: how hits get to the bus (publisher), who owns a user (partitions), and who is online (replicas).

Invariants:
1. Nobody waits for the bus: a hit is answered when it is in the buffer. Beyond what the publishers let wait, hits are
   dropped, and counted.
2. A question about who is online gets an error, never an empty answer.
3. Hits of one user in any order are handed on: that the newest wins is the replicas' matter.
"""

import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from online import partitions
from online.bus import engines, told
from online.bus.entries import TRIM_EVERY_S, BusError
from online.bus.publisher import MAX_WAITING_BYTES, Publisher
from online.core.index import Index
from online.core.journal import site
from online.core.observers import Fork, Trail
from online.core.sites import Sites
from online.core.wire import Service
from online.errors import ConfigError
from online.serve.config import Config
from online.serve.parts import Part
from online.serve.verb import Lines

logger = logging.getLogger("online")

#: What every question is answered with.
UNANSWERED = "this is a relay, which hands hits on to the bus and does not know who is online; ask a server"

#: How often the clock's step is looked at, as often as the server follows the wall clock, and what may end.
CLOCK_S = 1.0

FAREWELL_S = 1.0


class Outlet:
    """What waits for the stream of one partition, and who sends it."""

    def __init__(self, url: str, number: int, source: bytes, window_s: int, others: Mapping[int, "Outlet"]) -> None:
        """`others`: those that say, perhaps, what is wrong with the bus."""
        self.trail = Trail()
        self.publisher = Publisher(source, self.trail)
        self._others = others
        self.publisher.failed, self.publisher.lost, self.publisher.sent = self._failed, self._lost, self._sent
        self._connected = partial(engines.connected, url, partition=number, window_s=window_s)
        self._source = source
        self._window_s = window_s
        self._shown = engines.shown(url) + (f", partition {number}" if number else "")
        self._told = ""  #: what is wrong with a bus that does not take hits
        self._is_said = False  #: by us
        self.untrimmed = ""  #: why it could not be trimmed
        self._open = trio.CancelScope()

    async def run(self) -> None:
        """Publish and trim, until `end` is called."""
        with self._open:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.publisher.run, self._connected)
                nursery.start_soon(self._trim)

    def end(self) -> None:
        """Let go of the bus, when nothing waits and nothing will come."""
        self._open.cancel()
        self.publisher.error = ""

    async def say_farewell(self) -> None:
        """Publish what still waits."""
        rest = self.publisher.take_rest()
        if rest:
            try:
                await self._connected(lambda bus: bus.publish(self._source, *rest))
            except BusError as error:
                logger.warning("bus %s: the newest hits are not on it: %s", self._shown, error)

    async def _trim(self) -> None:
        """Let go what nobody needs, for ever: perhaps no server runs that does so."""
        while True:
            await trio.sleep(TRIM_EVERY_S)
            try:
                await self._connected(lambda bus: bus.trim(self._window_s, is_reader=False))
                self.untrimmed = ""
            except BusError as error:
                if not self.publisher.is_away and not self._is_known(str(error)):
                    logger.warning("bus %s cannot be trimmed: %s", self._shown, error)
                self.untrimmed = str(error)

    def _is_known(self, error: str) -> bool:
        """Whether an error of trimming was said, here or of the stream of another partition."""
        return any(error in (each.untrimmed, each.publisher.error) for each in (self, *self._others.values()))

    def _failed(self, error: BusError) -> None:
        told = "takes no hits" if self.publisher.is_refused else "cannot be reached"
        if told != self._told and not self._is_said_by_others(told):
            logger.warning("bus %s %s, trying again: %s", self._shown, told, error)
            self._is_said = True
        self._told = told

    def _is_said_by_others(self, told: str) -> bool:
        """Whether the same is wrong with the stream of another partition."""
        error = self.publisher.error
        return any(
            each is not self and each._told == told and each.publisher.error == error for each in self._others.values()
        )

    def _sent(self) -> None:
        if self._is_said:
            logger.info("bus %s takes hits again", self._shown)
        self._told, self._is_said = "", False
        if self.trail.is_incomplete:
            self.trail.forget_incomplete()
            logger.error("bus: out of memory, some hits were dropped")

    def _lost(self) -> None:
        logger.error("bus: hits that waited for it found no room and were dropped; INFO bus counts them")


class Relay(Part):
    """See above."""

    name = "bus"

    def __init__(self, config: Config, sites: Sites, service: Service) -> None:
        """`sites` keep nothing. Raises ConfigError."""
        if config.bus is None:
            raise ValueError("there is no bus")
        if config.map is not None and config.partition:
            raise ConfigError("a relay with a map publishes to all partitions: leave out --partition")
        self.url = engines.check_url(config.bus)
        self.source = os.urandom(8).hex().encode()  #: how we sign what we publish
        self.owners = partitions.read(config.map) if config.map is not None else None
        self.outlets: dict[int, Outlet] = {}  #: by partition. One that the map has no more ends when nothing waits
        self._ended: list[Publisher] = []  #: whose counts are told
        self._path: Path | None = config.map
        self._window_s = config.window_s
        self._sites, self._service = sites, service
        self._nursery: trio.Nursery | None = None
        self._observing: Trail | Fork
        if self.owners is None:
            self._observing = self._add(config.partition).trail
        else:
            self._observing = Fork(self._trails(self.owners), self.owners.owners)

    def _trails(self, owners: partitions.PartitionMap) -> list[Trail]:
        """Return where hits of each partition wait, and add those that are new."""
        numbers = [each.number for each in owners.partitions]
        trails = [(self.outlets.get(number) or self._add(number)).trail for number in numbers]
        self._share()
        return trails

    def _share(self) -> None:
        """Let as much wait for all streams together as may."""
        for outlet in self.outlets.values():
            outlet.publisher.most_bytes = MAX_WAITING_BYTES // len(self.outlets)

    def _end_some(self) -> None:
        """End what the map has no more, and for which nothing waits."""
        if self.owners is None:
            return
        numbers = {each.number for each in self.owners.partitions}
        for number in [each for each in self.outlets if each not in numbers]:
            if self.outlets[number].publisher.is_idle:
                outlet = self.outlets.pop(number)
                outlet.end()
                self._ended.append(outlet.publisher)
                self._share()

    def _add(self, number: int) -> Outlet:
        outlet = self.outlets[number] = Outlet(self.url, number, self.source, self._window_s, self.outlets)
        outlet.trail.clock_step_ms = self._service.clock_step_ms
        if self._nursery is not None:
            self._nursery.start_soon(outlet.run)
        return outlet

    def reload(self) -> None:
        """Go by the map as it is now. What waits goes where it was to go. Raises ConfigError."""
        if self._path is None or self.owners is None or not isinstance(self._observing, Fork):
            return
        owners = partitions.read(self._path)
        if not partitions.is_newer(owners, self.owners):
            return
        self._observing.change(self._trails(owners), owners.owners)
        self.owners = owners

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Observe all sites, and answer no questions."""
        for name, index in self._sites.items():
            self._opened(index, name)
        self._sites.opened.append(self._opened)
        self._service.unanswered = UNANSWERED
        try:
            yield
        finally:
            self._sites.opened.remove(self._opened)
            self._observing.close()

    def _opened(self, index: Index, name: bytes) -> None:
        self._observing.follow(index, site(name))

    async def run(self) -> None:
        """Publish, for ever; in the end, what still waits."""
        async with trio.open_nursery() as self._nursery:
            for outlet in self.outlets.values():
                self._nursery.start_soon(outlet.run)
            self._nursery.start_soon(self._follow_clock)
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(FAREWELL_S) as scope:
                    scope.shield = True
                    async with trio.open_nursery() as farewells:
                        for outlet in self.outlets.values():
                            farewells.start_soon(outlet.say_farewell)

    def info(self) -> Mapping[str, Lines]:
        """Return the section `bus`, and `map` if there is one."""
        sections: dict[str, Lines] = {"bus": lambda now_ms: told.relayed(self._publishers(), self.source)}
        return sections if self.owners is None else sections | {"map": self._lines}

    def _publishers(self) -> list[Publisher]:
        return [*(outlet.publisher for outlet in self.outlets.values()), *self._ended]

    def _lines(self, now_ms: int) -> Iterator[tuple[str, object]]:
        if self.owners is not None:
            away = sorted(number for number, outlet in self.outlets.items() if outlet.publisher.is_away)
            yield "map_version", self.owners.version
            yield "partitions", len(self.owners.partitions)
            yield "partitions_away", ",".join(map(str, away))

    def told(self) -> Iterator[str]:
        """Say which bus it is."""
        divided = ""
        if self.owners is not None:
            divided = f", for {len(self.owners.partitions)} partitions, map version {self.owners.version}"
        yield f"relay to the bus {engines.shown(self.url)}{divided}: takes hits, answers no questions"

    async def _follow_clock(self) -> None:
        """Let times on the bus be wall time, also when somebody sets the clock. Streams without use end."""
        while True:
            for outlet in self.outlets.values():
                outlet.trail.clock_step_ms = self._service.clock_step_ms
            self._end_some()
            await trio.sleep(CLOCK_S)
