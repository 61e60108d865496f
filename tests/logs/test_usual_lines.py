"""Usual lines are read by compiled code; what comes of them is the same as with care.

Records are compared one by one, since a page view may be the same although a part was read wrongly. ONLINE_LINES is how
many lines the formats share, half of them spoiled; ONLINE_REAL_LOGS names a folder with logs whose lines are read, too.
"""

import bz2
import gzip
import json
import os
import random
import socket
from pathlib import Path

import msgpack
import pytest

from online.core.datagrams import Datagrams
from online.logs.formats import reader_of
from online.logs.jsonlines import JsonFields
from online.logs.lines import MAX_LINE_BYTES, TOO_LONG
from online.logs.pages import FILE, METHOD, STATUS, Pages, PageView
from online.logs.rules import Rules, read_network
from online.logs.syslogheader import message_of
from online_client.guests import guest_name

N_LINES = int(os.environ.get("ONLINE_LINES") or 28_000)
REAL_LOGS = os.environ.get("ONLINE_REAL_LOGS")

KEY = bytes(16)
N_KNOWN = 65_536  #: urls that are remembered at most
NOON = 1_700_049_600

AGENTS = ["Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Firefox/125.0", "Googlebot/2.1", "-", "curl/8.5", "x" * 600]
ADDRESSES = [
    "192.0.2.1",
    "192.0.2.77",
    "2001:db8::1",
    "web.example.org",
    "::ffff:192.0.2.1",
    "unix:",
    "-",
    "1.2.3.4:80",
]
URLS = ["/", "/a", "/a?x=1", "/app.js", "/a/../b", "/%C3%A9", "*", "http://Other.example/x", "/a;b=1", "/x" * 400]
URLS += ["/a?x=2", "/a?" + "y" * 600, "/x.js?v=1#q?z", "/a#b?c", "http://Other.example?x", "?x=1", "*?x", ""]
STATUSES = ["200", "304", "404", "301", "206", "499", "000"]
USERS = ["-", "-", "-", "None", "undefined", "theo", "a@b", "192.0.2.1", '""', "- theo", "two words", "[x]"]
METHODS = ["GET", "GET", "GET", "POST", "HEAD", "PUT", "get", "M-SEARCH"]
REFERRERS = ["-", "", "https://example.org/x", "https://WWW.example.com:443/", "android-app://x"]
HOSTS = ["example.org", "WWW.Example.com:443", "www.example.com", ""]
KINDS = ["", "-", "member", "guest", "hidden", "bot", "bot", "Bot", "boss"]
FORWARDED = ["", "-", "198.51.100.7", "198.51.100.7, 192.0.2.1", "for=198.51.100.9"]

#: What lines are spoiled with: everything that means something somewhere.
ODD = [
    *(bytes([byte]) for byte in b'\x00\t\n\r "\\[]{}<>:,.-+0123456789/eETZaxn\x7f\x80\xef\xff'),
    b"  ",
    b"- ",
    b"\xc3\xa9",
]
ODD += [
    b'""',
    b'\\"',
    b"\\u0041",
    b"null",
    b"true",
    b"1e5",
    b"{}",
    b"[]",
    b'["a"]',
    b'"a":1,',
    b'"url":"/z",',
    b"-1",
    b"00",
]


def clf_date(dice):
    zone = dice.choice(["+0000", "+0100", "-0730", "+1959", "+2000"])
    second = dice.choice(["00", "13", "59", "60", "61"])
    day = dice.choice(
        ["14/Nov/2023", "29/Feb/2023", "29/Feb/2024", "31/Apr/2023", "01/Jan/1970", "1/Nov/2023", "00/Xyz/2023"]
    )
    return (
        f"{day}:{dice.choice(['22', '24', '08'])}:13:{second} {zone}"
        if dice.random() < 0.1
        else "14/Nov/2023:22:13:20 +0000"
    )


def access_line(dice):
    """A line as web servers write them: common, combined, with X-Forwarded-For, with a virtual host."""
    request = f"{dice.choice(METHODS)} {dice.choice(URLS)} HTTP/1.1"
    line = (
        f'{dice.choice(ADDRESSES)} {dice.choice(["-", "-", "x"])} {dice.choice(USERS)} [{clf_date(dice)}] "{request}"'
    )
    line += f" {dice.choice(STATUSES)} {dice.choice(['0', '512', '-'])}"
    if dice.random() < 0.8:
        line += f' "{dice.choice(REFERRERS)}" "{dice.choice(AGENTS)}"'
        line += dice.choice(["", "", f' "{dice.choice(FORWARDED)}"'])
    return (dice.choice(["", "", "", "example.org ", "example.org:80 ", "a 80 "]) + line).encode()


