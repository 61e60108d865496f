"""Access-log lines -> hits: reads logs, plain or gzip, in common or combined format or as CSV.

Not here: what a hit means (index), which hits are page views, and following a log that still grows.

1. Memory is bounded, whatever a log holds: a longer line than MAX_LINE_BYTES is never kept whole, and
   a gzip file is inflated piece by piece.
2. A line gives one hit or one reason why not; no line stops the reading, and none is dropped uncounted.
3. A parser is a function from one line, without its newline, to a hit or a reason. It knows no file, so
   every other way in for log lines can use it as it is.
"""

import argparse
import csv
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from itertools import chain
from typing import NamedTuple, cast

from online.errors import OnlineError, quote
from online.limits import Limits
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

#: A line beyond this is skipped. Apache and nginx take request lines of 8 KiB unless told otherwise.
MAX_LINE_BYTES = 64 * 1024

#: So many skipped lines are kept to be shown.
MAX_SAMPLES = 5

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

_CHUNK_BYTES = 128 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BZIP2_MAGIC = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # of a file with content, and of an empty one
_MAX_USER_BYTES = Limits.max_user
_MAX_URL_BYTES = Limits.max_url

#: Parsed days that a parser keeps. Most lines repeat the day of the line before.
_MAX_DAYS = 1024

_NO_TIME = "it has no time"
_TOO_LONG = f"it is longer than {MAX_LINE_BYTES:,} bytes"


class LoggedHit(NamedTuple):
    """One hit as a log tells it; `seen_ms` in milliseconds since 1970."""

    user: bytes
    url: bytes
    seen_ms: int


class SkippedLine(NamedTuple):
    """A line that gave no hit: of which log, its number from 1, its text quoted and cut, and why."""

    log: str
    number: int
    text: str
    reason: str


class LogError(OnlineError):
    """A log cannot be read, is empty, or is damaged; the message names it. What was read before counts."""


#: What makes a hit of one line, or tells why it cannot, in words that follow "line 7: ".
Parse = Callable[[bytes], LoggedHit | str]


def _checked(user: bytes, url: bytes, seen_ms: int) -> LoggedHit | str:
    """Make a hit of values that an index takes, or tell which of them it would refuse."""
    if not 0 < len(user) <= _MAX_USER_BYTES:
        return f"its user has {len(user):,} bytes, 1 to {_MAX_USER_BYTES:,} are taken"
    if not 0 < len(url) <= _MAX_URL_BYTES:
        return f"its url has {len(url):,} bytes, 1 to {_MAX_URL_BYTES:,} are taken"
    if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
        return "its time is before 1973 or after 5138"
    return LoggedHit(user, url, seen_ms)


class AccessLogParser:
    r"""Lines in common or combined format, as web servers write them; further fields may follow.

    The user is the authenticated user as logged or, where that is `-`, the host. The url is the request
    target as logged, the second word of the request. A request that does not begin with a method (a probe
    of another protocol, say) is a url as a whole, and an empty one is the url `-`.

    >>> AccessLogParser().parse(b'::1 - theo [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 200 2326')
    LoggedHit(user=b'theo', url=b'/x', seen_ms=971211336000)
    """

    # The groups are host, user, date, and either target or request. Possessive quantifiers (*+) keep the
    # match linear on any line. Inside quotes a backslash escapes what follows it. A user may contain spaces,
    # but one that begins with "- " comes from a line with another field before the host, and would be a
    # wrong name. Apache writes an empty user as "", a name like any other.
    _INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
    _DATE = rb"[0-3]\d/[A-Z][a-z]{2}/\d{4}:[0-2]\d:[0-5]\d:[0-6]\d [+-][01]\d[0-5]\d"
    _LINE = re.compile(
        rb'([^\x00-\x20"]++) [^\x00-\x20"]++ (""|(?!- [^\[])[^\x00-\x1f"\[]+?) \[(' + _DATE + rb")\] "
        rb'"(?:[-\w]++ ++([^ "\\]*+(?:\\.[^ "\\]*+)*+)(?<! )' + _INSIDE + rb"|(" + _INSIDE + rb'))" '
        rb"(?:\d{3}|-) (?:\d++|-)"
        rb'(?: ++(?:"' + _INSIDE + rb'"|[^\s"]\S*+))*+\s*+',
        re.DOTALL,
    )
    _VIRTUAL_HOST = re.compile(rb"[-\w.*]++:\d++ ")  # Apache's "%v:%p", before what is else a good line
    _DATE_FIELD = re.compile(rb'[^\["]*+\[(?:(' + _DATE + rb')|[^\]"]*+)\]')

    def __init__(self, *, url_prefix: bytes = b"") -> None:
        """`url_prefix` is put before every url."""
        self._url_prefix = url_prefix
        self._last_date = b""
        self._last_ms = 0
        self._days: dict[bytes, int | None] = {}

    def parse(self, line: bytes) -> LoggedHit | str:
        """Make a hit of one line without its newline, or tell why it cannot be done. O(length)."""
        match = self._LINE.fullmatch(line)
        if match is None:
            return self._reason(line)
        host, user, date, target, request = match.groups()
        if date != self._last_date:
            seen_ms = self._time(date)
            if seen_ms is None:
                return f"there is no such time as {quote(date)}"
            self._last_date, self._last_ms = date, seen_ms
        return _checked(
            host if user == b"-" else user, self._url_prefix + (target or request or b"-"), self._last_ms
        )

    def _time(self, date: bytes) -> int | None:
        """Read `10/Oct/2000:13:55:36 -0700`; a leap second is the first second of the next minute."""
        key = date[:11] + date[21:]
        if key not in self._days:
            if len(self._days) >= _MAX_DAYS:
                self._days.clear()
            self._days[key] = _day(key)
        day_s = self._days[key]
        hours, minutes, seconds = int(date[12:14]), int(date[15:17]), int(date[18:20])
        if day_s is None or hours > 23 or seconds > 60:
            return None
        return (day_s + hours * 3600 + minutes * 60 + seconds) * 1000

    def _reason(self, line: bytes) -> str:
        if not line.strip():
            return "it is empty"
        if _BZIP2_MAGIC.match(line):
            return "it is bzip2, unpack it first"
        date = self._DATE_FIELD.match(line)
        if date is not None and date[1] is None:
            return "its date is not written like [10/Oct/2000:13:55:36 -0700]"
        virtual_host = self._VIRTUAL_HOST.match(line)
        if virtual_host is not None and self._LINE.fullmatch(line, virtual_host.end()):
            return "it begins with a host name: the vhost_combined format"
        return "it is not in common or combined format"


