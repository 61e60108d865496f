"""Counts hits and users by day, month, year and hour of the day, in UTC.

Memory is bounded by the names of users and the number of days: users are kept only for the last two days, months and
years.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_EPOCH = datetime.fromtimestamp(0, UTC)


class Visits(NamedTuple):
    """The number of hits and users in a period."""

    period: str
    hits: int
    users: int


class _Periods:
    """Counts hits and users by period.

    Users are kept for the two latest periods. A hit that is more than a whole period late counts as a hit, but not as a
    user.
    """

    def __init__(self) -> None:
        self._hits: Counter[str] = Counter()
        self._users: dict[str, int] = {}  #: of finished periods
        self._open: dict[str, set[bytes]] = {}

    def add(self, period: str, user: bytes) -> None:
        self._hits[period] += 1
        users = self._open.get(period)
        if users is None:
            if len(self._open) == 2 and period < min(self._open):
                return
            users = self._begin(period)
        users.add(user)

    def _begin(self, period: str) -> set[bytes]:
        begun = self._open[period] = set()
        if len(self._open) > 2:
            oldest = min(self._open)
            self._users[oldest] = len(self._open.pop(oldest))
        return begun

    def rows(self) -> list[Visits]:
        users = self._users | {period: len(users) for period, users in self._open.items()}
        return [Visits(period, hits, users.get(period, 0)) for period, hits in sorted(self._hits.items())]


class Calendar:
    """Counts hits and users by each kind of period. The names of periods sort in order of time."""

    def __init__(self) -> None:
        self._days, self._months, self._years = _Periods(), _Periods(), _Periods()
        self._names: dict[int, str] = {}  #: of days
        self._hits_by_hour: Counter[int] = Counter()
        self._hours: dict[bytes, int] = {}  #: user -> a bit for each hour of the day

    def add(self, user: bytes, seen_ms: int) -> None:
        """Count a hit. O(1)."""
        number = seen_ms // DAY_MS
        day = self._names.get(number) or self._name(number)
        self._days.add(day, user)
        self._months.add(day[:-3], user)
        self._years.add(day[:-6], user)
        hour = seen_ms // HOUR_MS % 24
        self._hits_by_hour[hour] += 1
        self._hours[user] = self._hours.get(user, 0) | 1 << hour

    def _name(self, number: int) -> str:
        name = self._names[number] = f"{_EPOCH + timedelta(days=number):%Y-%m-%d}"
        return name

    @property
    def n_users(self) -> int:
        return len(self._hours)

    def days(self) -> list[Visits]:
        """Return the days with hits, such as `2015-05-17`."""
        return self._days.rows()

    def months(self) -> list[Visits]:
        """Return the months with hits, such as `2015-05`."""
        return self._months.rows()

    def years(self) -> list[Visits]:
        """Return the years with hits."""
        return self._years.rows()

    def hours(self) -> list[Visits]:
        """Return the hours of the day with hits, such as `09:00`, of all days together."""
        masks = Counter(self._hours.values())
        return [
            Visits(f"{hour:02}:00", hits, sum(n for mask, n in masks.items() if mask >> hour & 1))
            for hour, hits in sorted(self._hits_by_hour.items())
        ]
