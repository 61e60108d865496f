"""MariaDB: the table that forums have for this, in InnoDB, with what slows it down turned off.

One `REPLACE` of many rows stores a batch: a statement a hit would spend most of its time in the driver and on the way
there and back. The texts of the statements are made beforehand.
"""

import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymysql
from bench.peers.serving import Serving, program
from bench.peers.sql import Table
from bench.workloads import FRAME_HITS, BenchHit

PLACES = [Path("/usr/sbin"), Path("/usr/libexec")]
OPTIONS = [
    "--bind-address=127.0.0.1",
    "--skip-log-bin",
    "--performance-schema=off",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-buffer-pool-size=512M",
    "--innodb-log-file-size=512M",
]
CREATE = """
CREATE TABLE online (
    user_name VARBINARY(256) PRIMARY KEY, url VARBINARY(2048) NOT NULL, hitdate BIGINT NOT NULL,
    INDEX (hitdate), INDEX (url, hitdate)
) ENGINE=InnoDB
"""


class MariadbTable(Table, Serving):
    name = "MariaDB"
    form = f"one REPLACE for {FRAME_HITS}"
    n_hits = 50_000
    user = "mysql"

    def __init__(self) -> None:
        super().__init__()
        self.program = program("mariadbd", "mariadb-server", PLACES)
        self.installer = program("mariadb-install-db", "mariadb-server")

    def command(self, folder: Path) -> Sequence[str | Path]:
        data = f"--datadir={folder / 'data'}"
        access = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        install: list[str | Path] = [self.installer, "--no-defaults", data, *access]
        subprocess.run(install, check=True, capture_output=True, user=self.user)
        own = [data, f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}", f"--port={self.port}"]
        return [self.program, "--no-defaults", *own, *OPTIONS]

    def connect(self, stack: ExitStack) -> None:
        connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)
        self._cursor = stack.enter_context(connection).cursor()
        self._cursor.execute("CREATE DATABASE bench")
        self._cursor.execute("USE bench")
        self._cursor.execute(CREATE)

    def version(self) -> str:
        return str(self.rows("SELECT version()", ())[0][0]).partition("-")[0]

    def batch(self, hits: list[BenchHit]) -> Callable[[], None]:
        rows = ",".join(self._cursor.mogrify("(%s,%s,%s)", hit) for hit in hits)

        def store() -> None:
            self._cursor.execute(f"REPLACE INTO online VALUES {rows}")

        return store

    def rows(self, statement: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self._cursor.execute(statement, arguments)
        return list(self._cursor.fetchall())
