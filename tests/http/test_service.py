"""Connections over HTTP: keep-alive, pipelining, time limits, room, and the end of the server."""

import random
import socket
import ssl

import pytest
import trio
import trustme
from tests.http.browsing import jumping, request, unbuffered, web
from tests.serving import LOCAL, Line, reached, run_in_real_time, serving

from online.errors import ConfigError
from online.http import conversations, service
from online.http.conversations import IDLE_S
from online.limits import Limits
from online.serve import config as server_config
from online.serve.config import Address
from online.serve.keeper import Keeper


@jumping
async def test_a_connection_is_good_for_many_requests():
    async with web() as site:
        browser = site.join()
        for _ in range(3):
            answer = await browser.get("/healthz")
            assert (answer.status, answer.body) == (200, b"ok\n")


@jumping
async def test_pipelined_requests_are_answered_in_their_order():
    async with web() as site:
        browser = site.join()
        await browser.send(b"".join(request("GET", f"/api/v1/count?url=/{n}&x={n}") for n in range(50)))
        assert [(await browser.answer()).json["field"] for _ in range(50)] == ["x"] * 50


@jumping
async def test_who_asks_to_close_is_closed():
    async with web() as site:
        browser = site.join()
        await browser.send(request("GET", "/healthz", connection="close"))
        answer = await browser.answer()
        assert answer.headers["connection"] == "close"
        assert await browser.receive() == b""


@jumping
async def test_head_gets_the_headers_of_get():
    async with web() as site:
        browser = site.join()
        head, get = await browser.get("/healthz", "HEAD"), await browser.get("/healthz")
        assert head.body == b""
        assert head.headers == get.headers


@jumping
async def test_who_expects_to_continue_is_told_before_the_body():
    async with web() as site:
        browser = site.join()
        body = b'[["ada", "/"]]'
        whole = request("POST", "/api/v1/hits", body, expect="100-continue", content_type="application/json")
        await browser.send(whole[: -len(body)])
        assert await browser.receive() == conversations.CONTINUE
        await browser.send(body)
        assert (await browser.answer()).json["accepted"] == 1


@jumping
async def test_what_is_no_http_is_answered_and_ended():
    async with web() as site:
        browser = site.join()
        await browser.send(request("GET", "/healthz") + b"GET / HTTP/1.1\nHost: a\n\n")
        assert (await browser.answer()).status == 200
        answer = await browser.answer()
        assert (answer.status, answer.json["code"]) == (400, "PROTO")
        assert await browser.receive() == b""


@jumping
async def test_a_request_has_its_time():
    async with web(limits={"frame_timeout_s": 30.0}) as site:
        browser = site.join()
        began = trio.current_time()
        for byte in request("GET", "/" + "slow" * 99):
            try:
                await browser.send(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.sleep(1)
            if trio.current_time() > began + 31:
                break
        answer = await browser.answer()
        assert (answer.status, answer.json["limit"]) == (408, 30.0)
        assert await browser.receive() == b""
        assert reached(site.server) == {"frame_timeout": 1}


@jumping
async def test_a_connection_may_rest_but_not_for_ever():
    async with web() as site:
        browser = site.join()
        await browser.get("/healthz")
        began = trio.current_time()
        assert await browser.receive() == b""
        assert trio.current_time() - began == pytest.approx(IDLE_S)
        assert reached(site.server) == {}


@jumping
async def test_a_connection_that_says_nothing_ends_sooner():
    async with web(limits={"frame_timeout_s": 30.0}) as site:
        browser = site.join()
        assert await browser.receive() == b""
        assert trio.current_time() == pytest.approx(30)


@jumping
async def test_who_does_not_read_is_ended():
    async with web(limits={"send_timeout_s": 10.0}) as site:
        browser = site.join(unbuffered)
        await browser.send(request("GET", "/healthz"))
        with trio.move_on_after(60):
            while site.server.connections.n_counted:
                await trio.sleep(0.5)
        assert reached(site.server) == {"slow": 1}
        assert site.server.statistics().buffered_bytes == 0


@jumping
async def test_one_too_many_is_told_so():
    async with web(limits={"max_connections": 1}) as site:
        first = site.join()
        await first.get("/healthz")
        second = site.join()
        answer = await second.answer()
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "FULL", "1")
        assert (answer.json["field"], answer.json["limit"]) == ("max_connections", 1)
        assert await second.receive() == b""
        assert (await first.get("/healthz")).status == 200


