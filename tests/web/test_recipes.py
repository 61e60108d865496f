"""The guides for PHP, Ruby and Node: their files, as they are written, serve a site that knows who is online.

What they need stands in .ci/packages; a test whose program is not installed is skipped.
"""

import contextlib
import os
import re
import subprocess
import urllib.error
from pathlib import Path

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from tests.serving import until
from tests.websites import (
    FIREFOX,
    NODE_PATH,
    Browser,
    blocks,
    follow,
    free_port,
    hanging_url,
    program,
    shown_by_chromium,
    website,
)

from online_client import Kinds
from online_client.agents import is_bot
from online_client.guests import guest_key, guest_name
from online_client.pageviews import FILES

ROOT = Path(__file__).parents[2]
KEY = guest_key("a long secret")

#: Guide, program, and a command that tells whether its Redis client is there.
RECIPES = {
    "php.md": ("php", ["-r", "exit(extension_loaded('redis') ? 0 : 1);"], "PhpRedis"),
    "ruby.md": ("ruby", ["-e", "require 'redis'; require 'webrick'"], "the gem redis or WEBrick"),
    "node.md": ("node", ["-e", "require('redis')"], "node-redis"),
}


#: Agents on which the short pattern of the guides and the long one of the middleware agree.
PEOPLE = [
    FIREFOX,
    "Mozilla/5.0 (Linux; Android 13; SM-S918N) NAVER(inapp; search; 1000; 12.1.1)",
    "Mozilla/5.0 (compatible; Konqueror/4.1; Linux) KHTML/4.1.2",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; EmbeddedWB 14.52 from: http://www.bsalsa.com/)",
    "Opera/9.80 (Windows NT 6.1; U; en) Presto/2.12 Version/12.16",
    "Lynx/2.9.0dev.10 libwww-FM/2.14",
    "w3m/0.5.3+git20210102",
]


def patterns(guide):
    """The patterns of bots and of files in a guide, or in a file of contrib/."""
    path = ROOT / guide
    text = path.read_text() if path.is_file() else "".join(block.text for block in blocks(guide))
    text = text.replace(r"\A(?!", "^(?!")
    [bot] = re.findall(r"/(\^\(\?!\(Mozilla.*?)/i[;'\n]", text)
    [files] = re.findall(r"/\\\.\(([\w|?\[\]]+)\)(?:\$|\\z)/i", text)
    return bot, files


def test_the_guides_share_their_patterns():
    assert len({patterns(guide) for guide in (*RECIPES, "contrib/php/Online.php")}) == 1
    files = re.compile(patterns("php.md")[1])
    assert [each for each in FILES if not files.fullmatch(each)] == []


def test_their_short_pattern_finds_nearly_all_bots_and_no_people():
    bot = re.compile(patterns("php.md")[0], re.IGNORECASE)
    assert [agent for agent in PEOPLE if bot.search(agent) or is_bot(agent)] == []
    known = [agent for row in CRAWLER_USER_AGENTS_DATA for agent in row.get("instances", [])]
    assert all(map(is_bot, known))
    assert sum(bot.search(agent) is not None for agent in known) > 0.95 * len(known)


@pytest.fixture(params=RECIPES)
def serve(request, tmp_path):
    """Serve the site of a guide: `serve(port of the online server)` gives its address."""
    name, arguments, what = RECIPES[request.param]
    check = [program(name), *arguments]
    if subprocess.run(check, capture_output=True, env=os.environ | {"NODE_PATH": NODE_PATH}).returncode:
        pytest.skip(f"{what} is not installed; the package stands in .ci/packages")
    command, folder = follow(request.param, tmp_path)

    @contextlib.contextmanager
    def serving(online_port):
        port = free_port()
        variables = {
            "ONLINE_REDIS_URL": f"redis://{abs(hash(request.node.name))}:token@127.0.0.1:{online_port}",
            "NODE_PATH": NODE_PATH,
            "TMPDIR": tmp_path,
        }
        line = f"echo begins; exec {command.replace('8000', str(port))}"
        with website("sh", "-c", line, cwd=folder, ready="begins", **variables):
            site = f"http://127.0.0.1:{port}"
            until(lambda: Browser(site).get("/forum/0"), urllib.error.URLError)
            yield site

    return serving


@pytest.mark.slow
def test_the_guide_as_it_is_written(serve, server):
    with serve(server.port) as site:
        ada, theo = Browser(site), Browser(site, agent="Mozilla/5.0 Chrome/120")
        ada.get_until("/forum/1?login=ada", "online, 1 on this page: ada, 0 guests<")
        theo.get_until("/forum/1", r"[23] online, 2 on this page: ada, 1 guest<")
        ada.get_until("/forum/2?login=%3Cada%3E", "on this page: &(lt|#60);ada&(gt|#62);, 0 guests<")
        theo.get_until("/forum/%C3%BCber", "<h1>/forum/über</h1>[^/]*1 on this page: 1 guest<")


@pytest.mark.slow
def test_who_looks_at_no_page_does_not_move_and_programs_are_bots(serve, server, client):
    with serve(server.port) as site:
        theo, curl = Browser(site, agent=FIREFOX), Browser(site, agent="curl/8.5.0")
        theo.get_until("/forum/1", "1 on this page: 1 guest<")
        for part in ({"Sec-Purpose": "prefetch"}, {"X-Requested-With": "XMLHttpRequest"}, {"HX-Request": "true"}):
            theo.get("/forum/2", headers=part)
        theo.get("/forum/style.css")
        curl.get("/forum/1")
        theo.get_until("/forum/1", "1 on this page: 1 guest<")
        assert client.kinds("/forum/1") == Kinds(0, 1, 0, 1)
        assert client.counts("/forum/2", "/forum/style.css") == [0, 0]
        # Named as by all middleware with this secret.
        assert client.page("/forum/1").users[0].user == guest_name(KEY, b"127.0.0.1", FIREFOX.encode()).decode()
        theo.get_until("/%66orum/3", "1 on this page: 1 guest<")
        assert client.counts("/forum/1", "/forum/3") == [0, 1]


@pytest.mark.slow
def test_a_real_browser_is_seen_on_the_page_that_it_shows(serve, server, tmp_path):
    with serve(server.port) as site:
        theo = Browser(site, agent=FIREFOX)
        theo.get_until("/forum/8", "1 on this page: 1 guest<")  # it is connected

        def ada_stays():
            assert "<h1>/forum/7</h1>" in shown_by_chromium(f"{site}/forum/7?login=ada", tmp_path)
            return "2 on this page: ada, 1 guest<" in theo.get("/forum/7")  # not moved to /favicon.ico

        until(ada_stays)  # a site does not wait long for the server: on a busy machine the hit may be lost


@pytest.mark.slow
def test_without_a_server_pages_are_served_without_it(serve):
    with serve(free_port()) as site:
        page = Browser(site).get("/forum/1?login=ada")
    assert "<h1>/forum/1</h1>" in page
    assert "online" not in page


@pytest.mark.slow
def test_with_a_server_that_hangs_pages_are_served_without_it(serve):
    with hanging_url() as url, serve(url.rpartition(":")[2]) as site:
        pages = {Browser(site).get("/forum/1?login=ada") for _ in range(20)}
    assert len(pages) == 1
    page = pages.pop()
    assert "<h1>/forum/1</h1>" in page
    assert "online" not in page
