"""What the SQL databases have in common: one table, a row a user; people are counted, and a page is listed, by time.

Not here: a database. Each of them takes hits in its fastest form: batches, as large as ours.
"""

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from bench.peers import LISTED, WINDOW_MS, Question
from bench.workloads import FRAME_HITS, BenchHit, Workload

COUNT = "SELECT count(*) FROM online WHERE hitdate > {}"
PAGE = "SELECT user_name, hitdate FROM online WHERE url = {} AND hitdate > {} ORDER BY hitdate DESC LIMIT " + str(
    LISTED
)


class Table:
    """A peer that is a table."""

    #: How the driver marks an argument.
    mark = "%s"

    @abstractmethod
    def batch(self, hits: list[BenchHit]) -> Callable[[], None]:
        """Make a batch ready; what is returned stores it, committed."""

    @abstractmethod
    def rows(self, statement: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Ask the database."""

    def hitting(self, workload: Workload, first: int, n: int) -> Callable[[], None]:
        begins = range(first, first + n, FRAME_HITS)
        batches = [self.batch(list(workload.hits(begin, FRAME_HITS))) for begin in begins]

        def hit() -> None:
            for store in batches:
                store()

        return hit

    def asking(self, question: Question, url: bytes) -> Callable[[], None]:
        statement, arguments = self._question(question, url)
        answer = self.rows(statement, arguments)

        def ask() -> None:
            assert self.rows(statement, arguments) == answer

        return ask

    def count(self) -> int:
        return int(self.rows(*self._question("COUNT", b""))[0][0])

    def seen(self, url: bytes) -> list[int]:
        return [seen_ms for _user, seen_ms in self.rows(*self._question("PAGE", url))]

    def _question(self, question: Question, url: bytes) -> tuple[str, tuple[Any, ...]]:
        since_ms = time.time_ns() // 1_000_000 - WINDOW_MS
        if question == "COUNT":
            return COUNT.format(self.mark), (since_ms,)
        return PAGE.format(self.mark, self.mark), (url, since_ms)
