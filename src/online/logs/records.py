"""What one line of an access log says about a request, and what all formats share: times, addresses and quotes.

Not here: the formats themselves (formats, jsonlines, logformat).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from online.core.usual import UsualRecords
from online.errors import quote
from online.terms import SEEN_MAX_MS, SEEN_MIN_MS
from online_client.addresses import normal_address

NO_TIME = "no time"
BAD_TIME = "the time is before 1973 or after 5138"
NO_USER = "no user and no address"
EMPTY = "empty line"


class Record(NamedTuple):
    """What a line says about one request."""

    seen_ms: int
    address: bytes  #: of the client: an IP address or a host name
    user: bytes  #: the authenticated user, or `-`
    method: bytes
    url: bytes  #: the request target
    status: bytes = b""
    agent: bytes = b""  #: `-` if the client sent none; empty if the line does not say
    host: bytes = b""  #: the host that the client asked for
    visitor: bytes = b""  #: what identifies a visitor, such as a cookie
    forwarded: bytes = b""  #: X-Forwarded-For, or Forwarded
    purpose: bytes = b""  #: why the page is fetched if not to be read, such as `prefetch`
    referrer: bytes = b""  #: the page that linked here; `-` if the client sent none
    kind: bytes = b""  #: of the user, as the line says it; empty or `-` if it does not


#: Turns one line into a record, or returns the reason why it cannot, worded to follow "line 7: ".
Read = Callable[[bytes], Record | str]


class Reader:
    """The reader of a format: a `Read` that has usual lines read by compiled code, with the same result."""

    def __init__(self, read: Read, usual: UsualRecords | None = None) -> None:
        """`read` parses any line; `usual` knows which lines it parses like `read`."""
        self.careful = read
        self.usual = usual

    def __call__(self, line: bytes) -> Record | str:
        return (self.usual and self.usual.read(line)) or self.careful(line)


# Addresses

#: A host name, or what a log has in place of an address. Text with a colon is an address or invalid.
_NAME = re.compile(rb"[^\x00-\x20:<>\[\]{}()|\"'\\,;*?]{1,255}")

NO_ADDRESS = "the address is not an IP address or a host name"


def one_address(address: bytes) -> bytes:
    """Return an IP address in its canonical form without a port, or a host name in lower case.

    Empty if it is neither. `unix:`, which nginx logs for a Unix socket, counts as a name.
    """
    known = normal_address(address.decode("latin-1"))
    if known is not None:
        return known.encode()
    return address.lower() if _NAME.fullmatch(address) or address == b"unix:" else b""


def is_name(user: bytes) -> bool:
    """Return whether `user` is a user name, not words that something has put in front of the line.

    A name may contain spaces. In front of a line, such words are followed by its fields: a `-` or an address.
    """
    words = user.decode("latin-1").split(" ")
    return len(words) == 1 or ("-" not in words and not any(map(normal_address, words)))


# Quotes


#: Text between quotes. A backslash escapes the next character. Possessive quantifiers (*+) keep matching
#: linear on any line.
INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'

#: The first two words of a request line. Anything may follow.
METHOD = rb"[-\w]++"
TARGET = rb'[^ "\\]*+(?:\\.[^ "\\]*+)*+'


# Times


_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

#: How many parsed days a reader caches. Most lines have the same day as the line before.
MAX_DAYS = 1024

_EPOCH = datetime.fromtimestamp(0, UTC)


class Dates:
    """Parses `10/Oct/2000:13:55:36 -0700`. Fast when days repeat."""

    PATTERN = rb"[0-3]\d/[A-Z][a-z]{2}/\d{4}:[0-2]\d:[0-5]\d:[0-6]\d [+-][01]\d[0-5]\d"

    def __init__(self) -> None:
        self._days: dict[bytes, int | None] = {}

    def read(self, date: bytes) -> int | None:
        """Return milliseconds since 1970, or None for a date that does not exist.

        A leap second counts as the first second of the next minute.
        """
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
    """Return when the day `10/Oct/2000-0700` begins, in seconds since 1970; None for an invalid date."""
    try:
        day = datetime(int(key[7:11]), _MONTHS.index(key[3:6]) + 1, int(key[:2]), tzinfo=UTC)
    except ValueError:
        return None
    zone_s = int(key[12:14]) * 3600 + int(key[14:16]) * 60
    return round(day.timestamp()) + (zone_s if key[11:12] == b"-" else -zone_s)


_NUMBER = re.compile(rb"(\d{1,20})(?:\.(\d{0,9}))?")
_DATE = re.compile(rb"(" + Dates.PATTERN[: Dates.PATTERN.index(b" ")] + rb")(?:[.,](\d{1,9}))?( [+-][01]\d[0-5]\d)")
_LEAP = re.compile(r"(\d\d:\d\d):60")
_dates = Dates()


def read_time(time: bytes) -> int | None:
    """Parse a complete time in any common notation. Returns milliseconds since 1970, or None if it is not a time.

    The notations: seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size; ISO 8601,
    also with `/` (UTC unless it has a zone); the date of the common log format; the date of HTTP. A leap second
    counts as the first second of the next minute.
    """
    number = _NUMBER.fullmatch(time)
    if number is not None:
        return _read_number(int(number[1]), number[2] or b"")
    date = _DATE.fullmatch(time)
    if date is not None:
        seen_ms = _dates.read(date[1] + date[3])
        return None if seen_ms is None else seen_ms + _milliseconds(date[2] or b"")
    return _read_moment(time.decode("latin-1"))


def _read_number(number: int, fraction: bytes) -> int:
    if number < SEEN_MIN_MS:
        return number * 1000 + _milliseconds(fraction)
    while number > SEEN_MAX_MS:
        number //= 1000
    return number


def _milliseconds(fraction: bytes) -> int:
    return int(fraction[:3].ljust(3, b"0"))


def _read_moment(text: str) -> int | None:
    """Parse ISO 8601, or an HTTP date."""
    whole = _LEAP.sub(r"\1:59", text, count=1)
    try:
        moment = parsedate_to_datetime(whole) if text[:1].isalpha() else datetime.fromisoformat(_with_dashes(whole))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1) + (1000 if whole != text else 0)


def _with_dashes(text: str) -> str:
    """Turn `2026/11/27 04:20:00`, which Caddy writes, into ISO 8601."""
    return text[:10].replace("/", "-") + text[10:] if text[4:5] == "/" else text


def no_such_time(time: bytes) -> str:
    return f"invalid time: {quote(time)}" if re.search(rb"\d", time) else NO_TIME
