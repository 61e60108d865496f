"""`online state`: what is in a state directory, of a server that runs or not; a copy of one is a backup."""

import json
import random
import shutil
import sqlite3
import subprocess
from dataclasses import astuple

import pytest
from tests.keep.directories import NOW_MS, Writer, recover
from tests.serving import command, environment, run_command, server_process

from online.core.sites import DEFAULT_SITE
from online.keep.history import History, Minute
from online.keep.inspection import digest
from online_client import Client


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def writer(path):
    writer = Writer(path)
    writer.sites[DEFAULT_SITE].hit(b"theo", b"/x", now_ms=NOW_MS)
    writer.sites.open(b"shop").hit(b"\xff", b"/y", kind="guest", now_ms=NOW_MS + 1_000)
    writer.sites[DEFAULT_SITE].leave(b"kim", now_ms=NOW_MS + 2_000)
    writer.journal.flush()
    return writer


def test_check_says_what_is_there(path, writer):
    writer.take_snapshot()
    done = run_command("state", "check", path, "--digest")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("snapshot-000000000002  ")
    assert lines[1] == "journal-000000000001  not needed, not read"
    assert lines[2] == "journal-000000000002  48 bytes, 0 records"
    assert "hits        3, 2023-11-14 22:13:20 UTC to 2023-11-14 22:13:22 UTC" in lines
    assert "users       3, as of the newest hit" in lines
    assert "sites       2" in lines
    assert "damage      none" in lines
    assert lines[-1] == f"digest      {digest(writer.sites)}"


def test_check_finds_damage_and_changes_nothing(path, writer):
    for n in range(3):
        writer.sites[DEFAULT_SITE].hit(b"u%d" % n, b"/x", now_ms=NOW_MS + 3_000)
        writer.journal.flush()
    data = bytearray(writer.path.read_bytes())
    data[60] ^= 1
    writer.path.write_bytes(data)
    before = sorted(each.name for each in path.iterdir())
    done = run_command("state", "check", path)
    assert done.returncode == 1
    assert "journal-000000000001  " in done.stdout
    assert "DAMAGED: record at byte 48 is bad" in done.stdout
    assert "damage      1 file" in done.stdout
    assert sorted(each.name for each in path.iterdir()) == before


def test_a_torn_tail_is_no_damage(path, writer):
    writer.path.write_bytes(writer.path.read_bytes()[:-3])
    done = run_command("state", "check", path)
    assert done.returncode == 0
    assert "bytes are not a whole record" in done.stdout


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    done = run_command("state", "check", tmp_path / "missing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing is not a state directory of a server: it is not there" in done.stderr


@pytest.mark.parametrize("names", [[], ["README"], ["README", "lock"]])
@pytest.mark.parametrize("what", ["check", "dump"])
def test_a_directory_without_state_is_refused(path, what, names):
    path.mkdir()
    for name in names:
        (path / name).write_text("a text")
    done = run_command("state", what, path)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"{path} is not a state directory of a server: it has no journal, no snapshot and no history"
    assert said in done.stderr
    assert sorted(each.name for each in path.iterdir()) == sorted(names)


# The history


MINUTES = [(b"default", Minute(28_333_333 + n, 3, 1, 2, 0, 5, 3, 3, 3, NOW_MS)) for n in range(100)]


@pytest.fixture
def history(path, writer):
    """A history that a server has open, with its log."""
    history = History(path / "history")
    history.add(MINUTES)
    yield path / "history"
    history.close()


def test_check_reads_the_history_and_changes_nothing(path, history, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    done = run_command("state", "check", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "history  113 rows" in done.stdout.splitlines()
    assert "history  113 rows" in run_command("state", "check", tmp_path / "copy").stdout.splitlines()
    (tmp_path / "closed").mkdir()
    closed = History(tmp_path / "closed" / "history")
    closed.add(MINUTES)
    closed.close()
    assert "history  113 rows" in run_command("state", "check", tmp_path / "closed").stdout.splitlines()
    assert [each.name for each in (tmp_path / "closed").iterdir()] == ["history"]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda data: b"", "its size in bytes is 0, the least is 512"),
        (lambda data: b"x", "its size in bytes is 1, the least is 512"),
        (lambda data: random.Random(3).randbytes(5_000), "file is not a database"),
        (lambda data: bytes(len(data)), "file is not a database"),
    ],
)
def test_check_finds_a_damaged_history(tmp_path, history, spoil, what):
    copy = tmp_path / "copy"
    shutil.copytree(history.parent, copy)
    (copy / "history").write_bytes(spoil(history.read_bytes()))
    before = {each.name: each.read_bytes() for each in copy.iterdir()}
    done = run_command("state", "check", copy)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert f"history  DAMAGED: {what}" in lines
    assert "damage      1 file" in lines
    assert {each.name: each.read_bytes() for each in copy.iterdir()} == before


def test_check_finds_pages_of_a_history_that_have_changed(tmp_path, path, writer):
    history = History(path / "history")
    history.add([(name, minute) for name in (b"a", b"b", b"default") for _, minute in MINUTES])
    history.close()
    data = bytearray((path / "history").read_bytes())
    for page in range(4_096, len(data), 4_096):
        data[page + 100 : page + 2_000] = bytes(1_900)
    (path / "history").write_bytes(data)
    done = run_command("state", "check", path)
    assert (done.returncode, "history  DAMAGED: " in done.stdout) == (1, True)


def test_check_finds_a_history_without_its_tables(path, writer):
    db = sqlite3.connect(path / "history")
    db.execute("CREATE TABLE sites (id, name)")
    db.commit()
    db.close()
    assert "history  DAMAGED: no such table: rows" in run_command("state", "check", path).stdout.splitlines()


