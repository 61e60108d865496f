"""Logs -> hits, for reports: page views of people or all lines, and counts of the lines left out.

Not here: figures from hits (survey), and what a page view is (pages).
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from online.cli.browsers import Agents
from online.cli.outcomes import BOT, Outcomes, is_empty_log
from online.logs.hitlog import MAX_LINE_BYTES, TOO_LONG, LogError, LoggedHit, LogReader, every_request, log_bytes
from online.logs.pages import Pages, PageView, guest_key
from online.logs.records import NO_TIME, Read, Record
from online.logs.rules import Rules
from online_client.urls import normal_host, read_target

#: Logs with a smaller total size are read before a progress bar would be noticed.
LONG_LOG_BYTES = 1 << 20

#: How many lines are searched for the first time in a log.
LOOKED_AT_LINES = 100

_HITS_PER_PROGRESS = 4096

#: Turns a line into a hit or a page view, or returns the reason why it cannot.
Parse = Callable[[bytes], LoggedHit | PageView | str]


class Reading:
    """Reads logs one after another, and counts what happened to each line."""

    def __init__(self, read: Read, rules: Rules | None, *, url_prefix: bytes = b"") -> None:
        """With `rules`, the page views of people are hits. Without, every line is a hit."""
        self.outcomes = Outcomes()
        self.referrers: Counter[bytes] = Counter()  #: hits by the host of the page with the link
        self.bots: set[bytes] = set()
        self.members: set[bytes] = set()
        self.member_hits = 0
        self.agents = Agents()  #: of hits
        self.errors: list[str] = []  #: logs that were not read to their end
        self.notes: list[str] = []  #: remarks that are not failures
        self._read = read
        self._log = LogReader()
        self._statuses: Counter[bytes] = Counter()
        self._pages: Pages | None = None
        self._record: Record | None = None  #: of the current line, if there are no pages to ask
        self._parse = self._parser(rules, url_prefix)

    @property
    def bytes_read(self) -> int:
        return self._log.bytes_read

    @property
    def knows_kinds(self) -> bool:
        """Whether hits are page views of members and guests."""
        return self._pages is not None

    @property
    def statuses(self) -> Counter[str]:
        """The statuses of all lines that have one."""
        found: Counter[str] = Counter()
        for status, number in self._statuses.items():
            found[status.decode() if len(status) == 3 and status.isdigit() else "other"] += number
        return found

    def _parser(self, rules: Rules | None, url_prefix: bytes) -> Parse:
        if rules is None:
            return every_request(self._noted, url_prefix=url_prefix)
        self._pages = Pages(self._read, rules, key=guest_key(rules.guest_key), url_prefix=url_prefix)
        return self._pages.parse

    def _noted(self, line: bytes) -> Record | str:
        record = self._read(line)
        self._record = record if isinstance(record, Record) else None
        return record

    def _count_status(self) -> None:
        """Count the status of the line that was parsed last."""
        status = self._pages.status if self._pages else self._record.status if self._record else b""
        if status:
            self._statuses[status] += 1

    def _count_hit(self) -> None:
        """Count the hit of the current line, its agent, and its referrer if that is not the line's own host."""
        self.outcomes.hits += 1
        pages, record = self._pages, self._record
        self.agents.count(pages.agent if pages else record.agent if record else b"")
        host = pages.referrer_host if pages else _referrer_host(record)
        if host:
            self.referrers[host] += 1

    def hits(self, logs: Sequence[str]) -> Iterator[LoggedHit]:
        """Yield the hits of all logs. A log that cannot be read is an error; an empty one is a note."""
        for log in logs:
            try:
                yield from self._hits_of(log)
            except LogError as error:
                (self.notes if is_empty_log(error) else self.errors).append(str(error))

    def _hits_of(self, log: str) -> Iterator[LoggedHit]:
        outcomes = self.outcomes
        name = "standard input" if log == "-" else log
        for number, line in enumerate(self._log.lines_of(log), 1):
            outcomes.lines += 1
            if len(line) > MAX_LINE_BYTES:
                outcomes.take(TOO_LONG, line, name, number)
                continue
            found = self._parse(line)
            self._count_status()
            if isinstance(found, LoggedHit):
                self._count_hit()
                yield found
            elif isinstance(found, str):
                if found != NO_TIME or number > 1:  # a first line may be a header
                    outcomes.take(found, line, name, number)
            elif found.kind == "bot":
                outcomes.left_out[BOT] += 1
                self.bots.add(found.user)
            else:
                self._count_hit()
                if found.kind == "member":
                    self.member_hits += 1
                    self.members.add(found.user)
                yield LoggedHit(found.user, found.url, found.seen_ms)

    def in_order(self, logs: Sequence[str]) -> list[str]:
        """Drop repeated logs, and sort the others by their first times if all are files.

        Adds notes about changes, and about logs that begin with the same line.
        """
        logs = self._without_repeats(logs)
        if len(logs) < 2 or not all(os.path.isfile(log) for log in logs):
            return logs
        firsts = {log: _first(log, self._read) for log in logs}
        self._note_those_alike(firsts)
        # A log without a time is empty or not a log: it goes last, and reading it reports the reason.
        ordered = sorted(logs, key=lambda log: first[0] if (first := firsts[log]) else sys.maxsize)
        timed = [log for log in logs if firsts[log]]
        if timed != [log for log in ordered if firsts[log]]:
            self.notes.append(f"the logs are read oldest first: {', '.join(ordered)}")
        return ordered

    def _without_repeats(self, logs: Sequence[str]) -> list[str]:
        kept: dict[object, str] = {}
        for log in logs:
            try:
                status = os.stat(log)
                identity: object = (status.st_dev, status.st_ino)
            except OSError:
                identity = log
            if identity in kept:
                self.notes.append(f"{log} and {kept[identity]} are the same file; it is read once")
            kept.setdefault(identity, log)
        return list(kept.values())

    def _note_those_alike(self, firsts: dict[str, tuple[int, bytes] | None]) -> None:
        seen: dict[tuple[int, bytes], str] = {}
        for log, first in firsts.items():
            if first in seen:
                self.notes.append(f"{log} and {seen[first]} begin with the same line; are they copies of one log?")
            elif first:
                seen[first] = log


def _referrer_host(record: Record | None) -> bytes:
    """Return the host of the page that linked here, if that is another than the record's own."""
    if record is None or len(record.referrer) < 2:  # empty or `-`
        return b""
    host = read_target(record.referrer).host
    return host if host != (read_target(record.url).host or normal_host(record.host)) else b""


def _first(log: str, read: Read) -> tuple[int, bytes] | None:
    """Return the first time in a log and its line; None if the first lines have none."""
    try:
        for line in islice(LogReader().lines_of(log), LOOKED_AT_LINES):
            record = read(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            if isinstance(record, Record):
                return record.seen_ms, line
    except LogError:
        pass
    return None


def with_progress(hits: Iterator[LoggedHit], reading: Reading, logs: Sequence[str]) -> Iterator[LoggedHit]:
    """Pass hits on. For long logs on a terminal, show progress on stderr."""
    total = log_bytes(logs)
    if not sys.stderr.isatty() or (total is not None and total < LONG_LOG_BYTES):
        yield from hits
        return
    # Slow to import, and needed only here.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress("Reading", *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for number, hit in enumerate(hits):
            if number % _HITS_PER_PROGRESS == 0:
                progress.update(task, completed=reading.bytes_read)
            yield hit
