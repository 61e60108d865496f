"""The extension for Flask: which responses it reports, and what its functions tell templates."""

import contextlib
import time

import pytest
from flask import Flask, abort, redirect, render_template_string, request, session
from tests import websites
from tests.serving import PATIENCE_S
from tests.websites import Browser, down_url, follow, hanging_url, website

from online_client import AddressError
from online_client.flask import Online

AGENT = "Mozilla/5.0 Firefox/128.0"
TEMPLATE = """{{ online_count() }} online, {{ online_count("/b") }} on b;
{%- for viewer in online_users() %} {{ viewer.user }}{% endfor %};
{%- for viewer in online_users("/b", limit=5, guests=True) %} {{ viewer.kind }}{% endfor %}"""


def site(url, **options):
    """An application; its members are those named in the header X-User."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="s3cret", ONLINE_URL=url)

    @app.get("/a")
    @app.get("/b")
    def page():
        return render_template_string(TEMPLATE)

    @app.get("/data")
    def data():
        return {"a": 1}

    @app.get("/away")
    def away():
        return redirect("/a")

    @app.get("/unchanged")
    def unchanged():
        return "", 304

    @app.get("/oh")
    def oh():
        abort(500)

    Online(app, user=lambda: request.headers.get("X-User"), **options)
    return app


@pytest.fixture
def make_app(client):
    """Make applications that report to the server of `client`."""
    made = []

    def make(**options):
        made.append(site(str(client.address), **options))
        return made[-1]

    yield make
    for app in made:
        close(app)


def visit(app, path, user=None, **options):
    headers = {"User-Agent": AGENT} | ({"X-User": user} if user else {})
    with app.test_client() as browser, browser.open(path, headers=headers, **options) as response:
        return response.text


def close(app):
    app.extensions["online"].presence.close()
    assert app.extensions["online"].page_views.reporter.close(PATIENCE_S)


def flush(app):
    websites.flush(app.extensions["online"])


def test_pages_show_who_is_online(make_app, client):
    app = make_app()
    client.hits([("theo", "/b"), ("a guest", "/b", None, "guest"), ("<ada>", "/a")])
    assert visit(app, "/a") == "4 online, 2 on b; &lt;ada&gt;; guest member"


def test_members_and_guests_are_reported(make_app, client):
    app = make_app()
    visit(app, "/a", "ada")
    visit(app, "/a", environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    visit(app, "/a", environ_overrides={"REMOTE_ADDR": "192.0.2.2"})
    visit(app, "/b", "kim", method="HEAD")
    visit(app, "/unchanged", "theo")
    flush(app)
    assert client.kinds("/a") == type(client.kinds())(1, 2, 0, 0)
    assert [seen.url for seen in client.seen("ada", "kim", "theo")] == ["/a", "/b", "/unchanged"]


def test_a_page_view_is_reported_once_although_its_response_stays_open(make_app, client):
    app = make_app()
    with app.test_client() as browser:
        response = browser.get("/a")
        flush(app)
        assert client.count() == 1
        response.close()
    assert app.extensions["online"].page_views.reporter.statistics().sent == 1


def test_who_signs_in_or_out_is_counted_once(make_app, client):
    app = make_app()
    visit(app, "/a")
    guest = {"REMOTE_ADDR": "127.0.0.1"}
    with app.test_request_context("/a", headers={"User-Agent": AGENT}, environ_overrides=guest):
        app.extensions["online"].signed_in()
    visit(app, "/a", "ada")
    flush(app)
    assert client.kinds() == type(client.kinds())(1, 0, 0, 0)
    with app.test_request_context("/a", headers={"X-User": "ada"}):
        app.extensions["online"].signed_out()
    flush(app)
    assert client.kinds() == type(client.kinds())(0, 0, 0, 0)


def test_who_looks_at_the_session_makes_no_page_vary_by_cookie(client):
    app = Flask(__name__)
    app.config.update(SECRET_KEY="s3cret", ONLINE_URL=str(client.address))
    app.add_url_rule("/a", view_func=lambda: "hello")
    Online(app, user=lambda: session.get("user"))
    with app.test_client() as browser:
        with browser.session_transaction() as signed:
            signed["user"] = "ada"
        with browser.get("/a") as response:
            assert "Vary" not in response.headers
    close(app)
    assert client.seen("ada")[0].url == "/a"


@pytest.mark.parametrize("path", ["/data", "/away", "/oh", "/nowhere"])
def test_other_responses_are_not_reported(make_app, path):
    app = make_app()
    visit(app, path)
    assert app.extensions["online"].page_views.reporter.statistics().waiting == 0


def test_what_is_reported_can_be_chosen(make_app, client):
    app = make_app(page_url=lambda: request.full_path, guest=lambda: session.get("nobody"))
    visit(app, "/a?topic=1")
    visit(app, "/a?topic=1", "ada")
    flush(app)
    assert client.kinds() == type(client.kinds())(1, 0, 0, 0)
    assert client.seen("ada")[0].url == "/a?topic=1"


def test_an_extension_may_serve_several_applications(client):
    online = Online(user=lambda: "ada")
    for name in ("first", "second"):
        app = Flask(name)
        app.config.update(SECRET_KEY="s3cret", ONLINE_URL=str(client.address))
        app.add_url_rule("/", view_func=lambda: "hello")
        online.init_app(app)
        assert visit(app, "/", base_url=f"http://localhost/{name}") == "hello"
        close(app)
        assert client.seen("ada")[0].url == f"/{name}/"


def test_wrong_settings_are_errors_at_once():
    app = Flask(__name__)
    with pytest.raises(RuntimeError, match="SECRET_KEY: set it before init_app"):
        Online(app)
    app.config.update(SECRET_KEY="s3cret", ONLINE_URL="localhost:8989")
    with pytest.raises(AddressError, match="did you mean online://localhost:8989"):
        Online(app)
    app.config.update(ONLINE_URL=5)
    with pytest.raises(TypeError, match="url takes str"):
        Online(app)
    app.config.update(SECRET_KEY=5, ONLINE_URL=None)
    with pytest.raises(TypeError, match="secret takes str or bytes, not int"):
        Online(app)
    for option in ("user", "page_url", "guest", "is_page_view"):
        with pytest.raises(TypeError, match=f"{option} takes a function, not 5"):
            Online(**{option: 5})


@pytest.mark.slow
@pytest.mark.parametrize("state", ["down", "hanging"])
def test_a_server_that_fails_does_not_hold_pages_up(state):
    """Each of 200 pages has four questions: one that waited for each would take 40 s."""
    with contextlib.ExitStack() as stack:
        url = down_url() if state == "down" else stack.enter_context(hanging_url())
        app = site(url)
        started_s = time.monotonic()
        pages = {visit(app, "/a") for _ in range(200)}
        took_s = time.monotonic() - started_s
        app.extensions["online"].page_views.reporter.close(0)
    assert pages == {" online,  on b;;"}
    assert took_s < 10


@pytest.mark.slow
def test_the_guide_as_it_is_written(client, tmp_path):
    command, folder = follow("flask.md", tmp_path)
    site = command.replace("8000", "0")
    with website("sh", "-c", f"exec {site}", cwd=folder, ready=r"Listening at: (\S+)", ONLINE_URL=client.address) as at:
        ada, theo = Browser(at[1]), Browser(at[1], agent="Chrome")
        ada.get("/forum/1")
        ada.get("/login/ada")
        ada.get_until("/forum/1", r"(?s)1 online.*<li>ada, less than 1 min ago</li>")  # no nameless guest
        theo.get_until("/forum/1", r"(?s)2 online.*<li>ada, less than 1 min ago</li>")
    assert client.kinds("/forum/1") == type(client.kinds())(1, 1, 0, 0)
