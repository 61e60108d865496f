"""Options, environment variables and a TOML file, made into one `Config`.

Not its job: which settings there are (settings.py), and to open anything but the configuration and token files.

Invariants:
1. An option goes before a variable, a variable before the file, the file before the default.
2. Every ConfigError is one line that names the option, the variable, or the file with line and key; none
   shows a token.
3. A key of the file that is no setting is an error. A variable ONLINE_... that is none is worth a warning alone:
   other programs may have a use for it.
"""

import difflib
import re
import tomllib
from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from online import errors
from online.errors import ConfigError
from online.limits import Limits
from online.serve.config import DEFAULT_HTTP, Config, TogetherError
from online.serve.settings import (
    BY_NAME,
    HTTP,
    LIMITS,
    PREFIX,
    SETTINGS,
    SWITCH,
    SYNC,
    TOKEN,
    TOKEN_MAX_BYTES,
    Kind,
    NearlyError,
    Setting,
    shown,
    shown_sync,
)
from online.serve.tokens import read_tokens

#: What else ONLINE_... may be: for this module and clients, and for middleware ...
_OTHERS = {
    *("CONFIG", "URL", "REDIS_URL"),
    *("USER", "GUEST", "PAGE_URL", "TRUST_PROXY", "PROXY_HEADER", "VISITOR_COOKIE"),
}

#: ... and for deploy/, and the build, the tests and the benchmarks of this project.
_OF_DEVELOPERS = {
    *("A", "B", "BENCH_USERS", "BUS_KILL_SECONDS", "CFLAGS", "COUNT_STEPS", "KILL_CYCLES", "KILL_SEED", "LINES"),
    *("PACKAGES", "PAIRS", "POWERS", "REAL_LOGS", "SEEDS", "SINCE_MS", "SPEED", "STARVE_GROWTH", "THREAD_ROUNDS"),
}

#: What Kubernetes and Docker make up for a service called "online" or "online-...".
_MADE_UP = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)", re.ASCII)

# The options


def add_arguments(parser: ArgumentParser, without: Collection[str] = ()) -> None:
    """Give `parser` an option for every setting but those `without`, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help=f"a TOML file with settings ({PREFIX}CONFIG)")
    for title, settings in (("settings", SETTINGS), ("limits", LIMITS)):
        group = parser.add_argument_group(title)
        for setting in settings:
            if setting.name not in without:
                _add_argument(group.add_argument, setting)


def _add_argument(add: Callable[..., object], setting: Setting) -> None:
    default = shown_default(setting)
    described = f"{setting.help} (default: {default})" if default else setting.help
    if setting.kind is SWITCH:
        add(setting.flag, dest=setting.name, action=BooleanOptionalAction, help=described)
    else:
        action = "append" if setting.kind.many else "store"
        add(setting.flag, dest=setting.name, action=action, metavar=setting.kind.metavar, help=described)


def shown_default(setting: Setting) -> str:
    """Return the default of a setting as it is written, or nothing if it has none."""
    config = Config()
    default = getattr(config if hasattr(config, setting.field) else config.limits, setting.field, None)
    if setting.kind is HTTP:
        return f"{DEFAULT_HTTP}, if it is free"
    if default is None or default is False or default == ():
        return ""
    if setting.kind.many:
        return ", ".join(map(str, default))
    if setting.kind is SYNC:
        return shown_sync(default)
    return shown(setting, default)


# Options, variables and the file, made one


class Given(NamedTuple):
    """A value as it was given, where in words, and the rank of that place: lower goes first."""

    value: Any
    where: str
    rank: int


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], without: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Make the Config of parsed `flags` (None where not given), `environ`, and the file they name.

    `without`: settings that are not taken, each with the reason; an empty value or the default is as good as none.
    Raises ConfigError for the first thing that is wrong.
    """
    given = gather(flags, environ)
    for name in without.keys() & given.keys():
        refused = given.pop(name)
        if refused.value not in ("", [], shown_default(BY_NAME[name])):
            raise ConfigError(f"{refused.where} {without[name]}")
    values = {BY_NAME[name].field: _read(BY_NAME[name].kind, at) for name, at in given.items()}
    _read_token_file(values, given)
    limits = {key.name: values.pop(key.name) for key in fields(Limits) if key.name in values}
    try:
        return Config(limits=Limits(**limits), **values)
    except TogetherError as error:
        where = given[error.setting].where
        raise ConfigError(f"{where} {error.problem}") from None


