"""The middleware for Django: reports page views as their responses leave. Sync and async.

It belongs first in MIDDLEWARE: there it sees what really goes out, also what a cache or a conditional answer (304) has
put in its place. Further in it works too, but does not see what those before it answer by themselves.

1. Nothing is put on requests and responses, which others pickle, copy and drop, but the visitor cookie on a response
   that nobody but the server sees any more.
2. It looks at the request after the view and the middleware behind it, so that a user who signs in with this request
   counts; in an async server in Django's thread for that, as looking may ask the database.
3. Looking at the session does not make a response vary by cookie.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from online_client.django.settings import page_views, reports
from online_client.web import now_ms

Response = HttpResponseBase
Respond = Callable[[HttpRequest], Response | Awaitable[Response]]


class OnlineMiddleware:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Respond) -> None:
        page_views()  # what is wrong with the settings is an error when the program starts
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response | Awaitable[Response]:
        seen_ms = now_ms()
        response = self.get_response(request)
        if self._is_async:
            return _reported_later(request, cast(Awaitable[Response], response), seen_ms)
        _report(request, cast(Response, response), seen_ms)
        return response


async def _reported_later(request: HttpRequest, coming: Awaitable[Response], seen_ms: int) -> Response:
    response = await coming
    if page_views().includes(request.method or "", response.status_code, _content_type(response)):
        await sync_to_async(_report)(request, response, seen_ms)
    return response


def _report(request: HttpRequest, response: Response, seen_ms: int) -> None:
    if reports():
        with _unseen_by_the_session(request):
            looked_at = (request, request.method or "", response.status_code, _content_type(response))
            cookie = page_views().cookie(*looked_at, response.get("Cache-Control"))
            if cookie is not None:
                response.cookies.load(cookie)
            page_views().report(*looked_at, seen_ms)


def _content_type(response: Response) -> str:
    return str(response.get("Content-Type", ""))


@contextmanager
def _unseen_by_the_session(request: HttpRequest) -> Iterator[None]:
    """Let the session forget that we looked at it: the response does not depend on what we saw."""
    session = getattr(request, "session", None)
    accessed = getattr(session, "accessed", None)
    yield
    if accessed is False:
        session.accessed = False  # type: ignore[union-attr]
