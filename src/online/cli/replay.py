"""`online replay`: sends logs to a running server as live traffic, with times moved to now.

Not here: reading logs (hitlog), and what hits mean (the server, which treats them like all others). Every hit of an
access log counts as a member's. Lines of a dump have kinds, sites and leaves, which are sent as they are.

How times are moved, with `t` the time in the log:
1. At speed S, the first hit gets the current time, and every other hit `start + (t - first t) / S`. It is sent at that
   time, so no hit is in the future. A hit out of order keeps its own time, and so comes late, as it did in the log.
2. At `max`, the latest hit gets the current time, and every other hit is as long before it as in the log. So the server
   ends in the state at the end of the logs, and ignores hits outside its window. This needs the latest time first, so
   the logs are read twice.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from online.cli.arguments import add_server_argument, url_of_site, with_token
from online.cli.outcomes import is_empty_log
from online.cli.words import explained, many
from online.errors import ConfigError
from online.logs.hitlog import DumpedHit, LogError, LoggedHit, LogReader, add_format_arguments, log_bytes, reader_from
from online.terms import SEEN_MIN_MS
from online_client import AddressError, BatchResult, Client, FullError, OnlineError, RangeError
from online_client.address import DEFAULT_SITE

#: Batches are much smaller than a message may be, so that progress is smooth and the server stays responsive.
BATCH_HITS = 5_000

#: Hits that are due within this time of each other are sent together.
TICK_S = 0.05

#: Generous, for a server that is loading or busy.
TIMEOUT_S = 10.0

#: How often progress is shown: on a terminal, and elsewhere.
SHOWN_S, TOLD_S = 1.0, 60.0

#: The most sites that connections are kept for.
MOST_CLIENTS = 64

#: On a terminal, logs of up to this total size are read first to count their hits. For larger logs progress goes by
#: bytes read, which are at most a chunk of 128 KiB ahead of what was sent.
COUNTED_BYTES = 32 << 20

SPEED_MIN, SPEED_MAX = 0.001, 1_000_000.0

_DESCRIPTION = """\
Send access logs to a running server as if the visitors were on the site now.

At speed 1, hits arrive as fast as in the log; at 60, an hour takes a minute. With --speed max everything is sent at
once, with times moved so that the logs end now. The server then shows the site as it was at the end of the logs. It
ignores hits older than its window; the summary shows how many.

Lines of `online state dump` are sent with their kinds, leaves as leaves, and each to its site. If --url names a site
other than default, all are sent to that one."""

_EPILOG = """\
examples:
  online replay access.log
  online replay access.log.1 access.log --speed 60
  online replay access.log.gz --speed max --url online://127.0.0.1/shop
  online replay dump.jsonl --speed max
  online replay clicks.csv --columns user,item,,,time --url-prefix /item/ --speed max"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online replay`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("logs", metavar="LOG", nargs="+", help="a log, plain or compressed, or - for standard input")
    parser.add_argument(
        "--speed",
        metavar="N",
        type=_speed,
        default=1.0,
        help="how many times faster than in the log, or max for all at once (default: 1)",
    )
    add_server_argument(parser)
    add_format_arguments(parser)


def _speed(text: str) -> float:
    """Parse a speed; `max` is infinite."""
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if text != "max" and not SPEED_MIN <= speed <= SPEED_MAX:
        raise argparse.ArgumentTypeError(f"takes {SPEED_MIN:g} to {SPEED_MAX:,.0f}, or max, not {text!r}")
    return speed


def run(args: argparse.Namespace) -> int:
    """Run `online replay`. Returns 0, or 1 if a log was not read or the server refused it. Raises ConfigError."""
    try:
        url = with_token(args.server)
        client = Client(url, timeout=TIMEOUT_S)
    except AddressError as error:
        raise ConfigError(str(error)) from None
    _check_logs(args)
    reader = reader_from(args)
    errors: list[str] = []
    notes: list[str] = []
    clients = Clients(client, url)
    traffic = Traffic(clients.of, now_ms=_now_ms, sleep=time.sleep)
    began_s = time.monotonic()
    try:
        client.ping()  # before reading, which may take long
        if args.speed != math.inf:
            speed = "as fast as" if args.speed == 1 else f"{args.speed:g} times as fast as"
            print(f"online replay: sending {speed} in the log; --speed max sends all at once", file=sys.stderr)
        stamp, total_hits = _plan(args)
        with _progress(reader, args.logs, total_hits=total_hits) as show:
            traffic.feed(_hits(reader, args.logs, errors, notes), stamp, show)
        if not traffic.hits and not errors:
            errors.append(f"no hits in {', '.join(map(_name, args.logs))}")
    except OnlineError as error:
        errors.append(explained(error))
    finally:  # after Ctrl-C too: the summary shows what was sent
        clients.close()
        if reader.lines:
            print(_summary(traffic, reader, time.monotonic() - began_s))
    for message in (*notes, *errors):
        print(f"online replay: {message}", file=sys.stderr)
    return 1 if errors else 0


