"""Reports hits from the request path: never waits, never raises. A thread in the background sends them.

What is said here of hits holds for leaves, too; only, each goes by itself.

1. `hit` only packs the hit, with its time, and puts it into a buffer; the first one in a process starts the
   thread.
2. What waits is bounded, in hits and in bytes; beyond, the oldest are dropped and counted. The one batch that
   is on its way comes on top.
3. A hit is settled when it was sent, refused or dropped, and hits are settled in the order in which they
   came. A batch whose answer did not come is sent again: repeats change nothing. While the server is away,
   the thread pauses longer and longer between attempts. Why it cannot send is logged once, until it can.
4. Each process has its own thread, locks, buffer and counts, made at the first use: a forked child starts with none,
   what waited is the parent's to send. A web server may exchange the thread library (gevent, eventlet) after a program
   was loaded, so none is made before, and the library's present classes are looked up then.
5. The thread is started outside the lock, by one who has claimed that: starting may switch to another thread.
6. Whatever else happens in `hit` and `leave` is caught, and counted with the dropped. Why hits are invalid, refused or
   dropped is logged once a cause.
"""

import atexit
import logging
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from online_client import verbs
from online_client.buffer import BATCH_HITS, Buffer, Leave
from online_client.client import Client
from online_client.errors import (
    DiskRefusedError,
    FramingError,
    LoadingError,
    NotPermittedError,
    PartialError,
    ServerError,
    TokenWantedError,
    WrongTokenError,
)
from online_client.forks import notice_fork, tell_after_fork
from online_client.options import check_least
from online_client.replies import BatchResult
from online_client.verbs import MEMBER, Name, Time, User

if TYPE_CHECKING:
    from online_client.bus import BusClient

#: Pauses between attempts double from the first to the longest; each is cut at random to half or more of
#: that, so that the workers of a site do not all come back at once.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

#: Refusals that an operator can put right while hits wait; any other refusal of a whole batch is final.
_PASSING = (LoadingError, PartialError, DiskRefusedError, TokenWantedError, WrongTokenError, NotPermittedError)

