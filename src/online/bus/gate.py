"""Answers to hits that wait for the bus (--bus-ack yes): who lets them leave.

Not its job: to know what the bus has (replica).
"""

from collections.abc import Callable
from typing import Protocol

import trio

from online.core.journal import Journal


class Answers(Protocol):
    """Who lets answers leave that wait for the journal: the keeper, or `Gate` where there is none."""

    journal: Journal

    def answers_may_leave(self) -> None: ...


class Gate:
    """Lets answers wait for the bus alone, with a journal that has no file."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.journal = Journal()
        self.journal.settled = self._wait
        self._wake = wake
        self._settled = trio.lowlevel.ParkingLot()

    async def _wait(self) -> None:
        """Wait until what was answered so far may leave. Raises BrokenResourceError if it must not."""
        self.journal.flush()
        turn = self.journal.turn
        while not (fate := self.journal.may_leave(turn)):
            if fate is None:
                raise trio.BrokenResourceError("what was to be answered is not on the bus")
            await self._settled.park()

    def answers_may_leave(self) -> None:
        self._settled.unpark_all()
        self._wake()
