"""The middleware for Django: reports page views when their responses have gone. Sync and async; in any place.

It looks at the request only when the response is closed, after the other middleware: so it never makes a response
vary by cookie, and a user who signs in with this request counts. In an async server that is in a thread of its own.
"""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from online_client.django.settings import page_views
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
        return _reported(request, cast(Response, response), seen_ms)


async def _reported_later(request: HttpRequest, response: Awaitable[Response], seen_ms: int) -> Response:
    return _reported(request, await response, seen_ms)


def _reported(request: HttpRequest, response: Response, seen_ms: int) -> Response:
    """Let the response report its page view when it is closed."""
    close = response.close

    def report_and_close() -> None:
        vars(response).pop("close", None)  # or response and function would hold each other until garbage is collected
        content_type = response.get("Content-Type", "")
        page_views().report(request, request.method or "", response.status_code, content_type, seen_ms)
        close()

    response.close = report_and_close  # type: ignore[method-assign]
    return response
