"""The protocol: every answer whole, a byte at a time, with trailing bytes, mutated; garbage fails cleanly."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_client import verbs
from online_client.errors import (
    CommandError,
    DiskRefusedError,
    FramingError,
    FullError,
    LoadingError,
    NotPermittedError,
    PartialError,
    ProtocolError,
    RangeError,
    ServerError,
    TokenWantedError,
    WrongTokenError,
)
from online_client.protocol import Protocol, Response
from online_client.replies import (
    BatchResult,
    Kinds,
    Listing,
    Page,
    Peak,
    Section,
    Seen,
    Session,
    Site,
    TopPage,
    Viewer,
)
from online_client.verbs import Request

MS = 1_709_208_000_123
AT = datetime(2024, 2, 29, 12, 0, 0, 123_000, tzinfo=UTC)
NOW_MS = MS + 12_500
AGE = timedelta(seconds=12.5)

#: (request, result as the server sends it, value)
ANSWERS: list[tuple[Request[object], object, object]] = [
    (verbs.hit("a", "/"), "OK", None),
    (verbs.leave("a"), "OK", None),
    (verbs.count(), 3, 3),
    (verbs.counts("/a", "/b"), [1, 0], [1, 0]),
    (verbs.kinds(), [4, 3, 2, 1], Kinds(4, 3, 2, 1)),
    (
        verbs.page("/"),
        [5, 2, [["jörg", MS, "member"], [b"\xff", MS, "guest"]], "c"],
        Page(5, 2, (Viewer("jörg", AT, AGE, "member"), Viewer("\udcff", AT, AGE, "guest")), "c"),
    ),
    (verbs.page("/", 0), [0, 0, [], None], Page(0, 0, (), None)),
    (
        verbs.recent(),
        [[["a", "/x", NOW_MS + 1, "guest"]], None],
        Listing((Session("a", "/x", AT + AGE + timedelta(milliseconds=1), timedelta(0), "guest"),), None),
    ),
    (verbs.users("a"), [[], "c"], Listing((), "c")),
    (verbs.seen("a", "b"), [["/x", MS], None], [Seen("/x", AT, AGE), None]),
    (verbs.section("/"), [7, 2], Section(7, 2)),
    (verbs.top(), [["/x", 3], ["/y", 1]], [TopPage("/x", 3), TopPage("/y", 1)]),
    (verbs.peak(), [0, 0], Peak(0, None)),
    (verbs.peak(), [9, MS], Peak(9, AT)),
    (verbs.sites(), [["default", 2]], [Site("default", 2)]),
    (
        verbs.info(),
        "# Server\r\nversion:0.1.0\r\nurl:http://x\r\n\r\n# Hits\r\naccepted:3\r\n",
        {"Server": {"version": "0.1.0", "url": "http://x"}, "Hits": {"accepted": "3"}},
    ),
    (verbs.ping(), "PONG", "PONG"),
    (verbs.time(), [1_709_208_000, 123_000], AT),
    (verbs.time(), ["1709208000", "123000"], AT),
    (verbs.batch([]), [3, 2, 0, None], BatchResult(3, 2, 0, None)),
    (verbs.batch([]), [0, 0, 1, ["RANGE", "user is empty"]], BatchResult(0, 0, 1, "RANGE user is empty")),
]


def packed(msgid: int | None, error: object, result: object) -> bytes:
    data: bytes = msgpack.packb([1, msgid, error, result])
    return data


def conversation() -> tuple[Protocol, bytes, list[tuple[Request[object], object]]]:
    """A protocol that expects all of ANSWERS, the bytes of them, and the values."""
    protocol = Protocol()
    for request, _, _ in ANSWERS:
        protocol.send(request)
    data = b"".join(packed(msgid, None, result) for msgid, (_, result, _) in enumerate(ANSWERS))
    return protocol, data, [(request, value) for request, _, value in ANSWERS]


def test_a_request_is_what_messagepack_rpc_wants() -> None:
    protocol = Protocol()
    assert msgpack.unpackb(protocol.send(verbs.page("/a", 5))) == [0, 0, "page", [b"/a", 5]]
    assert msgpack.unpackb(protocol.send(verbs.peak())) == [0, 1, "peak", []]


def test_the_first_byte_tells_the_dialect() -> None:
    assert Protocol().send(verbs.ping())[0] == 0x94


@pytest.mark.parametrize(("request_", "result", "value"), ANSWERS, ids=lambda case: getattr(case, "verb", ""))
def test_answer_whole(request_: Request[object], result: object, value: object) -> None:
    protocol = Protocol()
    protocol.send(request_)
    (response,) = protocol.receive(packed(0, None, result))
    assert response.answer(request_, NOW_MS) == value


def test_answers_a_byte_at_a_time() -> None:
    protocol, data, expected = conversation()
    responses = [response for byte in data for response in protocol.receive(bytes([byte]))]
    assert [r.answer(request, NOW_MS) for r, (request, _) in zip(responses, expected, strict=True)] == [
        value for _, value in expected
    ]


def test_notifications_are_passed_over_wherever_they_come() -> None:
    told: bytes = msgpack.packb([2, "state", ["count", {"people": 3}]])
    for piece in (1, 7, 1_000):
        protocol = Protocol()
        protocol.send(verbs.count())
        protocol.send(verbs.ping())
        data = told + packed(0, None, 3) + told + told + packed(1, None, "PONG") + told
        pieces = [data[begin : begin + piece] for begin in range(0, len(data), piece)]
        responses = [response for each in pieces for response in protocol.receive(each)]
        assert [response.result for response in responses] == [3, "PONG"]


def test_answers_with_trailing_bytes_at_every_cut() -> None:
    _, data, expected = conversation()
    for cut in range(len(data)):
        protocol, _, _ = conversation()
        responses = protocol.receive(data[:cut]) + protocol.receive(data[cut:])
        assert len(responses) == len(expected)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ERR", CommandError),
        ("RANGE", RangeError),
        ("FULL", FullError),
        ("NOAUTH", TokenWantedError),
        ("WRONGPASS", WrongTokenError),
        ("LOADING", LoadingError),
        ("PARTIAL", PartialError),
        ("MISCONF", DiskRefusedError),
        ("NOPERM", NotPermittedError),
        ("PROTO", FramingError),
        ("NEW", ServerError),
    ],
)
def test_a_refusal_is_an_error_of_its_code(code: str, kind: type[ServerError]) -> None:
    protocol, request = Protocol(), verbs.count()
    protocol.send(request)
    (response,) = protocol.receive(packed(0, [code, "what was wrong"], None))
    with pytest.raises(ServerError) as caught:
        response.answer(request, NOW_MS)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.message) == (code, "what was wrong")
    assert str(caught.value) == f"{code} what was wrong"


@pytest.mark.parametrize("msgid", [None, 0, 7])
def test_an_error_that_nothing_asked_for_is_raised(msgid: int | None) -> None:
    with pytest.raises(FramingError, match="max_buffers"):
        Protocol().receive(packed(msgid, ["PROTO", "max_buffers is reached"], None))


def test_an_error_in_the_other_dialect_is_raised() -> None:
    with pytest.raises(FullError, match="FULL max_connections is reached"):
        Protocol().receive(b"-FULL max_connections is reached\r\n")


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\xc1",
        b"\x91" * 100_000,
        b"\x94\x01\x00\xc0\xdd\xff\xff\xff\xff",
        b"\x94\x01\x00\xc0\x81\xa1a\x01",
        msgpack.packb([0, 0, "count", []]),
        msgpack.packb([2, 5, []]),
        msgpack.packb([2, "state", {}]),
        msgpack.packb([1, "state", []]),
        msgpack.packb([1, 0, None]),
        msgpack.packb([1, "0", None, 3]),
        msgpack.packb([1, 0, "ERR", None]),
        msgpack.packb([1, 0, ["ERR"], None]),
        msgpack.packb([1, 1, None, 3]),
        msgpack.packb([1, None, None, 3]),
    ],
)
def test_garbage_is_a_protocol_error(garbage: bytes) -> None:
    protocol = Protocol()
    protocol.send(verbs.count())
    with pytest.raises(ProtocolError, match="not an online server: it answered"):
        protocol.receive(garbage)


def test_a_protocol_error_shows_the_beginning_on_one_line() -> None:
    with pytest.raises(ProtocolError) as caught:
        Protocol().receive(b"SSH-2.0-a\r\n" + b"x" * 1_000)
    assert "'SSH-2.0-a\\r\\nxxx" in str(caught.value)
    assert len(str(caught.value)) < 120


def test_an_answer_in_http_says_which_port_is_meant() -> None:
    with pytest.raises(ProtocolError, match=r"an HTTP server answered: clients need the port of --listen, 8989"):
        Protocol().receive(b"HTTP/1.1 501 Not Implemented\r\nDate:")


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes_give_responses_or_errors_of_ours(data: bytes) -> None:
    protocol = Protocol()
    protocol.send(verbs.count())
    with suppress(ProtocolError, ServerError):
        protocol.receive(data)


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_mutated_answers_give_values_or_errors_of_ours(data: st.DataObject) -> None:
    request, result, _ = data.draw(st.sampled_from(ANSWERS))
    mutated = bytearray(packed(0, None, result))
    mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    protocol = Protocol()
    protocol.send(request)
    with suppress(ProtocolError, ServerError):
        for response in protocol.receive(bytes(mutated)):
            response.answer(request, NOW_MS)


RESULTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=10,
)


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(ANSWERS), RESULTS)
def test_a_result_of_another_shape_is_a_value_or_a_protocol_error(
    case: tuple[Request[object], object, object], result: object
) -> None:
    with suppress(ProtocolError):
        Response(None, result).answer(case[0], NOW_MS)


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (verbs.count(), "3"),
        (verbs.count(), True),
        (verbs.counts("/"), 3),
        (verbs.kinds(), [1, 2, 3]),
        (verbs.page("/"), [1, 1, [["a", 10**18, "member"]], None]),
        (verbs.page("/"), [1, 1, [["a", 1.5, "member"]], None]),
        (verbs.ping(), 7),
        (verbs.time(), ["now", "then"]),
        (verbs.time(), [10**18, 0]),
    ],
)
def test_a_result_of_the_wrong_shape_is_named(request_: Request[object], result: object) -> None:
    with pytest.raises(ProtocolError, match="the answer should be"):
        Response(None, result).answer(request_, NOW_MS)
