"""Lines of access logs -> records, in every format, and what hostile lines do: nothing."""

import doctest
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from online.errors import ConfigError
from online.logs import formats, jsonlines, logformat
from online.logs.formats import AccessLog, reader_of
from online.logs.jsonlines import JSON_PRESETS, JsonLines
from online.logs.logformat import LogFormat
from online.logs.records import Record, read_time

NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
DATE = b"01/Mar/2024:12:00:00 +0000"
AGENT = b"Mozilla/5.0 (X11; Linux x86_64)"
COMBINED = b'198.51.100.7 - theo [01/Mar/2024:12:00:00 +0000] "GET /a?b=1 HTTP/1.1" 200 5 "-" "' + AGENT + b'"'
RECORD = Record(NOON_MS, b"198.51.100.7", b"theo", b"GET", b"/a?b=1", b"200", AGENT, referrer=b"-")


def test_examples_in_the_docstrings_hold():
    assert [doctest.testmod(module).failed for module in (formats, jsonlines, logformat)] == [0, 0, 0]


@pytest.mark.parametrize("name", ["auto", "combined", "common"])
def test_combined_line_tells_all_it_holds(name):
    assert reader_of(name)(COMBINED) == RECORD
    assert reader_of(name)(COMBINED + b' "203.0.113.9, 10.0.0.1"') == RECORD._replace(
        forwarded=b"203.0.113.9, 10.0.0.1"
    )


@pytest.mark.parametrize("name", ["auto", "vhost"])
@pytest.mark.parametrize("host", [b"www.example.org", b"www.example.org:443"])
def test_virtual_host_may_stand_first(name, host):
    assert reader_of(name)(host + b" " + COMBINED) == RECORD._replace(host=b"www.example.org")


def test_line_without_the_virtual_host_is_not_of_that_format():
    assert reader_of("vhost")(COMBINED) == "not in vhost_combined format"


# Pieces from which a line is put together that is nearly one, with and without what only one pattern takes.
_NEARLY = st.lists(
    st.sampled_from(
        [
            *(b"h", b"::1", b" ", b"-", b'"', b'""', b"\\", b'\\"', b"[" + DATE + b"]", b"GET", b"/a", b"HTTP/1.1"),
            *(b"200", b"5", b'"-"', b"\0", b"\r", b"\t", b"\xff", b" - - [" + DATE + b'] "GET /a HTTP/1.1" 200 5'),
            *(b' "-" "A"', b"?x=y", b"9" * 30),
        ]
    ),
    max_size=12,
).map(b"".join)


@given(_NEARLY)
@example(COMBINED)
@example(COMBINED + b' "x"')
@example(b'h - ""x [' + DATE + b'] "GET /a HTTP/1.1" 200 5')
@example(b"h - - [" + DATE + b'] "GET  /a HTTP/1.1" 200 5')
def test_what_the_quick_pattern_takes_the_whole_one_takes_alike(line):
    reader = AccessLog()
    quick = reader.read(line)
    assert quick == reader._read_any(line)


@pytest.mark.parametrize(
    "line",
    [
        b"x" * 1_000_000,
        b'"' * 100_000,
        b"\\" * 100_001,
        b"[" * 100_000,
        b"a " * 50_000,
        b"h - - [" + DATE + b'] "' + b'\\"' * 50_000,
        b"h - - [" + DATE + b'] "GET /' + b"a " * 50_000,
        b"h - - [" + DATE + b'] "GET /a HTTP/1.1" 200 5' + b' "a"' * 20_000 + b'x"',
        b"h - " + b"- " * 40_000 + b"[x",
        b"h " + b"\\ " * 50_000,
        b'{"time":' * 10_000,
        b'{"time":1709294400,"user":"' + b"\\u0000" * 20_000,
        b"[" * 50_000 + b"]" * 50_000,
        b'{"a":' + b"9" * 60_000 + b"}",
    ],
    ids=range(14),
)
def test_hostile_line_is_refused_at_once(line):
    formats = ('%h %l %u %t "%r" %>s "%{Referer}i" "%{User-Agent}i"', "%h %u %{X-One}i %{X-Two}i %t %U")
    for read in (reader_of(), JsonLines().read, *(LogFormat(each).read for each in formats)):
        assert isinstance(read(line), str)


