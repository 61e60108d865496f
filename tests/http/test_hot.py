"""Who asks the same again and again is answered in C: byte for byte as in Python, or not at all."""

import random
import socket
import sys
from types import SimpleNamespace
from urllib.parse import quote_from_bytes

import h11
import msgpack
import pytest
import trio
from tests.http.browsing import jumping, request, web
from tests.serving import LOCAL, make_server, run_in_real_time, serving

from online import errors
from online.http import asking, hot
from online.http.conversations import _date
from online.http.hot import Hot
from online.http.reader import Reader
from online.limits import Limits
from online.serve.tokens import grant

if sys.platform == "linux":
    from online.core.reactor import Reactor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the reactor is for Linux")

TAIL = b" HTTP/1.1\r\nHost: localhost\r\nX-Any: \xff\r\n\r\n"

USERS = [
    b"ada",
    b'"',
    b"\\",
    b"\x01\x1f\x7f\n\t\b\f\r",
    b"</script>",
    "é✓💩\u2028".encode(),
    b"\xff\xfe",
    b"\xed\xa0\x80",
]
URLS = [b"/forum/1", b'/a"b', "/ü".encode(), b"/\xff", b"/a b+c%20&d=e"]

ANSWERED = [
    "count", "count?url=/forum/1", "count?url=%2fforum%2F1", "count?url=/no", "count?url=/%FF", "count?url=a+b",
    "count?url=/%00", "count?site=shop", "count?url=/shop&site=shop", "count?site=shop&url=/shop",
    *[f"page?url={quote_from_bytes(url)}" for url in URLS], "page?url=/forum/1&limit=0", "page?url=/forum/1&limit=1",
    "page?limit=29&url=/forum/1", "page?url=/forum/1&limit=30", "page?url=/no",
    *[f"seen?user={quote_from_bytes(user)}" for user in USERS], "seen?user=nobody", "seen?user=hidden", "seen?user=bot",
]  # fmt: skip

LEFT = [
    "", "counts?url=/forum/1", "count?", "count?url=", "count?url", "count?within_s=60", "count?url=/&within_s=60",
    "count?x=1", "count?url=/&url=/", "count?url=/&", "count?url=/&&site=shop", "count?url=%zz", "count?url=%F",
    "count?url=%", "count?url=a=b", "count?url=/#f", "count?url=/" + "a" * 2_048, "count?site=sho", "count?site=shopp",
    "count?site=", "count?site=shop&site=shop", "count/", "Count", "page", "page?limit=3", "page?url=/&limit=31",
    "page?url=/&limit=01", "page?url=/&limit=", "page?url=/&limit=-1", "page?url=/&limit=1&limit=1",
    "page?url=/&cursor=x", "page?user=/", "seen", "seen?user=a&user=b", "seen?url=/", "seen?user=",
    "seen?user=a&limit=1",
]  # fmt: skip


class Asker:
    """A connection that C answers, beside a browser that Python answers."""

    def __init__(self, site, tail=TAIL, home=None, grant=None, own=None):
        shared = site.server.verbs
        self.site = site
        self.now_ms = site.server.clock.now_ms()
        self.connection, _ = shared.connections.open()
        asking.introduce(shared, self.connection, grant, own)
        self.back = []
        hot_ones = Hot(shared, lambda fd, connection: connection, _date, lambda *_: None)
        self.hot = hot_ones
        hot_ones._gets.take(self.connection, tail, home or b"default", lambda *gone: self.back.append(gone))

    def ask(self, data):
        """What is answered to `data`, and what of it is left alone."""
        self.connection.receive(data, now_ms=self.now_ms)
        return self.connection.take_output(), self.connection.input_bytes


def get(target, tail=TAIL):
    return b"GET /api/v1/" + target.encode() + tail


async def cold(site, data):
    """What Python answers."""
    browser = site.join()
    await browser.send(data)
    answer = await browser.receive()
    await trio.aclose_forcefully(browser.stream)
    return answer


