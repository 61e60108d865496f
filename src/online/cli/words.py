"""Names, errors, numbers and times as the command line shows them."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from online_client import TokenWantedError, WrongTokenError

# Names


def readable(text: str) -> str:
    r"""Return `text` on one line, with escapes for characters that are not printable.

    >>> readable("a\tb\x1b[31m\udcff\u202e")
    'a\\tb\\x1b[31m\\xff\\u202e'
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return ascii(char)[1:-1]


def readable_bytes(name: bytes, width: int) -> str:
    """Return a name on one line of at most `width` characters, with control characters escaped."""
    text = name[: 4 * width].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return cut(shown, width)


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


# Errors

def explained(error: Exception) -> str:
    """Return an error on one line. Errors about tokens say how to give one."""
    if isinstance(error, TokenWantedError):
        way = "set ONLINE_TOKEN, or write it in the address, as in online://:TOKEN@HOST:PORT"
        return f"NOAUTH the server needs a token: {way}"
    if isinstance(error, WrongTokenError):
        return f"{readable(str(error))}: correct ONLINE_TOKEN, or the token in the address, which comes first"
    return readable(str(error))


# Numbers


class Nouns(NamedTuple):
    """What a report calls the things that it counts."""

    hit: str
    user: str
    url: str


#: For page views of people, and for all lines of a log.
VIEWS, LINES = Nouns("page view", "visitor", "page"), Nouns("hit", "user", "url")


def many(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


# Times


def spoken_age(age: timedelta) -> str:
    """Write an age in one or two units.

    >>> [spoken_age(timedelta(seconds=s)) for s in (0, 12.9, 60, 185, 3_600, 8_100, 90_000)]
    ['0 s', '12 s', '1 min', '3 min', '1 h', '2 h 15 min', '1 d 1 h']
    """
    seconds = int(age.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    large, small, units = (*divmod(minutes, 60), ("h", "min"))
    if large >= 24:
        large, small, units = (*divmod(large, 24), ("d", "h"))
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC)


def utc(at_ms: int) -> str:
    return f"{moment(at_ms):%Y-%m-%d %H:%M:%S}"


def iso(at_ms: int) -> str:
    fraction = f".{at_ms % 1000:03}" if at_ms % 1000 else ""
    return f"{moment(at_ms):%Y-%m-%dT%H:%M:%S}{fraction}Z"
