"""What systemd is told, and sockets that it hands over, by servers in processes of their own."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from tests.serving import command, environment

#: Puts the descriptors of sockets where systemd puts them, and becomes the server.
LAUNCH = """
import os, sys
fds, command = [int(fd) for fd in sys.argv[1].split(",")], sys.argv[2:]
for n, fd in enumerate(os.dup(fd) for fd in fds):
    os.dup2(fd, 50 + n)
for n in range(len(fds)):
    os.dup2(50 + n, 3 + n)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
os.execv(command[0], command)
"""


class Manager:
    """Stands in for systemd: it takes what is told."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.settimeout(30)
        self.told = []

    def until(self, name, value=None):
        """Wait until this was told, and return its value."""
        while True:
            message = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            self.told.append(message)
            if name in message and value in (None, message[name]):
                return message[name]


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A manager, and the address that the server is given."""
    if request.param == "abstract":
        if sys.platform != "linux":
            pytest.skip("abstract addresses are Linux'")
        name = f"online-test-{os.getpid()}-{os.urandom(4).hex()}"
        address, bound = f"@{name}", f"\0{name}"
    else:
        address = bound = str(tmp_path / "notify")
    manager = Manager(bound)
    yield manager, address
    manager.socket.close()


def serving(*options, **variables):
    return subprocess.Popen(
        command("serve", "--listen", "127.0.0.1:0", *options), env=environment(**variables), stderr=subprocess.PIPE
    )


def test_a_server_says_that_it_is_ready_alive_and_stopping(manager, tmp_path):
    manager, address = manager
    with serving("--state", str(tmp_path / "state"), NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as server:
        try:
            manager.until("READY")
            assert "EXTEND_TIMEOUT_USEC" in manager.told[0]
            assert manager.told[-1]["STATUS"] == "0 online, 0 connections"
            manager.until("WATCHDOG")
            manager.until("WATCHDOG")
            server.send_signal(signal.SIGHUP)
            assert int(manager.until("MONOTONIC_USEC")) > 0
            assert manager.told[-1]["RELOADING"] == "1"
            manager.until("READY")
            server.terminate()
            manager.until("STOPPING")
            assert server.wait(30) == 0
        finally:
            server.kill()


def test_a_watchdog_of_another_process_is_not_served(manager):
    manager, address = manager
    with serving(NOTIFY_SOCKET=address, WATCHDOG_USEC="1000", WATCHDOG_PID="1") as server:
        try:
            manager.until("READY")
            server.terminate()
            manager.until("STOPPING")
            assert not any("WATCHDOG" in message for message in manager.told)
        finally:
            server.kill()


def test_a_manager_that_has_gone_is_no_matter(tmp_path):
    with serving(NOTIFY_SOCKET=str(tmp_path / "nowhere")) as server:
        try:
            line = next(line for line in server.stderr if b"cannot tell systemd" in line)
            assert b"nowhere" in line
            server.terminate()
            assert server.wait(30) == 0
        finally:
            server.kill()


def test_sockets_that_were_opened_before_are_used(tmp_path):
    path = tmp_path / "socket"
    opened = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)]
    opened[0].bind(("127.0.0.1", 0))
    opened[1].bind(str(path))
    opened[2].bind(("127.0.0.1", 0))
    for each in opened[:2]:
        each.listen()
    port = opened[0].getsockname()[1]
    # Who connects before the server has started waits, and is served.
    early = [socket.create_connection(("127.0.0.1", port)), socket.socket(socket.AF_UNIX)]
    early[1].connect(str(path))
    fds = [each.fileno() for each in opened]
    options = ["serve", "--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}"]
    launched = [sys.executable, "-c", LAUNCH, ",".join(map(str, fds)), *command(*options)]
    with subprocess.Popen(launched, env=environment(), pass_fds=fds, stderr=subprocess.PIPE) as server:
        try:
            for each in early:
                each.sendall(b"COUNT\r\n")
                assert each.recv(100) == b":0\r\n"
            unused = next(line for line in server.stderr if b"was not told to listen" in line)
            assert b"127.0.0.1:%d," % opened[2].getsockname()[1] in unused
            server.terminate()
            assert server.wait(30) == 0
        finally:
            server.kill()
    assert path.exists()  # it is systemd's
    for each in opened + early:
        each.close()
