"""The ASGI middleware: which responses it reports and when; everything else passes through."""

import asyncio

import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse
from tests.serving import PATIENCE_S
from tests.websites import FIREFOX, Browser, flush, follow, website, wrapping

from online_client.asgi import OnlineMiddleware

START = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/html; charset=utf-8")]}


@pytest.fixture
def wrap(url):
    """Wrap an application; its members are those named in the header X-User."""
    with wrapping(OnlineMiddleware, url, lambda scope: dict(scope["headers"]).get(b"x-user")) as wrap:
        yield wrap


async def ask(app, path="/a", method="GET", address="192.0.2.1", on_sent=lambda message: None, **headers):
    """Ask for a page; return its messages. `on_sent` is told of each when it has gone."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "client": (address, 4711),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    if "user_agent" not in headers:
        scope["headers"].append((b"user-agent", FIREFOX.encode()))
    messages = []

    requests = iter([{"type": "http.request", "body": b""}])

    async def receive():
        for request in requests:
            return request
        return await asyncio.Event().wait()  # nobody disconnects

    async def send(message):
        messages.append(message)
        on_sent(message)

    await app(scope, receive, send)
    return messages


def visit(app, *args, **options):
    return asyncio.run(ask(app, *args, **options))


def responding(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_members_and_guests_are_reported(wrap, client):
    app = wrap(responding(START, body(b"hello")))
    assert visit(app, x_user="ada") == [START, body(b"hello")]
    visit(app, address="192.0.2.1")
    visit(app, address="192.0.2.2")
    visit(app, address="192.0.2.2", method="POST")
    visit(app, user_agent="Googlebot/2.1")
    flush(app)
    assert client.kinds("/a") == type(client.kinds())(1, 2, 0, 1)
    assert client.seen("ada")[0].url == "/a"


def test_a_page_view_is_reported_when_its_response_has_started(wrap):
    app = wrap(responding(START, body(b"hel", more=True), body(b"lo")))
    reported = []
    app.page_views.reporter.hit = lambda *args, **options: reported.append(args)
    seen = []
    visit(app, x_user="ada", on_sent=lambda message: seen.append(len(reported)))
    assert seen == [0, 1, 1]
    assert reported == [(b"ada", b"/a")]


def test_who_hangs_up_is_counted(wrap, client):
    def gone(message):
        raise OSError("gone")

    app = wrap(responding(START, body(b"hello")))
    with pytest.raises(OSError, match="gone"):
        visit(app, on_sent=gone)
    flush(app)
    assert client.count("/a") == 1


def test_a_page_that_streams_for_ever_is_counted(wrap, client):
    async def app(scope, receive, send):
        await send(START)
        while True:
            await send(body(b"more", more=True))

    chunks = []

    def leave(message):
        chunks.append(message)
        if len(chunks) == 10:
            raise asyncio.CancelledError  # as servers cancel who has left

    app = wrap(app)
    with pytest.raises(asyncio.CancelledError):
        visit(app, on_sent=leave)
    flush(app)
    assert client.count("/a") == 1


def test_a_file_that_the_server_sends_by_itself_is_reported(wrap, client):
    app = wrap(responding(START, {"type": "http.response.pathsend", "path": "/x.html"}))
    visit(app)
    flush(app)
    assert client.count("/a") == 1


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_http_passes_through_untouched(wrap, kind):
    passed = []

    async def app(*args):
        passed.append(args)

    given = ({"type": kind}, object(), object())
    asyncio.run(wrap(app)(*given))
    assert passed == [given]


def test_other_responses_are_not_reported(wrap, client):
    for status, content_type in [(404, b"text/html"), (302, b"text/html"), (200, b"application/json")]:
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]}
        app = wrap(responding(start, body(b"")))
        visit(app)
        flush(app)
    assert client.count() == 0


def test_an_application_that_fails_before_its_response_is_not_reported(wrap, client):
    async def app(scope, receive, send):
        raise OSError("gone")

    app = wrap(app)
    with pytest.raises(OSError, match="gone"):
        visit(app)
    flush(app)
    assert client.count() == 0


def test_fastapi(client):
    app = FastAPI()
    started = []

    @app.get("/forum/{topic}", response_class=HTMLResponse)
    def forum(topic: str, background: BackgroundTasks):
        background.add_task(started.append, topic)
        return f"topic {topic}"

    @app.get("/long", response_class=StreamingResponse)
    async def long():
        return StreamingResponse(iter(["a", "b"]), media_type="text/html")

    @app.get("/data")
    def data():
        return {"a": 1}

    @app.websocket("/live")
    async def live(websocket: WebSocket):
        await websocket.accept()

    views = []

    class Watched(OnlineMiddleware):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            views.append(self.page_views)

    app.add_middleware(Watched, url=str(client.address), secret="s3cret")
    for number, path in enumerate(["/forum/1", "/forum/1", "/long", "/data", "/nowhere"]):
        visit(app, path, address=f"192.0.2.{number}")
    assert started == ["1", "1"]
    assert views[0].reporter.close(PATIENCE_S)
    assert client.counts("/forum/1", "/long", "/data", "/nowhere") == [2, 1, 0, 0]


@pytest.mark.slow
def test_the_guide_as_it_is_written(client, tmp_path):
    command, folder = follow("fastapi.md", tmp_path)
    site = command.replace("8000", "0")
    with website("sh", "-c", f"exec {site}", cwd=folder, ready=r"running on (\S+)", ONLINE_URL=client.address) as ready:
        ada, theo = Browser(ready[1]), Browser(ready[1], agent="Chrome")
        ada.get_until("/forum/1", "1 online. On this page: <")
        ada.get("/login/ada")
        ada.get_until("/forum/1", "1 online. On this page: ada<")  # and no guest who had no name yet
        theo.get_until("/forum/1", "2 online. On this page: ada<")
    assert client.kinds("/forum/1") == type(client.kinds())(1, 1, 0, 0)
