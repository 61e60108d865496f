"""Records of a journal or snapshot, and entries of a bus, applied to indexes. See ext/replay.pyx."""

from typing import Protocol

from online.core.index import Index

MAX_RECORD_BYTES: int

def frames_of(data: bytes | memoryview, segment: int, offset: int) -> bytes | None:
    """Return the frames of the whole record at the beginning of `data`, or None if none is there.

    `data` stands at `offset` of the segment's file.
    """

class Host(Protocol):
    """Who knows the sites."""

    def open(self, name: bytes) -> Index:
        """Return the index of a site. Raises FullError."""
    def noted(self, text: bytes) -> None:
        """Take note of the text of an ECHO other than totals, once all that stands before it was applied."""

class Replay:
    """Applies records to the indexes of a host."""

    def __init__(self, host: Host, *, clock_step_ms: int = 0) -> None: ...
    clock_step_ms: int  # wall time in what is fed, less index time
    @property
    def is_bad(self) -> bool:
        """What stands behind the bytes that were used last is no record. Otherwise a part of one, or nothing."""
    @property
    def records(self) -> int: ...
    @property
    def n_applied(self) -> int:
        """Hits and leaves, also those that had left the window."""
    @property
    def refused(self) -> int:
        """Hits and leaves that found no room, or are of a site that is not here."""
    @property
    def foreign(self) -> int:
        """Hits and leaves that were passed over, as their users are another server's."""
    @property
    def ties(self) -> int:
        """Those that took the place of another hit of the same user and millisecond."""
    @property
    def first_ms(self) -> int:
        """The earliest wall time of a hit; beyond `last_ms` if there was none."""
    @property
    def last_ms(self) -> int: ...
    @property
    def clamped(self) -> int:
        """Hits and leaves of a bus that were later than their entry allows."""
    def apply(self, frames: bytes | memoryview, *, now_ms: int, latest_ms: int, is_echo: bool = False) -> bool:
        """Apply the frames of one entry of a bus: SITE, then `hits` and LEAVE. O(bytes).

        A time beyond `latest_ms` (wall time) is taken as that. Up to there index time goes on with the hits, so that
        every replica keeps the same time. `is_echo`: what is ignored or an exact repeat was counted before.

        Behind `ECHO "dump"` stands what somebody knew earlier. It is not counted, and of one user and millisecond the
        hit that ranks highest is kept, not the later one: by kind, a leave being the highest, then by url. Returns
        whether the entry was good; what stands before something bad is applied.
        """
    def totals(self) -> dict[bytes, tuple[list[int], int]]:
        """Return for each site its totals that were read last, and how many hits and leaves stood behind them."""
    def feed(self, data: bytes | memoryview, segment: int, offset: int, *, now_ms: int) -> int:
        """Apply the whole records at the beginning of `data`, and return how many bytes they have.

        `data` stands at `offset` of the segment's file.
        """
