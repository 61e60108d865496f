"""PostgreSQL: the same table, unlogged, with what slows it down turned off.

One `INSERT ... ON CONFLICT DO UPDATE` of three arrays, prepared, stores a batch. It may not meet a user twice, so that
it takes each user's newest hit of the batch alone.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from bench.peers import Question
from bench.peers.serving import START_S, Serving, program
from bench.peers.sql import Table
from bench.workloads import FRAME_HITS, BenchHit

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "512MB",
    "jit": "off",
    "autovacuum": "off",
    "plan_cache_mode": "force_custom_plan",  # a plan for all urls sorts the longest page whole
}
CREATE = """
CREATE UNLOGGED TABLE online (user_name bytea PRIMARY KEY, url bytea NOT NULL, hitdate bigint NOT NULL);
CREATE INDEX ON online (hitdate);
CREATE INDEX ON online (url, hitdate);
"""
HIT = """
INSERT INTO online
SELECT DISTINCT ON (u) u, p, t FROM unnest(%b::bytea[], %b::bytea[], %b::bigint[]) AS hit (u, p, t) ORDER BY u, t DESC
ON CONFLICT (user_name) DO UPDATE SET url = excluded.url, hitdate = excluded.hitdate
"""


class PostgresTable(Table, Serving):
    name = "PostgreSQL"
    form = f"one INSERT ... ON CONFLICT for {FRAME_HITS}"
    n_hits = 50_000
    user = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.program = program("postgres", "postgresql", PLACES)
        self.installer = program("initdb", "postgresql", [self.program.resolve().parent])

    def command(self, folder: Path) -> Sequence[str | Path]:
        data = folder / "data"
        access = ["--username=bench", "--auth=trust"]
        install: list[str | Path] = [self.installer, "-D", data, *access, "--no-sync", "--encoding=UTF8"]
        subprocess.run(install, check=True, capture_output=True, user=self.user)
        options = {**OPTIONS, "port": self.port, "unix_socket_directories": folder}
        return [self.program, "-D", data, *(f"--{name}={value}" for name, value in options.items())]

    def connect(self, stack: ExitStack) -> None:
        address = f"host=127.0.0.1 port={self.port} user=bench dbname=postgres"
        self._connection = stack.enter_context(_connected(address))
        self._connection.execute(CREATE)

    def pids(self) -> list[int]:
        """Its processes are one for each connection and some that keep house."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def version(self) -> str:
        return str(self.rows("SHOW server_version", ())[0][0]).partition(" ")[0]

    def batch(self, hits: list[BenchHit]) -> Callable[[], None]:
        columns = [list(column) for column in zip(*hits, strict=True)]

        def store() -> None:
            self._connection.execute(HIT, columns, prepare=True)

        return store

    def asking(self, question: Question, url: bytes) -> Callable[[], None]:
        """Let the planner know the table first, as it would after a while by itself."""
        self._connection.execute("ANALYZE online")
        return super().asking(question, url)

    def rows(self, statement: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement, arguments, prepare=True, binary=True)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _connected(address: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect as soon as it is ready, which it is a little after it listens."""
    until = time.monotonic() + START_S
    while True:
        try:
            return psycopg.connect(address, autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
