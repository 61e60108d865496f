"""The dashboard in a real Chromium: live, empty, with hostile names, on a phone, in the dark, and behind nginx."""

import contextlib
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import trustme
from playwright.sync_api import expect
from tests.programs import program
from tests.serving import PATIENCE_S, server_process, until
from tests.websites import GUIDES, free_port, nginx

from online.cli import health
from online.cli.finding import OK
from online.http import static
from online_client import Client

PAGES = Path(static.__file__).parent / "pages"

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
    assert chart.get_attribute("aria-valuetext").endswith(": 1 person")
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


def test_an_empty_server_with_a_token_shows_commands_that_need_it_alone(open_page):
    token = "a-token-of-16-bytes"
    with server_process("--http", "127.0.0.1:0", "--token", token) as process:
        page = open_page(process.http)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#welcome")).to_contain_text("in place of TOKEN")
        command = f"redis-cli -p {process.port} -a TOKEN HIT ada /welcome"
        expect_text(page, "#by-redis", command)
        program("redis-cli")
        command = command.replace("TOKEN", token)
        answer = subprocess.run(shlex.split(command), check=True, capture_output=True, text=True)
        assert answer.stdout == "OK\n"
        expect_text(page, "#people", "1")


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


def see(page, *, hidden):
    """Let the tab be hidden or seen."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def asked(page):
    """Note the verbs that a page asks from here on, each with its query."""
    found = []

    def note(request):
        path, _, query = request.url.partition("?")
        if "/api/v1/" in path:
            found.append((path.rpartition("/")[2], query))

    page.on("request", note)
    return found


def test_what_channels_have_is_told_and_not_asked_for(open_page, site):
    client, address = site
    client.hits([("ada", "/forum/1"), ("kim", "/forum/2")])
    page = open_page("about:blank")
    requests = asked(page)
    page.goto(f"{address}&page=/forum/1")
    expect_text(page, "#page-users .name", "ada")
    expect_text(page, "#section-rows tr td >> nth=3", "2")
    requests.clear()
    client.hits([("theo", "/forum/1"), ("zoe", "/forum/3")])
    expect(page.locator("#page-users li")).to_have_count(2)
    expect_text(page, "#section-rows tr td >> nth=3", "4")
    expect_text(page, "#top-rows tr >> nth=0 >> td >> nth=2", "2")
    expect_text(page, "#people", "4")
    expect(page.locator("#recent-users li")).to_have_count(4)
    assert not {verb for verb, _ in requests} & {"count", "page", "section"}
    assert all("limit=200" in query for verb, query in requests if verb == "top")


def test_a_hidden_tab_rests(open_page, site):
    client, address = site

    def subscriptions():
        return int(client.info("push")["Push"]["subscriptions"])

    until(lambda: subscriptions() == 0)  # other tests' pages are closed
    page = open_page(address)
    expect_text(page, "#people", "0")
    until(lambda: page.evaluate("1") and subscriptions() > 0)
    see(page, hidden=True)
    until(lambda: page.evaluate("1") and subscriptions() == 0)
    client.hit("ada", "/")
    see(page, hidden=False)
    expect_text(page, "#people", "1")
    expect_text(page, "#top-rows tr >> nth=0 >> td >> nth=2", "1")


def test_without_streams_it_asks(open_page, site):
    client, address = site
    client.hit("ada", "/forum/1")
    page = open_page("about:blank", trouble="status of 502")
    page.route("**/api/v1/events?*", lambda route: route.fulfill(status=502))
    page.goto(f"{address}&page=/forum/1")
    expect_text(page, "#people", "1")
    expect_text(page, "#top-rows tr >> nth=0 >> td >> nth=2", "1")
    client.hit("kim", "/forum/1")
    expect_text(page, "#people", "2")
    expect_text(page, "#top-rows tr >> nth=0 >> td >> nth=2", "2")
    expect(page.locator("#page-users li")).to_have_count(2)


def test_most_ever_is_no_less_than_now(open_page, site):
    client, address = site
    client.hits([(f"u{n}", "/") for n in range(3)])
    page = open_page("about:blank")
    page.route("**/api/v1/peak?*", lambda route: route.fulfill(json={"people": 2, "reached_ms": 10**12, "at_ms": 1}))
    page.goto(address)
    expect(page.locator("#peak")).to_contain_text("Most ever: 3, on ")


@pytest.mark.parametrize("url", ["/" + "x" * 2048, "\u20ac" * 683], ids=["ascii", "utf-8"])
def test_a_page_that_cannot_be_keeps_nothing_else_from_being_shown(open_page, site, url):
    client, address = site
    client.hit("ada", "/a")
    page = open_page(f"{address}&page={quote(url)}", trouble="status of 400")
    expect(page.locator("#page-count")).to_contain_text("This page cannot be shown: url ")
    expect(page.locator("#page-count")).to_contain_text("2048")
    expect_text(page, "#state", "Live")
    client.hit("kim", "/a")
    expect_text(page, "#people", "2")
    page.locator("#top-rows button").click()
    expect(page.locator("#page-users li")).to_have_count(2)
    page.get_by_label("Page", exact=True).fill(url)
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#page-count")).to_contain_text("This page cannot be shown")
    page.get_by_label("Page", exact=True).fill("")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#page-count")).to_have_text("Choose a page from the list, or type one.")


@pytest.mark.parametrize("verb", ["recent", "info", "sites", "peak", "top", "history"])
def test_each_question_stands_for_itself(open_page, site, verb):
    client, address = site
    client.hit("ada", "/")
    page = open_page("about:blank", trouble="status of 500")
    refused = {"detail": "it has gone wrong"}
    page.route(f"**/api/v1/{verb}*", lambda route: route.fulfill(status=500, json=refused))
    page.goto(address)
    expect_text(page, "#people", "1")
    expect_text(page, "#top-rows tr >> nth=0 >> td >> nth=2", "1")
    expect(page.locator("#health-lines")).to_contain_text("cannot be shown: it has gone wrong.")
    expect_text(page, "#state", "Live")


def history_of(rows_of):
    """Answers of a history: `rows_of(from_ms, to_ms, step_ms)` gives its rows."""

    def answer(route):
        query = parse_qs(urlsplit(route.request.url).query)
        from_ms, to_ms, step_s = (int(query[name][0]) for name in ("from_ms", "to_ms", "step_s"))
        route.fulfill(json={"rows": rows_of(from_ms, to_ms, 1000 * step_s), "at_ms": to_ms})

    return answer


def test_a_server_with_a_history(open_page, site, check_accessible):
    client, address = site
    client.hit("a", "/")
    steps = []

    def rows(from_ms, to_ms, step_ms):
        steps.append(step_ms // 1000)
        moments = range(from_ms, to_ms, step_ms)
        return [{"at_ms": at_ms, "people": 10 + n % 90, "visitors": 1} for n, at_ms in enumerate(moments)]

    page = open_page("about:blank")
    page.route("**/api/v1/history?*", history_of(rows))
    page.goto(address)
    chart = page.get_by_role("slider")
    expect(chart).to_have_attribute("aria-label", re.compile("30 minutes, lowest 1, highest 39"))
    page.get_by_role("button", name="Day").click()
    expect_text(page, "#past-title", "The last day")
    expect(chart).to_have_attribute("aria-label", re.compile("last day, lowest 10, highest 99"))
    page.get_by_role("button", name="Month").click()
    expect_text(page, "#past-title", "The last month")
    check_accessible(page)
    assert {600, 14400} < set(steps)
    page.get_by_role("button", name="30 min").click()
    expect(chart).to_have_attribute("aria-label", re.compile("30 minutes, lowest 1, highest 39"))


def test_a_minute_of_the_server_gives_way_to_what_the_page_has_seen(open_page, site):
    page = open_page(site[1])
    expect_text(page, "#people", "0")
    merged = page.evaluate(
        """async () => {
            const {Kept} = await import("./history.js");
            const kept = new Kept();
            const minute = 60_000;
            kept.add(30.5 * minute, 7);
            const rows = [...Array(31).keys()].map(n => ({at_ms: n * minute, people: n}));
            kept.merge(rows.slice(1));
            kept.merge(rows.slice(1));
            return kept.points.map(([ms, people]) => [ms / minute, people]);
        }"""
    )
    assert merged == [*([n, n] for n in range(1, 30)), [30.5, 7]]


@pytest.mark.parametrize(
    ("zone", "name", "begins"),
    [
        ("UTC", "Visitors today", 0),
        ("Europe/Berlin", "Visitors today", -1),
        ("America/New_York", "Visitors today", 5),
        ("Asia/Kolkata", "Visitors today (UTC)", 0),
    ],
)
def test_visitors_of_today(chromium, zone, name, begins):
    """The reader's day where that is one of whole hours, or that of UTC: 9 January 1970, at 12:30 UTC."""
    context = chromium.new_context(timezone_id=zone)
    page = context.new_page()
    page.route("http://pages.test/*", lambda route: route.fulfill(body=served(route), content_type=type_of(route)))
    page.goto("http://pages.test/")
    day, hour = 86_400_000, 3_600_000
    query, told = page.evaluate(
        """async at_ms => {
            const {pastOf, visitorsToday} = await import("./history.js");
            return [pastOf(at_ms).today, visitorsToday({rows: [{visitors: 12}], at_ms})];
        }""",
        8 * day + 12 * hour + hour // 2,
    )
    asked = {name: int(value) for name, [value] in parse_qs(urlsplit(query).query).items()}
    assert asked["from_ms"] == 8 * day + begins * hour
    assert asked["step_s"] == 3600 * (13 - begins)
    assert told == [name, 12]
    context.close()


