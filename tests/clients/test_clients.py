"""Real Redis clients, unmodified, talk to a real server.

What they need beside Python stands in .ci/packages; a test whose client is not installed is skipped.
"""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.clients.talking import TALKERS, TOKEN, check_replies, conversation, good, run, talker, wall_ms
from tests.programs import program
from tests.serving import until

# redis-py


@contextmanager
def redis_client(port, site, **settings):
    with redis.Redis(port=port, username=site, password=TOKEN, decode_responses=True, **settings) as client:
        yield client


def asked_with_redis_py(client, commands):
    for command in commands:
        try:
            yield client.execute_command(*command)
        except redis.ResponseError as error:
            yield error


def errors_as_they_came(replies):
    """What redis-py made exceptions of: it leaves out the code ERR."""
    for reply in replies:
        if isinstance(reply, redis.ResponseError):
            yield {"error": f"ERR {reply}" if str(reply).startswith("unknown") else str(reply)}
        else:
            yield reply


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(port, site, protocol):
    commands, expected = zip(*conversation(wall_ms()), strict=True)
    with redis_client(port, site, protocol=protocol) as client:
        check_replies(errors_as_they_came(asked_with_redis_py(client, commands)), expected)
    with redis_client(port, f"{site}-pipelined", protocol=protocol) as client:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        check_replies(errors_as_they_came(pipeline.execute(raise_on_error=False)), expected)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_with_text_as_bytes(port, site, protocol):
    user, url, now_ms = b"\xff\0\r\n", b"/\xfe \"'", wall_ms()
    with redis.Redis(port=port, username=site, password=TOKEN, protocol=protocol) as client:
        assert client.execute_command("HIT", user, url, now_ms - 9) == b"OK"
        assert client.execute_command("PAGE", url) == [1, 1, [[user, now_ms - 9, b"member"]], None]
        assert client.execute_command("SEEN", user, "x") == [[url, now_ms - 9], None]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_asks_what_it_asks_of_any_server(port, site, protocol):
    settings = {"protocol": protocol, "client_name": "me", "health_check_interval": 1}
    with redis_client(port, site, **settings) as client:
        assert client.ping() is True
        assert client.echo("hello") == "hello"
        assert client.client_getname() == "me"
        assert client.client_id() > 0
        assert client.client_setname("you")
        assert client.select(0)
        assert client.config_get("*")["databases"] == "1"
        assert client.info()["redis_version"] == client.info("server")["redis_version"]
        assert client.info()["loading"] == 0
        seconds, microseconds = client.time()
        assert abs(seconds - time.time()) < 3600
        assert 0 <= microseconds < 10**6
        assert client.execute_command("COUNT") == 0
    with (
        redis_client(port, site, protocol=protocol, db=1) as client,
        pytest.raises(redis.ResponseError, match="SELECT"),
    ):
        client.ping()


def test_redis_py_from_a_pool_in_many_threads(port, site):
    pool = redis.ConnectionPool.from_url(f"redis://{site}:{TOKEN}@127.0.0.1:{port}/0?max_connections=8")
    failures = []

    def visit(number):
        try:
            client = redis.Redis(connection_pool=pool)
            for page in range(25):
                assert client.execute_command("HIT", f"user{number}", f"/{page}") == b"OK"
                assert client.execute_command("PAGE", f"/{page}")[1] >= 1
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with redis.Redis(connection_pool=pool) as client:
        assert client.execute_command("COUNT") == client.execute_command("COUNT", "/24") == 8
    pool.disconnect()


