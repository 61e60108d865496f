"""Entries of a bus -> the indexes of all sites.

Not its job: to read entries, and what is done about gaps (replica).

Why a server may apply its own entries again, entries twice, and entries in any order:

- An index holds of each user the newest hit alone. An older one that comes later changes nothing, and neither does
  the same hit again. So hits can be merged in any order, any number of times; the result is the newest of each user.
- Of two hits of one user in the same millisecond, the one that comes later wins. There the order does matter. It is
  that of the log: a server that took one of the two has applied it before, and if another's has come between, it
  applies its own once more at its place in the log (echoes). All replicas end with what the log has last.
- A dump says again what somebody knew, while newer hits of the same millisecond may be in the log before it already. So
  of the hits that tie, a dump keeps the one that ranks highest, a leave before all others, whoever has it. That is the
  same on all replicas, and the same however often it is done.
- Who is forgotten is erased at that place of the log: what stands before it goes, and what stands behind it comes after
  it, whatever its time. Here too the order is that of the log, and a server applies its own later hits once more.
- A time is the same on all replicas. A hit from the future is usually taken as happening now, which is another moment
  on each replica. A hit of an entry may be AHEAD_MS later than the bus's clock was, and index time goes on with it;
  what is later still is taken as of then, which is the same moment for all.
"""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

from online.bus import forgetting
from online.bus.echoes import Echoes
from online.bus.entries import Entry, time_of
from online.core.index import Index
from online.core.replay import Replay
from online.core.sites import SITE_MAX_BYTES, Sites
from online.errors import FullError

#: How far a hit may be ahead of the clock of the bus: more than servers let their own be.
AHEAD_MS = 2_000

#: How long is worked without a rest, but for the last entry.
PIECE_S = 0.0005


class _Host:
    """Opens sites for a Replay, and hears who is to be forgotten."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._site = b""  #: that is spoken of
        self.is_own = False  #: what is read
        self.n_forgotten = 0
        self.forget: Callable[[bytes, bytes, int, bool], object] = lambda site, user, at_ms, is_own: None

    def open(self, name: bytes) -> Index:
        if not 1 <= len(name) <= SITE_MAX_BYTES:
            raise FullError("no such name of a site")
        self._site = name
        return self._sites.open(name)

    def noted(self, text: bytes) -> None:
        """Have somebody forgotten, at this place among the hits. Totals are each server's own."""
        told = forgetting.told_by(text)
        if told is not None:
            self.n_forgotten += 1
            self.forget(self._site, *told, self.is_own)


class Follower:
    """Applies entries."""

    def __init__(
        self,
        sites: Sites,
        source: bytes,
        now_ms: Callable[[], int],
        *,
        echoes: Echoes | None = None,
        counts_others: bool = True,
    ) -> None:
        """`source` is how this server signs its own entries, whose hits were counted before.

        `echoes` knows which of them may be passed over. Without `counts_others` no hits are counted.
        """
        self.entries = self.own = self.poisoned = self.calls = self._ties = 0
        self._host = _Host(sites)
        self._replay = Replay(self._host)
        self._source = source
        self._echoes = echoes
        self._counts_others = counts_others
        self._now_ms = now_ms

    def forget_by(self, forget: Callable[[bytes, bytes, int, bool], object]) -> None:
        """Have users forgotten by `forget(site, user, at_ms, is_own)`; `at_ms` is by the clock of the bus."""
        self._host.forget = forget

    @property
    def hits(self) -> int:
        """Hits and leaves that were applied."""
        return self._replay.n_applied - self._replay.refused

    @property
    def refused(self) -> int:
        """Those that were not, as they are of a site that is not here, or beyond a limit."""
        return self._replay.refused

    @property
    def foreign(self) -> int:
        """Those that were passed over, as their users are of other partitions."""
        return self._replay.foreign

    @property
    def clamped(self) -> int:
        """Those that were too far ahead."""
        return self._replay.clamped

    @property
    def step_ms(self) -> int:
        """Times of the bus less these are index time."""
        return self._replay.clock_step_ms

    def step_to(self, step_ms: int) -> None:
        """Change `step_ms`."""
        if step_ms != self._replay.clock_step_ms and self._echoes is not None:
            self._echoes.tied()
        self._replay.clock_step_ms = step_ms

    def apply(
        self, entries: Iterable[Entry], before: Callable[[], object], after: Callable[[], object]
    ) -> Iterator[None]:
        """Apply entries in pieces, each between `before` and `after`."""
        waiting = iter(entries)
        entry = next(waiting, None)
        while entry is not None:
            until_s = perf_counter() + PIECE_S
            before()
            try:
                while entry is not None and perf_counter() < until_s:
                    self._take(entry)
                    entry = next(waiting, None)
            finally:
                after()
            yield

    def _take(self, entry: Entry) -> None:
        self.entries += 1
        is_own = entry.source == self._source
        if not entry.frames:
            self.calls += not is_own
            return
        if is_own and self._echoes is not None and self._echoes.may_pass(entry.place):
            return
        self.own += is_own
        latest_ms = time_of(entry.place) + AHEAD_MS
        is_echo = is_own or not self._counts_others
        n_forgotten, self._host.is_own = self._host.n_forgotten, is_own
        if not self._replay.apply(entry.frames, now_ms=self._now_ms(), latest_ms=latest_ms, is_echo=is_echo):
            self.poisoned += 1
        has_erased = self._host.n_forgotten != n_forgotten
        if self._echoes is not None and (self._replay.ties != self._ties or has_erased):
            self._echoes.tied()
        self._ties = self._replay.ties
