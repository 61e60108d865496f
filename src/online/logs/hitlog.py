"""Access logs -> hits: reads whole logs, plain or compressed.

Not here: parsing lines (formats), which requests are page views (pages), following a log that grows (follow), and what
a hit means (index).

1. Memory is bounded, whatever a log contains: lines longer than MAX_LINE_BYTES are cut, and compressed files are
   decompressed in small pieces.
2. Each line gives one hit or one reason. No line stops the reading, and every skipped line is counted.
3. A parser is a function from one line, without its newline, to a hit or a reason. It knows nothing about files, so
   other sources of log lines can use it as it is.
"""

import argparse
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedReader
from typing import NamedTuple, cast

from online.errors import ConfigError, OnlineError, quote
from online.limits import Limits
from online.logs.dumps import read_dumped
from online.logs.formats import FORMATS, AccessLog, CsvColumns, SeparatedValues, reader_of
from online.logs.jsonlines import JsonFields
from online.logs.lines import MAX_LINE_BYTES as MAX_LINE_BYTES
from online.logs.lines import TOO_LONG as TOO_LONG
from online.logs.lines import Lines
from online.logs.packing import Damage, Unpackable, unpacked
from online.logs.records import BAD_TIME, NO_ADDRESS, NO_TIME, Read, no_such_time, one_address, read_time
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

#: How many skipped lines are kept as examples.
MAX_SAMPLES = 5

_CHUNK_BYTES = 128 * 1024
_MAX_ADDRESSES = 50_000
_MAX_USER_BYTES = Limits.max_user
_MAX_URL_BYTES = Limits.max_url


class LoggedHit(NamedTuple):
    """One hit from a log. `seen_ms` is in milliseconds since 1970."""

    user: bytes
    url: bytes
    seen_ms: int


class DumpedHit(NamedTuple):
    """One hit from a dump, which says more. Without a url it is a leave."""

    user: bytes
    url: bytes
    seen_ms: int
    kind: str
    site: bytes  #: empty if the line does not say


#: The same without a class of its own, as it passes between processes.
Hit = tuple[bytes, bytes, int]


class SkippedLine(NamedTuple):
    """A line that gave no hit: its log, its number from 1, its text, quoted and cut, and the reason."""

    log: str
    number: int
    text: str
    reason: str


class LogError(OnlineError):
    """A log cannot be read, is empty, or is damaged. The message names it. Hits yielded before are valid."""


#: Turns one line into a hit, or returns the reason why it cannot, worded to follow "line 7: ".
Parse = Callable[[bytes], LoggedHit | str]


def every_request(read: Read, *, url_prefix: bytes = b"") -> Parse:
    """Return a parser that makes every request a hit. The user is the authenticated user, or else the address.

    `url_prefix` is put in front of every url.
    """

    addresses: dict[bytes, bytes] = {}

    def parse(line: bytes) -> LoggedHit | str:
        record = read(line)
        if isinstance(record, str):
            return record
        seen_ms, address, user, _, url, *_ = record
        if address and user == b"-":
            user = addresses.get(address, b"")
            if not user:
                if len(addresses) >= _MAX_ADDRESSES:
                    addresses.clear()
                user = addresses[address] = one_address(address)
                if not user:
                    return NO_ADDRESS
        return checked(user, url_prefix + url if url else url, seen_ms)

    return parse


def dumped_or(parse: Parse, *, url_prefix: bytes = b"") -> Callable[[bytes], LoggedHit | DumpedHit | str]:
    """Return a parser that also takes lines of a dump, with their kinds, sites and leaves."""

    def parse_either(line: bytes) -> LoggedHit | DumpedHit | str:
        found = read_dumped(line) if line.startswith(b"{") else None
        if found is None:
            return parse(line)
        if isinstance(found, str):
            return found
        seen_ms = read_time(found.time)
        if seen_ms is None:
            return no_such_time(found.time)
        url = b"-" if found.url is None else found.url and url_prefix + found.url
        hit = checked(found.user, url, seen_ms)
        if isinstance(hit, str):
            return hit
        return DumpedHit(found.user, b"" if found.url is None else url, seen_ms, found.kind, found.site)

    return parse_either


