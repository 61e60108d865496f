"""Access-log lines -> hits: what is a hit, what is skipped and why, and how logs are read, damaged or not."""

import argparse
import bz2
import doctest
import gzip
import io
import lzma
import socket
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.logs import hitlog
from online.logs.hitlog import (
    MAX_LINE_BYTES,
    MAX_SAMPLES,
    AccessLogParser,
    CsvColumns,
    CsvParser,
    LogError,
    LoggedHit,
    LogReader,
    SkippedLine,
    add_format_arguments,
    log_bytes,
    reader_from,
)
from online.logs.records import MAX_DAYS, Dates

NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
NOON = b"01/Mar/2024:12:00:00 +0000"
GOOD = b'h1 - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 5'
HIT = LoggedHit(b"h1", b"/a", NOON_MS)


def line(request=b"GET /a HTTP/1.1", *, host=b"h1", ident=b"-", user=b"-", date=NOON, rest=b" 200 5"):
    return host + b" " + ident + b" " + user + b" [" + date + b'] "' + request + b'"' + rest


def parse(text):
    return AccessLogParser().parse(text)


def read_all(path, reader=None):
    """Read a log to its end or its damage: the hits, the error or None, and the reader."""
    reader = reader or LogReader()
    hits, error = [], None
    try:
        for hit in reader.read(str(path)):
            hits.append(hit)
    except LogError as caught:
        error = str(caught)
    return hits, error, reader


@pytest.fixture
def log(tmp_path):
    def write(content, name="access.log"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def stdin(monkeypatch):
    def give(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(hitlog).failed == 0


def xz(content):
    return lzma.compress(content)


PACKERS = [gzip.compress, bz2.compress, xz]


@pytest.mark.parametrize("pack", PACKERS)
def test_packed_log_is_read_whatever_its_name(log, pack):
    content = b"".join(GOOD.replace(b"/a", b"/%d" % number) + b"\n" for number in range(20_000))
    path = log(pack(content[:500_000]) + pack(content[500_000:]))
    hits, error, _ = read_all(path)
    assert error is None
    assert [hit.url for hit in hits] == [b"/%d" % number for number in range(20_000)]


@pytest.mark.parametrize("pack", [bz2.compress, xz])
def test_all_before_the_damage_of_a_packed_log_is_read(log, pack):
    packed = pack(b"".join(GOOD.replace(b"/a", b"/%d" % number) + b"\n" for number in range(200_000)))
    hits, error, reader = read_all(log(packed[:-20]))
    assert f"is damaged after line {reader.lines}: " in error
    assert len(hits) > 0
    _, error, _ = read_all(log(packed[:100] + b"\xff" * 100 + packed[200:]))
    assert "is damaged after line" in error


@pytest.mark.parametrize(
    ("magic", "how"),
    [
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it first: zstd -dc FILE"),
        (b"PK\x03\x04", "is compressed with zip; decompress it first: unzip -p FILE"),
        (b"\x04\x22\x4d\x18", "is compressed with lz4; decompress it first: lz4 -dc FILE"),
        (b"\x1f\x9d", "is compressed with compress; decompress it first: zcat FILE"),
    ],
)
def test_packing_that_is_not_read_is_named_once(log, magic, how):
    hits, error, reader = read_all(log(magic + b"\n" * 100))
    assert (hits, reader.lines, reader.skipped) == ([], 0, 0)
    assert how in error


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_log_that_an_editor_has_saved_is_read(log, encoding):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    text = (GOOD.decode() + "\r\n") * 2
    assert read_all(log(mark + text.encode(encoding)))[0] == [HIT, HIT]


def test_zeros_before_a_line_are_no_part_of_it(log):
    hits, error, reader = read_all(log(b"\0" * 1_000_000 + GOOD + b"\n" + b"\0" * 7 + GOOD + b"\n\0\0"))
    assert (hits, error, reader.skipped) == ([HIT, HIT], None, 0)


def test_host_named_like_bzip2_is_a_host(log):
    assert read_all(log(line(host=b"BZh1")))[0] == [LoggedHit(b"bzh1", b"/a", NOON_MS)]


# --- common and combined format


@pytest.mark.parametrize(
    "rest",
    [
        b" 200 5",
        b" 304 -",
        b" - -",
        b" 200 5 ",
        b" 200 5\r",
        b' 200 5 "-" "-"',
        b' 200 5 "http://example.org/?q=a b" "Agent/1.0 (like \\"others\\")"',
        b' 200 5 "-" "Agent" ',
        b' 200 5 "-" "Agent" 0.003 0.002 . "203.0.113.7, 203.0.113.8" -',
        b' 200 5 "-" "backslash at the end \\\\"',
        b" 200 5 17",
    ],
)
def test_what_follows_the_request_may_be_common_combined_or_more(rest):
    assert parse(line(rest=rest)) == HIT


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (b"-", b"h1"),
        (b"theo", b"theo"),
        (b'""', b'""'),
        (b"Ada Lovelace", b"Ada Lovelace"),
        (b"ada@example.org", b"ada@example.org"),
        (b"SHOP\\ada", b"SHOP\\ada"),
        (b"\xe9t\xe9", b"\xe9t\xe9"),
        (b"--", b"--"),
    ],
)
def test_user_is_the_authenticated_user_as_logged_or_else_the_host(user, expected):
    assert parse(line(user=user)) == LoggedHit(expected, b"/a", NOON_MS)


