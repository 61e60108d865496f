"""What others write around the line of a log: containers, syslog, editors. It is taken off, so that the line is left.

Not here: the lines themselves (formats), and headers of syslog (syslogheader).

1. Only lines that no reader understands as they are come here, so that ordinary ones cost nothing.
2. Only what is known is taken off, from the beginning alone. Of anything else a reader says that it does not
   understand it.
"""

import re
from typing import Any

from online.logs.records import Read, Record
from online.logs.syslogheader import without_header

_COLOUR = rb"(?:\x1b\[[\d;]*+m)*+"

_PREFIX = re.compile(
    # The mark that a text is UTF-8, and zeros where a file was cut while its writer went on.
    rb"(?:\xef\xbb\xbf)++|\0++|[ \t]++"
    # Kubernetes: time, stream, and whether the line is whole.
    rb"|\d{4}-\d\d-\d\dT\S++ (?:stdout|stderr) [FP](?::\S*+)?+ "
    # docker compose logs, docker service logs, kubectl logs --prefix, multilog; the cookie of JSON over syslog.
    rb"|" + _COLOUR + rb"[\w.@/-]++" + _COLOUR + rb" *+" + _COLOUR + rb"\|" + _COLOUR + rb" ?" + _COLOUR +
    rb"|\[[\w./-]++\] |@[0-9a-f]{24} |@cee: *+"
)

#: So many prefixes stand before one line at most: compose's, a time, a header, and one of the line's own.
_MAX_PREFIXES = 5

#: Where JSON holds the line of another log: of docker's json-file, and of what ships lines.
_WRAPPERS = ("log", "message", "MESSAGE")


def without_prefix(line: bytes) -> bytes:
    """Return a line without what is known to stand before or around lines; the line itself if that is nothing.

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
    """Read what stands behind prefixes by `read`; where there are none, give the reason why the line is no record."""
    if read is None:
        return reason
    inside = without_prefix(line)
    return reason if len(inside) == len(line) else read(inside)


def wrapped_line(document: dict[str, Any]) -> bytes:
    """Return the line of another log that JSON holds, without prefixes of its own; empty if it holds none."""
    texts = [text for name in _WRAPPERS if isinstance(text := document.get(name), str)]
    return without_prefix(texts[0].encode("utf-8", "surrogatepass").rstrip(b"\r\n")) if texts else b""
