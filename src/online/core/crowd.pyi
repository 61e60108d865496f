"""The people of a log: who was online when, how long they stayed, and what they looked at. See ext/crowd.pyx."""

from collections.abc import Callable
from typing import final

@final
class Crowd:
    """Takes the page views of a log, in its order. Times are in milliseconds since 1970."""

    def __init__(self, window_s: int, advance: Callable[[Crowd, int], int]) -> None:
        """`window_s`: how long a user stays online after a hit, from 1.

        `advance(crowd, now_ms)` is called before the first hit, and before each hit beyond the time that it has
        returned last. It may ask who is online at times up to `now_ms`, in ascending order.
        """

    window_s: int
    hits: int  #: so far
    late: int  #: of these, outside the window when they came
    first_ms: int  #: the earliest time of a hit
    now_ms: int  #: the latest
    most: int  #: the most people online at once
    most_at_ms: int  #: when that was first so
    peak: int  #: the most people online since this was set

    def take(self, items: bytes) -> None:
        """Take hits, each an array of user, url, time and perhaps kind, in MessagePack, one after another.

        Names are of the type bin and times take 64 bits, as `UsualLines.pack` writes them.

        O(1) for each. Raises ValueError for anything else, behind the hits before it.
        """

    def people_at(self, at_ms: int) -> int:
        """Return how many people are online. O(1); a second costs as much as a hit."""

    def online_ms(self, at_ms: int) -> int:
        """Return how long all people together were online until then. Exact. O(1), as `people_at`."""

    @property
    def n_users(self) -> int: ...

    def pages(self) -> list[tuple[bytes, int]]:
        """Return all urls, and their hits. O(urls)."""

    def pages_at_most(self) -> list[tuple[bytes, int]]:
        """Return the pages with people when most were online, and their people. O(hits of two windows)."""

    def days(self) -> dict[int, tuple[int, int]]:
        """Return hits and users by the days since 1970. O(days)."""

    def months(self) -> dict[int, int]:
        """Return users by the months since the year 0. A month that only knows late users may be missing."""

    def years(self) -> dict[int, int]:
        """Return users by year, as `months`."""

    def hours(self) -> list[tuple[int, int]]:
        """Return hits and users of the 24 hours of the day. O(users)."""

    def stays(self) -> tuple[int, int, int, dict[int, int]]:
        """End all stays: how many there were, their hits, how many had one hit, and the others by length in seconds.

        O(users). No hits can be taken after that.
        """