@pytest.mark.parametrize(
    ("text", "seen_ms"),
    [
        (b"1709294400", NOON_MS),
        (b"1709294400.25", NOON_MS + 250),
        (b"1709294400250", NOON_MS + 250),
        (b"2024-03-01T12:00:00+00:00", NOON_MS),
        (b"2024-03-01T13:00:00.250+01:00", NOON_MS + 250),
        (b"2024-03-01T12:00:00.250999999Z", NOON_MS + 250),
        (b"2024-03-01 12:00:00", NOON_MS),
        (b"01/Mar/2024:07:00:00 -0500", NOON_MS),
        (b"01/Mar/2024:07:00:00.250 -0500", NOON_MS + 250),
        (b"1709294400250999", NOON_MS + 250),
        (b"1709294400250999999", NOON_MS + 250),
        (b"2024/03/01 12:00:00", NOON_MS),
        (b"2024/03/01 12:00:00.250", NOON_MS + 250),
        (b"Fri, 01 Mar 2024 12:00:00 GMT", NOON_MS),
        (b"Friday, 01-Mar-24 12:00:00 UTC", NOON_MS),
        (b"2016-12-31T23:59:60Z", 1_483_228_800_000),
        (b"2016-12-31T23:59:60.5+00:00", 1_483_228_800_500),
        (b"2016-12-31T23:60:60Z", None),
        (b"9" * 20, 99_999_999_999_999),
        (b"9" * 21, None),
        (b"27/Oct/2024:02:30:00 +0200", 1_729_989_000_000),
        (b"27/Oct/2024:02:30:00 +0100", 1_729_992_600_000),  # an hour later, by the clock the same
        (b"", None),
        (b"noon", None),
        (b"1e9", None),
        (b"NaN", None),
        (b"-1709294400", None),
        (b"30/Feb/2024:12:00:00 +0000", None),
    ],
)
def test_time_is_read_in_any_way_that_says_all_of_it(text, seen_ms):
    assert read_time(text) == seen_ms


# --- JSON


def as_json(**changed):
    values = {
        "time": 1709294400.25, "user": "", "url": "/a?b=1", "status": 200, "method": "GET",
        "address": "198.51.100.7", "forwarded": "", "agent": "A/1", "host": "www.example.org",
    } | changed  # fmt: skip
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


LINKED = b"https://blog.example/post"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("auto", COMBINED.replace(b'"-"', b'"%s"' % LINKED)),
        ("auto", COMBINED.replace(b'"-"', b'"%s"' % LINKED).replace(b"/a?b=1", b'/a\\"')),
        ("vhost", b"www.example.org:443 " + COMBINED.replace(b'"-"', b'"%s"' % LINKED)),
        ("%h %{sec}t %U %{Referer}i", b"::1 1709294400 /a " + LINKED),
        ("$remote_addr $msec $request_uri $http_referer", b"::1 1709294400 /a " + LINKED),
        ("json", b'{"time": 1709294400, "url": "/a", "user": "u", "referrer": "%s"}' % LINKED),
        ("auto", b'{"msec": 1709294400, "request_uri": "/a", "remote_user": "u", "http_referer": "%s"}' % LINKED),
        ("auto", b'{"time": 1709294400, "RequestPath": "/a", "ClientHost": "::1", "request_Referer": "%s"}' % LINKED),
        ("auto", b'{"ts": 17e8, "user_id": "u", "request": {"uri": "/", "headers": {"Referer": ["%s"]}}}' % LINKED),
    ],
)
def test_referrer_is_read_in_every_format(name, line):
    assert reader_of(name)(line).referrer == LINKED


def test_json_line_tells_all_it_holds():
    assert reader_of()(as_json(visitor="v7")) == Record(
        NOON_MS + 250, b"198.51.100.7", b"-", b"GET", b"/a?b=1", b"200", b"A/1", b"www.example.org", b"v7", b""
    )


