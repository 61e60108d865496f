"""The settings of a server: flags, environment variables and a TOML file, made into one `Config`.

Not its job: what the limits mean (limits.py), and to open anything but the configuration and token files.

The tables SETTINGS and LIMITS describe every setting once. From a row `frame_timeout` follow the flag
`--frame-timeout`, the variable `ONLINE_FRAME_TIMEOUT`, the key `frame_timeout` of the file, the help, and the
check of a value.

Invariants:
1. A flag goes before a variable, a variable before the file, the file before the default.
2. Every ConfigError is one line that names the option, the variable, or the file with line and key; none
   shows a token.
3. A key of the file that is no setting is an error. A variable ONLINE_... that is none is not: container
   systems make up such names by themselves (ONLINE_PORT for a service called "online").
"""

import difflib
import re
import tomllib
from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from online import errors
from online.errors import ConfigError
from online.limits import KIB, MIB, Limits
from online.terms import WINDOW_MAX_S, WINDOW_MIN_S

PREFIX = "ONLINE_"
TOKEN_MAX_BYTES = 1_024
COUNT_MAX = 2**31 - 1
SIZE_MAX = 2**40 * 1024
DAY_S = 24 * 3600


@dataclass(frozen=True)
class Address:
    """Where a server listens: a TCP `host` and `port` (0: any free one), or the `path` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it. A host name other than localhost may mean any machine."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


_TOKEN_WAYS = "--token-file, ONLINE_TOKEN_FILE, or token_file in the file"

DEFAULT_LISTEN = (Address("127.0.0.1", 8989),)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a server is told at its start.

    Raises ConfigError for settings that do not go together.
    """

    listen: tuple[Address, ...] = DEFAULT_LISTEN
    token: bytes | None = field(default=None, repr=False)
    window_s: int = 1_800
    state: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    unix_mode: int | None = None
    transport: str = "auto"
    syslog: tuple[Address, ...] = ()
    syslog_from: tuple[IPv4Network | IPv6Network, ...] = ()
    syslog_format: str = "auto"
    syslog_rules: Path | None = None
    quiet: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for address in self.listen:
            if self.token is None and not address.is_local:
                problem = f"{address} is open to other machines and needs a token: {_TOKEN_WAYS}"
                raise _TogetherError("listen", problem)
        for address in self.syslog:
            if not self.syslog_from and not address.is_local:
                problem = f"{address} is open to other machines: tell by syslog_from which of them may send"
                raise _TogetherError("syslog", problem)
        if self.tls_cert and not self.tls_key:
            raise _TogetherError("tls_cert", "needs a tls_key, too")
        if self.tls_key and not self.tls_cert:
            raise _TogetherError("tls_key", "needs a tls_cert, too")


class _TogetherError(ConfigError):
    """Settings that do not go together; `setting` is the one to name."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting} {problem}")
        self.setting = setting
        self.problem = problem


# What values are like


class Kind(NamedTuple):
    """A kind of value: `takes` says in words what `read` makes a value of.

    `read` is given text, or a value of TOML, and raises ValueError or TypeError for what it does not take.
    """

    metavar: str
    takes: str
    read: Callable[[Any], Any]
    many: bool = False  #: a list; as text with commas, as an option given more than once
    secret: bool = False  #: never shown


_SIZE_UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": KIB * MIB}
_TIME_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}
_SWITCH = {"1": True, "true": True, "0": False, "false": False}

_Amount = TypeVar("_Amount", int, float)


def _between(low: int, high: int, amount: _Amount) -> _Amount:
    if not low <= amount <= high:
        raise ValueError
    return amount


def _matched(pattern: str, value: Any) -> re.Match[str]:
    """Match text, or a number of TOML, as a whole. A bool of TOML is no number."""
    match = re.fullmatch(pattern, "" if isinstance(value, bool) else str(value), re.ASCII)
    if not match:
        raise ValueError
    return match


def _with_unit(number: str, units: Mapping[str, int], value: Any) -> tuple[str, int]:
    """Split `30min` into `30` and the seconds of a minute."""
    match = _matched(rf"({number})(?: ?([A-Za-z]+))?", value)
    unit = match[2] or ""
    if unit not in units:
        raise ValueError
    return match[1], units[unit]


def number(low: int, high: int) -> Kind:
    """A whole number."""

    def read(value: Any) -> int:
        return _between(low, high, int(_matched(r"\d{1,18}", value)[0]))

    return Kind("N", f"{low} to {high}", read)


def size(low: int, high: int) -> Kind:
    """Bytes, plain or with a unit."""

    def read(value: Any) -> int:
        amount, unit = _with_unit(r"\d{1,18}", _SIZE_UNITS, value)
        return _between(low, high, int(amount) * unit)

    return Kind("SIZE", f"{shown_size(low)} to {shown_size(high)}", read)


def whole_seconds(low: int, high: int) -> Kind:
    """Whole seconds, plain or with a unit."""

    def read(value: Any) -> int:
        amount, unit = _with_unit(r"\d{1,9}", _TIME_UNITS, value)
        return _between(low, high, int(amount) * unit)

    return Kind("SECONDS", f"{low} to {high} seconds", read)


def seconds(low: int, high: int) -> Kind:
    """Seconds, plain or with a unit."""

    def read(value: Any) -> float:
        amount, unit = _with_unit(r"\d{1,9}(?:\.\d{1,9})?", _TIME_UNITS, value)
        return _between(low, high, float(amount) * unit)

    return Kind("SECONDS", f"{low} to {high} seconds", read)


def read_path(value: Any) -> Path:
    """Make text the path of a file."""
    if not value or "\0" in value:
        raise ValueError
    return Path(value)


def read_token(value: Any) -> bytes:
    """Make text a token."""
    token: bytes = value.encode(errors="surrogateescape")
    if len(token) > TOKEN_MAX_BYTES or token.split() != [token]:
        raise ValueError
    return token


def word(*words: str) -> Kind:
    """One of a few words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind("|".join(words), f"{', '.join(words[:-1])} or {words[-1]}", read)


