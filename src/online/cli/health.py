"""The figures of a server's INFO -> findings: what is wrong with it, or with what reaches it.

Not here: to ask the server (doctor). docs/protocol.md explains the figures.
"""

from collections.abc import Iterator, Mapping

from online.cli.finding import NOTE, OK, PROBLEM, Finding
from online.cli.outcomes import in_words
from online.cli.words import many

Info = Mapping[str, Mapping[str, str]]

#: How full memory is when it is time to say so.
NEARLY_FULL = 0.8

#: Syslog datagrams that find less room in the kernel than this are easily lost.
SYSLOG_ROOM_BYTES = 4 * 1024 * 1024

_MORE_ROOM = "sysctl -w net.core.rmem_max=16777216 (deploy/sysctl.conf for good), and restart the server"

#: Limits that were reached -> what to do. Others of INFO limits are about single clients.
_LIMITS = {
    "max_users_reached": "raise --max-users",
    "max_pages_reached": "raise --max-pages, or let fewer queries be part of a url (keep_params)",
    "max_memory_reached": "raise --max-memory, or take a machine with more memory (online plan)",
    "max_connections_reached": "raise --max-connections, and the limit on open files with it",
    "max_buffers_reached": "find out which clients send without reading: CLIENT LIST",
    "max_sites_reached": "raise --max-sites",
    "open_files_reached": "raise the limit on open files: LimitNOFILE of the systemd unit, or ulimit -n",
    "wrong_token": "find out who has an old token; the log of the server names the addresses",
}


#: Those of them at which hits are refused.
_LIMITS_OF_HITS = ("max_users_reached", "max_pages_reached", "max_memory_reached", "max_sites_reached")


def findings(info: Info) -> Iterator[Finding]:
    """Yield what the figures say. Sections that a server does not have are passed over."""
    yield from _memory(info.get("Memory", {}))
    yield from _limits(info.get("Limits", {}))
    yield from _bus(info.get("Bus", {}))
    yield from _clocks(info.get("Server", {}), info.get("Hits", {}))
    if "Syslog" in info:
        yield from _syslog(info["Syslog"])
    if "Gateway" not in info:  # it keeps nothing, and the servers behind it count hits
        yield from _disk(info.get("Persistence", {}), info.get("History", {}))
        yield from _hits(info)


def number(rows: Mapping[str, str], name: str) -> int:
    """Return a figure; 0 if there is none, or it is no number."""
    text = rows.get(name, "")
    return int(text) if text.removeprefix("-").isdecimal() else 0


def _memory(rows: Mapping[str, str]) -> Iterator[Finding]:
    used, limit = number(rows, "used_memory"), number(rows, "max_memory")
    text = f"{used / 2**20:,.0f} MiB of the {limit / 2**20:,.0f} MiB that --max-memory allows"
    if limit and used > NEARLY_FULL * limit:
        yield Finding(PROBLEM, "memory", text, "raise --max-memory before hits are refused")
    else:
        yield Finding(OK, "memory", text)


def _limits(rows: Mapping[str, str]) -> Iterator[Finding]:
    reached = {name: number(rows, name) for name in _LIMITS if number(rows, name)}
    for name, times in reached.items():
        yield Finding(PROBLEM, "limits", f"{name}: {many(times, 'time')} since the start", _LIMITS[name])
    if not reached:
        yield Finding(OK, "limits", "none was reached")


def _disk(kept: Mapping[str, str], history: Mapping[str, str]) -> Iterator[Finding]:
    if "disk_status" not in kept:
        todo = "give --state DIRECTORY if a restart must not forget who is online"
        yield Finding(NOTE, "disk", "nothing is kept on disk", todo)
    elif kept["disk_status"] != "ok":
        text = f"the disk fails: {kept.get('last_disk_error') or kept['disk_status']}"
        yield Finding(PROBLEM, "disk", text, "fix the disk or free space; the server tries again by itself")
    else:
        yield Finding(OK, "disk", "the journal is written")
    if number(kept, "damaged_files"):
        text = f"{many(number(kept, 'damaged_files'), 'file')} of the state directory could not be read as a whole"
        yield Finding(PROBLEM, "disk", text, "look at them: online state check DIRECTORY")
    if number(history, "history_errors"):
        text = f"it cannot be written: {history.get('last_history_error', '')}"
        yield Finding(PROBLEM, "history", text, "fix the disk or free space")


def _bus(rows: Mapping[str, str]) -> Iterator[Finding]:
    if not rows:
        return
    status = rows.get("bus_status")
    if status in ("ok", "reading"):
        yield Finding(OK, "bus", f"reached; this server is {number(rows, 'lag_ms'):,} ms behind")
    elif status == "refusing":
        text = f"it takes no hits: {rows.get('bus_last_error')}"
        yield Finding(PROBLEM, "bus", text, "see that Redis or Valkey has memory left (maxmemory), and is a master")
    else:
        text = f"away: {rows.get('bus_last_error') or 'it does not answer'}"
        yield Finding(PROBLEM, "bus", text, "see that Redis or Valkey runs, and that this machine reaches it")
    if dropped := number(rows, "dropped"):
        yield Finding(PROBLEM, "bus", f"{many(dropped, 'hit')} dropped while the bus was away", "fix the bus")