def test_caddy_traefik_and_nginx_variables_are_recognised():
    caddy = {
        "ts": 1709294400.25, "user_id": "theo", "status": 200,
        "request": {"client_ip": "::1", "method": "GET", "host": "h", "uri": "/a", "headers": {"User-Agent": ["A/1"]}},
    }  # fmt: skip
    traefik = {
        "ClientHost": "::1", "ClientUsername": "theo", "DownstreamStatus": 200, "RequestMethod": "GET",
        "RequestPath": "/a", "RequestHost": "h", "StartUTC": "2024-03-01T12:00:00.25Z", "request_User-Agent": "A/1",
    }  # fmt: skip
    nginx = {
        "time_iso8601": "2024-03-01T12:00:00.250+00:00", "remote_addr": "::1", "remote_user": "theo", "host": "h",
        "request_uri": "/a", "request_method": "GET", "status": "200", "http_user_agent": "A/1",
    }  # fmt: skip
    expected = Record(NOON_MS + 250, b"::1", b"theo", b"GET", b"/a", b"200", b"A/1", b"h")
    for name, line in (("caddy", caddy), ("traefik", traefik), ("nginx", nginx)):
        text = json.dumps(line).encode()
        assert reader_of()(text) == expected
        assert reader_of(name)(text) == expected


def test_fields_of_json_are_named():
    fields = JSON_PRESETS["json"]._replace(time="at", url="req.path|req.url", user="who.name")
    line = b'{"at": 1709294400, "req": {"url": "/b"}, "who": {"name": 17}}'
    record = reader_of(fields=fields)(line)
    assert (record.url, record.user) == (b"/b", b"17")


@pytest.mark.parametrize(
    "own", [{"url": "/a"}, {"request_uri": "/a"}, {"RequestPath": "/a"}, {"request": {"uri": "/a"}}]
)
def test_kind_is_told_beside_the_names_of_every_server(own):
    line = {"time": 1709294400, "ts": 1709294400, "user": "theo", "remote_user": "theo", "user_id": "theo"}
    line |= {"ClientUsername": "theo"} | own
    assert reader_of()(json.dumps(line).encode()).kind == b""
    assert reader_of()(json.dumps(line | {"kind": "hidden"}).encode()).kind == b"hidden"
    fields = JSON_PRESETS["json"]._replace(kind="who.is")
    line = {"time": 1709294400, "user": "theo", "url": "/a", "kind": "boss", "who": {"is": "guest"}}
    assert reader_of(fields=fields)(json.dumps(line).encode()).kind == b"guest"


def test_header_that_came_twice_is_told_whole():
    line = as_json(forwarded=["203.0.113.9", "198.51.100.7"])
    assert reader_of()(line).forwarded == b"203.0.113.9,198.51.100.7"


@pytest.mark.parametrize("empty", ["", "-", None])
def test_agent_that_is_there_and_empty_was_not_sent(empty):
    line = json.loads(as_json()) | {"agent": empty}
    assert reader_of()(json.dumps(line).encode()).agent == b"-"
    assert reader_of()(as_json(agent=None)).agent == b""  # the line does not tell
    assert reader_of()(COMBINED.replace(AGENT, (empty or "").encode())).agent == b"-"
    assert reader_of()(COMBINED.partition(b' "-" ')[0]).agent == b""
    assert reader_of(NGINX)(COMBINED.replace(AGENT, b"")).agent == b"-"


def caddy_line(headers, **changed):
    request = {"client_ip": "::1", "method": "GET", "host": "h", "uri": "/a"} | changed
    if headers is not None:
        request["headers"] = headers
    return json.dumps({"ts": 1709294400, "status": 200, "request": request}).encode()


def test_headers_that_are_told_tell_of_each_and_in_any_case():
    assert reader_of()(caddy_line({})).agent == b"-"
    assert reader_of()(caddy_line(None)).agent == b""
    assert reader_of()(caddy_line({"user-agent": ["A/1"]})).agent == b"A/1"
    assert reader_of()(caddy_line({"USER-AGENT": "A/1", "x-forwarded-for": ["1.1.1.1"]})).forwarded == b"1.1.1.1"
    assert reader_of()(caddy_line({"forwarded": ["for=1.1.1.1"]})).forwarded == b"for=1.1.1.1"
    assert reader_of()(traefik_line()).agent == b""
    assert reader_of()(traefik_line(**{"request_User-Agent": ""})).agent == b"-"


