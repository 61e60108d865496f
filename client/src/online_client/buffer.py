"""Packed hits and leaves that wait to be sent, within bounds. Not its job: locks and sending (reporter.py)."""

from collections import deque

#: A batch this large goes without waiting for more. A server is done with it in a millisecond.
BATCH_HITS = 1_000
BATCH_BYTES = 64 * 1024


class Leave(bytes):
    """The parameters of a leave, among packed hits."""


class Buffer:
    """Packed hits that wait, oldest first, within bounds. No lock of its own."""

    def __init__(self, max_hits: int, max_bytes: int) -> None:
        self._max_hits = max_hits
        self._max_bytes = max_bytes
        self._hits: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._hits)

    @property
    def has_batch(self) -> bool:
        """Whether a full batch waits."""
        return len(self._hits) >= BATCH_HITS or self._bytes >= BATCH_BYTES

    def append(self, hit: bytes) -> int:
        """Add a hit. Returns how many of the oldest had to go."""
        self._hits.append(hit)
        self._bytes += len(hit)
        return self._shrink()

    def take(self, max_hits: int) -> list[bytes]:
        """Remove and return the oldest hits, one batch of `max_hits` at most; or a leave alone."""
        if self._hits and isinstance(self._hits[0], Leave):
            return [self._pop()]
        batch: list[bytes] = []
        batch_bytes = 0
        while self._hits and len(batch) < max_hits and batch_bytes < BATCH_BYTES:
            if isinstance(self._hits[0], Leave):
                break
            batch.append(self._pop())
            batch_bytes += len(batch[-1])
        return batch

    def put_back(self, batch: list[bytes]) -> int:
        """Add a batch that `take` returned, as the oldest. Returns how many of the oldest had to go."""
        self._hits.extendleft(reversed(batch))
        self._bytes += sum(map(len, batch))
        return self._shrink()

    def clear(self) -> int:
        """Remove all. Returns how many those were."""
        hits = len(self._hits)
        self._hits.clear()
        self._bytes = 0
        return hits

    def _pop(self) -> bytes:
        hit = self._hits.popleft()
        self._bytes -= len(hit)
        return hit

    def _shrink(self) -> int:
        dropped = 0
        while len(self._hits) > self._max_hits or self._bytes > self._max_bytes:
            self._pop()
            dropped += 1
        return dropped
