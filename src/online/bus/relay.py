"""The part of a server that makes it a relay: it takes hits as any server does, publishes them, and keeps nobody.

Web servers and syslog can send to a relay beside them, whatever becomes of the servers that answer questions. Its job:
to hand every good hit on. Not its job: how hits get to the bus (publisher), and who is online (replicas).

Invariants:
1. Nobody waits for the bus: a hit is answered when it is in the buffer. Beyond what the publisher lets wait, hits are
   dropped, and counted.
2. A question about who is online gets an error, never an empty answer.
3. Hits of one user in any order are handed on: that the newest wins is the replicas' matter.
"""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import trio

from online.bus import engines, told
from online.bus.entries import Bus, BusError
from online.bus.publisher import Publisher
from online.core.index import Index
from online.core.journal import site
from online.core.observers import Trail
from online.core.sites import Sites
from online.core.wire import Service
from online.serve.config import Config
from online.serve.parts import Part
from online.serve.verb import Lines

logger = logging.getLogger("online")

#: What every question is answered with.
UNANSWERED = "this is a relay, which hands hits on to the bus and does not know who is online; ask a server"

#: How often the clock's step is looked at: as often as the server follows the wall clock.
CLOCK_S = 1.0

#: How often the stream is trimmed.
TRIM_EVERY_S = 30.0

FAREWELL_S = 1.0


class Relay(Part):
    """See above."""

    name = "bus"

    def __init__(self, config: Config, sites: Sites, service: Service) -> None:
        """`sites` keep nothing. Raises ConfigError."""
        if config.bus is None:
            raise ValueError("there is no bus")
        self.url = engines.check_url(config.bus)
        self._connected = partial(engines.connected, self.url, partition=config.partition, window_s=config.window_s)
        self.source = os.urandom(8).hex().encode()  #: how we sign what we publish
        self.trail = Trail()
        self.publisher = Publisher(self.source, self.trail)
        self.publisher.failed, self.publisher.lost, self.publisher.sent = self._failed, self._lost, self._sent
        self._sites, self._service = sites, service
        self._told = ""  #: what was said last of a bus that does not take hits

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
            self.trail.close()

    def _opened(self, index: Index, name: bytes) -> None:
        self.trail.follow(index, site(name))

    async def run(self) -> None:
        """Publish, for ever; in the end, what still waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.run, self._connect)
            nursery.start_soon(self._follow_clock)
            nursery.start_soon(self._trim)
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(FAREWELL_S) as scope:
                    scope.shield = True
                    await self._say_farewell()

    def info(self) -> Mapping[str, Lines]:
        """Return the section `bus`."""
        return {"bus": lambda now_ms: told.relayed(self.publisher, self.source)}

    def told(self) -> Iterator[str]:
        """Say which bus it is."""
        yield f"relay to the bus {engines.shown(self.url)}: takes hits, answers no questions"

    async def _connect(self, work: Callable[[Bus], Awaitable[None]]) -> None:
        await self._connected(work)

    async def _follow_clock(self) -> None:
        """Let times on the bus be wall time, also when somebody sets the clock."""
        while True:
            self.trail.clock_step_ms = self._service.clock_step_ms
            await trio.sleep(CLOCK_S)

    async def _trim(self) -> None:
        """Let go what nobody needs, for ever: perhaps no server runs that does so."""
        warned = ""
        while True:
            await trio.sleep(TRIM_EVERY_S)
            try:
                await self._connected(lambda bus: bus.trim(self._sites.window_s, is_reader=False))
                warned = ""
            except BusError as error:
                if str(error) != warned and not self.publisher.is_away:
                    logger.warning("bus %s cannot be trimmed: %s", engines.shown(self.url), error)
                    warned = str(error)

    async def _say_farewell(self) -> None:
        rest = self.publisher.take_rest()
        if rest:
            try:
                await self._connected(lambda bus: bus.publish(self.source, *rest))
            except BusError as error:
                logger.warning("bus: the newest hits are not on it: %s", error)

    def _failed(self, error: BusError) -> None:
        told = "takes no hits" if self.publisher.is_refused else "cannot be reached"
        if told != self._told:
            logger.warning("bus %s %s, trying again: %s", engines.shown(self.url), told, error)
        self._told = told

    def _sent(self) -> None:
        if self._told:
            logger.info("bus %s takes hits again", engines.shown(self.url))
        self._told = ""
        if self.trail.is_incomplete:
            self.trail.forget_incomplete()
            logger.error("bus: out of memory, some hits were dropped")

    def _lost(self) -> None:
        logger.error("bus: hits that waited for it found no room and were dropped; INFO bus counts them")
