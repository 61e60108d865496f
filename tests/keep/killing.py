"""A driver that kills a server again and again, and knows what it has acknowledged.

Each sender has users of its own and sends numbered hits and leaves of them, in RESP or in batches of MessagePack. Of
each user it knows the last state that was acknowledged and those that were sent since without an answer. After a kill
and a restart every user must be in one of these states: nothing that was acknowledged is lost, nothing is made up.
"""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import msgpack
from tests.serving import environment

from online.core.sites import DEFAULT_SITE, Sites
from online.limits import Limits
from online_client import Client, ConnectionFailed, LoadingError, OnlineError

USERS = 60
GONE = None


def free_port():
    """A port for one server after the other. The system gives it to nobody else while none of them runs."""
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Server:
    """The server of a cycle."""

    def __init__(self, port, *arguments, **variables):
        self.port = port
        command = [sys.executable, "-m", "tests.keep.small_server", "--listen", f"127.0.0.1:{port}", *arguments]
        variables = environment(PYTHONFAULTHANDLER="1", **variables)
        self.popen = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)

    def kill(self, sent=signal.SIGKILL):
        self.popen.send_signal(sent)
        self.log = self.popen.stderr.read()
        self.popen.stderr.close()
        return self.popen.wait(30)

    def client(self):
        """A client, once the server has read what it kept."""
        client = Client(f"online://127.0.0.1:{self.port}", timeout=20)
        until = time.monotonic() + 30
        while True:
            try:
                client.count()
                return client
            except (LoadingError, ConnectionFailed):
                assert self.popen.poll() is None, self.popen.stderr.read()
                if time.monotonic() > until:
                    self.kill(signal.SIGABRT)
                    raise AssertionError(f"it does not come up:\n{self.log}") from None
                time.sleep(0.005)