def _clocks(server: Mapping[str, str], hits: Mapping[str, str]) -> Iterator[Finding]:
    trouble = False
    if steps := number(server, "clock_steps"):
        trouble = True
        yield Finding(NOTE, "clock", f"the server's clock was set {many(steps, 'time')}", "let chrony or ntpd keep it")
    if skewed := number(hits, "skewed"):
        trouble = True
        todo = "set the clocks of the machines that send hits: chrony or ntpd; look at the zone of times in logs"
        yield Finding(PROBLEM, "clock", f"{many(skewed, 'hit')} came from the future: more than 5 s", todo)
    if not trouble:
        yield Finding(OK, "clock", "no steps, and no hits from the future")


def _syslog(rows: Mapping[str, str]) -> Iterator[Finding]:
    received, hits = number(rows, "received"), number(rows, "hits")
    bad = number(rows, "skipped_not_understood")
    if foreign := number(rows, "foreign"):
        todo = "if the web server is among them, add its network to --syslog-from"
        yield Finding(PROBLEM, "syslog", f"{many(foreign, 'line')} came from networks that may not send", todo)
    if dropped := number(rows, "dropped"):
        todo = _MORE_ROOM
        yield Finding(PROBLEM, "syslog", f"the kernel dropped {many(dropped, 'line')}: no room", todo)
    elif number(rows, "buffer_bytes") < SYSLOG_ROOM_BYTES:
        text = f"the kernel has room for {number(rows, 'buffer_bytes') // 1024:,} KiB of lines only"
        yield Finding(NOTE, "syslog", text, _MORE_ROOM)
    if not received:
        todo = "tell the web server to send its log there: docs/nginx.md, docs/apache.md, docs/haproxy.md"
        yield Finding(PROBLEM, "syslog", "nothing has arrived", todo)
    elif bad > received // 100:
        todo = "give the format of the lines: --syslog-format"
        yield Finding(PROBLEM, "syslog", f"{bad:,} of {many(received, 'line')} were not understood", todo)
    elif not hits:
        most = max((name for name in rows if name.startswith("skipped_")), key=lambda name: number(rows, name))
        text = f"{many(received, 'line')}, and no page view among them; most are {in_words(most[len('skipped_') :])}"
        yield Finding(PROBLEM, "syslog", text, "see what the rules leave out: docs/log-stream.md")
    else:
        yield Finding(OK, "syslog", f"{many(received, 'line')}, {many(hits, 'page view')}")


def _hits(info: Info) -> Iterator[Finding]:
    rows = info.get("Hits", {})
    accepted, over_syslog = number(rows, "accepted"), number(info.get("Syslog", {}), "hits")
    direct = max(0, accepted - over_syslog)
    if not accepted:
        todo = "connect a web server or an application: the README lists the guides; to try: online query hit ada /"
        yield Finding(PROBLEM, "hits", "none has come since the start", todo)
    elif not number(rows, "users"):
        todo = "see whether the web server or application still sends: --visit URL tries it"
        yield Finding(PROBLEM, "hits", f"{many(accepted, 'hit')} came, but none within the window", todo)
    else:
        text = f"{accepted:,} received: {over_syslog:,} over syslog, {direct:,} from applications and feeds"
        yield Finding(OK, "hits", text)
    if (late := number(rows, "late")) > max(100, accepted // 10):
        todo = "see whether a log is read from its beginning, or a clock is behind"
        yield Finding(NOTE, "hits", f"{late:,} were older than the window when they came", todo)
    yield from _refused(info, number(rows, "refused"))


def _refused(info: Info, refused: int) -> Iterator[Finding]:
    """Say why hits were refused, as far as the figures tell: at limits, for users of other servers, or else."""
    at_limits = min(refused, sum(number(info.get("Limits", {}), name) for name in _LIMITS_OF_HITS))
    moved = number(info.get("Map", {}), "moved_hits")
    others = max(0, refused - at_limits - moved)
    if not refused:
        return
    causes = [f"{at_limits:,} at a limit"] * bool(at_limits)
    causes += [f"{moved:,} of users whom the map gives to others"] * bool(moved)
    causes += [f"{others:,} malformed or not allowed"] * bool(others)
    todo = ["see the findings about limits above"] * bool(at_limits)
    todo += ["let senders read the map again"] * bool(moved)
    todo += ["the error that each sender got says why: look at its log"] * bool(others)
    yield Finding(PROBLEM, "hits", f"{refused:,} were refused: {', '.join(causes)}", "; ".join(todo))
