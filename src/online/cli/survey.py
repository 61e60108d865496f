"""Computes the figures of a report from hits: how many people were online, when most, and on which pages.

Not here: reading logs (reading), output (report_text, picture), and who is online (index). The current time is the
latest time read so far. So a line out of order never moves time back, and a quiet year costs no more than a quiet
minute.

1. Every figure is exact: it is the answer of the index at that time, after all hits read until then.
2. Memory is bounded by the hits of four windows, the names of users and urls, the number of days, and MAX_POINTS
   points.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from online.cli.stays import StayCounter, Stays
from online.cli.visits import Calendar, Visits
from online.core.index import Index
from online.logs.hitlog import Hit
from online.terms import SEEN_MAX_MS

#: The most points for the whole time, about as many as a picture can show.
MAX_POINTS = 1000

#: Seconds between points. Each step divides the next, so points can be kept when the step grows; the last doubles.
STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)


class Point(NamedTuple):
    """People online at a time, and the average, the peak and the hits since the previous point."""

    at_ms: int
    people: int
    average: float
    peak: int
    hits: int


class OnlineTime:
    """Computes how long all people together were online, exactly.

    A hit keeps its user online until a whole second, and each later hit extends that. So the time so far is all time
    that was granted, less the part that is still in the future.
    """

    def __init__(self, window_s: int) -> None:
        self._window_s = window_s
        self._begun_ms = 0
        self._ends_s: dict[bytes, int] = {}  #: when each user goes or went offline
        self._ending: Counter[int] = Counter()  #: future second -> how many users go offline then
        self._seconds: list[int] = []  #: the seconds of `_ending`, a heap
        self._people = self._sum_s = 0  #: of `_ending`: the number of users, and the sum of their seconds

    def hit(self, user: bytes, seen_ms: int, now_ms: int) -> None:
        """Add a hit that keeps its user online. O(1), or O(log window) for the first in a second."""
        end_s = seen_ms // 1000 + self._window_s
        before_s = self._ends_s.get(user, 0)
        if end_s <= before_s:
            return
        self._ends_s[user] = end_s
        self._begun_ms += end_s * 1000 - max(before_s * 1000, now_ms)
        if before_s * 1000 > now_ms:
            self._add(before_s, -1)
        self._add(end_s, 1)

    def _add(self, end_s: int, n_users: int) -> None:
        if end_s not in self._ending:
            heapq.heappush(self._seconds, end_s)
        self._ending[end_s] += n_users
        self._people += n_users
        self._sum_s += n_users * end_s

    def until(self, now_ms: int) -> int:
        """Return the total until `now_ms`, in milliseconds. Times of calls to `hit` and `until` must not go back."""
        while self._seconds and self._seconds[0] * 1000 <= now_ms:
            end_s = heapq.heappop(self._seconds)
            gone = self._ending.pop(end_s)
            self._people -= gone
            self._sum_s -= gone * end_s
        return self._begun_ms - (self._sum_s * 1000 - self._people * now_ms)


class _Look(NamedTuple):
    """A point, with the total time that people had been online by then, and all hits until then."""

    at_ms: int
    people: int
    online_ms: int
    peak: int
    hits: int


class Timeline:
    """People online at regular times. The step grows so that MAX_POINTS span the whole time.

    Points are at multiples of the step since 1970, plus one at the end. The `peak` and `average` of a point cover the
    time since the previous point, so the highest peak is that of the whole time.
    """

    def __init__(self, count: Callable[[int], int], online_ms: Callable[[int], int]) -> None:
        """`count` returns how many people are online at a time, `online_ms` their total time online until then.

        Both are called with times in ascending order.
        """
        self.begin_ms = 0  #: time of the first hit
        self.peak = 0  #: since the last point; updated by the caller
        self.hits = 0  #: since the begin; updated by the caller
        self._count = count
        self._online_ms = online_ms
        self._looks: list[_Look] = []
        self._step_ms = STEPS_S[0] * 1000
        self._next_ms = 0

    def advance(self, now_ms: int) -> None:
        """Add the points before `now_ms`. Call this before adding a hit of that time. O(points)."""
        if not self.begin_ms:
            self.begin_ms = now_ms
            self._next_ms = _round_up(now_ms, self._step_ms)
        while len(due := range(self._next_ms, now_ms, self._step_ms)) + len(self._looks) >= MAX_POINTS:
            self._widen()
        for at_ms in due:
            self._take(at_ms)
            self._next_ms = at_ms + self._step_ms

    def finish(self, now_ms: int) -> list[Point]:
        """Return all points up to the end, `now_ms`, with one at the end."""
        self.advance(now_ms)
        self._take(now_ms)
        points = []
        before_ms = online_ms = hits = 0
        for look in self._looks:
            took_ms = look.at_ms - (before_ms or self.begin_ms)
            average = (look.online_ms - online_ms) / took_ms if took_ms else float(look.people)
            points.append(Point(look.at_ms, look.people, average, look.peak, look.hits - hits))
            before_ms, online_ms, hits = look.at_ms, look.online_ms, look.hits
        return points

    def _take(self, at_ms: int) -> None:
        people = self._count(at_ms)
        self._looks.append(_Look(at_ms, people, self._online_ms(at_ms), self.peak, self.hits))
        self.peak = people

    def _widen(self) -> None:
        step_s = self._step_ms // 1000
        self._step_ms = next((step for step in STEPS_S if step > step_s), 2 * step_s) * 1000
        self._next_ms = _round_up(self._next_ms, self._step_ms)
        kept: list[_Look] = []
        peak = 0
        for look in self._looks:
            peak = max(peak, look.peak)
            if look.at_ms % self._step_ms == 0:
                kept.append(look._replace(peak=peak))
                peak = look.people
        self._looks = kept
        self.peak = max(self.peak, peak)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class _Peak(NamedTuple):
    """The most people so far, and the hits that show where they were: `earlier`, and the first of `block`."""

    people: int
    at_ms: int
    earlier: Sequence[Hit]
    block: Sequence[Hit]
    length: int


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The figures of a report. All times are in milliseconds since 1970."""

    window_s: int
    hits: int
    users: int
    urls: int
    first_ms: int
    last_ms: int
    late: int  #: hits outside the window when they were read
    top: list[tuple[bytes, int]]  #: the urls with the most hits, and their hits
    days: list[Visits]
    months: list[Visits]
    years: list[Visits]
    hours: list[Visits]  #: of the day
    average: float  #: people online, over the whole time
    peak: int  #: the most people online at once
    peak_at_ms: int  #: when that was first reached
    peak_pages: int  #: pages with people then
    peak_top: list[tuple[bytes, int]]  #: the pages with the most people then
    stays: Stays
    begin_ms: int  #: the time of the first hit read, before all points
    points: list[Point]


