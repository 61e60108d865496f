"""INFO: what a server shows of itself. A section is a function, and a figure is a row `name, value` of it.

Figures have the names of this server, and beside them those that tools for Redis read (`redis-cli --stat`,
redis_exporter, telegraf, checks of proxies), as far as they mean the same here. What would mean something else, such
as the hit rate of a cache, is left out: an alarm must not go off for it. docs/protocol.md explains every row.

Sections that look at all sites rest now and then, by a row that is None: those figures are of moments that follow each
other.

A part of the server adds sections of its own, or rows to one of these (`Shared.sections`); its rows win.
"""

import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from pathlib import Path
from urllib.parse import quote_from_bytes

from online import __version__
from online.core.index import Index
from online.core.sites import SITES_AT_ONCE
from online.core.wire import Connection
from online.limits import JUDGED
from online.pieces import Pieces
from online.serve import delays
from online.serve.verb import Row, Shared, is_heard, verb

#: Words that ask for every section: Redis tells them apart, and leaves out little from any.
EVERYTHING = {"all", "default", "everything"}

Section = Callable[[Shared, int], Iterable[Row | None]]

Rows = Generator[Row | None, None, None]

#: Who writes which section, in the order in which they are shown.
SECTIONS: dict[str, Section] = {}


def section(lines: Section) -> Section:
    """Let the function below write the section of its name."""
    SECTIONS[lines.__name__] = lines
    return lines


