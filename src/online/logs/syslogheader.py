"""Removes the header of a syslog message, in every form that programs write, so that the log line is left.

Not here: receiving datagrams (syslog), and parsing lines (formats).

1. A header is removed only from the beginning, where no client of a web server can write.
2. If a header has no known form, only the start of the line is guessed: a `{`, or an address followed by two words and
   a `[`. If there is neither, everything after the priority is the message, and readers refuse it.
3. Every pattern is linear, or bounded in words.
"""

import re

_TIME_OF_DAY = rb"\d\d:\d\d:\d\d"
_HOST = rb"(?:[^\s:\[]++|[0-9A-Fa-f]*+:[0-9A-Fa-f]*+:[0-9A-Fa-f:.]*+(?:%\S++)?+)"
#: A program name, with or without a process id: `nginx:`, `nginx[17]:`; or an image: `nginx:latest[1]:`.
_TAG = rb"[^\s:\[{]++(?::[^\s:\[{]++)*+(?:\[[^\]\s]*+\])?+:(?: ++|(?=[{@])|$)"
_COOKIE = rb"(?:@cee: *+)?+"

#: Matches nearly every header.
_HEADER = re.compile(
    rb"<\d{1,3}>(?:"
    # RFC 5424: version, time, host, program, process, message id, structured data.
    rb'1 \S++ \S++ \S++ \S++ \S++ (?:-|(?:\[(?:[^\]"\\]|"(?:[^"\\]|\\.)*+"|\\.)*+\])++) ?(?:\xef\xbb\xbf)?'
    # RFC 3164: time, host (nginx and HAProxy can omit it), program.
    rb"|[A-Z][a-z]{2} [ \d]\d " + _TIME_OF_DAY + rb" (?:" + _HOST + rb" )?+" + _TAG +
    # The same with a time of ISO 8601, as rsyslog and logger write it.
    rb"|\d{4}-\d\d-\d\dT\S++ (?:[^\s\[]++ )?+" + _TAG + rb")" + _COOKIE,
    re.DOTALL,
)

#: How other headers begin: octet count (RFC 6587), priority, version, time. Each may be missing.
_PRIORITY = re.compile(rb"(?:\d{1,6} (?=<))?+<\d{1,3}>(?:\d (?=[\d-]))?+ *+")
_TIME = re.compile(
    rb"(?:[A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?" + _TIME_OF_DAY +
    rb"(?:[.,]\d++)?(?: \d{4}(?= ))?(?: (?:[A-Z]{3,5}|[+-]\d{4})(?= ))?"
    rb"|\d{4}-\d\d-\d\d[T ]" + _TIME_OF_DAY + rb"\S*+):? ++"
)

_ADDRESS = rb"\[?[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]++(?:%[^\s\]]++)?\]?(?::\d++)?"
#: No word is an address followed by `-`: a line begins there, and its user field can hold any words.
_WORDS = rb"(?:(?!" + _ADDRESS + rb' - )[^\s"\[{]++ ++){0,6}?'
_LINE = rb"(?=\{|" + _ADDRESS + rb' [^\s"]++ [^\s"\[]++ \[)'
_LINE_AT_ONCE = re.compile(_COOKIE + _LINE)
_TAGGED = re.compile(_WORDS + _TAG + _COOKIE)
_LINE_LATER = re.compile(_WORDS + _COOKIE + _LINE)


def message_of(datagram: bytes) -> bytes:
    """Return the message of a datagram: what follows the syslog header, if there is one. O(length).

    >>> message_of(b"<190>Nov 22 23:55:00 web1 nginx: ::1 - -")
    b'::1 - -'
    >>> message_of(b"<190>Nov 2 2026 23:55:00.123 UTC web1 web1 nginx: ::1 - -")
    b'::1 - -'
    """
    header = _HEADER.match(datagram)
    if header is not None:
        return datagram[header.end() :].rstrip(b"\n\r\0")
    priority = _PRIORITY.match(datagram)
    return (_behind(datagram, priority.end()) if priority else datagram).rstrip(b"\n\r\0")


def without_header(line: bytes) -> bytes:
    """Return what follows a header in a file. The priority may be missing there, but then not the time."""
    if line.startswith(b"<") or _PRIORITY.match(line):
        return message_of(line)
    return _behind(line, 0) if _TIME.match(line) else line


def _behind(text: bytes, start: int) -> bytes:
    """Find the line after a header. `start` is the end of the header's priority."""
    time = _TIME.match(text, start)
    if time is not None:
        start = time.end()
    found = _LINE_AT_ONCE.match(text, start) or _TAGGED.match(text, start) or _LINE_LATER.match(text, start)
    return text[found.end() if found else start :]