def moment(dice):
    """A time, as JSON has them."""
    if dice.random() < 0.6:
        return float(f"{NOON}.{dice.randrange(10_000)}")
    fraction = dice.choice(["25", "250", "2504", "2506", "25049", "2505", "250502", "2504979", "999999999", "0"])
    iso = "2023-11-15T12:00:00"
    return dice.choice(
        [
            float(f"{NOON}.{fraction}"),
            f"{NOON}.{fraction}",
            NOON,
            str(NOON),
            NOON * 1000,
            NOON * 10**9,
            5,
            2**40 + 0.5,
            f"{iso}Z",
            f"{iso}+01:00",
            f"{iso}-07:30",
            f"{iso}.{fraction}Z",
            f"{iso}.{fraction}+00:00",
            f"{iso}+25:00",
            iso,
            "2023-02-29T12:00:00Z",
            "2023-11-15T12:00:60Z",
            "2023-11-15T24:00:00Z",
            clf_date(dice),
            "",
            None,
            True,
            "-",
        ]
    )


def any_of(dice, values):
    """One of these, or what is odd in the place of a text."""
    odd = ["", "-", None, 7, 7.5, [], ["a"], ["-"], ["a", "b"], {}, {"a": 1}, True, "é", 'a"b', "a\\b"]
    return dice.choice(odd) if dice.random() < 0.01 else dice.choice(values)


def shuffled(dice, fields):
    items = [item for item in fields.items() if dice.random() < 0.99]
    if dice.random() < 0.1:
        dice.shuffle(items)
    return dict(items)


def ours(dice):
    named = zip(
        ("address", "user", "method", "url", "status", "agent", "host", "forwarded"),
        (ADDRESSES, USERS, METHODS, URLS, STATUSES, AGENTS, HOSTS, FORWARDED),
        strict=True,
    )
    fields = {"time": moment(dice), **{name: any_of(dice, values) for name, values in named}}
    more = {"visitor": any_of(dice, ["", "abc"]), "purpose": dice.choice(["", "", "", "prefetch"])}
    kind = {"kind": any_of(dice, KINDS)}
    other = {"referrer": any_of(dice, REFERRERS), "extra": {"a": [1, {"b": "c\\n"}]}}
    return fields | dice.choice([{}, more, kind, more | kind, other])


def nginx(dice):
    fields = {
        dice.choice(["msec", "time_iso8601", "time_local"]): moment(dice),
        "remote_addr": any_of(dice, ADDRESSES),
        "remote_user": any_of(dice, USERS),
        "status": any_of(dice, STATUSES),
        "http_user_agent": any_of(dice, AGENTS),
        "http_x_forwarded_for": any_of(dice, FORWARDED),
        "http_referer": any_of(dice, REFERRERS),
        "http_host": any_of(dice, HOSTS),
        "server_name": any_of(dice, HOSTS),
        "request_length": dice.choice([0, 1.5, -1, 1e-07, 1e300]),
    }
    target = {"request_method": any_of(dice, METHODS), "request_uri": any_of(dice, URLS), "uri": any_of(dice, URLS)}
    request = f"{dice.choice(METHODS)} {dice.choice(URLS)}{dice.choice(['', ' ', ' HTTP/1.1'])}"
    fields |= dice.choice([target, {"request": request}])
    more = {"http_sec_purpose": dice.choice(["", "prefetch"])}
    return fields | dice.choice([{}, {"kind": any_of(dice, KINDS)}, more, {"http_x.y": 1}])


def caddy(dice):
    headers = {"User-Agent": [any_of(dice, AGENTS)], "Referer": [any_of(dice, REFERRERS)], "Sec-Ch-Ua": ['"a";v="1"']}
    headers |= dice.choice(
        [{}, {}, {"X-Forwarded-For": [dice.choice(FORWARDED)]}, {"Purpose": ["prefetch"]}, {"user-agent": ["x"]}]
    )
    request = {
        "remote_ip": any_of(dice, ADDRESSES),
        "client_ip": any_of(dice, ADDRESSES),
        "proto": "HTTP/2.0",
        "method": any_of(dice, METHODS),
        "host": any_of(dice, HOSTS),
        "uri": any_of(dice, URLS),
        "headers": shuffled(dice, headers),
        "tls": {"resumed": False, "version": 772},
    }
    told = {"level": "info", "ts": moment(dice), "request": shuffled(dice, request), "user_id": any_of(dice, USERS)}
    return told | {"duration": 0.0012, "status": int(dice.choice(STATUSES)), "resp_headers": {"Server": ["Caddy"]}}