Hit = LoggedHit | DumpedHit

#: Maps the time in a log to the time to send, both in milliseconds since 1970.
Stamp = Callable[[int], int]


def live(start_ms: int, speed: float) -> Stamp:
    """Map the time of the first hit to `start_ms`, and the other times relative to it, `speed` times faster."""
    first_ms: int | None = None

    def stamp(seen_ms: int) -> int:
        nonlocal first_ms
        if first_ms is None:
            first_ms = seen_ms
        return start_ms + round((seen_ms - first_ms) / speed)

    return stamp


def ending(end_ms: int, greatest_ms: int) -> Stamp:
    """Map `greatest_ms` to `end_ms`, and other times to as long before it as they were."""
    return lambda seen_ms: end_ms - (greatest_ms - seen_ms)


def _check_logs(args: argparse.Namespace) -> None:
    """Raise ConfigError if a log must be read twice but cannot be."""
    for log in args.logs if args.speed == math.inf else ():
        if log == "-" or (os.path.exists(log) and not os.path.isfile(log) and not os.path.isdir(log)):
            raise ConfigError(f"--speed max reads logs twice, but {_name(log)} only once; save it to a file first")


def _plan(args: argparse.Namespace) -> tuple[Stamp, int | None]:
    """Return how to map times, and the number of hits, or None if counting them takes too long.

    This reads the logs if it must: for `max`, and to show the progress of a live replay.
    """
    is_live = args.speed != math.inf
    if is_live and not (sys.stderr.isatty() and (log_bytes(args.logs) or math.inf) <= COUNTED_BYTES):
        return live(_now_ms(), args.speed), None
    reader = reader_from(args)
    with _progress(reader, args.logs, "Reading") as show:
        greatest_ms, total_hits = _greatest(_hits(reader, args.logs, [], []), show)
    return live(_now_ms(), args.speed) if is_live else ending(_now_ms(), greatest_ms), total_hits


def _name(log: str) -> str:
    return "standard input" if log == "-" else log


def _greatest(hits: Iterable[Hit], show: Callable[[int], None]) -> tuple[int, int]:
    """Return the latest time and the number of hits."""
    greatest_ms = number = 0
    for number, hit in enumerate(hits, 1):
        greatest_ms = max(greatest_ms, hit.seen_ms)
        if number % BATCH_HITS == 1:
            show(number)
    return greatest_ms, number


def _hits(reader: LogReader, logs: Sequence[str], errors: list[str], notes: list[str]) -> Iterator[Hit]:
    """Yield the hits of all logs. A log that cannot be read is an error; an empty one is a note."""
    for log in logs:
        try:
            yield from reader.read(log)
        except LogError as error:
            (notes if is_empty_log(error) else errors).append(str(error))


class Clients:
    """A client for each site that lines name."""

    def __init__(self, client: Client, server: str | None) -> None:
        """`client` is for lines that name none, and for all if its own site is another than default."""
        self._client = client
        self._server = server
        self._others: dict[bytes, Client] = {}

    def of(self, site: bytes) -> Client:
        """Return the client of a site; b"" is that of the address. Raises AddressError."""
        if site in (b"", DEFAULT_SITE.encode()) or self._client.address.site != DEFAULT_SITE:
            return self._client
        if site not in self._others:
            if len(self._others) >= MOST_CLIENTS:
                self.close()
            self._others[site] = Client(url_of_site(self._server, site), timeout=TIMEOUT_S)
        return self._others[site]

    def close(self) -> None:
        """Close all connections; they are opened again if they are needed."""
        for client in (self._client, *self._others.values()):
            client.close()
        self._others.clear()


