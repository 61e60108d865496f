"""How much longer pages take that report their views and tell who is online: the server is up, down, or hangs.

Each site, of Flask or of Django, is one gunicorn worker with threads; all stay up through all rounds, and take their
turns. The page takes a few milliseconds by itself. Four visitors load pages as fast as they come, after a short pause.
"""

import contextlib
import http.client
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.web import django_website

SEED = 7
VISITORS = 4
TOPICS = 50
PAUSE_S = 0.010
WARM_UP_S = 1.5  #: the first second is not judged
STATES = ("up", "down", "hanging")


@contextlib.contextmanager
def told_address(command: list[str], pattern: str, **variables: str) -> Iterator[int]:
    """Run a program, and give the port that it tells of."""
    environment = os.environ | variables
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            found = next(match for line in process.stderr if (match := re.search(pattern, line)))
            yield int(found[1])
        finally:
            process.terminate()


@contextlib.contextmanager
def online_server(state: str) -> Iterator[str]:
    """The address of a server that is up or down, or takes connections and never answers."""
    with contextlib.ExitStack() as stack:
        if state == "up":
            command = [sys.executable, "-m", "online", "serve", "--http", "", "--listen", "127.0.0.1:0"]
            port = stack.enter_context(told_address(command, r" listens on 127\.0\.0\.1:(\d+)"))
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1_000))
            port = listener.getsockname()[1]
            if state == "down":
                listener.close()
        yield f"online://127.0.0.1:{port}"


def site(framework: str, folder: Path, url: str) -> contextlib.AbstractContextManager[int]:
    """A site that tells who is online if there is the address of a server."""
    application = {
        "Flask": [f"bench.web.website:{'telling' if url else 'plain'}"],
        "Django": ["--pythonpath", str(folder), "mysite.wsgi"],
    }
    gunicorn = [sys.executable, "-m", "gunicorn", "--threads", "4", "--bind", "127.0.0.1:0", *application[framework]]
    return told_address(gunicorn, r"Listening at: http://127\.0\.0\.1:(\d+)", ONLINE_URL=url)


def visit(port: int, seed: int, until_s: float, latencies_ms: list[float]) -> None:
    """Load pages until a time."""
    choose = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while (started_s := time.perf_counter()) < until_s:
        connection.request("GET", f"/topic/{choose.randrange(TOPICS)}", headers={"X-User": f"user{seed}"})
        response = connection.getresponse()
        page = response.read()
        latencies_ms.append(1_000 * (time.perf_counter() - started_s))
        assert response.status == 200
        assert b"post 199" in page
        time.sleep(PAUSE_S)
    connection.close()


def load(port: int, seconds: float) -> list[float]:
    """Let all visitors load pages; return how long each took."""
    latencies_ms: list[float] = []
    until_s = time.perf_counter() + seconds
    threads = [
        threading.Thread(target=visit, args=(port, SEED + nth, until_s, latencies_ms)) for nth in range(VISITORS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies_ms


def p99(latencies_ms: list[float]) -> float:
    return statistics.quantiles(latencies_ms, n=100)[98]


@pytest.mark.parametrize("framework", ["Flask", "Django"])
def test_pages_that_tell_who_is_online(record: Callable[..., Any], quick: bool, framework: str, tmp_path: Path) -> None:
    if quick:
        pytest.skip("takes too long for a quick run")
    rounds, seconds = 7, 2.0
    if framework == "Django":
        django_website.make(tmp_path)
    added_ms: dict[str, list[float]] = {state: [] for state in STATES}
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(site(framework, tmp_path, ""))
        urls = {state: stack.enter_context(online_server(state)) for state in STATES}
        ports = {state: stack.enter_context(site(framework, tmp_path, url)) for state, url in urls.items()}
        for port in [plain, *ports.values()]:
            load(port, WARM_UP_S)
        without_ms = []
        for _ in range(rounds):
            without_ms.append(p99(load(plain, seconds)))
            for state, port in ports.items():
                added_ms[state].append(p99(load(port, seconds)) - without_ms[-1])
    note = f"{VISITORS} visitors, gunicorn, 1 worker, 4 threads"
    record(f"{framework}: a page without, p99", without_ms, "ms", note=note)
    for state, values in added_ms.items():
        note = "p99 with the middleware less p99 without, in the same round"
        record(f"{framework}: added to a page while the server is {state}, p99", values, "ms", at_most=5.0, note=note)
