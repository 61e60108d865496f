"""`online top`: frames at several sizes, keys, names that would command a terminal, and sessions on a real one."""

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.serving import command, environment, server_process

from online.cli import main as cli
from online.cli import top
from online.cli import top_screen as screen
from online.cli.top import Watcher, ask
from online.cli.top_screen import PAGES, USERS, Figures, Rate, Snapshot, View, keys, press, render
from online_client import Client, ConnectionFailed, Kinds, Listing, Peak, ProtocolError, Session, TopPage
from online_client.address import Address

SEEN_AT = datetime(2024, 2, 29, 12, tzinfo=UTC)


def session(user, url="/", age_s=0):
    return Session(user, url, SEEN_AT, timedelta(seconds=age_s), "member")


def figures(*, n_pages=20, n_users=30, **changed):
    made = Figures(
        uptime=timedelta(hours=2, minutes=15),
        memory_bytes=3 << 19,
        n_pages=1_234,
        kinds=Kinds(members=1_000, guests=200, hidden=34, bots=5),
        rate=Rate(0.0, 0, 1_499.6),
        peak=2_345,
        peak_age=timedelta(minutes=5),
        pages=[TopPage(f"/{chr(ord('z') - n)}", 1_000 - n) for n in range(n_pages)],
        users=[session(f"user{n}", f"/forum/{n}", age_s=n * 30) for n in range(n_users)],
    )
    return replace(made, **changed)


