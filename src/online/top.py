"""`online top`: a live view of a running server on a terminal: people, hits, the top pages, the newest users.

Not here: what a verb sends and answers (online_client.verbs).

1. A frame is made of what is known (`Snapshot`) and how it is looked at (`View`), and of nothing else; a key
   makes another View. Both are plain values.
2. Names come from visitors of a site. Each goes through `readable`, and rich cuts it to the room it has.
3. However it ends, it leaves the terminal as it was.
4. One thread waits for a key, a signal and the time of the next frame. Only a question to the server keeps it
   from them, TIMEOUT_S at most.
"""

import argparse
import io
import os
import re
import signal
import sys
import termios
import time
import tty
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from select import select
from urllib.parse import quote

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from online.query import readable, spoken_age
from online_client import AddressError, Client, Kinds, OnlineError, ProtocolError, Session, TopPage
from online_client.verbs import MAX_LIMIT

TIMEOUT_S = 2.0
INTERVAL_MIN_S, INTERVAL_MAX_S = 0.1, 3_600.0

#: What + and - choose from.
INTERVALS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

#: A server that does not answer is asked again after the first of these, then after twice as long each time.
RETRY_MIN_S, RETRY_MAX_S = 0.5, 8.0

#: Hits are counted over this long at least: a frame that a key asked for comes too soon after the last.
RATE_MIN_S = 0.4

PREFIX_MAX = 256  #: characters that may be typed

_DESCRIPTION = """\
Watch a running server: how many people are online, hits a second, the pages with most people, and who came
last. The keys are told at the bottom, and by ? in full. If the server goes away it says so, and goes on when
the server is back.

Without a terminal, or on a dumb one, it prints one frame and ends."""

_EPILOG = """\
examples:
  online top
  online top --interval 0.5
  online top --once
  ONLINE_URL=online://shop:token@192.0.2.1 online top
  online top --url online+unix:///run/online.sock"""

_HELP = """\

q           quit
tab         go to the other list, also with left and right
s           sort this list in another way, also with up and down
/           show only what begins with ...; users come by name then
esc         show all again
p           pause, and go on
+ -         a longer, a shorter time between two frames
?           this help

People are members, guests and hidden users. No list has hidden users or bots.
Hits are those that this site accepted since the last frame. The memory is that
of all sites of the server.

Any key goes back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `online top`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--url",
        dest="server",
        help="the server and its site (default: ONLINE_URL, or online://127.0.0.1:8989/default)",
    )
    parser.add_argument(
        "--interval", metavar="S", type=_interval, default=2.0, help="seconds between two frames (default: 2)"
    )
    parser.add_argument("--once", action="store_true", help="print one frame and end")


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not INTERVAL_MIN_S <= seconds <= INTERVAL_MAX_S:
        raise argparse.ArgumentTypeError(f"takes {INTERVAL_MIN_S:g} to {INTERVAL_MAX_S:,.0f} seconds, not {text!r}")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Show frames until a key or SIGTERM ends it. Returns 0, 1 if the one frame could not be had, 2 for a wrong
    address."""
    try:
        client = Client(args.server, timeout=TIMEOUT_S)
    except AddressError as error:
        print(f"online top: {readable(str(error))}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # ? for what the encoding of the output does not have
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
                signal.raise_signal(signal.SIGTSTP)  # returns when the shell continues us
    return 0


# How it is looked at

_OTHER_SORT = {"people": "url", "url": "people", "newest": "name", "name": "newest"}


@dataclass(frozen=True, slots=True)
class Shown:
    """How one of the two lists is shown."""

    sort: str
    prefix: str = ""


PAGES, USERS = 0, 1


@dataclass(frozen=True, slots=True)
class View:
    """What is shown and how, as keys have chosen."""

    interval_s: float = 2.0
    is_live: bool = True  #: else one frame, without keys
    lists: tuple[Shown, Shown] = (Shown("people"), Shown("newest"))
    focus: int = PAGES  #: the list that keys are for
    typed_over: str | None = None  #: while a prefix is typed: the one before it
    is_paused: bool = False
    is_helping: bool = False
    has_ended: bool = False

    @property
    def focused(self) -> Shown:
        return self.lists[self.focus]

    @property
    def users_by_name(self) -> bool:
        """Say if users come by name; the server knows no other order of those that begin alike."""
        return self.lists[USERS].sort == "name" or self.lists[USERS].prefix != ""

    def with_focused(self, shown: Shown) -> "View":
        pages, users = self.lists
        return replace(self, lists=(shown, users) if self.focus == PAGES else (pages, shown))


def press(view: View, key: str) -> View:
    """Return the view after a key: a character, or a name as `tab`."""
    if view.typed_over is not None:
        return _type(view, key, view.typed_over)
    if view.is_helping:
        return replace(view, is_helping=False)
    match key:
        case "q":
            return replace(view, has_ended=True)
        case "tab" | "left" | "right":
            return replace(view, focus=1 - view.focus)
        case "s" | "up" | "down":
            return view.with_focused(replace(view.focused, sort=_OTHER_SORT[view.focused.sort]))
        case "/":
            return replace(view, typed_over=view.focused.prefix)
        case "esc":
            return view.with_focused(replace(view.focused, prefix=""))
        case "p":
            return replace(view, is_paused=not view.is_paused)
        case "+" | "=":
            longer = (each_s for each_s in INTERVALS_S if each_s > view.interval_s)
            return replace(view, interval_s=min(longer, default=view.interval_s))
        case "-":
            shorter = (each_s for each_s in INTERVALS_S if each_s < view.interval_s)
            return replace(view, interval_s=max(shorter, default=view.interval_s))
        case "?":
            return replace(view, is_helping=True)
    return view


def _type(view: View, key: str, before: str) -> View:
    """Return the view after a key of a prefix."""
    prefix = view.focused.prefix
    match key:
        case "enter":
            return replace(view, typed_over=None)
        case "esc":
            return replace(view, typed_over=None).with_focused(replace(view.focused, prefix=before))
        case "backspace":
            prefix = prefix[:-1]
        case "ctrl-u":
            prefix = ""
        case _ if len(key) == 1 and key.isprintable():
            prefix = (prefix + key)[:PREFIX_MAX]
    return view.with_focused(replace(view.focused, prefix=prefix))


_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)

