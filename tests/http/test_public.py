"""What strangers may have: nothing, or counts, or members on a page; and which pages of other sites may read it."""

import pytest
from tests.http.browsing import jumping, web
from tests.http.test_events import EVENTS, Source, telling

TOKEN = b"a token of 16 bytes"
BEARER = {"authorization": "Bearer a token of 16 bytes"}
STATES = "/api/v1/states"
COUNTS = ("/api/v1/count", "/api/v1/count?url=/a", "/api/v1/counts?url=/a", "/api/v1/section?prefix=/")
NEVER = ("/", "/api/v1/top", "/api/v1/recent", "/api/v1/users", "/api/v1/seen?user=ada", "/api/v1/kinds", "/metrics")
HITS = [["ada", "/a"], ["guest-1", "/a", None, "guest"], ["ghost", "/a", None, "hidden"], ["bot-1", "/a", None, "bot"]]


async def filled(site):
    browser = site.join()
    assert (await browser.post("/api/v1/hits", HITS, **BEARER)).json["accepted"] == 4
    return browser


@pytest.mark.parametrize("level", [None, "count", "page"])
@jumping
async def test_strangers_have_what_is_public_and_no_more(level):
    async with web(token=TOKEN, public=level) as site:
        browser = await filled(site)
        for path in COUNTS:
            assert (await browser.get(path)).status == (200 if level else 401)
        for path in NEVER:
            assert (await browser.get(path)).status in (401, 303)
        assert (await browser.post("/api/v1/hits", HITS)).status == 401
        page = await browser.get("/api/v1/page?url=/a")
        assert page.status == (200 if level == "page" else 401)
        if level == "page":
            assert (page.json["here"], [each["user"] for each in page.json["users"]]) == (3, ["ada"])
        known = (await browser.get("/api/v1/page?url=/a", **BEARER)).json
        assert [each["user"] for each in known["users"]] == ["guest-1", "ada"]


@pytest.mark.parametrize(("level", "named"), [("count", []), ("page", ["ada"])])
@jumping
async def test_strangers_are_told_what_is_public(level, named):
    async with telling(token=TOKEN, public=level) as site:
        browser = await filled(site)
        stranger, friend = Source(site.join()), Source(site.join())
        await stranger.open(b"page:/a", b"count")
        await friend.open(b"page:/a", **BEARER)
        told, known = await stranger.event(), await friend.event()
        assert (told["here"], told["cursor"], [each["user"] for each in told["users"]]) == (3, None, named)
        assert [each["user"] for each in known["users"]] == ["guest-1", "ada"]
        assert await stranger.event() == {"channel": "count", "people": 3}
        states = (await browser.get(f"{STATES}?channel=page:/a&channel=count")).json["states"]
        assert {each.pop("at_ms") > 0 for each in states} == {True}
        assert states == [told, {"channel": "count", "people": 3}]
        for channel in ("top", "user:ada"):
            for path in (EVENTS, STATES):
                answer = await browser.get(f"{path}?channel={channel}")
                assert (answer.status, answer.json["code"]) == (401, "NOAUTH")
                assert answer.headers["www-authenticate"].startswith("Bearer")


@jumping
async def test_many_guests_do_not_hide_a_member():
    async with telling(token=TOKEN, public="page") as site:
        browser = await filled(site)
        await browser.post("/api/v1/hits", [[f"guest-{n}", "/a", None, "guest"] for n in range(100)], **BEARER)
        [state] = (await browser.get(f"{STATES}?channel=page:/a")).json["states"]
        assert [each["user"] for each in state["users"]] == ["ada"]


@jumping
async def test_states_say_what_is_wrong():
    async with web() as site:
        browser = site.join()
        assert (await browser.get(STATES)).json["field"] == "channel"
        answer = await browser.get(f"{STATES}?" + "&".join(["channel=count"] * 101))
        assert (answer.status, answer.json["field"]) == (503, "max_subscriptions")
        site.server.service.loading = "it is being read"
        assert (await browser.get(f"{STATES}?channel=count")).json["code"] == "LOADING"


@pytest.mark.parametrize("tokens", [{}, {"token": TOKEN}], ids=["open", "with-token"])
@jumping
async def test_pages_of_other_sites_that_are_named_read_what_is_public(tokens):
    settings = {"http_origins": ("https://example.org",), "public": "count", **tokens}
    async with telling(**settings) as site:
        browser = await filled(site)
        for origin, readable in (("https://example.org", True), ("https://evil.org", False), ("null", False)):
            answer = await browser.get("/api/v1/count", origin=origin)
            assert answer.headers.get("access-control-allow-origin") == (origin if readable else None)
            assert ("origin" in answer.headers.get("vary", "").lower()) is readable
        answer = await browser.get("/api/v1/page?url=/a", origin="https://example.org")
        assert "access-control-allow-origin" not in answer.headers
        answer = await browser.get(f"{STATES}?channel=page:/a", origin="https://example.org")
        assert (answer.json["states"][0]["here"], answer.json["states"][0]["users"]) == (3, [])
        answer = await browser.get(f"{STATES}?channel=user:ada", origin="https://example.org", **BEARER)
        assert (answer.status, answer.json["code"]) == (403, "NOPERM")  # a token is of no use there
        assert answer.json["detail"].startswith("the channels top and user:NAME are not public")
        head = await Source(site.join()).open(b"count", origin="https://example.org")
        assert b"Access-Control-Allow-Origin: https://example.org" in head


@jumping
async def test_without_public_no_other_site_reads_anything():
    async with web(http_origins=("*",)) as site:
        answer = await site.join().get("/api/v1/count", origin="https://example.org")
        assert "access-control-allow-origin" not in answer.headers


@jumping
async def test_the_widget_is_for_pages_anywhere():
    async with web(token=TOKEN) as site:
        answer = await site.join().get("/online.js", accept_encoding="gzip")
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert "content-security-policy" not in answer.headers
        assert len(answer.body) < 3000
