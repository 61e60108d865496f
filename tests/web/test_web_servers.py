"""Real web servers tell of real requests, as the guides say they are to be set up; what is online is exact."""

import base64
import contextlib
import http.client
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.programs import program
from tests.serving import environment, listens, run_command, until
from tests.websites import free_port, nginx

DOCS = Path(__file__).parents[2] / "docs"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"

#: Target, user, agent, host address. Two people on /forum/1, one of them logged in; a bot; and what is no page view.
REQUESTS = [
    ("/forum/1?page=2", None, BROWSER, "127.0.0.1"),
    ("/forum/1", "theo", BROWSER, "127.0.0.1"),
    ("/forum/2", None, 'an "odd" agent \\ \xe9', "127.0.0.2"),
    ("/forum/2", None, "Googlebot/2.1", "127.0.0.3"),
    ("/style.css", "nobody1", BROWSER, "127.0.0.1"),
    ("/gone", "nobody2", BROWSER, "127.0.0.1"),
]


def from_guide(guide, mark, nth=0, **given):
    """The nth part of a guide that begins with `mark`, with addresses as in this test."""
    block = re.findall(rf"```\n({re.escape(mark)}.*?)```", (DOCS / guide).read_text(), re.DOTALL)[nth]
    for old, new in given.items():
        assert PLACES[old] in block
        block = block.replace(PLACES[old], str(new))
    return block


PLACES = {"syslog": "127.0.0.1:5140", "logger": "127.0.0.1 -P 5140", "feed": "/usr/local/bin/online feed -"}


def request(port, target, user=None, agent=BROWSER, address="127.0.0.1", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(address, 0))
    headers["User-Agent"] = agent
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:pw".encode()).decode()
    connection.request("GET", target, headers=headers)
    connection.getresponse().read()
    connection.close()


@contextlib.contextmanager
def running(*command, port):
    """A web server in the foreground, once it answers."""
    popen = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        until(lambda: popen.poll() is not None or listens(port))
        assert popen.poll() is None, popen.stderr.read().decode()
        yield
    finally:
        popen.send_signal(signal.SIGTERM)
        popen.communicate(timeout=20)


def assert_all_came(client, *, theo="member"):
    until(lambda: client.kinds().bots == 1 and client.count() == 3)
    assert (client.count("/forum/1"), client.count("/forum/2")) == (2, 1)
    assert {viewer.kind for viewer in client.page("/forum/1").users} == {"guest", theo}
    assert client.seen("nobody1", "nobody2") == [None, None]


#: What nginx answers here.
PAGES = 'location / { return 200 "hello"; } location = /gone { return 404; }'


def test_help_of_feed_has_the_format_of_the_guide():
    lines = from_guide("nginx.md", "log_format online").splitlines()[:3]
    told = run_command("feed", "--help").stdout
    assert [line.strip() for line in lines] == [line.strip() for line in told.splitlines()[-3:]]


@pytest.mark.parametrize(("nth", "theo"), [(0, "guest"), (1, "member")])
def test_nginx_over_syslog(tmp_path, syslog_server, syslog_client, nth, theo):
    outside = from_guide("nginx.md", "log_format online", nth, syslog=syslog_server.syslog)
    with nginx(tmp_path, PAGES, outside=outside) as port:
        for target, user, agent, address in REQUESTS:
            request(port, target, user, agent, "127.0.0.5" if user == "theo" else address)
        assert_all_came(syslog_client, theo=theo)
    assert [each is not None for each in syslog_client.seen("theo")] == [theo == "member"]
    told = syslog_client.info("syslog")["Syslog"]
    assert (told["received"], told["hits"], told["skipped_file"], told["skipped_status"]) == ("6", "4", "1", "1")


def test_nginx_by_its_own_log_file(tmp_path, syslog_server, syslog_client):
    log = tmp_path / "access.log"
    with nginx(tmp_path, PAGES, outside=f"access_log {log};") as port:
        arguments = ("feed", log, "--from-start", "--url", syslog_server.url)
        with feed(*arguments):
            for each in REQUESTS:
                request(port, *each)
            assert_all_came(syslog_client)
            log.rename(tmp_path / "access.log.1")
            subprocess.run(
                [program("nginx"), "-c", f"{tmp_path}/nginx.conf", "-p", tmp_path, "-s", "reopen"], check=True
            )
            until(log.exists)
            request(port, "/after", "theo")
            until(lambda: syslog_client.seen("theo")[0].url == "/after")
    assert syslog_client.info("hits")["Hits"]["accepted"] == "5"


@contextlib.contextmanager
def feed(*arguments):
    popen = subprocess.Popen([sys.executable, "-m", "online", *map(str, arguments)], env=environment())
    try:
        yield
    finally:
        popen.terminate()
        assert popen.wait(20) == 0


def apache_configuration(folder, port, inside):
    modules = Path("/usr/lib/apache2/modules")
    loaded = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in ("mpm_event", "alias"))
    return f"""
        {loaded}
        ServerName localhost
        ServerRoot {folder}
        PidFile {folder}/pid
        ErrorLog {folder}/error.log
        Listen 127.0.0.1:{port}
        Redirect 203 /forum
        User www-data
        Group www-data
        LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" combined
        {inside}"""


@pytest.mark.parametrize("way", ["syslog", "pipe", "cookie"])
def test_apache(tmp_path, syslog_server, syslog_client, way):
    """Nobody is logged in: Apache is not set up to ask for passwords, and then cannot be sent any."""
    port = free_port()
    if way == "syslog":
        host, syslog_port = syslog_server.syslog.split(":")
        inside = from_guide("apache.md", 'CustomLog "|/usr/bin/logger', logger=f"{host} -P {syslog_port}")
    else:
        mark = "LogFormat" if way == "cookie" else 'CustomLog "|/usr/local/bin/online'
        command = f"{sys.executable} -m online feed - --url {syslog_server.url}"
        inside = from_guide("apache.md", mark, feed=command)
    (tmp_path / "apache.conf").write_text(apache_configuration(tmp_path, port, inside))
    with running(program("apache2"), "-f", f"{tmp_path}/apache.conf", "-DFOREGROUND", port=port):
        for target, user, agent, address in REQUESTS:
            who = {"cookie": "session=theo"} if way == "cookie" and user == "theo" else {}
            request(port, target, None, agent, "127.0.0.5" if user == "theo" and not who else address, **who)
        assert_all_came(syslog_client, theo="guest")


def test_haproxy_over_syslog(tmp_path, syslog_server, syslog_client):
    port = free_port()
    (tmp_path / "haproxy.cfg").write_text(f"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend www
    bind 127.0.0.1:{port}
{from_guide("haproxy.md", "    log 127.0.0.1:5140", syslog=syslog_server.syslog)}
    http-request return status 404 if {{ path /gone }}
    http-request return status 200 content-type text/plain string hello
""")
    with running(program("haproxy"), "-db", "-f", f"{tmp_path}/haproxy.cfg", port=port):
        for target, user, agent, address in REQUESTS:
            request(port, target, user, agent, "127.0.0.5" if user == "theo" else address)
        assert_all_came(syslog_client, theo="guest")