class Traffic:
    """Sends hits and leaves when they are due, and counts the outcomes."""

    def __init__(
        self, client_of: Callable[[bytes], Client], *, now_ms: Callable[[], int], sleep: Callable[[float], None]
    ) -> None:
        """`client_of` returns the client of a site."""
        self.hits = 0
        self.leaves = 0  #: of these
        self.result = BatchResult(0, 0, 0, None)
        self._client_of = client_of
        self._now_ms = now_ms
        self._sleep = sleep
        self._waiting: list[Hit] = []

    def feed(self, hits: Iterable[Hit], stamp: Stamp, show: Callable[[int], None]) -> None:
        """Send all `hits`, none before it is due, and call `show` with the number sent so far.

        Raises what Client raises. Hits sent before that stay counted.
        """
        for hit in hits:
            seen_ms = max(SEEN_MIN_MS, stamp(hit.seen_ms))
            while (ahead_ms := seen_ms - self._now_ms()) > 0:
                self._send(show)
                self._sleep(min(SHOWN_S, max(TICK_S, ahead_ms / 1000)))
                show(self.hits)
            self._waiting.append(hit._replace(seen_ms=seen_ms))
            if len(self._waiting) == BATCH_HITS:
                self._send(show)
        self._send(show)

    def _send(self, show: Callable[[int], None]) -> None:
        if not self._waiting:
            return
        sites: dict[bytes, list[Hit]] = {}
        for hit in self._waiting:
            sites.setdefault(hit.site if isinstance(hit, DumpedHit) else b"", []).append(hit)
        for site, hits in sites.items():
            client = self._client_of(site)
            for is_leave, some in groupby(hits, key=lambda hit: not hit.url):
                if is_leave:
                    for hit in some:
                        self._leave(client, hit)
                else:
                    batch = [hit[:4] for hit in some]  # the site is not sent
                    self.result += client.hits(batch)
                    self.hits += len(batch)
        self._waiting.clear()
        show(self.hits)

    def _leave(self, client: Client, hit: Hit) -> None:
        """Send a leave. Whether it was too old is not answered."""
        self.hits += 1
        self.leaves += 1
        try:
            client.leave(hit.user, seen_ms=hit.seen_ms)
        except (FullError, RangeError) as error:
            self.result += BatchResult(0, 0, 1, str(error))
        else:
            self.result += BatchResult(1, 0, 0, None)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _progress(
    reader: LogReader, logs: Sequence[str], doing: str = "Sending", *, total_hits: int | None = None
) -> Iterator[Callable[[int], None]]:
    """Show progress and hits per second on stderr; if it is no terminal, in a line now and then.

    Progress goes by hits if their number is known, else by bytes read.
    """
    if not sys.stderr.isatty():
        yield _told_at_times(doing)
        return
    # Slow to import, and needed only here.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[hits]}")
    began_s = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=log_bytes(logs) if total_hits is None else total_hits, hits="")

        def show(hits: int) -> None:
            rate = hits / max(time.monotonic() - began_s, 0.001)
            completed = reader.bytes_read if total_hits is None else hits
            progress.update(task, completed=completed, hits=f"{many(hits, 'hit')}, {rate:,.0f} hits/s")

        yield show


def _told_at_times(doing: str) -> Callable[[int], None]:
    told_s = time.monotonic()

    def show(hits: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= TOLD_S:
            told_s = time.monotonic()
            print(f"online replay: {doing.lower()}, {many(hits, 'hit')} so far", file=sys.stderr)

    return show


def _summary(traffic: Traffic, reader: LogReader, took_s: float) -> str:
    result = traffic.result
    rate = traffic.hits / max(took_s, 0.001)
    leaves = f", {many(traffic.leaves, 'leave')} among them," if traffic.leaves else ""
    lines = [
        f"Sent {many(traffic.hits, 'hit')}{leaves} in {took_s:,.1f} s, {rate:,.0f} hits/s.",
        f"The server accepted {result.accepted:,}, ignored {result.ignored:,} as too old, refused {result.refused:,}.",
    ]
    if result.first_error:
        lines.append(f"First refusal: {result.first_error}")
    if reader.skipped:
        sample = reader.samples[0]
        lines.append(
            f"{reader.skipped:,} of {many(reader.lines, 'line')} {'was' if reader.skipped == 1 else 'were'} left out;"
            f" the first is {sample.log}, line {sample.number}: {sample.reason}."
        )
    return "\n".join(lines)
