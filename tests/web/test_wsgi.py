"""The WSGI middleware: which responses it reports and when, and that every worker of a site arrives."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from tests.serving import PATIENCE_S, until
from tests.websites import FIREFOX, GUIDES, Browser, flush, website, wrapping

from online_client import AddressError
from online_client.wsgi import OnlineMiddleware

HTML = [("Content-Type", "text/html; charset=utf-8")]


@pytest.fixture
def wrap(url):
    """Wrap an application; its members are those named in the header X-User."""
    with wrapping(OnlineMiddleware, url, lambda environ: environ.get("HTTP_X_USER")) as wrap:
        yield wrap


def responding(status="200 OK", headers=HTML, body=(b"hello",)):
    def app(environ, start_response):
        start_response(status, headers)
        return body

    return app


def call(app, path="/a", method="GET", **variables):
    """Ask for a page without closing the response: `(body, what start_response was given)`."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "HTTP_USER_AGENT": FIREFOX, **variables}
    setup_testing_defaults(environ)
    started = []
    body = app(environ, lambda *given: started.append(given) or (lambda data: None))
    return body, started


def visit(app, *args, **variables):
    body, _ = call(app, *args, **variables)
    data = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return data


def test_members_and_guests_are_reported(wrap, client):
    app = wrap(responding())
    assert visit(app, HTTP_X_USER="ada") == b"hello"
    visit(app, REMOTE_ADDR="192.0.2.1")
    visit(app, REMOTE_ADDR="192.0.2.2")
    visit(app, REMOTE_ADDR="192.0.2.2", method="POST")
    visit(app, HTTP_USER_AGENT="Googlebot/2.1")
    flush(app)
    assert client.kinds("/a") == type(client.kinds())(1, 2, 0, 1)
    assert client.seen("ada")[0].url == "/a"


def test_a_page_view_is_reported_once_with_the_first_of_its_response(wrap):
    closed = []
    reported = []

    class Body(list):
        def close(self):
            closed.append(len(reported))

    app = wrap(responding(body=Body([b"hel", b"lo"])))
    app.page_views.reporter.hit = lambda *args, **options: reported.append(args)
    body, started = call(app)
    assert started == [("200 OK", HTML)]
    assert reported == []
    assert next(iter(body)) == b"hel"
    assert len(reported) == 1
    body.close()
    assert closed == [1]
    assert len(reported) == 1


def test_a_page_view_without_a_body_is_reported_when_it_is_closed(wrap, client):
    app = wrap(responding(body=[]))
    body, _ = call(app)
    assert list(body) == []
    body.close()
    flush(app)
    assert client.count() == 1


def test_a_page_view_is_of_the_time_when_its_request_came(wrap, monkeypatch):
    app = wrap(responding())
    times = iter([1_709_208_000_123])
    monkeypatch.setattr("online_client.wsgi.now_ms", lambda: next(times))
    reported = []
    app.page_views.reporter.hit = lambda *args, seen_ms, **options: reported.append(seen_ms)
    visit(app)
    assert reported == [1_709_208_000_123]


def test_an_application_may_begin_its_response_late(wrap, client):
    def app(environ, start_response):
        start_response("200 OK", HTML)
        yield b"hello"

    app = wrap(app)
    assert visit(app) == b"hello"
    flush(app)
    assert client.count("/a") == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("404 Not Found", HTML),
        ("302 Found", HTML),
        ("500 Oh", HTML),
        ("200 OK", [("content-type", "application/json")]),
    ],
)
def test_other_responses_are_not_reported_and_come_as_they_are(wrap, status, headers):
    body = FileWrapper(None)
    app = wrap(responding(status, headers, body))
    assert call(app)[0] is body
    assert app.page_views.reporter.statistics().waiting == 0


def test_an_application_that_fails_is_not_reported(wrap, client):
    def app(environ, start_response):
        raise OSError("gone")

    app = wrap(app)
    with pytest.raises(OSError, match="gone"):
        call(app)
    flush(app)
    assert client.count() == 0


def test_what_is_reported_can_be_chosen(wrap, client):
    app = wrap(
        responding(headers=[("Content-Type", "application/json")]),
        page_url=lambda environ: f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}",
        guest=lambda environ: environ["HTTP_COOKIE"],
        is_page_view=lambda method, status, content_type: content_type == "application/json",
    )
    visit(app, QUERY_STRING="topic=1", HTTP_COOKIE="a")
    visit(app, QUERY_STRING="topic=1", HTTP_COOKIE="b")
    flush(app)
    assert client.count("/a?topic=1") == 2


def test_wrong_settings_are_errors_at_once():
    with pytest.raises(AddressError, match=r"has no scheme; did you mean online://localhost\?"):
        OnlineMiddleware(responding(), "localhost", secret="s")
    with pytest.raises(ValueError, match="secret is empty"):
        OnlineMiddleware(responding(), secret="")


def test_the_site_of_the_tutorial(client, monkeypatch):
    """What a visitor sees who is a guest, where Theo is, and that it is reported."""
    monkeypatch.setenv("ONLINE_URL", str(client.address))
    [text] = re.findall(r"^```python\n(.*?)^```", (GUIDES / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL)
    names = {"__name__": "forum"}
    exec(text, names)
    client.hit("theo", "/forum/1")
    both = re.compile(r"2 online\. On this page: <ul><li>guest-\w+</li><li>theo</li></ul>")
    until(lambda: both.search(visit(names["site"], "/forum/1").decode()))  # a busy server may not answer in time
    flush(names["site"])
    assert client.count("/forum/1") == 2
    client.hit("kim", "/über")
    mine = re.compile(r"<h1>/über</h1>\d online\. On this page: <ul><li>guest-\w+</li><li>kim</li></ul>")
    until(lambda: mine.search(visit(names["site"], "/über".encode().decode("latin-1")).decode()))
    names["presence"].close()
    names["site"].page_views.reporter.close(PATIENCE_S)


SITE = """
import itertools
import multiprocessing
import os
from online_client.wsgi import OnlineMiddleware

both_workers = multiprocessing.Barrier(2)
nth = itertools.count()

def hello(environ, start_response):
    if next(nth) == 0:
        both_workers.wait(20)
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"%d" % os.getpid()]

application = OnlineMiddleware(hello, secret="s3cret", user=lambda environ: environ["HTTP_USER_AGENT"])
"""


@pytest.mark.slow
def test_the_hits_of_all_threads_and_workers_of_gunicorn_arrive(client, tmp_path):
    (tmp_path / "hello.py").write_text(SITE)
    options = ["--preload", "--workers", 2, "--threads", 8, "--bind", "127.0.0.1:0"]
    gunicorn = [sys.executable, "-m", "gunicorn", *options, "hello:application"]
    url = f"online://127.0.0.1:{client.address.port}/{client.address.site}"
    with website(*gunicorn, cwd=tmp_path, ready=r"Listening at: (\S+)", ONLINE_URL=url) as ready:
        users = [f"user{number}" for number in range(400)]
        with ThreadPoolExecutor(32) as pool:
            workers = set(pool.map(lambda user: Browser(ready[1], agent=user).get(f"/{user[-1]}"), users))
    assert len(workers) == 2
    assert client.count() == 400
    assert client.counts(*[f"/{digit}" for digit in range(10)]) == [40] * 10