@pytest.mark.parametrize("host", [b"198.51.100.7", b"2001:db8::7", b"www.example.org", b"::1"])
def test_host_may_be_an_address_or_a_name(host):
    assert parse(line(host=host)) == LoggedHit(host, b"/a", NOON_MS)


@pytest.mark.parametrize(
    ("request_line", "url"),
    [
        (b"GET /a HTTP/1.1", b"/a"),
        (b"GET /a?b=c&d=%20 HTTP/2.0", b"/a?b=c&d=%20"),
        (b"GET /a", b"/a"),
        (b"GET  /a HTTP/1.1", b"/a"),
        (b"GET /a b HTTP/1.1", b"/a"),
        (b"M-SEARCH * HTTP/1.1", b"*"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"CONNECT example.org:443 HTTP/1.1", b"example.org:443"),
        (b"GET http://example.org/a HTTP/1.1", b"http://example.org/a"),
        (b'GET /say/\\"hi\\" HTTP/1.1', b'/say/\\"hi\\"'),
        (b"GET /\\xC3\\xA9 HTTP/1.1", b"/\\xC3\\xA9"),
        (b"GET /\xff\xfe HTTP/1.1", b"/\xff\xfe"),
        (b"-", b"-"),
        (b"", b"-"),
        (b"GET", b"GET"),
        (b"GET ", b"GET "),
        (b"\\x16\\x03\\x01\\x02\\x00 \\x01", b"\\x16\\x03\\x01\\x02\\x00 \\x01"),
        (b'\\x03 \\"Cookie: a=b', b'\\x03 \\"Cookie: a=b'),
        (b"t3 12.1.2\\n", b"12.1.2\\n"),
    ],
)
def test_url_is_the_target_or_all_of_a_request_without_method(request_line, url):
    assert parse(line(request_line)) == LoggedHit(b"h1", url, NOON_MS)


def test_prefix_stands_before_every_url():
    assert AccessLogParser(url_prefix=b"//shop").parse(GOOD) == LoggedHit(b"h1", b"//shop/a", NOON_MS)


@pytest.mark.parametrize(
    ("date", "utc"),
    [
        (b"01/Mar/2024:12:00:00 +0000", "2024-03-01T12:00:00+00:00"),
        (b"01/Mar/2024:12:00:00 -0000", "2024-03-01T12:00:00+00:00"),
        (b"29/Feb/2024:23:30:00 -0330", "2024-03-01T03:00:00+00:00"),
        (b"01/Jan/2024:00:15:00 +0545", "2023-12-31T18:30:00+00:00"),
        (b"31/Dec/2023:23:59:59 +1400", "2023-12-31T09:59:59+00:00"),
        (b"31/Dec/2016:23:59:60 +0000", "2017-01-01T00:00:00+00:00"),
        (b"27/Oct/2024:02:59:59 +0200", "2024-10-27T00:59:59+00:00"),
        (b"27/Oct/2024:02:00:00 +0100", "2024-10-27T01:00:00+00:00"),
        (b"31/Dec/2100:23:59:59 +0000", "2100-12-31T23:59:59+00:00"),
    ],
)
def test_date_is_read_in_its_zone(date, utc):
    assert parse(line(date=date)).seen_ms == datetime.fromisoformat(utc).timestamp() * 1000


