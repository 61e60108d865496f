"""/metrics: what INFO tells, in OpenMetrics, with figures of each site and times of questions.

Not here: to count anything but questions over HTTP (info, and who it asks). The table below names every figure of
INFO: as a metric, or as one that is left out, and why. A test holds it against INFO.

Base units, few labels: site, kind, reason, verb.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from online import __version__
from online.http.questions import COUNTED
from online.pieces import Pieces
from online.serve import info
from online.serve.delays import BUCKETS, Delays
from online.serve.meter import Histogram
from online.serve.verb import Shared

CONTENT_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

#: Sites with metrics of their own, those with most people first: a host name that anybody may send can be a site.
MOST_SITES = 100


class Metric(NamedTuple):
    """A metric that one or more figures of INFO are samples of."""

    name: str  #: without online_ and _total
    kind: str  #: gauge or counter
    help: str
    unit: str = ""
    scale: float = 1


_HITS = Metric("hits", "counter", "Hits and leaves by outcome; skewed ones are also counted as accepted.")
_LIMIT = Metric("limit_reached", "counter", "How often each limit was reached.")
_CPU = Metric("cpu_seconds", "counter", "Processor time of the server.", "seconds")
_SYSLOG_SKIPPED = Metric("syslog_skipped", "counter", "Lines of syslog that are not hits, by reason.")

#: Those that are not figures of INFO.
_BUILD = Metric("build", "info", "The version that runs.")
_PEOPLE = Metric("people", "gauge", "Who is online now, by kind; all but bots are people.")
_PEAK = Metric("people_peak", "gauge", "The most people ever online at once.")
_TURN = Metric("turn_seconds", "histogram", "How long turns of the reactor took.", "seconds")
_QUESTION = Metric("question_seconds", "histogram", "How long questions over HTTP took.", "seconds")

#: Metrics with labels, and these.
LABELS = {
    _BUILD: ("version",),
    _PEOPLE: ("site", "kind"),
    _PEAK: ("site",),
    _TURN: ("le",),
    _QUESTION: ("verb", "le"),
    _HITS: ("reason",),
    _LIMIT: ("reason",),
    _CPU: ("reason",),
    _SYSLOG_SKIPPED: ("reason",),
}


def _gauge(name: str, text: str, unit: str = "", scale: float = 1) -> tuple[Metric, str]:
    return Metric(name, "gauge", text, unit, scale), ""


def _counter(name: str, text: str, unit: str = "", scale: float = 1) -> tuple[Metric, str]:
    return Metric(name, "counter", text, unit, scale), ""


#: By section and figure of INFO: the metric, and the value of the label reason where it has one.
METRICS: dict[tuple[str, str], tuple[Metric, str]] = {
    ("server", "uptime_in_seconds"): _gauge("uptime_seconds", "Time since the start.", "seconds"),
    ("server", "window_s"): _gauge("window_seconds", "How long a hit keeps its user online.", "seconds"),
    ("server", "clock_steps"): _counter("clock_steps", "How often the wall clock was set."),
    ("clients", "connected_clients"): _gauge("connections", "Connections that are open."),
    ("clients", "connections_accepted"): _counter("connections_accepted", "Connections that were accepted."),
    ("clients", "connections_failed"): _counter("connections_failed", "Connections that a fault of the server ended."),
    ("clients", "commands"): _counter("commands", "Messages that were answered; a batch is one."),
    ("clients", "errors"): _counter("errors", "Messages that were answered with an error."),
    ("clients", "auth_without_token"): _counter("auth_without_token", "Tokens received although none is configured."),
    ("clients", "auth_to_new_site"): _counter("auth_to_new_site", "Logins to a site without any hits."),
    ("clients", "maxclients"): _gauge("max_connections", "Connections that may be open at once."),
    ("memory", "used_memory"): _gauge("memory_used_bytes", "Memory of all sites.", "bytes"),
    ("memory", "used_memory_rss"): _gauge("memory_resident_bytes", "Memory of the process.", "bytes"),
    ("memory", "max_memory"): _gauge("memory_limit_bytes", "Memory that all sites may take.", "bytes"),
    ("memory", "buffered_bytes"): _gauge("buffered_bytes", "Waiting input and output of all connections.", "bytes"),
    ("memory", "max_buffers"): _gauge("buffer_limit_bytes", "The most input and output that may wait.", "bytes"),
    **{("hits", name): (_HITS, name) for name in ("accepted", "late", "stale", "skewed", "refused")},
    ("hits", "expired"): _counter("sessions_expired", "Users whose last hit has left the window."),
    ("hits", "overdue"): _gauge("sessions_overdue", "Expired sessions that are still in memory."),
    ("hits", "users"): _gauge("sessions", "Users in the window, including those who left."),
    ("hits", "pages"): _gauge("pages", "Pages with at least one user."),
    ("sites", "sites"): _gauge("sites", "Sites with at least one hit since the start."),
    ("push", "subscriptions"): _gauge("subscriptions", "Subscriptions of all connections together."),
    ("push", "channels"): _gauge("channels", "Channels that somebody is subscribed to."),
    ("push", "events"): _counter("events", "States of channels that were sent."),
    ("push", "events_skipped"): _counter("events_skipped", "States skipped because the reader was too slow."),
    ("bus", "lag_ms"): _gauge("bus_lag_seconds", "How far behind the bus this server is.", "seconds", 0.001),
    ("bus", "lag_entries"): _gauge("bus_lag_entries", "Entries of the bus that are not yet applied."),
    ("bus", "published_hits"): _counter("bus_published_hits", "Hits that this server has put on the bus."),
    ("bus", "applied_hits"): _counter("bus_applied_hits", "Hits that came from the bus."),
    ("bus", "refused_hits"): _counter("bus_refused_hits", "Hits of the bus of other sites, or beyond a limit."),
    ("bus", "foreign_hits"): _counter("bus_foreign_hits", "Hits of the bus whose users are another partition's."),
    ("bus", "dropped"): _counter("bus_dropped", "Hits and leaves dropped while the bus was away."),
    ("bus", "poisoned_entries"): _counter("bus_poisoned_entries", "Entries that could not be read."),
    ("bus", "retries"): _counter("bus_retries", "Attempts to reach the bus that failed."),
    ("bus", "gaps"): _counter("bus_gaps", "Times that entries were missing on the bus."),
    ("map", "map_version"): _gauge("map_version", "Version of the map of partitions."),
    ("map", "slots"): _gauge("map_slots", "Slots of users that this server owns."),
    ("map", "moved_hits"): _counter("map_moved_hits", "Hits refused because their users are another server's."),
    ("map", "dropped_users"): _counter("map_dropped_users", "Users dropped because their slots went to others."),
    ("map", "came_from_gaps"): _counter("map_came_from_gaps", "Streams of others that had lost a part of the window."),
    ("cpu", "used_cpu_sys"): (_CPU, "system"),
    ("cpu", "used_cpu_user"): (_CPU, "user"),
    ("persistence", "loading"): _gauge("loading", "1 while the server reads its state from disk."),
    ("persistence", "loading_loaded_perc"): _gauge("load_ratio", "How much of the state has been read.", "ratio", 0.01),
    ("persistence", "journal_bytes"): _gauge("journal_bytes", "Size of the journal on disk.", "bytes"),
    ("persistence", "journal_written_bytes"): _counter("journal_written_bytes", "Written to the journal.", "bytes"),
    ("persistence", "last_sync_ms"): _gauge("last_sync_timestamp_seconds", "When the last sync was.", "seconds", 0.001),
    ("persistence", "last_snapshot_ms"): _gauge(
        "last_snapshot_timestamp_seconds", "When the last snapshot was taken.", "seconds", 0.001
    ),
    ("persistence", "last_snapshot_bytes"): _gauge("last_snapshot_bytes", "Size of the last snapshot.", "bytes"),
    ("persistence", "disk_errors"): _counter("disk_errors", "Times that the disk failed."),
    ("persistence", "damaged_files"): _gauge("damaged_files", "Files of the state found damaged at the start."),
    ("persistence", "torn_bytes"): _gauge("torn_bytes", "Bytes cut off the end of the journal at the start.", "bytes"),
    ("history", "history_minutes"): _counter("history_rows", "Rows written to the history: a site and minute each."),
    ("history", "history_errors"): _counter("history_errors", "Times that the history could not be read or written."),
    ("history", "last_seen_lost"): _counter("last_seen_lost", "Sessions that ended without a record of it."),
    ("syslog", "received"): _counter("syslog_lines", "Lines received over syslog."),
    ("syslog", "hits"): _counter("syslog_hits", "Lines of syslog that are hits."),
    ("syslog", "foreign"): _counter("syslog_foreign", "Lines from networks that may not send."),
    ("syslog", "dropped"): _counter("syslog_dropped", "Lines that the kernel dropped for lack of room."),
    ("syslog", "buffer_bytes"): _gauge("syslog_buffer_bytes", "Size of the kernel's buffer for lines.", "bytes"),
}

#: Figures that say the same as others, in words or under a name that Redis gave them, or that are no numbers.
LEFT_OUT = {
    "latency": None, "settings": None,
    "server": {"version", "redis_version", "redis_mode", "os", "arch_bits", "process_id", "run_id", "tcp_port",
               "server_time_usec", "uptime_in_days", "clock_step_ms"},
    "clients": {"blocked_clients"},
    "memory": {"used_memory_human", "used_memory_peak", "used_memory_peak_human", "total_system_memory", "maxmemory",
               "maxmemory_human", "maxmemory_policy", "mem_clients_normal"},
    "history": {"history_days", "last_seen_days", "last_history_error"},
    "stats": None, "replication": None, "cluster": None, "keyspace": None,
    "persistence": {"rdb_bgsave_in_progress", "aof_enabled", "aof_rewrite_in_progress", "loading_eta_seconds", "sync",
                    "on_disk_error", "journal_segment", "snapshot_in_progress", "last_snapshot_users", "disk_status",
                    "last_disk_error"},
    "cpu": {"used_cpu_sys_children", "used_cpu_user_children"},
}  # fmt: skip


#: How long questions over HTTP took, by verb.
Times = defaultdict[str, Histogram]


def write(shared: Shared, times: Times, now_ms: int, own: bytes | None = None) -> Pieces[bytes]:
    """Return the whole page, of the site `own` alone if there is one, in pieces. O(sites)."""
    figures = yield from _figures(shared, now_ms)
    lines = [
        *_head(_BUILD),
        f'online_build_info{{version="{__version__}"}} 1',
        *figures,
        *_sites(shared, now_ms, own),
        *_turns(shared.delays),
        *_times(times),
        "# EOF\n",
    ]
    return "\n".join(lines).encode()


def _head(metric: Metric) -> Iterator[str]:
    name = f"online_{metric.name}"
    yield f"# TYPE {name} {metric.kind}"
    if metric.unit:
        yield f"# UNIT {name} {metric.unit}"
    yield f"# HELP {name} {metric.help}"


def _figures(shared: Shared, now_ms: int) -> Pieces[list[str]]:
    """Return what INFO tells: samples of one metric side by side."""
    samples: dict[Metric, list[str]] = {}
    for section in dict.fromkeys([*info.SECTIONS, *shared.sections]):
        if LEFT_OUT.get(section, ()) is None:
            continue
        rows = yield from info.rows_of(shared, section, now_ms)
        for name, value in rows.items():
            metric, reason = metric_of(section, name)
            number = _number(value)
            if metric is not None and number is not None:
                label = f'{{reason="{reason}"}}' if reason else ""
                total = "_total" if metric.kind == "counter" else ""
                sample = f"online_{metric.name}{total}{label} {number * metric.scale:.15g}"
                samples.setdefault(metric, []).append(sample)
    return [line for metric, its_samples in samples.items() for line in (*_head(metric), *its_samples)]


def metric_of(section: str, name: str) -> tuple[Metric | None, str]:
    """Return the metric of a figure of INFO with its reason, or None if it has none."""
    if (section, name) in METRICS:
        return METRICS[section, name]
    if section == "limits":
        return _LIMIT, name.removesuffix("_reached")
    if section == "syslog":
        return _SYSLOG_SKIPPED, name.removeprefix("skipped_")
    return None, ""


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _sites(shared: Shared, now_ms: int, own: bytes | None) -> Iterator[str]:
    """Yield how many people are on each site, by kind, and the most ever."""
    found = [(name, index) for name, index in shared.sites.items() if own in (None, name)]
    if len(found) > MOST_SITES:
        found = sorted(found, key=lambda each: each[1].count(now_ms=now_ms), reverse=True)[:MOST_SITES]
    yield from _head(_PEOPLE)
    for name, index in found:
        for kind, n in zip(COUNTED, index.kinds(now_ms=now_ms), strict=True):
            singular = kind.removesuffix("s")
            yield f'online_people{{site="{_escaped(name)}",kind="{singular}"}} {n}'
    yield from _head(_PEAK)
    for name, index in found:
        yield f'online_people_peak{{site="{_escaped(name)}"}} {index.peak()[0]}'


def _turns(delays: Delays) -> Iterator[str]:
    """Yield how long turns of the reactor took, by powers of two of a microsecond. Their sum is not known."""
    yield from _head(_TURN)
    seen = 0
    for n, count in enumerate(delays.event("turn").counts):
        seen += count
        bound = f"{2**n / 1e6:.9g}" if n < BUCKETS - 1 else "+Inf"
        yield f'online_turn_seconds_bucket{{le="{bound}"}} {seen}'


def _times(times: Times) -> Iterator[str]:
    yield from _head(_QUESTION)
    for verb, histogram in sorted(times.items()):
        yield from _histogram("question_seconds", f'verb="{verb}"', histogram)


def _histogram(name: str, label: str, histogram: Histogram) -> Iterator[str]:
    """Yield the samples of a histogram, with a label or none."""
    labels = f"{{{label}}}" if label else ""
    for bound, n in histogram.cumulated():
        le = f'le="{bound}"'
        yield f"online_{name}_bucket{{{f'{label},{le}' if label else le}}} {n}"
    yield f"online_{name}_count{labels} {histogram.n}"
    yield f"online_{name}_sum{labels} {histogram.sum_s:.9g}"


def _escaped(name: bytes) -> str:
    r"""Return a site as the value of a label: bytes that are not UTF-8 as \xff, a backslash of its own as two.

    So no two sites have the same. The label then has each backslash doubled once more, as OpenMetrics wants it.

    >>> print(_escaped(b'a"b\n'), _escaped(b"\xff"), _escaped(rb"\xff"))
    a\"b\n \\xff \\\\xff
    """
    text = name.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
