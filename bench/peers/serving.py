"""A peer's server in a process of its own: started on a free port of loopback, ended by its process id.

`Speaking` is a server that speaks RESP, as ours and Redis do. Not here: what is said to it.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis
from bench.native.load import closed_loop
from bench.peers import Question
from bench.processes import cpu_ns, resident_bytes

START_S = 30.0
PING, PONG = b"PING\r\n", b"+PONG\r\n"


def program(name: str, package: str, places: Iterable[Path] = ()) -> Path:
    """Find a program on the way of searching, or in further places; without it the benchmark is skipped."""
    found = shutil.which(name) or next((path for place in places if (path := place / name).exists()), None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return Path(found)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Serving(ABC):
    """A server with a folder of its own, which is gone when the server has ended."""

    is_server = True

    #: Who it runs as when the benchmarks run as root, if it refuses to be root.
    user: str | None = None

    def __init__(self) -> None:
        self.port = free_port()

    @abstractmethod
    def command(self, folder: Path) -> Sequence[str | Path]:
        """Return what starts it; the folder may be prepared here."""

    @abstractmethod
    def connect(self, stack: ExitStack) -> None:
        """Called when it listens; what is opened here is closed before the server ends."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="online-bench-")))
            if os.getuid() != 0:
                self.user = None
            if self.user is not None:
                os.chown(folder, pwd.getpwnam(self.user).pw_uid, -1)
            command, silent = self.command(folder), subprocess.DEVNULL
            process = subprocess.Popen(command, cwd=folder, user=self.user, stdout=silent, stderr=silent)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            self.pid = process.pid
            self._wait_until_it_listens(process)
            self.connect(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def pids(self) -> list[int]:
        return [self.pid]

    def cpu_ns(self) -> int:
        return sum(cpu_ns(pid) for pid in self.pids())

    def resident_bytes(self) -> int:
        return sum(resident_bytes(pid) for pid in self.pids())

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return


class Speaking(Serving):
    """A server of RESP: pipelined streams over one connection, and questions one at a time over another."""

    def connect(self, stack: ExitStack) -> None:
        self.client: Any = stack.enter_context(redis.Redis("127.0.0.1", self.port))
        self._asking = stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        self._asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @abstractmethod
    def question(self, question: Question, url: bytes) -> bytes:
        """Return the bytes that ask it."""

    def asking(self, question: Question, url: bytes) -> Callable[[], None]:
        asked = self.question(question, url)
        self._asking.sendall(asked + PING)
        answer = b""
        while not answer.endswith(PONG):
            answer += self._asking.recv(1 << 16)
        answer = answer.removesuffix(PONG)

        def ask() -> None:
            self._asking.sendall(asked)
            received = self._asking.recv(1 << 16)
            while len(received) < len(answer):
                received += self._asking.recv(1 << 16)
            assert received == answer

        return ask

    def exchange(self, commands: list[bytes], answers: bytes) -> None:
        """Send pieces of many commands over a connection, pipelined; each piece must get just these answers."""
        closed_loop(self.port, commands, "same", expected=answers)


def resp(*words: bytes) -> bytes:
    """A command of RESP."""
    return resp_head(len(words), words)


def resp_head(n_words: int, words: Sequence[bytes]) -> bytes:
    """The beginning of a command of so many words: `words` are the first of them."""
    return b"*%d\r\n" % n_words + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
