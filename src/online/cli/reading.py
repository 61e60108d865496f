"""Logs -> hits, for reports: page views of people or all lines, and counts of the lines left out.

Not here: figures from hits (survey), and what a page view is (pages).
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgpack

from online.cli.browsers import Agents
from online.cli.jobs import Jobs
from online.cli.outcomes import BOT, Outcomes, is_empty_log
from online.logs.hitlog import (
    MAX_LINE_BYTES,
    READ_BY,
    TOO_LONG,
    LogError,
    LoggedHit,
    LogReader,
    every_request,
    log_bytes,
    read_from,
)
from online.logs.pages import Pages, PageView, guest_key
from online.logs.records import NO_TIME, Read, Record
from online.logs.rules import Rules
from online_client.urls import normal_host, read_target

#: Logs with a smaller total size are read before a progress bar would be noticed.
LONG_LOG_BYTES = 1 << 20

#: How many lines are searched for the first time in a log.
LOOKED_AT_LINES = 100

#: Turns a line into a hit or a page view, or returns the reason why it cannot.
Parse = Callable[[bytes], LoggedHit | PageView | str]


class Counts:
    """What the lines of logs say beside hits."""

    def __init__(self) -> None:
        self.outcomes = Outcomes()
        self.referrers: Counter[bytes] = Counter()  #: hits by the host of the page with the link
        self.bots: set[bytes] = set()
        self.members: set[bytes] = set()
        self.member_hits = 0
        self.agents = Agents()  #: of hits
        self.raw_statuses: Counter[bytes] = Counter()  #: as the lines have them

    @property
    def statuses(self) -> Counter[str]:
        """The statuses of all lines that have one."""
        found: Counter[str] = Counter()
        for status, number in self.raw_statuses.items():
            found[status.decode() if len(status) == 3 and status.isdigit() else "other"] += number
        return found

    def add(self, later: "Counts") -> None:
        """Add what later lines say. The same as if they had been counted here."""
        self.outcomes.add(later.outcomes)
        self.referrers.update(later.referrers)
        self.bots |= later.bots
        self.members |= later.members
        self.member_hits += later.member_hits
        self.agents.add(later.agents)
        self.raw_statuses.update(later.raw_statuses)


class Block(NamedTuple):
    """Some lines of a log, without their newlines: its name, and the number of the first, from 1."""

    log: str
    first: int
    lines: list[bytes]


class LineParser:
    """Parses the lines of logs, and counts what happened to each."""

    def __init__(self, read: Read, rules: Rules | None, *, key: bytes = b"", url_prefix: bytes = b"") -> None:
        """With `rules`, the page views of people are hits, with names by `key`. Without, every line is a hit."""
        self._read = read
        self._pages: Pages | None = None
        self._record: Record | None = None  #: of the current line, if there are no pages to ask
        self._parse: Parse
        if rules is None:
            self._parse = every_request(self._noted, url_prefix=url_prefix)
        else:
            self._pages = Pages(read, rules, key=key, url_prefix=url_prefix)
            self._parse = self._pages.parse

    def hits(self, block: Block, counts: Counts) -> bytes:
        """Return the hits of some lines, packed as `Crowd.take` has them, and count these lines. O(length)."""
        outcomes = counts.outcomes
        found_hits: list[bytes] = []
        outcomes.lines += len(block.lines)
        for number, line in enumerate(block.lines, block.first):
            if len(line) > MAX_LINE_BYTES:
                outcomes.take(TOO_LONG, line, block.log, number)
                continue
            found = self._parse(line)
            self._count_status(counts)
            if isinstance(found, str):
                if found != NO_TIME or number > 1:  # a first line may be a header
                    outcomes.take(found, line, block.log, number)
            elif isinstance(found, LoggedHit):
                self._count_hit(counts)
                found_hits.append(msgpack.packb(found))
            elif found.kind == "bot":
                outcomes.left_out[BOT] += 1
                counts.bots.add(found.user)
            else:
                self._count_hit(counts)
                if found.kind == "member":
                    counts.member_hits += 1
                    counts.members.add(found.user)
                found_hits.append(msgpack.packb(found))
        return b"".join(found_hits)

    def _noted(self, line: bytes) -> Record | str:
        record = self._read(line)
        self._record = record if isinstance(record, Record) else None
        return record

    def _count_status(self, counts: Counts) -> None:
        """Count the status of the line that was parsed last."""
        status = self._pages.status if self._pages else self._record.status if self._record else b""
        if status:
            counts.raw_statuses[status] += 1

    def _count_hit(self, counts: Counts) -> None:
        """Count the hit of the current line, its agent, and its referrer if that is not the line's own host."""
        counts.outcomes.hits += 1
        pages, record = self._pages, self._record
        counts.agents.count(pages.agent if pages else record.agent if record else b"")
        host = pages.referrer_host if pages else _referrer_host(record)
        if host:
            counts.referrers[host] += 1


