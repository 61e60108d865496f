"""The files of the dashboard: read once, with ETag and gzip, and the headers that keep a page safe.

Not here: what the pages do (pages/), and who may see them (routes).
"""

import gzip
import hashlib
from importlib.resources import files
from typing import NamedTuple

from online.http.messages import Header, Request, Response

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

#: Smaller files are not worth packing.
GZIP_FROM_BYTES = 512

#: Nothing comes from elsewhere, nothing stands inline, nobody frames a page, and forms are sent here alone.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: tuple[Header, ...] = (
    (b"Content-Security-Policy", POLICY),
    (b"Referrer-Policy", b"same-origin"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)


#: Pages of other sites may have the widget.
ANYWHERE: tuple[Header, ...] = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Cross-Origin-Resource-Policy", b"cross-origin"),
)
WIDGET = "online.js"

#: The page that asks for a token, after a wrong one.
LOGIN_AGAIN = "login-again.html"


class File(NamedTuple):
    """A file in both forms."""

    type: bytes
    plain: bytes
    packed: bytes
    etag: bytes
    headers: tuple[Header, ...]


def load() -> dict[str, File]:
    """Read all files, by name."""
    found = {}
    for path in files("online.http").joinpath("pages").iterdir():
        suffix = path.name.rpartition(".")[2]
        if suffix in _TYPES:
            found[path.name] = _file(path.name, _TYPES[suffix], path.read_bytes())
    login = found["login.html"]
    found[LOGIN_AGAIN] = _file(LOGIN_AGAIN, login.type, login.plain.replace(b' role="alert" hidden', b' role="alert"'))
    return found


def _file(name: str, its_type: bytes, plain: bytes) -> File:
    packed = gzip.compress(plain, 9, mtime=0) if len(plain) >= GZIP_FROM_BYTES else b""
    etag = hashlib.sha256(plain).hexdigest()[:16].encode()
    return File(its_type, plain, packed, etag, ANYWHERE if name == WIDGET else PAGE_HEADERS)


def respond(file: File, request: Request, status: int = 200) -> Response:
    """Return a file, packed for whom that is right, or 304 to whom has it already."""
    packed = bool(file.packed) and _takes_gzip(request.headers.get(b"accept-encoding", b""))
    etag = b'"%b%b"' % (file.etag, b"-gz" if packed else b"")
    headers: list[Header] = [
        *file.headers, (b"ETag", etag), (b"Cache-Control", b"no-cache"), (b"Vary", b"Accept-Encoding"),
    ]  # fmt: skip
    if status == 200 and _knows(request.headers.get(b"if-none-match", b""), file.etag):
        return Response(304, headers=headers)
    if packed:
        headers.append((b"Content-Encoding", b"gzip"))
    return Response(status, file.packed if packed else file.plain, file.type, headers)


def _takes_gzip(accepted: bytes) -> bool:
    """Whether Accept-Encoding names gzip, and not with a weight of 0."""
    for each in accepted.lower().split(b","):
        name, _, weight = each.partition(b";")
        if name.strip() == b"gzip":
            return weight.replace(b" ", b"").removeprefix(b"q=").rstrip(b"0.") != b"" or b"q=" not in weight
    return False


def _knows(tags: bytes, etag: bytes) -> bool:
    """Whether If-None-Match names a file in any of its forms; proxies that pack it themselves make the tag weak."""
    given = [each.strip().removeprefix(b"W/").strip(b'"').removesuffix(b"-gz") for each in tags.split(b",")]
    return etag in given or given == [b"*"]
