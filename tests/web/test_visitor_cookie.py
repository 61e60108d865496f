"""The visitor cookie, in all middleware: who gets it, and how it tells guests apart."""

import asyncio
import re
from contextlib import contextmanager

import flask
import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpResponse
from django.test import override_settings
from tests.web import test_django as django_site  # configures Django, once for all tests
from tests.web.test_same_everywhere import HTML, KEY, PROXY, SECRET, Asked, environ_of, guest

from online_client import asgi, wsgi
from online_client.django.middleware import OnlineMiddleware
from online_client.flask import Online
from online_client.guests import visitor_name
from online_client.web import KEY as PAGE_VIEWS

NOBODY = "online://127.0.0.1:1"
PLAIN = [("Content-Type", HTML)]
SET = re.compile(r"visitor=(?P<value>[01][0-9a-f]{32}); (?P<attributes>.*)", re.IGNORECASE)


class Site:
    """Asks an application behind one kind of middleware, and collects what is reported."""

    def __init__(self, way, **options):
        self.reported = []
        self._way = way
        self._options = options

    def visit(self, asked=None, *, cookie=None, headers=PLAIN, secure=False, user=None):
        """Return the header Set-Cookie of the answer, None without one."""
        asked = asked or Asked()
        if cookie is not None:
            asked = asked._replace(headers={**asked.headers, "Cookie": f"a=b; visitor={cookie}"})
        return self._way(self, asked, headers, secure, user)

    @property
    def options(self):
        return {"visitor_cookie": "visitor", "trust_proxy": [PROXY], **self._options}

    def watch(self, page_views):
        reporter = page_views.reporter
        reporter.hit = lambda user, url, kind, **_: self.reported.append(("hit", user, kind))
        reporter.leave = lambda user, **_: self.reported.append(("leave", user))
        return page_views


def by_wsgi(site, asked, headers, secure, user):
    answered = {}

    def app(environ, start_response):
        start_response(f"{asked.status} -", headers)
        return [b"page"]

    app = wsgi.OnlineMiddleware(app, NOBODY, secret=SECRET, user=lambda environ: user, **site.options)
    site.watch(app.page_views)
    environ = environ_of(asked) | {"wsgi.url_scheme": "https" if secure else "http"}
    body = app(environ, lambda line, sent: answered.update(sent))
    list(body)
    return answered.get("Set-Cookie")


