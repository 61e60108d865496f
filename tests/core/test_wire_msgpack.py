"""MessagePack on the wire against the `msgpack` package: each reads what the other writes, in every encoding."""

import itertools
import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wiring import NOW, Wiring, feed, notification, one_pack, read_pack, request

from online.core.wire import apply_hits

# Deterministic, so that a run says the same everywhere.
examples = settings(max_examples=300, deadline=None, derandomize=True, database=None)

SEEN_FROM = NOW - 1_700_000


# Writing: every encoding that MessagePack has for a value, where the package has the shortest alone


def ints(value):
    """Every encoding of a whole number."""
    forms = []
    if 0 <= value < 128:
        forms.append(struct.pack("B", value))
    if -32 <= value < 0:
        forms.append(struct.pack("b", value))
    for head, form in zip(range(0xCC, 0xD4), "BHIQbhiq", strict=True):
        try:
            forms.append(bytes([head]) + struct.pack(f">{form}", value))
        except struct.error:
            continue
    return forms


def texts(value):
    """Every encoding of text, as str and as bin."""
    forms = [bytes([0xA0 | len(value)]) + value] if len(value) < 32 else []
    for heads, form, below in [((0xD9, 0xC4), "B", 2**8), ((0xDA, 0xC5), "H", 2**16), ((0xDB, 0xC6), "I", 2**32)]:
        if len(value) < below:
            forms += [bytes([head]) + struct.pack(f">{form}", len(value)) + value for head in heads]
    return forms


def arrays(items):
    """Every encoding of an array of items that are encoded already."""
    body = b"".join(items)
    forms = [bytes([0x90 | len(items)]) + body] if len(items) < 16 else []
    return [*forms, struct.pack(">BH", 0xDC, len(items)) + body, struct.pack(">BI", 0xDD, len(items)) + body]


def packed_text(value):
    return st.sampled_from(texts(value))


def packed_number(value):
    """A number in any of its encodings, as text too."""
    return st.sampled_from([*ints(value), *texts(b"%d" % value)])


def packed_array(items):
    return st.tuples(*items).flatmap(lambda each: st.sampled_from(arrays(each)))


names = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=250, max_size=256),
    st.text(min_size=1, max_size=20).map(str.encode),
    st.integers(-(2**63), 2**64 - 1).map(lambda number: b"%d" % number),
)
seen = st.integers(SEEN_FROM, NOW)
kinds = st.sampled_from([b"member", b"guest", b"hidden", b"bot"])
hits = st.lists(st.tuples(names, names, seen, kinds), min_size=1, max_size=20)


@st.composite
def packed_hits(draw):
    """Hits, and each of them in some encoding, some without what may be left out."""
    given_hits, packed = [], []
    for user, url, seen_ms, kind in draw(hits):
        fields = [packed_text(user), packed_text(url), packed_number(seen_ms), packed_text(kind)]
        n_fields = draw(st.sampled_from([2, 3, 4]))
        given_hits.append((user, url, seen_ms if n_fields > 2 else NOW, kind if n_fields > 3 else b"member"))
        packed.append(draw(packed_array(fields[:n_fields])))
    return given_hits, packed


def newest(given_hits):
    """The newest hit of each user, equal times by arrival; as lists name them."""
    sessions = {}
    for user, url, seen_ms, kind in given_hits:
        if user not in sessions or seen_ms >= sessions[user][1]:
            sessions[user] = url, seen_ms, kind
    return {user: hit for user, hit in sessions.items() if hit[2] in (b"member", b"guest")}


def raw(value):
    return value.encode() if isinstance(value, str) else value


def listed(connection):
    """All users that can be named, as a dictionary like that of `newest`."""
    users, cursor = one_pack(feed(connection, request("users", "", 1000)))
    assert cursor is None
    return {raw(user): (raw(url), seen_ms, raw(kind)) for user, url, seen_ms, kind in users}


