"""The JSON API: every answer fits openapi.json, names of any bytes come and go, and errors say what they are about."""

import base64
import gzip
from urllib.parse import quote, urlencode

import jsonschema
import msgpack
import orjson
import pytest
import trio
from tests.http.browsing import jumping, web
from tests.serving import START_MS

from online.core import verbs
from online.http.questions import ANSWERS, arguments_of, questions
from online.http.routes import HITS_A_TURN

API = "/api/v1"


class Judge:
    """Holds answers against openapi.json."""

    def __init__(self, document):
        self.document = document

    def check(self, path, method, answer):
        responses = self.document["paths"][path][method]["responses"]
        response = responses.get(str(answer.status), responses["default"])
        kind = answer.headers["content-type"]
        schema = response["content"][kind]["schema"]
        jsonschema.validate(answer.json, {**schema, "components": self.document["components"]})


async def judged(site, browser, path, query=(), status=200):
    """Ask, and check the answer against the document."""
    judge = Judge((await browser.get("/openapi.json")).json)
    answer = await browser.get(f"{API}/{path}?{urlencode(query, doseq=True)}")
    judge.check(f"{API}/{path}", "get", answer)
    assert answer.status == status, answer.body
    return answer.json


async def fill(browser):
    hits = [["ada", "/forum/1"], ["guest-1", "/forum/1", None, "guest"], ["h", "/", None, "hidden"]]
    hits += [["bot-1", "/", None, "bot"], ["theo", "/shop"]]
    answer = await browser.post(f"{API}/hits", {"hits": hits})
    assert answer.json == {"accepted": 5, "ignored": 0, "refused": 0, "error": None, "at_ms": START_MS}


EXPECTED = {
    "count": ({}, {"people": 4}),
    "counts": ({"url": ["/", "/forum/1", "/no"]}, {
        "pages": [{"url": "/", "people": 1}, {"url": "/forum/1", "people": 2}, {"url": "/no", "people": 0}]}),
    "kinds": ({}, {"members": 2, "guests": 1, "hidden": 1, "bots": 1}),
    "page": ({"url": "/forum/1", "limit": 1}, {
        "online": 4, "here": 2, "users": [
            {"user": "guest-1", "url": "/forum/1", "seen_ms": START_MS, "kind": "guest"}]}),
    "recent": ({"limit": 1}, {
        "users": [{"user": "theo", "url": "/shop", "seen_ms": START_MS, "kind": "member"}]}),
    "users": ({"prefix": "a"}, {
        "users": [{"user": "ada", "url": "/forum/1", "seen_ms": START_MS, "kind": "member"}], "cursor": None}),
    "seen": ({"user": ["ada", "h"]}, {
        "users": [{"user": "ada", "url": "/forum/1", "seen_ms": START_MS},
                  {"user": "h", "url": None, "seen_ms": None}]}),
    "section": ({"prefix": "/forum"}, {"people": 2, "pages": 1}),
    "top": ({"limit": 2}, {"pages": [{"url": "/forum/1", "people": 2}, {"url": "/", "people": 1}]}),
    "peak": ({}, {"people": 4, "reached_ms": START_MS}),
    "history": ({"step_s": 3600}, {"rows": []}),
    "last": ({"user": ["ada", "h", "guest-1"]}, {
        "users": [{"user": "ada", "url": "/forum/1", "seen_ms": START_MS},
                  {"user": "h", "url": None, "seen_ms": None}, {"user": "guest-1", "url": None, "seen_ms": None}]}),
    "sites": ({}, {"sites": [{"site": "default", "people": 4}]}),
    "info": ({"section": ["hits"]}, {}),
}  # fmt: skip


@pytest.mark.parametrize("path", EXPECTED)
@jumping
async def test_a_verb_answers_as_described(path):
    async with web() as site:
        browser = site.join()
        await fill(browser)
        query, expected = EXPECTED[path]
        answer = await judged(site, browser, path, query)
        assert {name: answer[name] for name in expected} == expected
        assert answer["at_ms"] == START_MS


def test_each_question_of_the_verb_table_is_tried():
    asked = {usage.split()[0] for usage, *_ in verbs.rows()} & set(ANSWERS)
    assert {each.verb for each in questions()} == asked
    assert {name.upper() for name in EXPECTED} >= asked


