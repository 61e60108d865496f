"""The verbs that are too rare to be worth C, and the connections that may ask them.

`Verbs` is the `Host` of a `wire.Service`: the wire parses, counts the arguments, asks for the token and runs
the hot verbs; whatever else comes arrives at `Verbs.call` and leaves as a plain Python value, which the wire
writes in the connection's dialect. Not its job: sockets, framing, and the clock (it is handed `now_ms`).

Invariants:
1. The index of a registered connection is that of its site, or None while the site does not exist.
2. A verb that raises has changed nothing.
3. Times that go out are wall time: index time plus `service.clock_step_ms`.
"""

import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import quote_from_bytes

from online import __version__, errors
from online.core.index import Index
from online.core.sites import DEFAULT_SITE, Sites
from online.core.wire import OK, Connection, Service, Status
from online.errors import CommandError
from online.terms import IndexStatistics

SITE_MAX_BYTES = 64
CLIENT_NAME_MAX_BYTES = 256

#: TOP walks all pages, so one answer serves everybody for this long (contract: up to 1 s old).
TOP_FRESH_MS = 1_000
#: Answers of TOP that are kept; each is at most max_limit urls.
TOP_KEPT = 64

#: Pages that TOP looks at in a unit of a connection's work (a hit).
TOP_PAGES_A_UNIT = 10

#: What tools for Redis ask before they begin: nothing is written to disk while hits come in.
_REDIS_CONFIG = {b"save": b"", b"appendonly": b"no"}

#: A connection asks for RESP2 unless it says HELLO 3.
RESP_VERSIONS = (b"2", b"3")


#: How often a limit was reached, as INFO lists it. `slow` counts connections closed for want of progress in
#: sending, `open_files_reached` each time that accept(2) had no descriptor or memory.
LIMITS_REACHED = (
    "max_connections_reached",
    "max_buffers_reached",
    "max_sites_reached",
    "open_files_reached",
    "slow",
    "frame_timeout",
    "auth_timeout",
)


#: Why a line that came over syslog was no hit, as INFO lists it: not a page view, or not understood at all.
SYSLOG_SKIPPED = ("method", "status", "file", "target", "dropped", "aside", "not_understood")


@dataclass
class Counts:
    """What has happened since the start. The server counts, INFO tells."""

    connections_accepted: int = 0
    connections_failed: int = 0  #: ended by a fault of the server
    clock_steps: int = 0
    limits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS_REACHED, 0))


@dataclass
class SyslogCounts:
    """What has come over syslog."""

    received: int = 0
    hits: int = 0  #: handed to the index, which may still ignore or refuse them
    skipped: Counter[str] = field(default_factory=Counter)  #: by why they were no hits
    foreign: int = 0  #: from networks that may not send
    dropped: int = 0  #: by the kernel, when they came too fast
    buffer_bytes: int = 0  #: room in the kernel, of the smallest socket


