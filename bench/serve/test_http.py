"""The hottest requests of the JSON API, over 50 connections that stay, beside nginx with a constant answer.

`wrk` asks from one core (the second), and each server has the other: in turns, a round each. What counts is the ratio
in a round, which a machine that others use changes less than either rate. Kept connections take the way through C
(ext/gets.pyx) from the third request on; `kinds` is answered in Python, and stands for all other questions.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.native.load import closed_loop
from bench.openhttp import one_answer
from bench.peers.serving import free_port
from bench.processes import serving_http
from bench.recording import Recorder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="chooses cores"),
    pytest.mark.skipif(not (shutil.which("wrk") and shutil.which("nginx")), reason="needs wrk and nginx"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores"),
]

CONNECTIONS = 50
USERS = 1_000

#: What is asked, and at least how many times as many answers a second as nginx gives.
PATHS: dict[str, tuple[str, float | None]] = {
    "count": ("/api/v1/count", 0.7),
    "page of 30": ("/api/v1/page?url=/forum/1", 0.3),
    "kinds": ("/api/v1/kinds", None),
}

NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000000; default_type application/json;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{{"people":1000,"at_ms":1795882395639}}'; }} }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Run nginx on the first core, and give its port."""
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    with subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", folder / "nginx.conf", "-p", folder]) as process:
        try:
            for _ in range(500):
                with contextlib.suppress(OSError):
                    one_answer(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    break
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()


def answers_a_second(port: int, path: str, for_s: int) -> float:
    """Ask from the second core, as fast as the answers come; each is to be a 200."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{for_s}s", f"http://127.0.0.1:{port}{path}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    found = re.search(r"Requests/sec: +([\d.]+)", told)
    assert found is not None
    return float(found[1])


def test_requests(record: Recorder, quick: bool, tmp_path: Path) -> None:
    rounds, for_s = (2, 1) if quick else (7, 3)
    ratios: dict[str, list[float]] = {name: [] for name in PATHS}
    rates: dict[str, list[float]] = {name: [] for name in PATHS}
    with nginx(tmp_path) as nginx_port, serving_http(CONNECTIONS + 10, "taskset", "-c", "0") as served:
        hits = b"".join(b"HIT user-%04d /forum/1\r\n" % n for n in range(USERS))
        closed_loop(served.port, [hits], "same", expected=b"+OK\r\n" * USERS)
        for _ in range(rounds):
            of_nginx = answers_a_second(nginx_port, "/", for_s)
            for name, (path, _) in PATHS.items():
                rates[name].append(answers_a_second(served.http_port, path, for_s))
                ratios[name].append(rates[name][-1] / of_nginx)
    for name, (_, at_least) in PATHS.items():
        record(f"GET {name}, {USERS:,} users", rates[name], "questions/s")
        record(f"GET {name}, of nginx' return 200 in the same round", ratios[name], "x", at_least=at_least)
