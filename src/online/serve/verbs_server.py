"""Rare verbs about the server and its clients: INFO CLIENT, and what clients ask of a Redis server."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from urllib.parse import quote_from_bytes

from online import __version__, errors
from online.core.wire import OK, Connection
from online.serve.given import client_name
from online.serve.verb import SECTIONS, Lines, Shared, is_heard, section, verb

#: What tools for Redis ask before they begin: nothing is written to disk while hits come in.
_REDIS_CONFIG = {b"save": b"", b"appendonly": b"no"}

_CLIENT_USAGE = "ID, GETNAME, SETNAME name, SETINFO attribute value, REPLY ON|OFF|SKIP, INFO or LIST"


@verb("CLIENT")
def client(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    match args[0].upper(), args[1:]:
        case b"ID", []:
            return connection.id
        case b"GETNAME", []:
            return connection.name or None
        case b"SETNAME", [name]:
            connection.name = client_name(name)
            return OK
        case b"SETINFO", [_, _]:  # the library's name and version: taken and not kept
            return OK
        case b"REPLY", [mode] if mode.upper() in (b"ON", b"OFF", b"SKIP"):
            connection.reply = mode.lower().decode()
            return OK
        case b"INFO", []:
            return _client_line(connection)
        case b"LIST", []:
            return _client_list(shared) if is_heard(connection) else None
    raise errors.unknown_subcommand("CLIENT", args[0], _CLIENT_USAGE)


def _client_list(shared: Shared) -> str:
    """Tell of the oldest connections, as many as a reply may hold."""
    return "".join(map(_client_line, islice(shared.connections, shared.limits.max_limit)))


def _client_line(connection: Connection) -> str:
    site = quote_from_bytes(connection.site, safe="")
    return (
        f"id={connection.id} name={connection.name.decode()} site={site} "
        f"resp={connection.resp_version} waiting={connection.buffered_bytes}\n"
    )


@verb("TIME")
def time(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    seconds, rest_ms = divmod(shared.service.wall_of(now_ms), 1000)
    return [str(seconds), str(rest_ms * 1000)]


@verb("CONFIG")
def config(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if args[0].upper() != b"GET":
        raise errors.unknown_subcommand("CONFIG", args[0], "GET")
    return {name: _REDIS_CONFIG[name] for name in args[1:] if name in _REDIS_CONFIG}


@verb("COMMAND")
def command(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    subcommand = args[0].upper() if args else b""
    return {b"COUNT": 0, b"DOCS": {}}.get(subcommand, [])


# INFO


@verb("INFO")
def info(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if not is_heard(connection):
        return None
    known: dict[str, Lines] = {name: partial(lines, shared) for name, lines in SECTIONS.items()} | shared.sections
    wanted = {arg.lower().decode(errors="replace") for arg in args if arg}
    if not wanted or wanted & {"all", "default", "everything"}:
        wanted = set(known)
    return "\r\n".join(_written(name, lines(now_ms)) for name, lines in known.items() if name in wanted)


def _written(name: str, lines: Iterable[tuple[str, object]]) -> str:
    """Write one section."""
    return "".join([f"# {name.capitalize()}\r\n", *(f"{key}:{value}\r\n" for key, value in lines)])


@section("server")
def _server(shared: Shared, now_ms: int) -> Iterator[tuple[str, object]]:
    uptime_ms = 0 if shared.started_ms is None else now_ms - shared.started_ms
    yield "version", __version__
    yield "redis_version", __version__
    yield "redis_mode", "standalone"
    yield "role", "master"
    yield "loading", int(shared.service.loading is not None)
    yield "uptime_in_seconds", uptime_ms // 1000
    yield "window_s", shared.sites.window_s
    yield "clock_steps", shared.clock_steps
    yield "clock_step_ms", shared.service.clock_step_ms


@section("clients")
def _clients(shared: Shared, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "connected_clients", shared.service.connections
    yield "maxclients", shared.limits.max_connections
    yield "connections_accepted", shared.connections.accepted
    yield "connections_failed", shared.connections.failures
    yield "commands", shared.service.commands
    yield "errors", shared.service.errors


@section("memory")
def _memory(shared: Shared, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "used_memory", shared.sites.budget.used_bytes
    yield "max_memory", shared.sites.budget.limit_bytes
    yield "buffered_bytes", shared.service.buffered_bytes
    yield "max_buffers", shared.limits.max_buffers


@section("hits")
def _hits(shared: Shared, now_ms: int) -> Iterator[tuple[str, object]]:
    totals = shared.totals()
    for name in ("accepted", "late", "stale", "skewed", "refused", "users", "pages"):
        yield name, getattr(totals, name)


@section("sites")
def _sites(shared: Shared, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "sites", len(shared.sites)
    for name, index in sorted(shared.sites.items()):
        listed = {"people": index.count(now_ms=now_ms)} | index.statistics()._asdict()
        shown = ",".join(f"{key}={value}" for key, value in listed.items())
        yield f"site_{quote_from_bytes(name, safe='')}", shown


@section("limits")
def _limits(shared: Shared, now_ms: int) -> Iterator[tuple[str, object]]:
    totals = shared.totals()
    for name in ("max_users_reached", "max_pages_reached", "max_memory_reached"):
        yield name, getattr(totals, name)
    yield from shared.limits_reached().items()
