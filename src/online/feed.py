"""`online feed`: follows access logs and tells a running server of the page views in them, as they happen.

Not here: following (follow), what lines say (formats), which are page views and whose (pages), and what hits mean
(the server).

1. A file waits, a pipe cannot. While the server is away files are not read on; of what comes through a pipe
   the oldest is dropped, and counted, when MAX_WAITING_HITS wait.
2. How far a file is settled goes to the state file only when the server has answered for every line before.
   What is sent twice, after a crash, changes nothing there.
3. One thread reads and one sends. What they share is the queue, and the counts, each of which only one writes.
"""

import argparse
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Condition, Event, Thread

import msgpack

from online.errors import ConfigError, OnlineError, StateError, quote
from online.follow import Block, Log, Pipe, Place
from online.hitlog import MAX_LINE_BYTES, TOO_LONG, LogReader, add_format_arguments, read_from
from online.pages import NO_PAGE_VIEW, Pages, PageView, add_rule_arguments, guest_key, key_beside, rules_from
from online_client import AddressError, BatchResult, Client, FramingError, ServerError
from online_client import OnlineError as ClientError
from online_client import verbs as client_verbs

#: Hits in the queue, about 20 MB, beyond which a file waits and a pipe loses.
MAX_WAITING_HITS = 100_000

#: Batches are sent together up to so many hits, which cost a server a millisecond.
MESSAGE_HITS = 2_000

#: How often files are looked at for news.
POLL_S = 0.2

TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
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
  log_format online escape=json '{"time":$msec,"user":"$remote_user","url":"$request_uri",'
    '"status":$status,"method":"$request_method","address":"$remote_addr",'
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
    parser.add_argument("--once", action="store_true", help="end where the logs end, instead of following them")
    parser.add_argument("--check", action="store_true", help="show how the first lines are understood, send nothing")
    parser.add_argument(
        "--status", metavar="SECONDS", type=float, default=60.0, help="how often to tell how it goes (default: 60)"
    )
    parser.add_argument("--quiet", action="store_true", help="tell only what goes wrong")
    add_format_arguments(parser)
    add_rule_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do `online feed`. Returns 0, or 1 if a log was not read or with `--once` not everything was sent.

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
    state = State(args.state)
    feed = Feed(_sources(args, state), pages, Sender(client), state)
    status_s = float("inf") if args.quiet else max(args.status, 0.1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: feed.stop())
    return feed.run(status_s)


def _sources(args: argparse.Namespace, state: "State") -> "list[Log | Pipe]":
    sources: list[Log | Pipe] = []
    for path in args.logs:
        if path == "-":
            sources.append(Pipe())
            continue
        path = os.path.abspath(path)
        log = Log(path, places=state.places(path), from_start=args.from_start, is_followed=not args.once)
        if args.once and not os.path.exists(path):
            raise ConfigError(f"cannot read {path}: No such file or directory")
        sources.append(log)
        state.logs.append(log)
    return sources


@dataclass
class Counts:
    """What has become of the lines; the reader counts those, the sender the hits."""

    lines: int = 0
    no_page_views: int = 0
    not_understood: int = 0
    first_reason: str = ""  #: why the first line that was not understood was not
    dropped: int = 0
    sent: int = 0
    refused: int = 0
    first_refusal: str = ""
    lag_s: float = 0.0  #: how old the newest hit was when the server had it
    last_error: str = ""  #: why the server is away, empty if it is not


class Batch:
    """The hits of some lines, and what to call when they are settled."""

    def __init__(self, hits: list[PageView], settle: Callable[[], None], *, may_be_dropped: bool) -> None:
        self.hits = hits
        self.settle = settle
        self.may_be_dropped = may_be_dropped


