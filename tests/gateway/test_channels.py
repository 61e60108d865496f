"""Channels at a gateway: their states are those of one server with all users."""

import json
import random
import re
from concurrent.futures import Future
from contextlib import AsyncExitStack, aclosing

import pytest
import redis
import trio
from tests.bus.servers import async_test, until
from tests.gateway.test_gateway import map_of, server_at, started
from tests.serving import LOCAL, PATIENCE_S

from online.cli import gateway
from online.core.wire import Packed
from online.gateway import channels
from online.gateway.lines import Line
from online.limits import Limits
from online.serve.clock import wall_ms
from online.serve.config import Config
from online_client.aio import AsyncClient

USERS = [b"user-%d" % n for n in range(120)] + [b"\xff", 'a "quoted" \\ n\u00e4me'.encode()]
URLS = [b"/a", b"/b", b"/c/1", b"/c/2", b"/\xff", "/caf\u00e9".encode()] + [b"/d/%d" % n for n in range(12)]
WATCHED = [
    b"count", b"top", b"page:/a", b"page:/\xff", b"page:/none", b"section:", b"section:/c/", b"section:/none",
    b"user:\xff", *(b"user:" + user for user in USERS[:6]),
]  # fmt: skip
LIMITS = Limits(push_interval_s=0.1, max_memory=2**30)


@pytest.fixture
def site(tmp_path):
    """Opens a gateway before `n` partitions, and gives it and them."""

    def opened(n, stack, limits=LIMITS):
        async def enter():
            parts = [await stack.enter_async_context(started(server_at())) for _ in range(n)]
            path = map_of(tmp_path / "map.toml", *(each.server.addresses[0].port for each in parts))
            made = gateway.assemble(path, Config(listen=(LOCAL,), http=(), limits=limits))
            return await stack.enter_async_context(started(made)), parts

        return enter()

    return opened


def client_of(running, site="default"):
    return AsyncClient(f"online://127.0.0.1:{running.server.addresses[0].port}/{site}", timeout=5)


def frame(*args):
    """A command of RESP, for names that have any bytes."""
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in args)


MESSAGE = re.compile(rb"\*3\r\n\$7\r\nmessage\r\n\$\d+\r\n([^\r]*)\r\n\$\d+\r\n([^\r]*)\r\n")


async def listen(peer, heard):
    """Keep the newest state of each channel, as its bytes, in `heard`."""
    data = b""
    async with peer.stream:
        while chunk := await peer.receive():
            data += chunk
            end = 0
            for message in MESSAGE.finditer(data):
                heard[message[1]] = without_moment(message[2])
                end = message.end()
            data = data[end:]


def without_moment(state):
    """A state without when it was, and where the list of a page goes on."""
    return re.sub(rb'"cursor":"[^"]*"', b'"cursor":"..."', re.sub(rb',"at_ms":\d+\}$', b"}", state))


def states_of(running):
    """What a server answers about all channels now."""
    verbs, now_ms = running.server.verbs, running.server.clock.now_ms()
    return {name: without_moment(verbs.push.answer(b"default", name, None, now_ms).json()) for name in WATCHED}


@pytest.mark.parametrize("n", [2, 3])
def test_states_are_those_of_one_server_with_all_users(site, n):
    @async_test
    async def run():
        chance, heard, began_ms = random.Random(n), {}, wall_ms() - 2_000
        async with AsyncExitStack() as stack:
            asking, parts = await site(n, stack)
            one = await stack.enter_async_context(started(server_at()))
            clients = [await stack.enter_async_context(client_of(each)) for each in (asking, one)]
            peer = await asking.connect()
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(listen, peer, heard)
            for nth in range(4):
                seen_ms = began_ms + 400 * nth  # no two hits are of one moment
                hits = [
                    (chance.choice(USERS), chance.choice(URLS[:1] if chance.random() < 0.7 else URLS), seen_ms + number,
                     chance.choice(("member", "member", "guest", "hidden", "bot")))
                    for number in range((300, 1, 20, 60)[nth])
                ]  # fmt: skip
                for client in clients:
                    await client.hits(hits)
                    await client.leave(USERS[nth])
                if nth == 0:
                    await peer.send(frame(b"SUBSCRIBE", *WATCHED))
                wanted = states_of(one)
                await until(lambda wanted=wanted: heard == wanted)
                if nth == 0:
                    assert b'"cursor":"..."' in heard[b"page:/a"]
            assert all(part.users for part in parts)
            assert asking.users == 0
            (asks,) = (part for part in asking.server.parts if part.name == "gateway")
            told, asked = asking.server.verbs.push.events, asks.asked
            await until(lambda: asks.asked >= asked + 2 * len(WATCHED))
            assert asking.server.verbs.push.events == told, "what has not changed was told again"
            nursery.cancel_scope.cancel()

    run()


