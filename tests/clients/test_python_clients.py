"""Python's clients of Redis and Valkey: handshake, pipeline, transaction, pool, and a restart of the server.

The tests are the same for blocking and asynchronous clients: `wait` gives what a call returns, or what it promises.
"""

import asyncio
import inspect
import time

import pytest
from tests.clients.talking import TOKEN, check_replies, conversation, good, wall_ms

LIBRARIES = ["redis", "redis.asyncio", "valkey", "valkey.asyncio"]

#: Libraries, and their parsers: in plain Python, or that of hiredis in C.
PARSERS = {
    "redis": ("_RESP2Parser", "_HiredisParser"),
    "redis.asyncio": ("_AsyncRESP2Parser", "_AsyncHiredisParser"),
    "valkey": ("_RESP2Parser",),
    "valkey.asyncio": ("_AsyncRESP2Parser",),
}


@pytest.fixture(scope="module")
def wait():
    """All calls of these clients run in one loop."""
    loop = asyncio.new_event_loop()
    yield lambda result: loop.run_until_complete(result) if inspect.isawaitable(result) else result
    loop.close()


def connected(library, port, site, protocol, **settings):
    """A client with a pool, by the name of its module."""
    module = pytest.importorskip(library)
    pool = module.ConnectionPool(
        port=port, username=site, password=TOKEN, protocol=protocol, decode_responses=True, **settings
    )
    return (module.Valkey if library.startswith("valkey") else module.Redis)(connection_pool=pool)


async def again(ask):
    """Ask until the client is connected again."""
    until_s = time.monotonic() + 20
    while True:
        try:
            return await ask()
        except Exception:
            if time.monotonic() > until_s:
                raise


def plain(reply):
    """A reply with lists for tuples and text for bytes."""
    if isinstance(reply, (list, tuple)):
        return [plain(item) for item in reply]
    return reply.decode() if isinstance(reply, bytes) else reply


@pytest.mark.parametrize(("library", "parser"), [(name, each) for name in PARSERS for each in PARSERS[name]])
@pytest.mark.parametrize("protocol", [2, 3])
def test_pipelines_and_transactions(port, site, wait, library, parser, protocol):
    parsers = pytest.importorskip(f"{library.partition('.')[0]}._parsers")
    if "Hiredis" in parser:
        pytest.importorskip("hiredis")
    client = connected(library, port, site, protocol, parser_class=getattr(parsers, parser))
    commands, expected = zip(*good(conversation(wall_ms())), strict=True)
    for transaction in (False, True):
        pipeline = client.pipeline(transaction=transaction)
        pipeline.execute_command("SITE", f"{site}-{transaction}")
        for command in commands:
            pipeline.execute_command(*command)
        check_replies(wait(pipeline.execute())[1:], expected)
    wait(client.connection_pool.disconnect())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_questions_about_the_server(port, site, wait, library, protocol):
    client = connected(library, port, site, protocol)
    client_id, told = wait(client.client_id()), wait(client.client_info())
    assert (told["id"], told["qbuf-free"], told["user"]) == (client_id, 0, site)
    assert str(client_id) in {each["id"] for each in wait(client.client_list())}
    info = wait(client.info("replication"))
    assert (info["role"], info["connected_slaves"]) == ("master", 0)
    assert wait(client.role())[0] == "master"
    assert wait(client.dbsize()) == wait(client.wait(0, 0)) == 0
    assert wait(client.memory_stats())["keys.count"] >= 0
    assert wait(client.slowlog_get()) == []
    assert all(len(each) == 4 for each in wait(client.latency_latest()))  # on a busy machine there may be some
    assert wait(client.command_count()) == len(wait(client.command()))
    assert wait(client.client_kill_filter(_id="999999999")) == 0
    assert wait(client.client_no_evict("ON")) in (True, "OK")
    wait(client.connection_pool.disconnect())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pool_over_a_restart(restarting, site, wait, library):
    client = connected(library, restarting.port, site, 3)

    async def hit():
        reply = client.execute_command("HIT", "kim", "/y")
        return await reply if inspect.isawaitable(reply) else reply

    assert wait(hit()) == "OK"
    restarting.restart()
    assert wait(again(hit)) == "OK"
    assert [site, 1] in wait(client.execute_command("SITES"))
    wait(client.connection_pool.disconnect())


@pytest.mark.parametrize("version", ["RESP2", "RESP3"])
def test_valkey_glide(port, restarting, site, wait, version):
    glide = pytest.importorskip("glide")

    def settings(to_port):
        return glide.GlideClientConfiguration(
            [glide.NodeAddress("127.0.0.1", to_port)],
            credentials=glide.ServerCredentials(username=site, password=TOKEN),
            protocol=glide.ProtocolVersion[version],
        )

    async def talk():
        client = await glide.GlideClient.create(settings(port))
        commands, expected = zip(*good(conversation(wall_ms())), strict=True)
        for is_atomic in (False, True):
            batch = glide.Batch(is_atomic=is_atomic)
            for command in (["SITE", f"{site}-{is_atomic}"], *commands):
                batch.custom_command([str(word) for word in command])
            replies = await client.exec(batch, raise_on_error=True)
            check_replies(plain(replies[1:]), expected)
        assert b"role:master" in await client.info([glide.InfoSection.REPLICATION])
        await client.close()

    async def over_a_restart():
        client = await glide.GlideClient.create(settings(restarting.port))
        assert await client.custom_command(["HIT", "kim", "/y"]) == "OK"
        restarting.restart()
        assert await again(lambda: client.custom_command(["HIT", "kim", "/y"])) == "OK"
        assert [site, 1] in plain(await client.custom_command(["SITES"]))
        await client.close()

    wait(talk())
    wait(over_a_restart())


def test_coredis(port, restarting, site, wait):
    """It compares versions before it sends a verb of Redis, unless it is told not to."""
    coredis = pytest.importorskip("coredis")
    settings = {"username": site, "password": TOKEN, "decode_responses": True, "verify_version": False}

    def ask(client, *words):
        return client.create_request(*words, callback=lambda reply, **_: plain(reply))

    async def talk():
        async with coredis.Redis(port=port, **settings) as client:
            commands, expected = zip(*good(conversation(wall_ms())), strict=True)
            check_replies([await ask(client, *command) for command in commands], expected)
            async with client.pipeline(transaction=True) as pipeline:
                promised = [ask(pipeline, "HIT", "kim", "/z"), pipeline.dbsize(), pipeline.ping()]
            assert [await each for each in promised] == ["OK", 4, "PONG"]
            assert (await client.client_info())["qbuf-free"] == 0
            assert (await client.role()).role == (await client.info("replication"))["role"] == "master"
            assert (await client.command_info("hit"))["hit"]["arity"] == -3

    async def over_a_restart():
        async with coredis.Redis(port=restarting.port, **settings) as client:
            assert await ask(client, "HIT", "kim", "/y") == "OK"
            restarting.restart()
            assert await again(lambda: ask(client, "HIT", "kim", "/y")) == "OK"
            assert [site, 1] in await ask(client, "SITES")

    wait(talk())
    wait(over_a_restart())
