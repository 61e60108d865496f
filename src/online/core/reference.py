"""The rules of the compiled index in plain Python on `sortedcontainers`, written to be read.

This is the specification. `ReferenceIndex` has the methods, results and errors of `online.core.index.Index`, and tests
run both side by side. Not here: speed, or a limit on memory; `budget` and `seed` are ignored.

Invariants, which `_check` asserts:

1. A user has one session: the newest hit or leave of that user that was accepted.
2. Every session is inside the window that ends at the greatest `now_ms` given so far.
3. All counts and lists follow from the sessions alone.
4. A page exists exactly while a session is on it. Departed sessions are on no page.
5. There are at most `max_users` sessions and `max_pages` pages.
"""

import hmac
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice, takewhile
from operator import index as integer
from typing import NamedTuple

from sortedcontainers import SortedDict, SortedList, SortedSet

from online import errors
from online.terms import (
    KINDS,
    MEMBER,
    NAMED,
    PEOPLE,
    SEEN_MAX_MS,
    SEEN_MIN_MS,
    SKEW_MS,
    WINDOW_MAX_S,
    WINDOW_MIN_S,
    IndexStatistics,
)

#: The kind of a session whose user has left; no hit can have it.
DEPARTED = "departed"

SEED_BYTES = 16
NAME_MAX_BYTES = 16 * 1024
COUNT_MAX = 2**31 - 1


class _Session(NamedTuple):
    """A user's newest hit or leave. Sessions compare by their place in time, (seen_ms, tie): rule 6."""

    seen_ms: int
    tie: int  # greater for the later arrival; no two named sessions of one time have the same
    user: bytes
    url: bytes  # b"" when departed
    kind: str


class _Place(NamedTuple):
    """The place of a session when it was listed."""

    seen_ms: int
    tie: int
    user: bytes


class _Group:
    """The sessions of one page, or of the whole site: how many of each kind, and the named ones by time."""

    def __init__(self) -> None:
        self.kinds = dict.fromkeys(KINDS, 0)
        self.named = SortedList()

    @property
    def people(self) -> int:
        return sum(self.kinds[kind] for kind in PEOPLE)

    def add(self, session: _Session) -> None:
        self.kinds[session.kind] += 1
        if session.kind in NAMED:
            self.named.add(session)

    def remove(self, session: _Session) -> None:
        self.kinds[session.kind] -= 1
        if session.kind in NAMED:
            self.named.remove(session)


