"""Requests and responses as values, and how a response is written.

Not here: how requests are read (reader), and what is answered (routes).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import orjson

from online import errors
from online.errors import OnlineError
from online.serve.push import Subscriber

JSON = b"application/json"
PROBLEM = b"application/problem+json"

#: A header: its name and value.
Header = tuple[bytes, bytes]

#: No answer is kept by anybody, and none is guessed to be something else than it says.
_ALWAYS = b"X-Content-Type-Options: nosniff\r\n"
_FRESH: Header = (b"Cache-Control", b"no-store")


@dataclass(slots=True)
class Request:
    """One request, complete. Names of headers are in lower case; `target` begins with a slash, or is `*`."""

    method: str
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    keep_alive: bool = True

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    def query(self) -> dict[str, list[bytes]]:
        """Return the parameters of the query string, each with its values in order."""
        return parse_form(self.target.partition(b"?")[2])


@dataclass(slots=True)
class Response:
    """One response. Content-Length, Date and Connection are added when it is written."""

    status: int = 200
    body: bytes = b""
    type: bytes = b""
    headers: Iterable[Header] = field(default=(_FRESH,))
    closes: bool = False  #: the connection ends with it
    subscriber: Subscriber | None = None  #: the body is only the beginning: what it is told follows, without an end


#: A percent sign that stands for nothing.
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


def parse_form(form: bytes) -> dict[str, list[bytes]]:
    """Split `a=1&b=%FF` into names and the bytes that they stand for. A plus is a space, as in forms.

    Raises RangeError for a percent sign without two digits behind it.
    """
    found: dict[str, list[bytes]] = {}
    for pair in form.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            shown = _unquoted(name).decode(errors="backslashreplace")
            wrong = _NO_ESCAPE.search(pair)
            if wrong is not None:
                raise errors.bad_escape(shown, wrong[0])
            found.setdefault(shown, []).append(_unquoted(value))
    return found


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def write(response: Response, *, date: bytes, keep_alive: bool, head_only: bool = False) -> bytes:
    """Return the bytes of a response. With `head_only` its body is left out, but not its length."""
    status = response.status
    parts = [b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (status, HTTPStatus(status).phrase.encode(), date), _ALWAYS]
    parts += [b"%b: %b\r\n" % header for header in response.headers]
    if response.type:
        parts.append(b"Content-Type: %b\r\n" % response.type)
    if status not in (204, 304) and response.subscriber is None:
        parts.append(b"Content-Length: %d\r\n" % len(response.body))
    parts.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
    if not head_only:
        parts.append(response.body)
    return b"".join(parts)


def json_response(value: object, status: int = 200, headers: Iterable[Header] = (_FRESH,)) -> Response:
    return Response(status, orjson.dumps(value), JSON, headers)


#: What an error of the server is in HTTP.
_STATUS_OF = {
    "ERR": 400,
    "RANGE": 400,
    "NOAUTH": 401,
    "WRONGPASS": 401,
    "NOPERM": 403,
    "FULL": 503,
    "NOSITE": 421,
    "MOVED": 421,
    "LOADING": 503,
    "MISCONF": 503,
    "PROTO": 400,
}


def problem(
    status: int, code: str, detail: str, headers: Iterable[Header] = (), *, closes: bool = False, **members: object
) -> Response:
    """Return an error: `application/problem+json` with a `code` of the protocol."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    told |= {name: value for name, value in members.items() if value is not None}
    more: list[Header] = [_FRESH, *headers]
    if status == 503 and not any(name == b"Retry-After" for name, _ in more):
        more.append((b"Retry-After", b"1"))
    return Response(status, orjson.dumps(told), PROBLEM, more, closes)


def status_of(code: str) -> int:
    """Return the status of an error with this code; 500 for one that no request should get."""
    return _STATUS_OF.get(code, 500)


def problem_of(error: OnlineError) -> Response:
    """Return the response that tells of an error, with the field, limit and value that it is about."""
    status = status_of(error.code)
    headers: list[Header] = [(b"WWW-Authenticate", b'Bearer realm="online"')] if status == 401 else []
    return problem(status, error.code, str(error), headers, field=error.field, limit=error.limit, value=error.value)
