"""The server of this project: every hit an answered `HIT`, or in MessagePack batches."""

import sys
from collections.abc import Iterable

import msgpack
from bench.peers.serving import Serving, free_port, resp
from bench.workloads import BenchHit

BATCH = 500


class OnlineServer(Serving):
    reply_bytes: float = len(b"+OK\r\n")

    def __init__(self) -> None:
        port = free_port()
        super().__init__([sys.executable, "-m", "online", "serve", "--quiet", "--listen", f"127.0.0.1:{port}"], port)

    def hits(self, hits: Iterable[BenchHit]) -> bytes:
        return b"".join(resp(b"HIT", user, url, b"%d" % seen_ms) for user, url, seen_ms in hits)


class OnlineBatches(OnlineServer):
    """The same in batches; all of a batch is answered at once, with as many bytes for each batch."""

    reply_bytes = len(msgpack.packb([1, 2**32 - 1, None, [BATCH, 0, 0, None]])) / BATCH

    def hits(self, hits: Iterable[BenchHit]) -> bytes:
        given = list(hits)
        batches = [given[begin : begin + BATCH] for begin in range(0, len(given), BATCH)]
        assert len(given) % BATCH == 0
        return b"".join(msgpack.packb([0, 2**32 - 1, "hits", batch]) for batch in batches)
