"""Bytes -> requests, sans-I/O: a dialect around llhttp (httptools), with limits.

Not here: sockets and time limits (service), and what requests mean (routes).

llhttp refuses what servers read in different ways, and with which requests are smuggled: both Content-Length and
Transfer-Encoding, Content-Length twice, lines that end without CR or go on in the next, names of headers with spaces.
What it leaves to us: a Transfer-Encoding that is more than `chunked`, and endless extensions of chunks.

1. `receive` never raises. What is wrong becomes a `Refusal`, after the requests before it; nothing after it is read.
2. What is kept of a request that is not complete has a limit: the target, the head, and the body. So has what comes
   between the chunks of a body and is not kept.
3. Requests come out the same whichever way their bytes were cut, but for those whose bodies have between
   MAX_EXTRA_BYTES and twice that and two pieces beside them.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import httptools

from online import errors
from online.http.messages import Request

#: A url of max_url bytes, all percent-encoded, and more than that.
MAX_TARGET_BYTES = 16 * 1024

#: All names and values of headers, with the target.
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100

#: Headers that must not come twice.
ONCE = (b"host", b"origin", b"authorization", b"content-type", b"transfer-encoding")

#: What a chunked body may have beside its bytes and the lengths of its chunks: extensions, and headers behind it. It is
#: counted by pieces, and not in the first and last of a body: so it may be two pieces more. Chunks with short lines
#: save up as much again, and no more.
MAX_EXTRA_BYTES = 8 * 1024
PIECE_BYTES = 4 * 1024

#: The length of a chunk, with the ends of its line and of its bytes.
CHUNK_LINE_BYTES = 20


class Refusal(NamedTuple):
    """Why the bytes of a peer are not read any further."""

    status: int
    detail: str
    field: str | None = None
    limit: int | None = None
    value: int | None = None


class _Refused(Exception):
    """Ends the parser from inside of it."""


class Reader:
    """The requests of one connection. `events` holds those that are complete, oldest first."""

    def __init__(self, max_body_bytes: Callable[[Request], int]) -> None:
        """Begin. `max_body_bytes` says how long the body of a request may be, whose head has come."""
        self.events: deque[Request | Refusal] = deque()
        self.in_message = False  #: a request has begun and is not complete
        self.wants_continue = False  #: the peer waits for `100 Continue` before it sends a body
        self.kept_bytes = 0  #: of the request that is not complete
        self._max_body_bytes = max_body_bytes
        self._limit = 0
        self._is_done = False
        self._refusal: Refusal | None = None
        self._in_head = False
        self._begin()
        self._parser = httptools.HttpRequestParser(self)

    def _begin(self) -> None:
        self._target = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._n_headers = 0
        self._head_bytes = 0
        self._open_bytes = 0
        self._body = bytearray()
        self._request: Request | None = None
        self._extra_bytes = 0
        self.kept_bytes = 0

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. O(bytes)."""
        if self._is_done:
            return
        was_in_head, n_events = self._in_head, len(self.events)
        try:
            for begin in range(0, len(data), PIECE_BYTES):
                if not self._is_done:
                    self._feed(data[begin : begin + PIECE_BYTES])
        except httptools.HttpParserUpgrade:
            self._stop_after_last()  # no other protocol is spoken; what follows might be one
        except httptools.HttpParserInvalidMethodError:
            self._refuse(Refusal(501, "not an HTTP method", "method"))
        except httptools.HttpParserInvalidURLError:
            self._refuse(Refusal(400, "the target has bytes that are to be percent-encoded", "target"))
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or Refusal(400, f"malformed request: {_first_line(error)}"))
        if was_in_head and self._in_head and n_events == len(self.events):
            self._open_bytes += len(data)
            if self._open_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_long(431, "headers", MAX_HEAD_BYTES, self._open_bytes))
        self.kept_bytes = len(self._target) + self._head_bytes + self._open_bytes + len(self._body)

    def _feed(self, piece: bytes) -> None:
        """Parse a piece, and count what is in it beside the bytes of a body that has begun before and goes on."""
        request, body_bytes = self._request, len(self._body)
        self._parser.feed_data(piece)
        if request is None or request is not self._request:
            return
        self._extra_bytes += len(piece) - (len(self._body) - body_bytes)
        self._extra_bytes = max(self._extra_bytes, -MAX_EXTRA_BYTES)
        if self._extra_bytes > MAX_EXTRA_BYTES:
            told = f"a chunked body may have {MAX_EXTRA_BYTES} bytes of extensions"
            self._refuse(Refusal(400, told, "transfer-encoding", MAX_EXTRA_BYTES, self._extra_bytes))

    def _refuse(self, refusal: Refusal) -> None:
        self.wants_continue = self.in_message = self._in_head = False
        last = self.events[-1] if self.events else None
        if not self._is_done and not (isinstance(last, Request) and not last.keep_alive):
            self.events.append(refusal)
        self._is_done = True
        self._begin()

    def _stop_after_last(self) -> None:
        self._is_done = True
        last = self.events[-1] if self.events else None
        if isinstance(last, Request):
            last.keep_alive = False

    def _give_up(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Refused

    # What llhttp finds

    def on_message_begin(self) -> None:
        self._begin()
        self.in_message = self._in_head = True

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > MAX_TARGET_BYTES:
            self._give_up(_too_long(414, "target", MAX_TARGET_BYTES, len(self._target)))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._n_headers += 1
        self._head_bytes += len(name) + len(value)
        if self._n_headers > MAX_HEADERS:
            self._give_up(Refusal(431, f"more than {MAX_HEADERS} headers", "headers", MAX_HEADERS, self._n_headers))
        if self._head_bytes > MAX_HEAD_BYTES:
            self._give_up(_too_long(431, "headers", MAX_HEAD_BYTES, self._head_bytes))
        if self._request is not None:
            return  # a trailer, which nobody needs
        name, value = name.lower(), value.strip(b" \t")
        if name in self._headers:
            if name in ONCE:
                self._give_up(Refusal(400, f"the header {name.decode()} came twice", name.decode()))
            value = self._headers[name] + (b"; " if name == b"cookie" else b", ") + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._give_up(Refusal(505, f"only HTTP/1.0 and HTTP/1.1 are spoken here, not {version}"))
        if version == "1.0" and b"transfer-encoding" in self._headers:
            self._give_up(Refusal(400, "HTTP/1.0 has no Transfer-Encoding", "transfer-encoding"))
        if version == "1.1" and b"host" not in self._headers:
            self._give_up(Refusal(400, "HTTP/1.1 needs the header Host", "host"))
        coding = self._headers.get(b"transfer-encoding", b"chunked")
        if coding.lower() != b"chunked":
            told = f"Transfer-Encoding takes chunked alone, not {errors.quote(coding)}"
            self._give_up(Refusal(501, told, "transfer-encoding"))
        method = self._parser.get_method().decode()
        request = Request(method, self._origin_form(method), self._headers)
        request.keep_alive = self._parser.should_keep_alive()
        self._limit = self._max_body_bytes(request)
        length = int(self._headers.get(b"content-length", b"0"))
        if length > self._limit:
            self._give_up(Refusal(413, f"a body has at most {self._limit} bytes here", "body", self._limit, length))
        expected = self._headers.get(b"expect", b"").lower()
        if expected not in (b"", b"100-continue"):
            self._give_up(Refusal(417, "Expect takes 100-continue alone", "expect"))
        self._request = request
        self.wants_continue = bool(expected) and version == "1.1"

    def _origin_form(self, method: str) -> bytes:
        """Return the target from its first slash on. A host before it takes the place of Host (RFC 9112, 3.2.2)."""
        target = bytes(self._target).partition(b"#")[0]
        if target.lower().startswith((b"http://", b"https://")):
            rest = target.partition(b"://")[2].partition(b"?")
            self._headers[b"host"], _, path = rest[0].partition(b"/")
            if not self._headers[b"host"]:
                self._give_up(Refusal(400, "the target names no host", "target"))
            target = b"/" + path + rest[1] + rest[2]
        if not target.startswith(b"/") and not (target == b"*" and method == "OPTIONS") and method != "CONNECT":
            self._give_up(Refusal(400, "the target begins with a slash", "target"))
        return target

    def on_chunk_header(self) -> None:
        self._extra_bytes -= CHUNK_LINE_BYTES

    def on_body(self, part: bytes) -> None:
        self.wants_continue = False
        self._body += part
        if len(self._body) > self._limit:
            n_bytes = len(self._body)
            self._give_up(Refusal(413, f"a body has at most {self._limit} bytes here", "body", self._limit, n_bytes))

    def on_message_complete(self) -> None:
        assert self._request is not None
        self._request.body = bytes(self._body)
        self._request.keep_alive = self._request.keep_alive and self._parser.should_keep_alive()
        self.events.append(self._request)
        self.in_message = self.wants_continue = False
        self._begin()


def _too_long(status: int, what: str, limit: int, value: int) -> Refusal:
    return Refusal(status, f"the {what} of a request may have {limit} bytes", what, limit, value)


def _first_line(error: Exception) -> str:
    """Return what llhttp says, as the end of a sentence."""
    said = str(error).splitlines()[0][:100] if str(error) else "no more is known"
    return said if "-" in said.split(" ")[0] else said[:1].lower() + said[1:]