#: What a worker of `Reading` is given, and what it returns.
_Packed = tuple[str, int, bytes]
_Found = tuple[bytes, Counts]


def _worker(how: argparse.Namespace, rules: Rules | None, key: bytes) -> Callable[[_Packed], _Found]:
    """Return what a process of `--jobs` does with lines."""
    parser = _parser(how, rules, key)

    def work(packed: _Packed) -> _Found:
        log, first, text = packed
        counts = Counts()
        return parser.hits(Block(log, first, text.split(b"\n")), counts), counts

    return work


def _parser(how: argparse.Namespace, rules: Rules | None, key: bytes) -> LineParser:
    read = read_from(how, visitor=rules.visitor if rules else "")
    return LineParser(read, rules, key=key, url_prefix=how.url_prefix)


class Reading(Counts):
    """Reads logs one after another, and counts what happened to each line."""

    def __init__(self, how: argparse.Namespace, rules: Rules | None) -> None:
        """`how` has the options of `add_format_arguments`, and `jobs`.

        With `rules`, the page views of people are hits. Without, every line is a hit.
        """
        super().__init__()
        self.errors: list[str] = []  #: logs that were not read to their end
        self.notes: list[str] = []  #: remarks that are not failures
        self.knows_kinds = rules is not None  #: whether hits are page views of members and guests
        self._how = argparse.Namespace(**{name: getattr(how, name) for name in READ_BY})
        self._rules = rules
        self._jobs = how.jobs
        self._log = LogReader()
        self._read = read_from(how, visitor=rules.visitor if rules else "")

    @property
    def bytes_read(self) -> int:
        return self._log.bytes_read

    def hits(self, logs: Sequence[str]) -> Iterator[bytes]:
        """Yield the hits of all logs, some at a time, packed as `Crowd.take` has them.

        A log that cannot be read is an error; an empty one is a note.
        """
        key = guest_key(self._rules.guest_key) if self._rules else b""
        if self._jobs == 1:
            parser = _parser(self._how, self._rules, key)
            for block in self._blocks(logs):
                yield parser.hits(block, self)
            return
        with Jobs[_Packed, _Found](self._jobs, _worker, self._how, self._rules, key) as jobs:
            packed = ((log, first, b"\n".join(lines)) for log, first, lines in self._blocks(logs))
            for hits, counts in jobs.map(packed):
                self.add(counts)
                yield hits

    def _blocks(self, logs: Sequence[str]) -> Iterator[Block]:
        for log in logs:
            name = "standard input" if log == "-" else log
            first = 1
            try:
                for lines in self._log.blocks_of(log):
                    yield Block(name, first, lines)
                    first += len(lines)
            except LogError as error:
                (self.notes if is_empty_log(error) else self.errors).append(str(error))

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


def with_progress(hits: Iterator[bytes], reading: Reading, logs: Sequence[str]) -> Iterator[bytes]:
    """Pass pieces on. For long logs on a terminal, show progress on stderr."""
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
        for piece in hits:
            progress.update(task, completed=reading.bytes_read)
            yield piece
