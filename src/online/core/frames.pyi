"""Frames without a connection. See ext/frames.pyx."""

from collections.abc import Iterator

from online.core.index import Index

def dump(index: Index, *, clock_step_ms: int = 0, frame_bytes: int = 65_536) -> Iterator[bytes]:
    """Yield all sessions as MessagePack frames, oldest first: `hits` notifications, and `LEAVE` for users who left.

    A Connection that receives them restores the index. The index may change between two frames: what was written
    meanwhile may then be in the frames or not; every other session is. O(users), lazy.
    """

def apply_hits(index: Index, frames: bytes, *, now_ms: int) -> tuple[int, int, int]:
    """Apply the `hits` frames in `frames` to `index`. Returns `(accepted, ignored, refused)`.

    Takes the path of batches, without a connection: about as fast as the index itself. Raises FramingError.
    """
