"""Settings: flags before variables before the file, one table for all, and errors that name the place."""

import argparse
import re
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from online import limits
from online.errors import ConfigError
from online.limits import KIB, MIB, Limits
from online.serve.config import Address, Config
from online.serve.loading import add_arguments, load
from online.serve.settings import LIMITS, SETTINGS, read_address


def configure(*flags, **variables):
    """Load what a command line and an environment say."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return load(vars(parser.parse_args(flags)), variables)


@pytest.fixture
def write(tmp_path):
    """Write a configuration file and return its path."""

    def write(text):
        path = tmp_path / "online.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def refusal(*flags, **variables):
    """The one line that says why not."""
    with pytest.raises(ConfigError) as caught:
        configure(*flags, **variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The table

#: For each setting a value as text, and what becomes of it.
VALUES = {
    "listen": ("127.0.0.1:1,unix:/run/x", (Address("127.0.0.1", 1), Address(path=Path("/run/x")))),
    "http": ("127.0.0.1:1,unix:/run/h", (Address("127.0.0.1", 1), Address(path=Path("/run/h")))),
    "http_host": ("Stats.example.org,localhost", ("stats.example.org", "localhost")),
    "token": ("secret", b"secret"),
    "window": ("5min", 300),
    "state": ("/var/state", Path("/var/state")),
    "sync": ("5s", 5.0),
    "on_disk_error": ("refuse", "refuse"),
    "bus": ("redis://:secret@127.0.0.1:6379/0", "redis://:secret@127.0.0.1:6379/0"),
    "bus_ack": ("yes", "yes"),
    "bus_wait": ("5s", 5),
    "partition": ("3", 3),
    "map": ("/etc/map.toml", Path("/etc/map.toml")),
    "sites": ("forum", ("forum",)),
    "history": ("30d", 30),
    "last_seen": ("90", 90),
    "tls_cert": ("/c.pem", Path("/c.pem")),
    "tls_key": ("/k.pem", Path("/k.pem")),
    "unix_mode": ("660", 0o660),
    "transport": ("streams", "streams"),
    "syslog": ("127.0.0.1:514,unix:/run/s", (Address("127.0.0.1", 514), Address(path=Path("/run/s")))),
    "syslog_from": ("10.0.0.0/8,::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    "syslog_format": ("combined", "combined"),
    "syslog_rules": ("/r.toml", Path("/r.toml")),
    "syslog_site": ("größe", "größe"),
    "quiet": ("true", True),
    "max_connections": ("77", 77),
    "max_frame": ("2MiB", 2 * MIB),
    "max_frame_before_auth": ("8 KiB", 8 * KIB),
    "max_items": ("1000", 1000),
    "max_depth": ("5", 5),
    "max_user": ("64", 64),
    "max_url": ("512", 512),
    "max_users": ("1000", 1000),
    "max_pages": ("1000", 1000),
    "max_sites": ("2", 2),
    "max_memory": ("1GiB", 1024 * MIB),
    "max_limit": ("100", 100),
    "max_scan": ("5000", 5000),
    "max_output": ("65536", 65536),
    "max_buffers": ("32MiB", 32 * MIB),
    "send_timeout": ("2.5", 2.5),
    "frame_timeout": ("1min", 60.0),
    "auth_timeout": ("3s", 3.0),
    "http_origins": ("https://example.org,http://localhost:8000", ("https://example.org", "http://localhost:8000")),
    "public": ("page", "page"),
    "max_subscriptions": ("10", 10),
    "max_all_subscriptions": ("5000", 5000),
    "push_interval": ("0.1", 0.1),
}

TABLE = [setting for setting in SETTINGS + LIMITS if setting.name != "token_file"]
#: Settings that are refused without this other.
COMPANIONS = {"bus_ack": "bus", "partition": "bus", "tls_cert": "tls_key", "tls_key": "tls_cert", "last_seen": "state"}


def value_of(config, field):
    return getattr(config, field) if hasattr(config, field) else getattr(config.limits, field)


def test_the_table_describes_every_field_once():
    described = [setting.field for setting in SETTINGS + LIMITS]
    known = {field.name for field in fields(Config) + fields(Limits)} - {"limits", "tokens"}
    assert sorted(described) == sorted(known | {"token_file"})


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_every_setting_can_be_given_everywhere(setting, place, write):
    flags, variables, lines = [], {}, []
    for name in (setting.name, COMPANIONS.get(setting.name)):
        if name is None:
            continue
        text, _ = VALUES[name]
        if place == "variable":
            variables[f"ONLINE_{name.upper()}"] = text
        elif place == "file":
            lines.append(f'{name} = "{text}"')
        elif name == "quiet":
            flags += ["--quiet"]
        else:
            flags += [part for each in text.split(",") for part in (f"--{name.replace('_', '-')}", each)]
    if lines:
        flags = ["--config", write("\n".join(lines))]
    assert value_of(configure(*flags, **variables), setting.field) == VALUES[setting.name][1]


@pytest.mark.parametrize("setting", [each for each in TABLE if each.name != "http"], ids=lambda setting: setting.name)
def test_no_setting_takes_nothing(setting):
    assert refusal(**{setting.variable: ""}).startswith(f"{setting.variable} takes {setting.kind.takes}")


def test_nothing_given_is_the_default():
    assert configure() == Config()
    assert configure().limits == Limits()


# Where from


def test_a_flag_goes_before_a_variable_before_the_file(write):
    file = write("max_user = 3\nmax_url = 3\nmax_sites = 3\n")
    made = configure("--config", file, "--max-user", "1", ONLINE_MAX_USER="2", ONLINE_MAX_URL="2").limits
    assert (made.max_user, made.max_url, made.max_sites) == (1, 2, 3)


def test_a_variable_names_the_file(write):
    assert configure(ONLINE_CONFIG=write("window = 60")).window_s == 60


def test_the_flag_goes_before_the_variable_that_names_the_file(write):
    assert configure("--config", write("window = 60"), ONLINE_CONFIG="/nowhere").window_s == 60


def test_a_variable_that_is_no_setting_is_ignored():
    assert configure(ONLINE_PORT="tcp://10.0.0.1:80", ONLINE_URL="online://somewhere") == Config()


def test_toml_values_may_be_numbers_lists_and_truths(write):
    made = configure(
        "--config",
        write('listen = [\n "127.0.0.1:1", "[::1]:2"]\nmax_frame = 8192\nsend_timeout = 1.5\nquiet = true'),
    )
    assert made.listen == (Address("127.0.0.1", 1), Address("::1", 2))
    assert (made.limits.max_frame, made.limits.send_timeout_s, made.quiet) == (8192, 1.5, True)


# Errors name the place


def test_a_wrong_flag_is_named():
    assert refusal("--window", "5") == '--window takes 60 to 86400 seconds, not "5"'


def test_a_wrong_variable_is_named():
    assert refusal(ONLINE_MAX_USER="0") == 'ONLINE_MAX_USER takes 1 to 16384, not "0"'


LISTEN = "listen takes HOST:PORT, [IPV6]:PORT or unix:PATH"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("\n\nwindow = 5", 3, 'window takes 60 to 86400 seconds, not "5"'),
        ("window = 60\nmax_user = true", 2, 'max_user takes 1 to 16384, not "True"'),
        ("window = 60\n  max_frame='1MB'", 2, 'max_frame takes 4KiB to 1GiB, not "1MB"'),
        ("listen = 5", 1, 'listen takes HOST:PORT, [IPV6]:PORT or unix:PATH, not "5"'),
        ("listen = ['127.0.0.1:1',\n 'nonsense']", 1, "listen takes HOST:PORT"),
        ("listen = '127.0.0.1:80000'", 1, f'{LISTEN}, not "127.0.0.1:80000"; the port is at most 65535'),
        ("listen = '8990'", 1, f'{LISTEN}, not "8990"; did you mean 127.0.0.1:8990?'),
        ("listen = '192.0.2.1'", 1, f'{LISTEN}, not "192.0.2.1"; it has no port'),
        ("listen = []", 1, "listen takes HOST:PORT"),
        ("state = 7", 1, 'state takes the path of a directory, not "7"'),
        ("\nwindows = 60", 2, "windows is not a setting; did you mean window?"),
        ("max-user = 60", 1, "max-user is not a setting; did you mean max_user?"),
        ("'colour' = 1", 1, "colour is not a setting"),
        ("[limits]\nmax_user = 1", 1, "limits is not a setting"),
        ("[[listen]]\nhost = 1", 1, "listen takes HOST:PORT"),
        ("window.s = 60", 1, "window takes 60 to 86400 seconds"),
        ("window = 60\nwindow = 61", 2, "window: Cannot overwrite a value"),
        ("state = 'x'\nwindow = = 1", 2, "window: Invalid value"),
        ("state = 'x", 1, 'state: Expected "\'"'),
        ("state = 'x'\nlisten = [", 2, "listen: "),
        ("state = 'x'\n???", 2, "Invalid statement"),
        (b"state = 'x'\nwindow = \xff", 2, "not UTF-8"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_line_and_key(write, text, line, says):
    path = write(text)
    assert refusal("--config", path).startswith(f"{path}, line {line}: {says}")


def test_a_file_that_is_not_there_is_named(tmp_path):
    missing = tmp_path / "missing.toml"
    assert refusal("--config", str(missing)) == f"--config {missing}: No such file or directory"
    assert refusal(ONLINE_CONFIG=str(tmp_path)) == f"ONLINE_CONFIG {tmp_path}: Is a directory"


@pytest.mark.parametrize("text", ["1e3", "-1", "+60", "6_0", "60 ", "٦٠", "60sec", "0x40", "1h30min", "9" * 30])
def test_amounts_are_plain(text):
    assert refusal("--window", text).startswith("--window takes ")


def test_a_long_value_is_cut_and_escaped():
    assert refusal("--window", "\r\n" + "x" * 100) == (f'--window takes 60 to 86400 seconds, not "\\r\\n{"x" * 62}"...')


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8989", Address("127.0.0.1", 8989)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("unix:/run/a b,c.sock", Address(path=Path("/run/a b,c.sock"))),
    ],
)
def test_an_address_reads_as_it_is_written(text, address):
    assert read_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8989", ":8989", "127.0.0.1", "127.0.0.1:", "::1:8989", "h:65536", "h:-1", "unix:", "a b:1", "h:1\n2"]
)
def test_no_other_text_is_an_address(text):
    assert "HOST:PORT" in refusal("--listen", text)


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1"])
def test_an_address_for_other_machines_needs_a_token(text, write):
    assert refusal("--listen", "127.0.0.1:1", "--listen", text).startswith(f"--listen {text} is open to other")
    assert refusal(ONLINE_LISTEN=text).startswith(f"ONLINE_LISTEN {text} is open to other")
    assert "line 2: listen " in refusal("--config", write(f"\nlisten = '{text}'"))
    assert "a token of at least 16 bytes" in refusal("--listen", text, "--token", "t" * 15)
    assert configure("--listen", text, "--token", "t" * 16).listen == (read_address(text),)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/x"])
def test_an_address_of_this_machine_needs_none(text):
    assert configure("--listen", text).token is None


def test_a_config_made_by_hand_is_judged_too():
    with pytest.raises(ConfigError, match=r"^listen 0\.0\.0\.0:1 is open to other machines"):
        Config(listen=(Address("0.0.0.0", 1),))


@pytest.mark.parametrize(("given", "wanted"), [("--tls-cert", "tls_key"), ("--tls-key", "tls_cert")])
def test_certificate_and_key_go_together(given, wanted):
    assert refusal(given, "x.pem") == f"{given} needs a {wanted}, too"


# Addresses


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--listen", "[::1]:1", "--http", "[::1]:1"], "--http names [::1]:1, as listen does"),
        (["--http", "127.0.0.1:8989"], "--http names 127.0.0.1:8989, as listen does"),
        (["--listen", "unix:/a", "--syslog", "unix:/a"], "--syslog names unix:/a, as listen does"),
        (["--http", "127.0.0.1:1", "--http", "127.0.0.1:1"], "--http names 127.0.0.1:1, twice"),
    ],
    ids=["http", "default", "unix", "twice"],
)
def test_no_two_settings_name_one_address(flags, said):
    assert refusal(*flags) == f"{said}: each needs an address of its own"


def test_addresses_that_are_not_the_same_go_together():
    """UDP has ports of its own, and any free port is another each time."""
    configure("--listen", "127.0.0.1:1", "--syslog", "127.0.0.1:1")
    configure("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")


# Tokens


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_bytes(b"from-file\r\n")
    return str(path)


def test_a_token_may_stand_in_a_file(token_file):
    assert configure("--token-file", token_file).token == b"from-file"
    assert configure(ONLINE_TOKEN_FILE=token_file).token == b"from-file"


def test_a_token_goes_before_a_token_file_by_its_place(token_file):
    assert configure("--token", "flag", ONLINE_TOKEN_FILE=token_file).token == b"flag"
    assert configure("--token-file", token_file, ONLINE_TOKEN="variable").token == b"from-file"


def test_a_token_and_a_token_file_in_one_place_are_one_too_many(token_file):
    assert "both given" in refusal("--token", "x", "--token-file", token_file)


def test_a_token_file_that_cannot_be_read_is_named(tmp_path):
    assert refusal("--token-file", str(tmp_path / "no")).startswith(f"--token-file {tmp_path}/no: No such file")


@pytest.mark.parametrize("content", [b"", b"\n", b"s" * 2000])
def test_no_error_shows_a_token(content, tmp_path):
    path = tmp_path / "token"
    path.write_bytes(content)
    message = refusal("--token-file", str(path))
    assert message.startswith(f"--token-file {path} takes 1 to 1024 bytes")
    assert not re.search("sss|sesame", message)
    assert message.endswith(("; the one given is empty", "; the one given is longer"))


@pytest.mark.parametrize("content", ["reed sesame", "Admin sesame", "sesame open", "sesame\nopen", "write\nsesame"])
def test_a_token_file_of_more_than_a_word_has_roles(content, tmp_path):
    path = tmp_path / "token"
    path.write_text(content)
    message = refusal("--token-file", str(path))
    assert message.startswith(f"--token-file {path}, line 1 ")
    assert message.endswith("Each line is ROLE TOKEN or ROLE SITE TOKEN; or the file is one token without spaces")
    assert "sesame" not in message


def test_a_token_file_of_comments_holds_no_token(tmp_path):
    path = tmp_path / "token"
    path.write_text("# the token goes here\n")
    assert refusal("--token-file", str(path)) == f"--token-file {path} holds no token"


def test_a_token_is_not_in_the_repr():
    assert "sesame" not in repr(configure("--token", "sesame"))


# What the process may use


@pytest.fixture
def system(tmp_path):
    """A root folder with control groups."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("memory_", "memory.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_a_quarter_of_the_memory_is_left_to_others(system):
    whole = limits.default_max_memory(system())
    root = system(proc__self__cgroup="0::/a/b\n", sys__fs__cgroup__a__memory_max=f"{64 * MIB}\n")
    assert limits.default_max_memory(root) == 48 * MIB < whole