def test_one_parser_reads_dates_of_several_zones_and_days_in_any_order():
    parser = AccessLogParser()
    dates = [b"01/Mar/2024:12:00:%02d +0%d00" % (second, zone) for second in (5, 4, 5) for zone in (0, 2, 1)]
    seconds = [(parser.parse(line(date=date)).seen_ms - NOON_MS) // 1000 for date in dates]
    assert seconds == [second - 3600 * zone for second in (5, 4, 5) for zone in (0, 2, 1)]


def test_no_more_days_are_kept_than_a_few():
    dates = Dates()
    for year in range(1980, 2080):
        for month in (b"Jan", b"Feb", b"Mar"):
            for day in range(1, 21):
                dates.read(b"%02d/%s/%d:00:00:00 +0000" % (day, month, year))
    assert len(dates._days) <= MAX_DAYS


@pytest.mark.parametrize(
    "date",
    [
        b"30/Feb/2024:12:00:00 +0000",
        b"00/Mar/2024:12:00:00 +0000",
        b"01/Mrz/2024:12:00:00 +0000",
        b"01/Mar/0000:12:00:00 +0000",
        b"01/Mar/2024:24:00:00 +0000",
        b"01/Mar/2024:12:00:61 +0000",
    ],
)
def test_time_that_never_was_is_named(date):
    assert parse(line(date=date)) == f'invalid time: "{date.decode()}"'


@pytest.mark.parametrize(
    "date",
    [
        b"March 1, 2024T12:00:00 +0000",
        b"2024-03-01T12:00:00+00:00",
        b"01/Mar/2024:12:00:00",
        b"01/Mar/2024:12:60:00 +0000",
        b"01/Mar/2024:12:00:00 +9900",
        b"1709294400",
        b"",
    ],
)
def test_date_of_another_form_is_named(date):
    assert parse(line(date=date)) == "the date is not written like [10/Oct/2000:13:55:36 -0700]"


@pytest.mark.parametrize("year", [b"0001", b"1970", b"9999"])
def test_time_that_no_index_takes_is_named(year):
    assert parse(line(date=b"01/Mar/" + year + b":12:00:00 +0000")) == "the time is before 1973 or after 5138"


@pytest.mark.parametrize(
    "text",
    [
        b"Error: out of workers",
        b'{"host": "h1", "request": "GET /a HTTP/1.1"}',
        b"www.example.org:443 " + GOOD[:-4],
        b"2001:db8::7 " + GOOD,
        GOOD[:-4],
        line(rest=b' 200 5 "-" "cut off in the mid'),
        line(rest=b' 200 5 "-" "Agent h2 - - [01/Mar/2024:12:00:01 +0000] "GET /b HTTP/1.1" 200 5 "-" "-"'),
        line(rest=b' 200 5 "-" "an "unescaped" quote"'),
        line(b'GET /"a" HTTP/1.1'),
        line(b"GET /a HTTP/1.1\\"),
        b"\0\0\0\0" + GOOD,
        b"h\0" + GOOD,
        line(user=b"th\0eo"),
        b" " + GOOD,
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    ],
)
def test_line_of_another_form_is_no_hit(text):
    assert parse(text) == "not in common or combined format"


@pytest.mark.parametrize("host", [b"www.example.org", b"www.example.org:443", b"127.0.1.1:80", b"*:80"])
def test_line_of_a_virtual_host_is_named(host):
    combined = line(rest=b' 200 5 "-" "Agent"')
    assert parse(host + b" " + combined) == "begins with a host name, as in vhost_combined; use --format vhost"


@pytest.mark.parametrize("text", [b"", b"\r", b"  \t"])
def test_empty_line_is_no_hit(text):
    assert parse(text) == "empty line"
    assert CsvParser(CsvColumns(0, 1, 2)).parse(text) == "empty line"


def test_names_are_taken_up_to_the_limits_of_an_index():
    found = parse(line(b"GET /" + b"u" * 2047 + b" HTTP/1.1", user=b"n" * 256))
    assert (len(found.user), len(found.url)) == (256, 2048)


def test_name_beyond_the_limits_of_an_index_is_no_hit():
    assert parse(line(user=b"n" * 257)) == "the user has 257 bytes, the limit is 256"
    assert parse(line(b"GET /" + b"u" * 2048)) == "the url has 2,049 bytes, the limit is 2,048"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_hit_or_have_a_reason(text):
    for parser in (AccessLogParser(), CsvParser(CsvColumns(0, 1, 2))):
        assert isinstance(parser.parse(text), LoggedHit | str)


@given(st.data())
def test_mutated_line_is_a_hit_or_has_a_reason(data):
    text = bytearray(line(user=b"theo", rest=b' 200 5 "-" "Agent (\\"x\\")" extra'))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b" ", b'"', b"\\", b"[", b"]", b"-", b"\0", b"9", b"/", b"\xff", b"\r"])
        )
    found = parse(bytes(text))
    assert isinstance(found, str) or (0 < len(found.user) <= 256 and 0 < len(found.url) <= 2048)


