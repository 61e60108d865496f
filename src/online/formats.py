"""Lines of access logs -> records: common, combined, JSON, separated values, and any LogFormat or log_format.

Not here: reading files (hitlog), and what a record means: whether it is a page view, and whose (pages).

1. A reader is a function from one line, without its newline, to a record or a reason. It knows no file, so
   reports, feeds and syslog share it.
2. Every pattern is linear on any line that was made to be slow, or is bounded by a literal that ends it.
3. What a record holds stands there as logged, escapes and all, so that one request is the same url in every
   format that escapes alike. What a line does not tell is empty.
"""

import csv
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from online.errors import ConfigError, quote
from online.terms import SEEN_MIN_MS

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

_BZIP2_MAGIC = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # of a file with content, and of an empty one

#: Parsed days that a reader keeps. Most lines repeat the day of the line before.
MAX_DAYS = 1024

NO_TIME = "it has no time"
_EMPTY = "it is empty"

_EPOCH = datetime.fromtimestamp(0, UTC)


class Record(NamedTuple):
    """What a line tells of one request."""

    seen_ms: int
    address: bytes  #: of who asked: an address or a host name
    user: bytes  #: the authenticated one; `-` if none
    method: bytes
    url: bytes  #: the request target
    status: bytes = b""
    agent: bytes = b""
    host: bytes = b""  #: the site that was asked
    visitor: bytes = b""  #: what knows a visitor again, such as a cookie
    forwarded: bytes = b""  #: X-Forwarded-For


#: What makes a record of one line, or tells why it cannot, in words that follow "line 7: ".
Read = Callable[[bytes], Record | str]


# Times


class Dates:
    """Reads `10/Oct/2000:13:55:36 -0700`, quickly when days repeat."""

    PATTERN = rb"[0-3]\d/[A-Z][a-z]{2}/\d{4}:[0-2]\d:[0-5]\d:[0-6]\d [+-][01]\d[0-5]\d"

    def __init__(self) -> None:
        self._days: dict[bytes, int | None] = {}

    def read(self, date: bytes) -> int | None:
        """Return milliseconds since 1970; a leap second is the first second of the next minute."""
        key = date[:11] + date[21:]
        if key not in self._days:
            if len(self._days) >= MAX_DAYS:
                self._days.clear()
            self._days[key] = _day(key)
        day_s = self._days[key]
        hours, minutes, seconds = int(date[12:14]), int(date[15:17]), int(date[18:20])
        if day_s is None or hours > 23 or seconds > 60:
            return None
        return (day_s + hours * 3600 + minutes * 60 + seconds) * 1000


def _day(key: bytes) -> int | None:
    """Tell when the day `10/Oct/2000-0700` begins in its zone, in seconds since 1970; None if it is none."""
    try:
        day = datetime(int(key[7:11]), _MONTHS.index(key[3:6]) + 1, int(key[:2]), tzinfo=UTC)
    except ValueError:
        return None
    zone_s = int(key[12:14]) * 3600 + int(key[14:16]) * 60
    return round(day.timestamp()) + (zone_s if key[11:12] == b"-" else -zone_s)


_NUMBER = re.compile(rb"\d{1,18}(?:\.\d{0,9})?")
_DATE = re.compile(Dates.PATTERN)
_dates = Dates()


