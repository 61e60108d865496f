"""Pages from caches tell of themselves, as the guide says: a real browser, a real nginx; who is where is exact."""

import http.client
import re
import subprocess

import pytest
from tests.programs import program
from tests.serving import PATIENCE_S, until
from tests.websites import blocks, nginx

from online.logs.formats import reader_of
from online.logs.pages import DROPPED, Pages
from online.logs.rules import load_rules
from online_client import Kinds

GUIDE = blocks("beacon.md")
SCRIPT = next(block.text for block in GUIDE if block.language == "html")
OUTSIDE, INSIDE = [block.text for block in GUIDE if block.language == "nginx"]

#: A visitor who follows a link and comes back by the browser's button.
WAYS = """<script>
addEventListener("load", () => setTimeout(() => {
  if (location.pathname == "/forum/2") history.back();
  else if (!sessionStorage.been) { sessionStorage.been = true; location.href = "/forum/2"; }
}, 100));
</script>"""


@pytest.fixture
def site(syslog_server, tmp_path):
    """A site whose pages are files, and the port that nginx serves it at."""
    (tmp_path / "forum").mkdir()
    for name in ("1", "2"):
        (tmp_path / "forum" / name).write_text(f"<!doctype html><title>{name}</title>{SCRIPT}{WAYS}")
    # The guide's, but for the address of syslog, and so slow a rate that it does not matter how fast a test is.
    outside = OUTSIDE.replace("rate=5r/s", "rate=1r/m")
    inside = INSIDE.replace("127.0.0.1:5140", syslog_server.syslog)
    assert outside != OUTSIDE
    assert inside != INSIDE
    pages = f"location / {{ root {tmp_path}; default_type text/html; }}"
    with nginx(tmp_path, pages + inside, outside=f"access_log off; {outside}") as port:
        yield port


def beacon(port, page, **cookies):
    """Send what the script would."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    connection.request("POST", f"/seen?{page}", headers={"Cookie": cookie, "User-Agent": "Mozilla/5.0 Firefox/128.0"})
    status = connection.getresponse().status
    connection.close()
    return status


def told(client):
    return client.info("syslog")["Syslog"]


@pytest.mark.slow
def test_a_browser_is_seen_on_the_page_that_it_shows(syslog_client, site, tmp_path):
    chromium = [program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options = ["--remote-debugging-port=0", f"--user-data-dir={tmp_path}/profile"]
    agent = "--user-agent=Mozilla/5.0 (X11; Linux x86_64) Chrome/128"  # by its own it says that it is a robot
    where = f"http://127.0.0.1:{site}/forum/1?page=2"
    with subprocess.Popen([*chromium, *options, agent, where], stderr=subprocess.DEVNULL) as browser:
        try:
            until(lambda: told(syslog_client)["hits"] == "3")
        finally:
            browser.terminate()
    assert syslog_client.kinds() == syslog_client.kinds("/forum/1") == Kinds(0, 1, 0, 0)
    assert re.fullmatch("guest-[0-9a-f]{16}", syslog_client.page("/forum/1").users[0].user)


@pytest.mark.slow
def test_users_and_guests_are_who_their_cookies_say(syslog_client, site):
    application = {}
    exec(next(block.text for block in GUIDE if block.language == "python"), application)
    seal = application["seal"]
    assert beacon(site, "/forum/1", user="ada", seal=seal("ada", "a long secret"), visitor="1") == 204
    assert beacon(site, "/forum/2", user="theo", seal=seal("ada", "a long secret"), visitor="2") == 204
    assert beacon(site, "/forum/2", user="kim", visitor="3") == 204
    assert beacon(site, "/forum/j%C3%B6rg&co?page=2", visitor="3") == 204
    assert beacon(site, "/style.css", visitor="4") == 204
    until(lambda: told(syslog_client)["received"] == "5")
    assert syslog_client.kinds() == Kinds(1, 2, 0, 0)
    assert syslog_client.seen("ada", "theo", "kim")[0].url == "/forum/1"
    assert syslog_client.seen("theo", "kim") == [None, None]
    assert syslog_client.counts("/forum/1", "/forum/2", "/forum/jörg&co", "/style.css") == [1, 1, 1, 0]


def test_unknown_pages_may_be_kept_out(tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text(next(block.text for block in GUIDE if block.language == "toml"))
    pages = Pages(reader_of("json"), load_rules(rules), key=bytes(32))
    line = '{{"time": 1709208000.123, "url": "{}", "status": "200", "user": "", "visitor": "1", "address": "::1"}}'
    assert pages.parse(line.format("/forum/1?page=2").encode()).url == b"/forum/1"
    assert pages.parse(line.format("/made/up").encode()) == DROPPED


@pytest.mark.slow
def test_who_sends_too_much_is_not_heard(syslog_client, site):
    statuses = [beacon(site, f"/{nth}", visitor=nth) for nth in range(30)]
    assert statuses == [204] * 21 + [503] * 9
    until(lambda: told(syslog_client)["received"] == "30")
    assert syslog_client.count() == 21
    assert told(syslog_client)["skipped_status"] == "9"
