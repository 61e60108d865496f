"""HTTP of a server without sockets: peers through memory, with a clock that jumps, and what they are answered."""

import contextlib
from dataclasses import dataclass
from functools import wraps

import h11
import orjson
import trio
from tests.serving import Peer, make_server, memory_line, run, unbuffered

from online.http.service import Http


def jumping(async_test):
    """Run a test with a clock that jumps."""

    @wraps(async_test)
    def test(*args, **kwargs):
        run(lambda: async_test(*args, **kwargs))

    return test


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return orjson.loads(self.body)


def request(method, target, body=b"", **headers):
    """The bytes of a request; `content_type` stands for Content-Type."""
    headers = {"host": "localhost", **headers} | ({"content_length": len(body)} if body else {})
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Browser(Peer):
    """A peer that reads answers, by a parser of its own."""

    def __init__(self, stream):
        super().__init__(stream)
        self.parser = h11.Connection(h11.CLIENT)

    async def get(self, target, method="GET", body=b"", **headers):
        await self.send(request(method, target, body, **headers))
        return await self.answer(method)

    async def post(self, target, value, **headers):
        body = value if isinstance(value, bytes) else orjson.dumps(value)
        return await self.get(target, "POST", body, **{"content_type": "application/json", **headers})

    async def answer(self, method="GET"):
        """The next answer; the parser refuses what is not HTTP/1.1."""
        if self.parser.our_state is h11.DONE:
            self.parser.start_next_cycle()
        self.parser.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        self.parser.send(h11.EndOfMessage())
        head, body = None, b""
        while True:
            event = self.parser.next_event()
            match event:
                case h11.NEED_DATA:
                    self.parser.receive_data(await self.receive())
                case h11.Response():
                    head = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    headers = {name.decode(): value.decode() for name, value in head.headers}
                    return Answer(head.status_code, headers, body)
                case h11.ConnectionClosed():
                    raise AssertionError("the connection ended without an answer")


class Web:
    """A server with HTTP, and nobody connected."""

    def __init__(self, server, http, nursery):
        self.server = server
        self.http = http
        self.nursery = nursery

    def join(self, make_line=memory_line):
        """Connect a browser; `make_line` makes the way to it."""
        ours, to_server = memory_line()
        theirs, to_browser = make_line()
        self.nursery.start_soon(self.http.conversations.serve, trio.StapledStream(theirs, to_server))
        return Browser(trio.StapledStream(ours, to_browser))


@contextlib.asynccontextmanager
async def web(**settings):
    """A server with HTTP; to be used inside a run."""
    server = make_server(**settings)
    http = Http(server.config, server.verbs, server.clock.now_ms)
    past = next(part for part in server.parts if part.name == "past")
    failure = None
    async with past.open(), http.open(), trio.open_nursery() as nursery:
        try:
            yield Web(server, http, nursery)
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


__all__ = ["Answer", "Browser", "Web", "jumping", "request", "unbuffered", "web"]
