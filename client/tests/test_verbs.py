"""What each verb sends: arguments in all their forms, and batches within the limits of a message."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone

import msgpack
import pytest

from online_client import verbs
from online_client.address import parse_address
from online_client.errors import RangeError
from online_client.verbs import MAX_BATCH_BYTES, MAX_BATCH_HITS, Request

SEEN = datetime(2024, 2, 29, 12, 0, 0, 123_456, tzinfo=UTC)
SEEN_MS = 1_709_208_000_123


def params(request: Request[object]) -> object:
    return msgpack.unpackb(request.params)


@pytest.mark.parametrize(
    ("request_", "verb", "expected"),
    [
        (verbs.hit("theo", "/a"), "hit", [b"theo", b"/a"]),
        (verbs.hit(17, b"/a"), "hit", [b"17", b"/a"]),
        (verbs.hit("j\xf6rg", "/\udcff"), "hit", ["jörg".encode(), b"/\xff"]),
        (verbs.hit("t", "/a", seen_ms=SEEN_MS), "hit", [b"t", b"/a", SEEN_MS]),
        (verbs.hit("t", "/a", seen_ms=SEEN), "hit", [b"t", b"/a", SEEN_MS]),
        (verbs.hit("t", "/a", kind="bot"), "hit", [b"t", b"/a", None, "bot"]),
        (verbs.hit("t", "/a", seen_ms=2**64), "hit", [b"t", b"/a", b"18446744073709551616"]),
        (verbs.leave("t"), "leave", [b"t"]),
        (verbs.leave("t", seen_ms=SEEN), "leave", [b"t", SEEN_MS]),
        (verbs.count(), "count", []),
        (verbs.count("/a"), "count", [b"/a"]),
        (verbs.count(within=300), "count", [None, 300]),
        (verbs.count(within=timedelta(minutes=5)), "count", [None, 300]),
        (verbs.counts("/a", b"/b"), "counts", [b"/a", b"/b"]),
        (verbs.kinds(), "kinds", []),
        (verbs.page("/a"), "page", [b"/a", 30]),
        (verbs.page("/a", 0, "c"), "page", [b"/a", 0, b"c"]),
        (verbs.recent(), "recent", [30]),
        (verbs.users("th", cursor="c"), "users", [b"th", 30, b"c"]),
        (verbs.seen("theo", 17), "seen", [b"theo", b"17"]),
        (verbs.section("/a"), "section", [b"/a"]),
        (verbs.top(3), "top", [3, b""]),
        (verbs.peak(), "peak", []),
        (verbs.history(), "history", []),
        (verbs.history(step=timedelta(days=1)), "history", [b"", b"", 86_400]),
        (verbs.visitors(SEEN), "history", [1_709_208_000_000, b"", 31_622_400]),
        (verbs.visitors(SEEN + timedelta(minutes=59)), "history", [1_709_208_000_000, b"", 31_622_400]),
        (verbs.sites(), "sites", []),
        (verbs.info("memory"), "info", [b"memory"]),
        (verbs.ping(), "ping", []),
        (verbs.time(), "time", []),
    ],
)
def test_request(request_: Request[object], verb: str, expected: object) -> None:
    assert (request_.verb, params(request_)) == (verb, expected)


def test_a_time_of_any_zone_is_the_same_moment() -> None:
    east = SEEN.astimezone(timezone(timedelta(hours=9)))
    assert params(verbs.leave("t", seen_ms=east)) == [b"t", SEEN_MS]


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        (lambda at: verbs.hit("t", "/a", seen_ms=at), "seen_ms"),
        (lambda at: verbs.leave("t", seen_ms=at), "seen_ms"),
        (verbs.peak, "since"),
        (verbs.visitors, "since"),
        (verbs.history, "from_"),
        (lambda at: verbs.history(SEEN, at), "to"),
    ],
)
def test_a_time_without_a_zone_is_a_mistake(verb: Callable[[datetime], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} takes a datetime that knows its zone"):
        verb(SEEN.replace(tzinfo=None))


def test_visitors_of_today_begin_at_midnight_in_utc() -> None:
    before = datetime.now(UTC).date()
    from_ms = params(verbs.visitors())[0]
    after = datetime.now(UTC).date()
    begin = datetime.fromtimestamp(from_ms / 1000, UTC)
    assert begin.date() in (before, after)
    assert begin.time() == time()


@pytest.mark.parametrize(
    ("rows", "visitors"),
    [([], 0), ([[SEEN_MS, 5, 4, 1, 0, 60, 17]], 17), ([[SEEN_MS, 5, 4, 1, 0, 60, None]], None)],
)
def test_visitors_are_those_of_the_one_row(rows: list[object], visitors: int | None) -> None:
    assert verbs.visitors(SEEN).read(rows, SEEN_MS) == visitors
    assert [row.visitors for row in verbs.history().read(rows, SEEN_MS)] == [visitors][: len(rows)]


@pytest.mark.parametrize("user", [None, 1.5, ["theo"], object()])
def test_a_user_that_is_neither_text_nor_a_number_is_a_mistake(user: object) -> None:
    with pytest.raises(TypeError, match=f"user takes str or bytes, not {type(user).__name__}"):
        verbs.hit(user, "/a")  # type: ignore[arg-type]


def test_text_that_has_no_bytes_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        verbs.hit("\ud800", "/a")


def test_what_a_new_connection_says() -> None:
    def greetings(url: str) -> object:
        return [(request.verb, params(request)) for request in verbs.greetings(parse_address(url))]

    assert greetings("online://h") == []
    assert greetings("online://h/shop") == [("site", [b"shop"])]
    assert greetings("online://shop:secret@h") == [("auth", [b"shop", b"secret"])]
    assert greetings("online://:secret@h") == [("auth", [b"default", b"secret"])]
    assert greetings("online://h/shop?map=3-9bf2c0de") == [("site", [b"shop"]), ("client", [b"MAP", b"3-9bf2c0de"])]


def test_hits_are_packed_as_the_verb_takes_them() -> None:
    (batch,) = verbs.batches([("a", "/"), (2, b"/", None), ("c", "/", SEEN, "guest"), ("d", "/", 7)])
    assert batch.verb == "hits"
    assert params(batch) == [[b"a", b"/"], [b"2", b"/"], [b"c", b"/", SEEN_MS, "guest"], [b"d", b"/", 7]]


def test_hits_may_be_dicts_and_rows() -> None:
    hits = [{"user": "a", "url": "/"}, {"user": 2, "url": b"/", "seen_ms": SEEN, "kind": "bot"}, ["c", "/"]]
    hits += [{"user": "d", "url": "/", "seen_ms": None, "kind": None}]
    (batch,) = verbs.batches(hits)  # type: ignore[arg-type]
    assert params(batch) == [[b"a", b"/"], [b"2", b"/", SEEN_MS, "bot"], [b"c", b"/"], [b"d", b"/"]]


NO_HITS = [
    *("ab", b"ab", bytearray(b"ab"), 5, None, frozenset("ab"), (), ("a",), ("a", "/", 5, "member", 6), [], iter("a")),
    *({}, {"user": "a"}, {"user": "a", "path": "/"}, {"user": "a", "url": "/", "site": "shop"}),
]


@pytest.mark.parametrize("hit", NO_HITS)
def test_what_is_no_hit_is_a_mistake(hit: object) -> None:
    with pytest.raises(TypeError, match=r"a hit is \(user, url\[, seen_ms\[, kind\]\]\), or a dict of these, not "):
        list(verbs.batches([("a", "/"), hit]))  # type: ignore[list-item]


def test_one_hit_is_no_list_of_hits() -> None:
    for hit in (("ada", "/"), {"user": "ada", "url": "/"}, "ada"):
        with pytest.raises(TypeError, match="a hit is"):
            list(verbs.batches(hit))  # type: ignore[arg-type]


def test_people_within_a_time_are_those_of_the_whole_site() -> None:
    with pytest.raises(RangeError, match="within counts the whole site only; leave out url"):
        verbs.count("/a", within=60)
    assert params(verbs.count("", within=60)) == [b"", 60]


def test_no_hits_are_no_batch() -> None:
    assert list(verbs.batches([])) == []


def test_batches_hold_no_more_hits_than_a_server_takes() -> None:
    sizes = [len(msgpack.unpackb(b.params)) for b in verbs.batches([(1, b"/")] * (2 * MAX_BATCH_HITS + 1))]
    assert sizes == [MAX_BATCH_HITS, MAX_BATCH_HITS, 1]


def test_batches_hold_no_more_bytes_than_a_server_takes() -> None:
    hits = [(user, b"/" * 2_000) for user in range(1_200)]
    batches = list(verbs.batches(hits))
    assert len(batches) == 3
    assert all(len(batch.params) <= MAX_BATCH_BYTES + 5 for batch in batches)
    users = [user for batch in batches for user, _ in msgpack.unpackb(batch.params)]
    assert users == [b"%d" % user for user in range(1_200)]


def test_a_hit_that_fits_into_no_batch_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        list(verbs.batches([("a", "/" * MAX_BATCH_BYTES)]))


def test_batches_are_made_lazily() -> None:
    def endless() -> object:
        while True:
            yield 1, b"/" * 2_000

    assert next(verbs.batches(endless())).verb == "hits"  # type: ignore[arg-type]
