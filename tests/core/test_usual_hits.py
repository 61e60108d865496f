"""Hits in the usual shape are read in one pass, in batches and in RESP; what comes of them is the same as with care.

The same hit with a head of sixteen bits is not usual, and is read with care.
"""

import random

import msgpack
import pytest
from tests.wiring import NOW, Wiring, feed

NAMES = ["", "a", "é", "x" * 31, "y" * 32, "z" * 255, "w" * 256, "v" * 300, b"\xff\0", b"b" * 40, 7, None, -1]
TIMES = [NOW, NOW - 5_000, NOW + 1, NOW - 3_600_000, 0, -1, 2**31, 2**40, 2**63, 2**64 - 1, "1", None, 1.5]
KINDS = ["member", "guest", "hidden", "bot", "Member", "departed", "", "robots", b"guest", None, 1]


def hits(n, seed):
    dice = random.Random(seed)
    for _ in range(n):
        hit = [dice.choice(NAMES), dice.choice(NAMES), dice.choice(TIMES), dice.choice(KINDS)]
        if dice.random() < 0.7:  # mostly good ones
            hit = [f"user{dice.randrange(50)}", f"/{dice.randrange(20)}", NOW - dice.randrange(9_999), *hit[3:]]
        yield hit[: dice.choice([2, 3, 3, 4, 4])]


def usual(hit):
    return msgpack.packb(hit)


def careful(hit):
    packed = msgpack.packb(hit)
    return b"\xdc" + len(hit).to_bytes(2, "big") + packed[1:]


def outcome(packed, *, piece=None, **limits):
    """Return the answer to a batch, and the index after it."""
    wiring = Wiring(**limits)
    connection = wiring.connect()
    answer = feed(
        connection, b"\x94\x00\x07\xa4hits\xdc" + len(packed).to_bytes(2, "big") + b"".join(packed), piece=piece
    )
    index = wiring.index
    return answer, index.statistics(), index.users(b"", 1_000, now_ms=NOW), index.top(1_000, now_ms=NOW)


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_gives_the_same_as_with_care(seed):
    batch = list(hits(200, seed))
    wanted = outcome([careful(hit) for hit in batch])
    assert wanted[1].accepted > 50
    assert wanted[1].refused > 20
    for piece in (None, 7, 100):
        assert outcome([usual(hit) for hit in batch], piece=piece) == wanted


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("seen_ms", [NOW, NOW - 4_000_000, 2**63])
def test_a_hit_gives_the_same_as_with_care(name, seen_ms):
    for hit in ([name, "/", seen_ms], ["user", name, seen_ms], ["user", "/", seen_ms, name]):
        assert outcome([usual(hit)]) == outcome([careful(hit)])


def test_limits_are_the_same_as_with_care():
    long = [f"user{n}" + "x" * 200 for n in range(30)]
    batch = [[name, "/", NOW] for name in long]
    for limits in ({"max_items": 3}, {"max_depth": 2}, {"max_user": 100}, {"max_url": 1}, {"max_users": 9}):
        assert outcome([usual(hit) for hit in batch], **limits) == outcome([careful(hit) for hit in batch], **limits)
    for pack in (usual, careful):
        assert b"PROTO" in outcome([pack(hit) for hit in batch], max_frame=4_096)[0]


# HITs in RESP: several in a row are carried out together. With a verb in lower case they are not, and one at a time.

ODD = [
    b"\r\n",
    b"\r",
    b"\n",
    b"$",
    b"*",
    b"-",
    b"0",
    b"3",
    b"9",
    b"99",
    b"HIT",
    b"x",
    b"\0",
    b"",
    b"$-1\r\n",
    b"$3\r\nHIT\r\n",
]


def command(words, verb="HIT"):
    texts = [word if isinstance(word, bytes) else str(word or "").encode() for word in (verb, *words)]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)


