"""The widget in a real Chromium: live, shared among tabs, at rest in hidden ones, without streams, and elsewhere."""

import json
import re
import subprocess
from itertools import islice
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.programs import program
from tests.serving import PATIENCE_S, server_process, until
from tests.websites import GUIDES, nginx

from online_client import Client

pytestmark = pytest.mark.xdist_group("chromium")

NAMED = "http://named.test"

#: Pages of sites that do not exist may reach this machine.
MADE_UP = ("--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",)


@pytest.fixture(scope="module")
def server_options():
    return (
        *("--http", "127.0.0.1:0", "--push-interval", "0.1"),
        *("--public", "page", "--http-origins", NAMED),
    )


@pytest.fixture(scope="module")
def chromium():
    where = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox", *MADE_UP])
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium):
    """A browser with nothing in it."""
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_S * 1000)
    yield context
    context.close()


@pytest.fixture
def site(server, request):
    """The name of a site of its own, and its client."""
    name = f"w{abs(hash(request.node.name))}"
    with Client(f"{server.url}/{name}", timeout=PATIENCE_S) as client:
        yield name, client


def open_page(browser, server, elements, *, path="/forum/1", origin=None, lang="en"):
    """Open a page of the same site as the server, or of another, that has these elements."""
    address = f"{origin or server.http.rstrip('/')}{path}"
    html = f'<!doctype html><html lang="{lang}"><script src="{server.http}online.js" async></script>{elements}'
    browser.route(address, lambda route: route.fulfill(body=html, content_type="text/html"))
    page = browser.new_page()
    page.goto(address)
    return page


def shows(page, selector, text):
    expect(page.locator(selector)).to_have_text(text, timeout=PATIENCE_S * 1000)


def subscriptions(client):
    return int(client.info("push")["Push"]["subscriptions"])


