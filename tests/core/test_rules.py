"""The rules of hits, one by one, worked out by hand: what the index and its reference must both do.

Whether the two agree beyond these examples is the matter of test_model.py.
"""

import pytest

from online.errors import FullError, RangeError
from online.terms import KINDS, SEEN_MAX_MS, SEEN_MIN_MS

#: A time at the very beginning of a second.
NOW = 1_700_000_000_000
WINDOW_S = 1800
#: The oldest time that is online at NOW.
EDGE = NOW - (WINDOW_S - 1) * 1000


@pytest.fixture
def index(make_index):
    return make_index()


def what_became(index):
    """The counters of hits, those that are zero left out."""
    counters = index.statistics()._asdict()
    return {name: counters[name] for name in ("accepted", "late", "stale", "skewed", "refused") if counters[name]}


def state(index, now_ms):
    """Everything that can be asked, except what became of hits."""
    users, _ = index.users(limit=1000, now_ms=now_ms)
    urls = sorted({url for _, url, _, _ in users})
    return (
        index.statistics()[:2],
        index.kinds(now_ms=now_ms),
        users,
        index.recent(1000, now_ms=now_ms),
        [index.page(url, 1000, now_ms=now_ms) for url in urls],
        index.top(1000, now_ms=now_ms),
    )


def names(listing):
    """The users of a listing, in its order."""
    return [row[0] for row in listing]


# An empty index


def test_an_empty_index_answers_every_question(index):
    assert index.count(now_ms=NOW) == 0
    assert index.count(b"/", now_ms=NOW) == 0
    assert index.count(within_s=60, now_ms=NOW) == 0
    assert index.counts([b"/", b"/x"], now_ms=NOW) == [0, 0]
    assert index.counts([], now_ms=NOW) == []
    assert index.kinds(now_ms=NOW) == [0, 0, 0, 0]
    assert index.kinds(b"/", now_ms=NOW) == [0, 0, 0, 0]
    assert index.page(b"/", now_ms=NOW) == (0, 0, [], None)
    assert index.recent(now_ms=NOW) == ([], None)
    assert index.users(now_ms=NOW) == ([], None)
    assert index.seen([b"theo"], now_ms=NOW) == [None]
    assert index.section(b"/", now_ms=NOW) == (0, 0)
    assert index.top(now_ms=NOW) == []
    assert index.peak() == (0, 0)
    assert index.expire(now_ms=NOW) == 0
    assert what_became(index) == {}


# Rule 1: newest wins


def test_a_user_is_where_the_newest_hit_was(index):
    assert index.hit(b"theo", b"/a", seen_ms=NOW - 2000, now_ms=NOW)
    assert index.hit(b"theo", b"/b", seen_ms=NOW - 1000, kind="guest", now_ms=NOW)
    assert index.count(now_ms=NOW) == 1
    assert index.page(b"/a", now_ms=NOW) == (1, 0, [], None)
    assert index.page(b"/b", now_ms=NOW) == (1, 1, [(b"theo", NOW - 1000, "guest")], None)
    assert index.seen([b"theo"], now_ms=NOW) == [(b"/b", NOW - 1000)]


def test_an_older_hit_is_stale(index):
    index.hit(b"theo", b"/b", seen_ms=NOW - 1000, now_ms=NOW)
    before = state(index, NOW)
    assert not index.hit(b"theo", b"/a", seen_ms=NOW - 1001, now_ms=NOW)
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 1, "stale": 1}


def test_of_equal_times_the_later_arrival_wins(index):
    index.hit(b"theo", b"/a", seen_ms=NOW, now_ms=NOW)
    assert index.hit(b"theo", b"/b", seen_ms=NOW, now_ms=NOW)
    assert index.hit(b"theo", b"/b", seen_ms=NOW, kind="hidden", now_ms=NOW)
    assert index.kinds(b"/b", now_ms=NOW) == [0, 0, 1, 0]
    assert index.statistics().pages == 1


def test_a_hit_that_differs_becomes_the_newest_among_equals(index):
    for user in (b"ada", b"ben", b"cyd"):
        index.hit(user, b"/a", seen_ms=NOW, now_ms=NOW)
    index.hit(b"ada", b"/a", seen_ms=NOW, kind="guest", now_ms=NOW)
    assert names(index.page(b"/a", now_ms=NOW)[2]) == [b"ada", b"cyd", b"ben"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_repeat_is_accepted_and_changes_nothing(index, kind):
    index.hit(b"ada", b"/a", seen_ms=NOW, kind=kind, now_ms=NOW)
    index.hit(b"ben", b"/a", seen_ms=NOW, now_ms=NOW)
    before = state(index, NOW)
    assert index.hit(b"ada", b"/a", seen_ms=NOW, kind=kind, now_ms=NOW)
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 3}


def test_a_repeated_leave_is_accepted_and_changes_nothing(index):
    index.leave(b"ada", seen_ms=NOW, now_ms=NOW)
    before = state(index, NOW)
    assert index.leave(b"ada", seen_ms=NOW, now_ms=NOW)
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 2}


def test_a_time_not_given_is_now(index):
    index.hit(b"theo", b"/a", now_ms=NOW)
    index.hit(b"ada", b"/a", now_ms=NOW - 60_000)  # the clock does not go back
    assert index.seen([b"theo", b"ada"], now_ms=NOW) == [(b"/a", NOW), (b"/a", NOW)]


# Rule 2: the window, in seconds


@pytest.mark.parametrize("rest_ms", [0, 1, 999])
def test_a_hit_in_the_oldest_second_of_the_window_is_online(index, rest_ms):
    assert index.hit(b"theo", b"/a", seen_ms=EDGE, now_ms=NOW + rest_ms)
    assert index.count(now_ms=NOW + rest_ms) == 1


@pytest.mark.parametrize("rest_ms", [0, 1, 999])
def test_a_hit_before_the_window_is_late(index, rest_ms):
    assert not index.hit(b"theo", b"/a", seen_ms=EDGE - 1, now_ms=NOW + rest_ms)
    assert index.count(now_ms=NOW + rest_ms) == 0
    assert what_became(index) == {"late": 1}


def test_a_leave_before_the_window_is_late(index):
    assert not index.leave(b"theo", seen_ms=EDGE - 1, now_ms=NOW)
    assert what_became(index) == {"late": 1}
    assert index.statistics().users == 0


def test_a_late_hit_is_not_also_stale(index):
    index.hit(b"theo", b"/a", now_ms=NOW)
    index.hit(b"theo", b"/a", seen_ms=EDGE - 1, now_ms=NOW)
    assert what_became(index) == {"accepted": 1, "late": 1}