def _day(key: bytes) -> int | None:
    """Tell when the day `10/Oct/2000-0700` begins in its zone, in seconds since 1970; None if it is none."""
    try:
        day = datetime(int(key[7:11]), _MONTHS.index(key[3:6]) + 1, int(key[:2]), tzinfo=UTC)
    except ValueError:
        return None
    zone_s = int(key[12:14]) * 3600 + int(key[14:16]) * 60
    return round(day.timestamp()) + (zone_s if key[11:12] == b"-" else -zone_s)


class CsvColumns(NamedTuple):
    """Where the fields of a CSV line stand, from 0."""

    user: int
    url: int
    time: int


class CsvParser:
    """Lines of comma-separated values. A field may be quoted, but not hold a newline.

    Times are seconds or milliseconds since 1970, told apart by their size, or ISO 8601 (UTC unless it says
    otherwise).

    >>> CsvParser(CsvColumns(user=0, url=2, time=1)).parse(b"theo,1511658000,/x")
    LoggedHit(user=b'theo', url=b'/x', seen_ms=1511658000000)
    """

    _NUMBER = re.compile(rb"\d{1,18}(?:\.\d{0,9})?")

    def __init__(self, columns: CsvColumns, *, url_prefix: bytes = b"") -> None:
        """`url_prefix` is put before every url."""
        self._columns = columns
        self._wanted = max(columns) + 1
        self._url_prefix = url_prefix
        self._last_time: bytes | None = None
        self._last_ms = 0

    def parse(self, line: bytes) -> LoggedHit | str:
        """Make a hit of one line without its newline, or tell why it cannot be done. O(length)."""
        if not line.strip():
            return "it is empty"
        fields = self._fields(line) if b'"' in line else line.split(b",")
        if len(fields) < self._wanted:
            return f"it has {len(fields)} fields, {self._wanted} are wanted"
        user, url, time = [fields[column].strip() for column in self._columns]
        if time != self._last_time:
            seen_ms = self._time(time)
            if seen_ms is None:
                return f"there is no such time as {quote(time)}" if re.search(rb"\d", time) else _NO_TIME
            self._last_time, self._last_ms = time, seen_ms
        return _checked(user, self._url_prefix + url if url else b"", self._last_ms)

    def _fields(self, line: bytes) -> list[bytes]:
        # Latin-1 takes any byte to one character and back.
        try:
            row = next(csv.reader([line.decode("latin-1")]), [])
        except csv.Error:
            return []
        return [field.encode("latin-1") for field in row]

    def _time(self, time: bytes) -> int | None:
        if self._NUMBER.fullmatch(time):
            whole, _, fraction = time.partition(b".")
            number = int(whole)
            return number if number >= SEEN_MIN_MS else number * 1000 + int(fraction[:3].ljust(3, b"0"))
        try:
            moment = datetime.fromisoformat(time.decode("ascii"))
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


