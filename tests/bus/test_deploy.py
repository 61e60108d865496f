"""deploy/: the processes of compose.yaml on this machine, through HAProxy and nginx, while some of them are killed."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.bus.brokers import Kafka
from tests.programs import program
from tests.serving import environment, until

from online_client import Client, OnlineError

DEPLOY = Path(__file__).parents[2] / "deploy"


def eight_ports():
    """A port of which the next seven are free, too."""
    for first in range(20_000 + os.getpid() % 1_500 * 8, 60_000, 8):
        with contextlib.ExitStack() as stack:
            try:
                for number in range(8):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", first + number))
            except OSError:
                continue
            return first
    raise AssertionError("no eight ports are free")


def replicas_sh(directory, port, *programs, acts=(), **given):
    """The script that runs the group; the programs that it takes from the PATH have to be there."""
    for name in programs:
        program(name)
    command = ["bash", DEPLOY / "replicas.sh", directory, str(port), *acts]
    return command, environment(ONLINE=f"{sys.executable} -m online", **given)


def group_of(directory, port, *programs, **given):
    """Start the group that deploy/ describes."""
    command, told = replicas_sh(directory, port, *programs, **given)
    return subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL)


def answered(client, ask):
    """Whether a question is answered, and right."""
    try:
        return ask(client)
    except OnlineError:
        return False


@pytest.mark.slow
def test_the_group_answers_while_a_replica_is_killed(tmp_path):
    port = eight_ports()
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
def test_page_views_of_the_site_go_to_the_relay_and_its_pages_ask_the_servers(tmp_path):
    port = eight_ports()
    site = f"http://127.0.0.1:{port + 5}"

    def fetched(path):
        told = urllib.request.Request(f"{site}{path}", headers={"User-Agent": "Mozilla/5.0 (X11) Firefox/121.0"})
        with urllib.request.urlopen(told, timeout=10) as answer:
            return answer.read().decode()

    def people():
        with contextlib.suppress(urllib.error.HTTPError):
            return json.loads(fetched("/online/api/v1/count?url=/forum/1"))["people"]

    group = group_of(tmp_path, port, "haproxy", "redis-server", "nginx")
    try:
        until(lambda: people() == 0, OSError)
        with (
            Client(f"online://127.0.0.1:{port + 4}/default", timeout=5) as relay,
            Client(f"online://127.0.0.1:{port + 3}/default", timeout=5) as second,
        ):
            until(lambda: answered(relay, lambda each: each.ping() or True))
            until(lambda: answered(second, lambda each: each.count() == 0))
            assert "<online-count page>" in fetched("/forum/1")
            until(lambda: people() == second.count() == 1)
        os.kill(int((tmp_path / "a.pid").read_text()), signal.SIGKILL)
        until(lambda: people() == 1)
        assert "customElements" in fetched("/online/online.js")
        assert "<online-count page>" in fetched("/online/api/v1/users"), "what is not public gets through"
    finally:
        group.terminate()
        group.wait(20)


@pytest.mark.slow
def test_the_acts_of_the_script_end_well(tmp_path):
    command, told = replicas_sh(tmp_path, eight_ports(), "haproxy", "redis-server", acts=["acts"])
    ran = subprocess.run(command, env=told, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert re.search(r"^Server a was killed. HAProxy had an answer, of all 100, after \d+ ms.$", ran.stdout, re.M)
    assert re.search(r"^Both servers have the same 260 users: digest [0-9a-f]{32}.$", ran.stdout, re.M)


def test_the_acts_want_a_new_directory(tmp_path):
    (tmp_path / "a").mkdir()
    command = ["bash", DEPLOY / "replicas.sh", tmp_path, str(eight_ports()), "acts"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "name a directory that is new" in ran.stderr


@pytest.mark.slow
def test_the_group_uses_a_bus_that_runs_already(tmp_path):
    kafka, port = Kafka(), eight_ports()
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
    for words in (
        "--appendonly yes", "noeviction", "serve --listen", "relay --listen", "--bus", "--state", "--syslog",
        "--public count",
    ):  # fmt: skip
        assert words in script, words
        assert words in containers, words
    for text in (script, containers):
        assert "${ONLINE_BUS:-redis://" in text
    for variable in ("ONLINE_LISTEN", "ONLINE_A", "ONLINE_B"):
        assert variable in script
        assert variable in containers
        assert variable in (DEPLOY / "haproxy.cfg").read_text()
    nginx = set(re.findall(r"\$\{(\w+)\}", (DEPLOY / "nginx.conf").read_text()))
    assert nginx == set(re.findall(r"\\\$\{(\w+)\}", script))
    for variable in nginx:
        assert f"      {variable}: " in containers, variable


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
    port = eight_ports()
    partial = answering(b"-PARTIAL no answer from partition 1 of 4: cannot connect to online://10.0.0.7:8989/default")
    told = environment(ONLINE_LISTEN=f"127.0.0.1:{port}", ONLINE_A=partial, ONLINE_B=answering(b":7"))
    with subprocess.Popen([program("haproxy"), "-f", DEPLOY / "haproxy.cfg"], env=told) as haproxy:
        try:
            until(lambda: count_at(port) == b":7\r\n")
        finally:
            haproxy.terminate()
