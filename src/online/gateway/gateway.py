"""The part of a server that makes it a gateway: hits and questions go to partitions, and nobody is kept here.

Not its job: how answers are merged (merging), and connections to servers (partitions, lines).

Invariants:
1. A client's verbs are carried out one after the other, as its connection waits for each answer.
2. Wrong arguments are refused as by a server: its verbs judge them before a question comes here (core/verbs), by the
   window and the limits that servers tell (settings).
3. An answer is that of all partitions, or an error. So is the state of a channel that somebody watches.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio

from online import errors
from online.core.sites import Sites
from online.core.wire import Connection
from online.errors import FullError, OnlineError
from online.gateway import channels, merging
from online.gateway.asking import Asking
from online.gateway.partitions import Partitions
from online.gateway.settings import SHARED, Settings
from online.limits import Limits
from online.partitions import PartitionMap, is_newer
from online.serve.config import Config
from online.serve.parts import Part
from online.serve.tokens import ADMIN
from online.serve.verb import Lines, Shared
from online.serve.verbs import Verbs
from online.serve.verbs_past import checked_users

logger = logging.getLogger("online")

#: How long connections stay open after another map has come: longer than any question takes.
RETIRED_S = 60.0


class Gateway(Part):
    """See above."""

    name = "gateway"

    def __init__(self, read: Callable[[], PartitionMap], verbs: Verbs, wall_ms: Callable[[], int]) -> None:
        """`read` reads the map, now and at each reload. Raises ConfigError for servers that cannot be asked."""
        self.owners = read()
        self.asked = self.failed = 0
        self._read = read
        self._wall_ms = wall_ms
        self._verbs = verbs
        self._own = _given(verbs.sites)
        self._partitions, self._settings = self._opened(self.owners)
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take over all hits and questions, once servers have had the time to tell their settings."""
        runs = {verb: partial(self._run, verb) for verb in (*merging.VERBS, *merging.REFUSED)}
        self._verbs.runs = self._verbs.runs | runs
        self._verbs.service.handing = True
        self._verbs.push.elsewhere = self._look
        failure: BaseException | None = None
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._partitions.run)
            self._nursery.start_soon(self._settings.run)
            try:
                await self._heard()
                yield
            except BaseException as error:  # which the nursery would wrap into a group
                failure = error
            self._nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _heard(self) -> None:
        """Wait until servers have told their settings: those of the map as it is then."""
        heard = None
        while heard is not self._settings:
            heard = self._settings
            await heard.heard()

    def reload(self) -> None:
        """Go by the map as it is now. Questions that are under way go on by the one before."""
        owners = self._read()
        if not is_newer(owners, self.owners):
            return
        (partitions, settings), retired = self._opened(owners), self._partitions
        self._settings.close()
        self.owners, self._partitions, self._settings = owners, partitions, settings
        if self._nursery is not None:
            self._nursery.start_soon(partitions.run)
            self._nursery.start_soon(settings.run)
            self._nursery.start_soon(self._retire, retired)

    async def _retire(self, partitions: Partitions) -> None:
        """Close the connections of a map that was in use, when its questions have been answered."""
        await trio.sleep(RETIRED_S)
        partitions.close()

    def _opened(self, owners: PartitionMap) -> tuple[Partitions, Settings]:
        """Return who can be asked by a map. Raises ConfigError."""
        partitions = Partitions(owners.partitions, self._verbs.limits.max_sites, self._wall_ms)
        return partitions, Settings(partitions.healths, self._own, self._go_by)

    def _go_by(self, *, window_s: int | None = None, **limits: int) -> bool:
        """Judge messages and questions as servers do from now on, as far as they have told how; return if it can be."""
        verbs = self._verbs
        try:
            verbs.judge_by(replace(verbs.limits, **limits), window_s=window_s or verbs.sites.window_s)
        except OnlineError as error:
            why = "their window takes more memory than max_memory" if isinstance(error, FullError) else error
            logger.error("cannot judge questions as servers do: %s", why)
            return False
        return True

    def _run(self, verb: str, shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> Future[object]:
        if verb == "FORGET" and not shared.connections.may(connection, ADMIN):
            raise errors.not_permitted("FORGET", ADMIN)
        if verb == "LAST":  # of which each server sees a part
            checked_users(shared, args)
        return self._ask(connection.site, verb, args)

    def _look(self, site: bytes, name: bytes, tell: Callable[[bytes, int], None]) -> None:
        """Ask what the state of a channel is, and `tell` it with its time, now or later."""
        verb, args = channels.question(name)
        try:
            reply = self._ask(site, verb, args)
        except OnlineError as error:
            tell(channels.refused(error), self._wall_ms())
        else:
            reply.add_done_callback(lambda reply: tell(channels.state(verb, args, reply), self._wall_ms()))

    def _ask(self, site: bytes, verb: str, args: list[bytes]) -> Future[object]:
        self.asked += 1
        question = merging.answer(self.owners, site, verb, args, self._verbs.limits, self._wall_ms())
        reply = Asking(self._partitions, site, question, writes=verb in merging.WRITES).begin()
        reply.add_done_callback(self._settled)
        return reply

    def _settled(self, reply: Future[object]) -> None:
        self.failed += reply.exception() is not None

    def info(self) -> Mapping[str, Lines]:
        """Return the section `gateway`."""
        return {"gateway": self._lines}

    def _lines(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "map_version", self.owners.version
        yield "partitions", len(self.owners.partitions)
        yield "gateway_asked", self.asked
        yield "gateway_failed", self.failed
        yield "gateway_settings_differ", len(self._settings.problems)
        for health in self._partitions.healths:
            yield from health.info()

    def told(self) -> Iterator[str]:
        """Say which map it is."""
        yield f"gateway to {len(self.owners.partitions)} partitions, map version {self.owners.version}"


def _given(sites: Sites) -> dict[str, int]:
    """Return what the operator has set, of what servers tell: all that is not the default."""
    given = {"window_s": sites.window_s, **vars(sites.limits)}
    usual = {"window_s": Config.window_s, **vars(Limits())}
    return {each.field: given[each.field] for each in SHARED if given[each.field] != usual[each.field]}
