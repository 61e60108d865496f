"""Rows of hits and users by day, month, year and hour of the day, in UTC.

Not its job: counting (online.core.crowd).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime.fromtimestamp(0, UTC)


class Visits(NamedTuple):
    """The number of hits and users in a period."""

    period: str
    hits: int
    users: int


def days_of(days: dict[int, tuple[int, int]]) -> list[Visits]:
    """Return the days with hits, such as `2015-05-17`. `days`: hits and users by the days since 1970."""
    return [Visits(f"{_date(day):%Y-%m-%d}", *counted) for day, counted in sorted(days.items())]


def months_of(days: dict[int, tuple[int, int]], users: dict[int, int]) -> list[Visits]:
    """Return the months with hits, such as `2015-05`. `users` are by the months since the year 0."""
    hits: Counter[int] = Counter()
    for day, (number, _) in days.items():
        date = _date(day)
        hits[12 * date.year + date.month - 1] += number
    return [
        Visits(f"{month // 12}-{month % 12 + 1:02}", number, users.get(month, 0))
        for month, number in sorted(hits.items())
    ]


def years_of(days: dict[int, tuple[int, int]], users: dict[int, int]) -> list[Visits]:
    """Return the years with hits. `users` are by year."""
    hits: Counter[int] = Counter()
    for day, (number, _) in days.items():
        hits[_date(day).year] += number
    return [Visits(str(year), number, users.get(year, 0)) for year, number in sorted(hits.items())]


def hours_of(hours: Sequence[tuple[int, int]]) -> list[Visits]:
    """Return the hours of the day with hits, such as `09:00`, of all days together. `hours`: hits and users of 24."""
    return [Visits(f"{hour:02}:00", hits, users) for hour, (hits, users) in enumerate(hours) if hits]


def _date(day: int) -> datetime:
    return _EPOCH + timedelta(days=day)
