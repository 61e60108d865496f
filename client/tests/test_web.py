"""What the integrations share: what a page view is, how visitors are named, and that reporting never fails."""

import re
from typing import Any

import pytest

from online_client import Reporter
from online_client.proxies import read_proxies
from online_client.web import (
    Looks,
    PageView,
    PageViews,
    anonymous,
    environ_address,
    environ_header,
    environ_url,
    is_page_view,
)

FIREFOX = "Mozilla/5.0 Firefox/128.0"
ADA = {"REMOTE_ADDR": "192.0.2.7", "HTTP_USER_AGENT": FIREFOX, "SCRIPT_NAME": "", "PATH_INFO": "/forum/1"}


def page_views(secret: str = "s3cret", **looks: Any) -> PageViews[Any]:
    readers = {"address": environ_address, "header": environ_header}
    all_looks = {"user": anonymous, "page_url": environ_url, "guest": None, **readers, **looks}
    return PageViews(Reporter("online://127.0.0.1:1"), Looks(**all_looks), secret=secret)


def found(views: PageViews[Any], environ: Any = ADA) -> PageView | None:
    return views.find(environ, "GET", 200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("method", "status", "content_type", "expected"),
    [
        ("GET", 200, "text/html", True),
        ("HEAD", 200, "text/html", True),
        ("POST", 200, "application/xhtml+xml", True),
        ("GET", 203, "", True),
        ("GET", 304, "", True),
        ("PUT", 200, "text/html", False),
        ("OPTIONS", 200, "", False),
        ("GET", 204, "text/html", False),
        ("POST", 201, "text/html", False),
        ("GET", 205, "", False),
        ("GET", 302, "text/html", False),
        ("GET", 404, "text/html", False),
        ("GET", 500, "text/html", False),
        ("GET", 200, "application/json", False),
        ("GET", 200, "image/png", False),
    ],
)
def test_what_a_page_view_is(method: str, status: int, content_type: str, expected: bool) -> None:
    assert is_page_view(method, status, content_type) == expected


def test_a_member_has_the_name_that_the_application_gives() -> None:
    assert found(page_views(user=lambda _: "ada")) == PageView("ada", b"/forum/1", "member")
    assert found(page_views(user=lambda _: 17)) == PageView(17, b"/forum/1", "member")


def test_the_application_may_give_a_kind() -> None:
    assert found(page_views(user=lambda _: ("eve", "hidden"))) == PageView("eve", b"/forum/1", "hidden")


def test_a_guest_has_a_name_that_does_not_tell_the_address() -> None:
    view = found(page_views())
    assert view is not None
    assert (view.url, view.kind) == (b"/forum/1", "guest")
    assert re.fullmatch("guest-[0-9a-f]{16}", str(view.user))


def test_the_name_of_a_guest_is_the_same_everywhere_and_depends_on_who_it_is_and_on_the_secret() -> None:
    ada, again = found(page_views()), found(page_views())
    assert ada == again
    others = [
        found(page_views(), ADA | {"REMOTE_ADDR": "192.0.2.8"}),
        found(page_views(), ADA | {"HTTP_USER_AGENT": "Mozilla/5.0 Chrome/120"}),
        found(page_views("another")),
    ]
    assert len({view.user for view in [ada, *others] if view}) == 4


def test_a_robot_is_a_bot_and_no_guest() -> None:
    view = found(page_views(), ADA | {"HTTP_USER_AGENT": "Googlebot/2.1"})
    assert view is not None
    assert (view.kind, str(view.user)[:4]) == ("bot", "bot-")


def test_what_tells_guests_apart_may_be_something_else() -> None:
    by_cookie = page_views(guest=lambda environ: environ["cookie"])
    first = found(by_cookie, ADA | {"cookie": "x"})
    assert first == found(by_cookie, ADA | {"cookie": "x", "REMOTE_ADDR": "192.0.2.8"})
    assert first != found(by_cookie, ADA | {"cookie": "y"})


