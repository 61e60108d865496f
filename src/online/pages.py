"""Records of requests -> page views: which requests people's browsers made of pages, whose they are, by name and kind.

Not here: how lines are written (formats), and where they come from (hitlog, follow, syslog).

1. What is no page view has a reason that is one of NO_PAGE_VIEW, so that reasons can be counted.
2. No address and no cookie leaves this module in clear, unless `keep_addresses` says so for addresses: who is
   not logged in is a guest, named by a keyed hash of it. The same key gives the same names.
3. X-Forwarded-For is believed only when the request came from a trusted proxy, and read from the right: what
   a client wrote into it stands further left.
4. Memory is bounded: caches are emptied when they are full.
"""

import argparse
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from online import errors
from online.errors import ConfigError
from online.formats import Read
from online.limits import Limits
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

#: What a page is not called: the files that browsers fetch for a page, and what only programs read.
NOT_PAGES = frozenset(
    [
        "avif", "bmp", "css", "csv", "cur", "eot", "flac", "gif", "gz", "ico", "jpeg", "jpg", "js", "json",
        "m3u8", "m4a", "m4s", "m4v", "map", "mjs", "mov", "mp3", "mp4", "mpd", "oga", "ogg", "ogv", "opus",
        "otf", "pdf", "png", "rss", "svg", "tar", "tgz", "tif", "tiff", "ts", "ttf", "txt", "wasm", "wav",
        "webm", "webmanifest", "webp", "woff", "woff2", "xml", "zip",
    ]
)
METHODS = frozenset({"GET", "HEAD", "POST"})

METHOD, STATUS, FILE, TARGET, DROPPED = (
    "it is no page view: its method is another than GET, HEAD or POST",
    "it is no page view: its status is that of an error",
    "it is no page view: its url is that of a file",
    "it is no page view: its url does not begin with /",
    "it is no page view: a rewrite leaves nothing of its url",
)

#: Reason -> its name among counts; every other reason is that a line was not understood.
NO_PAGE_VIEW = {METHOD: "method", STATUS: "status", FILE: "file", TARGET: "target", DROPPED: "dropped"}

_NO_USER = "it names neither a user nor an address"

#: Entries of a cache, and bytes of what it is looked up by. Those of a busy site's pages, visitors and browsers
#: fit; all caches together take 100 MB at the worst, and a few as a rule.
_MAX_CACHED = 50_000
_MAX_CACHED_BYTES = 512

_MAX_USER_BYTES, _MAX_URL_BYTES = Limits.max_user, Limits.max_url
_KEY_BYTES = 32

Network: TypeAlias = IPv4Network | IPv6Network


