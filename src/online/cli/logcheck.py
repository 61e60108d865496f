"""The end of an access log -> findings: can it be read, is its format understood, do its lines become page views?

Not here: formats (logs.formats), and what a page view is (logs.pages).
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from online.cli.finding import NOTE, OK, PROBLEM, Finding
from online.cli.outcomes import Outcomes
from online.cli.words import many, spoken_age, utc
from online.logs.hitlog import MAX_LINE_BYTES, TOO_LONG
from online.logs.pages import Pages, PageView, guest_key
from online.logs.records import Read
from online.logs.rules import Rules

#: Where web servers write their logs unless told otherwise: nginx, Apache on Debian and on others, Caddy.
USUAL_LOGS = (
    "/var/log/nginx/access.log",
    "/var/log/apache2/access.log",
    "/var/log/httpd/access_log",
    "/var/log/caddy/access.log",
)

#: How much of the end of a log is looked at.
LOOKED_AT_BYTES = 256 * 1024

#: A log whose newest page view is older than this looks as if nobody wrote it any more.
QUIET_S = 600

#: So many page views of one guest, and of nobody else, look as if a proxy's address stood in place of visitors'.
MANY_OF_ONE = 20

_SPOKEN = {"member": "members", "guest": "guests", "hidden": "hidden users", "bot": "bots"}


def findings(log: str, read: Read, rules: Rules, *, now_ms: int) -> Iterator[Finding]:
    """Look at the last LOOKED_AT_BYTES of a log."""
    try:
        lines = last_lines(log)
    except PermissionError:
        owner, group = _owners(log)
        todo = f"run as {owner}, or as a member of the group {group}: usermod -a -G {group} USER"
        yield Finding(PROBLEM, "log", f"{log} cannot be read by this user", todo)
        return
    except OSError as error:
        todo = "give the path of the web server's access log: --log FILE"
        yield Finding(PROBLEM, "log", f"{log}: {error.strerror}", todo)
        return
    if not lines:
        todo = "open a page of the site; if it stays empty, the web server writes another log, or none"
        yield Finding(PROBLEM, "log", f"{log} is empty", todo)
        return
    outcomes, views = _parsed(lines, read, rules, log)
    if not views:
        yield _without_views(log, outcomes)
        return
    yield Finding(OK, "log", f"{log}, its end: {outcomes.in_short()}")
    if outcomes.not_understood:
        text = f"line not understood: {outcomes.samples[0].text}: {outcomes.samples[0].reason}"
        yield Finding(NOTE, "log", text, "give the format of the lines: --format")
    yield from _people(views, rules)
    yield from _age(max(view.seen_ms for view in views), now_ms)


def last_lines(log: str) -> list[bytes]:
    """Return the complete lines at the end of a file, without their newlines. Raises OSError."""
    with open(log, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOOKED_AT_BYTES))
        lines = file.read(LOOKED_AT_BYTES).split(b"\n")
    return [line for line in islice(lines, 1 if size > LOOKED_AT_BYTES else 0, len(lines) - 1) if line]


def _parsed(lines: list[bytes], read: Read, rules: Rules, log: str) -> tuple[Outcomes, list[PageView]]:
    outcomes, views = Outcomes(), []
    pages = Pages(read, rules, key=guest_key(None))
    for line in lines:
        outcomes.lines += 1
        found = pages.parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
        if isinstance(found, str):
            outcomes.take(found, line, log)
        else:
            outcomes.hits += 1
            views.append(found)
    return outcomes, views


def _without_views(log: str, outcomes: Outcomes) -> Finding:
    if outcomes.is_nothing_understood:
        text = f"{log}: no line is understood, such as {outcomes.samples[0].text}: {outcomes.samples[0].reason}"
        return Finding(PROBLEM, "log", text, "give the format of the lines: --format; docs/nginx.md shows some")
    rows = "; ".join(" ".join(row.split()) for row in outcomes.table())
    text = f"{log}, its end: no page view in {many(outcomes.lines, 'line')}: {rows}"
    return Finding(PROBLEM, "log", text, "see that this is the log of the site, and what the rules leave out")


def _people(views: list[PageView], rules: Rules) -> Iterator[Finding]:
    """Say who the page views are of, and whether all seem to be one visitor."""
    kinds = Counter(view.kind for view in views)
    told = ", ".join(f"{kinds[kind]:,} of {spoken}" for kind, spoken in _SPOKEN.items() if kinds[kind])
    guests = {view.user for view in views if view.kind == "guest"}
    if len(guests) == 1 and kinds["guest"] >= MANY_OF_ONE and not rules.trust_proxy:
        text = f"page views: {told}; all guests look like one visitor"
        todo = (
            "if there is a proxy or load balancer, log the visitors' addresses (X-Forwarded-For), and name the proxy: "
            "--trust-proxy NETWORK"
        )
        yield Finding(NOTE, "visitors", text, todo)
    else:
        yield Finding(OK, "visitors", f"page views: {told}")


def _age(newest_ms: int, now_ms: int) -> Iterator[Finding]:
    age = timedelta(milliseconds=now_ms - newest_ms)
    if age < timedelta(seconds=-5):
        todo = "set the clocks of both machines: chrony or ntpd; a time without its zone is read as UTC"
        yield Finding(PROBLEM, "log", f"its newest page view is of {utc(newest_ms)} UTC, in the future", todo)
    elif age > timedelta(seconds=QUIET_S):
        todo = "open a page of the site and look again; if nothing changes, the web server writes another log"
        yield Finding(NOTE, "log", f"its newest page view is {spoken_age(age)} old", todo)


def _owners(log: str) -> tuple[str, str]:
    """Return the names of the user and the group that own a file or, if that is hidden, its folder."""
    import grp
    import pwd

    for path in (log, os.path.dirname(log) or "."):
        try:
            status = os.stat(path)
            return pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name
        except (OSError, KeyError):
            continue
    return "its owner", "its group"
