"""The past of all sites, in SQLite: rows of history, sketches of visitors, and where members were last seen.

    sites      id, name
    rows       one for each site, level and time: the greatest counts, hits and visitors, and when most were online
    sketches   who came, by hour and by day: registers (core/past), compressed
    last       where and when a member was last seen; without a url: the user is hidden
    forgotten  who is to be forgotten, until no other file has them: what was before must not bring them back
    settled    those of `forgotten` of whom the newest snapshot has what came later alone, and the others on a bus know

A level is the length of a row in minutes: 1, 10 or 60. Every minute adds to one row of each level, so older rows need
only be deleted, and a long curve reads few. Times are wall time.

Not its job: when something is written, and in which thread (serve/past.py).

Invariants:
1. What was written twice for the same time is merged: maxima by maximum, hits added. So there is no row twice.
2. What one call writes is in the file as a whole, or not at all.
3. What is deleted is overwritten (`secure_delete`), and `forgotten` empties the log of the file.
4. Nobody of `forgotten` is in `last` as of a time before that.
5. Visitors that cannot be told are None, and no wrong number. A sketch that is damaged tells none, until the next takes
   its place.
6. Rows are deleted in whole hours, sketches of hours in whole days. So a row that is there has all of its minutes in
   the finer rows, or none, and so has a day its hours.
7. Whatever the file holds, a call raises sqlite3.Error and nothing else. SQLite keeps text where a number should be,
   and Python cannot even word some errors of a damaged file.
8. A file that has lost its head is never opened to be written: SQLite would take it for a new one, and delete its log.
"""

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from online.core.past import SKETCH_BYTES, estimate, merged
from online.terms import SEEN_MAX_MS

VERSION = 1

MINUTE_MS = 60_000
LEVELS = (1, 10, 60)

#: A file of SQLite begins with this, and is at least so long.
_MAGIC, _LEAST_BYTES = b"SQLite format 3\0", 512
HOUR, DAY = 60, 1_440

#: How long rows of a minute and of ten minutes are kept; those of an hour as long as anything.
FINE_DAYS = {1: 8, 10: 60}

#: How long the sketches of hours are kept. Then those of days are left. One has 460 bytes with 100 visitors, 2.2 KB
#: with 1,000, and 7.5 KB with 50,000 or more: 16 MB a site at most, as pages of SQLite.
SKETCH_DAYS = 60

#: The most rows of one answer.
MOST_ROWS = 2_000

_SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS sites (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS rows (
    site INTEGER, level INTEGER, at INTEGER, people INTEGER, members INTEGER, guests INTEGER, bots INTEGER,
    hits INTEGER, visitors INTEGER, most_at INTEGER, PRIMARY KEY (site, level, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sketches (
    site INTEGER, level INTEGER, at INTEGER, registers BLOB, PRIMARY KEY (site, level, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last (
    site INTEGER, user BLOB, url BLOB, seen_ms INTEGER, PRIMARY KEY (site, user)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forgotten (nth INTEGER PRIMARY KEY, site INTEGER, user BLOB, at_ms INTEGER);
CREATE TABLE IF NOT EXISTS settled (nth INTEGER, at_ms INTEGER, PRIMARY KEY (nth, at_ms)) WITHOUT ROWID;
"""

_ADD_ROW = """
INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    most_at = CASE WHEN excluded.people > people THEN excluded.most_at ELSE most_at END,
    people = max(people, excluded.people), members = max(members, excluded.members),
    guests = max(guests, excluded.guests), bots = max(bots, excluded.bots),
    hits = hits + excluded.hits, visitors = max(visitors, excluded.visitors)
"""

_ADD_LAST = """
INSERT INTO last VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET url = excluded.url, seen_ms = excluded.seen_ms
    WHERE excluded.seen_ms >= seen_ms
"""


class Minute(NamedTuple):
    """What a site had in a minute."""

    at: int  #: minutes since 1970
    people: int
    members: int
    guests: int
    bots: int
    hits: int
    visitors: int
    ten_visitors: int  #: of its ten minutes so far
    hour_visitors: int  #: of its hour so far
    most_at_ms: int


class Forgotten(NamedTuple):
    """Who is to be forgotten."""

    site: bytes
    user: bytes
    at_ms: int  #: when that was asked; wall time
    is_settled: bool  #: what is read of the user at a start came later, and the others on a bus were told
    number: int  #: see `purged`


#: at_ms, people, members, guests, bots, hits, visitors
Row = tuple[int, int, int, int, int, int, int | None]


P = ParamSpec("P")
T = TypeVar("T")


def _call(method: Callable[P, T]) -> Callable[P, T]:
    """Let what a damaged file makes of a call be an error of the file (invariant 7)."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except (TypeError, ValueError, OverflowError) as error:
            raise sqlite3.DatabaseError(f"it holds what cannot be there: {error}") from error

    return call


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def check_head(path: Path) -> None:
    """Raise sqlite3.DatabaseError for a file with no head (invariant 8). One that is just begun is empty, with no log.

    Requires: this process has not opened the file. Closing it here would give SQLite's locks up.
    """
    size, log_bytes = _size_of(path), _size_of(_log_of(path))
    if not size and not log_bytes:
        return
    if size < _LEAST_BYTES:
        raise sqlite3.DatabaseError(f"its size in bytes is {size}, the least is {_LEAST_BYTES}")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise sqlite3.DatabaseError("file is not a database")


@_call
def inspect(path: Path) -> int:
    """Read all of a file as far as SQLite can check it; return how many rows it has. Nothing is changed. O(bytes).

    Raises sqlite3.Error and OSError if it is damaged or cannot be read.
    """
    check_head(path)
    if not _size_of(path):
        return 0
    # Without a log no server has it open: SQLite need not make one to read it.
    is_closed = not _size_of(_log_of(path)) and not path.with_name(f"{path.name}-shm").exists()
    how = "immutable=1" if is_closed else "mode=ro"
    db = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=10)
    try:
        for (said,) in db.execute("PRAGMA quick_check(1)"):
            if said != "ok":
                raise sqlite3.DatabaseError(said)
        n_rows: int = db.execute("SELECT count(people) FROM rows JOIN sites ON site = id").fetchone()[0]
        for table in ("sketches", "last", "forgotten"):
            db.execute(f"SELECT site FROM {table} LIMIT 1").fetchall()
        return n_rows
    finally:
        db.close()


def set_aside(path: Path) -> Path:
    """Rename a damaged file, and its log, so that SQLite finds both; return where it is. Raises OSError."""
    to = path.with_name(f"{path.name}.damaged")
    for each, aside in ((path, to), (_log_of(path), _log_of(to))):
        aside.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            each.rename(aside)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return to


class History:
    """The file, or memory where there is none. Every call may wait for the disk, and raises sqlite3.Error."""

    @_call
    def __init__(self, path: Path | None, *, reads_only: bool = False) -> None:
        """Open it, and make what is missing. Calls may come from any thread, one at a time."""
        self._ids: dict[bytes, int] = {}
        self._merged: set[tuple[int, int, int]] = set()
        self._forgotten: dict[tuple[int, bytes], int] = {}
        if path is not None and not reads_only:
            check_head(path)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # for its owner alone
        name = ":memory:" if path is None else f"{path.resolve().as_uri()}?mode={'ro' if reads_only else 'rw'}"
        self._db = sqlite3.connect(name, uri=True, check_same_thread=False, isolation_level=None, timeout=10)
        try:
            if not reads_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("PRAGMA secure_delete = ON")
                self._db.executescript(_SCHEMA)
                self._look_who_is_forgotten()
            self._db.execute("SELECT count(*) FROM sites").fetchone()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close it."""
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            self._ids.clear()
            self._merged.clear()
            raise
        self._db.execute("COMMIT")

    @_call
    def sites(self) -> list[bytes]:
        """Return the names of all sites."""
        found = self._db.execute("SELECT name FROM sites WHERE typeof(name) = 'blob' ORDER BY name")
        return [name for (name,) in found]

    def _id(self, site: bytes) -> int:
        """Return the number of a site, or 0 if it has none."""
        if site not in self._ids:
            found = self._db.execute("SELECT id FROM sites WHERE name = ?", (site,)).fetchone()
            if found is None:
                return 0
            self._ids[site] = found[0]
        return self._ids[site]

    def _new_id(self, site: bytes) -> int:
        if not self._id(site):
            self._db.execute("INSERT INTO sites (name) VALUES (?)", (site,))
        return self._id(site)

    # Rows and sketches

    @_call
    def add(self, minutes: Iterable[tuple[bytes, Minute]], sketches: Iterable[tuple[bytes, int, bytes]] = ()) -> None:
        """Add minutes of sites, and sketches of hours as `(site, minute, registers)`.

        In a file about 75 us for each minute without a sketch (bench/keep/test_history.py).
        """
        with self._whole():
            for site, minute in minutes:
                self._db.executemany(_ADD_ROW, _levels(self._new_id(site), minute))
            for site, at, registers in sketches:
                self._add_sketch(self._new_id(site), at, registers)

    def _add_sketch(self, site: int, at: int, registers: bytes) -> None:
        for level in (HOUR, DAY):
            key = (site, level, at - at % level)
            whole = registers
            if level == DAY or key not in self._merged:
                found = self._db.execute(
                    "SELECT registers FROM sketches WHERE (site, level, at) = (?, ?, ?)", key
                ).fetchone()
                kept = found and _unpacked(found[0])
                if kept:
                    whole = merged(kept, registers)
                self._merged = {each for each in self._merged if each[0] != site} | {key}
            self._db.execute("INSERT OR REPLACE INTO sketches VALUES (?, ?, ?, ?)", (*key, zlib.compress(whole, 1)))

    @_call
    def sketch(self, site: bytes, at: int) -> bytes | None:
        """Return the sketch of an hour; `at` is its first minute."""
        found = self._db.execute(
            "SELECT registers FROM sketches WHERE (site, level, at) = (?, ?, ?)", (self._id(site), HOUR, at)
        ).fetchone()
        return found and _unpacked(found[0])

    @_call
    def rows(self, site: bytes, from_ms: int, to_ms: int, step_ms: int) -> list[Row]:
        """Return the history from `from_ms` to `to_ms`, in steps of whole minutes that begin at `from_ms`.

        A step in which the server was away is absent. Visitors are those of a row, or of sketches if steps are of
        several whole hours; None where these were deleted, and for other steps. O(rows and sketches read).
        """
        first, end, step = from_ms // MINUTE_MS, -(-to_ms // MINUTE_MS), step_ms // MINUTE_MS
        number = self._id(site)
        steps: dict[int, list[int]] = {}
        spans = list(self._spans(number, first, end, step))
        for level, begin, until in spans:
            found = self._db.execute(
                "SELECT max(at - ?, 0) / ? AS nth, max(people), max(members), max(guests), max(bots), sum(hits), "
                "max(visitors) FROM rows WHERE site = ? AND level = ? AND at >= ? AND at < ? GROUP BY nth",
                (first, step, number, level, begin, until),
            )
            for nth, *values in found:
                sums = steps.setdefault(nth, [0] * 6)
                steps[nth] = [*map(max, sums[:4], values[:4]), sums[4] + values[4], max(sums[5], values[5])]
        visitors: dict[int, int | None] = {nth: int(sums[5]) for nth, sums in steps.items()}
        if step > HOUR and step % HOUR == 0 and first % HOUR == 0:
            sketches = _Sketches(self._db, number, first, end)
            for nth, least in visitors.items():
                begin = first + nth * step
                estimated = sketches.visitors(begin, min(begin + step, end))
                visitors[nth] = None if estimated is None else max(estimated, least or 0)
        else:
            for level, begin, until in spans:
                if level < step:  # several rows: who came in more than one?
                    inside = range((max(begin, first) - first) // step, -(-(until - first) // step))
                    visitors |= dict.fromkeys(visitors.keys() & inside)
        rows: list[Row] = []
        for nth in sorted(steps):
            people, members, guests, bots, hits = map(int, steps[nth][:5])
            rows.append(((first + nth * step) * MINUTE_MS, people, members, guests, bots, hits, visitors[nth]))
        return rows

    def _spans(self, site: int, first: int, end: int, step: int) -> Iterator[tuple[int, int, int]]:
        """Yield `(level, begin, end)`: the coarsest rows that will do, and coarser ones where those were deleted."""
        fitting = max(level for level in LEVELS if step % level == 0 and first % level == 0)
        levels = [level for level in LEVELS if level >= fitting]
        oldest = [
            self._db.execute("SELECT min(at) FROM rows WHERE site = ? AND level = ?", (site, level)).fetchone()[0]
            for level in levels
        ]
        until = end
        for level, coarser, kept, before in zip(
            levels, [*levels[1:], DAY], oldest, [*oldest[1:], None], strict=True
        ):
            begin = first
            if kept is not None and before is not None and before < kept - kept % coarser:
                begin = max(first, kept - kept % coarser)  # what was before that was deleted
            if kept is not None and begin < until:
                yield level, begin - begin % level, until
                until = begin

    @_call
    def peak(self, site: bytes, since_ms: int) -> tuple[int, int]:
        """Return the most people at once since a time, and when that was; 0, 0 if nobody was there. O(hours)."""
        hour_ms = HOUR * MINUTE_MS
        hour = -(-since_ms // hour_ms) * HOUR
        found = self._db.execute(
            "SELECT people, most_at FROM rows WHERE site = :site AND most_at >= :since_ms AND people > 0 AND ("
            "level = 60 AND at >= :hour - 60 OR level = 10 AND at >= :hour - 60 AND at < :hour "
            "OR level = 1 AND at >= :hour - 60 AND at < :hour"
            ") ORDER BY people DESC, most_at LIMIT 1",
            {"site": self._id(site), "since_ms": since_ms, "hour": hour},
        ).fetchone()
        return (0, 0) if found is None else (int(found[0]), int(found[1]))

    @_call
    def prune(self, now_ms: int, *, days: float, last_days: float) -> None:
        """Delete what is kept no longer. O(deleted)."""
        now = now_ms // MINUTE_MS // HOUR * HOUR
        with self._whole():
            for level in LEVELS:
                kept = min(FINE_DAYS.get(level, days), days)
                for (site,) in self._db.execute("SELECT id FROM sites").fetchall():
                    self._db.execute(
                        "DELETE FROM rows WHERE site = ? AND level = ? AND at < ?",
                        (site, level, now - int(kept * DAY)),
                    )
            for level, kept in ((HOUR, min(SKETCH_DAYS, days)), (DAY, max(days, 1))):
                before = now - int(kept * DAY)
                self._db.execute("DELETE FROM sketches WHERE level = ? AND at < ?", (level, before - before % DAY))
            self._db.execute("DELETE FROM last WHERE seen_ms < ?", (now_ms - int(last_days * DAY) * MINUTE_MS,))

    # Where members were last seen

    @_call
    def add_last(self, site: bytes, seen: Iterable[tuple[bytes, bytes | None, int]]) -> None:
        """Take note of `(user, url, seen_ms)`; the newest of a user is kept, but for who was forgotten since."""
        with self._whole():
            number = self._new_id(site)
            if self._forgotten:
                seen = (each for each in seen if each[2] > self._forgotten.get((number, each[0]), -1))
            self._db.executemany(_ADD_LAST, ((number, *each) for each in seen))

    @_call
    def last(self, site: bytes, users: Iterable[bytes]) -> list[tuple[bytes, int] | None]:
        """Return where and when each user was last seen. O(log n) for each."""
        number = self._id(site)
        ask = "SELECT url, CAST(seen_ms AS INT) FROM last WHERE site = ? AND user = ? AND typeof(url) = 'blob'"
        return [self._db.execute(ask, (number, user)).fetchone() for user in users]

    # Who is forgotten

    @_call
    def forget(
        self, site: bytes, users: list[bytes], at_ms: int, until_ms: int | None = None
    ) -> tuple[list[bool], int]:
        """Erase users from what is known of members, or up to a time. Return which of them were known, and a number.

        The number is for `purged`. `at_ms` is when this was asked.
        """
        until_ms = SEEN_MAX_MS if until_ms is None else until_ms
        known = []
        with self._whole():
            number = self._new_id(site)
            for user in users:
                done = self._db.execute(
                    "DELETE FROM last WHERE site = ? AND user = ? AND seen_ms <= ?", (number, user, until_ms)
                )
                known.append(done.rowcount > 0)
                nth = self._db.execute("INSERT INTO forgotten VALUES (NULL, ?, ?, ?)", (number, user, at_ms)).lastrowid
        self._empty_log()
        return known, nth or 0

    @_call
    def forgotten(self) -> tuple[list[Forgotten], int]:
        """Return who is to be forgotten, and their number for `purged`."""
        found = self._db.execute(
            "SELECT name, user, CAST(at_ms AS INT), (nth, at_ms) IN settled, nth FROM forgotten JOIN sites "
            "ON site = id WHERE typeof(name) = 'blob' AND typeof(user) = 'blob' ORDER BY nth"
        ).fetchall()
        listed = [Forgotten(site, user, at_ms, bool(settled), nth) for site, user, at_ms, settled, nth in found]
        return listed, found[-1][4] if found else 0

    @_call
    def settle(self, number: int) -> None:
        """Take note that those up to `number` are settled."""
        self._db.execute("INSERT OR IGNORE INTO settled SELECT nth, at_ms FROM forgotten WHERE nth <= ?", (number,))

    @_call
    def purged(self, number: int, before_ms: int) -> None:
        """Take note that no other file holds those up to `number`: only who was forgotten since a time is known on."""
        with self._whole():
            self._db.execute("DELETE FROM forgotten WHERE nth <= ? AND at_ms < ?", (number, before_ms))
            self._db.execute("DELETE FROM settled WHERE (nth, at_ms) NOT IN (SELECT nth, at_ms FROM forgotten)")
        self._empty_log()

    def _empty_log(self) -> None:
        """Leave nothing of what was deleted in the log of the file."""
        self._look_who_is_forgotten()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _look_who_is_forgotten(self) -> None:
        found = self._db.execute("SELECT site, user, max(at_ms) FROM forgotten GROUP BY site, user")
        self._forgotten = {(site, user): at_ms for site, user, at_ms in found}


class _Sketches:
    """The sketches of a site in some time: of days, and of the hours of those days that still have them."""

    def __init__(self, db: sqlite3.Connection, site: int, first: int, end: int) -> None:
        self._db, self._site = db, site
        begin = first - first % DAY
        self._known = {
            level: {at for (at,) in db.execute(
                "SELECT at FROM sketches WHERE site = ? AND level = ? AND at >= ? AND at < ?",
                (site, level, begin, -(-end // DAY) * DAY),
            )}
            for level in (HOUR, DAY)
        }  # fmt: skip
        self._days_of_hours = {at - at % DAY for at in self._known[HOUR]}

    def visitors(self, begin: int, end: int) -> int | None:
        """Estimate who came in whole hours; None if that cannot be told. O(hours)."""
        registers = bytes(SKETCH_BYTES)
        for level, at in self._parts(begin, end):
            if level == HOUR and at - at % DAY not in self._days_of_hours and at - at % DAY in self._known[DAY]:
                return None
            if at in self._known[level]:
                part = self._registers(level, at)
                if part is None:
                    return None
                registers = merged(registers, part)
        return estimate(registers)

    @staticmethod
    def _parts(begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield `(level, at)`: days, and hours where a day is not whole."""
        at = begin
        while at < end:
            level = DAY if at % DAY == 0 and at + DAY <= end else HOUR
            yield level, at
            at += level

    def _registers(self, level: int, at: int) -> bytes | None:
        found = self._db.execute(
            "SELECT registers FROM sketches WHERE (site, level, at) = (?, ?, ?)", (self._site, level, at)
        ).fetchone()
        return found and _unpacked(found[0])


def _unpacked(packed: bytes) -> bytes | None:
    """Return the registers of a sketch, or None if it is damaged."""
    try:
        registers = zlib.decompress(packed)
    except (zlib.error, TypeError):
        return None
    return registers if len(registers) == SKETCH_BYTES else None


def _levels(site: int, minute: Minute) -> Iterator[tuple[int, ...]]:
    """Yield what a minute adds to the row of each level."""
    at, *counts, hits, visitors, ten_visitors, hour_visitors, most_at_ms = minute
    for level, came in zip(LEVELS, (visitors, ten_visitors, hour_visitors), strict=True):
        yield (site, level, at - at % level, *counts, hits, came, most_at_ms)


def fitting_step_ms(span_ms: int) -> int:
    """Return how long the rows of a time are unless somebody says it: as short as an answer has room for."""
    minutes = next((level for level in LEVELS if span_ms <= 1_500 * level * MINUTE_MS), 0)
    return (minutes or HOUR * -(-span_ms // (1_500 * HOUR * MINUTE_MS))) * MINUTE_MS
