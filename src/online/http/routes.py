"""What is answered where: paths and methods -> responses, for who may ask.

Not here: connections (service), and the answers themselves (questions, posting, metrics, static, openapi).

    /api/v1/VERB   each question of the verb table       GET
    /api/v1/events, /api/v1/states                       GET; the first is a stream
    /api/v1/hits   /api/v1/leave   /api/v1/forget        POST
    /openapi.json  /metrics  /healthz  /readyz           GET
    / and its files, /login, /logout                     browsers
"""

import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import orjson
import trio

from online import errors
from online.core.wire import Connection
from online.errors import OnlineError
from online.http import asking, events, metrics, openapi, posting, static
from online.http.access import NOBODY, Access, Visitor, token_wanted
from online.http.messages import JSON, Header, Request, Response, json_response, parse_form, problem, problem_of
from online.http.public import Public, readable
from online.http.questions import Question, questions, text
from online.http.ready import Readiness
from online.serve.connections import Peer
from online.serve.meter import Histogram
from online.serve.slices import in_turns
from online.serve.verb import Shared
from online.terms import MEMBER

#: Set in forms, and nothing else.
FORM = "application/x-www-form-urlencoded"

#: Hits of a body that are carried out before others have their turn: about a millisecond's work.
HITS_A_TURN = 500

#: What a stranger may not have: a token might help.
NOT_PERMITTED = 403

_SEE_OTHER = 303


@dataclass(slots=True)
class Exchange:
    """A request, and who asks it over which connection."""

    request: Request
    peer: Peer
    connection: Connection
    now_ms: int
    is_tls: bool
    visitor: Visitor = NOBODY


Handler = Callable[[Exchange], Awaitable[Response]]


