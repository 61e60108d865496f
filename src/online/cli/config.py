"""`online config`: the settings of a server. Writes a file of them, checks them, and shows where each comes from.

Not here: which settings there are (serve/settings), and how they are read (serve/loading).
"""

import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

from online.cli.serve import assemble, warn_of_variables
from online.errors import ConfigError
from online.serve import loading
from online.serve.loading import Given, shown_default
from online.serve.settings import BUS, BY_NAME, LIMITS, SETTINGS, SWITCH, Setting

_SECRET = re.compile("@|password|secret|token", re.IGNORECASE)

#: How wide lines of a file are, at most, but for values.
WIDTH = 100

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
file made of the output lacks them, and says so.

With --init, write a file with every setting in it, explained and commented out, and its default."""

_EPILOG = """\
examples:
  online config --init online.toml     write a file to begin with; - for standard output
  online config --config online.toml   check it, and show what holds
  online serve --config online.toml    use it

exit codes: 0 a server could use them, 2 something is wrong with them"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe `online config`."""
    parser.usage = "online config [--init FILE] [OPTION ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("--init", metavar="FILE", help="write a file with all settings, unless it exists")
    loading.add_arguments(parser)


def run(args: Namespace) -> int:
    """Write a file, or show what holds; return the exit code. Raises ConfigError."""
    if args.init is not None:
        _write(args.init)
        return 0
    flags = vars(args)
    warn_of_variables(args, os.environ)
    assemble(loading.load(flags, os.environ))
    for line in shown(loading.gather(flags, os.environ)):
        print(line)
    return 0


# What holds


def shown(given: Mapping[str, Given]) -> Iterator[str]:
    """Yield a line of TOML for each setting that has a value, with where that comes from."""
    for setting in BY_NAME.values():
        if setting.name in given:
            value, where, _ = given[setting.name]
            if is_secret(setting, value):
                yield f"{f'# {setting.name} is set, and not shown':<42} # {where}"
                continue
            text = toml(_plain(setting, value))
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


def _plain(setting: Setting, value: Any) -> Any:
    """Return what an option or variable gave, as it would stand in a file."""
    if setting.kind.many and isinstance(value, str):
        return value.split(",")
    if setting.kind is SWITCH and isinstance(value, str):
        return setting.kind.read(value)
    return value


# A file to begin with


def _write(name: str) -> None:
    """Write the file, or to standard output. Raises ConfigError."""
    text = "".join(f"{line}\n" for line in template())
    if name == "-":
        sys.stdout.write(text)
        return
    try:
        with Path(name).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"--init {name}: it exists already, and is left as it is") from None
    except OSError as error:
        raise ConfigError(f"--init {name}: {error.strerror}") from None
    print(f"Wrote {name}. Edit it, look at it with: online config --config {name}")


def template() -> Iterator[str]:
    """Yield the lines of a file with each setting, explained and commented out."""
    yield "# Settings of an online server. Remove the # before a setting to change it."
    yield "# Options and variables (ONLINE_WINDOW for window) override this file."
    yield "# To check it and see what holds: online config --config FILE"
    for title, settings in (("Settings", SETTINGS), ("Limits", LIMITS)):
        yield ""
        yield ""
        yield f"# {title}"
        for setting in settings:
            yield ""
            yield from (f"# {line}" for line in wrap(described(setting), WIDTH - 2))
            yield f"#{setting.name} = {toml(default(setting))}"


def described(setting: Setting) -> str:
    """Say what a setting does, what it takes, and whether what is shown is only an example.

    >>> described(BY_NAME["state"]).rpartition(". Takes ")[2]
    'the path of a directory. Not set by default.'
    """
    text = setting.help.replace("%%", "%")
    takes = f"a list, each {setting.kind.takes}" if setting.kind.many else setting.kind.takes
    unset = " Not set by default." if setting.name in EXAMPLES else ""
    return f"{text[0].upper()}{text[1:]}. Takes {takes}.{unset}"


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
