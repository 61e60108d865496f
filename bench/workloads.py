"""Streams of hits to measure with: seeded, so that every rival and every run gets the same ones.

Not here: measuring. Names give the sizes; `Workload.id` is what a benchmark calls itself by.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

#: When every workload begins; a Saturday evening.
START_MS = 1_800_000_000_000
FRAME_HITS = 500


class BenchHit(NamedTuple):
    user: bytes
    url: bytes
    seen_ms: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A site's hits in order of time, at a steady rate that brings each user back within the window."""

    name: str
    n_users: int
    n_urls: int
    n_hits: int
    seed: int = 1

    @property
    def id(self) -> str:
        return f"{self.name}-{self.n_users}users-{self.n_urls}urls-{self.n_hits}hits-seed{self.seed}"

    @property
    def end_ms(self) -> int:
        """The time of the last hit; with it as now, no hit is late or from the future."""
        return self.seen_ms(self.n_hits - 1)

    def seen_ms(self, nth: int) -> int:
        """The time of a hit: all within 20 minutes."""
        return START_MS + nth * 1_200_000 // self.n_hits

    def user(self, number: int) -> bytes:
        return b"user%06d" % number

    def url(self, number: int) -> bytes:
        return b"/forum/topic/%d" % number

    def hits(self) -> Iterator[BenchHit]:
        """Users are drawn evenly, urls by Zipf's law with exponent 1."""
        dice = random.Random(self.seed)
        weights = list(itertools.accumulate(1 / rank for rank in range(1, self.n_urls + 1)))
        urls = dice.choices(range(self.n_urls), cum_weights=weights, k=self.n_hits)
        for nth, number in enumerate(urls):
            yield BenchHit(self.user(dice.randrange(self.n_users)), self.url(number), self.seen_ms(nth))

    def frames(self, *, wants_answers: bool = False) -> list[bytes]:
        """The hits as `hits` frames of FRAME_HITS each: notifications, or requests numbered from 0."""
        batches = _batched(self.hits())
        if wants_answers:
            return [msgpack.packb([0, nth, "hits", batch]) for nth, batch in enumerate(batches)]
        return [msgpack.packb([2, "hits", batch]) for batch in batches]


def _batched(hits: Iterator[BenchHit]) -> Iterator[list[BenchHit]]:
    while batch := list(itertools.islice(hits, FRAME_HITS)):
        yield batch


FORUM = Workload("forum", n_users=100_000, n_urls=10_000, n_hits=300_000)
