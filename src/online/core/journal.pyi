"""The journal of hits: what was applied, in records, in one write a turn. See ext/journal.pyx."""

from collections.abc import Awaitable, Callable

from online.core.index import Index

#: Bytes of a record before its frames.
HEAD_BYTES: int

def record(frames: bytes, segment: int, offset: int) -> bytes:
    """Return frames as a record that is to stand at `offset` of a segment's file."""

def totals(index: Index, clock_step_ms: int = 0) -> bytes:
    """Return the frame that keeps the peak of a site and what became of its hits."""

def site(name: bytes) -> bytes:
    """Return the frame with which a record says of which site it speaks."""

class Journal:
    """Writes the hits of all sites to a file that others open, change and sync.

    Answers may leave when the turn in which they were made is durable.
    """

    def __init__(self) -> None:
        """Begin without a file: nothing is written."""
    wanted: Callable[[], object]  #: called when a turn waits for a sync
    failed: Callable[[int], object]  #: called with an errno when a write has failed; the file was given up
    settled: Callable[[], Awaitable[None]]  #: waits until what was made so far may leave; raises if it must not
    waits_for_sync: bool  #: whether a turn is durable only when somebody says so by `synced`
    waits_for_bus: bool  #: whether answers wait, beside that, until somebody says by `published` that the bus has them
    stepped: Callable[[], None]  #: called when the wall clock was set: a file holds times of one step alone
    @property
    def clock_step_ms(self) -> int:
        """Wall time less index time."""
    def change_step(self, step_ms: int) -> None:
        """Note times with this step from here on."""
    @property
    def turn(self) -> int:
        """How many turns had something to write."""
    @property
    def durable_turn(self) -> int: ...
    def may_leave(self, turn: int) -> bool | None:
        """Whether answers of this turn may leave yet. None: they must never leave, as what they answer is lost."""
    @property
    def written_bytes(self) -> int:
        """To all files so far."""
    @property
    def segment(self) -> int: ...
    @property
    def offset(self) -> int:
        """The size of the file."""
    @property
    def is_off(self) -> bool: ...
    def follow(self, index: Index, name: bytes) -> None:
        """Note what is written to an index from here on. Raises ValueError if it has a journal already."""
    def begin(self, fd: int, segment: int, offset: int) -> None:
        """Write to this file, which has `offset` bytes, from here on. What the last one lacked goes to it first."""
    def flush(self) -> None:
        """Write what was noted. One write(2)."""
    def note(self, text: bytes) -> None:
        """Note text of at most 64 KiB behind all that was written so far: readers are told it by `noted`."""
    def note_totals(self) -> None:
        """Note the totals of sites whose totals have changed. O(sites)."""
    def synced(self, turn: int) -> None:
        """Take note that all turns up to this one are on the disk."""
    def published(self, turn: int) -> None:
        """Take note that all turns up to this one are on the bus."""
    def abandon(self) -> None:
        """Take note that the answers of all turns that are not on the bus must not leave."""
    def give_up(self, *, is_lost: bool) -> None:
        """Write nothing more until `begin`.

        `is_lost`: the answers of turns that are not durable must not leave. Otherwise they may, as they are.
        """
    def close(self) -> None:
        """Follow no index any more."""
