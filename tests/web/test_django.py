"""The middleware, template tags and checks for Django, in this process and as the guide has them."""

import asyncio
import gc
import re
import weakref

import django
import pytest
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpResponse, HttpResponseNotModified, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.template import Context, Engine, RequestContext, TemplateSyntaxError
from django.test import client as browsers
from django.test import override_settings
from django.urls import path
from tests.serving import PATIENCE_S
from tests.websites import Browser, down_url, follow, website

from online_client import Client

MIDDLEWARE = "online_client.django.middleware.OnlineMiddleware"

settings.configure(
    SECRET_KEY="s3cret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["online_client.django"],
    MIDDLEWARE=[f"{__name__}.sign_in", MIDDLEWARE],
    DATABASES={},
)
django.setup()

from online_client.django.middleware import OnlineMiddleware  # noqa: E402
from online_client.django.settings import page_views  # noqa: E402

ENGINE = Engine(libraries={"online": "online_client.django.templatetags.online"})
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
    headers = {"X-User": user} if user else {}
    return browsers.Client().generic(method, path, headers=headers, **extra)


def test_pages_show_who_is_online(client):
    client.hits([("theo", "/b"), ("a guest", "/b", None, "guest"), ("<ada>", "/a")])
    assert visit("/a").content.decode() == "3 online, 2 on b; &lt;ada&gt;; guest member"


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


def test_a_page_view_is_reported_when_its_response_has_gone(client):
    response = visit("/long", "lea")
    flush()
    assert client.count() == 0
    assert b"".join(response) == b"ab"
    response.close()
    flush()
    assert client.seen("lea")[0].url == "/long"


def test_who_signs_in_or_out_is_counted_once(client):
    visit("/a")
    flush()
    assert client.kinds() == type(client.kinds())(0, 1, 0, 0)
    request = browsers.RequestFactory().get("/a")
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


def test_a_response_that_was_closed_is_freed_at_once(client):
    gc.collect()
    gc.disable()
    try:
        response = OnlineMiddleware(lambda request: HttpResponse("hello"))(browsers.RequestFactory().get("/a"))
        response.close()
        freed = weakref.ref(response)
        del response
        assert freed() is None
    finally:
        gc.enable()
    flush()
    assert client.count("/a") == 1


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
        assert visit("/a").content.decode() == " online,  on b;;"


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
    assert template.render(Context()) == "()"


def test_the_settings_are_right():
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
        ({"MIDDLEWARE": []}, "Page views are not reported"),
    ],
)
def test_wrong_settings_are_told_by_the_check(wrong, told):
    with override_settings(**wrong), pytest.raises(SystemCheckError, match=re.escape(told)):
        call_command("check", fail_level="WARNING")


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
        assert "nobody yet" in sign_in_to_admin(ada, "ada", "secret")
        ada.get_until("/forum/1", r"(?s)1 online.*<li>ada, 0\s+minutes ago")  # and no guest who looked at the form
        theo.get_until("/forum/1", r"(?s)2 online.*<li>ada, 0\s+minutes ago")
    assert client.kinds("/forum/1") == type(client.kinds())(1, 1, 0, 0)
