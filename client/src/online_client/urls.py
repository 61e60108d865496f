"""One url for one page, however it was asked for: request targets and decoded paths -> the page's url.

Not its job: which urls are pages (pageviews), and rules of a site's own.

1. One page has one url for all ways in: bytes, decoded where that is printable UTF-8; anything else is `%XX`, in
   capitals. `//`, `.` and `..` are resolved as web servers do.
2. A path that a framework has decoded is never decoded again: `/a%2541` is the page `/a%41` everywhere.
3. Everything is linear in the length.
"""

import re
from typing import NamedTuple

_ABSOLUTE = re.compile(rb"(https?)://([^/?#\\]*+)([^\0]*+)", re.IGNORECASE | re.DOTALL)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

#: Nearly every path: nothing in it is to be escaped, and nothing to be resolved.
_PLAIN = re.compile(rb"(?:/(?!\.{0,2}(?:/|$))[ -.0-~]++)*+/?")

#: The id of a session in the path, where cookies are refused: no part of a page's name, and nobody else's business.
_SESSION = re.compile(rb";jsessionid=[^/;]*+", re.IGNORECASE)

_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class Target(NamedTuple):
    """What a request asks for; `path` is empty if that is no page's."""

    host: bytes  #: in lower case, without the port of its scheme; empty if the target does not tell
    path: bytes  #: as it was sent
    query: bytes  #: without its `?`


def read_target(target: bytes) -> Target:
    """Take a request target apart: `/path?query`, or the absolute form that proxies and caches use.

    A fragment, which browsers keep to themselves and other clients should, is cut.

    >>> read_target(b"HTTP://www.example.com:80/a?x=1#top")
    Target(host=b'www.example.com', path=b'/a', query=b'x=1')
    >>> read_target(b"*").path
    b''
    """
    host = b""
    absolute = None if target.startswith(b"/") else _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        scheme, authority, target = absolute.groups()
        host = normal_host(authority.rpartition(b"@")[2], scheme.lower())
        if not target.startswith(b"/"):
            target = b"/" + target
    if not target.startswith(b"/"):
        return Target(b"", b"", b"")
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return Target(host, path, query)


def normal_host(host: bytes, scheme: bytes = b"") -> bytes:
    """Return the name of a host in its one form: lower case, without the port of its scheme (80 or 443 if not told).

    >>> normal_host(b"WWW.example.com.:443")
    b'www.example.com'
    """
    host = host.lower()
    for port in [_DEFAULT_PORTS[scheme]] if scheme in _DEFAULT_PORTS else _DEFAULT_PORTS.values():
        host = host.removesuffix(port)
    return host.removesuffix(b".")


def page_url(path: bytes) -> bytes:
    """Return the url of the page at a path as it was sent, percent-encoded.

    >>> page_url(b"//forum/./x/../caf%c3%a9%20%E9").decode()
    '/forum/café %E9'
    """
    if b"%" in path:
        path = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), path)
    return decoded_url(path)


def decoded_url(path: bytes) -> bytes:
    """Return the url of the page at a path that was decoded before, as WSGI, ASGI and Django give it.

    >>> decoded_url(b"/a%41"), decoded_url(b"/caf\\xe9")
    (b'/a%41', b'/caf%E9')
    """
    if not path.startswith(b"/"):
        path = b"/" + path
    if _PLAIN.fullmatch(path) is None:
        path = _printable(_resolved(path))
    return _SESSION.sub(b"", path) if b";" in path else path


def _resolved(path: bytes) -> bytes:
    """Resolve `//`, `.` and `..`; what would lead above the root stays there."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    is_folder = segments[-1:] and segments[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(kept) + (b"/" if kept and is_folder else b"")


def _printable(path: bytes) -> bytes:
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return path
    return b"".join(each.encode() if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in character.encode("utf-8", "surrogateescape"))
