"""The server of this project: hits in MessagePack batches, or each an answered `HIT` of RESP; questions in RESP."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.native.load import closed_loop
from bench.peers import LISTED, Question
from bench.peers.serving import Speaking, resp
from bench.workloads import FRAME_HITS, Workload

import online


class OnlineServer(Speaking):
    """Each hit is a command, pipelined, and answered `OK`."""

    name = "online"
    form = "one answered HIT each"
    n_hits = 200_000
    transport = "auto"

    def command(self, folder: Path) -> Sequence[str]:
        listen = f"127.0.0.1:{self.port}"
        how = ["--quiet", "--http", "", "--listen", listen, "--transport", self.transport]
        return [sys.executable, "-m", "online", "serve", *how]

    def version(self) -> str:
        return online.__version__

    def hitting(self, workload: Workload, first: int, n: int) -> Callable[[], None]:
        commands = workload.commands(first, n)
        return lambda: self.exchange(commands, b"+OK\r\n" * FRAME_HITS)

    def question(self, question: Question, url: bytes) -> bytes:
        return resp(b"COUNT") if question == "COUNT" else resp(b"PAGE", url, b"%d" % LISTED)

    def count(self) -> int:
        return int(self.client.execute_command("COUNT"))

    def seen(self, url: bytes) -> list[int]:
        _online, _here, users, _cursor = self.client.execute_command("PAGE", url, LISTED)
        return [seen_ms for _user, seen_ms, _kind in users]


class OnlineBatches(OnlineServer):
    """Hits go in batches; all of a batch is answered at once: how many were taken, ignored and refused."""

    form = f"MessagePack batches of {FRAME_HITS}"

    def hitting(self, workload: Workload, first: int, n: int) -> Callable[[], None]:
        frames = workload.frames(first, n, wants_answers=True)

        def hit() -> None:
            assert closed_loop(self.port, frames, "batch").became == (n, 0, 0)

        return hit


class OnlineStreams(OnlineServer):
    """The same server with a Trio task for each connection, as TLS has it."""

    form = "one answered HIT each, --transport streams"
    transport = "streams"
