"""`online demo`: a server with a simulated site, to see the server at work.

Not here: measurements. Nothing is real: people, pages and visits come from a seeded generator, and reach the server
through an ordinary connection.
"""

import heapq
import logging
import os
import shlex
import shutil
import sys
import textwrap
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from itertools import accumulate, count
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

import trio

from online.cli.serve import assemble, serve
from online.errors import ConfigError
from online.http.service import Http
from online.serve.config import DEFAULT_HTTP, DEFAULT_LISTEN, Address, Config
from online.serve.loading import read_value
from online.serve.server import Server
from online.serve.settings import HTTP, LISTEN, PREFIX, number
from online.terms import BOT, GUEST, HIDDEN, MEMBER
from online_client import verbs
from online_client.protocol import Protocol

PAGES = 500
PAGES_A_VISIT = 6.0
PAGE_S = 40.0  #: means: the pages of a visit, and the time on each

#: How many of a hundred visits.
KIND_WEIGHTS = {MEMBER: 55, GUEST: 38, HIDDEN: 4, BOT: 3}

SEND_EVERY_S = 0.25
SHOW_EVERY_S = 1
SHOW_IN_LOG_EVERY_S = 10

LISTEN_VARIABLE = f"{PREFIX}LISTEN"
HTTP_VARIABLE = f"{PREFIX}HTTP"

WIDTH = 80  #: of a terminal of the usual size

_NAMES = (
    *("ada", "alan", "anna", "bela", "carl", "dora", "edgar", "emmy", "erik", "frida", "greta", "hana"),
    *("ines", "iris", "jonas", "juno", "karl", "lena", "lise", "lotte", "marie", "mika", "nadia", "niels"),
    *("noor", "olga", "otto", "paul", "petra", "rosa", "ruth", "sam", "sofia", "tara", "theo", "ute", "vera", "zoe"),
)

T = TypeVar("T")


class SimulatedHit(NamedTuple):
    at_s: float  #: seconds since the start of the server; negative before it
    user: str
    url: str
    kind: str


def simulate(*, people: int, window_s: int, seed: int) -> Iterator[SimulatedHit]:
    """Yield the hits of a simulated site in order of time, without end.

    They begin before 0, early enough for about `people` people to be online at 0, with all ages in the window. Visits
    begin at random times. Each is to several pages, a few of which are far more popular than the others.
    """
    random = Random(seed)
    urls, weights = _site()
    visits_a_second = people / (window_s + PAGES_A_VISIT * PAGE_S)
    members = [f"{random.choice(_NAMES)}{n}" for n in range(10 * people)]
    at_s = -1.5 * window_s
    order = count()  # orders visits at the same time
    visits = [(at_s, next(order), "", "")]  # the next hit of each; without a user, the start of the next visit
    while True:
        at_s, visit, user, kind = heapq.heappop(visits)
        if not user:
            heapq.heappush(visits, (at_s + random.expovariate(visits_a_second), visit, "", ""))
            visit, (user, kind) = next(order), _visitor(random, members)
        yield SimulatedHit(at_s, user, random.choices(urls, cum_weights=weights)[0], kind)
        if random.random() > 1 / PAGES_A_VISIT:
            heapq.heappush(visits, (at_s + random.expovariate(1 / PAGE_S), visit, user, kind))


def _site() -> tuple[list[str], list[float]]:
    """Return the pages of the site, and their cumulative weights by Zipf's law."""
    urls = ["/", *(f"/{('forum', 'forum', 'news', 'gallery')[n % 4]}/{n}" for n in range(1, PAGES))]
    return urls, list(accumulate(1 / rank for rank in range(1, PAGES + 1)))


def _visitor(random: Random, members: list[str]) -> tuple[str, str]:
    kind = random.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
    if kind == GUEST:
        return f"guest-{random.getrandbits(32):08x}", kind
    if kind == BOT:
        return f"bot-{random.randrange(20)}", kind
    return random.choice(members), kind