@pytest.mark.parametrize("window_s", [60, 1800, 86_400])
def test_a_user_is_online_to_the_end_of_the_windows_last_second(make_index, window_s):
    index = make_index(window_s=window_s)
    index.hit(b"theo", b"/a", seen_ms=NOW + 567, now_ms=NOW + 567)
    assert index.count(now_ms=NOW + window_s * 1000 - 1) == 1
    assert index.count(now_ms=NOW + window_s * 1000) == 0


def test_users_of_one_second_expire_together(index):
    for ms in (0, 500, 999):
        index.hit(b"user %d" % ms, b"/a", seen_ms=NOW + ms, now_ms=NOW + 999)
    index.hit(b"next", b"/a", now_ms=NOW + 1000)
    assert index.expire(now_ms=NOW + WINDOW_S * 1000 - 1) == 0
    assert index.expire(now_ms=NOW + WINDOW_S * 1000) == 3
    assert index.expire(now_ms=NOW + WINDOW_S * 1000) == 0
    assert index.expire(now_ms=NOW + WINDOW_S * 1000 + 1000) == 1
    assert index.statistics()[:2] == (0, 0)


def test_an_index_unused_for_a_year_is_empty_at_once(index):
    for kind in KINDS:
        index.hit(kind.encode(), b"/a", kind=kind, now_ms=NOW)
    index.leave(b"gone", now_ms=NOW)
    later = NOW + 365 * 86_400_000
    assert index.recent(now_ms=later) == ([], None)
    assert index.kinds(now_ms=later) == [0, 0, 0, 0]
    assert index.statistics()[:2] == (0, 0)


# Rule 3: hits from the future


@pytest.mark.parametrize(("ahead_ms", "skewed"), [(1, 0), (5000, 0), (5001, 1), (10**12, 1)])
def test_a_hit_from_the_future_happens_now(index, ahead_ms, skewed):
    assert index.hit(b"theo", b"/a", seen_ms=NOW + ahead_ms, now_ms=NOW)
    assert index.seen([b"theo"], now_ms=NOW) == [(b"/a", NOW)]
    assert index.statistics().skewed == skewed
    assert index.statistics().accepted == 1


def test_one_wrong_clock_keeps_nobody_online_and_pushes_nobody_out(index):
    index.hit(b"ada", b"/a", now_ms=NOW)
    index.hit(b"theo", b"/a", seen_ms=NOW + 10**9, now_ms=NOW)
    assert index.count(now_ms=NOW) == 2
    assert index.hit(b"theo", b"/b", seen_ms=NOW + 1, now_ms=NOW + 1)  # the right clock again
    assert index.count(now_ms=NOW + WINDOW_S * 1000) == 0


def test_a_repeat_from_the_future_is_a_repeat_of_now(index):
    index.hit(b"ada", b"/a", seen_ms=NOW + 6000, now_ms=NOW)
    index.hit(b"ben", b"/a", seen_ms=NOW, now_ms=NOW)
    assert index.hit(b"ada", b"/a", seen_ms=NOW + 7000, now_ms=NOW)
    assert names(index.recent(now_ms=NOW)[0]) == [b"ben", b"ada"]
    assert what_became(index) == {"accepted": 3, "skewed": 2}


def test_a_refused_hit_is_not_counted_as_skewed(make_index):
    index = make_index(max_users=1)
    index.hit(b"ada", b"/a", now_ms=NOW)
    with pytest.raises(FullError):
        index.hit(b"ben", b"/a", seen_ms=NOW + 6000, now_ms=NOW)
    assert what_became(index) == {"accepted": 1, "refused": 1}


# Rule 4: leaving


def test_leave_takes_a_user_offline(index):
    index.hit(b"theo", b"/a", seen_ms=NOW - 1, now_ms=NOW)
    assert index.leave(b"theo", seen_ms=NOW, now_ms=NOW)
    assert index.count(now_ms=NOW) == 0
    assert index.kinds(now_ms=NOW) == [0, 0, 0, 0]
    assert index.recent(now_ms=NOW) == ([], None)
    assert index.users(now_ms=NOW) == ([], None)
    assert index.seen([b"theo"], now_ms=NOW) == [None]
    assert index.statistics()[:2] == (1, 0)  # the departed session is kept, its page is not


def test_leave_obeys_newest_wins(index):
    index.hit(b"theo", b"/a", seen_ms=NOW, now_ms=NOW)
    assert not index.leave(b"theo", seen_ms=NOW - 1, now_ms=NOW)
    assert index.count(now_ms=NOW) == 1
    assert what_became(index) == {"accepted": 1, "stale": 1}


@pytest.mark.parametrize("was_known", [True, False])
def test_an_older_hit_does_not_bring_a_departed_user_back(index, was_known):
    if was_known:
        index.hit(b"theo", b"/a", seen_ms=NOW - 5000, now_ms=NOW)
    index.leave(b"theo", seen_ms=NOW, now_ms=NOW)
    assert not index.hit(b"theo", b"/b", seen_ms=NOW - 1, now_ms=NOW)
    assert index.count(now_ms=NOW) == 0
    assert index.statistics().stale == 1


def test_a_newer_hit_brings_a_departed_user_back(index):
    index.leave(b"theo", seen_ms=NOW - 1, now_ms=NOW)
    assert index.hit(b"theo", b"/a", seen_ms=NOW, now_ms=NOW)
    assert index.page(b"/a", now_ms=NOW) == (1, 1, [(b"theo", NOW, "member")], None)


def test_of_a_hit_and_a_leave_with_equal_times_the_later_arrival_wins(index):
    index.hit(b"ada", b"/a", seen_ms=NOW, now_ms=NOW)
    index.leave(b"ada", seen_ms=NOW, now_ms=NOW)
    index.leave(b"ben", seen_ms=NOW, now_ms=NOW)
    index.hit(b"ben", b"/a", seen_ms=NOW, now_ms=NOW)
    assert names(index.recent(now_ms=NOW)[0]) == [b"ben"]


def test_a_departed_session_ends_with_its_window(index):
    index.leave(b"theo", now_ms=NOW)
    assert index.expire(now_ms=NOW + WINDOW_S * 1000 - 1) == 0
    assert index.statistics().users == 1
    assert index.expire(now_ms=NOW + WINDOW_S * 1000) == 1
    assert index.statistics().users == 0


def test_leave_from_the_future_happens_now(index):
    index.leave(b"theo", seen_ms=NOW + 6000, now_ms=NOW)
    assert index.hit(b"theo", b"/a", seen_ms=NOW + 1, now_ms=NOW + 1)
    assert what_became(index) == {"accepted": 2, "skewed": 1}


