"""Access logs whose lines are JSON objects: of nginx, Caddy, Traefik, HAProxy or anybody else -> records.

Not here: other ways of writing lines (formats, logformat).
"""

import json
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from online.errors import quote
from online.logs.records import EMPTY, Record, read_time
from online.terms import SEEN_MIN_MS


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


#: Names of well-known fields: ours, nginx' variables under their own names, and what Caddy and Traefik write.
JSON_PRESETS = {
    "json": JsonFields(),
    "nginx": JsonFields(
        time="msec|time_iso8601|time_local",
        address="remote_addr",
        user="remote_user",
        method="request_method",
        url="request_uri",
        agent="http_user_agent",
        forwarded="http_x_forwarded_for",
    ),
    "caddy": JsonFields(
        time="ts",
        address="request.client_ip|request.remote_ip",
        user="user_id",
        method="request.method",
        url="request.uri",
        agent="request.headers.User-Agent",
        host="request.host",
        forwarded="request.headers.X-Forwarded-For",
    ),
    "traefik": JsonFields(
        time="StartUTC|StartLocal|time",
        address="ClientHost",
        user="ClientUsername",
        method="RequestMethod",
        url="RequestPath",
        status="DownstreamStatus",
        agent="request_User-Agent",
        host="RequestHost",
        forwarded="request_X-Forwarded-For",
    ),
}


class JsonLines:
    """Lines that are JSON objects.

    >>> JsonLines().read(b'{"time": 1511658000.25, "user": "theo", "url": "/x"}').url
    b'/x'
    """

    def __init__(self, fields: JsonFields | None = None, *, visitor: str = "visitor") -> None:
        """Without `fields` they are those of the preset whose names an object has.

        `visitor` is the field that knows a visitor again.
        """
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
            return EMPTY if not line.strip() else "it is no JSON object"
        try:
            return (self._records or self._recognised(document)).make(document)
        except UnicodeEncodeError:
            return "it holds half a character, a lone surrogate"

    def _recognised(self, document: dict[str, Any]) -> "_JsonRecords":
        if "url" in document:
            return self._presets["json"]
        if isinstance(document.get("request"), dict):
            return self._presets["caddy"]
        if "RequestPath" in document:
            return self._presets["traefik"]
        return self._presets["nginx" if "request_uri" in document else "json"]


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
        self._getters = [_getter(path) for path in fields]
        # Plain names are looked up all at once, in a third of the time.
        self._pick = None if any("." in path or "|" in path for path in fields) else itemgetter(*fields)
        self._nothing: dict[str, Any] = dict.fromkeys(fields, "")
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
            seen_ms = read_time(text)
            if seen_ms is None:
                return f"its {self._names.time} is {quote(text)}, which is no time" if text else self._missing("time")
            self._last_time, self._last_ms = text, seen_ms
        try:
            texts = list(map(str.encode, values))  # all of them text, and UTF-8
        except (TypeError, UnicodeEncodeError):
            texts = [_text(value) for value in values]
        address, user, method, url, status, agent, host, visitor, forwarded = texts
        if not url:
            return self._missing("url")
        if not address and not user and not visitor:
            return "it names neither a user nor an address"
        return Record(self._last_ms, address, user or b"-", method, url, status, agent, host, visitor, forwarded)

    def _missing(self, what: str) -> str:
        return f"it has no {what}, the field {getattr(self._names, what)}"


def _getter(path: str) -> Callable[[dict[str, Any]], Any]:
    """Make what takes a value out of an object; it returns None if there is none."""
    if "|" not in path and "." not in path:
        return lambda document: document.get(path)
    ways = [(way, way.split(".")) for way in path.split("|")]

    def get(document: dict[str, Any]) -> Any:
        for name, keys in ways:
            value: Any = document.get(name)
            if value is None:
                value = document
                for key in keys:
                    value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                return value
        return None

    return get


def _text(value: Any) -> bytes:
    """Return a value of JSON as text: of a list all, as headers that came more than once; of other things nothing."""
    if type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    if type(value) is int or type(value) is float:
        return str(value).encode()
    if type(value) is list:
        return b",".join(_text(each) for each in value if type(each) is not list)
    return b""
