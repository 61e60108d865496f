"""Access logs whose lines are JSON objects: of nginx, Caddy, Traefik, HAProxy or anybody else -> records.

Not here: other ways of writing lines (formats, logformat).
"""

import json
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from online.errors import quote
from online.logs.prefixes import read_behind, wrapped_line
from online.logs.records import EMPTY, METHOD, Read, Record, read_time
from online.terms import SEEN_MIN_MS
from online_client.pageviews import PURPOSES, STATUSES, purpose_of


class JsonFields(NamedTuple):
    """Where an object has what a record holds: keys, `outer.inner`, or several of them with `|` between."""

    time: str = "time"
    address: str = "address"
    user: str = "user"
    method: str = "method"
    url: str = "url"
    status: str = "status"
    agent: str = "agent"
    host: str = "host"
    visitor: str = "visitor"
    forwarded: str = "forwarded"
    purpose: str = "purpose"
    request: str = "request"  #: a whole request line, where there is no url


#: Names of well-known fields: ours, nginx' variables under their own names, and what Caddy and Traefik write.
JSON_PRESETS = {
    "json": JsonFields(),
    "nginx": JsonFields(
        time="msec|time_iso8601|time_local|time",
        address="remote_addr|realip_remote_addr",
        user="remote_user",
        method="request_method",
        url="request_uri|uri",
        agent="http_user_agent",
        host="host|http_host|server_name",
        forwarded="http_x_forwarded_for|http_forwarded",
        purpose="http_*",
    ),
    "caddy": JsonFields(
        time="ts",
        address="request.client_ip|request.remote_ip|request.remote_addr",
        user="user_id",
        method="request.method",
        url="request.uri",
        agent="request.headers.User-Agent",
        host="request.host",
        forwarded="request.headers.X-Forwarded-For|request.headers.Forwarded",
        purpose="request.headers.*",
    ),
    "traefik": JsonFields(
        time="StartUTC|StartLocal|time",
        address="ClientHost|ClientAddr",
        user="ClientUsername",
        method="RequestMethod",
        url="RequestPath",
        status="DownstreamStatus",
        agent="request_User-Agent",
        host="RequestHost",
        forwarded="request_X-Forwarded-For|request_Forwarded",
        purpose="request_*",
    ),
}

#: What a time is called elsewhere, tried where a line has none under its own name.
_OTHER_TIMES = ("@timestamp", "timestamp", "time_iso8601", "time_local", "msec", "ts", "datetime", "date", "StartUTC")

#: One of them tells that an object has nginx' variables under their own names.
_NGINX_NAMES = frozenset({"request_uri", "remote_addr", "request", "http_user_agent"})

_PURPOSE_HEADERS = (*PURPOSES, "X-Requested-With", "HX-Request", "HX-Boosted")

_REQUEST = re.compile(rb"(" + METHOD + rb") ++(\S++)(?: .*)?", re.DOTALL)

_PAGE_STATUSES = frozenset(str(status).encode() for status in STATUSES)


class JsonLines:
    """Lines that are JSON objects.

    >>> JsonLines().read(b'{"time": 1511658000.25, "user": "theo", "url": "/x"}').url
    b'/x'
    """

    def __init__(
        self, fields: JsonFields | None = None, *, visitor: str = "visitor", inside: Read | None = None
    ) -> None:
        """Without `fields` they are those of the preset whose names an object has.

        `visitor` is the field that knows a visitor again. `inside` reads what stands behind words that others have put
        before a line, and lines that an object holds whole; without it they are not understood.
        """
        self._inside = inside
        presets = {name: _JsonRecords(preset._replace(visitor=visitor)) for name, preset in JSON_PRESETS.items()}
        self._presets = presets
        self._records = None if fields is None else _JsonRecords(fields._replace(visitor=visitor))

    def read(self, line: bytes) -> Record | str:
        """Make a record of one line without its newline, or tell why it cannot be done. O(length)."""
        try:
            document = orjson.loads(line)
        except ValueError:
            document = _loosely_loaded(line)
        if type(document) is not dict:
            return read_behind(line, self._inside, "it is no JSON object" if line.strip() else EMPTY)
        records = self._records or self._recognised(document)
        if records is None:
            return self._read_wrapped(document)
        try:
            return records.make(document)
        except UnicodeEncodeError:
            return "it holds half a character, a lone surrogate"

    def _read_wrapped(self, document: dict[str, Any]) -> Record | str:
        line = wrapped_line(document)
        return self._inside(line) if line and self._inside else self._presets["json"].make(document)

    def _recognised(self, document: dict[str, Any]) -> "_JsonRecords | None":
        """Return the records of what has such names, None if nothing has."""
        if "url" in document:
            return self._presets["json"]
        if isinstance(document.get("request"), dict):
            return self._presets["caddy"]
        if "RequestPath" in document:
            return self._presets["traefik"]
        if not _NGINX_NAMES.isdisjoint(document):
            return self._presets["nginx"]
        return None


def _loosely_loaded(line: bytes) -> Any:
    """Load JSON that is not UTF-8, as nginx writes it when a client sends such bytes; None if it is none."""
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


