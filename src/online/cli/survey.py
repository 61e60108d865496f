"""Computes the figures of a report from hits: how many people were online, when most, and on which pages.

Not here: reading logs (reading), output (report_text, picture), and counting (online.core.crowd). The current time is
the latest time read so far. So a line out of order never moves time back, and a quiet year costs no more than a quiet
minute.

1. Every figure is exact: it is the answer of an index at that time, after all hits read until then.
2. Memory is bounded by the hits of four windows, the names of users and urls, the number of days, and MAX_POINTS
   points.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from online.cli.stays import Stays, stays_of
from online.cli.visits import Visits, days_of, hours_of, months_of, years_of
from online.core.crowd import Crowd

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

    def __init__(self) -> None:
        self.begin_ms = 0  #: time of the first hit
        self._looks: list[_Look] = []
        self._step_ms = STEPS_S[0] * 1000
        self._next_ms = 0

    def advance(self, crowd: Crowd, now_ms: int) -> int:
        """Add the points before `now_ms`; return when the next is due. Call this before a hit of that time. O(points).

        The hits of `crowd` are those before.
        """
        if not self.begin_ms:
            self.begin_ms = now_ms
            self._next_ms = _round_up(now_ms, self._step_ms)
        while len(due := range(self._next_ms, now_ms, self._step_ms)) + len(self._looks) >= MAX_POINTS:
            self._widen(crowd)
        for at_ms in due:
            self._take(crowd, at_ms)
            self._next_ms = at_ms + self._step_ms
        return self._next_ms

    def finish(self, crowd: Crowd) -> list[Point]:
        """Return all points up to the latest hit, with one at its time."""
        self.advance(crowd, crowd.now_ms)
        self._take(crowd, crowd.now_ms)
        points = []
        before_ms = online_ms = hits = 0
        for look in self._looks:
            took_ms = look.at_ms - (before_ms or self.begin_ms)
            average = (look.online_ms - online_ms) / took_ms if took_ms else float(look.people)
            points.append(Point(look.at_ms, look.people, average, look.peak, look.hits - hits))
            before_ms, online_ms, hits = look.at_ms, look.online_ms, look.hits
        return points

    def _take(self, crowd: Crowd, at_ms: int) -> None:
        people = crowd.people_at(at_ms)
        self._looks.append(_Look(at_ms, people, crowd.online_ms(at_ms), crowd.peak, crowd.hits))
        crowd.peak = people

    def _widen(self, crowd: Crowd) -> None:
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
        crowd.peak = max(crowd.peak, peak)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


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
    all_urls: Sequence[tuple[bytes, int]] = field(default=(), compare=False, repr=False)  #: with their hits
    all_at_peak: Sequence[tuple[bytes, int]] = field(default=(), compare=False, repr=False)  #: with their people then


def survey(pieces: Iterable[bytes], *, window_s: int = 1800, top: int = 10) -> Survey | None:
    """Compute the figures of hits, packed as `Crowd.take` has them; None if there are no hits. O(1) per hit."""
    timeline = Timeline()
    crowd = Crowd(window_s, timeline.advance)
    for piece in pieces:
        crowd.take(piece)
    return _figures(crowd, timeline, top) if crowd.hits else None


def _figures(crowd: Crowd, timeline: Timeline, top: int) -> Survey:
    points = timeline.finish(crowd)
    took_ms = crowd.now_ms - timeline.begin_ms
    urls, pages = crowd.pages(), crowd.pages_at_most()
    days = crowd.days()
    return Survey(
        window_s=crowd.window_s,
        hits=crowd.hits,
        users=crowd.n_users,
        urls=len(urls),
        first_ms=crowd.first_ms,
        last_ms=crowd.now_ms,
        late=crowd.late,
        top=_most(urls, top),
        days=days_of(days),
        months=months_of(days, crowd.months()),
        years=years_of(days, crowd.years()),
        hours=hours_of(crowd.hours()),
        average=crowd.online_ms(crowd.now_ms) / took_ms if took_ms else float(crowd.most),
        peak=crowd.most,
        peak_at_ms=crowd.most_at_ms,
        peak_pages=len(pages),
        peak_top=_most(pages, top),
        stays=stays_of(*crowd.stays()),
        begin_ms=timeline.begin_ms,
        points=points,
        all_urls=urls,
        all_at_peak=pages,
    )


def _most(urls: list[tuple[bytes, int]], top: int) -> list[tuple[bytes, int]]:
    """Return the urls with the greatest numbers; equal ones by url."""
    return heapq.nsmallest(top, urls, key=lambda item: (-item[1], item[0]))