def shown(snapshot, view=None, *, width=80, height=24):
    """The lines of a frame, as they come to a terminal of this size, without styles."""
    console = Console(width=width, height=height, file=io.StringIO(), highlight=False)
    console.print(render(snapshot, view or View(), height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


SNAPSHOT = Snapshot("online://127.0.0.1:8989/default", figures())


# Frames


def test_visitors_of_today_have_a_line_of_their_own():
    assert "visitors today 12,345" in shown(replace(SNAPSHOT, figures=figures(visitors=12_345)))
    for unknown in (None, 0):
        assert not any("visitors" in line for line in shown(replace(SNAPSHOT, figures=figures(visitors=unknown))))


def test_a_frame():
    assert shown(SNAPSHOT, height=10) == [
        "online://127.0.0.1:8989/default   up 2 h 15 min   memory 1.5 MiB",
        "people 1,234   members 1,000   guests 200   hidden 34   bots 5",
        "hits/s 1,500   pages 1,234   peak 2,345, 5 min ago",
        "  people  pages, most people first",
        "   1,000  /z",
        "     999  /y",
        "    seen  users, newest first         page",
        "     0 s  user0                       /forum/0",
        "    30 s  user1                       /forum/1",
        "q quit  tab list  s sort  / filter  p pause  +/- every 2s  ? help",
    ]


@pytest.mark.parametrize("changed", [{}, {"is_helping": True}, {"is_paused": True}, {"typed_over": ""}], ids=str)
@pytest.mark.parametrize("trouble", ["", "cannot connect to online://127.0.0.1:8989/default: Connection refused"])
@pytest.mark.parametrize("size", [(200, 60), (80, 24), (40, 10), (30, 7), (20, 3), (5, 2)], ids=str)
def test_a_live_frame_fills_its_terminal_and_no_more(size, trouble, changed):
    width, height = size
    for known in (None, figures(n_pages=1, n_users=0), figures()):
        lines = shown(
            Snapshot("online://127.0.0.1:8989/default", known, trouble), View(**changed), width=width, height=height
        )
        assert len(lines) == height
        assert max(map(cell_len, lines)) <= width


def test_what_one_list_does_not_need_is_the_others():
    few_pages = shown(replace(SNAPSHOT, figures=figures(n_pages=2)))
    assert few_pages[6].split()[:2] == ["seen", "users,"]
    assert few_pages[22].split()[-1] == "/forum/15"
    few_users = shown(replace(SNAPSHOT, figures=figures(n_users=2)))
    assert few_users[20].split()[:2] == ["seen", "users,"]


def test_one_frame_alone_has_no_keys_and_no_empty_lines():
    lines = shown(replace(SNAPSHOT, figures=figures(n_pages=1, n_users=1)), View(is_live=False))
    assert len(lines) == 7
    assert lines[-1].split() == ["0", "s", "user0", "/forum/0"]


def test_pages_by_url_are_those_with_most_people():
    view = press(View(), "s")
    lines = shown(SNAPSHOT, view, height=10)
    assert [line.split() for line in lines[3:6]] == [
        ["people", "pages,", "the", "top", "ones,", "by", "url"],
        ["999", "/y"],
        ["1,000", "/z"],
    ]


def test_titles_say_what_is_shown():
    view = View()
    for key in ["/", *"/z", "enter", "tab", "/", *"th", "enter"]:
        view = press(view, key)
    lines = shown(SNAPSHOT, view, height=10)
    assert "pages /z*, most people first" in lines[3]
    assert "users th*, by name" in lines[6]


def test_what_is_not_known_yet_is_not_made_up():
    new = figures(rate=Rate(0.0, 7), peak=0, peak_age=None)
    assert shown(replace(SNAPSHOT, figures=new))[2] == "hits/s -   pages 1,234   peak 0"


def test_trouble_stands_above_the_last_figures():
    lines = shown(replace(SNAPSHOT, trouble="gone", retry_s=0.5))
    assert lines[1:3] == ["gone", "no answer, next try in 0.5s"]
    assert lines[3:] == shown(SNAPSHOT, height=22)[1:]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("\x1b[2J\x1b]0;x\x07", r"\x1b[2J\x1b]0;x\x07"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\x9b31m\r\n\t\0", r"\x9b31m\r\n\t\x00"),
        ("\udcff\ud800\U000e0041", r"\xff\ud800\U000e0041"),
        ("[bold red]:smile:[/]", "[bold red]:smile:[/]"),
        ("two words", "two words"),
        ("雪" * 10, "雪" * 10),
    ],
)
def test_names_cannot_command_a_terminal(name, wanted):
    hostile = figures(pages=[TopPage(name, 1)], users=[session(name, name)])
    view = replace(View(), lists=(screen.Shown("people", name), screen.Shown("newest", name)), typed_over="")
    lines = shown(Snapshot(name, hostile, name), view, width=160)
    assert len(lines) == 24
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith(wanted)
    assert lines[1] == wanted
    assert [line.count(wanted) for line in (*lines[5:9], lines[-1])] == [1, 1, 1, 2, 1]


@pytest.mark.parametrize("name", ["x" * 2_048, "雪" * 600, "\x1b" * 2_048, "a b " * 500])
def test_long_names_are_cut(name):
    hostile = figures(pages=[TopPage(name, 1)] * 9, users=[session(name, name)] * 9)
    lines = shown(Snapshot(name, hostile, name), height=24)
    assert len(lines) == 24
    assert max(map(cell_len, lines)) == 80


def nobody(**counts):
    kinds = Kinds(**{"members": 0, "guests": 0, "hidden": 0, "bots": 0, **counts})
    return replace(SNAPSHOT, figures=figures(n_pages=0, n_users=0, kinds=kinds))


@pytest.mark.parametrize(
    ("counts", "pages", "users"),
    [
        ({}, "nobody yet", "nobody yet"),
        ({"bots": 1}, "only 1 bot (curl is one): bots are counted but not listed", "nobody yet"),
        ({"bots": 1_000}, "only 1,000 bots (curl is one): bots are counted but not listed", "nobody yet"),
        ({"hidden": 1}, "nobody yet", "only hidden users"),
    ],
)
def test_empty_lists_say_why(counts, pages, users):
    lines = shown(nobody(**counts), height=10)
    assert lines[4].strip() == pages
    assert lines[6].strip() == users


def test_a_filter_that_finds_nothing_says_what_was_looked_for():
    view = pressed("/", *"for", "enter", "tab", "/", *"x\x1b", "enter")
    lines = shown(nobody(members=9), view, height=10)
    assert lines[4].strip() == "no page with people begins with for or /for"
    assert lines[6].strip() == "no user begins with x"
    assert shown(nobody(), pressed("/", *"/for"), height=10)[4].strip() == "no page with people begins with /for"


# Keys


def pressed(*pressed_keys, view=None):
    view = view or View()
    for key in pressed_keys:
        view = press(view, key)
    return view


@pytest.mark.parametrize(
    ("pressed_keys", "changed"),
    [
        (["q"], {"has_ended": True}),
        (["tab"], {"focus": USERS}),
        (["right", "left"], {"focus": PAGES}),
        (["p"], {"is_paused": True}),
        (["p", "p"], {}),
        (["+"], {"interval_s": 5.0}),
        (["-"], {"interval_s": 1.0}),
        (["+"] * 9, {"interval_s": 60.0}),
        (["-"] * 9, {"interval_s": 0.5}),
        (["?"], {"is_helping": True}),
        (["?", "q"], {}),
        (["x", "\x1b[5~", "enter"], {}),
        (["/", "q"], {"typed_over": "", "lists": (screen.Shown("people", "q"), screen.Shown("newest"))}),
    ],
)
def test_keys(pressed_keys, changed):
    assert pressed(*pressed_keys) == replace(View(), **changed)


def test_sorting_is_of_the_list_in_focus():
    assert [shown.sort for shown in pressed("s").lists] == ["url", "newest"]
    assert [shown.sort for shown in pressed("down", "up").lists] == ["people", "newest"]
    assert [shown.sort for shown in pressed("tab", "s").lists] == ["people", "name"]


def test_a_prefix_is_typed():
    view = pressed("tab", "/", *"thx", "backspace", "ö", "\x07", "up", "enter")
    assert view.lists[USERS].prefix == "thö"
    assert view.typed_over is None
    assert pressed("/", "ctrl-u", "j", "esc", view=view) == view
    assert pressed("/", "ctrl-u", "enter", view=view).lists[USERS].prefix == ""
    assert pressed("esc", view=view).lists[USERS].prefix == ""
    assert len(pressed("/", *"x" * 999).lists[PAGES].prefix) == screen.PREFIX_MAX


def test_users_that_begin_alike_come_by_name():
    assert not pressed("tab", "/").users_by_name
    assert pressed("tab", "/", "t").users_by_name
    assert pressed("tab", "s").users_by_name


def test_what_a_terminal_sends_is_taken_apart():
    typed = "q\t\x1b[A\x1bOB\x1b[1;5C\x1b[5~\r\n\x7f\x15ö雪\x1b"
    names = ["q", "tab", "up", "down", "\x1b[1;5C", "\x1b[5~", "enter", "enter", "backspace", "ctrl-u", "ö", "雪"]
    assert list(keys(typed)) == [*names, "esc"]


# Asking


def test_the_rate_is_of_hits_between_two_looks():
    first = Rate(100.0, 1_000)
    assert first.per_s is None
    second = first.look(102.0, 1_500)
    assert second.per_s == 250
    assert second.look(102.1, 1_600) is second
    assert second.look(103.0, 10) == Rate(103.0, 10)


class Away:
    """A client whose server is away, until it is back."""

    address = Address()

    def __init__(self):
        self.questions = 0
        self.answer = None

    def info(self):
        self.questions += 1
        if self.answer is None:
            raise ConnectionFailed("away")
        return self.answer

    def back(self):
        self.answer = {"Server": {"uptime_in_seconds": "1"}, "Memory": {"used_memory": "1"}}

    def top(self, limit, prefix):
        return []

    def recent(self, limit):
        return Listing((), None)

    def users(self, prefix, limit):
        return Listing((), None)

    def kinds(self):
        return Kinds(0, 0, 0, 0)

    def peak(self):
        return Peak(0, None)

    def history(self, since, to, step):
        return []

    def visitors(self):
        return None


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets."""
    clock = [1_000.0]
    monkeypatch.setattr(top.time, "monotonic", lambda: clock[0])
    return clock


def test_a_server_that_is_away_is_asked_ever_more_slowly(now):
    client, view = Away(), View(interval_s=2)
    watcher = Watcher(client)
    waits = []
    for _ in range(7):
        watcher.look(view, 10)
        waits.append(watcher.wait_s(view))
        assert (watcher.snapshot.trouble, watcher.snapshot.retry_s) == ("away", waits[-1])
        watcher.look(view, 10)  # too early
        now[0] += waits[-1]
    assert waits == [0.5, 1, 2, 4, 8, 8, 8]
    assert client.questions == 7


def test_keys_do_not_hasten_it(now):
    watcher = Watcher(Away())
    watcher.look(View(), 10)
    watcher.look(pressed("/", "x"), 10)
    assert watcher._client.questions == 1


def test_a_server_that_is_back_is_asked_at_the_usual_times(now):
    watcher = Watcher(Away())
    watcher.look(View(), 10)
    watcher._client.back()
    now[0] += 1
    watcher.look(View(interval_s=7), 10)
    assert (watcher.snapshot.trouble, watcher.snapshot.retry_s) == ("", 0)
    assert watcher.snapshot.figures.uptime == timedelta(seconds=1)
    assert watcher.wait_s(View(interval_s=7)) == 7


def test_a_rate_is_not_measured_over_a_gap(now):
    watcher = Watcher(Away())
    for answers, rate in ((True, None), (True, 0), (False, 0), (True, None), (True, 0)):
        watcher._client.answer = None
        if answers:
            watcher._client.back()
        watcher.look(View(), 10)
        assert watcher.snapshot.figures.rate.per_s == rate
        now[0] += 10


def test_a_frame_is_asked_for_in_time_or_when_something_else_is_wanted(now):
    watcher = Watcher(Away())
    watcher._client.back()
    wanted = [(View(), 10), (pressed("/", "x"), 10), (pressed("tab", "/", "x"), 10), (pressed("tab", "s"), 10)]
    for n, (view, rows) in enumerate([*wanted, (pressed("tab", "s"), 20)], 1):
        watcher.look(view, rows)
        watcher.look(view, rows)
        assert watcher._client.questions == n
    watcher.look(pressed("tab", "s", "tab", "s", "p"), 20)  # what is shown already, in another way
    assert watcher._client.questions == n


def test_a_pause_lasts(now):
    watcher = Watcher(Away())
    watcher.look(View(), 10)
    assert watcher.wait_s(pressed("p")) is None
    now[0] += 1_000
    watcher.look(pressed("p"), 10)
    assert watcher._client.questions == 1
    watcher.look(View(), 10)
    assert watcher._client.questions == 2


def test_an_answer_that_lacks_a_figure_is_said():
    client = Away()
    client.answer = {"Server": {}}
    with pytest.raises(ProtocolError, match="INFO has no uptime_in_seconds"):
        ask(client, View(), 10, None)


# A real server


@pytest.fixture
def url(url):
    """A site with people, and with a name that is to be quoted."""
    url = f"{url}%2F"
    with Client(url) as client:
        client.hits([("theo", "/a/1"), ("dora", "/a/1", None, "guest")])
        client.hits([("th[b]\x1b", "/a/2"), ("robot", "/", None, "bot")])
    return url


def test_what_is_asked_for(url):
    with Client(url) as client:
        first = ask(client, View(), 10, None)
        assert first.pages == [TopPage("/a/1", 2), TopPage("/a/2", 1)]
        assert [session.user for session in first.users] == ["th[b]\x1b", "dora", "theo"]
        assert (first.n_pages, first.peak, first.kinds) == (3, 3, Kinds(2, 1, 0, 1))
        assert (first.rate.accepted, first.rate.per_s) == (4, None)
        by_name = ask(client, pressed("tab", "s"), 2, Rate(first.rate.at_s - 2, 0))
        assert [session.user for session in by_name.users] == ["dora", "th[b]\x1b"]
        assert 0 < by_name.rate.per_s <= 2
        alike = ask(client, pressed("/", *"/a/2", "enter", "tab", "/", *"the"), 10, None)
        assert alike.pages == [TopPage("/a/2", 1)]
        assert [session.user for session in alike.users] == ["theo"]


def test_a_filter_finds_urls_without_their_slash(url):
    with Client(url) as client:
        client.hits([("vera", "a/without"), ("jo", "/a/without")])
        assert ask(client, pressed("/", *"a/2"), 10, None).pages == [TopPage("/a/2", 1)]
        assert ask(client, pressed("/", *"a/w"), 10, None).pages == [TopPage("a/without", 1)]
        assert ask(client, pressed("/", *"nowhere"), 10, None).pages == []


def test_a_server_that_allows_few_rows_is_asked_for_fewer():
    with server_process("--max-limit", "10") as process, Client(f"online://{process.address}") as client:
        client.hits([(n, f"/{n}") for n in range(20)])
        frame = ask(client, View(), 55, None)
        assert (len(frame.pages), len(frame.users)) == (6, 6)


def test_a_site_without_hits(server):
    with Client(f"online://{server.address}/nobody") as client:
        empty = ask(client, View(), 10, None)
    assert (empty.n_pages, empty.peak, empty.peak_age, empty.pages, empty.users) == (0, 0, None, [], ())


@pytest.mark.parametrize("args", [["--once"], []])
def test_without_a_terminal_there_is_one_frame(url, args, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("ONLINE_URL", url)
    assert cli.main(["top", *args]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [line.split() for line in captured.out.splitlines()]
    assert lines[1] == ["people", "3", "members", "2", "guests", "1", "hidden", "0", "bots", "1"]
    assert lines[3:6] == [["people", "pages,", "most", "people", "first"], ["2", "/a/1"], ["1", "/a/2"]]
    assert lines[7][2:] == [r"th[b]\x1b", "/a/2"]
    assert len(lines) == 10


def test_a_server_that_is_not_there(capsys):
    assert cli.main(["top", "--once", "--url", "online://127.0.0.1:1"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "online top: cannot connect to online://127.0.0.1:1/default: Connection refused\n"


def test_a_wrong_address(capsys):
    assert cli.main(["top", "--url", "http://127.0.0.1"]) == 2
    assert "should begin with online://" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", "1e9"])
def test_a_wrong_interval(value, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["top", "--interval", value])
    assert f"--interval takes 0.1s to 1h, such as 90, 90s, 30min or 2h, not {value!r}" in capsys.readouterr().err


# A real terminal

TAKEN, GIVEN_BACK = "\x1b[?1049h", "\x1b[?1049l\x1b[?25h"


class Terminal:
    """`online top` on a terminal of its own, and what that shows."""

    def __init__(self, *args, columns=80, lines=24, **variables):
        self._ours, self.theirs = pty.openpty()
        self.output = ""
        self.resize(columns, lines)
        self.attributes = termios.tcgetattr(self.theirs)
        unsized = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES")}
        self.popen = subprocess.Popen(
            command("top", "--interval", "0.1", *args),
            env=unsized | {"TERM": "xterm", **variables},
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, columns, lines):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text):
        os.write(self._ours, text.encode())

    def wait_until(self, is_so):
        """Read until `is_so` of the lines on the screen; if that takes too long, fail."""
        end_s = time.monotonic() + 20
        while not is_so(self.screen()):
            left_s = end_s - time.monotonic()
            assert left_s > 0, self.screen()
            assert select.select([self._ours], [], [], left_s)[0], self.screen()
            self.output += os.read(self._ours, 65_536).decode(errors="replace")

    def wait_for(self, text):
        self.wait_until(lambda lines: text in "\n".join(lines))

    def screen(self):
        """What stands on the screen: every line is written whole, from its first column on."""
        since_cleared = re.sub(r"\x1b\[[\d;]*m", "", self.output.rpartition("\x1b[2J")[2])
        shown = {int(line): text for line, text in re.findall(r"\x1b\[(\d+);1H([^\x1b]*)", since_cleared)}
        return [shown[line] for line in sorted(shown)]

    def end(self):
        """Read until it gives the terminal back, and return its exit code."""
        self.wait_until(lambda lines: self.output.endswith(GIVEN_BACK))
        return self.popen.wait(20)

    def close(self):
        self.popen.kill()
        self.popen.wait()
        os.close(self._ours)
        os.close(self.theirs)


@contextlib.contextmanager
def terminal(*args, **options):
    opened = Terminal(*args, **options)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.slow
def test_a_session(url):
    with terminal("--url", url) as shown:
        shown.wait_for("people 3 ")
        shown.wait_until(lambda lines: [len(line) for line in lines] == [80] * 24)
        assert not termios.tcgetattr(shown.theirs)[3] & (termios.ICANON | termios.ECHO)
        with Client(url) as client:
            client.hit("vera", "/b")
        shown.wait_for("people 4 ")
        shown.type("s")
        shown.wait_for("pages, the top ones, by url")
        shown.type("\t/the")
        shown.wait_for("users that begin with: the_")
        shown.wait_until(lambda lines: "vera" not in "\n".join(lines))
        shown.type("\r?")
        shown.wait_for("Press any key to go back.")
        shown.type("xp")
        shown.wait_for(" paused ")
        shown.type("q")
        assert shown.end() == 0
        assert termios.tcgetattr(shown.theirs) == shown.attributes


@pytest.mark.slow
def test_a_resized_terminal_is_filled_again(url):
    with terminal("--url", url) as shown:
        shown.wait_for("people 3 ")
        shown.resize(40, 10)
        shown.wait_until(lambda lines: [len(line) for line in lines] == [40] * 10)
        shown.type("q")
        assert shown.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGQUIT, 0), (signal.SIGINT, 130)]
)
def test_a_signal_gives_the_terminal_back(url, sent, code):
    with terminal("--url", url) as shown:
        shown.wait_for("people 3 ")
        shown.popen.send_signal(sent)
        assert shown.end() == code
        assert termios.tcgetattr(shown.theirs) == shown.attributes


@pytest.mark.slow
def test_other_signals_change_nothing(url):
    with terminal("--url", url) as shown:
        shown.wait_for("people 3 ")
        for sent in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            shown.popen.send_signal(sent)
        shown.type("s")
        shown.wait_for("the top ones, by url")
        shown.type("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_to_suspend_gives_the_terminal_back_until_it_goes_on(url):
    with terminal("--url", url) as shown:
        shown.wait_for("people 3 ")
        shown.popen.send_signal(signal.SIGTSTP)  # without a shell to go on in, it goes on at once
        shown.wait_until(lambda lines: shown.output.count(TAKEN) == 2)
        shown.type("q")
        assert shown.end() == 0
        assert shown.output.count(GIVEN_BACK) == 2


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back(tmp_path):
    path = tmp_path / "socket"
    with terminal("--url", f"online+unix://{path}", columns=200) as shown:
        shown.wait_for("cannot connect to")
        for hits in (3, 2):
            with server_process("--listen", f"unix:{path}") as server, Client(f"online+unix://{path}") as client:
                client.hits([(n, "/") for n in range(hits)])
                shown.wait_for(f"people {hits} ")
                shown.wait_until(lambda lines: "next try" not in "\n".join(lines))
                server.end()
            shown.wait_for("next try in")
        shown.type("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_a_dumb_terminal_gets_one_frame(url):
    with terminal("--url", url, TERM="dumb") as shown:
        shown.wait_until(lambda lines: "th[b]" in shown.output)
        assert shown.popen.wait(20) == 0
        assert "\x1b" not in shown.output


def test_an_error_gives_the_terminal_back(monkeypatch):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGWINCH)
    console = Console(file=io.StringIO(), force_terminal=True)
    with open(theirs, closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with contextlib.suppress(ZeroDivisionError), top._take_over(console):
            taken = termios.tcgetattr(theirs)
            raise ZeroDivisionError
    after = termios.tcgetattr(theirs), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGWINCH)
    os.close(ours)
    os.close(theirs)
    assert after == before
    assert not taken[3] & termios.ICANON
    assert signal.set_wakeup_fd(-1) == -1
    assert console.file.getvalue().endswith(GIVEN_BACK)
