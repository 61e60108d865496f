"""Access-log lines -> hits: reads logs, plain or packed, from their first line to their last.

Not here: what a line says (formats), which requests are page views (pages), following a log that still grows
(follow), and what a hit means (index).

1. Memory is bounded, whatever a log holds: a longer line than MAX_LINE_BYTES is never kept whole, and
   a packed file is unpacked piece by piece.
2. A line gives one hit or one reason why not; no line stops the reading, and none is dropped uncounted.
3. A parser is a function from one line, without its newline, to a hit or a reason. It knows no file, so
   every other way in for log lines can use it as it is.
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
from online.logs.formats import FORMATS, AccessLog, CsvColumns, SeparatedValues, reader_of
from online.logs.jsonlines import JsonFields
from online.logs.lines import MAX_LINE_BYTES as MAX_LINE_BYTES
from online.logs.lines import Lines
from online.logs.packing import Damage, Unpackable, unpacked
from online.logs.records import NO_ADDRESS, NO_TIME, Read, one_address
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS

#: So many skipped lines are kept to be shown.
MAX_SAMPLES = 5

_CHUNK_BYTES = 128 * 1024
_MAX_ADDRESSES = 50_000
_MAX_USER_BYTES = Limits.max_user
_MAX_URL_BYTES = Limits.max_url

TOO_LONG = f"it is longer than {MAX_LINE_BYTES:,} bytes"


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


def every_request(read: Read, *, url_prefix: bytes = b"") -> Parse:
    """Make every request a hit, whatever it is of: by the authenticated user, or else by the address.

    `url_prefix` is put before every url.
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


class AccessLogParser:
    """Every request of lines in common or combined format is a hit.

    >>> AccessLogParser().parse(b'::1 - theo [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.0" 200 2326')
    LoggedHit(user=b'theo', url=b'/x', seen_ms=971211336000)
    """

    def __init__(self, *, url_prefix: bytes = b"") -> None:
        self.parse = every_request(AccessLog().read, url_prefix=url_prefix)


class CsvParser:
    """Every line of comma-separated values is a hit.

    >>> CsvParser(CsvColumns(user=0, url=2, time=1)).parse(b"theo,1511658000,/x")
    LoggedHit(user=b'theo', url=b'/x', seen_ms=1511658000000)
    """

    def __init__(self, columns: CsvColumns, *, url_prefix: bytes = b"") -> None:
        self.parse = every_request(SeparatedValues(columns).read, url_prefix=url_prefix)


def checked(user: bytes, url: bytes, seen_ms: int) -> LoggedHit | str:
    """Make a hit of values that an index takes, or tell which of them it would refuse."""
    if not 0 < len(user) <= _MAX_USER_BYTES:
        return f"its user has {len(user):,} bytes, 1 to {_MAX_USER_BYTES:,} are taken"
    if not 0 < len(url) <= _MAX_URL_BYTES:
        return f"its url has {len(url):,} bytes, 1 to {_MAX_URL_BYTES:,} are taken"
    if not SEEN_MIN_MS <= seen_ms <= SEEN_MAX_MS:
        return "its time is before 1973 or after 5138"
    return LoggedHit(user, url, seen_ms)