@jumping
async def test_the_document_is_openapi():
    async with web() as site:
        document = (await site.join().get("/openapi.json")).json
        assert document["openapi"].startswith("3.1")
        for methods in document["paths"].values():
            for operation in methods.values():
                names = [each["name"] for each in operation["parameters"]]
                assert len(set(names)) == len(names)
                for response in operation["responses"].values():
                    for content in response["content"].values():
                        schema = {**content["schema"], "components": document["components"]}
                        jsonschema.Draft202012Validator.check_schema(schema)


@jumping
async def test_the_most_since_a_time():
    async with web() as site:
        browser = site.join()
        await fill(browser)
        for since_ms, people in ((START_MS, 4), (START_MS + 1, 0)):
            answer = await judged(site, browser, "peak", {"since_ms": since_ms})
            assert (answer["people"], answer["reached_ms"]) == (people, START_MS if people else None)


@jumping
async def test_who_is_forgotten_has_been_known():
    async with web() as site:
        browser = site.join()
        await fill(browser)
        answer = await browser.post(f"{API}/forget", {"users": ["ada", "theo", "nobody", {"base64": "/w=="}]})
        assert answer.json == {"known": 2, "at_ms": START_MS}
        assert (await judged(site, browser, "count", {}))["people"] == 2


@pytest.mark.parametrize("body", [{}, [], {"users": []}, {"users": "ada"}, {"users": [1.5]}, {"users": ["a"], "x": 1}])
@jumping
async def test_what_is_no_user_to_forget_is_named(body):
    async with web() as site:
        answer = await site.join().post(f"{API}/forget", body)
        assert (answer.status, answer.json["code"]) == (400, "RANGE")
        assert answer.json["field"].startswith("users") or answer.json["field"] == "x"


def test_arguments_follow_from_the_usage():
    assert [tuple(each) for each in arguments_of("COUNTS url [url ...]")] == [("url", False, True)]
    assert [tuple(each) for each in arguments_of("INFO [section ...]")] == [("section", True, True)]


def test_a_row_of_history_has_names():
    shape, _, _ = ANSWERS["HISTORY"]
    [row, other] = shape([[60_000, 5, 3, 1, 2, 40, 9], [120_000, 5, 3, 1, 2, 40, None]], [])["rows"]
    assert row == {"at_ms": 60_000, "people": 5, "members": 3, "guests": 1, "bots": 2, "hits": 40, "visitors": 9}
    assert other["visitors"] is None


@jumping
async def test_cursors_lead_through_a_list():
    async with web() as site:
        browser = site.join()
        await browser.post(f"{API}/hits", [[f"u{n}", "/ä"] for n in range(25)])
        seen, cursor = [], ""
        while cursor is not None:
            answer = await judged(site, browser, "page", {"url": "/ä", "limit": 10, "cursor": cursor})
            seen += [each["user"] for each in answer["users"]]
            cursor = answer["cursor"]
            assert cursor is None or quote(cursor, safe="") == cursor
        assert seen == [f"u{n}" for n in range(24, -1, -1)]


NAMES = [
    b"\xff\xfe",
    b"\0",
    b"\xed\xa0\x80",
    b"a&b=c+d e%",
    "Ünï 👩‍👩‍👧".encode(),
    b"<script>alert(1)</script>",
    b'"\\\r\n',
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["application/json", "application/msgpack"])
@jumping
async def test_names_of_any_bytes_come_and_go(name, kind):
    async with web() as site:
        browser = site.join()
        try:
            shown = name.decode()
        except UnicodeDecodeError:
            shown = {"base64": base64.b64encode(name).decode()}
        body = orjson.dumps([[shown, shown]]) if kind.endswith("json") else msgpack.packb([[name, name]])
        answer = await browser.post(f"{API}/hits", body, content_type=kind)
        assert answer.json["accepted"] == 1
        answer = await browser.get(f"{API}/page?url={quote(name, safe='')}")
        [user] = answer.json["users"]
        assert (user["user"], user["url"]) == (shown, shown)
        answer = await browser.get(f"{API}/seen?user={quote(name, safe='')}")
        assert answer.json["users"][0]["url"] == shown
        answer = await browser.post(f"{API}/leave", {"user": shown})
        assert answer.status == 200
        assert (await browser.get(f"{API}/count")).json["people"] == 0