class _JsonRecords:
    """Makes records of objects whose fields have certain names."""

    def __init__(self, fields: JsonFields) -> None:
        self._names = fields
        paths = fields[: fields._fields.index("purpose")]
        self._getters = [_getter(path) for path in paths]
        # Plain names are looked up all at once, in a third of the time.
        self._pick = None if any("." in path or "|" in path for path in paths) else itemgetter(*paths)
        self._nothing: dict[str, Any] = dict.fromkeys(paths, "")
        self._purpose = _purpose_getter(fields.purpose)
        self._purpose_name = "" if set(fields.purpose) & set(".|*") else fields.purpose  #: looked for first
        self._request = _getter(fields.request)
        self._last_time = b""
        self._last_ms = 0

    def make(self, document: dict[str, Any]) -> Record | str:
        if self._pick is not None:
            time, *values = self._pick(self._nothing | document)
        else:
            time, *values = [get(document) for get in self._getters]
        if type(time) is float and 1 < time < SEEN_MIN_MS:  # seconds, the case of nginx and Caddy
            self._last_time, self._last_ms = b"", round(time * 1000)
        elif (text := _text(time)) != self._last_time or not text:
            seen_ms = read_time(text or self._other_time(document))
            if seen_ms is None:
                return f"its {self._names.time} is {quote(text)}, which is no time" if text else self._missing("time")
            self._last_time, self._last_ms = text, seen_ms
        try:
            texts = list(map(str.encode, values))  # all of them text, and UTF-8
        except (TypeError, UnicodeEncodeError):
            texts = [_text(value) for value in values]
        address, user, method, url, status, agent, host, visitor, forwarded = texts
        if not url:
            method, url = self._target(document, method)
        if not url or not (address or user or visitor):
            if not status or status in _PAGE_STATUSES:
                return "it names neither a user nor an address" if url else self._missing("url")
            url = url or b"-"  # what is no page view is not asked whose it is
        if not agent and _is_told(document, self._names.agent):
            agent = b"-"
        name = self._purpose_name
        purpose = b"" if name and name not in document else self._purpose(document)
        return Record(
            self._last_ms, address, user or b"-", method, url, status, agent, host, visitor, forwarded, purpose
        )

    def _target(self, document: dict[str, Any], method: bytes) -> tuple[bytes, bytes]:
        """Return method and target of a whole request line, if there is one."""
        request = _REQUEST.fullmatch(_text(self._request(document)))
        return request.groups() if request else (method, b"")  # type: ignore[return-value]

    def _other_time(self, document: dict[str, Any]) -> bytes:
        return next((text for name in _OTHER_TIMES if (text := _text(document.get(name)))), b"")

    def _missing(self, what: str) -> str:
        name = getattr(self._names, what)
        return f"it has no {what}, the field {name}; --fields {what}=NAME reads another"


def _getter(path: str) -> Callable[[dict[str, Any]], Any]:
    """Make what takes a value out of an object: the first that is told and not empty. None if there is none."""
    if "|" not in path and "." not in path:
        return lambda document: document.get(path)
    ways = [(way, way.split(".")) for way in path.split("|")]

    def get(document: dict[str, Any]) -> Any:
        for name, keys in ways:
            value = document.get(name)
            if value is None and len(keys) > 1:
                value = _inside(document, keys)
            if value is not None and value != "" and value != "-":
                return value
        return None

    return get


def _inside(document: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(document, dict):
            return None
        value = document.get(key)
        if value is None and key == keys[-1] and keys[-2] == "headers":
            value = _header(document, key)
        document = value
    return document


def _header(headers: dict[str, Any], name: str) -> Any:
    """Find a header whose name is in other letters; not where all are written as Go writes them."""
    if "User-Agent" in headers:
        return None
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def _is_told(document: dict[str, Any], path: str) -> bool:
    """Tell whether an object tells of a field, if only that it is empty: headers that are told tell it of each."""
    for way in path.split("|"):
        *outer, name = way.split(".")
        holder: Any = document
        for key in outer:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if way in document or (isinstance(holder, dict) and (name in holder or outer[-1:] == ["headers"])):
            return True
    return False


def _purpose_getter(path: str) -> Callable[[dict[str, Any]], bytes]:
    """Make what tells for what a page is fetched: of one field, or of the headers that stand under `path` for `*`."""
    if not path.endswith("*"):
        get = _getter(path)
        return lambda document: _text(value) if (value := get(document)) else b""
    *outer, prefix = path.removesuffix("*").split(".")
    # As sent, in small letters, as Go writes them, and as nginx does.
    names = {name: name.lower().replace("-", "_") for name in _PURPOSE_HEADERS}
    spelled = frozenset(prefix + each for name in names for each in (name, name.lower(), name.title(), names[name]))

    def purpose(document: dict[str, Any]) -> bytes:
        headers: Any = document
        for key in outer:
            headers = headers.get(key) if isinstance(headers, dict) else None
        if not isinstance(headers, dict) or spelled.isdisjoint(headers):
            return b""
        plain = {key.removeprefix(prefix).lower().replace("-", "_"): value for key, value in headers.items()}
        return purpose_of(lambda name: _text(plain.get(names[name])).decode("latin-1")).encode()

    return purpose


def _text(value: Any) -> bytes:
    """Return a value of JSON as text: of a list all, as headers that came more than once; of other things nothing."""
    if type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int or type(value) is float:
        return str(value).encode()
    if type(value) is list:
        return b",".join(_text(each) for each in value if type(each) is not list)
    return b""
