"""`online doctor`: looks at a running server, at what reaches it and at its machine, and says what is missing.

Not here: what figures of a server mean (health), and what is wrong with a log (logcheck).

1. It changes nothing, but for the one page view that --visit asks for.
2. What cannot be looked at from here, such as files of another machine, is passed over.
"""

import argparse
import json
import os
import shutil
import stat
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from online import __version__
from online.cli import health, logcheck
from online.cli.arguments import add_server_argument, with_token
from online.cli.finding import LEVELS, NOTE, OK, PROBLEM, Finding, as_text
from online.cli.health import Info, number
from online.cli.serve import SPARE_FILES
from online.cli.words import explained, many, readable, spoken_age
from online.errors import ConfigError
from online.logs.hitlog import add_format_arguments, read_from
from online.logs.records import Read
from online.logs.rules import Rules, add_rule_arguments, rules_from
from online.serve import loading
from online_client import AddressError, Client, OnlineError, ProtocolError, TokenWantedError, WrongTokenError
from online_client.address import Address

TIMEOUT_S = 5.0

WIDTH = 100  #: of lines, at most

#: How long a page view of --visit may take to reach the server: a log may be written with a delay.
PATIENCE_S = 5.0

#: A server's clock that is this far from ours is worth a word.
CLOCK_DIFFERENCE_S = 2.0

#: The state directory wants at least this much room, or so many times the memory of all sessions: two snapshots, a
#: third while it is written, and the journal.
STATE_ROOM_BYTES, STATE_ROOM_FACTOR = 512 * 2**20, 4

#: What --visit says it is. A bot would be counted apart.
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"

_DESCRIPTION = """\
Look at a running server and at what reaches it, and say in plain words what is missing and what to do: the address and
the token, memory, limits, disk and clocks, syslog, the access log of the web server, and whether hits come in. On the
server's own machine it also looks at the limit on open files and at the state directory.

It changes nothing, unless --visit asks for one page of the site: then it opens that page, as a browser would, and sees
whether a hit reaches the server."""

_EPILOG = """\
examples:
  online doctor
  online doctor --log /var/log/nginx/access.log
  online doctor --visit https://www.example.org/forum/1
  online doctor --config /etc/online/online.toml --json
  ONLINE_URL=online://shop:token@192.0.2.1 online doctor

exit codes: 0 no problem was found, 1 at least one was, 2 a wrong address or option"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online doctor`."""
    parser.usage = "online doctor [--log FILE ...] [--visit URL] [OPTION ...]"
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_server_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--log",
        metavar="FILE",
        action="append",
        help="an access log of the web server (default: the usual ones of nginx, Apache and Caddy that exist)",
    )
    parser.add_argument("--visit", metavar="URL", help="open this page of the site, and see whether a hit comes in")
    parser.add_argument("--config", metavar="FILE", help="the server's file of settings (ONLINE_CONFIG)")
    parser.add_argument("--state", metavar="DIR", help="the server's state directory (default: as in the settings)")
    add_format_arguments(parser)
    add_rule_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything and show it; return the exit code. Raises ConfigError for wrong options."""
    if args.visit is not None and urlsplit(args.visit).scheme not in ("http", "https"):
        raise ConfigError(f"--visit takes a url that begins with http:// or https://, not {args.visit!r}")
    try:
        client = Client(with_token(args.server), timeout=TIMEOUT_S)
    except AddressError as error:
        raise ConfigError(explained(error)) from None
    with client:
        found = list(_look(client, args))
    if args.json:
        rows = [finding._asdict() for finding in found]
        print(json.dumps({"problems": _count(found, PROBLEM), "findings": rows}, indent=2))
    else:
        for line in as_text(found, min(shutil.get_terminal_size().columns, WIDTH)):
            print(line)
        told = ", ".join(many(_count(found, level), level) for level in reversed(LEVELS[1:]))
        print(f"\n{told}." if _count(found, PROBLEM) or _count(found, NOTE) else "\nNo problems found.")
    return 1 if _count(found, PROBLEM) else 0


def _count(found: list[Finding], level: str) -> int:
    return sum(finding.level == level for finding in found)


def _look(client: Client, args: argparse.Namespace) -> Iterator[Finding]:
    read, rules = read_from(args), rules_from(args)
    info, state = None, args.state and Path(args.state)
    try:
        settings = loading.load({"config": args.config}, os.environ)
        state = state or settings.state
    except ConfigError as error:
        yield Finding(PROBLEM, "settings", str(error), "correct it, and check with: online config")
    try:
        info = client.info()
        yield from _server(client, info)
    except OnlineError as error:
        yield _unreached(client.address, error)
    if info is not None and not number(info.get("Persistence", {}), "loading"):
        yield from health.findings(info)
    if info is not None and is_here(client.address):
        yield from _open_files(info)
    if state is not None:
        yield from _state(state, info or {})
    yield from _logs(args, read, rules)
    if info is not None and args.visit is not None:
        yield from _visit(client, args.visit)


# The server


def _unreached(address: Address, error: OnlineError) -> Finding:
    if isinstance(error, TokenWantedError | WrongTokenError):
        return Finding(PROBLEM, "server", f"{address} answers, but refuses us: {explained(error)}")
    if isinstance(error, ProtocolError):
        return Finding(PROBLEM, "server", f"{address}: {explained(error)}", "give its address: --url, or ONLINE_URL")
    todo = "start it: online serve, or systemctl start online; if it listens elsewhere, give --url"
    return Finding(PROBLEM, "server", explained(error), todo)


def _server(client: Client, info: Info) -> Iterator[Finding]:
    """Say that the server answers, of which version it is, and how far its clock is from ours."""
    rows = info.get("Server", {})
    version = rows.get("version", "of an unknown version")
    up = spoken_age(timedelta(seconds=number(rows, "uptime_in_seconds")))
    yield Finding(OK, "server", f"answers at {client.address}: online {version}, up for {up}")
    if version != __version__:
        todo = "restart the server after an update; older clients work with newer servers"
        yield Finding(NOTE, "server", f"it is version {version}, this command is {__version__}", todo)
    if number(info.get("Persistence", {}), "loading"):
        yield Finding(NOTE, "server", "it is still reading its state", "look again when it has")
    if number(info.get("Clients", {}), "auth_without_token"):
        todo = "give it one: --token-file"
        yield Finding(NOTE, "token", "clients send a token, but the server has none and lets everybody in", todo)
    behind_s = (datetime.now(UTC) - client.time()).total_seconds()
    if abs(behind_s) > CLOCK_DIFFERENCE_S:
        text = f"the server's clock is {abs(behind_s):,.0f} s {'behind' if behind_s > 0 else 'ahead of'} this machine's"
        yield Finding(PROBLEM, "clock", text, "set both: chrony or ntpd")


# The machine


def is_here(address: Address) -> bool:
    """Whether a server at `address` runs on this machine."""
    if address.path or address.host == "localhost":
        return True
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return False


def _open_files(info: Info) -> Iterator[Finding]:
    """Compare the limit of the server's process with what its connections take. Linux tells it."""
    pid, wanted = number(info.get("Server", {}), "process_id"), number(info.get("Clients", {}), "maxclients")
    try:
        if b"online" not in Path(f"/proc/{pid}/cmdline").read_bytes():  # of another machine, behind a tunnel
            return
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return
    soft = next((line.split()[3] for line in lines if line.startswith("Max open files")), "")
    if soft.isdecimal() and int(soft) < wanted + SPARE_FILES:
        text = f"the server may open {int(soft):,} files, too few for --max-connections {wanted}"
        todo = f"LimitNOFILE={wanted + SPARE_FILES} in the systemd unit, or ulimit -n, or a lower --max-connections"
        yield Finding(PROBLEM, "open files", text, todo)
    else:
        yield Finding(OK, "open files", f"the limit is {soft}, enough for {many(wanted, 'connection')}")