class LogReader:
    """Reads any number of logs, one after the other, and counts what it met."""

    def __init__(self, parse: Parse | None = None) -> None:
        """`parse` makes a hit of a line; without it, lines are in common or combined format."""
        self._parse = parse or AccessLogParser().parse
        self.lines = 0  #: read so far, of all logs, the skipped ones too
        self.skipped = 0  #: lines that gave no hit
        self.samples: list[SkippedLine] = []  #: the first MAX_SAMPLES of them
        self.bytes_read = 0  #: of all logs, as they are on the disk; compare `log_bytes`

    def read(self, path: str) -> Iterator[LoggedHit]:
        """Yield the hits of the log at `path`, `-` for standard input; gzip is recognised by its content.

        Raises LogError if it cannot be read, is empty, or is damaged, then after the hits before the damage.
        """
        log = "standard input" if path == "-" else path
        before = self.lines
        try:
            with _opened(path) as file:
                for lines in _split(_inflated(self._chunks(file))):
                    for line in lines:
                        self.lines += 1
                        hit = self._parse(line) if len(line) <= MAX_LINE_BYTES else _TOO_LONG
                        if isinstance(hit, LoggedHit):
                            yield hit
                        elif hit != _NO_TIME or self.lines > before + 1:  # a first line may be a header
                            self._skip(SkippedLine(log, self.lines - before, quote(line), hit))
        except IsADirectoryError:
            raise LogError(f"cannot read {log}: it is a directory, name the logs in it") from None
        except OSError as error:
            raise LogError(f"cannot read {log}: {error.strerror or error}") from error
        except (EOFError, zlib.error) as error:
            raise LogError(f"{log} is damaged after line {self.lines - before}: {error}") from error
        if self.lines == before:
            raise LogError(f"{log} is empty")

    def _chunks(self, file: BufferedReader) -> Iterator[bytes]:
        # read1 gives what a pipe holds; read would wait for the whole size.
        while chunk := file.read1(_CHUNK_BYTES):
            self.bytes_read += len(chunk)
            yield chunk

    def _skip(self, line: SkippedLine) -> None:
        self.skipped += 1
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(line)


def log_bytes(paths: Iterable[str]) -> int | None:
    """Add up the sizes of logs, as `LogReader.bytes_read` counts them; None if that of one is not known."""
    total = 0
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def _opened(path: str) -> AbstractContextManager[BufferedReader]:
    """Open a log; standard input stays open when it has been read."""
    if path == "-":
        return nullcontext(cast(BufferedReader, sys.stdin.buffer))
    return open(path, "rb")


def _split(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield lists of lines without their newlines; a line that is too long is cut, and still too long."""
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()[: MAX_LINE_BYTES + 1]
        yield lines
    if rest:
        yield [rest]


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass plain bytes on and inflate gzip, in pieces of bounded size.

    Raises zlib.error or EOFError at damage, when all that can be read before it has been yielded.
    """
    first = next(chunks, b"")
    if len(first) < len(_GZIP_MAGIC):
        first += next(chunks, b"")
    if first.startswith(_GZIP_MAGIC):
        yield from _gunzipped(chain([first], chunks))
    else:
        yield from chain([first], chunks)


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    for chunk in chunks:
        while chunk:
            if member is None:
                chunk = chunk.lstrip(b"\0")  # archives may be padded with zeros
                member = zlib.decompressobj(zlib.MAX_WBITS | 16) if chunk else None
                continue
            yield from _piece(member, chunk)
            chunk = member.unconsumed_tail or member.unused_data
            if member.eof:
                member = None
    if member is not None:
        yield member.flush()
        raise EOFError("the gzip data ends early")


def _piece(member: "zlib._Decompress", chunk: bytes) -> Iterator[bytes]:
    """Inflate some of `chunk`. zlib gives nothing of a piece with damage in it: go again, byte by byte."""
    before = member.copy()
    try:
        yield member.decompress(chunk, _CHUNK_BYTES)
    except zlib.error:
        for start in range(len(chunk)):
            yield before.decompress(chunk[start : start + 1])
        raise


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell how a log is written."""
    group = parser.add_argument_group("how the logs are written")
    group.add_argument(
        "--format",
        choices=("common", "combined", "csv"),
        help="common or combined (either reads both, the default), or comma-separated values",
    )
    group.add_argument(
        "--columns",
        metavar="NAMES",
        type=_columns,
        help="the columns of a CSV log: user, url (or item) and time, the others left empty, such as"
        " user,item,,,time (default: user,url,time); implies --format csv",
    )
    group.add_argument(
        "--url-prefix",
        metavar="TEXT",
        type=os.fsencode,
        default=b"",
        help="put before every url, such as /item/",
    )


def reader_from(args: argparse.Namespace) -> LogReader:
    """Make the reader that the options of `add_format_arguments` describe."""
    if args.format == "csv" or (args.format is None and args.columns is not None):
        columns = args.columns or _columns("user,url,time")
        return LogReader(CsvParser(columns, url_prefix=args.url_prefix).parse)
    return LogReader(AccessLogParser(url_prefix=args.url_prefix).parse)


def _columns(names: str) -> CsvColumns:
    columns = ["url" if name.strip() == "item" else name.strip() for name in names.split(",")]
    for name in CsvColumns._fields:
        if columns.count(name) != 1:
            raise argparse.ArgumentTypeError(f"{names!r} must name user, url (or item) and time, each once")
    for name in columns:
        if name and name not in CsvColumns._fields:
            raise argparse.ArgumentTypeError(f"{name!r} is no column, they are user, url (or item) and time")
    return CsvColumns(*(columns.index(name) for name in CsvColumns._fields))
