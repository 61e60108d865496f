"""The middleware, template tags and checks for Django, in this process and as the guide has them."""

import asyncio
import copy
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import django
import pytest
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, HttpResponseNotModified, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.template import Context, Engine, RequestContext, TemplateSyntaxError
from django.template.backends.django import DjangoTemplates
from django.template.response import SimpleTemplateResponse
from django.test import client as browsers
from django.test import override_settings
from django.urls import include, path
from tests.serving import PATIENCE_S
from tests.websites import FIREFOX, Browser, down_url, follow, website

from online_client import Client, Peak, Seen
from online_client.web import now_ms

MIDDLEWARE = "online_client.django.middleware.OnlineMiddleware"

settings.configure(
    SECRET_KEY="s3cret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "online_client.django"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    MIDDLEWARE=[MIDDLEWARE, f"{__name__}.sign_in"],
    DATABASES={},
)
django.setup()

from online_client.django.middleware import OnlineMiddleware  # noqa: E402
from online_client.django.settings import page_views  # noqa: E402
from online_client.django.templatetags import online  # noqa: E402

ENGINE = Engine(libraries={"online": "online_client.django.templatetags.online"})
ENGINE_OF_DJANGO = DjangoTemplates({"NAME": "django", "DIRS": [], "APP_DIRS": False, "OPTIONS": {}})
TEMPLATE = """{% load online %}{% online_count %} online, {% online_count "/b" as b %}{{ b }} on b;
{%- online_users as users %}{% for viewer in users %} {{ viewer.user }}{% endfor %};
{%- online_users "/b" limit=5 guests=True as users %}{% for viewer in users %} {{ viewer.kind }}{% endfor %}"""
TEMPLATE = TEMPLATE.replace("{%-", "{%").replace("\n", "")


class User:
    """A user as django.contrib.auth knows them; nobody without a name."""

    def __init__(self, name):
        self.name = name
        self.is_authenticated = name is not None

    def get_username(self):
        return self.name

    def save(self, **_):
        """Django keeps the time of the last sign-in."""


def sign_in(get_response):
    """Stands for Django's own authentication: the header X-User names the user."""

    def middleware(request):
        request.user = User(request.headers.get("X-User"))
        return get_response(request)

    return middleware


def shown(request):
    return HttpResponse(ENGINE.from_string(TEMPLATE).render(Context({"request": request})))


async def shown_async(request):
    return HttpResponse("hello")


urlpatterns = [
    path("a", shown),
    path("b", shown),
    path("plain", lambda request: HttpResponse("hello")),
    path("template", lambda request: SimpleTemplateResponse(ENGINE_OF_DJANGO.from_string("hello"))),
    path("who", lambda request: render(request, "online/who.html")),
    path("office/", include(([path("login", shown, name="login")], "admin"))),
    path("async", shown_async),
    path("long", lambda request: StreamingHttpResponse(iter(["a", "b"]))),
    path("data", lambda request: JsonResponse({"a": 1})),
    path("away", lambda request: HttpResponseRedirect("/a")),
    path("unchanged", lambda request: HttpResponseNotModified()),
]


def topic(request):
    return request.get_full_path()


def nobody(request):
    return None


def user_of_session(request):
    return request.session.get("name")


def hidden(request):
    return ("eve", "hidden")


@pytest.fixture
def client(client):
    """Asks the server that the site reports to."""
    with override_settings(ONLINE_URL=str(client.address)):
        yield client


def flush():
    assert page_views().reporter.flush(PATIENCE_S)


def visit(path, user=None, method="GET", **extra):
    headers = {"User-Agent": extra.pop("HTTP_USER_AGENT", FIREFOX)} | ({"X-User": user} if user else {})
    return browsers.Client().generic(method, path, headers=headers, **extra)


def test_pages_show_who_is_online(client):
    client.hits([("theo", "/b"), ("a guest", "/b", None, "guest"), ("<ada>", "/a")])
    assert visit("/a").content.decode() == "4 online, 2 on b; &lt;ada&gt;; guest member"  # with this guest


