"""Who may ask what over HTTP: tokens of scripts, sessions of browsers, and what other sites had a browser send.

Not here: what a token allows (serve/tokens), and what is asked (routes).

1. Without tokens, everybody who can connect may do everything, as on the other port. A page of another site must not be
   one of them: its name may be made to lead here (DNS rebinding), so Host is then to be a name of this server.
2. A browser's session is a cookie that no script can read, that no other site can have sent, and that is signed.
3. A wrong token is answered late, as on the other port, and ends its connection. So an attacker gets one guess per
   connection in that time, and cannot lock out those who have the token. A right one does not wait.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import trio

from online import errors
from online.core.wire import Connection
from online.http.messages import Header, Request, Response, problem
from online.limits import WRONG_TOKEN_DELAY_S
from online.serve.tokens import Grant
from online.serve.verb import Shared

COOKIE = b"online_session"
SESSION_S = 7 * 24 * 3600

#: Methods that change nothing.
SAFE = ("GET", "HEAD", "OPTIONS")


class Visitor(NamedTuple):
    """Who asks. `may_ask` without a grant: no token is wanted."""

    may_ask: bool
    grant: Grant | None = None


NOBODY = Visitor(may_ask=False)
ANYBODY = Visitor(may_ask=True)


class Access:
    """Judges requests by their headers."""

    def __init__(self, shared: Shared, names: Collection[str], key: bytes) -> None:
        """`names` are those of this server, beside addresses and localhost; `key` signs sessions."""
        self._shared = shared
        self._names = {"localhost", *names}
        self._is_own_host = lru_cache(64)(self._names_us)  # nearly all requests name the same host
        self._key = key

    # Where a request comes from

    def misdirected(self, request: Request) -> Response | None:
        """Return what to answer to a request for another host, or None."""
        if self._shared.tokens:
            return None  # a session is good for the host alone that the browser logged in at
        host = request.headers.get(b"host")
        if host is None or self._is_own_host(host) or request.path == b"/healthz":
            return None  # a health check comes by any name, and is told nothing
        told = f"this server does not go by the name {errors.quote(host)}; --http-host NAME makes it known"
        return problem(421, "ERR", told, field="host")

    def _names_us(self, authority: bytes) -> bool:
        host = host_of(authority)
        if not host or host in self._names or host.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def forged(self, request: Request) -> Response | None:
        """Return what to answer to a request that another site had a browser send, or None."""
        if request.method in SAFE:
            return None
        site = request.headers.get(b"sec-fetch-site")
        origin = request.headers.get(b"origin")
        if site is not None:
            is_own = site in (b"same-origin", b"none")
        else:
            is_own = origin is None or self._is_own_origin(request, origin)
        if is_own:
            return None
        shown = errors.quote(origin or b"")
        told = f"Origin {shown} is another site; if it is a name of this one, --http-host NAME makes it known"
        return problem(403, "NOPERM", told, field="origin")

    def _is_own_origin(self, request: Request, origin: bytes) -> bool:
        own = [request.headers.get(name, b"").lower() for name in (b"host", b"x-forwarded-host")]
        parts = urlsplit(origin.decode(errors="replace").lower())
        is_named = parts.netloc.encode() in own or (parts.hostname or "") in self._names - {"localhost"}
        return bool(parts.netloc) and is_named  # "null" is the origin of frames without one

    # Who asks

    async def visitor(self, connection: Connection, request: Request, now_ms: int) -> Visitor | Response:
        """Find out who asks: by a bearer token, or the cookie of a session. Returns a Response for a wrong token."""
        if not self._shared.tokens:
            return ANYBODY
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            return await self.try_token(connection, token.strip(), now_ms)
        grant = self._of_session(request, now_ms)
        return NOBODY if grant is None else Visitor(True, grant)

    async def try_token(self, connection: Connection, token: bytes, now_ms: int) -> Visitor | Response:
        """Look a token up. Returns a Response, late, for a wrong one."""
        grant = self._shared.tokens.find(token)
        if grant is not None:
            return Visitor(True, grant)
        self._shared.connections.reached("wrong_token")
        self._shared.connections.suspected(connection, "a wrong token", now_ms=now_ms)
        await trio.sleep(WRONG_TOKEN_DELAY_S)
        return problem(401, "WRONGPASS", str(errors.wrong_token()), [_challenge()], closes=True)

    # Sessions of browsers

    def cookie(self, request: Request, grant: Grant | None, now_ms: int, *, is_tls: bool) -> Header:
        """Return the header that begins a session, or ends one without a grant."""
        value, age_s = b"", 0
        if grant is not None:
            ends = b"%d" % (now_ms // 1000 + SESSION_S)
            value, age_s = b"%b.%b" % (ends, self._signature(ends, grant)), SESSION_S
        secure = b"; Secure" if is_tls or request.headers.get(b"x-forwarded-proto") == b"https" else b""
        return b"Set-Cookie", b"%b=%b; Max-Age=%d; HttpOnly; SameSite=Strict%b" % (COOKIE, value, age_s, secure)

    def _of_session(self, request: Request, now_ms: int) -> Grant | None:
        """Return the grant of the session of a request, as long as it lasts and its token is good. O(tokens)."""
        for pair in request.headers.get(b"cookie", b"").split(b";"):
            name, _, value = pair.strip().partition(b"=")
            ends, _, signature = value.partition(b".")
            if name != COOKIE or not ends.isdigit() or not now_ms // 1000 < int(ends[:12]):
                continue
            for grant in self._shared.tokens:
                if hmac.compare_digest(self._signature(ends, grant), signature):
                    return grant
        return None

    def _signature(self, ends: bytes, grant: Grant) -> bytes:
        return hmac.digest(self._key, b"%b %b" % (ends, grant.digest), hashlib.sha256).hex().encode()


def token_wanted() -> Response:
    """What to answer to somebody without a token."""
    wanted = "this needs a token: Authorization: Bearer TOKEN, or a browser's login"
    return problem(401, "NOAUTH", wanted, [_challenge()])


def host_of(authority: bytes) -> str:
    """Return the host of a Host header, in lower case and without its port.

    >>> host_of(b"[::1]:8990"), host_of(b"LocalHost")
    ('::1', 'localhost')
    """
    text = authority.decode(errors="replace").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _challenge() -> Header:
    return b"WWW-Authenticate", b'Bearer realm="online"'