def survey(hits: Iterable[Hit], *, window_s: int = 1800, top: int = 10) -> Survey | None:
    """Compute the figures of a stream of hits; None if there are no hits. O(1) per hit, as in the index."""
    surveyor = _Surveyor(window_s)
    for hit in hits:
        surveyor.take(hit)
    return surveyor.finish(top) if surveyor.timeline.hits else None


class _Surveyor:
    """Adds hits to an index and records its answers.

    Everything in the index at one time comes from hits of the last window. Hits are kept in blocks that begin at least
    a window apart. So a peak needs only its own block and the previous one.
    """

    def __init__(self, window_s: int) -> None:
        self._window_s = window_s
        self._index = index = Index(window_s=window_s)
        self._online = OnlineTime(window_s)
        self.timeline = Timeline(lambda at_ms: index.count(now_ms=at_ms), self._online.until)
        self._calendar = Calendar()
        self._stays = StayCounter(window_s)
        self._urls: Counter[bytes] = Counter()
        self._first_ms, self._now_ms = SEEN_MAX_MS, 0
        self._earlier: list[Hit] = []
        self._block: list[Hit] = []
        self._block_ends_ms = 0
        self._peak = _Peak(0, 0, self._earlier, self._block, 0)

    def take(self, hit: Hit) -> None:
        user, url, seen_ms = hit
        self._urls[url] += 1
        self._calendar.add(user, seen_ms)
        if seen_ms < self._first_ms:
            self._first_ms = seen_ms
        if seen_ms > self._now_ms:
            self._go_on(seen_ms)
        self.timeline.hits += 1
        now_ms = self._now_ms
        if self._index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms):
            self._block.append(hit)
            self._online.hit(user, seen_ms, now_ms)
            self._stays.hit(user, seen_ms)
            self._look(self._index.count(now_ms=now_ms))

    def _go_on(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self.timeline.advance(now_ms)
        if now_ms >= self._block_ends_ms:
            self._earlier, self._block = self._block, []
            self._block_ends_ms = now_ms + self._window_s * 1000

    def _look(self, people: int) -> None:
        if people > self.timeline.peak:
            self.timeline.peak = people
        if people > self._peak.people:
            self._peak = _Peak(people, self._now_ms, self._earlier, self._block, len(self._block))

    def finish(self, top: int) -> Survey:
        points = self.timeline.finish(self._now_ms)
        begin_ms, peak = self.timeline.begin_ms, self._peak
        took_ms = self._now_ms - begin_ms
        peak_pages, peak_top = _places(peak, self._window_s, top)
        return Survey(
            window_s=self._window_s,
            hits=self.timeline.hits,
            users=self._calendar.n_users,
            urls=len(self._urls),
            first_ms=self._first_ms,
            last_ms=self._now_ms,
            late=self._index.statistics().late,
            top=heapq.nsmallest(top, self._urls.items(), key=lambda item: (-item[1], item[0])),
            days=self._calendar.days(),
            months=self._calendar.months(),
            years=self._calendar.years(),
            hours=self._calendar.hours(),
            average=self._online.until(self._now_ms) / took_ms if took_ms else float(peak.people),
            peak=peak.people,
            peak_at_ms=peak.at_ms,
            peak_pages=peak_pages,
            peak_top=peak_top,
            stays=self._stays.finish(),
            begin_ms=begin_ms,
            points=points,
        )


def _places(peak: _Peak, window_s: int, top: int) -> tuple[int, list[tuple[bytes, int]]]:
    """Return the number of pages and the top pages at the peak, by adding its hits to a new index."""
    index = Index(window_s=window_s)
    now_ms = 0
    for user, url, seen_ms in chain(peak.earlier, islice(peak.block, peak.length)):
        now_ms = max(now_ms, seen_ms)
        index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms)
    index.expire(now_ms=peak.at_ms)
    return index.statistics().pages, index.top(top, now_ms=peak.at_ms)
