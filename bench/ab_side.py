"""One side of `make ab`: runs a round of a work for each line that it reads, and writes its nanoseconds a unit.

It takes as arguments the tree to import from, and how many users are online if others than those of the rounds. It
knows where things were before they moved.
"""

import random
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

TREE = Path(sys.argv[1])
sys.path[:0] = [str(TREE / "src"), str(TREE / "client" / "src")]

import msgpack  # noqa: E402  the trees come first

NOW_MS = 1_700_000_000_000
IS_FULL = len(sys.argv) > 2  # all users are online from the beginning
N_USERS = int(sys.argv[2]) if IS_FULL else 10_000
N_URLS = min(N_USERS // 25, 10_000)
N_HITS, N_QUESTIONS, N_LINES = 40_000, 10_000, 5_000

#: The one work whose input is made anew for each round: hits in time order.
BATCHED = "a hit in a batch"


def module(*names: str) -> ModuleType:
    """Import the first of these names that there is."""
    for name in names[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(names[-1])


wire = module("online.core.wire", "online.wire")
index_module = module("online.core.index", "online.index")
limits = module("online.limits")
pages = module("online.logs.pages", "online.pages")
rules = module("online.logs.rules", "online.rules")
formats = module("online.logs.formats", "online.formats")
syslog = module("online.logs.syslogheader", "online.serve.syslog", "online.syslog")


class Host:
    def call(self, connection: object, verb: str, args: list[bytes], now_ms: int) -> object:
        raise AssertionError(verb)

    def open_site(self, connection: object, now_ms: int) -> object:
        raise AssertionError("the site is there")


def resp(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


class Works:
    """Every work, with its input made beforehand. Each returns how many units it has done."""

    def __init__(self) -> None:
        self.draw = draw = random.Random(1)
        self.users = users = [f"user-{n:05}" for n in range(N_USERS)]
        self.urls = urls = [f"/forum/thread-{n}" for n in range(N_URLS)]
        self.index = index_module.Index()
        self.service = wire.Service(Host(), limits.Limits())
        hits = [(draw.choice(users), draw.choice(urls)) for _ in range(N_HITS)]
        asked = [draw.choice(urls) for _ in range(N_QUESTIONS)]
        self.resp_hits = b"".join(resp("HIT", user, url) for user, url in hits[:N_QUESTIONS])
        self.pack_hits = b"".join(msgpack.packb([0, 7, "HIT", hit]) for hit in hits[:N_QUESTIONS])
        self.counts = b"".join(resp("COUNT", url) for url in asked)
        self.resp_pages = b"".join(resp("PAGE", url, "20") for url in asked)
        self.pack_pages = b"".join(msgpack.packb([0, 7, "PAGE", [url, 20]]) for url in asked)
        self.hits = hits
        self.batches: list[bytes] = []
        self.now_ms = NOW_MS
        lines = [
            f'192.0.2.{n % 250} - - [14/Nov/2023:22:13:20 +0000] "GET {url} HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11)"'
            for n, url in enumerate(asked[:N_LINES])
        ]
        self.lines = [line.encode() for line in lines]
        self.datagrams = [b"<190>Nov 14 22:13:20 web1 nginx: " + line for line in self.lines]
        self.connection = wire.Connection(self.service, self.index)
        self.pack_connection = wire.Connection(self.service, self.index)
        made = pages.Pages(formats.reader_of("auto"), rules.Rules(), key=bytes(16))
        self.pages = made
        self.parse = made.parse
        self.parse_message = getattr(made, "parse_message", lambda datagram: made.parse(syslog.message_of(datagram)))
        self._fill()
        self._make_batches()
        self.batched()

    def _fill(self) -> None:
        """Let users be online whom a round may not come to."""
        for at in range(0, N_USERS, N_HITS) if IS_FULL else ():
            self._make_batches([(user, self.draw.choice(self.urls)) for user in self.users[at : at + N_HITS]])
            self.batched()

    def draw_hits(self) -> None:
        """Let the next hits be of others, if all are online."""
        if IS_FULL:
            self.hits = [(self.draw.choice(self.users), self.draw.choice(self.urls)) for _ in range(N_HITS)]

    def _make_batches(self, hits: list[tuple[str, str]] | None = None) -> None:
        """Batches in time order: each round is later than the last."""
        self.now_ms += 1_000
        timed = [(user, url, self.now_ms - 1_000 + n // 50) for n, (user, url) in enumerate(hits or self.hits)]
        self.batches = [msgpack.packb([2, "hits", timed[at : at + 500]]) for at in range(0, N_HITS, 500)]

    def _feed(self, connection: Any, data: bytes) -> None:
        for at in range(0, len(data), 65_536):
            connection.receive(data[at : at + 65_536], now_ms=self.now_ms)
            connection.take_output()
            while connection.has_work:
                connection.proceed(now_ms=self.now_ms)
                connection.take_output()

    def batched(self) -> int:
        for batch in self.batches:
            self._feed(self.pack_connection, batch)
        return N_HITS

    def _read(self, parse: Callable[[bytes], Any], lines: list[bytes]) -> int:
        for line in lines:
            parse(line)
        return len(lines)

    def table(self) -> dict[str, Callable[[], int]]:
        def fed(connection: Any, data: bytes) -> Callable[[], int]:
            def work() -> int:
                self._feed(connection, data)
                return N_QUESTIONS

            return work

        return {
            BATCHED: self.batched,
            "RESP HIT": fed(self.connection, self.resp_hits),
            "RESP COUNT url": fed(self.connection, self.counts),
            "RESP PAGE of 20": fed(self.connection, self.resp_pages),
            "MessagePack HIT": fed(self.pack_connection, self.pack_hits),
            "MessagePack PAGE of 20": fed(self.pack_connection, self.pack_pages),
            "a combined line": lambda: self._read(self.parse, self.lines),
            "a datagram of syslog": lambda: self._read(self.parse_message, self.datagrams),
        }


def main() -> None:
    works = Works()
    table = works.table()
    for line in sys.stdin:
        name = line.strip()
        if name == "works":
            print(",".join(table), flush=True)
            continue
        if name == BATCHED:
            works.draw_hits()
            works._make_batches()
        begin_ns = time.thread_time_ns()
        n = table[name]()
        print((time.thread_time_ns() - begin_ns) / n, flush=True)


if __name__ == "__main__":
    main()
