"""Which requests show somebody a page, which agents are programs, and the one url of a page."""

import doctest
import re

import pytest

from online_client import agents, pageviews, urls
from online_client.agents import is_bot
from online_client.pageviews import FRAGMENT, PREFETCH, is_file, purpose_of, shows_page
from online_client.urls import Target, decoded_url, normal_host, page_url, read_target


def test_examples_in_the_docstrings_hold() -> None:
    assert [doctest.testmod(module).failed for module in (agents, pageviews, urls)] == [0, 0, 0]


@pytest.mark.parametrize("status", [200, 203, 206, 304])
def test_answer_that_leaves_its_browser_on_a_page_shows_one(status: int) -> None:
    assert all(shows_page(method, status, "Text/HTML; charset=utf-8") for method in ("GET", "HEAD", "POST"))
    assert shows_page("GET", status)


@pytest.mark.parametrize(
    "status",
    [-1, 0, 100, 101, 103, 201, 202, 204, 205, 207, 226, 300, 301, 302, 303, 307, 308, 400, 404, 499, 500, 503],
)
def test_other_answer_shows_none(status: int) -> None:
    assert not shows_page("GET", status, "text/html")


def test_other_method_or_type_shows_none() -> None:
    assert not shows_page("OPTIONS", 200)
    assert not shows_page("GET", 200, "application/json")


@pytest.mark.parametrize("header", ["Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"])
@pytest.mark.parametrize("value", ["prefetch", "prefetch;prerender", "Preview"])
def test_page_that_is_fetched_for_later_is_no_page_view(header: str, value: str) -> None:
    assert purpose_of({header: value}.get) == PREFETCH


@pytest.mark.parametrize(
    ("headers", "purpose"),
    [
        ({}, ""),
        ({"Sec-Purpose": ""}, ""),
        ({"X-Requested-With": "XMLHttpRequest"}, FRAGMENT),
        ({"X-Requested-With": "com.example.app"}, ""),
        ({"HX-Request": "true"}, FRAGMENT),
        ({"HX-Request": "true", "HX-Boosted": "true"}, ""),
    ],
)
def test_fragment_is_no_page_view(headers: dict[str, str], purpose: str) -> None:
    assert purpose_of(headers.get) == purpose


@pytest.mark.parametrize("path", ["/a.css", "/A.JPG", "/s.css;v=3", "/a/favicon.ico", "/.js"])
def test_file_is_told_by_its_ending(path: str) -> None:
    assert is_file(path)


@pytest.mark.parametrize("path", ["/", "/css", "/a.css/b", "/a.php", "/v1.2/", "/a;x=b.css"])
def test_page_may_have_a_dot(path: str) -> None:
    assert not is_file(path)


# --- agents

PEOPLE = """\
Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0
Mozilla/5.0 (Linux; Android 10; CUBOT_X18_Plus) AppleWebKit/537.36 Chrome/86 Mobile Safari/537.36
Mozilla/5.0 (Linux; Android 7.0; CUBOT NOTE Plus Build/NRD90M) AppleWebKit/537.36
Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 [FBAN/FBIOS;FBAV/400.0]
Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Instagram 300.0.0.0 (iPhone14,5)
Mozilla/5.0 (Linux; Android 13; SM-S918N) NAVER(inapp; search; 1000; 12.1.1)
Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko
Mozilla/5.0 (Linux; U; Android 4.4.3; en-us; KFTHWI) AppleWebKit/537.36 Silk/47.1 like Chrome/47 Safari/537.36
Mozilla/5.0 (compatible; Konqueror/4.1; Linux) KHTML/4.1.2
Mozilla/4.0 (compatible;  MSIE 6.0;  Windows NT 5.1;  SV1)
Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; EmbeddedWB 14.52 from: http://www.bsalsa.com/)
Opera/9.80 (Windows NT 6.1; U; en) Presto/2.12 Version/12.16
Lynx/2.9.0dev.10 libwww-FM/2.14 SSL-MM/1.4.1 GNUTLS/3.7.1
w3m/0.5.3+git20210102
Links (2.29; Linux 6.1 x86_64; GNU C 12.2; text)
ELinks/0.13.2 (textmode; Linux; 80x24-2)
Dillo/3.0.5
UCWEB/2.0 (MIDP-2.0; U; Adr 4.4; en-US) U2/1.0 Mobile UNTRUSTED/1.0
BlackBerry9700/5.0.0.862 Profile/MIDP-2.1
ShopApp/3.2 (iOS 17.1)
""".splitlines()

BOTS = """\
-
kube-probe/1.29
ELB-HealthChecker/2.0
GoogleHC/1.0
Consul Health Check
Monit/5.33.0
HAProxy
Envoy/HC
Datadog/Synthetics
Amazon-Route53-Health-Check-Service (ref x)
Edge Health Probe
check_http/v2.3.1 (monitoring-plugins 2.3.1)
Blackbox Exporter/0.24.0
AlwaysOn
Uptime-Kuma/1.23
Apache/2.4.57 (Debian) (internal dummy connection)
undici
node
Java/17.0.1
Ruby
Faraday v2.7.4
GuzzleHttp/7
PostmanRuntime/7.36.0
reqwest/0.11
Deno/1.38
Bun/1.0
Go-http-client/1.1
okhttp/4.12
axios/1.6
curl/8.5.0
Wget/1.21
python-requests/2.31.0
Python/3.11 aiohttp/3.9
libwww-perl/6.6
Dart/3.2 (dart:io)
k6/0.48.0 (https://k6.io/)
ApacheBench/2.3
NetNewsWire (RSS Reader; https://netnewswire.com/)
Nuclei - Open-source project (github.com/projectdiscovery/nuclei)
claude-web/1.0
GPTBot
Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
Mozilla/5.0 (compatible; SomethingNewBot/1.0)
Mozilla/5.0 (compatible; Dataprovider/6.101; +https://www.dataprovider.com/)
Mozilla/5.0 (compatible; Ezooms/1.0; help@moz.com)
Mozilla/5.0 (Windows; U; Windows NT 5.1; en-US; +http://process1.com) Gecko/20070508 Firefox/1.5.0.12
Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36
Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041
Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; Trident/5.0) NewRelicPinger/1.0
""".splitlines()


