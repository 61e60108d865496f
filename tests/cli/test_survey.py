"""The figures of a report, compiled, against the same in plain Python; and what comes packed."""

import random

import msgpack
import pytest
from tests.cli.plain_crowd import PlainCrowd

from online.cli import survey as surveys
from online.core.crowd import Crowd

NOON_MS = 1_709_294_400_000  # 2024-03-01 12:00:00 UTC
DAY_S = 86_400


def packed(*hits):
    return b"".join(map(msgpack.packb, hits))


def logged_hits(seed):
    """Hits of a made-up site, in the order of a log: busy and silent times, lines out of order, and long breaks."""
    dice = random.Random(seed)
    second = 0.0
    breaks = [0, 61, 300, 3600, DAY_S, 20 * DAY_S, 200 * DAY_S]
    for _ in range(dice.choice([1, 2, 50, 700])):
        second += dice.choice([0, 0, 0, 0.001, 0.25, 1, 2, 7, 59, 60, dice.choice(breaks)])
        back = dice.choice([0, 0, 0, 0, 1, dice.uniform(0, 130), dice.choice([0, 0, DAY_S, 40 * DAY_S])])
        user, url = b"user%d" % (40 * dice.random() ** 3), b"/%d" % (9 * dice.random() ** 2)
        if dice.random() < 0.02:
            user, url = user.ljust(256, b"-"), url.ljust(2048, b"-")
        yield (user, url, NOON_MS + round(1000 * (second - back)), *dice.choice([(), ("guest",), ("member",)]))


def pieces_of(hits, dice):
    hits = list(hits)
    while hits:
        n = dice.randrange(1, 100)
        yield packed(*hits[:n])
        hits = hits[n:]


@pytest.mark.parametrize("seed", range(60), ids=str)
def test_every_figure_is_that_of_plain_python(seed, monkeypatch):
    pieces = list(pieces_of(logged_hits(seed), random.Random(seed)))
    window_s = [60, 61, 1800, 86_400][seed % 4]
    found = surveys.survey(pieces, window_s=window_s, top=3)
    monkeypatch.setattr(surveys, "Crowd", PlainCrowd)
    assert found == surveys.survey(pieces, window_s=window_s, top=3)
    assert found.hits


def test_a_crowd_of_many_names_keeps_them_apart():
    hits = [(b"u%d" % (n % 9000), b"/%d" % (n % 7000), NOON_MS + n) for n in range(18_000)]
    found = surveys.survey([packed(*hits)], window_s=60, top=2)
    assert (found.users, found.urls, found.peak) == (9000, 7000, 9000)
    assert found.top == [(b"/0", 3), (b"/1", 3)]
    assert found.stays.number == 9000


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x92\xc4\x01a\xc4\x01b",
        b"\x93\xa1a\xc4\x01b\xcf" + NOON_MS.to_bytes(8, "big"),
        b"\x93\xc4\x01a\xc4\x01b\xd3" + NOON_MS.to_bytes(8, "big"),
        b"\x93\xc4\x01a\xc4\x01b\xcf" + (1 << 63).to_bytes(8, "big"),
        b"\x94\xc4\x01a\xc4\x01b\xcf" + NOON_MS.to_bytes(8, "big") + b"\xc3",
    ],
    ids=["two", "text", "signed", "huge", "no-kind"],
)
def test_what_are_no_hits_is_refused_behind_those_before(wrong):
    crowd = Crowd(60, lambda crowd, now_ms: now_ms)
    with pytest.raises(ValueError, match="no packed hits"):
        crowd.take(packed((b"ada", b"/", NOON_MS)) + wrong)
    assert crowd.hits == 1


def test_packed_hits_that_end_early_are_refused_wherever_they_end():
    whole = packed((b"a" * 300, b"/", NOON_MS, "guest"))
    for n_bytes in range(1, len(whole)):
        crowd = Crowd(60, lambda crowd, now_ms: now_ms)
        with pytest.raises(ValueError, match="no packed hits"):
            crowd.take(whole[:n_bytes])
        assert crowd.hits == 0


def test_what_advancing_raises_comes_out():
    def advance(crowd, now_ms):
        raise KeyError(now_ms)

    with pytest.raises(KeyError):
        Crowd(60, advance).take(packed((b"ada", b"/", NOON_MS)))
