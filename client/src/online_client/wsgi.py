"""Middleware for WSGI applications: reports page views as their responses leave. Needs no framework."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from online_client.proxies import HEADERS, read_proxies
from online_client.reporter import Reporter
from online_client.verbs import Name
from online_client.web import (
    KEY,
    Looks,
    PageViews,
    PageViewTest,
    Visitor,
    anonymous,
    environ_address,
    environ_header,
    environ_is_secure,
    environ_url,
    is_page_view,
    now_ms,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class OnlineMiddleware:
    """Wraps a WSGI application.

    >>> application = OnlineMiddleware(application, secret="...")    # doctest: +SKIP

    `url`: the server's address, as for `Client`. `secret`: names guests; long, random, the same in all processes.
    `user(environ)`: the user, `(user, kind)`, or None for a guest; everybody is one unless told otherwise.
    `page_url(environ)`: the page, the path unless told otherwise; None is not reported. `guest(environ)`: what tells
    guests apart, address and agent unless told otherwise; None is not reported. `is_page_view(method, status,
    content_type)`: see web.py. `visitor_cookie`: the name of a cookie that tells guests apart who have one address and
    agent (visitors.py); none unless told otherwise.
    `trust_proxy`: the networks of your proxies, such as `["10.0.0.0/8"]`, or "unix", whose `proxy_header`
    (X-Forwarded-For, or Forwarded) tells for whom they ask; `[]` says that you have none, or that the server in front
    of this middleware finds the visitor's address itself.

    Who signs in was a guest a moment ago: an application that says `environ["online.page_views"].signed_in(environ)`,
    and `signed_out` before it forgets the user, counts nobody twice.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        url: str | None = None,
        *,
        secret: str | bytes,
        user: "Callable[[WSGIEnvironment], Visitor]" = anonymous,
        page_url: "Callable[[WSGIEnvironment], Name | None]" = environ_url,
        guest: "Callable[[WSGIEnvironment], str | None] | None" = None,
        is_page_view: PageViewTest = is_page_view,
        trust_proxy: str | Iterable[str] | None = None,
        proxy_header: str = HEADERS[0],
        visitor_cookie: str | None = None,
    ) -> None:
        self.app = app
        looks = Looks(user, page_url, guest, environ_address, environ_header, environ_is_secure)
        proxies = read_proxies(trust_proxy, proxy_header)
        self.page_views = PageViews(
            Reporter(url),
            looks,
            secret=secret,
            is_page_view=is_page_view,
            proxies=proxies,
            visitor_cookie=visitor_cookie,
        )

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        seen_ms = now_ms()
        environ[KEY] = self.page_views
        method, status, content_type = environ["REQUEST_METHOD"], 0, ""

        def start(line: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
            nonlocal status, content_type
            status = int(line.split(maxsplit=1)[0])
            content_type = _header(headers, "content-type")
            cache_control = _header(headers, "cache-control")
            cookie = self.page_views.cookie(environ, method, status, content_type, cache_control)
            if cookie is not None:
                headers = [*headers, ("Set-Cookie", cookie)]
            return start_response(line, headers, *more)

        body = self.app(environ, start)
        if status and not self.page_views.includes(method, status, content_type):
            return body  # as it is, so that the server may send a file in its own way
        return WatchedBody(body, lambda: self.page_views.report(environ, method, status, content_type, seen_ms))


def _header(headers: list[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


class WatchedBody:
    """The body of a response, which tells once that it leaves: with its first chunk, or else when it is closed.

    So a page that streams for ever counts, and so does who hangs up.
    """

    def __init__(self, body: Iterable[bytes], leaves: Callable[[], None]) -> None:
        self._body = body
        self._leaves: Callable[[], None] | None = leaves

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._tell()
            yield chunk

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._tell()

    def _tell(self) -> None:
        leaves, self._leaves = self._leaves, None
        if leaves is not None:
            leaves()