@jumping
async def test_bodies_that_wait_count_in_max_buffers():
    async with web(limits={"max_buffers": 2**20, "max_frame": 2**20}) as site:
        browsers = [site.join() for _ in range(3)]
        for browser, n_bytes in zip(browsers, (200_000, 200_000, 900_000), strict=True):
            whole = request("POST", "/api/v1/hits", b"x" * n_bytes, content_type="application/json")
            await browser.send(whole[:-1])
            await trio.testing.wait_all_tasks_blocked()
        assert reached(site.server) == {"max_buffers_reached": 1}
        answer = await browsers[2].answer()
        assert (answer.status, answer.json["code"]) == (503, "FULL")
        await browsers[0].send(b"x")
        assert (await browsers[0].answer()).status == 400


@jumping
async def test_a_fault_of_the_server_ends_one_connection_alone(monkeypatch, caplog):
    async with web() as site:

        async def fail(exchange):
            raise ZeroDivisionError

        site.http.conversations._routes._open[b"/healthz"] = {"GET": fail}
        browser, other = site.join(), site.join()
        assert (await browser.get("/healthz")).status == 500
        assert await browser.receive() == b""
        assert (await other.get("/readyz")).status == 200
        assert site.server.statistics().connections_failed == 1
        assert "ZeroDivisionError" in caplog.text


@jumping
async def test_an_administrator_sees_and_ends_it_like_any_other():
    async with web() as site:
        browser, line = site.join(), Line(site.server.verbs)
        await browser.get("/healthz")
        assert len(line.ask("CLIENT", "LIST").splitlines()) == 2
        assert line.ask("CLIENT", "KILL", "TYPE", "normal") == 1
        answer = await browser.answer()
        assert (answer.status, answer.json["detail"]) == (503, "this connection was ended by CLIENT KILL")
        assert await browser.receive() == b""
        await browser.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(line.ask("CLIENT", "LIST").splitlines()) == 1


@jumping
async def test_the_end_waits_for_answers_not_for_who_rests():
    async with web() as site:
        resting, asking = site.join(), site.join()
        await resting.get("/healthz")
        whole = request("GET", "/healthz")
        await asking.send(whole[:-1])
        await trio.testing.wait_all_tasks_blocked()
        site.http.end()
        assert await resting.receive() == b""
        assert await asking.receive() == b""


#: Requests to be spoiled.
WELL_MEANT = [
    request("GET", "/api/v1/page?url=/forum/1&limit=3&cursor=1a2-3.9a72fafead84c5cc&site=shop", connection="close"),
    request("GET", "/api/v1/seen?user=%FF&user=b", accept_encoding="gzip", if_none_match='"x"', connection="close"),
    request(
        "POST", "/api/v1/hits", b'[["ada", "/", null, "guest"]]', content_type="application/json", connection="close"
    ),
    request("POST", "/api/v1/hits", b"\x91\x92\xa3ada\xa1/", content_type="application/msgpack", connection="close"),
    request("GET", "/", cookie="online_session=1795857687.00", origin="null", connection="close"),
]


@jumping
async def test_spoiled_requests_are_no_fault_of_the_server():
    chosen = random.Random(7)
    statuses = set()
    async with web(tokens=(), limits={"frame_timeout_s": 1.0}) as site:
        for _ in range(300):
            data = bytearray(chosen.choice(WELL_MEANT))
            for _ in range(chosen.randrange(4)):
                place = chosen.randrange(len(data))
                data[place : place + chosen.randrange(3)] = chosen.choice(
                    [b"", b"%", b"%f", b"&", b"=", b"\xff", b"0", b"9" * 20, b"[", b'"', b"{", b" ", b"\r\n", b"\0"]
                )
            browser = site.join()
            await browser.send(bytes(data))
            answer = await browser.receive_rest()
            statuses.add(answer[9:12])
            await browser.stream.aclose()
        assert site.server.statistics().connections_failed == 0
    assert {b"200", b"400", b"404"} <= statuses
    assert b"500" not in statuses


# With sockets


def ask_once(address, target="/healthz"):
    async def asked():
        stream = await trio.open_tcp_stream(address.host, address.port)
        async with stream:
            await stream.send_all(request("GET", target, connection="close"))
            return b"".join([bytes(chunk) async for chunk in stream])

    return asked()


