"""The compiled index against its reference: the same calls to both, and every answer, error and counter compared.

`Pair` drives the two. Hypothesis makes its steps from small pools, and shrinks what it finds; a seeded generator
makes many more of them from the same pools, and asserts that everything worth meeting was met. The pools are so small
that ties, window edges, late, stale and future hits, limits, and cursors whose users move are common.

Beside that: what follows from the rules for any index, as properties of its own.
"""

import itertools
import random
from collections import Counter, deque
from operator import attrgetter
from typing import NamedTuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from online.core.index import Index
from online.core.reference import ReferenceIndex
from online.core.wire import apply_hits
from online.errors import FullError, OnlineError, RangeError, quote
from online.terms import KINDS, SKEW_MS, IndexStatistics

START_MS = 1_700_000_000_000
WINDOW_S = 60


class Time(NamedTuple):
    """A time that depends on the clock: `ms` after now, or after the oldest time that is online; or `ms` itself."""

    after: str  # "now", "edge" or "zero"
    ms: int


class Question(NamedTuple):
    verb: str
    arguments: tuple


class List(NamedTuple):
    """What a cursor is good for: one of the verbs that list users, and the url or prefix it lists."""

    verb: str
    of: tuple[bytes, ...]


#: The reference has no memory, is never overdue, and pages that hold overdue sessions alone are in one index only.
COMPARED = attrgetter(*(name for name in IndexStatistics._fields if name not in ("memory_bytes", "overdue", "pages")))


class KeptCursor(NamedTuple):
    """A cursor of each index, and where the user listed last stood at the time."""

    of: List
    cursors: tuple[str, ...]
    last_user: bytes
    moves: int


def outcome(call, *arguments, **named):
    """Return what a call returned, or its error: the type, and of our own errors the message too."""
    try:
        return call(*arguments, **named)
    except OnlineError as error:
        return type(error), str(error)
    except (TypeError, OverflowError, UnicodeError, ValueError) as error:
        return type(error)


