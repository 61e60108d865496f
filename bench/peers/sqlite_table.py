"""SQLite in memory, in this very process: no server, no socket, no disk."""

import sqlite3
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from bench.peers.sql import Table
from bench.workloads import FRAME_HITS, BenchHit

CREATE = """
CREATE TABLE online (user_name BLOB PRIMARY KEY, url BLOB NOT NULL, hitdate INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX online_by_time ON online (hitdate);
CREATE INDEX online_by_page ON online (url, hitdate);
"""
HIT = "REPLACE INTO online VALUES (?, ?, ?)"


class SqliteTable(Table):
    name = "SQLite"
    is_server = False
    form = f"in memory, in-process, a transaction for {FRAME_HITS}"
    n_hits = 100_000
    mark = "?"

    def __enter__(self) -> Self:
        self._database = sqlite3.connect(":memory:")
        self._database.executescript(CREATE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def version(self) -> str:
        return sqlite3.sqlite_version

    def cpu_ns(self) -> int:
        return time.process_time_ns()

    def batch(self, hits: list[BenchHit]) -> Callable[[], None]:
        def store() -> None:
            with self._database:
                self._database.executemany(HIT, hits)

        return store

    def rows(self, statement: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._database.execute(statement, arguments).fetchall()