@pytest.mark.parametrize("agent", PEOPLE)
def test_browser_of_a_person_is_no_bot(agent: str) -> None:
    assert not is_bot(agent)


@pytest.mark.parametrize("agent", [*BOTS, "", " "])
def test_program_is_a_bot(agent: str) -> None:
    assert is_bot(agent)


def test_agent_that_is_not_told_says_nothing() -> None:
    assert not is_bot(None)


def test_sites_have_bots_of_their_own() -> None:
    own = re.compile("^ShopApp/")
    assert is_bot("ShopApp/3.2 (iOS 17.1)", own)
    assert not is_bot(PEOPLE[0], own)


def test_long_agent_is_judged_by_its_beginning() -> None:
    assert is_bot("curl/8 " + "x" * 1_000_000)
    assert not is_bot("Mozilla/5.0 " + "x" * 1_000_000 + " curl")


# --- urls


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        ("/a", "", "/a", ""),
        ("/a?x=1&y", "", "/a", "x=1&y"),
        ("/a#top", "", "/a", ""),
        ("/a?x#top?y", "", "/a", "x"),
        ("/a#top?y", "", "/a", ""),
        ("//evil.example/a", "", "//evil.example/a", ""),
        ("http://www.example.com/a", "www.example.com", "/a", ""),
        ("HTTP://WWW.Example.Com:80/a?x#y", "www.example.com", "/a", "x"),
        ("https://www.example.com:443/a", "www.example.com", "/a", ""),
        ("https://www.example.com:80/a", "www.example.com:80", "/a", ""),
        ("http://www.example.com:8080/a", "www.example.com:8080", "/a", ""),
        ("http://me:secret@www.example.com/a", "www.example.com", "/a", ""),
        ("http://www.example.com", "www.example.com", "/", ""),
        ("http://www.example.com?x=1", "www.example.com", "/", "x=1"),
        ("http://[2001:db8::1]:80/a", "[2001:db8::1]", "/a", ""),
        ("*", "", "", ""),
        ("-", "", "", ""),
        ("", "", "", ""),
        ("www.example.com:443", "", "", ""),
        ("ftp://www.example.com/a", "", "", ""),
        ("\\x16\\x03", "", "", ""),
    ],
)
def test_target_is_taken_apart(target: str, host: str, path: str, query: str) -> None:
    assert read_target(target.encode()) == Target(host.encode(), path.encode(), query.encode())


@pytest.mark.parametrize(
    ("sent", "page"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("//", "/"),
        ("//a///b", "/a/b"),
        ("/./b/../a", "/a"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/..", "/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/%61", "/a"),
        ("/%2e%2E/a", "/a"),
        ("/a%2Fb", "/a/b"),
        ("/caf%C3%A9", "/café"),
        ("/caf%c3%a9", "/café"),
        ("/café", "/café"),
        ("/a%20b", "/a b"),
        ("/caf%e9", "/caf%E9"),
        ("/a%0a%00", "/a%0A%00"),
        ("/a%C2%85", "/a%C2%85"),
        ("/a%2541", "/a%41"),
        ("/100%", "/100%"),
        ("/%zz", "/%zz"),
        ("/a;jsessionid=AB12", "/a"),
        ("/a;JSESSIONID=AB12/b", "/a/b"),
        ("/a;v=1", "/a;v=1"),
    ],
)
def test_page_has_one_url(sent: str, page: str) -> None:
    assert page_url(sent.encode()) == page.encode()


def test_path_that_was_decoded_is_not_decoded_again() -> None:
    assert decoded_url(b"/a%41//b") == b"/a%41/b"
    assert decoded_url(b"/caf\xc3\xa9/\xe9") == "/café/%E9".encode()
    assert decoded_url(b"") == b"/"


@pytest.mark.parametrize("path", [b"/a%2541", b"/caf%C3%A9", b"/%E9%0A", b"//a/../b", b"/a%20b;jsessionid=1"])
def test_both_ways_in_give_one_url(path: bytes) -> None:
    from urllib.parse import unquote_to_bytes

    assert page_url(path) == decoded_url(unquote_to_bytes(path))


def test_long_path_takes_no_long_time() -> None:
    for piece in (b"/", b"/.", b"/..", b"%", b"%2", b"/a", b"a", b";jsessionid=", b"\xff"):
        assert page_url(b"/" + piece * 300_000).startswith(b"/")


def test_host_has_one_form() -> None:
    assert normal_host(b"WWW.Example.com:80") == normal_host(b"www.example.com.") == b"www.example.com"
    assert normal_host(b"[::1]:8080") == b"[::1]:8080"
