"""The files of the dashboard: read once, with ETag, gzip and perhaps br, and the headers that keep a page safe.

Not here: what the pages do (pages/), and who may see them (routes).
"""

import gzip
import hashlib
from importlib.resources import files
from typing import NamedTuple

from online.http.messages import Header, Request, Response

try:
    import brotli
except ImportError:  # Python has none of its own
    brotli = None

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

#: Smaller files are not worth packing.
PACK_FROM_BYTES = 512

#: What the tag of a file ends in when it is packed so. The first that a browser takes is sent.
_CODINGS = {b"br": b"-br", b"gzip": b"-gz"}

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
    """A file in all its forms."""

    type: bytes
    plain: bytes
    packed: dict[bytes, bytes]  #: by coding
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
    packed = {}
    if len(plain) >= PACK_FROM_BYTES:
        if brotli is not None:
            packed[b"br"] = brotli.compress(plain)
        packed[b"gzip"] = gzip.compress(plain, 9, mtime=0)
    etag = hashlib.sha256(plain).hexdigest()[:16].encode()
    return File(its_type, plain, packed, etag, ANYWHERE if name == WIDGET else PAGE_HEADERS)


def respond(file: File, request: Request, status: int = 200) -> Response:
    """Return a file, packed for whom that is right, or 304 to whom has it already."""
    accepted = request.headers.get(b"accept-encoding", b"")
    coding = next((each for each in _CODINGS if each in file.packed and _takes(accepted, each)), None)
    etag = b'"%b%b"' % (file.etag, _CODINGS[coding] if coding else b"")
    headers: list[Header] = [
        *file.headers, (b"ETag", etag), (b"Cache-Control", b"no-cache"), (b"Vary", b"Accept-Encoding"),
    ]  # fmt: skip
    if status == 200 and _knows(request.headers.get(b"if-none-match", b""), file.etag):
        return Response(304, headers=headers)
    if coding is None:
        return Response(status, file.plain, file.type, headers)
    headers.append((b"Content-Encoding", coding))
    return Response(status, file.packed[coding], file.type, headers)


def _takes(accepted: bytes, coding: bytes) -> bool:
    """Whether Accept-Encoding names a coding, and not with a weight of 0."""
    for each in accepted.lower().split(b","):
        name, _, weight = each.partition(b";")
        if name.strip() == coding:
            return weight.replace(b" ", b"").removeprefix(b"q=").rstrip(b"0.") != b"" or b"q=" not in weight
    return False


def _knows(tags: bytes, etag: bytes) -> bool:
    """Whether If-None-Match names a file in any of its forms; proxies that pack it themselves make the tag weak."""
    given = [each.strip().removeprefix(b"W/").strip(b'"') for each in tags.split(b",")]
    return given == [b"*"] or any(etag + suffix in given for suffix in (b"", *_CODINGS.values()))
