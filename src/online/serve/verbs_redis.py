"""What clients, proxies and monitoring for Redis ask of any server. Answered in the shapes that they expect.

Here is neither a cluster nor a replica, and no command is logged as slow: what asks for that gets an empty answer, or
an error that says so.
"""

from fnmatch import fnmatchcase

from online import errors
from online.core.wire import OK, Connection
from online.pieces import Pieces
from online.serve.delays import Delay
from online.serve.given import number
from online.serve.verb import VERBS, Shared, verb
from online.terms import SKEW_MS

_MOST = 2**63 - 1


@verb("TIME")
def time(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    service = shared.service
    latest_ms = service.wall_of(connection.heard_ms) + SKEW_MS  # by the clock: the site's own time may be ahead of it
    wall_ms = max(service.wall_of(now_ms), number("at_least_ms", args, 0, low=0, high=latest_ms, default=0))
    if connection.index is not None:
        connection.index.count(now_ms=service.index_of(wall_ms))  # the time moves on
    seconds, rest_ms = divmod(wall_ms, 1000)
    return [str(seconds), str(rest_ms * 1000)]


@verb("CONFIG")
def config(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    match args[0].upper(), args[1:]:
        case b"GET", [_, *_] as patterns:
            wanted = [pattern.lower().decode(errors="replace") for pattern in patterns]
            known = _redis_config(shared)
            return {name: known[name] for name in known if any(fnmatchcase(name, each) for each in wanted)}
    raise errors.unknown_subcommand("CONFIG", args[0], "GET pattern [pattern ...]")


def _redis_config(shared: Shared) -> dict[str, str]:
    """Return what tools ask for before they begin: nothing is written while hits come in, and there is one database."""
    return {
        "appendonly": "no",
        "databases": "1",
        "maxclients": str(shared.limits.max_connections),
        "maxmemory": str(shared.sites.budget.limit_bytes),
        "maxmemory-policy": "noeviction",
        "save": "",
        "timeout": "0",
    }


@verb("DBSIZE")
def dbsize(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    return 0 if connection.index is None else connection.index.count(now_ms=now_ms)


@verb("ROLE")
def role(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    return ["master", 0, []]


@verb("WAIT")
def wait(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    """Answer how many replicas have what was written: none, and so at once."""
    for place, what in enumerate(("numreplicas", "timeout")):
        number(what, args, place, low=0, high=_MOST, default=0)
    return 0


@verb("CLUSTER")
def cluster(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    raise errors.no_cluster()


@verb("LATENCY")
def latency(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    events = shared.delays.events
    match args[0].upper(), args[1:]:
        case b"LATEST", []:
            incidents = {event: each.incidents for event, each in events().items() if each.incidents}
            return [
                [event, kept[-1][0], _ms(kept[-1][1]), _ms(max(ns for _, ns in kept))]
                for event, kept in incidents.items()
            ]
        case b"HISTORY", [event]:
            delay = events().get(_event(event))
            return [] if delay is None else [[at_s, _ms(ns)] for at_s, ns in delay.incidents]
        case b"HISTOGRAM", wanted:
            chosen = {_event(each) for each in wanted}
            return {
                event.lower(): {"calls": sum(each.counts), "histogram_usec": each.histogram_us()}
                for event, each in events().items()
                if not chosen or event in chosen
            }
        case b"RESET", named:
            return shared.delays.reset({_event(each) for each in named})
        case b"DOCTOR", []:
            return _diagnosis(events())
    raise errors.unknown_subcommand("LATENCY", args[0], "LATEST, HISTORY event, HISTOGRAM, RESET or DOCTOR")


def _event(given: bytes) -> str:
    """Return the name of an event: verbs are in capitals, what the server does by itself is not."""
    name = given.decode(errors="replace")
    return name.upper() if name.upper() in VERBS else name.lower()


def _ms(ns: int) -> int:
    return ns // 1_000_000


def _diagnosis(events: dict[str, Delay]) -> str:
    """Say what took longest, in one sentence or two."""
    n_incidents = sum(len(each.incidents) for each in events.values())
    if not n_incidents:
        return "Nothing has taken 10 ms or longer."
    worst = max(events, key=lambda event: events[event].longest_ns)
    longest_ms = events[worst].longest_ns / 1e6
    times = "Once" if n_incidents == 1 else f"{n_incidents} times"
    return f"{times} something took 10 ms or longer. The longest was {worst}, with {longest_ms:.1f} ms."


@verb("SLOWLOG")
def slowlog(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    match args[0].upper(), args[1:]:
        case (b"GET", []) | (b"GET", [_]):
            number("count", args, 1, low=-1, high=_MOST, default=10)
            return []
        case b"LEN", []:
            return 0
        case b"RESET", []:
            return OK
    raise errors.unknown_subcommand("SLOWLOG", args[0], "GET [count], LEN or RESET")


@verb("MEMORY")
def memory(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    match args[0].upper(), args[1:]:
        case b"STATS", []:
            return _memory_stats(shared)
        case b"USAGE", [_, *_]:  # of a key, and there are none
            return None
        case b"PURGE", []:
            return OK
        case b"DOCTOR", []:
            return "INFO memory shows what is used, and INFO limits how often max_memory was reached."
        case b"MALLOC-STATS", []:
            return "Sessions and pages have an allocator of their own, which keeps no statistics."
    raise errors.unknown_subcommand("MEMORY", args[0], "STATS, USAGE key, PURGE, DOCTOR or MALLOC-STATS")


def _memory_stats(shared: Shared) -> Pieces[dict[str, int]]:
    used_bytes = shared.sites.budget.used_bytes
    users = (yield from shared.totals()).users
    return {
        "peak.allocated": shared.meter.peak(used_bytes),
        "total.allocated": used_bytes,
        "clients.slaves": 0,
        "clients.normal": shared.service.waiting_bytes,
        "keys.count": users,
        "keys.bytes-per-key": used_bytes // users if users else 0,
        "dataset.bytes": used_bytes,
    }
