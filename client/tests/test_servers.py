"""Several servers in one url: which is asked, and what happens when one fails."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import trio

from online_client import AddressError, Client, ConnectionFailed, LoadingError, Reporter, Timeout
from online_client.address import parse_addresses
from online_client.aio import AsyncClient
from online_client.servers import LONGEST_PAUSE_S, Servers

ADDRESSES = parse_addresses("online://a,b,c/shop")


def test_a_url_may_name_several_hosts() -> None:
    addresses = parse_addresses("online://shop:token@a:1,[::1]:2,b/")
    assert [(each.host, each.port, each.site, each.token) for each in addresses] == [
        ("a", 1, "shop", "token"),
        ("::1", 2, "shop", "token"),
        ("b", 8989, "shop", "token"),
    ]
    assert len(parse_addresses("online://a,a/")) == 1
    assert parse_addresses("online+unix:///run/a,b.sock")[0].path == "/run/a,b.sock"
    assert [each.tls for each in parse_addresses("onlines://a,b/x")] == [True, True]


@pytest.mark.parametrize("url", ["online://a,/x", "online://,a", "online://a:0,b", "online://a,b:99999"])
def test_each_host_has_to_be_good(url: str) -> None:
    with pytest.raises(AddressError):
        Client(url)


def test_the_first_healthy_one_is_asked_and_one_that_failed_is_left_alone() -> None:
    now_s = 0.0
    servers = Servers(ADDRESSES, clock=lambda: now_s)
    a, b, c = ADDRESSES
    assert servers.in_order() == [a, b, c]
    servers.failed(a)
    assert servers.in_order() == [b, c, a]
    servers.failed(b)
    assert servers.in_order()[0] == c
    now_s = 2.0
    assert servers.in_order() == [a, b, c]
    servers.answered(a)
    servers.answered(b)


def test_one_is_left_alone_longer_and_longer_but_not_for_ever() -> None:
    now_s = 0.0
    servers = Servers(ADDRESSES, clock=lambda: now_s)
    pauses = []
    for _ in range(12):
        servers.failed(ADDRESSES[0])
        until_s, _ = servers._pauses[ADDRESSES[0]]
        pauses.append(until_s - now_s)
        now_s = until_s
    assert 1.0 <= pauses[0] <= 2.0
    assert LONGEST_PAUSE_S / 2 <= pauses[-1] <= LONGEST_PAUSE_S
    servers.answered(ADDRESSES[0])
    servers.failed(ADDRESSES[0])
    assert servers._pauses[ADDRESSES[0]][0] - now_s <= 2.0


class Answering:
    """A server that answers every request with its number, an error, or not at all."""

    def __init__(self, number: int, where: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.number = number
        self.error: list[str] | None = None
        self.is_silent = False
        self.asked = 0
        self._listening = socket.create_server(where)
        self._connected: list[socket.socket] = []
        host, self.port = self._listening.getsockname()
        self.host = f"{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                self._connected.append(connected)
                threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        unpacker = msgpack.Unpacker()
        with contextlib.suppress(OSError):
            while data := connected.recv(65_536):
                unpacker.feed(data)
                for _, number, verb, _ in unpacker:
                    if self.is_silent:
                        continue
                    self.asked += verb != "site"
                    result = [1, 0, 0, None] if verb == "hits" else None if verb == "site" else self.number
                    error = None if verb == "site" else self.error
                    connected.sendall(msgpack.packb([1, number, error, result]))

    def close(self) -> None:
        for each in (self._listening, *self._connected):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def two() -> Iterator[tuple[Answering, Answering, str]]:
    one, other = Answering(1), Answering(2)
    yield one, other, f"online://{one.host},{other.host}/shop"
    one.close()
    other.close()


class AsyncCalls:
    """A client for Trio, asked as the blocking one."""

    def __init__(self, url: str, timeout: float | None = 1.0) -> None:
        self._url, self._timeout = url, timeout

    def counts_of(self, calls: int, before: dict[int, Any]) -> list[int]:
        async def ask() -> list[int]:
            async with AsyncClient(self._url, timeout=self._timeout) as client:
                counts = []
                for number in range(calls):
                    before.get(number, lambda: None)()
                    counts.append(await client.count())
                return counts

        return trio.run(ask)


class Calls:
    def __init__(self, url: str, timeout: float | None = 1.0) -> None:
        self._url, self._timeout = url, timeout

    def counts_of(self, calls: int, before: dict[int, Any]) -> list[int]:
        with Client(self._url, timeout=self._timeout) as client:
            counts = []
            for number in range(calls):
                before.get(number, lambda: None)()
                counts.append(client.count())
            return counts


BOTH = pytest.mark.parametrize("client", [Calls, AsyncCalls])


@BOTH
def test_the_other_is_asked_when_one_dies(two: Any, client: Any) -> None:
    one, other, url = two
    assert client(url).counts_of(6, {3: one.close}) == [1, 1, 1, 2, 2, 2]
    assert other.asked == 3


@BOTH
def test_one_that_is_loading_counts_as_unhealthy(two: Any, client: Any) -> None:
    one, _, url = two
    one.error = ["LOADING", "the bus is being read"]
    assert client(url).counts_of(4, {}) == [2, 2, 2, 2]
    assert one.asked == 1


@BOTH
def test_a_silent_one_is_noticed_once_within_the_time_of_a_call(two: Any, client: Any) -> None:
    one, _, url = two
    one.is_silent = True
    assert client(url, timeout=2.0).counts_of(5, {}) == [2] * 5


@BOTH
def test_no_limit_on_time_still_leaves_a_silent_one(two: Any, client: Any) -> None:
    one, _, url = two
    one.is_silent = True
    assert client(url, timeout=None).counts_of(2, {}) == [2, 2]


@BOTH
def test_when_all_fail_the_last_error_is_told_and_the_next_call_tries_again(two: Any, client: Any) -> None:
    one, other, url = two
    one.error = other.error = ["LOADING", "not yet"]
    with pytest.raises(LoadingError):
        client(url).counts_of(1, {})
    other.is_silent = True
    with pytest.raises((Timeout, LoadingError)):
        client(url, timeout=0.2).counts_of(1, {})
    one.close()
    other.close()
    with pytest.raises(ConnectionFailed):
        client(url).counts_of(1, {})


def test_a_reporter_goes_to_the_other(two: Any) -> None:
    one, other, url = two
    one.close()
    reporter = Reporter(url, interval_s=0)
    reporter.hit("ada", "/a")
    assert reporter.close(10)
    assert reporter.statistics().sent == 1
    assert other.asked == 1


@pytest.fixture
def of_one_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Answering, Answering, str]]:
    one = Answering(1)
    other = Answering(2, ("127.0.0.2", one.port))
    look_up = socket.getaddrinfo

    def found(host: str, *args: Any, **options: Any) -> Any:
        hosts = ["127.0.0.1", "127.0.0.2"] if host in ("online.test", b"online.test") else [host]
        return [each for host in hosts for each in look_up(host, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield one, other, f"online://online.test:{one.port}/shop"
    one.close()
    other.close()


@BOTH
def test_each_address_of_a_name_is_a_server(of_one_name: Any, client: Any) -> None:
    one, other, url = of_one_name
    one.is_silent = True
    assert client(url, timeout=2.0).counts_of(5, {}) == [2] * 5
    one.is_silent, one.error = False, ["LOADING", "the bus is being read"]
    assert client(url).counts_of(5, {}) == [2] * 5
    assert (one.asked, other.asked) == (1, 10)


@BOTH
def test_an_error_names_the_address_of_the_name(of_one_name: Any, client: Any) -> None:
    one, other, url = of_one_name
    one.close()
    other.close()
    with pytest.raises(ConnectionFailed, match=rf"online://online\.test:{one.port}/shop at 127\.0\.0\.2"):
        client(url).counts_of(1, {})


@BOTH
def test_a_name_that_is_not_found_is_said_and_looked_up_again(
    of_one_name: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _, url = of_one_name
    look_up = socket.getaddrinfo

    def nothing(host: str, *args: Any, **options: Any) -> Any:
        if "test" in str(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **options)

    with monkeypatch.context() as broken:
        broken.setattr(socket, "getaddrinfo", nothing)
        with pytest.raises(ConnectionFailed, match="Name or service not known"):
            client(url).counts_of(1, {})
    first = f"127.0.0.1:{one.port}"
    with monkeypatch.context() as broken:
        broken.setattr(socket, "getaddrinfo", nothing)
        counts = client(f"online://{first},online.test:{one.port}/shop").counts_of(
            2, {1: lambda: (one.close(), broken.setattr(socket, "getaddrinfo", look_up))}
        )
    assert counts == [1, 2]


def test_a_reporter_goes_to_another_address_of_the_name(of_one_name: Any) -> None:
    one, other, url = of_one_name
    one.is_silent = True
    reporter = Reporter(url, timeout=2.0, interval_s=0)
    reporter.hit("ada", "/a")
    assert reporter.close(10)
    assert (reporter.statistics().sent, other.asked) == (1, 1)