# Dumps


def test_dump_writes_lines(path, writer):
    done = run_command("state", "dump", path)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"time": NOW_MS / 1000, "site": "default", "user": "theo", "url": "/x", "kind": "member"},
        {"time": NOW_MS / 1000 + 1, "site": "shop", "user": "\udcff", "url": "/y", "kind": "guest"},
        {"time": NOW_MS / 1000 + 2, "site": "default", "user": "kim", "leave": True},
    ]
    writer.take_snapshot()
    again = run_command("state", "dump", path)
    assert sorted(again.stdout.splitlines()) == sorted(done.stdout.splitlines())


def replayed(path, tmp_path, *options, to="", speed="max"):
    """Replay a dump into a server of its own; return the command's outcome, and who is on each site by kind."""
    (tmp_path / "hits.jsonl").write_text(run_command("state", "dump", path).stdout)
    with server_process() as server:
        url = f"online://{server.address}{to}"
        done = run_command("replay", tmp_path / "hits.jsonl", "--speed", speed, "--url", url, *options)
        with Client(f"online://{server.address}") as client:
            sites = [site.name for site in client.sites()]
        found = {}
        for name in sites:
            with Client(f"online://{server.address}/{name}") as client:
                found[name] = astuple(client.kinds()), [(each.user, each.url) for each in client.recent().users]
    return done, found


@pytest.fixture
def everybody(writer):
    """Users of all kinds on two sites, one of whom has left."""
    default, shop = (writer.sites.open(name) for name in (DEFAULT_SITE, b"shop"))
    default.hit(b"shy", b"/x", kind="hidden", now_ms=NOW_MS + 2_000)
    default.hit(b"gone", b"/x", now_ms=NOW_MS + 2_000)
    default.leave(b"gone", now_ms=NOW_MS + 2_100)
    shop.hit(b"robot", b"/y", kind="bot", now_ms=NOW_MS + 2_200)
    writer.journal.flush()
    return writer


@pytest.mark.parametrize("speed", ["max", "1000"])
def test_a_dump_is_replayed_with_its_kinds_sites_and_leaves(path, tmp_path, everybody, speed):
    done, found = replayed(path, tmp_path, speed=speed)
    assert done.returncode == 0, done.stderr
    assert "Sent 7 hits, 2 leaves among them, in" in done.stdout
    assert "left out" not in done.stdout
    assert found["default"] == ((1, 0, 1, 0), [("theo", "/x")])
    assert found["shop"] == ((0, 1, 0, 1), [("\udcff", "/y")])


def test_a_dump_goes_to_the_site_of_the_address_if_that_is_another(path, tmp_path, everybody):
    done, found = replayed(path, tmp_path, to="/copy")
    assert done.returncode == 0, done.stderr
    assert found == {"default": ((0, 0, 0, 0), []), "copy": ((1, 1, 1, 1), [("\udcff", "/y"), ("theo", "/x")])}


def test_a_dump_may_have_a_prefix_put_in_front_of_its_urls(path, tmp_path, everybody):
    _, found = replayed(path, tmp_path, "--url-prefix", "/old")
    assert found["default"] == ((1, 0, 1, 0), [("theo", "/old/x")])


def test_frames_of_a_dump_are_what_a_server_takes(path, writer):
    done = subprocess.run(
        command("state", "dump", path, "--frames"), env=environment(), capture_output=True, timeout=60, check=True
    )
    from tests.wiring import Wiring, feed

    wiring = Wiring()
    assert feed(wiring.connect(), done.stdout, now_ms=NOW_MS + 3_000) == b""
    assert wiring.host.sites[b"default"].seen([b"theo", b"kim"], now_ms=NOW_MS + 3_000) == [(b"/x", NOW_MS), None]


@pytest.mark.slow
def test_a_copy_that_was_made_while_a_server_runs_is_a_backup(tmp_path):
    with server_process("--state", tmp_path / "state") as server, Client(f"online://{server.address}") as client:
        client.hits([(f"u{n}", "/x") for n in range(500)])
        assert run_command("state", "check", tmp_path / "state").returncode == 0
        subprocess.run(["cp", "-r", tmp_path / "state", tmp_path / "backup"], check=True)
        client.hits([(f"later{n}", "/x") for n in range(500)])
    assert run_command("state", "check", tmp_path / "backup").returncode == 0
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    with server_process("--state", tmp_path / "state") as server, Client(f"online://{server.address}") as client:
        assert client.count() == 500
        assert client.peak().people == 500


def test_a_copy_is_good_at_every_moment_of_a_snapshot(path, tmp_path, writer, monkeypatch):
    """Files are copied one after the other while snapshots replace segments."""
    monkeypatch.setattr("online.keep.snapshots.FRAME_BYTES", 100)
    for n in range(30):
        acknowledged = b"u%d" % n
        writer.sites[DEFAULT_SITE].hit(acknowledged, b"/x", now_ms=NOW_MS + 3_000)
        writer.journal.flush()
        listed = sorted(path.iterdir())
        (tmp_path / f"copy{n}").mkdir()
        steps = writer.snapshot()
        for nth, each in enumerate(listed):
            if nth == len(listed) // 2:
                for _ in steps:
                    pass
                writer.folder.prune()
            if each.exists():
                shutil.copy(each, tmp_path / f"copy{n}" / each.name)
        sites, report = recover(tmp_path / f"copy{n}", now_ms=NOW_MS + 3_000)
        assert report.is_clean
        assert digest(sites) == digest(writer.sites)
