"""A gateway before real servers, over real sockets."""

import contextlib
import io
import socket
from zlib import crc32

import msgpack
import pytest
import trio
import trustme
from rich.console import Console
from tests.bus.servers import Running, async_test, until
from tests.serving import LOCAL

from online.cli import gateway, serve
from online.cli.main import main
from online.cli.top import ask
from online.cli.top_screen import Snapshot, View, render
from online.errors import ConfigError, FullError
from online.gateway.partitions import Partitions
from online.limits import Limits
from online.partitions import read
from online.serve.clock import Clock, wall_ms
from online.serve.config import Address, Config
from online_client import Client, OnlineError, TopPage
from online_client.aio import AsyncClient
from online_client.verbs import Request


@contextlib.asynccontextmanager
async def started(server):
    running = Running(server)
    running.ended = trio.Event()

    async def run(task_status):
        await server.run(task_status=task_status)
        running.ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield running
        finally:
            server.stop()


def server_at(address=LOCAL, *, ahead_ms=0, **settings):
    clock = Clock(wall=lambda: wall_ms() + ahead_ms)
    return serve.assemble(Config(listen=(address,), http=(), **settings), clock=clock)


def map_of(path, *ports):
    n = len(ports)
    lines = ["format = 1", "version = 1"]
    for number, port in enumerate(ports):
        first, last = 16_384 * number // n, 16_384 * (number + 1) // n - 1
        lines += [f"[partition.{number}]", f'slots = "{first}-{last}"', f'servers = ["online://127.0.0.1:{port}"]']
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("transport", ["reactor", "streams"])
def test_a_gateway_answers_for_all_and_says_partial_while_one_is_away(tmp_path, transport):
    @async_test
    async def run():
        second = server_at()
        async with started(server_at()) as one, started(second) as two:
            away = two.server.addresses[0]
            path = map_of(tmp_path / "map.toml", one.server.addresses[0].port, away.port)
            made = gateway.assemble(path, Config(listen=(LOCAL,), http=(), transport=transport))
            async with started(made) as asking:
                for number in range(20):
                    assert await asking.ask(b"HIT user-%d /a" % number) == "+OK"
                assert await asking.ask(b"COUNT") == ":20"
                assert await asking.ask(b"COUNT /a") == ":20"
                assert 0 < one.users < 20
                assert one.users + two.users == 20
                assert asking.users == 0
                assert await asking.ask(b"FORGET user-3 user-4 nobody") == ":2"
                assert await asking.ask(b"COUNT") == ":18"
                for each in (one, two):  # as after a change of the map: it stays with the owner before
                    await each.hit(b"moved", b"/a")
                assert await asking.ask(b"FORGET moved") == ":2"
                for number in range(20, 30):  # whoever is asked about is asked of the owner alone
                    await (one, two)[crc32(b"user-%d" % number) % 16_384 < 8_192].hit(b"user-%d" % number, b"/a")
                    assert await asking.ask(b"LAST user-%d" % number) == "*1\r\n$-1"
                    assert await asking.ask(b"FORGET user-%d" % number) == ":1"
                for each in (one, two):
                    assert await each.ask(b"SEEN moved") == await each.ask(b"SEEN nobody")
                assert await asking.ask(b"HISTORY") == "*0"
                for number in (3, 4):
                    assert await asking.ask(b"HIT user-%d /a" % number) == "+OK"
                assert (await asking.ask(b"PEAK")).startswith("-ERR a gateway cannot answer PEAK of several parti")
                assert (await asking.ask(b"PAGE")).startswith("-ERR wrong number of arguments for PAGE")
                assert (await asking.ask(b'COUNT "" x')).startswith("-RANGE within_s")
                second.stop()
                await two.ended.wait()
                assert (await asking.ask(b"COUNT")).startswith("-PARTIAL no answer from partition 1 of 2: ")
                async with AsyncClient(f"online://127.0.0.1:{asking.server.addresses[0].port}", timeout=5) as client:
                    with pytest.raises(OnlineError, match="PARTIAL no answer from partition 1 of 2"):
                        await client.hits((f"user-{number}", "/a") for number in range(20))
                async with started(server_at(away)) as again:
                    for number in range(20):
                        assert await asking.ask(b"HIT user-%d /a" % number) == "+OK"
                    assert await asking.ask(b"COUNT") == ":20"
                    assert again.users == 20 - one.users

    run()


