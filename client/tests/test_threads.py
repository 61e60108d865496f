"""Threads that share a reporter and a client, while the process forks and the reporter is closed.

Threads change as often as Python lets them, so that each step of one may fall between any two of another.
`make check-hard` does many rounds: ONLINE_THREAD_ROUNDS. Not its job: races inside of Python and its libraries.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from online_client import Client, Reporter

ROUNDS = int(os.environ.get("ONLINE_THREAD_ROUNDS", "4"))
THREADS, HITS = 4, 150

PATIENCE_S = 20.0


@pytest.fixture
def _restless() -> Iterator[None]:
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def forked(reporter: Reporter, client: Client, name: str) -> int:
    """Fork; the child asks, and reports a hit of its own. Its status tells whether both went well."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        reporter.hit(name, "/a")
        if client.ping() == "PONG" and reporter.flush(PATIENCE_S) and reporter.statistics().sent == 1:
            status = 0
    finally:
        os._exit(status)


def status_of(child: int) -> int:
    timer = threading.Timer(PATIENCE_S, os.kill, (child, signal.SIGKILL))
    timer.start()
    try:
        return os.waitpid(child, 0)[1]
    finally:
        timer.cancel()


def share(server: Any, turn: int) -> None:
    """Let threads share a reporter and a client; in every other round the reporter is closed while they go on."""
    reporter, client = Reporter(server.url, interval_s=0.0, timeout=PATIENCE_S), Client(server.url)
    answers: list[str] = []
    halfway = threading.Barrier(THREADS + 1)

    def work(number: int) -> None:
        for nth in range(HITS):
            if nth == HITS // 2:
                halfway.wait(PATIENCE_S)
            reporter.hit(f"{number}-{nth}", "/a")
            if nth % 10 == 0:
                answers.append(client.ping())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    children = [forked(reporter, client, f"early-{turn}")]
    halfway.wait(PATIENCE_S)
    children.append(forked(reporter, client, f"late-{turn}"))
    if turn % 2:
        reporter.close(PATIENCE_S)  # while they go on
    for thread in threads:
        thread.join(PATIENCE_S)
    reporter.close(PATIENCE_S)
    client.close()

    assert [status_of(child) for child in children] == [0, 0], "a child could not ask or report"
    counts = reporter.statistics()
    assert counts.sent + counts.dropped == THREADS * HITS, f"round {turn}: {counts}"
    assert turn % 2 or counts.dropped == 0, f"round {turn}: {counts}"
    sent = [hit[0] for verb, hits in server.requests if verb == "hits" for hit in hits]
    assert len(sent) == len(set(sent)) == counts.sent + 2, f"round {turn}: {counts}"
    assert answers == ["PONG"] * (THREADS * HITS // 10)


@pytest.mark.slow
@pytest.mark.usefixtures("_restless")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_every_hit_is_sent_once_or_counted_as_dropped(serve: Any, scripts: Any) -> None:
    for turn in range(ROUNDS):
        server = serve(scripts.answering())
        share(server, turn)
        server.close()
