"""`online bench`: loads a running server, and shows what it took and how long its answers took.

Not here: when requests are sent (lanes). The benchmarks of the project itself, with their compiled generator and their
rivals, are in bench/; this one is for a server as it runs somewhere.

1. It writes into a site of its own alone, and in the end takes all of its users offline.
2. It loads nobody's server by accident: where there are people, it asks first.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from math import ceil, log2
from typing import Any, NamedTuple
from urllib.parse import quote

from online.cli import lanes
from online.cli.arguments import add_server_argument, time_of, whole, with_token
from online.cli.health import number
from online.cli.lanes import Lane, Load
from online.cli.words import explained, many
from online.errors import ConfigError
from online.terms import span
from online_client import AddressError, Client, NotPermittedError, OnlineError, verbs
from online_client.address import Address, parse_addresses
from online_client.verbs import Request

SITE = "bench"

#: Generous, for a server that is busy: a stall is to be measured, not to end the run.
TIMEOUT_S = 20.0

#: How many requests of a kind are made before the clock runs, to be asked in a circle.
MADE = 500

#: Users on a page that is asked for.
LISTED = 30

#: Above this part of a core, this process is the limit rather than the server: one thread at a time runs Python.
BUSY = 0.8

_BAR = 40  #: the longest, in columns

PERCENTILES = (50, 90, 99, 99.9, 100)

_DESCRIPTION = f"""\
Load a running server with hits and questions, and show how many it took and how long its answers took. Half of the
questions are PAGE with {LISTED} users, half COUNT. Hits come in batches.

It uses a site of its own, `bench`, and takes its users offline at the end. Other sites on the server are not changed,
but their answers may take longer meanwhile: if there are people on them, it asks before it begins, or needs --yes. Its
hits go to the bus and the journal like any others.

The generator is one process of Python, and slower than a server: the report says when it was itself the limit. For
more, run several at once, each with a --site of its own. What a server can do at most, `make bench` of the project
measures with a compiled generator."""

_EPILOG = """\
examples:
  online bench                                    1,000 hits and 1,000 questions a second, for 10 seconds
  online bench --hits 50000 --questions 3000 --for 60s
  online bench --most                             as many as it takes
  ONLINE_URL=onlines://:token@192.0.2.1 online bench --yes --json

exit codes: 0 it ran, 1 the server failed or refused, or nobody agreed, 2 a wrong address or option"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online bench`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_server_argument(parser)
    add = parser.add_argument
    add("--site", default=SITE, help=f"the site to write into (default: {SITE})")
    add("--hits", metavar="N", type=whole(0, 10_000_000), default=1_000, help="per second (default: 1000)")
    in_message = "hits in a message, at most as many as come in a second (default: 100)"
    add("--batch", metavar="N", type=whole(1, 5_000), default=100, help=in_message)
    add("--questions", metavar="N", type=whole(0, 1_000_000), default=1_000, help="per second (default: 1000)")
    add("--most", action="store_true", help="as many hits and questions as it takes, instead of these rates")
    add("--connections", metavar="N", type=whole(1, 8), default=2, help="for questions, 1 to 8 (default: 2)")
    how_long = "how long to run (default: 10s)"
    add("--for", dest="seconds", metavar="TIME", type=time_of(0.1, 3_600), default=10.0, help=how_long)
    add("--users", metavar="N", type=whole(1, 1_000_000), default=10_000, help="who are online (default: 10000)")
    add("--pages", metavar="N", type=whole(1, 1_000_000), default=1_000, help="where they are (default: 1000)")
    add("--yes", action="store_true", help="load a server that others use without asking")
    add("--json", action="store_true", help="print the figures as JSON; times in seconds")


