"""Logs as real programs write, rotate and forward them: varnish, Caddy, logrotate, rsyslog, nginx."""

import http.client
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tests.programs import program
from tests.serving import command, environment, listens, run_command, until
from tests.websites import free_port, nginx

from online_client import Kinds

pytestmark = pytest.mark.slow

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
MONITOR = "kube-probe/1.29"


class Program:
    """A program in the foreground, once it listens at a port."""

    def __init__(self, *arguments, port=None):
        self._popen = subprocess.Popen(
            [str(each) for each in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )
        self._port = port

    def __enter__(self):
        until(lambda: self._port is None or self._popen.poll() is not None or listens(self._port))
        assert self._popen.poll() is None
        return self._popen

    def __exit__(self, *_):
        self._popen.terminate()
        self._popen.wait(30)


def get(port, *targets, agent=BROWSER, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for target in targets:
        connection.request("GET", target, headers=headers | ({"User-Agent": agent} if agent else {}))
        connection.getresponse().read()
    connection.close()


def line(url, user="-", agent=BROWSER):
    date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    return f'192.0.2.1 - {user} [{date}] "GET {url} HTTP/1.1" 200 5 "-" "{agent}"\n'


def feed_once(server, log, *arguments):
    done = run_command("feed", log, "--once", "--url", server.url, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_varnishncsa_is_fed(tmp_path, syslog_server, syslog_client):
    port = free_port()
    (tmp_path / "site.vcl").write_text("vcl 4.1; backend none none; sub vcl_recv { return (synth(200)); }")
    varnish = [program("varnishd"), "-F", "-j", "none", "-n", tmp_path / "v", "-a", f"127.0.0.1:{port}", "-T", "none"]
    ncsa = [program("varnishncsa"), "-n", tmp_path / "v", "-d"]

    def logged():
        return subprocess.run(ncsa, capture_output=True, check=True).stdout

    with Program(*varnish, "-f", tmp_path / "site.vcl", "-s", "malloc,10M", port=port):
        get(port, "/a?x=1", "/forum//caf%C3%A9#x")
        get(port, "/a", agent=MONITOR)
        until(lambda: logged().count(b"\n") == 3)  # varnish logs in any order
        get(port, "http://www.example.com/b")
        until(lambda: logged().count(b"\n") == 4)
        log = logged()
    assert b'"GET http://' in log
    done = subprocess.run(
        command("feed", "-", "--url", syslog_server.url), input=log, env=environment(), capture_output=True, check=True
    )
    assert b"4 lines: 4 page views, 0 left out, 0 not understood; 4 hits sent" in done.stderr
    assert syslog_client.kinds() == Kinds(0, 1, 0, 1)
    assert syslog_client.count("/b") == 1


def test_nothing_is_lost_when_caddy_rolls_its_log(tmp_path, syslog_server):
    port, log = free_port(), tmp_path / "access.log"
    (tmp_path / "Caddyfile").write_text(
        "{\n admin off\n storage file_system " + str(tmp_path / "caddy") + "\n}\n"
        f"http://127.0.0.1:{port} {{\n respond hello\n log {{\n output file {log} {{\n roll_size 1MiB\n }}\n }}\n}}\n"
    )
    with Program(program("caddy"), "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile", port=port):
        get(port, "/1", "/2", "/3")
        until(lambda: log.read_bytes().count(b"\n") == 3)
        assert "3 hits sent" in feed_once(syslog_server, log, "--state", tmp_path / "state", "--from-start")
        get(port, *(f"/{number}" for number in range(3_000)))
        until(lambda: len(list(tmp_path.glob("access-*.log*"))) == 1)
        lines = sum(
            subprocess.run(["zcat", "-f", each], capture_output=True, check=True).stdout.count(b"\n")
            for each in tmp_path.glob("access*.log*")
        )
        assert lines == 3_003
    assert "3,000 hits sent" in feed_once(syslog_server, log, "--state", tmp_path / "state")


@pytest.mark.parametrize(
    "how",
    [
        "create",
        "create dateext extension .log",
        "create dateext dateformat -%s extension .log",
        "create olddir OLD createolddir 0755 root root",
        "create dateext olddir OLD createolddir 0755 root root",
        "create compress",
        "create compress compresscmd XZ compressext .xz",
        "create dateext compress extension .log olddir OLD createolddir 0755 root root",
        "copytruncate",
        "copytruncate compress",
    ],
    ids=lambda how: re.sub(r"[^a-z]+", "-", how),
)
def test_nothing_is_lost_when_logrotate_rotates_while_no_feed_runs(tmp_path, syslog_server, syslog_client, how):
    log, state = tmp_path / "access.log", tmp_path / "state"
    options = how.replace("OLD", f"{tmp_path}/old").replace("XZ", "/usr/bin/xz").split(" ")
    # Each option of logrotate stands on a line of its own; a word that is none belongs to the one before.
    text = re.sub(r" (?=(?:dateext|extension|dateformat|olddir|createolddir|compress\w*)\b)", "\n", " ".join(options))
    (tmp_path / "logrotate.conf").write_text(f"{log} {{\nrotate 5\nsu root root\n{text}\n}}\n")
    log.write_text(line("/1", "before"))
    feed_once(syslog_server, log, "--state", state, "--from-start")
    with log.open("a") as file:
        file.write(line("/2", "between"))
    rotated = [program("logrotate"), "-f", "-s", tmp_path / "rotated", tmp_path / "logrotate.conf"]
    subprocess.run(rotated, check=True, capture_output=True)
    assert log.read_text() == ""
    log.write_text(line("/3", "after"))
    assert "2 hits sent" in feed_once(syslog_server, log, "--state", state)
    assert [seen and seen.url for seen in syslog_client.seen("before", "between", "after")] == ["/1", "/2", "/3"]


def test_file_that_is_gone_fails_a_feed_that_runs_once(tmp_path, syslog_server):
    log, state = tmp_path / "access.log", tmp_path / "state"
    log.write_text(line("/1"))
    feed_once(syslog_server, log, "--state", state, "--from-start")
    log.unlink()
    log.write_text(line("/2"))
    done = run_command("feed", log, "--once", "--url", syslog_server.url, "--state", state)
    assert done.returncode == 1
    assert f"cannot find the rotated file of {log}, which was read to byte " in done.stderr
    assert "1 hit sent" in done.stderr
    feed_once(syslog_server, log, "--state", state)


def test_rsyslog_writes_a_file_and_forwards(tmp_path, syslog_server, syslog_client):
    port, log = free_port(), tmp_path / "messages"
    host, syslog_port = syslog_server.syslog.split(":")
    (tmp_path / "rsyslog.conf").write_text(f"""
        global(workDirectory="{tmp_path}")
        module(load="imudp")
        input(type="imudp" address="127.0.0.1" port="{port}")
        action(type="omfile" file="{log}" template="RSYSLOG_TraditionalFileFormat")
        action(type="omfile" file="{log}.iso" template="RSYSLOG_FileFormat")
        action(type="omfwd" target="{host}" port="{syslog_port}" protocol="udp")
    """)
    message = "<190>" + time.strftime("%b %e %H:%M:%S") + " web1 nginx: "
    as_json = {"time": time.time(), "url": "/json", "status": 200, "address": "192.0.2.1", "agent": BROWSER}
    lines = [line("/a"), line("/b", agent=MONITOR), line("/c", "theo"), json.dumps(as_json)]
    with (
        Program(program("rsyslogd"), "-n", "-f", tmp_path / "rsyslog.conf", "-i", tmp_path / "pid"),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        until(lambda: f":{port:04X} " in Path("/proc/net/udp").read_text())
        for each in lines:
            sender.sendto((message + each.rstrip("\n")).encode(), ("127.0.0.1", port))
        until(lambda: syslog_client.info("syslog")["Syslog"]["received"] == "4")
        until(lambda: (tmp_path / "messages.iso").exists() and (tmp_path / "messages.iso").read_text().count("\n") == 4)
    told = syslog_client.info("syslog")["Syslog"]
    assert (told["hits"], told["skipped_not_understood"]) == ("4", "0")
    assert syslog_client.kinds() == Kinds(1, 1, 0, 1)
    for written in (log, f"{log}.iso"):
        told = feed_once(syslog_server, written, "--from-start", "--guest-key", tmp_path / "key")
        assert "4 lines: 4 page views, 0 left out, 0 not understood; 4 hits sent" in told
    assert syslog_client.kinds() == Kinds(1, 2, 0, 2)  # a guest and a bot more, since the key is another


def test_nginx_sees_a_person_and_a_bot_of_one_address_as_two(tmp_path, syslog_server, syslog_client):
    form = (
        """log_format online escape=json '{"time":$msec,"url":"$request_uri","status":"$status",' """
        """'"method":"$request_method","address":"$remote_addr","agent":"$http_user_agent"}';"""
    )
    logs = f"access_log syslog:server={syslog_server.syslog},tag=nginx online; access_log {tmp_path}/access.log;"
    with nginx(tmp_path, 'location / { return 200 "hello"; }', outside=f"{form} {logs}") as port:
        for turn in range(3):
            get(port, f"/{turn}")
            get(port, "/health", agent=MONITOR)
            get(port, "/health", agent="")
            until(lambda turn=turn: syslog_client.info("syslog")["Syslog"]["hits"] == str(3 * turn + 3))
            assert syslog_client.kinds() == Kinds(0, 1, 0, 2)
            assert syslog_client.count(f"/{turn}") == 1
    key = os.fspath(tmp_path / "key")
    told = feed_once(syslog_server, tmp_path / "access.log", "--from-start", "--guest-key", key, "--guests-only")
    assert "9 hits sent" in told
    assert syslog_client.kinds() == Kinds(0, 2, 0, 4)  # by another key they are others, and as many
