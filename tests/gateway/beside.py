"""A gateway beside one server that has all users, in one process, with a clock that jumps.

Their connections go through memory.
"""

from contextlib import asynccontextmanager, suppress

import msgpack
import trio
from tests.gateway.test_gateway import map_of
from tests.serving import Wall, join, make_server, steady
from tests.wiring import read_resp, resp

from online.cli import gateway
from online.gateway.lines import Line
from online.serve.clock import Clock
from online.serve.config import Config

WINDOW_S = 300


class Asked:
    """A connection in MessagePack."""

    def __init__(self, server, nursery):
        self._peer = join(server, nursery)
        self._unpacker = msgpack.Unpacker(raw=True)

    async def __call__(self, verb, *args):
        return await self.send(msgpack.packb([0, 1, verb, args]))

    async def send(self, request):
        await self._peer.send(request)
        while True:
            self._unpacker.feed(await self._peer.receive())
            for _, _, error, result in self._unpacker:
                return error or result


class AskedInResp:
    """A connection in RESP, in which all arguments are text."""

    def __init__(self, server, nursery):
        self._peer = join(server, nursery)

    async def __call__(self, verb, *args):
        await self._peer.send(resp(verb, *args))
        data = await self._peer.receive()
        while True:
            with suppress(AssertionError, ValueError):  # it is not whole yet
                [reply] = read_resp(data)
                return reply
            data += await self._peer.receive()


@asynccontextmanager
async def beside(n, tmp_path, monkeypatch, **limits):
    """A gateway to `n` partitions, and one server: each a function that opens a connection to it."""

    def made(name):
        settings = {"max_memory": 2**30, **limits}
        return make_server(state=tmp_path / name, last_seen=30, window_s=WINDOW_S, limits=settings)

    one, *partitions = [made(f"server-{number}") for number in range(n + 1)]
    path = map_of(tmp_path / "map.toml", *range(1, n + 1))
    config = Config(listen=(), http=(), transport="streams")  # it learns from servers what they are set to
    asking = gateway.assemble(path, config, clock=Clock(steady=steady, wall=Wall()))

    async def connect(line, address):
        return join(partitions[address.port - 1], nursery).stream

    monkeypatch.setattr(Line, "_connect", connect)
    async with trio.open_nursery() as nursery:
        for server in (one, *partitions, asking):
            await nursery.start(server.run)
        yield [lambda kind=Asked, server=server: kind(server, nursery) for server in (asking, one)]
        nursery.cancel_scope.cancel()
