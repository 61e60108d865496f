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

    def add(self, period: str, user: bytes) -> bool:
        """Count a hit. Returns whether its user was not yet known to the period, as far as it is kept."""
        self._hits[period] += 1
        return self.meet(period, user)

    def meet(self, period: str, user: bytes) -> bool:
        """Take note of a user, as `add` does, without a hit."""
        users = self._open.get(period)
        if users is None:
            if len(self._open) == 2 and period < min(self._open):
                return True
            users = self._begin(period)
        if user in users:
            return False
        users.add(user)
        return True

    def _begin(self, period: str) -> set[bytes]:
        begun = self._open[period] = set()
        if len(self._open) > 2:
            oldest = min(self._open)
            self._users[oldest] = len(self._open.pop(oldest))
        return begun

    def rows(self, hits: Counter[str] | None = None) -> list[Visits]:
        """Return all periods, with the hits given or counted."""
        users = self._users | {period: len(users) for period, users in self._open.items()}
        counted = self._hits if hits is None else hits
        return [Visits(period, hits, users.get(period, 0)) for period, hits in sorted(counted.items())]

    def hits(self, length: int) -> Counter[str]:
        """Return the hits by periods without their last `length` characters: those of months, of days."""
        found: Counter[str] = Counter()
        for period, hits in self._hits.items():
            found[period[:-length]] += hits
        return found


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
        if self._days.add(day, user):  # who is known to the day is known to its month and year
            self._months.meet(day[:-3], user)
            self._years.meet(day[:-6], user)
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
        return self._months.rows(self._days.hits(len("-01")))

    def years(self) -> list[Visits]:
        """Return the years with hits."""
        return self._years.rows(self._days.hits(len("-01-01")))

    def hours(self) -> list[Visits]:
        """Return the hours of the day with hits, such as `09:00`, of all days together."""
        masks = Counter(self._hours.values())
        return [
            Visits(f"{hour:02}:00", hits, sum(n for mask, n in masks.items() if mask >> hour & 1))
            for hour, hits in sorted(self._hits_by_hour.items())
        ]
