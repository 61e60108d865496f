"""SECTION and TOP while pages come, change and go: exact, in slices, and bounded."""

import random

import pytest
from tests.wiring import NOW, RespError, Wiring, drain, feed, read_resp, resp

from online.core.index import Budget, Index
from online.core.reference import ReferenceIndex
from online.errors import FullError, RangeError

N_PAGES = 16_000
PREFIXES = (b"", b"/", b"/a/", b"/b/", b"/a/1", b"/nowhere")


def url(draw):
    """Most hits go to few pages; the sections /a/ and /b/ are large, and single urls stand between them."""
    n = int(N_PAGES * draw.random() ** 2)
    return b"/%s/%d" % (b"ab"[n % 2 :][:1], n) if n % 50 else b"/%d" % n


class Asking:
    """A connection to an index, and a model of the index."""

    def __init__(self, draw, **limits):
        self.wiring = Wiring(**limits)
        self.wiring.host.sites[b"default"] = self.index = Index(**limits)
        self.model = ReferenceIndex(**limits)
        self.draw = draw
        self.now_ms = NOW
        self.connections = [self.wiring.connect() for _ in range(3)]
        self.waiting = [None] * 3
        self.answers = self.later = 0

    def change(self, n):
        for _ in range(n):
            self.now_ms += self.draw.choice((0, 1, 20))
            user, page = b"%d" % self.draw.randrange(20_000), url(self.draw)
            kind = self.draw.choice(("member", "member", "guest", "hidden", "bot"))
            for index in (self.index, self.model):
                if n % 10:
                    index.hit(user, page, kind=kind, now_ms=self.now_ms)
                else:
                    index.leave(user, now_ms=self.now_ms)

    def ask(self, nth):
        """Begin a question, or go on with one; compare the answer with the model's as of now."""
        connection = self.connections[nth]
        if self.waiting[nth] is None:
            prefix, limit = self.draw.choice(PREFIXES), self.draw.choice((1, 10, 1_000))
            self.waiting[nth] = question = ("SECTION", prefix) if self.draw.random() < 0.5 else ("TOP", limit, prefix)
            connection.receive(resp(*question), now_ms=self.now_ms)
        else:
            connection.proceed(now_ms=self.now_ms)
        output = connection.take_output()
        if not output:
            assert connection.has_work
            self.later += 1
            return
        [answer] = read_resp(output)
        verb, *arguments = self.waiting[nth]
        self.waiting[nth] = None
        self.answers += 1
        wanted = getattr(self.model, verb.lower())(*arguments, now_ms=self.now_ms)
        assert answer == [list(each) if isinstance(each, tuple) else each for each in wanted], (verb, arguments)


@pytest.mark.parametrize("seed", range(2))
def test_answers_are_those_of_the_model_wherever_a_walk_is_cut(seed):
    draw = random.Random(seed)
    asking = Asking(draw)
    asking.change(25_000)
    for n in range(150):
        asking.change(draw.choice((0, 1, 5, 100)))
        asking.ask(draw.randrange(3))
        if n % 25 == 0:
            asking.index._check()
        if n in (60, 120):  # most go, so that TOP has to look for more pages
            asking.now_ms += 1_700_000
            asking.change(300)
            asking.now_ms += 101_000
    assert asking.answers > 50
    assert asking.later > 20


def filled(n_pages, **limits):
    index = Index(**limits)
    for n in range(n_pages):
        index.hit(b"%d" % n, b"/page/%05d" % n, now_ms=NOW)
    return index


def test_equal_pages_are_listed_by_url_however_many_there_are():
    index = filled(20_000)
    for limit in (10, 1_000):
        assert index.top(limit, now_ms=NOW) == [(b"/page/%05d" % n, 1) for n in range(limit)]
    for n in range(1_500):  # those that were listed go
        index.leave(b"%d" % n, now_ms=NOW)
    assert index.top(1_000, now_ms=NOW) == [(b"/page/%05d" % n, 1) for n in range(1_500, 2_500)]
    for n in range(20_000 - 700):
        index.leave(b"%d" % n, now_ms=NOW)
    assert len(index.top(1_000, now_ms=NOW)) == 700
    assert index.section(b"/page/", now_ms=NOW) == (700, 700)


