"""The asynchronous client, on asyncio and on Trio, against scripted servers on real sockets."""

import inspect
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import pytest
import trustme

from online_client import Client, ConnectionFailed, FramingError, ProtocolError, RangeError, Timeout
from online_client.aio import AsyncClient
from online_client.client import MAX_KEPT

PATIENCE_S = 20.0
SHORT_S = 0.05

Run: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        anyio.run(test, backend=request.param)

    return run


def test_ask(serve: Any, scripts: Any, run: Run) -> None:
    server = serve(scripts.answering({"count": lambda url: len(url)}))

    async def test() -> None:
        async with AsyncClient(server.url + "/shop") as client:
            await client.hit("theo", "/a")
            assert await client.count("/abc") == 4

    run(test)
    assert server.requests == [("site", [b"shop"]), ("hit", [b"theo", b"/a"]), ("count", [b"/abc"])]
    assert server.connections == 1


def test_ask_over_a_unix_socket(serve: Any, scripts: Any, run: Run) -> None:
    server = serve(scripts.answering(), unix=True)

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            assert await client.ping() == "PONG"

    run(test)


def test_tls(serve: Any, scripts: Any, run: Run, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = serve(scripts.answering(), tls=context)

    async def test() -> None:
        async with AsyncClient(server.url, ca_file=str(tmp_path / "ca.pem")) as client:
            assert await client.ping() == "PONG"
        async with AsyncClient(server.url) as client:
            with pytest.raises(ConnectionFailed, match="certificate verify failed"):
                await client.ping()

    run(test)


def test_the_wrong_scheme_is_hinted_at(serve: Any, scripts: Any, run: Run) -> None:
    plain = serve(lambda talk: talk.send(b"-PROTO what is this\r\n"))
    closing = serve(scripts.closing)

    async def test() -> None:
        async with AsyncClient(plain.url.replace("online:", "onlines:")) as client:
            with pytest.raises(ConnectionFailed, match=r"does not use TLS, the url should begin with online://$"):
                await client.ping()
        async with AsyncClient(closing.url) as client:
            with pytest.raises(ConnectionFailed, match=r"uses TLS, the url should begin with onlines://$"):
                await client.ping()

    run(test)


def test_an_answer_may_come_in_pieces(serve: Any, run: Run) -> None:
    def script(talk: Any) -> None:
        talk.request()
        for byte in b"\x94\x01\x00\xc0\xa4PONG":
            talk.send(bytes([byte]))

    server = serve(script)

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            assert await client.ping() == "PONG"

    run(test)


def test_hits_and_lists(serve: Any, scripts: Any, run: Run) -> None:
    def page(url: bytes, limit: int, cursor: bytes = b"") -> list[object]:
        return [3, 2, [["a" if not cursor else "b", 0, "member"]], None if cursor else "next"]

    server = serve(scripts.answering({"page": page}))

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            assert (await client.hits([("theo", "/" * 2_000)] * 600)).accepted == 600
            assert [viewer.user async for viewer in client.all_on_page("/", limit=1)] == ["a", "b"]

    run(test)


def test_refusals(serve: Any, run: Run) -> None:
    def script(talk: Any) -> None:
        while request := talk.request():
            if request[1] == "ping":
                talk.answer(request[0], "PONG")
            elif request[1] == "page":
                talk.refuse(request[0], "RANGE", "limit takes 0 to 1000, not -1")
            else:
                talk.refuse(request[0], "PROTO", "max_frame is reached")

    server = serve(script)

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            with pytest.raises(RangeError, match="limit takes"):
                await client.page("/", -1)
            assert await client.ping() == "PONG"
            assert server.connections == 1
            with pytest.raises(FramingError):
                await client.hit("theo", "/")
            assert await client.ping() == "PONG"
            assert server.connections == 2

    run(test)


def test_what_is_no_answer_is_a_protocol_error(serve: Any, run: Run) -> None:
    def script(talk: Any) -> None:
        talk.request()
        talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = serve(script)

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            with pytest.raises(ProtocolError, match="an HTTP server answered"):
                await client.ping()

    run(test)


def test_an_absent_server_is_named(run: Run) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"online://127.0.0.1:{sock.getsockname()[1]}"

    async def test() -> None:
        with pytest.raises(ConnectionFailed, match=f"cannot connect to {url}/default: .*"):
            await AsyncClient(url).ping()

    run(test)


def test_a_server_that_does_not_answer_is_named(serve: Any, scripts: Any, run: Run) -> None:
    server = serve(scripts.silent)

    async def test() -> None:
        async with AsyncClient(server.url, timeout=SHORT_S) as client:
            with pytest.raises(Timeout, match=f"{server.url}/default did not answer within 0.05 s"):
                await client.ping()
            server.script = scripts.answering()
            client.timeout = PATIENCE_S
            assert await client.ping() == "PONG"
        assert server.connections == 2

    run(test)


def test_a_server_that_closes_is_named(serve: Any, scripts: Any, run: Run) -> None:
    server = serve(scripts.closing)

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            with pytest.raises(ConnectionFailed, match=f"to {server.url}/default broke"):
                await client.ping()

    run(test)
    assert server.connections == 1


def test_a_server_that_is_full_is_named_with_its_words(serve: Any, run: Run) -> None:
    def script(talk: Any) -> None:
        talk.request()
        talk.send(b"-ERR max number of clients reached\r\n")

    server = serve(script)

    async def test() -> None:
        with pytest.raises(ConnectionFailed, match="the server closed it: ERR max number of clients reached"):
            await AsyncClient(server.url).ping()

    run(test)


def test_a_kept_connection_that_broke_is_replaced(serve: Any, scripts: Any, run: Run) -> None:
    server = serve(scripts.answering())

    async def test() -> None:
        async with AsyncClient(server.url) as client:
            await client.ping()
            server.disconnect()
            assert await client.ping() == "PONG"

    run(test)
    assert server.connections == 2


def test_a_cancelled_call_leaves_no_connection_behind(serve: Any, scripts: Any, run: Run) -> None:
    asked = threading.Event()

    def script(talk: Any) -> None:
        talk.request()
        asked.set()
        talk.request()

    server = serve(script)

    async def test() -> None:
        async with AsyncClient(server.url, timeout=PATIENCE_S) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.ping)
                await anyio.to_thread.run_sync(asked.wait, PATIENCE_S)
                tasks.cancel_scope.cancel()
            server.script = scripts.answering()
            assert await client.ping() == "PONG"

    run(test)
    assert server.connections == 2


