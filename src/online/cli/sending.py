"""A queue of hits, and the thread that sends them in order, each until the server has answered.

Not here: where hits come from (feed), and the protocol (online_client).

1. Nothing grows without bound. Beyond MAX_WAITING_HITS or MAX_WAITING_BATCHES the sender `is_full`: sources that can
   wait do so, and the oldest hits from other sources are dropped and counted.
2. A batch is settled when the server has answered for every hit in it, whatever the answer. A batch that was given up
   is not settled.
3. Only the thread writes the counts, except `dropped`.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from online_client import BatchResult, Client, FramingError, OnlineError, ServerError
from online_client import verbs as client_verbs

if TYPE_CHECKING:
    from online_client.bus import BusClient

#: The most hits, about 20 MB, and batches in the queue.
MAX_WAITING_HITS = 100_000
MAX_WAITING_BATCHES = 2_000

#: Batches are joined up to this many hits, which take a server a millisecond.
MESSAGE_HITS = 2_000

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

#: How long to wait for an answer.
TIMEOUT_S = 10.0

#: How long to wait at the end for the answer to the last message, after the rest was given up.
LAST_ANSWER_S = 1.0

#: Errors about a whole batch after which the server may accept the same batch later.
_MAY_PASS = ("LOADING", "PARTIAL", "MISCONF", "NOAUTH", "WRONGPASS")


class Hits(NamedTuple):
    """Hits as they are sent: items of a batch, one after another, in MessagePack."""

    items: bytes
    number: int
    newest_ms: int  #: the time of the last

    @property
    def message(self) -> bytes:
        """The items as one array."""
        header: bytes = msgpack.Packer().pack_array_header(self.number)
        return header + self.items

    @property
    def halves(self) -> "tuple[Hits, Hits]":
        """Take at least two hits apart. O(length)."""
        hits = msgpack.unpackb(self.message)
        middle = self.number // 2
        return packed(hits[:middle]), packed(hits[middle:])


def packed(hits: Sequence[Sequence[Any]]) -> Hits:
    """Pack hits, each of user, url, time and perhaps kind."""
    return Hits(b"".join(map(msgpack.packb, hits)), len(hits), hits[-1][2] if hits else 0)


class Batch:
    """The hits of some lines, and a function to call when they are settled."""

    def __init__(self, hits: Hits, settle: Callable[[], None], *, may_be_dropped: bool) -> None:
        self.items = [hits.items]
        self.number = hits.number
        self.newest_ms = hits.newest_ms
        self.settle = settle
        self.may_be_dropped = may_be_dropped

    def join(self, later: "Batch") -> None:
        """Add the hits of a later batch; both are settled together."""
        self.items += later.items
        self.number += later.number
        self.newest_ms = later.newest_ms or self.newest_ms
        self.settle = later.settle


@dataclass
class Counts:
    """What happened to the hits."""

    dropped: int = 0
    sent: int = 0
    ignored: int = 0  #: of those sent: older than the server's window, or than the user's newest hit
    refused: int = 0
    first_refusal: str = ""
    lag_s: float = 0.0  #: the age of the newest hit when the server answered
    trouble: OnlineError | None = None  #: why hits cannot be sent now; None if they can


class Sender:
    """The queue of batches, and its thread."""

    def __init__(self, client: "Client | BusClient", *, looks: bool = False) -> None:
        """`looks`: see before the first hit whether the server is there, and while it is not, now and then."""
        self._looks, self._is_looking = looks, False
        self.counts = Counts()
        self._client = client
        self._changed = Condition()
        self._queue: deque[Batch] = deque()
        self._waiting = 0  #: hits in the queue, being sent, or given up at the end
        self._is_finishing = self._is_ended = False
        self._is_whole = True  #: nothing was given up
        self._thread = Thread(target=self._run, name="online-feed", daemon=True)
        self._max_hits = client_verbs.MAX_BATCH_HITS
        self._asking_since_s: float | None = None  #: when the message without an answer was first sent

    @property
    def unanswered_s(self) -> float:
        """How long the current message has been without an answer."""
        since_s = self._asking_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def waiting(self) -> int:
        """The number of hits that are not settled."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether sources that can wait should do so."""
        return self._waiting >= MAX_WAITING_HITS or len(self._queue) >= MAX_WAITING_BATCHES

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Add a batch. If it may be dropped and too many hits wait, older batches like it are. Never blocks."""
        with self._changed:
            while batch.may_be_dropped and self._waiting + batch.number > MAX_WAITING_HITS:
                if not self._drop_oldest():
                    break
            if not self._has_joined(batch):
                self._queue.append(batch)
            self._waiting += batch.number
            self._changed.notify_all()

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until the queue is no longer full, for at most `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: not self.is_full, timeout_s)

    def finish(self, may_go_on: Callable[[], bool], every_s: float) -> bool:
        """Send waiting hits while `may_go_on`, called every `every_s`, allows it; then stop.

        Returns whether all hits were settled. If the thread still waits for an answer, it ends with the process.
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
        return self._is_whole and not self._queue and (self._is_looking or not self.is_running)

    def _has_joined(self, batch: Batch) -> bool:
        """Join a batch from a pipe, often a single line, with the batch before it, if that is small."""
        last = self._queue[-1] if self._queue else None
        if last is None or not (last.may_be_dropped and batch.may_be_dropped) or last.number >= MESSAGE_HITS:
            return False
        last.join(batch)
        return True

    def _drop_oldest(self) -> bool:
        """Drop the oldest batch that may be dropped, if there is one."""
        oldest = next((batch for batch in self._queue if batch.may_be_dropped), None)
        if oldest is not None:
            self._queue.remove(oldest)
            self._waiting -= oldest.number
            self.counts.dropped += oldest.number
        return oldest is not None

    # The thread

    def _run(self) -> None:
        if self._looks and not self._queue:
            self._look()
        while batches := self._next():
            newest_ms = next((batch.newest_ms for batch in reversed(batches) if batch.number), 0)
            items = b"".join(each for batch in batches for each in batch.items)
            hits = Hits(items, sum(batch.number for batch in batches), newest_ms)
            is_settled = self._send(hits)
            for batch in batches if is_settled else ():
                batch.settle()
            with self._changed:
                self._waiting -= hits.number if is_settled else 0
                self._is_whole = self._is_whole and is_settled
                self._changed.notify_all()

    def _next(self) -> list[Batch]:
        """Wait for batches and take some. Returns none when it is time to stop."""
        batches: list[Batch] = []
        pause_s = FIRST_PAUSE_S
        while not self._has_work(pause_s if self._looks and self.counts.trouble else None):
            self._look()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        with self._changed:
            while self._queue and not self._is_ended and sum(batch.number for batch in batches) < MESSAGE_HITS:
                batches.append(self._queue.popleft())
        return batches

    def _has_work(self, timeout_s: float | None) -> bool:
        """Wait until there are batches or it is time to stop, for at most `timeout_s`; return whether that is so."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._queue or self._is_finishing, timeout_s))

    def _look(self) -> None:
        """See whether the server answers."""
        self._is_looking = True
        try:
            self._client.call(client_verbs.ping())
            self.counts.trouble = None
        except OnlineError as error:
            self.counts.trouble = error
        self._is_looking = False

    def _send(self, hits: Hits) -> bool:
        """Send hits in as many messages as needed, with retries. Returns whether they are settled."""
        if not hits.number:
            return True
        message = hits.message
        if hits.number > 1 and (hits.number > self._max_hits or len(message) > client_verbs.MAX_BATCH_BYTES):
            return self._send_halves(hits)
        request = replace(client_verbs.batch([]), params=message)
        self._asking_since_s = self._asking_since_s or time.monotonic()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._count(hits, self._client.call(request))
                return True
            except FramingError:  # the server only takes smaller messages
                if hits.number > 1:
                    return self._send_halves(hits)
                self._count(hits, BatchResult(0, 0, 1, "a hit is larger than the server's limit for a message"))
                return True
            except OnlineError as error:
                if isinstance(error, ServerError) and error.code not in _MAY_PASS:
                    self._count(hits, BatchResult(0, 0, hits.number, str(error)))
                    return True
                self.counts.trouble = error
            if not self._pause(pause_s * random.uniform(0.5, 1.0)):
                return False
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _send_halves(self, hits: Hits) -> bool:
        return all(self._send(half) for half in hits.halves)

    def _count(self, hits: Hits, result: BatchResult) -> None:
        counts = self.counts
        counts.trouble = self._asking_since_s = None
        counts.sent += result.accepted + result.ignored
        counts.ignored += result.ignored
        counts.refused += result.refused
        counts.first_refusal = counts.first_refusal or result.first_error or ""
        counts.lag_s = max(0.0, time.time() - hits.newest_ms / 1000)

    def _pause(self, pause_s: float) -> bool:
        """Pause before the next attempt. Returns whether to make one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended, pause_s)
            return not self._is_ended
