"""Observers of an index: which hits were applied, and which pages changed. See ext/observers.pyx."""

from collections.abc import Callable, Sequence

from online.core.index import Index

class Written:
    """Records the hits and leaves applied to an index, as wire frames in order: `hits` notifications, and `LEAVE`.

    An empty index that receives them at the same time ends with the same sessions. A batch is never split over two
    calls of `take`.
    """

    def __init__(self, index: Index) -> None:
        """Begin to observe. Raises ValueError if the index already has such an observer."""
    clock_step_ms: int  # added to times: wall time minus index time
    @property
    def is_incomplete(self) -> bool:
        """Something was not recorded since the last `take`, for lack of memory."""
    def take(self) -> bytes:
        """Return the complete frames since the last call. O(bytes)."""
    def close(self) -> None:
        """Stop observing."""

class Trail:
    """Records the hits and leaves applied to the indexes of many sites, in one sequence: SITE, then as `Written`."""

    def __init__(self) -> None: ...
    begun: Callable[[], object] | None  #: called with the first hit after each `take`; must not raise
    clock_step_ms: int  # added to times
    is_paused: bool  # nothing is recorded meanwhile
    def follow(self, index: Index, leading: bytes) -> None:
        """Observe an index; `leading` is the frame SITE of its site. Raises ValueError if it has an observer."""
    @property
    def is_incomplete(self) -> bool:
        """Something was not recorded, for lack of memory."""
    @property
    def n_bytes(self) -> int:
        """What waits to be taken."""
    @property
    def n_hits(self) -> int:
        """How many hits and leaves these are."""
    @property
    def has_piece(self) -> bool:
        """Whether more than 64 KiB wait."""
    def take(self) -> tuple[bytes, int]:
        """Return the next frames, at most 64 KiB and a hit, and how many hits are in them. O(bytes)."""
    def note(self, frames: bytes) -> None:
        """Record frames behind all that was recorded so far, also while it is paused. They name their site."""
    def forget_incomplete(self) -> None:
        """Take note that something was not recorded."""
    def close(self) -> None:
        """Stop observing."""

class Fork:
    """Records the hits and leaves applied to the indexes of many sites in several trails, by the slots of users."""

    def __init__(self, trails: Sequence[Trail], owners: Sequence[int]) -> None:
        """See `change`."""
    def change(self, trails: Sequence[Trail], owners: Sequence[int]) -> None:
        """Record hits of each slot in the trail whose place stands at the slot's, from now on. O(slots).

        Raises ValueError unless each slot has one.
        """
    def follow(self, index: Index, leading: bytes) -> None:
        """Observe an index, as `Trail.follow`."""
    def close(self) -> None:
        """Stop observing."""

class Changed:
    """Records the pages that gained or lost a session, including by expiry."""

    def __init__(self, index: Index) -> None:
        """Begin to observe. Raises ValueError if the index already has such an observer."""
    @property
    def is_incomplete(self) -> bool:
        """A page was not recorded since the last `take`, for lack of memory."""
    def take(self) -> tuple[bool, frozenset[bytes]]:
        """Return whether anyone came, moved or left since the last call, and the urls of these pages. O(urls)."""
    def close(self) -> None:
        """Stop observing."""
