"""Bytes to requests: whole, a byte at a time, pipelined and mutated; what is refused, and with which status."""

import random

import pytest

from online.http.messages import Request
from online.http.reader import MAX_EXTRA_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, Reader, Refusal

LIMIT = 1000


def read(*pieces, limit=LIMIT):
    reader = Reader(lambda request: limit)
    for piece in pieces:
        reader.receive(piece)
    return list(reader.events)


def bytewise(data):
    return [data[place : place + 1] for place in range(len(data))]


GOOD = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /api/v1/page?url=%2Fa%FF HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Empty:\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",  # noqa: E501
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET http://b/path?q=http://c/ HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("data", GOOD)
def test_a_request_is_the_same_however_it_is_cut(data):
    [whole] = read(data)
    assert isinstance(whole, Request)
    assert read(*bytewise(data)) == [whole]
    for place in range(1, len(data)):
        assert read(data[:place], data[place:]) == [whole]


def test_a_request_is_what_was_sent():
    [request] = read(GOOD[4])
    assert (request.method, request.target, request.body) == ("POST", b"/x", b"hello")
    assert b"trailer" not in request.headers
    [request] = read(GOOD[6])
    assert (request.path, request.query()) == (b"/path", {"q": [b"http://c/"]})
    assert request.headers[b"host"] == b"b"
    [request] = read(GOOD[1])
    assert request.query() == {"url": [b"/a\xff"]}


def test_pipelined_requests_come_in_their_order():
    data = b"".join(GOOD[:2] + GOOD[3:5])
    assert [event.target for event in read(data)] == [b"/", b"/api/v1/page?url=%2Fa%FF", b"/x", b"/x"]
    assert read(*bytewise(data)) == read(data)


def test_after_the_last_request_nothing_is_read():
    data = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
    for events in (read(data), read(*bytewise(data))):
        assert [(event.target, event.keep_alive) for event in events] == [(b"/1", False)]


def test_no_other_protocol_is_spoken():
    data = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
    [request] = read(data)
    assert not request.keep_alive


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

#: What servers read in different ways, and what is no HTTP/1.1 at all.
BAD = {
    "both lengths": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, other order": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length with a sign": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "length list": HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    "length of letters": HEAD + b"Content-Length: 0x3\r\n\r\nabc",
    "fold": HEAD + b"X: a\r\n b\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF between headers": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "identity and chunked": HEAD + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip and chunked": HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice, other case": HEAD + b"transfer-encoding: chunked\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "chunked twice in a line": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk with bare LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "negative chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
    "endless chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two tokens": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "raw bytes in the target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "target without a host": b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
    "target without a slash": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
}

#: What comes between the chunks of a body, and is too much.
ENDLESS = {
    "chunks with endless extensions": CHUNKED + b"1;" + b"x" * 4096 + b"\r\na\r\n" + b"1;" + b"y" * 20_000 + b"\r\n",
    "one extension without end": CHUNKED + b"1;" + b"x" * 20_000,
    "a small extension of each chunk": CHUNKED + b"1;abcdefghijklmnopqrstuvwxyz=a\r\na\r\n" * 900,
    "a length of zeros": CHUNKED + b"0" * 20_000 + b"1\r\na\r\n",
    "headers behind the body": CHUNKED + b"0\r\n" + b"a: b\r\n" * 90 + b"x: " + b"y" * 20_000,
}

OTHER_STATUS = {
    HEAD + b"Transfer-Encoding: xchunked\r\n\r\n": 501,
    HEAD + b"Transfer-Encoding: identity\r\n\r\n": 501,
    b"GET /\r\n\r\n": 505,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 505,
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n": 501,
    b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n": 501,
    b"\x16\x03\x01\x02\x00\x01\x00": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n": 417,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n": 413,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n": 413,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001: 413,
    b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n": 414,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n": 431,
}


def status_of(events):
    [refusal] = events
    assert isinstance(refusal, Refusal), refusal
    return refusal.status


