"""`online feed`: follows access logs and tells a running server of the page views in them, as they happen.

Not here: following (follow), what lines say (formats), which are page views and whose (pages), sending (sending),
remembering how far it is (places), and what hits mean (the server).

1. A file waits, a pipe cannot, and no file that waits holds up a pipe. While the server is away files are not read
   on; of what comes through a pipe the oldest is dropped.
2. How far a file is settled goes to the state file only when the server has answered for every line before.
   What is sent twice, after a crash, changes nothing there.
3. One thread reads and one sends. What they share is the sender's queue, and its counts.
4. What may pass does not end it: a server that is away, a log that cannot be read yet, a full disk. It is said once,
   and again when it is over.
"""

import argparse
import os
import select
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from online.cli.sending import TIMEOUT_S, Batch, Sender
from online.errors import ConfigError, OnlineError, StateError, quote
from online.logs.follow import Block, Log, Pipe
from online.logs.hitlog import MAX_LINE_BYTES, TOO_LONG, LogReader, add_format_arguments, read_from
from online.logs.pages import NO_PAGE_VIEW, Pages, PageView, guest_key, key_beside
from online.logs.places import Places
from online.logs.rules import add_rule_arguments, rules_from
from online_client import AddressError, Client

#: How often files are looked at for news.
POLL_S = 0.2

STATE_EVERY_S = 1.0

#: How long the end may take: for what waits to be sent.
FAREWELL_S = 2.0

CHECKED_LINES, SHOWN_LINES = 10_000, 20

_DESCRIPTION = """\
Follow access logs like `tail -F` and tell a running server of every page view in them, as it happens. Logs may be
rotated in any way. A - is standard input, so that a web server can write to this command directly.

A page view is a GET, HEAD or POST that was answered without an error and is not of a file such as a picture; its url
goes without the query. The user is who was logged in, or else a guest, whose name is made of a secret key and the
address and tells neither. Programs that are known by their agent are bots. All of that can be changed below; --check
shows for a log how each line is understood, and sends nothing.

A log is read from its end on, or with --state from where the last run came to. Then nothing is lost between the runs,
and guests keep their names."""

_EPILOG = """\
examples:
  online feed --check /var/log/nginx/access.log
  online feed /var/log/nginx/access.log --state /var/lib/online/feed.state
  online feed /var/log/apache2/*access.log --url online://:TOKEN@10.0.0.5/shop
  online feed access.log --rewrite '^/topic/(\\d+).*' '/topic/\\1' --keep-param p
  online feed access.log --trust-proxy 10.0.0.0/8
  varnishncsa | online feed -

in Apache's configuration:
  CustomLog "|/usr/local/bin/online feed - --quiet" combined

the best format, in nginx' configuration:
  log_format online escape=json '{"time":$msec,"url":"$request_uri",'
    '"status":"$status","method":"$request_method","address":"$remote_addr",'
    '"forwarded":"$http_x_forwarded_for","agent":"$http_user_agent","host":"$host"}';"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online feed`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("logs", metavar="FILE", nargs="+", help="a log, also one to come; - is standard input")
    parser.add_argument(
        "--url",
        dest="server",
        help="the server and its site (default: ONLINE_URL, or online://127.0.0.1:8989/default)",
    )
    parser.add_argument("--state", metavar="FILE", type=Path, help="where it is kept how far the logs were sent")
    parser.add_argument("--from-start", action="store_true", help="begin a log at its start, where nothing is kept")
    parser.add_argument(
        "--once", action="store_true", help="end where the logs end, when the server has everything, and follow none"
    )
    parser.add_argument("--check", action="store_true", help="show how the first lines are understood, send nothing")
    parser.add_argument(
        "--status", metavar="SECONDS", type=float, default=60.0, help="how often to tell how it goes (default: 60)"
    )
    parser.add_argument("--quiet", action="store_true", help="tell only what goes wrong")
    add_format_arguments(parser)
    add_rule_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do `online feed`. Returns 0, or 1 if a log was not read, or if hits were not sent that no next run will send.

    Raises ConfigError and StateError, before anything is read.
    """
    rules = rules_from(args)
    key = guest_key(rules.guest_key or (key_beside(args.state) if args.state and not args.check else None))
    pages = Pages(read_from(args, visitor=rules.visitor), rules, key=key, url_prefix=args.url_prefix)
    if args.check:
        return _check(args.logs, pages)
    try:
        client = Client(args.server, timeout=TIMEOUT_S)
    except AddressError as error:
        raise ConfigError(str(error)) from None
    status_s = float("inf") if args.quiet else max(args.status, 0.1)
    with Places.held(args.state) as places:
        feed = Feed(_sources(args, places), pages, Sender(client), places)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: feed.stop())
        return feed.run(status_s)


