"""What an index adds to the past: counts of a minute, its visitors, sessions that ended. See ext/past.pyx."""

from collections.abc import Iterable, Iterator

from online.core.index import Index

#: Of a sketch.
SKETCH_BYTES: int

def estimate(registers: bytes) -> int:
    """Return about how many different users a sketch has seen; the standard error is 0.8 %. 15 us."""

def merged(one: bytes, other: bytes) -> bytes:
    """Return the sketch that has seen what both have seen."""

def sketch(users: Iterable[bytes]) -> bytes:
    """Return the sketch of these users. O(users)."""

class Sightings:
    """Sessions that have ended. To be read once; another thread may do that."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None, int]]:
        """Yield `(user, url, seen_ms)` of each; the url of who is hidden is None."""

class Past:
    """Follows an index from now on. All times are index time."""

    def __init__(self, index: Index, *, keeps_last: bool = False) -> None:
        """With `keeps_last` sessions that end are noted. Raises ValueError if the index has one already."""
    @property
    def lost(self) -> int:
        """Sessions that ended and could not be noted, for lack of memory or because nobody took them."""
    def begin(self, minute_ms: int, ten_ms: int, hour_ms: int, *, now_ms: int) -> None:
        """Begin a minute. The ten minutes and the hour that it is part of begin anew if they are other ones. O(1)."""
    def so_far(self) -> tuple[int, int, int, int, int, int, int, int, int]:
        """Return what is known of the minute that was begun.

        The most people, members, guests and bots; hits; visitors of the minute, of its ten minutes and, as an estimate,
        of its hour; and when there were most people. 15 us.
        """
    def most(self) -> tuple[int, int]:
        """Return the most people of the minute that was begun, and when that was. O(1)."""
    def take_sketch(self) -> bytes | None:
        """Return the sketch of the hour if it has changed since the last call."""
    def merge_sketch(self, registers: bytes) -> None:
        """Let the sketch of the hour have seen what another has. Raises ValueError for no sketch."""
    def take_gone(self, step_ms: int = 0) -> Sightings | None:
        """Return the sessions that have ended since the last call, their times `step_ms` later; None: nobody. O(1)."""
    def revisit(self, from_ms: int, to_ms: int) -> None:
        """Add who was last seen from one time until another to the sketch of the hour. O(log n + these)."""
    def close(self) -> None:
        """Follow no more."""
