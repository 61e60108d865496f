"""The clock of the server: index time, and the steps of the wall clock.

Not its job: to be read by an index or a connection; they are handed `now_ms`.

Index time is milliseconds since 1970 like wall time, but made of a clock that only goes forward at its pace
(CLOCK_BOOTTIME, which also runs while the machine is suspended) and an offset taken once, at the start. When
somebody sets the wall clock, index time goes on as before and `step_ms` takes up the difference.

Invariants:
1. `now_ms()` never goes back, and no step of the wall clock moves it: the ages of sessions stay true.
2. Index time + `step_ms` is within FOLLOW_MS of wall time after `follow()`.
3. `step_ms` changes in `follow()` alone, so all times that go in or out between two calls share one step.

Slow drift is not followed for its own sake: where the kernel slews the wall clock, it slews CLOCK_BOOTTIME
with it. Differences that do creep in are followed once they add up to FOLLOW_MS, and then count as a step.
Without CLOCK_BOOTTIME the steady clock may stand still in a suspend, which then looks like a step, too.
"""

import time
from collections.abc import Callable

#: A smaller difference is not followed: it is below the grain of a second of everything that is answered, and
#: each change of the step moves the times that clients were already told.
FOLLOW_MS = 500

#: Wall and steady time must have been read within this time of each other to be compared.
_TOGETHER_MS = 100


def steady_ms() -> int:
    """Return milliseconds of CLOCK_BOOTTIME, or of a monotonic clock where there is none."""
    return _steady_ns() // 1_000_000


def wall_ms() -> int:
    """Return milliseconds since 1970, as the system's clock is set now."""
    return time.time_ns() // 1_000_000


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


_steady_ns = _boottime_ns if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns


class Clock:
    """Index time, and how far the wall clock has been set away from it.

    >>> at = {"steady": 5_000, "wall": 1_700_000_000_000}
    >>> clock = Clock(steady=lambda: at["steady"], wall=lambda: at["wall"])
    >>> at.update(steady=6_000, wall=1_700_000_061_000)
    >>> clock.now_ms(), clock.follow(), clock.now_ms() + clock.step_ms
    (1700000001000, 60000, 1700000061000)
    """

    def __init__(
        self,
        *,
        steady: Callable[[], int] = steady_ms,
        wall: Callable[[], int] = wall_ms,
    ) -> None:
        """Begin with index time equal to wall time. Both sources give milliseconds."""
        self._steady = steady
        self._wall = wall
        self._offset_ms = wall() - steady()
        self.step_ms = 0  #: wall time is index time plus this
        self.steps = 0  #: how often the wall clock was seen to be set

    def now_ms(self) -> int:
        """Return index time: what every `now_ms` of the index and of a connection takes."""
        return self._steady() + self._offset_ms

    def follow(self) -> int:
        """Compare with the wall clock; return by how many ms it was set since the last call, mostly 0.

        A process that was halted between the two readings compares nothing, this time.
        """
        before_ms = self.now_ms()
        wall_ms = self._wall()
        if self.now_ms() - before_ms > _TOGETHER_MS:
            return 0
        moved_ms = wall_ms - before_ms - self.step_ms
        if abs(moved_ms) < FOLLOW_MS:
            return 0
        self.step_ms += moved_ms
        self.steps += 1
        return moved_ms