def run(args: argparse.Namespace) -> int:
    """Load the server and show what came of it; return the exit code. Raises ConfigError."""
    if not args.most and not args.hits and not args.questions:
        raise ConfigError("--hits and --questions are both 0; there is nothing to do")
    args.batch = batch_of(args)
    try:
        address = parse_addresses(with_token(args.server))[0]
        client = Client(url_of(address, args.site), timeout=TIMEOUT_S)
    except AddressError as error:
        raise ConfigError(explained(error)) from None
    try:
        with client:
            if not (args.yes or _agreed(client, args.site)):
                return 1
            report = measure(client, args)
    except NotPermittedError as error:
        print(f"online bench: {explained(error)}; give the site of the token: --site", file=sys.stderr)
        return 1
    except OnlineError as error:
        print(f"online bench: {explained(error)}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(report.figures(), indent=2))
    else:
        for line in report.lines():
            print(line)
    return 0


def batch_of(args: argparse.Namespace) -> int:
    """Return how many hits a message has: no more than come in a second, and in the whole run."""
    coming = int(args.hits * min(args.seconds, 1.0))
    return int(args.batch) if args.most else min(args.batch, max(1, coming))


def url_of(address: Address, site: str) -> str:
    """Return the url of another site of the same server, with the same token.

    >>> url_of(parse_addresses("onlines://shop:t/k@a.example/?ca=/c")[0], "bench")
    'onlines://:t%2Fk@a.example:8989/bench?ca=%2Fc'
    """
    token = f":{quote(address.token, safe='')}@" if address.token is not None else ""
    site = quote(site, safe="")
    if address.path:
        return f"online+unix://{token}{quote(address.path)}?site={site}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    ca = f"?ca={quote(address.ca_file, safe='')}" if address.ca_file else ""
    return f"online{'s' * address.tls}://{token}{host}:{address.port}/{site}{ca}"


def _agreed(client: Client, site: str) -> bool:
    """Whether nobody else uses the server, or who is at the terminal agrees to load it. Raises OnlineError."""
    info = client.info()
    others = number(info.get("Hits", {}), "users") - _users_of(info, site)
    is_ours = client.kinds().bots + client.count() == 0
    if is_ours and not others:
        return True
    serves = f"serves other sites with {many(others, 'user')}" if others else f"has people on its site {site} itself"
    if not sys.stdin.isatty():
        print(f"online bench: {client.address} {serves}; add --yes to load it anyway", file=sys.stderr)
        return False
    answer = input(f"{client.address} {serves}. They will wait longer meanwhile. Load it? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _users_of(info: dict[str, dict[str, str]], site: str) -> int:
    listed = info.get("Sites", {}).get(f"site_{quote(site, safe='')}", "")
    return number(dict(part.split("=", 1) for part in listed.split(",") if "=" in part), "users")


# To load it


def measure(client: Client, args: argparse.Namespace) -> "Report":
    """Put everybody online, load the server, take everybody offline. Raises OnlineError."""
    users = [f"bench-{n}" for n in range(args.users)]
    try:
        for request in verbs.batches((user, _url(n, args.pages)) for n, user in enumerate(users)):
            client.call(request)
        hits, questions = _lanes(args)
        load = lanes.run(client, [*hits, *questions], args.seconds)
    finally:
        for user in users:
            client.leave(user)
    return Report(str(client.address), args.batch, load, Times.of(hits), Times.of(questions))


def _url(n: int, n_pages: int) -> str:
    return f"/bench/{n % n_pages}"


def _lanes(args: argparse.Namespace) -> tuple[list[Lane], list[Lane]]:
    """Make all requests, for hits and for questions. In a circle of hits every user moves to the next page."""
    hits, questions = list[Lane](), list[Lane]()
    if args.hits or args.most:
        frames = [verbs.batch(_packed(args, first)) for first in range(MADE)]
        hits.append(Lane(frames, 0 if args.most else args.hits / args.batch))
    if args.questions or args.most:
        asked: list[Request[Any]] = [verbs.page(_url(n, args.pages), LISTED) for n in range(MADE)]
        mixed = list(chain.from_iterable((page, verbs.count()) for page in asked))
        for n in range(args.connections):
            begin = n * len(mixed) // args.connections
            per_s = 0 if args.most else args.questions / args.connections
            questions.append(Lane(mixed[begin:] + mixed[:begin], per_s))
    return hits, questions


def _packed(args: argparse.Namespace, nth: int) -> list[bytes]:
    first = nth * args.batch
    numbers = range(first, first + args.batch)
    return [verbs.pack_hit(f"bench-{n % args.users}", _url(n + nth, args.pages)) for n in numbers]


# What came of it


class Times(NamedTuple):
    """How long answers took, shortest first."""

    latencies_s: list[float]

    @classmethod
    def of(cls, asked: Sequence[Lane]) -> "Times":
        """Add up lanes of one kind."""
        return cls(sorted(latency for lane in asked for latency in lane.latencies_s))

    def percentile(self, percent: float) -> float:
        """Return the latency that so many percent did not exceed, in seconds. Requires an answer."""
        return self.latencies_s[max(0, ceil(len(self.latencies_s) * percent / 100) - 1)]


class Report(NamedTuple):
    """What a run has shown."""

    address: str
    batch: int
    load: Load
    hits: Times  #: of batches
    questions: Times

    def figures(self) -> dict[str, object]:
        """Return everything for JSON, times in seconds."""
        return {
            "address": self.address,
            "seconds": self.load.lasted_s,
            "generator_busy": self.load.busy,
            "hits": self._figures(self.hits, self.batch),
            "questions": self._figures(self.questions, 1),
        }

    def _figures(self, times: Times, each: int) -> dict[str, object]:
        found = {f"p{percent:g}": times.percentile(percent) for percent in PERCENTILES if times.latencies_s}
        total = len(times.latencies_s) * each
        return {"answered": total, "per_s": total / self.load.lasted_s, "latency_s": found}

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{self.address}, for {span(round(self.load.lasted_s, 1))}"
        yield ""
        shown = "".join(f"{name:>10}" for name in ("median", "90 %", "99 %", "99.9 %", "longest"))
        yield f"{'':<12}{'a second':>12}{shown}"
        what = "hits" if self.batch == 1 else f"hits by {self.batch:,}"
        for name, times, each in ((what, self.hits, self.batch), ("questions", self.questions, 1)):
            if times.latencies_s:
                per_s = len(times.latencies_s) * each / self.load.lasted_s
                told = "".join(f"{spoken(times.percentile(percent)):>10}" for percent in PERCENTILES)
                yield f"{name:<12}{per_s:>12,.0f}{told}"
        for name, times in ((what, self.hits), ("questions", self.questions)):
            if times.latencies_s:
                yield ""
                yield f"how long answers to {name} took, and how many did"
                yield from picture(times.latencies_s)
        yield ""
        yield f"The generator itself took {100 * self.load.busy:.0f} % of a core."
        if self.load.busy > BUSY:
            yield "So it was the limit: the server can do more, and its answers came sooner than is shown here."


def picture(latencies_s: Sequence[float]) -> Iterator[str]:
    """Yield a bar for each power of two microseconds between the shortest and the longest."""
    counts: dict[int, int] = {}
    for latency_s in latencies_s:
        power = ceil(log2(max(latency_s * 1e6, 1)))
        counts[power] = counts.get(power, 0) + 1
    most = max(counts.values())
    for power in range(min(counts), max(counts) + 1):
        number_of = counts.get(power, 0)
        bar = "█" * round(_BAR * number_of / most) or ("▏" if number_of else "")
        yield f"{'up to ' + spoken(2**power / 1e6):>16}  {bar:<{_BAR}} {number_of:>10,}"


def spoken(seconds: float) -> str:
    """Write a latency.

    >>> [spoken(each) for each in (0.000064, 0.0025, 0.016384, 1.5)]
    ['64 us', '2.5 ms', '16 ms', '1.5 s']
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds * 1e6:.0f} us"
