"""The blocking client against scripted servers on real sockets."""

import inspect
import os
import select
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trustme

import online_client.client
from online_client import (
    BatchResult,
    Client,
    ConnectionFailed,
    FramingError,
    ProtocolError,
    RangeError,
    Timeout,
    WrongTokenError,
    verbs,
)
from online_client.client import MAX_KEPT

PATIENCE_S = 20.0
#: A call that is meant to time out.
SHORT_S = 0.05


def test_ask(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering({"count": lambda url: len(url)}))
    with Client(server.url) as client:
        client.hit("theo", "/a")
        assert client.count("/abc") == 4
    assert server.requests == [("hit", [b"theo", b"/a"]), ("count", [b"/abc"])]
    assert server.connections == 1


def test_ask_over_a_unix_socket(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering(), unix=True)
    with Client(server.url) as client:
        assert client.ping() == "PONG"


def test_the_environment_names_the_server(serve: Any, scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLINE_URL", serve(scripts.answering()).url)
    with Client() as client:
        assert client.ping() == "PONG"


@pytest.mark.parametrize(
    ("user", "path", "greeting"),
    [
        ("", "/shop", ("site", [b"shop"])),
        ("shop:secret@", "", ("auth", [b"shop", b"secret"])),
        (":secret@", "", ("auth", [b"default", b"secret"])),
    ],
)
def test_a_new_connection_says_its_site_and_token(
    serve: Any, scripts: Any, user: str, path: str, greeting: object
) -> None:
    server = serve(scripts.answering())
    with Client(server.url.replace("://", f"://{user}") + path) as client:
        client.ping()
        client.ping()
    assert server.requests == [greeting, ("ping", []), ("ping", [])]


def test_a_wrong_token_is_an_error_and_no_connection_is_kept(serve: Any) -> None:
    def script(talk: Any) -> None:
        while request := talk.request():
            talk.refuse(request[0], "WRONGPASS", "the token is another")

    server = serve(script)
    with Client(server.url.replace("://", "://:secret@")) as client:
        for _ in range(2):
            with pytest.raises(WrongTokenError):
                client.count()
    assert [verb for verb, _ in server.requests] == ["auth", "auth"]
    assert server.connections == 2


def test_after_a_refusal_the_connection_serves_on(serve: Any) -> None:
    def script(talk: Any) -> None:
        while request := talk.request():
            if request[1] == "ping":
                talk.answer(request[0], "PONG")
            else:
                talk.refuse(request[0], "RANGE", "limit takes 0 to 1000, not -1")

    server = serve(script)
    with Client(server.url) as client:
        with pytest.raises(RangeError, match="limit takes 0 to 1000"):
            client.page("/", -1)
        assert client.ping() == "PONG"
    assert server.connections == 1


def test_after_a_framing_error_the_connection_is_left(serve: Any) -> None:
    def script(talk: Any) -> None:
        request = talk.request()
        talk.refuse(request[0], "PROTO", "max_frame is reached")

    server = serve(script)
    with Client(server.url) as client:
        for _ in range(2):
            with pytest.raises(FramingError):
                client.ping()
    assert server.connections == 2


def test_an_answer_may_come_in_pieces(serve: Any) -> None:
    def script(talk: Any) -> None:
        talk.request()
        for byte in b"\x94\x01\x00\xc0\xa4PONG":
            talk.send(bytes([byte]))

    with Client(serve(script).url) as client:
        assert client.ping() == "PONG"


def test_what_is_no_answer_is_a_protocol_error(serve: Any) -> None:
    def script(talk: Any) -> None:
        talk.request()
        talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Client(serve(script).url) as client, pytest.raises(ProtocolError, match="an HTTP server answered"):
        client.ping()


def full(talk: Any) -> None:
    talk.request()
    talk.send(b"-ERR max number of clients reached\r\n")


def test_a_server_that_is_full_is_named_with_its_words(serve: Any) -> None:
    with Client(serve(full).url) as client, pytest.raises(ConnectionFailed) as caught:
        client.ping()
    assert str(caught.value).endswith("broke: the server closed it: ERR max number of clients reached")


def test_a_kept_connection_that_the_server_gave_up_is_replaced(serve: Any, scripts: Any) -> None:
    def script(talk: Any) -> None:
        talk.answer(talk.request()[0], "PONG")
        talk.request()
        talk.server.script = scripts.answering()
        talk.refuse(None, "PROTO", "max_buffers is reached")

    server = serve(script)
    with Client(server.url) as client:
        client.ping()
        assert client.ping() == "PONG"
    assert server.connections == 2


def unused_url() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"online://127.0.0.1:{sock.getsockname()[1]}"


def test_an_absent_server_is_named() -> None:
    url = unused_url()
    with pytest.raises(ConnectionFailed, match=f"cannot connect to {url}/default: Connection refused"):
        Client(url).ping()


def test_a_server_that_does_not_answer_is_named(serve: Any, scripts: Any) -> None:
    server = serve(scripts.silent)
    with Client(server.url, timeout=SHORT_S) as client:
        with pytest.raises(Timeout, match=f"{server.url}/default did not answer within 0.05 s"):
            client.ping()
        server.script = scripts.answering()
        assert client.ping() == "PONG"
    assert server.connections == 2


def test_a_server_that_closes_is_named(serve: Any, scripts: Any) -> None:
    server = serve(scripts.closing)
    with (
        Client(server.url) as client,
        pytest.raises(ConnectionFailed, match="/default broke"),
    ):
        client.ping()
    assert server.connections == 1


def test_our_errors_are_also_the_systems() -> None:
    assert issubclass(Timeout, TimeoutError)
    assert issubclass(ConnectionFailed, ConnectionError)
    assert issubclass(RangeError, ValueError)


def test_a_kept_connection_that_broke_is_replaced(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    with Client(server.url) as client:
        client.ping()
        server.disconnect()
        assert client.ping() == "PONG"
    assert server.connections == 2


def test_a_request_is_repeated_only_once(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    with Client(server.url) as client:
        client.ping()
        server.script = scripts.closing
        server.disconnect()
        with pytest.raises(ConnectionFailed):
            client.ping()
    assert server.connections == 2


def test_a_timeout_is_not_repeated(serve: Any) -> None:
    def script(talk: Any) -> None:
        request = talk.request()
        talk.answer(request[0], "PONG")
        talk.request()
        talk.request()

    server = serve(script)
    with Client(server.url, timeout=SHORT_S) as client:
        client.timeout = PATIENCE_S
        client.ping()
        client.timeout = SHORT_S
        with pytest.raises(Timeout):
            client.ping()
    assert [verb for verb, _ in server.requests] == ["ping", "ping"]


def test_threads_have_a_connection_each_and_do_not_wait_for_each_other(serve: Any) -> None:
    everybody_asks = threading.Barrier(3)

    def script(talk: Any) -> None:
        while request := talk.request():
            everybody_asks.wait(PATIENCE_S)
            talk.answer(request[0], int(request[2][0]))

    server = serve(script)
    with Client(server.url, timeout=PATIENCE_S) as client, ThreadPoolExecutor(3) as threads:
        assert list(threads.map(client.count, ["1", "2", "3"])) == [1, 2, 3]
    assert server.connections == 3


def test_no_more_connections_are_kept_than_needed(serve: Any) -> None:
    everybody_asks = threading.Barrier(MAX_KEPT + 2)

    def script(talk: Any) -> None:
        while request := talk.request():
            everybody_asks.wait(PATIENCE_S)
            talk.answer(request[0], 0)

    server = serve(script)
    with Client(server.url, timeout=PATIENCE_S) as client, ThreadPoolExecutor(MAX_KEPT + 2) as threads:
        for connections in (MAX_KEPT + 2, MAX_KEPT + 4):
            list(threads.map(lambda _: client.count(), range(MAX_KEPT + 2)))
            assert server.connections == connections


def test_a_closed_client_keeps_no_connection(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    client = Client(server.url)
    client.close()
    client.ping()
    client.ping()
    assert server.connections == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    with Client(server.url) as client:
        client.ping()
        assert in_child(client.ping) == "PONG"
        assert client.ping() == "PONG"
    assert server.connections == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_while_another_thread_uses_the_client_is_free(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    with Client(server.url) as client:
        client.ping()
        with client._lock:
            assert in_child(client.ping) == "PONG"


def in_child(ask: Callable[[], str]) -> str:
    """Return what `ask` returns in a forked child; nothing if it fails there or never ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, ask().encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], PATIENCE_S)
        return os.read(reading, 100).decode() if ready else ""
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_hits_go_in_batches_and_their_results_are_added_up(serve: Any, scripts: Any) -> None:
    results = iter([[521, 0, 0, None], [1, 2, 1, ["RANGE", "user is empty"]]])
    server = serve(scripts.answering({"hits": lambda *hits: next(results)}))
    with Client(server.url) as client:
        assert client.hits([("theo", "/" * 2_000)] * 525) == BatchResult(522, 2, 1, "RANGE user is empty")
    assert [(verb, len(params)) for verb, params in server.requests] == [("hits", 521), ("hits", 4)]


def test_lists_are_asked_for_part_by_part(serve: Any, scripts: Any) -> None:
    def users(prefix: bytes, limit: int, cursor: bytes = b"0") -> list[object]:
        start = int(cursor)
        rows = [[f"{number}", "/", 0, "member"] for number in range(start, min(start + limit, 7))]
        return [rows, f"{start + limit}" if start + limit < 7 else None]

    server = serve(scripts.answering({"users": users}))
    with Client(server.url) as client:
        assert [session.user for session in client.all_users("t", limit=3)] == list("0123456")
    assert [params[1:] for _, params in server.requests] == [[3], [3, b"3"], [3, b"6"]]


def test_tls(serve: Any, scripts: Any, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = serve(scripts.answering(), tls=context)
    with Client(server.url, ca_file=str(tmp_path / "ca.pem")) as client:
        assert client.ping() == "PONG"
    with Client(f"{server.url}?ca={tmp_path / 'ca.pem'}") as client:
        assert client.ping() == "PONG"
    with Client(server.url) as client, pytest.raises(ConnectionFailed, match="certificate verify failed"):
        client.ping()


def test_a_server_with_tls_is_hinted_at(serve: Any, scripts: Any) -> None:
    server = serve(scripts.closing)
    with Client(server.url) as client, pytest.raises(ConnectionFailed, match=r"uses TLS, the url should begin with onlines://$"):
        client.ping()

    def closing_after_an_answer(talk: Any) -> None:
        talk.answer(talk.request()[0], "OK")
        talk.request()

    server.script = closing_after_an_answer
    with Client(f"{server.url}/shop") as client, pytest.raises(ConnectionFailed, match=r"the server closed it$"):
        client.ping()


def test_a_server_without_tls_is_hinted_at(serve: Any) -> None:
    server = serve(lambda talk: talk.send(b"-PROTO what is this\r\n"))
    url = server.url.replace("online:", "onlines:")
    with Client(url) as client, pytest.raises(ConnectionFailed, match=r"does not use TLS, the url should begin with online://$"):
        client.ping()


def test_methods_carry_the_words_of_the_verbs() -> None:
    assert str(inspect.signature(Client("online://h").top)) == "(limit: int = 10, prefix: str | bytes = '')"
    assert Client.top.__doc__ == verbs.top.__doc__


def told(people: int) -> bytes:
    packed: bytes = msgpack.packb([2, "state", ["count", f'{{"people":{people},"at_ms":1709208000123}}']])
    return packed


def test_a_watched_connection_that_is_silent_is_asked(
    serve: Any, scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence_s = 0.5  # longer than a thread waits for its turn on a busy machine
    monkeypatch.setattr(online_client.client, "SILENCE_S", silence_s)
    monkeypatch.setattr(online_client.client, "FIRST_PAUSE_S", SHORT_S)

    def script(talk: Any) -> None:
        [msgid, _, _] = talk.request()
        talk.send(msgpack.packb([1, msgid, None, 1]) + told(server.connections))
        if server.connections > 1:  # the first dies without a word
            for n in range(3):
                talk.answer(talk.request()[0], "PONG")
                talk.send(told(10 + n))
        talk.request()
        talk.request()

    server = serve(script)
    with Client(server.url, timeout=silence_s) as client:
        states = client.watch("count")
        assert [next(states).value for _ in range(5)] == [1, 2, 10, 11, 12]
        states.close()
    assert [verb for verb, _ in server.requests[:3]] == ["subscribe", "ping", "subscribe"]


def test_a_watch_that_cannot_begin_is_an_error(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    server.close()
    with Client(server.url) as client, pytest.raises(ConnectionFailed):
        next(client.watch("count"))


@pytest.mark.parametrize(
    "params",
    [
        [], ["count"], ["count", 5], ["count", "x"], ["count", "[]"], ["nothing", "{}"], ["count", '{"people":1}'],
        ["count", '{"people":"1","at_ms":1709208000123}'], ["user:a", '{"users":[],"at_ms":1709208000123}'],
        ["top", '{"pages":[[1]],"at_ms":"x"}'], ["page:/a", '{"online":1,"here":1,"users":{},"at_ms":1}'],
    ],
    ids=range(11),
)  # fmt: skip
def test_a_state_that_is_none_is_an_error(params: object) -> None:
    with pytest.raises(ProtocolError):
        verbs.state(params, 0)


def test_a_section_that_is_too_long_has_no_value() -> None:
    read = verbs.state(["section:/", '{"code":"RANGE","detail":"too long","at_ms":1709208000123}'], 0)
    assert (read.channel, read.value) == ("section:/", None)
