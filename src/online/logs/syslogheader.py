"""The header of a syslog message, in every form that programs give it: taken off, so that the line of a log is left.

Not here: receiving datagrams, and what lines say (formats).

1. What is taken off stands at the beginning, where no client of a web server can write.
2. Of a header in no known form nothing is guessed but where the line begins: at `{`, or at an address that is followed
   by two words and a `[`. Else all that follows the priority is the message, which readers refuse.
3. Every pattern is linear, or bounded in words.
"""

import re

_TIME_OF_DAY = rb"\d\d:\d\d:\d\d"
_HOST = rb"(?:[^\s:\[]++|[0-9A-Fa-f]*+:[0-9A-Fa-f]*+:[0-9A-Fa-f:.]*+(?:%\S++)?+)"
#: A program, perhaps with the number of its process: `nginx:`, `nginx[17]:`, and images, `nginx:latest[1]:`.
_TAG = rb"[^\s:\[{]++(?::[^\s:\[{]++)*+(?:\[[^\]\s]*+\])?+:(?: ++|(?=[{@])|$)"
_COOKIE = rb"(?:@cee: *+)?+"

#: Nearly every header.
_HEADER = re.compile(
    rb"<\d{1,3}>(?:"
    # RFC 5424: version, time, host, program, process, message id, structured data.
    rb'1 \S++ \S++ \S++ \S++ \S++ (?:-|(?:\[(?:[^\]"\\]|"(?:[^"\\]|\\.)*+"|\\.)*+\])++) ?(?:\xef\xbb\xbf)?'
    # RFC 3164: time, host (which nginx and HAProxy may leave out), program.
    rb"|[A-Z][a-z]{2} [ \d]\d " + _TIME_OF_DAY + rb" (?:" + _HOST + rb" )?+" + _TAG +
    # The same with a time of ISO 8601, as rsyslog and logger write it.
    rb"|\d{4}-\d\d-\d\dT\S++ (?:[^\s\[]++ )?+" + _TAG + rb")" + _COOKIE,
    re.DOTALL,
)

#: How headers of other forms begin: octets (RFC 6587), priority, version, time; each may be missing.
_PRIORITY = re.compile(rb"(?:\d{1,6} (?=<))?+<\d{1,3}>(?:\d (?=[\d-]))?+ *+")
_TIME = re.compile(
    rb"(?:[A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?" + _TIME_OF_DAY +
    rb"(?:[.,]\d++)?(?: \d{4}(?= ))?(?: (?:[A-Z]{3,5}|[+-]\d{4})(?= ))?"
    rb"|\d{4}-\d\d-\d\d[T ]" + _TIME_OF_DAY + rb"\S*+):? ++"
)

_ADDRESS = rb"\[?[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]++(?:%[^\s\]]++)?\]?(?::\d++)?"
#: No word is an address that a `-` follows: there a line begins, whose user could have any words in it.
_WORDS = rb"(?:(?!" + _ADDRESS + rb' - )[^\s"\[{]++ ++){0,6}?'
_LINE = rb"(?=\{|" + _ADDRESS + rb' [^\s"]++ [^\s"\[]++ \[)'
_LINE_AT_ONCE = re.compile(_COOKIE + _LINE)
_TAGGED = re.compile(_WORDS + _TAG + _COOKIE)
_LINE_LATER = re.compile(_WORDS + _COOKIE + _LINE)


def message_of(datagram: bytes) -> bytes:
    """Return the message of a datagram: what follows the header of syslog, if there is one. O(length).

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
    """Return what follows a header in a file, where the priority may be missing and then the time may not."""
    if line.startswith(b"<") or _PRIORITY.match(line):
        return message_of(line)
    return _behind(line, 0) if _TIME.match(line) else line


def _behind(text: bytes, start: int) -> bytes:
    """Find the line behind a header that begins, after its priority, at `start`."""
    time = _TIME.match(text, start)
    if time is not None:
        start = time.end()
    found = _LINE_AT_ONCE.match(text, start) or _TAGGED.match(text, start) or _LINE_LATER.match(text, start)
    return text[found.end() if found else start :]
