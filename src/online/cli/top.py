"""`online top`: a live view of a running server on a terminal: people, hits, the top pages, the newest users.

Not here: the layout of a frame and the keys (top_screen), requests and replies (online_client.verbs).

1. However it ends, it restores the terminal.
2. One thread waits for keys, signals and the time of the next frame. Only a query to the server blocks it, for at most
   TIMEOUT_S.
"""

import argparse
import io
import os
import signal
import sys
import termios
import time
import tty
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from select import select
from typing import Any, TypeVar
from urllib.parse import quote

from rich.console import Console

from online.cli.arguments import add_server_argument, time_of, with_token
from online.cli.signals import ENDING, IGNORED
from online.cli.top_screen import PAGES, USERS, Figures, Rate, Snapshot, View, keys, press, render
from online.cli.words import explained
from online_client import AddressError, Client, OnlineError, Peak, ProtocolError, RangeError, ServerError, TopPage
from online_client.verbs import MAX_LIMIT

TIMEOUT_S = 2.0
INTERVAL_MIN_S, INTERVAL_MAX_S = 0.1, 3_600.0

#: If the server does not answer, the pause before a retry doubles from the first to the second of these.
RETRY_MIN_S, RETRY_MAX_S = 0.5, 8.0

#: Without SIGINT, which raises KeyboardInterrupt; that restores the terminal too.
_ENDING = tuple(number for number in ENDING if number != signal.SIGINT)

T = TypeVar("T")

_DESCRIPTION = """\
Watch a running server: how many people and bots are online, hits per second, the pages with the most people, and the
newest users. The last line lists the keys; ? explains them. If the server cannot be reached, the view shows why and
continues when the server is back.

Without a terminal, or on a dumb one, it prints one frame and exits.

SIGTERM, SIGHUP and SIGQUIT stop it cleanly, like q; SIGUSR1, SIGUSR2 and SIGALRM are ignored. SIGINT (Ctrl-C) stops it
with exit code 130."""