class Verbs:
    """Every rare verb, on all sites."""

    def __init__(self, sites: Sites, *, token: bytes | None = None) -> None:
        """Answer about `sites`. Without `token` any token is taken."""
        self.sites = sites
        self.limits = sites.limits
        self._token = token
        self.service = Service(self, sites.limits, auth_wanted=token is not None, window_s=sites.window_s)
        self.counts = Counts()
        self.syslog: SyslogCounts | None = None  #: of a server that receives it
        self.started_ms: int | None = None  #: index time; the server sets it
        self.suspected: Callable[[Connection], None] = lambda connection: None  #: told of each wrong token
        self._connections: dict[Connection, bytes] = {}  # with the site to which SELECT 0 leads back
        self._tops: dict[tuple[bytes, bytes], tuple[int, list[tuple[bytes, int]]]] = {}

    # Connections and sites

    def connect(self) -> Connection:
        """Begin a connection, on the site `default`. Whoever calls this calls `disconnect` at its end."""
        connection = Connection(self.service, self.sites[DEFAULT_SITE], DEFAULT_SITE)
        self._connections[connection] = DEFAULT_SITE
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.pop(connection, None)

    def open_site(self, connection: Connection, now_ms: int) -> Index:
        """Return the index of the connection's site, which begins to exist if it does not. O(connections).

        Raises FullError at max_sites.
        """
        is_new = connection.site not in self.sites
        index = self.sites.open(connection.site)
        if is_new:
            for other in self._connections:
                if other.site == connection.site:
                    other.index = index
        connection.index = index
        return index

    def expire(self, now_ms: int) -> None:
        """Drop what has left the window on all sites, and answers of TOP that are too old."""
        self.sites.expire(now_ms)
        self._tops = {key: top for key, top in self._tops.items() if _is_fresh(top[0], now_ms)}

    def _speak_of(self, connection: Connection, site: bytes) -> None:
        connection.site = site
        connection.index = self.sites.get(site)

    # Dispatch

    def call(self, connection: Connection, verb: str, args: list[bytes], now_ms: int) -> object:
        """Carry out a rare verb (upper case, with a right number of arguments) and return its reply.

        Raises OnlineError, having changed nothing.
        """
        return _VERBS[verb](self, connection, args, now_ms)

    # What the index knows

    def _top(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        limit = _number("limit", args, 0, low=0, high=self.limits.max_limit, default=10)
        prefix = args[1] if len(args) > 1 else b""
        if connection.index is None:
            return []
        key = connection.site, prefix
        made_ms, top = self._tops.get(key, (None, []))
        if made_ms is None or not _is_fresh(made_ms, now_ms):
            top = connection.index.top(self.limits.max_limit, prefix, now_ms=now_ms)
            connection.work += connection.index.statistics().pages // TOP_PAGES_A_UNIT
            self._tops.pop(key, None)
            self._tops[key] = now_ms, top
            if len(self._tops) > TOP_KEPT:
                del self._tops[next(iter(self._tops))]
        return top[:limit]

    def _peak(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        people, at_ms = connection.index.peak() if connection.index is not None else (0, 0)
        return [people, self.service.wall_of(at_ms) if people else 0]

    # Sites

    def _site(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        self._speak_of(connection, _site_name(args[0]))
        return OK

    def _sites(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        return [(name, index.count(now_ms=now_ms)) for name, index in sorted(self.sites.items())]

    def _select(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        if args[0] != b"0":
            raise errors.bad_database(args[0])
        self._speak_of(connection, self._connections.get(connection, DEFAULT_SITE))
        return OK

    # Who is asking

    def _auth(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        site = self._site_for(connection, *args)
        connection.authenticated = True
        self._settle(connection, site)
        return OK

    def _site_for(self, connection: Connection, *credentials: bytes) -> bytes | None:
        """Check `[site] token`; return the site, None if none was given."""
        token = credentials[-1]
        if self._token is not None and not hmac.compare_digest(token, self._token):
            self.suspected(connection)
            raise errors.wrong_token()
        return _site_name(credentials[0]) if len(credentials) == 2 and credentials[0] else None

    def _settle(self, connection: Connection, site: bytes | None) -> None:
        """Make `site` the one that a connection speaks of and that SELECT 0 leads back to."""
        if site is not None:
            self._speak_of(connection, site)
            if connection in self._connections:
                self._connections[connection] = site

    def _hello(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        if args and args[0] not in RESP_VERSIONS:
            raise errors.bad_version(args[0])
        options = _hello_options(args[1:])
        site = None
        if "AUTH" in options:
            site = self._site_for(connection, *options["AUTH"])
        elif self._token is not None and not connection.authenticated:
            raise errors.token_wanted(b"HELLO")
        if "SETNAME" in options:
            connection.name = _client_name(options["SETNAME"][0])
        if "AUTH" in options:
            connection.authenticated = True
            self._settle(connection, site)
        if args and connection.resp_version:
            connection.resp_version = int(args[0])
        return {
            "server": "online",
            "version": __version__,
            "proto": connection.resp_version,
            "id": connection.id,
            "mode": "standalone",
            "role": "master",
            "modules": [],
        }

    def _reset(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        connection.reset()
        self._settle(connection, DEFAULT_SITE)
        return Status("RESET")

    def _quit(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        connection.close()
        return OK

    def _client(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        match args[0].upper(), args[1:]:
            case b"ID", []:
                return connection.id
            case b"GETNAME", []:
                return connection.name or None
            case b"SETNAME", [name]:
                connection.name = _client_name(name)
                return OK
            case b"SETINFO", [_, _]:  # the library's name and version: taken and not kept
                return OK
            case b"REPLY", [mode] if mode.upper() in (b"ON", b"OFF", b"SKIP"):
                connection.reply = mode.lower().decode()
                return OK
            case b"INFO", []:
                return _client_line(connection)
            case b"LIST", []:
                return "".join(map(_client_line, self._listed()))
        raise errors.unknown_subcommand("CLIENT", args[0], _CLIENT_USAGE)

    def _listed(self) -> Iterable[Connection]:
        """The oldest connections, as many as a reply may hold."""
        return islice(self._connections, self.limits.max_limit)

    # What clients ask of a Redis server

    def _time(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        seconds, rest_ms = divmod(self.service.wall_of(now_ms), 1000)
        return [str(seconds), str(rest_ms * 1000)]

    def _config(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        if args[0].upper() != b"GET":
            raise errors.unknown_subcommand("CONFIG", args[0], "GET")
        return {name: _REDIS_CONFIG[name] for name in args[1:] if name in _REDIS_CONFIG}

    def _command(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        subcommand = args[0].upper() if args else b""
        return {b"COUNT": 0, b"DOCS": {}}.get(subcommand, [])

    # INFO

    def _info(self, connection: Connection, args: list[bytes], now_ms: int) -> object:
        wanted = {arg.lower().decode(errors="replace") for arg in args if arg}
        if not wanted or wanted & {"all", "default", "everything"}:
            wanted = set(_INFO)
        if self.syslog is None:
            wanted.discard("syslog")
        sections = [_section(name, lines(self, now_ms)) for name, lines in _INFO.items() if name in wanted]
        return "\r\n".join(sections)

    def _info_server(self, now_ms: int) -> Iterator[tuple[str, object]]:
        uptime_ms = 0 if self.started_ms is None else now_ms - self.started_ms
        yield "version", __version__
        yield "redis_version", __version__
        yield "redis_mode", "standalone"
        yield "role", "master"
        yield "loading", 0
        yield "uptime_in_seconds", uptime_ms // 1000
        yield "window_s", self.sites.window_s
        yield "clock_steps", self.counts.clock_steps
        yield "clock_step_ms", self.service.clock_step_ms

    def _info_clients(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "connected_clients", self.service.connections
        yield "maxclients", self.limits.max_connections
        yield "connections_accepted", self.counts.connections_accepted
        yield "connections_failed", self.counts.connections_failed
        yield "commands", self.service.commands
        yield "errors", self.service.errors

    def _info_memory(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "used_memory", self.sites.budget.used_bytes
        yield "max_memory", self.sites.budget.limit_bytes
        yield "buffered_bytes", self.service.buffered_bytes
        yield "max_buffers", self.limits.max_buffers

    def _info_hits(self, now_ms: int) -> Iterator[tuple[str, object]]:
        totals = self.totals()
        for name in ("accepted", "late", "stale", "skewed", "refused", "users", "pages"):
            yield name, getattr(totals, name)

    def _info_sites(self, now_ms: int) -> Iterator[tuple[str, object]]:
        yield "sites", len(self.sites)
        for name, index in sorted(self.sites.items()):
            listed = {"people": index.count(now_ms=now_ms)} | index.statistics()._asdict()
            shown = ",".join(f"{key}={value}" for key, value in listed.items())
            yield f"site_{quote_from_bytes(name, safe='')}", shown

    def _info_limits(self, now_ms: int) -> Iterator[tuple[str, object]]:
        totals = self.totals()
        for name in ("max_users_reached", "max_pages_reached", "max_memory_reached"):
            yield name, getattr(totals, name)
        yield from (self.counts.limits | {"max_sites_reached": self.sites.max_reached}).items()

    def _info_syslog(self, now_ms: int) -> Iterator[tuple[str, object]]:
        counts = self.syslog or SyslogCounts()
        yield "received", counts.received
        yield "hits", counts.hits
        for why in SYSLOG_SKIPPED:
            yield f"skipped_{why}", counts.skipped[why]
        for name in ("foreign", "dropped", "buffer_bytes"):
            yield name, getattr(counts, name)

    def totals(self) -> IndexStatistics:
        """Add up the statistics of all sites, and of hits that found none. O(sites)."""
        each = (self.service.unplaced(), self.sites.statistics())
        return IndexStatistics(*map(sum, zip(*each, strict=True)))


_VERBS: dict[str, Callable[[Verbs, Connection, list[bytes], int], object]] = {
    "AUTH": Verbs._auth,
    "CLIENT": Verbs._client,
    "COMMAND": Verbs._command,
    "CONFIG": Verbs._config,
    "HELLO": Verbs._hello,
    "INFO": Verbs._info,
    "PEAK": Verbs._peak,
    "QUIT": Verbs._quit,
    "RESET": Verbs._reset,
    "SELECT": Verbs._select,
    "SITE": Verbs._site,
    "SITES": Verbs._sites,
    "TIME": Verbs._time,
    "TOP": Verbs._top,
}

_INFO: dict[str, Callable[[Verbs, int], Iterator[tuple[str, object]]]] = {
    "server": Verbs._info_server,
    "clients": Verbs._info_clients,
    "memory": Verbs._info_memory,
    "hits": Verbs._info_hits,
    "sites": Verbs._info_sites,
    "limits": Verbs._info_limits,
    "syslog": Verbs._info_syslog,
}

_CLIENT_USAGE = "ID, GETNAME, SETNAME name, SETINFO attribute value, REPLY ON|OFF|SKIP, INFO or LIST"


def _is_fresh(made_ms: int, now_ms: int) -> bool:
    return 0 <= now_ms - made_ms < TOP_FRESH_MS


def _number(what: str, args: list[bytes], place: int, *, low: int, high: int, default: int) -> int:
    """Read the argument at `place` as a number; b"" stands for not given."""
    text = args[place] if place < len(args) else b""
    if not text:
        return default
    if not re.fullmatch(rb"-?[0-9]{1,18}", text):
        raise errors.not_a_number(what, text)
    if not low <= int(text) <= high:
        raise errors.bad_number(what, int(text), low, high)
    return int(text)


def _site_name(name: bytes) -> bytes:
    if not 1 <= len(name) <= SITE_MAX_BYTES:
        raise errors.bad_name("site", name, SITE_MAX_BYTES)
    return name


def _client_name(name: bytes) -> bytes:
    """Check a name as Redis does; b"" takes the name away."""
    if len(name) > CLIENT_NAME_MAX_BYTES:
        raise errors.bad_name("client name", name, CLIENT_NAME_MAX_BYTES)
    if not all(0x21 <= byte <= 0x7E for byte in name):
        raise errors.bad_client_name(name)
    return name


def _hello_options(args: list[bytes]) -> dict[str, list[bytes]]:
    """Split `[AUTH site token] [SETNAME name]` into the arguments of each option."""
    sizes = {"AUTH": 2, "SETNAME": 1}
    options = {}
    rest = list(args)
    while rest:
        option = rest.pop(0).upper().decode(errors="replace")
        size = sizes.get(option)
        if size is None or len(rest) < size:
            raise CommandError("HELLO takes a version, then AUTH site token, then SETNAME name")
        options[option], rest = rest[:size], rest[size:]
    return options


def _section(name: str, lines: Iterator[tuple[str, object]]) -> str:
    """Write one section of INFO."""
    return "".join([f"# {name.capitalize()}\r\n", *(f"{key}:{value}\r\n" for key, value in lines)])


def _client_line(connection: Connection) -> str:
    site = quote_from_bytes(connection.site, safe="")
    return (
        f"id={connection.id} name={connection.name.decode()} site={site} "
        f"resp={connection.resp_version} waiting={connection.buffered_bytes}\n"
    )
