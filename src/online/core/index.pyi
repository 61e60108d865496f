"""Who is online: the multi-indexed skiplist with the rules of hits on top. Complexities are expected ones.

All names are byte strings and all times integer milliseconds since 1970. Every method that takes `now_ms` first
expires what has left the window; `now_ms` never goes back behind the greatest value it was given.
Calls are atomic among threads (they hold the GIL). No method reads a clock.
"""

from collections.abc import Sequence

from online.terms import IndexStatistics

class Budget:
    """Bytes that several indexes may take together; an index that would exceed it refuses the hit with FullError."""

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
    ) -> None:
        """Make an empty index.

        `window_s`: 60 to 86,400. `max_user`, `max_url`: bytes, 1 to 16,384. `budget`: shared among indexes,
        without one memory is bounded by the system alone. `seed`: 16 bytes that make hashes and heights
        repeatable (for tests); left out, they are secret.

        Raises RangeError if an argument is outside its limits, MemoryError if no memory can be had.
        """

    def hit(
        self, user: bytes, url: bytes, *, seen_ms: int | None = None, kind: str = "member", now_ms: int
    ) -> bool:
        """Make this hit its user's session if it is the newest. O(1) in time order, O(log n) for a new user or url.

        `seen_ms` None means now. Returns whether it is the user's session now: False for a late or stale hit.
        Raises RangeError for a name, time or kind outside its limits, FullError at a limit; both change nothing.
        """

    def leave(self, user: bytes, *, seen_ms: int | None = None, now_ms: int) -> bool:
        """Take a user offline, until a newer hit; returns and raises as `hit`. O(1)."""

    def expire(self, *, now_ms: int) -> int:
        """Drop the sessions that have left the window and return how many. O(1) each."""

    def count(self, url: bytes | None = None, within_s: int | None = None, *, now_ms: int) -> int:
        """Count the people online, on one page, or seen within the last `within_s` seconds (1 to the window).

        O(1), or O(within_s). Raises RangeError when both are given, or `within_s` is outside its range.
        """

    def counts(self, urls: Sequence[bytes], *, now_ms: int) -> list[int]:
        """Count the people on each of at most `max_limit` pages. O(1) each. Raises RangeError beyond."""

    def kinds(self, url: bytes | None = None, *, now_ms: int) -> list[int]:
        """Count `[members, guests, hidden, bots]` on the site or on one page. O(1)."""

    def page(
        self, url: bytes, limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[int, int, list[tuple[bytes, int, str]], str | None]:
        """List a page's users newest first: `(online, here, [(user, seen_ms, kind), ...], cursor)`.

        `online` people are on the site and `here` on this page, hidden ones included, who are not listed.
        `limit`: 0 to `max_limit`. `cursor` continues an earlier reply and is None in the last one.
        O(1) and the users listed. Raises RangeError for a limit outside its range, or a cursor not made for this url.
        """

    def recent(
        self, limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[list[tuple[bytes, bytes, int, str]], str | None]:
        """List the site's users newest first: `([(user, url, seen_ms, kind), ...], cursor)`. As `page`."""

    def users(
        self, prefix: bytes = b"", limit: int = 30, cursor: str | None = None, *, now_ms: int
    ) -> tuple[list[tuple[bytes, bytes, int, str]], str | None]:
        """List the users whose name begins with `prefix`, by name. O(log n) and the users listed. As `page`."""

    def seen(self, users: Sequence[bytes], *, now_ms: int) -> list[tuple[bytes, int] | None]:
        """Tell `(url, seen_ms)` of each of at most `max_limit` users, or None for who cannot be named. O(1) each."""

    def section(self, prefix: bytes, *, now_ms: int) -> tuple[int, int]:
        """Add up `(people, pages)` over all urls that begin with `prefix`. O(log n) and the pages in it.

        Raises RangeError beyond `max_scan` pages.
        """

    def top(self, limit: int = 10, prefix: bytes = b"", *, now_ms: int) -> list[tuple[bytes, int]]:
        """List the pages with most people, equals by url; pages without people are not listed. O(pages).

        `limit`: 0 to `max_limit`.
        """

    def peak(self) -> tuple[int, int]:
        """Return the most people ever online at once, and when that was first so; (0, 0) before any."""

    def relax(self, is_on: bool) -> None:
        """Take what was taken before, in any order, while an index is read from disk; then go back to the limits.

        While it is on there may be twice as many pages, and departed users are known ones.
        """

    def restore(self, *, peak: int, peak_at_ms: int, statistics: IndexStatistics) -> None:
        """Let the peak, and what has become of hits, be as an earlier index told. Sessions stay as they are. O(1)."""

    def statistics(self) -> IndexStatistics:
        """Return what the index holds and has counted. O(1)."""

    def _check(self) -> None:
        """Raise AssertionError naming the first broken invariant. O(n log n)."""