_EPILOG = """\
examples:
  online top
  online top --interval 0.5
  online top --once
  ONLINE_URL=online://shop:token@192.0.2.1 online top
  online top --url online+unix:///run/online.sock"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online top`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_server_argument(parser)
    parser.add_argument(
        "--interval",
        metavar="TIME",
        type=time_of(INTERVAL_MIN_S, INTERVAL_MAX_S),
        default=2.0,
        help="time between frames (default: 2s)",
    )
    parser.add_argument("--once", action="store_true", help="print one frame and exit")


def run(args: argparse.Namespace) -> int:
    """Show frames until a key or a signal stops it.

    Returns 0; 1 if there is only one frame and the server did not answer; 2 for a wrong address.
    """
    try:
        client = Client(with_token(args.server), timeout=TIMEOUT_S)
    except AddressError as error:
        print(f"online top: {explained(error)}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # ? for characters that the encoding lacks
    console = Console(highlight=False)
    can_live = console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty() and sys.stdout.isatty()
    view = View(interval_s=args.interval, is_live=can_live and not args.once)
    with client:
        if not view.is_live:
            return _show_once(client, view, console)
        watcher = Watcher(client)
        while not view.has_ended:
            view = _show(watcher, view, console)
            if not view.has_ended:
                signal.raise_signal(signal.SIGTSTP)  # returns when the shell resumes the command
    return 0


# Asking


def ask(client: Client, view: View, rows: int, before: Rate | None) -> Figures:
    """Query the server for a frame with up to `rows` rows in each list: eight queries, more if its limit is lower.

    Raises OnlineError.
    """
    shown_pages, shown_users = view.lists
    info = client.info()
    site = _site_info(info, client.address.site)
    accepted, now_s = int(site.get("accepted", 0)), time.monotonic()
    is_gateway = "Gateway" in info
    peak = Peak(0, None) if is_gateway else client.peak()
    return Figures(
        uptime=timedelta(seconds=_number(info, "Server", "uptime_in_seconds")),
        memory_bytes=_number(info, "Memory", "used_memory"),
        n_pages=int(site.get("pages", 0)),
        kinds=client.kinds(),
        rate=before.look(now_s, accepted) if before else Rate(now_s, accepted),
        peak=peak.people,
        peak_age=None if peak.at is None else max(timedelta(0), datetime.now(UTC) - peak.at),
        hour=_last_hour(client),
        visitors=_visitors(client),
        is_gateway=is_gateway,
        pages=_pages(client, shown_pages.prefix, rows),
        users=_as_many(
            lambda limit: client.users(shown_users.prefix, limit) if view.users_by_name else client.recent(limit), rows
        ).users,
    )


def _last_hour(client: Client) -> list[int]:
    """Query the people of each minute of the last hour; a minute without the server has none."""
    now = datetime.now(UTC)
    try:
        rows = client.history(now - timedelta(hours=1), now, 60)
    except ServerError:  # it is of an earlier version, or keeps none
        return []
    people = {round(row.at.timestamp()) // 60: row.people for row in rows}
    minutes = range(min(people, default=0), max(people, default=-1) + 1)
    return [people.get(minute, 0) for minute in minutes]


def _visitors(client: Client) -> int | None:
    """Query how many different people came today; None if that is not known."""
    try:
        return client.visitors()
    except ServerError:  # it is of an earlier version, or keeps none
        return None


def _pages(client: Client, prefix: str, rows: int) -> list[TopPage]:
    """Query the top pages that begin with `prefix`; if there are none, with `/` in front of it."""
    found = _as_many(lambda limit: client.top(limit, prefix), rows)
    if found or not prefix or prefix.startswith("/"):
        return found
    return _as_many(lambda limit: client.top(limit, f"/{prefix}"), rows)


def _as_many(question: Callable[[int], T], limit: int) -> T:
    """Query with `limit`, or half as many until the server accepts it: its max_limit may be lower."""
    while True:
        try:
            return question(limit)
        except RangeError:
            if limit <= 1:
                raise
            limit //= 2


def _site_info(info: dict[str, dict[str, str]], site: str) -> dict[str, str]:
    """Parse the INFO of a site: `people=3,users=4,...`. Empty for a site without hits."""
    listed = info.get("Sites", {}).get(f"site_{quote(site, safe='', errors='surrogateescape')}", "")
    return dict(part.split("=", 1) for part in listed.split(",") if "=" in part)


def _number(info: dict[str, dict[str, str]], section: str, name: str) -> int:
    try:
        return int(info[section][name])
    except (KeyError, ValueError):
        raise ProtocolError(f"INFO has no {name}; is the server another version?") from None


class Watcher:
    """Queries a server when a frame is due, and at once when a key changes the query.

    If the server does not answer, the pauses get longer, whatever keys are pressed.
    """

    def __init__(self, client: Client) -> None:
        self.snapshot = Snapshot(str(client.address))
        self._client = client
        self._question: object = None
        self._asked_s = 0.0
        self._failures = 0  #: queries without an answer since the last one

    def look(self, view: View, rows: int) -> None:
        """Update the snapshot for `view`, with up to `rows` rows in each list."""
        question = view.lists[PAGES].prefix, view.lists[USERS].prefix, view.users_by_name, rows
        if self.wait_s(view) != 0 and (self._failures or question == self._question):
            return
        figures, trouble = self.snapshot.figures, ""
        try:
            figures = ask(self._client, view, rows, figures.rate if figures and not self._failures else None)
            self._failures = 0
        except OnlineError as error:
            self._failures += 1
            trouble = explained(error)
        self._question, self._asked_s = question, time.monotonic()
        self.snapshot = replace(self.snapshot, figures=figures, trouble=trouble, retry_s=self._retry_s())

    def wait_s(self, view: View) -> float | None:
        """Return how long until the next query is due, if the query stays the same; None if paused."""
        if view.is_paused:
            return None
        return max(0.0, self._asked_s + (self._retry_s() or view.interval_s) - time.monotonic())

    def _retry_s(self) -> float:
        """Return the pause after a failure; 0 after an answer."""
        return min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** (self._failures - 1)) if self._failures else 0.0


# The terminal


def _show_once(client: Client, view: View, console: Console) -> int:
    try:
        figures = ask(client, view, _rows(console), None)
    except OnlineError as error:
        print(f"online top: {explained(error)}", file=sys.stderr)
        return 1
    console.print(render(Snapshot(str(client.address), figures), view, console.height - 1))  # a line for the prompt
    return 0


def _rows(console: Console) -> int:
    return min(console.height, MAX_LIMIT)


def _show(watcher: Watcher, view: View, console: Console) -> View:
    """Show frames until the view has ended, or the shell suspends the command."""
    decoder = getincrementaldecoder("utf-8")("ignore")
    with _take_over(console) as told:
        while not view.has_ended:
            watcher.look(view, _rows(console))
            console.update_screen(render(watcher.snapshot, view, console.height))
            ready, _, _ = select([sys.stdin, told], [], [], watcher.wait_s(view))
            if told in ready:
                signals = os.read(told, 64)
                if any(number in signals for number in _ENDING):
                    return replace(view, has_ended=True)
                if signal.SIGTSTP in signals:
                    return view
                console.clear()  # SIGWINCH: remove lines of the old size
            if sys.stdin in ready:
                typed = os.read(sys.stdin.fileno(), 4096)
                if not typed:  # the terminal is gone
                    return replace(view, has_ended=True)
                for key in keys(decoder.decode(typed)):
                    view = press(view, key)
    return view


def _give_back(terminal: int, attributes: list[Any]) -> None:
    """Restore a terminal, unless it has been closed."""
    with suppress(termios.error):
        termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)


@contextmanager
def _take_over(console: Console) -> Iterator[int]:
    """Take over the terminal and restore it. Yields a file with one byte for each signal: its number."""
    terminal = sys.stdin.fileno()
    with ExitStack() as undo:
        told, tell = os.pipe()
        undo.callback(os.close, told)
        undo.callback(os.close, tell)
        os.set_blocking(tell, False)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(tell, warn_on_full_buffer=False))
        for number in (*_ENDING, signal.SIGTSTP, signal.SIGWINCH):
            undo.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        for ignored in IGNORED:
            undo.callback(signal.signal, ignored, signal.signal(ignored, signal.SIG_IGN))
        undo.callback(_give_back, terminal, termios.tcgetattr(terminal))
        tty.setcbreak(terminal)
        undo.enter_context(console.screen())
        yield told
