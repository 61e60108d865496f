"""Logs -> hits, for reports: page views of people or every line, in the order of time, and what became of other lines.

Not here: what hits say (survey), and what a page view is (pages).
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from online.cli.outcomes import BOT, Outcomes, is_empty_log
from online.logs.hitlog import MAX_LINE_BYTES, TOO_LONG, LogError, LoggedHit, LogReader, every_request, log_bytes
from online.logs.pages import Pages, PageView, guest_key
from online.logs.records import NO_TIME, Read, Record
from online.logs.rules import Rules

#: Logs together shorter than this are read before a progress bar could be looked at.
LONG_LOG_BYTES = 1 << 20

#: Among so many of its first lines one with a time is looked for.
LOOKED_AT_LINES = 100

_HITS_PER_PROGRESS = 4096

#: What makes a hit of a line, or a page view, or tells why it cannot.
Parse = Callable[[bytes], LoggedHit | PageView | str]


class Reading:
    """Reads logs one after the other, and counts what became of each line."""

    def __init__(self, read: Read, rules: Rules | None, *, url_prefix: bytes = b"") -> None:
        """With `rules` the page views of people are hits, without any every line is one."""
        self.outcomes = Outcomes()
        self.statuses: Counter[str] = Counter()  #: of all lines that tell one
        self.bots: set[bytes] = set()
        self.errors: list[str] = []  #: why logs were not read to their end
        self.notes: list[str] = []  #: what is worth knowing, and no failure
        self._read = read
        self._log = LogReader()
        self._parse = self._parser(rules, url_prefix)

    @property
    def bytes_read(self) -> int:
        return self._log.bytes_read

    def _parser(self, rules: Rules | None, url_prefix: bytes) -> Parse:
        if rules is None:
            return every_request(self._counted, url_prefix=url_prefix)
        return Pages(self._counted, rules, key=guest_key(rules.guest_key), url_prefix=url_prefix).parse

    def _counted(self, line: bytes) -> Record | str:
        """Make a record of a line, and count its status."""
        record = self._read(line)
        if isinstance(record, Record) and record.status:
            status = record.status
            self.statuses[status.decode() if len(status) == 3 and status.isdigit() else "other"] += 1
        return record

    def hits(self, logs: Sequence[str]) -> Iterator[LoggedHit]:
        """Read all logs as one stream. A log that cannot be read is an error, an empty one a note."""
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
            found = self._parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            if isinstance(found, LoggedHit):
                outcomes.hits += 1
                yield found
            elif isinstance(found, str):
                if found != NO_TIME or number > 1:  # a first line may be a header
                    outcomes.take(found, line, name, number)
            elif found.kind == "bot":
                outcomes.left_out[BOT] += 1
                self.bots.add(found.user)
            else:
                outcomes.hits += 1
                yield LoggedHit(found.user, found.url, found.seen_ms)

    def in_order(self, logs: Sequence[str]) -> list[str]:
        """Leave out logs that are named twice, and sort the others by their first times, if all are files.

        What it changes, and logs that begin alike, are notes.
        """
        logs = self._without_repeats(logs)
        if len(logs) < 2 or not all(os.path.isfile(log) for log in logs):
            return logs
        firsts = {log: _first(log, self._read) for log in logs}
        self._note_those_alike(firsts)
        # What has no time is empty, or of another kind: it goes last, and what it is will be said.
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
                self.notes.append(f"{log} and {kept[identity]} are the same log, which is read once")
            kept.setdefault(identity, log)
        return list(kept.values())

    def _note_those_alike(self, firsts: dict[str, tuple[int, bytes] | None]) -> None:
        seen: dict[tuple[int, bytes], str] = {}
        for log, first in firsts.items():
            if first in seen:
                self.notes.append(f"{log} begins as {seen[first]} does: is it the same log twice?")
            elif first:
                seen[first] = log


def _first(log: str, read: Read) -> tuple[int, bytes] | None:
    """Return the first line of a log that has a time, and that time; None if there is none at its beginning."""
    try:
        for line in islice(LogReader().lines_of(log), LOOKED_AT_LINES):
            record = read(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            if isinstance(record, Record):
                return record.seen_ms, line
    except LogError:
        pass
    return None


def with_progress(hits: Iterator[LoggedHit], reading: Reading, logs: Sequence[str]) -> Iterator[LoggedHit]:
    """Pass hits on; with long logs and a terminal, show on stderr how far they are read."""
    total = log_bytes(logs)
    if not sys.stderr.isatty() or (total is not None and total < LONG_LOG_BYTES):
        yield from hits
        return
    # Slow to import, and of no use elsewhere.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress("Reading", *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for number, hit in enumerate(hits):
            if number % _HITS_PER_PROGRESS == 0:
                progress.update(task, completed=reading.bytes_read)
            yield hit
