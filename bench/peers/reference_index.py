"""`online.core.reference` in this very process: the same rules in plain Python, without a server."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import sortedcontainers
from bench.peers import LISTED, Question
from bench.workloads import Workload

from online.core.reference import ReferenceIndex


class ReferencePeer:
    name = "online.core.reference"
    is_server = False
    form = "in-process, one call each"
    n_hits = 50_000

    def __enter__(self) -> Self:
        self._index = ReferenceIndex()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        del self._index

    def version(self) -> str:
        return f"on sortedcontainers {sortedcontainers.__version__}"

    def cpu_ns(self) -> int:
        return time.process_time_ns()

    def hitting(self, workload: Workload, first: int, n: int) -> Callable[[], None]:
        hits = list(workload.hits(first, n))

        def hit() -> None:
            now_ms = _now_ms()
            for user, url, seen_ms in hits:
                assert self._index.hit(user, url, seen_ms=seen_ms, now_ms=now_ms)

        return hit

    def asking(self, question: Question, url: bytes) -> Callable[[], None]:
        if question == "COUNT":
            people = self.count()

            def ask() -> None:
                assert self.count() == people
        else:
            page = self._index.page(url, LISTED, now_ms=_now_ms())

            def ask() -> None:
                assert self._index.page(url, LISTED, now_ms=_now_ms()) == page

        return ask

    def count(self) -> int:
        return self._index.count(now_ms=_now_ms())

    def seen(self, url: bytes) -> list[int]:
        return [seen_ms for _user, seen_ms, _kind in self._index.page(url, LISTED, now_ms=_now_ms())[2]]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
