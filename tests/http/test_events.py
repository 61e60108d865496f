"""Channels over HTTP: a stream of events, what its head says, and its end."""

import contextlib
from urllib.parse import quote_from_bytes, urlencode

import orjson
import pytest
import trio
from tests.http.browsing import jumping, request, web
from tests.serving import LOCAL, TRANSPORTS, reached, run_in_real_time, serving

from online.http import conversations

EVENTS = "/api/v1/events"


class Source:
    """A browser's source of events."""

    def __init__(self, peer):
        self.peer = peer
        self.data = b""

    async def open(self, *channels, **more):
        """Ask for channels; return the lines of the head."""
        return await self.ask("&".join(f"channel={quote_from_bytes(each)}" for each in channels), **more)

    async def ask(self, query, **more):
        await self.peer.send(request("GET", f"{EVENTS}?{query}", **more))
        return (await self.until(b"\r\n\r\n")).split(b"\r\n")

    async def until(self, end):
        while end not in self.data:
            received = await self.peer.receive()
            assert received, f"the end after {self.data!r}"
            self.data += received
        found, _, self.data = self.data.partition(end)
        return found

    async def block(self):
        return (await self.until(b"\n\n")).decode().split("\n")

    async def event(self):
        """The next state; comments and what comes first are passed over."""
        fields = dict(line.split(": ", 1) for line in await self.block() if line[:1] != ":")
        if "data" not in fields:
            return await self.event()
        state = orjson.loads(fields["data"])
        assert fields["id"] == str(state.pop("at_ms"))
        return state


@contextlib.asynccontextmanager
async def telling(**settings):
    """A server with HTTP that tells."""
    async with web(**settings) as site:
        server = site.server
        site.nursery.start_soon(server.slices.run)
        site.nursery.start_soon(server.verbs.push.run, server.slices, server.clock.now_ms)
        yield site


async def hit(browser, user, url="/"):
    assert (await browser.post("/api/v1/hits", [[user, url]])).status == 200


@jumping
async def test_a_stream_begins_at_once_and_tells_changes():
    async with telling() as site:
        source, browser = Source(site.join()), site.join()
        head = await source.open(b"count", b"page:/a")
        assert head[0] == b"HTTP/1.1 200 OK"
        assert {
            b"Content-Type: text/event-stream",
            b"Cache-Control: no-cache, no-transform",
            b"X-Accel-Buffering: no",
            b"Connection: close",
        } <= set(head)
        assert not [line for line in head if line.startswith((b"Content-Length", b"Content-Encoding", b"Transfer"))]
        assert await source.block() == ["retry: 2000"]
        assert [await source.event(), await source.event()] == [
            {"channel": "count", "people": 0},
            {"channel": "page:/a", "online": 0, "here": 0, "users": [], "cursor": None},
        ]
        await hit(browser, "ada", "/b")
        began = trio.current_time()
        assert await source.event() == {"channel": "count", "people": 1}
        assert trio.current_time() - began <= 1
        assert (await source.event())["online"] == 1
        info = (await browser.get("/api/v1/info?section=push")).json["sections"]["push"]
        assert info == {"subscriptions": 2, "channels": 2, "events": 4, "events_skipped": 0}


@jumping
async def test_states_are_what_the_api_answers():
    async with telling() as site:
        browser = site.join()
        for user, url in (("ada", "/a"), ("größe\n", "/a"), ('"\\', "/b")):
            await hit(browser, user, url)
        await browser.post("/api/v1/hits", [{"user": {"base64": "/w=="}, "url": "/a"}, ["h", "/a", None, "hidden"]])
        asked = {
            "count": "count",
            "page:/a": "page?url=/a",
            "section:/": "section?prefix=/",
            "top": "top?limit=10",
            "user:ada": "seen?user=ada",
            "user:h": "seen?user=h",
        }
        source = Source(site.join())
        await source.open(*(channel.encode() for channel in asked))
        for _ in asked:
            state = await source.event()
            answer = (await browser.get(f"/api/v1/{asked[state.pop('channel')]}")).json
            del answer["at_ms"]
            assert state == answer


@jumping
async def test_channels_of_any_bytes_and_of_other_sites():
    async with telling() as site:
        source, browser = Source(site.join()), site.join()
        await browser.get("/api/v1/hits?site=shop", "POST", b'[["ada", "/"]]', content_type="application/json")
        await source.ask("site=shop&channel=count&channel=page:%FF")
        assert await source.event() == {"channel": "count", "people": 1}
        assert (await source.event())["channel"] == {"base64": "cGFnZTr/"}