class AccessLogParser:
    """Makes every line in common or combined format a hit.

    >>> AccessLogParser().parse(b'::1 - theo [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 200 2326')
    LoggedHit(user=b'theo', url=b'/x', seen_ms=971211336000)
    """

    def __init__(self, *, url_prefix: bytes = b"") -> None:
        self.parse = every_request(AccessLog().read, url_prefix=url_prefix)


class CsvParser:
    """Makes every line of comma-separated values a hit.

    >>> CsvParser(CsvColumns(user=0, url=2, time=1)).parse(b"theo,1511658000,/x")
    LoggedHit(user=b'theo', url=b'/x', seen_ms=1511658000000)
    """

    def __init__(self, columns: CsvColumns, *, url_prefix: bytes = b"") -> None:
        self.parse = every_request(SeparatedValues(columns).read, url_prefix=url_prefix)


def checked(user: bytes, url: bytes, seen_ms: int) -> LoggedHit | str:
    """Return a hit if an index would accept these values, or else the reason why not."""
    if not 0 < len(user) <= _MAX_USER_BYTES:
        return f"the user has {len(user):,} bytes, the limit is {_MAX_USER_BYTES:,}" if user else "the user is empty"
    if not 0 < len(url) <= _MAX_URL_BYTES:
        return f"the url has {len(url):,} bytes, the limit is {_MAX_URL_BYTES:,}" if url else "the url is empty"
    if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
        return BAD_TIME
    return LoggedHit(user, url, seen_ms)


class LogReader:
    """Reads any number of logs, one after another, and counts lines."""

    def __init__(self, parse: Callable[[bytes], LoggedHit | DumpedHit | str] | None = None) -> None:
        """`parse` turns a line into a hit. The default takes every line in common or combined format."""
        self._parse = parse or AccessLogParser().parse
        self.lines = 0  #: read so far from all logs, including skipped lines
        self.skipped = 0  #: lines that gave no hit
        self.samples: list[SkippedLine] = []  #: the first MAX_SAMPLES skipped lines
        self.bytes_read = 0  #: from all logs, as stored on disk; compare `log_bytes`

    def read(self, path: str) -> Iterator[LoggedHit | DumpedHit]:
        """Yield the hits of the log at `path`; `-` is standard input. Compression is recognised by content.

        Raises LogError if the log cannot be read, is empty, or is damaged, after the hits before the damage.
        """
        log = _named(path)
        for number, line in enumerate(self.lines_of(path), 1):
            hit = self._parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            if not isinstance(hit, str):
                yield hit
            elif hit != NO_TIME or number > 1:  # a first line may be a header
                self._skip(SkippedLine(log, number, quote(line), hit))

    def lines_of(self, path: str) -> Iterator[bytes]:
        """Yield the lines of a log without their newlines. Lines that are too long are cut just above the limit.

        Raises LogError as `read` does.
        """
        for lines in self.blocks_of(path):
            yield from lines

    def blocks_of(self, path: str) -> Iterator[list[bytes]]:
        """Yield the lines of a log as `lines_of` does, some at a time, and never none."""
        log = _named(path)
        before = self.lines
        try:
            with _opened(path) as file:
                for lines in _split(unpacked(self._chunks(file))):
                    if lines:
                        self.lines += len(lines)
                        yield lines
        except IsADirectoryError:
            raise LogError(f"cannot read {log}: it is a directory; name the files in it") from None
        except OSError as error:
            raise LogError(f"cannot read {log}: {error.strerror or error}") from error
        except Damage as error:
            raise LogError(f"{log} is damaged after line {self.lines - before}: {error}") from error
        except Unpackable as error:
            raise LogError(f"{log} {error}") from None
        if self.lines == before:
            raise LogError(f"{log} is empty")

    def _chunks(self, file: BufferedReader) -> Iterator[bytes]:
        # read1 returns what a pipe has; read would wait for the full size.
        while chunk := file.read1(_CHUNK_BYTES):
            self.bytes_read += len(chunk)
            yield chunk

    def _skip(self, line: SkippedLine) -> None:
        self.skipped += 1
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(line)


