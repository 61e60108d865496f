"""Proxies and monitoring for Redis look at a server: redis-cli, prometheus-redis-exporter, HAProxy's checks."""

import re
import socket
import subprocess
import urllib.request
from contextlib import contextmanager

import pytest
import redis
from tests.clients.talking import run
from tests.programs import program
from tests.serving import until
from tests.websites import free_port


@contextmanager
def ended(popen):
    try:
        yield popen
    finally:
        popen.terminate()
        popen.wait(20)
        popen.stdout.close()


@pytest.fixture
def client(port):
    with redis.Redis(port=port, decode_responses=True) as client:
        yield client


def test_redis_cli_shows_the_figures_of_each_moment(port):
    command = ["stdbuf", "-oL", program("redis-cli"), "-p", str(port), "--stat", "-i", "0.01"]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as stat:
        lines = [stat.stdout.readline() for _ in range(4)]
    assert lines[1].split() == ["keys", "mem", "clients", "blocked", "requests", "connections"]
    for line in lines[2:]:
        assert re.fullmatch(r"\d+ +[\d.]+[BKMG] +\d+ +0 +\d+ \(\+\d+\) +\d+ +", line.rstrip("\n")), line


def test_redis_cli_knows_the_verbs(port):
    """It makes its hints and its help of COMMAND DOCS; here it shows that it can read them."""
    told = run(program("redis-cli"), "-3", "-p", port, "--json", "COMMAND", "DOCS", "page")
    assert b'"summary":"Counts the people on a page, and lists its users, newest first."' in told


def test_prometheus_exporter(port, client):
    client.execute_command("HIT", "ada", "/x")
    exporter = program("prometheus-redis-exporter")
    web = f"127.0.0.1:{free_port()}"
    command = [exporter, "-redis.addr", f"redis://127.0.0.1:{port}", "-web.listen-address", web, "-export-client-list"]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)) as running:
        told = until(lambda: urllib.request.urlopen(f"http://{web}/metrics", timeout=5).read().decode(), OSError)
        running.terminate()
        log = running.stdout.read()
    figures = dict(re.findall(r"^(redis_\S+) (\S+)$", told, re.MULTILINE))
    assert figures["redis_up"] == "1"
    assert figures['redis_exporter_last_scrape_error{err=""}'] == "0"
    for name in (
        "redis_commands_processed_total",
        "redis_connections_received_total",
        "redis_connected_clients",
        "redis_cpu_sys_seconds_total",
        "redis_memory_max_bytes",
        "redis_memory_used_bytes",
        "redis_memory_used_rss_bytes",
        "redis_uptime_in_seconds",
        'redis_db_keys{db="db0"}',
    ):
        assert float(figures[name]) >= 0, name
    assert float(figures["redis_memory_max_bytes"]) > float(figures["redis_memory_used_bytes"]) > 0
    assert [name for name in figures if name.startswith("redis_db_keys{")] == ['redis_db_keys{db="db0"}']
    assert 'role="master"' in told
    assert re.search(r'^redis_connected_clients_details\{.*host="127.0.0.1".*name="redis_exporter"', told, re.MULTILINE)
    assert "level=error" not in log


#: What telegraf's plugin and Datadog's agent read of INFO, as far as it means something here.
AGENTS = (
    *("uptime_in_seconds", "connected_clients", "blocked_clients", "maxclients", "used_memory", "used_memory_rss"),
    *("used_memory_peak", "maxmemory", "maxmemory_policy", "total_system_memory", "total_connections_received"),
    *("total_commands_processed", "instantaneous_ops_per_sec", "rejected_connections", "expired_keys", "evicted_keys"),
    *("pubsub_channels", "pubsub_patterns", "latest_fork_usec", "connected_slaves", "master_repl_offset"),
    *("repl_backlog_size", "used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children"),
    *("loading", "role", "redis_version", "cluster_enabled", "db0"),
)


def test_agents_find_what_they_read(client):
    figures = client.info("ALL")
    assert {name: figures[name] for name in AGENTS if isinstance(figures[name], str)} == {
        "maxmemory_policy": "noeviction",
        "role": "master",
        "redis_version": figures["version"],
    }
    assert set(figures["db0"]) == {"keys", "expires", "avg_ttl"}


CHECKS = """
global
    stats socket {control} mode 600 level user
defaults
    mode tcp
    timeout connect 5s
    timeout server 5s
    timeout client 5s
listen built_in
    bind {folder}/built_in.sock
    option redis-check
    server online 127.0.0.1:{port} check inter 50
listen by_role
    bind {folder}/by_role.sock
    option tcp-check
    tcp-check send PING\\r\\n
    tcp-check expect string +PONG
    tcp-check send info\\ replication\\r\\n
    tcp-check expect string role:master
    tcp-check send QUIT\\r\\n
    tcp-check expect string +OK
    server online 127.0.0.1:{port} check inter 50
"""


def test_haproxy_finds_the_server_up(port, tmp_path):
    haproxy, control = program("haproxy"), tmp_path / "control.sock"
    settings = tmp_path / "haproxy.cfg"
    settings.write_text(CHECKS.format(port=port, folder=tmp_path, control=control))

    def checked():
        """What the checks found, once all have looked."""
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(str(control))
            talk.sendall(b"show stat\n")
            rows = [line.split(",") for line in talk.makefile().read().splitlines() if ",online," in line]
        found = {row[0]: (row[17], row[36]) for row in rows}
        return found if all(check[1].startswith("L7") for check in found.values()) else None

    with ended(subprocess.Popen([haproxy, "-f", settings], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)):
        assert until(checked, OSError) == {"built_in": ("UP", "L7OK"), "by_role": ("UP", "L7OK")}
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(str(tmp_path / "by_role.sock"))
            talk.sendall(b"PING\r\n")
            assert talk.recv(100) == b"+PONG\r\n"
