"""The command line: help that teaches, exit codes, and a server as its operator sees it."""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from tests.serving import command, environment, run_command, server_process

from online import __version__
from online.cli import main as cli
from online.cli.arguments import time_of
from online.errors import ConfigError, FullError
from online.serve import settings


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"online {__version__}\n"


def test_help_names_all_commands(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, (_, summary) in cli.COMMANDS.items():
        assert name in shown
        assert summary in shown


def test_nothing_asked_is_answered_by_help(capsys):
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: online ")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_teaches(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    assert f"\n  online {name}" in shown.partition("examples:")[2]
    assert max(map(len, shown.splitlines())) <= 110


_DASH = "a name that begins with - must come after --"


def refused(capsys, *arguments):
    """Return the line that says what is wrong, and where it says that more is told."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(list(arguments))
    captured = capsys.readouterr()
    assert captured.out == ""
    problem, see = captured.err.splitlines()
    return problem, see


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nonsense"], "online: unknown command 'nonsense'"),
        (["servee"], "online: unknown command 'servee'; did you mean serve?"),
        (["--nope", "serve"], "online: unknown option --nope"),
        (["serve", "extra"], "online serve: unexpected argument 'extra'"),
        (["serve", "--windw=60"], "online serve: unknown option --windw; did you mean --window?"),
        (["serve", "--window"], "online serve: --window needs a value"),
        (["report"], "online report: missing: LOG"),
        (["report", "x", "--sgv", "y"], "online report: unknown option --sgv; did you mean --svg?"),
        (["report", "x", "--rewrite", "y"], "online report: --rewrite needs 2 values"),
        (["feed", "x", "--form-start"], "online feed: unknown option --form-start; did you mean --from-start?"),
        (["query"], "online query: missing: VERB"),
        (["query", "cuont"], "online query: unknown verb 'cuont'; did you mean count?"),
        (["query", "page"], "online query page: missing: url"),
        (["query", "page", "/", "--jsn"], "online query page: unknown option --jsn; did you mean --json?"),
        (["-v"], "online: unknown option -v; did you mean --version?"),
        (["query", "--jsn", "count"], "online query: unknown option --jsn; did you mean --json?"),
        (["query", "hit", "-x", "/"], f"online query hit: unknown option -x; {_DASH}"),
        (["query", "hit", "a", "-x5"], f"online query hit: unknown option -x5; {_DASH}"),
        (["query", "seen", "-x"], f"online query seen: unknown option -x; {_DASH}"),
        (["query", "hit", "--", "-x"], "online query hit: missing: url"),
        (["query", "hit", "-1"], "online query hit: missing: url"),
        (
            ["query", "hit", "a", "/", "guest"],
            "online query hit: seen_ms takes a whole number, and guest is a kind: hit USER URL '' guest",
        ),
        (["query", "sites", "x"], "online query sites: unexpected argument 'x'"),
        (["help", "qery"], "online: unknown command 'qery'; did you mean query?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_a_line_with_what_was_meant(arguments, problem, capsys):
    assert refused(capsys, *arguments) == (problem, f"see: {problem.partition(':')[0]} --help")


@pytest.mark.parametrize("words", [["help", "query", "page"], ["query", "page", "--help"]])
def test_help_is_a_command_too(words, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(words)
    assert capsys.readouterr().out.startswith("usage: online query page ")


def test_help_alone_is_that_of_all(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: online [-h]")
    assert "\nexit codes of all commands:\n  0  " in shown


@pytest.mark.parametrize("text", ["90", "90s", "90 s", "1.5min", "30min", "2h", "24 h", "86400", "1d"])
def test_times_are_written_as_in_the_settings_of_a_server(text):
    assert time_of(1, 86_400)(text) == settings.seconds(1, 86_400).read(text)


@pytest.mark.parametrize("text", ["0.5", "25h", "2d", "", "-1", "9 0", "1e3", "min", "nan", "90 S"])
def test_what_is_no_time_to_a_server_is_none_here(text):
    with pytest.raises(ValueError):  # noqa: PT011
        settings.seconds(1, 86_400).read(text)
    says = f"takes 1s to 24h, such as 90, 90s, 30min or 2h, not {text!r}"
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(says)):
        time_of(1, 86_400)(text)


@pytest.mark.parametrize(
    "option",
    [
        ["report", "x", "--window"],
        ["top", "--interval"],
        ["query", "count", "--timeout"],
        ["feed", "-", "--status"],
        ["feed", "--wait"],
    ],
    ids=" ".join,
)
def test_every_option_that_takes_a_time_takes_it_in_one_way(option, capsys):
    problem, _ = refused(capsys, *option, "soon")
    assert re.search(rf"{option[-1]} takes \S+ to \S+, such as 90, 90s, 30min or 2h, not 'soon'$", problem)


# What a command ends with


@pytest.fixture
def ending(monkeypatch):
    """Make `online demo` end as the test wants, and return the exit code."""

    def end(behaviour):
        module = type(sys)("stand_in")
        module.add_arguments = lambda parser: None
        module.run = behaviour
        monkeypatch.setitem(sys.modules, "stand_in", module)
        monkeypatch.setitem(cli.COMMANDS, "demo", ("stand_in", "nothing"))
        return cli.main(["demo"])

    return end


def raising(error):
    def behave(args):
        raise error

    return behave


def test_a_command_says_how_it_went(ending):
    assert ending(lambda args: 0) == 0
    assert ending(lambda args: 1) == 1


def test_an_error_is_one_line(ending, capsys):
    assert ending(raising(FullError("too much"))) == 1
    assert capsys.readouterr().err == "online demo: too much\n"


def test_what_was_asked_wrongly_is_told_apart(ending, capsys):
    assert ending(raising(ConfigError("--x takes 1"))) == 2
    assert capsys.readouterr().err == "online demo: --x takes 1\n"


def test_ctrl_c_ends_without_a_traceback(ending, capsys):
    assert ending(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_output_that_nobody_reads_ends_without_a_traceback(tmp_path):
    log = tmp_path / "access.log"
    log.write_text('192.0.2.1 - - [10/Oct/2020:13:55:36 +0000] "GET / HTTP/1.0" 200 1\n')
    with subprocess.Popen(
        command("report", log), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as popen:
        popen.stdout.close()
        assert popen.stderr.read() == b""
    assert popen.returncode == 141


# online serve


def ask(server, line):
    """Ask a server in a process of its own, by an inline command."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
        peer.sendall(line + b"\r\nQUIT\r\n")
        answer = b""
        while chunk := peer.recv(65_536):
            answer += chunk
    return answer.removesuffix(b"+OK\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_when_it_is_told_to(sent):
    with server_process() as server:
        assert ask(server, b"HIT theo /x") == b"+OK\r\n"
        assert ask(server, b"COUNT") == b":1\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as resting:
            resting.sendall(b"PING\r\n")
            assert resting.recv(100) == b"+PONG\r\n"
            assert server.end(sent) == 0
    assert [line.split(" ", 3)[3] for line in server.log] == [
        "history of the last 30 hours is in memory alone, and lost at the end; --state keeps it",
        f"online {__version__} listens on 127.0.0.1:{server.port}",
        "stopping, 1 connection",
    ]


@pytest.mark.slow
def test_a_restart_with_a_state_directory_forgets_nobody(tmp_path):
    path = tmp_path / "state"
    for wanted in (b":2\r\n", b":3\r\n"):
        with server_process("--state", path) as server:
            ask(server, b"HIT theo /x\r\nHIT vera /y %b" % (b"" if wanted == b":2\r\n" else b"\r\nHIT jo /y"))
            assert ask(server, b"COUNT") == wanted
            assert server.end() == 0
        assert server.log[-1].endswith(f"kept {wanted[1:2].decode()} users in {path}")
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.slow
def test_two_servers_do_not_share_a_state_directory(tmp_path):
    path = tmp_path / "state"
    with server_process("--state", path) as server:
        ended = run_command("serve", "--listen", "127.0.0.1:0", "--state", path)
        assert ended.returncode == 2
        told = f"online serve: state directory {path} is in use by another server; give another path\n"
        assert ended.stderr == told
        server.end(signal.SIGKILL)
    with server_process("--state", path) as server:
        assert server.end() == 0


@pytest.mark.slow
def test_a_damaged_state_directory_does_not_keep_a_server_from_starting(tmp_path):
    path = tmp_path / "state"
    with server_process("--state", path) as server:
        ask(server, b"HIT theo /x")
        ask(server, b"HIT kim /x")
        server.end()
    segment = path / "journal-000000000001"
    data = bytearray(segment.read_bytes())
    data[data.index(b"theo")] ^= 1
    segment.write_bytes(data)
    with server_process("--state", path) as server:
        assert ask(server, b"COUNT") == b":0\r\n"
        assert f"WARNING {segment}.damaged is damaged and is kept: record at byte 48 is bad" in server.log[0]
    assert (path / "journal-000000000001.damaged").read_bytes() == data


@pytest.mark.slow
def test_settings_come_from_everywhere(tmp_path):
    config = tmp_path / "online.toml"
    config.write_text(f'listen = ["unix:{tmp_path}/socket"]\nwindow = "2min"\n')
    with server_process("--config", config, "--listen", "127.0.0.1:0", ONLINE_MAX_USER="3") as server:
        assert ask(server, b"HIT theo /x").startswith(b"-RANGE user has 4 bytes, the limit is 3")
        assert ask(server, b"COUNT '' 121").startswith(b"-RANGE within_s takes 1 to 120")


@pytest.mark.slow
def test_a_quiet_server_says_nothing(tmp_path):
    path = tmp_path / "socket"
    with subprocess.Popen(
        command("serve", "--quiet", "--listen", f"unix:{path}"), env=environment(), stderr=subprocess.PIPE
    ) as popen:
        with socket.socket(socket.AF_UNIX) as peer:
            while peer.connect_ex(str(path)):
                assert popen.poll() is None
            peer.sendall(b"COUNT\r\n")
            assert peer.recv(100) == b":0\r\n"
        popen.terminate()
        assert popen.stderr.read() == b""
    assert popen.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--window", "5"], '--window takes 60 to 86400 seconds, not "5"'),
        (["--listen", "0.0.0.0:8989"], "--listen 0.0.0.0:8989 is open to other machines and needs a token: "),
        (["--listen", "unix:/nowhere/socket"], "cannot listen on unix:/nowhere/socket: No such file or directory"),
        (["--state", "/nowhere/state"], "state directory /nowhere/state cannot be made: No such file or directory"),
        (["--state", "/dev/null"], "state file /dev/null is neither a regular file nor a directory"),
        (["--config", "/nowhere.toml"], "--config /nowhere.toml: No such file or directory"),
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], "tls_cert /nowhere.pem: No such file"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_a_line(arguments, says):
    if "--listen" not in arguments:
        arguments = [*arguments, "--listen", "127.0.0.1:0"]
    ended = run_command("serve", *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"online serve: {says}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_port_in_use_is_said_in_a_line():
    with server_process() as server:
        ended = run_command("serve", "--listen", server.address)
        assert ended.returncode == 2
        assert ended.stderr == (
            f"online serve: cannot listen on {server.address}: Address already in use, another server listens there\n"
        )


@pytest.mark.slow
def test_a_wrong_line_of_a_configuration_file_is_named(tmp_path):
    config = tmp_path / "online.toml"
    config.write_text('listen = "127.0.0.1:0"\n\nwindwo = 60\n')
    ended = run_command("serve", ONLINE_CONFIG=str(config))
    assert ended.returncode == 2
    assert ended.stderr == f"online serve: {config}, line 3: windwo is not a setting; did you mean window?\n"
