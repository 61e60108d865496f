"""`online doctor`: what it finds in a server's figures, in logs, and on the machine."""

import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from tests.serving import server_process

from online.cli import doctor, health, logcheck
from online.cli.finding import NOTE, OK, PROBLEM, Finding, as_text
from online.cli.main import main
from online.logs.formats import reader_of
from online.logs.rules import Rules
from online_client import Client
from online_client.address import parse_address

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"

#: A server that is well.
WELL = {
    "Memory": {"used_memory": "1000", "max_memory": "1000000"},
    "Limits": {"max_users_reached": "0"},
    "Persistence": {"loading": "0", "disk_status": "ok"},
    "History": {"history_errors": "0"},
    "Server": {"clock_steps": "0"},
    "Hits": {"accepted": "50", "users": "7"},
    "Syslog": {"received": "1000", "hits": "40", "buffer_bytes": "33554432"},
}


def changed(section, **figures):
    return WELL | {section: WELL.get(section, {}) | figures}


def problems(findings):
    return {(each.level, each.about) for each in findings if each.level != OK}


# The figures of a server


def test_a_server_that_is_well_has_no_problem():
    assert problems(health.findings(WELL)) == set()


@pytest.mark.parametrize(
    ("info", "level", "about", "said"),
    [
        (changed("Memory", used_memory="900000"), PROBLEM, "memory", "--max-memory"),
        (changed("Limits", max_users_reached="3"), PROBLEM, "limits", "--max-users"),
        (changed("Limits", open_files_reached="3"), PROBLEM, "limits", "LimitNOFILE"),
        (WELL | {"Persistence": {"loading": "0"}}, NOTE, "disk", "--state"),
        (changed("Persistence", disk_status="err", last_disk_error="No space"), PROBLEM, "disk", "No space"),
        (changed("Persistence", damaged_files="1"), PROBLEM, "disk", "online state"),
        (changed("History", history_errors="1", last_history_error="full"), PROBLEM, "history", "full"),
        (changed("Bus", bus_status="away", bus_last_error="refused"), PROBLEM, "bus", "refused"),
        (changed("Bus", bus_status="ok", dropped="5"), PROBLEM, "bus", "5 hits"),
        (changed("Server", clock_steps="2"), NOTE, "clock", "2 times"),
        (changed("Hits", skewed="9"), PROBLEM, "clock", "9 hits"),
        (changed("Syslog", received="0", hits="0"), PROBLEM, "syslog", "nothing has arrived"),
        (changed("Syslog", foreign="4"), PROBLEM, "syslog", "--syslog-from"),
        (changed("Syslog", dropped="4"), PROBLEM, "syslog", "rmem_max"),
        (changed("Syslog", buffer_bytes="212992"), NOTE, "syslog", "208 KiB"),
        (changed("Syslog", skipped_not_understood="500"), PROBLEM, "syslog", "--syslog-format"),
        (changed("Syslog", hits="0", skipped_status="900"), PROBLEM, "syslog", "statuses other than"),
        (changed("Hits", accepted="0", users="0"), PROBLEM, "hits", "online query hit"),
        (changed("Hits", users="0"), PROBLEM, "hits", "within the window"),
        (changed("Hits", late="500"), NOTE, "hits", "older than the window"),
        (changed("Hits", refused="14"), PROBLEM, "hits", "14 were refused: 14 malformed or not allowed"),
        (changed("Hits", refused="9") | {"Map": {"moved_hits": "7"}}, PROBLEM, "hits", "7 of users whom the map"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_wrong_with_a_server_is_said(info, level, about, said):
    found = [each for each in health.findings(info) if each.level != OK]
    assert problems(found) == {(level, about)}
    assert said in "".join(each.text + each.todo for each in found)


def test_hits_that_were_refused_at_a_limit_are_told_apart():
    info = WELL | {"Hits": WELL["Hits"] | {"refused": "9"}, "Limits": {"max_users_reached": "6"}}
    [hits] = [each for each in health.findings(info) if each.about == "hits" and each.level == PROBLEM]
    assert hits.text == "9 were refused: 6 at a limit, 3 malformed or not allowed"
    assert hits.todo.startswith("see the findings about limits above; the error")


def test_hits_are_told_apart_by_where_they_came_from():
    [hits] = [each for each in health.findings(WELL) if each.about == "hits"]
    assert hits.text == "50 received: 40 over syslog, 10 from applications and feeds"


def test_figures_that_a_server_does_not_have_are_no_trouble():
    """They are 0, as on a server of another version."""
    assert problems(health.findings({})) == {(NOTE, "disk"), (PROBLEM, "hits")}


def test_a_gateway_needs_neither_a_disk_nor_hits_of_its_own():
    assert problems(health.findings({"Gateway": {}})) == set()


# Logs


def line(*, address="192.0.2.7", target="/forum/1", at=NOW, status=200):
    return f'{address} - - [{at:%d/%b/%Y:%H:%M:%S +0000}] "GET {target} HTTP/1.1" {status} 5 "-" "{AGENT}"\n'


def findings_of(tmp_path, text, rules=None):
    log = tmp_path / "access.log"
    log.write_text(text)
    return list(logcheck.findings(str(log), reader_of(), rules or Rules(), now_ms=NOW_MS))


def test_a_good_log_has_no_problem(tmp_path):
    found = findings_of(tmp_path, line() + line(address="192.0.2.8") + line(target="/a.css"))
    assert problems(found) == set()
    assert "3 lines: 2 page views, 1 left out, 0 not understood" in found[0].text


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        ("", PROBLEM, "is empty"),
        ("what is this\n" * 3, PROBLEM, "--format"),
        (line(target="/a.css") * 3, PROBLEM, "3 requests for files"),
        (line() + "what is this\n", NOTE, "what is this"),
        (line() * logcheck.MANY_OF_ONE, NOTE, "--trust-proxy"),
        (line(at=NOW - timedelta(hours=2)), NOTE, "2 h old"),
        (line(at=NOW + timedelta(hours=1)), PROBLEM, "in the future"),
    ],
    ids=["empty", "format", "files", "one bad line", "one visitor", "old", "future"],
)
def test_what_is_wrong_with_a_log_is_said(tmp_path, text, level, said):
    found = [each for each in findings_of(tmp_path, text) if each.level != OK]
    assert [each.level for each in found] == [level]
    assert said in found[0].text + found[0].todo


def test_of_a_long_log_the_end_is_looked_at(tmp_path):
    lines = logcheck.LOOKED_AT_BYTES // len(line()) + 50
    found = findings_of(tmp_path, "what is this\n" + line() * lines, Rules(guests_only=True))
    assert all("not understood: " not in each.text for each in found)


def test_a_log_that_must_not_be_read_names_who_may(tmp_path, monkeypatch):
    def refuse(log):
        raise PermissionError

    monkeypatch.setattr(logcheck, "last_lines", refuse)
    [found] = findings_of(tmp_path, line())
    assert found.level == PROBLEM
    assert "a member of the group" in found.todo


# The whole command


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    path = tmp_path_factory.mktemp("doctor") / "state"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture(scope="module")
def server_options(state):
    return "--state", str(state), "--max-connections", "100"


def run(capsys, *options):
    code = main(["doctor", *map(str, options)])
    return code, capsys.readouterr().out


def test_a_server_is_looked_at(server, url, client, state, tmp_path, capsys):
    client.hit("ada", "/a")
    log = tmp_path / "access.log"
    log.write_text(line(at=datetime.now(UTC)))
    state.chmod(0o700)
    code, out = run(capsys, "--url", url, "--state", state, "--log", log)
    assert code == 0, out
    assert f"answers at {url}: online " in " ".join(out.split())
    assert "enough for 100 connections" in " ".join(out.split())
    assert "No problems found." in out


def test_a_state_directory_that_others_may_read_is_a_problem(url, state, client, tmp_path, capsys):
    client.hit("ada", "/a")
    state.chmod(0o755)
    config = tmp_path / "online.toml"
    config.write_text(f'state = "{state}"\n')
    code, out = run(capsys, "--url", url, "--config", config, "--json")
    told = json.loads(out)
    assert code == 1
    bad = [each for each in told["findings"] if each["level"] == PROBLEM]
    assert told["problems"] == len(bad) == 1
    assert bad[0]["todo"] == f"chmod 700 {state}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "online://127.0.0.1:1"], "online serve"),
        (["--url", "online://127.0.0.1:1", "--state", "/nowhere"], "/nowhere"),
        (["--url", "online://127.0.0.1:1", "--config", "/nowhere"], "/nowhere"),
        (["--url", "online://127.0.0.1:1", "--log", "/nowhere"], "/nowhere: No such file"),
    ],
    ids=["server", "state", "config", "log"],
)
def test_what_is_not_there_is_a_problem(options, said, capsys):
    code, out = run(capsys, *options)
    assert code == 1
    assert said in out