# --- CSV


def csv_hit(text):
    return CsvParser(CsvColumns(user=0, url=1, time=4), url_prefix=b"/item/").parse(text)


def test_csv_takes_the_named_columns():
    assert csv_hit(b"u7,12,ignored,,1709294400") == LoggedHit(b"u7", b"/item/12", NOON_MS)


@pytest.mark.parametrize(
    ("time", "seen_ms"),
    [
        (b"1709294400", NOON_MS),
        (b"1709294400000", NOON_MS),
        (b"1709294400250", NOON_MS + 250),
        (b"1709294400250000", NOON_MS + 250),
        (b"1709294400.25", NOON_MS + 250),
        (b"1709294400.", NOON_MS),
        (b"2024-03-01T12:00:00Z", NOON_MS),
        (b"2024-03-01 12:00:00", NOON_MS),
        (b"2024-03-01T12:00:00.250999+00:00", NOON_MS + 250),
        (b"2024-03-01T07:00:00-05:00", NOON_MS),
        (b" 1709294400 \r", NOON_MS),
        (b'"1709294400"', NOON_MS),
    ],
)
def test_csv_time_may_be_seconds_milliseconds_or_iso_8601(time, seen_ms):
    assert csv_hit(b"u7,12,,," + time) == LoggedHit(b"u7", b"/item/12", seen_ms)


def test_csv_field_may_be_quoted():
    assert csv_hit(b'"a ""b"", c",\xff,,,1709294400') == LoggedHit(b'a "b", c', b"/item/\xff", NOON_MS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"u7,12,1709294400", "too few fields: 3, at least 5 are needed"),
        (b"u7,12,,,17092944", "the time is before 1973 or after 5138"),
        (b"u7,12,,,2024-02-30", 'invalid time: "2024-02-30"'),
        (b"u7,12,,,-1", 'invalid time: "-1"'),
        (b"u7,12,,,noon", "no time"),
        (b"u7,12,,,", "no time"),
        (b",12,,,1709294400", "the user is empty"),
        (b"u7,,,,1709294400", "the url is empty"),
        (b'u7,12\r3,,"",1709294400', "too few fields: 0, at least 5 are needed"),
    ],
)
def test_csv_line_that_is_no_hit_has_a_reason(text, reason):
    assert csv_hit(text) == reason


def test_csv_header_is_neither_hit_nor_skipped_but_only_in_the_first_line_of_a_log(log):
    reader = LogReader(CsvParser(CsvColumns(user=0, url=1, time=2)).parse)
    path = log(b"user,url,time\nu7,/a,1709294400\nuser,url,time\n")
    hits, error, _ = read_all(path, reader)
    again, _, _ = read_all(path, reader)
    assert hits == again == [LoggedHit(b"u7", b"/a", NOON_MS)]
    assert error is None
    assert (reader.lines, reader.skipped) == (6, 2)
    assert reader.samples[0] == SkippedLine(str(path), 3, '"user,url,time"', "no time")


