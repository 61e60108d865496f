"""Long work in slices: a little in each turn, so that nobody who asks meanwhile waits for the whole.

The seam for work that is not proportional to an answer: expiry, snapshots, long questions, closing many connections.
A job is a generator that yields wherever it may rest, and keeps its place itself (a cursor); between two yields it
takes a small part of BUDGET_S. What changes meanwhile is the job's matter.

Invariants:
1. All jobs together take about BUDGET_S of a turn; then everybody else has theirs.
2. Jobs take pieces in rotation: a long one does not keep a short one waiting.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

import trio

from online.pieces import Pieces, T
from online.serve.delays import Delays

#: What jobs may take of a turn, but for the last piece: half of what a question may wait for (2 ms).
BUDGET_S = 0.001


class _Job:
    """A job under way, and how it ended."""

    def __init__(self, name: str, pieces: Iterator[None]) -> None:
        self.name = name
        self.pieces = pieces
        self.ended = trio.Event()
        self.error: Exception | None = None

    def take_piece(self) -> bool:
        """Carry out the next piece; return whether there are more."""
        try:
            next(self.pieces)
        except StopIteration:
            return False
        except Exception as error:
            self.error = error
            return False
        return True


class Slices:
    """Jobs under way. One task runs them all."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, delays: Delays | None = None) -> None:
        """Begin without jobs. `clock` gives seconds; `delays` is told how long turns and their pieces took."""
        self.turns = 0  #: taken so far
        self._clock = clock
        self._delays = delays or Delays()
        self._jobs: deque[_Job] = deque()
        self._begun = trio.Event()

    def __len__(self) -> int:
        return len(self._jobs)

    async def finish(self, name: str, pieces: Iterator[None]) -> None:
        """Carry out a job, and return when it is through. Raises what it raises. Delays are told by its name.

        When cancelled, the job ends where it is.
        """
        job = _Job(name, pieces)
        self._jobs.append(job)
        self._begun.set()
        try:
            await job.ended.wait()
        finally:
            if job in self._jobs:
                self._jobs.remove(job)
        if job.error is not None:
            raise job.error

    async def run(self) -> None:
        """Take turns as long as there are jobs, for ever."""
        while True:
            await self._begun.wait()
            while self._jobs:
                self._take_turn()
                await trio.lowlevel.checkpoint()
            self._begun = trio.Event()

    def _take_turn(self) -> None:
        """Carry out pieces in rotation until the budget is used up or no job is left."""
        self.turns += 1
        began_s = piece_s = self._clock()
        while self._jobs:
            job = self._jobs.popleft()
            if job.take_piece():
                self._jobs.append(job)
            else:
                job.ended.set()
            now_s = self._clock()
            self._delays.took(job.name, round((now_s - piece_s) * 1e9))
            piece_s = now_s
            if now_s - began_s >= BUDGET_S:
                break
        self._delays.took("slices", round((piece_s - began_s) * 1e9))


async def in_turns(pieces: Pieces[T]) -> T:
    """Carry out work that a task of its own waits for, and return the result: about BUDGET_S of it in each turn."""
    end_s = time.perf_counter() + BUDGET_S
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() >= end_s:
            await trio.lowlevel.checkpoint()
            end_s = time.perf_counter() + BUDGET_S
