"""Hits that wait for a server, and the thread that sends them: in order, each until the server has answered.

Not its job: where hits come from (feed), and what goes over the wire (online_client).

1. Nothing grows without bound: beyond MAX_WAITING_HITS or MAX_WAITING_BATCHES the sender `is_full`. Then sources
   that can wait do so; of hits that cannot wait, the oldest are dropped and counted.
2. A batch is settled when the server has answered for every hit in it, whatever it answered. One that is given up
   is not.
3. The counts of hits are written by the thread alone, but for `dropped`.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Condition, Thread

import msgpack

from online.logs.pages import PageView
from online_client import BatchResult, Client, FramingError, OnlineError, ServerError
from online_client import verbs as client_verbs

#: Hits that may wait, about 20 MB, and batches.
MAX_WAITING_HITS = 100_000
MAX_WAITING_BATCHES = 2_000

#: Batches are sent together up to so many hits, which cost a server a millisecond.
MESSAGE_HITS = 2_000

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

#: How long an answer may take.
TIMEOUT_S = 10.0

#: How long a message that is on its way at the end is waited for, after all else was given up.
LAST_ANSWER_S = 1.0

#: What a server may answer to a batch as a whole, and take the same batch later.
_MAY_PASS = ("LOADING", "MISCONF", "NOAUTH", "WRONGPASS")


class Batch:
    """The hits of some lines, and what to call when they are settled."""

    def __init__(self, hits: list[PageView], settle: Callable[[], None], *, may_be_dropped: bool) -> None:
        self.hits = hits
        self.settle = settle
        self.may_be_dropped = may_be_dropped


@dataclass
class Counts:
    """What has become of the hits."""

    dropped: int = 0
    sent: int = 0
    ignored: int = 0  #: of those sent: older than the server's window, or than the user's newest hit
    refused: int = 0
    first_refusal: str = ""
    lag_s: float = 0.0  #: how old the newest hit was when the server had it
    trouble: OnlineError | None = None  #: why hits cannot be sent now; None if they can


class Sender:
    """The queue of batches, and its thread."""

    def __init__(self, client: Client) -> None:
        self.counts = Counts()
        self._client = client
        self._changed = Condition()
        self._queue: deque[Batch] = deque()
        self._waiting = 0  #: hits in the queue, on their way, or given up at the end
        self._is_finishing = self._is_ended = False
        self._is_whole = True  #: nothing was given up
        self._thread = Thread(target=self._run, name="online-feed", daemon=True)
        self._max_hits = client_verbs.MAX_BATCH_HITS
        self._asking_since_s: float | None = None  #: when what has no answer yet was first sent

    @property
    def unanswered_s(self) -> float:
        """How long the server has not taken what is being sent to it."""
        since_s = self._asking_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def waiting(self) -> int:
        """Hits that are not settled."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether who can wait should do so."""
        return self._waiting >= MAX_WAITING_HITS or len(self._queue) >= MAX_WAITING_BATCHES

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Add a batch; if it may be dropped and too many hits wait, the oldest of its like are. Never waits."""
        with self._changed:
            while batch.may_be_dropped and self._waiting + len(batch.hits) > MAX_WAITING_HITS:
                if not self._drop_oldest():
                    break
            if not self._has_joined(batch):
                self._queue.append(batch)
            self._waiting += len(batch.hits)
            self._changed.notify_all()

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until it is no longer full, or for some time."""
        with self._changed:
            self._changed.wait_for(lambda: not self.is_full, timeout_s)

    def finish(self, may_go_on: Callable[[], bool], every_s: float) -> bool:
        """Send what waits as long as it `may_go_on`, asked so often; then end. Tell if all was settled.

        A thread that still waits for an answer then is left to die with the process.
        """
        with self._changed:
            self._is_finishing = True
            self._changed.notify_all()
        while self.is_running and may_go_on():
            self._thread.join(every_s)
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
        self._thread.join(LAST_ANSWER_S)
        self._client.close()
        return self._is_whole and not self._queue and not self.is_running

    def _has_joined(self, batch: Batch) -> bool:
        """Put what a pipe gives, often one line at a time, to what it gave before, if that is small."""
        last = self._queue[-1] if self._queue else None
        if last is None or not (last.may_be_dropped and batch.may_be_dropped) or len(last.hits) >= MESSAGE_HITS:
            return False
        last.hits += batch.hits
        last.settle = batch.settle
        return True

    def _drop_oldest(self) -> bool:
        """Drop the oldest batch that may be dropped, if there is one."""
        oldest = next((batch for batch in self._queue if batch.may_be_dropped), None)
        if oldest is not None:
            self._queue.remove(oldest)
            self._waiting -= len(oldest.hits)
            self.counts.dropped += len(oldest.hits)
        return oldest is not None

    # The thread

    def _run(self) -> None:
        while batches := self._next():
            hits = [hit for batch in batches for hit in batch.hits]
            is_settled = self._send(hits)
            for batch in batches if is_settled else ():
                batch.settle()
            with self._changed:
                self._waiting -= len(hits) if is_settled else 0
                self._is_whole = self._is_whole and is_settled
                self._changed.notify_all()

    def _next(self) -> list[Batch]:
        """Wait for batches and take some. None when all is over."""
        batches: list[Batch] = []
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_finishing)
            while self._queue and not self._is_ended and sum(len(batch.hits) for batch in batches) < MESSAGE_HITS:
                batches.append(self._queue.popleft())
        return batches

    def _send(self, hits: Sequence[PageView]) -> bool:
        """Send hits, in as many messages as it takes, each again and again; tell if they are settled."""
        for begin in range(0, len(hits), self._max_hits):
            if not self._send_message(hits[begin : begin + self._max_hits]):
                return False
        return True

    def _send_message(self, hits: Sequence[PageView]) -> bool:
        packed = msgpack.packb(hits)
        if len(packed) > client_verbs.MAX_BATCH_BYTES:
            return self._send_halves(hits)
        request = replace(client_verbs.batch([]), params=packed)
        self._asking_since_s = self._asking_since_s or time.monotonic()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._count(hits, self._client.call(request))
                return True
            except FramingError:  # this server takes smaller messages only
                if len(hits) > 1:
                    return self._send_halves(hits)
                self._count(hits, BatchResult(0, 0, 1, "a hit is larger than the server's limit for a message"))
                return True
            except OnlineError as error:
                if isinstance(error, ServerError) and error.code not in _MAY_PASS:
                    self._count(hits, BatchResult(0, 0, len(hits), str(error)))
                    return True
                self.counts.trouble = error
            if not self._pause(pause_s * random.uniform(0.5, 1.0)):
                return False
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _send_halves(self, hits: Sequence[PageView]) -> bool:
        middle = len(hits) // 2
        return self._send_message(hits[:middle]) and self._send_message(hits[middle:])

    def _count(self, hits: Sequence[PageView], result: BatchResult) -> None:
        counts = self.counts
        counts.trouble = self._asking_since_s = None
        counts.sent += result.accepted + result.ignored
        counts.ignored += result.ignored
        counts.refused += result.refused
        counts.first_refusal = counts.first_refusal or result.first_error or ""
        counts.lag_s = max(0.0, time.time() - hits[-1].seen_ms / 1000)

    def _pause(self, pause_s: float) -> bool:
        """Wait before the next attempt; tell if there is to be one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended, pause_s)
            return not self._is_ended