def gather(flags: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Given]:
    """Return what `flags`, `environ` and the file they name give, by setting, of each the one that holds.

    Raises ConfigError for a file that cannot be read, or names what is no setting.
    """
    given = {}
    if flags.get("config") is not None:
        given = _from_file("--config", flags["config"])
    elif f"{PREFIX}CONFIG" in environ:
        given = _from_file(f"{PREFIX}CONFIG", environ[f"{PREFIX}CONFIG"])
    for setting in BY_NAME.values():
        if setting.variable in environ:
            given[setting.name] = Given(environ[setting.variable], setting.variable, 1)
        if flags.get(setting.name) is not None:
            given[setting.name] = Given(flags[setting.name], setting.flag, 0)
    return given


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that looks like a setting and is none."""
    known = {name.upper() for name in BY_NAME} | _OTHERS
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in known | _OF_DEVELOPERS and not _MADE_UP.fullmatch(name):
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.65)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            yield f"the variable {variable} is not a setting and is ignored{hint}"


def _read(kind: Kind, given: Given) -> Any:
    """Read one value, or each of many."""
    if not kind.many:
        return read_value(kind, given.where, given.value)
    values = given.value.split(",") if isinstance(given.value, str) else given.value
    if not isinstance(values, list) or not (values or kind is HTTP):
        raise errors.bad_setting(given.where, kind.takes, str(values))
    found = (read_value(kind, given.where, value) for value in values)
    return tuple(each for each in found if each is not None)


def read_value(kind: Kind, where: str, value: Any) -> Any:
    """Read one value that was given at `where`. Raises ConfigError."""
    try:
        return kind.read(value)
    except (ValueError, TypeError, AttributeError) as error:
        hint = str(error) if isinstance(error, NearlyError) else ""
        if kind.secret:
            raise errors.bad_secret(where, kind.takes, hint) from None
        raise errors.bad_setting(where, kind.takes, str(value), hint) from None


def _read_token_file(values: dict[str, Any], given: Mapping[str, Given]) -> None:
    """Turn `token_file` into `token` or `tokens`, unless a token was given in a place that goes before."""
    path = values.pop("token_file", None)
    if path is None:
        return
    at = given["token_file"]
    if "token" in given and given["token"].rank == at.rank:
        raise ConfigError(f"{at.where} and {given['token'].where} are both given, one token is enough")
    if "token" in given and given["token"].rank < at.rank:
        return
    try:
        text = path.read_bytes().rstrip(b"\r\n").decode(errors="surrogateescape")
    except OSError as error:
        raise errors.unusable_file(at.where, path, error) from None
    lines = text.splitlines()
    if len(text.split()) > 1:
        values["tokens"] = read_tokens(f"{at.where} {path}", lines, TOKEN_MAX_BYTES)
    else:
        values["token"] = read_value(TOKEN, f"{at.where} {path}", text)


def _from_file(where: str, name: str) -> dict[str, Given]:
    """Read the settings of a TOML file."""
    try:
        content = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise errors.unusable_file(where, name, error) from None
    text = _decoded(name, content)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(name, text, str(error))) from None
    return {key: Given(value, _key_in_file(name, text, key), 2) for key, value in document.items()}


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}, line {line}: not UTF-8") from None


def _key_in_file(name: str, text: str, key: str) -> str:
    """Say where a key of the file stands; raise ConfigError if it is no setting."""
    begins = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    line = next((n for n, line in enumerate(text.splitlines(), 1) if begins.match(line)), 1)
    where = f"{name}, line {line}: {key}"
    if key not in BY_NAME:
        near = difflib.get_close_matches(key, BY_NAME, n=1)
        raise errors.unknown_key(where, near[0] if near else None)
    return where


def _syntax_error(name: str, text: str, message: str) -> str:
    """Put the line first, with the key that stands on it, in what tomllib says of a syntax error."""
    lines = text.splitlines()
    place = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(place[1]) if place else len(lines)
    key = re.match(r"\s*([\w\"'.-]+)\s*=", lines[line - 1] if lines else "")
    problem = re.sub(r" \(at .*\)$", "", message)
    return f"{name}, line {line}: " + (f"{key[1]}: {problem}" if key else problem)
