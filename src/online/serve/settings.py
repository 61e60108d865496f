"""Every setting, described once: its name, the values that it takes, and its help.

Not its job: where values come from (loading.py), and what they mean (config.py, limits.py).

From a row `frame_timeout` of the tables SETTINGS and LIMITS follow the option `--frame-timeout`, the variable
`ONLINE_FRAME_TIMEOUT`, the key `frame_timeout` of the file, the help, and the check of a value.
"""

import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from online.core.sites import SITE_MAX_BYTES
from online.limits import KIB, MIB
from online.partitions import SLOTS
from online.serve.config import BY_HOST, Address
from online.terms import WINDOW_MAX_S, WINDOW_MIN_S, span

PREFIX = "ONLINE_"
TOKEN_MAX_BYTES = 1_024
COUNT_MAX = 2**31 - 1
NAME_MAX_BYTES = 16 * KIB  #: an index takes no longer ones
SIZE_MAX = 2**40 * 1024
DAY_S = 24 * 3600
MAX_PARTITION = SLOTS - 1


# What values are like


class NearlyError(ValueError):
    """A value is nearly one that is taken; the message says what is wrong."""


class Kind(NamedTuple):
    """A kind of value: `takes` says in words what `read` makes a value of.

    `read` is given text, or a value of TOML, and raises ValueError or TypeError for what it does not take; NearlyError
    where it can say what is wrong.
    """

    metavar: str
    takes: str
    read: Callable[[Any], Any]
    many: bool = False  #: a list; as text with commas, as an option given more than once
    secret: bool = False  #: never shown


MAX_PORT = 65_535

_SIZE_UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": KIB * MIB}
_TIME_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}
_SWITCH = {"1": True, "true": True, "0": False, "false": False}

_Amount = TypeVar("_Amount", int, float)


def _between(low: _Amount, high: _Amount, amount: _Amount) -> _Amount:
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


def seconds(low: float, high: float) -> Kind:
    """Seconds, plain or with a unit."""

    def read(value: Any) -> float:
        amount, unit = _with_unit(r"\d{1,9}(?:\.\d{1,9})?", _TIME_UNITS, value)
        return _between(float(low), float(high), float(amount) * unit)

    return Kind("SECONDS", f"{low} to {high} seconds", read)


def read_path(value: Any) -> Path:
    """Make text the path of a file."""
    if not value or "\0" in value:
        raise ValueError
    return Path(value)


def read_token(value: Any) -> bytes:
    """Make text a token."""
    token: bytes = value.encode(errors="surrogateescape")
    if not token.strip():
        raise NearlyError("the one given is empty")
    if len(token) > TOKEN_MAX_BYTES:
        raise NearlyError("the one given is longer")
    if token.split() != [token]:
        raise NearlyError("the one given has spaces")
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


def read_sync(value: Any) -> float:
    """Make `always` 0, `never` infinity, and times seconds."""
    if value in ("always", "never"):
        return 0.0 if value == "always" else math.inf
    amount: float = seconds(0, 3600).read(value)
    if amount < 0.01:
        raise ValueError
    return amount


def shown_sync(value: float) -> str:
    """Return how `--sync` is written."""
    return {0.0: "always", math.inf: "never"}.get(value, span(value))


def read_days(value: Any) -> int:
    """Read whole days."""
    return _between(0, 10_000, int(_matched(r"(\d{1,5})(?: ?d(?:ays?)?)?", value)[1]))


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
    if text.isdecimal() and int(text) <= MAX_PORT:
        raise NearlyError(f"did you mean 127.0.0.1:{text}?")
    if re.fullmatch(r"[\w.-]+", text):
        raise NearlyError("it has no port")
    match = _matched(r"(?:\[([0-9A-Za-z:.%]+)\]|([^\s:\[\]]+)):(\d+)", text)
    if int(match[3]) > MAX_PORT:
        raise NearlyError(f"the port is at most {MAX_PORT}")
    return Address(match[1] or match[2], int(match[3]))


def read_http(value: Any) -> Address | None:
    """Make text an address to listen at; none of it says: nowhere."""
    return read_address(value) if value.strip() else None