async def fill(site):
    browser = site.join()
    users = [*USERS, *[b"user-%d" % n for n in range(40)]]
    hits = [[user, b"/forum/1"] for user in users] + [[b"at%d" % n, url] for n, url in enumerate(URLS)]
    hits += [["guest", "/forum/1", None, "guest"], ["hidden", "/forum/1", None, "hidden"], ["bot", "/", None, "bot"]]
    packed = msgpack.packb(hits)
    assert (await browser.get("/api/v1/hits", "POST", packed, content_type="application/msgpack")).json["refused"] == 0
    shop = msgpack.packb([["ada", "/shop"]])
    answer = await browser.get("/api/v1/hits?site=shop", "POST", shop, content_type="application/msgpack")
    assert answer.json["accepted"] == 1


@jumping
async def test_c_answers_byte_for_byte_as_python_does():
    async with web() as site:
        await fill(site)
        for target in ANSWERED:
            asker = Asker(site, own=b"shop" if "site=" in target else None)
            assert asker.ask(get(target)) == (await cold(site, get(target)), 0), target


@jumping
async def test_c_leaves_alone_what_it_does_not_know():
    async with web() as site:
        await fill(site)
        for target in LEFT:
            asker = Asker(site, own=b"shop" if "site=" in target else None)
            assert asker.ask(get(target)) == (b"", len(get(target))), target
        for data in (
            get("count").replace(b"GET", b"HEAD"), get("count").replace(b"1.1", b"1.0"), get("count", TAIL.lower()),
            get("count", b" HTTP/1.1\r\nHost: localhost\r\n\r\n"), b"\r\n" + get("count"),
            get("count?site=default")[:-1],
        ):  # fmt: skip
            assert Asker(site).ask(data) == (b"", len(data))


@jumping
async def test_c_leaves_alone_all_requests_while_python_would_refuse_some():
    async with web() as site:
        asker = Asker(site)
        site.server.service.loading = "reads"
        assert asker.ask(get("count")) == (b"", len(get("count")))


@jumping
async def test_a_request_without_a_site_is_of_the_home_alone():
    async with web() as site:
        await fill(site)
        assert Asker(site, own=b"shop").ask(get("count")) == (b"", len(get("count")))
        output, _ = Asker(site, own=b"shop", home=b"shop").ask(get("count"))
        assert b'{"people":1,' in output


@jumping
async def test_a_site_whose_name_is_written_otherwise_in_a_target_is_left_alone():
    async with web() as site:
        for name in (b"a&b", b"a%26b", b"a+b", b"\xff"):
            target = f"count?site={name.decode('latin-1')}"
            data = b"GET /api/v1/" + target.encode("latin-1") + TAIL
            assert Asker(site, own=name).ask(data) == (b"", len(data))


@jumping
async def test_pipelined_requests_are_answered_up_to_the_first_that_is_left_alone():
    async with web() as site:
        await fill(site)
        known = [get(target) for target in ("count", "page?url=/forum/1", "seen?user=ada")] * 20
        other = get("kinds") + get("count")
        asker = Asker(site)
        output, n_left = asker.ask(b"".join(known) + other)
        while n_left > len(other):
            asker.connection.proceed(now_ms=asker.now_ms)
            output, n_left = output + asker.connection.take_output(), asker.connection.input_bytes
        assert output == b"".join([await cold(site, each) for each in known])
        assert n_left == len(other)


@jumping
async def test_what_is_cut_anywhere_is_left_alone():
    async with web() as site:
        data = get("page?url=/forum/1&limit=30")
        for n in range(1, len(data)):
            assert Asker(site).ask(data[:n]) == (b"", n)