def test_what_has_no_page_or_no_visitor_is_not_reported() -> None:
    assert found(page_views(page_url=lambda _: None)) is None
    assert found(page_views(guest=lambda _: None)) is None
    assert found(page_views(guest=lambda _: None, user=lambda _: "ada")) == PageView("ada", b"/forum/1", "member")


def test_who_signs_in_or_out_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = found(page_views())
    assert guest is not None
    gone: list[object] = []
    monkeypatch.setattr(Reporter, "leave", lambda reporter, user: gone.append(user))
    views = page_views(user=lambda environ: environ.get("user"))
    views.signed_in(ADA | {"user": "ada"})
    views.signed_out(ADA | {"user": "ada"})
    views.signed_out(ADA | {"user": ("eve", "hidden")})
    views.signed_out(ADA)
    page_views(guest=lambda _: None).signed_in(ADA)
    assert gone == [guest.user, "ada", "eve"]


def test_an_error_in_telling_who_signs_in_or_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    views = page_views(user=lambda environ: environ["nothing"], guest=lambda environ: environ["nothing"])
    views.signed_in(ADA)
    views.signed_out(ADA)
    assert [record.message.partition(" cannot")[0] for record in caplog.records] == [
        "a guest who signed in",
        "a user who signs out",
    ]


def test_an_error_of_the_application_is_logged_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    views = page_views(user=lambda environ: environ["nothing"])
    views.report(ADA, "GET", 200, "text/html", 1_709_208_000_123)
    assert [record.message for record in caplog.records] == ["a page view cannot be reported"]
    assert "KeyError: 'nothing'" in caplog.text
    assert views.reporter.statistics().waiting == 0


def test_an_error_in_telling_page_views_is_logged_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(anonymous, environ_url, None, environ_address, environ_header)
    views = PageViews(Reporter("online://127.0.0.1:1"), looks, secret="s", is_page_view=lambda *_: 1 / 0)  # type: ignore
    views.report(ADA, "GET", 200, "text/html", 1_709_208_000_123)
    assert [record.message for record in caplog.records] == ["a response cannot be told from a page view"]


def test_the_content_type_comes_without_its_parameters() -> None:
    assert page_views().includes("GET", 200, "Text/HTML; charset=utf-8")
    assert not page_views().includes("GET", 200, "text/html-sandboxed")


def test_a_url_has_one_form() -> None:
    assert environ_url({"SCRIPT_NAME": "/app", "PATH_INFO": "//j\xc3\xb6rg \xff"}) == b"/app/j\xc3\xb6rg %FF"


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret is empty; it should be long, random"):
        page_views("")


def asked_through(trusted: Any, **environ: str) -> PageViews[Any]:
    """Make page views that have met one request."""
    looks = Looks(anonymous, environ_url, None, environ_address, environ_header)
    views = PageViews(Reporter("online://127.0.0.1:1"), looks, secret="s3cret", proxies=read_proxies(trusted))
    for _ in range(2):
        assert found(views, {**ADA, **environ}) is not None
    return views


@pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"])
def test_a_proxy_that_no_setting_names_is_told_once(header: str, caplog: Any) -> None:
    asked_through(None, **{header: "for=203.0.113.9" if header == "HTTP_FORWARDED" else "203.0.113.9"})
    [record] = caplog.records
    assert "a request from 192.0.2.7 came with" in record.getMessage()
    assert "no proxy is trusted" in record.getMessage()


@pytest.mark.parametrize(
    ("trusted", "forwarded"),
    [
        (["10.0.0.0/8"], "203.0.113.9"),
        ([], "203.0.113.9"),
        (None, ""),
        (None, "192.0.2.7"),  # the server has taken the address from there
        (None, "203.0.113.9, 192.0.2.7:51000"),
    ],
)
def test_no_proxy_is_missed_where_it_is_named_or_read_by_the_server(trusted: Any, forwarded: str, caplog: Any) -> None:
    asked_through(trusted, HTTP_X_FORWARDED_FOR=forwarded)
    assert not caplog.records