@async_test
async def test_a_python_client_asks_a_gateway(tmp_path):
    async with started(server_at()) as one, started(server_at()) as two:
        path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in (one, two)))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            port = asking.server.addresses[0].port
            async with AsyncClient(f"online://127.0.0.1:{port}/shop", timeout=5) as client:
                for name in ("ada", "theo", "kim"):
                    await client.hit(name, "/a")
                page = await client.page("/a", limit=2)
                assert (page.online, page.here, len(page.users)) == (3, 3, 2)
                assert len([each async for each in client.all_on_page("/a", limit=1)]) == 3
                assert [each.user for each in (await client.users()).users] == ["ada", "kim", "theo"]
                assert [(each.name, each.people) for each in await client.sites()] == [("default", 0), ("shop", 3)]
                late, long = ("bob", "/b", 1_700_000_000_000), ("theo", "x" * 4_000)
                became = await client.hits([("ada", "/b"), (7, "/b"), ("kim", ""), late, long])
                assert (became.accepted, became.ignored, became.refused) == (2, 1, 2)
                assert (became.first_error or "").startswith("RANGE hit 3 of the batch: url")
                assert await client.count("/b") == 2
                section = await client.section("/")
                assert (section.people, section.pages) == (4, 2)
                assert (await client.seen(7))[0] is not None


@async_test
async def test_answers_are_of_the_latest_second_that_a_server_is_in(tmp_path):
    async with started(server_at()) as one, started(server_at(ahead_ms=2_500)) as two:
        path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in (one, two)))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            for number in range(20):
                assert await asking.ask(b"HIT user-%d /a" % number) == "+OK"
            before_s = (wall_ms() + 2_500) // 1000
            assert await asking.ask(b"COUNT") == ":20"
            port = one.server.addresses[0].port
            async with AsyncClient(f"online://127.0.0.1:{port}", timeout=5) as client:
                time = Request("time", msgpack.packb([1]), lambda told, now_ms: int(told[0]))
                assert await client.call(time) >= before_s
            assert await asking.ask(b"COUNT") == ":20"


@async_test
async def test_clocks_that_differ_much_are_said(tmp_path):
    async with started(server_at()) as one, started(server_at(ahead_ms=3_600_000)) as two:
        path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in (one, two)))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            assert (await asking.ask(b"COUNT")).startswith("-PARTIAL the clocks of partitions differ")
            assert await asking.ask(b"HIT ada /a") == "+OK"


@async_test
async def test_online_top_shows_what_a_gateway_knows(tmp_path):
    async with started(server_at()) as one, started(server_at()) as two:
        path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in (one, two)))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            for number in range(5):
                assert await asking.ask(b"HIT user-%d /a" % number) == "+OK"
            with Client(f"online://127.0.0.1:{asking.server.addresses[0].port}", timeout=5) as client:
                figures = await trio.to_thread.run_sync(ask, client, View(), 10, None)
    assert (figures.kinds.people, len(figures.users), figures.pages) == (5, 5, [TopPage("/a", 5)])
    console = Console(width=80, file=io.StringIO())
    console.print(render(Snapshot("online://gateway", figures), View(), 10))
    assert "people 5" in console.file.getvalue()
    assert "peak" not in console.file.getvalue()


def test_servers_that_cannot_be_asked_are_named(tmp_path):
    path = map_of(tmp_path / "map.toml", 1)
    path.write_text(path.read_text().replace("online://127.0.0.1:1", "redis://127.0.0.1:1"))
    with pytest.raises(ConfigError, match=r"partition\.0: "):
        gateway.assemble(path, Config())


def test_the_command_checks_its_map_and_settings(tmp_path, capsys):
    path = map_of(tmp_path / "map.toml", 1)
    assert main(["gateway", "--map", str(path), "--check", "--listen", "127.0.0.1:0"]) == 0
    path.write_text("format = 9")
    assert main(["gateway", "--map", str(path), "--check"]) == 2
    assert "format takes 1, not 9" in capsys.readouterr().err


@async_test
async def test_the_next_server_of_a_partition_is_asked_when_the_first_goes(tmp_path):
    first = server_at()
    async with started(first) as one, started(server_at()) as two:
        path = map_of(tmp_path / "map.toml", one.server.addresses[0].port)
        path.write_text(path.read_text().replace('"]', f'", "online://127.0.0.1:{two.server.addresses[0].port}"]'))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            assert await asking.ask(b"HIT ada /a") == "+OK"
            assert (one.users, two.users) == (1, 0)
            first.stop()
            await one.ended.wait()
            assert await asking.ask(b"COUNT") == ":0"
            assert await asking.ask(b"HIT ada /a") == "+OK"
            assert two.users == 1


