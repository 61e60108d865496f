"""What Django's settings mean, and what they make: one Presence and one PageViews a process.

    ONLINE_URL          the server's address; without it the variable ONLINE_URL, else online://127.0.0.1:8989/default
    ONLINE_USER         request -> the user, (user, kind), or None for a guest; `signed_in` unless set
    ONLINE_PAGE_URL     request -> the page, None for not to be reported; the path unless set, and
                        None in Django's admin
    ONLINE_GUEST        request -> what tells guests apart, None for not to be reported; address and agent unless set
    ONLINE_TRUST_PROXY  networks of trusted proxies, such as ["10.0.0.0/8"], or "unix"; none unless set
    ONLINE_PROXY_HEADER the header in which they tell for whom they ask: X-Forwarded-For unless set, or Forwarded
    ONLINE_VISITOR_COOKIE   the name of a cookie that tells guests apart who have one address and agent; none unless set

ONLINE_USER, ONLINE_PAGE_URL and ONLINE_GUEST are dotted paths of functions. SECRET_KEY names guests.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

from online_client.presence import Presence
from online_client.proxies import HEADERS, Proxies, read_proxies
from online_client.reporter import Reporter
from online_client.urls import decoded_url
from online_client.verbs import Name
from online_client.web import Looks, PageViews, Visitor, environ_address, environ_header


def signed_in(request: HttpRequest) -> Visitor:
    """Return the name of the user who is signed in, None if nobody is."""
    user = getattr(request, "user", None)
    return user.get_username() if user is not None and user.is_authenticated else None


def path(request: HttpRequest) -> bytes | None:
    """Return the path that was asked for, without a query; None for the pages of Django's admin."""
    match = request.resolver_match
    return None if match is not None and _ADMIN in match.app_names else decoded_url(request.path.encode())


#: The application name of Django's admin, under whatever path it stands.
_ADMIN = "admin"

#: The settings that name functions, and the functions without them.
FUNCTIONS: dict[str, Callable[[HttpRequest], Any] | None] = {
    "ONLINE_USER": signed_in,
    "ONLINE_PAGE_URL": path,
    "ONLINE_GUEST": None,  # address and agent
}


def server_url() -> str | None:
    """Return ONLINE_URL if it is set. Raises TypeError, which names the setting, if it is no text."""
    url: object = getattr(settings, "ONLINE_URL", None)
    if url is not None and not isinstance(url, str):
        raise TypeError(f"ONLINE_URL: it should be text, not {url!r}")
    return url


def function(name: str) -> Callable[[HttpRequest], Any] | None:
    """Return the function that a setting names.

    Raises ImportError if there is none, TypeError if it is no name or no function; both name the setting.
    """
    dotted_path = getattr(settings, name, None)
    if dotted_path is None:
        return FUNCTIONS[name]
    if not isinstance(dotted_path, str):
        raise TypeError(f"{name}: it should be the dotted path of a function, not {dotted_path!r}")
    try:
        found: Callable[[HttpRequest], Any] = import_string(dotted_path)
    except ImportError as error:
        raise ImportError(f"{name}: {error}") from error
    if not callable(found):
        raise TypeError(f"{name} names {found!r}, which cannot be called")
    return found


#: How many tests, one around the other, have set ONLINE_URL.
_urls_set = 0


def proxies() -> Proxies:
    """Return what ONLINE_TRUST_PROXY and ONLINE_PROXY_HEADER say. Raises ValueError, which names the setting."""
    trusted = getattr(settings, "ONLINE_TRUST_PROXY", None)
    return read_proxies(
        trusted, getattr(settings, "ONLINE_PROXY_HEADER", None) or HEADERS[0], name="ONLINE_TRUST_PROXY"
    )


@cache
def presence() -> Presence:
    """Return this process's Presence."""
    return Presence(server_url())


@cache
def page_views() -> PageViews[HttpRequest]:
    """Return this process's PageViews."""
    looks = Looks[HttpRequest](
        user=function("ONLINE_USER") or signed_in,
        page_url=function("ONLINE_PAGE_URL") or path,
        guest=function("ONLINE_GUEST"),
        address=lambda request: environ_address(request.META),
        header=lambda request: environ_header(request.META),
        is_secure=lambda request: request.is_secure(),
    )
    cookie = getattr(settings, "ONLINE_VISITOR_COOKIE", None)
    return PageViews(
        Reporter(server_url()), looks, secret=settings.SECRET_KEY, proxies=proxies(), visitor_cookie=cookie
    )


def page_url(request: HttpRequest) -> Name | None:
    """Return the page that a request is for."""
    url: Name | None = (function("ONLINE_PAGE_URL") or path)(request)
    return url


def reports() -> bool:
    """Tell whether page views are reported: in Django's test environment only to a server that a test has set."""
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return _urls_set > 0 or not hasattr(state, "saved_data")


def forget(*, setting: str, enter: bool = True, **_: object) -> None:
    """Make both anew when a test has changed a setting of theirs; what waits still is dropped."""
    global _urls_set
    if setting == "ONLINE_URL":
        _urls_set += 1 if enter else -1
    if not setting.startswith("ONLINE_") and setting != "SECRET_KEY":
        return
    if presence.cache_info().currsize:
        presence().close()
    if page_views.cache_info().currsize:
        page_views().reporter.close(0)
    presence.cache_clear()
    page_views.cache_clear()
