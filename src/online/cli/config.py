"""`online config`: the settings of a server, checked, and shown with the place that each comes from.

Not here: which settings there are (serve/settings), how they are read (serve/loading), and a file of all (init).
"""

import json
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from online.cli.serve import assemble, warn_of, warn_of_variables
from online.serve import loading
from online.serve.loading import Given, shown_default
from online.serve.settings import BUS, BY_NAME, SWITCH, Setting

#: Metavars of what is a number, if it has no unit.
NUMBERS = ("N", "SECONDS", "SIZE", "DAYS")

_SECRET = re.compile(r"@|password|secret|token|\.pem|jaas|oauthbearer", re.IGNORECASE)

#: What is written where a setting has no default.
EXAMPLES = {
    "http_host": ["stats.example.org"],
    "http_origins": ["https://www.example.org"],
    "public": "count",
    "token": "a-long-random-text",
    "token_file": "/etc/online/tokens",
    "sites": ["forum", "shop"],
    "state": "/var/lib/online/state",
    "bus": "redis://127.0.0.1:6379",
    "map": "/etc/online/map.toml",
    "tls_cert": "/etc/online/cert.pem",
    "tls_key": "/etc/online/key.pem",
    "unix_mode": "660",
    "syslog": ["127.0.0.1:5514"],
    "syslog_from": ["10.0.0.0/8"],
    "syslog_rules": "/etc/online/rules.toml",
    "max_memory": "4GiB",
}

_DESCRIPTION = """\
Check the settings of a server, and show each with the place it comes from: an option, a variable, the file or the
default. Give the options that you give to `online serve`. Nothing is started. Tokens and passwords are not shown: a
file made of the output lacks them, and says so."""

_EPILOG = """\
examples:
  online config --config online.toml
  online config --window 1h

exit codes: 0 a server could use them, 2 something is wrong with them. See also: online init"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online config`."""
    parser.usage = "online config [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    loading.add_arguments(parser)


def run(args: Namespace) -> int:
    """Show what holds. Returns 0. Raises ConfigError."""
    warn_of_variables(args, os.environ)
    check(args, os.environ)
    for line in shown(loading.gather(vars(args), os.environ)):
        print(line)
    return 0


def check(args: Namespace, environ: Mapping[str, str]) -> None:
    """Say what is probably not meant. Raises ConfigError for what a server cannot use."""
    config = loading.load(vars(args), environ)
    warn_of(args, config)
    assemble(config)


# What holds


def shown(given: Mapping[str, Given]) -> Iterator[str]:
    """Yield a line of TOML for each setting that has a value, with where that comes from."""
    for setting in BY_NAME.values():
        if setting.name in given:
            value, where, _ = given[setting.name]
            if is_secret(setting, value):
                yield f"{f'# {setting.name} is set, and not shown':<42} # {where}"
                continue
            text = toml(plain(setting, value))
        elif shown_default(setting):
            text, where = toml(default(setting)), "default"
        else:
            continue
        yield f"{f'{setting.name} = {text}':<42} # {where}"


def is_secret(setting: Setting, value: Any) -> bool:
    """Whether a value must not be shown; then nothing may stand in its place, or that would be taken for it.

    The url of a bus is secret if it has a user, or an option such as a password.

    >>> [is_secret(BY_NAME["bus"], f"redis://{rest}") for rest in ("a/0", ":b@a/0", "a/0?sentinel_password=b")]
    [False, True, True]
    """
    if setting.kind is BUS:
        return _SECRET.search(str(value)) is not None
    return setting.kind.secret


def plain(setting: Setting, value: Any) -> Any:
    """Return what an option or variable gave, as it would stand in a file."""
    if setting.kind.many and isinstance(value, str):
        return value.split(",")
    if setting.kind is SWITCH and isinstance(value, str):
        return setting.kind.read(value)
    if setting.kind.metavar in NUMBERS and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value


# How settings are written


def default(setting: Setting) -> Any:
    """Return the default of a setting as a value of TOML, or an example where it has none."""
    if setting.name in EXAMPLES:
        return EXAMPLES[setting.name]
    if setting.kind is SWITCH:
        return False
    text = shown_default(setting).removesuffix(", if it is free")
    if setting.kind.many:
        return text.split(", ")
    return int(text) if text.isdigit() else text


def toml(value: Any) -> str:
    """Write a value of TOML.

    >>> toml(["127.0.0.1:8989", 'a"b'])
    '["127.0.0.1:8989", "a\\\\"b"]'
    """
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