class PageView(NamedTuple):
    """One page view; in this shape it is an item of a batch of hits."""

    user: bytes
    url: bytes
    seen_ms: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is a page view, and who is the user. The defaults suit a web site."""

    keep_params: tuple[str, ...] = ()  #: parameters of the query that tell pages apart; all others go
    rewrite: tuple[tuple[str, str], ...] = ()  #: pattern and replacement, one after the other
    not_pages: frozenset[str] = NOT_PAGES  #: extensions
    methods: frozenset[str] = METHODS
    with_host: bool = False  #: begin urls with the host that was asked
    guests_only: bool = False  #: nobody is logged in by the web server, whatever name a line has
    visitor: str = ""  #: the field, directive or variable that knows a guest again, such as %{session}C
    keep_addresses: bool = False  #: name guests by their addresses
    trust_proxy: tuple[Network, ...] = ()  #: whose X-Forwarded-For is believed
    guest_key: Path | None = None  #: the file of the key that names guests


class Pages:
    """Applies rules to the records of one reader."""

    def __init__(self, read: Read, rules: Rules, *, key: bytes, url_prefix: bytes = b"") -> None:
        """`key` names guests; `url_prefix` is put before every url."""
        self._read = read
        self._rules = rules
        self._key = key
        self._url_prefix = url_prefix
        self._methods = frozenset(method.encode() for method in rules.methods)
        self._not_pages = frozenset(f".{extension.lower()}".encode() for extension in rules.not_pages)
        self._keep_params = [name.encode() for name in rules.keep_params]
        self._rewrites = [(re.compile(old.encode()), new.encode()) for old, new in rules.rewrite]
        self._urls: dict[bytes, bytes] = {}
        self._reasons: dict[bytes, str] = {}
        self._guests: dict[bytes, bytes] = {}
        self._bots: dict[bytes, bool] = {}
        self._clients: dict[tuple[bytes, bytes], bytes] = {}

    def parse(self, line: bytes) -> PageView | str:
        """Make a page view of one line without its newline, or tell why it is none.

        O(length); 0.7 us beside reading the line, when url, visitor and browser were met before.
        """
        record = self._read(line)
        if isinstance(record, str):
            return record
        seen_ms, address, user, method, url, status, agent, host, visitor, forwarded = record
        if method not in self._methods and method:
            return METHOD
        if status[:1] in (b"4", b"5"):
            return STATUS
        page = self._urls.get(url)
        if page is None:
            page = self._page(url)
        if not page:
            return self._reasons.get(url) or self._why_no_page(url)
        if self._rules.with_host:
            page = host.lower() + page
        kind = "member"
        if self._rules.guests_only or user in (b"-", b'""', b""):
            kind = "guest"
            if forwarded and self._rules.trust_proxy:
                address = self._client(address, forwarded)
            if visitor in (b"", b"-"):
                visitor = address
            if not visitor:
                return _NO_USER
            user = self._guests.get(visitor) or self._guest(visitor, visitor is address)
            if len(agent) > _MAX_CACHED_BYTES:  # what tells a bot stands at the beginning
                agent = agent[:_MAX_CACHED_BYTES]
            is_bot = self._bots.get(agent)
            if is_bot is None:
                is_bot = self._is_bot(agent)
            if is_bot:
                kind = "bot"
        if len(user) > _MAX_USER_BYTES:
            return f"its user has {len(user):,} bytes, 1 to {_MAX_USER_BYTES:,} are taken"
        if len(page) > _MAX_URL_BYTES:
            return f"its url has {len(page):,} bytes, 1 to {_MAX_URL_BYTES:,} are taken"
        if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
            return "its time is before 1973 or after 5138"
        return PageView(user, page, seen_ms, kind)

    # What is not in a cache

    def _page(self, url: bytes) -> bytes:
        """Make the url of a page of a request target; empty if it is none."""
        page = b"" if self._is_file(url) or not url.startswith(b"/") else self._rewritten(self._without_query(url))
        page = page and self._url_prefix + page
        _put(self._urls, url, page, len(url))
        return page

    def _why_no_page(self, url: bytes) -> str:
        reason = TARGET if not url.startswith(b"/") else FILE if self._is_file(url) else DROPPED
        _put(self._reasons, url, reason, len(url))
        return reason

    def _is_file(self, url: bytes) -> bool:
        _, dot, extension = url.partition(b"?")[0].rpartition(b"/")[2].rpartition(b".")
        return dot + extension.lower() in self._not_pages

    def _without_query(self, url: bytes) -> bytes:
        page, _, query = url.partition(b"?")
        if not self._keep_params or not query:
            return page
        given = dict(each.partition(b"=")[::2] for each in reversed(query.split(b"&")))
        kept = [name + b"=" + given[name] for name in self._keep_params if name in given]
        return page + b"?" + b"&".join(kept) if kept else page

    def _rewritten(self, page: bytes) -> bytes:
        for old, new in self._rewrites:
            page = old.sub(new, page)
        return page

    def _client(self, address: bytes, forwarded: bytes) -> bytes:
        """Find the client behind trusted proxies: the last address that is none of theirs."""
        key = address, forwarded
        client = self._clients.get(key)
        if client is None:
            client = address
            for each in reversed(forwarded.split(b",")):
                if not _is_within(client, self._rules.trust_proxy) or not _is_address(each.strip()):
                    break
                client = each.strip()
            _put(self._clients, key, client, len(forwarded))
        return client

    def _guest(self, visitor: bytes, is_address: bool) -> bytes:
        if is_address and self._rules.keep_addresses:
            name = visitor
        else:
            name = b"guest-" + blake2b(visitor, key=self._key, digest_size=8).hexdigest().encode()
        _put(self._guests, visitor, name, len(visitor))
        return name

    def _is_bot(self, agent: bytes) -> bool:
        """Tell if an agent is a program's; `-`, which no browser sends, is one. 150 us."""
        from crawleruseragents import is_crawler  # takes 10 ms to import

        is_bot = agent == b"-" or (bool(agent) and is_crawler(agent.decode("latin-1")))
        _put(self._bots, agent, is_bot, len(agent))
        return is_bot


def _put(cached: dict[Any, Any], key: Any, value: Any, size: int) -> None:
    """Keep a value under a key of so many bytes, unless those are too many."""
    if size > _MAX_CACHED_BYTES:
        return
    if len(cached) >= _MAX_CACHED:
        cached.clear()
    cached[key] = value


def _is_address(text: bytes) -> bool:
    try:
        ip_address(text.decode("latin-1"))
    except ValueError:
        return False
    return True


def _is_within(address: bytes, networks: Sequence[Network]) -> bool:
    try:
        found = ip_address(address.decode("latin-1"))
    except ValueError:
        return False
    return any(found in network for network in networks)


# The key


def guest_key(path: Path | None) -> bytes:
    """Read the key of a file, which is made if there is none; without a path a new key, for this process.

    Raises ConfigError if that cannot be done.
    """
    if path is None:
        return os.urandom(_KEY_BYTES)
    try:
        _make_key(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise errors.unusable_file("guest_key", path, error) from None
    if not 16 <= len(key) <= 1024:
        raise ConfigError(f"guest_key {path} holds {len(key)} bytes, 16 to 1024 are taken")
    return blake2b(key, digest_size=_KEY_BYTES).digest()


def _make_key(path: Path) -> None:
    """Write a new key, at once or not at all, unless there is one."""
    if path.exists():
        return
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_BYTES).hex().encode() + b"\n")
        os.link(new, path)  # fails if another process was first, whose key is then ours
    except FileExistsError:
        pass
    finally:
        new.unlink()