def read_switch(value: Any) -> bool:
    """Make a word a bool."""
    found = _SWITCH.get(str(value).lower())
    if found is None:
        raise ValueError
    return found


def read_mode(value: Any) -> int:
    """Make octal digits the permissions of a file."""
    return int(_matched("[0-7]{3}", value)[0], base=8)


def read_address(value: Any) -> Address:
    """Make text an address to listen at.

    >>> read_address("[::1]:8989")
    Address(host='::1', port=8989, path=None)
    """
    text = value.strip()
    if text.startswith("unix:"):
        return Address(path=read_path(text.removeprefix("unix:")))
    match = _matched(r"(?:\[([0-9A-Za-z:.%]+)\]|([^\s:\[\]]+)):(\d{1,5})", text)
    return Address(match[1] or match[2], _between(0, 65_535, int(match[3])))


def read_text(value: Any) -> str:
    """Make sure of text."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def shown_size(value: int) -> str:
    """Return bytes in the largest unit that divides them.

    >>> shown_size(262_144)
    '256KiB'
    """
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if value % _SIZE_UNITS[unit] == 0)
    return f"{value // _SIZE_UNITS[unit]}{unit}"


FILE = Kind("FILE", "the path of a file", read_path)
TOKEN = Kind("TOKEN", f"1 to {TOKEN_MAX_BYTES} bytes of text without spaces", read_token, secret=True)
SWITCH = Kind("", "true or false", read_switch)
MODE = Kind("MODE", "three octal digits (such as 660)", read_mode)
TEXT = Kind("TEXT", "text", read_text)
NETWORKS = Kind("NETWORK", "a network such as 10.0.0.0/8", ip_network, many=True)
LISTEN = Kind("ADDRESS", "HOST:PORT, [IPV6]:PORT or unix:PATH", read_address, many=True)


# The table


class Setting(NamedTuple):
    """One setting: `name` is its key in the file, and flag and variable follow from it."""

    name: str
    kind: Kind
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def field(self) -> str:
        """The field of Config or Limits: times have their unit in its name."""
        return f"{self.name}_s" if self.kind.metavar == "SECONDS" else self.name


SETTINGS = (
    Setting("listen", LISTEN, "HOST:PORT, [IPV6]:PORT or unix:PATH; may be given more than once"),
    Setting("token", TOKEN, "what clients must send first: AUTH [site] TOKEN; ps shows it, a file is better"),
    Setting("token_file", FILE, "a file that holds the token"),
    Setting("window", whole_seconds(WINDOW_MIN_S, WINDOW_MAX_S), "how long a hit keeps its user online"),
    Setting("state", FILE, "written at the end and read at the start, so that a restart forgets nobody"),
    Setting("tls_cert", FILE, "a certificate chain (PEM): TCP connections speak TLS"),
    Setting("tls_key", FILE, "the key of the certificate (PEM)"),
    Setting("unix_mode", MODE, "permissions of Unix sockets, such as 660"),
    Setting("transport", word("auto", "reactor", "streams"), "what serves plain sockets; auto: reactor, if it can"),
    Setting("syslog", LISTEN, "where access logs come in as syslog, UDP or unix:PATH; may be given more than once"),
    Setting("syslog_from", NETWORKS, "who may send syslog to an address beyond this machine"),
    Setting("syslog_format", TEXT, "how the lines are written: see --format of online feed"),
    Setting("syslog_rules", FILE, "what is a page view, and who is the user: see --rules of online feed"),
    Setting("quiet", SWITCH, "log warnings and errors alone"),
)

LIMITS = (
    Setting("max_connections", number(1, 1_000_000), "connections at once"),
    Setting("max_frame", size(4 * KIB, KIB * MIB), "size of one message"),
    Setting("max_frame_before_auth", size(512, MIB), "size of one message before AUTH"),
    Setting("max_items", number(16, 2**24), "items of one array in a message"),
    Setting("max_depth", number(3, 16), "arrays within arrays in a message"),
    Setting("max_user", number(1, 65_535), "bytes of a user"),
    Setting("max_url", number(1, 65_535), "bytes of a url"),
    Setting("max_users", number(1, COUNT_MAX), "users of a site"),
    Setting("max_pages", number(1, COUNT_MAX), "pages of a site"),
    Setting("max_sites", number(1, 1_000_000), "sites"),
    Setting("max_memory", size(MIB, SIZE_MAX), "memory of all sites (default: 75 %% of what there is)"),
    Setting("max_limit", number(1, 100_000), "users in one reply, names in one question"),
    Setting("max_scan", number(1, COUNT_MAX), "pages that SECTION adds up"),
    Setting("max_output", size(4 * KIB, KIB * MIB), "waiting output beyond which a connection's input rests"),
    Setting("max_buffers", size(MIB, SIZE_MAX), "waiting input and output of all connections"),
    Setting("send_timeout", seconds(1, DAY_S), "time without progress in sending"),
    Setting("frame_timeout", seconds(1, DAY_S), "time from a message's first byte to its last"),
    Setting("auth_timeout", seconds(1, DAY_S), "time to the first message where a token is needed"),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS + LIMITS}


def add_arguments(parser: ArgumentParser) -> None:
    """Give `parser` an option for every setting, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help=f"a TOML file with settings ({PREFIX}CONFIG)")
    for title, settings in (("settings", SETTINGS), ("limits", LIMITS)):
        group = parser.add_argument_group(title)
        for setting in settings:
            _add_argument(group.add_argument, setting)