@jumping
async def test_a_comment_comes_each_15_seconds():
    async with telling() as site:
        source = Source(site.join())
        await source.open(b"count")
        await source.event()
        began = trio.current_time()
        for n in range(1, 41):  # ten minutes: longer than any time that a connection may rest
            assert await source.block() == [":"]
            assert trio.current_time() - began == pytest.approx(15 * n)
        assert reached(site.server) == {}


@jumping
async def test_who_comes_back_gets_the_newest_at_once():
    async with telling() as site:
        source, browser = Source(site.join()), site.join()
        await source.open(b"count")
        await source.event()
        await source.peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert site.server.verbs.push.n_subscriptions == 0
        await hit(browser, "ada")
        again = Source(site.join())
        await again.open(b"count", last_event_id="1700000000000")
        assert await again.event() == {"channel": "count", "people": 1}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "channel"),
        ("channel=nothing", "channel"),
        ("channel=page:", "url"),
        ("channel=count&of=x", "of"),
        ("channel=count&site=", "site"),
    ],
    ids=["none", "unknown", "no-url", "parameter", "site"],
)
@jumping
async def test_what_is_wrong_is_said_before_any_event(query, field):
    async with telling() as site:
        answer = await site.join().get(f"{EVENTS}?{query}")
        assert (answer.status, answer.json["field"]) == (400, field)
        assert site.server.verbs.push.n_subscriptions == 0


@jumping
async def test_limits_tokens_and_loading():
    async with telling(limits={"max_subscriptions": 1}, token=b"a token of 16 bytes") as site:
        browser = site.join()
        assert (await browser.get(f"{EVENTS}?channel=count")).status == 401
        bearer = {"authorization": "Bearer a token of 16 bytes"}
        answer = await browser.get(f"{EVENTS}?channel=count&channel=top", **bearer)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (503, "FULL", "max_subscriptions")
        assert (await browser.get(f"{EVENTS}?channel=count", "HEAD", **bearer)).status == 200
        site.server.service.loading = "it is being read"
        assert (await browser.get(f"{EVENTS}?channel=count", **bearer)).status == 503
        site.server.service.loading = None
        assert reached(site.server) == {"max_subscriptions_reached": 1}
        assert (await Source(site.join()).open(b"count", **bearer))[0] == b"HTTP/1.1 200 OK"


@jumping
async def test_a_server_that_ends_ends_its_streams():
    async with telling() as site:
        source = Source(site.join())
        await source.open(b"count")
        await source.event()
        site.http.end()
        assert await source.peer.receive_rest() == b""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_events_over_sockets(transport, monkeypatch):
    """As the server runs: by the reactor, or a task each; to one who reads, and one who does not."""
    monkeypatch.setattr(conversations, "COMMENT_EVERY_S", 0.1)

    async def test():
        async with serving(http=(LOCAL,), transport=transport) as served:
            push = served.server.verbs.push
            http = served.server.parts[-1]
            streams = [await trio.open_tcp_stream(http.addresses[0].host, http.addresses[0].port) for _ in range(2)]
            reader, sleeper = [Source(_Plain(stream)) for stream in streams]
            query = urlencode([("channel", f"user:{n}") for n in range(50)] + [("channel", "page:/a")])
            for source in (reader, sleeper):
                assert (await source.ask(query))[0] == b"HTTP/1.1 200 OK"
            for _ in range(51):
                await reader.event()
            while await reader.block() != [":"]:
                pass
            await reader.peer.send(b"GET / HTTP/1.1\r\n\r\n" * 1000)  # to which nobody listens
            line = await served.connect()
            for n in range(100):
                await line.ask(b"HIT user-%d%b /a" % (n, 200 * b"x"))
            while (await reader.event()).get("here") != 100:
                pass
            assert served.server.connections.n_counted == 3
            for stream in streams:
                await stream.aclose()
            while push.n_subscriptions or served.server.connections.n_counted > 1:
                await trio.testing.wait_all_tasks_blocked()
            assert served.server.service.waiting_bytes < 1000

    run_in_real_time(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_stops_ends_streams_over_sockets(transport):
    async def test():
        async with serving(http=(LOCAL,), transport=transport) as served:
            http = served.server.parts[-1]
            source = Source(_Plain(await trio.open_tcp_stream(http.addresses[0].host, http.addresses[0].port)))
            await source.open(b"count")
            await source.event()
            served.server.stop()
            while await source.peer.receive():
                pass
            await served.ended.wait()
            await source.peer.stream.aclose()

    run_in_real_time(test)


class _Plain:
    def __init__(self, stream):
        self.stream = stream

    async def send(self, data):
        await self.stream.send_all(data)

    async def receive(self):
        return bytes(await self.stream.receive_some())