class Feed:
    """Reads, and hands what it reads to a sender."""

    def __init__(self, sources: "list[Log | Pipe]", pages: Pages, sender: "Sender", state: "State") -> None:
        self._sources = sources
        self._state = state
        self._parse = pages.parse
        self._sender = sender
        self.counts = sender.counts
        self._is_away = False
        self._stop = Event()

    def stop(self) -> None:
        """End soon, when what waits was sent. May be called from a signal handler."""
        self._stop.set()

    def run(self, status_s: float = float("inf")) -> int:
        """Feed until `stop`, or until all sources have ended. Returns an exit code."""
        self._sender.start()
        next_status_s = time.monotonic() + status_s
        next_save_s = time.monotonic() + STATE_EVERY_S
        failure = ""
        try:
            while self._sources and not self._stop.is_set():
                if not self._read_all() and self._sources:
                    self._rest()
                if time.monotonic() >= next_save_s:
                    self._state.save()
                    next_save_s = time.monotonic() + STATE_EVERY_S
                self._tell_if_away()
                if time.monotonic() >= next_status_s:
                    print(self._status(), file=sys.stderr)
                    next_status_s += status_s
        except OnlineError as error:
            failure = str(error)
        is_whole = self._sender.finish(FAREWELL_S if self._stop.is_set() or failure else None)
        try:
            self._state.save()
        except StateError as error:
            failure = failure or str(error)
        if status_s != float("inf") or self.counts.dropped or self.counts.refused:
            print(self._status(), file=sys.stderr)
        if failure:
            print(f"online feed: {failure}", file=sys.stderr)
        return 1 if failure or not (is_whole or self._stop.is_set()) else 0

    def _tell_if_away(self) -> None:
        """Say so when the server has gone, and when it is back."""
        error = self.counts.last_error
        if bool(error) != self._is_away:
            self._is_away = bool(error)
            print(f"online feed: {f'the server is away: {error}' if error else 'the server is back'}", file=sys.stderr)

    def _read_all(self) -> bool:
        """Read a block of each source that has one; tell if any had."""
        any_news = False
        for source in list(self._sources):
            block = source.read() if isinstance(source, Log) or _is_ready(source, 0) else None
            if block is not None:
                any_news = True
                self._sender.put(self._batch(block, may_be_dropped=isinstance(source, Pipe)), self._stop)
            if source.is_ended:
                self._sources.remove(source)
        return any_news

    def _batch(self, block: Block, *, may_be_dropped: bool) -> Batch:
        parse, counts = self._parse, self.counts
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
        counts.lines += len(block.lines)
        return Batch(hits, block.settle, may_be_dropped=may_be_dropped)

    def _rest(self) -> None:
        """Wait for news, not long."""
        pipe = next((source for source in self._sources if isinstance(source, Pipe)), None)
        if pipe is None:
            self._stop.wait(POLL_S)
        else:
            _is_ready(pipe, POLL_S)

    def _status(self) -> str:
        counts = self.counts
        parts = [
            f"{counts.lines:,} lines, {counts.sent:,} hits sent, {counts.no_page_views:,} lines no page views,"
            f" {counts.not_understood:,} not understood"
        ]
        if counts.first_reason:
            parts.append(f"the first not understood: {counts.first_reason}")
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


def _is_ready(pipe: Pipe, timeout_s: float) -> bool:
    return bool(select.select([pipe.descriptor], [], [], timeout_s)[0])


