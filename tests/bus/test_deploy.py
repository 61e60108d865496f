"""deploy/: the processes of compose.yaml on this machine, through HAProxy, while one of them is killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.bus.brokers import Kafka
from tests.programs import program
from tests.serving import environment, until

from online_client import Client, OnlineError

DEPLOY = Path(__file__).parents[2] / "deploy"


def five_ports():
    """A port of which the next four are free, too."""
    for first in range(20_000 + os.getpid() % 2_000 * 5, 60_000, 5):
        with contextlib.ExitStack() as stack:
            try:
                for number in range(5):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", first + number))
            except OSError:
                continue
            return first
    raise AssertionError("no five ports are free")


def group_of(directory, port, *programs, **given):
    """Start the group that deploy/ describes; the programs that it takes from the PATH have to be there."""
    for name in programs:
        program(name)
    command = ["bash", DEPLOY / "replicas.sh", directory, str(port)]
    told = environment(ONLINE=f"{sys.executable} -m online", **given)
    return subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL)


def answered(client, ask):
    """Whether a question is answered, and right."""
    try:
        return ask(client)
    except OnlineError:
        return False


@pytest.mark.slow
def test_the_group_answers_while_a_replica_is_killed(tmp_path):
    port = five_ports()
    group = group_of(tmp_path, port, "haproxy", "redis-server")
    try:
        with (
            Client(f"online://127.0.0.1:{port}/default", timeout=5) as client,
            Client(f"online://127.0.0.1:{port + 3}/default", timeout=5) as second,
            Client(f"online://127.0.0.1:{port + 4}/default", timeout=5) as relay,
            Client(f"online://127.0.0.1:{port + 2},127.0.0.1:{port + 3}/default", timeout=5) as either,
        ):
            until(lambda: answered(client, lambda each: each.count() == 0))
            until(lambda: answered(second, lambda each: each.count() == 0))
            client.hit("ada", "/a")
            until(lambda: second.count() == 1)
            os.kill(int((tmp_path / "a.pid").read_text()), signal.SIGKILL)
            assert either.count() == 1
            until(lambda: answered(client, lambda each: each.count() == 1))
            client.hit("kim", "/a")
            assert client.count() == either.count() == 2
            relay.hit("theo", "/b")
            until(lambda: client.count() == 3)
    finally:
        group.terminate()
        group.wait(20)


@pytest.mark.slow
def test_the_group_uses_a_bus_that_runs_already(tmp_path):
    kafka, port = Kafka(), five_ports()
    group = group_of(tmp_path, port, "haproxy", ONLINE_BUS=kafka.start().url)
    try:
        with (
            Client(f"online://127.0.0.1:{port + 3}/default", timeout=5) as second,
            Client(f"online://127.0.0.1:{port + 4}/default", timeout=5) as relay,
        ):
            until(lambda: answered(second, lambda each: each.count() == 0))
            until(lambda: answered(relay, lambda each: each.hit("theo", "/b") or True))
            until(lambda: second.count() == 1)
        assert not (tmp_path / "redis.pid").exists()
    finally:
        group.terminate()
        group.wait(20)
        kafka.close()


def test_the_script_and_the_containers_run_the_same():
    script, containers = (DEPLOY / "replicas.sh").read_text(), (DEPLOY / "compose.yaml").read_text()
    for words in ("--appendonly yes", "noeviction", "serve --listen", "relay --listen", "--bus", "--state"):
        assert words in script, words
        assert words in containers, words
    for text in (script, containers):
        assert "${ONLINE_BUS:-redis://" in text
    for variable in ("ONLINE_LISTEN", "ONLINE_A", "ONLINE_B"):
        assert variable in script
        assert variable in containers
        assert variable in (DEPLOY / "haproxy.cfg").read_text()


def answering(count):
    """Return the address of a server that knows `AUTH` and answers `COUNT` with `count`."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            peer, _ = listening.accept()
            with peer, contextlib.suppress(OSError):
                while data := peer.recv(4_096):
                    peer.sendall(b"+OK\r\n" if data.startswith(b"AUTH") else count + b"\r\n")

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listening.getsockname()[1]}"


def count_at(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(b"COUNT\r\n")
        return peer.recv(4_096)
    return b""


def test_the_check_does_not_take_the_port_in_an_error_for_a_number():
    port = five_ports()
    partial = answering(b"-PARTIAL no answer from partition 1 of 4: cannot connect to online://10.0.0.7:8989/default")
    told = environment(ONLINE_LISTEN=f"127.0.0.1:{port}", ONLINE_A=partial, ONLINE_B=answering(b":7"))
    with subprocess.Popen([program("haproxy"), "-f", DEPLOY / "haproxy.cfg"], env=told) as haproxy:
        try:
            until(lambda: count_at(port) == b":7\r\n")
        finally:
            haproxy.terminate()