#: Causes that a process logs at most.
MAX_CAUSES = 20

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

    `bus`: publish to the bus that servers share (bus.py) instead of a server; `url` is not used then.
    `interval_s`: how long a hit waits for others to go with it. `max_waiting`, `max_waiting_bytes`: what
    waits at most while the server is away. `exit_wait_s`: how long the end of the program may be held up by
    hits that still wait. (Children of `multiprocessing` end without that; flush there.)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        bus: str | None = None,
        timeout: float | None = 2.0,
        ca_file: str | None = None,
        interval_s: float = 0.2,
        max_waiting: int = 100_000,
        max_waiting_bytes: int = 64 * 1024 * 1024,
        exit_wait_s: float = 1.0,
    ) -> None:
        check_least(0, interval_s=interval_s, exit_wait_s=exit_wait_s)
        check_least(1, max_waiting=max_waiting, max_waiting_bytes=max_waiting_bytes)
        self._client: Client | BusClient
        self._client = _bus_client(bus, timeout) if bus else Client(url, timeout=timeout, ca_file=ca_file)
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
        self._put_in(lambda: Leave(verbs.leave(user, seen_ms=_time_or_now(seen_ms)).params))

    def _put_in(self, pack: Callable[[], bytes]) -> None:
        if sys.is_finalizing():  # a thread that has ended may hold the lock, and none can start
            self._dropped += 1
            return
        try:
            notice_fork()
            try:
                packed = pack()
            except Exception as error:
                with self._sync.lock:
                    self._invalid += 1
                    self._last_error = str(error)
                self._tell_cause("invalid", str(error))
                return
            self._put_packed(packed)
        except Exception as error:
            self._dropped += 1
            self._last_error = repr(error)
            self._tell_cause("dropped", repr(error))

    def _put_packed(self, packed: bytes) -> None:
        sync = self._sync
        with sync.lock:
            self._put += 1
            if self._closed:
                dropped = 1
            else:
                dropped = self._buffer.append(packed)
                if len(self._buffer) == 1 or self._buffer.has_batch:
                    sync.arrived.notify()
            self._drop(dropped)
        if self._thread is None:
            self._start()
        if dropped:
            why = "the reporter is closed" if self._closed else "too many wait for the server"
            self._tell_cause("dropped", why)

    def flush(self, timeout: float | None = None) -> bool:
        """Send at once what waits, and wait until it is settled, `timeout` seconds at most. Tell if it is.

        While the server is away this makes one attempt at once, and more after the usual pauses.
        """
        notice_fork()
        sync = self._sync
        with sync.lock:
            self._flushed = flushed = self._put
            self._flushes += 1
            sync.arrived.notify()
            sync.asked.notify()
        self._start()
        with sync.lock:
            if self._thread is None:
                return self._settled_hits() >= flushed
            return sync.settled.wait_for(lambda: self._settled_hits() >= flushed, timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then stop: what waits still is dropped and counted, as are hits that come later.

        Returns whether everything was settled in time.
        """
        with self._sync.lock:
            self._closed = True
        in_time = self.flush(timeout)
        with self._sync.lock:
            self._ended = True
            self._drop(self._buffer.clear())
            self._sync.arrived.notify()
            self._sync.asked.notify()
        atexit.unregister(self._close_at_exit)
        if in_time and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return in_time

    def statistics(self) -> ReporterStatistics:
        """Return the counts of this process. O(1)."""
        with self._sync.lock:
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
        self._made: dict[str, _Sync] = {}
        self._thread: threading.Thread | None = None
        self._buffer = Buffer(*self._bounds)
        self._batch_hits = BATCH_HITS
        self._on_their_way = 0
        self._put = self._sent = self._dropped = self._refused = self._invalid = 0
        self._last_error = None
        self._starting = False
        self._told: set[str] = set()  #: what was logged since a batch could be sent
        self._causes: set[str] = set()  #: why hits were lost, as far as it was logged
        self._flushed = 0  #: the first so many hits of all that were put are to go without waiting for others
        self._flushes = 0

    @property
    def _sync(self) -> "_Sync":
        """The locks of this process. Of several who make them at once, one's are everybody's: setdefault is atomic."""
        return self._made.get("sync") or self._made.setdefault("sync", _Sync())

    def _start(self) -> None:
        """Start the thread if it is missing and wanted. If the system refuses, the next hit tries again."""
        with self._sync.lock:
            if self._thread is not None or self._starting or not len(self._buffer):
                return
            self._starting = True
        try:
            thread = threading.Thread(target=self._run, name="online-reporter", daemon=True)
            thread.start()
        except Exception as error:
            self._last_error = str(error)
            self._tell(str(error))
        else:
            self._thread = thread
            if _has_no_threads():
                self._tell("uWSGI runs without threads, set enable-threads = true")
            atexit.unregister(self._close_at_exit)  # a child inherits the parent's registration
            atexit.register(self._close_at_exit)
        finally:
            self._starting = False

    def _close_at_exit(self) -> None:
        try:
            self.close(self._exit_wait_s)
        except Exception as error:  # of a thread library that has ended before
            self._last_error = repr(error)

    def _waiting_hits(self) -> int:
        return len(self._buffer) + self._on_their_way

    def _settled_hits(self) -> int:
        return self._put - self._waiting_hits()

    def _drop(self, hits: int) -> None:
        if hits:
            self._dropped += hits
            self._sync.settled.notify_all()

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
        with self._sync.lock:
            self._sync.arrived.wait_for(lambda: self._ended or len(self._buffer))
            self._sync.arrived.wait_for(lambda: self._ended or self._is_urgent(), self._interval_s)
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
            self._told.clear()
            if result.refused:
                self._tell_cause("refused", result.first_error or "no reason given")
        with self._sync.lock:
            self._on_their_way = 0
            self._last_error = result.first_error or self._last_error
            if is_final:
                self._sent += result.accepted + result.ignored
                self._refused += result.refused
            else:
                self._put_back(batch)
            self._sync.settled.notify_all()
        return is_final

    def _tell(self, why: str) -> None:
        if why not in self._told and len(self._told) < MAX_CAUSES:
            self._told.add(why)
            logger.warning("hits cannot be reported: %s", why)

    def _tell_cause(self, what: str, why: str) -> None:
        """Log why hits are lost, once a cause: numbers and quoted values make no other one."""
        try:
            cause = f"{what}: {_VALUES.sub('', why)}"
            if cause not in self._causes and len(self._causes) < MAX_CAUSES:
                self._causes.add(cause)
                logger.warning("hits are %s: %s; this is logged once", what, why)
        except Exception as error:  # of the application's handlers
            self._last_error = repr(error)

    def _call(self, batch: list[bytes]) -> BatchResult:
        if not isinstance(batch[0], Leave):
            return self._client.call(verbs.batch(batch))
        self._client.call(verbs.Request("leave", batch[0], lambda result, now_ms: None))
        return BatchResult(1, 0, 0, None)

    def _put_back(self, batch: list[bytes]) -> None:
        self._drop(len(batch) if self._ended else self._buffer.put_back(batch))

    def _pause(self, pause_s: float) -> None:
        with self._sync.lock:
            flushes = self._flushes
            self._sync.asked.wait_for(lambda: self._ended or self._flushes > flushes, pause_s)


#: What differs from hit to hit in a message.
_VALUES = re.compile(r"""\d+|'[^']*'|"[^"]*\"""")


def _has_no_threads() -> bool:
    """Tell whether this is a worker of uWSGI in which no thread runs between two requests."""
    options = getattr(sys.modules.get("uwsgi"), "opt", None)
    return options is not None and not {"enable-threads", "threads", "gevent", "asyncio"} & {*map(_text, options)}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _Sync:
    """The locks of one process."""

    def __init__(self) -> None:
        # Reentrant, so that a signal handler or a finalizer may report a hit while this thread reports one.
        self.lock = threading.RLock()
        self.arrived = threading.Condition(self.lock)  #: hits have come, or are to go at once
        self.asked = threading.Condition(self.lock)  #: somebody wants an attempt now
        self.settled = threading.Condition(self.lock)  #: hits have been settled


def _bus_client(url: str, timeout: float | None) -> "BusClient":
    """Import what a bus needs only where there is one."""
    from online_client.bus import BusClient

    return BusClient(url, timeout=timeout)


def _time_or_now(seen_ms: Time | None) -> Time:
    return time.time_ns() // 1_000_000 if seen_ms is None else seen_ms
