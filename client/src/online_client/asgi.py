"""Middleware for ASGI applications: reports page views as their responses leave. Needs no framework.

A page view is reported with the start of its response: who hangs up then has seen it, and a page may stream for ever.

Everything but HTTP, so lifespan and websockets, passes through untouched.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from online_client.pageviews import Header
from online_client.proxies import HEADERS, read_proxies
from online_client.questions import Reader
from online_client.reporter import Reporter
from online_client.urls import decoded_url, page_url
from online_client.verbs import Name
from online_client.web import KEY, Looks, PageViews, PageViewTest, Visitor, anonymous, is_page_view, now_ms

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def path(scope: Scope) -> bytes:
    """Return the url of the page that was asked for, without a query."""
    raw = scope.get("raw_path")
    return page_url(bytes(raw)) if raw else decoded_url(str(scope["path"]).encode("utf-8", "surrogateescape"))


def address(scope: Scope) -> str:
    """Return the address of who asked, perhaps of a proxy."""
    client = scope.get("client")
    return str(client[0] or "") if client else ""


def is_secure(scope: Scope) -> bool:
    """Tell whether a request came over TLS."""
    return scope.get("scheme") == "https"


def header(scope: Scope) -> Header:
    """Return what gives the headers of a request by their names; those that came more than once are joined."""
    return lambda name: _header(scope, name.lower().encode())


def reader(scope: Scope) -> Reader | None:
    """Return who the page is being made for, for the `reader` of a Presence; None if nobody will be reported.

    Call it in the request, behind the middleware: what tells the user must be in the scope.
    """
    page_views: PageViews[Scope] | None = scope.get(KEY)
    return None if page_views is None else page_views.reader(scope)


class OnlineMiddleware:
    """Wraps an ASGI application; Starlette's and FastAPI's `add_middleware` take it.

    >>> app.add_middleware(OnlineMiddleware, secret="...")    # doctest: +SKIP

    `url`: the server's address, as for `Client`. `secret`: names guests; long, random, the same in all processes.
    `user(scope)`: the user, `(user, kind)`, or None for a guest; everybody is one unless told otherwise.
    `page_url(scope)`: the page, the path unless told otherwise; None is not reported. `guest(scope)`: what tells
    guests apart, address and agent unless told otherwise; None is not reported. `is_page_view(method, status,
    content_type)`: see web.py. `visitor_cookie`: the name of a cookie that tells guests apart who have one address and
    agent (visitors.py); none unless told otherwise. All functions are called in the event loop when the response
    starts, and see what other middleware has put into the scope by then.
    `trust_proxy`: the networks of your proxies, such as `["10.0.0.0/8"]`, or "unix", whose `proxy_header`
    (X-Forwarded-For, or Forwarded) tells for whom they ask; `[]` says that you have none, or that the server in front
    of this middleware finds the visitor's address itself.

    Who signs in was a guest a moment ago: an application that says `scope["online.page_views"].signed_in(scope)`,
    and `signed_out` before it forgets the user, counts nobody twice.
    """

    def __init__(
        self,
        app: Application,
        url: str | None = None,
        *,
        secret: str | bytes,
        user: Callable[[Scope], Visitor] = anonymous,
        page_url: Callable[[Scope], Name | None] = path,
        guest: Callable[[Scope], str | None] | None = None,
        is_page_view: PageViewTest = is_page_view,
        trust_proxy: str | Iterable[str] | None = None,
        proxy_header: str = HEADERS[0],
        visitor_cookie: str | None = None,
    ) -> None:
        self.app = app
        looks = Looks(user, page_url, guest, address, header, is_secure)
        proxies = read_proxies(trust_proxy, proxy_header)
        self.page_views = PageViews(
            Reporter(url),
            looks,
            secret=secret,
            is_page_view=is_page_view,
            proxies=proxies,
            visitor_cookie=visitor_cookie,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen_ms = now_ms()
        scope[KEY] = self.page_views

        async def send_and_report(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)
                return
            looked_at = (scope, scope["method"], message["status"], _header(message, b"content-type"))
            cookie = self.page_views.cookie(*looked_at, _header(message, b"cache-control"))
            if cookie is not None:
                headers = [*(message.get("headers") or ()), (b"set-cookie", cookie.encode())]
                message = {**message, "headers": headers}
            try:
                await send(message)
            finally:  # a server may raise when the visitor has hung up
                self.page_views.report(*looked_at, seen_ms)

        await self.app(scope, receive, send_and_report)


def _header(headers_of: Scope | Message, wanted: bytes) -> str:
    headers = headers_of.get("headers") or ()
    return ",".join(bytes(value).decode("latin-1") for name, value in headers if bytes(name).lower() == wanted)
