"""What the integrations with web frameworks share: which responses are page views, of whom, and the reports of them.

Not its job: any framework (django/, flask.py, asgi.py, wsgi.py), and telling who is online (presence.py).

1. Reporting never waits and never raises: what an application's own function raises is logged.
2. No address leaves the process: a guest is named by a hash, keyed with the application's secret, of what tells
   guests apart. So all processes with the same secret give a guest the same name, and nobody else can find out whose
   it is by trying addresses.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeAlias, TypeVar

from online_client.names import Visitor as Visitor  # the integrations find it here
from online_client.names import named
from online_client.reporter import Reporter
from online_client.verbs import Name, User

#: Where WSGI and ASGI requests find the PageViews that will report them.
KEY = "online.page_views"

GUEST = "guest"
BOT = "bot"

#: (method, status, content type without parameters or "") -> whether this was a page view
PageViewTest: TypeAlias = Callable[[str, int, str], bool]

_METHODS = ("GET", "HEAD", "POST")
_TYPES = ("text/html", "application/xhtml+xml", "")
_NOT_MODIFIED = 304

#: How robots name themselves. Not a brand of telephones, Cubot.
_ROBOT = re.compile("(?<!cu)bot|crawl|spider|slurp", re.IGNORECASE)

R = TypeVar("R")

logger = logging.getLogger(__name__)


def now_ms() -> int:
    """Return the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def is_page_view(method: str, status: int, content_type: str) -> bool:
    """Tell whether a response showed somebody a page: HTML or of unknown type, no error and no redirect."""
    return method in _METHODS and (200 <= status < 300 or status == _NOT_MODIFIED) and content_type in _TYPES


def is_robot(agent: str) -> bool:
    """Tell whether a User-Agent is that of a robot which says so."""
    return _ROBOT.search(agent) is not None


def anonymous(request: object) -> None:
    """Say that everybody is a guest."""


@dataclass(frozen=True)
class Looks(Generic[R]):
    """How to look at the requests of a framework or, where it says so, of an application."""

    user: Callable[[R], Visitor]
    page_url: Callable[[R], Name | None]  #: None: not to be reported
    guest: Callable[[R], str | None]  #: what tells guests apart; None: not to be reported
    agent: Callable[[R], str]  #: the header User-Agent


@dataclass(frozen=True, slots=True)
class PageView:
    user: User
    url: Name
    kind: str


class PageViews(Generic[R]):
    """Reports page views.

    `secret`: names guests, see the invariants. Raises ValueError if it is empty.
    """

    def __init__(
        self, reporter: Reporter, looks: Looks[R], *, secret: str | bytes, is_page_view: PageViewTest = is_page_view
    ) -> None:
        if not secret:
            raise ValueError("secret is empty; it should be long, random, and the same in all processes")
        self.reporter = reporter
        self._looks = looks
        self._is_page_view = is_page_view
        self._key = blake2b(secret.encode() if isinstance(secret, str) else secret, person=b"online guests").digest()

    def report(self, request: R, method: str, status: int, content_type: str, seen_ms: int) -> None:
        """Report the request, which came at `seen_ms`, if its response was a page view.

        Call it when the response has gone. Only the time when it came keeps the requests of a visitor in their order.
        """
        view = self.find(request, method, status, content_type)
        if view is not None:
            self.reporter.hit(view.user, view.url, kind=view.kind, seen_ms=seen_ms)

    def reader(self, request: R) -> PageView | None:
        """Return what there is to report if this request is answered with a page.

        Raises what the application's own functions raise.
        """
        return self._look(request)

    def signed_in(self, request: R) -> None:
        """Take the guest offline whom this request would be without its user: who has signed in is one person."""
        try:
            guest = self._guest(request)
        except Exception:
            logger.exception("a guest who signed in cannot be told")
            return
        if guest is not None:
            self.reporter.leave(guest[0])

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
        visitor = named(self._looks.user(request)) or self._guest(request)
        return None if url is None or visitor is None else PageView(visitor[0], url, visitor[1])

    def _guest(self, request: R) -> tuple[str, str] | None:
        known_by = self._looks.guest(request)
        if known_by is None:
            return None
        kind = BOT if is_robot(self._looks.agent(request)) else GUEST
        name = blake2b(known_by.encode("utf-8", "surrogateescape"), key=self._key, digest_size=8).hexdigest()
        return f"{kind}:{name}", kind


# Requests as CGI, WSGI, Flask and Django describe them.

Environ: TypeAlias = Mapping[str, Any]


def environ_agent(environ: Environ) -> str:
    """The header User-Agent."""
    return str(environ.get("HTTP_USER_AGENT", ""))


def environ_guest(environ: Environ) -> str:
    """What tells guests apart: address and agent."""
    return f"{environ.get('REMOTE_ADDR', '')} {environ_agent(environ)}"


def environ_url(environ: Environ) -> bytes:
    """The path that was asked for, without a query, as the bytes it stands for."""
    return f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}".encode("latin-1")