def test_redis_py_sends_long_pipelines(port, site):
    with redis_client(port, site) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(2_000):
            pipeline.execute_command("HIT", f"user{number}", f"/{number % 50}")
            pipeline.execute_command("PAGE", f"/{number % 50}", 1000)
        replies = pipeline.execute()
        assert [reply[1] for reply in replies[1::2]] == [number // 50 + 1 for number in range(2_000)]
        assert len(replies[-1][2]) == 40


def test_redis_py_with_asyncio(port, site):
    async def visit():
        async with redis.asyncio.Redis(port=port, username=site, password=TOKEN, protocol=3) as client:
            hits = (client.execute_command("HIT", f"user{number}", "/x") for number in range(50))
            assert await asyncio.gather(*hits) == [b"OK"] * 50
            return await client.execute_command("COUNT", "/x")

    assert asyncio.run(visit()) == 50


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_redis_py_with_a_token(guarded, site, protocol, way):
    port, path = guarded
    where = {"port": port} if way == "tcp" else {"unix_socket_path": str(path)}
    with redis.Redis(**where, username=site, password=TOKEN, protocol=protocol) as client:
        assert client.execute_command("HIT", "theo", "/x") == b"OK"
        assert client.execute_command("COUNT") == 1
    with redis.Redis(**where, password=TOKEN, protocol=protocol) as client:
        assert [site.encode(), 1] in client.execute_command("SITES")
        assert client.execute_command("SEEN", "theo") == [None]
    for credentials, error in [({"username": site, "password": "guess"}, "token is wrong"), ({}, "needs a token")]:
        client = redis.Redis(**where, **credentials, protocol=protocol, retry=Retry(NoBackoff(), 0))
        with client, pytest.raises(redis.AuthenticationError, match=error):
            client.ping()


# Clients in processes of their own

VERSIONS = [(name, version) for name, (*_, versions, _) in TALKERS.items() for version in versions]


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_client_of_another_language(port, site, name, version):
    """The handshake, single commands with errors among them, a pipeline, and a transaction."""
    with talker(name, port, site, version) as client:
        client.check("single", conversation(wall_ms()))
        for way in ("pipelined", "transaction"):
            assert client.ask("single", [["SITE", f"{site}-{way}"]]) == ["OK"]
            client.check(way, good(conversation(wall_ms())))


# node-redis 4.5, as Debian has it, now and then waits for ever for a reply that came while it connected again.
@pytest.mark.parametrize("name", [name for name in TALKERS if name != "node-redis"])
def test_client_of_another_language_over_a_restart(restarting, site, name):
    with talker(name, restarting.port, site) as client:
        assert client.ask("single", [["HIT", "ada", "/x"], ["COUNT"]])[0] == "OK"
        restarting.restart()
        until(lambda: client.ask("single", [["HIT", "kim", "/y"]]) == ["OK"])
        [sites] = client.ask("single", [["SITES"]])
        assert [site, "1" if name == "redis-pm" else 1] in sites


# redis-cli


def redis_cli(port, site, *words, stdin=b""):
    return run(
        program("redis-cli"), "-p", port, "--user", site, "--pass", TOKEN, "--no-auth-warning", *words, stdin=stdin
    )


@pytest.mark.parametrize("version", ["-2", "-3"])
def test_redis_cli(port, site, version):
    assert redis_cli(port, site, version, "HIT", "theo", "/some url") == b"OK\n"
    assert redis_cli(port, site, version, "COUNT") == b"1\n"
    assert redis_cli(port, site, version, "--csv", "PAGE", "/some url", "0") == b"1,1,,NULL\n"
    assert redis_cli(port, site, version, "--json", "SEEN", "nobody") == b"[null]\n"
    assert redis_cli(port, site, version, "--raw", "SEEN", "theo").startswith(b"/some url\n")
    assert redis_cli(port, site, version, "PAGE", "/x", "1001").startswith(b"RANGE limit takes 0 to 1000, not 1001")
    assert b"# Hits\r\naccepted:" in redis_cli(port, site, version, "INFO", "hits")


def test_redis_cli_with_commands_on_its_input(port, site):
    lines = b'HIT theo "/a b"\nHIT anna /x\n\nCOUNT\nPAGE "/a b" 0\nNOSUCHVERB\nPING\n'
    assert redis_cli(port, site, stdin=lines).split(b"\n")[:4] == [b"OK", b"OK", b"2", b"2"]


def test_redis_cli_sends_many_commands_at_once(port, site):
    """`--pipe` sends as fast as it can, and counts replies until its last command, an ECHO, is answered."""
    hits = b"".join(b"HIT user%d /page/%d\r\n" % (number, number % 10) for number in range(20_000))
    output = redis_cli(port, site, "--pipe", stdin=hits)
    assert b"errors: 0, replies: 20000" in output
    assert redis_cli(port, site, "COUNT") == b"20000\n"


def test_redis_cli_with_a_url(guarded, site):
    port, path = guarded
    url = f"redis://{site}:{TOKEN}@127.0.0.1:{port}"
    assert run(program("redis-cli"), "--no-auth-warning", "-u", url, "HIT", "theo", "/x") == b"OK\n"
    assert (
        run(program("redis-cli"), "--no-auth-warning", "-s", path, "--user", site, "--pass", TOKEN, "COUNT") == b"1\n"
    )
    assert run(program("redis-cli"), "-s", path, "COUNT").startswith(b"NOAUTH ")


# redis-benchmark


@pytest.mark.parametrize(
    "command",
    [
        ["HIT", "user:__rand_int__", "/page/__rand_int__"],
        ["COUNT"],
        ["COUNT", "/page/000000000001"],
        ["PAGE", "/page/000000000001", "30"],
        ["RECENT", "5"],
        ["SEEN", "user:__rand_int__", "user:__rand_int__"],
        ["-t", "ping"],
    ],
)
@pytest.mark.parametrize("options", [["-P", "1"], ["-P", "16", "-3"]], ids=["singly", "pipelined-resp3"])
def test_redis_benchmark(port, site, command, options):
    """It ends at the first error reply, and then fails."""
    benchmark = program("redis-benchmark")
    who = ["--user", site, "-a", TOKEN]
    output = run(benchmark, "-p", port, *who, "-n", 2_000, "-c", 10, "-r", 500, "--csv", *options, *command)
    lines = output.decode().splitlines()
    assert lines[0].startswith('"test","rps"')
    assert len(lines) == (3 if command == ["-t", "ping"] else 2)
