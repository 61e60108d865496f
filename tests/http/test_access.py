"""Who may ask what over HTTP: tokens, sessions, roles, sites, foreign pages, and names that are not ours."""

import pytest
import trio
from tests.http.browsing import jumping, web
from tests.serving import START_MS

from online.http import access
from online.limits import WRONG_TOKEN_DELAY_S
from online.serve.tokens import grant

API = "/api/v1"
TOKENS = (
    grant(b"look", "read"), grant(b"tell", "write"), grant(b"all", "admin"), grant(b"shop-only", "write", b"shop"),
)  # fmt: skip
FORM = "application/x-www-form-urlencoded"


def bearer(token):
    return {"authorization": f"Bearer {token}"}


async def log_in(browser, token, **headers):
    return await browser.post("/login", f"token={token}".encode(), content_type=FORM, **headers)


def cookie_of(answer):
    return answer.headers["set-cookie"].partition(";")[0]


GUARDED = ["/readyz", "/metrics", "/openapi.json", "/api", f"{API}/count", f"{API}/info"]


@pytest.mark.parametrize("path", GUARDED)
@jumping
async def test_where_a_token_is_wanted_nothing_is_told_without(path):
    async with web(tokens=TOKENS) as site:
        browser = site.join()
        answer = await browser.get(path)
        assert (answer.status, answer.json["code"]) == (401, "NOAUTH")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await browser.get(path, **bearer("look"))).status == 200
        assert (await browser.get("/healthz")).status == 200


@jumping
async def test_a_single_token_allows_everything():
    async with web(token=b"sesame") as site:
        browser = site.join()
        assert (await browser.get(f"{API}/count")).status == 401
        assert (await browser.post(f"{API}/hits", [["a", "/"]], **bearer("sesame"))).json["accepted"] == 1


@jumping
async def test_roles_hold():
    async with web(tokens=TOKENS) as site:
        browser = site.join()
        for path, body in ((f"{API}/hits", [["a", "/"]]), (f"{API}/leave", {"user": "a"})):
            assert (await browser.post(path, body)).status == 401
            answer = await browser.post(path, body, **bearer("look"))
            assert (answer.status, answer.json["code"]) == (403, "NOPERM")
            assert (await browser.post(path, body, **bearer("tell"))).status == 200
        assert (await browser.get(f"{API}/count", **bearer("look"))).json["people"] == 0
        forget = f"{API}/forget", {"users": ["a"]}
        for token in ("look", "tell"):
            answer = await browser.post(*forget, **bearer(token))
            assert (answer.status, answer.json["code"]) == (403, "NOPERM")
        assert (await browser.post(*forget, **bearer("all"))).json["known"] == 1


@jumping
async def test_a_token_of_a_site_is_good_for_no_other():
    async with web(tokens=TOKENS) as site:
        browser = site.join()
        await browser.post(f"{API}/hits", [["a", "/"]], **bearer("all"))
        await browser.post(f"{API}/hits", [["b", "/"], ["c", "/"]], **bearer("shop-only"))
        assert (await browser.get(f"{API}/count", **bearer("shop-only"))).json["people"] == 2
        assert (await browser.get(f"{API}/count?site=shop", **bearer("look"))).json["people"] == 2
        answer = await browser.get(f"{API}/count?site=default", **bearer("shop-only"))
        assert (answer.status, answer.json["code"]) == (403, "NOPERM")
        sites = (await browser.get(f"{API}/sites", **bearer("shop-only"))).json["sites"]
        assert sites == [{"site": "shop", "people": 2}]
        metrics = (await browser.get("/metrics", **bearer("shop-only"))).body
        assert b'site="shop"' in metrics
        assert b'site="default"' not in metrics


@jumping
async def test_a_connection_keeps_nothing_of_the_last_who_asked_over_it():
    async with web(tokens=TOKENS) as site:
        browser = site.join()
        await browser.post(f"{API}/hits", [["a", "/"]], **bearer("all"))
        assert (await browser.get(f"{API}/count")).status == 401
        assert (await browser.post(f"{API}/hits", [["a", "/"]], **bearer("look"))).status == 403


@jumping
async def test_a_wrong_token_is_answered_late_counted_and_ends_the_connection():
    async with web(tokens=TOKENS) as site:
        for n, wrong in enumerate((site.join().get(f"{API}/count", **bearer("Look")), log_in(site.join(), "wrong")), 1):
            began = trio.current_time()
            answer = await wrong
            assert (answer.status, answer.headers["connection"]) == (401, "close")
            assert trio.current_time() >= began + WRONG_TOKEN_DELAY_S
            assert site.server.connections.limits_reached["wrong_token"] == n


@jumping
async def test_however_many_guess_each_waits_and_who_knows_does_not():
    async with web(tokens=TOKENS) as site:
        session = cookie_of(await log_in(site.join(), "look"))
        statuses = []

        async def guess(n):
            statuses.append((await site.join().get(f"{API}/count", **bearer(f"guess{n}"))).status)

        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(guess, n)
            await trio.sleep(WRONG_TOKEN_DELAY_S / 2)
            before = trio.current_time()
            assert (await site.join().get(f"{API}/count", cookie=session)).status == 200
            assert (await site.join().get(f"{API}/count", **bearer("look"))).status == 200
            assert cookie_of(await log_in(site.join(), "look"))
            assert (trio.current_time(), statuses) == (before, [])
        assert statuses == [401] * 100


# Sessions of browsers


