"""What the integrations with web frameworks share: which responses are page views, of whom, and the reports of them.

Not its job: any framework (django/, flask.py, asgi.py, wsgi.py), and telling who is online (presence.py).

1. Reporting never waits and never raises: what an application's own function raises is logged.
2. No address leaves the process: guests and bots are named by hashes, keyed with the application's secret (guests).
   So all processes with the same secret give a guest the same name.
3. Which responses are page views, and which agents bots, is told by the modules that tell it for logs (pageviews,
   agents, urls). An application's own `is_page_view` takes the place of these rules, its own `guest` that of address
   and agent, its own `page_url` that of the path.
4. Only an application that asks for it gives guests a cookie, and only with a page view that no shared cache may keep.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from online_client.agents import is_bot
from online_client.guests import bot_name, guest_key, guest_name, visitor_name
from online_client.names import Visitor as Visitor  # the integrations find it here
from online_client.names import named
from online_client.options import check_functions
from online_client.pageviews import Header, is_file, purpose_of, shows_page
from online_client.proxies import HEADERS, Proxies
from online_client.questions import Reader, reader_of
from online_client.reporter import Reporter
from online_client.urls import decoded_url
from online_client.verbs import Name, User
from online_client.visitors import VisitorCookie, is_shared

#: Where WSGI and ASGI requests find the PageViews that will report them.
KEY = "online.page_views"

GUEST = "guest"
BOT = "bot"

#: (method, status, content type without parameters or "") -> whether this was a page view
PageViewTest: TypeAlias = Callable[[str, int, str], bool]

R = TypeVar("R")

logger = logging.getLogger(__name__)


def now_ms() -> int:
    """Return the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def is_page_view(method: str, status: int, content_type: str) -> bool:
    """Tell whether a response shows somebody a page; beside it, the request's url and headers count (PageViews)."""
    return shows_page(method, status, content_type)


_IS_PAGE_VIEW = is_page_view
NO_PROXIES = Proxies()


def anonymous(request: object) -> None:
    """Say that everybody is a guest."""


@dataclass(frozen=True)
class Looks(Generic[R]):
    """How to look at the requests of a framework or, where it says so, of an application."""

    user: Callable[[R], Visitor]
    page_url: Callable[[R], Name | None]  #: None: not to be reported
    guest: Callable[[R], str | None] | None  #: what tells guests apart (None: not to be reported); address and agent
    address: Callable[[R], str]  #: who asked, perhaps a proxy; "" if it is not known
    header: Callable[[R], Header]  #: the request's headers
    is_secure: Callable[[R], bool] = lambda request: False  #: whether it came over TLS


@dataclass(frozen=True, slots=True)
class PageView:
    user: User
    url: Name
    kind: str
    was: str | None = None  #: the guest who this guest was until the visitor cookie came back
    is_named: bool = True  #: whether the application has named the user


