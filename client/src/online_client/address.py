"""Where a server is and which of its sites is meant: urls -> Address. Opens nothing but the file of a CA.

    online://[[site]:token@]host[:port][/site]         TCP; hosts may be more than one, as in a:8989,b:8989
    onlines://[[site]:token@]host[:port][/site][?ca=FILE]     TLS; `ca` holds the certificates to trust
    online+unix://[[site]:token@]/path/of/socket[?site=NAME]  a Unix socket

The site may stand in either place and is `default` if it stands in none. Special characters are written as
%XX.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from online_client.errors import AddressError
from online_client.options import check_url

if TYPE_CHECKING:
    import ssl

DEFAULT_PORT = 8989
DEFAULT_SITE = "default"
DEFAULT_URL = f"online://127.0.0.1:{DEFAULT_PORT}/{DEFAULT_SITE}"
URL_VARIABLE = "ONLINE_URL"

_SCHEMES = ("online", "onlines", "online+unix")


@dataclass(frozen=True, slots=True)
class Address:
    """A server and one of its sites. `str()` of it is good for messages: it leaves out the token."""

    host: str = ""  #: empty for a Unix socket
    port: int = DEFAULT_PORT
    path: str = ""  #: of a Unix socket
    site: str = DEFAULT_SITE
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    map: str | None = None  #: how users must be divided among servers; None: however they are
    ca_file: str | None = None  #: None: what the system trusts
    at: str = ""  #: which of the addresses of `host`, where it has several

    def __str__(self) -> str:
        site = quote(self.site, safe="", errors="surrogateescape")
        if self.path:
            return f"online+unix://{quote(self.path, errors='surrogateescape')}?site={site}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"online{'s' * self.tls}://{host}:{self.port}/{site}{f' at {self.at}' if self.at else ''}"

    def tls_context(self) -> "ssl.SSLContext | None":
        """Return what a TLS connection to this address needs, None without TLS. Reads the CA file.

        Raises AddressError if that cannot be read.
        """
        if not self.tls:
            return None
        import ssl  # takes longer than the rest, and spoils subinterpreters of Python 3.12.1

        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise AddressError(f"the CA file {self.ca_file} of {self} cannot be read: {error}") from error


def parse_address(
    url: str | None = None, *, ca_file: str | None = None, environ: Mapping[str, str] = os.environ
) -> Address:
    """Read `url`; without one the variable ONLINE_URL, and without that online://127.0.0.1:8989/default.

    `ca_file` goes before the url's own `ca`. Raises AddressError, naming what cannot be understood and how it
    is written.
    """
    check_url(url)
    url = url or environ.get(URL_VARIABLE) or DEFAULT_URL
    parts = _split(url)
    path, path_site, query = "", "", _query(parts, url)
    if ca_file and parts.scheme != "onlines":
        raise _wrong(url, "has no use for a CA file; did you mean onlines://?")
    if parts.scheme == "online+unix":
        path = _socket_path(parts, url)
    else:
        path_site = _site_in_path(parts, url)
    name, token = _credentials(parts, url)
    return Address(
        host=_host(parts, url),
        port=_port(parts, url),
        path=path,
        site=_one_site([name, path_site, query.get("site", "")], url),
        token=token,
        tls=parts.scheme == "onlines",
        map=query.get("map"),
        ca_file=ca_file or query.get("ca"),
    )


def parse_addresses(
    url: str | None = None, *, ca_file: str | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Address, ...]:
    """Read `url` as `parse_address` does, with one host or several, and return an address for each, in their order.

    >>> [str(each) for each in parse_addresses("online://a,b:8990/shop")]
    ['online://a:8989/shop', 'online://b:8990/shop']
    """
    check_url(url)
    url = url or environ.get(URL_VARIABLE) or DEFAULT_URL
    scheme, slashes, rest = url.partition("://")
    if scheme == "online+unix" or "," not in rest:
        return (parse_address(url, ca_file=ca_file),)
    netloc, slash, path = rest.partition("/")
    before, at, hosts = netloc.rpartition("@")
    urls = [f"{scheme}{slashes}{before}{at}{host}{slash}{path}" for host in hosts.split(",")]
    return tuple(dict.fromkeys(parse_address(each, ca_file=ca_file) for each in urls))


def _wrong(url: str, reason: str) -> AddressError:
    return AddressError(f"the address {_without_token(url)!r} {reason}")


def _without_token(url: str) -> str:
    before, at, after = url.rpartition("@")
    scheme, slashes, _ = before.rpartition("://")
    return f"{scheme}{slashes}...@{after}" if at else url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _wrong(url, f"cannot be understood: {error}") from None
    if "://" not in url:
        raise _wrong(url, f"has no scheme; did you mean online://{_without_token(url).lstrip('/')}?")
    if parts.scheme not in _SCHEMES:
        raise _wrong(url, f"should begin with {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
    if parts.fragment:
        raise _wrong(url, "has a # in it; write %23")
    return parts


def _host(parts: SplitResult, url: str) -> str:
    host = parts.hostname or ""
    if parts.scheme == "online+unix":
        if host:
            raise _wrong(url, f"should have three slashes, online+unix:///{host}{parts.path}")
    elif not host:
        raise _wrong(url, f"names no host, as in {parts.scheme}://127.0.0.1/{DEFAULT_SITE}")
    try:
        host.encode("idna")  # what looks it up does so, and would fail in the midst of a call
    except UnicodeError:
        raise _wrong(url, "names a host that cannot be; its parts have 1 to 63 letters each") from None
    return host


def _port(parts: SplitResult, url: str) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _wrong(url, "should have a port of 1 to 65535")
    return port or DEFAULT_PORT


def _credentials(parts: SplitResult, url: str) -> tuple[str, str | None]:
    """Return the site and the token that stand before the host."""
    if parts.username and not parts.password:
        raise _wrong(url, "has a name but no token before the @; write :TOKEN@ or SITE:TOKEN@")
    name, token = (unquote(each or "", errors="surrogateescape") for each in (parts.username, parts.password))
    return name, token or None


def _site_in_path(parts: SplitResult, url: str) -> str:
    site = parts.path.removeprefix("/").removesuffix("/")
    if "/" in site:
        raise _wrong(url, "should have one name after the host, that of the site")
    return unquote(site, errors="surrogateescape")


def _socket_path(parts: SplitResult, url: str) -> str:
    if parts.path in ("", "/"):
        raise _wrong(url, "names no socket, as in online+unix:///run/online.sock")
    return unquote(parts.path, errors="surrogateescape")


def _query(parts: SplitResult, url: str) -> dict[str, str]:
    known = {"online": ("map",), "onlines": ("map", "ca"), "online+unix": ("site",)}[parts.scheme]
    query = dict(parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape"))
    for key, value in query.items():
        if key not in known:
            raise _wrong(url, f"has ?{key}=, which {parts.scheme}:// does not take")
        if not value:
            raise _wrong(url, f"has nothing after ?{key}=")
    return query


def _one_site(names: list[str], url: str) -> str:
    sites = sorted(set(filter(None, names)))
    if len(sites) > 1:
        raise _wrong(url, f"names two sites, {sites[0]} and {sites[1]}")
    return sites[0] if sites else DEFAULT_SITE
