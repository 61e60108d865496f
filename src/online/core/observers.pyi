"""Observers of an index: what was written to it, and what changed in it. See ext/observers.pyx."""

from online.core.index import Index

class Written:
    """Frames of what is written to an index, as on the wire: `hits` notifications, and `LEAVE`, in order.

    Fed to an empty index at the same time they end in the same sessions. A batch is never split over two takes.
    """

    def __init__(self, index: Index) -> None:
        """Begin to observe; one observer an index. Raises ValueError if there is one."""
    clock_step_ms: int  # added to times: wall time less index time
    @property
    def is_incomplete(self) -> bool:
        """Something was not noted since the last `take`, for want of memory."""
    def take(self) -> bytes:
        """Return what was written since the last call, as whole frames. O(bytes)."""
    def close(self) -> None:
        """Observe no more."""

class Changed:
    """The pages that have gained or lost a session, expiry included."""

    def __init__(self, index: Index) -> None:
        """Begin to observe; one observer an index. Raises ValueError if there is one."""
    @property
    def is_incomplete(self) -> bool:
        """A page was not noted since the last `take`, for want of memory."""
    def take(self) -> tuple[bool, frozenset[bytes]]:
        """Return whether anybody came, moved or went since the last call, and the urls of the pages. O(urls)."""
    def close(self) -> None:
        """Observe no more."""