@jumping
async def test_sites_are_apart():
    async with web() as site:
        browser = site.join()
        await browser.post(f"{API}/hits?site=shop", [["ada", "/"]])
        assert (await browser.get(f"{API}/count?site=shop")).json["people"] == 1
        assert (await browser.get(f"{API}/count")).json["people"] == 0
        assert (await browser.get(f"{API}/count?site=none")).json["people"] == 0
        answer = await browser.get(f"{API}/count?site={'s' * 65}")
        assert (answer.status, answer.json["field"], answer.json["limit"]) == (400, "site", 64)


WRONG = [
    ("page", {}, {"code": "ERR", "field": "url"}),
    ("page", {"url": ""}, {"code": "RANGE", "field": "url", "limit": 2048, "value": 0}),
    ("page", {"url": "/" * 2049}, {"code": "RANGE", "field": "url", "limit": 2048, "value": 2049}),
    ("page", {"url": "/", "limit": 1001}, {"code": "RANGE", "field": "limit", "limit": [0, 1000], "value": 1001}),
    ("page", {"url": "/", "limit": "x"}, {"code": "RANGE", "field": "limit", "value": "x"}),
    ("page", {"url": "/", "cursor": "x"}, {"code": "RANGE", "field": "cursor", "value": "x"}),
    ("page", {"url": ["/", "/"]}, {"code": "ERR", "field": "url"}),
    ("count", {"user": "a"}, {"code": "ERR", "field": "user"}),
    ("count", {"url": "/", "within_s": "5"}, {
        "code": "RANGE", "field": "within_s", "detail": "within_s counts the whole site only; leave out url"}),
    ("count", {"within_s": "9" * 18}, {"code": "RANGE", "field": "within_s", "limit": [1, 1800]}),
    ("counts", {"url": ["/"] * 1001}, {"code": "RANGE", "field": "urls", "limit": 1000, "value": 1001}),
]


@pytest.mark.parametrize(("path", "query", "told"), WRONG)
@jumping
async def test_an_error_names_the_field_the_limit_and_the_value(path, query, told):
    async with web() as site:
        answer = await judged(site, site.join(), path, query, status=400)
        assert {name: answer[name] for name in told} == told


#: What is no list of hits, with the field that is wrong.
BODIES = [
    (b"{", "body"),
    (b"null", "hits"),
    (b'{"hits": 5}', "hits"),
    (b'{"hit": [["a", "/"]]}', "hit"),
    (b'{"hits": [["a", "/"]], "site": "shop"}', "site"),
    (b'{"site": "shop", "hits": [["a", "/"]]}', "site"),
    (b"[" * 10_000, "body"),
]


@pytest.mark.parametrize(("body", "field"), BODIES)
@jumping
async def test_a_body_that_is_wrong_changes_nothing(body, field):
    async with web() as site:
        browser = site.join()
        answer = await browser.post(f"{API}/hits", body)
        assert (answer.status, answer.json["field"]) == (400, field)
        assert (await browser.get(f"{API}/count")).json["people"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [("hits", {"hits": [["a", "/"]]}), ("leave", {"user": "a"}), ("forget", {"users": ["a"]})],
)
@pytest.mark.parametrize("pack", [orjson.dumps, msgpack.packb])
@jumping
async def test_a_field_that_is_not_known_is_named(path, body, pack):
    kind = "application/json" if pack is orjson.dumps else "application/msgpack"
    async with web() as site:
        for field, told in (("site", "?site=NAME"), ("sitte", f"it takes {next(iter(body))}")):
            answer = await site.join().post(f"{API}/{path}", pack(body | {field: "shop"}), content_type=kind)
            assert (answer.status, answer.json["field"]) == (400, field)
            assert f'the body has no field "{field}"' in answer.json["detail"]
            assert told in answer.json["detail"]


@pytest.mark.parametrize("pack", [orjson.dumps, msgpack.packb])
@pytest.mark.parametrize("n", [1, 1_000, 30_000])
@jumping
async def test_a_list_that_is_not_known_is_named_in_a_body_of_any_size(n, pack):
    kind = "application/json" if pack is orjson.dumps else "application/msgpack"
    hits = [["a", "/"]] * n
    async with web() as site:
        for body in ({"hits": hits, "hots": []}, {"hits": [], "hots": hits}, {"hots": hits}):
            answer = await site.join().post(f"{API}/hits", pack(body), content_type=kind)
            assert (answer.status, answer.json["field"]) == (400, "hots")
            assert answer.json["detail"] == 'the body has no field "hots"; it takes hits'


