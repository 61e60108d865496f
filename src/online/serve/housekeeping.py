"""Tasks that must not fail, and what is done at each full second.

Not its job: connections, which may fail, each alone.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from online.serve.clock import Clock
from online.serve.slices import Slices
from online.serve.verbs import Verbs

logger = logging.getLogger("online")


class Housekeeping:
    """Keeps tasks; the first one that fails stops the server."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """`stop` is called when a task has failed."""
        self.failure = ""  #: of the task that failed last, if one has
        self._stop = stop

    async def keep(self, name: str, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task that must not fail; if it does, say so and stop."""
        try:
            await task(*args)
        except Exception as error:
            self.failure = f"housekeeping failed: {name}: {error!r}"
            logger.exception("%s; stopping", self.failure)
            self._stop()


async def expire(verbs: Verbs, clock: Clock, slices: Slices) -> None:
    """Expire as soon as something is due, for ever: by the grain of the window, at full seconds alone."""
    while True:
        await _next_second(clock)
        await slices.finish("expire", verbs.expire(clock.now_ms()))


async def follow_clock(verbs: Verbs, clock: Clock) -> None:
    """Follow the wall clock when somebody sets it, for ever."""
    while True:
        await _next_second(clock)
        moved_ms = clock.follow()
        if moved_ms:
            verbs.service.clock_step_ms = clock.step_ms
            verbs.clock_steps = clock.steps
            logger.warning("the wall clock was set by %+.1f s; ages are kept", moved_ms / 1000)


async def _next_second(clock: Clock) -> None:
    """Sleep until the next full second of index time: a server that nobody uses wakes up no oftener."""
    await trio.sleep(1 - clock.now_ms() % 1000 / 1000)