def log_bytes(paths: Iterable[str]) -> int | None:
    """Return the total size of logs, comparable to `LogReader.bytes_read`; None if a size is unknown."""
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


def _named(path: str) -> str:
    return "standard input" if path == "-" else path


def _opened(path: str) -> AbstractContextManager[BufferedReader]:
    """Open a log. Standard input stays open after reading."""
    if path == "-":
        return nullcontext(cast(BufferedReader, sys.stdin.buffer))
    return open(path, "rb")


def _split(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield lists of lines without their newlines. Lines that are too long are cut just above the limit."""
    lines = Lines()
    for chunk in chunks:
        yield lines.take(chunk)
    yield lines.last()


#: The options that say how lines are read.
READ_BY = ("format", "columns", "fields", "url_prefix")


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the format of logs."""
    group = parser.add_argument_group("log format")
    group.add_argument(
        "--format",
        metavar="NAME|FORMAT",
        type=_format,
        default=None,
        help=f"{', '.join(FORMATS)}, or a LogFormat of Apache or log_format of nginx such as"
        " '%%h %%u %%t \"%%r\" %%>s' (default: auto, which recognises all of these except csv and tsv)",
    )
    group.add_argument(
        "--columns",
        metavar="NAMES",
        type=_columns,
        help="the columns of a CSV log: user, url (or item) and time; leave others empty, as in"
        " user,item,,,time (default: user,url,time); implies --format csv",
    )
    group.add_argument(
        "--fields",
        metavar="NAME=FIELD,...",
        type=_fields,
        help="which JSON fields to read, such as time=ts,url=req.path|req.url; the names are"
        f" {', '.join(JsonFields._fields)}; implies --format json",
    )
    group.add_argument(
        "--url-prefix",
        metavar="TEXT",
        type=os.fsencode,
        default=b"",
        help="put TEXT in front of every url, such as /item/",
    )


def read_from(args: argparse.Namespace, *, visitor: str = "") -> Read:
    """Return the reader of lines for the options of `add_format_arguments`."""
    implied = "csv" if args.columns is not None else "json" if args.fields is not None else "auto"
    return reader_of(args.format or implied, columns=args.columns, fields=args.fields, visitor=visitor)


def reader_from(args: argparse.Namespace) -> LogReader:
    """Return a reader of logs, and of dumps, for the options of `add_format_arguments`. Every request is a hit."""
    parse = every_request(read_from(args), url_prefix=args.url_prefix)
    may_be_dumps = args.format in (None, "auto", "json") and args.columns is None and args.fields is None
    return LogReader(dumped_or(parse, url_prefix=args.url_prefix) if may_be_dumps else parse)


def _format(name: str) -> str:
    try:
        reader_of(name)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def _columns(names: str) -> CsvColumns:
    columns = ["url" if name.strip() == "item" else name.strip() for name in names.split(",")]
    for name in CsvColumns._fields:
        if columns.count(name) != 1:
            raise argparse.ArgumentTypeError(f"{names!r} must name user, url (or item) and time, each once")
    for name in columns:
        if name and name not in CsvColumns._fields:
            raise argparse.ArgumentTypeError(f"unknown column {name!r}; the columns are user, url (or item) and time")
    return CsvColumns(*(columns.index(name) for name in CsvColumns._fields))


def _fields(text: str) -> JsonFields:
    given = dict(each.partition("=")[::2] for each in text.split(","))
    for name, field in given.items():
        if name not in JsonFields._fields or not field:
            names = ", ".join(JsonFields._fields)
            raise argparse.ArgumentTypeError(f"takes NAME=FIELD,..., not {text!r}; the names are {names}")
    return JsonFields(**given)