@jumping
async def test_mutated_targets_are_answered_as_by_python_or_left_alone():
    async with web() as site:
        await fill(site)
        draw = random.Random(14)
        n_answered = 0
        for _ in range(400):
            target = draw.choice(ANSWERED)
            data = bytearray(get(target))
            for _ in range(draw.randint(1, 2)):
                at = draw.randrange(len(b"GET /api/v1/count"), len(b"GET /api/v1/") + len(target) + 2)
                match draw.randrange(4):
                    case 0:
                        data[at] = draw.choice(b"&=%+? /0a.B9z~\r\x00\xff")
                    case 1:
                        del data[at]
                    case 2:
                        data.insert(at, draw.choice(b"&=%+? /0a.B9z~\r\x00\xff"))
                    case _:
                        data[at:at] = data[at : at + draw.randint(1, 20)]
            output, n_left = Asker(site).ask(bytes(data))
            assert output != b"" or n_left == len(data)
            if output:
                n_answered += 1
                assert output == await cold(site, bytes(data[: len(data) - n_left]))
        assert n_answered >= 30  # others have other shapes


@jumping
async def test_what_c_answers_counts_as_any_other_verb():
    async with web() as site:
        asker = Asker(site)
        before = site.server.service.commands
        asker.ask(get("count") * 3)
        assert site.server.service.commands == before + 3
        times = site.http.conversations._routes._times
        asker.hot.settle(times)
        asker.hot.settle(times)
        assert times["count"].n == 3
        assert "page" not in times


# Which requests are remembered


def exchange(data):
    reader = Reader(lambda request: 1000)
    reader.receive(data)
    return SimpleNamespace(request=reader.events[0])


@pytest.mark.parametrize("name", sorted(hot.LEFT_ALONE), ids=bytes.decode)
def test_requests_whose_headers_mean_more_are_not_remembered(name):
    value = {b"transfer-encoding": "chunked", b"expect": "100-continue"}.get(name, "0")
    data = request("GET", "/api/v1/count", **{name.decode().replace("-", "_"): value})
    data += b"0\r\n\r\n" if name == b"transfer-encoding" else b""
    assert hot.tail_of(data, exchange(data)) == b""


def test_a_request_is_remembered_from_its_version_on():
    data = request("GET", "/api/v1/page?url=/", authorization="Bearer a")
    assert hot.tail_of(data, exchange(data)) == b" HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer a\r\n\r\n"
    for other in (
        request("HEAD", "/api/v1/count"), request("GET", "/api/v1/top"), request("GET", "http://localhost/api/v1/count"),
        request("GET", "/api/v1/count", connection="close"), data + data, b"\r\n" + data,
        request("GET", "/api/v1/count", x="a" * hot.MOST_TAIL_BYTES), data.replace(b"1.1", b"1.0"),
    ):  # fmt: skip
        assert hot.tail_of(other, exchange(other)) == b""


# Over sockets