def by_asgi(site, asked, headers, secure, user):
    answered = {}

    async def app(scope, receive, send):
        sent = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": asked.status, "headers": sent})
        await send({"type": "http.response.body", "body": b"page"})

    async def receive_answer(message):
        answered.update(message.get("headers", ()))

    app = asgi.OnlineMiddleware(app, NOBODY, secret=SECRET, user=lambda scope: user, **site.options)
    site.watch(app.page_views)
    given = dict(asked.headers) | ({} if asked.agent is None else {"User-Agent": asked.agent})
    scope = {
        "type": "http", "method": asked.method, "path": asked.target, "client": (asked.address, 4711),
        "scheme": "https" if secure else "http",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(app(scope, None, receive_answer))
    found = answered.get(b"set-cookie")
    return found and found.decode()


def by_flask(site, asked, headers, secure, user):
    app = flask.Flask(__name__, static_folder=None)
    app.config.update(SECRET_KEY=SECRET, ONLINE_URL=NOBODY)
    app.config.update({f"ONLINE_{name.upper()}": value for name, value in site.options.items()})
    Online(app, user=lambda: user)
    app.before_request(lambda: flask.Response("page", asked.status, headers))
    site.watch(app.extensions["online"].page_views)
    answered = {}
    environ = environ_of(asked) | {"wsgi.url_scheme": "https" if secure else "http"}
    body = app(environ, lambda line, sent, *_: answered.update(sent))
    list(body)
    body.close()
    return answered.get("Set-Cookie")


def by_django(site, asked, headers, secure, user):
    def answer(request):
        return HttpResponse("page", status=asked.status, headers=dict(headers))

    request = WSGIRequest(environ_of(asked) | {"wsgi.url_scheme": "https" if secure else "http"})
    request.test_user = user
    named = {f"ONLINE_{name.upper()}": value for name, value in site.options.items()}
    with override_settings(ONLINE_URL=NOBODY, ONLINE_USER=f"{__name__}.user_of", **named):
        site.watch(django_site.page_views())
        response = OnlineMiddleware(answer)(request)
    morsel = response.cookies.get("visitor")
    return morsel and morsel.OutputString()


def user_of(request):
    return request.test_user


WAYS = [by_wsgi, by_asgi, by_flask, by_django]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def site(request):
    return Site(request.param)


def value_of(header):
    return SET.fullmatch(header)["value"]


def by_cookie(value):
    return visitor_name(KEY, value[1:].encode()).decode()


def test_a_guest_is_given_a_cookie_that_is_random_short_lived_and_out_of_reach_of_scripts(site):
    first, second = site.visit(), site.visit()
    assert value_of(first)[0] == value_of(second)[0] == "0"
    assert value_of(first) != value_of(second)
    attributes = sorted(SET.fullmatch(first)["attributes"].lower().split("; "))
    assert attributes == ["httponly", "max-age=86400", "path=/", "samesite=lax"]
    assert site.reported == 2 * [("hit", *guest())]  # who refuses cookies stays one guest


def test_it_is_secure_where_the_page_went_over_tls(site):
    assert site.visit(secure=True).endswith("Secure")
    behind = Asked(address="10.0.0.1", headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
    assert site.visit(behind).endswith("Secure")
    assert "Secure" not in site.visit(behind._replace(address="192.0.2.7"))  # no trusted proxy says so


def test_who_comes_back_with_it_is_another_guest_and_no_longer_the_first_one(site):
    given = value_of(site.visit())
    confirmed = value_of(site.visit(cookie=given))
    assert confirmed == "1" + given[1:]
    assert site.visit(cookie=confirmed) is None
    named = ("hit", by_cookie(given), "guest")
    assert site.reported == [("hit", *guest()), ("leave", guest()[0]), named, named]


def test_it_tells_guests_apart_who_have_one_address_and_one_browser(site):
    for cookie in ("1" + 32 * "a", "1" + 32 * "b"):
        site.visit(cookie=cookie)
    assert len({user for _, user, _ in site.reported}) == 2


@pytest.mark.parametrize("forged", ["", "x", "2" + 32 * "a", "1" + 31 * "a", "1" + 32 * "A", "1" + 33 * "a"])
def test_what_is_no_such_cookie_is_none(site, forged):
    assert value_of(site.visit(cookie=forged))[0] == "0"
    assert site.reported == [("hit", *guest())]


@pytest.mark.parametrize(
    "what",
    [
        {"user": "ada"},
        {"user": ("ada", "guest")},
        {"asked": Asked(agent="curl/8.5.0")},
        {"asked": Asked(status=404)},
        {"asked": Asked("/style.css")},
        {"asked": Asked(headers={"Sec-Purpose": "prefetch"})},
        {"headers": [("Content-Type", "application/json")]},
        {"headers": [*PLAIN, ("Cache-Control", "public, max-age=60")]},
        {"headers": [*PLAIN, ("Cache-Control", "s-maxage=60")]},
    ],
    ids=["member", "own guest", "bot", "error", "file", "prefetched", "no page", "public", "s-maxage"],
)
def test_others_get_none(site, what):
    assert site.visit(**what) is None


@pytest.mark.parametrize("way", WAYS)
def test_without_the_setting_nobody_gets_one_and_nobody_is_known_by_one(way):
    site = Site(way, visitor_cookie=None)
    assert site.visit(cookie="1" + 32 * "a") is None
    assert site.reported == [("hit", *guest())]


@contextmanager
def one_page_view(cookie):
    """Yield the reports, page views and request of somebody who sends the cookie."""
    site = Site(by_wsgi)
    app = wsgi.OnlineMiddleware(lambda *_: [], NOBODY, secret=SECRET, visitor_cookie="visitor")
    environ = environ_of(Asked(headers={"Cookie": f"visitor={cookie}"})) | {PAGE_VIEWS: site.watch(app.page_views)}
    yield site.reported, app.page_views, environ


def test_the_reader_of_a_page_is_who_is_online_before_its_hit():
    for cookie, who in (("0" + 32 * "a", guest()[0]), ("1" + 32 * "a", by_cookie("1" + 32 * "a"))):
        with one_page_view(cookie) as (_, page_views, environ):
            assert page_views.reader(environ).user == who


def test_who_signs_in_is_none_of_the_guests_any_more():
    with one_page_view("0" + 32 * "a") as (reported, page_views, environ):
        page_views.signed_in(environ)
    assert reported == [("leave", by_cookie("0" + 32 * "a")), ("leave", guest()[0])]


@pytest.mark.parametrize("wrong", ["", "a b", "a;b", "a=b", 7, "x" * 65])
def test_a_wrong_name_is_an_error_at_start(wrong):
    for middleware in (wsgi.OnlineMiddleware, asgi.OnlineMiddleware):
        with pytest.raises(ValueError, match="the visitor cookie should have a name"):
            middleware(None, secret=SECRET, visitor_cookie=wrong)


def test_a_cookie_and_a_function_of_ones_own_exclude_each_other():
    for middleware in (wsgi.OnlineMiddleware, asgi.OnlineMiddleware):
        with pytest.raises(ValueError, match="either the visitor cookie or a function"):
            middleware(None, secret=SECRET, visitor_cookie="visitor", guest=str)


def test_djangos_check_tells_both():
    with (
        override_settings(ONLINE_VISITOR_COOKIE="a b", ONLINE_GUEST=f"{__name__}.user_of"),
        pytest.raises(SystemCheckError) as told,
    ):
        call_command("check")
    assert "ONLINE_VISITOR_COOKIE: the visitor cookie should have a name" in str(told.value)
    assert "ONLINE_VISITOR_COOKIE and ONLINE_GUEST both tell guests apart" in str(told.value)
