"""Removes what containers, syslog and editors put around a log line.

Not here: parsing lines (formats), and syslog headers (syslogheader).

1. Only lines that no reader understands come here, so ordinary lines cost nothing.
2. Only known prefixes are removed, and only from the beginning. A line with anything else in front is not understood.
"""

import re
from typing import Any

from online.logs.records import Read, Record
from online.logs.syslogheader import without_header

_COLOUR = rb"(?:\x1b\[[\d;]*+m)*+"

_PREFIX = re.compile(
    # The byte order mark of UTF-8, and zeros where a file was truncated while its writer went on.
    rb"(?:\xef\xbb\xbf)++|\0++|[ \t]++"
    # Kubernetes: time, stream, and whether the line is complete.
    rb"|\d{4}-\d\d-\d\dT\S++ (?:stdout|stderr) [FP](?::\S*+)?+ "
    # docker compose logs, docker service logs, kubectl logs --prefix, multilog; the cookie of JSON over syslog.
    rb"|" + _COLOUR + rb"[\w.@/-]++" + _COLOUR + rb" *+" + _COLOUR + rb"\|" + _COLOUR + rb" ?" + _COLOUR +
    rb"|\[[\w./-]++\] |@[0-9a-f]{24} |@cee: *+"
)

#: How many prefixes one line may have: one from compose, a time, a header, and one of its own.
_MAX_PREFIXES = 5

#: JSON keys that hold the line of another log: Docker's json-file, and log shippers.
_WRAPPERS = ("log", "message", "MESSAGE")


def without_prefix(line: bytes) -> bytes:
    """Return a line without its known prefixes, or the line itself if it has none.

    >>> without_prefix(b"web-1  | 2026-11-27T04:20:00.1Z stdout F ::1 - -")
    b'::1 - -'
    """
    for _ in range(_MAX_PREFIXES):
        prefix = _PREFIX.match(line)
        shorter = line[prefix.end() :] if prefix else without_header(line)
        if len(shorter) == len(line):
            break
        line = shorter
    return line


def read_behind(line: bytes, read: Read | None, reason: str) -> Record | str:
    """Parse what follows known prefixes with `read`. Returns `reason` if the line has no prefix."""
    if read is None:
        return reason
    inside = without_prefix(line)
    return reason if len(inside) == len(line) else read(inside)


def wrapped_line(document: dict[str, Any]) -> bytes:
    """Return the log line that a JSON object holds, without its prefixes; empty if it holds none."""
    texts = [text for name in _WRAPPERS if isinstance(text := document.get(name), str)]
    return without_prefix(texts[0].encode("utf-8", "surrogatepass").rstrip(b"\r\n")) if texts else b""
