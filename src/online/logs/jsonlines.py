"""JSON access logs -> records: nginx, Caddy, Traefik, HAProxy, or your own field names.

Not here: other formats (formats, logformat).
"""

import json
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from online.core.jsonfields import JsonShapes
from online.errors import quote
from online.logs.prefixes import read_behind, wrapped_line
from online.logs.records import EMPTY, METHOD, NO_USER, Read, Record, read_time
from online.terms import SEEN_MIN_MS
from online_client.pageviews import PURPOSES, STATUSES, purpose_of


class JsonFields(NamedTuple):
    """The JSON key of each field of a record: `key`, `outer.inner`, or several alternatives joined by `|`."""

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
    referrer: str = "referrer"
    kind: str = "kind"
    purpose: str = "purpose"
    request: str = "request"  #: the whole request line, used if there is no url


#: Well-known field names: our own, nginx' variables under their own names, and those of Caddy and Traefik.
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
        referrer="http_referer",
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
        referrer="request.headers.Referer",
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
        referrer="request_Referer",
    ),
}

#: Other names for the time, tried if a line has no time under its own name.
_OTHER_TIMES = ("@timestamp", "timestamp", "time_iso8601", "time_local", "msec", "ts", "datetime", "date", "StartUTC")

#: One of these in an object means that it uses the names of nginx' variables.
_NGINX_NAMES = frozenset({"request_uri", "remote_addr", "request", "http_user_agent"})

_PURPOSE_HEADERS = (*PURPOSES, "X-Requested-With", "HX-Request", "HX-Boosted")

_REQUEST = re.compile(rb"(" + METHOD + rb") ++(\S++)(?: .*)?", re.DOTALL)

_PAGE_STATUSES = frozenset(str(status).encode() for status in STATUSES)


def _paths(fields: JsonFields) -> tuple[str, ...]:
    return fields[: fields._fields.index("purpose")]


def json_shapes(fields: JsonFields | None = None, *, visitor: str = "visitor") -> JsonShapes:
    """Tell compiled code which objects `JsonLines` reads how, with the same arguments."""
    presets = list(JSON_PRESETS.values()) if fields is None else [fields]
    told = [(list(_paths(each._replace(visitor=visitor))), each.request, _purposes(each.purpose)) for each in presets]
    return JsonShapes(told, is_one=fields is not None)


def _purposes(path: str) -> list[str]:
    """Return the paths of all keys that may say why a page is fetched."""
    if not path.endswith("*"):
        return path.split("|")
    return sorted({path[:-1] + each for name in _PURPOSE_HEADERS for each in _spellings(name)})


class JsonLines:
    """Lines that are JSON objects.

    >>> JsonLines().read(b'{"time": 1511658000.25, "user": "theo", "url": "/x"}').url
    b'/x'
    """

    def __init__(
        self, fields: JsonFields | None = None, *, visitor: str = "visitor", inside: Read | None = None
    ) -> None:
        """Without `fields`, each object is matched to a preset by the names in it.

        `visitor` is the field that identifies a visitor. `inside` parses what follows a prefix, and log lines inside
        an object; without it they are not understood.
        """
        self._inside = inside
        presets = {name: _JsonRecords(preset._replace(visitor=visitor)) for name, preset in JSON_PRESETS.items()}
        self._presets = presets
        self._records = None if fields is None else _JsonRecords(fields._replace(visitor=visitor))

    def read(self, line: bytes) -> Record | str:
        """Parse one line without its newline. Returns a record, or the reason why it is not one. O(length)."""
        document = loaded(line)
        if type(document) is not dict:
            return read_behind(line, self._inside, "not a JSON object" if line.strip() else EMPTY)
        records = self._records or self._recognised(document)
        if records is None:
            return self._read_wrapped(document)
        try:
            return records.make(document)
        except UnicodeEncodeError:
            return "a lone surrogate in the text"

    def _read_wrapped(self, document: dict[str, Any]) -> Record | str:
        line = wrapped_line(document)
        return self._inside(line) if line and self._inside else self._presets["json"].make(document)

    def _recognised(self, document: dict[str, Any]) -> "_JsonRecords | None":
        """Return the preset that an object's names belong to; None if there is none."""
        if "url" in document:
            return self._presets["json"]
        if isinstance(document.get("request"), dict):
            return self._presets["caddy"]
        if "RequestPath" in document:
            return self._presets["traefik"]
        if not _NGINX_NAMES.isdisjoint(document):
            return self._presets["nginx"]
        return None


def loaded(line: bytes) -> Any:
    """Load JSON, UTF-8 or not: nginx writes other bytes if a client sends them. None if it is not JSON. O(length).

    Not by orjson, which is faster: it ends the process when it finds no memory. Usual lines come by neither way.
    """
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


