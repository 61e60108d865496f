"""That a server of a partition is not well is known once, for all sites, and an operator sees it."""

import logging
from functools import partial

import msgpack
import pytest
import trio
from tests.bus.servers import async_test, until
from tests.gateway.test_gateway import map_of, server_at, started
from tests.serving import LOCAL

from online.cli import gateway
from online.gateway import lines, settings
from online.gateway.health import Health
from online.serve.config import Config
from online_client.address import parse_addresses
from online_client.aio import AsyncClient

ONE, TWO = parse_addresses("online://10.0.0.5,10.0.0.6")


@pytest.fixture
def told(caplog):
    """What is logged of partitions."""
    caplog.set_level(logging.INFO)
    return lambda: [text for text in caplog.messages if text.startswith("partition ")]


def test_each_change_is_logged_once(told):
    async def run():
        health = Health(3, (ONE, TWO))
        assert health.first() == ONE
        for _ in range(3):
            health.failed(ONE, "no answer from a")
        assert health.first() == TWO
        health.failed(TWO, "no answer from b")
        health.failed(health.first(), "no answer again")
        health.answered(TWO)
        health.answered(TWO)
        health.answered(ONE)

    trio.run(run)
    assert told() == [
        "partition 3: no answer from a",
        "partition 3: no answer from b",
        "partition 3: no server answers",
        "partition 3 answers again",
        "partition 3: online://10.0.0.6:8989 answers again",
        "partition 3: online://10.0.0.5:8989 answers again",
    ]


def test_one_that_is_loading_does_not_become_well_by_what_it_tells_of_itself(told):
    async def run():
        health = Health(0, (ONE, TWO))
        health.failed(ONE, "LOADING")
        health.heard("10.0.0.5", 8989, None)
        assert health.first() == TWO
        health.heard("10.0.0.5", 8989, "no answer")
        health.heard("10.0.0.9", 8989, "somebody else")
        health.heard("10.0.0.5", 8989, None)
        assert health.first() == ONE
        assert dict(health.info()) == {
            "partition_0": "status=up,servers=2,servers_up=2",
            "partition_0_server_0": "online://10.0.0.5:8989,status=up,failures=2",
            "partition_0_server_1": "online://10.0.0.6:8989,status=up,failures=0",
        }

    trio.run(run)
    assert told() == ["partition 0: LOADING", "partition 0: online://10.0.0.5:8989 answers again"]


class Halting:
    """A server that counts the questions of clients, and can be told to answer nothing, as one that is stopped."""

    def __init__(self):
        self.is_silent = False
        self.asked = 0

    async def run(self, stream):
        unpacker = msgpack.Unpacker()
        async for data in stream:
            unpacker.feed(bytes(data))
            for _, number, verb, _ in unpacker:
                self.asked += verb == "COUNT"
                if not self.is_silent:
                    await stream.send_all(msgpack.packb([1, number, None, "" if verb == "INFO" else 7]))


@async_test
async def test_a_silent_server_costs_one_question_and_not_one_of_each_site(tmp_path, monkeypatch, told):
    monkeypatch.setattr(settings, "LOOK_S", 3600.0)
    monkeypatch.setattr(lines, "ANSWER_S", 2.0)
    halting = Halting()
    async with trio.open_nursery() as nursery, started(server_at()) as two:
        [listener] = await nursery.start(partial(trio.serve_tcp, halting.run, 0, host="127.0.0.1"))
        ports = [listener.socket.getsockname()[1], two.server.addresses[0].port]
        path = map_of(tmp_path / "map.toml", ports[0])
        path.write_text(path.read_text().replace('"]', f'", "online://127.0.0.1:{ports[1]}"]'))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            at = f"online://127.0.0.1:{asking.server.addresses[0].port}"

            async def count(site):
                async with AsyncClient(f"{at}/{site}", timeout=60) as client:
                    return await client.count()

            sites = [f"site-{number}" for number in range(10)]
            assert [await count(site) for site in sites] == [7] * 10
            halting.is_silent, halting.asked = True, 0
            health = asking.server.parts[-1]._partitions.healths[0]
            monkeypatch.setattr(health._order, "_clock", lambda: 0.0)  # nobody tries it again meanwhile
            assert [await count(site) for site in (*sites, "new")] == [0] * 11
            assert halting.asked == 1
            info = await asking.ask(b"INFO gateway")
            assert "partition_0:status=up,servers=2,servers_up=1" in info
            assert f"partition_0_server_0:online://127.0.0.1:{ports[0]},status=down,failures=1" in info
        nursery.cancel_scope.cancel()
    assert len(told()) == 1


@async_test
async def test_a_line_goes_back_to_the_first_server_when_that_may_be_well_again(tmp_path, monkeypatch, told):
    monkeypatch.setattr(settings, "LOOK_S", 3600.0)
    async with started(server_at()) as one, started(server_at()) as two:
        path = map_of(tmp_path / "map.toml", one.server.addresses[0].port)
        path.write_text(path.read_text().replace('"]', f'", "online://127.0.0.1:{two.server.addresses[0].port}"]'))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            [health] = asking.server.parts[-1]._partitions.healths
            now = [0.0]
            monkeypatch.setattr(health._order, "_clock", lambda: now[0])
            health.failed(health.first(), "LOADING")
            await asking.ask(b"HIT ada /a")
            assert (one.users, two.users) == (0, 1)
            now[0] = 60.0
            await asking.ask(b"HIT theo /a")
            assert (one.users, two.users) == (1, 1)
            assert "servers_up=2" in await asking.ask(b"INFO gateway")
    assert len(told()) == 2


@async_test
async def test_a_server_that_stands_by_and_goes_is_told(tmp_path, monkeypatch, told):
    monkeypatch.setattr(settings, "LOOK_S", 0.02)
    second = server_at()
    async with started(server_at()) as one, started(second) as two:
        path = map_of(tmp_path / "map.toml", one.server.addresses[0].port)
        port = two.server.addresses[0].port
        path.write_text(path.read_text().replace('"]', f'", "online://127.0.0.1:{port}"]'))
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=()))) as asking:
            second.stop()
            await two.ended.wait()
            await until(told)
            assert f"online://127.0.0.1:{port},status=down" in await asking.ask(b"INFO gateway")
            assert await asking.ask(b"COUNT") == ":0"
    assert len(told()) == 1
