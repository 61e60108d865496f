"""Servers for real clients. They want no token, so that any will do: each test speaks of a site of its own."""

import itertools
from contextlib import ExitStack

import pytest
from tests.clients.talking import TOKEN
from tests.serving import server_process

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def port():
    """The port of a server that wants no token."""
    with server_process() as server:
        yield server.port


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """A server that wants a token, on TCP and on a Unix socket: `(port, path)`."""
    path = tmp_path_factory.mktemp("guarded") / "online.sock"
    listen = ("--listen", "127.0.0.1:0", "--listen", f"unix:{path}")
    with server_process(*listen, ONLINE_TOKEN=TOKEN) as server:
        yield server.port, path


@pytest.fixture
def site(request):
    """The name of a site of this test alone."""
    return f"{request.node.originalname}-{next(_numbers)}"


class Restarting:
    """A server that ends and begins again at the same port."""

    def __init__(self):
        self._stack = ExitStack()
        self.port = self._stack.enter_context(server_process()).port

    def restart(self):
        self._stack.close()
        self._stack.enter_context(server_process("--listen", f"127.0.0.1:{self.port}"))

    def close(self):
        self._stack.close()


@pytest.fixture(scope="session")
def restarting():
    server = Restarting()
    yield server
    server.close()