class LogReader:
    """Reads any number of logs, one after the other, and counts what it met."""

    def __init__(self, parse: Parse | None = None) -> None:
        """`parse` makes a hit of a line; without it, every line in common or combined format is one."""
        self._parse = parse or AccessLogParser().parse
        self.lines = 0  #: read so far, of all logs, the skipped ones too
        self.skipped = 0  #: lines that gave no hit
        self.samples: list[SkippedLine] = []  #: the first MAX_SAMPLES of them
        self.bytes_read = 0  #: of all logs, as they are on the disk; compare `log_bytes`

    def read(self, path: str) -> Iterator[LoggedHit]:
        """Yield the hits of the log at `path`, `-` for standard input; what it is packed with is told by its content.

        Raises LogError if it cannot be read, is empty, or is damaged, then after the hits before the damage.
        """
        log = _named(path)
        before = self.lines
        for line in self.lines_of(path):
            hit = self._parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG
            if isinstance(hit, LoggedHit):
                yield hit
            elif hit != NO_TIME or self.lines > before + 1:  # a first line may be a header
                self._skip(SkippedLine(log, self.lines - before, quote(line), hit))

    def lines_of(self, path: str) -> Iterator[bytes]:
        """Yield the lines of a log, without their newlines; one that is too long is cut, and still too long.

        Raises as `read`.
        """
        log = _named(path)
        before = self.lines
        try:
            with _opened(path) as file:
                for lines in _split(unpacked(self._chunks(file))):
                    for line in lines:
                        self.lines += 1
                        yield line
        except IsADirectoryError:
            raise LogError(f"cannot read {log}: it is a directory, name the logs in it") from None
        except OSError as error:
            raise LogError(f"cannot read {log}: {error.strerror or error}") from error
        except Damage as error:
            raise LogError(f"{log} is damaged after line {self.lines - before}: {error}") from error
        except Unpackable as error:
            raise LogError(f"{log} {error}") from None
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


def _named(path: str) -> str:
    return "standard input" if path == "-" else path


def _opened(path: str) -> AbstractContextManager[BufferedReader]:
    """Open a log; standard input stays open when it has been read."""
    if path == "-":
        return nullcontext(cast(BufferedReader, sys.stdin.buffer))
    return open(path, "rb")


def _split(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield lists of lines without their newlines; a line that is too long is cut, and still too long."""
    lines = Lines()
    for chunk in chunks:
        yield lines.take(chunk)
    yield lines.last()


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell how a log is written."""
    group = parser.add_argument_group("how the logs are written")
    group.add_argument(
        "--format",
        metavar="NAME|FORMAT",
        type=_format,
        default=None,
        help=f"{', '.join(FORMATS)}, or a LogFormat of Apache or log_format of nginx such as"
        " '%%h %%u %%t \"%%r\" %%>s' (default: auto, which reads all named but csv and tsv)",
    )
    group.add_argument(
        "--columns",
        metavar="NAMES",
        type=_columns,
        help="the columns of a CSV log: user, url (or item) and time, the others left empty, such as"
        " user,item,,,time (default: user,url,time); implies --format csv",
    )
    group.add_argument(
        "--fields",
        metavar="NAME=FIELD,...",
        type=_fields,
        help="where JSON lines have what is wanted, such as time=ts,url=req.path|req.url; the names are"
        f" {', '.join(JsonFields._fields)}; implies --format json",
    )
    group.add_argument(
        "--url-prefix",
        metavar="TEXT",
        type=os.fsencode,
        default=b"",
        help="put before every url, such as /item/",
    )


def read_from(args: argparse.Namespace, *, visitor: str = "") -> Read:
    """Make the reader of lines that the options of `add_format_arguments` describe."""
    implied = "csv" if args.columns is not None else "json" if args.fields is not None else "auto"
    return reader_of(args.format or implied, columns=args.columns, fields=args.fields, visitor=visitor)


def reader_from(args: argparse.Namespace) -> LogReader:
    """Make the reader of logs that the options of `add_format_arguments` describe: every request is a hit."""
    return LogReader(every_request(read_from(args), url_prefix=args.url_prefix))


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
            raise argparse.ArgumentTypeError(f"{name!r} is no column, they are user, url (or item) and time")
    return CsvColumns(*(columns.index(name) for name in CsvColumns._fields))


def _fields(text: str) -> JsonFields:
    given = dict(each.partition("=")[::2] for each in text.split(","))
    for name, field in given.items():
        if name not in JsonFields._fields or not field:
            raise argparse.ArgumentTypeError(f"{text!r} takes NAME=FIELD, NAME being one of {JsonFields._fields}")
    return JsonFields(**given)