@jumping
async def test_a_browser_is_led_to_the_form_and_back():
    async with web(tokens=TOKENS) as site:
        browser = site.join()
        answer = await browser.get("/")
        assert (answer.status, answer.headers["location"]) == (303, "login")
        assert (await browser.get("/login")).status == 200
        answer = await log_in(browser, "look")
        assert (answer.status, answer.headers["location"]) == (303, "./")
        assert {"HttpOnly", "SameSite=Strict"} <= set(answer.headers["set-cookie"].split("; "))
        assert "Secure" not in answer.headers["set-cookie"]
        session = cookie_of(answer)
        assert b"look" not in session.encode()
        assert (await browser.get("/", cookie=session)).status == 200
        assert (await browser.get(f"{API}/count", cookie=f"a=b; {session}; c")).status == 200
        assert (await browser.post(f"{API}/hits", [["a", "/"]], cookie=session)).status == 403


@jumping
async def test_a_session_over_tls_is_sent_over_tls_alone():
    async with web(tokens=TOKENS) as site:
        answer = await log_in(site.join(), "look", x_forwarded_proto="https")
        assert answer.headers["set-cookie"].endswith("; Secure")


@jumping
async def test_a_wrong_token_gets_the_form_again():
    async with web(tokens=TOKENS) as site:
        answer = await log_in(site.join(), "wrong")
        assert answer.status == 401
        assert answer.headers["content-type"].startswith("text/html")
        assert "set-cookie" not in answer.headers


@jumping
async def test_a_session_that_was_changed_is_none():
    async with web(tokens=TOKENS) as site:
        browser = site.join()
        session = cookie_of(await log_in(browser, "look"))
        name, _, value = session.partition("=")
        ends, _, signature = value.partition(".")
        later, longer = f"{int(ends) + 1}.{signature}", f"{ends}.{signature}0"
        for forged in (later, longer, f"{ends}.{signature[:-1]}0", f"{ends}.", ends, "", ".", "9" * 99):
            if forged != value:
                assert (await browser.get(f"{API}/count", cookie=f"{name}={forged}")).status == 401


@jumping
async def test_a_session_ends():
    async with web(tokens=TOKENS) as site:
        session = cookie_of(await log_in(site.join(), "look"))
        await trio.sleep(access.SESSION_S - 2)
        assert (await site.join().get(f"{API}/count", cookie=session)).status == 200
        await trio.sleep(3)
        assert (await site.join().get(f"{API}/count", cookie=session)).status == 401


@jumping
async def test_a_session_is_as_good_as_its_token():
    async with web(tokens=TOKENS) as site:
        session = cookie_of(await log_in(site.join(), "look"))
        site.server.verbs.tokens = type(site.server.verbs.tokens)(TOKENS[1:])
        assert (await site.join().get(f"{API}/count", cookie=session)).status == 401


@jumping
async def test_logging_out_takes_the_cookie_away():
    async with web(tokens=TOKENS) as site:
        answer = await site.join().get("/logout", "POST")
        assert answer.status == 303
        assert "Max-Age=0" in answer.headers["set-cookie"]


# Foreign pages


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"origin": "http://localhost"}, True),
        ({"origin": "http://localhost:81"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://127.0.0.1", "host": "127.0.0.1"}, True),
        ({"origin": "https://stats.example.org"}, True),
        ({"origin": "https://www.example.org", "x_forwarded_host": "www.example.org"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://behind.a.proxy"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "http://localhost"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "none"}, True),
    ],
)
@jumping
async def test_other_sites_have_a_browser_post_nothing(headers, is_own):
    async with web(http_host=("stats.example.org",)) as site:
        browser = site.join()
        answer = await browser.post(f"{API}/hits", [["a", "/"]], **headers)
        assert answer.status == (200 if is_own else 403)
        assert (await browser.get(f"{API}/count", **headers)).json["people"] == int(is_own)


@jumping
async def test_a_login_from_another_site_is_none():
    async with web(tokens=TOKENS) as site:
        assert (await log_in(site.join(), "look", origin="http://evil.example")).status == 403


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST:8990", "127.0.0.1:8990", "[::1]:8990", "10.0.0.7")),
        *((host, True) for host in ("stats.example.org", "stats.example.org.:443", "x.localhost", "")),
        *((host, False) for host in ("evil.example", "evil.example:8990", "127.0.0.1.evil.example", "localhost.evil")),
    ],
)
@jumping
async def test_a_name_that_leads_here_is_none_of_ours(host, is_own):
    async with web(http_host=("stats.example.org",)) as site:
        for path in ("/", f"{API}/count"):
            assert (await site.join().get(path, host=host)).status == (200 if is_own else 421)
            if host:  # the host before a target takes the place of the header
                assert (await site.join().get(f"http://{host}{path}")).status == (200 if is_own else 421)
                answer = await site.join().get(f"HTTP://{host}{path}", host="evil.example")
                assert answer.status == (200 if is_own else 421)
        assert (await site.join().get("/healthz", host=host)).status == 200


@jumping
async def test_with_tokens_any_name_will_do():
    async with web(tokens=TOKENS) as site:
        assert (await site.join().get(f"{API}/count", host="www.example.org", **bearer("look"))).status == 200


@jumping
async def test_a_stranger_sends_no_large_body():
    async with web(tokens=TOKENS) as site:
        answer = await site.join().post(f"{API}/hits", b" " * 4097)
        assert (answer.status, answer.json["limit"]) == (413, 4096)
        answer = await site.join().post(f"{API}/hits", b" " * 4097 + b"[]", **bearer("tell"))
        assert answer.status == 200
        assert answer.json["at_ms"] == START_MS