def who(user=None, **extra):
    """What the ready-made piece of page shows, without its tags."""
    return " ".join(re.sub("<[^>]*>", " ", visit("/who", user, **extra).content.decode()).split())


def test_a_page_counts_and_lists_its_reader_from_the_first_view_on(client):
    for _ in range(3):  # before and after its hit has come, and while answers are fresh
        assert who() == "1 online, 1 guest on this page"
        flush()
    for _ in range(3):
        assert who("ada") == "2 online, 1 member and 1 guest on this page ada, just now"
        flush()
    assert who("theo") == "3 online, 2 members and 1 guest on this page theo, just now ada, just now"
    visit("/b", "ada")
    flush()
    assert who("ada").startswith("3 online, 2 members and 1 guest on this page ada, just now theo")


def test_bots_and_hidden_readers_are_not_listed(client):
    assert who(HTTP_USER_AGENT="Googlebot/2.1") == "0 online, nobody on this page"
    flush()
    with override_settings(ONLINE_USER=f"{__name__}.hidden"):
        assert who() == "0 online, nobody on this page"
        flush()
        client.hit("eve", "/who", kind="hidden")
    with override_settings(ONLINE_USER=f"{__name__}.hidden"):
        assert who() == "1 online, 1 member on this page"


def test_the_piece_of_page_without_a_server():
    with override_settings(ONLINE_URL=down_url()):
        assert who("ada") == "- online, - on this page"


def test_when_a_member_came_is_told_in_words(client):
    client.hit("ada", "/who", seen_ms=now_ms() - 300_500)
    assert who() == "2 online, 1 member and 1 guest on this page ada, 5 minutes ago"


def test_pages_of_the_admin_are_left_out(client):
    visit("/office/login", "ada")
    visit("/office/login")
    assert page_views().reporter.statistics().waiting == 0
    assert client.count() == 0


@pytest.mark.parametrize("name", ["", False, 0, "None"])
def test_names_that_stand_for_nobody_are_guests(client, name):
    with override_settings(ONLINE_USER=f"{__name__}.nobody_s_name"):
        globals()["nobody_s_name"] = lambda request: name
        visit("/plain")
        flush()
    assert client.kinds() == type(client.kinds())(0, 1, 0, 0)


def test_members_and_guests_are_reported(client):
    visit("/a", "ada")
    visit("/a", REMOTE_ADDR="192.0.2.1")
    visit("/a", REMOTE_ADDR="192.0.2.2")
    visit("/b", "kim", method="HEAD")
    visit("/unchanged", "theo")
    list(visit("/long", "lea"))
    flush()
    assert client.kinds("/a") == type(client.kinds())(1, 2, 0, 0)
    assert [seen.url for seen in client.seen("ada", "kim", "theo")] == ["/a", "/b", "/unchanged"]


def test_a_page_that_streams_is_reported_when_it_starts(client):
    response = visit("/long", "lea")
    flush()
    assert client.seen("lea")[0].url == "/long"
    assert b"".join(response) == b"ab"
    response.close()
    assert page_views().reporter.statistics().sent == 1


def test_who_signs_in_or_out_is_counted_once(client):
    visit("/a")
    flush()
    assert client.kinds() == type(client.kinds())(0, 1, 0, 0)
    request = browsers.RequestFactory().get("/a", headers={"User-Agent": FIREFOX})
    request.user = User("ada")
    user_logged_in.send(User, request=request, user=request.user)
    visit("/a", "ada")
    flush()
    assert client.kinds() == type(client.kinds())(1, 0, 0, 0)
    user_logged_out.send(User, request=request, user=request.user)
    visit("/a")
    flush()
    assert client.kinds() == type(client.kinds())(0, 1, 0, 0)


def test_who_is_signed_in_or_out_without_a_request_is_signed_in_or_out(client):
    user_logged_in.send(User, user=User("ada"))
    user_logged_out.send(User, request=None, user=User("ada"))
    assert page_views().reporter.statistics().waiting == 0


# What a site may have beside it: caches, conditional answers, compression, sessions.

UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
FETCH = "django.middleware.cache.FetchFromCacheMiddleware"
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"
LAYOUTS = {
    "first": [MIDDLEWARE, UPDATE, GZIP, CONDITIONAL, f"{__name__}.sign_in", FETCH],
    "last": [UPDATE, GZIP, CONDITIONAL, f"{__name__}.sign_in", FETCH, MIDDLEWARE],
    "between": [UPDATE, f"{__name__}.sign_in", MIDDLEWARE, CONDITIONAL, GZIP, FETCH],
}


@pytest.mark.parametrize("backend", ["locmem.LocMemCache", "filebased.FileBasedCache"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("page", ["/plain", "/template", "/async", "/long"])
def test_nothing_stands_in_the_way_of_a_cache(client, tmp_path, backend, layout, page):
    caches = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": str(tmp_path)}}
    with override_settings(MIDDLEWARE=LAYOUTS[layout], CACHES=caches):
        cache.clear()
        assert [visit(page, name).status_code for name in ("ada", "theo")] == [200, 200]
        flush()
        seen = client.seen("ada", "theo")
        assert seen[0].url == page
        if layout == "first":
            assert seen[1].url == page
        cache.clear()


@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_without_a_body_is_a_page_view(client, is_async):
    async def visit_async(name, **headers):
        return await browsers.AsyncClient().get("/plain", headers={"X-User": name, **headers})

    def visit_either(name, **headers):
        if is_async:
            return asyncio.run(visit_async(name, **headers))
        return browsers.Client().get("/plain", headers={"X-User": name, **headers})

    with override_settings(MIDDLEWARE=[MIDDLEWARE, CONDITIONAL, f"{__name__}.sign_in"]):
        tag = visit_either("ada")["ETag"]
        assert visit_either("theo", **{"If-None-Match": tag}).status_code == 304
        flush()
    assert client.seen("theo")[0].url == "/plain"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_responses_can_be_copied(client, layout):
    with override_settings(MIDDLEWARE=LAYOUTS[layout]):
        cache.clear()
        response = get_wsgi_application().get_response(browsers.RequestFactory().get("/plain"))
        copy.copy(response).close()
        response.close()
        assert "close" not in vars(response)
        flush()
        assert page_views().reporter.statistics().sent == 1
        cache.clear()


@pytest.mark.parametrize("place", [0, 1])
def test_a_session_that_only_we_look_at_makes_no_page_vary_by_cookie(client, place):
    layout = [SESSION]
    layout.insert(place, MIDDLEWARE)
    here = f"{__name__}.user_of_session"
    with override_settings(MIDDLEWARE=layout, SESSION_ENGINE=SIGNED_COOKIES, ONLINE_USER=here):
        browser = browsers.Client()
        session = browser.session
        session["name"] = "ada"
        session.save()
        browser.cookies["sessionid"] = session.session_key
        assert not browser.get("/plain").has_header("Vary")
        flush()
    assert client.seen("ada")[0].url == "/plain"


def test_in_djangos_tests_only_a_server_that_a_test_has_set_hears_of_it(client, monkeypatch):
    monkeypatch.setattr("django.test.utils._TestState.saved_data", object(), raising=False)
    visit("/plain", "ada")
    flush()
    assert client.seen("ada")[0].url == "/plain"
    monkeypatch.setattr("online_client.django.settings._urls_set", 0)
    visit("/plain", "theo")
    user_logged_out.send(User, request=browsers.RequestFactory().get("/plain"), user=User("theo"))
    flush()
    assert client.seen("theo") == [None]


@pytest.mark.parametrize("path", ["/data", "/away", "/nowhere"])
def test_other_responses_are_not_reported(client, path):
    visit(path)
    assert page_views().reporter.statistics().waiting == 0


def test_async_pages_are_reported(client):
    async def visit_both():
        for url in ("/a", "/async"):
            response = await browsers.AsyncClient().get(url, headers={"X-User": url})
            assert response.status_code == 200

    asyncio.run(visit_both())
    flush()
    assert [seen.url for seen in client.seen("/a", "/async")] == ["/a", "/async"]


def test_what_is_reported_can_be_chosen(client):
    here = f"{__name__}."
    with override_settings(ONLINE_PAGE_URL=here + "topic", ONLINE_GUEST=here + "nobody"):
        visit("/a?topic=1")
        visit("/a?topic=1", "ada")
        flush()
    assert client.kinds() == type(client.kinds())(1, 0, 0, 0)
    assert client.seen("ada")[0].url == "/a?topic=1"
    with override_settings(ONLINE_USER=here + "hidden"):
        visit("/b")
        flush()
    assert client.kinds("/b") == type(client.kinds())(0, 0, 1, 0)


def test_without_a_server_pages_show_what_is_known():
    with override_settings(ONLINE_URL=down_url()):
        assert visit("/a").content.decode() == "- online, - on b;;"


def test_users_without_a_page_are_an_error_that_helps_who_writes_the_site(caplog):
    template = ENGINE.from_string("{% load online %}{% online_users as users %}{{ users|length }}")
    with override_settings(DEBUG=True), pytest.raises(TemplateSyntaxError, match="give it a url, or render the templ"):
        template.render(Context())
    assert template.render(Context()) == "0"  # as Django renders 500.html
    assert "{% online_users %} does not know its page" in caplog.text


def test_the_page_is_known_without_a_context_processor(client):
    client.hit("ada", "/a")
    template = ENGINE.from_string("{% load online %}{% online_users as users %}{{ users.0.user }}")
    assert template.render(RequestContext(browsers.RequestFactory().get("/a"))) == "ada"


def test_of_an_empty_url_nothing_is_known(client):
    client.hit("ada", "/a")
    template = ENGINE.from_string("{% load online %}{% online_count no.url %}{% online_users no.url %}")
    assert template.render(Context()) == "-()"


def test_the_settings_are_right():
    call_command("check", fail_level="WARNING")


class EmailUser:
    USERNAME_FIELD = EMAIL_FIELD = "email"


def test_names_that_are_email_addresses_are_told_by_the_check(monkeypatch):
    monkeypatch.setattr("online_client.django.apps.get_user_model", lambda: EmailUser)
    with pytest.raises(SystemCheckError, match=r"by their e-mail address, EmailUser\.email"):
        call_command("check", fail_level="WARNING")
    with override_settings(ONLINE_USER=f"{__name__}.nobody"):
        call_command("check", fail_level="WARNING")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ONLINE_URL": "localhost:8989"}, "ONLINE_URL: the address 'localhost:8989' has no scheme; did you mean"),
        ({"ONLINE_URL": 8989}, "ONLINE_URL: it should be text, not 8989"),
        ({"ONLINE_URL": "onlines://h?ca=/no/ca.pem"}, "ONLINE_URL: the CA file /no/ca.pem of onlines://h"),
        ({"ONLINE_USER": "shop.visitors.user"}, "ONLINE_USER: No module named 'shop'"),
        ({"ONLINE_USER": "os.nothing"}, 'ONLINE_USER: Module "os" does not define a "nothing" attribute'),
        ({"ONLINE_USER": "user"}, "ONLINE_USER: user doesn't look like a module path"),
        ({"ONLINE_USER": nobody}, "ONLINE_USER: it should be the dotted path of a function, not <function nobody"),
        ({"ONLINE_GUEST": "os.name"}, "ONLINE_GUEST names 'posix', which cannot be called"),
        ({"ONLINE_TRUST_PROXY": ["10.0.0.0/33"]}, "ONLINE_TRUST_PROXY: takes a network such as 10.0.0.0/8"),
        ({"ONLINE_TRUST_PROXY": 7}, "ONLINE_TRUST_PROXY should be a list of networks"),
        ({"ONLINE_PROXY_HEADER": "X-Real-IP"}, "the header of ONLINE_TRUST_PROXY should be X-Forwarded-For or"),
        ({"USE_X_FORWARDED_HOST": True}, "USE_X_FORWARDED_HOST tells of a proxy, and ONLINE_TRUST_PROXY does not"),
        ({"MIDDLEWARE": []}, "Page views are not reported"),
        ({"MIDDLEWARE": [GZIP, MIDDLEWARE]}, "Page views that django.middleware.gzip.GZipMiddleware or others before"),
    ],
)
def test_wrong_settings_are_told_by_the_check(wrong, told):
    with override_settings(**wrong), pytest.raises(SystemCheckError, match=re.escape(told)):
        call_command("check", fail_level="WARNING")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ONLINE_URL": 8989}, "ONLINE_URL: it should be text, not 8989"),
        ({"ONLINE_USER": nobody}, "ONLINE_USER: it should be the dotted path of a function, not <function nobody"),
        ({"ONLINE_GUEST": "os.name"}, "ONLINE_GUEST names 'posix', which cannot be called"),
        ({"SECRET_KEY": 5}, "secret takes str or bytes, not int"),
    ],
)
def test_wrong_settings_are_errors_when_the_program_starts(wrong, told):
    with override_settings(**wrong), pytest.raises(TypeError, match=re.escape(told)):
        OnlineMiddleware(lambda request: None)