# --- reading logs


@pytest.mark.parametrize(
    "content",
    [
        GOOD + b"\n" + GOOD + b"\n",
        GOOD + b"\n" + GOOD,
        GOOD + b"\r\n" + GOOD + b"\r\n",
        gzip.compress(GOOD + b"\n" + GOOD + b"\n"),
        gzip.compress(GOOD) + gzip.compress(b"\n" + GOOD),
        gzip.compress(GOOD + b"\n" + GOOD) + b"\0" * 512,
        gzip.compress(GOOD + b"\n") + b"\0" * 5 + gzip.compress(GOOD),
    ],
    ids=["plain", "no last newline", "CR LF", "packed", "two members", "zeros behind", "zeros between"],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 128 * 1024])
def test_log_gives_the_same_hits_plain_or_gzip_in_pieces_of_any_size(log, monkeypatch, content, chunk_bytes):
    monkeypatch.setattr(hitlog, "_CHUNK_BYTES", chunk_bytes)
    hits, error, reader = read_all(log(content))
    assert (hits, error, reader.lines, reader.skipped) == ([HIT, HIT], None, 2, 0)
    assert reader.bytes_read == len(content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_dash_is_standard_input(stdin, pack):
    stdin(pack(GOOD + b"\n"))
    hits, error, reader = read_all("-")
    assert (hits, error, reader.lines) == ([HIT], None, 1)


def test_gzip_is_told_by_content_not_by_name(log):
    assert read_all(log(GOOD, "access.log.gz"))[0] == [HIT]
    assert read_all(log(gzip.compress(GOOD), "access.log"))[0] == [HIT]


def test_lines_that_are_no_hits_are_counted_and_the_first_few_kept(log):
    path = log(GOOD + b"\nnonsense \x1b[31m \xff\n" + b"more\n" * 100 + GOOD)
    hits, error, reader = read_all(path)
    assert (hits, error, reader.lines, reader.skipped) == ([HIT, HIT], None, 103, 101)
    assert len(reader.samples) == MAX_SAMPLES
    assert reader.samples[0] == SkippedLine(
        str(path), 2, r'"nonsense \x1b[31m \xff"', "not in common or combined format"
    )


def test_several_logs_add_up_and_number_their_own_lines(log):
    reader = LogReader()
    read_all(log(GOOD + b"\nbad\n", "1"), reader)
    read_all(log(GOOD + b"\n" + GOOD + b"\nworse\n", "2"), reader)
    assert (reader.lines, reader.skipped) == (5, 2)
    assert [(sample.log[-1], sample.number, sample.text) for sample in reader.samples] == [
        ("1", 2, '"bad"'),
        ("2", 3, '"worse"'),
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_line_of_a_megabyte_is_skipped_without_being_kept(log, pack):
    hits, error, reader = read_all(log(pack(GOOD + b"\n" + b"x" * 1_000_000 + b"\n" + GOOD)))
    assert (hits, error, reader.lines, reader.skipped) == ([HIT, HIT], None, 3, 1)
    assert reader.samples[0].reason == "longer than 65,536 bytes"
    assert len(reader.samples[0].text) < 100


def test_no_more_of_a_line_is_kept_than_the_longest_that_is_taken():
    kept = [len(piece) for pieces in hitlog._split(iter([b"x" * 100_000] * 20)) for piece in pieces]
    assert kept == [MAX_LINE_BYTES + 1]


def test_longest_line_is_taken(log):
    text = GOOD + b" " + b"x" * (MAX_LINE_BYTES - len(GOOD) - 1)
    assert read_all(log(text + b"\n"))[0] == [HIT]
    assert read_all(log(text + b"x\n"))[0] == []


def test_nothing_but_a_newline_ends_a_line(log):
    content = line(b"GET /a\x0b\x0c\x1c\x85b HTTP/1.1") + b"\n"
    assert read_all(log(content))[0] == [LoggedHit(b"h1", b"/a\x0b\x0c\x1c\x85b", NOON_MS)]


def test_missing_log_is_named():
    assert read_all("/nowhere/access.log")[1] == "cannot read /nowhere/access.log: No such file or directory"


def test_directory_is_named(tmp_path):
    assert read_all(tmp_path)[1] == f"cannot read {tmp_path}: it is a directory; name the files in it"


def test_unreadable_log_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as unreadable:  # even by root
        unreadable.bind("access.log")
        error = read_all("access.log")[1]
    assert error.startswith("cannot read access.log: ")


def test_log_that_fails_in_the_middle_is_named_and_counts_until_there(stdin, monkeypatch):
    class Failing(io.BytesIO):
        def read1(self, size=-1):
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read1(size)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Failing(GOOD + b"\n")))
    hits, error, _ = read_all("-")
    assert hits == [HIT]
    assert error == "cannot read standard input: Input/output error"


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["plain", "packed"])
def test_empty_log_is_named(log, content):
    path = log(content)
    assert read_all(path)[:2] == ([], f"{path} is empty")


