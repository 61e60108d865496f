"""Load for a server: requests at a rate, or one after the other, with the time that each answer took.

Not here: what is asked, and what the times mean (bench).

1. A lane is a thread with one request on its way at a time.
2. A latency counts from when the request was due, if the answer before it came too late for that: a server that stalls
   pays for all that would have been asked meanwhile. If it was not late, it counts from when the request was sent: how
   exactly the system wakes a thread is not the server's doing.
3. The first error ends all lanes, and is raised.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from threading import Event, Thread
from typing import Any

from online_client import Client, OnlineError
from online_client.verbs import Request

#: How long a thread may keep the interpreter from another. Python's own 5 ms would be most of a latency.
_SWITCH_S = 0.0002


@dataclass
class Lane:
    """Requests, which are asked in a circle, and how long their answers took."""

    requests: Sequence[Request[Any]]
    per_s: float  #: 0: as many as can be
    latencies_s: list[float] = field(default_factory=list)

    def run(self, call: Callable[[Request[Any]], object], begin_s: float, until_s: float, stop: Event) -> None:
        """Ask until the time is over or `stop` is set. Raises OnlineError."""
        clock = time.perf_counter
        step_s = 1 / self.per_s if self.per_s else 0.0
        due_s = begin_s
        for request in cycle(self.requests):
            now_s = clock()
            from_s = due_s if step_s else now_s
            if now_s < due_s:
                rest_s = min(due_s, until_s) - now_s
                stop.wait(rest_s) if rest_s > 0.1 else time.sleep(max(0.0, rest_s))
                from_s = now_s = clock()
            if max(now_s, due_s) >= until_s or stop.is_set():
                return
            call(request)
            self.latencies_s.append(clock() - from_s)
            due_s += step_s


@dataclass(frozen=True)
class Load:
    """What became of a run."""

    lasted_s: float
    busy: float  #: which part of one core this process took


def run(client: Client, lanes: Sequence[Lane], seconds: float) -> Load:
    """Run all lanes for so long. Raises OnlineError."""
    stop, errors = Event(), list[OnlineError]()

    def work(lane: Lane) -> None:
        try:
            lane.run(client.call, begin_s, until_s, stop)
        except OnlineError as error:
            errors.append(error)
            stop.set()

    with _quick_turns():
        begin_s, busy_s = time.perf_counter(), time.process_time()
        until_s = begin_s + seconds
        threads = [Thread(target=work, args=(lane,), daemon=True) for lane in lanes]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            stop.set()  # Ctrl-C
        lasted_s = time.perf_counter() - begin_s
    if errors:
        raise errors[0]
    return Load(lasted_s, (time.process_time() - busy_s) / lasted_s)


@contextmanager
def _quick_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