@jumping
async def test_names_of_fields_are_text():
    async with web() as site:
        told = 'has no field "%s" in bytes (bin); names of fields are text (str)'
        body = msgpack.packb({b"hits": [["a", "/"]]})
        answer = await site.join().post(f"{API}/hits", body, content_type="application/msgpack")
        assert (answer.status, answer.json["detail"]) == (400, "the body " + told % "hits")
        body = msgpack.packb([{b"user": "a", "url": "/", "kind": "bot"}, ["b", "/"]])
        answer = await site.join().post(f"{API}/hits", body, content_type="application/msgpack")
        assert (answer.json["accepted"], answer.json["refused"]) == (1, 1)
        assert answer.json["error"]["detail"] == "hit 1 of the batch: a hit " + told % "user"


#: What is no hit, and what the answer says of it.
NO_HITS = [
    (5, "a hit is an object or array of user, url, seen_ms, kind"),
    (None, "a hit is an object or array"),
    ([], "a hit is an object or array"),
    (["b"], "a hit is an object or array"),
    (["a", "/", None, "guest", 5], "a hit is an object or array"),
    ({"user": "a"}, "url is empty"),
    ({}, "user is empty"),
    ({"user": "a", "url": "/", "knd": "x"}, 'a hit has no field "knd"; it takes user, url, seen_ms, kind'),
    ({"user": "a", "url": "/", "site": "x"}, "the site goes into the query, as ?site=NAME"),
    ({"user": ["a"], "url": "/"}, 'user takes text, {"base64": ...} or a whole number, not an array'),
    ({"user": True, "url": "/"}, "or a whole number, not true"),
    (["a", {"url": "/"}], "url takes text, "),
    (["a", {"base64": "!!"}], 'url is not base64: "!!"'),
    (["a", "/", 1.5], "seen_ms takes milliseconds since 1970, a whole number from 100000000000 to "),
    (["a", "/", 1e30], "to 100000000000000, not 1e+30"),
    (["a", "/", "9" * 23], f"to 100000000000000, not {'9' * 23}"),
    (["a", "/", False], "not false"),
    (["a", "/", None, "gost"], "kind takes member, guest, hidden or bot"),
    (["a", "/", None, ["bot"]], "kind takes text"),
]


@pytest.mark.parametrize(("hit", "told"), NO_HITS)
@pytest.mark.parametrize("kind", ["application/json", "application/msgpack"])
@jumping
async def test_each_hit_is_refused_on_its_own(hit, told, kind):
    pack = msgpack.packb if kind.endswith("msgpack") else orjson.dumps
    async with web() as site:
        browser = site.join()
        judge = Judge((await browser.get("/openapi.json")).json)
        for body in ({"hits": [["good", "/"], hit, ["fine", "/"], 5]}, [["good", "/"], hit, ["fine", "/"], 5]):
            answer = await browser.post(f"{API}/hits", pack(body), content_type=kind)
            judge.check(f"{API}/hits", "post", answer)
            found = answer.json
            assert (found["accepted"] + found["ignored"], found["refused"], found["error"]["code"]) == (2, 2, "RANGE")
            assert found["error"]["detail"].startswith("hit 2 of the batch: ")
            assert told in found["error"]["detail"]
        assert (await browser.get(f"{API}/count")).json["people"] == 2
        assert (await browser.get(f"{API}/info?section=hits")).json["sections"]["hits"]["refused"] == 4


@jumping
async def test_a_time_of_more_digits_than_any_has_is_told_the_range():
    async with web() as site:
        answer = await site.join().post(f"{API}/hits", b'[["a", "/", 99999999999999999999999], ["b", "/"]]')
        assert (answer.json["accepted"], answer.json["refused"]) == (1, 1)
        assert answer.json["error"]["detail"].endswith("whole number from 100000000000 to 100000000000000, not 1e+23")


@pytest.mark.parametrize(
    ("hit", "facts"),
    [
        (["u" * 300, "/"], {"field": "user", "limit": 256, "value": 300}),
        (["", "/"], {"field": "user", "limit": 256, "value": 0}),
        ([int("9" * 18), "/" * 3_000], {"field": "url", "limit": 2_048, "value": 3_000}),
        (["a", "/", 1_795_940_000], {"field": "seen_ms", "limit": [10**11, 10**14], "value": 1_795_940_000}),
        (["a", "/", "soon"], {"field": "seen_ms", "limit": [10**11, 10**14], "value": "soon"}),
        (
            ["a", "/", None, "gost"],
            {"field": "kind", "limit": ["member", "guest", "hidden", "bot"], "value": "gost"},
        ),
        (["b", "/"], {"field": "max_users", "limit": 1}),
        ({"user": True, "url": "/"}, {"field": "user"}),
        (5, {"field": "hits"}),
    ],
)
@jumping
async def test_the_first_error_of_a_batch_has_field_limit_and_value(hit, facts):
    async with web(limits={"max_users": 1}) as site:
        answer = await site.join().post(f"{API}/hits", [["a", "/"], hit])
        error = answer.json["error"]
        assert {name: error[name] for name in error.keys() - {"code", "detail"}} == facts
        assert error["detail"].startswith("hit 2 of the batch: ")