def _add_argument(add: Callable[..., object], setting: Setting) -> None:
    default = _shown_default(setting)
    described = f"{setting.help} (default: {default})" if default else setting.help
    if setting.kind is SWITCH:
        add(setting.flag, dest=setting.name, action=BooleanOptionalAction, help=described)
    else:
        action = "append" if setting.kind.many else "store"
        add(setting.flag, dest=setting.name, action=action, metavar=setting.kind.metavar, help=described)


def _shown_default(setting: Setting) -> str:
    config = Config()
    default = getattr(config if hasattr(config, setting.field) else config.limits, setting.field, None)
    if default is None or default is False:
        return ""
    if setting.kind.many:
        return ", ".join(map(str, default))
    if setting.kind.metavar == "SIZE":
        return shown_size(default)
    return f"{default:g} s" if setting.kind.metavar == "SECONDS" else str(default)


# Flags, variables and the file, made one


class _Given(NamedTuple):
    """A value, where it was given in words, and the rank of that place: lower goes first."""

    value: Any
    where: str
    rank: int


def load(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Make the Config of parsed `flags` (None where not given), `environ`, and the file they name.

    Raises ConfigError for the first thing that is wrong.
    """
    given = {}
    if flags.get("config") is not None:
        given = _from_file("--config", flags["config"])
    elif f"{PREFIX}CONFIG" in environ:
        given = _from_file(f"{PREFIX}CONFIG", environ[f"{PREFIX}CONFIG"])
    for setting in _BY_NAME.values():
        if setting.variable in environ:
            given[setting.name] = _Given(environ[setting.variable], setting.variable, 1)
        if flags.get(setting.name) is not None:
            given[setting.name] = _Given(flags[setting.name], setting.flag, 0)
    values = {_BY_NAME[name].field: _read(_BY_NAME[name].kind, at) for name, at in given.items()}
    _read_token_file(values, given)
    limits = {key.name: values.pop(key.name) for key in fields(Limits) if key.name in values}
    try:
        return Config(limits=Limits(**limits), **values)
    except _TogetherError as error:
        where = given[error.setting].where
        raise ConfigError(f"{where} {error.problem}") from None


def _read(kind: Kind, given: _Given) -> Any:
    """Read one value, or each of many."""
    if not kind.many:
        return read_value(kind, given.where, given.value)
    values = given.value.split(",") if isinstance(given.value, str) else given.value
    if not isinstance(values, list) or not values:
        raise errors.bad_setting(given.where, kind.takes, str(values))
    return tuple(read_value(kind, given.where, value) for value in values)


def read_value(kind: Kind, where: str, value: Any) -> Any:
    """Read one value that was given at `where`. Raises ConfigError."""
    try:
        return kind.read(value)
    except (ValueError, TypeError, AttributeError):
        if kind.secret:
            raise errors.bad_secret(where, kind.takes) from None
        raise errors.bad_setting(where, kind.takes, str(value)) from None


def _read_token_file(values: dict[str, Any], given: Mapping[str, _Given]) -> None:
    """Turn `token_file` into `token`, unless a token was given in a place that goes before."""
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
    values["token"] = read_value(TOKEN, f"{at.where} {path}", text)


def _from_file(where: str, name: str) -> dict[str, _Given]:
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
    return {key: _Given(value, _key_in_file(name, text, key), 2) for key, value in document.items()}


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
    if key not in _BY_NAME:
        near = difflib.get_close_matches(key, _BY_NAME, n=1)
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