@pytest.mark.parametrize(
    ("data", "status"),
    [*((data, 400) for data in (BAD | ENDLESS).values()), *OTHER_STATUS.items()],
    ids=[*BAD, *ENDLESS, *(f"{status}-{place}" for place, status in enumerate(OTHER_STATUS.values()))],
)
def test_what_is_wrong_is_refused_however_it_is_cut(data, status):
    assert status_of(read(data)) == status
    assert status_of(read(*bytewise(data))) == status
    first = GOOD[0]
    [request, refusal] = read(first + data)
    assert (request.target, refusal.status) == (b"/", status)


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\n", ("target", MAX_TARGET_BYTES)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n", ("headers", MAX_HEAD_BYTES)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * (MAX_HEADERS + 2), ("headers", MAX_HEADERS)),
        (CHUNKED + b"1;" + b"x" * 30_000, ("transfer-encoding", MAX_EXTRA_BYTES)),
    ],
    ids=["target", "head", "headers", "extension"],
)
def test_what_is_too_long_is_told_with_the_limit_and_how_long_it_is(data, facts):
    for pieces in ([data], bytewise(data)):
        [refusal] = read(*pieces)
        assert (refusal.field, refusal.limit) == facts
        assert refusal.limit < refusal.value <= len(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BAD["two lengths"], "malformed request: duplicate Content-Length"),
        (b"FOO / HTTP/1.1\r\n", "not an HTTP method"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(data, said):
    [refusal] = read(data)
    assert refusal.detail.startswith(said)


@pytest.mark.parametrize("chunk", [b"1\r\na\r\n", b"1;a=b\r\na\r\n", b"a" + b"\r\n" + b"b" * 10 + b"\r\n"])
def test_a_body_of_many_chunks_is_read(chunk):
    data = CHUNKED + chunk * 3_000 + b"0\r\n\r\n"
    for pieces in ([data], bytewise(data)):
        [request] = read(*pieces, limit=30_000)
        assert len(request.body) == 3_000 * (10 if chunk[:1] == b"a" else 1)


def test_short_chunks_do_not_save_up_for_a_long_extension():
    events = read(CHUNKED + b"1\r\na\r\n" * 100_000 + b"1;" + b"x" * 1_000_000, limit=200_000)
    assert [event.field for event in events] == ["transfer-encoding"]


def test_after_a_refusal_nothing_is_read():
    assert len(read(BAD["bare LF"], *GOOD)) == 1


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\n", b"GET "])
def test_a_head_that_does_not_end_is_not_kept(begin):
    reader = Reader(lambda request: LIMIT)
    reader.receive(begin)
    for _ in range(100):
        reader.receive(b"/" * 1024)
        assert reader.kept_bytes < 2 * MAX_HEAD_BYTES
    [refusal] = reader.events
    assert refusal.status in (400, 414, 431)


def test_who_waits_to_send_a_body_is_known():
    reader = Reader(lambda request: LIMIT)
    reader.receive(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.wants_continue
    reader.receive(b"ok")
    assert not reader.wants_continue
    assert reader.events[0].body == b"ok"


def test_garbage_gives_requests_and_refusals_alone():
    chosen = random.Random(1)
    for _ in range(1500):
        data = bytearray(b"".join(chosen.choices([*GOOD, *BAD.values()], k=2)))
        for _ in range(chosen.randrange(1, 4)):
            place = chosen.randrange(len(data))
            match chosen.randrange(3):
                case 0:
                    data[place] = chosen.randrange(256)
                case 1:
                    del data[place : place + chosen.randrange(1, 9)]
                case 2:
                    data[place:place] = chosen.choice([b"\r\n", b"\n", b" ", b"\0", b":", b"0"])
            data = data or bytearray(b"x")
        events = read(bytes(data))
        assert all(isinstance(event, Request | Refusal) for event in events)
        assert not any(isinstance(event, Refusal) for event in events[:-1])
        cut = chosen.randrange(len(data))
        assert read(bytes(data[:cut]), bytes(data[cut:])) == events