@pytest.mark.parametrize(
    ("target", "facts"),
    [
        ("page?url=%zz", ("url", None, "%zz")),
        ("page?url=%2", ("url", None, "%2")),
        ("count?url=/a&within_s=%", ("within_s", None, "%")),
        ("history?step_s=61", ("step_s", None, 61)),
        ("history?from_ms=0&step_s=60", ("step_s", None, 60)),
        ("history?from_ms=1800000000001&to_ms=1800000000000", ("from_ms", 1_800_000_000_000, 1_800_000_000_001)),
        ("peak?since_ms=1795940000", ("since_ms", [10**11, 10**14], 1_795_940_000)),
    ],
)
@jumping
async def test_an_error_has_field_limit_and_value(target, facts):
    async with web() as site:
        answer = await site.join().get(f"{API}/{target}")
        assert answer.status == 400
        field, limit, value = facts
        assert (answer.json["field"], answer.json.get("limit")) == (field, limit)
        assert answer.json["value"] == value or target.startswith("history?from_ms=0")


@jumping
async def test_the_first_reason_is_that_of_the_first_bad_hit():
    async with web() as site:
        browser = site.join()
        for hits, told in (
            ([["", "/"], 5], "hit 1 of the batch: user is empty"),
            ([["a", "/"]] * HITS_A_TURN + [5, ["", "/"]], f"hit {HITS_A_TURN + 1} of the batch: a hit is an object"),
            ([["a", "/"]] * HITS_A_TURN + [["", "/"], 5], f"hit {HITS_A_TURN + 1} of the batch: user is empty"),
        ):
            answer = await browser.post(f"{API}/hits", hits)
            assert answer.json["refused"] == 2
            assert answer.json["error"]["detail"].startswith(told)


@jumping
async def test_a_frame_behind_the_hits_is_not_carried_out():
    async with web() as site:
        browser = site.join()
        body = msgpack.packb([["a", "/"]]) + msgpack.packb([0, 1, "HIT", ["evil", "/"]])
        answer = await browser.post(f"{API}/hits", body, content_type="application/msgpack")
        assert answer.status == 400
        assert (await browser.get(f"{API}/count")).json["people"] == 0


@jumping
async def test_more_items_than_a_frame_may_have_are_refused_and_the_connection_goes_on():
    async with web(limits={"max_items": 20}) as site:
        browser = site.join()
        query = "&".join(["url=/"] * 21)
        answer = await browser.get(f"{API}/counts?{query}")
        assert (answer.status, answer.json["field"], answer.json["limit"]) == (400, "max_items", 20)
        assert (await browser.get(f"{API}/count")).status == 200


@jumping
async def test_a_large_batch_lets_others_have_their_turn():
    async with web() as site:
        browser = site.join()
        turns = 0

        async def others():
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        hits = [[f"u{n}", "/"] for n in range(20_000)]
        hits[777] = hits[19_999] = ["", "/"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            answer = await browser.post(f"{API}/hits", hits)
            nursery.cancel_scope.cancel()
        assert (answer.json["accepted"], answer.json["refused"]) == (19_998, 2)
        assert answer.json["error"]["detail"].startswith("hit 778 of the batch: user is empty")
        assert turns > 2 * 20_000 / HITS_A_TURN


@jumping
async def test_a_body_has_a_limit():
    async with web(limits={"max_frame": 4096}) as site:
        answer = await site.join().post(f"{API}/hits", b" " * 4097)
        assert (answer.status, answer.json["field"], answer.json["limit"]) == (413, "body", 4096)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["hits", "leave"])
@jumping
async def test_forms_of_other_sites_are_no_posts(kind, path):
    async with web() as site:
        answer = await site.join().post(f"{API}/{path}", b"[]", content_type=kind)
        assert answer.status == 415
        assert "application/json" in answer.headers["accept-post"]


