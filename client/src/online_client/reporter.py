"""Reports hits from the request path: never waits, never raises. A thread in the background sends them.

What is said here of hits holds for leaves, too; only, each goes by itself.

1. `hit` only packs the hit, with its time, and puts it into a buffer; the first one in a process starts the
   thread.
2. What waits is bounded, in hits and in bytes; beyond, the oldest are dropped and counted. The one batch that
   is on its way comes on top.
3. A hit is settled when it was sent, refused or dropped, and hits are settled in the order in which they
   came. A batch whose answer did not come is sent again: repeats change nothing. While the server is away,
   the thread pauses longer and longer between attempts. Why it cannot send is logged once, until it can.
4. Each process has its own thread, buffer and counts. A forked child starts with none: what waited is the
   parent's to send.
"""

import atexit
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, RLock, Thread

from online_client import verbs
from online_client.client import Client
from online_client.errors import (
    DiskRefusedError,
    FramingError,
    LoadingError,
    ServerError,
    TokenWantedError,
    WrongTokenError,
)
from online_client.forks import tell_after_fork
from online_client.replies import BatchResult
from online_client.verbs import MEMBER, Name, Time, User

#: A batch this large goes without waiting for more. A server is done with it in a millisecond.
BATCH_HITS = 1_000
BATCH_BYTES = 64 * 1024

#: Pauses between attempts double from the first to the longest; each is cut at random to half or more of
#: that, so that the workers of a site do not all come back at once.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