def read_time(time: bytes) -> int | None:
    """Read any way of writing a time that says all of it, as milliseconds since 1970; None if it is none.

    Seconds or milliseconds since 1970, told apart by their size; ISO 8601 (UTC unless it says otherwise); or
    the date of the common format.
    """
    if _NUMBER.fullmatch(time):
        whole, _, fraction = time.partition(b".")
        number = int(whole)
        return number if number >= SEEN_MIN_MS else number * 1000 + int(fraction[:3].ljust(3, b"0"))
    if _DATE.fullmatch(time):
        return _dates.read(time)
    try:
        moment = datetime.fromisoformat(time.decode("ascii"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _no_such_time(time: bytes) -> str:
    return f"there is no such time as {quote(time)}" if re.search(rb"\d", time) else NO_TIME


# Common and combined


#: What stands between quotes. A backslash escapes what follows it. Possessive quantifiers (*+) keep matches
#: linear on any line.
_INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'

#: The first two words of a request. What follows is free.
_METHOD = rb"[-\w]++"
_TARGET = rb'[^ "\\]*+(?:\\.[^ "\\]*+)*+'


class AccessLog:
    r"""Lines in common or combined format, as web servers write them; further fields may follow.

    A request that does not begin with a method (a probe of another protocol, say) is a url as a whole, and
    an empty one is the url `-`. A field in quotes after the agent is taken for X-Forwarded-For, which is
    what nginx' example of a `log_format` has there.

    >>> AccessLog().read(b'::1 - theo [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 200 2326').user
    b'theo'
    """

    # A user may contain spaces, but one that begins with "- " comes from a line with another field before the
    # host, and would be a wrong name. Apache writes an empty user as "", a name like any other.
    _LINE = re.compile(
        rb'([^\x00-\x20"]++) [^\x00-\x20"]++ (""|(?!- [^\[])[^\x00-\x1f"\[]+?) \[(' + Dates.PATTERN + rb")\] "
        rb'"(?:(' + _METHOD + rb") ++(" + _TARGET + rb")(?<! )" + _INSIDE + rb"|(" + _INSIDE + rb'))" '
        rb"(\d{3}|-) (?:\d++|-)"
        rb'(?: ++"' + _INSIDE + rb'" ++"(' + _INSIDE + rb')"(?: ++"(' + _INSIDE + rb')")?+)?+'
        rb'(?: ++(?:"' + _INSIDE + rb'"|[^\s"]\S*+))*+\s*+',
        re.DOTALL,
    )
    # Nearly every line, in less than half the time: without escapes, and nothing after the forwarded field.
    _PLAIN_LINE = re.compile(
        rb'([^\x00-\x20"]++) [^\x00-\x20"]++ ([^\x00-\x20"\[]++) \[(' + Dates.PATTERN + rb")\] "
        rb'"([-\w]++) ([^ "]++) [^"]*+" (\d{3}) (?:\d++|-)'
        rb'(?: "[^"]*+" "([^"]*+)"(?: "([^"]*+)")?+)?+'
    )
    _VIRTUAL_HOST = re.compile(rb"([-\w.*]++)(?::\d++)? ")  # Apache's "%v:%p" or "%v", before a good line
    _DATE_FIELD = re.compile(rb'[^\["]*+\[(?:(' + Dates.PATTERN + rb')|[^\]"]*+)\]')

    def __init__(self, *, virtual_host: bool | None = False) -> None:
        """`virtual_host`: whether lines begin with the name of the host that was asked; None: find out.

        To find out, a line is first read as one without it.
        """
        self._virtual_host = virtual_host
        self._dates = Dates()
        self._last_date = b""
        self._last_ms = 0

    def read(self, line: bytes) -> Record | str:
        """Make a record of one line without its newline, or tell why it cannot be done. O(length)."""
        if self._virtual_host:
            return self._read_after_host(line) or self._reason(line)
        match = self._PLAIN_LINE.fullmatch(line) if b"\\" not in line else None
        if match is None:
            return self._read_any(line)
        address, user, date, method, url, status, agent, forwarded = match.groups(b"")
        if date != self._last_date:
            seen_ms = self._dates.read(date)
            if seen_ms is None:
                return _no_such_time(date)
            self._last_date, self._last_ms = date, seen_ms
        return Record(self._last_ms, address, user, method, url, status, agent, b"", b"", forwarded)

    def _read_any(self, line: bytes) -> Record | str:
        match = self._LINE.fullmatch(line)
        if match is not None:
            return self._record(match, b"")
        if self._virtual_host is None and (record := self._read_after_host(line)):
            return record
        return self._reason(line)

    def _read_after_host(self, line: bytes) -> Record | str:
        """Read what follows the name of the virtual host; "" if the line is not like that."""
        host = self._VIRTUAL_HOST.match(line)
        match = host and self._LINE.fullmatch(line, host.end())
        return self._record(match, host[1]) if host and match else ""

    def _record(self, match: re.Match[bytes], host: bytes) -> Record | str:
        address, user, date, method, url, request, status, agent, forwarded = match.groups(b"")
        seen_ms = self._dates.read(date)
        if seen_ms is None:
            return _no_such_time(date)
        return Record(
            seen_ms, address, user, method, url or request or b"-", status, agent, host, b"", forwarded
        )

    def _reason(self, line: bytes) -> str:
        if not line.strip():
            return _EMPTY
        if _BZIP2_MAGIC.match(line):
            return "it is bzip2, unpack it first"
        date = self._DATE_FIELD.match(line)
        if date is not None and date[1] is None:
            return "its date is not written like [10/Oct/2000:13:55:36 -0700]"
        if self._virtual_host:
            return "it is not in vhost_combined format"
        if self._read_after_host(line):
            return "it begins with a host name: the vhost_combined format"
        return "it is not in common or combined format"


# Separated values


class CsvColumns(NamedTuple):
    """Where the fields of a line of separated values stand, from 0."""

    user: int
    url: int
    time: int


class SeparatedValues:
    """Lines of separated values. A field may be quoted, but not hold a newline."""

    def __init__(self, columns: CsvColumns, separator: bytes = b",") -> None:
        self._columns = columns
        self._wanted = max(columns) + 1
        self._separator = separator
        self._last_time: bytes | None = None
        self._last_ms = 0

    def read(self, line: bytes) -> Record | str:
        """Make a record of one line without its newline, or tell why it cannot be done. O(length)."""
        if not line.strip():
            return _EMPTY
        fields = self._fields(line) if b'"' in line else line.split(self._separator)
        if len(fields) < self._wanted:
            return f"it has {len(fields)} fields, {self._wanted} are wanted"
        user, url, time = [fields[column].strip() for column in self._columns]
        if time != self._last_time:
            seen_ms = read_time(time)
            if seen_ms is None:
                return _no_such_time(time)
            self._last_time, self._last_ms = time, seen_ms
        return Record(self._last_ms, b"", user, b"", url)

    def _fields(self, line: bytes) -> list[bytes]:
        # Latin-1 takes any byte to one character and back.
        try:
            row = next(csv.reader([line.decode("latin-1")], delimiter=self._separator.decode()), [])
        except csv.Error:
            return []
        return [field.encode("latin-1") for field in row]


# JSON


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
            return _EMPTY if not line.strip() else "it is no JSON object"
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
        self._nothing: dict[str, Any] = dict.fromkeys(fields)
        self._last_time: object = b""  # what no JSON holds
        self._last_ms = 0

    def make(self, document: dict[str, Any]) -> Record | str:
        if self._pick is not None:
            time, *values = self._pick(self._nothing | document)
        else:
            time, *values = [get(document) for get in self._getters]
        if type(time) is float and 1 < time < SEEN_MIN_MS:  # seconds, the case of nginx and Caddy
            self._last_time, self._last_ms = time, round(time * 1000)
        elif time != self._last_time:
            text = _text(time)
            seen_ms = read_time(text)
            if seen_ms is None:
                return f"its {self._names.time} is {quote(text)}, which is no time" if text else self._missing("time")
            self._last_time, self._last_ms = time, seen_ms
        address, user, method, url, status, agent, host, visitor, forwarded = [
            value.encode("utf-8", "surrogateescape") if type(value) is str else _text(value) for value in values
        ]
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
    """Return a value of JSON as text: of a list the first, of what has no text nothing."""
    if isinstance(value, list):
        return _text(value[0]) if value else b""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return b""
    return str(value).encode("utf-8", "surrogateescape")


# Any LogFormat of Apache, any log_format of nginx


_HOST = rb"(?:[-\w.*]++|\[[0-9A-Fa-f:.]++\])?+(?::\d++)?"
_ISO = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)"

#: Directive or variable -> the field it stands for, and how that is written; None: as free text.
_PARTS: dict[str, tuple[str, bytes | None]] = {
    **dict.fromkeys(("%h", "%a", "%{c}a", "$remote_addr"), ("address", None)),
    **dict.fromkeys(("%u", "$remote_user"), ("user", rb'""|[^\x00-\x1f"\[]+?')),
    **dict.fromkeys(("%{%d/%b/%Y:%H:%M:%S %z}t", "%{%d/%b/%Y:%T %z}t", "$time_local"), ("time", Dates.PATTERN)),
    **dict.fromkeys(("%{%Y-%m-%dT%H:%M:%S%z}t", "%{%FT%T%z}t", "$time_iso8601"), ("time", _ISO)),
    **dict.fromkeys(("%{sec}t", "%{msec}t", "%{%s}t", "$msec"), ("time", rb"\d+(?:\.\d+)?")),
    **dict.fromkeys(("%r", "$request"), ("request", None)),
    **dict.fromkeys(("%m", "$request_method"), ("method", rb"[-\w]*+")),
    **dict.fromkeys(("%U", "$uri"), ("url", rb'[^\s"?]*+')),
    **dict.fromkeys(("$request_uri",), ("url", None)),
    **dict.fromkeys(("%q", "$is_args$args"), ("query", rb'(?:\?[^\s"]*+)?')),
    **dict.fromkeys(("%s", "%>s", "%<s", "$status"), ("status", rb"\d{3}|-")),
    **dict.fromkeys(("%{user-agent}i", "$http_user_agent"), ("agent", None)),
    **dict.fromkeys(("%{x-forwarded-for}i", "$http_x_forwarded_for"), ("forwarded", None)),
    **dict.fromkeys(("%v", "%V", "%{host}i", "$host", "$http_host", "$server_name"), ("host", _HOST)),
    "%%": ("", rb"%"),
}
_PART = re.compile(r"(%[!\d,]*[<>]?(?:\{[^}]*\})?(?:\^t[io]|[A-Za-z%])|\$is_args\$args|\$\w+|\$\{\w+\})")


class LogFormat:
    """Lines in a format of one's own, written as for Apache's LogFormat or nginx' log_format.

    >>> LogFormat('%h %u %{sec}t "%r"').read(b'::1 theo 1511658000 "GET /x HTTP/1.1"').user
    b'theo'
    """

    def __init__(self, text: str, *, visitor: str = "") -> None:
        """`visitor` is the directive or variable that knows a visitor again, such as `%{session}C`.

        Raises ConfigError for a format that does not tell time and url, and a user or an address.
        """
        self._line = re.compile(_line_pattern(text, visitor), re.DOTALL)
        told = self._line.groupindex
        wanted = {"time": ("time",), "url": ("url", "target"), "user": ("user", "address", "visitor")}
        for what, ways in wanted.items():
            if not any(way in told for way in ways):
                raise ConfigError(f"the format {quote(text.encode())} does not tell the {what}")

    def read(self, line: bytes) -> Record | str:
        """Make a record of one line without its newline, or tell why it cannot be done. O(length)."""
        match = self._line.fullmatch(line)
        if match is None:
            return _EMPTY if not line.strip() else "it is not in the format given"
        told = match.groupdict(b"")
        seen_ms = read_time(told["time"])
        if seen_ms is None:
            return _no_such_time(told["time"])
        get = told.get
        return Record(
            seen_ms,
            get("address", b""),
            get("user", b"-"),
            get("method") or get("verb", b""),
            (get("url") or get("target") or get("other") or b"-") + get("query", b""),
            get("status", b""),
            get("agent", b""),
            get("host", b""),
            get("visitor", b""),
            get("forwarded", b""),
        )


def _line_pattern(text: str, visitor: str) -> bytes:
    """Make the pattern of a line: text, part, text, part ... text, as `_PART` splits a format."""
    text = text.replace('\\"', '"').replace("\\t", "\t").replace("%t", "[$time_local]")
    pieces = _PART.split(text)
    pattern = re.escape(pieces[0].encode())
    told: set[str] = set()
    for before, name, after in zip(pieces[0::2], pieces[1::2], pieces[2::2], strict=False):
        field, written = _PARTS.get(_plain_name(name), ("", None))
        if visitor and _plain_name(name) == _plain_name(visitor):
            field = "visitor"
        if field == "request":
            pattern += _named_request(told)
        else:
            piece = written or _free_text(before, after)
            is_news = field and field not in told
            pattern += (b"(?P<%s>" % field.encode() if is_news else b"(?:") + piece + b")"
            told.add(field)
        pattern += re.escape(after.encode())
    return pattern


def _plain_name(part: str) -> str:
    """Return a directive or variable as `_PARTS` has it: without conditions, names of headers in lower case."""
    name = re.sub(r"^%[!\d,]+", "%", part)
    if name.startswith("${"):
        return f"${name[2:-1]}"
    return name.lower() if name.endswith("}i") else name


def _free_text(before: str, after: str) -> bytes:
    """The pattern of a part between two texts: in quotes it may hold spaces, else it ends where text goes on."""
    if before.endswith('"') and after.startswith('"'):
        return _INSIDE
    ends = rb'\s"\\' + (re.escape(after[0].encode()) if after else b"")
    return rb"[^" + ends + rb"]*+(?:\\.[^" + ends + rb"]*+)*+"


def _named_request(told: set[str]) -> bytes:
    """The pattern of a whole request; what the format has told before is not told again."""
    names = [b"(?:" if name in told else b"(?P<%s>" % name.encode() for name in ("verb", "target", "other")]
    told |= {"verb", "target", "other"}
    verb, target, other = names
    request = verb + _METHOD + rb") ++" + target + _TARGET + rb")(?<! )" + _INSIDE
    return rb"(?:" + request + rb"|" + other + _INSIDE + rb"))"


# By name


FORMATS = ("auto", "common", "combined", "vhost", "json", "nginx", "caddy", "traefik", "csv", "tsv")


def reader_of(
    name: str = "auto",
    *,
    columns: CsvColumns | None = None,
    fields: JsonFields | None = None,
    visitor: str = "",
) -> Read:
    """Return the reader of a format: a name in FORMATS, or a LogFormat or log_format.

    `columns` are those of csv and tsv, `fields` and `visitor` those of JSON. Raises ConfigError for a name
    that is none.
    """
    if name in ("csv", "tsv"):
        return SeparatedValues(columns or CsvColumns(0, 1, 2), b"\t" if name == "tsv" else b",").read
    if fields is not None or name in JSON_PRESETS:
        chosen = fields or (None if name == "json" else JSON_PRESETS[name])
        return JsonLines(chosen, visitor=visitor or "visitor").read
    if name in ("common", "combined", "vhost"):
        return AccessLog(virtual_host=name == "vhost").read
    if name == "auto":
        return _any_of(AccessLog(virtual_host=None).read, JsonLines(visitor=visitor or "visitor").read)
    if "%" in name or "$" in name:
        return LogFormat(name, visitor=visitor).read
    raise ConfigError(f"format takes {', '.join(FORMATS)}, or a LogFormat, not {quote(name.encode())}")


def _any_of(access_log: Read, json_lines: Read) -> Read:
    def read(line: bytes) -> Record | str:
        return json_lines(line) if line.startswith(b"{") else access_log(line)

    return read