def sign_in_to_admin(browser, name, password):
    form = browser.get("/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]
    form = {"csrfmiddlewaretoken": token, "username": name, "password": password, "next": "/forum/1"}
    return browser.get("/admin/login/", form)


@pytest.mark.slow
def test_the_guide_as_it_is_written(url, tmp_path):
    command, folder = follow("django.md", tmp_path)
    site = command.replace("8000", "0")
    with (
        Client(url, timeout=PATIENCE_S) as client,
        website("sh", "-c", f"exec {site}", cwd=folder, ready=r"Listening at: (\S+)", ONLINE_URL=url) as at,
    ):
        ada, theo = Browser(at[1]), Browser(at[1], agent="Chrome")
        assert "<h1>Topic 1</h1>" in sign_in_to_admin(ada, "ada", "secret")
        # No guest looked at the form. A page does not wait long for an answer, so that one may lack it.
        ada.get_until("/forum/1", r"(?s)1 online, 1 member on this page.*<li>ada, just now")
        theo.get_until("/forum/1", r"(?s)2 online, 1 member and 1 guest on this page.*<li>ada, just now")
    assert client.kinds("/forum/1") == type(client.kinds())(1, 1, 0, 0)


def test_the_check_is_content_with_a_proxy_that_is_named_or_said_to_be_none():
    for trusted in (["10.0.0.0/8"], "unix", []):
        with override_settings(USE_X_FORWARDED_HOST=True, ONLINE_TRUST_PROXY=trusted):
            call_command("check", "--fail-level", "WARNING")


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Lima"])
def test_visitors_of_today_are_those_since_midnight(monkeypatch, zone, use_tz):
    asked, answers = [], [1_234, None]

    class Known:
        def visitors(self, since):
            asked.append(since)
            return answers[len(asked) - 1]

    monkeypatch.setattr(online, "presence", Known)
    template = ENGINE.from_string("{% load online %}{% online_visitors_today %}")
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        assert [template.render(Context()) for _ in answers] == ["1234", "-"]
        for since in asked:
            local = since.astimezone(ZoneInfo(zone))
            assert (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0)
            assert timedelta(0) <= datetime.now(UTC) - since < timedelta(hours=25)


def test_the_peak_and_who_was_last_seen_when(monkeypatch):
    class Known:
        def peak(self):
            return Peak(512, datetime(2026, 5, 3, tzinfo=UTC))

        def last(self, user):
            age = {"ada": timedelta(hours=2, minutes=1), "kim": timedelta(seconds=1)}.get(user)
            return None if age is None else Seen("/", datetime.now(UTC) - age, age)

    monkeypatch.setattr(online, "presence", Known)
    text = (
        "{% load online %}{% online_peak as peak %}{{ peak.people }}, {{ peak.at.day }};"
        "{% online_last_seen ada %};{% online_last_seen name %};{% online_last_seen kim %};"
        "{% online_last_seen nobody %}"
    )
    context = Context({"ada": User("ada"), "name": "ada", "kim": "kim"})
    with override_settings(USE_TZ=True):
        assert ENGINE.from_string(text).render(context) == "512, 3;2\xa0hours ago;2\xa0hours ago;just now;"
