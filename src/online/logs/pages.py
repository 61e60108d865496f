"""Records -> page views: which requests count as page views, the names of their users, and their kinds.

Not here: parsing lines (formats), the settings (rules), and where lines come from (hitlog, follow, syslog).

1. If a request is not a page view, the reason is one of NO_PAGE_VIEW, so reasons can be counted.
2. No address and no cookie leaves this module unhashed, except addresses with `keep_addresses`. Users who are not
   logged in are guests, named by a keyed hash of address and agent, or of the cookie. Bots are named by one of address
   and agent, so a person and a program with the same address are two users. Middleware with the same key gives the same
   names (online_client.guests).
3. X-Forwarded-For is used only if the request came from a trusted proxy. It is read from the right, because clients
   can write anything further left.
4. Memory is bounded: full caches are emptied.
5. Patterns of rules only see urls that fit an index, so no request is expensive to match.
6. All rules are here. Compiled code (online.core.usual) repeats what was said here of the parts of a usual line, and
   makes the names of guests and bots whose address is usual (online.core.guests). Whatever a line is, the answer is
   that of `careful`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from online import errors, files
from online.core.datagrams import Datagrams
from online.core.tally import LineTally
from online.core.usual import UsualLines
from online.errors import ConfigError, bad_kind
from online.limits import Limits
from online.logs.lines import MAX_LINE_BYTES, TOO_LONG
from online.logs.records import BAD_TIME, NO_ADDRESS, NO_USER, Read, Reader, Record, one_address
from online.logs.rules import Rules
from online.logs.syslogheader import message_of
from online.terms import BOT, GUEST, KINDS, MEMBER, SEEN_MAX_MS, SEEN_MIN_MS
from online_client.addresses import client_of, normal_address
from online_client.agents import is_bot
from online_client.guests import KEY_BYTES, bot_name, guest_name, visitor_name
from online_client.guests import guest_key as key_of
from online_client.names import NOBODY
from online_client.pageviews import STATUSES, is_aside, is_file
from online_client.urls import normal_host, page_url, read_target

#: Users that stand for nobody, in logs, too: what applications put in fields and cookies comes from templates.
_NOBODY = frozenset(name.encode() for name in NOBODY) | {b'""'}

METHOD, STATUS, FILE, TARGET, DROPPED, ASIDE = (
    "not a page view: the method is not GET, HEAD or POST",
    "not a page view: the status is not 200, 203, 206 or 304",
    "not a page view: the url is a file",
    "not a page view: the url does not begin with /",
    "not a page view: the url is empty after a rewrite",
    "not a page view: a prefetch, or a part of a page",
)

#: Reason -> its name in counts. All other reasons mean that a line was not understood.
NO_PAGE_VIEW = {
    METHOD: "method", STATUS: "status", FILE: "file", TARGET: "target", DROPPED: "rewrite", ASIDE: "aside",
}  # fmt: skip

#: What a line says of its user's kind -> the kind, "" if it says nothing.
_KINDS = {b"": "", b"-": ""} | {kind.encode(): kind for kind in KINDS}

_ADDRESS_AS_USER = "the user is an IP address"
_NO_STATUS = b""  #: the log has no status

#: The most entries of a cache, and the longest key in bytes. The pages, visitors and browsers of a busy site fit. All
#: caches together take at most 100 MB, and usually a few. Beside them stands what compiled code knows of
#: 65,536 urls and 262,144 visitors at most, in another 150 MB.
_MAX_CACHED = 50_000
_MAX_CACHED_BYTES = 512

_MAX_USER_BYTES, _MAX_URL_BYTES = Limits.max_user, Limits.max_url


class PageView(NamedTuple):
    """One page view, in the shape of an item of a batch of hits."""

    user: bytes
    url: bytes
    seen_ms: int
    kind: str


class PackedViews(NamedTuple):
    """The page views of some lines: items of a batch of hits, one after another, in MessagePack."""

    items: bytes
    number: int
    newest_ms: int  #: the time of the last; 0 without any
    reasons: list[str]  #: why the other lines are no page views
    places: list[int]  #: which lines these are, from 0


class Pages:
    """Applies rules to the records of one reader."""

    def __init__(self, read: Read, rules: Rules, *, key: bytes, url_prefix: bytes = b"") -> None:
        """`key` is for the names of guests. `url_prefix` is put in front of every url."""
        self._read = read.careful if isinstance(read, Reader) else read
        self._rules = rules
        self._key = key
        self._url_prefix = url_prefix
        self._methods = frozenset(method.encode() for method in rules.methods)
        self._not_pages = frozenset(extension.lower() for extension in rules.not_pages)
        self._keep_params = [name.encode() for name in rules.keep_params]
        self._ignores_queries = not rules.keep_params
        self._rewrites = [(re.compile(old.encode()), new.encode()) for old, new in rules.rewrite]
        self._urls: dict[bytes, bytes] = {}
        self._reasons: dict[bytes, str] = {}
        self._own_bots = re.compile("|".join(f"(?:{each})" for each in rules.bots)) if rules.bots else None
        self._statuses = frozenset(str(status).encode() for status in STATUSES) | {_NO_STATUS}
        self._guests: dict[tuple[bytes, bytes], bytes] = {}  #: by their addresses and agents
        self._visitors: dict[bytes, bytes] = {}  #: by the cookie or other text that identifies them
        self._bots: dict[bytes, bool] = {}
        self._bot_names: dict[tuple[bytes, bytes], bytes] = {}
        self._members: dict[bytes, bool] = {}  #: whether the name may be shown
        self._clients: dict[tuple[bytes, bytes], bytes] = {}
        self._hosts: dict[bytes, bytes] = {}
        self._usual = UsualLines(
            self.careful,
            self.judge,
            self.nameless,
            self._is_bot,
            PageView,
            records=read.usual if isinstance(read, Reader) else None,
            message_of=message_of,
            bad_ways={METHOD, STATUS},
            bad_urls={FILE, TARGET, DROPPED},
            nobody=_NOBODY,
            key=None if rules.keep_addresses else key,
            trusts_proxies=bool(rules.trust_proxy),
            with_host=rules.with_host,
            ignores_queries=self._ignores_queries,
            guests_only=rules.guests_only,
        )
        #: Parse one line without its newline, or one syslog message. Returns a page view, or the reason why it is not
        #: one. O(length). A usual line of a url and a visitor that were seen before makes no other object.
        self.parse: Callable[[bytes], PageView | str] = self._usual.parse
        self.parse_message: Callable[[bytes], PageView | str] = self._usual.parse_message

    def pack(self, lines: list[bytes], tally: LineTally | None = None) -> PackedViews:
        """Parse many lines at once, as `parse` does, into a message's items. O(length).

        With a `tally`, what the lines say is counted in it, and page views of bots are only counted.
        """
        return PackedViews(*self._usual.pack(lines, MAX_LINE_BYTES, TOO_LONG, tally))

    def pack_messages(self, datagrams: list[bytes]) -> PackedViews:
        """Parse many syslog messages at once, as `parse_message` does. O(length)."""
        return PackedViews(*self._usual.pack_messages(datagrams))

    def pack_received(self, datagrams: Datagrams, begin: int = 0, end: int | None = None) -> PackedViews:
        """Parse the syslog messages that were received last, or some of them, as `pack_messages` does. O(length)."""
        return PackedViews(*self._usual.pack_received(datagrams, begin, len(datagrams) if end is None else end))

    @property
    def host(self) -> bytes:
        """The host of the last line in the canonical form, to keep sites apart; empty if it does not tell."""
        url = self._usual.url
        return (url[:1] != b"/" and read_target(url).host) or self._normal(self._usual.host)

    def careful(self, line: bytes) -> PageView | str:
        """Parse one line as `parse` does, whatever is in it."""
        record = self._read(line)
        if isinstance(record, str):
            return record
        self._usual.note(record)
        return self.judge(record)

    def judge(self, record: Record) -> PageView | str:
        """Return the page view of a record, or why there is none."""
        seen_ms, address, user, method, url, status, agent, host, visitor, forwarded, purpose, _, told = record
        if method not in self._methods and method:
            return METHOD
        if status not in self._statuses:
            return STATUS
        if self._ignores_queries:
            url = url.partition(b"?")[0]
        page = self._urls.get(url)
        if page is None:
            page = self._page(url)
        if not page:
            return self._reasons.get(url) or self._why_no_page(url)
        if purpose and is_aside(purpose.decode("latin-1")):
            return ASIDE
        if self._rules.with_host:
            page = (read_target(url).host or normal_host(host)) + page
        kind = _KINDS.get(told)
        if kind is None:
            return str(bad_kind(told))
        if self._rules.guests_only or user in _NOBODY:
            found = self.nameless(address, agent, visitor, forwarded, kind)
            if isinstance(found, str):
                return found
            user, kind = found
        else:
            kind = kind or MEMBER
            if not (self._members.get(user) or self._is_member(user)):
                return _ADDRESS_AS_USER
        if len(user) > _MAX_USER_BYTES:
            return f"the user has {len(user):,} bytes, the limit is {_MAX_USER_BYTES:,}"
        if len(page) > _MAX_URL_BYTES:
            return f"the url has {len(page):,} bytes, the limit is {_MAX_URL_BYTES:,}"
        if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
            return BAD_TIME
        return PageView(user, page, seen_ms, kind)

    def nameless(
        self, address: bytes, agent: bytes, visitor: bytes, forwarded: bytes, kind: str = ""
    ) -> tuple[bytes, str] | str:
        """Return the name and kind of who is not logged in, or why there is none.

        Without a user a line cannot make somebody a member, nor hidden; the agent says the kind then.
        """
        if forwarded and self._rules.trust_proxy:
            address = self._client(address, forwarded)
        if len(agent) > _MAX_CACHED_BYTES:  # a bot shows at the beginning
            agent = agent[:_MAX_CACHED_BYTES]
        if kind not in (GUEST, BOT):
            is_bot = self._bots.get(agent)
            if is_bot is None:
                is_bot = self._is_bot(agent)
            kind = BOT if is_bot else GUEST
        if kind == BOT:
            user = self._bot_names.get((address, agent)) or self._bot(address, agent, visitor)
        elif visitor not in _NOBODY:
            user = self._visitors.get(visitor) or self._visitor(visitor)
        else:
            user = self._guests.get((address, agent)) or self._guest(address, agent)
        if not user:
            return NO_ADDRESS if address else NO_USER
        return user, kind

    # Cache misses

    def _normal(self, host: bytes) -> bytes:
        known = self._hosts.get(host)
        if known is None:
            known = normal_host(host)
            _put(self._hosts, host, known, len(host))
        return known

    def _page(self, url: bytes) -> bytes:
        """Return the page url of a request target; empty if it is not a page."""
        target = read_target(_unescaped(url))
        path = page_url(target.path) if target.path else b""
        page = b"" if not path or self._is_file(path) else self._rewritten(self._with_query(path, target.query))
        page = page and self._url_prefix + page
        _put(self._urls, url, page, len(url))
        return page

    def _why_no_page(self, url: bytes) -> str:
        path = read_target(_unescaped(url)).path
        reason = TARGET if not path else FILE if self._is_file(page_url(path)) else DROPPED
        _put(self._reasons, url, reason, len(url))
        return reason

    def _is_file(self, path: bytes) -> bool:
        return is_file(path.decode("latin-1"), self._not_pages)

    def _with_query(self, path: bytes, query: bytes) -> bytes:
        if not self._keep_params or not query:
            return path
        given = dict(each.partition(b"=")[::2] for each in reversed(query.split(b"&")))
        kept = [name + b"=" + given[name] for name in self._keep_params if name in given]
        return path + b"?" + b"&".join(kept) if kept else path

    def _rewritten(self, page: bytes) -> bytes:
        if len(page) > _MAX_URL_BYTES:
            return page  # it will be refused
        for old, new in self._rewrites:
            page = old.sub(new, page)
        return page

    def _client(self, address: bytes, forwarded: bytes) -> bytes:
        """Return the address of the client behind trusted proxies."""
        key = address, forwarded
        client = self._clients.get(key)
        if client is None:
            told = _unescaped(forwarded).decode("latin-1")
            client = client_of(address.decode("latin-1"), told, self._rules.trust_proxy).encode("latin-1")
            _put(self._clients, key, client, len(forwarded))
        return client

    def _guest(self, address: bytes, agent: bytes) -> bytes:
        """Return the name of a guest with this address, in any spelling; empty if it is not an address."""
        known = one_address(address)
        name = known if self._rules.keep_addresses or not known else guest_name(self._key, known, _unescaped(agent))
        _put(self._guests, (address, agent), name, len(address) + len(agent))
        return name

    def _bot(self, address: bytes, agent: bytes, visitor: bytes) -> bytes:
        """Return the name of a bot, from its agent and its address or, without an address, `visitor`.

        Empty if it has neither.
        """
        known = one_address(address)
        known_by = known or (b"" if address else visitor)
        if not known_by:
            return b""
        name = bot_name(self._key, known_by, _unescaped(agent))
        if known and self._rules.keep_addresses:
            name += b"-" + known
        if known:
            _put(self._bot_names, (address, agent), name, len(address) + len(agent))
        return name

    def _is_member(self, user: bytes) -> bool:
        """Return whether a name may be shown. An address in the place of a name may not."""
        is_name = normal_address(user.decode("latin-1")) is None
        _put(self._members, user, is_name, len(user))
        return is_name

    def _visitor(self, visitor: bytes) -> bytes:
        name = visitor_name(self._key, visitor)
        _put(self._visitors, visitor, name, len(visitor))
        return name

    def _is_bot(self, agent: bytes) -> bool:
        """Return whether a user agent is a program. `-` means that none was sent, empty that it is unknown."""
        found = is_bot(agent.decode("latin-1") if agent else None, self._own_bots)
        _put(self._bots, agent, found, len(agent))
        return found


_ESCAPE = re.compile(rb'\\(?:x([0-9A-Fa-f]{2})|(["\\]))')


def _unescaped(text: bytes) -> bytes:
    r"""Undo the escapes of web servers: `\xHH`, `\"` and `\\`. Browsers never send a backslash."""
    if b"\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]) if found[1] else found[2], text)


def _put(cached: dict[Any, Any], key: Any, value: Any, size: int) -> None:
    """Cache a value, unless its key, of `size` bytes, is too long."""
    if size > _MAX_CACHED_BYTES:
        return
    if len(cached) >= _MAX_CACHED:
        cached.clear()
    cached[key] = value


# The key


def guest_key(path: Path | None) -> bytes:
    """Read the key from a file, which is created if missing. Without a path, return a new key for this process.

    Raises ConfigError if the file cannot be read or created, or if the key has the wrong length.
    """
    if path is None:
        return os.urandom(KEY_BYTES)
    try:
        _make_key(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise errors.unusable_file("guest_key", path, error) from None
    if not 16 <= len(key) <= 1024:
        raise ConfigError(f"guest_key {path} has {len(key)} bytes, it must have 16 to 1024")
    return key_of(key)


def _make_key(path: Path) -> None:
    """Create the file with a new key, in one step, unless it exists."""
    if path.exists():
        return
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with open(files.create(new), "wb") as file:
            file.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
        os.link(new, path)  # fails if another process was first; its key is used then
    except FileExistsError:
        pass
    finally:
        new.unlink(missing_ok=True)


def key_beside(state: Path) -> Path:
    """Return the path of the key that belongs to a state file. Guests keep their names as long as it exists."""
    return state.with_name(f".{state.name}.key")
