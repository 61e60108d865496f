"""What waits for the bus, and how it gets there: packed for a few milliseconds, in order, tried again until it is so.

Not its job: what is published.

Invariants:
1. Whoever adds hits never waits.
2. More than `most_bytes` may wait for a second at most; then all of it is dropped, and counted.
3. After an error the same entries are sent again: they may be there twice then, which changes nothing (see follower).
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from online.bus.entries import BEGINNING, Bus, BusError

#: How long hits are collected for an entry: the cost is per entry, and hits a server are then at most 100 entries/s.
PACK_S = 0.01

#: Entries that are sent in one go, if so many wait: each then takes a fifth of the time.
MOST_PIECES = 16

MAX_WAITING_BYTES = 64 * 1024 * 1024

#: How often it is looked if more waits than may.
BOUND_EVERY_S = 0.5

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


class Waiting(Protocol):
    """Where hits wait: a Trail of core/observers."""

    begun: Callable[[], object] | None

    @property
    def n_bytes(self) -> int: ...
    @property
    def n_hits(self) -> int: ...
    @property
    def has_piece(self) -> bool: ...
    def take(self) -> tuple[bytes, int]: ...


@dataclass
class Published:
    """What became of hits and leaves."""

    entries: int = 0
    hits: int = 0
    n_bytes: int = 0
    dropped: int = 0  #: hits and leaves that found no room while the bus was away
    retries: int = 0


class Publisher:
    """Sends what waits."""

    def __init__(self, source: bytes, waiting: Waiting, *, most_bytes: int = MAX_WAITING_BYTES) -> None:
        self.counts = Published()
        self.error = ""  #: why the last attempt has failed; empty: it has not
        self.taken: Callable[[], object] = lambda: None  #: called when all that waited was taken
        self.sent: Callable[[], object] = lambda: None  #: called when what was taken last is on the bus
        self.failed: Callable[[BusError], object] = lambda error: None  #: called after an attempt
        self.lost: Callable[[], object] = lambda: None  #: called when something was dropped
        self.place = BEGINNING  #: of the last entry
        self._source = source
        self._waiting = waiting
        self.most_bytes = most_bytes  #: that may wait
        self._begun = trio.Event()
        self._pieces: list[bytes] = []  #: being sent
        self._hits = 0
        self._has_looked = False  #: the bus has answered in this attempt
        self._n_refused = 0  #: attempts in a row at which the bus answered, and did not take what was sent
        self._n_failed = 0  #: attempts in a row that failed
        self._begun_s = self._sending_s = 0.0  #: when the oldest hit came: of those that wait, and that are being sent
        waiting.begun = self._wake

    def _wake(self) -> None:
        self._begun_s = time.monotonic()
        self._begun.set()

    @property
    def is_away(self) -> bool:
        """The last attempt has failed."""
        return bool(self.error)

    @property
    def is_refused(self) -> bool:
        """The bus answers, and does not take what is sent. Once may be the moment at which it went away."""
        return self._n_refused > 1

    @property
    def has_failed_again(self) -> bool:
        """More than one attempt in a row has failed, in whichever way."""
        return self._n_failed > 1

    @property
    def is_idle(self) -> bool:
        """Nothing waits, and nothing is under way."""
        return not self._pieces and not self._waiting.n_bytes

    @property
    def waiting_bytes(self) -> int:
        return sum(map(len, self._pieces)) + self._waiting.n_bytes

    @property
    def waiting_ms(self) -> int:
        """How old the oldest hit is that is not known to be on the bus; 0 if all are."""
        if self.is_idle:
            return 0
        return round(1000 * (time.monotonic() - (self._sending_s if self._pieces else self._begun_s)))

    async def run(self, connect: Callable[[Callable[[Bus], Awaitable[None]]], Awaitable[None]]) -> None:
        """Send for ever, over connections that `connect` opens again and again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bound_often)
            await self._send_for_ever(connect)

    async def _bound_often(self) -> None:
        """Drop what is too much, for ever: also while the bus hangs."""
        while True:
            await trio.sleep(BOUND_EVERY_S)
            self.bound()

    async def _send_for_ever(self, connect: Callable[[Callable[[Bus], Awaitable[None]]], Awaitable[None]]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            n_sent = self.counts.entries
            self._has_looked = False
            try:
                await connect(self.send_all)
            except BusError as error:
                self.counts.retries += 1
                self.error = str(error)
                self._n_failed += 1
                self._n_refused = self._n_refused + 1 if self._has_looked else 0
                self.failed(error)
            if self.counts.entries != n_sent:
                pause_s = FIRST_PAUSE_S
            await trio.sleep(random.uniform(0.5, 1) * pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def send_all(self, bus: Bus) -> None:
        """Send what comes, for ever. Raises BusError."""
        await bus.look()
        self._has_looked = True
        if self.is_idle:
            self._answered()
        while True:
            while not self._pieces:
                await self._take()
            self.place = await bus.publish(self._source, *self._pieces)
            self._answered()
            self.counts.entries += len(self._pieces)
            self.counts.hits += self._hits
            self.counts.n_bytes += sum(map(len, self._pieces))
            self._pieces, self._hits = [], 0
            self.sent()

    def _answered(self) -> None:
        self.error, self._n_refused, self._n_failed = "", 0, 0

    async def _take(self) -> None:
        """Wait until there is something, and a little longer; then take it."""
        while not self._waiting.n_bytes:
            self._begun = trio.Event()
            await self._begun.wait()
        if not self._waiting.has_piece:
            await trio.sleep(PACK_S)
        if not self._waiting.n_bytes:  # it was too much, and dropped
            return
        self._sending_s, self._begun_s = self._begun_s, time.monotonic()
        while not self._pieces or (self._waiting.has_piece and len(self._pieces) < MOST_PIECES):
            frames, n_hits = self._waiting.take()
            self._pieces.append(frames)
            self._hits += n_hits
        if not self._waiting.n_bytes:
            self.taken()

    def take_rest(self) -> list[bytes]:
        """Return all that is not known to be on the bus, in entries."""
        rest = list(self._pieces)
        while self._waiting.n_bytes:
            rest.append(self._waiting.take()[0])
        return rest

    def bound(self) -> None:
        """Drop what waits if it is too much."""
        if self._waiting.n_bytes <= self.most_bytes:
            return
        while self._waiting.n_bytes:
            self.counts.dropped += self._waiting.take()[1]
        self.lost()
