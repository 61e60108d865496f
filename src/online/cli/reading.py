"""Logs -> hits, for reports: page views of people or all lines, and counts of the lines left out.

Not here: figures from hits (survey), and what a page view is (pages).
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

import msgpack

from online.cli.browsers import browser_and_system
from online.cli.jobs import Jobs
from online.cli.outcomes import BOT, Outcomes, is_empty_log
from online.core.tally import LineTally
from online.logs.hitlog import (
    MAX_LINE_BYTES,
    READ_BY,
    TOO_LONG,
    LogError,
    LogReader,
    every_request,
    log_bytes,
    read_from,
)
from online.logs.pages import Pages, guest_key
from online.logs.records import NO_TIME, Read, Record
from online.logs.rules import Rules
from online_client.urls import normal_host, read_target

#: Logs with a smaller total size are read before a progress bar would be noticed.
LONG_LOG_BYTES = 1 << 20

#: How many lines are searched for the first time in a log.
LOOKED_AT_LINES = 100

class Counts:
    """What the lines of logs say beside hits."""

    def __init__(self) -> None:
        self.outcomes = Outcomes()
        self.statuses: Counter[str] = Counter()  #: of all lines that have one
        self.referrers: Counter[bytes] = Counter()  #: hits by the host of the page with the link
        self.agents: Counter[tuple[str, str]] = Counter()  #: hits by browser and system
        self.bots: set[bytes] = set()
        self.members: set[bytes] = set()
        self.member_hits = 0

    @property
    def browsers(self) -> Counter[str]:
        """Hits by browser."""
        return self._by_part_of_agent(0)

    @property
    def systems(self) -> Counter[str]:
        """Hits by system."""
        return self._by_part_of_agent(1)

    def add(self, later: "Counts") -> None:
        """Add what later lines say. The same as if they had been counted here."""
        self.outcomes.add(later.outcomes)
        self.statuses.update(later.statuses)
        self.referrers.update(later.referrers)
        self.agents.update(later.agents)
        self.bots |= later.bots
        self.members |= later.members
        self.member_hits += later.member_hits

    def add_tally(self, tally: LineTally) -> None:
        """Add what page views say."""
        statuses, agents, referrers, bots, members, bot_hits, member_hits = tally.take()
        referrers.pop(b"", None)
        self.statuses.update(statuses)
        self.referrers.update(referrers)
        self.agents.update(agents)
        self.bots |= bots
        self.members |= members
        self.member_hits += member_hits
        self.outcomes.left_out[BOT] += bot_hits

    def _by_part_of_agent(self, part: int) -> Counter[str]:
        found: Counter[str] = Counter()
        for names, number in self.agents.items():
            found[names[part]] += number
        return found


class Block(NamedTuple):
    """Some lines of a log, without their newlines: its name, and the number of the first, from 1."""

    log: str
    first: int
    lines: list[bytes]


class ViewParser:
    """Makes the page views of people hits, and counts what the lines say. Their names are made with a key."""

    def __init__(self, read: Read, rules: Rules, *, key: bytes, url_prefix: bytes) -> None:
        self._pages = Pages(read, rules, key=key, url_prefix=url_prefix)
        self._tally = LineTally(_status_name, browser_and_system, _referrer_host)

    def hits(self, block: Block, counts: Counts) -> bytes:
        """Return the hits of some lines, packed as `Crowd.take` has them, and count these lines. O(length)."""
        items, number, _, reasons, places = self._pages.pack(block.lines, self._tally)
        counts.outcomes.lines += len(block.lines)
        counts.outcomes.hits += number
        if block.first == 1 and places[:1] == [0] and reasons[0] == NO_TIME:  # it may be a header
            reasons, places = reasons[1:], places[1:]
        counts.outcomes.take_all(reasons, places, block.lines, block.log, block.first)
        return items

    def settle(self, counts: Counts) -> None:
        """Count what `hits` has not counted yet."""
        counts.add_tally(self._tally)


class RequestParser:
    """Makes every line a hit, and counts what the lines say."""

    def __init__(self, read: Read, *, url_prefix: bytes) -> None:
        self._read = read
        self._record: Record | None = None  #: of the current line
        self._parse = every_request(self._noted, url_prefix=url_prefix)

    def hits(self, block: Block, counts: Counts) -> bytes:
        """Return the hits of some lines as `ViewParser.hits` does."""
        outcomes = counts.outcomes
        found_hits: list[bytes] = []
        outcomes.lines += len(block.lines)
        for number, line in enumerate(block.lines, block.first):
            if len(line) > MAX_LINE_BYTES:
                outcomes.take(TOO_LONG, line, block.log, number)
                continue
            found = self._parse(line)
            if self._record is not None and self._record.status:
                counts.statuses[_status_name(self._record.status)] += 1
            if not isinstance(found, str):
                self._count_hit(counts)
                found_hits.append(msgpack.packb(found))
            elif found != NO_TIME or number > 1:  # a first line may be a header
                outcomes.take(found, line, block.log, number)
        return b"".join(found_hits)

    def settle(self, counts: Counts) -> None:
        """Nothing is left to count."""

    def _noted(self, line: bytes) -> Record | str:
        record = self._read(line)
        self._record = record if isinstance(record, Record) else None
        return record

    def _count_hit(self, counts: Counts) -> None:
        """Count the hit of the current line, its agent, and its referrer if that is not the line's own host."""
        record = cast(Record, self._record)
        counts.outcomes.hits += 1
        counts.agents[browser_and_system(record.agent)] += 1
        host = _referrer_host(record.referrer, record.url, record.host)
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
        hits = parser.hits(Block(log, first, text.split(b"\n")), counts)
        parser.settle(counts)
        return hits, counts

    return work


def _parser(how: argparse.Namespace, rules: Rules | None, key: bytes) -> ViewParser | RequestParser:
    """Return what parses lines. With `rules`, the page views of people are hits. Without, every line is a hit."""
    if rules is None:
        return RequestParser(read_from(how), url_prefix=how.url_prefix)
    return ViewParser(read_from(how, visitor=rules.visitor), rules, key=key, url_prefix=how.url_prefix)


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
            parser.settle(self)
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


def _status_name(status: bytes) -> str:
    return status.decode() if len(status) == 3 and status.isdigit() else "other"


def _referrer_host(referrer: bytes, url: bytes, host: bytes) -> bytes:
    """Return the host of the page that linked to a url, if that is another than the url's own; else nothing."""
    if len(referrer) < 2:  # empty or `-`
        return b""
    linking = read_target(referrer).host
    return linking if linking != (read_target(url).host or normal_host(host)) else b""


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
