"""Garbage and damaged messages: error replies and nothing else, wherever they are cut, and nobody else notices."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wiring import (
    CODES,
    NOW,
    RespError,
    Wiring,
    drain,
    feed,
    notification,
    read_pack,
    read_resp,
    request,
    resp,
)

from online.core.wire import apply_hits
from online.errors import FramingError

pytestmark = pytest.mark.slow

# Deterministic, so that a run says the same everywhere.
examples = settings(max_examples=600, deadline=None, derandomize=True, database=None)

HTTP = b"HTTP/1.1 400 "

COMMANDS = [
    ("HIT", "a", "/x"),
    ("HIT", b"\xff b", b"/y\0\r\n", NOW - 1000, "guest"),
    ("HIT", "bot", "/x", str(NOW), "bot"),
    ("LEAVE", "a", NOW - 5),
    ("COUNT",),
    ("COUNT", "/x"),
    ("COUNT", None, 60),
    ("COUNTS", "/x", "/y", ""),
    ("KINDS", "/x"),
    ("PAGE", "/x", 1),
    ("PAGE", "/x", 5, "18bcfe56800-0.0123456789abcdef"),
    ("RECENT", 1),
    ("USERS", "", 2),
    ("SEEN", "a", "b"),
    ("SECTION", "/"),
    ("PING",),
    ("ECHO", "x" * 40),
    ("SITE", "other"),
    ("CLIENT", "REPLY", "skip"),
    ("HELLO", "3"),
    ("AUTH", "secret"),
    ("RESET",),
    ("QUIT",),
]
BATCHES = [
    request("hits", ["a", "/x"], ["b", "/y", NOW - 9, "guest"], msgid=7),
    notification("hits", ["a", "/x"], [], {"a": [1]}, ["c", "/z", 5]),
    request("hits", *([f"u{number}", "/x", NOW - number] for number in range(70))),
    b"\xdc\x00\x04\x00\xcd\x01\x00\xa4hits\xdd\x00\x00\x00\x02\xdc\x00\x02\xa1a\xc4\x01b\x92\xd9\x01a\xda\x00\x01b",
]
LINES = [b"PING\r\n", b'HIT "a b" /x\n', b"COUNT '/x'\n", b"\r\n", b"GET / HTTP/1.1\r\n", b"QUIT\n"]

messages_in_resp = st.sampled_from([resp(*command) for command in COMMANDS] + LINES)
messages_in_pack = st.sampled_from(
    [request(*command, msgid=number) for number, command in enumerate(COMMANDS)]
    + [notification(*command) for command in COMMANDS]
    + BATCHES
)
pipelines = st.one_of(
    st.lists(messages_in_resp, min_size=1, max_size=8).map(b"".join),
    st.lists(messages_in_pack, min_size=1, max_size=8).map(b"".join),
)
#: Bytes that mean something in one of the dialects.
telling_bytes = st.sampled_from(
    [bytes([byte]) for byte in b"*$+-:_%\r\n\"' \0\x80\x90\x91\x9f\xa0\xbf"] + [bytes([b]) for b in range(0xC0, 0xE1)]
)
noise = st.one_of(
    st.binary(max_size=12),
    telling_bytes,
    st.sampled_from([b"\xff\xff\xff\xff", b"$1073741824\r\n", b"*-1\r\n", b"\xdb\x40\0\0\0", b"\xdd\xff\xff\xff\xff"]),
)


@st.composite
def damaged(draw):
    """A pipeline in which a few places were overwritten, cut out, doubled or filled in."""
    data = draw(pipelines)
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 9)))
        match draw(st.sampled_from(["overwrite", "cut", "double", "insert", "end"])):
            case "overwrite":
                data = data[:begin] + draw(noise) + data[end:]
            case "cut":
                data = data[:begin] + data[end:]
            case "double":
                data = data[:end] + data[begin:]
            case "insert":
                data = data[:begin] + draw(noise) + data[begin:]
            case "end":
                data = data[:begin]
    return data


garbage = st.one_of(
    st.binary(max_size=300),
    st.lists(noise, max_size=30).map(b"".join),
    st.tuples(st.sampled_from([b"\x94", b"\x93", b"\xdc\0\x04", b"*3\r\n"]), st.binary(max_size=200)).map(b"".join),
    damaged(),
)


def check_replies(data, output):
    """Everything that came out is replies of the dialect of `data`; return the errors among them."""
    if data[:1] in (b"\x93", b"\x94", b"\xdc", b"\xdd"):
        errors = [error for _, error, _ in read_pack(output) if error is not None]
    else:
        replies, http, rest = output.partition(HTTP)
        assert rest.count(b"\r\n") == (2 if http else 0), "something follows the line of HTTP"
        errors = [reply for reply in read_resp(replies) if isinstance(reply, RespError)]
    for error in errors:
        assert error.split()[0] in CODES
        assert error.isascii()
        assert error.isprintable()
        assert len(error) < 600
    return errors


def check_aftermath(wiring, connection, data, output):
    """What must hold after anything: sane counters, sound indexes, and an error before an end."""
    errors = check_replies(data, output)
    framing = [error for error in errors if error.startswith("PROTO")]
    assert len(framing) <= 1
    assert not framing or (connection.is_closing and errors[-1] == framing[0])
    assert not connection.has_work
    assert connection.output_bytes == 0
    assert wiring.service.buffered_bytes == connection.buffered_bytes < 64 * 1024
    assert wiring.service.errors >= len(errors)
    for index in wiring.host.sites.values():
        index._check()


def everything(wiring):
    """What all sites hold, and what they have counted."""
    return {
        name: (index.users(b"", 1000, now_ms=NOW), index.kinds(now_ms=NOW), index.statistics()._replace(memory_bytes=0))
        for name, index in wiring.host.sites.items()
    }


def fed(data, *, piece=None, **settings):
    wiring = Wiring(**settings)
    connection = wiring.connect()
    return wiring, connection, feed(connection, data, piece=piece)


@examples
@given(garbage, st.booleans())
def test_garbage_gets_error_replies_wherever_it_is_cut(data, auth_wanted):
    wiring, connection, output = fed(data, auth_wanted=auth_wanted)
    check_aftermath(wiring, connection, data, output)
    for piece in (1, 3):
        again, other, same = fed(data, piece=piece, auth_wanted=auth_wanted)
        assert same == output
        assert (other.is_closing, other.frames) == (connection.is_closing, connection.frames)
        assert other.is_closing or other.in_frame == connection.in_frame
        assert everything(again) == everything(wiring)
        check_aftermath(again, other, data, same)


@examples
@given(garbage, st.data())
def test_other_connections_are_not_disturbed(data, cuts):
    """A neighbour on a site of its own is asked in the midst of it, and answers as if it were alone."""
    wiring = Wiring()
    questions = [
        [resp("HIT", "a", "/n") + resp("PAGE", "/n") + resp("USERS", None, 1), read_resp],
        [request("hits", ["a", "/n"], ["b", "/n"]) + request("page", "/n") + request("users", None, 1), read_pack],
    ]
    question, _ = cuts.draw(st.sampled_from(questions))
    alone = feed(Wiring().connect(b"neighbour"), question)
    connection, neighbour = wiring.connect(), wiring.connect(b"neighbour")
    output, answer = b"", b""
    begin = 0
    for at in range(len(question)):
        end = begin + cuts.draw(st.integers(0, 20)) if at % 8 == 0 else begin
        output += feed(connection, data[begin:end])
        begin = end
        answer += feed(neighbour, question[at : at + 1])
    output += feed(connection, data[begin:])
    assert answer == alone
    assert output == fed(data)[2]
    assert wiring.service.connections == 2
    assert wiring.service.buffered_bytes == connection.buffered_bytes + neighbour.buffered_bytes
    del connection, neighbour
    assert wiring.service.connections == 0
    assert wiring.service.buffered_bytes == 0


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.binary(max_size=300),
        st.text(max_size=20),
        st.sampled_from(["", "a", "/x", NOW, NOW - 1, "guest", 5, -1, 1001]),
        st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=6,
)
verbs = st.sampled_from(
    [command[0] for command in COMMANDS if command[0] not in ("QUIT", "CLIENT")] + ["hits", "x", ""]
)


@examples
@given(st.lists(st.tuples(verbs, st.lists(values, max_size=6)), min_size=1, max_size=6), st.sampled_from([None, 1, 7]))
def test_every_well_framed_request_gets_one_response(requests, piece):
    """Whatever stands in it, as long as it is not too deep: in order, and with its msgid."""
    data = b"".join(request(verb, *params, msgid=msgid) for msgid, (verb, params) in enumerate(requests))
    wiring, connection, output = fed(data, piece=piece)
    responses = read_pack(output)
    if connection.is_closing:
        msgid, error, _ = responses.pop()
        assert error == "PROTO arrays are nested more than 4 deep"
        assert msgid == len(responses)
    else:
        assert len(responses) == len(requests)
    assert [msgid for msgid, _, _ in responses] == list(range(len(responses)))
    for (verb, params), (_, error, result) in zip(requests, responses, strict=False):
        if verb == "hits":
            assert (error, sum(result[:3]), result[3] is None) == (None, len(params), result[2] == 0)
    check_aftermath(wiring, connection, data, output)


words = st.one_of(
    st.none(), st.binary(max_size=300), st.sampled_from(["", "a", "/x", NOW, "guest", 5, -1, 1001, 2**70])
)


@examples
@given(st.lists(st.tuples(verbs, st.lists(words, max_size=6)), min_size=1, max_size=6), st.sampled_from([None, 1, 7]))
def test_every_well_framed_command_gets_one_reply(commands, piece):
    data = b"".join(resp(verb, *args) for verb, args in commands)
    wiring, connection, output = fed(data, piece=piece)
    assert len(read_resp(output)) == connection.frames == len(commands)
    assert not connection.is_closing
    check_aftermath(wiring, connection, data, output)


@examples
@given(pipelines, st.integers(0, 300))
def test_back_pressure_loses_and_reorders_nothing(data, max_output):
    _, _, whole = fed(data)
    wiring = Wiring(max_output=max_output)
    connection = wiring.connect()
    output = b""
    for begin in range(0, len(data), 50):
        connection.receive(data[begin : begin + 50], now_ms=NOW)
        assert connection.output_bytes <= max_output + 3000
    output = drain(connection)
    assert output == whole


@examples
@given(damaged())
def test_frames_from_a_file_are_taken_or_refused(data):
    wiring = Wiring()
    try:
        accepted, ignored, refused = apply_hits(wiring.index, data, now_ms=NOW)
    except FramingError:
        pass
    else:
        assert min(accepted, ignored, refused) >= 0
    wiring.index._check()
