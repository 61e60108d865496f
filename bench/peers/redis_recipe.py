"""Redis with the usual recipe in its best form: one script a hit, sorted sets by time for the site and each page.

The script takes the user out of the last page's set, and puts the user into the site's set and the new page's. What
expires would be removed by ZREMRANGEBYSCORE on every page asked for; that is not part of this work, to Redis' favour.
"""

import shutil
from collections.abc import Iterable

import pytest
import redis
from bench.peers.serving import Serving, free_port, resp
from bench.workloads import BenchHit

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


class RedisRecipe(Serving):
    reply_bytes = len(b":1\r\n")

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed (Debian: redis-server)")
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__([program, *options], port)

    def hits(self, hits: Iterable[BenchHit]) -> bytes:
        with redis.Redis(port=self.port) as client:
            script = str(client.script_load(HIT)).encode()
        if script.startswith(b"b'"):
            script = script[2:-1]
        return b"".join(resp(b"EVALSHA", script, b"0", user, url, b"%d" % seen_ms) for user, url, seen_ms in hits)