class PageViews(Generic[R]):
    """Reports page views.

    `secret`: names guests, see the invariants. `proxies`: who may tell of visitors behind them. `visitor_cookie`: the
    name of a cookie that tells guests apart (visitors); it cannot stand beside an own `guest`. Raises ValueError if
    `secret` is empty, or the cookie is wrong, and TypeError for what is no function or no text.
    """

    def __init__(
        self,
        reporter: Reporter,
        looks: Looks[R],
        *,
        secret: str | bytes,
        is_page_view: PageViewTest = is_page_view,
        proxies: Proxies = NO_PROXIES,
        visitor_cookie: str | None = None,
    ) -> None:
        looked = {"user": looks.user, "page_url": looks.page_url, "guest": looks.guest}
        check_functions(("guest",), **looked, is_page_view=is_page_view)
        if visitor_cookie is not None and looks.guest is not None:
            raise ValueError("either the visitor cookie or a function of your own can tell guests apart, not both")
        self.reporter = reporter
        self._looks = looks
        self._is_page_view = is_page_view
        self._has_own_test = is_page_view is not _IS_PAGE_VIEW
        self._proxies = proxies
        self._cookie = None if visitor_cookie is None else VisitorCookie(visitor_cookie)
        self._key = guest_key(secret)
        self._has_missed_proxy = False

    def report(self, request: R, method: str, status: int, content_type: str, seen_ms: int) -> None:
        """Report the request, which came at `seen_ms`, if its response was a page view.

        Call it when the response has gone. Only the time when it came keeps the requests of a visitor in their order.
        """
        view = self.find(request, method, status, content_type)
        if view is not None:
            self.send(view, seen_ms)

    def send(self, view: PageView, seen_ms: int) -> None:
        """Report a page view that was found."""
        if view.was is not None:
            self.reporter.leave(view.was, seen_ms=seen_ms)
        self.reporter.hit(view.user, view.url, kind=view.kind, seen_ms=seen_ms)

    def cookie(
        self, request: R, method: str, status: int, content_type: str, cache_control: str | None = None
    ) -> str | None:
        """Return the header `Set-Cookie` that a response with these headers is to have, None for none."""
        if self._cookie is None or is_shared(cache_control or ""):
            return None
        visitor = self._cookie.visitor(self._looks.header(request)("Cookie"))
        if visitor is not None and not visitor.is_new:
            return None
        view = self.find(request, method, status, content_type)
        if view is None or view.is_named or view.kind == BOT:
            return None
        return self._cookie.header(visitor, secure=self._is_secure(request))

    def reader(self, request: R, *, passing: tuple[type[Exception], ...] = ()) -> Reader | None:
        """Return who a page is being made for, None if nobody will be reported; by the name that is online now.

        What the application's own functions raise is logged, and means nobody; `passing` means that without a word.
        """
        try:
            view = self._look(request)
        except passing:
            return None
        except Exception:
            logger.exception("the reader of a page cannot be told")
            return None
        return None if view is None else reader_of(view.was or view.user, view.url, view.kind)

    def signed_in(self, request: R) -> None:
        """Take the guest offline whom this request would be without its user: who has signed in is one person."""
        try:
            guest = self._guest(request)
        except Exception:
            logger.exception("a guest who signed in cannot be told")
            return
        if guest is not None:
            for name in filter(None, (guest.user, guest.was)):
                self.reporter.leave(name)

    def signed_out(self, request: R) -> None:
        """Take the user of this request offline. Call it while the request still knows who that is."""
        try:
            visitor = named(self._looks.user(request))
        except Exception:
            logger.exception("a user who signs out cannot be told")
            return
        if visitor is not None:
            self.reporter.leave(visitor[0])

    def find(self, request: R, method: str, status: int, content_type: str) -> PageView | None:
        """Return what there is to report, if anything. For who cannot look at a request when its response has gone."""
        if not self.includes(method, status, content_type):
            return None
        try:
            return self._look(request)
        except Exception:  # of the application's own functions
            logger.exception("a page view cannot be reported")
            return None

    def includes(self, method: str, status: int, content_type: str) -> bool:
        """Tell whether such a response is a page view."""
        try:
            return self._is_page_view(method, status, content_type.partition(";")[0].strip().lower())
        except Exception:
            logger.exception("a response cannot be told from a page view")
            return False

    def _look(self, request: R) -> PageView | None:
        url = self._looks.page_url(request)
        if url is None or (not self._has_own_test and self._is_aside(request, url)):
            return None
        user = named(self._looks.user(request))
        if user is not None:
            return PageView(user[0], url, user[1])
        guest = self._guest(request)
        return None if guest is None else PageView(guest.user, url, guest.kind, guest.was, is_named=False)

    def _is_aside(self, request: R, url: Name) -> bool:
        """Whether a file was asked for, or nobody looks at the page."""
        text = url.decode("latin-1") if isinstance(url, bytes) else str(url)
        return is_file(text.partition("?")[0]) or purpose_of(self._looks.header(request)) != ""

    def _guest(self, request: R) -> "_Guest | None":
        header = self._looks.header(request)
        agent = header("User-Agent") or ""
        asked_by = self._looks.address(request)
        self._notice_proxy(asked_by, header)
        address = self._proxies.client(asked_by, header).encode("utf-8", "surrogateescape")
        known_by = None
        if self._looks.guest is not None:
            own = self._looks.guest(request)
            if own is None:
                return None
            known_by = own.encode("utf-8", "surrogateescape")
        sent = agent.encode("latin-1", "replace")
        if is_bot(agent):
            return _Guest(bot_name(self._key, address or known_by or b"", sent).decode(), BOT)
        if known_by is not None:
            return _Guest(visitor_name(self._key, known_by).decode())
        by_address = guest_name(self._key, address, sent).decode()
        visitor = None if self._cookie is None else self._cookie.visitor(header("Cookie"))
        if visitor is None:
            return _Guest(by_address)
        by_cookie = visitor_name(self._key, visitor.id.encode()).decode()
        return _Guest(by_cookie, was=by_address if visitor.is_new else None)

    def _notice_proxy(self, address: str, header: Header) -> None:
        """Log, once, that a proxy seems to ask which the settings do not name."""
        if self._has_missed_proxy or self._looks.guest is not None or not self._proxies.is_missed(address, header):
            return
        self._has_missed_proxy = True
        logger.warning(
            "a request from %s came with %s, and no proxy is trusted: behind a proxy all guests have its address. "
            "Set trust_proxy (ONLINE_TRUST_PROXY) to the networks of your proxies, or to [] if you have none",
            address or "a Unix socket",
            " or ".join(name for name in HEADERS if header(name)),
        )

    def _is_secure(self, request: R) -> bool:
        """Whether the visitor asked over TLS, perhaps of a trusted proxy."""
        header = self._looks.header(request)
        return self._looks.is_secure(request) or (
            self._proxies.trusts(self._looks.address(request)) and header("X-Forwarded-Proto") == "https"
        )


@dataclass(frozen=True, slots=True)
class _Guest:
    user: str
    kind: str = GUEST
    was: str | None = None  #: as in PageView


# Requests as CGI, WSGI, Flask and Django describe them.

Environ: TypeAlias = Mapping[str, Any]


def environ_header(environ: Environ) -> Header:
    """Return what gives the headers of a request by their names."""
    return lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}")


def environ_address(environ: Environ) -> str:
    """Return the address of who asked, perhaps of a proxy."""
    return str(environ.get("REMOTE_ADDR", ""))


def environ_is_secure(environ: Environ) -> bool:
    """Tell whether a request came over TLS."""
    return environ.get("wsgi.url_scheme") == "https"


def environ_url(environ: Environ) -> bytes:
    """Return the url of the page that was asked for, without a query."""
    return decoded_url(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}".encode("latin-1"))