def served(route):
    name = urlsplit(route.request.url).path[1:]
    return (PAGES / name).read_text() if name else "<!doctype html>"


def type_of(route):
    return "text/javascript" if route.request.url.endswith(".js") else "text/html"


@pytest.mark.parametrize(("visitors", "shown"), [(1234, "1,234"), (None, "\u2013")])
def test_visitors_are_shown_as_far_as_they_are_known(open_page, site, visitors, shown):
    client, address = site
    client.hit("ada", "/")
    page = open_page("about:blank")
    rows = [{"at_ms": 0, "people": 1, "visitors": visitors}]
    page.route("**/api/v1/history?*", history_of(lambda *times: rows))
    page.goto(address)
    expect(page.locator("#kinds dt", has_text="Visitors today")).to_have_count(1)
    expect_text(page, "#kinds dd >> nth=5", shown)


# How the server is


def troubles(page, info):
    return page.evaluate("info => import('./health.js').then(({troubles}) => troubles(info))", info)


def test_every_limit_has_words(open_page, server, site):
    client, address = site
    page = open_page(address)
    expect_text(page, "#people", "0")
    limits = client.info("limits")["Limits"]
    assert len(limits) > 10
    for name in limits:
        [line] = troubles(page, {"limits": {**dict.fromkeys(limits, 0), name: 2}})
        assert line.endswith(": 2 times.")
        assert not line.startswith("A limit was reached"), name
    assert troubles(page, {"limits": {"max_moons_reached": 1}}) == ["A limit was reached (max_moons): 1 time."]
    assert troubles(page, {"limits": dict.fromkeys(limits, 0)}) == []


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"history": {"history_errors": 1, "last_history_error": "disk full"}}, "read or written 1 time: disk full."),
        ({"history": {"last_seen_lost": 2}}, "Where 2 users were last seen is lost."),
        ({"bus": {"bus_status": "away", "bus_last_error": "refused"}}, "The bus cannot be reached: refused."),
        ({"bus": {"bus_status": "ok", "dropped": 1}}, "1 hit found no room"),
        ({"bus": {"bus_status": "ok", "poisoned_entries": 1}}, "1 entry of the bus could not be read."),
        ({"map": {"came_from_away": "1,2"}}, "partitions cannot be read: 1,2."),
        ({"map": {"came_from_away": "", "came_from_gaps": 1}}, "had lost entries 1 time"),
        ({"persistence": {"disk_status": "err"}}, "Hits received now may be lost at a restart."),
    ],
)
def test_what_is_wrong_is_said(open_page, site, info, said):
    page = open_page(site[1])
    expect_text(page, "#people", "0")
    [line] = troubles(page, info)
    assert said in line