def numbered(count):
    return [line(b"GET /%d HTTP/1.1" % number) for number in range(count)]


def test_gzip_cut_anywhere_gives_the_whole_lines_before_the_cut(log):
    lines = numbered(20)
    packed = gzip.compress(b"\n".join(lines))
    counts = []
    for length in range(2, len(packed)):
        hits, error, reader = read_all(log(packed[:length]))
        counts.append(len(hits))
        assert [hit.url for hit in hits] == [b"/%d" % number for number in range(len(hits))]
        assert error.endswith(f"is damaged after line {len(hits)}: the gzip data ends early")
        assert reader.skipped == 0
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 19  # the twentieth has no newline and might be cut


def test_gzip_damaged_in_the_middle_gives_the_lines_before_the_damage(log):
    lines = numbered(20_000)
    packed = bytearray(gzip.compress(b"\n".join(lines)))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    path = log(bytes(packed))
    hits, error, reader = read_all(path)
    assert error.startswith(f"{path} is damaged after line {reader.lines}: ")
    assert len(hits) > 5_000
    assert [hit.url for hit in hits[:5_000]] == [b"/%d" % number for number in range(5_000)]


def test_gzip_followed_by_something_else_is_damaged(log):
    path = log(gzip.compress(GOOD + b"\n") + b"something else")
    hits, error, _ = read_all(path)
    assert hits == [HIT]
    assert error.startswith(f"{path} is damaged after line 1: ")


@pytest.mark.parametrize("content", [b"\x1f", b"\x1f\x8b", b"\x1f\x8bnot really"])
def test_what_only_begins_like_gzip_gives_no_hit(log, content):
    hits, _, _ = read_all(log(content))
    assert hits == []


def test_sizes_of_logs_add_up_unless_one_is_unknown(log, tmp_path):
    first, second = str(log(b"12345", "1")), str(log(b"678", "2"))
    assert log_bytes([first, second]) == 8
    assert log_bytes([first, "-"]) is None
    assert log_bytes([first, str(tmp_path)]) is None


# --- the command line


def reader_of(*arguments):
    parser = argparse.ArgumentParser()
    add_format_arguments(parser)
    return reader_from(parser.parse_args(arguments))


@pytest.mark.parametrize("arguments", [[], ["--format", "common"], ["--format", "combined"]])
def test_format_is_common_or_combined_unless_told(log, arguments):
    assert read_all(log(GOOD), reader_of(*arguments))[0] == [HIT]


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        (["--format", "csv"], b"h1,/a,1709294400"),
        (["--format", "csv", "--columns", "time,,user,url"], b"1709294400,x,h1,/a"),
        (["--columns", "user,item,,,time", "--url-prefix", "/"], b"h1,a,x,y,1709294400"),
        (["--columns", " time , user , url "], b"1709294400,h1,/a"),
    ],
)
def test_columns_of_csv_are_named(log, arguments, content):
    assert read_all(log(content), reader_of(*arguments))[0] == [HIT]


@pytest.mark.parametrize("names", ["", "user,url", "user,user,url,time", "user,url,item,time", "user,url,time,kind"])
def test_wrong_columns_are_wrong_usage(capsys, names):
    with pytest.raises(SystemExit) as exit_info:
        reader_of("--columns", names)
    assert exit_info.value.code == 2
    assert "user, url (or item) and time" in capsys.readouterr().err