class Routes:
    """All paths of a server."""

    def __init__(
        self, shared: Shared, access: Access, is_stopping: Callable[[], bool], public: Public | None = None
    ) -> None:
        self._shared = shared
        self._public = public or Public(None, ())
        self._access = access
        self._readiness = Readiness(shared, is_stopping)
        self._times = metrics.Times(Histogram)
        self.settle: Callable[[metrics.Times], None] = lambda times: None  #: adds the times of answers made elsewhere
        self._files = static.load()
        asked = questions()
        self._openapi = orjson.dumps(openapi.describe(asked, shared.limits))
        # What strangers may have: no path here tells who is online.
        self._open: dict[bytes, dict[str, Handler]] = {
            b"/healthz": {"GET": self._healthz},
            b"/login": {"GET": self._login_page, "POST": self._login},
            b"/logout": {"POST": self._logout},
            b"/": {"GET": self._home},
        }
        for name in self._files:
            if not name.endswith(".html"):
                self._open[b"/" + name.encode()] = {"GET": self._file}
        self._open[b"/favicon.ico"] = {"GET": self._icon}  # what browsers ask for beside anything that is no page
        self._guarded: dict[bytes, dict[str, Handler]] = {
            b"/readyz": {"GET": self._readyz},
            b"/metrics": {"GET": self._metrics},
            b"/openapi.json": {"GET": self._openapi_json},
            b"/api": {"GET": self._file},
            b"/session": {"GET": self._session},
            b"/api/v1/events": {"GET": self._events},
            b"/api/v1/states": {"GET": self._states},
            b"/api/v1/hits": {"POST": self._hits},
            b"/api/v1/leave": {"POST": self._leave},
            b"/api/v1/forget": {"POST": self._forget},
        }
        for question in asked:
            self._guarded[question.path.encode()] = {"GET": self._asks(question)}
        self._for_strangers = [question.path.encode() for question in asked if self._public.may_ask(question.verb)]
        if self._public.level is not None:
            self._for_strangers += [b"/api/v1/events", b"/api/v1/states"]

    def body_limit(self, request: Request) -> int:
        """Return how long the body of a request may be, as far as its head tells."""
        limits = self._shared.limits
        is_stranger = bool(self._shared.tokens) and not request.headers.keys() & {b"authorization", b"cookie"}
        return min(limits.max_frame_before_auth, limits.max_frame) if is_stranger else limits.max_frame

    async def respond(self, exchange: Exchange) -> Response:
        """Answer a request. Raises nothing but what is a fault of the server."""
        request = exchange.request
        refused = self._access.misdirected(request) or self._access.forged(request)
        if refused is not None:
            return refused
        if request.target == b"*":
            return Response(204, headers=((b"Allow", b"GET, HEAD, POST, OPTIONS"),))
        methods = self._open.get(request.path) or self._guarded.get(request.path)
        if methods is None:
            return problem(404, "ERR", f"there is nothing at {errors.quote(request.path)}; see /openapi.json")
        origin = self._public.origin(request)
        if origin is not None and request.path in self._for_strangers:
            response = await self._carry_out(exchange, methods)
            response.headers = (*response.headers, *readable(origin))
            return response
        if request.path not in self._open and request.method != "OPTIONS":
            visitor = await self._access.visitor(exchange.connection, request, exchange.now_ms)
            if isinstance(visitor, Response):
                return visitor
            if not visitor.may_ask and request.path not in self._for_strangers:
                return token_wanted()
            exchange.visitor = visitor
            response = await self._carry_out(exchange, methods)
            return response if visitor.may_ask or response.status != NOT_PERMITTED else token_wanted()
        return await self._carry_out(exchange, methods)

    async def _carry_out(self, exchange: Exchange, methods: dict[str, Handler]) -> Response:
        method = exchange.request.method
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            names = [*methods, *(["HEAD"] if "GET" in methods else [])]
            allowed = f"{', '.join(names)} or OPTIONS"
            allow: Header = (b"Allow", ", ".join([*names, "OPTIONS"]).encode())
            if method == "OPTIONS":
                return Response(204, headers=(allow,))
            told = f"{method} is not allowed here; use {allowed}"
            return problem(405, "ERR", told, [allow], field="method")
        try:
            return await handler(exchange)
        except OnlineError as error:
            return problem_of(error)

    # The API

    def _asks(self, question: Question) -> Handler:
        async def respond(exchange: Exchange) -> Response:
            began = perf_counter()
            query = exchange.request.query()
            args = question.read(query)
            self._introduce(exchange, query)
            result = await asking.ask(self._shared, exchange.connection, question.verb, args, exchange.now_ms)
            answer = question.shape(result, args)
            if question.verb == "PAGE" and not exchange.visitor.may_ask:
                answer = members_of(answer)
            answer["at_ms"] = self._shared.service.wall_of(exchange.now_ms)
            self._times[question.verb.lower()].add(perf_counter() - began)
            return json_response(answer)

        return respond

    def _introduce(self, exchange: Exchange, query: dict[str, list[bytes]]) -> None:
        site = query.get("site", [None])[0]
        asking.introduce(self._shared, exchange.connection, exchange.visitor.grant, site)

    async def _events(self, exchange: Exchange) -> Response:
        query = exchange.request.query()
        channels = events.channels_of(query)
        self._introduce(exchange, query)
        if exchange.request.method == "HEAD":
            return Response(200, type=b"text/event-stream")
        return events.subscribe(self._shared, exchange.connection, exchange.peer, channels, self._level_of(exchange))

    async def _states(self, exchange: Exchange) -> Response:
        query = exchange.request.query()
        channels = events.channels_of(query)
        self._introduce(exchange, query)
        shown = self._level_of(exchange)
        return await events.states(self._shared, exchange.connection, channels, shown, exchange.now_ms)

    def _level_of(self, exchange: Exchange) -> str | None:
        """Return to what a visitor is restricted; None: to nothing."""
        return None if exchange.visitor.may_ask else self._public.level

    async def _post(self, exchange: Exchange, verb: str, args: Sequence[object]) -> object:
        query = exchange.request.query()
        for name in query.keys() - {"site"}:
            shown = errors.quote(name.encode())
            raise errors.with_facts(errors.CommandError(f"no parameter {shown} is known, only site"), name, None, None)
        self._introduce(exchange, query)
        return await asking.ask(self._shared, exchange.connection, verb, args, exchange.now_ms)

    async def _hits(self, exchange: Exchange) -> Response:
        refused = posting.refused_body(exchange.request)
        if refused is not None:
            return refused
        hits = posting.Hits()
        for _ in hits.read(exchange.request):
            await trio.lowlevel.checkpoint()
        counts = [0, 0, 0]
        first_error: dict[str, object] | None = None
        for begin in range(0, max(1, len(hits.params)), HITS_A_TURN):
            result = await self._post(exchange, "hits", hits.params[begin : begin + HITS_A_TURN])
            assert isinstance(result, list)
            counts = [sum(each) for each in zip(counts, result, strict=False)]
            if first_error is None and result[3] is not None:
                code, message = result[3]
                first_error = hits.reason(begin, code, message, self._shared.limits)
            await trio.lowlevel.checkpoint()
        return json_response({
            **dict(zip(("accepted", "ignored", "refused"), counts, strict=True)),
            "error": first_error,
            "at_ms": self._shared.service.wall_of(exchange.now_ms),
        })  # fmt: skip

    async def _leave(self, exchange: Exchange) -> Response:
        refused = posting.refused_body(exchange.request)
        if refused is not None:
            return refused
        await self._post(exchange, "LEAVE", posting.read_leave(exchange.request))
        return json_response({"at_ms": self._shared.service.wall_of(exchange.now_ms)})

    async def _forget(self, exchange: Exchange) -> Response:
        refused = posting.refused_body(exchange.request)
        if refused is not None:
            return refused
        known = await self._post(exchange, "FORGET", posting.read_forget(exchange.request))
        return json_response({"known": known, "at_ms": self._shared.service.wall_of(exchange.now_ms)})

    async def _openapi_json(self, exchange: Exchange) -> Response:
        return Response(200, self._openapi, JSON)

    # Monitoring

    async def _healthz(self, exchange: Exchange) -> Response:
        return Response(200, b"ok\n", b"text/plain")

    async def _readyz(self, exchange: Exchange) -> Response:
        why = self._readiness.why_not(exchange.now_ms)
        return problem(503, "LOADING", why) if why else Response(200, b"ready\n", b"text/plain")

    async def _metrics(self, exchange: Exchange) -> Response:
        own = None if exchange.visitor.grant is None else exchange.visitor.grant.site
        self.settle(self._times)
        page = await in_turns(metrics.write(self._shared, self._times, exchange.now_ms, own))
        return Response(200, page, metrics.CONTENT_TYPE)

    # Pages

    async def _file(self, exchange: Exchange) -> Response:
        name = exchange.request.path[1:].decode(errors="replace")
        return static.respond(self._files[name if name in self._files else f"{name}.html"], exchange.request)

    async def _icon(self, exchange: Exchange) -> Response:
        return static.respond(self._files["icon.svg"], exchange.request)

    async def _home(self, exchange: Exchange) -> Response:
        visitor = await self._access.visitor(exchange.connection, exchange.request, exchange.now_ms)
        if isinstance(visitor, Response):
            return visitor
        if not visitor.may_ask:
            return Response(_SEE_OTHER, headers=((b"Location", b"login"), (b"Cache-Control", b"no-store")))
        return static.respond(self._files["index.html"], exchange.request)

    async def _session(self, exchange: Exchange) -> Response:
        """Tell a page what its reader may do."""
        grant = exchange.visitor.grant
        return json_response({
            "wants_token": bool(self._shared.tokens),
            "role": "admin" if grant is None else grant.role,
            "site": None if grant is None or grant.site is None else text(grant.site),
            "redis_cli": redis_cli(self._shared),
        })  # fmt: skip

    async def _login_page(self, exchange: Exchange) -> Response:
        return static.respond(self._files["login.html"], exchange.request)

    async def _login(self, exchange: Exchange) -> Response:
        if posting.media_type(exchange.request) != FORM:
            return problem(415, "ERR", f"Content-Type takes {FORM}", field="content-type")
        if (refused := posting.refused_coding(exchange.request)) is not None:
            return refused
        token = parse_form(exchange.request.body).get("token", [b""])[0].strip()
        visitor = await self._access.try_token(exchange.connection, token, exchange.now_ms)
        if isinstance(visitor, Response):
            page = static.respond(self._files[static.LOGIN_AGAIN], exchange.request, visitor.status)
            page.closes = visitor.closes
            return page
        session = self._access.cookie(exchange.request, visitor.grant, exchange.now_ms, is_tls=exchange.is_tls)
        return Response(_SEE_OTHER, headers=((b"Location", b"./"), session, (b"Cache-Control", b"no-store")))

    async def _logout(self, exchange: Exchange) -> Response:
        ended = self._access.cookie(exchange.request, None, exchange.now_ms, is_tls=exchange.is_tls)
        return Response(_SEE_OTHER, headers=((b"Location", b"login"), ended, (b"Cache-Control", b"no-store")))


def redis_cli(shared: Shared) -> str | None:
    """Return how redis-cli reaches the server from its own machine, with TOKEN for a token; None: it cannot."""
    address = next((each for each in shared.addresses if each.path is None), next(iter(shared.addresses), None))
    if address is None:
        return None
    if address.path is not None:
        options = ["-s", str(address.path.absolute())]
    else:
        is_usual = address.host in ("", "localhost", "127.0.0.1", "0.0.0.0", "::")
        options = [*([] if is_usual else ["-h", address.host]), "-p", str(address.port), *["--tls"] * shared.is_tls]
    return shlex.join(["redis-cli", *options, *(["-a", "TOKEN"] if shared.tokens else [])])


def members_of(page: dict[str, object]) -> dict[str, object]:
    """Return a page with those of its users whom strangers may know."""
    users = page["users"]
    assert isinstance(users, list)
    return page | {"users": [each for each in users if each["kind"] == MEMBER]}
