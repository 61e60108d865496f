"""openapi.json: the API described, made from the table of questions. See https://spec.openapis.org/oas/v3.1.0."""

from collections.abc import Iterable

from online import __version__
from online.core.sites import SITE_MAX_BYTES
from online.http.questions import COUNT, INTEGER, TEXT, Argument, Question, Schema, or_null, record
from online.limits import Limits
from online.terms import KINDS, SEEN_MAX_MS

_TEXT: Schema = {
    "description": "Text, or bytes that are not UTF-8.",
    "oneOf": [
        {"type": "string"},
        record(base64={"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}),
    ],
}

#: What an error is about, as far as it is known.
_FACTS: Schema = {
    "field": {"type": "string", "description": "Which part of the request is wrong."},
    "limit": {"description": "What it may be."},
    "value": {"description": "What it is."},
}

_PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The code of the error, as in every dialect."},
        "detail": {"type": "string"},
        **_FACTS,
    },
    "additionalProperties": False,
}

_SEEN: Schema = {"type": ["integer", "null"], "description": "Milliseconds since 1970. Default: now."}
_KIND: Schema = {"enum": [*KINDS, None], "description": "Default: member."}
_HIT: Schema = {
    "oneOf": [
        {
            "type": "object",
            "required": ["user", "url"],
            "properties": {
                "user": TEXT,
                "url": TEXT,
                "seen_ms": _SEEN,
                "kind": _KIND,
            },
            "additionalProperties": False,
        },
        {
            "type": "array",
            "minItems": 2,
            "maxItems": 4,
            "prefixItems": [TEXT, TEXT, _SEEN, _KIND],
            "description": "[user, url, seen_ms, kind]",
        },
    ]
}
_HITS: Schema = {
    "oneOf": [
        {
            "type": "object",
            "required": ["hits"],
            "properties": {"hits": {"type": "array", "items": _HIT}},
            "additionalProperties": False,
        },
        {"type": "array", "items": _HIT},
    ]
}
_LEAVE: Schema = {
    "type": "object",
    "required": ["user"],
    "properties": {"user": TEXT, "seen_ms": _SEEN},
    "additionalProperties": False,
}

_FORGET: Schema = record(users={"type": "array", "minItems": 1, "items": TEXT})

_FIRST_ERROR: Schema = {
    "type": "object",
    "required": ["code", "detail"],
    "properties": {"code": {"type": "string"}, "detail": {"type": "string"}, **_FACTS},
    "additionalProperties": False,
}

#: The answers to posts.
TAKEN: Schema = record(accepted=COUNT, ignored=COUNT, refused=COUNT, error=or_null(_FIRST_ERROR), at_ms=INTEGER)
LEFT: Schema = record(at_ms=INTEGER)
FORGOTTEN: Schema = record(known=COUNT, at_ms=INTEGER)

_SITE = {
    "name": "site",
    "in": "query",
    "schema": {"type": "string", "minLength": 1, "maxLength": SITE_MAX_BYTES},
    "description": "The site. Default: the one of the token, or else the site named default.",
}

_WHAT_OF = {
    "url": "A page.",
    "limit": "The most to list.",
    "cursor": "The cursor of the previous answer, to get the next users.",
    "prefix": "What the names or urls begin with.",
    "user": "A user.",
    "since_ms": "Since when. Default: ever.",
    "from_ms": "From when. Default: a day before to_ms.",
    "to_ms": "Until when. Default: now.",
    "step_s": "How long a row is, in seconds: whole minutes. Default: as short as fits into an answer.",
    "within_s": "Count only people seen within so many seconds.",
    "section": "Which sections. Default: all.",
}