@pytest.mark.parametrize("path", ["api/v1/hits", "api/v1/leave", "api/v1/forget", "login"])
@jumping
async def test_bodies_are_not_compressed(path):
    kind = "application/x-www-form-urlencoded" if path == "login" else "application/json"
    async with web() as site:
        browser = site.join()
        for body, coding in ((gzip.compress(b"[]"), "gzip"), (b"[]", "gzip"), (b"[]", "identity, br")):
            answer = await browser.post(f"/{path}", body, content_type=kind, content_encoding=coding)
            assert (answer.status, answer.json["field"]) == (415, "content-encoding")
            assert f'"{coding}"' in answer.json["detail"]
            assert answer.headers["accept-encoding"] == "identity"
        assert (await browser.post(f"/{path}", b"[]", content_type=kind, content_encoding="Identity")).status != 415


@jumping
async def test_paths_and_methods_that_are_not():
    async with web() as site:
        browser = site.join()
        assert (await browser.get(f"{API}/nothing")).status == 404
        assert (await browser.get(f"{API}/hit")).status == 404
        for method, path, allowed in (
            ("PUT", f"{API}/count", "GET, HEAD, OPTIONS"),
            ("GET", f"{API}/hits", "POST, OPTIONS"),
            ("DELETE", "/", "GET, HEAD, OPTIONS"),
        ):
            answer = await browser.get(path, method)
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
        answer = await browser.get(f"{API}/count", "OPTIONS")
        assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


@jumping
async def test_while_the_server_loads_it_says_so():
    async with web() as site:
        browser = site.join()
        assert (await browser.get("/readyz")).status == 200
        site.server.service.loading = "reading the journal, 20 %"
        for path in (f"{API}/count", "/readyz"):
            answer = await browser.get(path)
            assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "LOADING", "1")
            assert "20 %" in answer.json["detail"]
        assert (await browser.get("/healthz")).status == 200
        assert (await browser.get(f"{API}/info")).status == 200


@jumping
async def test_a_server_that_answers_may_not_be_ready():
    async with web() as site:
        browser = site.join()
        site.server.verbs.unready = lambda: "the bus was not read"
        answer = await browser.get("/readyz")
        assert (answer.status, answer.json["detail"]) == (503, "the bus was not read")
        assert (await browser.get(f"{API}/count")).status == 200


@jumping
async def test_a_long_question_lets_others_have_their_turn():
    async with web(limits={"max_limit": 1000}) as site:
        browser = site.join()
        for part in range(0, 12_000, 4_000):
            await browser.post(f"{API}/hits", [[f"u{n}", f"/{n}"] for n in range(part, part + 4_000)])
        turns = 0

        async def others():
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            answer = await browser.get(f"{API}/section?prefix=/")
            nursery.cancel_scope.cancel()
        assert answer.json["people"] == answer.json["pages"] == 12_000
        assert turns > 3


@jumping
async def test_hits_are_in_the_journal_before_the_answer(tmp_path):
    async with web() as site:
        waited = []

        class Journal:
            async def settled(self):
                waited.append(site.server.sites[b"default"].count(now_ms=site.server.clock.now_ms()))

        class Service:
            journal = Journal()

            def __getattr__(self, name):
                return getattr(site.server.service, name)

        site.server.verbs.service = Service()
        await site.join().post(f"{API}/hits", [["a", "/"]])
        assert waited == [1]


@jumping
async def test_a_replica_that_is_far_behind_is_not_ready_until_it_has_caught_up():
    bus = {"bus_status": "ok", "lag_ms": 20_000, "unread_ms": 0}  # what waits to be published makes nobody unready
    async with web() as site:
        site.server.verbs.sections["bus"] = lambda now_ms: iter(bus.items())
        browser = site.join()
        for status, lag_ms, is_ready in (
            ("ok", 10_000, True), ("ok", 10_001, False), ("ok", 5_001, False), ("ok", 5_000, True), ("ok", 9_000, True),
            ("ok", 60_000, False), ("away", 70_000, True), ("ok", 9_000, True),
        ):  # fmt: skip
            bus.update(bus_status=status, unread_ms=lag_ms)
            answer = await browser.get("/readyz")
            assert answer.status == (200 if is_ready else 503), (status, lag_ms)
            assert is_ready or f"{lag_ms} ms behind" in answer.json["detail"]
            assert (await browser.get(f"{API}/count")).status == (await browser.get("/healthz")).status == 200
