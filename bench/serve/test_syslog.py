"""Access logs over syslog: lines a second, a flood, and what a web server has of it.

Lines go to `online serve --syslog` over loopback, with the header that nginx gives them. What counts is the processor
time of the server: receiving, reading, and the hit. nginx is a real one, at a fixed rate of requests.
"""

import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.accesslog import Request, combined, nginx_json, requests
from bench.openhttp import open_loop
from bench.processes import Server, cpu_ns, serving
from bench.recording import Recorder

from online_client import Client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HEADER = "<190>Nov 22 23:55:00 web1 nginx: "
ROUNDS = 5

#: What a datagram of these lines takes of the kernel's room, at most.
ROOM_BYTES = 2_048

REQUESTS_A_SECOND = 5_000
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


class Receiver:
    """A server that receives syslog, and how to ask it what came."""

    def __init__(self, server: Server, port: int, client: Client) -> None:
        self.pid = server.pid
        self.port = port
        self.client = client

    def told(self) -> dict[str, int]:
        return {name: int(value) for name, value in self.client.info("syslog")["Syslog"].items()}

    def until(self, is_so: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """Wait for lines that are on their way."""
        until_s = time.monotonic() + 30
        while not is_so(told := self.told()):
            assert time.monotonic() < until_s, told
            time.sleep(0.01)
        return told


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        serving("--syslog", f"127.0.0.1:{port}") as server,
        Client(f"online://127.0.0.1:{server.port}", timeout=30) as client,
    ):
        yield Receiver(server, port, client)


def lines_of(write: Callable[[Request], str], n: int) -> list[bytes]:
    return [(HEADER + write(request)).encode() for request in requests(n)]


@pytest.mark.parametrize(
    ("write", "what", "target"),
    [(nginx_json, "nginx' JSON", 500_000), (combined, "combined", None)],
    ids=["json", "combined"],
)
def test_lines(record: Recorder, quick: bool, write: Callable[[Request], str], what: str, target: int | None) -> None:
    lines = lines_of(write, 50_000 if quick else 200_000)
    rates = []
    for _ in range(ROUNDS):
        with receiving() as server:
            before_ns = cpu_ns(server.pid)
            told = send_at_its_pace(server, lines)
            rates.append(1e9 * len(lines) / (cpu_ns(server.pid) - before_ns))
        assert (told["received"], told["dropped"], told["skipped_not_understood"]) == (len(lines), 0, 0)
        assert told["hits"] + told["skipped_file"] + told["skipped_status"] == len(lines)
    note = f"{len(lines):,} lines of {sum(map(len, lines)) // len(lines)} bytes, by the server's processor time"
    record(f"{what} over syslog", rates, "lines/s", at_least=target, note=note)