# Rule 5: exact as of now


@pytest.mark.parametrize(
    "ask",
    [
        lambda index, now_ms: index.count(now_ms=now_ms),
        lambda index, now_ms: index.count(b"/a", now_ms=now_ms),
        lambda index, now_ms: index.count(within_s=WINDOW_S, now_ms=now_ms),
        lambda index, now_ms: index.counts([b"/a"], now_ms=now_ms)[0],
        lambda index, now_ms: sum(index.kinds(now_ms=now_ms)),
        lambda index, now_ms: sum(index.kinds(b"/a", now_ms=now_ms)),
        lambda index, now_ms: index.page(b"/a", now_ms=now_ms)[0],
        lambda index, now_ms: index.page(b"/a", now_ms=now_ms)[1],
        lambda index, now_ms: len(index.page(b"/a", now_ms=now_ms)[2]),
        lambda index, now_ms: len(index.recent(now_ms=now_ms)[0]),
        lambda index, now_ms: len(index.users(now_ms=now_ms)[0]),
        lambda index, now_ms: sum(seen is not None for seen in index.seen([b"ada", b"ben"], now_ms=now_ms)),
        lambda index, now_ms: index.section(b"/", now_ms=now_ms)[0],
        lambda index, now_ms: sum(people for _, people in index.top(now_ms=now_ms)),
    ],
)
def test_no_answer_counts_what_has_expired(index, ask):
    index.hit(b"ada", b"/a", now_ms=NOW)
    index.hit(b"ben", b"/a", now_ms=NOW + 1000)
    assert ask(index, NOW + 1000) == 2
    assert ask(index, NOW + WINDOW_S * 1000) == 1
    assert ask(index, NOW + WINDOW_S * 1000 + 1000) == 0


def test_count_within_seconds_has_the_grain_of_a_second(index):
    for age_s in (0, 1, 59, 60, 61):
        index.hit(b"user %d" % age_s, b"/a", seen_ms=NOW - age_s * 1000, now_ms=NOW)
    asked = {within_s: index.count(within_s=within_s, now_ms=NOW + 999) for within_s in (1, 2, 59, 60, 61, 62)}
    assert asked == {1: 1, 2: 2, 59: 2, 60: 3, 61: 4, 62: 5}
    assert index.count(within_s=1, now_ms=NOW + 1000) == 0


def test_count_within_seconds_counts_people(index):
    for kind in KINDS:
        index.hit(kind.encode(), b"/a", kind=kind, now_ms=NOW)
    index.leave(b"gone", now_ms=NOW)
    assert index.count(within_s=1, now_ms=NOW) == 3


# Rule 6: order and paging


def test_lists_are_newest_first_and_equals_by_later_arrival(index):
    for user, seen_ms in [(b"b", NOW - 1), (b"a", NOW), (b"d", NOW - 1), (b"c", NOW)]:
        index.hit(user, b"/" + user, seen_ms=seen_ms, now_ms=NOW)
        index.hit(user, b"/", seen_ms=seen_ms, now_ms=NOW)
    assert names(index.recent(now_ms=NOW)[0]) == [b"c", b"a", b"d", b"b"]
    assert names(index.page(b"/", now_ms=NOW)[2]) == [b"c", b"a", b"d", b"b"]


def test_users_are_listed_in_order_of_their_bytes(index):
    users = [b"\xff", b"a", b"ab", b"b", b"B", b"\x00", b"a\x00", "é".encode()]
    for user in users:
        index.hit(user, b"/", now_ms=NOW)
    assert names(index.users(now_ms=NOW)[0]) == sorted(users)
    assert names(index.users(b"a", now_ms=NOW)[0]) == [b"a", b"a\x00", b"ab"]
    assert names(index.users(b"\xff", now_ms=NOW)[0]) == [b"\xff"]
    assert names(index.users(b"ac", now_ms=NOW)[0]) == []


def test_lists_tell_all_of_a_session(index):
    index.hit(b"theo", b"/a", seen_ms=NOW - 5, kind="guest", now_ms=NOW)
    assert index.recent(now_ms=NOW) == ([(b"theo", b"/a", NOW - 5, "guest")], None)
    assert index.users(now_ms=NOW) == ([(b"theo", b"/a", NOW - 5, "guest")], None)


def paged(ask, limit):
    """Follow the cursors of a list to its end; return the users and the number of replies."""
    users, cursor, replies = [], None, 0
    while replies == 0 or cursor is not None:
        *_, rows, cursor = ask(limit, cursor)
        users += names(rows)
        replies += 1
    return users, replies


