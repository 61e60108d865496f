"""The figures of `online.core.crowd` in plain Python, on top of an index: what the compiled way is held to."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

import msgpack

from online.core.index import Index

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class PlainCrowd:
    """A `Crowd` that asks an index who is online, and keeps every hit."""

    def __init__(self, window_s, advance):
        self.window_s = window_s
        self.hits = self.now_ms = self.most = self.most_at_ms = self.peak = 0
        self._advance = advance
        self._index = Index(window_s=window_s)
        self._seen = []  # all hits
        self._kept = []  # those that count
        self._n_at_most = 0
        self._ends_s = {}  # when each user goes or went offline
        self._granted_ms = 0
        self._next_ms = 0
        self._days, self._months, self._years = Periods(), Periods(), Periods()

    def take(self, items):
        unpacker = msgpack.Unpacker()
        unpacker.feed(items)
        for user, url, seen_ms, *_ in unpacker:
            self._hit(user, url, seen_ms)

    def _hit(self, user, url, seen_ms):
        self._seen.append((user, url, seen_ms))
        date = datetime.fromtimestamp(seen_ms // 1000, UTC)
        if self._days.add(seen_ms // DAY_MS, user):
            self._months.add(12 * date.year + date.month - 1, user)
            self._years.add(date.year, user)
        if seen_ms > self.now_ms:
            self.now_ms = seen_ms
            if seen_ms > self._next_ms:
                self._next_ms = self._advance(self, seen_ms)
        self.hits += 1
        if self._index.hit(user, url, seen_ms=seen_ms, now_ms=self.now_ms):
            self._kept.append((user, url, seen_ms))
            self._grant(user, seen_ms // 1000 + self.window_s)
            people = self._index.count(now_ms=self.now_ms)
            self.peak = max(self.peak, people)
            if people > self.most:
                self.most, self.most_at_ms, self._n_at_most = people, self.now_ms, len(self._kept)

    def _grant(self, user, end_s):
        before_s = self._ends_s.get(user, 0)
        if end_s > before_s:
            self._ends_s[user] = end_s
            self._granted_ms += 1000 * end_s - max(1000 * before_s, self.now_ms)

    @property
    def late(self):
        return self._index.statistics().late

    @property
    def first_ms(self):
        return min(seen_ms for _, _, seen_ms in self._seen)

    @property
    def n_users(self):
        return len({user for user, _, _ in self._seen})

    def people_at(self, at_ms):
        return self._index.count(now_ms=at_ms)

    def online_ms(self, at_ms):
        return self._granted_ms - sum(max(0, 1000 * end_s - at_ms) for end_s in self._ends_s.values())

    def pages(self):
        return list(Counter(url for _, url, _ in self._seen).items())

    def pages_at_most(self):
        index, now_ms = Index(window_s=self.window_s), 0
        for user, url, seen_ms in self._kept[: self._n_at_most]:
            now_ms = max(now_ms, seen_ms)
            index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms)
        return index.top(1000, now_ms=self.most_at_ms)

    def days(self):
        hits = Counter(seen_ms // DAY_MS for _, _, seen_ms in self._seen)
        return {day: (number, self._days.users[day]) for day, number in hits.items()}

    def months(self):
        return self._months.users

    def years(self):
        return self._years.users

    def hours(self):
        of_hour = [[user for user, _, ms in self._seen if ms // HOUR_MS % 24 == hour] for hour in range(24)]
        return [(len(users), len(set(users))) for users in of_hour]

    def stays(self):
        times = defaultdict(list)
        for user, _, seen_ms in self._kept:
            times[user].append(seen_ms // 1000)
        stays = []
        for seconds in times.values():
            for number, second in enumerate(seconds):
                if number == 0 or second - seconds[number - 1] >= self.window_s:
                    stays.append([])
                stays[-1].append(second)
        lengths = Counter(stay[-1] - stay[0] for stay in stays if len(stay) > 1)
        return len(stays), sum(map(len, stays)), sum(len(stay) == 1 for stay in stays), dict(lengths)


class Periods:
    """Users by period. Who comes to one before the two latest is not counted."""

    def __init__(self):
        self.users = Counter()
        self._open = {}

    def add(self, period, user):
        """Count a user; return whether the period did not know this one, as far as it is kept."""
        if period not in self._open:
            if len(self._open) == 2 and period < min(self._open):
                return True
            self._open[period] = set()
            if len(self._open) > 2:
                del self._open[min(self._open)]
        is_new = user not in self._open[period]
        self._open[period].add(user)
        self.users[period] += is_new
        return is_new