@verb("INFO")
def info(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    return _shown(shared, connection, args, now_ms) if is_heard(connection) else None


def _shown(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> Pieces[str]:
    wanted = {arg.lower().decode(errors="replace") for arg in args if arg}
    if not wanted or wanted & EVERYTHING:
        wanted = SECTIONS.keys() | shared.sections.keys()
    known = dict.fromkeys(chain(SECTIONS, shared.sections))
    own = shared.connections.own_site(connection)
    written = []
    for name in known:
        if name in wanted:
            rows = yield from rows_of(shared, name, now_ms, own)
            written.append(_written(name, rows))
            yield
    return "\r\n".join(written)


def rows_of(shared: Shared, name: str, now_ms: int, own: bytes | None = None) -> Pieces[dict[str, object]]:
    """Return the figures of a section; of other sites than `own`, if there is one, none of their own."""
    rows: dict[str, object] = {}
    ours = SECTIONS[name](shared, now_ms) if name in SECTIONS else ()
    of_parts = shared.sections[name](now_ms) if name in shared.sections else ()
    for row in chain(ours, of_parts):
        if row is None:
            yield
        else:
            rows[row[0]] = row[1]
    if own is not None:
        rows = {key: value for key, value in rows.items() if key[:5] != "site_" or key == _site_row(own)}
    return rows


def _written(name: str, rows: Mapping[str, object]) -> str:
    """Write one section."""
    title = "CPU" if name == "cpu" else name.capitalize()
    return "".join([f"# {title}\r\n", *(f"{key}:{value}\r\n" for key, value in rows.items())])


@section
def server(shared: Shared, now_ms: int) -> Iterator[Row]:
    uptime_s = 0 if shared.started_ms is None else (now_ms - shared.started_ms) // 1000
    yield "version", __version__
    yield "redis_version", __version__
    yield "redis_mode", "standalone"
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "arch_bits", 8 * struct.calcsize("P")
    yield "process_id", os.getpid()
    yield "run_id", shared.run_id
    yield "tcp_port", shared.tcp_port
    yield "server_time_usec", shared.service.wall_of(now_ms) * 1000
    yield "uptime_in_seconds", uptime_s
    yield "uptime_in_days", uptime_s // 86_400
    yield "window_s", shared.sites.window_s
    yield "clock_steps", shared.clock_steps
    yield "clock_step_ms", shared.service.clock_step_ms


@section
def clients(shared: Shared, now_ms: int) -> Iterator[Row]:
    yield "connected_clients", shared.service.connections
    yield "blocked_clients", 0
    yield "maxclients", shared.limits.max_connections
    yield "connections_accepted", shared.connections.accepted
    yield "connections_failed", shared.connections.failures
    yield "commands", shared.service.commands
    yield "errors", shared.service.errors
    yield "auth_without_token", shared.auth_without_token
    yield "auth_to_new_site", shared.auth_to_new_site


@section
def memory(shared: Shared, now_ms: int) -> Iterator[Row]:
    used_bytes, limit_bytes = shared.sites.budget.used_bytes, shared.sites.budget.limit_bytes
    peak_bytes = shared.meter.peak(used_bytes)
    yield "used_memory", used_bytes
    yield "used_memory_human", human(used_bytes)
    yield "used_memory_rss", resident_bytes()
    yield "used_memory_peak", peak_bytes
    yield "used_memory_peak_human", human(peak_bytes)
    yield "total_system_memory", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield "max_memory", limit_bytes
    yield "maxmemory", limit_bytes
    yield "maxmemory_human", human(limit_bytes)
    yield "maxmemory_policy", "noeviction"
    yield "buffered_bytes", shared.service.waiting_bytes
    yield "mem_clients_normal", shared.service.waiting_bytes
    yield "max_buffers", shared.limits.max_buffers


@section
def hits(shared: Shared, now_ms: int) -> Rows:
    totals = yield from shared.totals()
    for name in ("accepted", "late", "stale", "skewed", "refused", "expired", "users", "pages"):
        yield name, getattr(totals, name)
    yield "overdue", (yield from _sum(shared, attrgetter("overdue")))


@section
def sites(shared: Shared, now_ms: int) -> Rows:
    yield "sites", len(shared.sites)
    for name, index in sorted(shared.sites.items()):
        listed = {"people": index.count(now_ms=now_ms)} | index.statistics()._asdict()
        shown = ",".join(f"{key}={value}" for key, value in listed.items())
        yield _site_row(name), shown
        yield None


def _site_row(name: bytes) -> str:
    return f"site_{quote_from_bytes(name, safe='')}"


@section
def push(shared: Shared, now_ms: int) -> Rows:
    yield "subscriptions", shared.push.n_subscriptions
    yield "channels", shared.push.n_channels
    yield "events", shared.push.events
    yield "events_skipped", shared.push.skipped


@section
def limits(shared: Shared, now_ms: int) -> Rows:
    totals = yield from shared.totals()
    for name in ("max_users_reached", "max_pages_reached", "max_memory_reached"):
        yield name, getattr(totals, name)
    yield from shared.limits_reached().items()


@section
def settings(shared: Shared, now_ms: int) -> Iterator[Row]:
    for name in JUDGED:
        yield name, getattr(shared.limits, name)


@section
def latency(shared: Shared, now_ms: int) -> Iterator[Row]:
    yield from delays.rows(shared.delays)


# What tools for Redis read


@section
def persistence(shared: Shared, now_ms: int) -> Iterator[Row]:
    yield "loading", int(shared.service.loading is not None)
    yield "rdb_bgsave_in_progress", 0
    yield "aof_enabled", 0
    yield "aof_rewrite_in_progress", 0


@section
def stats(shared: Shared, now_ms: int) -> Rows:
    reached = shared.limits_reached()
    yield "total_connections_received", shared.connections.accepted
    yield "total_commands_processed", shared.service.commands
    yield "instantaneous_ops_per_sec", shared.meter.verbs_per_s
    yield "total_error_replies", shared.service.errors
    yield "rejected_connections", reached["max_connections_reached"]
    yield "expired_keys", (yield from shared.totals()).expired
    yield "evicted_keys", 0
    yield "evicted_clients", reached["max_buffers_reached"]
    yield "pubsub_channels", shared.push.n_channels
    yield "pubsub_patterns", 0
    yield "latest_fork_usec", 0


@section
def replication(shared: Shared, now_ms: int) -> Iterator[Row]:
    yield "role", "master"
    yield "connected_slaves", 0
    yield "master_failover_state", "no-failover"
    yield "master_replid", shared.run_id
    yield "master_replid2", "0" * 40
    yield "master_repl_offset", 0
    yield "second_repl_offset", -1
    yield "repl_backlog_active", 0
    yield "repl_backlog_size", 0
    yield "repl_backlog_first_byte_offset", 0
    yield "repl_backlog_histlen", 0


@section
def cpu(shared: Shared, now_ms: int) -> Iterator[Row]:
    for suffix, who in (("", resource.RUSAGE_SELF), ("_children", resource.RUSAGE_CHILDREN)):
        used = resource.getrusage(who)
        yield f"used_cpu_sys{suffix}", f"{used.ru_stime:.6f}"
        yield f"used_cpu_user{suffix}", f"{used.ru_utime:.6f}"


@section
def cluster(shared: Shared, now_ms: int) -> Iterator[Row]:
    yield "cluster_enabled", 0


@section
def keyspace(shared: Shared, now_ms: int) -> Rows:
    """Show the people of all sites as keys, each of which expires."""
    people = yield from _sum(shared, lambda index: index.count(now_ms=now_ms))
    yield "db0", f"keys={people},expires={people},avg_ttl=0"


# Values


def _sum(shared: Shared, figure: Callable[[Index], int]) -> Pieces[int]:
    """Add up a figure of all sites."""
    total = 0
    for n, index in enumerate(list(shared.sites.values())):
        total += figure(index)
        if n % SITES_AT_ONCE == 0:
            yield
    return total


def human(n_bytes: int) -> str:
    """Write a size as Redis does.

    >>> [human(n) for n in (0, 1_023, 1_024, 1_572_864, 5 * 2**30)]
    ['0B', '1023B', '1.00K', '1.50M', '5.00G']
    """
    if n_bytes < 1024:
        return f"{n_bytes}B"
    size, unit = n_bytes / 1024, "K"
    for larger in "MGT":
        if size >= 1024:
            size, unit = size / 1024, larger
    return f"{size:.2f}{unit}"


def resident_bytes() -> int:
    """Return how much memory the process takes; where the system does not say, the most that it has taken."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
