"""Frames without a connection. See ext/frames.pyx."""

from collections.abc import Iterator

from online.core.index import Index

def dump(index: Index, *, clock_step_ms: int = 0, frame_bytes: int = 65_536) -> Iterator[bytes]:
    """Write all sessions as MessagePack frames, oldest first: `hits` notifications, and `LEAVE` for the departed.

    Fed to a Connection they restore the index. O(users), lazily: the index may change between two frames. What was
    written meanwhile may then be in the frames or not; every other session is.
    """

def apply_hits(index: Index, frames: bytes, *, now_ms: int) -> tuple[int, int, int]:
    """Apply the `hits` frames in `frames` to `index` and return `(accepted, ignored, refused)`.

    The batch path without a connection: about as fast as the index itself. Raises FramingError.
    """