class Sender(threading.Thread):
    """Sends hits of its users until the server goes."""

    def __init__(self, name, model, port, seed):
        super().__init__(daemon=True)
        self.prefix, self.model, self.port = name, model, port
        self.draw = random.Random(seed)

    def run(self):
        with suppress(OSError):
            self.converse(1_000_000)

    def converse(self, n_messages):
        """Send so many messages, or until the server goes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as self.socket:
            self.received = b""
            self.unpacker = msgpack.Unpacker()
            send = self.send_batch if self.prefix.startswith("m") else self.send_lines
            for _ in range(n_messages):
                if not send([self.step() for _ in range(self.draw.choice((1, 3, 40, 200)))]):
                    break

    def step(self):
        """The next state of one of the users: (user, url or GONE, seen_ms)."""
        user = f"{self.prefix}-{self.draw.randrange(USERS)}"
        url = GONE if self.draw.random() < 0.1 else f"/{self.draw.randrange(30)}"
        seen_ms = max(time.time_ns() // 1_000_000 - 1_000, self.model.last_ms(user) + 1)
        self.model.sent(user, url, seen_ms)
        return user, url, seen_ms

    def send_lines(self, steps):
        """Send a pipeline of RESP, and take the answers."""
        lines = [
            f"LEAVE {user} {seen_ms}\r\n" if url is GONE else f"HIT {user} {url} {seen_ms}\r\n"
            for user, url, seen_ms in steps
        ]
        self.socket.sendall("".join(lines).encode())
        for user, _, seen_ms in steps:
            answer = self.line()
            if answer is None:
                return False
            if answer == b"+OK":
                self.model.acknowledged(user, seen_ms)
            else:
                assert answer.startswith((b"-LOADING", b"-MISCONF")), answer
        return True

    def line(self):
        while b"\r\n" not in self.received:
            data = self.socket.recv(65_536)
            if not data:
                return None
            self.received += data
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    def send_batch(self, steps):
        """Send a batch, then its leaves; take the answers. A user is in a message once."""
        message, expected = b"", []
        hits = []
        for user, url, seen_ms in steps:
            if url is GONE:
                if hits:
                    message += msgpack.packb([0, 1, "hits", hits])
                    expected.append(hits)
                    hits = []
                message += msgpack.packb([0, 1, "LEAVE", [user, seen_ms]])
                expected.append([(user, None, seen_ms)])
            else:
                hits.append((user, url, seen_ms))
        if hits:
            message += msgpack.packb([0, 1, "hits", hits])
            expected.append(hits)
        self.socket.sendall(message)
        for each in expected:
            answer = self.message()
            if answer is None:
                return False
            if answer[2] is None:
                for user, _, seen_ms in each:
                    self.model.acknowledged(user, seen_ms)
            else:
                assert answer[2][0] in ("LOADING", "MISCONF"), answer
        return True

    def message(self):
        while True:
            for answer in self.unpacker:
                return answer
            data = self.socket.recv(65_536)
            if not data:
                return None
            self.unpacker.feed(data)


class Model:
    """What each user may be seen as."""

    def __init__(self):
        self.certain = {}  # user: (seen_ms, url) as acknowledged, or as seen after a restart
        self.possible = {}  # user: {seen_ms: url} sent since without an answer

    def last_ms(self, user):
        times = [self.certain.get(user, (0, None))[0], *self.possible.get(user, ())]
        return max(times)

    def sent(self, user, url, seen_ms):
        self.possible.setdefault(user, {})[seen_ms] = url

    def acknowledged(self, user, seen_ms):
        possible = self.possible[user]
        if seen_ms > self.certain.get(user, (0, None))[0]:
            self.certain[user] = seen_ms, possible[seen_ms]
        self.possible[user] = {ms: url for ms, url in possible.items() if ms > seen_ms}

    def check(self, client):
        """Compare with a server, and take as certain what it shows. Returns how many states were compared."""
        users = sorted({*self.certain, *self.possible})
        online = 0
        for begin in range(0, len(users), 500):
            asked = users[begin : begin + 500]
            for user, session in zip(asked, client.seen(*asked), strict=True):
                online += session is not None
                self.check_user(user, session)
        assert client.count() == online, "somebody is online who was never sent"
        return len(users)

    def check_user(self, user, session):
        certain, possible = self.certain.get(user), self.possible.pop(user, {})
        if session is None:
            gone = [ms for ms, url in possible.items() if url is GONE]
            assert certain is None or certain[1] is GONE or gone, f"{user} is lost: {certain}, {possible}"
            if gone:
                self.certain[user] = max(gone), GONE
            return
        seen = round(session.seen_at.timestamp() * 1000), session.url
        assert seen == certain or possible.get(seen[0]) == seen[1], f"{user}: {seen}, not {certain} or {possible}"
        self.certain[user] = seen

    def sites(self, at_ms):
        """The sites that the model is sure of, as an index."""
        assert not any(self.possible.values()), "something is not certain"
        sites = Sites(Limits(max_memory=2**30))
        index = sites[DEFAULT_SITE]
        for user, (seen_ms, url) in self.certain.items():
            if url is GONE:
                index.leave(user.encode(), seen_ms=seen_ms, now_ms=at_ms)
            else:
                index.hit(user.encode(), url.encode(), seen_ms=seen_ms, now_ms=at_ms)
        return sites


def cycle(model, state, draw, *, transport="auto", sync="1s"):
    """Start a server, send, kill it at some moment; start it again, compare. Returns how many states were compared."""
    arguments = ("--state", str(state), "--transport", transport, "--sync", sync)
    port = free_port()
    server = Server(port, *arguments)
    if draw.random() < 0.2:  # in its start, or while it reads
        time.sleep(draw.random() * 0.5)
        server.kill()
        server = Server(port, *arguments)
    with server.client():
        senders = [Sender(name, model, port, draw.random()) for name in ("m1", "m2", "r1", "r2")]
        for sender in senders:
            sender.start()
        time.sleep(draw.random() * 0.3)
        server.kill()
    for sender in senders:
        sender.join(20)
        assert not sender.is_alive()
    port = free_port()
    server = Server(port, *arguments)
    try:
        with server.client() as client, suppress(OnlineError):
            return model.check(client)
    finally:
        server.kill()
        assert "damaged" not in server.log, server.log
        assert "missing" not in server.log, server.log
    raise AssertionError("the server went while it was asked")