#: Refusals that an operator can put right while hits wait; any other refusal of a whole batch is final.
_PASSING = (LoadingError, DiskRefusedError, TokenWantedError, WrongTokenError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReporterStatistics:
    """What became of the hits of this process."""

    sent: int  #: taken by the server, be they new or too old to matter
    dropped: int  #: the oldest, when too many waited; and what `close` gave up or came after it
    refused: int  #: refused by the server: malformed, or at a limit
    invalid: int  #: what no server could take, such as a user None
    waiting: int  #: in the buffer or on their way
    last_error: str | None  #: the last thing that went wrong


class Reporter:
    """Sends hits in the background.

    >>> reporter = Reporter("online://127.0.0.1:8989/default")    # doctest: +SKIP
    >>> reporter.hit("theo", "/forum/1")                          # doctest: +SKIP

    Make one when the program starts, and share it among threads and forked workers. `url`, `timeout` and
    `ca_file` are those of `Client`; a wrong address is an error at once, an absent server is not.

    `interval_s`: how long a hit waits for others to go with it. `max_waiting`, `max_waiting_bytes`: what
    waits at most while the server is away. `exit_wait_s`: how long the end of the program may be held up by
    hits that still wait. (Children of `multiprocessing` end without that; flush there.)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float | None = 2.0,
        ca_file: str | None = None,
        interval_s: float = 0.2,
        max_waiting: int = 100_000,
        max_waiting_bytes: int = 64 * 1024 * 1024,
        exit_wait_s: float = 1.0,
    ) -> None:
        self._client = Client(url, timeout=timeout, ca_file=ca_file)
        self._interval_s = interval_s
        self._bounds = (max_waiting, max_waiting_bytes)
        self._exit_wait_s = exit_wait_s
        self._last_error: str | None = None
        self._closed = self._ended = False
        self._begin()
        tell_after_fork(self)

    def hit(self, user: User, url: Name, *, kind: str = MEMBER, seen_ms: Time | None = None) -> None:
        """Report a hit, as `Client.hit`, without waiting and without ever raising. O(1)."""
        self._put_in(lambda: verbs.pack_hit(user, url, _time_or_now(seen_ms), kind))

    def leave(self, user: User, *, seen_ms: Time | None = None) -> None:
        """Take a user offline, as `Client.leave`, without waiting and without ever raising. O(1)."""
        self._put_in(lambda: _Leave(verbs.leave(user, seen_ms=_time_or_now(seen_ms)).params))

    def _put_in(self, pack: Callable[[], bytes]) -> None:
        try:
            packed = pack()
        except Exception as error:
            with self._lock:
                self._invalid += 1
                self._last_error = str(error)
            return
        with self._lock:
            self._put += 1
            if self._closed:
                self._drop(1)
                return
            self._drop(self._buffer.append(packed))
            self._start()
            if len(self._buffer) == 1 or self._buffer.has_batch:
                self._arrived.notify()

    def flush(self, timeout: float | None = None) -> bool:
        """Send at once what waits, and wait until it is settled, `timeout` seconds at most. Tell if it is.

        While the server is away this makes one attempt at once, and more after the usual pauses.
        """
        with self._lock:
            self._flushed = flushed = self._put
            self._flushes += 1
            self._arrived.notify()
            self._asked.notify()
            self._start()
            if self._thread is None:
                return self._settled_hits() >= flushed
            return self._settled.wait_for(lambda: self._settled_hits() >= flushed, timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then stop: what waits still is dropped and counted, as are hits that come later.

        Returns whether everything was settled in time.
        """
        with self._lock:
            self._closed = True
        in_time = self.flush(timeout)
        with self._lock:
            self._ended = True
            self._drop(self._buffer.clear())
            self._arrived.notify()
            self._asked.notify()
        atexit.unregister(self._close_at_exit)
        if in_time and self._thread is not None:
            self._thread.join()
        return in_time

    def statistics(self) -> ReporterStatistics:
        """Return the counts of this process. O(1)."""
        with self._lock:
            return ReporterStatistics(
                self._sent,
                self._dropped,
                self._refused,
                self._invalid,
                self._waiting_hits(),
                self._last_error,
            )

    def after_fork(self) -> None:
        """Leave thread, hits and counts to the parent."""
        self._begin()

    def _begin(self) -> None:
        """Set up what belongs to one process."""
        # Reentrant, so that a signal handler or a finalizer may report a hit while this thread reports one.
        self._lock = RLock()
        self._arrived = Condition(self._lock)  #: hits have come, or are to go at once
        self._asked = Condition(self._lock)  #: somebody wants an attempt now
        self._settled = Condition(self._lock)  #: hits have been settled
        self._thread: Thread | None = None
        self._buffer = _Buffer(*self._bounds)
        self._batch_hits = BATCH_HITS
        self._on_their_way = 0
        self._put = self._sent = self._dropped = self._refused = self._invalid = 0
        self._last_error = None
        self._told = ""  #: what was logged since a batch could be sent
        self._flushed = 0  #: the first so many hits of all that were put are to go without waiting for others
        self._flushes = 0

    def _start(self) -> None:
        """Start the thread if it is missing and wanted. If the system refuses, the next hit tries again."""
        if self._thread is not None or not len(self._buffer):
            return
        thread = Thread(target=self._run, name="online-reporter", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._last_error = str(error)
            return
        self._thread = thread
        atexit.unregister(self._close_at_exit)  # a child inherits the parent's registration
        atexit.register(self._close_at_exit)

    def _close_at_exit(self) -> None:
        self.close(self._exit_wait_s)

    def _waiting_hits(self) -> int:
        return len(self._buffer) + self._on_their_way

    def _settled_hits(self) -> int:
        return self._put - self._waiting_hits()

    def _drop(self, hits: int) -> None:
        if hits:
            self._dropped += hits
            self._settled.notify_all()

    # The thread.

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while batch := self._next_batch():
            if self._send(batch):
                pause_s = FIRST_PAUSE_S
            else:
                self._pause(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._client.close()

    def _next_batch(self) -> list[bytes]:
        """Wait for hits, and for others to go with them. Returns none when all is over."""
        with self._lock:
            self._arrived.wait_for(lambda: self._ended or len(self._buffer))
            self._arrived.wait_for(lambda: self._ended or self._is_urgent(), self._interval_s)
            batch = self._buffer.take(self._batch_hits)
            self._on_their_way = len(batch)
            return batch

    def _is_urgent(self) -> bool:
        return self._buffer.has_batch or self._settled_hits() < self._flushed

    def _send(self, batch: list[bytes]) -> bool:
        """Send a batch and account for it. Returns False if it is to be sent again."""
        try:
            result = self._call(batch)
        except Exception as error:  # whatever it is, this thread has to go on
            self._tell(str(error))
            is_final = isinstance(error, ServerError) and not isinstance(error, _PASSING)
            if isinstance(error, FramingError) and len(batch) > 1:  # this server takes smaller messages only
                self._batch_hits = len(batch) // 2
                is_final = False
            result = BatchResult(0, 0, len(batch), str(error))
        else:
            is_final = True
            self._told = ""
        with self._lock:
            self._on_their_way = 0
            self._last_error = result.first_error or self._last_error
            if is_final:
                self._sent += result.accepted + result.ignored
                self._refused += result.refused
            else:
                self._put_back(batch)
            self._settled.notify_all()
        return is_final

    def _tell(self, why: str) -> None:
        if why != self._told:
            logger.warning("hits cannot be reported: %s", why)
            self._told = why

    def _call(self, batch: list[bytes]) -> BatchResult:
        if not isinstance(batch[0], _Leave):
            return self._client.call(verbs.batch(batch))
        self._client.call(verbs.Request("leave", batch[0], lambda result, now_ms: None))
        return BatchResult(1, 0, 0, None)

    def _put_back(self, batch: list[bytes]) -> None:
        self._drop(len(batch) if self._ended else self._buffer.put_back(batch))

    def _pause(self, pause_s: float) -> None:
        with self._lock:
            flushes = self._flushes
            self._asked.wait_for(lambda: self._ended or self._flushes > flushes, pause_s)


def _time_or_now(seen_ms: Time | None) -> Time:
    return time.time_ns() // 1_000_000 if seen_ms is None else seen_ms


class _Leave(bytes):
    """The parameters of a leave, among packed hits."""


class _Buffer:
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
        if self._hits and isinstance(self._hits[0], _Leave):
            return [self._pop()]
        batch: list[bytes] = []
        batch_bytes = 0
        while self._hits and len(batch) < max_hits and batch_bytes < BATCH_BYTES:
            if isinstance(self._hits[0], _Leave):
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
