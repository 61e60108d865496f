"""`online feed`: follows access logs and sends their page views to a running server, as they happen.

Not here: following files (follow), parsing lines (formats), which lines are page views and whose (pages), sending
(sending), saving the place in each log (places), and what hits mean (the server).

1. A file can wait, a pipe cannot, and a file that waits never blocks a pipe. While the server is unreachable, reading
   of files pauses, and the oldest hits from pipes are dropped.
2. A place in a file is saved only when the server has answered for every line before it. After a crash, some lines may
   be sent twice; this changes nothing on the server.
3. One thread reads and one sends. They share only the sender's queue and its counts. With --jobs, other processes
   parse; their blocks come back in order, so batches are put in the order of the lines.
4. Temporary problems do not stop a feed: an unreachable server, a log that cannot be read yet, a full disk. Each is
   reported once, and again when it is over.
5. A signal stops a feed within 5 s, with its places saved, whatever the server does.
"""

import argparse
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from online.cli.arguments import add_jobs_argument, add_server_argument, time_of, with_token
from online.cli.jobs import Jobs
from online.cli.outcomes import Outcomes, is_empty_log
from online.cli.sending import TIMEOUT_S, Batch, Hits, Sender
from online.cli.signals import TOLD, end_by
from online.cli.words import explained, many
from online.errors import ConfigError, OnlineError, StateError, quote
from online.logs.follow import Block, Log, Pipe
from online.logs.hitlog import MAX_LINE_BYTES, READ_BY, TOO_LONG, LogError, LogReader, add_format_arguments, read_from
from online.logs.pages import PackedViews, Pages, PageView, guest_key, key_beside
from online.logs.places import Places
from online.logs.rules import Rules, add_rule_arguments, rules_from
from online.terms import span
from online_client import AddressError, Client, ServerError, TokenWantedError, WrongTokenError

if TYPE_CHECKING:
    from online_client.bus import BusClient

#: How often files are checked for new lines.
POLL_S = 0.2

STATE_EVERY_S = 1.0

#: How long waiting lines and hits are still read and sent at the end.
FAREWELL_S = 2.0

#: How long `--once` waits for a server that does not answer, by default.
WAIT_S = 30.0

CHECKED_LINES, SHOWN_LINES = 10_000, 20

_DESCRIPTION = f"""\
Follow access logs like `tail -F`, and send every page view in them to a running server as it happens. Any kind of log
rotation works. FILE can be - for standard input, so that a web server can pipe its log into this command.

A page view is a GET, HEAD or POST request that got a page (status 200, 203, 206 or 304), and not a file such as an
image. The query string is removed from its url. Users who are logged in have their name in the log; everyone else is a
guest, named by a keyed hash of address and browser. Bots are recognised by their user agent. Lines of JSON can
say the kind of their user. Options change all of this. --check shows how the lines of a log are understood, and sends
nothing.

A log is read from its end, or with --state from where the last run stopped. With --state, no line between two runs is
lost, and guests keep their names.

{TOLD} The place in each log is saved, even while the server cannot be reached."""

