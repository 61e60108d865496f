"""What a line of an access log tells of one request, and what all ways of writing it have in common: times and quotes.

Not here: the ways of writing it (formats, jsonlines, logformat).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from online.errors import quote
from online.terms import SEEN_MIN_MS

NO_TIME = "it has no time"
EMPTY = "it is empty"


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


# Quotes


#: What stands between quotes. A backslash escapes what follows it. Possessive quantifiers (*+) keep matches
#: linear on any line.
INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'

#: The first two words of a request. What follows is free.
METHOD = rb"[-\w]++"
TARGET = rb'[^ "\\]*+(?:\\.[^ "\\]*+)*+'


# Times


_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

#: Parsed days that a reader keeps. Most lines repeat the day of the line before.
MAX_DAYS = 1024

_EPOCH = datetime.fromtimestamp(0, UTC)


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


def no_such_time(time: bytes) -> str:
    return f"there is no such time as {quote(time)}" if re.search(rb"\d", time) else NO_TIME