def test_a_server_that_wants_a_token_says_how_to_give_it(capsys):
    with server_process("--token", "of-the-house") as process:
        code, out = run(capsys, "--url", process.url)
        assert code == 1
        assert "answers, but refuses us: NOAUTH" in " ".join(out.split())
        assert "ONLINE_TOKEN" in out
        code, out = run(capsys, "--url", f"online://:wrong@{process.address}")
        assert code == 1
        assert "WRONGPASS" in out


def test_the_port_for_browsers_is_known(capsys):
    with server_process("--http", "127.0.0.1:0") as process:
        code, out = run(capsys, "--url", f"online://{process.http.removeprefix('http://').rstrip('/')}")
    told = " ".join(out.split())
    assert code == 1
    assert "an HTTP server answered: clients need the port of --listen" in told
    assert "start it" not in told


@pytest.mark.parametrize("options", [["--url", "what"], ["--visit", "file:///etc/passwd"]], ids=["url", "visit"])
def test_options_that_cannot_be_used_are_refused(options, capsys):
    assert main(["doctor", *options]) == 2


@pytest.fixture
def site():
    """A web site; `site.report` is called at each page view."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/missing":
                web.report(self.path)
            self.send_response(404 if self.path == "/missing" else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as web:
        web.report = lambda path: None
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        yield web
        web.shutdown()
        thread.join()


def visit(url, site, path):
    with Client(url) as client:
        return list(doctor._visit(client, f"http://127.0.0.1:{site.server_port}{path}"))


def test_a_visit_whose_hit_comes_in_is_well(url, client, site):
    site.report = lambda path: client.hit("guest-1", path, kind="guest")
    assert [each.level for each in visit(url, site, "/forum/9")] == [OK]


def test_a_visit_without_a_hit_is_a_problem(url, client, site, monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.0)
    client.hit("ada", "/forum/9", seen_ms=datetime.now(UTC) - timedelta(minutes=1))  # before the visit
    [found] = visit(url, site, "/forum/9")
    assert found.level == PROBLEM
    assert "no hit of /forum/9" in found.text


@pytest.mark.parametrize("path", ["/missing", None], ids=["status", "no site"])
def test_a_page_that_cannot_be_opened_is_a_problem(url, site, path):
    if path is None:
        with socket.create_server(("127.0.0.1", 0)) as taken, Client(url) as client:
            free = taken.getsockname()[1]
            taken.close()
            [found] = doctor._visit(client, f"http://127.0.0.1:{free}/")
    else:
        [found] = visit(url, site, path)
    assert (found.level, found.about) == (PROBLEM, "visit")
    assert "cannot be opened" in found.text


def test_only_a_server_on_this_machine_is_here():
    urls = dict.fromkeys(["online://127.0.0.1:1", "online+unix:///a", "online://[::1]:1"], True)
    urls["online://a.example"] = False
    assert {url: doctor.is_here(parse_address(url)) for url in urls} == urls


def test_findings_are_wrapped_under_each_other():
    found = Finding(NOTE, "log", "nothing " * 12, "look again")
    assert list(as_text([found], 60)) == [
        "note     log           nothing nothing nothing nothing",
        *["                       nothing nothing nothing nothing"] * 2,
        "                    -> look again",
    ]
