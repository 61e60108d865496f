"""`online feed`: page views of logs reach a server, once each as far as it can tell, and survive its absence."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import msgpack
import pytest
from tests.serving import command, environment, run_command, server_process, until
from tests.websites import free_port

from online.cli import sending
from online.cli.feed import Feed
from online.cli.main import main
from online.cli.sending import Batch, Sender, packed
from online.errors import StateError
from online.logs.follow import Log, Pipe
from online.logs.formats import reader_of
from online.logs.pages import Pages, PageView
from online.logs.places import Places
from online.logs.rules import Rules
from online_client import Client
from online_client.errors import server_error

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"


def line(user="-", url="/a", *, status=200, address="198.51.100.7", agent=BROWSER):
    date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    return f'{address} - {user} [{date}] "GET {url} HTTP/1.1" {status} 5 "-" "{agent}"\n'


STARTED = []


class Follower:
    """A feed in a process of its own."""

    def __init__(self, *arguments, stdin=None):
        self.popen = subprocess.Popen(
            command("feed", *arguments), env=environment(), stdin=stdin, stderr=subprocess.PIPE, text=True
        )
        STARTED.append(self.popen)

    def end(self):
        self.popen.terminate()
        error = self.popen.communicate(timeout=30)[1]
        return self.popen.returncode, error


@pytest.fixture(autouse=True)
def no_follower_outlives_its_test():
    yield
    while STARTED:
        with STARTED.pop() as popen:
            popen.kill()


def test_log_is_fed_to_its_end(tmp_path, url, client):
    log = tmp_path / "access.log"
    log.write_text(
        line("once-ada")
        + line("once-theo", "/once?x=1")
        + line("once-no", "/a.css")
        + line("once-no", "/gone", status=404)
        + "nonsense\n"
        + line(agent="Googlebot/2.1")
    )
    done = run_command("feed", log, "--once", "--from-start", "--url", url)
    assert done.returncode == 0
    begin, end = done.stderr.splitlines()
    assert begin == f"online feed: reading {log} from its start; sending to {url}"
    assert end.startswith("online feed: 6 lines: 3 page views, 2 left out, 1 not understood; 3 hits sent; ")
    assert 'first line not understood: not in common or combined format: "nonsense"' in end
    assert [seen and seen.url for seen in client.seen("once-ada", "once-theo", "once-no")] == ["/a", "/once", None]
    assert client.kinds().bots >= 1


def test_kinds_of_a_log_are_sent_and_others_are_told(tmp_path, url, client):
    log = tmp_path / "hits.jsonl"
    now_s = time.time()
    said = {"ada": "member", "tom": "guest", "eve": "hidden", "crawler": "bot", "bob": "boss"}
    hits = [{"time": now_s, "user": user, "url": f"/{user}", "kind": kind} for user, kind in said.items()]
    log.write_text("".join(json.dumps(hit) + "\n" for hit in hits))
    done = run_command("feed", log, "--once", "--from-start", "--url", url)
    assert 'first line not understood: kind takes member, guest, hidden or bot, not "boss": ' in done.stderr
    for user, kind in list(said.items())[:4]:
        counted = client.kinds(f"/{user}")
        assert (counted.members, counted.guests, counted.hidden, counted.bots) == tuple(
            int(kind == each) for each in ("member", "guest", "hidden", "bot")
        )
    assert client.seen("bob") == [None]


def test_standard_input_is_fed(url, client):
    done = subprocess.run(
        command("feed", "-", "--quiet", "--url", url), input=line("piped").encode(), env=environment(),
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert client.seen("piped")[0].url == "/a"


def test_log_is_followed_through_rotation_and_the_next_run_goes_on(tmp_path, url, client):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("too-early"))
    arguments = (log, "--state", state, "--url", url, "--quiet")
    first = Follower(*arguments)
    until(lambda: state.exists() and state.read_text() != '{"version": 1, "logs": {}}')
    with log.open("a") as file:
        file.write(line("before"))
    until(lambda: client.seen("before")[0])
    log.rename(tmp_path / "access.log.1")
    log.write_text(line("after") + line(url="/guest"))
    until(lambda: client.seen("after")[0])
    until(lambda: client.page("/guest").here)
    assert first.end() == (0, "")
    with log.open("a") as file:
        file.write(line("between") + line(url="/guest"))
    second = Follower(*arguments)
    until(lambda: client.seen("between")[0])
    assert second.end() == (0, "")
    assert client.seen("too-early") == [None]
    assert client.page("/guest").here == 1  # the guest has kept its name


def test_nothing_is_lost_when_feeds_are_killed(tmp_path, url, client):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.touch()
    arguments = (log, "--state", state, "--url", url, "--quiet")
    assert run_command("feed", *arguments, "--once").returncode == 0
    for run in range(3):
        follower = Follower(*arguments)
        for number in range(300):
            with log.open("a") as file:
                file.write(line(f"killed-{run}-{number}"))
        until(lambda run=run: client.seen(f"killed-{run}-0")[0])
        follower.popen.kill()
        follower.popen.communicate(timeout=30)
        log.rename(tmp_path / f"access.log.{run}")
    log.touch()
    assert run_command("feed", *arguments, "--once").returncode == 0
    wanted = [f"killed-{run}-{number}" for run in range(3) for number in range(300)]
    assert all(client.seen(*wanted))


def test_hits_wait_in_the_file_while_there_is_no_server(tmp_path):
    log, socket = tmp_path / "access.log", tmp_path / "online.sock"
    log.write_text("".join(line(f"user{number}") for number in range(1_000)))
    follower = Follower(log, "--from-start", "--url", f"online+unix://{socket}", "--status", "0.1")
    for told in follower.popen.stderr:
        if "cannot reach the server" in told:
            break
    with server_process("--listen", f"unix:{socket}"), Client(f"online+unix://{socket}") as client:
        until(lambda: client.count() == 1_000)
        code, error = follower.end()
    assert code == 0
    assert "online feed: the server takes hits again\n" in error
    assert "1,000 lines: 1,000 page views, 0 left out, 0 not understood; 1,000 hits sent" in error.splitlines()[-1]


def test_a_server_that_is_away_is_said_before_there_are_hits(tmp_path):
    log, socket = tmp_path / "access.log", tmp_path / "online.sock"
    log.touch()
    follower = Follower(log, "--url", f"online+unix://{socket}", "--quiet")
    assert "cannot reach the server" in follower.popen.stderr.readline()
    with server_process("--listen", f"unix:{socket}"):
        assert follower.popen.stderr.readline() == "online feed: the server takes hits again\n"
        assert follower.end()[0] == 0


@pytest.mark.parametrize("kind", ["redis", "redis+cluster", pytest.param("kafka", marks=pytest.mark.slow)])
def test_a_bus_that_is_away_is_said_before_there_are_hits(tmp_path, kind):
    log = tmp_path / "access.log"
    log.touch()
    follower = Follower(log, "--bus", f"{kind}://127.0.0.1:{free_port()}", "--quiet")
    assert "cannot reach the server" in follower.popen.stderr.readline()
    assert follower.end()[0] == 0


def test_end_without_a_server_keeps_the_place(tmp_path):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("kept"))
    nowhere = f"online+unix://{tmp_path}/none"
    follower = Follower(log, "--state", state, "--from-start", "--url", nowhere, "--status", "0.1")
    for told in follower.popen.stderr:
        if "cannot reach the server" in told:
            break
    assert follower.end()[0] == 0
    with Places.held(state) as places:
        assert [place.offset for place in places.of(str(log))] == [0]


class Absent:
    """A client whose server is away until it is back."""

    def __init__(self):
        self.is_back = threading.Event()
        self.frames = []

    def call(self, request):
        if not self.is_back.is_set():
            raise sending.OnlineError("away")
        self.frames.append(request)
        return sending.BatchResult(len(msgpack.unpackb(request.params)), 0, 0, None)

    def close(self):
        pass


def batch_of(number, settled, *, may_be_dropped):
    views = [PageView(b"u%d" % each, b"/", 1_709_294_400_000, "member") for each in range(10)]
    return Batch(packed(views), lambda: settled.append(number), may_be_dropped=may_be_dropped)


@pytest.fixture
def narrow(monkeypatch):
    """Room for little."""
    monkeypatch.setattr(sending, "MAX_WAITING_HITS", 50)
    monkeypatch.setattr(sending, "MESSAGE_HITS", 10)


def forever():
    return True


def test_oldest_of_a_pipe_are_dropped_and_counted_while_the_server_is_away(narrow):
    client, settled = Absent(), []
    sender = Sender(client)
    sender.start()
    for number in range(20):
        sender.put(batch_of(number, settled, may_be_dropped=True))
    assert sender.waiting <= 50
    dropped = sender.counts.dropped
    client.is_back.set()
    assert sender.finish(forever, 0.05)
    assert (sender.counts.sent, sender.counts.dropped) == (200 - dropped, dropped)
    assert dropped >= 140
    assert settled[-4:] == [16, 17, 18, 19]


def test_what_a_pipe_gives_line_by_line_waits_together():
    client = Absent()
    sender = Sender(client)
    for _ in range(1_000):
        sender.put(Batch(packed([]), lambda: None, may_be_dropped=True))
        sender.put(batch_of(0, [], may_be_dropped=True))
    assert len(sender._queue) == 10_000 // sending.MESSAGE_HITS


def test_lines_that_are_no_hits_do_not_wait_without_end(monkeypatch):
    monkeypatch.setattr(sending, "MAX_WAITING_BATCHES", 3)
    sender = Sender(Absent())
    for _ in range(3):
        assert not sender.is_full
        sender.put(Batch(packed([]), lambda: None, may_be_dropped=False))
    assert sender.is_full


def running(feed):
    thread = threading.Thread(target=feed.run)
    thread.start()
    return thread


def test_file_waits_while_the_server_is_away_and_holds_up_no_pipe(tmp_path, narrow, capsys):
    log, client = tmp_path / "access.log", Absent()
    log.write_text("".join(line(f"user{number}") for number in range(50)))
    reader, writer = os.pipe()
    sender = Sender(client)
    sources = [Log(str(log), from_start=True), Pipe(reader)]
    feed = Feed(sources, Pages(reader_of(), Rules(), key=b"k"), sender, Places(None))
    thread = running(feed)
    until(lambda: sender.is_full)
    with log.open("a") as file:
        file.write(line("later"))
    with os.fdopen(writer, "w") as pipe:
        for number in range(5_000):  # more than a pipe holds
            pipe.write(line(f"piped{number}"))
    until(lambda: len(sources) == 1)
    assert sources[0].behind_bytes == len(line("later"))
    client.is_back.set()
    until(lambda: not sources[0].behind_bytes and not sender.waiting)
    feed.stop()
    thread.join()
    os.close(reader)
    counts = sender.counts
    assert counts.sent + counts.dropped == 5_051
    sent = [user for frame in client.frames for user, *_ in msgpack.unpackb(frame.params)]
    assert [user for user in sent if not user.startswith(b"piped")][-1] == b"later"


def test_what_was_written_to_a_pipe_before_the_end_is_sent(capsys):
    client = Absent()
    client.is_back.set()
    reader, writer = os.pipe()
    os.write(writer, (line("theo") * 3).encode())
    feed = Feed([Pipe(reader)], Pages(reader_of(), Rules(), key=b"k"), sender := Sender(client), Places(None))
    feed.stop()
    assert feed.run() == 0
    assert sender.counts.sent == 3
    os.close(reader)
    os.close(writer)


def test_closed_input_is_said(url):
    sh = ["sh", "-c", 'exec "$@" <&-', "sh", *command("feed", "-", "--url", url)]
    done = subprocess.run(sh, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "online feed: cannot read standard input: it is closed\n")


def test_end_of_input_waits_for_the_server_until_it_is_told_to_end():
    follower = Follower("-", "--url", "online+unix:///nowhere/socket", "--quiet", stdin=subprocess.PIPE)
    follower.popen.stdin.write(line("theo"))
    follower.popen.stdin.close()
    follower.popen.stdin = None
    assert "cannot reach the server" in follower.popen.stderr.readline()
    returned, told = follower.end()
    assert returned == 1
    assert told.endswith("online feed: 1 hit was not sent\n")


def test_file_that_is_not_there_yet_is_said(tmp_path, url):
    log = tmp_path / "access.log"
    follower = Follower(log, "--url", url)
    assert follower.popen.stderr.readline() == f"online feed: {log} does not exist yet, waiting for it\n"
    assert follower.end()[0] == 0


def test_sender_that_fails_ends_the_feed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    log, client = tmp_path / "access.log", Absent()
    log.write_text(line("theo"))
    client.call = lambda request: 1 / 0
    feed = Feed([Log(str(log), from_start=True)], Pages(reader_of(), Rules(), key=b"k"), Sender(client), Places(None))
    assert feed.run() == 1
    assert "online feed: sending has failed\n" in capsys.readouterr().err


def test_full_disk_is_said_and_the_feed_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("online.cli.feed.STATE_EVERY_S", 0)
    log, client = tmp_path / "access.log", Absent()
    client.is_back.set()
    log.write_text(line("theo"))
    told, real = [], os.fsync

    def refuse(descriptor):
        told.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with Places.held(tmp_path / "state") as places:
        followed = Log(str(log), from_start=True)
        places.add(followed)
        feed = Feed([followed], Pages(reader_of(), Rules(), key=b"k"), Sender(client), places)
        monkeypatch.setattr(os, "fsync", refuse)
        thread = running(feed)
        until(lambda: len(told) > 2)
        monkeypatch.setattr(os, "fsync", real)
        until(lambda: (tmp_path / "state").exists())
        feed.stop()
        thread.join()
    errors = [each for each in capsys.readouterr().err.splitlines() if "state" in each]
    assert errors == [
        f"online feed: state file {tmp_path}/state cannot be written: No space left on device",
        "online feed: the state file can be written again",
    ]


def test_log_that_cannot_be_read_after_rotation_is_said_and_waited_for(tmp_path, url, client):
    log = tmp_path / "access.log"
    log.touch()
    log.write_text(line("rotated-before"))
    follower = Follower(log, "--from-start", "--url", url, "--quiet")
    until(lambda: client.seen("rotated-before")[0])
    log.rename(tmp_path / "access.log.1")
    log.mkdir()
    assert "access.log: not a regular file" in follower.popen.stderr.readline()
    log.rmdir()
    log.write_text(line("rotated-after"))
    until(lambda: client.seen("rotated-after")[0])
    code, error = follower.end()
    assert (code, error) == (0, f"online feed: {log} can be read again\n")


def test_state_file_is_one_feeds_at_a_time(tmp_path, url):
    state = tmp_path / "state"
    with Places.held(state):
        done = run_command("feed", "-", "--state", state, "--url", url)
    assert done.returncode == 2
    assert done.stderr == f"online feed: state file {state} is in use by another feed; give another path\n"


def test_what_the_server_finds_too_large_goes_in_parts(tmp_path, monkeypatch):
    log = tmp_path / "access.log"
    log.write_text("".join(line(f"user{number}", "/" + "x" * 500) for number in range(100)))
    with server_process("--max-frame", "4KiB") as server:
        done = run_command("feed", log, "--once", "--from-start", "--url", server.url)
        with Client(server.url) as client:
            assert client.count() == 100
    assert done.returncode == 0
    assert "100 hits sent" in done.stderr


@pytest.mark.parametrize(
    "text", ["something else", "[]", '{"version": 2}', '{"version": 1, "logs": {"a": [[1, 2, "xy", 3]]}}']
)
def test_state_that_is_none_is_left_alone(tmp_path, text):
    path = tmp_path / "state"
    path.write_text(text)
    with pytest.raises(StateError, match="is not a state file of online feed"), Places.held(path):
        pass
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--wait", "5s"], "--wait needs --once"),
        (["-", "--state", "/nowhere/state"], "state file /nowhere/state: there is no folder /nowhere"),
        (["-", "--url", "http://x"], "should begin with online://"),
        (["-", "--rewrite", "(", ""], "takes regular expressions"),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments, message):
    done = run_command("feed", *arguments)
    assert done.returncode == 2
    assert re.fullmatch(f"online feed: .*(?:{message}).*\n", done.stderr)


def test_check_shows_how_lines_are_understood_and_sends_nothing(tmp_path):
    log = tmp_path / "access.log"
    log.write_text(line("theo", "/forum?x=1") + line(url="/a.css") + "nonsense\n")
    done = run_command("feed", "--check", log)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r'line 1: .*\n  member "theo" on "/forum" at 20\d\d-', done.stdout)
    assert "  not a page view: the url is a file\n" in done.stdout
    assert done.stdout.endswith(
        f"{log}: 3 lines: 1 page view, 1 left out, 1 not understood\n"
        "  1  requests for files: images, styles, scripts and so on\n"
        "  1  not understood: not in common or combined format\n"
    )


def test_reasons_are_counted_without_what_is_quoted_from_lines(tmp_path):
    log = tmp_path / "access.log"
    log.write_text('{"user": "ada", "url": "/", "time": "2026-11-28T12:00:00Z", "kind": "boss"}\n')
    told = run_command("feed", "--check", log).stdout
    assert told.endswith("  1  not understood: kind takes member, guest, hidden or bot\n")


def test_log_that_is_not_found_again_is_said(tmp_path, url):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("lost"))
    arguments = (log, "--state", state, "--url", url, "--from-start")
    assert run_command("feed", *arguments, "--once").returncode == 0
    log.unlink()
    log.write_text(line("found"))
    follower = Follower(*arguments)
    said = follower.popen.stderr.readline()
    assert said.startswith(f"online feed: cannot find the rotated file of {log}, which was read to byte ")
    follower.popen.kill()


# What is said at the start, and what a run ends with


def test_where_each_log_is_read_from_is_said(tmp_path, url):
    old, new, state = tmp_path / "old.log", tmp_path / "new.log", tmp_path / "state"
    old.write_text(line("said"))
    where = f"; sending to {url}"
    arguments = ("--once", "--state", state, "--url", url)
    first = run_command("feed", old, *arguments).stderr.splitlines()[0]
    assert first == f"online feed: reading {old} from its end{where}"
    with old.open("a") as file:
        file.write(line("said-later"))
    assert run_command("feed", old, *arguments).returncode == 0
    new.write_text(line("said-anew"))
    second = run_command("feed", old, new, "--from-start", *arguments).stderr.splitlines()[0]
    assert second == (f"online feed: reading {old} from where the last run stopped, {new} from its start{where}")


def test_what_the_server_ignores_is_said(tmp_path, url):
    log = tmp_path / "access.log"
    log.write_text(re.sub(r"\[.*?\]", "[01/Mar/2024:12:00:00 +0000]", line("of-old")))
    done = run_command("feed", log, "--once", "--from-start", "--url", url)
    assert done.returncode == 0
    assert "1 hit sent, 1 of them ignored (older than the window or the user's newest hit);" in done.stderr


@pytest.mark.parametrize("arguments", [("--once", "--from-start"), ("--check",)])
def test_a_log_that_is_not_understood_at_all_is_a_failure(tmp_path, url, arguments):
    log = tmp_path / "access.log"
    log.write_text("hello world\n")
    done = run_command("feed", log, *arguments, "--url", url)
    assert done.returncode == 1
    assert re.search(r"\nonline feed: no line .*was understood; .*--format", f"\n{done.stderr}")


def test_a_check_counts_by_reason(tmp_path):
    log = tmp_path / "access.log"
    log.write_text("nonsense\n" * 3 + '{"url": "/a", "time": "noon"}\n{"url": "/a", "time": "late"}\n')
    done = run_command("feed", "--check", log)
    assert done.stdout.endswith(
        f"{log}: 5 lines: 0 page views, 0 left out, 5 not understood\n"
        "  3  not understood: not in common or combined format\n"
        "  2  not understood: time is not a time\n"
    )


def test_an_empty_log_is_no_failure_of_a_check_unless_there_is_no_other(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "access.log").write_text(line())
    done = run_command("feed", "--check", tmp_path / "empty", tmp_path / "access.log")
    assert (done.returncode, done.stderr) == (0, f"online feed: {tmp_path}/empty is empty\n")
    assert run_command("feed", "--check", tmp_path / "empty").returncode == 1


def test_a_log_without_page_views_is_no_failure(tmp_path, url):
    log = tmp_path / "access.log"
    log.write_text(line(url="/a.css"))
    assert run_command("feed", log, "--once", "--from-start", "--url", url).returncode == 0
    assert run_command("feed", log, "--check").returncode == 0


@pytest.mark.parametrize("log", ["missing.log", "."])
@pytest.mark.parametrize(
    "command_line", [("feed", "--once"), ("feed", "--check"), ("report",), ("replay",)], ids=" ".join
)
def test_what_cannot_be_read_is_a_failure_of_every_command(tmp_path, log, command_line, url):
    done = run_command(*command_line, tmp_path / log, ONLINE_URL=url)
    assert done.returncode == 1
    assert f"cannot read {tmp_path}" in done.stderr


# A server that does not take hits


@pytest.fixture
def deaf(tmp_path):
    """The path of a socket that takes connections and answers nothing."""
    path = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


@pytest.mark.parametrize("is_deaf", [False, True])
def test_once_gives_up_when_no_server_answers(tmp_path, deaf, is_deaf):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("kept"))
    url = f"online+unix://{deaf if is_deaf else tmp_path / 'nobody.sock'}"
    done = run_command("feed", log, "--from-start", "--state", state, "--once", "--wait", "0.3s", "--url", url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "online feed: no server has taken the hits within 0.3s"
    with Places.held(state) as places:
        assert [place.offset for place in places.of(str(log))] == [0]


@pytest.mark.parametrize("code", ["LOADING", "PARTIAL", "MISCONF"])
def test_a_server_that_is_not_ready_is_waited_for(tmp_path, code):
    log, client = tmp_path / "access.log", Absent()
    log.write_text(line("theo"))
    client.is_back.set()
    answer, refusals = client.call, [server_error(code, "not ready")] * 2

    def call(request):
        if refusals:
            raise refusals.pop()
        return answer(request)

    client.call = call
    pages = Pages(reader_of(), Rules(), key=b"k")
    source = Log(str(log), from_start=True, is_followed=False)
    assert Feed([source], pages, sender := Sender(client), Places(None), wait_s=60).run() == 0
    assert sender.counts.sent == 1


def test_a_wrong_token_is_not_a_server_that_is_away(tmp_path):
    log, token = tmp_path / "access.log", tmp_path / "token"
    log.write_text(line("kept"))
    token.write_text("s3cret-and-long-enough")
    with server_process("--token-file", token) as server:
        url = f"online://:wrong-{'x' * 20}@127.0.0.1:{server.port}"
        follower = Follower(log, "--from-start", "--quiet", "--url", url)
        told = follower.popen.stderr.readline()
        assert follower.end()[0] == 1
        once = run_command("feed", log, "--from-start", "--once", "--quiet", "--url", url)
        none = run_command("feed", log, "--from-start", "--once", "--quiet", "--url", server.url)
    way = "set ONLINE_TOKEN, or write it in the address, as in online://:TOKEN@HOST:PORT\n"
    wrong_way = "correct ONLINE_TOKEN, or the token in the address, which comes first\n"
    assert told == f"online feed: the server refuses hits: WRONGPASS the token is wrong: {wrong_way}"
    assert (once.returncode, once.stderr) == (1, told * 2)
    assert none.stderr.startswith(f"online feed: the server refuses hits: NOAUTH the server needs a token: {way}")


ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("sent", ENDING, ids=lambda sent: sent.name)
def test_a_signal_ends_a_feed_whose_server_hangs_and_its_place_is_saved(tmp_path, deaf, url, client, sent):
    log, state = tmp_path / "access.log", tmp_path / "state"
    user = f"hangs-{sent.name}"
    log.write_text(line(user))
    follower = Follower(log, "--state", state, "--from-start", "--url", f"online+unix://{deaf}")
    follower.popen.stderr.readline()
    until(lambda: state.exists())
    follower.popen.send_signal(sent)
    assert follower.popen.wait(9) == 0  # 5 s are promised; to wait for the answer would take 12
    done = run_command("feed", log, "--state", state, "--once", "--url", url)
    assert done.returncode == 0
    assert "1 hit sent" in done.stderr
    assert client.seen(user)[0].url == "/a"


def test_other_signals_are_ignored_and_a_second_one_spoils_nothing(tmp_path, url, client):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.touch()
    follower = Follower(log, "--state", state, "--url", url, "--status", "0.1")
    follower.popen.stderr.readline()
    until(lambda: state.exists())
    for sent in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        follower.popen.send_signal(sent)
    with log.open("a") as file:
        file.write(line("after-signals"))
    until(lambda: client.seen("after-signals")[0])
    for _ in range(3):
        follower.popen.send_signal(signal.SIGTERM)
    assert follower.end()[0] == 0
    with Places.held(state) as places:
        assert [place.offset for place in places.of(str(log))] == [log.stat().st_size]


def test_what_is_ignored_from_the_start_stays_so(tmp_path, url, client):
    log = tmp_path / "access.log"
    log.touch()
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command("feed", log, "--url", url)]
    popen = subprocess.Popen(nohup, env=environment(), stderr=subprocess.PIPE, text=True)
    with popen:
        popen.stderr.readline()
        popen.send_signal(signal.SIGHUP)
        with log.open("a") as file:
            file.write(line("under-nohup"))
        until(lambda: client.seen("under-nohup")[0])
        popen.terminate()
        popen.stderr.read()
    assert popen.returncode == 0


def test_signals_are_in_the_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("feed", "top"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert all(sent.name in shown for sent in (*ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM))
