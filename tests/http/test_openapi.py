"""Every answer of every path is what /openapi.json says, whatever is asked.

Requests are made from the document alone: arguments that it allows, and others. `schemathesis run` does the same from
outside, with other requests.
"""

import random
from urllib.parse import urlencode

import jsonschema
import msgpack
import orjson
import pytest
from tests.http.browsing import jumping, request, web

from online.core.sites import SITE_MAX_BYTES
from online.http import openapi
from online.http.questions import questions
from online.limits import Limits

DOCUMENT = orjson.loads(orjson.dumps(openapi.describe(questions())))
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
STREAM = "/api/v1/events"
IDS = [f"{method}-{path.rsplit('/', 1)[1]}" for path, method in OPERATIONS]

TEXTS = [
    "",
    "a",
    "/forum/1",
    "/",
    "ada",
    "é💩",
    "a\0b",
    '<"\\>',
    "page:/",
    "count",
    "user:ada",
    "top",
    "-1",
    "0",
    "5",
    "x" * 2_049,
]
BYTES = [b"\xff", b"\xed\xa0\x80"]


def resolved(schema):
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def drawn(draw, schema):
    """A value that a schema allows, or nearly."""
    schema = resolved(schema)
    if draw.random() < 0.03:
        return draw.choice([None, True, 1.5, -1, 2**70, "", [], {}, [[]], {"base64": "?"}])
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if several := schema.get("oneOf") or schema.get("anyOf"):
        return drawn(draw, draw.choice(several))
    kind = schema.get("type")
    match draw.choice(kind) if isinstance(kind, list) else kind:
        case "object":
            names = [name for name in schema["properties"] if name in schema["required"] or draw.random() < 0.5]
            return {name: drawn(draw, schema["properties"][name]) for name in names}
        case "array" if "prefixItems" in schema:
            return [drawn(draw, each) for each in schema["prefixItems"][: draw.randint(1, 4)]]
        case "array":
            return [drawn(draw, schema["items"]) for _ in range(draw.choice([0, 1, 1, 2, 3]))]
        case "integer":
            return draw.choice([0, 1, 30, 1_000, 1_001, 1_795_881_600_000, 10**14, -5])
        case "string" if schema.get("contentEncoding"):
            return draw.choice(["/w==", "YWRh", "", "?"])
        case "string":
            return draw.choice(TEXTS)
    return None


def query_of(draw, parameters):
    """A query string that leaves some out, gives some twice, and some that are not known."""
    pairs = []
    for each in parameters:
        if draw.random() < (0.95 if each.get("required") else 0.3):
            value = drawn(draw, each["schema"])
            pairs += [(each["name"], one) for one in (value if isinstance(value, list) else [value])]
    if pairs and draw.random() < 0.1:
        pairs.append(draw.choice(pairs))
    if draw.random() < 0.05:
        pairs.append(("unknown", "1"))
    return urlencode([(name, draw.choice(BYTES) if draw.random() < 0.05 else value) for name, value in pairs])


def body_of(draw, operation):
    content = operation.get("requestBody", {}).get("content")
    if content is None:
        return b"", {}
    kind = draw.choice([*content, "text/plain"] if draw.random() < 0.1 else list(content))
    value = drawn(draw, content["application/json"]["schema"])
    if kind == "application/msgpack":
        try:
            return msgpack.packb(value), {"content_type": kind}
        except OverflowError:
            return b"\xc1", {"content_type": kind}
    return json_of(value), {"content_type": kind}


def json_of(value):
    try:
        return orjson.dumps(value)
    except TypeError:  # a number that it does not write
        return b"1" * 99


def check(operation, answer):
    """Hold an answer against the document."""
    responses = operation["responses"]
    content = responses.get(str(answer.status), responses["default"])["content"]
    assert answer.status < 500, answer.body
    if answer.status == 200:
        assert set(content) == {answer.headers["content-type"]}
    schema = content[answer.headers["content-type"]]["schema"]
    jsonschema.validate(answer.json, {**schema, "components": DOCUMENT["components"]}, jsonschema.Draft202012Validator)
    if answer.status != 200:
        assert answer.json["status"] == answer.status


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=IDS)
@jumping
async def test_every_answer_is_as_described(path, method):
    operation = DOCUMENT["paths"][path][method]
    draw = random.Random(path)
    statuses = set()
    async with web() as site:
        hits = [
            ["ada", "/forum/1"],
            ["é💩", "/"],
            [b"\xff", b"\xff"],
            ["g", "/", None, "guest"],
            ["b", "/", None, "bot"],
        ]
        await site.join().get("/api/v1/hits", "POST", msgpack.packb(hits), content_type="application/msgpack")
        browser = site.join()
        for _ in range(25):
            body, headers = body_of(draw, operation)
            target = f"{path}?{query_of(draw, operation['parameters'])}"
            if path == STREAM:
                browser = site.join()
                await browser.send(request("GET", target, **headers))
                begun = await browser.receive()
                statuses.add(int(begun.split()[1]))
                assert begun.startswith(b"HTTP/1.1 400 ") or b"\r\nContent-Type: text/event-stream\r\n" in begun
                continue
            answer = await browser.get(target, method.upper(), body, **headers)
            statuses.add(answer.status)
            check(operation, answer)
    assert {200, 400} <= statuses


def test_the_document_has_the_limits_of_the_server():
    described = openapi.describe(questions(), Limits(max_limit=7, max_url=99, max_subscriptions=3))
    assert schema_of(described, "/api/v1/page") == {
        "url": {"type": "string", "minLength": 1, "maxLength": 99},
        "limit": {"type": "integer", "minimum": 0, "maximum": 7},
        "cursor": {"type": "string"},
        "site": {"type": "string", "minLength": 1, "maxLength": SITE_MAX_BYTES},
    }
    assert schema_of(described, "/api/v1/states")["channel"]["maxItems"] == 3


def schema_of(described, path):
    return {each["name"]: each["schema"] for each in described["paths"][path]["get"]["parameters"]}
