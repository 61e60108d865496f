"""Several processes that do the same work on pieces, with the results in the order of the pieces.

Not its job: what the work is (reading, feed).

1. A worker is a Python of its own, with pipes to and from it. It ends when its pipe does, so none is left behind,
   however this process ends. Signals of the terminal do not reach it.
2. A worker has one piece at most, and gets its next before a result is used: so no pipe waits for another.
"""

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Generic, TypeVar, cast

from online.errors import OnlineError

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Jobs(Generic[Piece, Result]):
    """Workers, each with a function of its own. To be closed; a context manager does."""

    def __init__(self, number: int, make: Callable[..., Callable[[Piece], Result]], *args: Any) -> None:
        """Start `number` workers, of which each works with `make(*args)`. All that passes must be picklable."""
        command = [sys.executable, "-P", "-m", __name__]
        self._workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
            for _ in range(number)
        ]
        self._idle = deque(self._workers)
        self._busy: deque[subprocess.Popen[bytes]] = deque()
        for worker in self._workers:
            _give(worker, (make, args))

    def __enter__(self) -> "Jobs[Piece, Result]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.kill()
            with suppress(OSError):  # what it had not read
                cast(IO[bytes], worker.stdin).close()
            cast(IO[bytes], worker.stdout).close()
            worker.wait()

    def put(self, piece: Piece) -> Iterator[Result]:
        """Give a piece to a worker. Yields the oldest result if none was idle. Raises OnlineError if a worker died."""
        if self._idle:
            worker = self._idle.popleft()
            done = []
        else:
            worker = self._busy.popleft()
            done = [self._take(worker)]
        _give(worker, piece)
        self._busy.append(worker)
        yield from done

    def rest(self) -> Iterator[Result]:
        """Wait for all results that are left."""
        while self._busy:
            worker = self._busy.popleft()
            done = self._take(worker)
            self._idle.append(worker)
            yield done

    def map(self, pieces: Iterable[Piece]) -> Iterator[Result]:
        """Yield the results of pieces, in their order. What getting the pieces raises comes after these results."""
        failure = None
        try:
            for piece in pieces:
                yield from self.put(piece)
        except OnlineError as error:
            failure = error
        yield from self.rest()
        if failure is not None:
            raise failure

    def _take(self, worker: subprocess.Popen[bytes]) -> Result:
        try:
            return cast(Result, pickle.load(cast(IO[bytes], worker.stdout)))
        except (EOFError, pickle.UnpicklingError):
            raise _ended(worker) from None


def _give(worker: subprocess.Popen[bytes], what: Any) -> None:
    try:
        pickle.dump(what, cast(IO[bytes], worker.stdin), protocol=pickle.HIGHEST_PROTOCOL)
        cast(IO[bytes], worker.stdin).flush()
    except BrokenPipeError:
        raise _ended(worker) from None


def _ended(worker: subprocess.Popen[bytes]) -> OnlineError:
    return OnlineError(f"a process of --jobs has ended before its work, with exit code {worker.wait()}")


def main() -> None:
    """Be a worker: do what comes over standard input until that ends."""
    pieces = sys.stdin.buffer
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints
    make, args = pickle.load(pieces)
    work = make(*args)
    while True:
        try:
            piece = pickle.load(pieces)
        except EOFError:
            return
        try:
            pickle.dump(work(piece), results, protocol=pickle.HIGHEST_PROTOCOL)
            results.flush()
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
