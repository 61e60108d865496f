"""How long everybody else waited, and for what: always measured, shown by INFO latency and LATENCY.

Not its job: to measure. Who takes the time says so by `took`: the reactor for its turns, its steps and the waits
between turns, which it counts itself (`watch`), slices for their turns, and the rare verbs each for itself.

Invariants:
1. An event costs O(1), and all of them together a bounded space: events have names of the program alone.
2. What takes LONG_NS or longer is an incident: it is kept, up to MOST_KEPT of each event, and logged, once in
   LOG_EVERY_NS at most; the next line says how many were left out. It is a warning, unless the system ran others for
   most of the time.
3. A time is by the clock, not the processor: what the system took away is in it. `turn_cpu` is by the processor's, of
   turns that took 2 ms or more.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator

logger = logging.getLogger("online.delays")

#: From here on a time is an incident.
LONG_NS = 10_000_000

#: How often the log tells of an incident, at most.
LOG_EVERY_NS = 10_000_000_000

#: Incidents of an event: as many as Redis keeps.
MOST_KEPT = 160

#: Buckets of a histogram: the n-th counts times below 2^n microseconds, and the last whatever is longer.
BUCKETS = 28

#: For each event the count of each bucket, and the longest time in ns.
Counts = dict[str, tuple[list[int], int]]


class Delay:
    """Times of one event."""

    def __init__(self) -> None:
        """None yet."""
        self.counts = [0] * BUCKETS
        self.longest_ns = 0
        self.incidents: deque[tuple[int, int]] = deque(maxlen=MOST_KEPT)  #: seconds since 1970, and ns

    def add(self, counts: list[int], longest_ns: int) -> None:
        """Add what was counted elsewhere."""
        self.counts = [mine + other for mine, other in zip(self.counts, counts, strict=True)]
        self.longest_ns = max(self.longest_ns, longest_ns)

    def percentile_us(self, percent: float) -> int:
        """Return a time that so many of a hundred were below: a power of two; 0 without any. O(1).

        >>> delay = Delay()
        >>> delay.add([0, 98, 0, 2, *[0] * (BUCKETS - 4)], 7_000)
        >>> [delay.percentile_us(percent) for percent in (50, 98, 99)]
        [2, 2, 8]
        """
        wanted = sum(self.counts) * percent / 100
        seen = 0
        for n, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return int(2**n)
        return 0

    def histogram_us(self) -> dict[str, int]:
        """Return how many took up to so many microseconds, as Redis does: the counts add up.

        The keys are text, since many readers of MessagePack refuse others.
        """
        told, seen = {}, 0
        for n, count in enumerate(self.counts):
            if count:
                seen += count
                told[str(2**n)] = seen
        return told


class Delays:
    """The times of all events of a server.

    >>> delays = Delays(clock_ns=lambda: 0)
    >>> delays.took("TOP", 3_000)
    >>> delays.events()["TOP"].histogram_us()
    {'4': 1}
    """

    def __init__(self, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Begin without events. `clock_ns` says when the log may speak again."""
        self._clock_ns = clock_ns
        self._delays: dict[str, Delay] = {}
        self._watched: Callable[[], Counts] = dict
        self._silent_until_ns: int | None = None
        self._left_out = 0

    def watch(self, take: Callable[[], Counts]) -> None:
        """Let `take` return what somebody has counted since it was called last."""
        self._watched = take

    def took(self, event: str, ns: int) -> None:
        """Take note that an event took so long. O(1)."""
        delay = self._delay(event)
        delay.counts[min((ns // 1000).bit_length(), BUCKETS - 1)] += 1
        delay.longest_ns = max(delay.longest_ns, ns)
        if ns >= LONG_NS:
            self.incident(event, ns)

    def incident(self, event: str, ns: int, verb: str | None = None, cpu_ns: int | None = None) -> None:
        """Take note of a long time that is counted elsewhere.

        `verb` is the last that was carried out in it, `cpu_ns` how much of it the processor worked for us.
        """
        self._delay(event).incidents.append((int(time.time()), ns))
        now_ns = self._clock_ns()
        if self._silent_until_ns is not None and now_ns < self._silent_until_ns:
            self._left_out += 1
            return
        more = f"; {self._left_out} more since the last such line" if self._left_out else ""
        cause = f"({event} with {verb})" if verb else f"({event})"
        level = logging.WARNING
        if cpu_ns is not None and ns - cpu_ns >= ns // 2:
            cause += f", {(ns - cpu_ns) / 1e6:.1f} ms of it because the processor ran other programs"
            level = logging.INFO
        logger.log(level, "clients waited for %.1f ms %s%s", ns / 1e6, cause, more)
        self._silent_until_ns, self._left_out = now_ns + LOG_EVERY_NS, 0

    def events(self) -> dict[str, Delay]:
        """Return each event that has happened, by name. O(events)."""
        for event, (counts, longest_ns) in self._watched().items():
            if longest_ns:
                self._delay(event).add(counts, longest_ns)
        return dict(sorted(self._delays.items()))

    def event(self, name: str) -> Delay:
        """Return one event, perhaps one that has not happened yet. O(events)."""
        self.events()
        return self._delay(name)

    def reset(self, events: set[str]) -> int:
        """Forget these events, or all if none is named; return how many had incidents."""
        gone = [event for event in self.events() if not events or event in events]
        return sum(bool(self._delays.pop(event).incidents) for event in gone)

    def _delay(self, event: str) -> Delay:
        delay = self._delays.get(event)
        if delay is None:
            delay = self._delays[event] = Delay()
        return delay


def rows(delays: Delays) -> Iterator[tuple[str, object]]:
    """Write INFO latency: the longest of each sort with its cause, then a row for each event."""
    events = delays.events()
    for name in ("turn", "turn_cpu", "step", "wait", "slices"):
        yield f"longest_{name}_us", events[name].longest_ns // 1000 if name in events else 0
    calls = {name: each for name, each in events.items() if name.isupper()}
    longest = max(calls, key=lambda name: calls[name].longest_ns, default=None)
    yield "longest_call_us", calls[longest].longest_ns // 1000 if longest else 0
    yield "longest_call", longest or ""
    for name, each in events.items():
        shown = {f"p{percent:g}": each.percentile_us(percent) for percent in (50, 99, 99.9, 99.99)}
        figures = {"count": sum(each.counts)} | shown | {"max": each.longest_ns // 1000}
        yield f"latency_us_{name}", ",".join(f"{key}={value}" for key, value in figures.items())