class Pair:
    """Two indexes that must never differ, and counts of what was `met` on the way."""

    def __init__(self, **limits):
        self.both = Index(window_s=WINDOW_S, **limits), ReferenceIndex(window_s=WINDOW_S, **limits)
        self.now_ms = START_MS
        self.met = Counter()
        self.sessions = {}  # user -> (seen_ms, url, kind), as far as accepted hits tell; expired ones too
        self.moves = Counter()  # user -> how often the session changed
        self.cursors = deque(maxlen=8)

    # Comparing

    def call(self, verb, *arguments, **named):
        """Call both, compare, and return the outcome; not for what may give a cursor."""
        one, other = (outcome(getattr(index, verb), *arguments, **named) for index in self.both)
        assert one == other, (verb, arguments, named)
        return one

    def call_list(self, of, limit, cursors=(None, None)):
        """Ask both for a list, and return the reply of one and the cursors of both, None in the last reply.

        The indexes write cursors differently: what is compared is that there is one.
        """
        replies = []
        for index, cursor in zip(self.both, cursors, strict=True):
            reply = outcome(getattr(index, of.verb), *of.of, limit, cursor, now_ms=self.now_ms)
            if reply[0] is RangeError and cursor is not None:
                reply = reply[0], reply[1].replace(quote(cursor.encode()), "CURSOR")
            replies.append(reply)
        one, other = replies
        if one[0] is RangeError:
            assert one == other
            self.met["bad cursor" if "CURSOR" in one[1] else "bad list"] += 1
            return one, None
        assert one[:-1] == other[:-1], (of, limit)
        assert (one[-1] is None) == (other[-1] is None), (of, limit)
        return one, None if one[-1] is None else (one[-1], other[-1])

    def compare_statistics(self):
        one, other = (index.statistics() for index in self.both)
        assert COMPARED(one) == COMPARED(other), (one, other)
        if one.overdue:
            assert one.pages >= other.pages
            self.met["overdue"] += 1
        else:
            assert one.pages == other.pages
        return one

    def compare(self):
        """Compare what has no step, and let the compiled index check itself."""
        self.compare_statistics()
        self.call("peak")
        self.both[0]._check()

    def compare_all(self, urls, limit):
        """Compare all that the two hold, of pages those with `urls`; lists `limit` users at a time."""
        self.compare()
        for of in (List("recent", ()), List("users", (b"",)), *(List("page", (url,)) for url in urls)):
            _, cursors = self.call_list(of, limit)
            while cursors is not None:
                _, cursors = self.call_list(of, limit, cursors)
        for url in (None, *urls):
            self.call("kinds", url, now_ms=self.now_ms)
        for within_s in (1, 2, WINDOW_S // 2, WINDOW_S - 1, WINDOW_S):
            self.call("count", None, within_s, now_ms=self.now_ms)
        for prefix in PREFIXES:
            self.call("section", prefix, now_ms=self.now_ms)
            self.call("top", limit, prefix, now_ms=self.now_ms)

    # Steps, all with arguments out of POOLS

    def pass_time(self, by_ms, most=None):
        """Let time go on, or be told wrongly that it went back; drop no more than `most` of what is overdue then."""
        expired = self.both[1].expire(now_ms=self.now_ms + by_ms)
        dropped = self.both[0].expire(most, now_ms=self.now_ms + by_ms)
        assert most is None or dropped <= most
        self.now_ms = max(self.now_ms, self.now_ms + by_ms)
        self.met["expired"] += expired
        self.met["time went back"] += by_ms < 0

    def hit(self, user, url, seen, kind):
        self.record(user, seen, url, kind, self.take("hit", user, url, seen_ms=self.ms_of(seen), kind=kind))

    def leave(self, user, seen):
        self.record(user, seen, None, "leave", self.take("leave", user, seen_ms=self.ms_of(seen)))

    def repeat(self, user):
        """Give a user's own hit or leave once more, as a web server that retries does."""
        if user not in self.sessions:
            return
        seen_ms, url, kind = self.sessions[user]
        seen = Time("now", seen_ms - self.now_ms)
        if kind == "leave":
            self.leave(user, seen)
        else:
            self.hit(user, url, seen, kind)

    def ask(self, question):
        self.call(question.verb, *question.arguments, now_ms=self.now_ms)

    def list_users(self, of, limit, cursors=(None, None)):
        """Ask for a list, and keep the cursors."""
        reply, following = self.call_list(of, limit, cursors)
        if following is not None:
            last_user = reply[-2][-1][0]
            self.cursors.append(KeptCursor(of, following, last_user, self.moves[last_user]))
        return reply

    def follow(self, nth, limit):
        """Go on with a kept cursor, whatever has happened since."""
        if not self.cursors:
            return
        kept = self.cursors[-nth % len(self.cursors)]
        reply = self.list_users(kept.of, limit, kept.cursors)
        if reply[0] is not RangeError:
            has_moved = self.moves[kept.last_user] != kept.moves
            self.met[f"{kept.of.verb} went on behind a user who {'moved' if has_moved else 'stayed'}"] += 1

    def misuse(self, nth, of, change):
        """Give a kept cursor to what may be another question, or one that was changed on the way."""
        if not self.cursors:
            return
        cursors = self.cursors[-nth % len(self.cursors)].cursors
        self.list_users(of, 2, tuple(change + cursor for cursor in cursors))

    # Keeping account

    def ms_of(self, time):
        if time is None:
            return None
        edge_ms = (self.now_ms // 1000 - WINDOW_S + 1) * 1000
        return {"now": self.now_ms, "edge": edge_ms, "zero": 0}[time.after] + time.ms

    def take(self, verb, *arguments, **named):
        """Call both for a hit or leave, and return the names of the counters that it moved."""
        before = self.compare_statistics()
        result = self.call(verb, *arguments, **named, now_ms=self.now_ms)
        after = self.compare_statistics()
        became = {name for name, one, other in zip(after._fields, before, after, strict=True) if other > one}
        self.met.update(became)
        if result in (True, False):
            assert result == ("accepted" in became)
        elif result[0] is FullError:
            self.met[result[1].split()[0]] += 1
        return became

    def record(self, user, seen, url, kind, became):
        is_edge = seen is not None and seen.after == "edge"
        self.met["late at the edge"] += is_edge and "late" in became
        self.met["accepted at the edge"] += is_edge and "accepted" in became
        if "accepted" not in became:
            return
        seen_ms = self.now_ms if seen is None else min(self.ms_of(seen), self.now_ms)
        self.met[f"accepted {kind}"] += 1
        if self.sessions.get(user) == (seen_ms, url, kind):
            self.met[f"repeated {kind}"] += 1
            return
        self.met["equal times of a user"] += self.sessions.get(user, (0,))[0] == seen_ms
        self.met["equal times of users"] += any(
            other != user and session[0] == seen_ms for other, session in self.sessions.items()
        )
        self.met["leave of an unknown user"] += kind == "leave" and "users" in became
        self.sessions[user] = seen_ms, url, kind
        self.moves[user] += 1


USERS = (b"a", b"ab", b"abc", b"b", b"b\0", b"\0\xff")
URLS = (b"/", b"/a", b"/a/b", b"/b")
BAD_NAMES = (b"", b"too long")
PREFIXES = (b"", b"a", b"ab", b"/", b"/1", b"/a", b"/a/", b"\xff", b"too long")
LIMITS_ASKED = (0, 1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, -1, 2**70)
#: Six users and four urls, so that most of these are reached.
LIMITS = (
    {},
    {"max_users": 4},
    {"max_pages": 2},
    {"max_users": 5, "max_pages": 3, "max_scan": 2},
    {"max_users": 2, "max_pages": 1},
)
NAME_LIMITS = {"max_user": 4, "max_url": 4, "max_limit": 5}
TIMES = (
    None,
    *(Time("now", ms) for ms in (0, 0, 0, -1, -1, -2, -1000, -1001, -30_000, 1, SKEW_MS, SKEW_MS + 1, 10**9)),
    *(Time("edge", ms) for ms in (-60_000, -1, 0, 0, 1, 999, 1000)),
)
BAD_TIMES = tuple(Time("zero", ms) for ms in (-1, 0, START_MS // 1000, START_MS * 1000, 2**63, -(2**70)))
#: Seldom as long as the window, so that most of the time somebody is online. The compiled index keeps times modulo
#: 2**28 ms: after the last two, an old cursor meets keys that have wrapped around.
TICKS = (
    *(0, 0, *(1, 2, 3) * 4, *(999, 1000, 1001, 5000) * 3, 10_000, 30_000),
    *(59_999, 60_000, 200_000, -1, -90_000, 2**27 + 1000, 2**28),
)
LISTS = (
    List("recent", ()),
    List("recent", ()),
    *(List("page", (url,)) for url in (*URLS, b"/", b"/")),
    *(List("users", (prefix,)) for prefix in (b"", b"a", b"ab", b"\xff")),
)
BAD_LISTS = (*(List("page", (url,)) for url in BAD_NAMES), List("users", (b"too long",)))
QUESTIONS = (
    *(Question("count", (url,)) for url in (None, *URLS, *BAD_NAMES)),
    *(Question("count", (None, within_s)) for within_s in (0, 1, 2, 30, 31, 59, 60, 61, -1, 2**70)),
    Question("count", (b"/", 10)),
    *(Question("kinds", (url,)) for url in (None, *URLS, *BAD_NAMES)),
    *(Question("counts", (urls,)) for urls in ([], URLS, [b"/"] * 5, [b"/"] * 6, BAD_NAMES, BAD_NAMES[1:])),
    *(Question("seen", (users,)) for users in ([], USERS, [b"a"] * 5, [b"a"] * 6, BAD_NAMES, BAD_NAMES[1:])),
    *(Question("section", (prefix,)) for prefix in PREFIXES),
    *(Question("top", (limit,)) for limit in LIMITS_ASKED),
    *(Question("top", (limit, prefix)) for limit in (1, 2) for prefix in PREFIXES),
    *(Question("recent", (limit, "forged")) for limit in LIMITS_ASKED),
)
#: Which of the kept cursors, the latest being number 1.
NTHS = (1, 1, 1, 2, 2, 3, 5, 8)

#: Every step: how often it is taken among the others, and what each of its arguments may be.
STEPS = {
    "pass_time": (2, {"by_ms": TICKS, "most": (0, 1, 2, 3, None)}),
    "hit": (
        7,
        {
            "user": USERS * 8 + BAD_NAMES,
            "url": URLS * 8 + URLS[:1] * 16 + BAD_NAMES,
            "seen": TIMES * 4 + BAD_TIMES,
            "kind": (*KINDS * 8, *("member",) * 16, "departed", ""),
        },
    ),
    "leave": (2, {"user": USERS * 8 + BAD_NAMES, "seen": TIMES * 4 + BAD_TIMES}),
    "repeat": (1, {"user": USERS}),
    "ask": (3, {"question": QUESTIONS}),
    "list_users": (4, {"of": LISTS * 4 + BAD_LISTS, "limit": LIMITS_ASKED}),
    "follow": (2, {"nth": NTHS, "limit": LIMITS_ASKED}),
    "misuse": (1, {"nth": NTHS, "of": LISTS + BAD_LISTS, "change": ("", "0")}),
}


# Steps made by Hypothesis


class TwoIndexes(RuleBasedStateMachine):
    """Takes the steps of STEPS, which are added below, and compares after each."""

    @initialize(limits=st.sampled_from(LIMITS))
    def start(self, limits):
        self.pair = Pair(**limits, **NAME_LIMITS)


def step_rule(name, pools):
    def step(self, **arguments):
        getattr(self.pair, name)(**arguments)
        self.pair.compare_all(URLS, 2)

    step.__name__ = name
    return rule(**{argument: st.sampled_from(pool) for argument, pool in pools.items()})(step)


for _name, (_weight, _pools) in STEPS.items():
    for _nth in range(_weight):
        setattr(TwoIndexes, f"{_name}_{_nth}", step_rule(_name, _pools))

TwoIndexes.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None, derandomize=True)
TestTwoIndexes = pytest.mark.slow(TwoIndexes.TestCase)


# Steps made by a seeded generator

RUNS = 10
STEPS_A_RUN = 20_000

#: What the runs must have met between them, each this often at least.
WORTH_MEETING = {
    "equal times of a user": 1000,
    "equal times of users": 1000,
    "accepted at the edge": 1000,
    "late at the edge": 1000,
    "accepted": 1000,
    "late": 1000,
    "skewed": 1000,
    "stale": 1000,
    "refused": 1000,
    "expired": 1000,
    "overdue": 1000,
    "time went back": 1000,
    **{f"accepted {kind}": 1000 for kind in (*KINDS, "leave")},
    **{f"repeated {kind}": 100 for kind in (*KINDS, "leave")},
    "leave of an unknown user": 100,
    "max_users": 1000,
    "max_pages": 1000,
    "bad list": 1000,
    "bad cursor": 1000,
    **{f"{verb} went on behind a user who moved": 500 for verb in ("page", "recent", "users")},
    **{f"{verb} went on behind a user who stayed": 500 for verb in ("page", "recent", "users")},
}


def take_steps(seed):
    """Take STEPS_A_RUN steps drawn from `seed`, and return what was met."""
    draw = random.Random(seed)
    pair = Pair(**LIMITS[seed % len(LIMITS)], **NAME_LIMITS)
    weights = [weight for weight, _ in STEPS.values()]
    for nth, name in enumerate(draw.choices(list(STEPS), weights, k=STEPS_A_RUN)):
        arguments = {argument: draw.choice(pool) for argument, pool in STEPS[name][1].items()}
        try:
            getattr(pair, name)(**arguments)
            pair.compare()
        except AssertionError as error:
            error.add_note(f"seed {seed}, step {nth}: {name} {arguments}")
            raise
    pair.compare_all(URLS, 2)
    return pair.met


@pytest.mark.slow
def test_200_000_seeded_steps_make_no_difference():
    assert RUNS * STEPS_A_RUN == 200_000
    met = sum((take_steps(seed) for seed in range(RUNS)), Counter())
    assert {what: met[what] for what, wanted in WORTH_MEETING.items() if met[what] < wanted} == {}


# A larger site: tall towers, growing and shrinking tables, pages that come and go, a surge, and everybody gone

SITE_LIMITS = {"max_users": 4_000, "max_pages": 400, "max_limit": 400}
N_USERS, N_URLS, N_HITS = 3_000, 500, 30_000


def compare_site(pair):
    pair.compare_all([url for url, _ in pair.call("top", 400, now_ms=pair.now_ms)], 400)


def name(prefix, number):
    """Name a user or url, at one of many lengths."""
    return b"%b%d" % (prefix, number) + b"." * (number * number % 101)


def zipf_chooser(draw, n):
    """Return a function that draws numbers below `n`, number k in proportion to 1 / (k + 1)."""
    weights = [1 / (k + 1) for k in range(n)]
    cumulated = list(itertools.accumulate(weights))
    return lambda: draw.choices(range(n), cum_weights=cumulated)[0]


@pytest.mark.slow
def test_a_site_of_thousands_makes_no_difference():
    draw = random.Random(20_240_229)
    pair = Pair(**SITE_LIMITS)
    nth_url = zipf_chooser(draw, N_URLS)
    nth_user = zipf_chooser(draw, N_USERS)
    surges = {n for start in (8_000, 20_000) for n in range(start, start + 6_000)}
    for n in range(N_HITS):
        if n in (15_000, 29_000):
            compare_site(pair)
            pair.pass_time(10 * WINDOW_S * 1000)
            assert pair.compare_statistics()[:2] == (0, 0)
        pair.now_ms += draw.choice((0, 1, 2, 5) if n in surges else (0, 5, 20, 40))
        user = n + N_USERS if n in surges and draw.random() < 0.8 else nth_user()
        seen = Time("now", -int(draw.expovariate(1 / 2_000)) if draw.random() < 0.3 else 0)
        if draw.random() < 0.03:
            pair.take("leave", name(b"", user), seen_ms=pair.ms_of(seen))
        else:
            kind = draw.choices(KINDS, (60, 25, 5, 10))[0]
            pair.take("hit", name(b"", user), name(b"/", nth_url()), seen_ms=pair.ms_of(seen), kind=kind)
        if n % 3_000 == 0:
            compare_site(pair)
    compare_site(pair)
    for what in ("max_users", "max_pages", "stale", "accepted"):
        assert pair.met[what] > 100, what


# Batches: what arrives together is taken hit by hit


def hits_frame(hits):
    return msgpack.packb([2, "hits", [[user, url, seen_ms, kind] for user, url, seen_ms, kind in hits]])


def take_one_by_one(index, hits, now_ms):
    """Give hits to an index and count as a batch is counted: `(accepted, ignored, refused)`."""
    became = Counter()
    for user, url, seen_ms, kind in hits:
        result = outcome(index.hit, user, url, seen_ms=seen_ms, kind=kind, now_ms=now_ms)
        became[result if result in (True, False) else "refused"] += 1
    return became[True], became[False], became["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("limits", LIMITS)
def test_a_batch_makes_no_difference_to_its_hits_one_by_one(limits):
    draw = random.Random(repr(limits))
    pair = Pair(**limits, **NAME_LIMITS)
    for _ in range(300):
        pair.pass_time(draw.choice(TICKS), draw.choice((0, 1, 5, None)))
        hits = [
            (
                draw.choice(USERS * 8 + BAD_NAMES),
                draw.choice(URLS * 8 + BAD_NAMES),
                pair.ms_of(draw.choice(TIMES * 4 + BAD_TIMES[:4])),
                draw.choice((*KINDS * 8, "departed")),
            )
            for _ in range(draw.randrange(100))
        ]
        batched = apply_hits(pair.both[0], hits_frame(hits), now_ms=pair.now_ms)
        assert batched == take_one_by_one(pair.both[1], hits, pair.now_ms)
        pair.compare_all(URLS, 2)


# Properties that follow from the rules, of each index by itself

IMPLEMENTATIONS = pytest.mark.parametrize("make", [ReferenceIndex, Index])
NOW = START_MS + 10 * WINDOW_S * 1000


class Event(NamedTuple):
    """A hit, or with kind "leave" a leave."""

    user: bytes
    url: bytes
    seen_ms: int
    kind: str


def take(index, event, now_ms=NOW):
    if event.kind == "leave":
        return index.leave(event.user, seen_ms=event.seen_ms, now_ms=now_ms)
    return index.hit(event.user, event.url, seen_ms=event.seen_ms, kind=event.kind, now_ms=now_ms)


def take_all(index, events):
    for event in events:
        take(index, event)
    return index


def state(index):
    """All that an index holds, in the order of its lists."""
    return (
        index.statistics()[:2],
        index.kinds(now_ms=NOW),
        index.recent(1000, now_ms=NOW),
        index.users(b"", 1000, now_ms=NOW),
        [(index.kinds(url, now_ms=NOW), index.page(url, 1000, now_ms=NOW)) for url in URLS],
        [index.count(within_s=within_s, now_ms=NOW) for within_s in range(1, WINDOW_S + 1)],
    )


def sessions(index):
    """All that an index holds, equal times in no order."""
    kinds = [index.kinds(url, now_ms=NOW) for url in (None, *URLS)]
    return index.statistics()[:2], kinds, index.users(b"", 1000, now_ms=NOW)


#: Times inside the window at NOW, few enough to meet again.
SEEN = st.sampled_from([NOW - ago_ms for ago_ms in (0, 1, 2, 999, 1000, 1001, 30_000, 58_999, 59_000)])
EVENT = st.builds(Event, st.sampled_from(USERS), st.sampled_from(URLS), SEEN, st.sampled_from((*KINDS, "leave")))
EVENTS = st.lists(EVENT, max_size=30)
ONE_EVENT_A_TIME = st.lists(EVENT, max_size=9, unique_by=lambda event: event.seen_ms)
ONE_EVENT_A_TIME_OF_A_USER = st.lists(EVENT, max_size=30, unique_by=lambda event: (event.user, event.seen_ms))
PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


@IMPLEMENTATIONS
@PROPERTY
@given(events=ONE_EVENT_A_TIME, draw=st.randoms(use_true_random=False))
def test_hits_of_different_times_end_in_the_same_state_in_any_order(make, events, draw):
    shuffled = draw.sample(events, len(events))
    assert state(take_all(make(window_s=WINDOW_S), events)) == state(take_all(make(window_s=WINDOW_S), shuffled))


@IMPLEMENTATIONS
@PROPERTY
@given(events=EVENTS)
def test_repeating_what_made_a_session_changes_nothing(make, events):
    index = take_all(make(window_s=WINDOW_S), events)
    before = state(index)
    newest = {}
    for event in sorted(events, key=lambda event: event.seen_ms):
        newest[event.user] = event
    for event in newest.values():
        assert take(index, event)
    assert state(index) == before


@IMPLEMENTATIONS
@PROPERTY
@given(events=ONE_EVENT_A_TIME_OF_A_USER, data=st.data())
def test_a_replay_from_an_earlier_point_ends_in_the_same_state(make, events, data):
    events.sort(key=lambda event: event.seen_ms)
    index = take_all(make(window_s=WINDOW_S), events)
    before = state(index)
    take_all(index, events[data.draw(st.integers(0, len(events))) :])
    assert state(index) == before


@IMPLEMENTATIONS
@PROPERTY
@given(events=EVENTS, data=st.data())
def test_a_replay_gives_everyone_the_same_session_even_with_many_hits_in_a_millisecond(make, events, data):
    events.sort(key=lambda event: event.seen_ms)
    index = take_all(make(window_s=WINDOW_S), events)
    before = sessions(index)
    take_all(index, events[data.draw(st.integers(0, len(events))) :])
    assert sessions(index) == before


@IMPLEMENTATIONS
@PROPERTY
@given(events=EVENTS, max_users=st.integers(1, 4), max_pages=st.integers(1, 3))
def test_a_hit_is_refused_exactly_when_its_result_would_be_beyond_a_limit(make, events, max_users, max_pages):
    limited = make(window_s=WINDOW_S, max_users=max_users, max_pages=max_pages)
    taken = []
    for event in events:
        unlimited = take_all(make(window_s=WINDOW_S), [*taken, event])
        users, pages = unlimited.statistics()[:2]
        before = state(limited)
        try:
            take(limited, event)
        except FullError:
            departed = limited.statistics().users - sum(limited.kinds(now_ms=NOW))
            is_crowded = event.kind == "leave" and 2 * departed >= max_users
            assert users > max_users or pages > max_pages or is_crowded
            assert state(limited) == before
        else:
            taken.append(event)
            assert state(limited) == state(unlimited)


@IMPLEMENTATIONS
@PROPERTY
@given(events=EVENTS, data=st.data())
def test_paging_neither_repeats_nor_skips_who_did_not_move(make, events, data):
    index = take_all(make(window_s=WINDOW_S), events)
    ask = data.draw(
        st.sampled_from(
            [
                lambda limit, cursor: index.recent(limit, cursor, now_ms=NOW),
                lambda limit, cursor: index.users(b"", limit, cursor, now_ms=NOW),
                lambda limit, cursor: index.page(b"/", limit, cursor, now_ms=NOW)[2:],
            ]
        )
    )
    stayed = {row[0] for row in ask(1000, None)[0]}
    listed, cursor = [], None
    while True:
        rows, cursor = ask(data.draw(st.integers(1, 3)), cursor)
        listed += [row[0] for row in rows]
        if cursor is None:
            break
        for event in data.draw(st.lists(EVENT, max_size=3)):
            if take(index, event):
                stayed.discard(event.user)
    assert {user for user in stayed if listed.count(user) != 1} == set()
