"""`online serve`: the limit on open files, and what its settings attach to a server."""

import os
import resource
import socket
from pathlib import Path

import pytest
import trio
from tests.serving import LOCAL, run_command

from online.cli import serve as command_module
from online.cli.serve import assemble, raise_open_files
from online.errors import ConfigError, StateError
from online.keep.folder import Folder
from online.serve.config import Address, Config


def test_the_limit_on_open_files_is_raised_to_fit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_open_files(1_000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1_000 + command_module.SPARE_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_limit_on_open_files_that_stays_too_low_is_said(monkeypatch, caplog):
    def refuse(which, limits):
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 100))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files(1_000)
    assert "the limit on open files is 100, too low for max_connections = 1000" in caplog.text


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"http": ()}, ["past"]),
        ({}, ["past", "http"]),
        ({"state": Path("/nowhere"), "http": ()}, ["state", "past"]),
        ({"syslog": (LOCAL,)}, ["past", "syslog", "http"]),
        ({"syslog": (LOCAL,), "state": Path("/nowhere"), "http": (LOCAL,)}, ["state", "past", "syslog", "http"]),
    ],
)
def test_parts_are_those_that_were_asked_for_and_the_state_comes_first(settings, parts):
    """It is read before anything comes in, and written when nothing can any more."""
    assert [part.name for part in assemble(Config(**settings)).parts] == parts


def test_settings_of_syslog_are_checked_also_where_none_comes():
    with pytest.raises(ConfigError, match="rules /nowhere: No such file"):
        assemble(Config(syslog_rules=Path("/nowhere")))


# --check


def test_a_check_opens_every_address_and_starts_nothing(tmp_path):
    path = tmp_path / "online.sock"
    options = ["--listen", "127.0.0.1:0", "--listen", f"unix:{path}", "--syslog", "127.0.0.1:0", "--state", tmp_path]
    checked = run_command("serve", "--check", *options)
    assert checked.returncode == 0, checked.stderr
    assert f"can listen on 127.0.0.1:0, unix:{path}, 127.0.0.1:0." in checked.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--listen", "--http", "--syslog"])
def test_a_check_fails_where_an_address_is_taken(option):
    kind = socket.SOCK_DGRAM if option == "--syslog" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if option != "--syslog":
            taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{address}: Address already in use"):
            main_check(option, address)


def main_check(option, address):
    given = {"listen": (LOCAL,), "http": (), option.removeprefix("--"): (parse_listen(address),)}
    trio.run(command_module.check, assemble(Config(**given)))


def parse_listen(address):
    host, port = address.split(":")
    return Address(host, int(port))


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("missing/a/b", "cannot be made: No such file or directory"),
        ("file/x", "cannot be made: Not a directory"),
        ("file", "is not a state file of online"),
        ("link", "cannot be made: File exists"),
        ("pipe", "is neither a regular file nor a directory"),
    ],
)
def test_a_check_refuses_a_state_directory_as_the_start_does(tmp_path, state, says):
    (tmp_path / "file").write_bytes(b"[settings]\n" * 10)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    options = ["--listen", "127.0.0.1:0", "--http", "", "--state", tmp_path / state]
    checked, started = run_command("serve", "--check", *options), run_command("serve", *options)
    assert (checked.returncode, checked.stdout) == (2, "")
    assert says in checked.stderr
    assert started.stderr.endswith(checked.stderr)
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "pipe"]


@pytest.mark.parametrize(("state", "says"), [("/proc", "cannot be written: "), ("/proc/new", "cannot be made: ")])
def test_a_check_tries_to_write_whatever_permissions_say(state, says):
    with pytest.raises(StateError, match=says):
        check_state(Path(state))


def test_a_check_refuses_a_state_directory_that_another_server_has(tmp_path):
    with Folder(tmp_path / "state").hold(), pytest.raises(StateError, match="is in use by another server"):
        check_state(tmp_path / "state")
    check_state(tmp_path / "state")
    assert os.listdir(tmp_path) == ["state"]
    assert os.listdir(tmp_path / "state") == ["lock"]


def check_state(path):
    trio.run(command_module.check, assemble(Config(listen=(LOCAL,), http=(), state=path)))


def test_a_check_takes_a_state_directory_that_the_start_will_make(tmp_path):
    check_state(tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_a_check_says_what_is_wrong_with_settings():
    checked = run_command("serve", "--check", "--window", "5")
    assert checked.returncode == 2
    assert "--window takes" in checked.stderr