def _sources(args: argparse.Namespace, places: Places) -> list[Log | Pipe]:
    sources: list[Log | Pipe] = []
    for path in args.logs:
        if path == "-":
            if sys.stdin is None:
                raise ConfigError("cannot read standard input: it is closed")
            sources.append(Pipe())
            continue
        path = os.path.abspath(path)
        log = Log(path, places=places.of(path), from_start=args.from_start, is_followed=not args.once)
        if args.once and not os.path.exists(path):
            raise ConfigError(f"cannot read {path}: No such file or directory")
        if not os.path.exists(path):
            print(f"online feed: {path} is not there yet, waiting for it", file=sys.stderr)
        for loss in () if args.once else log.losses:
            print(f"online feed: {loss}", file=sys.stderr)
        sources.append(log)
        places.add(log)
    return sources


@dataclass
class Lines:
    """What has become of the lines that were read."""

    count: int = 0
    no_page_views: int = 0
    not_understood: int = 0
    first_reason: str = ""  #: why the first line that was not understood was not


class Feed:
    """Reads, and hands what it reads to a sender."""

    def __init__(self, sources: list[Log | Pipe], pages: Pages, sender: Sender, places: Places) -> None:
        self._sources = sources
        self._places = places
        self._parse = pages.parse
        self._sender = sender
        self._can_go_on = places.is_kept and not any(isinstance(source, Pipe) for source in sources)
        self._lines = Lines()
        self._told: dict[str, bool] = {}  #: what goes wrong now
        self._failure = ""
        self._is_stopped = False
        self._until_s: float | None = None  #: when what waits is given up

    def stop(self) -> None:
        """End soon, when what waits was sent. May be called from a signal handler."""
        self._is_stopped = True

    def run(self, status_s: float = float("inf")) -> int:
        """Feed until `stop`, or until all sources have ended. Returns an exit code."""
        self._sender.start()
        self._save()  # where this run begins: a crash loses nothing from here on
        next_status_s = time.monotonic() + status_s
        next_save_s = time.monotonic() + STATE_EVERY_S
        try:
            while self._sources and not self._is_stopped and self._sender.is_running:
                if not self._read_all() and self._sources:
                    self._rest()
                if time.monotonic() >= next_save_s:
                    self._save()
                    next_save_s = time.monotonic() + STATE_EVERY_S
                self._tell_if_away()
                if time.monotonic() >= next_status_s:
                    print(self._status(), file=sys.stderr)
                    next_status_s += status_s
            if not self._sender.is_running:
                self._failure = "it has failed to send"
            self._drain_pipes()
        except OnlineError as error:
            self._failure = str(error)
        is_whole = self._sender.finish(self._may_go_on, POLL_S)
        is_kept = self._save()
        if not is_whole and not self._can_go_on:
            self._failure = self._failure or f"it ends, and hits were not sent: {self._sender.waiting:,}"
        counts = self._sender.counts
        if status_s != float("inf") or counts.dropped or counts.refused:
            print(self._status(), file=sys.stderr)
        if self._failure:
            print(f"online feed: {self._failure}", file=sys.stderr)
        return 1 if self._failure or not is_kept or not (is_whole or self._is_stopped) else 0

    def _drain_pipes(self) -> None:
        """Read what was written before the end came: a web server that starts again leaves it to nobody else."""
        until_s = time.monotonic() + FAREWELL_S
        while self._is_stopped and time.monotonic() < until_s and self._read_all():
            pass

    def _may_go_on(self) -> bool:
        """Tell if what waits at the end may still be sent: as long as it takes, unless there is a reason to end."""
        self._tell_if_away()
        if self._until_s is None and (self._is_stopped or self._failure):
            self._until_s = time.monotonic() + FAREWELL_S
        return self._until_s is None or time.monotonic() < self._until_s

    def _save(self) -> bool:
        problem = ""
        try:
            self._places.save()
        except StateError as error:
            problem = str(error)
        self._tell("state", problem, over="the state file can be written again")
        return not problem

    def _tell_if_away(self) -> None:
        error = self._sender.counts.last_error
        self._tell("server", f"the server is away: {error}" if error else "", over="the server is back")

    def _tell(self, what: str, problem: str, *, over: str) -> None:
        """Say so when something begins to go wrong, and when that is over."""
        if bool(problem) != self._told.get(what, False):
            self._told[what] = bool(problem)
            print(f"online feed: {problem or over}", file=sys.stderr)

    def _read_all(self) -> bool:
        """Read a block of each source that has one; tell if any had."""
        any_news = False
        for source in list(self._sources):
            block = self._read_log(source) if isinstance(source, Log) else _read_pipe(source)
            if block is not None:
                any_news = True
                self._sender.put(self._batch(block, may_be_dropped=isinstance(source, Pipe)))
            if source.is_ended:
                self._sources.remove(source)
        return any_news

    def _read_log(self, log: Log) -> Block | None:
        if self._sender.is_full or self._is_stopped:
            return None
        block = log.read()
        self._tell(log.name, log.problem, over=f"{log.name} is no problem any more")
        if log.is_ended:
            self._failure = self._failure or log.problem
        return block

    def _batch(self, block: Block, *, may_be_dropped: bool) -> Batch:
        parse, counts = self._parse, self._lines
        hits = []
        for line in block.lines:
            hit = parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            if not isinstance(hit, str):
                hits.append(hit)
            elif hit in NO_PAGE_VIEW:
                counts.no_page_views += 1
            else:
                counts.not_understood += 1
                counts.first_reason = counts.first_reason or f"{hit}: {quote(line)}"
        counts.count += len(block.lines)
        return Batch(hits, block.settle, may_be_dropped=may_be_dropped)

    def _rest(self) -> None:
        """Wait for news, or for room, not long."""
        pipe = next((source for source in self._sources if isinstance(source, Pipe)), None)
        if pipe is not None:
            _is_ready(pipe, POLL_S)
        elif self._sender.is_full:
            self._sender.wait_for_room(POLL_S)
        else:
            time.sleep(POLL_S)

    def _status(self) -> str:
        lines, counts = self._lines, self._sender.counts
        parts = [
            f"{lines.count:,} lines, {counts.sent:,} hits sent, {lines.no_page_views:,} lines no page views,"
            f" {lines.not_understood:,} not understood"
        ]
        if lines.first_reason:
            parts.append(f"the first not understood: {lines.first_reason}")
        if counts.dropped:
            parts.append(f"{counts.dropped:,} hits dropped while the server was away")
        if counts.refused:
            parts.append(f"{counts.refused:,} hits refused, the first: {counts.first_refusal}")
        behind = sum(source.behind_bytes for source in self._sources if isinstance(source, Log))
        parts.append(f"behind by {behind:,} bytes and {self._sender.waiting:,} hits")
        if counts.sent:
            parts.append(f"the last hit sent was {counts.lag_s:.1f} s old")
        if counts.last_error:
            parts.append(f"the server is away: {counts.last_error}")
        return "online feed: " + "; ".join(parts)


