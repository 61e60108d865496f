"""Batches of hits, turns, and back pressure on the wire."""

import msgpack
import pytest
from tests.wiring import (
    NOW,
    Wiring,
    drain,
    feed,
    head_of_batch,
    notification,
    one_pack,
    read_pack,
    request,
    resp,
)

#: Older than the window of 30 minutes.
LONG_AGO = NOW - 3_600_000


# Batches


def test_a_batch_tells_what_became_of_its_hits():
    wiring = Wiring()
    hits = [
        ["a", "/x"],
        ["b", "/x", NOW - 5],
        ["c", "/y", NOW, "guest"],
        ["a", "/z", NOW - 1],
        ["late", "/x", LONG_AGO],
    ]
    assert one_pack(feed(wiring.connect(), request("hits", *hits))) == [3, 2, 0, None]
    assert wiring.index.counts([b"/x", b"/y", b"/z"], now_ms=NOW) == [2, 1, 0]


@pytest.mark.parametrize("method", ["hits", "HITS", b"hiTS"])
def test_an_empty_batch(method):
    connection = Wiring().connect()
    assert one_pack(feed(connection, request(method))) == [0, 0, 0, None]
    assert (connection.frames, connection.in_frame) == (1, False)


def test_one_bad_hit_of_a_thousand_is_reported_and_the_others_taken():
    wiring = Wiring()
    hits = [[f"user{number}", "/x"] for number in range(1000)]
    hits[499] = ["", "/x"]
    accepted, ignored, refused, error = one_pack(feed(wiring.connect(), request("hits", *hits)))
    assert (accepted, ignored, refused) == (999, 0, 1)
    assert error == ["RANGE", "hit 500 of the batch: user is empty; it takes 1 to 256 bytes"]
    assert wiring.index.count(b"/x", now_ms=NOW) == 999
    assert wiring.index.statistics().refused == 1


def test_the_first_error_of_a_batch_is_told():
    hits = [["a", "/x"], ["a", "/x", "soon"], ["", "/x"]]
    accepted, _, refused, error = one_pack(feed(Wiring().connect(), request("hits", *hits)))
    assert (accepted, refused) == (1, 2)
    assert error == ["RANGE", 'hit 2 of the batch: seen_ms takes a whole number, not "soon"']


#: Items that are no hits, as MessagePack: each is refused, and what follows is taken.
ODD_ITEMS = {
    "number": 5,
    "huge number": 2**64 - 1,
    "nil": None,
    "truth": True,
    "fraction": 1.5,
    "text": "a",
    "bytes": b"\xff" * 300,
    "empty array": [],
    "one item": ["a"],
    "five items": ["a", "/x", NOW, "guest", 1],
    "array as user": [["a"], "/x"],
    "array as url": ["a", ["/x"]],
    "map as kind": ["a", "/x", NOW, {"kind": "guest"}],
    "map": {"user": "a", "url": "/x"},
    "nested map": {"a": {1: 2}},
    "empty map": {},
    "extension": msgpack.ExtType(5, b"12345"),
    "fixed extension": msgpack.ExtType(5, b"1234"),
    "array in array": [[], []],
}


@pytest.mark.parametrize("name", ODD_ITEMS)
def test_an_odd_item_of_a_batch_is_refused_wherever_it_is_cut(name):
    message = request("hits", ["a", "/x"], ODD_ITEMS[name], ["b", "/x"], ODD_ITEMS[name]) + request("COUNT")
    for cut in range(len(message)):
        connection = Wiring().connect()
        (_, _, batch), (_, _, count) = read_pack(feed(connection, message[:cut]) + feed(connection, message[cut:]))
        assert batch[:3] == [2, 0, 2]
        assert batch[3][1].startswith("hit 2 of the batch: a hit is an array [user, url, seen_ms, kind]")
        assert count == 2


@pytest.mark.parametrize(
    "hit",
    [["a", True], [1.5, "/x"], [msgpack.ExtType(1, b""), "/x"], ["a", "/x", 1.5], ["a", "/x", None, False]],
)
def test_a_hit_with_a_value_that_is_no_text_is_refused(hit):
    accepted, _, refused, error = one_pack(feed(Wiring().connect(), request("hits", hit, ["b", "/x"])))
    assert (accepted, refused) == (1, 1)
    assert error[1].endswith("takes text or a whole number, not a boolean, fraction, array or map")


def test_odd_items_a_byte_at_a_time():
    message = request("hits", *ODD_ITEMS.values(), ["b", "/x"]) + request("COUNT")
    whole = feed(Wiring().connect(), message)
    assert feed(Wiring().connect(), message, piece=1) == whole
    assert read_pack(whole)[0][2][:3] == [1, 0, len(ODD_ITEMS)]


def test_a_hit_is_taken_before_the_whole_batch_has_come():
    wiring = Wiring()
    connection = wiring.connect()
    message = request("hits", ["a", "/x"], ["b", "/x"], ["c", "/x"])
    assert feed(connection, message[:-1]) == b""
    assert wiring.index.count(now_ms=NOW) == 2
    assert (connection.in_frame, connection.frames) == (True, 0)
    assert one_pack(feed(connection, message[-1:])) == [3, 0, 0, None]