async def odd(stream):
    """Take a request and answer with what is no answer to it, as a server of another kind does."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n")


@async_test
async def test_what_is_no_online_server_is_said(tmp_path):
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, odd, 0)
        path = map_of(tmp_path / "map.toml", listeners[0].socket.getsockname()[1])
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            assert "is no online server: it answered " in await asking.ask(b"COUNT")
        nursery.cancel_scope.cancel()


def test_an_address_that_is_taken_is_said(tmp_path):
    path = map_of(tmp_path / "map.toml", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigError, match="in use"):
            trio.run(gateway.assemble(path, Config(listen=(address,), http=())).run)


def test_a_map_is_read_again(tmp_path):
    @async_test
    async def run():
        async with started(server_at()) as one, started(server_at()) as two:
            ports = [each.server.addresses[0].port for each in (one, two)]
            path = map_of(tmp_path / "map.toml", ports[0])
            made = gateway.assemble(path, Config(listen=(LOCAL,), http=()))
            async with started(made) as asking:
                assert await asking.ask(b"HIT ada /a") == "+OK"
                await two.ask(b"HIT bob /a")
                assert await asking.ask(b"COUNT") == ":1"
                text = map_of(path, *ports).read_text()
                with pytest.raises(ConfigError, match="the map has version 1, and another of 1 is in use"):
                    made.reload(made.config)
                assert await asking.ask(b"COUNT") == ":1"
                path.write_text(text.replace("version = 1", "version = 2"))
                for _ in range(2):
                    made.reload(made.config)
                    assert await asking.ask(b"COUNT") == ":2"
                for wrong, problem in (("version = 0", "version"), ("version = 3\nslot = 1", "slot")):
                    path.write_text(text.replace("version = 1", wrong))
                    with pytest.raises(ConfigError, match=problem):
                        made.reload(made.config)
                    assert await asking.ask(b"COUNT") == ":2"

    run()


@async_test
async def test_names_that_no_server_knows_take_no_place_for_long(tmp_path):
    async with started(server_at()) as one, started(server_at()) as two:
        path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in (one, two)))
        limits = Limits(max_sites=2, max_memory=2**30)
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=(), limits=limits))) as asking:
            async with AsyncClient(f"online://127.0.0.1:{asking.server.addresses[0].port}", timeout=5) as client:
                await client.hits((f"user-{number}", "/a") for number in range(20))
            peer = await asking.connect()
            for number in range(20):
                await peer.ask(b"SITE none-%d" % number)
                assert await peer.ask(b"COUNT") == b":0\r\n"
            await peer.ask(b"SITE default")
            assert await peer.ask(b"COUNT") == b":20\r\n"
            for each in (one, two):  # those of two sites, and the one that asks for settings
                await until(lambda each=each: each.server.connections.n_counted <= 2 + 1)
            await peer.stream.aclose()


@async_test
async def test_a_site_that_somebody_waits_for_does_not_give_way(tmp_path):
    partitions = Partitions(read(map_of(tmp_path / "map.toml", 1, 2)).partitions, 2, wall_ms)
    one, _ = partitions.lines(b"one")
    partitions.lines(b"two")
    one.ask(1, b"", None, is_shared=False)
    third, _ = partitions.lines(b"three")
    assert partitions.lines(b"one")[0] is one
    third.ask(1, b"", None, is_shared=False)
    with pytest.raises(FullError, match="max_sites is reached: 2"):
        partitions.lines(b"two")


def test_servers_are_asked_over_tls_and_only_those_that_are_trusted(tmp_path, monkeypatch):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    config = Config(listen=(LOCAL,), http=(), tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")

    @async_test
    async def run():
        async with started(serve.assemble(config)) as one:
            path = map_of(tmp_path / "map.toml", one.server.addresses[0].port)
            path.write_text(path.read_text().replace("online://", "onlines://"))
            async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
                answer = await asking.ask(b"COUNT")
                assert answer.startswith("-PARTIAL no answer from partition 0 of 1: cannot connect to onlines://")
                assert "certificate" in answer
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # as an operator does
            async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
                assert await asking.ask(b"HIT ada /a") == "+OK"
                assert await asking.ask(b"COUNT") == ":1"
                assert one.users == 1

    run()