def test_a_kept_section_goes_with_its_site_and_with_time():
    budget = Budget(2**30)
    index = filled(5_000, budget=budget)
    bytes_before = budget.used_bytes
    index.section(b"/page/", now_ms=NOW)
    assert budget.used_bytes > bytes_before
    index.expire(now_ms=NOW + 5_000)
    assert budget.used_bytes > bytes_before
    index.expire(now_ms=NOW + 11_000)
    assert budget.used_bytes == bytes_before
    index.section(b"/page/", now_ms=NOW)
    del index
    assert budget.used_bytes == 0


def test_kept_sections_are_few():
    budget = Budget(2**30)
    index = filled(30_000, budget=budget)
    bytes_before = budget.used_bytes
    index.section(b"/", now_ms=NOW)
    bytes_of_one = budget.used_bytes - bytes_before
    for n in range(20):
        assert index.section(b"/page/%d" % (n % 3), now_ms=NOW + n) == (10_000, 10_000)
        assert index.top(1, b"/page/%05d" % n, now_ms=NOW + n) == [(b"/page/%05d" % n, 1)]
    assert budget.used_bytes - bytes_before < 9 * bytes_of_one


def test_no_memory_for_a_section_is_said():
    index = filled(2_000, budget=Budget(2**22), max_limit=100_000)  # so much is kept for so long an answer
    with pytest.raises(FullError, match="max_memory"):
        index.top(now_ms=NOW)
    index._check()


def test_more_pages_than_the_limit_are_refused_again_and_again():
    index = filled(5_000, max_scan=3_000)
    for _ in range(3):
        with pytest.raises(RangeError, match="3000"):
            index.section(b"/page/", now_ms=NOW)
    assert index.section(b"/page/00", now_ms=NOW) == (1_000, 1_000)
    assert index.top(1, now_ms=NOW) == [(b"/page/00000", 1)]


def test_other_clients_do_not_wait_for_a_long_section():
    wiring = Wiring()
    for n in range(50_000):
        wiring.index.hit(b"%d" % n, b"/page/%05d" % n, now_ms=NOW)
    patient, other = wiring.connect(), wiring.connect()
    patient.receive(resp("SECTION", "/page/") + resp("TOP", "1") + resp("COUNT"), now_ms=NOW)
    turns = 0
    while patient.has_work:
        assert read_resp(feed(other, resp("COUNT"))) == [50_000]
        patient.proceed(now_ms=NOW)
        turns += 1
    assert turns > 10
    assert read_resp(patient.take_output()) == [[50_000, 50_000], [[b"/page/00000", 1]], 50_000]


def test_more_questions_than_places_come_to_an_end():
    wiring = Wiring()
    for n in range(40_000):
        wiring.index.hit(b"%d" % n, b"/%d/%05d" % (n % 12, n), now_ms=NOW)
    connections = [wiring.connect() for _ in range(12)]
    for n, connection in enumerate(connections):
        connection.receive(resp("SECTION", f"/{n}/") if n != 1 else resp("SECTION", "/"), now_ms=NOW)
    for _ in range(100):
        for connection in connections:
            connection.proceed(now_ms=NOW)
    answers = [read_resp(connection.take_output()) for connection in connections]
    assert answers[2:] == [[[3_333 + (n < 4), 3_333 + (n < 4)]] for n in range(2, 12)]
    assert not any(isinstance(answer, RespError) for answer in answers)


def test_a_top_of_nothing_is_empty_whatever_there_is():
    wiring = Wiring()
    for n in range(9_000):
        wiring.index.hit(b"%d" % n, b"/page/%05d" % n, now_ms=NOW)
    assert read_resp(feed(wiring.connect(), resp("TOP", "0") + resp("TOP", "0", "/none"))) == [[], []]


def test_a_transaction_comes_to_an_end_while_all_places_are_waited_for():
    wiring = Wiring()
    for n in range(90_000):
        wiring.index.hit(b"%d" % n, b"/%d/%05d" % (n % 10, n), now_ms=NOW)
    waiting = [wiring.connect() for _ in range(9)]
    for n, connection in enumerate(waiting):
        connection.receive(resp("SECTION", f"/{n}/"), now_ms=NOW)
        assert connection.has_work
    data = resp("MULTI") + resp("SECTION", "/9/") + resp("TOP", "1") + resp("EXEC")
    answer = ["OK", "QUEUED", "QUEUED", [[9_000, 9_000], [[b"/0/00000", 1]]]]
    assert read_resp(feed(wiring.connect(), data)) == answer
    for connection in waiting:
        assert read_resp(drain(connection)) == [[9_000, 9_000]]