def traefik_line(**more):
    return json.dumps({"RequestPath": "/a", "ClientHost": "::1", "StartUTC": "2024-03-01T12:00:00Z"} | more).encode()


@pytest.mark.parametrize("empty", ["", "-", None])
def test_field_that_is_empty_gives_way_to_the_next(empty):
    line = caddy_line({}, client_ip=empty, remote_ip="192.0.2.1")
    assert reader_of()(line).address == b"192.0.2.1"


def test_purpose_is_told_by_headers_where_they_are():
    nginx = {"time_local": DATE.decode(), "request_uri": "/a", "remote_addr": "::1"}
    for line in (
        as_json(purpose="prefetch"),
        caddy_line({"User-Agent": ["A/1"], "Sec-Purpose": ["prefetch;prerender"]}),
        caddy_line({"sec-purpose": "prefetch"}),
        caddy_line({"X-Moz": ["prefetch"]}),
        traefik_line(**{"request_Sec-Purpose": "prefetch"}),
        json.dumps(nginx | {"http_purpose": "prefetch"}).encode(),
    ):
        assert reader_of()(line).purpose.startswith(b"prefetch")
    for line in (
        caddy_line({"Hx-Request": ["true"]}),
        caddy_line({"X-Requested-With": ["XMLHttpRequest"]}),
        json.dumps(nginx | {"http_x_requested_with": "XMLHttpRequest"}).encode(),
        json.dumps(nginx | {"http_hx_request": "true"}).encode(),
    ):
        assert reader_of()(line).purpose == b"fragment"
    for line in (
        as_json(),
        caddy_line({"X-Requested-With": ["com.example.app"]}),
        caddy_line({"Hx-Request": ["true"], "Hx-Boosted": ["true"]}),
        traefik_line(),
        json.dumps(nginx).encode(),
    ):
        assert reader_of()(line).purpose == b""
    assert reader_of('%h %t "%r" "%{Sec-Purpose}i"')(b"h [" + DATE + b'] "GET / H" "prefetch"').purpose == b"prefetch"
    assert reader_of('$msec $remote_addr $uri "$http_x_moz"')(b'1709294400 h /a "prefetch"').purpose == b"prefetch"


@pytest.mark.parametrize("name", ["time_iso8601", "@timestamp", "timestamp", "ts"])
def test_time_may_have_another_name(name):
    line = json.dumps({name: "2024-03-01T12:00:00Z", "url": "/a", "address": "::1"}).encode()
    assert reader_of()(line).seen_ms == NOON_MS


def test_whole_request_line_tells_method_and_url():
    line = {"@timestamp": "2024-03-01T12:00:00Z", "request": "POST /a?b=1 HTTP/2.0", "remote_addr": "::1"}
    record = reader_of()(json.dumps(line).encode())
    assert (record.method, record.url) == (b"POST", b"/a?b=1")
    line |= {"request": "\x16\x03\x01", "status": 400}
    assert reader_of()(json.dumps(line).encode()).status == b"400"


@pytest.mark.parametrize(
    "given", [{"url": ""}, {"url": None}, {"address": ""}, {"url": "", "address": "", "method": ""}]
)
def test_request_that_was_refused_is_understood_whatever_else_it_lacks(given):
    assert reader_of()(as_json(status=400, **given)).status == b"400"
    assert isinstance(reader_of()(as_json(status=200, **given)), str)


def test_status_may_be_a_number_of_any_kind():
    assert {reader_of()(as_json(status=status)).status for status in (200, 200.0, "200")} == {b"200"}


@pytest.mark.parametrize("depth", [10, 900, 990, 1_000, 1_020])
def test_lists_in_lists_are_no_text(depth):
    nested = b"[" * depth + b"1709294400" + b"]" * depth
    read = reader_of()
    for _ in range(2):
        assert isinstance(read(as_json(time="@").replace(b'"@"', nested)), str)
        assert isinstance(read(as_json(url="@").replace(b'"@"', nested)), str)