def _read_pipe(pipe: Pipe) -> Block | None:
    return pipe.read() if _is_ready(pipe, 0) else None


def _is_ready(pipe: Pipe, timeout_s: float) -> bool:
    return bool(select.select([pipe.descriptor], [], [], timeout_s)[0])


# --check


def _check(logs: list[str], pages: Pages) -> int:
    """Tell how the first lines of logs are understood. Returns 1 if no line of a log is."""
    code = 0
    for log in logs:
        reader = LogReader()
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for number, line in enumerate(islice(reader.lines_of(log), CHECKED_LINES), 1):
            found = pages.parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            what = "page views" if isinstance(found, PageView) else NO_PAGE_VIEW.get(found, _NOT_UNDERSTOOD)
            counts[what] += 1
            if what == _NOT_UNDERSTOOD:
                # Reasons that quote what they found would be one each.
                reasons[str(found).partition('"')[0].rstrip(" :,")] += 1
            if number <= SHOWN_LINES:
                print(f"line {number}: {quote(line)}\n  {_shown(found)}")
        print(f"{log}: {_sum(counts)}")
        for reason, number in reasons.most_common():
            print(f"  {number:,} not understood: {reason}")
        if counts.total() == counts[_NOT_UNDERSTOOD]:
            print(f"online feed: no line of {log} was understood", file=sys.stderr)
            code = 1
    return code


def _shown(found: PageView | str) -> str:
    if isinstance(found, str):
        return found
    seen = datetime.fromtimestamp(found.seen_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    return f"{found.kind} {quote(found.user)} on {quote(found.url)} at {seen}"


_NOT_UNDERSTOOD = "not understood"

_SUMMED = {
    "method": "of other methods",
    "status": "whose status shows no page",
    "file": "of files",
    "target": "of no page",
    "dropped": "left nothing by a rewrite",
    "aside": "fetched for later or for a part of a page",
}


def _sum(counts: Counter[str]) -> str:
    shown = ", ".join(f"{number:,} {_SUMMED.get(what, what)}" for what, number in counts.most_common())
    return f"of the first {counts.total():,} lines {shown}"
