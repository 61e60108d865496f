"""A server that follows a script, on a real socket: a thread for each connection."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest

#: No test waits this long unless it fails.
PATIENCE_S = 20.0


class Talk:
    """One connection, seen from the server."""

    def __init__(self, sock: socket.socket, server: "ScriptedServer") -> None:
        self.server = server
        self._socket = sock
        self._unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")

    def request(self) -> tuple[int, str, list[Any]] | None:
        """Wait for a request and return `(msgid, verb, params)`, None at the end."""
        while True:
            for _, msgid, verb, params in self._unpacker:
                self.server.requests.append((verb, params))
                return msgid, verb, params
            data = self._socket.recv(65_536)
            if not data:
                return None
            self._unpacker.feed(data)

    def answer(self, msgid: int, result: object) -> None:
        self.send(msgpack.packb([1, msgid, None, result]))

    def refuse(self, msgid: int | None, code: str, message: str) -> None:
        self.send(msgpack.packb([1, msgid, [code, message], None]))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)


Script = Callable[[Talk], None]


class ScriptedServer:
    """Accepts connections and runs `script` on each; `script` may be exchanged at any time."""

    def __init__(self, script: Script, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self._tls = tls
        self.requests: list[tuple[str, list[Any]]] = []
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listener.bind(str(path) if path else ("127.0.0.1", 0))
        self._listener.listen()
        self.where = self._listener.getsockname()
        self.url = f"online+unix://{path}" if path else f"online{'s' * bool(tls)}://127.0.0.1:{self.where[1]}"
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing:
                sock.close()
                return
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock:
                self.script(Talk(sock, self))

    def disconnect(self) -> None:
        """Break all connections, and wait until their scripts have ended."""
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(PATIENCE_S)

    def close(self) -> None:
        self._closing = True
        with socket.socket(self._listener.family) as last, suppress(OSError):
            last.connect(self.where)
        self._threads[0].join(PATIENCE_S)
        self._listener.close()
        self.disconnect()


def answering(answers: Mapping[str, object] | None = None) -> Script:
    """Answer with what `answers` says for the verb, or computes from its params, else as a server would."""
    known: dict[str, object] = {
        "hit": "OK",
        "leave": "OK",
        "auth": "OK",
        "site": "OK",
        "ping": "PONG",
        "hits": lambda *hits: [len(hits), 0, 0, None],
        **(answers or {}),
    }

    def script(talk: Talk) -> None:
        while request := talk.request():
            msgid, verb, params = request
            answer = known[verb]
            talk.answer(msgid, answer(*params) if callable(answer) else answer)

    return script


def silent(talk: Talk) -> None:
    """Read and never answer."""
    while talk.request():
        pass


def closing(talk: Talk) -> None:
    """Close the connection instead of answering."""
    talk.request()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ScriptedServer]]:
    """Start scripted servers: `serve(script)`, `serve(script, unix=True)`, `serve(script, tls=context)`."""
    servers: list[ScriptedServer] = []

    def start(script: Script, *, unix: bool = False, tls: ssl.SSLContext | None = None) -> ScriptedServer:
        servers.append(ScriptedServer(script, tmp_path / "online.sock" if unix else None, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def scripts() -> "type[Scripts]":
    """The ready-made scripts."""
    return Scripts


class Scripts:
    answering = staticmethod(answering)
    silent = staticmethod(silent)
    closing = staticmethod(closing)
