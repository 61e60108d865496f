"""How long users stay on a site.

Not its job: to find the stays in hits (online.core.crowd).

A stay is a row of hits of one user, each before the user would have gone offline. It lasts from its first hit to its
last: how long somebody looks at the last page, no log knows. So a stay of one hit has no length, and is counted apart.
"""

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


def stays_of(number: int, hits: int, single: int, lengths: dict[int, int]) -> Stays:
    """Return the figures of stays; `lengths`: how many stays of more than one hit, by their seconds. O(lengths)."""
    long = number - single
    by_length = [0] * (len(LENGTHS_S) + 1)
    median_s = passed = 0
    for length_s, n_stays in sorted(lengths.items()):
        by_length[sum(length_s > most_s for most_s in LENGTHS_S)] += n_stays
        if passed < (long + 1) // 2 <= passed + n_stays:
            median_s = length_s
        passed += n_stays
    total_s = sum(length_s * n_stays for length_s, n_stays in lengths.items())
    return Stays(number, hits, single, median_s, total_s / long if long else 0.0, by_length)
