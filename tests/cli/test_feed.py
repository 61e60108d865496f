"""`online feed`: page views of logs reach a server, once each as far as it can tell, and survive its absence."""

import errno
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import msgpack
import pytest
from tests.serving import command, environment, run_command, server_process

from online.cli import sending
from online.cli.feed import Feed
from online.cli.main import main
from online.cli.sending import Batch, Sender
from online.errors import StateError
from online.logs.follow import Log, Pipe
from online.logs.formats import reader_of
from online.logs.pages import Pages, PageView
from online.logs.places import Places
from online.logs.rules import Rules
from online_client import Client

FOLDER = Path(os.environ.get("ONLINE_REAL_LOGS") or Path(__file__).parents[3] / "shared" / "data")

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"


def line(user="-", url="/a", *, status=200, address="198.51.100.7", agent=BROWSER):
    date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    return f'{address} - {user} [{date}] "GET {url} HTTP/1.1" {status} 5 "-" "{agent}"\n'


def url_of(server):
    return f"online://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def server():
    with server_process() as process:
        yield process


@pytest.fixture
def client(server):
    with Client(url_of(server), timeout=10) as client:
        yield client


def until(condition):
    """Wait for what another process does."""
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come true")


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


def test_log_is_fed_to_its_end(tmp_path, server, client):
    log = tmp_path / "access.log"
    log.write_text(
        line("once-ada")
        + line("once-theo", "/once?x=1")
        + line("once-no", "/a.css")
        + line("once-no", "/gone", status=404)
        + "nonsense\n"
        + line(agent="Googlebot/2.1")
    )
    done = run_command("feed", log, "--once", "--from-start", "--url", url_of(server))
    assert done.returncode == 0
    assert "6 lines, 3 hits sent, 2 lines no page views, 1 not understood" in done.stderr
    assert 'it is not in common or combined format: "nonsense"' in done.stderr
    assert [seen and seen.url for seen in client.seen("once-ada", "once-theo", "once-no")] == ["/a", "/once", None]
    assert client.kinds().bots >= 1


def test_standard_input_is_fed(server, client):
    done = subprocess.run(
        command("feed", "-", "--quiet", "--url", url_of(server)), input=line("piped").encode(), env=environment(),
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert client.seen("piped")[0].url == "/a"


def test_log_is_followed_through_rotation_and_the_next_run_goes_on(tmp_path, server, client):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("too-early"))
    arguments = (log, "--state", state, "--url", url_of(server), "--quiet")
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


def test_nothing_is_lost_when_feeds_are_killed(tmp_path, server, client):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.touch()
    arguments = (log, "--state", state, "--url", url_of(server), "--quiet")
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
        if "the server is away" in told:
            break
    with server_process("--listen", f"unix:{socket}"), Client(f"online+unix://{socket}") as client:
        until(lambda: client.count() == 1_000)
        code, error = follower.end()
    assert code == 0
    assert "online feed: the server is back\n" in error
    assert "1,000 lines, 1,000 hits sent" in error.splitlines()[-1]


def test_end_without_a_server_keeps_the_place(tmp_path):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("kept"))
    nowhere = f"online+unix://{tmp_path}/none"
    follower = Follower(log, "--state", state, "--from-start", "--url", nowhere, "--status", "0.1")
    for told in follower.popen.stderr:
        if "the server is away" in told:
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
    return Batch(views, lambda: settled.append(number), may_be_dropped=may_be_dropped)


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
        sender.put(Batch([], lambda: None, may_be_dropped=True))
        sender.put(batch_of(0, [], may_be_dropped=True))
    assert len(sender._queue) == 10_000 // sending.MESSAGE_HITS


def test_lines_that_are_no_hits_do_not_wait_without_end(monkeypatch):
    monkeypatch.setattr(sending, "MAX_WAITING_BATCHES", 3)
    sender = Sender(Absent())
    for _ in range(3):
        assert not sender.is_full
        sender.put(Batch([], lambda: None, may_be_dropped=False))
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


def test_closed_input_is_said(server):
    sh = ["sh", "-c", 'exec "$@" <&-', "sh", *command("feed", "-", "--url", url_of(server))]
    done = subprocess.run(sh, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "online feed: cannot read standard input: it is closed\n")


def test_end_of_input_waits_for_the_server_until_it_is_told_to_end():
    follower = Follower("-", "--url", "online+unix:///nowhere/socket", stdin=subprocess.PIPE)
    follower.popen.stdin.write(line("theo"))
    follower.popen.stdin.close()
    follower.popen.stdin = None
    assert "the server is away" in follower.popen.stderr.readline()
    returned, told = follower.end()
    assert returned == 1
    assert told.endswith("online feed: it ends, and hits were not sent: 1\n")


def test_file_that_is_not_there_yet_is_said(tmp_path, server):
    follower = Follower(tmp_path / "access.log", "--url", url_of(server))
    assert follower.popen.stderr.readline() == f"online feed: {tmp_path}/access.log is not there yet, waiting for it\n"
    assert follower.end()[0] == 0


def test_sender_that_fails_ends_the_feed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    log, client = tmp_path / "access.log", Absent()
    log.write_text(line("theo"))
    client.call = lambda request: 1 / 0
    feed = Feed([Log(str(log), from_start=True)], Pages(reader_of(), Rules(), key=b"k"), Sender(client), Places(None))
    assert feed.run() == 1
    assert "online feed: it has failed to send\n" in capsys.readouterr().err


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