class _JsonRecords:
    """Turns objects with certain field names into records."""

    def __init__(self, fields: JsonFields) -> None:
        self._names = fields
        paths = _paths(fields)
        self._getters = [_getter(path) for path in paths]
        # Looking up plain names all at once takes a third of the time.
        self._pick = None if any("." in path or "|" in path for path in paths) else itemgetter(*paths)
        self._nothing: dict[str, Any] = dict.fromkeys(paths, "")
        self._purpose = _purpose_getter(fields.purpose)
        self._purpose_name = "" if set(fields.purpose) & set(".|*") else fields.purpose  #: checked first
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
        elif (text := text_of(time)) != self._last_time or not text:
            seen_ms = read_time(text or self._other_time(document))
            if seen_ms is None:
                return f"{self._names.time} is not a time: {quote(text)}" if text else self._missing("time")
            self._last_time, self._last_ms = text, seen_ms
        try:
            texts = list(map(str.encode, values))  # all of them text, and UTF-8
        except (TypeError, UnicodeEncodeError):
            texts = [text_of(value) for value in values]
        address, user, method, url, status, agent, host, visitor, forwarded, referrer, kind = texts
        if not url:
            method, url = self._target(document, method)
        if not url or not (address or user or visitor):
            if not status or status in _PAGE_STATUSES:
                return NO_USER if url else self._missing("url")
            url = url or b"-"  # not a page view, so it does not matter whose it is
        if not agent and _is_told(document, self._names.agent):
            agent = b"-"
        name = self._purpose_name
        purpose = b"" if name and name not in document else self._purpose(document)
        user = user or b"-"
        # As `Record(...)`, without the cost of its Python frame.
        request = address, user, method, url, status, agent, host, visitor, forwarded, purpose, referrer
        return tuple.__new__(Record, (self._last_ms, *request, kind))

    def _target(self, document: dict[str, Any], method: bytes) -> tuple[bytes, bytes]:
        """Return the method and target from the whole request line, if there is one."""
        request = _REQUEST.fullmatch(text_of(self._request(document)))
        return request.groups() if request else (method, b"")  # type: ignore[return-value]

    def _other_time(self, document: dict[str, Any]) -> bytes:
        return next((text for name in _OTHER_TIMES if (text := text_of(document.get(name)))), b"")

    def _missing(self, what: str) -> str:
        name = getattr(self._names, what)
        return f"no {what} in field {name}; --fields {what}=NAME reads another field"


def _getter(path: str) -> Callable[[dict[str, Any]], Any]:
    """Return a function that takes the first value that is present and not empty from an object, or None."""
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
    """Find a header whose name is in another case. Skipped if names are in the form that Go writes."""
    if "User-Agent" in headers:
        return None
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def _is_told(document: dict[str, Any], path: str) -> bool:
    """Return whether an object has a field, even an empty one. An object with `headers` has every header."""
    for way in path.split("|"):
        *outer, name = way.split(".")
        holder: Any = document
        for key in outer:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if way in document or (isinstance(holder, dict) and (name in holder or outer[-1:] == ["headers"])):
            return True
    return False


def _purpose_getter(path: str) -> Callable[[dict[str, Any]], bytes]:
    """Return a function that finds why a page is fetched: from one field, or from all headers if `path` ends in `*`."""
    if not path.endswith("*"):
        get = _getter(path)
        return lambda document: text_of(value) if (value := get(document)) else b""
    *outer, prefix = path.removesuffix("*").split(".")
    names = {name: name.lower().replace("-", "_") for name in _PURPOSE_HEADERS}
    spelled = frozenset(prefix + each for name in names for each in _spellings(name))

    def purpose(document: dict[str, Any]) -> bytes:
        headers: Any = document
        for key in outer:
            headers = headers.get(key) if isinstance(headers, dict) else None
        if not isinstance(headers, dict) or spelled.isdisjoint(headers):
            return b""
        plain = {key.removeprefix(prefix).lower().replace("-", "_"): value for key, value in headers.items()}
        return purpose_of(lambda name: text_of(plain.get(names[name])).decode("latin-1")).encode()

    return purpose


def _spellings(header: str) -> list[str]:
    """Return the keys that a header may have: as sent, in lower case, as Go writes it, and as nginx does."""
    return [header, header.lower(), header.title(), header.lower().replace("-", "_")]


def text_of(value: Any) -> bytes:
    """Return a JSON value as text. A list is joined with commas, as repeated headers are; other values are empty."""
    if type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int or type(value) is float:
        return str(value).encode()
    if type(value) is list:
        return b",".join(text_of(each) for each in value if type(each) is not list)
    return b""