class Sender:
    """Sends batches in a thread, in order, each until the server has answered."""

    def __init__(self, client: Client) -> None:
        self.counts = Counts()
        self._client = client
        self._changed = Condition()
        self._queue: deque[Batch] = deque()
        self._waiting = 0  #: hits in the queue, and on their way
        self._is_finishing = self._is_ended = False
        self._is_whole = True  #: nothing was given up
        self._thread = Thread(target=self._run, name="online-feed", daemon=True)
        self._max_hits = client_verbs.MAX_BATCH_HITS

    @property
    def waiting(self) -> int:
        """Hits that are not settled."""
        return self._waiting

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch, stop: Event) -> None:
        """Add a batch. When too many hits wait, it waits until `stop`, or the oldest of its like are dropped."""
        with self._changed:
            while self._waiting + len(batch.hits) > MAX_WAITING_HITS and self._queue and not self._is_ended:
                if batch.may_be_dropped:
                    if not self._drop_oldest():
                        break
                elif stop.is_set():
                    return  # the file is read on from here by the next run
                else:
                    self._changed.wait(POLL_S)
            self._queue.append(batch)
            self._waiting += len(batch.hits)
            self._changed.notify_all()

    def finish(self, timeout_s: float | None) -> bool:
        """Send what waits, then end; tell if all was settled in time. Without a time, wait as long as it takes."""
        with self._changed:
            self._is_finishing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
        self._thread.join(TIMEOUT_S)
        self._client.close()
        return self._is_whole and not self._queue

    def _drop_oldest(self) -> bool:
        """Drop the oldest batch that may be dropped, if there is one."""
        oldest = next((batch for batch in self._queue if batch.may_be_dropped), None)
        if oldest is not None:
            self._queue.remove(oldest)
            self._waiting -= len(oldest.hits)
            self.counts.dropped += len(oldest.hits)
        return oldest is not None

    # The thread

    def _run(self) -> None:
        try:
            while batches := self._next():
                hits = [hit for batch in batches for hit in batch.hits]
                is_settled = self._send(hits)
                for batch in batches if is_settled else ():
                    batch.settle()
                with self._changed:
                    self._waiting -= len(hits)
                    self._is_whole = self._is_whole and is_settled
                    self._changed.notify_all()
        finally:
            self._is_ended = True

    def _next(self) -> list[Batch]:
        """Wait for batches and take some: what a pipe gives comes in small ones. None when all is over."""
        batches: list[Batch] = []
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_finishing)
            while self._queue and not self._is_ended and sum(len(batch.hits) for batch in batches) < MESSAGE_HITS:
                batches.append(self._queue.popleft())
        return batches

    def _send(self, hits: list[PageView]) -> bool:
        """Send hits, in as many messages as it takes, each again and again; tell if they are settled."""
        for begin in range(0, len(hits), self._max_hits):
            if not self._send_message(hits[begin : begin + self._max_hits]):
                return False
        return True

    def _send_message(self, hits: list[PageView]) -> bool:
        packed = msgpack.packb(hits)
        if len(packed) > client_verbs.MAX_BATCH_BYTES:
            return self._send_halves(hits)
        request = replace(client_verbs.batch([]), params=packed)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._count(hits, self._client.call(request))
                return True
            except FramingError:  # this server takes smaller messages only
                if len(hits) > 1:
                    return self._send_halves(hits)
                self._count(hits, BatchResult(0, 0, 1, "a hit is larger than the server takes messages"))
                return True
            except ClientError as error:
                if isinstance(error, ServerError) and error.code not in ("LOADING", "NOAUTH", "WRONGPASS"):
                    self._count(hits, BatchResult(0, 0, len(hits), str(error)))
                    return True
                self.counts.last_error = str(error)
            if not self._pause(pause_s * random.uniform(0.5, 1.0)):
                return False
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _send_halves(self, hits: list[PageView]) -> bool:
        middle = len(hits) // 2
        return self._send_message(hits[:middle]) and self._send_message(hits[middle:])

    def _count(self, hits: list[PageView], result: BatchResult) -> None:
        counts = self.counts
        counts.last_error = ""
        counts.sent += result.accepted + result.ignored
        counts.refused += result.refused
        counts.first_refusal = counts.first_refusal or result.first_error or ""
        counts.lag_s = max(0.0, time.time() - hits[-1].seen_ms / 1000)

    def _pause(self, pause_s: float) -> bool:
        """Wait before the next attempt; tell if there is to be one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended, pause_s)
            return not self._is_ended


@dataclass
class State:
    """The file that holds how far logs were sent. Without a path it holds nothing."""

    path: Path | None
    logs: list[Log] = field(default_factory=list)
    _kept: dict[str, list[Place]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        try:
            document = json.loads(self.path.read_bytes())
            if document["version"] != 1:
                raise ValueError("of another version")
            self._kept = {log: [Place(*place) for place in places] for log, places in document["logs"].items()}
        except FileNotFoundError:
            self._write({})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(f"state file {self.path} is none of online feed: {error}") from None
        except OSError as error:
            raise StateError(f"state file {self.path} cannot be read: {error.strerror}") from None

    def places(self, log: str) -> list[Place]:
        """Return how far a log was sent, as it was kept."""
        return self._kept.get(log, [])

    def save(self) -> None:
        """Keep how far all logs are settled now; what is kept of other logs stays. Raises StateError."""
        if self.path is None:
            return
        now = self._kept | {log.name: log.places for log in self.logs if log.places}
        if now != self._kept:
            self._write(now)
            self._kept = now

    def _write(self, places: dict[str, list[Place]]) -> None:
        assert self.path is not None
        new = self.path.with_name(f".{self.path.name}.new")
        try:
            with open(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                json.dump({"version": 1, "logs": places}, file)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self.path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            raise StateError(f"state file {self.path} cannot be written: {error.strerror}") from None


# --check


def _check(logs: list[str], pages: Pages) -> int:
    """Tell how the first lines of logs are understood."""
    for log in logs:
        reader = LogReader()
        counts: Counter[str] = Counter()
        for number, line in enumerate(islice(reader.lines_of(log), CHECKED_LINES), 1):
            found = pages.parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            what = "page views" if isinstance(found, PageView) else NO_PAGE_VIEW.get(found, "not understood")
            counts[what] += 1
            if number <= SHOWN_LINES:
                print(f"line {number}: {quote(line)}\n  {_shown(found)}")
        print(f"{log}: {_sum(counts)}")
    return 0


def _shown(found: PageView | str) -> str:
    if isinstance(found, str):
        return found
    seen = datetime.fromtimestamp(found.seen_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    return f"{found.kind} {quote(found.user)} on {quote(found.url)} at {seen}"


_SUMMED = {
    "method": "of other methods",
    "status": "errors",
    "file": "of files",
    "target": "of no page",
    "dropped": "left nothing by a rewrite",
}


def _sum(counts: Counter[str]) -> str:
    shown = ", ".join(f"{number:,} {_SUMMED.get(what, what)}" for what, number in counts.most_common())
    return f"of the first {counts.total():,} lines {shown}"
