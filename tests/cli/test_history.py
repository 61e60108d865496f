"""`online history`: from a server and from a state directory, in each form."""

import csv
import io
import json
import time

import pytest
from tests.serving import run_command, server_process

from online.keep.history import MINUTE_MS, History, Minute
from online_client import Client


@pytest.fixture
def state(tmp_path):
    """A directory with half an hour of the site `shop`; the server was away for the minute before last."""
    history = History(tmp_path / "history")
    now = time.time_ns() // 1_000_000 // MINUTE_MS
    for ago in (30, 29, 28, 3, 1):
        at = now - ago
        history.add([(b"shop", Minute(at, 1_000 + ago, 5, 4, 3, 2, 1, 1, 1, at * MINUTE_MS))])
    history.close()
    return tmp_path


def test_the_forms_tell_the_same(state):
    def told(form):
        done = run_command("history", state, "--site", "shop", "--last", "1h", "--step", "1min", *form)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    rows = json.loads(told(["--json"]))
    assert [row["people"] for row in rows] == [1_030, 1_029, 1_028, 1_003, 1_001]
    table = list(csv.DictReader(io.StringIO(told(["--csv"]))))
    assert [{key: str(value) for key, value in row.items()} for row in rows] == table
    assert told(["--svg"]).startswith("<svg")
    assert "at most 1,030" in told(["--svg"])
    assert told([]).splitlines()[1].split()[2:] == ["1,030", "5", "4", "3", "2", "1"]


def test_a_server_and_its_directory_tell_the_same(tmp_path):
    state = tmp_path / "state"
    for _ in range(2):
        with server_process("--state", str(state)) as server:
            at_server = ["--url", f"online://{server.address}"]
            with Client(at_server[1], timeout=10) as client:
                client.hit("ada", "/")
                asked, kept, later = (
                    run_command("history", *where, "--step", "1h", "--csv") for where in (at_server, [state], at_server)
                )
                assert kept.stdout in (asked.stdout, later.stdout)  # a minute may end between them
                server.end()
    assert len(asked.stdout.splitlines()) >= 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--step", "90"], 2, "whole minutes"),
        (["--last", "400d", "--step", "1min"], 2, "more than 2,000 rows, so take a longer --step"),
    ],
)
def test_what_cannot_be_told(state, arguments, code, said):
    done = run_command("history", state, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_a_site_without_rows_is_empty_as_it_is_on_a_server(state):
    done = run_command("history", state, "--site", "nowhere", "--csv")
    assert (done.returncode, done.stdout) == (0, "at,people,members,guests,bots,hits,visitors\n")
    assert "has no rows of the site nowhere, but of: shop" in done.stderr


def test_days_are_a_unit(state):
    hours = run_command("history", state, "--site", "shop", "--last", "168h", "--csv")
    assert run_command("history", state, "--site", "shop", "--last", "7d", "--csv").stdout == hours.stdout
    assert len(hours.stdout.splitlines()) > 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "state directory {} has no history"),
        ("out.svg", "state directory {} is not there"),
        ("file", "state directory {} is not a directory"),
    ],
)
def test_no_state_directory(tmp_path, name, said):
    (tmp_path / "file").touch()
    done = run_command("history", "--svg", tmp_path / name)
    assert (done.returncode, done.stdout) == (2, "")
    assert said.format(tmp_path / name) in done.stderr


def test_a_history_without_rows_says_so(tmp_path):
    History(tmp_path / "history").close()
    done = run_command("history", tmp_path, "--csv")
    assert (done.returncode, done.stdout) == (0, "at,people,members,guests,bots,hits,visitors\n")
    assert f"{tmp_path} has no rows yet; a server writes them when a minute is over" in done.stderr


def test_a_history_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "history").write_bytes(b"x")
    done = run_command("history", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/history cannot be read: its size in bytes is 1, the least is 512" in done.stderr


def test_a_server_is_asked_for_the_site(tmp_path):
    history = History(tmp_path / "history")
    now = time.time_ns() // 1_000_000 // MINUTE_MS
    for site, people in ((b"default", 7), ("shop é".encode(), 9)):
        history.add([(site, Minute(now - 3, people, people, 0, 0, 1, 1, 1, 1, (now - 3) * MINUTE_MS))])
    history.close()
    with server_process("--state", str(tmp_path)) as server:

        def people(*options, path=""):
            done = run_command("history", "--url", f"online://{server.address}{path}", "--json", *options)
            assert done.returncode == 0, done.stderr
            return [row["people"] for row in json.loads(done.stdout)][:1], done.stderr

        assert people() == people("--site", "default", path="/nope") == ([7], "")
        assert people("--site", "shop é") == people(path="/shop%20%C3%A9") == ([9], "")
        said = "the server has no rows of the site nope in this time"
        for found, told in (people("--site", "nope"), people(path="/nope")):
            assert (found, said in told) == ([], True)


@pytest.mark.parametrize("last", ["-1d", "0", "soon"])
def test_times_that_are_none_are_named_with_their_units(last):
    done = run_command("history", "--last", last)
    assert done.returncode == 2
    assert f"--last takes 1min to 10000d, such as 90, 90s, 30min, 2h or 7d, not '{last}'" in done.stderr


def test_nobody_yet_is_drawn(state):
    done = run_command("history", state, "--site", "shop", "--last", "1min", "--svg")
    assert done.returncode == 0
    assert done.stdout.endswith("</svg>\n")
