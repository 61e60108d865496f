"""`online config`: a file to begin with, and what holds."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving import run_command

from online.cli import config, gateway, relay
from online.cli.main import main
from online.serve.config import DEFAULT_HTTP, Config
from online.serve.loading import load, unknown_variables
from online.serve.settings import BY_NAME


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "online.toml"
    assert main(["init", str(path)]) == 0
    return path


def test_the_file_to_begin_with_changes_nothing(template):
    assert load({"config": str(template)}, {}) == load({}, {})


def test_the_file_to_begin_with_has_every_setting_and_its_default(template):
    text = re.sub(r"^#(\w+ = )", r"\1", template.read_text(), flags=re.MULTILINE)
    document = tomllib.loads(text)
    assert list(document) == list(BY_NAME)
    defaults = {name: value for name, value in document.items() if name not in config.EXAMPLES}
    template.write_text("".join(f"{name} = {config.toml(value)}\n" for name, value in defaults.items()))
    loaded = load({"config": str(template)}, {})
    assert loaded.http == (DEFAULT_HTTP,)
    assert replace(loaded, http=None) == Config()


@pytest.mark.parametrize("name", sorted(config.EXAMPLES))
def test_every_example_is_taken(name):
    value = config.EXAMPLES[name]
    for each in value if isinstance(value, list) else [value]:
        BY_NAME[name].kind.read(each)


def test_a_file_that_exists_is_left_as_it_is(template, capsys):
    template.write_text("window = 60\n")
    assert main(["init", str(template)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert template.read_text() == "window = 60\n"


def test_the_settings_given_are_written_and_the_others_commented_out(tmp_path, capsys):
    path = tmp_path / "new.toml"
    options = ["--window", "60", "--sync", "always", "--sites", "a", "--sites", 'b"', "--quiet", "--max-user", "2_0"]
    assert main(["init", str(path), *options]) == 2
    assert "--max-user takes" in capsys.readouterr().err
    assert not path.exists()
    options[-1] = "20"
    assert main(["init", str(path), *options]) == 0
    given = {"window": 60, "sync": "always", "sites": ["a", 'b"'], "quiet": True, "max_user": 20}
    assert tomllib.loads(path.read_text()) == given
    assert path.stat().st_mode & 0o044
    assert load({"config": str(path)}, {}) == load(given, {})


def test_a_file_that_no_server_could_use_is_not_written(tmp_path, capsys):
    path = tmp_path / "new.toml"
    assert main(["init", str(path), "--map", str(tmp_path / "map.toml")]) == 2
    assert "map needs a bus" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("command", [["config"], ["init", "-"], ["serve", "--check", "--listen", "127.0.0.1:0"]])
def test_what_is_probably_not_meant_is_said_by_each_command(command, capsys):
    assert main([*command, "--http-origins", "https://example.org"]) == 0
    assert "lets other sites read public data, but nothing is public" in capsys.readouterr().err


def test_a_file_with_a_token_is_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--token", "a-long-random-text"]) == 0
    assert (tmp_path / "online.toml").stat().st_mode & 0o777 == 0o600


def test_the_file_can_go_to_standard_output(capsys):
    assert main(["init", "-"]) == 0
    assert "\n#window = " in capsys.readouterr().out


def test_what_holds_is_shown_with_where_it_comes_from(tmp_path):
    path = tmp_path / "online.toml"
    path.write_text('window = "20min"\nmax_user = 100\nquiet = true\n')
    ran = run_command(
        "config", "--config", path, "--max-user", "90", ONLINE_MAX_URL="100", ONLINE_LISTEN="unix:/a,[::1]:1"
    )
    assert ran.returncode == 0, ran.stderr
    lines = dict(re.fullmatch(r"(\w+ = .*?) +# (.*)", line).groups() for line in ran.stdout.splitlines())
    assert lines['window = "20min"'] == f"{path}, line 1: window"
    assert lines["max_user = 90"] == "--max-user"
    assert lines["max_url = 100"] == "ONLINE_MAX_URL"
    assert lines['listen = ["unix:/a", "[::1]:1"]'] == "ONLINE_LISTEN"
    assert lines["quiet = true"] == f"{path}, line 3: quiet"
    assert lines["max_limit = 1000"] == "default"
    assert not any(line.startswith("state") for line in lines)


def test_what_is_shown_can_be_used_as_a_file(tmp_path):
    path = tmp_path / "online.toml"
    options = ["--window", "20min", "--http", "", "--listen", "unix:/a", "--quiet", "--max-memory", "1GiB"]
    path.write_text(run_command("config", *options).stdout)
    again = run_command("config", "--config", path)
    assert again.returncode == 0, again.stderr
    assert [line.split(" #")[0].rstrip() for line in again.stdout.splitlines()] == [
        line.split(" #")[0].rstrip() for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    ("name", "value", "is_secret"),
    [
        ("token", "sesame-open", True),
        ("bus", "redis://:sesame@127.0.0.1:1/0", True),
        ("bus", "redis+sentinel://127.0.0.1:1/m?sentinel_password=sesame", True),
        ("bus", "redis://127.0.0.1:1/0", False),
    ],
    ids=["token", "password", "option", "no password"],
)
def test_what_is_secret_is_not_shown_and_nothing_stands_in_its_place(tmp_path, name, value, is_secret):
    path = tmp_path / "online.toml"
    path.write_text(run_command("config", f"--{name}", value).stdout)
    text = path.read_text()
    assert "sesame" not in text
    assert (f"# {name} is set, and not shown" in text) == is_secret
    assert tomllib.loads(text).get(name) == (None if is_secret else value)
    assert run_command("config", "--config", path).returncode == 0


OTHERS_VARIABLES = {
    "ONLINE_URL": "online://a",
    "ONLINE_REDIS_URL": "redis://a",
    "ONLINE_TRUST_PROXY": "[]",
    "ONLINE_PORT": "tcp://10.0.0.1:8989",
    "ONLINE_PORT_8989_TCP_ADDR": "10.0.0.1",
    "ONLINE_GATEWAY_SERVICE_PORT_HTTP": "8990",
    "WINDOW": "5",
}


def test_variables_that_others_read_are_passed_over():
    ran = run_command("config", ONLINE_WINDOW="20min", ONLINE_MAX_URL="100", **OTHERS_VARIABLES)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_variables_of_guides_middleware_and_tests_are_known():
    root = Path(__file__).parents[2]
    globs = ("docs/*.md", "client/src/**/*.py", "contrib/*/*", "deploy/*.*", "Makefile", "tests/core/*.py")
    files = (each for glob in globs for each in root.glob(glob))
    found = {name for file in files for name in re.findall(r"\bONLINE_[A-Z_]*[A-Z]\b", file.read_text())}
    assert found >= {"ONLINE_PROXY_HEADER", "ONLINE_SEEDS"}
    assert list(unknown_variables(dict.fromkeys(found, ""))) == []


@pytest.mark.parametrize("command", ["config", "serve", "relay", "gateway"])
def test_a_variable_that_is_no_setting_is_said(command):
    options = [] if command == "config" else ["--check", "--max-user", "0"]
    ran = run_command(command, *options, ONLINE_WINDWO="5", ONLINE_ZEBRA="1")
    assert ran.stderr.splitlines()[:2] == [
        f"online {command}: the variable ONLINE_WINDWO is not a setting and is ignored; did you mean ONLINE_WINDOW?",
        f"online {command}: the variable ONLINE_ZEBRA is not a setting and is ignored",
    ]
    assert ran.returncode == (0 if command == "config" else 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--window", "5"], "--window takes 60 to 86400 seconds"),
        (["--tls-cert", "/nowhere"], "--tls-cert"),
        (["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "/nowhere"),
        (["--config", "/nowhere"], "/nowhere"),
        (["--listen", "0.0.0.0:1"], "token"),
    ],
    ids=["range", "half of a pair", "no certificate", "no file", "no token"],
)
def test_what_is_wrong_is_said(options, said):
    ran = run_command("config", *options)
    assert ran.returncode == 2
    assert said in ran.stderr


#: A setting of each reason, and what is said of it.
NOT_FOR = [
    ("gateway", "http_host", "a", "is for servers: a gateway only asks others"),
    ("gateway", "syslog_site", "shop", "is for servers: a gateway only asks others"),
    ("relay", "state", "/nowhere", "is for servers: a relay keeps nothing"),
    ("relay", "bus_ack", "yes", "is for servers: a relay answers before the bus has a hit"),
]


@pytest.mark.parametrize(("command", "name", "value", "why"), NOT_FOR, ids=lambda value: value.split()[0])
def test_a_setting_that_a_command_does_not_take_is_named_by_where_it_comes_from(command, name, value, why, tmp_path):
    variable = f"ONLINE_{name.upper()}"
    ran = run_command(command, "--check", **{variable: value})
    assert (ran.returncode, ran.stderr) == (2, f"online {command}: {variable} {why}\n")
    file = tmp_path / "online.toml"
    file.write_text(f'\n{name} = "{value}"\n')
    ran = run_command(command, "--check", "--config", str(file))
    assert (ran.returncode, ran.stderr) == (2, f"online {command}: {file}, line 2: {name} {why}\n")
    ran = run_command(command, "--check", f"--{name.replace('_', '-')}", value)
    assert ran.stderr.startswith(f"online {command}: unknown option --{name.replace('_', '-')}")


@pytest.mark.parametrize(("command", "refused"), [("gateway", gateway.REFUSED), ("relay", relay.REFUSED)])
def test_the_help_of_a_command_lists_only_what_it_takes(command, refused):
    shown = set(re.findall(r"^  --([a-z-]+)", run_command(command, "--help").stdout, re.MULTILINE))
    taken = {name.replace("_", "-") for name in BY_NAME.keys() - refused.keys()} - {"quiet"}
    assert shown == taken | {"check", "config", "quiet"}
    assert refused.keys() < BY_NAME.keys()


@pytest.mark.parametrize(("variable", "value"), [("ONLINE_STATE", ""), ("ONLINE_BUS_ACK", "no")])
def test_an_empty_variable_or_the_default_is_as_good_as_none(variable, value):
    given = {variable: value, "ONLINE_LISTEN": "127.0.0.1:0"}
    ran = run_command("relay", "--check", "--bus", "redis://127.0.0.1:1", **given)
    assert (ran.returncode, ran.stderr) == (0, "")