def test_bytes_that_are_not_utf_8_stay_as_they_are():
    line = as_json().replace(b"/a?b=1", b"/\xe9\xff")
    assert reader_of()(line).url == b"/\xe9\xff"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not a JSON object"),
        (as_json()[:-10], "not a JSON object"),
        (b'{"url": "/\\ud800", "time": 1709294400, "address": "h"}', "a lone surrogate in the text"),
        (as_json(time=None), "no time in field time; --fields time=NAME reads another field"),
        (as_json(time="noon"), 'time is not a time: "noon"'),
        (as_json(time=True), "no time in field time; --fields time=NAME reads another field"),
        (as_json(url=None), "no url in field url; --fields url=NAME reads another field"),
        (as_json(url={"a": 1}), "no url in field url; --fields url=NAME reads another field"),
        (as_json(address=None), "no user and no address"),
        (b'{"time": Infinity, "url": "/", "address": "h"}', 'time is not a time: "inf"'),
        (b'{"time": 1e400, "url": "/", "address": "h"}', 'time is not a time: "inf"'),
    ],
)
def test_json_line_without_what_is_needed_says_so(line, reason):
    assert reader_of()(line) == reason


# --- LogFormat and log_format

APACHE = '%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\" %{session}C'
NGINX = '$remote_addr - $remote_user [$time_local] "$request" $status $bytes_sent "$http_referer" "$http_user_agent"'


def test_log_format_of_apache():
    line = b"www.example.org:443 " + COMBINED + b" s=7"
    assert reader_of(APACHE, visitor="%{session}C")(line) == RECORD._replace(host=b"www.example.org", visitor=b"s=7")


def test_log_format_of_nginx():
    assert reader_of(NGINX)(COMBINED) == RECORD


@pytest.mark.parametrize(
    ("form", "line", "expected"),
    [
        ("%a %u %{sec}t %m %U%q %s", b"h theo 1709294400 GET /a?b=1 200", ("theo", "GET", "/a?b=1", "200")),
        ("%a %u %{%FT%T%z}t %m %U %!200s", b"h - 2024-03-01T13:00:00+0100 GET /a -", ("-", "GET", "/a", "-")),
        ('$msec|$remote_addr|"$request"', b'1709294400.000|h|"GET /a b HTTP/1.1"', ("-", "GET", "/a", "")),
        ('$msec ${remote_addr} "$request"', b'1709294400.000 h "\\x16\\x03"', ("-", "", "\\x16\\x03", "")),
        ('%t %h "%r" %D', b"[" + DATE + b'] h "GET /\\"a HTTP/1.1" 17', ("-", "GET", '/\\"a', "")),
    ],
)
def test_formats_of_ones_own(form, line, expected):
    record = reader_of(form)(line)
    assert record.seen_ms == NOON_MS
    assert tuple(each.decode() for each in (record.user, record.method, record.url, record.status)) == expected


def test_line_may_end_as_in_dos():
    assert reader_of(NGINX)(COMBINED + b"\r") == RECORD


def test_line_that_is_not_in_the_format_says_so():
    assert reader_of(NGINX)(b"h - - nonsense") == "not in the given format"
    assert reader_of(NGINX)(b"") == "empty line"


@pytest.mark.parametrize(
    ("form", "missing"), [("%h %u %t", "url"), ('%h "%r"', "time"), ('%t "%r"', "user"), ("%{%H:%M}t %r %h", "time")]
)
def test_format_that_does_not_tell_what_is_needed_is_refused(form, missing):
    with pytest.raises(ConfigError, match=f"has no {missing}"):
        reader_of(form)


def test_unknown_format_is_refused():
    with pytest.raises(ConfigError, match='or a LogFormat, not "xml"'):
        reader_of("xml")


@given(st.binary(max_size=200))
@example(b"{}")
@example(b'{"time": null}')
def test_any_bytes_are_a_record_or_have_a_reason(line):
    for name in ("auto", "json", "caddy", "vhost", "tsv", NGINX, APACHE):
        assert isinstance(reader_of(name)(line), Record | str)


def test_tab_separated_values():
    assert reader_of("tsv")(b"theo\t/a,b\t1709294400")[:5] == (NOON_MS, b"", b"theo", b"", b"/a,b")