def _state(path: Path, info: Info) -> Iterator[Finding]:
    """Look at the permissions of the state directory, its owner, and the room on its disk."""
    try:
        status = path.stat()
        room = shutil.disk_usage(path).free
    except OSError as error:
        todo = "see that the server has the same --state, and this user may look there"
        yield Finding(PROBLEM, "state", f"{path}: {error.strerror}", todo)
        return
    wanted = max(STATE_ROOM_BYTES, STATE_ROOM_FACTOR * number(info.get("Memory", {}), "used_memory"))
    text = f"{path}: {room / 2**20:,.0f} MiB are free"
    if room < wanted:
        todo = f"make room: {wanted / 2**20:,.0f} MiB hold two snapshots and the journal"
        yield Finding(PROBLEM, "state", text, todo)
    else:
        yield Finding(OK, "state", text)
    if stat.S_IMODE(status.st_mode) & 0o077:
        todo = f"chmod 700 {path}"
        yield Finding(PROBLEM, "state", f"{path}: other users of this machine may read who was online", todo)
    owner = _owner_of(number(info.get("Server", {}), "process_id"))
    if owner not in (None, 0, status.st_uid):
        todo = f"chown -R to the user that the server runs as: {owner}"
        yield Finding(PROBLEM, "state", f"{path} belongs to another user than the server's", todo)


def _owner_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid if pid else None
    except OSError:
        return None


def _logs(args: argparse.Namespace, read: Read, rules: Rules) -> Iterator[Finding]:
    logs = args.log if args.log is not None else [log for log in logcheck.USUAL_LOGS if os.path.exists(log)]
    if not logs:
        todo = "to look at one: --log FILE (not needed if the application itself reports hits)"
        yield Finding(NOTE, "log", "no access log at its usual place", todo)
    for log in logs:
        for finding in logcheck.findings(log, read, rules, now_ms=time.time_ns() // 1_000_000):
            is_guess = args.log is None and finding.level == PROBLEM  # perhaps nobody wants this log
            yield finding._replace(level=NOTE) if is_guess else finding


# A page view on trial


def _visit(client: Client, url: str) -> Iterator[Finding]:
    """Open a page, and wait for a hit of it."""
    began = datetime.now(UTC) - timedelta(seconds=CLOCK_DIFFERENCE_S)
    request = urllib.request.Request(url, headers={"User-Agent": _BROWSER, "Accept": "text/html"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            path = urlsplit(answer.url).path or "/"
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        yield Finding(PROBLEM, "visit", f"{url} cannot be opened: {readable(str(reason))}", "see that the site runs")
        return
    until_s = time.monotonic() + PATIENCE_S
    while True:
        newest = client.recent().users
        if any(each.url.endswith(path) and each.seen_at >= began for each in newest):
            yield Finding(OK, "visit", f"{url} was opened, and its hit came in")
            return
        if time.monotonic() > until_s:
            break
        time.sleep(0.1)
    todo = (
        "see that the web server sends its log (syslog or online feed) or the application reports page views, to this "
        "server and to the same site"
    )
    yield Finding(PROBLEM, "visit", f"{url} was opened, but no hit of {path} came in {PATIENCE_S:.0f} s", todo)
