"""One table for logs and all middleware: the same request is the same page view, url, user and kind by every way."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults

import flask
import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import override_settings
from tests.web import test_django as django_site  # configures Django, once for all tests
from tests.websites import FIREFOX

from online.logs.formats import reader_of
from online.logs.pages import Pages
from online.logs.rules import Rules
from online_client import asgi, wsgi
from online_client.addresses import read_network
from online_client.django.middleware import OnlineMiddleware
from online_client.flask import Online
from online_client.guests import bot_name, guest_key, guest_name

SECRET = "s3cret"
KEY = guest_key(SECRET)
PROXY = "10.0.0.0/8"
HTML = "text/html; charset=utf-8"
CUBOT = "Mozilla/5.0 (Linux; CUBOT P60) Chrome/120"  # a telephone
CURL = "curl/8.5.0"


class Asked(NamedTuple):
    target: str = "/forum/1"
    method: str = "GET"
    status: int = 200
    content_type: str = HTML
    agent: str | None = FIREFOX  #: None: none was sent
    address: str = "192.0.2.7"
    headers: Mapping[str, str] = MappingProxyType({})


def guest(address="192.0.2.7", agent=FIREFOX):
    return guest_name(KEY, address.encode(), agent.encode()).decode(), "guest"


def bot(agent, address="192.0.2.7"):
    return bot_name(KEY, address.encode(), agent.encode()).decode(), "bot"


def shown(who=None, url="/forum/1"):
    return (*(who or guest()), url)


def through(forwarded, address="10.0.0.1"):
    return Asked(address=address, headers={"X-Forwarded-For": forwarded})


ROWS = [
    (Asked(), shown()),
    (Asked(method="HEAD"), shown()),
    (Asked(method="POST"), shown()),
    (Asked(method="PUT"), None),
    (Asked(method="OPTIONS"), None),
    *[(Asked(status=status), shown()) for status in (200, 203, 206)],
    (Asked(status=304, content_type=""), shown()),
    *[(Asked(status=status), None) for status in (201, 202, 204, 205, 207, 301, 302, 400, 404, 500, 503)],
    (Asked("/favicon.ico"), None),
    (Asked("/style.css", status=304, content_type=""), None),
    (Asked("/a.css;v=3"), None),
    (Asked("/%66avicon%2Eico"), None),
    (Asked("//forum/./x/../1"), shown()),
    (Asked("/forum/1?page=2"), shown()),
    (Asked("/%66orum/1"), shown()),
    (Asked("/caf%C3%A9"), shown(url="/café")),
    (Asked("/caf%E9"), shown(url="/caf%E9")),
    (Asked("/a%2541"), shown(url="/a%41")),
    (Asked(agent=CURL), shown(bot(CURL))),
    (Asked(agent=None), shown(bot(""))),
    (Asked(agent="kube-probe/1.29"), shown(bot("kube-probe/1.29"))),
    (Asked(agent=f"{FIREFOX} HeadlessChrome/120"), shown(bot(f"{FIREFOX} HeadlessChrome/120"))),
    (Asked(agent=CUBOT), shown(guest(agent=CUBOT))),
    (Asked(address="2001:DB8:0::A"), shown(guest("2001:db8::a"))),
    (Asked(address="::ffff:192.0.2.7"), shown()),
    (through("192.0.2.7"), shown()),
    (through("192.0.2.7:51000"), shown()),
    (through("[2001:db8::9]:443"), shown(guest("2001:db8::9"))),
    (through("6.6.6.6, 192.0.2.7, 10.2.2.2"), shown()),
    (through("192.0.2.7,"), shown()),
    (through("6.6.6.6", address="192.0.2.7"), shown()),
    (through("unknown"), shown(guest("10.0.0.1"))),
    (Asked(headers={"Sec-Purpose": "prefetch;prerender"}), None),
    (Asked(headers={"Purpose": "prefetch"}), None),
    (Asked(headers={"X-Moz": "prefetch"}), None),
]  # fmt: skip

#: Of which logs do not tell: the type of an answer, and the headers that ask for a part of a page.
MIDDLEWARE_ROWS = [
    (Asked(content_type="application/json"), None),
    (Asked(headers={"X-Requested-With": "XMLHttpRequest"}), None),
    (Asked(headers={"X-Requested-With": "org.example.app"}), shown()),
    (Asked(headers={"HX-Request": "true"}), None),
    (Asked(headers={"HX-Request": "true", "HX-Boosted": "true"}), shown()),
]


def environ_of(asked):
    environ = {
        "REQUEST_METHOD": asked.method,
        "PATH_INFO": unquote_to_bytes(asked.target.partition("?")[0]).decode("latin-1"),
        "QUERY_STRING": asked.target.partition("?")[2],
        "REMOTE_ADDR": asked.address,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in asked.headers.items()},
    }
    if asked.agent is not None:
        environ["HTTP_USER_AGENT"] = asked.agent
    setup_testing_defaults(environ)
    return environ


@contextmanager
def reports_of(page_views):
    """Yield the list of what is reported from now on."""
    found = []
    hit, page_views.reporter.hit = page_views.reporter.hit, lambda user, url, kind, **_: found.append((user, kind, url))
    try:
        yield found
    finally:
        page_views.reporter.hit = hit


def one(found):
    assert len(found) <= 1
    return next(((user, kind, url.decode()) for user, kind, url in found), None)


def by_log(asked):
    pages = Pages(reader_of("json"), Rules(trust_proxy=(read_network(PROXY),)), key=KEY)
    purpose = next((value for name, value in asked.headers.items() if name in ("Sec-Purpose", "Purpose", "X-Moz")), "")
    line = {
        "time": 1_709_208_000, "url": asked.target, "method": asked.method, "status": asked.status,
        "agent": asked.agent or "-", "address": asked.address, "purpose": purpose,
        "forwarded": asked.headers.get("X-Forwarded-For", ""),
    }  # fmt: skip
    view = pages.parse(json.dumps(line).encode())
    return None if isinstance(view, str) else (view.user.decode(), view.kind, view.url.decode())


def ask_wsgi(app, asked):
    body = app(environ_of(asked), lambda *_: lambda data: None)
    list(body)
    if hasattr(body, "close"):
        body.close()


def by_wsgi(asked):
    def app(environ, start_response):
        start_response(f"{asked.status} -", [("Content-Type", asked.content_type)] if asked.content_type else [])
        return [b"page"]

    app = wsgi.OnlineMiddleware(app, "online://127.0.0.1:1", secret=SECRET, trust_proxy=[PROXY])
    with reports_of(app.page_views) as found:
        ask_wsgi(app, asked)
    return one(found)


def by_asgi(asked):
    async def app(scope, receive, send):
        headers = [(b"content-type", asked.content_type.encode())] if asked.content_type else []
        await send({"type": "http.response.start", "status": asked.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"page"})

    async def ignore(message):
        pass

    app = asgi.OnlineMiddleware(app, "online://127.0.0.1:1", secret=SECRET, trust_proxy=PROXY)
    path, _, query = asked.target.partition("?")
    given = dict(asked.headers) | ({} if asked.agent is None else {"User-Agent": asked.agent})
    scope = {
        "type": "http", "method": asked.method, "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode(), "query_string": query.encode(), "client": (asked.address, 4711),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    with reports_of(app.page_views) as found:
        asyncio.run(app(scope, None, ignore))
    return one(found)


def by_flask(asked):
    app = flask.Flask(__name__, static_folder=None)
    app.config.update(SECRET_KEY=SECRET, ONLINE_URL="online://127.0.0.1:1", ONLINE_TRUST_PROXY=[PROXY])
    app.url_map.merge_slashes = False
    Online(app)

    @app.before_request
    def answer():
        response = flask.Response("page", asked.status, content_type=asked.content_type or None)
        if not asked.content_type:
            del response.headers["Content-Type"]
        return response

    with reports_of(app.extensions["online"].page_views) as found:
        ask_wsgi(app, asked)
    return one(found)


def by_django(asked):
    def answer(request):
        response = HttpResponse("page", status=asked.status, content_type=asked.content_type or None)
        if not asked.content_type:
            del response["Content-Type"]
        return response

    request = WSGIRequest(environ_of(asked))
    with (
        override_settings(ONLINE_URL="online://127.0.0.1:1", ONLINE_TRUST_PROXY=[PROXY]),
        reports_of(django_site.page_views()) as found,
    ):
        OnlineMiddleware(answer)(request)
    return one(found)


MIDDLEWARE = [by_wsgi, by_asgi, by_flask, by_django]


@pytest.mark.parametrize("way", [by_log, *MIDDLEWARE])
def test_a_request_is_the_same_by_every_way(way):
    assert [way(asked) for asked, _ in ROWS] == [expected for _, expected in ROWS]


@pytest.mark.parametrize("way", MIDDLEWARE)
def test_what_only_middleware_knows_is_the_same_in_all(way):
    assert [way(asked) for asked, _ in MIDDLEWARE_ROWS] == [expected for _, expected in MIDDLEWARE_ROWS]


def test_forwarded_of_rfc_7239_is_read_where_the_setting_names_it_and_only_that():
    behind = {"trust_proxy": PROXY, "proxy_header": "Forwarded"}
    app = wsgi.OnlineMiddleware(lambda *_: [], "online://127.0.0.1:1", secret=SECRET, **behind)
    asked = Asked(address="10.0.0.1", headers={"Forwarded": 'for="[2001:DB8::9]:443"', "X-Forwarded-For": "6.6.6.6"})
    view = app.page_views.find(environ_of(asked), "GET", 200, HTML)
    assert view is not None
    assert view.user == guest("2001:db8::9")[0]


def test_a_proxy_at_a_unix_socket_is_trusted_by_its_word():
    asked = Asked(address="", headers={"X-Forwarded-For": "192.0.2.7"})
    for trusted, expected in (("unix", "192.0.2.7"), ([], "")):
        app = wsgi.OnlineMiddleware(lambda *_: [], "online://127.0.0.1:1", secret=SECRET, trust_proxy=trusted)
        assert app.page_views.find(environ_of(asked), "GET", 200, HTML).user == guest(expected)[0]


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "proxy", ["10.0.0.1/8"], [1], 7])
def test_a_wrong_proxy_is_an_error_at_start(wrong):
    for middleware in (wsgi.OnlineMiddleware, asgi.OnlineMiddleware):
        with pytest.raises(ValueError, match="trust_proxy"):
            middleware(None, secret=SECRET, trust_proxy=wrong)
