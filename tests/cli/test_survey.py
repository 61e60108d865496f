"""The figures of a report, compiled, against the same in plain Python: those of hits, and those of lines."""

import random
from collections import Counter

import msgpack
import pytest
from tests.cli.plain_crowd import PlainCrowd
from tests.logs.test_usual_lines import KEY, RULES, lines

from online.cli import survey as surveys
from online.cli.browsers import browser_and_system
from online.cli.outcomes import Outcomes
from online.cli.reading import Block, Counts, ViewParser
from online.core.crowd import Crowd
from online.logs.formats import reader_of
from online.logs.hitlog import MAX_LINE_BYTES, TOO_LONG
from online.logs.pages import Pages
from online.logs.records import NO_TIME
from online_client.urls import normal_host, read_target

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
    window_s = [60, 61, 1800, 7200][seed % 4]
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


# --- lines


class PlainParser:
    """What `ViewParser` counts, line by line, all with care."""

    def __init__(self, name, rules):
        self._read = reader_of(name).careful
        self._pages = Pages(self._read, rules, key=KEY)
        self.outcomes = Outcomes()
        self.statuses, self.referrers, self.agents = Counter(), Counter(), Counter()
        self.bots, self.members = [], []

    def hits(self, block):
        found = [self._hit(line, block, number) for number, line in enumerate(block.lines, block.first)]
        return packed(*(view for view in found if view is not None))

    def _hit(self, line, block, number):
        self.outcomes.lines += 1
        is_long = len(line) > MAX_LINE_BYTES
        record = TOO_LONG if is_long else self._read(line)
        if not isinstance(record, str) and record.status:
            status = record.status.decode("latin-1")
            self.statuses[status if len(status) == 3 and record.status.isdigit() else "other"] += 1
        view = TOO_LONG if is_long else self._pages.parse(line)
        if isinstance(view, str):
            if view != NO_TIME or number > 1:
                self.outcomes.take(view, line, block.log, number)
            return None
        if view.kind == "bot":
            self.outcomes.left_out["bot"] += 1
            self.bots.append(view.user)
            return None
        self._count_hit(view, record)
        return view

    def _count_hit(self, view, record):
        self.outcomes.hits += 1
        self.agents[browser_and_system(record.agent)] += 1
        if view.kind in ("member", "hidden"):
            self.members.append(view.user)
        linking = read_target(record.referrer).host
        if linking and linking != (read_target(record.url).host or normal_host(record.host)):
            self.referrers[linking] += 1


@pytest.mark.parametrize("name", ["auto", "vhost", "caddy"])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_lines_are_counted_as_one_by_one_with_care(name, rules):
    dice = random.Random(name)
    written = [b"x" * (MAX_LINE_BYTES + 1), *dice.choices(list(lines(150, 7, name)), k=1_500)]
    plain = PlainParser(name, rules)
    parser, counts = ViewParser(reader_of(name), rules, key=KEY, url_prefix=b""), Counts()
    for at in range(0, len(written), 400):
        block = Block("access.log", 1 + at, written[at : at + 400])
        assert parser.hits(block, counts) == plain.hits(block)
        if at % 800 == 0:
            parser.settle(counts)
    parser.settle(counts)
    assert vars(counts.outcomes) == vars(plain.outcomes)
    assert counts.statuses == plain.statuses
    assert counts.referrers == plain.referrers
    assert counts.agents == plain.agents
    assert (counts.bots, counts.members) == (set(plain.bots), set(plain.members))
    assert counts.member_hits == len(plain.members)
    assert sum(counts.statuses.values()) > 300
    assert counts.outcomes.hits or "PUT" in rules.methods


def test_counts_of_agents_and_referrers_that_are_forgotten_are_kept():
    line = b'192.0.2.1 - ada [14/Nov/2023:22:13:20 +0000] "GET /a HTTP/1.1" 200 5 "https://e%d.example/" "Firefox/%d"'
    written = [line % (number % 20_000, number % 30_000) for number in range(60_000)]
    parser, counts = ViewParser(reader_of("auto"), RULES["default"], key=KEY, url_prefix=b""), Counts()
    parser.hits(Block("access.log", 1, written), counts)
    parser.settle(counts)
    assert counts.referrers == {b"e%d.example" % number: 3 for number in range(20_000)}
    assert (counts.browsers, counts.member_hits, counts.statuses) == ({"Firefox": 60_000}, 60_000, {"200": 60_000})


def test_a_line_without_a_time_is_a_header_only_if_it_is_the_first():
    parser, counts = ViewParser(reader_of("csv"), RULES["default"], key=KEY, url_prefix=b""), Counts()
    for first in (1, 2):
        parser.hits(Block("log", first, [b"user,url,time", b"user,url,time"]), counts)
    assert [sample.number for sample in counts.outcomes.samples] == [2, 2, 3]
    assert (counts.outcomes.lines, counts.outcomes.not_understood) == (4, 3)