_KEY_NAMES = {
    **{"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"},
    **{"\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left"},
    **{"\t": "tab", "\r": "enter", "\n": "enter", "\x1b": "esc"},
    **{"\x7f": "backspace", "\b": "backspace", "\x15": "ctrl-u"},
}


def keys(typed: str) -> Iterator[str]:
    r"""Tell the keys that a terminal sends as `typed`.

    >>> list(keys("sö\t\x1b[A\x1bOD\x1b"))
    ['s', 'ö', 'tab', 'up', 'left', 'esc']
    """
    return (_KEY_NAMES.get(each, each) for each in _KEY.findall(typed))


# What is known


@dataclass(frozen=True, slots=True)
class Rate:
    """Hits a second between two looks at a counter of hits, the later one at `at_s`."""

    at_s: float
    accepted: int
    per_s: float | None = None

    def look(self, at_s: float, accepted: int) -> "Rate":
        """Return the rate after another look. Soon after the last it is the same; a counter that went back is a new
        one."""
        if accepted < self.accepted:
            return Rate(at_s, accepted)
        if at_s - self.at_s < RATE_MIN_S:
            return self
        return Rate(at_s, accepted, (accepted - self.accepted) / (at_s - self.at_s))


@dataclass(frozen=True, slots=True)
class Figures:
    """What a server answered for one frame."""

    uptime: timedelta
    memory_bytes: int
    n_pages: int
    kinds: Kinds
    rate: Rate
    peak: int
    peak_age: timedelta | None  #: None before there was anyone
    pages: Sequence[TopPage]  #: most people first
    users: Sequence[Session]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of a server."""

    address: str
    figures: Figures | None = None  #: of the last answer
    trouble: str = ""  #: why the last question had none
    retry_s: float = 0.0  #: how long after that it is asked again


def ask(client: Client, view: View, rows: int, before: Rate | None) -> Figures:
    """Ask for a frame with up to `rows` of each list: five questions. Raises OnlineError."""
    shown_pages, shown_users = view.lists
    info = client.info()
    site = _site_info(info, client.address.site)
    accepted, now_s = int(site.get("accepted", 0)), time.monotonic()
    peak = client.peak()
    return Figures(
        uptime=timedelta(seconds=_number(info, "Server", "uptime_in_seconds")),
        memory_bytes=_number(info, "Memory", "used_memory"),
        n_pages=int(site.get("pages", 0)),
        kinds=client.kinds(),
        rate=before.look(now_s, accepted) if before else Rate(now_s, accepted),
        peak=peak.people,
        peak_age=None if peak.at is None else max(timedelta(0), datetime.now(UTC) - peak.at),
        pages=client.top(rows, shown_pages.prefix),
        users=(client.users(shown_users.prefix, rows) if view.users_by_name else client.recent(rows)).users,
    )


def _site_info(info: dict[str, dict[str, str]], site: str) -> dict[str, str]:
    """Read what INFO tells of a site: `people=3,users=4,...`; nothing of one without hits."""
    listed = info.get("Sites", {}).get(f"site_{quote(site, safe='', errors='surrogateescape')}", "")
    return dict(part.split("=", 1) for part in listed.split(",") if "=" in part)


def _number(info: dict[str, dict[str, str]], section: str, name: str) -> int:
    try:
        return int(info[section][name])
    except (KeyError, ValueError):
        raise ProtocolError(f"INFO tells no {name}; is the server of another version?") from None


class Watcher:
    """Asks a server in time: when a frame is over, and at once when a key asks for something else. While there is
    no answer it asks ever more slowly, whatever the keys want."""

    def __init__(self, client: Client) -> None:
        self.snapshot = Snapshot(str(client.address))
        self._client = client
        self._question: object = None
        self._asked_s = 0.0
        self._failures = 0  #: since the last answer

    def look(self, view: View, rows: int) -> None:
        """Make the snapshot a good one for `view`, with up to `rows` of each list."""
        question = view.lists[PAGES].prefix, view.lists[USERS].prefix, view.users_by_name, rows
        if self.wait_s(view) != 0 and (self._failures or question == self._question):
            return
        figures, trouble = self.snapshot.figures, ""
        try:
            figures = ask(self._client, view, rows, figures.rate if figures and not self._failures else None)
            self._failures = 0
        except OnlineError as error:
            self._failures += 1
            trouble = str(error)
        self._question, self._asked_s = question, time.monotonic()
        self.snapshot = replace(self.snapshot, figures=figures, trouble=trouble, retry_s=self._retry_s())

    def wait_s(self, view: View) -> float | None:
        """Return how long the snapshot stays good, if nothing else is asked for; None for ever."""
        if view.is_paused:
            return None
        return max(0.0, self._asked_s + (self._retry_s() or view.interval_s) - time.monotonic())

    def _retry_s(self) -> float:
        """Return how long to wait after a failure; 0 after an answer."""
        return min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** (self._failures - 1)) if self._failures else 0.0


# A frame


def render(snapshot: Snapshot, view: View, height: int) -> RenderableType:
    """Lay out a frame of at most `height` lines, 2 or more; a live one has as many, and the keys on the last."""
    foot = [_foot(view)] if view.is_live else []
    head = list(_head(snapshot))[: height - len(foot)]
    room = height - len(head) - len(foot)
    body: list[Text | Table] = []
    if view.is_helping:
        body = [_line(line) for line in _HELP.splitlines()[:room]]
        room -= len(body)
    elif snapshot.figures is not None and room >= 4:  # both titles, and something below them
        pages, users = snapshot.figures.pages, snapshot.figures.users
        n_pages, n_users = _share(room - 2, len(pages), len(users))
        body = [_pages(pages[:n_pages], view), _users(users[:n_users], view)]
        room -= 2 + n_pages + n_users
    blank = [Text()] * (room if view.is_live else 0)
    return Group(*head, *body, *blank, *foot)


def _share(room: int, first: int, second: int) -> tuple[int, int]:
    """Divide lines among two lists: half each, and what one of them does not need is the other's."""
    first = min(first, max(room - room // 2, room - second))
    return first, min(second, room - first)


def _head(snapshot: Snapshot) -> Iterator[Text]:
    figures = snapshot.figures
    address = [("", readable(snapshot.address))]
    if figures is None:
        yield _facts(address)
    else:
        memory = "memory", f"{figures.memory_bytes / 2**20:,.1f} MiB"
        yield _facts([*address, ("up", spoken_age(figures.uptime)), memory])
    if snapshot.trouble:
        yield _line(readable(snapshot.trouble), "bold red")
        yield _line(f"no answer, next try in {snapshot.retry_s:g} s", "red")
    if figures is None:
        return
    counts = figures.kinds
    named = ("people", "members", "guests", "hidden", "bots")
    yield _facts((name, f"{getattr(counts, name):,}") for name in named)
    rate = "-" if figures.rate.per_s is None else f"{figures.rate.per_s:,.0f}"
    ago = "" if figures.peak_age is None else f", {spoken_age(figures.peak_age)} ago"
    yield _facts([("hits/s", rate), ("pages", f"{figures.n_pages:,}"), ("peak", f"{figures.peak:,}{ago}")])


def _facts(facts: Iterable[tuple[str, str]]) -> Text:
    parts = (Text.assemble((f"{name} " if name else "", "dim"), (value, "bold")) for name, value in facts)
    return _cut(Text("   ").join(parts))


def _line(text: str, style: str = "") -> Text:
    return _cut(Text(text, style))


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


_SPOKEN_SORTS = {"people": "most people first", "url": "by url", "newest": "newest first", "name": "by name"}


def _title(what: str, place: int, sort: str, view: View) -> Text:
    """Say what a list shows; the one that keys are for stands out."""
    prefix = view.lists[place].prefix
    title = f"{what} {readable(prefix)}*" if prefix else what
    return Text(f"{title}, {_SPOKEN_SORTS[sort]}", "reverse" if view.is_live and place == view.focus else "dim")


def _pages(pages: Sequence[TopPage], view: View) -> Table:
    sort = view.lists[PAGES].sort
    table = _table()
    table.add_column("people", justify="right", no_wrap=True, min_width=8)
    table.add_column(_title("pages", PAGES, sort, view), no_wrap=True, ratio=1)
    for page in sorted(pages, key=lambda page: page.url) if sort == "url" else pages:
        table.add_row(f"{page.people:,}", Text(readable(page.url)))
    return table


def _users(users: Sequence[Session], view: View) -> Table:
    table = _table()
    table.add_column("seen", justify="right", no_wrap=True, min_width=8)
    table.add_column(_title("users", USERS, "name" if view.users_by_name else "newest", view), no_wrap=True, ratio=2)
    table.add_column("page", no_wrap=True, ratio=3)
    for session in users:
        table.add_row(spoken_age(session.age), Text(readable(session.user)), Text(readable(session.url)))
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, expand=True, header_style="dim", padding=(0, 2, 0, 0))


def _foot(view: View) -> Text:
    if view.typed_over is not None:
        what = "pages" if view.focus == PAGES else "users"
        return _line(f"{what} that begin with: {readable(view.focused.prefix)}_   enter keep  esc undo")
    paused = Text.assemble((" paused ", "reverse"), "  ") if view.is_paused else Text()
    hints = f"q quit  tab list  s sort  / filter  p pause  + - every {view.interval_s:g} s  ? help"
    return _cut(Text.assemble(paused, (hints, "dim")))


# The terminal


def _show_once(client: Client, view: View, console: Console) -> int:
    try:
        figures = ask(client, view, _rows(console), None)
    except OnlineError as error:
        print(f"online top: {readable(str(error))}", file=sys.stderr)
        return 1
    console.print(render(Snapshot(str(client.address), figures), view, console.height - 1))  # a line for the prompt
    return 0


def _rows(console: Console) -> int:
    return min(console.height, MAX_LIMIT)


def _show(watcher: Watcher, view: View, console: Console) -> View:
    """Show frames until the view has ended, or the shell wants to suspend us."""
    decoder = getincrementaldecoder("utf-8")("ignore")
    with _take_over(console) as told:
        while not view.has_ended:
            watcher.look(view, _rows(console))
            console.update_screen(render(watcher.snapshot, view, console.height))
            ready, _, _ = select([sys.stdin, told], [], [], watcher.wait_s(view))
            if told in ready:
                signals = os.read(told, 64)
                if signal.SIGTERM in signals:
                    return replace(view, has_ended=True)
                if signal.SIGTSTP in signals:
                    return view
                console.clear()  # SIGWINCH: lines of the old size
            if sys.stdin in ready:
                typed = os.read(sys.stdin.fileno(), 4096)
                if not typed:  # the terminal is gone
                    return replace(view, has_ended=True)
                for key in keys(decoder.decode(typed)):
                    view = press(view, key)
    return view


@contextmanager
def _take_over(console: Console) -> Iterator[int]:
    """Take the terminal, and give it back as it was. Yields a file that has a byte for every signal, its number."""
    terminal = sys.stdin.fileno()
    with ExitStack() as undo:
        told, tell = os.pipe()
        undo.callback(os.close, told)
        undo.callback(os.close, tell)
        os.set_blocking(tell, False)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(tell, warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGTSTP, signal.SIGWINCH):
            undo.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        undo.callback(termios.tcsetattr, terminal, termios.TCSADRAIN, termios.tcgetattr(terminal))
        tty.setcbreak(terminal)
        undo.enter_context(console.screen())
        yield told