class _Line:
    """A connection to the server, like that of any client."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._protocol = Protocol()

    async def ask(self, request: verbs.Request[T]) -> T:
        await self._stream.send_all(self._protocol.send(request))
        while data := await self._stream.receive_some():
            for response in self._protocol.receive(bytes(data)):
                return response.answer(request, time.time_ns() // 1_000_000)
        raise trio.BrokenResourceError


class _Demo:
    """The simulated site, which runs beside the server."""

    def __init__(self, *, people: int, seed: int) -> None:
        self._people = people
        self._seed = seed
        self._sent = 0

    async def run(self, server: Server) -> None:
        """Fill the window, then send hits live and show figures, until the server stops."""
        await server.listening.wait()
        hits = simulate(people=self._people, window_s=server.config.window_s, seed=self._seed)
        try:
            async with await _connect(server.addresses[0]) as stream:
                line = _Line(stream)
                began_ms = server.clock.now_ms()
                hit = await self._catch_up(line, server, began_ms, next(hits), hits)
                self._sent = 0
                print(_welcome(server.addresses[0], self._seed, _dashboard(server)), flush=True)
                for turn in count(1):
                    await trio.sleep(SEND_EVERY_S)
                    hit = await self._catch_up(line, server, began_ms, hit, hits)
                    await self._show(line, turn)
        except trio.BrokenResourceError:
            pass  # the server has stopped

    async def _catch_up(
        self, line: _Line, server: Server, began_ms: int, hit: SimulatedHit, hits: Iterator[SimulatedHit]
    ) -> SimulatedHit:
        """Send all hits that are due, beginning with `hit`. Returns the first hit that is not due yet."""
        clock = server.clock
        now_s = (clock.now_ms() - began_ms) / 1000
        oldest_s = now_s - server.config.window_s
        due: list[verbs.Hit] = []
        while hit.at_s <= now_s:
            if hit.at_s > oldest_s:
                seen_ms = began_ms + int(hit.at_s * 1000) + clock.step_ms
                due.append((hit.user, hit.url, seen_ms, hit.kind))
            hit = next(hits)
        for batch in verbs.batches(due):
            await line.ask(batch)
        self._sent += len(due)
        return hit

    async def _show(self, line: _Line, turn: int) -> None:
        """Show figures: on a terminal in one line, updated every second; elsewhere in a line every ten seconds."""
        is_terminal = sys.stdout.isatty()
        every_s = SHOW_EVERY_S if is_terminal else SHOW_IN_LOG_EVERY_S
        if turn % int(every_s / SEND_EVERY_S):
            return
        online = await line.ask(verbs.count())
        [top] = await line.ask(verbs.top(1))
        peak = await line.ask(verbs.peak())
        shown = (
            f"simulated: {online:,} online (peak {peak.people:,}), "
            f"{top.people:,} on {top.url}, {self._sent / every_s:,.0f} hits/s"
        )
        self._sent = 0
        if is_terminal:  # a line that wraps is not overwritten by the next one
            shown = shown[: shutil.get_terminal_size().columns - 1]
        print(f"\r\x1b[2K{shown}" if is_terminal else shown, end="" if is_terminal else "\n", flush=True)


async def _connect(address: Address) -> trio.SocketStream:
    if address.path is not None:
        return await trio.open_unix_socket(str(address.path))
    return await trio.open_tcp_stream(address.host, address.port)


def _dashboard(server: Server) -> str | None:
    """Return where the dashboard of a server is, or None if it has none."""
    return next((where for part in server.parts if isinstance(part, Http) for where in part.places()), None)


def _welcome(address: Address, seed: int, dashboard: str | None) -> str:
    """Return the text that explains the demo and what to try."""
    if address.path is not None:
        redis, url = f"redis-cli -s {address.path}", f"online+unix://{address.path}"
    else:
        host = "" if address.host == "127.0.0.1" else f"-h {address.host} "
        redis, url = f"redis-cli {host}-p {address.port}", f"online://{address}"
    online = _command() if (address,) == DEFAULT_LISTEN else f"ONLINE_URL={url} {_command()}"
    what = f"online listens on {address}. The site is simulated (seed {seed}): its people and pages are made up."
    look = f"\nOpen in a browser:\n  {dashboard}\n" if dashboard is not None else ""
    return f"""\
{textwrap.fill(what, WIDTH, break_long_words=False, break_on_hyphens=False)}
{look}
Try, in another terminal:
  {online} top
  {online} query count
  {online} query page /forum/1
  {redis} COUNT
  {redis} PAGE /forum/1 10
  {redis} HIT you /forum/1