@examples
@given(packed_hits(), st.data())
def test_hits_in_any_encoding_are_taken(given_and_packed, data):
    given_hits, packed = given_and_packed
    wiring = Wiring()
    connection = wiring.connect()
    params = data.draw(st.sampled_from(arrays(packed)))
    msgid = data.draw(st.integers(-(2**63), 2**64 - 1))
    head = [data.draw(st.sampled_from(ints(each))) for each in (0, msgid)]
    method = data.draw(packed_text(b"hits"))
    message = data.draw(st.sampled_from(arrays([*head, method, params])))
    piece = data.draw(st.sampled_from([None, 1, 3, 17]))
    [(answered_id, error, result)] = read_pack(feed(connection, message, piece=piece))
    assert (answered_id, error) == (msgid, None)
    assert sum(result[:2]) == len(given_hits)
    assert result[2:] == [0, None]
    assert listed(connection) == newest(given_hits)


@examples
@given(packed_hits(), st.data())
def test_single_hits_in_any_encoding_are_taken(given_and_packed, data):
    given_hits, packed = given_and_packed
    connection = Wiring().connect()
    pipeline = b""
    for params in packed:
        method = data.draw(packed_text(data.draw(st.sampled_from([b"HIT", b"hit", b"hIt"]))))
        pipeline += data.draw(st.sampled_from(arrays([b"\0", b"\x07", method, params])))
    responses = read_pack(feed(connection, pipeline, piece=data.draw(st.sampled_from([None, 1, 5]))))
    assert responses == [(7, None, "OK")] * len(packed)
    assert listed(connection) == newest(given_hits)


@examples
@given(hits)
def test_hits_that_the_package_packs_are_taken(given_hits):
    wiring = Wiring()
    connection = wiring.connect()
    for use_bin_type in (True, False):
        batch = [[user, url, seen_ms, kind.decode()] for user, url, seen_ms, kind in given_hits]
        message = msgpack.packb([2, "hits", batch], use_bin_type=use_bin_type)
        assert feed(connection, message) == b""
        assert listed(connection) == newest(given_hits)
    accepted, ignored, refused = apply_hits(wiring.index, message, now_ms=NOW)
    assert (accepted + ignored, refused) == (len(given_hits), 0)


@examples
@given(hits)
def test_answers_are_what_the_package_would_write(given_hits):
    """So each head is of the shortest form, and text is str or bin as it should be."""
    connection = Wiring().connect()
    feed(connection, notification("hits", *given_hits))
    urls = [url for _, url, _, _ in given_hits]
    for message in [
        request("recent", 1000),
        request("users", "", 3),
        request("page", urls[0], 2, msgid=2**64 - 1),
        request("seen", *(user for user, *_ in given_hits), msgid=300),
        request("counts", *urls * 10, msgid=70_000),
        request("nosuchverb", msgid=-1),
    ]:
        answer = feed(connection, message)
        assert msgpack.packb(msgpack.unpackb(answer)) == answer