@async_test
async def test_who_watches_hears_partial_while_a_partition_is_away_and_then_the_state_again(tmp_path):
    heard = {}
    second = server_at()
    async with started(server_at()) as one, started(second) as two, trio.open_nursery() as nursery:
        away = two.server.addresses[0]
        path = map_of(tmp_path / "map.toml", one.server.addresses[0].port, away.port)
        async with started(gateway.assemble(path, Config(listen=(LOCAL,), http=(), limits=LIMITS))) as asking:
            peer = await asking.connect()
            nursery.start_soon(listen, peer, heard)
            await peer.send(b"SUBSCRIBE count top\r\n")
            await until(lambda: heard == {b"count": b'{"people":0}', b"top": b'{"pages":[]}'})
            for number in range(20):
                assert await asking.ask(b"HIT user-%d /a" % number) == "+OK"
            await until(lambda: heard[b"count"] == b'{"people":20}')
            second.stop()
            await two.ended.wait()
            await until(lambda: all(b'"PARTIAL"' in state for state in heard.values()))
            assert "no answer from partition 1 of 2: " in json.loads(heard[b"count"])["detail"]
            async with client_of(asking) as client, aclosing(client.watch("count")) as states:
                state = await anext(states)
                assert (state.value, state.error[:37]) == (None, "PARTIAL no answer from partition 1 of")
            async with started(server_at(away)):
                await until(lambda: heard[b"count"] == b'{"people":%d}' % one.users)
                await until(lambda: b'"pages"' in heard[b"top"])
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_hears(site, protocol):
    def hear(port):
        with redis.Redis(port=port, protocol=protocol, decode_responses=True) as client, client.pubsub() as heard:
            heard.subscribe("count", "user:ada")
            assert [heard.get_message(timeout=PATIENCE_S)["type"] for _ in range(2)] == ["subscribe"] * 2
            client.execute_command("HIT", "ada", "/a")
            states = {}
            while not (states.get("count") == 1 and states.get("user:ada") == "/a"):
                message = heard.get_message(timeout=PATIENCE_S)
                assert message["type"] == "message"
                state = json.loads(message["data"])
                states[message["channel"]] = state["people"] if "people" in state else state["users"][0]["url"]
            heard.unsubscribe()
            assert {heard.get_message(timeout=PATIENCE_S)["channel"] for _ in range(2)} == {"count", "user:ada"}

    @async_test
    async def run():
        async with AsyncExitStack() as stack:
            asking, _ = await site(2, stack)
            await trio.to_thread.run_sync(hear, asking.server.addresses[0].port)
            await until(lambda: asking.server.verbs.push.n_channels == 0)

    run()


def test_a_client_watches(site):
    @async_test
    async def run():
        async with AsyncExitStack() as stack:
            asking, _ = await site(2, stack)
            client = await stack.enter_async_context(client_of(asking, "shop"))
            async with aclosing(client.watch("count", "page:/a", "user:ada")) as states:
                first = {state.channel: state.value for state in [await anext(states) for _ in range(3)]}
                assert (first["count"], first["page:/a"].here, first["user:ada"]) == (0, 0, None)
                await client.hits([("ada", "/a"), ("theo", "/a"), ("kim", "/b")])
                left = {"count": 3, "page:/a": 2, "user:ada": "/a"}
                async for state in states:
                    value = {"page:/a": "here", "user:ada": "url"}.get(state.channel)
                    if left.get(state.channel) == (getattr(state.value, value, None) if value else state.value):
                        del left[state.channel]
                    if not left:
                        break

    run()


def test_a_site_beyond_the_limit_has_a_state_that_says_so(site, monkeypatch):
    @async_test
    async def run():
        async with AsyncExitStack() as stack:
            limits = Limits(max_sites=2, push_interval_s=0.1, max_memory=2**30)
            asking, _ = await site(1, stack, limits)
            for name in ("a", "b"):
                async with client_of(asking, name) as client:
                    assert await client.count() == 0
            monkeypatch.setattr(Line, "is_idle", False)  # as if both waited for answers
            peer = await asking.connect()
            heard = {}
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(listen, peer, heard)
            await peer.send(b"SITE c\r\nSUBSCRIBE count\r\n")
            await until(lambda: heard)
            state = json.loads(heard[b"count"])
            assert (state["code"], state["detail"][:23]) == ("FULL", "max_sites is reached: 2")
            nursery.cancel_scope.cancel()

    run()


def test_a_reply_that_makes_no_sense_is_said():
    reply = Future()
    reply.set_result(Packed(b"\x91\x01"))
    state = json.loads(channels.state("PAGE", [b"/a"], reply) + b"}")
    assert state["code"] == "PARTIAL"
    assert state["detail"].startswith("an answer of a partition makes no sense: ")
