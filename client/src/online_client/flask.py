"""The extension for Flask: reports page views when their responses have gone; functions for templates."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, has_request_context, request, request_finished

from online_client.options import check_functions
from online_client.presence import Presence, Reader
from online_client.proxies import HEADERS, read_proxies
from online_client.replies import Viewer
from online_client.reporter import Reporter
from online_client.verbs import Name
from online_client.web import (
    Looks,
    PageViews,
    PageViewTest,
    Visitor,
    environ_address,
    environ_header,
    environ_is_secure,
    environ_url,
    is_page_view,
    now_ms,
)
from online_client.wsgi import WatchedBody

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Where a request keeps, until its response has gone, how to report it.
_FOUND = "online.page_view"


def current_url() -> bytes:
    """Return the url of the page that was asked for, without a query."""
    return environ_url(request.environ)


class Online:
    """The extension, for one application or, by `init_app`, for several.

    >>> online = Online(app, user=lambda: session.get("user"))    # doctest: +SKIP

    `user()`: the user, `(user, kind)`, or None for a guest; everybody is one unless told otherwise. `page_url()`: the
    page, the path unless told otherwise; None is not reported. `guest()`: what tells guests apart, address and agent
    unless told otherwise; None is not reported. All are called within the request. `is_page_view(method, status,
    content_type)`: see web.py.

    Of the application's configuration it reads ONLINE_URL, the server's address, SECRET_KEY, which names guests,
    ONLINE_TRUST_PROXY, the networks of your proxies (such as `["10.0.0.0/8"]`, or "unix"), and ONLINE_PROXY_HEADER, in
    which they tell for whom they ask (X-Forwarded-For, or Forwarded), and ONLINE_VISITOR_COOKIE, the name of a cookie
    that tells guests apart who have one address and agent (visitors.py).
    Templates have `online_count([url])` and `online_users([url, limit=30, guests=False])`; `app.extensions["online"]`
    has the `presence` and the `page_views` behind them.

    Who signs in was a guest a moment ago: an application that calls `app.extensions["online"].signed_in()`, and
    `signed_out()` before it forgets the user, counts nobody twice.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        user: Callable[[], Visitor] = lambda: None,
        page_url: Callable[[], Name | None] = current_url,
        guest: Callable[[], str | None] | None = None,
        is_page_view: PageViewTest = is_page_view,
    ) -> None:
        check_functions(("guest",), user=user, page_url=page_url, guest=guest, is_page_view=is_page_view)
        self.page_url = page_url
        self._looks = Looks[Request](
            user=lambda _: user(),
            page_url=lambda _: page_url(),
            guest=None if guest is None else lambda _: guest(),
            address=lambda request: environ_address(request.environ),
            header=lambda request: environ_header(request.environ),
            is_secure=lambda request: environ_is_secure(request.environ),
        )
        self._is_page_view = is_page_view
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Report the page views of `app`, and give its templates their functions.

        Raises AddressError for a wrong ONLINE_URL, ValueError for a wrong ONLINE_TRUST_PROXY or ONLINE_VISITOR_COOKIE,
        RuntimeError without a SECRET_KEY.
        """
        if not app.config.get("SECRET_KEY"):
            raise RuntimeError("Online names guests with the application's SECRET_KEY: set it before init_app")
        app.extensions["online"] = _Extension(app, self._looks, self._is_page_view, self.page_url)


class _Extension:
    """What belongs to one application."""

    def __init__(
        self, app: Flask, looks: Looks[Any], is_page_view: PageViewTest, page_url: Callable[[], Name | None]
    ) -> None:
        url = app.config.get("ONLINE_URL")
        self.presence = Presence(url)
        proxies = read_proxies(
            app.config.get("ONLINE_TRUST_PROXY"),
            app.config.get("ONLINE_PROXY_HEADER") or HEADERS[0],
            name="ONLINE_TRUST_PROXY",
        )
        self.page_views = PageViews(
            Reporter(url),
            looks,
            secret=app.config["SECRET_KEY"],
            is_page_view=is_page_view,
            proxies=proxies,
            visitor_cookie=app.config.get("ONLINE_VISITOR_COOKIE"),
        )
        self._page_url = page_url
        # After the session was saved: looking at it then does not make every page vary by cookie.
        request_finished.connect(self._find, app)
        app.wsgi_app = self._wrap(app.wsgi_app)  # type: ignore[assignment]
        app.jinja_env.globals.update(online_count=self.online_count, online_users=self.online_users)

    def online_count(self, url: Name | None = None) -> int | str:
        """People on the site or on a page, "" when it is not known."""
        count = self.presence.count(url, reader=self._reader())
        return "" if count is None else count

    def online_users(self, url: Name | None = None, limit: int = 30, guests: bool = False) -> tuple[Viewer, ...]:
        """The members on a page, this one unless told otherwise, newest first; with `guests` those too."""
        url = self._page_url() if url is None else url
        return () if url is None else self.presence.users(url, limit, guests=guests, reader=self._reader())

    def _reader(self) -> Reader | None:
        """Who the page is made for, None if nobody will be reported."""
        return self.page_views.reader(request) if has_request_context() else None  # none in a letter

    def signed_in(self) -> None:
        """Take the guest offline whom this request would be without its user."""
        self.page_views.signed_in(request)

    def signed_out(self) -> None:
        """Take the user of this request offline. Call it before the user is forgotten."""
        self.page_views.signed_out(request)

    def _find(self, sender: Flask, *, response: Response, **_: object) -> None:
        content_type = response.content_type or ""
        view = self.page_views.find(request, request.method, response.status_code, content_type)
        if view is not None:
            request.environ[_FOUND] = partial(self.page_views.send, view)
            cache_control = response.headers.get("Cache-Control")
            cookie = self.page_views.cookie(
                request, request.method, response.status_code, content_type, cache_control
            )
            if cookie is not None:
                response.headers.add("Set-Cookie", cookie)

    def _wrap(self, wsgi_app: "WSGIApplication") -> "WSGIApplication":
        """Report what was found when the response is closed. (Flask's own `call_on_close` leaves out HEAD and 304.)"""

        def wrapped(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            seen_ms = now_ms()
            body = wsgi_app(environ, start_response)
            return WatchedBody(body, partial(environ[_FOUND], seen_ms=seen_ms)) if _FOUND in environ else body

        return wrapped