class ReferenceIndex:
    """Has the methods of `online.core.index.Index`, which describes them. O(log n) where that is O(1)."""

    def __init__(
        self,
        *,
        window_s: int = 1800,
        max_users: int = 10_000_000,
        max_pages: int = 10_000_000,
        max_user: int = 256,
        max_url: int = 2_048,
        max_limit: int = 1_000,
        max_scan: int = 100_000,
        budget: object = None,
        seed: bytes | None = None,
    ) -> None:
        self._window_s = _number("window_s", window_s, WINDOW_MIN_S, WINDOW_MAX_S)
        self._max_users = _number("max_users", max_users, 1, COUNT_MAX)
        self._max_pages = _number("max_pages", max_pages, 1, COUNT_MAX)
        self._max_user = _number("max_user", max_user, 1, NAME_MAX_BYTES)
        self._max_url = _number("max_url", max_url, 1, NAME_MAX_BYTES)
        self._max_limit = _number("max_limit", max_limit, 1, COUNT_MAX)
        self._max_scan = _number("max_scan", max_scan, 1, COUNT_MAX)
        if seed is not None:
            _typed("seed", seed, bytes)
            _number("seed bytes", len(seed), SEED_BYTES, SEED_BYTES)
        self._now_ms = 0
        self._key = secrets.token_bytes(16)  # signs cursors
        self._peak = (0, 0)
        self._became = dict.fromkeys(IndexStatistics._fields[3:], 0)
        self._sessions: dict[bytes, _Session] = {}
        self._by_time = SortedList()  # of all sessions
        self._site = _Group()
        self._pages = SortedDict()  # url -> _Group
        self._names = SortedSet()  # users that may be named
        self._people_in: Counter[int] = Counter()  # second -> people last seen in it

    # Hits

    def hit(
        self, user: bytes, url: bytes, *, seen_ms: int | None = None, kind: str = MEMBER, now_ms: int
    ) -> bool:
        _number("now_ms", now_ms, SEEN_MIN_MS, SEEN_MAX_MS)
        try:
            _name("user", user, self._max_user)
            _name("url", url, self._max_url)
            _seen(seen_ms)
            _kind(kind)
        except errors.RangeError:
            self._became["refused"] += 1
            raise
        return self._take(user, url, seen_ms, kind, now_ms)

    def leave(self, user: bytes, *, seen_ms: int | None = None, now_ms: int) -> bool:
        _number("now_ms", now_ms, SEEN_MIN_MS, SEEN_MAX_MS)
        try:
            _name("user", user, self._max_user)
            _seen(seen_ms)
        except errors.RangeError:
            self._became["refused"] += 1
            raise
        return self._take(user, b"", seen_ms, DEPARTED, now_ms)

    def _take(self, user: bytes, url: bytes, seen_ms: int | None, kind: str, now_ms: int) -> bool:
        """Apply the rules, in order of precedence."""
        self._advance(now_ms)
        claimed_ms = self._now_ms if seen_ms is None else seen_ms
        seen_ms = min(claimed_ms, self._now_ms)  # rule 3: a future time counts as now
        if not self._is_in_window(seen_ms):
            self._became["late"] += 1
            return False
        old = self._sessions.get(user)
        if old is not None and seen_ms < old.seen_ms:
            self._became["stale"] += 1
            return False
        if old is None or (seen_ms, url, kind) != (old.seen_ms, old.url, old.kind):  # else a repeat: rule 1
            self._refuse_if_full(old, url, kind)
            self._replace(old, seen_ms, user, url, kind)
        self._became["accepted"] += 1
        self._became["skewed"] += claimed_ms > self._now_ms + SKEW_MS
        return True

    def _refuse_if_full(self, old: _Session | None, url: bytes, kind: str) -> None:
        """Check the limits against the state after the hit (rule 10)."""
        users = len(self._sessions) + (old is None)
        pages = len(self._pages)
        if kind != DEPARTED and url not in self._pages:
            pages += 1 - (old is not None and self._is_alone(old))
        if users > self._max_users or (old is None and kind == DEPARTED and self._has_many_departed()):
            self._became["refused"] += 1
            self._became["max_users_reached"] += 1
            raise errors.full("max_users", self._max_users)
        if pages > self._max_pages:
            self._became["refused"] += 1
            self._became["max_pages_reached"] += 1
            raise errors.full("max_pages", self._max_pages)

    def _has_many_departed(self) -> bool:
        """Tell whether half of the room is taken by who has left. Who was never here may not take more of it."""
        return 2 * (len(self._sessions) - sum(self._site.kinds.values())) >= self._max_users

    def _is_alone(self, session: _Session) -> bool:
        """Return whether the session's page disappears with the session."""
        return session.kind != DEPARTED and sum(self._pages[session.url].kinds.values()) == 1

    def _replace(self, old: _Session | None, seen_ms: int, user: bytes, url: bytes, kind: str) -> None:
        if old is not None:
            self._remove(old)
        self._add(_Session(seen_ms, self._next_tie(seen_ms), user, url, kind))
        if self._site.people > self._peak[0]:
            self._peak = (self._site.people, self._now_ms)

    def _next_tie(self, seen_ms: int) -> int:
        """Return one more than the newest session of the same time has. Free places are used again."""
        newest = next(self._site.named.irange(maximum=(seen_ms + 1,), reverse=True), None)
        return newest.tie + 1 if newest is not None and newest.seen_ms == seen_ms else 0

    def _add(self, session: _Session) -> None:
        self._sessions[session.user] = session
        self._by_time.add(session)
        if session.kind == DEPARTED:
            return
        self._site.add(session)
        if session.url not in self._pages:
            self._pages[session.url] = _Group()
        self._pages[session.url].add(session)
        if session.kind in NAMED:
            self._names.add(session.user)
        if session.kind in PEOPLE:
            self._people_in[session.seen_ms // 1000] += 1

    def _remove(self, session: _Session) -> None:
        del self._sessions[session.user]
        self._by_time.remove(session)
        if session.kind == DEPARTED:
            return
        self._site.remove(session)
        if self._is_alone(session):
            del self._pages[session.url]
        else:
            self._pages[session.url].remove(session)
        self._names.discard(session.user)
        if session.kind in PEOPLE:
            second = session.seen_ms // 1000
            self._people_in[second] -= 1
            if not self._people_in[second]:
                del self._people_in[second]

    # Time

    def expire(self, *, now_ms: int) -> int:
        return self._advance(now_ms)

    def _advance(self, now_ms: int) -> int:
        """Move the clock forward, remove sessions that left the window (rules 5, 8), and return how many."""
        self._now_ms = max(self._now_ms, _number("now_ms", now_ms, SEEN_MIN_MS, SEEN_MAX_MS))
        expired = 0
        while self._by_time and not self._is_in_window(self._by_time[0].seen_ms):
            self._remove(self._by_time[0])
            expired += 1
        self._became["expired"] += expired
        return expired

    def _is_in_window(self, seen_ms: int) -> bool:
        return seen_ms // 1000 > self._now_ms // 1000 - self._window_s  # rule 2

    # Counts

    def count(self, url: bytes | None = None, within_s: int | None = None, *, now_ms: int) -> int:
        if url is not None and within_s is not None:
            raise errors.within_one_page()
        if within_s is None:
            return sum(self.kinds(url, now_ms=now_ms)[: len(PEOPLE)])
        _number("within_s", within_s, 1, self._window_s)
        self._advance(now_ms)
        newest_s = self._now_ms // 1000
        return sum(self._people_in[second] for second in range(newest_s - within_s + 1, newest_s + 1))

    def counts(self, urls: Sequence[bytes], *, now_ms: int) -> list[int]:
        self._names_asked("urls", urls, self._max_url)
        self._advance(now_ms)
        return [self._group(url).people for url in urls]

    def kinds(self, url: bytes | None = None, *, now_ms: int) -> list[int]:
        if url is not None:
            _name("url", url, self._max_url)
        self._advance(now_ms)
        group = self._site if url is None else self._group(url)
        return list(group.kinds.values())

    def section(self, prefix: bytes, *, now_ms: int) -> tuple[int, int]:
        self._prefix(prefix, self._max_url)
        self._advance(now_ms)
        urls = list(islice(_beginning_with(prefix, self._pages), self._max_scan + 1))
        if len(urls) > self._max_scan:
            raise errors.scan_too_long(prefix, self._max_scan)
        return sum(self._group(url).people for url in urls), len(urls)

    def top(self, limit: int = 10, prefix: bytes = b"", *, now_ms: int) -> list[tuple[bytes, int]]:
        _number("limit", limit, 0, self._max_limit)
        self._prefix(prefix, self._max_url)
        self._advance(now_ms)
        pages = ((url, self._group(url).people) for url in _beginning_with(prefix, self._pages))
        return nsmallest(limit, (page for page in pages if page[1]), key=lambda page: (-page[1], page[0]))

    def peak(self) -> tuple[int, int]:
        return self._peak

    def statistics(self) -> IndexStatistics:
        return IndexStatistics(
            users=len(self._sessions), pages=len(self._pages), memory_bytes=0, **self._became
        )

    def _group(self, url: bytes) -> _Group:
        group: _Group | None = self._pages.get(url)
        return group or _Group()

    # Lists

    def page(
        self, url: bytes, limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[int, int, list[tuple[bytes, int, str]], str | None]:
        _name("url", url, self._max_url)
        _number("limit", limit, 0, self._max_limit)
        question = b"page " + url
        self._advance(now_ms)
        after = self._place_after(question, cursor)
        group = self._group(url)
        listed, last = _cut(_newest_first(group.named, after), limit)
        rows = [(session.user, session.seen_ms, session.kind) for session in listed]
        return self._site.people, group.people, rows, self._cursor_at(question, last)

    def recent(
        self, limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[list[tuple[bytes, bytes, int, str]], str | None]:
        _number("limit", limit, 0, self._max_limit)
        self._advance(now_ms)
        after = self._place_after(b"recent", cursor)
        listed, last = _cut(_newest_first(self._site.named, after), limit)
        return [_row(session) for session in listed], self._cursor_at(b"recent", last)

    def users(
        self, prefix: bytes = b"", limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[list[tuple[bytes, bytes, int, str]], str | None]:
        self._prefix(prefix, self._max_user)
        _number("limit", limit, 0, self._max_limit)
        question = b"users " + prefix
        self._advance(now_ms)
        after = self._place_after(question, cursor)
        names = _beginning_with(prefix, self._names, after)
        listed, last = _cut((self._sessions[user] for user in names), limit)
        return [_row(session) for session in listed], self._cursor_at(question, last)

    def seen(self, users: Sequence[bytes], *, now_ms: int) -> list[tuple[bytes, int] | None]:
        self._names_asked("users", users, self._max_user)
        self._advance(now_ms)
        return [
            (self._sessions[user].url, self._sessions[user].seen_ms) if user in self._names else None
            for user in users
        ]

    # Cursors

    def _cursor_at(self, question: bytes, last: _Session | None) -> str | None:
        """Return the place of the last session listed, signed together with its question."""
        if last is None:
            return None
        place = f"{last.seen_ms}.{last.tie}.{last.user.hex()}"
        return f"{place}.{self._signature(question, place)}"

    def _place_after(self, question: bytes, cursor: str | None) -> _Place | None:
        if cursor is None:
            return None
        _typed("cursor", cursor, str)
        place, _, signature = cursor.rpartition(".")
        if not hmac.compare_digest(_encode(signature), _encode(self._signature(question, place))):
            raise errors.bad_cursor(_encode(cursor))
        seen_ms, tie, user = place.split(".")
        return _Place(int(seen_ms), int(tie), bytes.fromhex(user))

    def _signature(self, question: bytes, place: str) -> str:
        return hmac.new(self._key, _encode(place) + b"\0" + question, "sha256").hexdigest()[:16]

    # Arguments

    def _names_asked(self, what: str, names: Sequence[bytes], limit: int) -> None:
        if len(names) > self._max_limit:
            raise errors.too_many(what, len(names), self._max_limit)
        for name in names:
            _name(what.removesuffix("s"), name, limit)

    def _prefix(self, prefix: bytes, limit: int) -> None:
        _typed("prefix", prefix, bytes)
        if len(prefix) > limit:
            raise errors.bad_name("prefix", prefix, limit)

    def _check(self) -> None:
        assert list(self._by_time) == sorted(self._sessions.values()), "by time: not the sessions, in order"
        again = ReferenceIndex()
        for user, session in self._sessions.items():
            assert user == session.user, f"{user!r} has the session of {session.user!r}"
            assert self._is_in_window(session.seen_ms), f"{user!r} is outside the window"
            again._add(session)
        assert len(self._sessions) <= self._max_users, "more sessions than max_users"
        assert len(self._pages) <= self._max_pages, "more pages than max_pages"
        assert vars(self._site) == vars(again._site), "the site is not its sessions"
        assert list(self._pages) == list(again._pages), "the pages are not the urls of the sessions"
        for url, group in self._pages.items():
            assert vars(group) == vars(again._pages[url]), f"page {url!r} is not its sessions"
        assert self._names == again._names, "the names are not the users that may be named"
        assert self._people_in == again._people_in, "the counts by second are not the sessions"


def _row(session: _Session) -> tuple[bytes, bytes, int, str]:
    return session.user, session.url, session.seen_ms, session.kind


def _newest_first(named: SortedList, after: _Place | None) -> Iterator[_Session]:
    """Yield sessions back in time, starting after the place `after`, whether or not a session is there."""
    # A pair sorts before every session that begins with it.
    found: Iterator[_Session] = named.irange(maximum=after and after[:2], reverse=True)
    return found


def _beginning_with(
    prefix: bytes, names: SortedDict | SortedSet, after: _Place | None = None
) -> Iterator[bytes]:
    """Yield the names that begin with `prefix`, in order, starting after the place `after`."""
    if after is None:
        found = names.irange(minimum=prefix)
    else:
        found = names.irange(minimum=after.user, inclusive=(False, True))
    return takewhile(lambda name: name.startswith(prefix), found)


def _cut(sessions: Iterable[_Session], limit: int) -> tuple[list[_Session], _Session | None]:
    """Return `limit` sessions, and the last one again if more follow."""
    listed = list(islice(sessions, limit + 1))
    if not limit or len(listed) <= limit:
        return listed[:limit], None
    return listed[:limit], listed[limit - 1]


def _encode(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _typed(what: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise TypeError(f"{what} takes {wanted.__name__}, not {type(value).__name__}")


def _name(what: str, name: bytes, limit: int) -> None:
    _typed(what, name, bytes)
    if not 1 <= len(name) <= limit:
        raise errors.bad_name(what, name, limit)


def _number(what: str, value: int, low: int, high: int) -> int:
    value = integer(value)
    if not low <= value <= high:
        raise errors.bad_number(what, value, low, high)
    return value


def _seen(seen_ms: int | None) -> None:
    if seen_ms is not None and not SEEN_MIN_MS <= integer(seen_ms) <= SEEN_MAX_MS:
        raise errors.bad_seen(seen_ms)


def _kind(kind: str) -> None:
    _typed("kind", kind, str)
    if kind not in KINDS:
        raise errors.bad_kind(_encode(kind))