def test_the_narrowest_control_group_counts(system):
    root = system(
        proc__self__cgroup="1:name=systemd:/\n0::/a/b\n",
        sys__fs__cgroup__a__b__memory_max="max\n",
        sys__fs__cgroup__a__memory_max=str(64 * MIB),
        sys__fs__cgroup__memory_max=str(128 * MIB),
    )
    assert limits.default_max_memory(root) == 48 * MIB


def test_the_older_control_groups_count(system):
    root = system(
        proc__self__cgroup="4:cpu,memory:/docker/1\n0::/\n",
        sys__fs__cgroup__memory__memory_limit_in_bytes=str(32 * MIB),
    )
    assert limits.default_max_memory(root) == 24 * MIB


def test_unlimited_control_groups_are_none(system):
    root = system(
        proc__self__cgroup="4:memory:/\n",
        sys__fs__cgroup__memory__memory_limit_in_bytes="9223372036854771712",
    )
    assert limits.default_max_memory(root) == limits.default_max_memory(system())


# What is probably not meant


@pytest.mark.parametrize("level", [None, "count", "page"])
@pytest.mark.parametrize("token", [None, b"a-token-of-16-bytes"], ids=["open", "with-token"])
def test_who_makes_something_public_and_has_no_token_is_warned(level, token):
    told = [each for each in Config(public=level, token=token).warnings() if "restricts nobody" in each]
    assert len(told) == (level is not None and token is None)
    assert all(f"public = {level}" in each and "--token-file" in each for each in told)


@pytest.mark.parametrize("level", [None, "count"])
@pytest.mark.parametrize("origins", [(), ("https://example.org",)])
def test_who_names_other_sites_and_makes_nothing_public_is_warned(level, origins):
    told = list(Config(public=level, http_origins=origins, token=b"a-token-of-16-bytes").warnings())
    assert [each.partition(": ")[0] for each in told] == (
        ["http_origins = https://example.org"] if origins and level is None else []
    )
