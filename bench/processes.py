"""What a process has used, as the kernel tells it; a server in a process of its own; connections that stay idle.

Linux only: it reads /proc. Not here: sending hits (native/load.pyx).
"""

import contextlib
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Descriptors beside those of idle connections.
_SPARE_FILES = 64


def cpu_ns(pid: int) -> int:
    """The processor time that a process has used in all its threads, user and system, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def resident_bytes(pid: int | None = None) -> int:
    """The memory of a process that is in RAM: of this one unless told otherwise."""
    fields = Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def huge_page_bytes(pid: int | None = None) -> int:
    """How much of a process' own memory stands in huge pages."""
    text = Path(f"/proc/{pid or os.getpid()}/smaps_rollup").read_text()
    found = re.search(r"^AnonHugePages: +(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@contextlib.contextmanager
def placed(*pids: int) -> Iterator[None]:
    """Hold servers on one processor, and this process with those that it starts on another.

    What wakes a server on its own processor pays a third of what it costs to wake one on another: without this, two
    servers that do the same can differ by that much.
    """
    before = os.sched_getaffinity(0)
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {max(before)})
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server(NamedTuple):
    port: int
    pid: int


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Run `online serve` with these options on a free port of loopback, and end it."""
    with _running("serve", "--http", "", *options) as server:
        yield server


@contextlib.contextmanager
def gateway(path: Path) -> Iterator[Server]:
    """Run `online gateway` with this map on a free port of loopback, and end it."""
    with _running("gateway", "--map", str(path)) as server:
        yield server


@contextlib.contextmanager
def _running(*words: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "online", *words, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if " listens on " in line)
            listening = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert listening is not None
            yield Server(int(listening[1]), process.pid)
        finally:
            process.terminate()


class HttpServer(NamedTuple):
    port: int
    http_port: int
    pid: int


@contextlib.contextmanager
def serving_http(n_connections: int, *before: str) -> Iterator[HttpServer]:
    """Run a server with HTTP that takes so many connections, and end it; `before` stands before the command."""
    command = [*before, sys.executable, "-m", "online", "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--max-connections", str(n_connections)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            log = iter(process.stderr)
            http = re.search(r":(\d+)/", next(line for line in log if "dashboard" in line))
            listening = re.search(r"127\.0\.0\.1:(\d+)", next(line for line in log if " listens on " in line))
            assert http is not None and listening is not None  # noqa: PT018
            yield HttpServer(int(listening[1]), int(http[1]), process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def idle_connections(port: int, n: int) -> Iterator[list[socket.socket]]:
    """Open so many connections to a port of loopback, say nothing on them, and close them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, n + _SPARE_FILES), hard), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(n)]
