"""The dashboard in a real Chromium: live, empty, with hostile names, on a phone, in the dark, and behind nginx."""

import contextlib
import re
import shlex
import subprocess
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from playwright.sync_api import expect
from tests.programs import program
from tests.serving import PATIENCE_S, server_process
from tests.websites import GUIDES, free_port, nginx

from online_client import Client

pytestmark = pytest.mark.xdist_group("chromium")


@pytest.fixture(scope="module")
def server_options():
    return ("--http", "127.0.0.1:0")


def expect_text(page, selector, text):
    expect(page.locator(selector)).to_have_text(text, timeout=PATIENCE_S * 1000)


@pytest.fixture
def site(server, request):
    """A site of its own on the server: its name, its client, and the address of its dashboard."""
    name = f"s{abs(hash(request.node.name))}"
    with Client(f"{server.url}/{name}", timeout=PATIENCE_S) as client:
        yield client, f"{server.http}#site={name}"


def test_a_live_site(open_page, site, check_accessible):
    client, address = site
    client.hits([(f"u{n}", "/forum/1" if n < 20 else f"/news/{n}") for n in range(30)])
    client.hits([("g", "/news/1", None, "guest"), ("h", "/news/1", None, "hidden"), ("b", "/", None, "bot")])
    page = open_page(address)
    expect_text(page, "#state", "Live")
    expect_text(page, "#people", "32")
    expect_text(page, "#kinds dd >> nth=3", "1")
    expect(page).to_have_title("32 online")
    expect_text(page, "#section-rows tr >> nth=0 >> td >> nth=3", "20")
    page.locator("#top-rows button", has_text="/forum/1").click()
    expect(page.locator("#page-count")).to_contain_text("20 people are on /forum/1")
    expect(page.locator("#page-users li")).to_have_count(20)
    check_accessible(page)

    client.hit("late", "/forum/1")
    expect_text(page, "#people", "33")
    expect_text(page, "#top-rows tr >> nth=0 >> td >> nth=2", "21")
    expect_text(page, "#page-users .name >> nth=0", "late")
    assert "page=%2Fforum%2F1" in page.url

    page.reload()
    expect(page.locator("#page-users li")).to_have_count(21)
    assert page.evaluate("sessionStorage.length") > 0


def test_the_chart_can_be_read_with_keys(open_page, site):
    client, address = site
    client.hit("a", "/")
    page = open_page(address)
    expect_text(page, "#people", "1")
    client.hit("b", "/")
    expect_text(page, "#people", "2")
    chart = page.get_by_role("slider")
    chart.focus()
    page.keyboard.press("Home")
    assert chart.get_attribute("aria-valuetext").endswith(": 1 people")
    assert page.locator(".tip").inner_text().endswith(": 1")
    page.keyboard.press("End")
    assert chart.get_attribute("aria-valuetext").endswith(": 2 people")
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()


def test_everything_can_be_reached_with_keys(open_page, site):
    client, address = site
    client.hit("ada", "/welcome")
    page = open_page(address)
    expect(page.locator("#top-rows button")).to_have_count(1)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#top-rows') !== null"):
            break
    page.keyboard.press("Enter")
    expect_text(page, "#page-users .name", "ada")


def test_an_empty_server_shows_how_to_send_the_first_hit(open_page, check_accessible):
    with server_process("--http", "127.0.0.1:0") as process:
        page = open_page(process.http)
        expect(page.get_by_role("heading", name="Nobody is here yet")).to_be_visible()
        command = page.locator("#by-curl").inner_text()
        assert page.locator("#by-redis").inner_text() == f"redis-cli -p {process.port} HIT ada /welcome"
        check_accessible(page)
        program("curl")
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        expect_text(page, "#people", "1")
        expect(page.get_by_role("heading", name="Nobody is here yet")).to_be_hidden()
        expect_text(page, "#recent-users .url", "/welcome")


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</script><svg onload=alert(1)>",
    '"><a href="javascript:alert(1)">x',
    "{{7*7}}${alert(1)}",
    "__proto__",
    "constructor",
]


def test_hostile_names_are_text(open_page, server, site):
    client, address = site
    names = [*HOSTILE, "gnp.\u202eexe", "a\0\a\u200bb", b"\xff<b>".decode(errors="surrogateescape")]
    client.hits([(name, name) for name in names])
    with Client(f"{server.url}/%3Cimg src=x onerror=alert(1)%3E".replace(" ", "%20"), timeout=PATIENCE_S) as other:
        other.hit("x", "/")
    page = open_page(address)
    expect_text(page, "#people", str(len(names)))
    shown = {page.locator("#recent-users .name").nth(n).inner_text() for n in range(len(names))}
    assert shown == {*HOSTILE, r"gnp.\u202eexe", r"a\u0000\u0007\u200bb", r"\xff<b>"}
    for name in HOSTILE:
        page.locator("#top-rows button", has=page.get_by_text(name, exact=True)).click()
        expect_text(page, "#page-users .name", name)
    assert page.locator("main img, main script, main a:not([href=api])").count() == 0
    expect(page.locator("#site-rows")).to_contain_text("<img src=x onerror=alert(1)>")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "dark"), (3840, "light")])