def traefik(dice):
    return {
        "ClientHost": any_of(dice, ADDRESSES),
        "ClientUsername": any_of(dice, USERS),
        "DownstreamStatus": 200,
        "RequestMethod": any_of(dice, METHODS),
        "RequestPath": any_of(dice, URLS),
        "RequestHost": any_of(dice, HOSTS),
        "StartUTC": moment(dice),
        "request_User-Agent": any_of(dice, AGENTS),
        "level": "info",
        "msg": "",
    }


def json_line(dice, make=None):
    document = shuffled(dice, (make or dice.choice([ours, nginx, caddy, traefik]))(dice))
    separators = dice.choice([(",", ":"), (",", ":"), (", ", ": ")])
    return json.dumps(document, separators=separators, ensure_ascii=dice.random() < 0.5).encode()


def spoiled(dice, line):
    """Change a few bytes of a line, put parts of it together anew, or cut it off."""
    for _ in range(dice.randrange(1, 4)):
        at, until = sorted((dice.randrange(len(line) + 1), dice.randrange(len(line) + 1)))
        until = dice.choice([at, at, at + 1, at + 1, at + 2, until])
        line = line[:at] + dice.choice([b"", dice.choice(ODD), dice.choice(ODD), line[at:until] * 2]) + line[until:]
    return line[: dice.randrange(len(line) + 1)] if dice.random() < 0.1 else line


WRITERS = {
    "vhost": lambda dice: b"www.example.org:443 " + access_line(dice),
    "caddy": lambda dice: json_line(dice, caddy),
    "nginx": lambda dice: json_line(dice, nginx),
}


def lines(n, seed, name="auto"):
    """Lines that a format may have, and each spoiled."""
    dice = random.Random(seed)
    for _ in range(n):
        line = WRITERS.get(name, dice.choice([access_line, json_line]))(dice)
        yield line
        yield spoiled(dice, line)


def real_lines():
    """The lines of every file of the folder that ONLINE_REAL_LOGS names."""
    for path in sorted(Path(REAL_LOGS).rglob("*")):
        if path.is_file():
            with {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)(path, "rb") as file:
                yield from (line.rstrip(b"\r\n") for line in file)


FORMATS = ["auto", "common", "vhost", "json", "nginx", "caddy", "traefik"]
FIELDS = {
    "plain": JsonFields(url="request_uri", agent="http_user_agent", time="msec", address="remote_addr"),
    "paths": JsonFields(url="request.uri|url|uri", agent="request.headers.User-Agent|agent", time="ts|time|msec"),
    "a purpose": JsonFields(purpose="purpose|http_sec_purpose", user="user|request.client_ip"),
    "an object as text": JsonFields(url="request", host="request.host", address="request.remote_ip"),
    "a kind": JsonFields(kind="user_id|level|kind"),
    "odd names": JsonFields(url="url|é||a.b", purpose="host"),
}


def agree(read, line):
    """Tell whether a line is usual; its record is that of the careful way then."""
    record = read.usual.read(line)
    if record is not None:
        assert record == read.careful(line), line
    return record is not None


@pytest.mark.parametrize("name", FORMATS)
def test_a_usual_line_has_the_record_that_it_has_with_care(name):
    read = reader_of(name)
    written = N_LINES // len(FORMATS) // 2
    usual = sum(agree(read, line) for line in lines(written, name, name))
    assert usual > written / 14


