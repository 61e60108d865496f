"""The frames of `online top`, and its keys.

Not here: the terminal and the server (top).

1. A frame depends only on the figures (`Snapshot`) and on what to show (`View`). A key returns another View. Both are
   plain values.
2. Names come from visitors of a site. Each goes through `readable`, and rich cuts it to the available width.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from online.cli.words import many, readable, spoken_age
from online.terms import span
from online_client import Kinds, Session, TopPage

#: The steps of + and -.
INTERVALS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

#: The shortest time to count hits over. A frame after a key can come sooner.
RATE_MIN_S = 0.4

PREFIX_MAX = 256  #: characters in a filter

_HELP = """\

q           quit
tab         switch to the other list; also left and right
s           change the order of the list; also up and down
/           filter the list by prefix; filtered users are sorted by name
esc         remove the filter
p           pause or resume
+ -         more or less time between frames
?           this help

People are members, guests and hidden users. Bots are counted separately.
Hidden users and bots are never listed.
hits/s is what this site accepted since the last frame. Memory is that of all
sites on the server.

Press any key to go back."""


# The view

_OTHER_SORT = {"people": "url", "url": "people", "newest": "name", "name": "newest"}


@dataclass(frozen=True, slots=True)
class Shown:
    """How one of the two lists is shown."""

    sort: str
    prefix: str = ""


PAGES, USERS = 0, 1


@dataclass(frozen=True, slots=True)
class View:
    """What to show, as chosen with keys."""

    interval_s: float = 2.0
    is_live: bool = True  #: False for a single frame without keys
    lists: tuple[Shown, Shown] = (Shown("people"), Shown("newest"))
    focus: int = PAGES  #: the list that keys apply to
    typed_over: str | None = None  #: while a prefix is typed: the previous prefix
    is_paused: bool = False
    is_helping: bool = False
    has_ended: bool = False

    @property
    def focused(self) -> Shown:
        return self.lists[self.focus]

    @property
    def users_by_name(self) -> bool:
        """Whether users are sorted by name, the only order in which the server lists users by prefix."""
        return self.lists[USERS].sort == "name" or self.lists[USERS].prefix != ""

    def with_focused(self, shown: Shown) -> "View":
        pages, users = self.lists
        return replace(self, lists=(shown, users) if self.focus == PAGES else (pages, shown))


def press(view: View, key: str) -> View:
    """Return the view after a key: a character, or a name such as `tab`."""
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
    """Return the view after a key typed into the filter."""
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
    r"""Split what a terminal sends into keys.

    >>> list(keys("sö\t\x1b[A\x1bOD\x1b"))
    ['s', 'ö', 'tab', 'up', 'left', 'esc']
    """
    return (_KEY_NAMES.get(each, each) for each in _KEY.findall(typed))


# The figures


@dataclass(frozen=True, slots=True)
class Rate:
    """Hits per second between two readings of a counter, the later one at `at_s`."""

    at_s: float
    accepted: int
    per_s: float | None = None

    def look(self, at_s: float, accepted: int) -> "Rate":
        """Return the rate after another reading.

        Within RATE_MIN_S of the last reading, the rate stays the same. If the counter went back, it starts again.
        """
        if accepted < self.accepted:
            return Rate(at_s, accepted)
        if at_s - self.at_s < RATE_MIN_S:
            return self
        return Rate(at_s, accepted, (accepted - self.accepted) / (at_s - self.at_s))


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures for one frame."""

    uptime: timedelta
    memory_bytes: int
    n_pages: int
    kinds: Kinds
    rate: Rate
    peak: int
    peak_age: timedelta | None  #: None if nobody was ever online
    pages: Sequence[TopPage]  #: most people first
    users: Sequence[Session]
    hour: Sequence[int] = ()  #: people of each minute of the last hour; empty if that is not known
    visitors: int | None = None  #: different people today; None if that is not known
    is_gateway: bool = False  #: which knows no rate, pages and peak of all its partitions


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last figures from a server, and the current problem."""

    address: str
    figures: Figures | None = None  #: from the last answer
    trouble: str = ""  #: why the last query had no answer
    retry_s: float = 0.0  #: the pause before the next query


# A frame


def render(snapshot: Snapshot, view: View, height: int) -> RenderableType:
    """Lay out a frame of at most `height` lines, which is at least 2.

    A live frame has exactly `height` lines. The last one shows the keys.
    """
    foot = [_foot(view)] if view.is_live else []
    head = list(_head(snapshot, view))[: height - len(foot)]
    room = height - len(head) - len(foot)
    body: list[Text | Table] = []
    if view.is_helping:
        body = [_line(line) for line in _HELP.splitlines()[:room]]
        room -= len(body)
    elif snapshot.figures is not None and room >= 4:  # both titles, and something below them
        figures = snapshot.figures
        n_pages, n_users = _share(room - 2, len(figures.pages) or 1, len(figures.users) or 1)
        body = [_pages(figures, n_pages, view), _users(figures, n_users, view)]
        room -= 2 + n_pages + n_users
    blank = [Text()] * (room if view.is_live else 0)
    return Group(*head, *body, *blank, *foot)


def _share(room: int, first: int, second: int) -> tuple[int, int]:
    """Divide lines between two lists: half each, plus what the other does not need."""
    first = min(first, max(room - room // 2, room - second))
    return first, min(second, room - first)


def _head(snapshot: Snapshot, view: View) -> Iterator[Text]:
    figures = snapshot.figures
    address = [("", readable(snapshot.address))]
    if figures is None:
        yield _facts(address)
    else:
        memory = "memory", f"{figures.memory_bytes / 2**20:,.1f} MiB"
        yield _facts([*address, ("up", spoken_age(figures.uptime)), memory])
    if snapshot.trouble:
        yield _line(readable(snapshot.trouble), "bold red")
        yield _line(f"no answer, next try in {span(snapshot.retry_s)}", "red")
    if figures is None:
        return
    counts = figures.kinds
    named = ("people", "members", "guests", "hidden", "bots")
    yield _facts((name, f"{getattr(counts, name):,}") for name in named)
    rate = "-" if figures.rate.per_s is None else f"{figures.rate.per_s:,.0f}"
    rates = [("hits/s", rate)] if view.is_live else []  # a single frame has no rate
    ago = "" if figures.peak_age is None else f", {spoken_age(figures.peak_age)} ago"
    if not figures.is_gateway:
        yield _facts([*rates, ("pages", f"{figures.n_pages:,}"), ("peak", f"{figures.peak:,}{ago}")])
    if any(figures.hour):
        yield _facts([("last hour", line_of(figures.hour)), ("at most", f"{max(figures.hour):,}")])
    if figures.visitors:
        yield _facts([("visitors today", f"{figures.visitors:,}")])


def line_of(values: Sequence[int]) -> str:
    """Draw numbers as a line of blocks, each as high as its number.

    >>> line_of([0, 1, 4, 8])
    ' ▁▄█'
    """
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * value // max(values))] for value in values)


def _facts(facts: Iterable[tuple[str, str]]) -> Text:
    parts = (Text.assemble((f"{name} " if name else "", "dim"), (value, "bold")) for name, value in facts)
    return _cut(Text("   ").join(parts))


def _line(text: str, style: str = "") -> Text:
    return _cut(Text(text, style))


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


_SPOKEN_SORTS = {
    "people": "most people first",
    "url": "the top ones, by url",
    "newest": "newest first",
    "name": "by name",
}


def _title(what: str, place: int, sort: str, view: View) -> Text:
    """Return the title of a list, highlighted if keys apply to the list."""
    prefix = view.lists[place].prefix
    title = f"{what} {readable(prefix)}*" if prefix else what
    return Text(f"{title}, {_SPOKEN_SORTS[sort]}", "reverse" if view.is_live and place == view.focus else "dim")


def _pages(figures: Figures, rows: int, view: View) -> Table:
    sort = view.lists[PAGES].sort
    table = _table()
    table.add_column("people", justify="right", no_wrap=True, min_width=8)
    table.add_column(_title("pages", PAGES, sort, view), no_wrap=True, ratio=1)
    pages = figures.pages[:rows]
    for page in sorted(pages, key=lambda page: page.url) if sort == "url" else pages:
        table.add_row(f"{page.people:,}", Text(readable(page.url)))
    if not pages:
        table.add_row("", Text(_why_no_pages(figures, view.lists[PAGES].prefix), "dim"))
    return table


def _why_no_pages(figures: Figures, prefix: str) -> str:
    if prefix:
        with_slash = "" if prefix.startswith("/") else f" or /{readable(prefix)}"
        return f"no page with people begins with {readable(prefix)}{with_slash}"
    bots = figures.kinds.bots
    if figures.kinds.people == 0 and bots:
        return f"only {many(bots, 'bot')} (curl is one): bots are counted but not listed"
    return "nobody yet"


def _users(figures: Figures, rows: int, view: View) -> Table:
    table = _table()
    table.add_column("seen", justify="right", no_wrap=True, min_width=8)
    table.add_column(_title("users", USERS, "name" if view.users_by_name else "newest", view), no_wrap=True, ratio=2)
    table.add_column("page", no_wrap=True, ratio=3)
    for session in figures.users[:rows]:
        table.add_row(spoken_age(session.age), Text(readable(session.user)), Text(readable(session.url)))
    if not figures.users:
        table.add_row("", Text(_why_no_users(figures, view.lists[USERS].prefix), "dim"), "")
    return table


def _why_no_users(figures: Figures, prefix: str) -> str:
    if prefix:
        return f"no user begins with {readable(prefix)}"
    return "only hidden users" if figures.kinds.people else "nobody yet"


def _table() -> Table:
    return Table(box=None, pad_edge=False, expand=True, header_style="dim", padding=(0, 2, 0, 0))


def _foot(view: View) -> Text:
    if view.typed_over is not None:
        what = "pages" if view.focus == PAGES else "users"
        return _line(f"{what} that begin with: {readable(view.focused.prefix)}_   enter keep  esc undo")
    paused = Text.assemble((" paused ", "reverse"), "  ") if view.is_paused else Text()
    hints = f"q quit  tab list  s sort  / filter  p pause  +/- every {span(view.interval_s)}  ? help"
    return _cut(Text.assemble(paused, (hints, "dim")))
