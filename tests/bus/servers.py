"""What the tests of the bus share: a real redis-server or brokers of Kafka, and servers that are replicas on it."""

import contextlib
import subprocess
from functools import wraps

import pytest
import redis
import trio
from tests.bus.brokers import Kafka
from tests.programs import program
from tests.serving import LOCAL, Peer
from tests.serving import until as until_so
from tests.serving import until_turn as until
from tests.websites import free_port

from online.bus.redisbus import STREAM
from online.cli.serve import assemble
from online.keep.inspection import digest
from online.serve.clock import Clock
from online.serve.config import Config

#: How long replicas may differ after a fault has healed: five seconds, and four times that on a machine whose cores run
#: several tests at once.
HEALED_S = 20.0


class Broker:
    """A redis-server in a process of its own, which can be killed and started again."""

    def __init__(self, directory, *options, password=None):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, password=password)
        self._directory = directory
        self._options = options
        self._process = None

    def start(self, *options):
        listen = ["--port", str(self.port), "--bind", "127.0.0.1"]
        words = [program("redis-server"), *listen, "--dir", str(self._directory)]
        words += ["--save", "", "--daemonize", "no", *self._options, *options]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_so(self.client.ping, redis.ConnectionError)
        return self

    def add(self, fields):
        """Append an entry, and return its place."""
        return self.client.xadd(STREAM, fields)

    def stored(self):
        """Return the frames of all entries, joined."""
        return b"".join(fields.get(b"f", b"") for _, fields in self.client.xrange(STREAM))

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.client.connection_pool.disconnect()

    def close(self):
        self.kill()
        self.client.close()


#: Runs a test on every engine that differs. Only Redis can be told to fail in all of the ways that tests need.
ON_ALL_ENGINES = pytest.mark.parametrize("broker", ["redis", "kafka"], indirect=True)


@pytest.fixture
def broker(request, tmp_path, monkeypatch):
    """A bus that runs and keeps nothing on disk: a redis-server, if nothing else was asked for."""
    if getattr(request, "param", "redis") == "kafka":
        monkeypatch.setattr("online.bus.kafkabus.ANSWER_S", 0.5)  # its library notices only so that nobody is there
        made = Kafka()
    else:
        made = Broker(tmp_path)
    yield made.start()
    made.close()


def async_test(test):
    """Run a test under Trio, in real time; one that hangs fails."""

    @wraps(test)
    def run(*args, **arguments):
        async def bounded():
            with trio.fail_after(40):
                await test(*args, **arguments)

        trio.run(bounded)

    return run


class Running:
    """A replica that runs."""

    def __init__(self, server):
        self.server = server
        self.bus = next((part for part in server.parts if part.name == "bus"), None)

    async def connect(self):
        address = self.server.addresses[0]
        return Peer(await trio.open_tcp_stream(address.host, address.port))

    async def ask(self, line):
        """Send one inline command and return its answer, as text."""
        peer = await self.connect()
        try:
            return (await peer.ask(line)).decode().rstrip("\r\n")
        finally:
            await peer.stream.aclose()

    async def hit(self, user, url, *more):
        assert await self.ask(b" ".join((b"HIT", user, url, *more))) in ("+OK", ":1", ":0"), "the hit was not taken"

    @property
    def digest(self):
        return digest(self.server.sites)

    @property
    def users(self):
        return self.server.sites.statistics().users


async def equal(*replicas, users=None, within_s=HEALED_S):
    """Wait until all replicas hold the same sessions."""
    with trio.move_on_after(within_s):
        while len({each.digest for each in replicas}) > 1 or users not in (None, replicas[0].users):
            await trio.sleep(0.01)
        return
    raise AssertionError(f"replicas differ: users {[each.users for each in replicas]}, wanted {users}")


async def quiet(broker, *replicas):
    """Wait until nobody has more to publish or to read."""

    def is_quiet():
        if not broker.client.exists(STREAM):
            return False
        last = broker.client.xinfo_stream(STREAM)["last-generated-id"]
        return all(
            not each.bus.is_healing and each.bus.publisher.is_idle and each.bus.place == last for each in replicas
        )

    await until(is_quiet)


@contextlib.asynccontextmanager
async def replicas(url, n=2, *, wall=None, transport="auto", is_ready=True, **settings):
    """`n` servers on a bus; `wall` is the clock of the first."""
    async with trio.open_nursery() as nursery:
        running = []
        for number in range(n):
            clock = Clock(wall=wall) if wall is not None and number == 0 else Clock()
            own = {name: value(number) if callable(value) else value for name, value in settings.items()}
            server = assemble(Config(listen=(LOCAL,), bus=url, http=(), transport=transport, **own), clock=clock)
            await nursery.start(server.run)
            running.append(Running(server))
        if is_ready:
            await until(lambda: all(each.server.service.loading is None for each in running))
        try:
            yield running
        finally:
            for each in running:
                each.server.stop()


async def hit_without_a_pause(running, counts, *, stopped):
    """Let users come, one after the other, until `stopped`; those that were refused are tried again."""
    while not stopped.is_set():
        answer = await running.ask(b"HIT %s%d /a" % (running.bus.source, len(counts)))
        if answer.startswith("-MISCONF"):
            await trio.sleep(0.01)
            continue
        assert not answer.startswith("-"), answer
        counts.append(answer)


@async_test
async def share_while(url, change, **settings):
    """See that nobody is lost while a bus changes and two servers take hits."""
    async with replicas(url, **settings) as (one, two):
        counts, stopped = ([], []), trio.Event()
        async with trio.open_nursery() as visitors:
            visitors.start_soon(lambda: hit_without_a_pause(one, counts[0], stopped=stopped))
            visitors.start_soon(lambda: hit_without_a_pause(two, counts[1], stopped=stopped))
            await until(lambda: all(map(len, counts)) and one.users == two.users > 10)
            await trio.to_thread.run_sync(change)
            n_before = len(counts[0])
            await until(lambda: not one.bus.is_away and not two.bus.is_away and len(counts[0]) > n_before + 10)
            stopped.set()
        await until(lambda: not one.bus.publisher.is_away and one.bus.publisher.is_idle)
        async with replicas(url, 1) as (later,):
            await equal(one, two, later, users=len(counts[0]) + len(counts[1]))