if REAL_LOGS:

    @pytest.mark.parametrize("name", FORMATS)
    def test_usual_lines_of_real_logs_have_the_record_that_they_have_with_care(name):
        read, dice = reader_of(name), random.Random(name)
        for line in real_lines():
            agree(read, line)
            agree(read, spoiled(dice, line))


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_fields_of_ones_own_are_the_same_with_care(fields):
    read = reader_of("json", fields=fields, visitor="user_id|visitor")
    for line in lines(N_LINES // len(FIELDS) // 2, 1):
        agree(read, line)


RULES = {
    "default": Rules(),
    "addresses": Rules(keep_addresses=True, guests_only=True),
    "proxies": Rules(trust_proxy=(read_network("192.0.2.0/24"),)),
    "hosts": Rules(with_host=True, rewrite=(("^[a-z.]*/b$", ""),), keep_params=("x",)),
    "methods": Rules(methods=frozenset({"PUT"}), bots=("Firefox",), visitor="visitor"),
}


class Counted(Pages):
    """Counts the records that were judged, and the visitors that were named, with care."""

    n_careful = n_named = 0

    def judge(self, record):
        self.n_careful += 1
        return super().judge(record)

    def nameless(self, *known_by):
        self.n_named += 1
        return super().nameless(*known_by)


@pytest.mark.parametrize("name", ["auto", "vhost", "caddy"])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_lines_give_the_same_as_with_care(name, rules):
    pages = Counted(reader_of(name), rules, key=KEY, url_prefix=b"/p")
    careful = Pages(reader_of(name).careful, rules, key=KEY, url_prefix=b"/p")
    dice = random.Random(name)
    written = [line for nth, line in enumerate(lines(160, 3, name)) if nth % 2 == 0 or nth % 8 == 1]
    parsed = [(line, careful.parse(line), careful.host) for line in written]
    for line, found, host in dice.choices(parsed, k=3_000):
        if dice.random() < 0.5:
            assert pages.parse(line) == found, line
        else:
            message = b"<190>Nov 14 22:13:20 web1 nginx: " + line + b"\n"
            assert pages.parse_message(message) == careful.parse(message_of(message)), line
        assert pages.host == host, line
    assert pages.n_careful < 2_700


@pytest.mark.parametrize("name", ["auto", "vhost", "caddy"])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_many_lines_at_once_are_packed_as_one_by_one(name, rules):
    careful = Pages(reader_of(name).careful, rules, key=KEY, url_prefix=b"/p" * 140)
    dice = random.Random(name)
    written = dice.choices(list(lines(200, 5, name)), k=600)
    written.append(b'192.0.2.9 - theo [14/Nov/2023:22:13:20 +0000] "%s /long HTTP/1.1" 200 5' % (b"x" * MAX_LINE_BYTES))
    found = [careful.parse(line) if len(line) <= MAX_LINE_BYTES else TOO_LONG for line in written]
    pages = Pages(reader_of(name), rules, key=KEY, url_prefix=b"/p" * 140)
    for part in (written[:1], written[1:400], written[400:]):
        parts = [each for each in found[: len(part)] if not isinstance(each, str)]
        assert parts or len(part) == 1 or rules.methods == {"PUT"}
        packed = pages.pack(part)
        assert packed.items == b"".join(map(msgpack.packb, parts))
        assert (packed.number, packed.newest_ms) == (len(parts), parts[-1].seen_ms if parts else 0)
        assert packed.reasons == [each for each in found[: len(part)] if isinstance(each, str)]
        assert packed.places == [place for place, each in enumerate(found[: len(part)]) if isinstance(each, str)]
        del found[: len(part)]
    assert pages.pack([]) == (b"", 0, 0, [], [])


def test_what_was_seen_before_needs_no_care():
    pages = Counted(reader_of("auto"), Rules(), key=KEY)
    line = b'192.0.2.%d - %s [14/Nov/2023:22:13:%02d +0000] "%s %s HTTP/1.1" %d 5 "-" "Mozilla/5.0"'
    known = [line % (1, b"-", 1, b"GET", b"/a", 200), line % (2, b"theo", 2, b"GET", b"/x.js", 200)]
    known += [line % (1, b"-", 1, b"GET", b"/a", 404), line % (1, b"theo", 1, b"PUT", b"/b", 200)]
    known += [line % (9, b"theo", 1, b"GET", b"/b", 200)]
    found = [pages.parse(each) for each in known]
    assert found[1:4] == [FILE, STATUS, METHOD]
    assert found[4] == PageView(b"theo", b"/b", 1_699_999_981_000, "member")
    assert pages.n_careful == 5
    later = found[0]._replace(url=b"/b", seen_ms=found[0].seen_ms + 58_000)
    assert pages.parse(line % (1, b"-", 59, b"GET", b"/b", 200)) == later
    assert pages.parse(line % (7, b"-", 59, b"GET", b"/x.js", 200)) == FILE
    assert pages.parse(line % (7, b"-", 59, b"GET", b"/new", 404)) == STATUS
    newcomer = pages.parse(line % (8, b"-", 59, b"GET", b"/b", 200))
    assert newcomer == later._replace(user=guest_name(KEY, b"192.0.2.8", b"Mozilla/5.0"))
    assert (pages.n_careful, pages.n_named) == (5, 1)


@pytest.mark.parametrize("user", ["-", "theo", "None"])
def test_one_user_may_have_several_kinds(user):
    line = '{"time":%d,"address":"192.0.2.%d","agent":"Mozilla/5.0","user":"' + user + '","url":"/","kind":"%s"}'
    pages = Counted(reader_of("auto"), Rules(), key=KEY)
    careful = Pages(reader_of("auto").careful, Rules(), key=KEY)
    asked = [(line % (NOON, address, kind)).encode() for address in (1, 2) for kind in KINDS]
    for each in asked + asked:
        assert pages.parse(each) == careful.parse(each), each
    assert pages.n_careful < 2 * len(asked) or user == "None"
    assert [view.kind for view in map(pages.parse, asked[2:6])] == (
        ["member", "guest", "hidden", "bot"] if user == "theo" else ["guest", "guest", "guest", "bot"]
    )


def test_memory_of_what_was_seen_is_bounded():
    pages = Counted(reader_of("auto"), Rules(), key=KEY)
    line = b'192.0.2.1 - theo [14/Nov/2023:22:13:20 +0000] "GET /%d HTTP/1.1" 200 5'
    for n in range(N_KNOWN + 5_000):
        pages.parse(line % n)
    assert pages.n_careful == N_KNOWN + 5_000
    for n in range(N_KNOWN + 5_000):
        assert pages.parse(line % n).url == b"/%d" % n
    assert pages.n_careful >= N_KNOWN + 10_000


HEADERS = [
    b"<190>Nov 14 22:13:20 web1 nginx: ",
    b"<5>Nov  4 22:13:20 nginx[17]: ",
    b"<190>Nov 14 22:13:20 web1.example.org nginx[]: ",
    b"<190>Nov 14 22:13:20 ::1 nginx: ",
    b"<190>1 2023-11-14T22:13:20Z web1 nginx - - - ",
    b"<1900>Nov 14 22:13:20 a: ",
    b"",
    b"<190>Nov 14 22:13:20 web1 nginx:  ",
    b"<190>Nov 14 22:13:20 web1 nginx: @cee: ",
    b"<190>Nov 14 22:13:20 a b c: ",
    b"<190>a: ",
]


@pytest.mark.parametrize("seed", range(5))
def test_messages_of_syslog_give_the_same_as_with_care(seed):
    pages = Counted(reader_of("auto"), Rules(), key=KEY)
    careful = Pages(reader_of("auto").careful, Rules(), key=KEY)
    dice = random.Random(seed)
    line = b'192.0.2.1 - theo [14/Nov/2023:22:13:20 +0000] "GET /%d HTTP/1.1" 200 5'
    messages = []
    for _ in range(3_000):
        header = dice.choice(HEADERS) if dice.random() < 0.5 else spoiled(dice, dice.choice(HEADERS))
        message = header + line % dice.randrange(3) + dice.choice([b"", b"", b"\n", b"\r\n\0", b" "])
        assert pages.parse_message(message) == careful.parse(message_of(message)), message
        messages.append(message)
    assert pages.n_careful < 2_000
    found = [careful.parse(message_of(message)) for message in messages]
    packed = pages.pack_messages(messages)
    assert packed.items == b"".join(msgpack.packb(each) for each in found if not isinstance(each, str))
    assert packed.reasons == [each for each in found if isinstance(each, str)]
    assert packed.places == [place for place, each in enumerate(found) if isinstance(each, str)]
    datagrams = Datagrams()
    with socket.socket(type=socket.SOCK_DGRAM) as receiving, socket.socket(type=socket.SOCK_DGRAM) as sending:
        receiving.bind(("127.0.0.1", 0))
        for message in messages[:60]:
            sending.sendto(message, receiving.getsockname())
        datagrams.receive(receiving.fileno())
    assert pages.pack_received(datagrams, 10, 50) == pages.pack_messages(messages[10:50])
    assert pages.pack_received(datagrams) == pages.pack_messages(messages[:60])


def test_a_line_that_was_not_understood_tells_nothing():
    pages = Pages(reader_of("auto"), Rules(), key=KEY)
    good = b'example.org 192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'
    pages.parse(good)
    assert pages.host == b"example.org"
    pages.parse(b"nonsense")
    assert pages.host == b""
