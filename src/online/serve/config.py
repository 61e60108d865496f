"""What a server is told at its start: one `Config`, whatever it was made from.

Not its job: what the settings are called outside, and which values they take (settings.py); how they are read
(loading.py); what the limits mean (limits.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from online.core.sites import DEFAULT_SITE
from online.errors import ConfigError
from online.limits import Limits
from online.serve.tokens import Grant, grant


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


#: The shortest token that is taken where others can guess at it.
OPEN_TOKEN_MIN_BYTES = 16

_TOKEN_WAYS = "--token-file, ONLINE_TOKEN_FILE, or token_file in the file"

#: In place of a site for syslog: the host of each request is its site.
BY_HOST = "by-host"

DEFAULT_LISTEN = (Address("127.0.0.1", 8989),)
DEFAULT_HTTP = Address("127.0.0.1", 8990)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a server is told at its start.

    Raises ConfigError for settings that do not go together.
    """

    listen: tuple[Address, ...] = DEFAULT_LISTEN
    http: tuple[Address, ...] | None = None  #: none: off; None: at DEFAULT_HTTP, if that is free
    http_host: tuple[str, ...] = ()
    http_origins: tuple[str, ...] = ()
    public: str | None = None  #: what strangers may know, over HTTP
    token: bytes | None = field(default=None, repr=False)
    tokens: tuple[Grant, ...] = field(default=(), repr=False)  #: of a file that gives each a role
    window_s: int = 1_800
    sites: tuple[str, ...] = ()  #: that may exist beside `default`; none: all
    state: Path | None = None
    sync: float = 1.0  #: seconds; 0: before each answer, infinity: never
    on_disk_error: str = "continue"
    bus: str | None = field(default=None, repr=False)  #: may have a password in it
    bus_ack: str = "no"
    bus_wait_s: int = 60  #: seconds that a start waits for a bus that cannot be read
    partition: int = 0  #: whose stream of the bus
    map: Path | None = None  #: of partitions
    history: int = 400  #: days; 0: none is kept
    last_seen: int = 0  #: days; 0: nobody's
    tls_cert: Path | None = None
    tls_key: Path | None = None
    unix_mode: int | None = None
    transport: str = "auto"
    syslog: tuple[Address, ...] = ()
    syslog_from: tuple[IPv4Network | IPv6Network, ...] = ()
    syslog_format: str = "auto"
    syslog_rules: Path | None = None
    syslog_site: str = DEFAULT_SITE.decode()  #: or BY_HOST
    quiet: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for setting, addresses in (("listen", self.listen), ("http", self.http or ())):
            for address in addresses:
                self._check_open(setting, address)
        for address in self.syslog:
            if not self.syslog_from and not address.is_local:
                problem = f"{address} is open to other machines: name the networks that may send in syslog_from"
                raise TogetherError("syslog", problem)
        self._check_apart()
        if self.bus_ack == "yes" and self.bus is None:
            raise TogetherError("bus_ack", "needs a bus, too")
        if self.partition and self.bus is None:
            raise TogetherError("partition", "needs a bus, too")
        if self.last_seen and self.state is None:
            raise TogetherError("last_seen", "also needs --state DIR")
        if self.tls_cert and not self.tls_key:
            raise TogetherError("tls_cert", "needs a tls_key, too")
        if self.tls_key and not self.tls_cert:
            raise TogetherError("tls_key", "needs a tls_cert, too")

    def warnings(self) -> Iterator[str]:
        """Yield what is allowed, and is probably not meant."""
        for name in self.sites:
            if "," in name:
                yield f'sites: "{name}" is one site, with a comma in its name; for several, give --sites once for each'
        if self.http != () and self.public is not None and not (self.token or self.tokens):
            yield (
                f"public = {self.public} restricts nobody: without a token everybody who connects may read and write "
                "all; --token-file sets one"
            )
        if self.http_origins and self.public is None:
            yield (
                f"http_origins = {', '.join(self.http_origins)}: it lets other sites read public data, but nothing is "
                "public; set --public count or --public page"
            )

    def _check_open(self, setting: str, address: Address) -> None:
        """Make sure that strangers cannot guess their way in where other machines can connect."""
        if address.is_local:
            return
        problem = f"{address} is open to other machines and needs a token"
        if not self.grants:
            raise TogetherError(setting, f"{problem}: {_TOKEN_WAYS}")
        if any((each.n_bytes or OPEN_TOKEN_MIN_BYTES) < OPEN_TOKEN_MIN_BYTES for each in self.grants):
            longer = f"of at least {OPEN_TOKEN_MIN_BYTES} bytes; openssl rand -hex 16 makes one"
            raise TogetherError(setting, f"{problem} {longer}")

    def _check_apart(self) -> None:
        """Make sure that no two settings name one address."""
        named = dict[tuple[Address, bool], str]()
        listened = (("listen", self.listen), ("http", self.http or ()), ("syslog", self.syslog))
        for setting, address in ((setting, each) for setting, addresses in listened for each in addresses):
            if address.port or address.path:  # any free port may be asked for twice
                socket = address, setting == "syslog" and address.path is None
                if socket in named:
                    both = f"as {named[socket]} does" if named[socket] != setting else "twice"
                    raise TogetherError(setting, f"names {address}, {both}: each needs an address of its own")
                named[socket] = setting

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What each token allows. The one that was given alone allows everything."""
        return self.tokens if self.token is None else (grant(self.token),)


class TogetherError(ConfigError):
    """Settings that do not go together; `setting` is the one to name."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting} {problem}")
        self.setting = setting
        self.problem = problem
