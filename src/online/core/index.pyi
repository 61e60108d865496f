"""Who is online: a multi-indexed skiplist with the rules for hits. Complexities are expected values.

All names are byte strings, and all times are integer milliseconds since 1970. Methods that take `now_ms` move the time
on, and no answer includes sessions that have left the window. Time never goes back: the latest `now_ms` counts.
Calls are atomic among threads (they hold the GIL). No method reads a clock.
"""

from collections.abc import Sequence
from typing import final

from online.core.slots import Slots
from online.terms import IndexStatistics

@final
class Budget:
    """A limit on the memory of several indexes together. A hit that would exceed it raises FullError."""

    def __init__(self, limit_bytes: int) -> None: ...
    limit_bytes: int
    @property
    def used_bytes(self) -> int: ...

class Index:
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
        budget: Budget | None = None,
        seed: bytes | None = None,
        keeps_nothing: bool = False,
    ) -> None:
        """Create an empty index. One that `keeps_nothing` judges and counts hits and tells observers, and stays empty.

        `window_s`: 60 to 86,400. `max_user`, `max_url`: bytes, 1 to 16,384. `budget`: shared among indexes; without
        one, only the system limits memory. `seed`: 16 bytes that make hashes and heights repeatable, for tests; the
        default is random and secret.

        Raises RangeError if an argument is outside its limits, MemoryError if there is no memory.
        """

    def judge_by(self, *, window_s: int, max_user: int, max_url: int, max_limit: int, max_scan: int) -> None:
        """Judge arguments by another window and other limits from now on, while nobody is here. O(window).

        Raises ValueError if somebody is, RangeError for an argument outside its limits, and FullError or MemoryError if
        there is no memory.
        """

    slots: Slots | None  #: whose users are taken; None: all are

    def hit(
        self, user: bytes, url: bytes, *, seen_ms: int | None = None, kind: str = "member", now_ms: int
    ) -> bool:
        """Make this hit its user's session if it is the newest. O(1) in time order, O(log n) for a new user or url.

        `seen_ms` None means now. Returns whether it is now the user's session: False for a late or stale hit. Raises
        RangeError for a name, time or kind outside its limits, FullError at a limit. Neither changes anything.
        """

    def leave(self, user: bytes, *, seen_ms: int | None = None, now_ms: int) -> bool:
        """Take a user offline until a newer hit. Returns and raises as `hit` does. O(1)."""

    def expire(self, most: int | None = None, *, now_ms: int) -> int:
        """Remove sessions that have left the window, at most `most` or all. Returns how many. O(1) each.

        Answers are exact whether these sessions are removed or not.
        """

    def count(self, url: bytes | None = None, within_s: int | None = None, *, now_ms: int) -> int:
        """Count the people online, on one page, or seen within the last `within_s` seconds (1 to the window).

        O(1), or O(within_s). Raises RangeError if both are given, or if `within_s` is outside its range.
        """

    def counts(self, urls: Sequence[bytes], *, now_ms: int) -> list[int]:
        """Count the people on each of at most `max_limit` pages. O(1) each. Raises RangeError for more pages."""

    def kinds(self, url: bytes | None = None, *, now_ms: int) -> list[int]:
        """Count `[members, guests, hidden, bots]` on the site or on one page. O(1)."""

    def page(
        self, url: bytes, limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[int, int, list[tuple[bytes, int, str]], str | None]:
        """List a page's users newest first: `(online, here, [(user, seen_ms, kind), ...], cursor)`.

        `online` counts the people on the site, `here` those on this page. Both include hidden users, who are not
        listed. `limit`: 0 to `max_limit`. `cursor` continues an earlier reply; it is None in the last one. O(1) plus
        the users listed. Raises RangeError for a limit outside its range, or a cursor for another url.
        """

    def recent(
        self, limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[list[tuple[bytes, bytes, int, str]], str | None]:
        """List the site's users newest first: `([(user, url, seen_ms, kind), ...], cursor)`. Like `page`."""

    def users(
        self, prefix: bytes = b"", limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[list[tuple[bytes, bytes, int, str]], str | None]:
        """List the users whose names begin with `prefix`, by name. O(log n) plus the users listed. Like `page`."""

    def seen(self, users: Sequence[bytes], *, now_ms: int) -> list[tuple[bytes, int] | None]:
        """Return `(url, seen_ms)` for each of at most `max_limit` users. O(1) each.

        None for users who are offline, hidden or bots.
        """

    def section(self, prefix: bytes, *, now_ms: int) -> tuple[int, int]:
        """Add up `(people, pages)` over all urls that begin with `prefix`. O(log n) plus the pages.

        Raises RangeError for more than `max_scan` pages.
        """

    def top(self, limit: int = 10, prefix: bytes = b"", *, now_ms: int) -> list[tuple[bytes, int]]:
        """List the pages with the most people; equal ones by url. Pages without people are left out. O(pages).

        `limit`: 0 to `max_limit`.
        """

    def peak(self) -> tuple[int, int]:
        """Return the most people ever online at once, and when that was first reached; (0, 0) before any hit."""

    def relax(self, is_on: bool) -> None:
        """Take what was taken before, in any order, while an index is read from disk; then go back to the limits.

        While it is on there may be twice as many pages, departed users are known ones, and if the index was empty
        then, nobody stands in the order by name: `users` lists nobody, and `expire` removes nobody. Going back puts all
        there, in O(bytes of their names), without the GIL.
        """

    def last(self, user: bytes, *, now_ms: int) -> tuple[bytes, int, str] | None:
        """Return `(url, seen_ms, kind)` of a user of any kind, or None; the url of who may not be named is b"". O(1).

        The kind of who left is "departed".
        """

    def forget(self, user: bytes, *, now_ms: int) -> bool:
        """Erase a user, and tell nobody but who watches pages; return whether the user was here. O(1)."""

    def restore(self, *, peak: int, peak_at_ms: int, statistics: IndexStatistics) -> None:
        """Let the peak, and what has become of hits, be as an earlier index told. Sessions stay as they are. O(1)."""

    @property
    def overdue(self) -> int:
        """Sessions that have left the window, are in no answer, and wait to be dropped. O(1)."""

    def statistics(self) -> IndexStatistics:
        """Return the contents and counters of the index. O(1)."""

    def _check(self) -> None:
        """Raise AssertionError naming the first broken invariant. O(n log n)."""