@pytest.mark.parametrize("msgid", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_a_msgid_comes_back_in_the_form_in_which_it_came(msgid):
    for form in ints(msgid):
        answer = feed(Wiring().connect(), b"\x94\0" + form + b"\xa4PING\x90")
        assert answer == b"\x94\x01" + form + b"\xc0\xa4PONG"


@pytest.mark.parametrize(
    "number",
    sorted(
        {
            sign * 2**power + more
            for power in (0, 5, 7, 8, 15, 16, 31, 32, 53, 62)
            for sign in (1, -1)
            for more in (-1, 0, 1)
        }
        | {2**63 - 1, -(2**63), 2**63, 2**64 - 1}
    ),
)
def test_a_number_may_come_in_every_encoding(number):
    """Where text is wanted a number stands for its digits."""
    connection = Wiring().connect()
    for form in ints(number):
        assert one_pack(feed(connection, b"\x94\0\0\xa4ECHO\x91" + form)) == str(number)


@pytest.mark.parametrize("number", [-(2**63), -5, 0, 7, 2**40, 2**63, 2**64 - 1])
def test_a_number_as_user(number):
    connection = Wiring().connect()
    for form in ints(number):
        assert one_pack(feed(connection, b"\x94\0\0\xa3HIT\x92" + form + form)) == "OK"
        assert feed(connection, b"\x93\x02\xa4hits\x91\x92" + form + form) == b""
    [[user, url, _, _]], _ = one_pack(feed(connection, request("users")))
    assert user == url == str(number)


@pytest.mark.parametrize("limit", [0, 1, 29])
def test_a_limit_in_every_encoding(limit):
    connection = Wiring().connect()
    feed(connection, notification("hits", *([f"u{number}", "/x"] for number in range(30))))
    for form in [*ints(limit), *texts(b"%d" % limit)]:
        users, cursor = one_pack(feed(connection, b"\x94\0\0\xa6RECENT\x91" + form))
        assert len(users) == limit
        assert (cursor is None) == (limit == 0)


@pytest.mark.parametrize("n_items", [0, 1, 15, 16, 17, 255, 256, 999])
def test_arrays_of_every_size_in_and_out(n_items):
    connection = Wiring().connect()
    for form in arrays([b"\xa2/x"] * n_items):
        answer = one_pack(feed(connection, b"\x94\0\0\xa6COUNTS" + form))
        assert answer == [0] * n_items or n_items == 0
    for form in arrays([b"\x92\xa1a\xa1b"] * n_items):
        assert one_pack(feed(connection, b"\x94\0\0\xa4hits" + form)) == [n_items, 0, 0, None]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 255, 256, 257, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("byte", [b"x", b"\xff"])
def test_text_of_every_size_in_and_out(size, byte):
    text = byte * size
    connection = Wiring().connect()
    for form in texts(text):
        answer = feed(connection, b"\x94\0\0\xa4ECHO\x91" + form)
        assert answer == msgpack.packb([1, 0, None, text.decode() if byte == b"x" else text or ""])


def test_maps_and_numbers_out():
    wiring = Wiring()
    connection = wiring.connect()
    numbers = [*range(-140, 300), *(sign * 2**power for power in range(8, 63) for sign in (1, -1))]
    wiring.host.answer = {
        "numbers": numbers,
        "none": None,
        "text": "é",
        "bytes": b"\xff",
        "map": dict(enumerate(range(40))),
    }
    error, result = msgpack.unpackb(feed(connection, request("config", "get")), strict_map_key=False)[2:]
    assert (error, result) == (None, wiring.host.answer)


# UTF-8


def is_text(data):
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def told_as_text(samples):
    """Which of these come back as str; all must come back as they are."""
    answers = read_pack(feed(Wiring().connect(), b"".join(request("ECHO", sample) for sample in samples)))
    assert [raw(result) for _, _, result in answers] == samples
    return [isinstance(result, str) for _, _, result in answers]


#: Bytes next to every border that UTF-8 draws.
BORDERS = bytes.fromhex("00 41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 f8 ff")
CONTINUATIONS = bytes.fromhex("7f 80 8f 90 9f a0 bf c0")


@pytest.mark.parametrize(
    "samples",
    [
        [bytes(each) for size in (0, 1) for each in itertools.product(range(256), repeat=size)],
        [bytes(each) for each in itertools.product(range(0x7F, 256), repeat=2)],
        [bytes(each) for each in itertools.product(BORDERS, repeat=3)],
        [bytes(each) for each in itertools.product(b"\xe0\xed\xef\xf0\xf1\xf3\xf4\xf5", *[CONTINUATIONS] * 3)],
        [chr(code).encode("utf-8", "surrogatepass") for code in range(0, 0x110000, 37)],
        [chr(code).encode("utf-8", "surrogatepass") for code in (0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000)],
        [b"x" * before + "é€😀".encode()[:cut] for before in range(9) for cut in range(10)],
    ],
    ids=["one byte", "two bytes", "three bytes", "four bytes", "code points", "surrogates", "cut short"],
)
def test_text_goes_out_as_str_where_python_finds_utf_8(samples):
    assert told_as_text(samples) == [is_text(sample) for sample in samples]


@examples
@given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)), max_size=20))
def test_any_text_goes_out_as_str_where_python_finds_utf_8(samples):
    assert told_as_text(samples) == [is_text(sample) for sample in samples]