_EPILOG = """\
examples:
  online feed --check /var/log/nginx/access.log
  online feed /var/log/nginx/access.log --state /var/lib/online/feed.state
  online feed /var/log/apache2/*access.log --url online://:TOKEN@10.0.0.5/shop
  online feed access.log --rewrite '^/topic/(\\d+).*' '/topic/\\1' --keep-param p
  online feed access.log --trust-proxy 10.0.0.0/8
  varnishncsa | online feed -

in the configuration of Apache:
  CustomLog "|/usr/local/bin/online feed - --quiet" combined

the recommended format, in the configuration of nginx:
  log_format online escape=json '{"time":$msec,"url":"$request_uri",'
    '"status":"$status","method":"$request_method","address":"$remote_addr",'
    '"forwarded":"$http_x_forwarded_for","agent":"$http_user_agent","host":"$host"}';"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online feed`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "logs", metavar="FILE", nargs="+", help="a log, which may not exist yet, or - for standard input"
    )
    add_server_argument(parser)
    parser.add_argument(
        "--bus",
        metavar="URL",
        help="publish to the bus that servers share, redis://HOST[:PORT][/DB][?site=NAME], instead of one server",
    )
    parser.add_argument("--state", metavar="FILE", type=Path, help="save how far each log was sent in FILE")
    parser.add_argument(
        "--from-start", action="store_true", help="read a log from its start if it has no saved place"
    )
    parser.add_argument(
        "--once", action="store_true", help="stop at the end of the logs, once everything was sent"
    )
    parser.add_argument(
        "--wait",
        metavar="TIME",
        type=time_of(0, 86_400),
        help=f"with --once: how long to wait for a server that does not answer (default: {span(WAIT_S)})",
    )
    parser.add_argument(
        "--check", action="store_true", help="show how the first lines are understood; send nothing"
    )
    parser.add_argument(
        "--status",
        metavar="TIME",
        type=time_of(0.1, 86_400),
        default=60.0,
        help="how often to print the status (default: 1min)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only problems")
    add_jobs_argument(parser)
    add_format_arguments(parser)
    add_rule_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `online feed`. Returns 0, or 1 if a log was not read, or if hits were lost that no later run will send.

    Raises ConfigError and StateError before anything is read.
    """
    if args.state and not args.check and not args.state.parent.is_dir():
        raise StateError(f"state file {args.state}: there is no folder {args.state.parent}")
    rules = rules_from(args)
    key = guest_key(rules.guest_key or (key_beside(args.state) if args.state and not args.check else None))
    how = argparse.Namespace(**{name: getattr(args, name) for name in READ_BY})
    pages = _pages(how, rules, key)
    if args.check:
        return _check(args.logs, pages)
    if args.bus and args.server:
        raise ConfigError("--bus and --url do not go together: hits go to a bus or to a server")
    if args.wait is not None and not args.once:
        raise ConfigError("--wait needs --once; without --once, a feed waits for its server without a limit")
    try:
        client = _bus_client(args.bus) if args.bus else Client(with_token(args.server), timeout=TIMEOUT_S)
    except AddressError as error:
        raise ConfigError(str(error)) from None
    wait_s = (WAIT_S if args.wait is None else args.wait) if args.once else None
    n_jobs = args.jobs if args.jobs > 1 else 0
    with Places.held(args.state) as places, Jobs[bytes, PackedViews](n_jobs, _worker, how, rules, key) as jobs:
        sources: list[Log | Pipe] = []
        sender = Sender(client, looks=not args.once)
        feed = Feed(sources, pages, sender, places, wait_s=wait_s, jobs=jobs if n_jobs else None)
        end_by(feed.stop)  # before the first output: its reader may send a signal at once
        sources += _sources(args, places)
        if not args.quiet:
            told = ", ".join(_whence(source, args, places) for source in sources)
            print(f"online feed: reading {told}; sending to {client.address}", file=sys.stderr)
        return feed.run(float("inf") if args.quiet else args.status)


def _bus_client(url: str) -> "BusClient":
    """Import what a bus needs only where there is one. Raises AddressError and ConfigError."""
    try:
        from online_client.bus import BusClient

        return BusClient(url, timeout=TIMEOUT_S)
    except ImportError as error:
        raise ConfigError(str(error)) from None


def _whence(source: Log | Pipe, args: argparse.Namespace, places: Places) -> str:
    """Say where reading of a source begins."""
    if isinstance(source, Pipe):
        return source.name
    kept = places.of(source.name)
    if any(place.offset for place in source.places if place in kept):
        return f"{source.name} from where the last run stopped"
    is_from_start = args.from_start or kept or not source.places
    return f"{source.name} from its {'start' if is_from_start else 'end'}"


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
            raise LogError(f"cannot read {path}: No such file or directory")
        if not os.path.exists(path):
            print(f"online feed: {path} does not exist yet, waiting for it", file=sys.stderr)
        for loss in () if args.once else log.losses:
            print(f"online feed: {loss}", file=sys.stderr)
        sources.append(log)
        places.add(log)
    return sources


def _pages(how: argparse.Namespace, rules: Rules, key: bytes) -> Pages:
    """Return what parses lines; `how` has the options READ_BY."""
    return Pages(read_from(how, visitor=rules.visitor), rules, key=key, url_prefix=how.url_prefix)


def _worker(how: argparse.Namespace, rules: Rules, key: bytes) -> Callable[[bytes], PackedViews]:
    """Return what a process of `--jobs` does with lines."""
    pages = _pages(how, rules, key)
    return lambda text: pages.pack(text.split(b"\n")[:-1])


