"""What is told of channels, from outside: redis-py's subscribers, and `watch` of our own clients, over a restart."""

import json
import signal
from contextlib import aclosing, closing
from itertools import islice

import anyio
import pytest
import redis
from tests.serving import PATIENCE_S, server_process

from online_client import Client, Page, RangeError, Section, Seen, TopPage
from online_client.aio import AsyncClient

CHANNELS = ("count", "page:/a", "section:/", "top", "user:ada")
QUICK = ("--push-interval", "0.1")


@pytest.fixture(scope="module")
def port():
    with server_process(*QUICK) as server:
        yield server.port


def following(states, is_it):
    """The next state that is the one looked for."""
    return next(state for state in states if is_it(state))


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_hears(port, protocol):
    site = f"redis-{protocol}"
    with redis.Redis(port=port, username=site, password="any", protocol=protocol, decode_responses=True) as client:
        heard = client.pubsub()
        heard.subscribe(*CHANNELS)
        states = {}
        assert [heard.get_message(timeout=PATIENCE_S)["type"] for _ in CHANNELS] == ["subscribe"] * len(CHANNELS)
        client.execute_command("HIT", "ada", "/a")
        channels = set(CHANNELS)
        while states.keys() != channels or not (states["count"]["people"] and states["user:ada"]["users"][0]["url"]):
            message = heard.get_message(timeout=PATIENCE_S)
            assert message["type"] == "message"
            states[message["channel"]] = json.loads(message["data"])
        assert states["top"]["pages"] == [{"url": "/a", "people": 1}]
        heard.ping()
        assert heard.get_message(timeout=PATIENCE_S)["type"] == ("pong" if protocol == 2 else "P")
        heard.unsubscribe()
        assert {heard.get_message(timeout=PATIENCE_S)["channel"] for _ in CHANNELS} == channels
        heard.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_hears_in_an_event_loop(port, protocol):
    async def test():
        async with redis.asyncio.Redis(port=port, protocol=protocol) as client, client.pubsub() as heard:
            await heard.subscribe("count")
            await client.execute_command("HIT", "theo", "/a")
            async for message in heard.listen():
                if message["type"] == "message" and json.loads(message["data"])["people"]:
                    break

    anyio.run(test, backend="asyncio")


def test_a_client_watches(port):
    with (
        Client(f"online://127.0.0.1:{port}/watched") as client,
        closing(client.watch(*CHANNELS, "user:\udcff")) as states,
    ):
        first = {state.channel: state.value for state in islice(states, 6)}
        assert first == {
            "count": 0, "page:/a": Page(0, 0, (), None), "section:/": Section(0, 0), "top": (), "user:ada": None,
            "user:\udcff": None,
        }  # fmt: skip
        client.hit("ada", "/a")
        client.hit("\udcff", "/a")
        page = following(states, lambda state: state.channel == "page:/a" and state.value.here == 2).value
        assert [viewer.user for viewer in page.users] == ["\udcff", "ada"]
        client.hit("ada", "/b")
        where = following(states, lambda state: state.channel == "user:ada" and state.value.url == "/b")
        assert isinstance(where.value, Seen)
        assert where.at >= where.value.seen_at
        client.leave("\udcff")
        top = following(states, lambda state: state.channel == "top" and len(state.value) == 1)
        assert top.value == (TopPage("/b", 1),)


def test_what_cannot_be_watched_is_an_error(port):
    with Client(f"online://127.0.0.1:{port}") as client:
        with pytest.raises(RangeError, match="url is empty"):
            next(client.watch("page:"))
        with pytest.raises(ValueError, match="at least one"):
            client.watch()


def test_a_client_goes_on_watching_over_a_restart(tmp_path):
    options = ("--state", str(tmp_path / "state"), *QUICK)
    with server_process(*options) as server, Client(f"online://127.0.0.1:{server.port}") as client:
        states = client.watch("count")
        assert next(states).value == 0
        client.hit("ada", "/a")
        assert next(states).value == 1
        server.popen.send_signal(signal.SIGTERM)
        server.popen.wait()
        with server_process("--listen", f"127.0.0.1:{server.port}", *options):
            client.hit("theo", "/a")
            assert following(states, lambda state: state.value == 2)
            states.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_asynchronous_client_watches_over_a_restart(backend):
    async def test():
        with server_process(*QUICK) as server:
            async with (
                AsyncClient(f"online://127.0.0.1:{server.port}") as client,
                aclosing(client.watch("count", "page:/a")) as states,
            ):
                assert {(await anext(states)).channel for _ in range(2)} == {"count", "page:/a"}
                await client.hit("ada", "/a")
                async for state in states:
                    if state.channel == "page:/a" and state.value.here == 1:
                        break
                server.popen.kill()
                server.popen.wait()
                with server_process("--listen", f"127.0.0.1:{server.port}", *QUICK):
                    async for state in states:
                        if state.channel == "count" and state.value == 0:
                            break

    anyio.run(test, backend=backend)
