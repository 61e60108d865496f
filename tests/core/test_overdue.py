"""While many sessions that have left the window wait to be dropped: every answer is exact, and no turn is long."""

import pytest
from tests.wiring import NOW, Wiring, feed, read_pack, read_resp, request, resp

N_OLD = 3_000
THEN = NOW + 1_800_000


@pytest.fixture(params=["member", "hidden"])
def wiring(request):
    """3,000 users of one second who have just left, on /old or /mixed, and three who are online still."""
    wiring = Wiring()
    for n in range(N_OLD):
        wiring.index.hit(b"old-%d" % n, b"/old" if n % 3 else b"/mixed", seen_ms=NOW, kind=request.param, now_ms=NOW)
    for user, kind in ((b"new-1", "member"), (b"new-2", "guest"), (b"new-3", "bot")):
        wiring.index.hit(user, b"/mixed", seen_ms=NOW + 5_000, kind=kind, now_ms=NOW + 5_000)
    return wiring


def turns(connection, data):
    """Give `data` to a connection; return its output and how many turns that took."""
    connection.receive(data, now_ms=THEN)
    output, n = connection.take_output(), 1
    while connection.has_work:
        connection.proceed(now_ms=THEN)
        output += connection.take_output()
        n += 1
    return output, n


VIEWERS = [[b"new-2", NOW + 5_000, b"guest"], [b"new-1", NOW + 5_000, b"member"]]

#: Questions, their answers, and whether they drop what they meet, which takes more than a turn.
ASKED = [
    (("COUNT",), 2, False),
    (("COUNT", "", "1800"), 2, False),
    (("KINDS",), [1, 1, 0, 1], False),
    (("SEEN", "old-1", "new-1"), [None, [b"/mixed", NOW + 5_000]], False),
    (("RECENT", "1000"), [[[user, b"/mixed", *rest] for user, *rest in VIEWERS], None], False),
    (("PAGE", "/nowhere"), [2, 0, [], None], False),
    (("COUNT", "/old"), 0, True),
    (("COUNTS", "/old", "/mixed", "/nowhere"), [0, 2, 0], True),
    (("KINDS", "/mixed"), [1, 1, 0, 1], True),
    (("PAGE", "/mixed"), [2, 2, VIEWERS, None], True),
    (("PAGE", "/old"), [2, 0, [], None], True),
    (("SECTION", "/"), [2, 1], True),
]


@pytest.mark.parametrize(
    ("question", "answer", "drops"), ASKED, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_question_is_exact_and_drops_only_what_it_reads(wiring, question, answer, drops):
    connection = wiring.connect()
    output, n = turns(connection, resp(*question))
    assert read_resp(output) == [answer]
    assert (n > 3) == drops
    assert (wiring.index.statistics().overdue < N_OLD) == drops
    wiring.index._check()


@pytest.mark.parametrize("wiring", ["member"], indirect=True)
def test_a_list_by_name_drops_what_it_meets(wiring):
    output, n = turns(wiring.connect(), resp("USERS", "", "1"))
    [[users, cursor]] = read_resp(output)
    assert users == [[b"new-1", b"/mixed", NOW + 5_000, b"member"]]
    assert n == 1  # names before old-...
    output, n = turns(wiring.connect(), resp("USERS", "", "30", cursor))
    assert read_resp(output) == [[[[b"new-2", b"/mixed", NOW + 5_000, b"guest"]], None]]
    assert n > 3
    assert wiring.index.statistics().overdue == 0


def test_answers_stay_in_order_around_a_question_that_waits(wiring):
    asked = [("PING",), ("PAGE", "/old"), ("COUNT",), ("CLIENT", "REPLY", "skip"), ("PAGE", "/mixed"), ("PING",)]
    output, n = turns(wiring.connect(), b"".join(resp(*words) for words in asked))
    assert read_resp(output) == ["PONG", [2, 0, [], None], 2, "PONG"]
    assert n > 3


def test_the_other_dialect_waits_as_well(wiring):
    data = request("PAGE", "/old", msgid=7) + request("COUNT", msgid=8)
    output, n = turns(wiring.connect(), data)
    assert read_pack(output) == [(7, None, [2, 0, [], None]), (8, None, 2)]
    assert n > 3


def test_a_frame_in_pieces_waits_as_well(wiring):
    data = request("COUNTS", "/old", "/mixed", msgid=7)
    connection = wiring.connect()
    assert read_pack(feed(connection, data, piece=1, now_ms=THEN)) == [(7, None, [0, 2])]


def test_another_client_is_answered_meanwhile(wiring):
    patient, other = wiring.connect(), wiring.connect()
    patient.receive(resp("PAGE", "/old"), now_ms=THEN)
    assert patient.has_work
    assert read_resp(feed(other, resp("COUNT") + resp("SEEN", "old-7"), now_ms=THEN)) == [2, [None]]
    assert patient.take_output() == b""


def test_a_transaction_waits_before_it_begins(wiring):
    connection = wiring.connect()
    output, n = turns(connection, resp("MULTI") + resp("PAGE", "/old") + resp("COUNT") + resp("EXEC"))
    assert read_resp(output) == ["OK", "QUEUED", "QUEUED", [[2, 0, [], None], 2]]
    assert n > 3


def test_a_user_who_comes_back_is_online_again(wiring):
    connection = wiring.connect()
    assert read_resp(feed(connection, resp("HIT", "old-1", "/back"), now_ms=THEN)) == ["OK"]
    assert read_resp(feed(connection, resp("SEEN", "old-1") + resp("COUNT"), now_ms=THEN)) == [[[b"/back", THEN]], 3]
    assert read_resp(feed(connection, resp("LEAVE", "old-2") + resp("COUNT"), now_ms=THEN)) == ["OK", 3]
    assert wiring.index.statistics().overdue == N_OLD - 2
    wiring.index._check()


@pytest.mark.parametrize("limits", [{"max_users": 10}, {"max_pages": 2}])
def test_a_limit_is_judged_without_those_who_left(make_index, limits):
    index = make_index(**limits)
    for n in range(10):
        index.hit(b"old-%d" % n, b"/old" if n else b"/other", now_ms=NOW)
    for n in range(10):
        assert index.hit(b"new-%d" % n, b"/new" if n else b"/newer", now_ms=THEN)
    assert index.kinds(now_ms=THEN) == [10, 0, 0, 0]


def test_a_sleep_of_days_empties_the_index(make_index):
    index = make_index()
    for n in range(100):
        index.hit(b"old-%d" % n, b"/old", kind=("member", "bot")[n % 2], now_ms=NOW)
    later = NOW + 80 * 3_600_000
    assert index.count(now_ms=later) == 0
    assert index.hit(b"old-1", b"/new", now_ms=later)
    assert index.recent(now_ms=later)[0] == [(b"old-1", b"/new", later, "member")]
