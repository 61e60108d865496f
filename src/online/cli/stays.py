"""How long users stay on a site.

Not its job: who is online (index), and which hits count (survey).

A stay is a row of hits of one user, each before the user would have gone offline. It lasts from its first hit to its
last: how long somebody looks at the last page, no log knows. So a stay of one hit has no length, and is counted apart.
"""

from collections import Counter
from typing import NamedTuple

#: Stays are counted by their length, up to these seconds each; longer ones come last.
LENGTHS_S = (10, 60, 180, 600, 1800, 3600, 3 * 3600)


class Stays(NamedTuple):
    """How long users stayed. Lengths are those of stays with more than one hit."""

    number: int
    hits: int  #: of all stays
    single: int  #: stays of one hit
    median_s: int  #: half of the stays are no longer
    average_s: float
    by_length: list[int]  #: how many stays, by LENGTHS_S; one more than these


class StayCounter:
    """Finds the stays in hits that come in order, or nearly. Memory is bounded by the names of users."""

    def __init__(self, window_s: int) -> None:
        self._window_s = window_s
        self._open: dict[bytes, list[int]] = {}  #: user -> first and last second, and hits, of the newest stay
        self._lengths: Counter[int] = Counter()  #: in seconds, of finished stays of more than one hit
        self._number = self._hits = self._single = 0

    def hit(self, user: bytes, seen_ms: int) -> None:
        """Add a hit that keeps its user online. O(1)."""
        second = seen_ms // 1000
        stay = self._open.get(user)
        if stay is None:
            self._open[user] = [second, second, 1]
        elif second - stay[1] >= self._window_s:
            self._end(*stay)
            stay[:] = second, second, 1
        else:
            if second > stay[1]:
                stay[1] = second
            stay[2] += 1

    def _end(self, first_s: int, last_s: int, hits: int) -> None:
        self._number += 1
        self._hits += hits
        if hits == 1:
            self._single += 1
        else:
            self._lengths[last_s - first_s] += 1

    def finish(self) -> Stays:
        """End all stays and return their figures. O(stays)."""
        for stay in self._open.values():
            self._end(*stay)
        self._open.clear()
        lengths = sorted(self._lengths.items())
        long = self._number - self._single
        by_length = [0] * (len(LENGTHS_S) + 1)
        median_s = passed = 0
        for length_s, number in lengths:
            by_length[sum(length_s > most_s for most_s in LENGTHS_S)] += number
            if passed < (long + 1) // 2 <= passed + number:
                median_s = length_s
            passed += number
        total_s = sum(length_s * number for length_s, number in lengths)
        return Stays(self._number, self._hits, self._single, median_s, total_s / long if long else 0.0, by_length)
