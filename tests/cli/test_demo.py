"""The demo: a simulated site that is the same for the same seed, and a server that shows it."""

import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from tests.serving import command, environment, run_command, server_process

from online.cli import demo
from online.cli.demo import KIND_WEIGHTS, simulate
from online.core.index import Index
from online.errors import ConfigError
from online.serve.config import Address
from online_client import Peak, TopPage

NOW_MS = 1_700_000_000_000


def hits_until(at_s, **options):
    return list(itertools.takewhile(lambda hit: hit.at_s <= at_s, simulate(window_s=1_800, **options)))


def test_the_same_seed_makes_the_same_crowd():
    assert hits_until(60, people=100, seed=1) == hits_until(60, people=100, seed=1)
    assert hits_until(60, people=100, seed=1) != hits_until(60, people=100, seed=2)


def test_hits_come_in_order_of_time():
    times = [hit.at_s for hit in hits_until(600, people=100, seed=1)]
    assert times == sorted(times)
    assert times[0] < -1_800


@pytest.mark.parametrize("at_s", [0, 3_600])
def test_about_as_many_are_online_as_asked_for(at_s):
    index = Index()
    for hit in hits_until(at_s, people=2_000, seed=1):
        at_ms = NOW_MS + int(hit.at_s * 1000)
        index.hit(hit.user.encode(), hit.url.encode(), seen_ms=at_ms, kind=hit.kind, now_ms=at_ms)
    assert 1_700 < index.count(now_ms=NOW_MS + at_s * 1000) < 2_200


def test_the_site_has_all_kinds_and_popular_pages():
    hits = hits_until(0, people=1_000, seed=1)
    assert {hit.kind for hit in hits} == set(KIND_WEIGHTS)
    visits = [hit.url for hit in hits]
    assert visits.count("/") > 50 * visits.count("/news/402") > 0


# What it shows


class Answers:
    """A server that says the same whenever it is asked."""

    async def ask(self, request):
        said = {
            "count": 12_345,
            "top": [TopPage("/gallery/" + "7" * 80, 1_234)],
            "peak": Peak(23_456, None),
        }
        return said[request.verb]


@pytest.mark.parametrize("columns", [40, 80])
def test_the_line_that_changes_is_narrower_than_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    trio.run(demo._Demo(people=10, seed=1)._show, Answers(), 4)
    shown = capsys.readouterr().out.removeprefix("\r\x1b[2K")
    assert shown.startswith("simulated: 12,345 online (peak 23,456)")
    assert len(shown) == columns - 1


DASHBOARD = "http://127.0.0.1:8990/"


@pytest.mark.parametrize("address", [Address("127.0.0.1", 8989), Address("::1", 65_535)])
def test_the_greeting_fits_a_terminal(address, monkeypatch):
    monkeypatch.setattr(demo, "_command", lambda: "online")
    assert max(map(len, demo._welcome(address, 1, DASHBOARD).splitlines())) <= 80


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script `online` in a folder bin below the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "online"
    path.parent.mkdir()
    path.touch(mode=0o755)
    return path


@pytest.mark.parametrize(
    ("started", "search", "named"),
    [
        ("bin/online", "bin", "online"),
        ("bin/online", "elsewhere", "bin/online"),
        ("{script}", "elsewhere", "bin/online"),
        ("/bin/sh", "bin", "/bin/sh"),
    ],
)
def test_the_command_is_named_as_it_can_be_run(script, started, search, named, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started.format(script=script)])
    monkeypatch.setenv("PATH", search)
    assert demo._command() == named
    assert f"  {named} query count\n" in demo._welcome(Address("127.0.0.1", 8989), 1, DASHBOARD)


def test_a_command_in_the_working_directory_is_named_with_a_dot(script, monkeypatch):
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(sys, "argv", ["online"])
    monkeypatch.setenv("PATH", "elsewhere")
    assert demo._command() == "./online"


@pytest.mark.slow
def test_the_demo_runs_and_ends():
    with subprocess.Popen(
        command("demo", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--people", "100"),
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        first = popen.stdout.readline()
        address = re.match(r"online listens on (\S+)\. The site is simulated", first)[1]
        popen.send_signal(signal.SIGINT)
        told = popen.stdout.read()
        assert f"redis-cli -p {address.rpartition(':')[2]} PAGE /forum/1" in told
        assert re.search(r"^Open in a browser:\n  http://127\.0\.0\.1:\d+/$", told, re.MULTILINE)
        assert popen.stderr.read() == ""
    assert popen.returncode == 0


@pytest.mark.slow
def test_a_port_in_use_is_said_with_what_to_do():
    with server_process() as server:
        ended = run_command("demo", "--listen", server.address, "--http", "")
    assert ended.returncode == 2
    assert re.fullmatch(
        rf"online demo: cannot listen on {server.address}: .*; "
        rf"to use another port: \S+ -m online demo --listen 127\.0\.0\.1:\d+\n",
        ended.stderr,
    )


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--people", "--seed", "--listen", "--http"])
def test_a_wrong_option_is_named(option):
    ended = run_command("demo", option, "many")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"online demo: {option} takes ")


@pytest.mark.slow
def test_an_address_for_other_machines_is_refused():
    for option in ("--listen", "--http"):
        ended = run_command("demo", option, "0.0.0.0:8999")
        assert ended.returncode == 2
        assert ended.stderr == (
            f"online demo: {option} 0.0.0.0:8999: the demo only listens on loopback addresses and unix: sockets\n"
        )


@pytest.mark.parametrize(
    ("option", "variable", "listens"),
    [
        (None, None, "127.0.0.1:8989"),
        (None, "127.0.0.1:18777", "127.0.0.1:18777"),
        (None, "[::1]:18777,127.0.0.1:18778", "[::1]:18777"),
        ("127.0.0.1:1", "127.0.0.1:18777", "127.0.0.1:1"),
    ],
)
def test_the_variable_of_the_settings_reaches_the_demo(option, variable, listens):
    environ = {} if variable is None else {"ONLINE_LISTEN": variable}
    assert str(demo._address(option, environ)) == listens


def test_a_wrong_variable_is_named():
    with pytest.raises(ConfigError, match="ONLINE_LISTEN takes HOST:PORT"):
        demo._address(None, {"ONLINE_LISTEN": "nonsense"})


@pytest.mark.parametrize(("given", "options"), [([], ""), (["PORT=18990"], "--listen 127.0.0.1:18990")])
def test_make_run_takes_a_port(given, options):
    root = Path(__file__).parents[2]
    make = ["make", "--no-print-directory", "-n", "run", *given]
    planned = subprocess.run(make, cwd=root, env=environment(MAKEFLAGS=""), capture_output=True, text=True, check=True)
    assert planned.stdout.splitlines()[-1].split() == [".venv/bin/online", "demo", *options.split()]
