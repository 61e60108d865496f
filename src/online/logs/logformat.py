"""Lines in a custom format -> records: builds a pattern from any LogFormat of Apache or log_format of nginx.

Not here: the formats that have names (formats).
"""

import re

from online.errors import ConfigError, quote
from online.logs.prefixes import read_behind
from online.logs.records import EMPTY, INSIDE, METHOD, TARGET, Dates, Read, Record, is_name, no_such_time, read_time

_HOST = rb"(?:[-\w.*]++|\[[0-9A-Fa-f:.]++\])?+(?::\d++)?"
_ISO = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)"

#: Directive or variable -> its field, and the pattern of its text; None for free text.
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
    **dict.fromkeys(("%{referer}i", "$http_referer"), ("referrer", None)),
    **dict.fromkeys(("%{x-forwarded-for}i", "$http_x_forwarded_for"), ("forwarded", None)),
    **dict.fromkeys(("%{forwarded}i", "$http_forwarded"), ("forwarded", None)),
    **dict.fromkeys(("%{sec-purpose}i", "%{purpose}i", "%{x-purpose}i", "%{x-moz}i"), ("purpose", None)),
    **dict.fromkeys(("$http_sec_purpose", "$http_purpose", "$http_x_purpose", "$http_x_moz"), ("purpose", None)),
    **dict.fromkeys(("%{x-requested-with}i", "$http_x_requested_with"), ("purpose", None)),
    **dict.fromkeys(("%v", "%V", "%{host}i", "$host", "$http_host", "$server_name"), ("host", _HOST)),
    "%%": ("", rb"%"),
}
_PART = re.compile(r"(%[!\d,]*[<>]?(?:\{[^}]*\})?(?:\^t[io]|[A-Za-z%])|\$is_args\$args|\$\w+|\$\{\w+\})")


#: No address begins with these, but a line with a prefix may: control characters, a syslog priority, a byte order mark.
_STRANGE = frozenset(bytes([byte]) for byte in (*range(0x21), *b"<\xef"))

_ANOTHER = "not in the given format"


class LogFormat:
    """Lines in a custom format, written like Apache's LogFormat or nginx' log_format.

    >>> LogFormat('%h %u %{sec}t "%r"').read(b'::1 theo 1511658000 "GET /x HTTP/1.1"').user
    b'theo'
    """

    def __init__(self, text: str, *, visitor: str = "", inside: Read | None = None) -> None:
        """`visitor` is the directive or variable that identifies a visitor, such as `%{session}C`.

        `inside` parses what follows a prefix.

        Raises ConfigError if the format lacks a time, a url, or both a user and an address.
        """
        self._inside = inside
        self._line = re.compile(_line_pattern(text, visitor), re.DOTALL)
        told = self._line.groupindex
        wanted = {"time": ("time",), "url": ("url", "target"), "user or address": ("user", "address", "visitor")}
        for what, ways in wanted.items():
            if not any(way in told for way in ways):
                raise ConfigError(f"the format {quote(text.encode())} has no {what}")

    def read(self, line: bytes) -> Record | str:
        """Parse one line without its newline. Returns a record, or the reason why it is not one. O(length)."""
        match = self._line.fullmatch(line)
        if match is None:
            return read_behind(line, self._inside, _ANOTHER if line.strip() else EMPTY)
        told = match.groupdict(b"")
        if told.get("address", b"")[:1] in _STRANGE or (b" " in told.get("user", b"") and not is_name(told["user"])):
            return read_behind(line, self._inside, _ANOTHER)
        seen_ms = read_time(told["time"])
        if seen_ms is None:
            return no_such_time(told["time"])
        get = told.get
        return Record(
            seen_ms,
            get("address", b""),
            get("user", b"-"),
            get("method") or get("verb", b""),
            (get("url") or get("target") or get("other") or b"-") + get("query", b""),
            get("status", b""),
            b"-" if told.get("agent") == b"" else get("agent", b""),
            get("host", b""),
            get("visitor", b""),
            get("forwarded", b""),
            get("purpose", b""),
            get("referrer", b""),
        )


def _line_pattern(text: str, visitor: str) -> bytes:
    """Build the pattern of a line from text, part, text, part ... text, as `_PART` splits a format."""
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
    return pattern + rb"\s*+"


def _plain_name(part: str) -> str:
    """Return a directive or variable as in `_PARTS`: without conditions, header names in lower case."""
    name = re.sub(r"^%[!\d,]+", "%", part)
    if name.startswith("${"):
        return f"${name[2:-1]}"
    return name.lower() if name.endswith("}i") else name


def _free_text(before: str, after: str) -> bytes:
    """Return the pattern of a part. In quotes it may contain spaces; elsewhere it ends where the text goes on."""
    if before.endswith('"') and after.startswith('"'):
        return INSIDE
    ends = rb'\s"\\' + (re.escape(after[0].encode()) if after else b"")
    # An escaped space does not match: a user before it, which may contain spaces, would be tried with each one.
    return rb"[^" + ends + rb"]*+(?:\\\S[^" + ends + rb"]*+)*+"


def _named_request(told: set[str]) -> bytes:
    """Return the pattern of a whole request line. Fields that the format already has are not captured again."""
    names = [b"(?:" if name in told else b"(?P<%s>" % name.encode() for name in ("verb", "target", "other")]
    told |= {"verb", "target", "other"}
    verb, target, other = names
    request = verb + METHOD + rb") ++" + target + TARGET + rb")(?<! )" + INSIDE
    return rb"(?:" + request + rb"|" + other + INSIDE + rb"))"
