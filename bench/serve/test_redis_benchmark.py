"""redis-benchmark with 50 connections asks this server and Redis in turns: what comes back in a second, at what CPU.

Both hold 100,000 people, 30 of them on the page that is asked for, by the same names. redis-benchmark does not look at
answers; they are compared before and after. It is one thread: where it is the slower one, the rate is its own, and the
servers' processor time tells more.
"""

import csv
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from bench.peers import LISTED
from bench.peers.online_server import OnlineServer, OnlineStreams
from bench.peers.redis_recipe import RedisRecipe
from bench.peers.serving import Speaking, program
from bench.processes import placed
from bench.recording import Recorder

USERS, URLS = 100_000, 10_000
URL = b"/forum/topic/000000"
CONNECTIONS = 50
ROUNDS = 5
SLICE = 10_000

COUNT = [b"COUNT"]
PAGE = [b"PAGE", URL, b"%d" % LISTED]
PING = [b"PING"]
ZCOUNT = [b"ZCOUNT", b"online", b"-inf", b"+inf"]
ZRANGE = [b"ZRANGE", URL, b"0", b"%d" % (LISTED - 1), b"REV", b"WITHSCORES"]


class Match(NamedTuple):
    """Our question, the one of Redis that it is held against, and the targets: in speed, and in processor time."""

    ours: list[bytes]
    theirs: list[bytes]
    pipelined: int
    n_asked: int
    at_least: float
    cpu_at_most: float | None = None

    @property
    def id(self) -> str:
        return f"{self.ours[0].decode()}-{self.theirs[0].decode()}-P{self.pipelined}"


MATCHES = [
    Match(COUNT, PING, 1, 50_000, at_least=1.2),
    Match(PAGE, ZRANGE, 1, 50_000, at_least=1.4, cpu_at_most=0.6),
    Match(COUNT, ZCOUNT, 64, 800_000, at_least=2.0),
    Match(PAGE, ZRANGE, 64, 150_000, at_least=1.8, cpu_at_most=0.4),
]


class Asked(NamedTuple):
    rate: float
    cpu_us: float


class Court(NamedTuple):
    """The servers, filled alike."""

    reactor: OnlineServer
    streams: OnlineServer
    redis: RedisRecipe


@pytest.fixture(scope="module")
def asker() -> Path:
    return program("redis-benchmark", "redis-tools")


@pytest.fixture(scope="module")
def court(asker: Path) -> Iterator[Court]:
    newest_ms = time.time_ns() // 1_000_000
    with ExitStack() as stack:
        reactor, streams = stack.enter_context(OnlineServer()), stack.enter_context(OnlineStreams())
        court = Court(reactor, streams, stack.enter_context(RedisRecipe()))
        for server in (court.reactor, court.streams):
            tell(server, [(b"HIT", user(n), url(n), b"%d" % (newest_ms - n)) for n in range(USERS)])
        tell(court.redis, [(b"ZADD", b"online", b"%d" % (newest_ms - n), user(n)) for n in range(USERS)])
        tell(court.redis, [(b"ZADD", URL, b"%d" % (newest_ms - n), user(n)) for n in range(LISTED)])
        check_answers(court)
        yield court
        check_answers(court)


def user(number: int) -> bytes:
    return b"user%06d" % number


def url(number: int) -> bytes:
    return URL if number < LISTED else b"/forum/topic/%06d" % (1 + number % URLS)


def tell(server: Speaking, commands: list[tuple[bytes, ...]]) -> None:
    """Say it in slices: the client reads no answer before it has sent everything, and answers must not pile up."""
    for begin in range(0, len(commands), SLICE):
        with server.client.pipeline(transaction=False) as pipeline:
            for command in commands[begin : begin + SLICE]:
                pipeline.execute_command(*command)
            pipeline.execute()


def check_answers(court: Court) -> None:
    redis = court.redis
    users = [user(n) for n in range(LISTED)]
    assert redis.client.execute_command(*ZCOUNT) == USERS
    assert [name for name, _seen_ms in redis.client.zrange(URL, 0, LISTED - 1, desc=True, withscores=True)] == users
    for server in (court.reactor, court.streams):
        people, here, listed, _cursor = server.client.execute_command(*PAGE)
        assert (server.count(), people, here) == (USERS, USERS, LISTED)
        assert [name for name, _seen_ms, _kind in listed] == users


@pytest.mark.parametrize("match", MATCHES, ids=lambda match: match.id)
def test_redis_benchmark(match: Match, court: Court, asker: Path, record: Recorder, quick: bool) -> None:
    n_asked = match.n_asked // (5 if quick else 1)
    asked: dict[Speaking, list[Asked]] = {server: [] for server in court}
    with placed(*(server.pid for server in court)):
        for _round in range(ROUNDS):
            for server, found in asked.items():
                question = match.theirs if server is court.redis else match.ours
                found.append(run(asker, server, question, match.pipelined, n_asked))

    record.version("Redis", court.redis.version())
    waiting = "one question each" if match.pipelined == 1 else f"{match.pipelined} questions each"
    group = f"redis-benchmark: {CONNECTIONS} connections, {waiting}"
    ours, theirs = match.ours[0].decode(), match.theirs[0].decode()
    works = [f"online, {ours}", f"online, {ours}, --transport streams", f"Redis, {theirs}"]
    for server, work in zip(court, works, strict=True):
        record(work, [one.rate for one in asked[server]], "questions/s", group=group)
        record(work, [one.cpu_us for one in asked[server]], "us CPU/question", group=group)
    pairs = list(zip(asked[court.reactor], asked[court.redis], strict=True))
    versus = f"{ours} of online, to {theirs} of Redis"
    record(f"{versus}: speed", [o.rate / r.rate for o, r in pairs], "x", at_least=match.at_least, group=group)
    cpu = [o.cpu_us / r.cpu_us for o, r in pairs]
    record(f"{versus}: server CPU", cpu, "x", at_most=match.cpu_at_most, group=group)


def run(asker: Path, server: Speaking, question: list[bytes], pipelined: int, n_asked: int) -> Asked:
    where = ["-h", "127.0.0.1", "-p", str(server.port)]
    load = ["-c", str(CONNECTIONS), "-P", str(pipelined), "-n", str(n_asked)]
    command: list[str | bytes | Path] = [asker, *where, *load, "--csv", *question]
    cpu_ns = server.cpu_ns()
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    cpu_ns = server.cpu_ns() - cpu_ns
    (told,) = csv.DictReader(done.stdout.splitlines())
    return Asked(float(told["rps"]), cpu_ns / 1000 / n_asked)
