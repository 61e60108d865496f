"""Streams of hits to measure with: seeded, so that every rival and every run gets the same ones.

Not here: drawing them (native/generate.pyx), measuring. Names give the sizes; `id` is what a report calls one by.

| | users | urls | |
|---|---|---|---|
| forum | 100,000 | 10,000 by Zipf's law | in order of time |
| longtail | 100,000 | 1,000,000, evenly: nine of ten hits are to a page that nobody is on | in order |
| surge | a new one each hit | as forum | in order |
| late | as forum | as forum | a tenth of the hits up to 60 s too late |

All hits are within 20 minutes, so that nobody expires.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import msgpack
from bench.native.generate import Generator

from online.logs.formats import CsvColumns
from online.logs.hitlog import AccessLogParser, CsvParser, LogReader

#: When every workload begins, unless it is moved; a Friday morning.
START_MS = 1_800_000_000_000
SPAN_MS = 1_200_000
FRAME_HITS = 500

#: The head of a command of which user, url and seen_ms are the rest.
HIT_HEAD = b"*4\r\n$3\r\nHIT\r\n"


class BenchHit(NamedTuple):
    user: bytes
    url: bytes
    seen_ms: int


class Batch(NamedTuple):
    """Hits in one `hits` frame, and the time when the last of them arrives."""

    frame: bytes
    n_hits: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A site's hits, at a steady rate. The first `n_warm` are there to make an index warm.

    Of those, the first `n_users` bring each user once, so that in a warm index every user is online; the others are
    drawn like all that follow, so that the orders of the index are as mixed as they will be.
    """

    name: str
    n_users: int
    n_urls: int
    n_hits: int
    n_warm: int = 0
    exponent: float = 1.0  # of Zipf's law, for the urls; 0: all alike
    late_share: float = 0.0
    are_users_new: bool = False  # hit n is of user n
    seed: int = 1
    start_ms: int = START_MS
    span_ms: int = SPAN_MS

    @property
    def id(self) -> str:
        warm = f"-{self.n_warm}warm" if self.n_warm else ""
        return f"{self.name}-{self.n_users}users-{self.n_urls}urls-{self.n_hits}hits{warm}-seed{self.seed}"

    @property
    def end_ms(self) -> int:
        """The time of the last hit; with it as now, no hit is outside the window or from the future."""
        return self.seen_ms(self.n_hits - 1)

    @property
    def users_in_the_end(self) -> int:
        """How many users a warm index has online after all hits."""
        return self.n_hits if self.are_users_new else self.n_users

    def seen_ms(self, nth: int) -> int:
        """When a hit arrives."""
        return self.start_ms + nth * self.span_ms // self.n_hits

    def user(self, number: int) -> bytes:
        return b"user%06d" % number

    def url(self, number: int) -> bytes:
        """The url of a rank from 0: with Zipf's law, 0 is the one with most hits."""
        return b"/forum/topic/%d" % number

    def hits(self, first: int = 0, n: int | None = None) -> Iterator[BenchHit]:
        """Hits from number `first` on: `n` of them, or all."""
        generator = self._generator()
        for begin, size in _pieces(first, self._left(first, n), FRAME_HITS):
            yield from map(BenchHit._make, generator.hits(begin, size))

    def batches(self, first: int = 0, n: int | None = None, frame_hits: int = FRAME_HITS) -> Iterator[Batch]:
        """The same as notifications, made as they are asked for."""
        generator = self._generator()
        for begin, size in _pieces(first, self._left(first, n), frame_hits):
            yield Batch(generator.frames(begin, size, frame_hits), size, self.seen_ms(begin + size - 1))

    def frames(self, first: int = 0, n: int | None = None, *, wants_answers: bool = False) -> list[bytes]:
        """The same as `hits` frames of FRAME_HITS each: notifications, or requests that are numbered from 0."""
        generator = self._generator()
        pieces = enumerate(_pieces(first, self._left(first, n), FRAME_HITS))
        return [generator.frames(*piece, FRAME_HITS, msgid=nth if wants_answers else -1) for nth, piece in pieces]

    def commands(self, first: int = 0, n: int | None = None, *, head: bytes = HIT_HEAD) -> list[bytes]:
        """The same as RESP commands that begin with `head`, FRAME_HITS of them in a piece."""
        generator = self._generator()
        return [generator.commands(*piece, head) for piece in _pieces(first, self._left(first, n), FRAME_HITS)]

    def ending_at(self, end_ms: int) -> Self:
        """The same with the last hit at `end_ms`: for a server, which knows what time it is."""
        return replace(self, start_ms=self.start_ms + end_ms - self.end_ms)

    def _left(self, first: int, n: int | None) -> int:
        return self.n_hits - first if n is None else n

    def _generator(self) -> Generator:
        return Generator(
            n_users=self.n_users,
            n_urls=self.n_urls,
            n_hits=self.n_hits,
            seed=self.seed,
            start_ms=self.start_ms,
            span_ms=self.span_ms,
            exponent=self.exponent,
            late_share=self.late_share,
            are_users_new=self.are_users_new,
            n_once=min(self.n_warm, self.n_users),
        )