def send_at_its_pace(server: Receiver, lines: list[bytes]) -> dict[str, int]:
    """Send lines, never more ahead than the kernel has room for; return what the server tells at the end."""
    ahead = max(100, min(10_000, server.told()["buffer_bytes"] // ROOM_BYTES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", server.port))
        for begin in range(0, len(lines), ahead // 2):
            server.until(lambda told, begin=begin: told["received"] + ahead // 2 >= begin)  # type: ignore[misc]
            for line in lines[begin : begin + ahead // 2]:
                sender.send(line)
    return server.until(lambda told: told["received"] + told["dropped"] >= len(lines))


def test_flood(record: Recorder, quick: bool) -> None:
    """More than the server takes: every line is received, or told as dropped."""
    lines = lines_of(nginx_json, 50_000)
    n_times = 4 if quick else 20
    shares, rates = [], []
    for _ in range(1 if quick else 3):
        with receiving() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", server.port))
            began_s = time.perf_counter()
            for _ in range(n_times):
                for line in lines:
                    sender.send(line)
            rates.append(n_times * len(lines) / (time.perf_counter() - began_s))
            n_sent, told = n_times * len(lines), {"received": 0, "dropped": 0}
            until_s = time.monotonic() + 30
            while told["received"] + told["dropped"] < n_sent and time.monotonic() < until_s:
                time.sleep(0.1)
                sender.send(lines[0])  # what was dropped is told with the next line that comes
                n_sent += 1
                time.sleep(0.1)
                told = server.told()
            assert told["received"] + told["dropped"] == n_sent
            shares.append(100 * told["dropped"] / n_sent)
    note = f"{n_times * len(lines):,} lines as fast as one core sends them; received and dropped are as many as sent"
    record("flood: lines sent", rates, "lines/s", note=note)
    record("flood: dropped by the kernel, and told", shares, "%", note=note)


@contextlib.contextmanager
def nginx(folder: Path, inside: str) -> Iterator[int]:
    """Run nginx, with one worker and its own log file as usual, and give its port."""
    assert NGINX is not None
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "nginx.conf").write_text(f"""
        daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
        events {{ worker_connections 1024; }}
        http {{
            client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
            uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5; keepalive_requests 1000000;
            access_log {folder}/access.log; {inside}
            server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{"hello " * 500}"; }} }}
        }}""")
    with subprocess.Popen([NGINX, "-c", f"{folder}/nginx.conf", "-p", folder]) as process:
        try:
            until_s = time.monotonic() + 10
            while not is_open(port):
                assert time.monotonic() < until_s
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def streamed(port: int) -> str:
    """What docs/nginx.md adds to nginx' configuration, with the port of this server."""
    guide = (Path(__file__).parents[2] / "docs" / "nginx.md").read_text()
    block = re.search(r"```\n(log_format online.*?)```", guide, re.DOTALL)
    assert block is not None
    return block[1].replace("127.0.0.1:5140", f"127.0.0.1:{port}")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_with_the_stream_and_without(tmp_path: Path, record: Recorder, quick: bool) -> None:
    if quick:
        pytest.skip("takes too long for a quick run")
    n, rounds = 15_000, 7
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"
    asked = [f"GET /topic/{k % 1_000} HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\n\r\n".encode() for k in range(n)]
    p99s_ms: dict[str, list[float]] = {"with": [], "without": []}
    cpu_percents = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(receiving())
        without = stack.enter_context(nginx(tmp_path / "without", ""))
        with_it = stack.enter_context(nginx(tmp_path / "with", streamed(server.port)))
        ports = {"without": without, "with": with_it}
        for port in ports.values():
            open_loop(port, asked[:2_000], a_second=REQUESTS_A_SECOND)
        for number in range(rounds):
            for which in sorted(ports, reverse=bool(number % 2)):
                before_ns, began_s = cpu_ns(server.pid), time.perf_counter()
                found_ms = open_loop(ports[which], asked, a_second=REQUESTS_A_SECOND)
                p99s_ms[which].append(statistics.quantiles(found_ms, n=100)[98])
                if which == "with":
                    cpu_percents.append((cpu_ns(server.pid) - before_ns) / 1e7 / (time.perf_counter() - began_s))
        n_asked = rounds * n + 2_000 + rounds + 1  # and one request before each loop
        told = server.until(lambda told: told["received"] + told["dropped"] >= n_asked)
    assert (told["received"], told["hits"], told["dropped"]) == (n_asked, n_asked, 0)
    note = f"nginx at {REQUESTS_A_SECOND:,} requests/s, 1 worker, 32 connections, its own log file in both"
    for which, values in p99s_ms.items():
        record(f"nginx {which} the stream, p99", values, "ms", note=note)
    record("server's processor time meanwhile", cpu_percents, "% of a core", note=note)
    ratios = [one / other for one, other in zip(p99s_ms["with"], p99s_ms["without"], strict=True)]
    record("p99 with the stream, to that without", ratios, "x", at_most=1.1, note=f"{note}; every hit arrived")