def test_log_that_cannot_be_read_after_rotation_is_said_and_waited_for(tmp_path, server, client):
    log = tmp_path / "access.log"
    log.touch()
    log.write_text(line("rotated-before"))
    follower = Follower(log, "--from-start", "--url", url_of(server), "--quiet")
    until(lambda: client.seen("rotated-before")[0])
    log.rename(tmp_path / "access.log.1")
    log.mkdir()
    assert "access.log: it is no regular file" in follower.popen.stderr.readline()
    log.rmdir()
    log.write_text(line("rotated-after"))
    until(lambda: client.seen("rotated-after")[0])
    code, error = follower.end()
    assert (code, error) == (0, f"online feed: {log} is no problem any more\n")


def test_state_file_is_one_feeds_at_a_time(tmp_path, server):
    state = tmp_path / "state"
    with Places.held(state):
        done = run_command("feed", "-", "--state", state, "--url", url_of(server))
    assert done.returncode == 2
    assert done.stderr == f"online feed: state file {state} is in use by another feed; give another path\n"


def test_what_the_server_finds_too_large_goes_in_parts(tmp_path, monkeypatch):
    log = tmp_path / "access.log"
    log.write_text("".join(line(f"user{number}", "/" + "x" * 500) for number in range(100)))
    with server_process("--max-frame", "4KiB") as server:
        done = run_command("feed", log, "--once", "--from-start", "--url", url_of(server))
        with Client(url_of(server)) as client:
            assert client.count() == 100
    assert done.returncode == 0
    assert "100 hits sent" in done.stderr


@pytest.mark.parametrize(
    "text", ["something else", "[]", '{"version": 2}', '{"version": 1, "logs": {"a": [[1, 2, "xy", 3]]}}']
)
def test_state_that_is_none_is_left_alone(tmp_path, text):
    path = tmp_path / "state"
    path.write_text(text)
    with pytest.raises(StateError, match="is none of online feed"), Places.held(path):
        pass
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.log", "--once"], "cannot read .*missing.log: No such file"),
        (["-", "--state", "/nowhere/state"], "guest_key /nowhere/.state.key: No such file"),
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
    assert "  it is no page view: its url is that of a file\n" in done.stdout
    assert "of the first 3 lines 1 page views, 1 of files, 1 not understood" in done.stdout
    assert "  1 not understood: it is not in common or combined format\n" in done.stdout


def test_check_counts_by_reason_and_fails_where_nothing_is_understood(tmp_path):
    log, good = tmp_path / "access.log", tmp_path / "good.log"
    good.write_text(line(url="/a.css"))
    log.write_text("nonsense\n" * 3 + '{"url": "/a", "time": "noon"}\n{"url": "/a", "time": "late"}\n')
    done = run_command("feed", "--check", log, good)
    assert done.returncode == 1
    assert done.stderr == f"online feed: no line of {log} was understood\n"
    assert "  3 not understood: it is not in common or combined format\n" in done.stdout
    assert "  2 not understood: its time is\n" in done.stdout
    assert run_command("feed", "--check", good).returncode == 0


UNDERSTOOD = {
    "caddy_json.log": ("guest", "/beta/", "2023-12-23 23:17:54"),
    "common.log.bz2": ('member "theboss"', "/", "2012-02-19 23:42:07"),
    "common.log.gz": ('member "admin"', "/form", "2012-02-10 23:42:07"),
    "static_ignores.log": ('member "theuser"', "/", "2012-02-10 21:41:07"),
    "traefik_json.log": ("bot", "/my/app/auth", "2023-08-11 11:39:21"),
}  # fmt: skip


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real logs in {FOLDER}; ONLINE_REAL_LOGS can name another folder")
def test_real_log_is_understood_or_refused_but_never_wrongly(capsys):
    shown = {}
    logs = [path for name in ("formats", "odd-logs") for path in sorted((FOLDER / name).glob("*"))]
    for path in logs:
        assert main(["feed", "--check", str(path)]) in (0, 1)
        shown[path.name] = re.findall(r"^  ((?:member|guest|bot).*)$", capsys.readouterr().out, re.MULTILINE)
    for name in ("combined_latin1_enc", "combined_with_errors", "dreamhost_apache_access", "nginx_access"):
        assert shown.pop(f"{name}.log.gz")
    shown.pop("logs_to_tests.log")
    found = {name: views for name, views in shown.items() if views}
    assert found.keys() == UNDERSTOOD.keys()
    for name, (who, url, when) in UNDERSTOOD.items():
        assert len(found[name]) == 1
        assert found[name][0].startswith(who)
        assert f' on "{url}" at {when}' in found[name][0]


def test_log_that_is_not_found_again_is_said(tmp_path, server):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("lost"))
    arguments = (log, "--state", state, "--url", url_of(server), "--from-start")
    assert run_command("feed", *arguments, "--once").returncode == 0
    log.unlink()
    log.write_text(line("found"))
    follower = Follower(*arguments)
    said = follower.popen.stderr.readline()
    assert said.startswith(f"online feed: cannot find the file that was {log}, read to byte ")
    follower.popen.kill()