Ctrl-C ends it.
"""


def _command() -> str:
    """Return the command that runs this `online`: `online` if the shell would find it, else its path."""
    started = Path(sys.argv[0])
    found = shutil.which("online")
    if found is not None and started.exists() and started.samefile(found):
        return "online"
    if started.name == "__main__.py":
        return f"{_shortest(sys.executable)} -m online"
    return _shortest(sys.argv[0])


def _shortest(path: str) -> str:
    """Quote a path for a shell, absolute or relative, whichever is shorter."""
    from_here = os.path.relpath(path)
    if os.sep not in from_here:
        from_here = os.path.join(os.curdir, from_here)
    return shlex.quote(min(from_here, os.path.abspath(path), key=len))


# The command

_DESCRIPTION = """\
Run a server with a simulated site: a few thousand made-up people browse made-up pages. The demo lists commands to
try, and shows every second how many people are online.

Everything is in memory. Nothing is saved when the demo stops."""

_EXAMPLES = """\
examples:
  online demo
  online demo --people 50000 --listen 127.0.0.1:9989 --http 127.0.0.1:9990"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online demo`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--listen", metavar="ADDRESS", help=f"where to listen (default: {LISTEN_VARIABLE}, or {DEFAULT_LISTEN[0]})"
    )
    parser.add_argument(
        "--http",
        metavar="ADDRESS",
        help=f"where the dashboard is, '' for nowhere (default: {DEFAULT_HTTP}, if it is free)",
    )
    for flag, metavar, default, text in (
        ("--people", "N", "3000", "how many people are online, roughly"),
        ("--seed", "N", "1", "seed of the generator; another seed gives other people"),
    ):
        parser.add_argument(flag, metavar=metavar, default=default, help=f"{text} (default: {default})")


def _address(option: str | None, environ: Mapping[str, str]) -> Address:
    """Return the address to listen on: the option, or the first address in the server's variable."""
    where, text = "--listen", option
    if text is None and LISTEN_VARIABLE in environ:
        where, text = LISTEN_VARIABLE, environ[LISTEN_VARIABLE].partition(",")[0]
    if text is None:
        return DEFAULT_LISTEN[0]
    return _checked(where, read_value(LISTEN, where, text))


def _http(option: str | None, environ: Mapping[str, str]) -> tuple[Address, ...] | None:
    """Return where the dashboard is to be; None: at the default address, if that is free."""
    where, text = "--http", option
    if text is None and HTTP_VARIABLE in environ:
        where, text = HTTP_VARIABLE, environ[HTTP_VARIABLE].partition(",")[0]
    if text is None:
        return None
    address: Address | None = read_value(HTTP, where, text)
    return () if address is None else (_checked(where, address),)


def _checked(where: str, address: Address) -> Address:
    if not address.is_local:
        raise ConfigError(f"{where} {address}: the demo only listens on loopback addresses and unix: sockets")
    return address


def run(args: Namespace) -> int:
    """Run the demo until SIGTERM or SIGINT. Raises ConfigError if it cannot start."""
    address = _address(args.listen, os.environ)
    people = read_value(number(10, 100_000), "--people", args.people)
    seed = read_value(number(0, 10**18), "--seed", args.seed)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    server = assemble(Config(listen=(address,), http=_http(args.http, os.environ)))
    try:
        trio.run(serve, server, _Demo(people=people, seed=seed).run)
    except ConfigError as error:
        elsewhere = Address("127.0.0.1", address.port + 1000 if 0 < address.port < 64_000 else 9989)
        raise ConfigError(f"{error}; to use another port: {_command()} demo --listen {elsewhere}") from None
    print()
    return 0