@pytest.mark.parametrize("target", ["/api/v1/count", "/style.css"])
def test_a_unix_socket_serves_too(tmp_path, target):
    path = tmp_path / "http.sock"

    async def scenario():
        async with serving(http=(Address(path=path),), unix_mode=0o600):
            assert path.stat().st_mode & 0o777 == 0o600
            stream = await trio.open_unix_socket(str(path))
            async with stream:
                await stream.send_all(request("GET", target, connection="close"))
                answered = b"".join([bytes(chunk) async for chunk in stream])
            assert answered.startswith(b"HTTP/1.1 200 OK\r\n")

    run_in_real_time(scenario)
    assert not path.exists()


def test_tls_is_spoken_where_there_is_a_certificate(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def scenario():
        files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
        async with serving(http=(LOCAL,), **files) as running:
            http = http_of(running.server)
            [address] = http.addresses
            assert list(http.told()) == [f"dashboard and API at https://{address}/"]
            plain = await trio.open_tcp_stream(address.host, address.port)
            stream = trio.SSLStream(plain, context, server_hostname="127.0.0.1")
            async with stream:
                await stream.send_all(request("GET", "/healthz"))
                assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
            async with await trio.open_tcp_stream(address.host, address.port) as stranger:
                await stranger.send_all(request("GET", "/healthz"))
                assert b"HTTP" not in b"".join([bytes(chunk) async for chunk in stranger])
            assert running.server.statistics().connections_failed == 0

    run_in_real_time(scenario)


def test_many_half_open_connections_take_nothing_from_the_others():
    async def scenario():
        limits = Limits(max_connections=200, frame_timeout_s=1.0)
        async with serving(http=(LOCAL,), limits=limits) as running:
            [address] = http_of(running.server).addresses
            streams = [await trio.open_tcp_stream(address.host, address.port) for _ in range(199)]
            for n, stream in enumerate(streams):
                await stream.send_all(request("GET", "/" + "x" * 9000)[: n % 9000])
            assert b"200 OK" in await ask_once(address)
            while running.server.statistics().connections:
                await trio.sleep(0.05)
            assert running.server.statistics().limits["frame_timeout"] > 0
            assert running.server.statistics().buffered_bytes == 0
            for stream in streams:
                await trio.aclose_forcefully(stream)

    run_in_real_time(scenario)


def test_while_the_state_is_read_it_is_alive_and_not_ready(tmp_path, monkeypatch):
    async def scenario():
        loading, go_on = trio.Event(), trio.Event()

        async def load(keeper):
            keeper._service.loading = "42% read from disk"
            loading.set()
            await go_on.wait()
            keeper._service.loading = None

        monkeypatch.setattr(Keeper, "load", load)
        async with serving(http=(LOCAL,), state=tmp_path / "state") as running:
            [address] = http_of(running.server).addresses
            await loading.wait()
            assert b" 200 OK" in await ask_once(address, "/healthz")
            assert b" 503 Service" in await ask_once(address, "/readyz")
            assert b"42% read" in await ask_once(address, "/api/v1/count")
            go_on.set()
            await trio.testing.wait_all_tasks_blocked()
            assert b" 200 OK" in await ask_once(address, "/readyz")

    run_in_real_time(scenario)


def http_of(server):
    return next(part for part in server.parts if part.name == "http")


def test_it_listens_where_it_is_told(caplog):
    async def scenario():
        async with serving(http=(LOCAL,)) as running:
            [address] = http_of(running.server).addresses
            assert b"200 OK" in await ask_once(address)
            running.server.stop()
            await running.ended.wait()
        with pytest.raises(OSError, match="connect"):
            await ask_once(address)

    run_in_real_time(scenario)


def test_a_port_that_was_asked_for_must_be_free():
    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with serving(http=(Address("127.0.0.1", port),)):
                raise AssertionError("it runs")

    with pytest.raises(ConfigError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"):
        unpack(scenario)


def test_without_the_default_port_it_runs_and_says_so(monkeypatch, caplog):
    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            monkeypatch.setattr(service, "DEFAULT_HTTP", Address("127.0.0.1", taken.getsockname()[1]))
            async with serving(http=None) as running:
                assert http_of(running.server).addresses == ()

    run_in_real_time(scenario)
    assert "so there is no dashboard and no HTTP, unless --http names another address" in caplog.text


def unpack(scenario):
    """Run a scenario; raise what it raised alone."""
    try:
        run_in_real_time(scenario)
    except* ConfigError as group:
        error = group
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        raise error from None


def test_the_default_is_another_port_than_that_of_the_verbs():
    assert server_config.DEFAULT_HTTP not in server_config.DEFAULT_LISTEN