def test_every_width_and_scheme(open_page, site, width, scheme, check_accessible):
    client, address = site
    client.hits([(f"user-{n}-" + "x" * 100, f"/page/{n}/" + "y" * 200) for n in range(3)])
    page = open_page(address, width=width, scheme=scheme)
    expect_text(page, "#people", "3")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_accessible(page)


def test_a_server_that_restarts(open_page, check_accessible):
    port = free_port()
    with server_process("--http", f"127.0.0.1:{port}") as process:
        with Client(process.url, timeout=PATIENCE_S) as client:
            client.hits([("a", "/"), ("b", "/")])
        page = open_page(process.http, trouble="ERR_CONNECTION|Failed to load")
        expect_text(page, "#people", "2")
    expect(page.locator("#state")).to_contain_text("Stale", timeout=PATIENCE_S * 1000)
    expect_text(page, "#people", "2")
    check_accessible(page)
    with server_process("--http", f"127.0.0.1:{port}") as process, Client(process.url, timeout=PATIENCE_S) as client:
        client.hit("a", "/")
        expect_text(page, "#state", "Live")
        expect_text(page, "#people", "1")


def test_a_server_with_a_history(open_page, site, check_accessible):
    """What the server keeps of the last day and month is asked for where the table of verbs has it."""
    client, address = site
    client.hit("a", "/")
    asked = []

    def answer_history(route):
        query = parse_qs(urlsplit(route.request.url).query)
        asked.append(query)
        from_ms, to_ms, step_ms = int(query["from_ms"][0]), int(query["to_ms"][0]), 1000 * int(query["step_s"][0])
        rows = [{"at_ms": at_ms, "people": 10 + n % 90} for n, at_ms in enumerate(range(from_ms, to_ms, step_ms))]
        route.fulfill(json={"rows": rows, "at_ms": to_ms})

    page = open_page("about:blank")
    page.route("**/openapi.json", lambda route: route.fulfill(json={"paths": {"/api/v1/history": {}}}))
    page.route("**/api/v1/history?*", answer_history)
    page.goto(address)
    page.get_by_role("button", name="Day").click()
    expect_text(page, "#past-title", "The last day")
    expect(page.get_by_role("slider")).to_have_attribute("aria-label", re.compile("last day, lowest 10, highest 99"))
    page.get_by_role("button", name="Month").click()
    expect_text(page, "#past-title", "The last month")
    check_accessible(page)
    assert [each["step_s"] for each in asked] == [["600"], ["14400"]]
    page.get_by_role("button", name="30 min").click()
    expect(page.get_by_role("slider")).to_have_attribute("aria-label", re.compile("30 minutes, lowest 1, highest 1"))


def test_the_page_of_the_api(open_page, server, check_accessible):
    page = open_page(f"{server.http}api")
    expect(page.get_by_role("heading", name="GET /api/v1/page")).to_be_visible()
    check_accessible(page)
    page.get_by_role("link", name="api/v1/count").first.click()
    assert "people" in page.inner_text("body")


# Behind nginx


@contextlib.contextmanager
def behind_nginx(folder, upstream):
    """The dashboard at /online/ of an nginx with TLS, set up as the guide says."""
    [block] = re.findall(r"```\n(location /online/ .*?)```", (GUIDES / "http.md").read_text(), re.DOTALL)
    assert "http://127.0.0.1:8990/" in block
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    block = block.replace("http://127.0.0.1:8990/", upstream)
    inside = f"ssl_certificate cert.pem; ssl_certificate_key key.pem; gzip on; gzip_types *; {block}"
    with nginx(folder, inside, tls=True) as port:
        yield f"https://localhost:{port}/online/"


def test_behind_nginx_with_a_token(open_page, tmp_path, check_accessible):
    tokens = tmp_path / "tokens"
    tokens.write_text("read reading-is-all-it-may\nwrite writing-is-what-it-may\n")
    with server_process("--http", "127.0.0.1:0", "--token-file", tokens) as process:
        with Client(f"online://default:writing-is-what-it-may@{process.address}", timeout=PATIENCE_S) as client:
            client.hits([("a", "/"), ("b", "/")])
        with behind_nginx(tmp_path, process.http) as address:
            page = open_page(address, trouble="status of 401|status of 403")
            assert page.url == f"{address}login"
            check_accessible(page)
            page.get_by_label("Token").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("alert")).to_have_text("That token is wrong.")
            page.get_by_label("Token").fill("reading-is-all-it-may")
            page.get_by_role("button", name="Log in").click()
            expect_text(page, "#people", "2")
            assert page.url == address
            [cookie] = page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/online")
            posted = page.evaluate(
                """fetch('api/v1/hits', {
                    method: 'POST', body: '[["c", "/"]]', headers: {'Content-Type': 'application/json'}
                }).then(answer => answer.status)"""
            )
            assert posted == 403
            check_accessible(page)
            page.get_by_role("button", name="Log out").click()
            expect(page.get_by_label("Token")).to_be_visible()
            assert page.context.cookies() == []
