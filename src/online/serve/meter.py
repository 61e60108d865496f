"""Figures that somebody has to take note of: verbs a second, the most memory so far, and how long things took."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

#: Upper bounds of the buckets of all histograms, in seconds; what takes longer is in a bucket behind them.
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Histogram:
    """How many things took how long."""

    def __init__(self) -> None:
        self.n = 0
        self.sum_s = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)

    def add(self, took_s: float) -> None:
        """Take note of one that took so many seconds. O(1)."""
        self.n += 1
        self.sum_s += took_s
        self._counts[bisect_left(BOUNDS_S, took_s)] += 1

    def merge(self, sum_s: float, counts: Iterable[int]) -> None:
        """Add what was counted elsewhere, in the same buckets."""
        self.sum_s += sum_s
        self._counts = [sum(each) for each in zip(self._counts, counts, strict=True)]
        self.n = sum(self._counts)

    def cumulated(self) -> Iterator[tuple[str, int]]:
        """Yield each bound, `+Inf` last, with how many took no longer."""
        n = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self._counts, strict=True):
            n += count
            yield bound, n


class Meter:
    """What INFO shows of the last second, and of the greatest there was."""

    def __init__(self) -> None:
        """Nothing has been looked at yet."""
        self.verbs_per_s = 0  #: answered between the last two looks
        self._looked_ms: int | None = None
        self._commands = 0
        self._peak_bytes = 0

    def look(self, now_ms: int, *, commands: int, used_bytes: int) -> None:
        """Take note of what there is now. To be called about once a second."""
        if self._looked_ms is not None and now_ms > self._looked_ms:
            self.verbs_per_s = (commands - self._commands) * 1000 // (now_ms - self._looked_ms)
        self._looked_ms, self._commands = now_ms, commands
        self.peak(used_bytes)

    def peak(self, used_bytes: int) -> int:
        """Return the most memory that was seen in use, with what is used now."""
        self._peak_bytes = max(self._peak_bytes, used_bytes)
        return self._peak_bytes