class Feed:
    """Reads logs, and passes their page views to a sender."""

    def __init__(
        self,
        sources: list[Log | Pipe],
        pages: Pages,
        sender: Sender,
        places: Places,
        *,
        wait_s: float | None = None,
        jobs: Jobs[bytes, PackedViews] | None = None,
    ) -> None:
        """`wait_s`: how long to wait for a server that does not answer; None for ever. `jobs` parse, else `pages`."""
        self._sources = sources
        self._wait_s = wait_s
        self._places = places
        self._pages = pages
        self._jobs = jobs
        self._parsing: deque[tuple[Block, bool]] = deque()  #: blocks that jobs have, and if they may be dropped
        self._sender = sender
        self._can_go_on = False  #: whether a later run sends what this one could not
        self._outcomes = Outcomes()
        self._told: dict[str, str] = {}  #: current problems that were reported, and their kinds
        self._failure = ""
        self._is_stopped = False
        self._until_s: float | None = None  #: when waiting hits are given up

    def stop(self) -> None:
        """Stop soon, after sending waiting hits. Safe to call from a signal handler."""
        self._is_stopped = True

    def run(self, status_s: float = float("inf")) -> int:
        """Feed until `stop` is called or all sources have ended. Returns an exit code."""
        self._can_go_on = self._places.is_kept and not any(isinstance(source, Pipe) for source in self._sources)
        self._sender.start()
        self._save()  # the beginning of this run, so that a crash from now on loses nothing
        next_status_s = time.monotonic() + status_s
        next_save_s = time.monotonic() + STATE_EVERY_S
        try:
            while self._sources and not self._is_stopped and not self._failure and self._sender.is_running:
                if not self._read_all() and self._sources:
                    self._rest()
                if time.monotonic() >= next_save_s:
                    self._save()
                    next_save_s = time.monotonic() + STATE_EVERY_S
                self._look_at_server()
                if time.monotonic() >= next_status_s:
                    print(self._status(), file=sys.stderr)
                    next_status_s += status_s
            if not self._sender.is_running:
                self._failure = "sending has failed"
            self._drain_pipes()
            if self._jobs is not None:
                self._put_all(self._jobs.rest())
        except OnlineError as error:
            self._failure = str(error)
        is_whole = self._sender.finish(self._may_go_on, POLL_S)
        is_kept = self._save()
        if not is_whole and not self._can_go_on:
            waiting = self._sender.waiting
            self._failure = self._failure or f"{many(waiting, 'hit')} {'was' if waiting == 1 else 'were'} not sent"
        if self._outcomes.is_nothing_understood and not self._is_stopped:
            self._failure = (
                self._failure or "no line was understood; --check shows why, --format sets the format"
            )
        counts = self._sender.counts
        if status_s != float("inf") or counts.dropped or counts.refused:
            print(self._status(), file=sys.stderr)
        if self._failure:
            print(f"online feed: {self._failure}", file=sys.stderr)
        return 1 if self._failure or not is_kept or not (is_whole or self._is_stopped) else 0

    def _drain_pipes(self) -> None:
        """Read what pipes already contain: when a web server restarts, no other process would read it."""
        if self._is_stopped:
            self._until_s = time.monotonic() + FAREWELL_S
            while time.monotonic() < self._until_s and self._read_all():
                pass

    def _may_go_on(self) -> bool:
        """Return whether to keep sending at the end. There is no limit on the time unless a feed must stop."""
        self._look_at_server()
        if self._until_s is None and (self._is_stopped or self._failure):
            self._until_s = time.monotonic() + FAREWELL_S
        return self._until_s is None or time.monotonic() < self._until_s

    def _save(self) -> bool:
        problem = ""
        try:
            self._places.save()
        except StateError as error:
            problem = str(error)
        self._tell("state", "state", problem, over="the state file can be written again")
        return not problem

    def _look_at_server(self) -> None:
        """Report when hits cannot be sent, and give up after waiting too long for the server."""
        trouble = self._sender.counts.trouble
        words = _in_words(trouble)
        self._tell("server", words.partition(":")[0], words, over="the server takes hits again")
        if self._wait_s is None or self._failure or self._is_stopped:
            return
        if isinstance(trouble, TokenWantedError | WrongTokenError):  # waiting would not help
            self._give_up(words)
        elif self._sender.unanswered_s > self._wait_s:
            self._give_up(f"no server has taken the hits within {span(self._wait_s)}")

    def _give_up(self, failure: str) -> None:
        self._failure, self._until_s = failure, time.monotonic()

    def _tell(self, what: str, kind: str, problem: str, *, over: str) -> None:
        """Report when a problem begins, changes to another kind, or is over."""
        if (kind if problem else "") != self._told.get(what, ""):
            self._told[what] = kind if problem else ""
            print(f"online feed: {problem or over}", file=sys.stderr)

    def _read_all(self) -> bool:
        """Read a block from each source that has one, and what jobs have left if none has. Returns whether any had."""
        any_news = False
        for source in list(self._sources):
            block = self._read_log(source) if isinstance(source, Log) else _read_pipe(source)
            if block is not None:
                any_news = True
                self._parse(block, may_be_dropped=isinstance(source, Pipe))
            if source.is_ended:
                self._sources.remove(source)
        if self._jobs is not None and (not any_news or not self._sources):
            self._put_all(self._jobs.rest())
        return any_news

    def _read_log(self, log: Log) -> Block | None:
        if self._sender.is_full or self._is_stopped:
            return None
        block = log.read()
        self._tell(log.name, "log", log.problem, over=f"{log.name} can be read again")
        if log.is_ended:
            self._failure = self._failure or log.problem
        return block

    def _parse(self, block: Block, *, may_be_dropped: bool) -> None:
        """Put the page views of a block, or of an earlier one that a job has finished meanwhile."""
        self._parsing.append((block, may_be_dropped))
        if self._jobs is None:
            self._put_all([self._pages.pack(block.lines)])
        else:
            self._put_all(self._jobs.put(b"\n".join([*block.lines, b""])))

    def _put_all(self, parsed: Iterable[PackedViews]) -> None:
        for views in parsed:
            block, may_be_dropped = self._parsing.popleft()
            self._sender.put(self._batch(block, views, may_be_dropped=may_be_dropped))

    def _batch(self, block: Block, views: PackedViews, *, may_be_dropped: bool) -> Batch:
        outcomes = self._outcomes
        outcomes.take_all(views.reasons, views.places, block.lines)
        outcomes.lines += len(block.lines)
        outcomes.hits += views.number
        return Batch(Hits(views.items, views.number, views.newest_ms), block.settle, may_be_dropped=may_be_dropped)

    def _rest(self) -> None:
        """Wait a short time for new lines, or for room in the queue."""
        pipe = next((source for source in self._sources if isinstance(source, Pipe)), None)
        if pipe is not None:
            _is_ready(pipe, POLL_S)
        elif self._sender.is_full:
            self._sender.wait_for_room(POLL_S)
        else:
            time.sleep(POLL_S)

    def _status(self) -> str:
        counts = self._sender.counts
        parts = [self._outcomes.in_short(), f"{many(counts.sent, 'hit')} sent"]
        if counts.ignored:
            parts[-1] += f", {counts.ignored:,} of them ignored (older than the window or the user's newest hit)"
        for line in self._outcomes.samples[:1]:
            parts.append(f"first line not understood: {line.reason}: {line.text}")
        if counts.dropped:
            parts.append(f"{many(counts.dropped, 'hit')} dropped while the server could not be reached")
        if counts.refused:
            parts.append(f"{many(counts.refused, 'hit')} refused, first: {counts.first_refusal}")
        behind = sum(source.behind_bytes for source in self._sources if isinstance(source, Log))
        parts.append(f"behind by {many(behind, 'byte')} and {many(self._sender.waiting, 'hit')}")
        if counts.sent:
            parts.append(f"the last hit sent was {counts.lag_s:.1f}s old")
        if counts.trouble:
            parts.append(_in_words(counts.trouble))
        return "online feed: " + "; ".join(parts)


