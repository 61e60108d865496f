"""What stands in front of lines is taken off, or the line is not understood: it is never a name."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.logs import prefixes, syslogheader
from online.logs.formats import FORMATS, reader_of
from online.logs.pages import Pages, PageView
from online.logs.prefixes import without_prefix
from online.logs.rules import Rules
from online.logs.syslogheader import message_of

MESSAGE = b'::1 - theo [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 5'
LINE = b'192.0.2.1 - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 5 "-" "Mozilla/5.0 x"'
JSON = json.dumps({"time": 1709294400, "url": "/a", "address": "192.0.2.1", "agent": "Mozilla/5.0 x"}).encode()
NOON_MS = 1_709_294_400_000
VIEW = PageView(b"192.0.2.1", b"/a", NOON_MS, "guest")


def view(line, name="auto"):
    return Pages(reader_of(name), Rules(keep_addresses=True), key=b"k" * 32).parse(line)


def test_examples_in_the_docstrings_hold():
    assert [doctest.testmod(module).failed for module in (prefixes, syslogheader)] == [0, 0]


# --- syslog


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"<190>Nov 22 23:55:00 web1 nginx: ",
        b"<190>Nov  2 23:55:00 nginx: ",
        b"<134>Nov 22 23:55:00 haproxy[6801]: ",
        b"<13>Nov 22 23:55:00 web1.example.org apache2[77]: ",
        b"<13>Nov 22 23:55:00 2001:db8::7 apache: ",
        b"<13>Nov 22 23:55:00 fe80::1%eth0 apache: ",
        b"<13>Nov 22 23:55:00 feed: ",
        b"<13>Nov 22 23:55:00 ::1 feed: ",
        b"<13>2026-11-22T23:55:00.123456+01:00 web1 root: ",
        b"<13>1 2026-11-22T23:55:00.123456+01:00 web1 logger 17 - - ",
        b'<134>1 2026-11-22T23:55:00Z - haproxy 6801 ID47 [a@1 x="]\\""][b y=""] \xef\xbb\xbf',
        # what differs from both
        b"<190>Nov 2 23:55:00 web1 nginx: ",
        b"<190>Nov 22 23:55:00 web1 web1 nginx: ",
        b"<190>Nov 22 23:55:00.123 web1 nginx: ",
        b"<190>Nov 22 2026 23:55:00 web1 nginx: ",
        b"<190>Nov 22 23:55:00 2026 web1 nginx: ",
        b"<190>Nov 22 23:55:00 CEST web1 nginx: ",
        b"<190>Nov 22 23:55:00 +0100 web1 nginx: ",
        b"<190>Nov 22 23:55:00: web1 nginx: ",
        b"<190>22 Nov 23:55:00 web1 nginx: ",
        b"<190>Nov 22 23:55:00 web1 nginx:latest[1]: ",
        b"<190>Nov 22 23:55:00 web1 registry/nginx:1.25[1]: ",
        b"<190>Nov 22 23:55:00 web1 nginx:  ",
        b"<190>Nov 22 23:55:00 web1 nginx ",
        b"<190>Nov 22 23:55:00 ",
        b"<190>2026-11-22T23:55:00+00:00 nginx: ",
        b"<190>2026-11-22T23:55:00+00:00 web1 nginx ",
        b"<190>2026-11-22 23:55:00 web1 nginx: ",
        b"<190>1 2026-11-22T23:55:00Z web1 nginx - - ",
        b"<190>nginx: ",
        b"<190>web1 nginx[7]: ",
        b"<190> ",
        b"<190>",
        b"120 <190>1 2026-11-22T23:55:00Z web1 nginx 7 - - ",
        b"120 <190>Nov 22 23:55:00 web1 nginx: ",
        b"<190>Nov 22 23:55:00 web1 nginx: @cee: ",
    ],
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\0"])
@pytest.mark.parametrize("message", [MESSAGE, JSON])
def test_message_is_what_follows_any_header(header, end, message):
    assert message_of(header + message + end) == message


def test_json_may_follow_at_once():
    for header in (b"<190>Nov 22 23:55:00 web1 nginx:", b"<190>Nov 22 23:55:00 web1 nginx:@cee:", b"<190>nginx:"):
        assert message_of(header + JSON) == JSON


@pytest.mark.parametrize("datagram", [b"<1900>Nov 22 23:55:00 web1 nginx: " + MESSAGE, b"<13" + MESSAGE, b"13>" + LINE])
def test_header_that_is_none_is_part_of_the_message(datagram):
    assert message_of(datagram) == datagram


@pytest.mark.parametrize(
    "datagram",
    [
        b"<13>" * 10_000 + LINE,
        b"<13>1 - - - - [open " + LINE,
        b"<13>1 - - - - [" + b'a="' * 10_000,
        b"<13>Nov 22 23:55:00 " + b"a " * 20_000 + LINE,
        b"<13>Nov 22 23:55:00 a b c d e f g h nginx " + LINE,
        b"<1900>Nov 22 23:55:00 web1 nginx: " + LINE,
        b"<190>192.0.2.1 - x 1.1.1.1 - - [" + LINE.partition(b"[")[2],
        b"<190>192.0.2.1 - x: 1.1.1.1 - - [" + LINE.partition(b"[")[2],
        b"<190>Nov 22 23:55:00 192.0.2.1 - x: 1.1.1.1 - - [" + LINE.partition(b"[")[2],
        b"<190>Nov 22 23:55:00 web1 nginx: 192.0.2.1 - x: 1.1.1.1 - - [" + LINE.partition(b"[")[2],
        b"<13>" + b"a:" * 20_000,
        b"<13>" + b"a: " * 20_000,
        b"1 " * 20_000,
    ],
)
def test_line_behind_what_is_no_header_is_nobodys(datagram):
    assert isinstance(view(message_of(datagram)), str)


@given(st.binary(max_size=100))
def test_any_bytes_have_a_message(datagram):
    assert datagram.rstrip(b"\n\r\0").endswith(message_of(datagram))
    assert message_of(b"<1>" + datagram) is not None


# --- in files

NGINX = '$remote_addr - $remote_user [$time_local] "$request" $status $bytes_sent "$http_referer" "$http_user_agent"'

PREFIXES = [
    b"",
    b"\xef\xbb\xbf",
    b"\0" * 300,
    b"  ",
    b"2026-11-27T04:20:00.123456789Z stdout F ",
    b"2026-11-27T04:20:00.123456789+01:00 stderr F ",
    b"2026-11-27T04:20:00.123456789Z ",
    b"web-1  | ",
    b"web-1 | ",
    b"\x1b[36mweb-1  | \x1b[0m",
    b"\x1b[36mweb-1  |\x1b[0m ",
    b"web.1.x7@node1    | ",
    b"web-1  | 2026-11-27T04:20:00.123456789Z ",
    b"[pod/web-7d9/nginx] ",
    b"[pod/web-7d9/nginx] 2026-11-27T04:20:00.123456789Z ",
    b"@4000000065e1c0c01dcd6500 ",
    b"Nov 27 04:20:00 web1 nginx: ",
    b"Nov 27 04:20:00 web1 nginx[17]: ",
    b"Nov  7 04:20:00 nginx: ",
    b"Nov 7 04:20:00 web1 web1 nginx: ",
    b"2026-11-27T04:20:00.123456+00:00 web1 nginx: ",
    b"2026-11-27T04:20:00.123456+00:00 app[web.1]: ",
    b"<190>Nov 27 04:20:00 web1 nginx: ",
    b"<190>",
    b"<190>1 2026-11-27T04:20:00Z web1 nginx 7 - - ",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_known_prefix_is_taken_off(prefix):
    assert view(prefix + LINE) == view(prefix + JSON) == VIEW
    assert view(prefix + LINE, "combined") == VIEW
    assert view(prefix + JSON, "json") == VIEW
    assert view(prefix + LINE, '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"') == VIEW
    assert view(prefix + LINE, NGINX) == VIEW


@pytest.mark.parametrize("key", ["log", "message", "MESSAGE"])
@pytest.mark.parametrize("inner", [LINE, JSON, b"web-1  | " + LINE])
def test_line_within_json_is_read(key, inner):
    wrapped = json.dumps({key: inner.decode() + "\n", "stream": "stdout", "time": "2026-11-27T04:20:00Z"}).encode()
    assert view(wrapped) == VIEW


@pytest.mark.parametrize("before", [b"www.example.com ", b"www.example.com:443 ", b"www.example.com 443 ", b"*:80 "])
def test_host_and_port_before_a_line_are_the_sites(before):
    assert view(before + LINE) == VIEW
    record = reader_of()(before + LINE)
    assert record.host == before.replace(b":", b" ").split()[0]
    assert reader_of("vhost")(before + LINE) == record


@pytest.mark.parametrize(
    "before",
    [
        b"a b c ",
        b"04:20:00 web1 nginx ",
        b"web1 nginx[17] info ",
        b"203.0.113.9, ",
        b"203.0.113.9, 203.0.113.10 ",
        b"203.0.113.9 - ",
        b"- - ",
        b"x - theo ",
        b"1709294400.123 0.005 ",
        b"[error] 7#7: *1 ",
        b"www.example.com 192.0.2.7 x ",
        b'"quoted" ',
        b"\x01",
    ],
)
@pytest.mark.parametrize("name", ["auto", "common", "combined", "vhost", NGINX])
def test_line_behind_other_words_is_not_understood(before, name):
    for line in (LINE, LINE.replace(b"- - [", b"- theo ["), LINE.replace(b"192.0.2.1", b"host.example.org")):
        assert isinstance(view(before + line, name), str)


def test_name_with_spaces_is_a_name():
    assert view(LINE.replace(b"- - [", b"- Ada Lovelace [")).user == b"Ada Lovelace"
    assert view(LINE.replace(b"- - [", b"- CN=Ada Lovelace, O=Analytical Engines [")).kind == "member"


@pytest.mark.parametrize(("logged", "name"), [(b'a\\"b', b'a"b'), (b"a[b]", b"a[b]"), (b"[x", b"[x")])
def test_name_may_have_quotes_and_brackets(logged, name):
    assert view(LINE.replace(b"- - [", b"- " + logged + b" [")).user == name


@given(st.lists(st.sampled_from([*PREFIXES, b"- ", b"a ", b"1.1.1.1 ", b"x: ", b"[", b'"']), max_size=8), st.booleans())
def test_whatever_stands_before_a_line_it_names_nobody_else(before, is_json):
    line = b"".join(before) + (JSON if is_json else LINE)
    for name in FORMATS:
        found = view(line, name)
        if isinstance(found, PageView):
            assert b" " not in found.user
            assert found.kind == "guest"


@given(st.binary(max_size=100))
def test_any_bytes_have_an_inside(line):
    assert len(without_prefix(line)) <= len(line)


@pytest.mark.parametrize("piece", [b"a | ", b"\x1b[0m", b"@cee:", b"[a] ", b" ", b"\0", b"2026-11-27T04:20:00Z ", b"a"])
def test_endless_prefixes_are_given_up(piece):
    assert isinstance(view(piece * 10_000 + b"x"), str)