def see(page, state):
    """Let a tab be `hidden` or `visible`."""
    page.evaluate(
        """state => {
            Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_counts_and_users_change_by_themselves(browser, server, site):
    name, client = site
    client.hits([("ada", "/forum/1"), ("ghost", "/forum/1", None, "hidden"), ("kim", "/forum/2")])
    page = open_page(
        browser,
        server,
        f'<online-count id="all" site="{name}"></online-count>'
        f'<online-count id="here" site="{name}" page></online-count>'
        f'<online-count id="two" site="{name}" page="/forum/2"></online-count>'
        f'<online-count id="forum" site="{name}" section="/forum/"></online-count>'
        f'<online-users site="{name}" link="/user/{{user}}"></online-users>',
    )
    for selector, text in (("#all", "3"), ("#here", "2"), ("#two", "1"), ("#forum", "3")):
        shows(page, selector, text)
    shows(page, "online-users li", "ada")
    client.hit("<img src=x onerror=alert(1)> & Größe/?", "/forum/1")
    expect(page.locator("online-users li")).to_have_count(2)
    first = page.locator("online-users a >> nth=0")
    expect(first).to_have_text("<img src=x onerror=alert(1)> & Größe/?")
    assert re.search(r"/user/%3Cimg%20[^/?]*%2F%3F$", first.get_attribute("href"))
    assert page.locator("img").count() == 0
    client.hits([(f"u{n}", "/forum/2") for n in range(1200)])
    shows(page, "#all", "1,204")
    page.evaluate("document.querySelector('#two').setAttribute('page', '/nowhere')")
    shows(page, "#two", "0")


@pytest.mark.parametrize(
    ("path", "url"),
    [("/caf%C3%A9%20%E2%82%AC", "/café €"), ("/%e9%C3%A9", "/%E9é")],
    ids=["utf-8", "not utf-8"],
)
def test_this_page_has_the_url_of_its_hits(browser, server, site, path, url):
    name, client = site
    client.hit("ada", url)
    page = open_page(browser, server, f'<online-count site="{name}" page></online-count>', path=path)
    shows(page, "online-count", "1")


@pytest.mark.parametrize(
    ("lang", "shown"),
    [
        *((lang, "1,200") for lang in ("en", "en_US", "en-US-x-own", "", "en_US.UTF-8", "no language", "%")),
        *((lang, "1.200") for lang in ("de", "de_DE")),
    ],
)
def test_numbers_are_written_in_the_language_of_the_page(browser, server, site, lang, shown):
    """As far as it names one: else in that of the browser."""
    name, client = site
    client.hits([(f"u{n}", "/forum/2") for n in range(1200)])
    page = open_page(browser, server, f'<online-count site="{name}"></online-count>', lang=lang)
    shows(page, "online-count", shown)


def test_an_element_that_fails_keeps_no_other_from_being_shown(browser, server, site):
    name, client = site
    client.hit("ada", "/forum/1")
    page = open_page(browser, server, "<p></p>")
    page.wait_for_function("!!customElements.get('online-count')")
    page.evaluate(
        """site => {
            const [bad, good] = ["bad", "good"].map(id => Object.assign(document.createElement("online-count"), {id}));
            bad.show = () => { throw new Error("it cannot be shown"); };
            for (const each of [bad, good]) {
                each.setAttribute("site", site);
                document.body.append(each);
            }
        }""",
        name,
    )
    shows(page, "#good", "1")
    client.hit("theo", "/forum/1")
    shows(page, "#good", "2")


def test_tabs_share_one_connection_and_rest_when_nobody_sees_them(browser, server, site):
    name, client = site
    client.hit("ada", "/")
    element = f'<online-count site="{name}"></online-count>'
    tabs = [open_page(browser, server, element, path=f"/tab/{n}") for n in range(3)]
    for tab in tabs:
        shows(tab, "online-count", "1")
    assert subscriptions(client) == 1
    for tab in tabs:
        see(tab, "hidden")
    until(lambda: subscriptions(client) == 0)
    client.hit("theo", "/")
    see(tabs[1], "visible")
    shows(tabs[1], "online-count", "2")
    assert tabs[0].locator("online-count").inner_text() == "1"
    see(tabs[0], "visible")
    shows(tabs[0], "online-count", "2")
    assert subscriptions(client) == 1
    for tab in tabs:
        tab.close(run_before_unload=True)
    until(lambda: subscriptions(client) == 0)


def test_a_page_that_goes_and_comes_back_is_fresh(browser, server, site):
    name, client = site
    page = open_page(browser, server, f'<online-count site="{name}"></online-count>')
    shows(page, "online-count", "0")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    until(lambda: subscriptions(client) == 0)
    client.hit("ada", "/")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    shows(page, "online-count", "1")


def test_without_streams_it_asks_now_and_then(browser, server, site):
    name, client = site
    client.hit("ada", "/forum/1")
    browser.add_init_script("delete window.SharedWorker")
    browser.route("**/api/v1/events?*", lambda route: route.fulfill(status=502))
    page = open_page(
        browser, server, f'<online-count site="{name}"></online-count><online-users site="{name}"></online-users>'
    )
    shows(page, "online-count", "1")
    shows(page, "online-users li", "ada")
    assert subscriptions(client) == 0


def test_a_site_that_is_named_may_show_what_is_public(browser, server, site):
    name, client = site
    client.hits([("ada", "/forum/1"), ("guest-1", "/forum/1", None, "guest")])
    elements = f'<online-count site="{name}"></online-count><online-users site="{name}"></online-users>'
    page = open_page(browser, server, elements, origin=NAMED)
    shows(page, "online-count", "2")
    shows(page, "online-users li", "ada")
    client.hit("theo", "/forum/1")
    shows(page, "online-count", "3")
    expect(page.locator("online-users li")).to_have_count(2)


def test_a_site_that_is_not_named_shows_nothing(browser, server, site):
    name, client = site
    client.hit("ada", "/forum/1")
    page = open_page(browser, server, f'<online-count site="{name}">-</online-count>', origin="http://other.test")
    refused = []
    page.on("requestfailed", lambda request: refused.append(request.url))
    page.reload()
    until(lambda: page.evaluate("1") and any("/states?" in url for url in refused))
    assert page.locator("online-count").inner_text() == "-"


def test_it_goes_on_after_a_restart(browser):
    with server_process("--http", "127.0.0.1:0") as server:
        page = open_page(browser, server, "<online-count></online-count>")
        shows(page, "online-count", "0")
        http, listen = server.http, f"127.0.0.1:{server.port}"
    address = http.removeprefix("http://").rstrip("/")
    with server_process("--listen", listen, "--http", address) as server, Client(server.url) as client:
        client.hit("ada", "/")
        shows(page, "online-count", "1")


# What the guide says

GUIDE = (GUIDES / "widget.md").read_text()


def test_nginx_hands_on_what_is_public_and_nothing_else(tmp_path):
    [block] = re.findall(r"```nginx\n(.*?)```", GUIDE, re.DOTALL)
    assert "access_log off;" in block  # or the log would tell that a visitor has left the page for the widget's url
    gzip = "gzip on; gzip_types *;"
    token = "a-token-of-16-bytes"
    options = ("--http", "127.0.0.1:0", "--token", token, "--public", "count", "--push-interval", "0.1")
    with (
        server_process(*options) as server,
        Client(f"online://default:{token}@{server.address}") as client,
        nginx(tmp_path, gzip + block.replace("http://127.0.0.1:8990", server.http.rstrip("/"))) as port,
    ):
        assert b"online-count" in fetched(port, "online.js").read()
        assert json.load(fetched(port, "api/v1/states?channel=count"))["states"][0]["people"] == 0
        for path in ("", "metrics", "api/v1/top", "api/v1/page?url=/", "login"):
            with pytest.raises(HTTPError, match=r"40[34]"):  # nginx has no such file, or lists none
                fetched(port, path)
        with fetched(port, "api/v1/events?channel=count&channel=page:/a") as stream:
            assert {json.loads(line[6:])["channel"] for line in events(stream, 2)} == {"count", "page:/a"}
            client.hit("ada", "/a")
            told = [json.loads(line[6:]) for line in events(stream, 2)]
            assert {each["channel"]: each.get("people", each.get("here")) for each in told} == {
                "count": 1,
                "page:/a": 1,
            }
            assert all("ada" not in str(each) for each in told)


def fetched(port, path):
    return urlopen(f"http://127.0.0.1:{port}/online/{path}", timeout=PATIENCE_S)


def events(stream, n):
    """The data of the next events."""
    return list(islice((line for line in stream if line.startswith(b"data: ")), n))


def test_the_plugin_for_wordpress_makes_elements(tmp_path):
    """WordPress is not here: its functions are those that the plugin needs."""
    where = program("php")
    [plugin] = re.findall(r"```php\n(<\?php\n/\* Plugin.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "online.php").write_text(plugin)
    (tmp_path / "wordpress.php").write_text(
        """<?php
        function add_action($name, $run) { $run(); }
        function wp_enqueue_script(...$given) { echo json_encode($given), "\\n"; }
        function add_shortcode($name, $run) { $GLOBALS[$name] = $run; }
        function shortcode_atts($known, $given, $name) { return array_intersect_key($given, $known) + $known; }
        function esc_attr($text) { return htmlspecialchars($text, ENT_QUOTES); }
        require 'online.php';
        foreach ([[], ['page' => ''], ['section' => '/a"b/', 'onclick' => 'x']] as $given) echo $online($given), "\\n";
        """
    )
    shown = subprocess.run([where, "wordpress.php"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    script, *elements = shown.splitlines()
    assert json.loads(script)[:2] == ["online", "/online/online.js"]
    assert elements == [
        "<online-count></online-count>",
        '<online-count page=""></online-count>',
        '<online-count section="/a&quot;b/"></online-count>',
    ]