class Client:
    """A socket with a parser of its own."""

    def __init__(self, stream):
        self.stream = stream
        self.rest = b""

    async def answer(self, data, n=1):
        await self.stream.send_all(data)
        return [await self.next() for _ in range(n)]

    async def next(self, method="GET"):
        """The next answer, whole."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        parser.send(h11.EndOfMessage())
        if self.rest:
            parser.receive_data(self.rest)  # nothing would mean the end
        body = b""
        while True:
            match parser.next_event():
                case h11.NEED_DATA:
                    parser.receive_data(await self.stream.receive_some())
                case h11.Response() as head:
                    status = head.status_code
                case h11.Data() as data:
                    body += data.data
                case h11.EndOfMessage():
                    self.rest = parser.trailing_data[0]
                    return status, body


def over_sockets(async_test, **settings):
    async def test():
        async with serving(http=(LOCAL,), transport="reactor", **settings) as running:
            http = next(part for part in running.server.parts if part.name == "http")
            stream = await trio.open_tcp_stream("127.0.0.1", http.addresses[0].port)
            await async_test(running.server, Client(stream))
            await stream.aclose()

    run_in_real_time(test)


def n_moved(server):
    return server.sockets.reactor.sockets


def test_a_connection_moves_with_the_second_request_and_comes_back_with_another():
    async def test(server, client):
        assert (await client.answer(get("count")))[0][0] == 200
        assert n_moved(server) == 0
        await client.answer(get("page?url=/"))
        for _ in range(3):
            ((status, body),) = await client.answer(get("seen?user=ada"))
            assert (status, body[:35]) == (200, b'{"users":[{"user":"ada","url":null,')
            assert n_moved(server) == 1
        ((status, body),) = await client.answer(get("kinds"))
        assert (status, body[:11]) == (200, b'{"members":')
        assert n_moved(server) == 0
        assert server.connections.n_counted == 1

    over_sockets(test)


def test_requests_over_the_seam_are_answered_in_their_order():
    async def test(server, client):
        for _ in range(3):
            for _ in range(3):
                await client.answer(get("count"))
            assert n_moved(server) == 1
            told = await client.answer(get("count") * 3 + get("kinds") + get("top") + get("count"), 6)
            assert [body[:8] for _, body in told] == [
                b'{"people',
                *[b'{"people'] * 2,
                b'{"member',
                b'{"pages"',
                b'{"people',
            ]
            assert n_moved(server) == 0
        data = get("count?url=/a")
        for n in (1, 20, len(data) - 1):
            for _ in range(3):
                await client.answer(get("count"))
            await client.stream.send_all(data[:n])
            ((status, body),) = await client.answer(data[n:])
            assert (status, body[:11]) == (200, b'{"people":0')
        await client.stream.send_all(get("count").replace(b"GET", b"HEAD"))
        assert await client.next("HEAD") == (200, b"")

    over_sockets(test)


def test_another_token_is_judged_anew():
    def with_token(token):
        return get("count", f" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())

    async def test(server, client):
        for _ in range(3):
            assert (await client.answer(with_token("right")))[0][0] == 200
        assert n_moved(server) == 1
        assert (await client.answer(get("count")))[0][0] == 401
        for _ in range(3):
            assert (await client.answer(get("count")))[0][0] == 401
        assert n_moved(server) == 0

    over_sockets(test, tokens=(grant(b"right", "read"),))


def test_a_connection_that_is_ended_gets_no_words_of_another_protocol():
    async def test(server, client):
        for _ in range(3):
            await client.answer(get("count"))
        assert n_moved(server) == 1
        [connection] = server.connections
        assert server.connections.end(connection, errors.too_many_connections(), now_ms=server.clock.now_ms())
        assert await client.stream.receive_some() == b""

    over_sockets(test)


def test_who_takes_answers_late_gets_them_all():
    n_asked = 5_000

    async def test(server, client):
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        for _ in range(3):
            await client.answer(get("count"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, get("count") * n_asked + get("kinds"))
            received = b""
            while b'"members"' not in received:
                received += await client.stream.receive_some()
        assert received.count(b"HTTP/1.1 200 OK\r\n") == n_asked + 1
        assert received.count(b'\r\n\r\n{"people":0,"at_ms":') == n_asked
        assert server.service.buffered_bytes == 0

    over_sockets(test, limits=Limits(max_output=16 * 1024))


def test_a_connection_that_rests_ends_with_the_server():
    async def test(server, client):
        for _ in range(3):
            await client.answer(get("count"))
        server.stop()
        assert await client.stream.receive_some() == b""

    over_sockets(test)


@jumping
async def test_who_asks_seldom_is_handed_back():
    server = make_server()
    back = []
    connection, _ = server.connections.open()
    asker_hot = Hot(server.verbs, lambda fd, connection: connection, _date, lambda *_: None)
    asker_hot._gets.take(connection, TAIL, b"default", lambda *gone: back.append(gone))
    reactor = Reactor(server.connections, server.service, lambda: None)
    ours, theirs = socket.socketpair()

    def at(now_ms):
        while reactor.turn(now_ms):
            pass  # a busy machine ends a turn before its work is done

    with ours:
        ours.settimeout(20)
        fd = theirs.detach()
        reactor.take_over(fd, connection, now_ms=1_000)
        ours.sendall(get("count"))
        at(5_000)
        assert ours.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        at(14_999)
        assert back == []
        at(15_200)
        assert back == [(fd, connection, b"")]
        assert reactor.sockets == 0
        socket.socket(fileno=fd).close()
    reactor.close()