def test_tasks_have_a_connection_each(serve: Any, run: Run) -> None:
    everybody_asks = threading.Barrier(MAX_KEPT + 2)

    def script(talk: Any) -> None:
        while request := talk.request():
            everybody_asks.wait(PATIENCE_S)
            talk.answer(request[0], int(request[2][0]))

    server = serve(script)
    answers: list[int] = []

    async def test() -> None:
        async with AsyncClient(server.url, timeout=PATIENCE_S) as client:

            async def ask(url: str) -> None:
                answers.append(await client.count(url))

            async with anyio.create_task_group() as tasks:
                for number in range(MAX_KEPT + 2):
                    tasks.start_soon(ask, f"{number}")

    run(test)
    assert sorted(answers) == list(range(MAX_KEPT + 2))
    assert server.connections == MAX_KEPT + 2


def test_each_run_of_an_event_loop_has_its_connections(serve: Any, scripts: Any, run: Run) -> None:
    server = serve(scripts.answering())
    client = AsyncClient(server.url)

    async def test() -> None:
        assert await client.ping() == "PONG"
        assert await client.ping() == "PONG"
        await client._forget()

    run(test)
    run(test)
    assert server.connections == 2


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(client).items()
            if callable(value) and not name.startswith("_")
        }

    blocking, asynchronous = methods(Client), methods(AsyncClient)
    del blocking["after_fork"]
    blocking["aclose"] = blocking.pop("close")
    assert blocking == asynchronous
