"""Access-log lines -> records: common, combined, separated values, and all other formats by name.

Not here: JSON (jsonlines), custom formats (logformat), reading files (hitlog), and whether a record is a page view and
whose (pages).

1. A reader is a function from one line, without its newline, to a record or a reason. It knows nothing about files,
   so reports, feeds and syslog share it.
2. Every pattern is linear, even on a line that was made to be slow, or ends at a literal.
3. Fields of a record are as logged, escapes included, so a request has the same url in all formats that escape alike.
   Fields that a line does not have are empty.
"""

import csv
import re
from typing import NamedTuple

from online.core.usual import UsualRecords
from online.errors import ConfigError, quote
from online.logs.jsonlines import JSON_PRESETS, JsonFields, JsonLines, json_shapes
from online.logs.logformat import LogFormat
from online.logs.prefixes import read_behind
from online.logs.records import (
    EMPTY,
    INSIDE,
    METHOD,
    TARGET,
    Dates,
    Read,
    Reader,
    Record,
    is_name,
    no_such_time,
    read_time,
)

# Common and combined


class AccessLog:
    r"""Lines in common or combined format, as web servers write them. More fields may follow.

    If a request does not begin with a method (a probe of another protocol, say), all of it is the url; an empty
    request is the url `-`. A quoted field after the agent is taken as X-Forwarded-For, as in nginx' example of a
    `log_format`.

    >>> AccessLog().read(b'::1 - theo [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 200 2326').user
    b'theo'
    """

    # A user may contain spaces. But if it begins with "- ", the line has another field before the host, and the name
    # would be wrong; see is_name. Apache writes an empty user as "". No host begins with a syslog priority or a byte
    # order mark.
    _LINE = re.compile(
        rb'([^\x00-\x20"<\xef]++) ([^\x00-\x20"]++) (""|(?!- [^\[])(?:[^\x00-\x1f"\\]|\\.)+?)'
        rb" \[(" + Dates.PATTERN + rb")\] "
        rb'"(?:(' + METHOD + rb") ++(" + TARGET + rb")(?<! )" + INSIDE + rb"|(" + INSIDE + rb'))" '
        rb"(\d{3}|-) (?:\d++|-)"
        rb'(?: ++"(' + INSIDE + rb')" ++"(' + INSIDE + rb')"(?: ++"(' + INSIDE + rb')")?+)?+'
        rb'(?: ++(?:"' + INSIDE + rb'"|[^\s"]\S*+))*+\s*+',
        re.DOTALL,
    )
    # Matches nearly every line, in less than half the time: no escapes, and nothing after X-Forwarded-For.
    _PLAIN_LINE = re.compile(
        rb'([^\x00-\x20"<\xef]++) [^\x00-\x20"]++ ([^\x00-\x20"\[]++) \[(' + Dates.PATTERN + rb")\] "
        rb'"([-\w]++) ([^ "]++) [^"]*+" (\d{3}) (?:\d++|-)'
        rb'(?: "([^"]*+)" "([^"]++)"(?: "([^"]*+)")?+)?+'
    )
    _VIRTUAL_HOST = re.compile(rb"([-\w.*]++)(?:[: ]\d++)? ")  # Apache's "%v:%p", "%v %p" or "%v", in front of a line
    _DATE_FIELD = re.compile(rb'[^\["]*+\[(?:(' + Dates.PATTERN + rb')|[^\]"]*+)\]')

    def __init__(self, *, virtual_host: bool | None = False, inside: Read | None = None) -> None:
        """`virtual_host`: whether lines begin with the name of the virtual host; None tries both.

        `None` first reads a line as one without a host. `inside` parses what follows a prefix from containers or
        syslog; without it such a line is not understood.
        """
        self._virtual_host = virtual_host
        self._inside = inside
        self._dates = Dates()
        self._last_date = b""
        self._last_ms = 0

    def read(self, line: bytes) -> Record | str:
        """Parse one line without its newline. Returns a record, or the reason why it is not one. O(length)."""
        if self._virtual_host:
            return self._read_after_host(line) or self._otherwise(line)
        match = self._PLAIN_LINE.fullmatch(line) if b"\\" not in line else None
        if match is None:
            return self._read_any(line)
        address, user, date, method, url, status, referrer, agent, forwarded = match.groups(b"")
        if date != self._last_date:
            seen_ms = self._dates.read(date)
            if seen_ms is None:
                return no_such_time(date)
            self._last_date, self._last_ms = date, seen_ms
        # As `Record(...)`, without the cost of its Python frame.
        fields = self._last_ms, address, user, method, url, status, agent, b"", b"", forwarded, b"", referrer, b""
        return tuple.__new__(Record, fields)

    def _read_any(self, line: bytes) -> Record | str:
        match = self._LINE.fullmatch(line)
        if match is not None and self._is_user(match):
            return self._record(match, b"")
        if self._virtual_host is None and (record := self._read_after_host(line)):
            return record
        return self._otherwise(line)

    def _read_after_host(self, line: bytes) -> Record | str:
        """Parse a line that begins with the name of the virtual host. Returns "" if it is not such a line."""
        host = self._VIRTUAL_HOST.match(line)
        match = host and self._LINE.fullmatch(line, host.end())
        return self._record(match, host[1]) if host and match and self._is_user(match) else ""

    def _record(self, match: re.Match[bytes], host: bytes) -> Record | str:
        address, _, user, date, method, url, request, status, referrer, agent, forwarded = match.groups(b"")
        seen_ms = self._dates.read(date)
        if seen_ms is None:
            return no_such_time(date)
        user = user.replace(b'\\"', b'"')  # as Apache escapes it
        if match[10] == b"":  # present but empty
            agent = b"-"
        url = url or request or b"-"
        return Record(seen_ms, address, user, method, url, status, agent, host, b"", forwarded, b"", referrer)

    def _otherwise(self, line: bytes) -> Record | str:
        return read_behind(line, self._inside, self._reason(line))

    @staticmethod
    def _is_user(match: re.Match[bytes]) -> bool:
        return b" " not in match[3] or (match[2] == b"-" and is_name(match[3]))

    def _reason(self, line: bytes) -> str:
        if not line.strip():
            return EMPTY
        date = self._DATE_FIELD.match(line)
        if date is not None and date[1] is None:
            return "the date is not written like [10/Oct/2000:13:55:36 -0700]"
        if self._virtual_host:
            return "not in vhost_combined format"
        if self._read_after_host(line):
            return "begins with a host name, as in vhost_combined; use --format vhost"
        return "not in common or combined format"