def key_beside(state: Path) -> Path:
    """Where the key is that belongs to a state file: as long as that one, guests keep their names."""
    return state.with_name(f".{state.name}.key")


# Rules from a file, and from the command line


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("takes a list of text")
    return tuple(value)


def _networks(value: Any) -> tuple[Network, ...]:
    return tuple(map(read_network, _texts(value)))


def read_network(text: str) -> Network:
    """Read `10.0.0.0/8` or one address. Raises ValueError."""
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"takes a network such as 10.0.0.0/8, not {text!r}") from None


def _rewrites(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = tuple(map(_texts, value)) if isinstance(value, list) else ()
    if not isinstance(value, list) or any(len(pair) != 2 for pair in pairs):
        raise ValueError("takes a list of pairs: a pattern, and what replaces it")
    for old, new in pairs:
        try:
            # An alternative that matches nothing, so that the replacement is expanded, and checked.
            re.sub(b"(?:" + old.encode() + b")|$", new.encode(), b"")
        except (re.error, IndexError) as error:
            raise ValueError(f"takes regular expressions; {old!r} -> {new!r}: {error}") from None
    return tuple((old, new) for old, new in pairs)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("takes true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("takes text")
    return value


_READ: Mapping[str, Callable[[Any], Any]] = {
    "keep_params": _texts,
    "rewrite": _rewrites,
    "not_pages": lambda value: frozenset(each.removeprefix(".") for each in _texts(value)),
    "methods": lambda value: frozenset(_texts(value)),
    "with_host": _switch,
    "guests_only": _switch,
    "visitor": _text,
    "keep_addresses": _switch,
    "trust_proxy": _networks,
    "guest_key": lambda value: Path(_text(value)),
}


def load_rules(path: Path) -> Rules:
    """Read rules from a TOML file. Raises ConfigError that names the file and the key."""
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise errors.unusable_file("rules", path, error) from None
    except ValueError as error:  # of decoding, or of TOML
        raise ConfigError(f"{path}: {error}") from None
    return replace(Rules(), **{key: _value(path, key, value) for key, value in document.items()})


def _value(path: Path, key: str, value: Any) -> Any:
    if key not in _READ:
        raise ConfigError(f"{path}: {key} is no rule, they are {', '.join(_READ)}")
    try:
        return _READ[key](value)
    except ValueError as error:
        raise ConfigError(f"{path}: {key} {error}") from None


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell what is a page view, and who is the user."""
    group = parser.add_argument_group("page views and users")
    group.add_argument("--rules", metavar="FILE", type=Path, help=f"a TOML file with any of {', '.join(_READ)}")
    group.add_argument(
        "--keep-param", metavar="NAME", action="append", help="a parameter of the query that tells pages apart"
    )
    group.add_argument(
        "--rewrite",
        metavar=("PATTERN", "NEW"),
        nargs=2,
        action="append",
        help=r"replace in every url, such as '/page/\d+$' ''; a url of which nothing is left is no page",
    )
    group.add_argument("--with-host", action="store_true", default=None, help="begin urls with the host that was asked")
    group.add_argument(
        "--guests-only",
        action="store_true",
        default=None,
        help="believe no user's name: for sites where the web server itself does not ask for a password",
    )
    group.add_argument(
        "--visitor",
        metavar="FIELD",
        help="what knows a guest again, better than the address does: a field of JSON, or %%{NAME}C of a LogFormat",
    )
    group.add_argument(
        "--keep-addresses", action="store_true", default=None, help="name guests by their addresses, in clear"
    )
    group.add_argument(
        "--guest-key",
        metavar="FILE",
        type=Path,
        help="the key of guests' names, made if it is missing; give all web servers of a site the same",
    )
    group.add_argument(
        "--trust-proxy",
        metavar="NETWORK",
        type=_network_argument,
        action="append",
        help="believe the X-Forwarded-For of requests that come from there, such as 10.0.0.0/8",
    )


def _network_argument(text: str) -> Network:
    try:
        return read_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def rules_from(args: argparse.Namespace) -> Rules:
    """Make the rules that the options of `add_rule_arguments` describe; an option goes before the file."""
    rules = Rules() if args.rules is None else load_rules(args.rules)
    given = {
        "keep_params": args.keep_param and tuple(args.keep_param),
        "rewrite": args.rewrite and _checked_rewrites(args.rewrite),
        "with_host": args.with_host,
        "guests_only": args.guests_only,
        "visitor": args.visitor,
        "keep_addresses": args.keep_addresses,
        "guest_key": args.guest_key,
        "trust_proxy": args.trust_proxy and tuple(args.trust_proxy),
    }
    return replace(rules, **{name: value for name, value in given.items() if value is not None})


def _checked_rewrites(pairs: list[list[str]]) -> tuple[tuple[str, str], ...]:
    try:
        return _rewrites(pairs)
    except ValueError as error:
        raise ConfigError(f"--rewrite {error}") from None
