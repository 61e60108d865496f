"""Records of requests -> page views: which requests people's browsers made of pages, whose they are, by name and kind.

Not here: how lines are written (formats), which rules there are (rules), and where lines come from (hitlog, follow,
syslog).

1. What is no page view has a reason that is one of NO_PAGE_VIEW, so that reasons can be counted.
2. No address and no cookie leaves this module in clear, unless `keep_addresses` says so for addresses: who is
   not logged in is a guest, named by a keyed hash of it. The same key gives the same names.
3. X-Forwarded-For is believed only when the request came from a trusted proxy, and read from the right: what
   a client wrote into it stands further left.
4. Memory is bounded: caches are emptied when they are full.
5. No pattern of a rule meets a longer url than an index takes, so that it costs little whatever a client asks for.
"""

import os
import re
from collections.abc import Sequence
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from online import errors, files
from online.errors import ConfigError
from online.limits import Limits
from online.logs.records import Read
from online.logs.rules import Network, Rules
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

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


class PageView(NamedTuple):
    """One page view; in this shape it is an item of a batch of hits."""

    user: bytes
    url: bytes
    seen_ms: int
    kind: str


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
        self._guests: dict[bytes, bytes] = {}  #: by their addresses
        self._visitors: dict[bytes, bytes] = {}  #: by what knows them again
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
            if visitor not in (b"", b"-"):
                user = self._visitors.get(visitor) or self._visitor(visitor)
            elif address:
                user = self._guests.get(address) or self._guest(address)
            else:
                return _NO_USER
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
        if len(page) > _MAX_URL_BYTES:
            return page  # which will be refused
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
                if not _is_within(client, self._rules.trust_proxy) or _address(each.strip()) is None:
                    break
                client = each.strip()
            _put(self._clients, key, client, len(forwarded))
        return client

    def _guest(self, address: bytes) -> bytes:
        name = address if self._rules.keep_addresses else self._hidden(address, b"address")
        _put(self._guests, address, name, len(address))
        return name

    def _visitor(self, visitor: bytes) -> bytes:
        name = self._hidden(visitor, b"visitor")
        _put(self._visitors, visitor, name, len(visitor))
        return name

    def _hidden(self, text: bytes, what: bytes) -> bytes:
        """Name a guest so that nobody can tell the text, nor be another guest by sending a text of one's own."""
        return b"guest-" + blake2b(text, key=self._key, person=what, digest_size=8).hexdigest().encode()

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


def _address(text: bytes) -> IPv4Address | IPv6Address | None:
    """Read an address; one of IPv4 that is written as IPv6, as a socket for both does, is one of IPv4."""
    try:
        address = ip_address(text.decode("latin-1"))
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _is_within(text: bytes, networks: Sequence[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)


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
    try:
        with open(files.create(new), "wb") as file:
            file.write(os.urandom(_KEY_BYTES).hex().encode() + b"\n")
        os.link(new, path)  # fails if another process was first, whose key is then ours
    except FileExistsError:
        pass
    finally:
        new.unlink(missing_ok=True)


def key_beside(state: Path) -> Path:
    """Where the key is that belongs to a state file: as long as that one, guests keep their names."""
    return state.with_name(f".{state.name}.key")
