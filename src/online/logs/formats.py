"""Lines of access logs -> records: common, combined, separated values, and every other format by its name.

Not here: lines of JSON (jsonlines), formats of one's own (logformat), reading files (hitlog), and what a record means:
whether it is a page view, and whose (pages).

1. A reader is a function from one line, without its newline, to a record or a reason. It knows no file, so
   reports, feeds and syslog share it.
2. Every pattern is linear on any line that was made to be slow, or is bounded by a literal that ends it.
3. What a record holds stands there as logged, escapes and all, so that one request is the same url in every
   format that escapes alike. What a line does not tell is empty.
"""

import csv
import re
from typing import NamedTuple

from online.errors import ConfigError, quote
from online.logs.jsonlines import JSON_PRESETS, JsonFields, JsonLines
from online.logs.logformat import LogFormat
from online.logs.prefixes import read_behind
from online.logs.records import EMPTY, INSIDE, METHOD, TARGET, Dates, Read, Record, is_name, no_such_time, read_time

# Common and combined


class AccessLog:
    r"""Lines in common or combined format, as web servers write them; further fields may follow.

    A request that does not begin with a method (a probe of another protocol, say) is a url as a whole, and
    an empty one is the url `-`. A field in quotes after the agent is taken for X-Forwarded-For, which is
    what nginx' example of a `log_format` has there.

    >>> AccessLog().read(b'::1 - theo [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 200 2326').user
    b'theo'
    """

    # A user may contain spaces, but one that begins with "- " comes from a line with another field before the
    # host, and would be a wrong name; see is_name. Apache writes an empty user as "", a name like any other. No host
    # begins with a priority of syslog, or with the mark that a text is UTF-8.
    _LINE = re.compile(
        rb'([^\x00-\x20"<\xef]++) ([^\x00-\x20"]++) (""|(?!- [^\[])(?:[^\x00-\x1f"\\]|\\.)+?)'
        rb" \[(" + Dates.PATTERN + rb")\] "
        rb'"(?:(' + METHOD + rb") ++(" + TARGET + rb")(?<! )" + INSIDE + rb"|(" + INSIDE + rb'))" '
        rb"(\d{3}|-) (?:\d++|-)"
        rb'(?: ++"' + INSIDE + rb'" ++"(' + INSIDE + rb')"(?: ++"(' + INSIDE + rb')")?+)?+'
        rb'(?: ++(?:"' + INSIDE + rb'"|[^\s"]\S*+))*+\s*+',
        re.DOTALL,
    )
    # Nearly every line, in less than half the time: without escapes, and nothing after the forwarded field.
    _PLAIN_LINE = re.compile(
        rb'([^\x00-\x20"<\xef]++) [^\x00-\x20"]++ ([^\x00-\x20"\[]++) \[(' + Dates.PATTERN + rb")\] "
        rb'"([-\w]++) ([^ "]++) [^"]*+" (\d{3}) (?:\d++|-)'
        rb'(?: "[^"]*+" "([^"]++)"(?: "([^"]*+)")?+)?+'
    )
    _VIRTUAL_HOST = re.compile(rb"([-\w.*]++)(?:[: ]\d++)? ")  # Apache's "%v:%p", "%v %p" or "%v", before a good line
    _DATE_FIELD = re.compile(rb'[^\["]*+\[(?:(' + Dates.PATTERN + rb')|[^\]"]*+)\]')

    def __init__(self, *, virtual_host: bool | None = False, inside: Read | None = None) -> None:
        """`virtual_host`: whether lines begin with the name of the host that was asked; None: find out.

        To find out, a line is first read as one without it. `inside` reads what stands behind words that containers
        or syslog have put before a line; without it such a line is not understood.
        """
        self._virtual_host = virtual_host
        self._inside = inside
        self._dates = Dates()
        self._last_date = b""
        self._last_ms = 0

    def read(self, line: bytes) -> Record | str:
        """Make a record of one line without its newline, or tell why it cannot be done. O(length)."""
        if self._virtual_host:
            return self._read_after_host(line) or self._otherwise(line)
        match = self._PLAIN_LINE.fullmatch(line) if b"\\" not in line else None
        if match is None:
            return self._read_any(line)
        address, user, date, method, url, status, agent, forwarded = match.groups(b"")
        if date != self._last_date:
            seen_ms = self._dates.read(date)
            if seen_ms is None:
                return no_such_time(date)
            self._last_date, self._last_ms = date, seen_ms
        return Record(self._last_ms, address, user, method, url, status, agent, b"", b"", forwarded)

    def _read_any(self, line: bytes) -> Record | str:
        match = self._LINE.fullmatch(line)
        if match is not None and self._is_user(match):
            return self._record(match, b"")
        if self._virtual_host is None and (record := self._read_after_host(line)):
            return record
        return self._otherwise(line)

    def _read_after_host(self, line: bytes) -> Record | str:
        """Read what follows the name of the virtual host; "" if the line is not like that."""
        host = self._VIRTUAL_HOST.match(line)
        match = host and self._LINE.fullmatch(line, host.end())
        return self._record(match, host[1]) if host and match and self._is_user(match) else ""

    def _record(self, match: re.Match[bytes], host: bytes) -> Record | str:
        address, _, user, date, method, url, request, status, agent, forwarded = match.groups(b"")
        seen_ms = self._dates.read(date)
        if seen_ms is None:
            return no_such_time(date)
        user = user.replace(b'\\"', b'"')  # as Apache escapes it
        if match[9] == b"":  # it is there, and empty
            agent = b"-"
        return Record(seen_ms, address, user, method, url or request or b"-", status, agent, host, b"", forwarded)

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
            return EMPTY
        fields = self._fields(line) if b'"' in line else line.split(self._separator)
        if len(fields) < self._wanted:
            return f"it has {len(fields)} fields, {self._wanted} are wanted"
        user, url, time = [fields[column].strip() for column in self._columns]
        if time != self._last_time:
            seen_ms = read_time(time)
            if seen_ms is None:
                return no_such_time(time)
            self._last_time, self._last_ms = time, seen_ms
        return Record(self._last_ms, b"", user, b"", url)

    def _fields(self, line: bytes) -> list[bytes]:
        # Latin-1 takes any byte to one character and back.
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
) -> Read:
    """Return the reader of a format: a name in FORMATS, or a LogFormat or log_format.

    `columns` are those of csv and tsv, `fields` and `visitor` those of JSON. Raises ConfigError for a name
    that is none.
    """
    if name in ("csv", "tsv"):
        return SeparatedValues(columns or CsvColumns(0, 1, 2), b"\t" if name == "tsv" else b",").read
    visitor_field = visitor or "visitor"
    if fields is not None or name in JSON_PRESETS:
        chosen = fields or (None if name == "json" else JSON_PRESETS[name])
        return JsonLines(chosen, visitor=visitor_field, inside=JsonLines(chosen, visitor=visitor_field).read).read
    if name in ("common", "combined", "vhost"):
        is_vhost = name == "vhost"
        return AccessLog(virtual_host=is_vhost, inside=AccessLog(virtual_host=is_vhost).read).read
    if name == "auto":
        inside = _any_of(AccessLog(virtual_host=None).read, JsonLines(visitor=visitor_field).read)
        lines, objects = AccessLog(virtual_host=None, inside=inside), JsonLines(visitor=visitor_field, inside=inside)
        return _any_of(lines.read, objects.read)
    if "%" in name or "$" in name:
        return LogFormat(name, visitor=visitor, inside=LogFormat(name, visitor=visitor).read).read
    raise ConfigError(f"format takes {', '.join(FORMATS)}, or a LogFormat, not {quote(name.encode())}")


def _any_of(access_log: Read, json_lines: Read) -> Read:
    def read(line: bytes) -> Record | str:
        return json_lines(line) if line.startswith(b"{") else access_log(line)

    return read