def describe(questions: Iterable[Question], limits: Limits | None = None) -> dict[str, object]:
    """Return the document, with the limits of a server, or else the default ones.

    Its one server is where the document stands, so that it holds behind any prefix. The lengths of text are those of
    ASCII: the limits are in bytes, which OpenAPI cannot say.
    """
    limits = limits or Limits()
    paths: dict[str, object] = {each.path: {"get": _get(each, limits)} for each in questions}
    paths["/api/v1/states"] = {"get": _states(limits)}
    paths["/api/v1/events"] = {"get": _events(limits)}
    paths["/api/v1/hits"] = {"post": _post("Reports page loads, each on its own.", "hits", _HITS, TAKEN)}
    paths["/api/v1/leave"] = {"post": _post("Takes a user offline, until a newer hit.", "leave", _LEAVE, LEFT)}
    paths["/api/v1/forget"] = {
        "post": _post("Erases users from memory and all files; needs the role admin.", "forget", _FORGET, FORGOTTEN)
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "online",
            "version": __version__,
            "summary": "Who is online now, and on which page.",
            "description": "All times are milliseconds since 1970. `at_ms` is the moment that an answer describes.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "./"}],
        "security": [{"token": []}, {"session": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {"Text": _TEXT, "Problem": _PROBLEM},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "online_session"},
            },
        },
    }


def _argument(argument: Argument, limits: Limits) -> Schema:
    schema: Schema
    match argument.name:
        case "limit":
            schema = {"type": "integer", "minimum": 0, "maximum": limits.max_limit}
        case "within_s" | "step_s":
            schema = {"type": "integer", "minimum": 1}
        case name if name.endswith("_ms"):
            schema = {"type": "integer", "minimum": 0, "maximum": SEEN_MAX_MS}
        case "url" | "user" as name:
            schema = {"type": "string", "minLength": 1, "maxLength": getattr(limits, f"max_{name}")}
        case _:
            schema = {"type": "string"}
    return {"type": "array", "items": schema, "maxItems": limits.max_limit} if argument.is_many else schema


def _get(question: Question, limits: Limits) -> dict[str, object]:
    parameters = []
    for each in question.arguments:
        parameters.append({
            "name": each.name,
            "in": "query",
            "required": not each.is_optional,
            "description": _WHAT_OF.get(each.name, f"See {question.verb} in the protocol."),
            "schema": _argument(each, limits),
        })  # fmt: skip
        if each.name in question.example:
            value = question.example[each.name]
            parameters[-1]["example"] = [value] if each.is_many else int(value) if each.is_number else value
    return {
        "operationId": question.verb.lower(),
        "summary": question.summary,
        "parameters": [*parameters, _SITE],
        "responses": _responses(question.schema),
    }


def _channels(limits: Limits) -> dict[str, object]:
    channel = {"type": "string", "pattern": "^(count|top|page:.+|section:.*|user:.+)$"}
    return {
        "name": "channel",
        "in": "query",
        "required": True,
        "description": "count, page:URL, section:PREFIX, top or user:NAME.",
        "schema": {"type": "array", "items": channel, "minItems": 1, "maxItems": limits.max_subscriptions},
        "example": ["count"],
    }


_STATE: Schema = {
    "type": "object",
    "description": "What the question of the channel answers, with the channel.",
    "required": ["channel", "at_ms"],
    "properties": {"channel": TEXT, "at_ms": INTEGER},
}


def _states(limits: Limits) -> dict[str, object]:
    return {
        "operationId": "states",
        "summary": "Shows the current states of channels.",
        "parameters": [_channels(limits), _SITE],
        "responses": _responses(record(states={"type": "array", "items": _STATE})),
    }


def _events(limits: Limits) -> dict[str, object]:
    """The stream, in which the data of an event is a state."""
    responses = _responses({})
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "operationId": "events",
        "summary": "Sends the states of channels as server-sent events: now, and whenever they change.",
        "parameters": [_channels(limits), _SITE],
        "responses": responses | {"200": {"description": "The stream.", "content": stream}},
    }


def _post(summary: str, name: str, body: Schema, answer: Schema) -> dict[str, object]:
    content = {"application/json": {"schema": body}, "application/msgpack": {"schema": body}}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [_SITE],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(answer),
    }


def _responses(answer: Schema) -> dict[str, object]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {
        "200": {"description": "The answer.", "content": {"application/json": {"schema": answer}}},
        "default": {"description": "An error.", "content": {"application/problem+json": {"schema": problem}}},
    }