@pytest.mark.parametrize(("limit", "replies"), [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (8, 1), (1000, 1)])
def test_following_cursors_gives_the_whole_list(index, limit, replies):
    for number in range(7):
        index.hit(b"user %d" % number, b"/a", seen_ms=NOW + number // 3, now_ms=NOW + 2)
    newest_first = [b"user %d" % number for number in reversed(range(7))]
    now = {"now_ms": NOW + 2}
    assert paged(lambda *args: index.page(b"/a", *args, **now), limit) == (newest_first, replies)
    assert paged(lambda *args: index.recent(*args, **now), limit) == (newest_first, replies)
    assert paged(lambda *args: index.users(b"user", *args, **now), limit) == (newest_first[::-1], replies)


def test_limit_0_gives_the_counts_alone(index):
    index.hit(b"theo", b"/a", now_ms=NOW)
    assert index.page(b"/a", 0, now_ms=NOW) == (1, 1, [], None)
    assert index.recent(0, now_ms=NOW) == ([], None)
    assert index.users(b"", 0, now_ms=NOW) == ([], None)
    assert index.top(0, now_ms=NOW) == []


def test_a_cursor_goes_on_behind_its_user_who_has_moved(index):
    for number in range(4):
        index.hit(b"user %d" % number, b"/a", seen_ms=NOW, now_ms=NOW)
    _, _, _, on_page = index.page(b"/a", 2, now_ms=NOW)  # listed: 3, 2
    _, recent = index.recent(2, now_ms=NOW)
    _, by_name = index.users(b"", 2, now_ms=NOW)  # listed: 0, 1
    index.hit(b"user 2", b"/b", now_ms=NOW + 1)
    index.leave(b"user 1", now_ms=NOW + 1)
    index.hit(b"new", b"/a", now_ms=NOW + 1)
    assert names(index.page(b"/a", 9, on_page, now_ms=NOW + 1)[2]) == [b"user 0"]
    assert names(index.recent(9, recent, now_ms=NOW + 1)[0]) == [b"user 0"]
    assert names(index.users(b"", 9, by_name, now_ms=NOW + 1)[0]) == [b"user 2", b"user 3"]


@pytest.mark.parametrize("later_ms", [2 * WINDOW_S * 1000, 2**27 + 1000, 2**28, 365 * 86_400_000])
def test_a_cursor_whose_list_has_expired_ends_it(index, later_ms):
    for number in range(4):
        index.hit(b"user %d" % number, b"/a", seen_ms=NOW, now_ms=NOW)
    _, _, _, on_page = index.page(b"/a", 2, now_ms=NOW)
    _, recent = index.recent(2, now_ms=NOW)
    later = NOW + later_ms
    index.hit(b"new", b"/a", now_ms=later)
    assert index.page(b"/a", 9, on_page, now_ms=later) == (1, 1, [], None)
    assert index.recent(9, recent, now_ms=later) == ([], None)


def test_a_cursor_outlives_its_page(index):
    for user in (b"ada", b"ben"):
        index.hit(user, b"/a", seen_ms=NOW, now_ms=NOW)
    _, _, _, cursor = index.page(b"/a", 1, now_ms=NOW)
    for user in (b"ada", b"ben"):
        index.hit(user, b"/b", now_ms=NOW + 1)
    assert index.page(b"/a", 1, cursor, now_ms=NOW + 1) == (2, 0, [], None)


# Rule 7: who is named


def test_lists_name_members_and_guests_only(index):
    for kind in KINDS:
        index.hit(kind.encode(), b"/a", kind=kind, now_ms=NOW)
    index.leave(b"gone", now_ms=NOW)
    assert index.page(b"/a", now_ms=NOW) == (
        3,
        3,
        [(b"guest", NOW, "guest"), (b"member", NOW, "member")],
        None,
    )
    assert names(index.recent(now_ms=NOW)[0]) == [b"guest", b"member"]
    assert names(index.users(now_ms=NOW)[0]) == [b"guest", b"member"]
    asked = [b"member", b"guest", b"hidden", b"bot", b"gone", b"nobody"]
    assert index.seen(asked, now_ms=NOW) == [(b"/a", NOW), (b"/a", NOW), None, None, None, None]


def test_people_are_all_kinds_but_bots(index):
    for number, kind in enumerate(KINDS, 1):
        for nth in range(number):
            index.hit(b"%s %d" % (kind.encode(), nth), b"/a", kind=kind, now_ms=NOW)
    assert index.kinds(now_ms=NOW) == [1, 2, 3, 4]
    assert index.kinds(b"/a", now_ms=NOW) == [1, 2, 3, 4]
    assert index.count(now_ms=NOW) == 6
    assert index.count(b"/a", now_ms=NOW) == 6
    assert index.counts([b"/a", b"/b", b"/a"], now_ms=NOW) == [6, 0, 6]


def test_a_user_may_change_kind(index):
    for kind in (*KINDS, *reversed(KINDS)):
        index.hit(b"theo", b"/a", seen_ms=NOW, kind=kind, now_ms=NOW)
        assert index.kinds(now_ms=NOW) == [int(kind == other) for other in KINDS]
        assert names(index.recent(now_ms=NOW)[0]) == ([b"theo"] if kind in ("member", "guest") else [])


# Pages and sections


def test_a_page_is_there_while_a_session_of_any_kind_is(index):
    index.hit(b"crawler", b"/a", kind="bot", now_ms=NOW)
    assert index.statistics().pages == 1
    assert index.section(b"/", now_ms=NOW) == (0, 1)
    assert index.top(now_ms=NOW) == []
    index.hit(b"crawler", b"/b", kind="bot", now_ms=NOW + 1)
    assert index.statistics().pages == 1
    index.leave(b"crawler", now_ms=NOW + 2)
    assert index.statistics().pages == 0


def test_a_section_is_all_urls_that_begin_with_its_prefix(index):
    for user, url in [
        (b"1", b"/a"),
        (b"2", b"/a"),
        (b"3", b"/a/b"),
        (b"4", b"/ab"),
        (b"5", b"/b"),
        (b"6", b"/\xff"),
    ]:
        index.hit(user, url, now_ms=NOW)
    index.hit(b"7", b"/a/bot", kind="bot", now_ms=NOW)
    asked = {prefix: index.section(prefix, now_ms=NOW) for prefix in (b"", b"/a", b"/a/", b"/\xff", b"/c", b"/a/b")}
    assert asked == {
        b"": (6, 6),
        b"/a": (4, 4),
        b"/a/": (1, 2),
        b"/\xff": (1, 1),
        b"/c": (0, 0),
        b"/a/b": (1, 2),
    }


def test_a_section_of_more_pages_than_may_be_scanned_is_refused(make_index):
    index = make_index(max_scan=3)
    for url in (b"/1", b"/2", b"/3"):
        index.hit(url, url, now_ms=NOW)
    assert index.section(b"/", now_ms=NOW) == (3, 3)
    index.hit(b"/4", b"/4", kind="bot", now_ms=NOW)
    message = 'more than 3 pages, the limit max_scan, begin with "/"; ask for a longer prefix'
    with pytest.raises(RangeError, match=message):
        index.section(b"/", now_ms=NOW)
    assert index.section(b"/4", now_ms=NOW) == (0, 1)


def test_top_lists_most_people_first_and_equals_by_url(index):
    for number, url in enumerate([b"/b", b"/a", b"/b", b"/c", b"/a", b"/d"]):
        index.hit(b"user %d" % number, url, now_ms=NOW)
    for number in range(9):
        index.hit(b"bot %d" % number, b"/d", kind="bot", now_ms=NOW)
    everything = [(b"/a", 2), (b"/b", 2), (b"/c", 1), (b"/d", 1)]
    for limit in range(6):
        assert index.top(limit, now_ms=NOW) == everything[:limit]
    assert index.top(2, b"/c", now_ms=NOW) == [(b"/c", 1)]
    assert index.top(2, b"/x", now_ms=NOW) == []


# The most people


def test_peak_is_the_most_people_ever_and_when_that_was_first_so(index):
    index.hit(b"crawler", b"/a", kind="bot", now_ms=NOW)
    assert index.peak() == (0, 0)
    index.hit(b"ada", b"/a", seen_ms=NOW - 5000, now_ms=NOW)
    assert index.peak() == (1, NOW)
    index.hit(b"ben", b"/a", kind="hidden", now_ms=NOW + 1)
    index.leave(b"ben", now_ms=NOW + 2)
    index.hit(b"ben", b"/a", now_ms=NOW + 3)
    assert index.peak() == (2, NOW + 1)
    index.expire(now_ms=NOW + 2 * WINDOW_S * 1000)
    assert index.peak() == (2, NOW + 1)


def test_peak_does_not_count_who_has_expired(index):
    index.hit(b"ada", b"/a", now_ms=NOW)
    index.hit(b"ben", b"/a", now_ms=NOW + WINDOW_S * 1000)
    assert index.peak() == (1, NOW)


# Rule 8: time


def test_time_never_goes_back(index):
    index.hit(b"theo", b"/a", now_ms=NOW)
    index.expire(now_ms=NOW + WINDOW_S * 1000)
    assert index.count(now_ms=NOW) == 0
    assert not index.hit(b"theo", b"/a", seen_ms=NOW, now_ms=NOW)
    assert index.hit(b"theo", b"/a", seen_ms=NOW + WINDOW_S * 1000, now_ms=NOW)
    assert what_became(index) == {"accepted": 2, "late": 1}


# Rule 9: bad input, named, and changing nothing


def bad_hits():
    """Arguments of `hit` that are refused, and the end of the message."""
    good = {"user": b"theo", "url": b"/a", "seen_ms": NOW}
    long_shown = '"' + "x" * 64 + '"...'
    for bad, message in [
        ({"user": b""}, "user is empty; it takes 1 to 256 bytes"),
        ({"user": b"x" * 257}, "user has 257 bytes, the limit is 256: " + long_shown),
        (
            {"user": b'\xff\0\r\n" \\' + b"y" * 250},
            r'user has 257 bytes, the limit is 256: "\xff\x00\r\n\" \\' + "y" * 57 + '"...',
        ),
        ({"url": b""}, "url is empty; it takes 1 to 2048 bytes"),
        ({"url": b"x" * 2049}, "url has 2049 bytes, the limit is 2048: " + long_shown),
        ({"user": b"", "url": b"", "seen_ms": 0}, "user is empty; it takes 1 to 256 bytes"),
        ({"url": b"", "seen_ms": 0, "kind": "x"}, "url is empty; it takes 1 to 2048 bytes"),
        ({"seen_ms": 0, "kind": "x"}, "not 0"),
        ({"seen_ms": -1}, "not -1"),
        ({"seen_ms": -NOW}, f"not -{NOW}"),
        ({"seen_ms": NOW // 1000}, f"not {NOW // 1000}; that looks like seconds"),
        ({"seen_ms": NOW * 1000}, f"not {NOW * 1000}; that looks like microseconds"),
        ({"seen_ms": SEEN_MIN_MS - 1}, f"not {SEEN_MIN_MS - 1}; that looks like seconds"),
        ({"seen_ms": SEEN_MAX_MS + 1}, f"not {SEEN_MAX_MS + 1}; that looks like microseconds"),
        ({"seen_ms": 2**63}, f"not {2**63}"),
        ({"seen_ms": 2**64 + NOW}, f"not {2**64 + NOW}"),
        ({"seen_ms": -(2**63) - 1}, f"not {-(2**63) - 1}"),
        ({"seen_ms": 10**5000}, "not a number of 16610 bits"),
        ({"kind": ""}, 'kind takes member, guest, hidden or bot, not ""'),
        ({"kind": "Member"}, 'kind takes member, guest, hidden or bot, not "Member"'),
        ({"kind": "departed"}, 'kind takes member, guest, hidden or bot, not "departed"'),
        ({"kind": "é\n"}, r'kind takes member, guest, hidden or bot, not "\xc3\xa9\n"'),
        ({"kind": "\ud800"}, r'kind takes member, guest, hidden or bot, not "\\ud800"'),
    ]:
        yield pytest.param(good | bad, message, id=message[:70])


@pytest.mark.parametrize(("hit", "message"), list(bad_hits()))
def test_a_bad_hit_is_refused_and_counted_and_changes_nothing(index, hit, message):
    index.hit(b"theo", b"/b", seen_ms=NOW - 1, now_ms=NOW)
    before = state(index, NOW)
    with pytest.raises(RangeError) as caught:
        index.hit(**hit, now_ms=NOW)
    assert str(caught.value).endswith(message)
    assert str(caught.value).isprintable()
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 1, "refused": 1}


@pytest.mark.parametrize(
    ("leave", "message"),
    [
        ({"user": b""}, "user is empty; it takes 1 to 256 bytes"),
        ({"user": b"x" * 257}, "the limit is 256"),
        ({"user": b"theo", "seen_ms": NOW // 1000}, "that looks like seconds"),
        ({"user": b"theo", "seen_ms": 2**70}, f"not {2**70}"),
    ],
)
def test_a_bad_leave_is_refused_and_counted_and_changes_nothing(index, leave, message):
    index.hit(b"theo", b"/a", seen_ms=NOW, now_ms=NOW)
    with pytest.raises(RangeError) as caught:
        index.leave(**leave, now_ms=NOW)
    assert message in str(caught.value)
    assert index.count(now_ms=NOW) == 1
    assert what_became(index) == {"accepted": 1, "refused": 1}


def bad_questions():
    """Questions that are refused, and the message."""
    number = "{} takes {} to {}, not {}"
    for ask, message in [
        (lambda index, **now: index.count(b"", **now), "url is empty; it takes 1 to 2048 bytes"),
        (lambda index, **now: index.count(b"x" * 2049, **now), "url has 2049 bytes"),
        (lambda index, **now: index.count(b"/a", 60, **now), "within_s counts the whole site"),
        (lambda index, **now: index.count(None, 0, **now), number.format("within_s", 1, WINDOW_S, 0)),
        (lambda index, **now: index.count(None, WINDOW_S + 1, **now), f"not {WINDOW_S + 1}"),
        (lambda index, **now: index.count(None, 2**70, **now), f"not {2**70}"),
        (lambda index, **now: index.kinds(b"", **now), "url is empty"),
        (lambda index, **now: index.kinds(b"x" * 2049, **now), "url has 2049 bytes"),
        (lambda index, **now: index.counts([b"/a", b""], **now), "url is empty"),
        (lambda index, **now: index.counts([b"x" * 2049], **now), "url has 2049 bytes"),
        (lambda index, **now: index.counts([b"/a"] * 1001, **now), "1001 urls in one question, max_limit is 1000"),
        (lambda index, **now: index.seen([b"theo", b""], **now), "user is empty"),
        (lambda index, **now: index.seen([b"x" * 257], **now), "user has 257 bytes, the limit is 256"),
        (lambda index, **now: index.seen([b"theo"] * 1001, **now), "1001 users in one question, max_limit is 1000"),
        (lambda index, **now: index.page(b"", **now), "url is empty"),
        (lambda index, **now: index.page(b"x" * 2049, **now), "url has 2049 bytes"),
        (lambda index, **now: index.page(b"/a", 1001, **now), number.format("limit", 0, 1000, 1001)),
        (lambda index, **now: index.page(b"/a", -1, **now), number.format("limit", 0, 1000, -1)),
        (lambda index, **now: index.recent(1001, **now), number.format("limit", 0, 1000, 1001)),
        (lambda index, **now: index.recent(-1, **now), number.format("limit", 0, 1000, -1)),
        (lambda index, **now: index.recent(2**70, **now), f"not {2**70}"),
        (lambda index, **now: index.users(b"", 1001, **now), number.format("limit", 0, 1000, 1001)),
        (lambda index, **now: index.users(b"x" * 257, **now), "prefix has 257 bytes, the limit is 256"),
        (lambda index, **now: index.top(1001, **now), number.format("limit", 0, 1000, 1001)),
        (lambda index, **now: index.top(-1, **now), number.format("limit", 0, 1000, -1)),
        (lambda index, **now: index.top(10, b"x" * 2049, **now), "prefix has 2049 bytes, the limit is 2048"),
        (lambda index, **now: index.section(b"x" * 2049, **now), "prefix has 2049 bytes, the limit is 2048"),
        (lambda index, **now: index.recent(9, "", **now), 'not ""; leave it out to start again'),
        (lambda index, **now: index.recent(9, "forged", **now), 'not "forged"; leave it out'),
        (lambda index, **now: index.recent(9, ".", **now), 'not "."; leave it out'),
        (lambda index, **now: index.recent(9, "é\r\n", **now), r'not "\xc3\xa9\r\n"; leave it out'),
        (lambda index, **now: index.recent(9, "\ud800", **now), r'not "\\ud800"; leave it out'),
        (lambda index, **now: index.users(b"", 9, "x" * 10_000, **now), '"...; leave it out to start again'),
        (lambda index, **now: index.page(b"/none", 9, "forged", **now), 'not "forged"; leave it out'),
    ]:
        yield pytest.param(ask, message, id=message)


@pytest.mark.parametrize(("ask", "message"), list(bad_questions()))
def test_a_bad_question_is_refused_and_changes_nothing(index, ask, message):
    index.hit(b"theo", b"/a", now_ms=NOW)
    before = state(index, NOW)
    with pytest.raises(RangeError) as caught:
        ask(index, now_ms=NOW)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 1}


@pytest.fixture
def cursors(index):
    """A cursor of each verb, of an index in which ada, adam and ben are on /a and on /b."""
    for user in (b"ada", b"adam", b"ben"):
        for place in (b"a", b"b"):
            index.hit(user + place, b"/" + place, now_ms=NOW)
    return {
        "page": index.page(b"/a", 1, now_ms=NOW)[3],
        "recent": index.recent(1, now_ms=NOW)[1],
        "users": index.users(b"ada", 1, now_ms=NOW)[1],
    }


@pytest.mark.parametrize(
    ("verb", "ask"),
    [
        ("page", lambda index, cursor: index.page(b"/b", 1, cursor, now_ms=NOW)),
        ("page", lambda index, cursor: index.page(b"/none", 1, cursor, now_ms=NOW)),
        ("page", lambda index, cursor: index.recent(1, cursor, now_ms=NOW)),
        ("page", lambda index, cursor: index.users(b"/a", 1, cursor, now_ms=NOW)),
        ("recent", lambda index, cursor: index.page(b"/a", 1, cursor, now_ms=NOW)),
        ("recent", lambda index, cursor: index.users(b"", 1, cursor, now_ms=NOW)),
        ("users", lambda index, cursor: index.users(b"", 1, cursor, now_ms=NOW)),
        ("users", lambda index, cursor: index.users(b"adam", 1, cursor, now_ms=NOW)),
        ("users", lambda index, cursor: index.page(b"ada", 1, cursor, now_ms=NOW)),
        ("users", lambda index, cursor: index.recent(1, cursor, now_ms=NOW)),
    ],
)
def test_a_cursor_of_another_question_is_refused(index, cursors, verb, ask):
    with pytest.raises(RangeError, match=r"^cursor must be the one from the last reply to the same question"):
        ask(index, cursors[verb])


def test_a_cursor_of_another_index_is_refused(make_index, index, cursors):
    other = make_index()
    for user in (b"adaa", b"ada", b"ben"):
        other.hit(user, b"/a", now_ms=NOW)
    for ask in (
        lambda: other.page(b"/a", 1, cursors["page"], now_ms=NOW),
        lambda: other.recent(1, cursors["recent"], now_ms=NOW),
        lambda: other.users(b"ada", 1, cursors["users"], now_ms=NOW),
    ):
        with pytest.raises(RangeError, match=r"^cursor must be"):
            ask()


@pytest.mark.parametrize("verb", ["page", "recent", "users"])
def test_a_cursor_changed_in_any_place_is_refused(index, cursors, verb):
    ask = {
        "page": lambda cursor: index.page(b"/a", 1, cursor, now_ms=NOW),
        "recent": lambda cursor: index.recent(1, cursor, now_ms=NOW),
        "users": lambda cursor: index.users(b"ada", 1, cursor, now_ms=NOW),
    }[verb]
    cursor = cursors[verb]
    ask(cursor)
    changed = [
        cursor[:place] + ("0" if cursor[place] != "0" else "1") + cursor[place + 1 :] for place in range(len(cursor))
    ]
    cut = [cursor[:place] for place in range(len(cursor))]
    for forged in (*changed, *cut, cursor + "0", "0" + cursor, cursor + "\0", cursor.upper() + " "):
        with pytest.raises(RangeError, match=r"^cursor must be"):
            ask(forged)


@pytest.mark.parametrize("now_ms", [0, -1, NOW // 1000, NOW * 1000, SEEN_MIN_MS - 1, SEEN_MAX_MS + 1, 2**63, -(2**70)])
def test_a_bad_now_is_refused_and_changes_nothing(index, now_ms):
    index.hit(b"theo", b"/a", now_ms=NOW)
    message = f"^now_ms takes {SEEN_MIN_MS} to {SEEN_MAX_MS}, not {now_ms}$"
    for ask in (
        lambda: index.hit(b"theo", b"/b", now_ms=now_ms),
        lambda: index.hit(b"theo", b"/b", seen_ms=NOW + 1, now_ms=now_ms),
        lambda: index.leave(b"theo", now_ms=now_ms),
        lambda: index.expire(now_ms=now_ms),
        lambda: index.count(now_ms=now_ms),
        lambda: index.page(b"/a", now_ms=now_ms),
        lambda: index.seen([b"theo"], now_ms=now_ms),
        lambda: index.top(now_ms=now_ms),
    ):
        with pytest.raises(RangeError, match=message):
            ask()
    assert index.seen([b"theo"], now_ms=NOW) == [(b"/a", NOW)]
    assert what_became(index) == {"accepted": 1}


@pytest.mark.parametrize("seen_ms", [SEEN_MIN_MS, SEEN_MAX_MS])
def test_the_first_and_the_last_time_are_taken(index, seen_ms):
    assert index.hit(b"theo", b"/a", seen_ms=seen_ms, now_ms=seen_ms)
    assert index.page(b"/a", now_ms=seen_ms) == (1, 1, [(b"theo", seen_ms, "member")], None)


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.hit("theo", b"/a", now_ms=NOW),
        lambda index: index.hit(None, b"/a", now_ms=NOW),
        lambda index: index.hit(1, b"/a", now_ms=NOW),
        lambda index: index.hit(bytearray(b"theo"), b"/a", now_ms=NOW),
        lambda index: index.hit(b"theo", "/a", now_ms=NOW),
        lambda index: index.hit(b"theo", None, now_ms=NOW),
        lambda index: index.hit(b"theo", b"/a", seen_ms="1700000000000", now_ms=NOW),
        lambda index: index.hit(b"theo", b"/a", seen_ms=float(NOW), now_ms=NOW),
        lambda index: index.hit(b"theo", b"/a", seen_ms=1.5, now_ms=NOW),
        lambda index: index.hit(b"theo", b"/a", kind=b"member", now_ms=NOW),
        lambda index: index.hit(b"theo", b"/a", kind=None, now_ms=NOW),
        lambda index: index.hit(b"theo", b"/a", now_ms=None),
        lambda index: index.hit(b"theo", b"/a", now_ms=float(NOW)),
        lambda index: index.hit(b"theo", b"/a"),
        lambda index: index.hit(b"theo", b"/a", NOW, now_ms=NOW),
        lambda index: index.leave("theo", now_ms=NOW),
        lambda index: index.leave(None, now_ms=NOW),
        lambda index: index.leave(b"theo", seen_ms=b"1", now_ms=NOW),
        lambda index: index.expire(now_ms="now"),
        lambda index: index.count("/a", now_ms=NOW),
        lambda index: index.count(None, "60", now_ms=NOW),
        lambda index: index.count(None, 60.0, now_ms=NOW),
        lambda index: index.counts(["/a"], now_ms=NOW),
        lambda index: index.counts([None], now_ms=NOW),
        lambda index: index.counts(b"/a", now_ms=NOW),
        lambda index: index.counts(None, now_ms=NOW),
        lambda index: index.kinds("/a", now_ms=NOW),
        lambda index: index.page("/a", now_ms=NOW),
        lambda index: index.page(None, now_ms=NOW),
        lambda index: index.page(b"/a", "30", now_ms=NOW),
        lambda index: index.page(b"/a", 30.0, now_ms=NOW),
        lambda index: index.page(b"/a", 1000.5, now_ms=NOW),
        lambda index: index.page(b"/a", None, now_ms=NOW),
        lambda index: index.page(b"/a", 30, b"cursor", now_ms=NOW),
        lambda index: index.recent(30, 1, now_ms=NOW),
        lambda index: index.users("th", now_ms=NOW),
        lambda index: index.users(None, now_ms=NOW),
        lambda index: index.seen(["theo"], now_ms=NOW),
        lambda index: index.seen([None], now_ms=NOW),
        lambda index: index.seen("theo", now_ms=NOW),
        lambda index: index.section("/", now_ms=NOW),
        lambda index: index.section(None, now_ms=NOW),
        lambda index: index.top("10", now_ms=NOW),
        lambda index: index.top(10, "/", now_ms=NOW),
    ],
)
def test_a_wrong_type_is_a_type_error_and_changes_nothing(index, call):
    with pytest.raises(TypeError):
        call(index)
    assert what_became(index) == {}
    assert index.statistics().users == 0


@pytest.mark.parametrize(
    "name",
    [b"\0", b"a\0b", b"\r\n", b'"', b"'", b" ", b"a b", b"\xff\xfe", b"\\", b"x" * 256, "😀".encode(), b"*1"],
)
def test_names_are_any_bytes_and_come_back_as_they_are(index, name):
    index.hit(name, name, now_ms=NOW)
    assert index.page(name, now_ms=NOW) == (1, 1, [(name, NOW, "member")], None)
    assert index.users(name, now_ms=NOW) == ([(name, name, NOW, "member")], None)
    assert index.seen([name], now_ms=NOW) == [(name, NOW)]
    assert index.section(name, now_ms=NOW) == (1, 1)
    assert index.top(now_ms=NOW) == [(name, 1)]


def test_names_that_share_a_beginning_are_different(index):
    users = [b"a", b"a\0", b"a\0\0", b"a" * 255, b"a" * 256]
    for user in users:
        index.hit(user, b"/" + user, now_ms=NOW)
    assert index.seen(users, now_ms=NOW) == [(b"/" + user, NOW) for user in users]
    assert index.statistics()[:2] == (5, 5)


def test_the_longest_names_are_taken(index):
    assert index.hit(b"u" * 256, b"/" * 2048, now_ms=NOW)
    assert index.users(b"u" * 256, now_ms=NOW)[0] == [(b"u" * 256, b"/" * 2048, NOW, "member")]
    assert index.top(10, b"/" * 2048, now_ms=NOW) == [(b"/" * 2048, 1)]


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [
        ("window_s", 60, 86_400),
        ("max_user", 1, 16_384),
        ("max_url", 1, 16_384),
        ("max_users", 1, 2**31 - 1),
        ("max_pages", 1, 2**31 - 1),
        ("max_limit", 1, 2**31 - 1),
        ("max_scan", 1, 2**31 - 1),
    ],
)
def test_a_limit_has_limits(make_index, option, low, high):
    for value in (low, high):
        make_index(**{option: value})
    for value in (low - 1, high + 1, -1, 2**70):
        with pytest.raises(RangeError, match=f"^{option} takes {low} to {high}, not {value}$"):
            make_index(**{option: value})
    for value in ("60", 60.0, None):
        with pytest.raises(TypeError):
            make_index(**{option: value})


@pytest.mark.parametrize("seed", [b"", b"x" * 15, b"x" * 17])
def test_a_seed_has_16_bytes(make_index, seed):
    make_index(seed=b"0123456789abcdef")
    with pytest.raises(RangeError, match=f"^seed bytes takes 16 to 16, not {len(seed)}$"):
        make_index(seed=seed)


def test_a_seed_is_bytes(make_index):
    with pytest.raises(TypeError):
        make_index(seed="0123456789abcdef")


# Rule 10: limits, judged on the result of a hit


def test_a_new_user_beyond_max_users_is_refused_and_nobody_is_evicted(make_index):
    index = make_index(max_users=2)
    index.hit(b"ada", b"/a", now_ms=NOW)
    index.leave(b"ben", now_ms=NOW)  # departed ones count
    before = state(index, NOW)
    message = r"^max_users is reached: 2; the hit was refused and nothing has changed$"
    with pytest.raises(FullError, match=message):
        index.hit(b"cyd", b"/a", now_ms=NOW)
    with pytest.raises(FullError, match=message):
        index.leave(b"cyd", now_ms=NOW)
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 2, "refused": 2}


def test_known_users_go_on_at_max_users(make_index):
    index = make_index(max_users=2)
    index.hit(b"ada", b"/a", now_ms=NOW)
    index.leave(b"ben", now_ms=NOW)
    assert index.hit(b"ada", b"/b", now_ms=NOW + 1)
    assert index.hit(b"ben", b"/c", now_ms=NOW + 1)
    assert index.count(now_ms=NOW + 1) == 2


@pytest.mark.parametrize(("max_users", "taken"), [(1, 1), (2, 1), (3, 2), (4, 2), (9, 5)])
def test_users_who_were_never_here_leave_at_most_half_of_the_room(make_index, max_users, taken):
    index = make_index(max_users=max_users)
    for n in range(taken):
        assert index.leave(b"stranger%d" % n, now_ms=NOW)
    with pytest.raises(FullError, match=r"^max_users is reached"):
        index.leave(b"one more", now_ms=NOW)
    for n in range(max_users - taken):
        assert index.hit(b"user%d" % n, b"/a", now_ms=NOW)
        assert index.leave(b"user%d" % n, now_ms=NOW)  # who was here may leave, however many have left
    assert index.leave(b"stranger0", now_ms=NOW + 1)


def test_late_stale_and_bad_hits_are_so_even_at_a_limit(make_index):
    index = make_index(max_users=1)
    index.hit(b"ada", b"/a", now_ms=NOW)
    assert not index.hit(b"ben", b"/a", seen_ms=EDGE - 1, now_ms=NOW)
    assert not index.hit(b"ada", b"/a", seen_ms=NOW - 1, now_ms=NOW)
    with pytest.raises(RangeError):
        index.hit(b"ben", b"", now_ms=NOW)
    assert what_became(index) == {"accepted": 1, "late": 1, "stale": 1, "refused": 1}


def test_expiry_makes_room_before_limits_are_judged(make_index):
    index = make_index(max_users=1, max_pages=1)
    index.hit(b"ada", b"/a", now_ms=NOW)
    assert index.hit(b"ben", b"/b", now_ms=NOW + WINDOW_S * 1000)


def test_a_new_page_beyond_max_pages_is_refused(make_index):
    index = make_index(max_pages=2)
    index.hit(b"ada", b"/a", now_ms=NOW)
    index.hit(b"ben", b"/a", now_ms=NOW)
    index.hit(b"crawler", b"/b", kind="bot", now_ms=NOW)
    before = state(index, NOW)
    message = r"^max_pages is reached: 2; the hit was refused and nothing has changed$"
    for user in (b"cyd", b"ada"):  # ada is not alone on her page: it would stay
        with pytest.raises(FullError, match=message):
            index.hit(user, b"/c", now_ms=NOW)
    assert state(index, NOW) == before
    assert what_became(index) == {"accepted": 3, "refused": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_ones_only_page_frees_that_page(make_index, kind):
    index = make_index(max_pages=1)
    index.hit(b"ada", b"/a", kind=kind, now_ms=NOW)
    assert index.hit(b"ada", b"/b", kind=kind, now_ms=NOW)
    assert index.section(b"", now_ms=NOW) == (int(kind != "bot"), 1)
    assert index.leave(b"ada", now_ms=NOW)
    assert index.hit(b"ben", b"/c", now_ms=NOW)


def test_a_departed_user_has_no_page_to_free(make_index):
    index = make_index(max_pages=1)
    index.leave(b"ada", now_ms=NOW)
    index.hit(b"ben", b"/a", now_ms=NOW)
    with pytest.raises(FullError, match=r"^max_pages"):
        index.hit(b"ada", b"/b", now_ms=NOW)
    assert index.hit(b"ada", b"/a", now_ms=NOW)


def test_max_users_is_named_before_max_pages(make_index):
    index = make_index(max_users=1, max_pages=1)
    index.hit(b"ada", b"/a", now_ms=NOW)
    with pytest.raises(FullError, match=r"^max_users"):
        index.hit(b"ben", b"/b", now_ms=NOW)


def test_a_repeat_is_accepted_at_every_limit(make_index):
    index = make_index(max_users=1, max_pages=1)
    index.hit(b"ada", b"/a", now_ms=NOW)
    assert index.hit(b"ada", b"/a", now_ms=NOW)


def test_own_limits_on_names_and_lists(make_index):
    index = make_index(max_user=3, max_url=4, max_limit=2)
    index.hit(b"ada", b"/abc", now_ms=NOW)
    assert index.seen([b"ada", b"ben"], now_ms=NOW) == [(b"/abc", NOW), None]
    for call, message in [
        (lambda: index.hit(b"adam", b"/", now_ms=NOW), "^user has 4 bytes, the limit is 3"),
        (lambda: index.hit(b"ada", b"/abcd", now_ms=NOW), "^url has 5 bytes, the limit is 4"),
        (lambda: index.users(b"adam", now_ms=NOW), "^prefix has 4 bytes, the limit is 3"),
        (lambda: index.users(b"", 3, now_ms=NOW), "^limit takes 0 to 2, not 3"),
        (lambda: index.seen([b"ada"] * 3, now_ms=NOW), "^3 users in one question, max_limit is 2"),
        (lambda: index.section(b"/abcd", now_ms=NOW), "^prefix has 5 bytes, the limit is 4"),
    ]:
        with pytest.raises(RangeError, match=message):
            call()


# What follows from the rules


def test_an_index_checks_itself(index):
    for kind in KINDS:
        index.hit(kind.encode(), b"/a", kind=kind, now_ms=NOW)
    index.leave(b"gone", now_ms=NOW)
    index._check()