# Separated values


class CsvColumns(NamedTuple):
    """The columns of the fields, counted from 0."""

    user: int
    url: int
    time: int


class SeparatedValues:
    """Lines of separated values. A field may be quoted, but cannot contain a newline."""

    def __init__(self, columns: CsvColumns, separator: bytes = b",") -> None:
        self._columns = columns
        self._wanted = max(columns) + 1
        self._separator = separator
        self._last_time: bytes | None = None
        self._last_ms = 0

    def read(self, line: bytes) -> Record | str:
        """Parse one line without its newline. Returns a record, or the reason why it is not one. O(length)."""
        if not line.strip():
            return EMPTY
        fields = self._fields(line) if b'"' in line else line.split(self._separator)
        if len(fields) < self._wanted:
            return f"too few fields: {len(fields)}, at least {self._wanted} are needed"
        user, url, time = [fields[column].strip() for column in self._columns]
        if time != self._last_time:
            seen_ms = read_time(time)
            if seen_ms is None:
                return no_such_time(time)
            self._last_time, self._last_ms = time, seen_ms
        return Record(self._last_ms, b"", user, b"", url)

    def _fields(self, line: bytes) -> list[bytes]:
        # Latin-1 maps every byte to one character and back.
        try:
            row = next(csv.reader([line.decode("latin-1")], delimiter=self._separator.decode()), [])
        except csv.Error:
            return []
        return [field.encode("latin-1") for field in row]


# By name


FORMATS = ("auto", "common", "combined", "vhost", "json", "nginx", "caddy", "traefik", "csv", "tsv")


def reader_of(
    name: str = "auto",
    *,
    columns: CsvColumns | None = None,
    fields: JsonFields | None = None,
    visitor: str = "",
) -> Reader:
    """Return the reader for a format: a name in FORMATS, or a LogFormat or log_format.

    `columns` is for csv and tsv, `fields` and `visitor` for JSON. Raises ConfigError for an unknown format.
    """
    if name in ("csv", "tsv"):
        return Reader(SeparatedValues(columns or CsvColumns(0, 1, 2), b"\t" if name == "tsv" else b",").read)
    visitor_field = visitor or "visitor"
    if fields is not None or name in JSON_PRESETS:
        chosen = fields or (None if name == "json" else JSON_PRESETS[name])
        inside = JsonLines(chosen, visitor=visitor_field).read
        objects = JsonLines(chosen, visitor=visitor_field, inside=inside)
        return Reader(objects.read, UsualRecords(Record, objects=json_shapes(chosen, visitor=visitor_field)))
    if name in ("common", "combined", "vhost"):
        is_vhost = name == "vhost"
        lines = AccessLog(virtual_host=is_vhost, inside=AccessLog(virtual_host=is_vhost).read)
        return Reader(lines.read, UsualRecords(Record, lines="host" if is_vhost else "plain"))
    if name == "auto":
        either = _any_of(AccessLog(virtual_host=None).read, JsonLines(visitor=visitor_field).read)
        lines, objects = AccessLog(virtual_host=None, inside=either), JsonLines(visitor=visitor_field, inside=either)
        usual = UsualRecords(Record, lines="any", objects=json_shapes(visitor=visitor_field))
        return Reader(_any_of(lines.read, objects.read), usual)
    if "%" in name or "$" in name:
        return Reader(LogFormat(name, visitor=visitor, inside=LogFormat(name, visitor=visitor).read).read)
    raise ConfigError(f"format takes {', '.join(FORMATS)}, or a LogFormat, not {quote(name.encode())}")


def _any_of(access_log: Read, json_lines: Read) -> Read:
    def read(line: bytes) -> Record | str:
        return json_lines(line) if line.startswith(b"{") else access_log(line)

    return read