@dataclass(frozen=True, slots=True)
class LogWorkload:
    """The hits of a log, in its order, told as a Workload is. More than 20 minutes of them are squeezed into 20."""

    name: str
    taken: tuple[BenchHit, ...]
    n_warm: int = 0

    @property
    def id(self) -> str:
        return f"{self.name}-{self.n_users}users-{self.n_urls}urls-{self.n_hits}hits"

    @property
    def n_hits(self) -> int:
        return len(self.taken)

    @property
    def n_users(self) -> int:
        return len({hit.user for hit in self.taken})

    @property
    def n_urls(self) -> int:
        return len({hit.url for hit in self.taken})

    @property
    def end_ms(self) -> int:
        return max(hit.seen_ms for hit in self.taken)

    def hits(self, first: int = 0, n: int | None = None) -> Iterator[BenchHit]:
        return islice(self.taken, first, None if n is None else first + n)

    def batches(self, first: int = 0, n: int | None = None, frame_hits: int = FRAME_HITS) -> Iterator[Batch]:
        hits = self.hits(first, n)
        now_ms = 0
        while batch := list(islice(hits, frame_hits)):
            now_ms = max(now_ms, *(hit.seen_ms for hit in batch))
            yield Batch(msgpack.packb([2, "hits", batch]), len(batch), now_ms)

    def ending_at(self, end_ms: int) -> Self:
        shift_ms = end_ms - self.end_ms
        return replace(self, taken=tuple(hit._replace(seen_ms=hit.seen_ms + shift_ms) for hit in self.taken))


FORUM = Workload("forum", n_users=100_000, n_urls=10_000, n_hits=300_000)
LONGTAIL = replace(FORUM, name="longtail", n_urls=1_000_000, exponent=0.0)
SURGE = replace(FORUM, name="surge", are_users_new=True)
LATE = replace(FORUM, name="late", late_share=0.1)


def sized(workload: Workload, n_users: int) -> Workload:
    """The same workload with so many users and as many hits a user; urls stay."""
    return replace(workload, n_users=n_users, n_hits=n_users * workload.n_hits // workload.n_users)


def warmed(workload: Workload, n_hits: int) -> Workload:
    """The same workload with `n_hits` to be measured, behind those that make an index warm."""
    n_warm = workload.n_users if workload.are_users_new else 2 * workload.n_users
    return replace(workload, n_warm=n_warm, n_hits=n_warm + n_hits)


def from_log(path: Path) -> LogWorkload:
    """Read a log as `online report` does: a name with `.csv` in it is CSV (user,url,time), others are access logs."""
    parser = CsvParser(CsvColumns(user=0, url=1, time=2)) if ".csv" in path.suffixes else AccessLogParser()
    hits = list(LogReader(parser.parse).read(str(path)))
    first_ms = min((hit.seen_ms for hit in hits), default=0)
    took_ms = max((hit.seen_ms for hit in hits), default=0) - first_ms
    taken = (BenchHit(hit.user, hit.url, _squeezed(hit.seen_ms - first_ms, took_ms)) for hit in hits)
    return LogWorkload(path.name, tuple(taken))


def _squeezed(after_ms: int, took_ms: int) -> int:
    return START_MS + (after_ms * SPAN_MS // took_ms if took_ms > SPAN_MS else after_ms)


def _pieces(first: int, n: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut `n` numbers from `first` on into pieces: where each begins, and its size."""
    return ((begin, min(size, first + n - begin)) for begin in range(first, first + n, size))
