"""What `bench.instructions` counts: each work once to warm up, and once between two marks.

A mark is a call of getsid(2), which nothing else here makes: valgrind begins a new count there. The argument is about
how many units of each work to do; what is written is a line for each: units, tab, name.
"""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

os.urandom = random.Random(1).randbytes  # the same hashes and heights each time
SIZE = int(sys.argv[1])
sys.argv[1] = str(Path(__file__).parents[1])


from bench import ab_side  # noqa: E402  it looks at the argument
from bench.accesslog import caddy_json, combined, nginx_json, requests  # noqa: E402

from online.core.journal import Journal  # noqa: E402
from online.core.wire import apply_hits  # noqa: E402
from online.keep.folder import HEAD_BYTES  # noqa: E402

ab_side.N_HITS, ab_side.N_QUESTIONS, ab_side.N_LINES = 2 * SIZE, SIZE, SIZE // 5

Work = Callable[[], int]


def parsed(works: ab_side.Works, write: Callable[..., str]) -> Work:
    """Read log lines, of the same users and browsers each time."""
    lines = [write(request).encode() for request in requests(SIZE // 5)]

    def work() -> int:
        for line in lines:
            works.parse(line)
        return len(lines)

    return work


def packed(works: ab_side.Works, write: Callable[..., str]) -> Work:
    """Pack log lines as `online feed` sends them, in blocks."""
    lines = [write(request).encode() for request in requests(SIZE // 5)]

    def work() -> int:
        for at in range(0, len(lines), 300):
            works.pages.pack(lines[at : at + 300])
        return len(lines)

    return work


def journaled(works: ab_side.Works) -> Work:
    """Take batches as before, and write each to a journal: a record. From here on, it follows all hits."""
    journal = Journal()
    with TemporaryFile() as file:
        journal.begin(os.dup(file.fileno()), 1, HEAD_BYTES)
    journal.follow(works.index, b"default")

    def work() -> int:
        for batch in works.batches:
            apply_hits(works.index, batch, now_ms=works.now_ms)
            journal.flush()
        return len(works.hits)

    return work


def count(works: ab_side.Works, name: str, work: Work) -> None:
    """Do a work twice, with marks around the second time, and write a line of it."""
    for _ in range(2):
        works._make_batches()
        os.getsid(0)
        n = work()
    os.getsid(0)
    print(f"{n}\t{name}", flush=True)


def main() -> None:
    works = ab_side.Works()
    table = works.table() | {
        "a combined line of many visitors": parsed(works, combined),
        "a combined line, packed": packed(works, combined),
        "a line of nginx' JSON, packed": packed(works, nginx_json),
        "a line of nginx' JSON": parsed(works, nginx_json),
        "a line of Caddy's JSON": parsed(works, caddy_json),
    }
    for name, work in table.items():
        count(works, name, work)
    count(works, "a hit in a batch, with a journal", journaled(works))


if __name__ == "__main__":
    main()
