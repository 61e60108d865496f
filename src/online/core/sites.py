"""All sites of a server: an index for each name, and what they share.

Not here: clients and dialects. Everything that reads or changes sessions (verbs, state file, syslog) uses this object.

1. A site exists from its first hit on, `default` from the start. Sites are never removed.
2. All indexes share one memory budget.
3. Where only some sites are served, no other exists, apart from `default`, which always does.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice

from online import errors
from online.core.index import Budget, Index
from online.core.slots import Slots
from online.limits import Limits, default_max_memory
from online.pieces import Pieces, whole
from online.terms import IndexStatistics

DEFAULT_SITE = b"default"

#: The longest name of a site.
SITE_MAX_BYTES = 64

#: How many sessions are removed in one step: 0.1 ms for a million users.
EXPIRED_AT_ONCE = 128

#: How many sites are looked at in one step, at about 2 us each.
SITES_AT_ONCE = 32


class Sites(Mapping[bytes, Index]):
    """The indexes of all sites, by name, in the order in which they were opened."""

    def __init__(
        self,
        limits: Limits,
        *,
        window_s: int = 1_800,
        keeps_nothing: bool = False,
        served: Collection[bytes] = (),
    ) -> None:
        """Create the empty site `default`. With `keeps_nothing`, hits are judged and told to observers only.

        `served` are the only sites that may exist beside it; none: all may.
        """
        self._served = frozenset(served)
        self._keeps_nothing = keeps_nothing
        self.limits = limits
        self.window_s = window_s
        self.budget = Budget(limits.max_memory or default_max_memory())
        self.max_reached = 0  #: how often max_sites was reached
        self._slots: Slots | None = None
        self.opened: list[Callable[[Index, bytes], None]] = []  #: told of each site that begins to exist
        self._indexes: dict[bytes, Index] = {}
        self.open(DEFAULT_SITE)

    def __getitem__(self, name: bytes) -> Index:
        return self._indexes[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._indexes)

    def __len__(self) -> int:
        return len(self._indexes)

    def open(self, name: bytes) -> Index:
        """Return the index of a site, and create it if needed. O(1).

        Raises FullError at max_sites, and NotServedError.
        """
        index = self._indexes.get(name)
        if index is None:
            self.check(name)
            if len(self._indexes) >= self.limits.max_sites:
                self.max_reached += 1
                raise errors.full("max_sites", self.limits.max_sites)
            index = self._indexes[name] = self._new_index()
            index.slots = self._slots
            for tell in self.opened:
                tell(index, name)
        return index

    def check(self, name: bytes) -> None:
        """Raise NotServedError for a site that must not exist here. O(1)."""
        if self._served and name not in self._served and name != DEFAULT_SITE:
            raise errors.not_served(name)

    def judge_by(self, limits: Limits, *, window_s: int) -> None:
        """Judge arguments by other limits from now on, while nobody is kept. O(sites). Raises as `Index.judge_by`."""
        for index in self._indexes.values():
            index.judge_by(
                window_s=window_s,
                max_user=limits.max_user,
                max_url=limits.max_url,
                max_limit=limits.max_limit,
                max_scan=limits.max_scan,
            )
        self.limits, self.window_s = limits, window_s

    def divide(self, slots: Slots) -> None:
        """Take hits of those users alone who are of our slots. O(sites)."""
        self._slots = slots
        for index in self._indexes.values():
            index.slots = slots

    def expire(self, now_ms: int) -> Iterator[None]:
        """Remove sessions that have left the window, a few per step. Skips sites that open meanwhile."""
        for index in list(self._indexes.values()):
            while index.expire(EXPIRED_AT_ONCE, now_ms=now_ms) == EXPIRED_AT_ONCE:
                yield
            yield

    def statistics(self) -> IndexStatistics:
        """Add up the statistics of all sites. O(sites)."""
        return whole(self.add_up())

    def add_up(self) -> Pieces[IndexStatistics]:
        """Do what `statistics` does, in pieces."""
        totals = IndexStatistics(*[0] * len(IndexStatistics._fields))
        indexes = iter(list(self._indexes.values()))
        while some := list(islice(indexes, SITES_AT_ONCE)):
            each = (totals, *(index.statistics() for index in some))
            totals = IndexStatistics(*map(sum, zip(*each, strict=True)))
            yield
        return totals

    def _new_index(self) -> Index:
        limits = self.limits
        return Index(
            window_s=self.window_s,
            max_users=limits.max_users,
            max_pages=limits.max_pages,
            max_user=limits.max_user,
            max_url=limits.max_url,
            max_limit=limits.max_limit,
            max_scan=limits.max_scan,
            budget=self.budget,
            keeps_nothing=self._keeps_nothing,
        )