def _in_words(trouble: Exception | None) -> str:
    """Return why hits cannot be sent: the server cannot be reached, or refuses them."""
    if trouble is None:
        return ""
    if isinstance(trouble, ServerError):
        return f"the server refuses hits: {explained(trouble)}"
    return f"cannot reach the server: {explained(trouble)}"


def _read_pipe(pipe: Pipe) -> Block | None:
    return pipe.read() if _is_ready(pipe, 0) else None


def _is_ready(pipe: Pipe, timeout_s: float) -> bool:
    return bool(select.select([pipe.descriptor], [], [], timeout_s)[0])


# --check


def _check(logs: list[str], pages: Pages) -> int:
    """Show how the first lines of logs are understood.

    Returns 1 if a log cannot be read, if no line of a log is understood, or if all logs are empty.
    """
    problems = False
    lines = 0
    for log in logs:
        outcomes = Outcomes()
        try:
            _check_lines(log, pages, outcomes)
        except LogError as error:
            problems = problems or not is_empty_log(error)
            print(f"online feed: {error}", file=sys.stderr)
        lines += outcomes.lines
        if outcomes.is_nothing_understood:
            problems = True
            print(f"online feed: no line of {log} was understood; --format sets the format", file=sys.stderr)
    return 1 if problems or not lines else 0


def _check_lines(log: str, pages: Pages, outcomes: Outcomes) -> None:
    for number, line in enumerate(islice(LogReader().lines_of(log), CHECKED_LINES), 1):
        found = pages.parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
        outcomes.lines += 1
        if isinstance(found, str):
            outcomes.take(found, line)
        else:
            outcomes.hits += 1
        if number <= SHOWN_LINES:
            print(f"line {number}: {quote(line)}\n  {_shown(found)}")
    is_part = "the first " if outcomes.lines == CHECKED_LINES else ""
    print("\n  ".join([f"{log}: {is_part}{outcomes.in_short()}", *outcomes.table()]))


def _shown(found: PageView | str) -> str:
    if isinstance(found, str):
        return found
    seen = datetime.fromtimestamp(found.seen_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    return f"{found.kind} {quote(found.user)} on {quote(found.url)} at {seen}"