def read_host(value: Any) -> str:
    """Make text the name of a host, without a port."""
    return _matched(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", value)[0].lower()


def read_origin(value: Any) -> str:
    """Make text an origin, as browsers write it."""
    return _matched(r"\*|https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", value)[0].lower()


def read_bus(value: Any) -> str:
    """Make sure of the url of a bus."""
    return _matched(r"(?:rediss?(?:\+sentinel|\+cluster)?|kafka)://\S+", value)[0]


def read_text(value: Any) -> str:
    """Make sure of text."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def read_site(value: Any) -> str:
    """Check the name of a site."""
    _between(1, SITE_MAX_BYTES, len(value.encode(errors="surrogateescape")))
    return str(value)


def shown_size(value: int) -> str:
    """Return bytes in the largest unit that divides them.

    >>> shown_size(262_144)
    '256KiB'
    """
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if value % _SIZE_UNITS[unit] == 0)
    return f"{value // _SIZE_UNITS[unit]}{unit}"


DIR = Kind("DIR", "the path of a directory", read_path)
BUS = Kind("URL", "redis://HOST:PORT, redis+sentinel://, redis+cluster:// or kafka://", read_bus, secret=True)
SYNC = Kind("always|never|SECONDS", "always, never, or 0.01 to 3600 seconds", read_sync)
FILE = Kind("FILE", "the path of a file", read_path)
TOKEN = Kind("TOKEN", f"1 to {TOKEN_MAX_BYTES} bytes of text without spaces", read_token, secret=True)
SWITCH = Kind("", "true or false", read_switch)
MODE = Kind("MODE", "three octal digits (such as 660)", read_mode)
DAYS = Kind("DAYS", "0 to 10000 days", read_days)
TEXT = Kind("TEXT", "text", read_text)
SITE = Kind(f"NAME|{BY_HOST}", f"a name of 1 to {SITE_MAX_BYTES} bytes, or {BY_HOST}", read_site)
NAMES = Kind("NAME", f"a name of 1 to {SITE_MAX_BYTES} bytes", read_site, many=True)
NETWORKS = Kind("NETWORK", "a network such as 10.0.0.0/8", ip_network, many=True)
LISTEN = Kind("ADDRESS", "HOST:PORT, [IPV6]:PORT or unix:PATH", read_address, many=True)


HTTP = Kind("ADDRESS", "HOST:PORT, [IPV6]:PORT, unix:PATH or nothing", read_http, many=True)
PUBLIC = word("count", "page")
ORIGINS = Kind("ORIGIN", "an origin such as https://example.org, or *", read_origin, many=True)
HOSTS = Kind("NAME", "the name of a host, such as stats.example.org", read_host, many=True)


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
    Setting("listen", LISTEN, "where clients connect: HOST:PORT, [IPV6]:PORT or unix:PATH; can be repeated"),
    Setting("http", HTTP, "where browsers find the dashboard, the JSON API and /metrics; '' turns it off"),
    Setting("http_host", HOSTS, "a host name by which browsers reach the server; can be repeated"),
    Setting("http_origins", ORIGINS, "another site whose pages may read what is public; can be repeated"),
    Setting("public", PUBLIC, "what anybody may read over HTTP; count: numbers only; page: also members' names"),
    Setting("token", TOKEN, "the token that clients must send (AUTH [site] TOKEN); ps shows it, so a file is better"),
    Setting("token_file", FILE, "a file with one token, or with lines ROLE [SITE] TOKEN (read, write, admin)"),
    Setting("window", whole_seconds(WINDOW_MIN_S, WINDOW_MAX_S), "how long a user stays online after a hit"),
    Setting("sites", NAMES, "a site that this server has, beside default; others are refused; can be repeated"),
    Setting("state", DIR, "a directory to write every hit to, so that a restart or a crash loses nobody"),
    Setting("sync", SYNC, "how often the journal is forced to disk; a power failure can lose that much"),
    Setting("on_disk_error", word("continue", "refuse"), "when the disk fails: go on in memory, or refuse hits"),
    Setting("history", DAYS, "how long counts of each minute are kept; 0: not at all; without --state: 30 hours"),
    Setting("last_seen", DAYS, "how long it is kept where members were last seen (personal data); 0: not at all"),
    Setting("bus", BUS, "the Redis, Valkey or Kafka over which servers share hits: its url, docs/scale.md"),
    Setting("partition", number(0, MAX_PARTITION), "which part of the users is shared on the bus, docs/scale.md"),
    Setting(
        "map",
        FILE,
        "the map of partitions; a server refuses hits for users of other partitions, "
        "a relay sends each hit to its partition",
    ),
    Setting("bus_ack", word("no", "yes"), "yes: hits are answered when the bus has them, and refused while it is away"),
    Setting("bus_wait", whole_seconds(0, 24 * 3600), "how long the server waits at startup for an unreachable bus"),
    Setting("tls_cert", FILE, "a certificate chain (PEM); TCP ports then speak TLS"),
    Setting("tls_key", FILE, "the private key of the certificate (PEM)"),
    Setting("unix_mode", MODE, "permissions of Unix sockets, such as 660"),
    Setting("transport", word("auto", "reactor", "streams"), "how plain sockets are served; auto: reactor, if it can"),
    Setting("syslog", LISTEN, "where access logs arrive as syslog: HOST:PORT (UDP) or unix:PATH; can be repeated"),
    Setting("syslog_from", NETWORKS, "a network that may send syslog from beyond this machine; can be repeated"),
    Setting("syslog_format", TEXT, "the format of the lines: see --format of online feed"),
    Setting("syslog_rules", FILE, "a file of rules for page views and users: see --rules of online feed"),
    Setting("syslog_site", SITE, "the site of hits from syslog; by-host: a site for each host"),
    Setting("quiet", SWITCH, "log only warnings and errors"),
)

LIMITS = (
    Setting("max_connections", number(1, 1_000_000), "connections at the same time"),
    Setting("max_frame", size(4 * KIB, KIB * MIB), "size of one message"),
    Setting("max_frame_before_auth", size(512, MIB), "size of one message before AUTH"),
    Setting("max_items", number(16, 2**24), "items of one array in a message"),
    Setting("max_depth", number(3, 16), "arrays within arrays in a message"),
    Setting("max_user", number(1, NAME_MAX_BYTES), "bytes of a user"),
    Setting("max_url", number(1, NAME_MAX_BYTES), "bytes of a url"),
    Setting("max_users", number(1, COUNT_MAX), "users of a site"),
    Setting("max_pages", number(1, COUNT_MAX), "pages of a site"),
    Setting("max_sites", number(1, 1_000_000), "sites"),
    Setting("max_memory", size(MIB, SIZE_MAX), "memory of all sites (default: 75 %% of what there is)"),
    Setting("max_limit", number(1, 100_000), "users in one reply, names in one query"),
    Setting("max_scan", number(1, COUNT_MAX), "pages that SECTION adds up"),
    Setting("max_output", size(4 * KIB, KIB * MIB), "unsent output at which a connection is no longer read from"),
    Setting("max_buffers", size(MIB, SIZE_MAX), "waiting input and output of all connections together"),
    Setting("send_timeout", seconds(1, DAY_S), "how long a client may read nothing of what is sent to it"),
    Setting("frame_timeout", seconds(1, DAY_S), "time from the first byte of a message to its last"),
    Setting("auth_timeout", seconds(1, DAY_S), "how long a client may take to send its token"),
    Setting("max_subscriptions", number(1, 1_000_000), "channels that one connection may subscribe to"),
    Setting("max_all_subscriptions", number(1, 100_000_000), "subscriptions of all connections"),
    Setting("push_interval", seconds(0.1, 60), "shortest time between two states of a channel"),
)

def shown(setting: Setting, value: Any) -> str:
    """Return a value as it is written."""
    if setting.kind.metavar == "SIZE":
        return shown_size(value)
    return span(value) if setting.kind.metavar == "SECONDS" else str(value)


BY_NAME = {setting.name: setting for setting in SETTINGS + LIMITS}