def test_a_batch_larger_than_any_feed():
    wiring = Wiring()
    hits = [[f"user{number}", f"/{number % 50}", NOW - number] for number in range(20_000)]
    assert one_pack(feed(wiring.connect(), request("hits", *hits), piece=4_099)) == [20_000, 0, 0, None]
    assert wiring.index.count(now_ms=NOW) == 20_000
    wiring.index._check()


def test_a_batch_keeps_no_more_input_than_one_hit():
    wiring = Wiring()
    connection = wiring.connect()
    message = request("hits", *([f"user{number}", "/x"] for number in range(20_000)))
    most = 0
    for begin in range(0, len(message), 100):
        feed(connection, message[begin : begin + 100])
        most = max(most, wiring.service.buffered_bytes)
    assert most <= 1024


@pytest.mark.parametrize(
    "broken", [b"\xc1", b"\x92\xa1a\xc1", b"\x94\xa1a\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"]
)
def test_what_comes_before_broken_framing_is_taken_wherever_it_is_cut(broken):
    message = head_of_batch(100) + b"".join(map(msgpack.packb, [["a", "/x"], ["b", "/x"], None, ["c", "/x"]])) + broken
    for piece in (None, 1, 5):
        wiring = Wiring()
        connection = wiring.connect()
        assert one_pack(feed(connection, message, piece=piece)).startswith("PROTO")
        assert connection.is_closing
        assert wiring.index.count(now_ms=NOW) == 3


# Turns and back pressure


def test_nothing_is_parsed_while_enough_output_waits(dialect):
    """A peer that sends and never reads costs no more than max_output and one answer."""
    write, _ = dialect
    questions = [write("ECHO", [b"%09d" % number * 10]) for number in range(300)]
    whole = feed(Wiring().connect(), b"".join(questions))
    wiring = Wiring(max_output=1000)
    connection = wiring.connect()
    connection.receive(b"".join(questions[:200]), now_ms=NOW)
    assert connection.has_work
    assert 1000 < connection.output_bytes < 1200
    frames = connection.frames
    connection.proceed(now_ms=NOW)
    connection.receive(b"".join(questions[200:]), now_ms=NOW)
    assert (connection.has_work, connection.frames) == (True, frames)
    assert drain(connection) == whole


def test_a_hit_is_not_taken_while_enough_output_waits():
    wiring = Wiring(max_output=100)
    connection = wiring.connect()
    connection.receive(resp("ECHO", "x" * 200) + resp("HIT", "a", "/x"), now_ms=NOW)
    assert (connection.has_work, wiring.index.count(now_ms=NOW)) == (True, 0)
    connection.take_output()
    connection.proceed(now_ms=NOW)
    assert (connection.has_work, wiring.index.count(now_ms=NOW)) == (False, 1)


@pytest.mark.parametrize(
    ("one", "number"),
    [
        (resp("PING"), 2100),
        (b"PING\n", 2100),
        (b"\n", 2100),
        (b"NOSUCHVERB\n", 500),
        (resp("HIT", "", "/x"), 500),
        (resp("TIME"), 50),
        (resp("PAGE", "/x", 1000), 30),
        (resp("COUNTS", *["/x"] * 1000), 30),
        (resp("SEEN", *["u1"] * 1000), 30),
        (resp("SECTION", ""), 50),
        (request("NOSUCHVERB"), 500),
        (notification("NOSUCHVERB"), 500),
        (notification("hits", *[["a", "/x"]] * 10), 300),
        (notification("hits", *[None] * 50), 30),
        (notification("hits", *[["", ""]] * 50), 30),
        (notification("hits", *[["a", "/x", 5]] * 50), 30),
        (notification("hits", *[[1.5, "/x"]] * 50), 30),
    ],
)
def test_a_turn_ends_however_cheap_or_dear_the_work_is(one, number):
    """Else one connection with much input would keep all others waiting."""
    wiring = Wiring(max_output=10**9)
    for user in range(2000):
        wiring.index.hit(b"u%d" % user, b"/x%d" % user if user % 2 else b"/x", now_ms=NOW)
    connection = wiring.connect()
    connection.receive(one * number, now_ms=NOW)
    assert connection.has_work
    assert 0 < connection.frames < number or one == b"\n"
    drain(connection)
    assert connection.frames == (0 if one == b"\n" else number)


@pytest.mark.parametrize(
    ("site", "hit", "became"),
    [
        (b"default", ["a", "/x"], [10_000, 0, 0]),
        (b"default", ["a", "/x", LONG_AGO], [0, 10_000, 0]),
        (b"default", ["", "/x"], [0, 0, 10_000]),
        (b"default", ["a", "/x", 5], [0, 0, 10_000]),
        (b"default", ["a", "/x", None, "boss"], [0, 0, 10_000]),
        (b"default", None, [0, 0, 10_000]),
        (b"new", ["a", "/x"], [10_000, 0, 0]),
        (b"new", ["", "/x"], [0, 0, 10_000]),
        (b"new", ["a", "/x", 5], [0, 0, 10_000]),
    ],
)
def test_a_turn_ends_inside_a_batch(site, hit, became):
    connection = Wiring().connect(site)
    connection.receive(request("hits", *[hit] * 10_000), now_ms=NOW)
    assert (connection.has_work, connection.in_frame, connection.output_bytes) == (True, False, 0)
    connection.proceed(now_ms=NOW)
    assert (connection.has_work, connection.output_bytes) == (True, 0)
    assert one_pack(drain(connection))[:3] == became