def told(stream, *, piece=None, before=(), **limits):
    """Return the answers to commands, and the index after them."""
    wiring = Wiring(**limits)
    connection = wiring.connect()
    for words in before:
        feed(connection, command(words[1:], words[0]))
    answer = feed(connection, stream, piece=piece)
    index, service = wiring.index, wiring.service
    counts = service.commands, connection.frames, connection.in_frame, connection.input_bytes, connection.is_closing
    return answer, counts, index.statistics(), index.users(b"", 1_000, now_ms=NOW), index.top(1_000, now_ms=NOW)


@pytest.mark.parametrize("seed", range(20))
def test_hits_in_a_row_give_the_same_as_with_care(seed):
    dice = random.Random(seed)
    stream = [(dice.choice(["HIT"] * 9 + ["LEAVE", "COUNT", "PAGE"]), hit) for hit in hits(200, seed)]
    careful = b"".join(command(hit, verb.lower()) for verb, hit in stream)
    wanted = told(careful)
    assert wanted[0].count(b"+OK") > 50
    assert wanted[0].count(b"-") > 20
    for piece in (None, 1, 7, 100):
        assert told(b"".join(command(hit, verb) for verb, hit in stream), piece=piece) == wanted


@pytest.mark.parametrize("seed", range(20))
def test_spoiled_hits_give_the_same_as_with_care(seed):
    """What is not a HIT any more when spoiled is another verb in lower case, too."""
    dice = random.Random(seed)
    for _ in range(100):
        stream = b"".join(command(hit) for hit in hits(dice.randrange(1, 8), dice.random()))
        for _ in range(dice.randrange(1, 3)):
            at = dice.randrange(len(stream))
            stream = stream[:at] + dice.choice(ODD) + stream[at + dice.choice([0, 1, 1, 2]) :]
        given, wanted = told(stream), told(stream.replace(b"HIT", b"hit"))
        assert given[1:] == wanted[1:], stream
        assert given[0].lower() == wanted[0].lower(), stream


def test_limits_of_hits_in_a_row_are_the_same_as_with_care():
    long = [[f"user{n}" + "x" * 200, "/", NOW, "guest"][: 2 + n % 3] for n in range(40)]
    shapes = [
        {"max_items": 4},
        {"max_frame": 4_096},
        {"max_user": 100},
        {"max_url": 1},
        {"max_users": 9},
        {"max_pages": 1},
    ]
    for limits in [*shapes, {"max_output": 20}, {"max_frame": 300, "max_user": 1}, {"max_frame": 253}]:
        wanted = told(b"".join(command(hit, "hit") for hit in long), **limits)
        assert told(b"".join(command(hit) for hit in long), **limits) == wanted, limits


@pytest.mark.parametrize(
    "before", [("MULTI",), ("CLIENT", "REPLY", "off"), ("CLIENT", "REPLY", "skip"), ("SITE", "new")], ids=" ".join
)
def test_what_came_before_is_heeded_as_with_care(before):
    stream = [hit for hit in hits(40, 1) if len(hit) < 5]
    wanted = told(b"".join(command(hit, "hit") for hit in stream) + command([], "EXEC"), before=[before])
    assert told(b"".join(command(hit) for hit in stream) + command([], "EXEC"), before=[before]) == wanted


@pytest.mark.parametrize("way", ["may_write", "refusing", "loading", "authenticated"])
def test_who_may_not_write_is_refused_as_with_care(way):
    answers = []
    for verb in ("HIT", "hit"):
        wiring = Wiring()
        connection = wiring.connect()
        if way == "may_write":
            connection.may_write = False
        elif way == "authenticated":
            connection.authenticated = False
        else:
            setattr(wiring.service, way, "not now")
        answers.append(feed(connection, command(["theo", "/"], verb) * 3).lower())
        assert wiring.index.statistics().accepted == 0
    assert answers[0] == answers[1]
    assert answers[0].count(b"\r\n") == 3