@pytest.mark.parametrize(
    ("status", "why", "on_page", "by_doctor"),
    [
        ("ok", "", "", "reached"),
        ("reading", "", "", "reached"),
        ("refusing", "full.", "The bus takes no hits: full. Other servers do not get the hits of this one.", "no hits"),
        ("away", "no", "The bus cannot be reached: no. What other servers know may be missing here.", "away: no"),
    ],
)
def test_the_page_and_the_doctor_agree_on_the_bus(open_page, site, status, why, on_page, by_doctor):
    page = open_page(site[1])
    expect_text(page, "#people", "0")
    bus = {"bus_status": status, "bus_last_error": why}
    assert troubles(page, {"bus": bus}) == [on_page] * bool(on_page)
    [found] = [each for each in health.findings({"Bus": bus}) if each.about == "bus"]
    assert by_doctor in found.text
    assert (found.level == OK) == (on_page == "")


def test_the_address_is_followed(open_page, site, server):
    client, address = site
    client.hits([("ada", "/old"), ("bob", "/old")])
    other = f"{address.partition('=')[2]}-other"
    with Client(f"{server.url}/{other}", timeout=PATIENCE_S) as beside:
        beside.hit("eve", "/new")
        page = open_page(address)
        expect_text(page, "#top-rows button", "/old")
        page.goto(f"{server.http}#site={other}&page=/new")
        expect_text(page, "#people", "1")
        expect_text(page, "#page-users .name", "eve")
        expect_text(page, "#top-rows button", "/new")
        page.go_back()
        expect_text(page, "#people", "2")


STREAMS = """window.streams = [];
const Source = EventSource;
window.EventSource = class extends Source { constructor(url) { super(url); streams.push(this); } };"""


def test_the_stream_of_the_site_before_ends(open_page, site, server):
    client, address = site
    client.hit("ada", "/old")
    page = open_page("about:blank")
    page.add_init_script(STREAMS)
    page.goto(address)
    expect_text(page, "#top-rows button", "/old")
    page.route("**/api/v1/top?*", lambda route: None)  # not answered, so that no other stream begins
    page.goto(f"{address}-other")
    expect_text(page, "#people", "0")
    assert set(page.evaluate("streams.map(({readyState}) => readyState)")) == {2}


def test_nobody_is_online_any_more(open_page, site):
    client, address = site
    client.hit("ada", "/")
    client.leave("ada")
    page = open_page(address)
    expect_text(page, "#people", "0")
    expect_text(page, "#nobody", "Nobody is online now.")
    expect(page.locator("#nobody")).to_be_visible()
    expect(page.locator("#welcome")).to_be_hidden()
    client.hit("ada", "/")
    expect(page.locator("#nobody")).to_be_hidden()


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
