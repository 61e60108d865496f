"""The rare verbs, asked through a connection in MessagePack; what RESP makes of them where that matters."""

import msgpack
import pytest
from tests.serving import NOW_MS, Line

from online import __version__
from online.core import wire
from online.core.sites import SITE_MAX_BYTES, Sites
from online.core.wire import Connection
from online.limits import Limits
from online.pieces import whole
from online.serve.verb import VERBS
from online.serve.verbs import Verbs, check

# TOP


def test_top_lists_pages_with_most_people_first(busy):
    assert busy.ask("TOP") == [["/x", 2], ["/forum/1", 1], ["/forum/2", 1], ["/y", 1]]
    assert busy.ask("TOP", 1) == [["/x", 2]]
    assert busy.ask("TOP", "", "/forum/") == [["/forum/1", 1], ["/forum/2", 1]]
    assert busy.ask("TOP", 1, "/forum/") == [["/forum/1", 1]]
    assert busy.ask("TOP", 0) == []


def test_top_is_exact_at_every_moment(busy):
    assert busy.ask("TOP", 1) == [["/x", 2]]
    for user in ("c", "d", "e"):
        busy.ask("HIT", user, "/z")
    assert busy.ask("TOP", 1) == [["/z", 3]]


def test_each_site_has_a_top_of_its_own(busy):
    busy.ask("TOP", 1)
    other = Line(busy.verbs)
    other.ask("SITE", "shop")
    assert other.ask("TOP", 1) == []
    other.ask("HIT", "a", "/cart")
    assert other.ask("TOP", 1) == [["/cart", 1]]
    assert busy.ask("TOP", 2) == [["/x", 2], ["/forum/1", 1]]


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        (1001, "RANGE limit takes 0 to 1000, not 1001"),
        (-1, "RANGE limit takes 0 to 1000, not -1"),
        ("ten", 'RANGE limit takes a whole number, not "ten"'),
        ("1_0", 'RANGE limit takes a whole number, not "1_0"'),
        ("9" * 40, f"RANGE limit takes 0 to 1000, not {'9' * 40}"),
    ],
)
def test_top_refuses_other_limits(line, limit, error):
    assert line.ask("TOP", limit) == error


# PEAK


def test_peak_tells_the_most_people_and_when(busy):
    busy.now_ms += 1_000_000
    busy.ask("LEAVE", "a")
    assert busy.ask("PEAK") == [5, NOW_MS]


def test_peak_of_nobody(line):
    assert line.ask("PEAK") == [0, 0]
    line.ask("SITE", "not yet")
    assert line.ask("PEAK") == [0, 0]


def test_times_that_go_out_follow_the_wall_clock(busy):
    busy.verbs.service.clock_step_ms = 3_600_000
    assert busy.ask("PEAK") == [5, NOW_MS + 3_600_000]
    assert busy.ask("TIME") == ["1700003600", "0"]


def test_time_is_in_seconds_and_microseconds(line):
    line.now_ms += 1_234
    assert line.ask("TIME") == ["1700000001", "234000"]


def test_time_can_be_moved_on_by_a_few_seconds(busy):
    assert busy.ask("TIME", NOW_MS + 1_800_000).startswith("RANGE at_least_ms")
    busy.now_ms += 1_797_000
    assert busy.ask("COUNT") == 5
    assert busy.ask("TIME", NOW_MS) == ["1700001797", "0"]
    assert busy.ask("TIME", busy.now_ms + 3_000) == ["1700001800", "0"]
    assert busy.ask("COUNT") == 0
    assert busy.ask("TIME") == ["1700001800", "0"]
    assert busy.ask("TIME", busy.now_ms + 5_001).startswith("RANGE at_least_ms")


# Sites


def test_a_site_exists_from_its_first_hit(line):
    assert line.ask("SITE", "shop") == "OK"
    assert line.ask("COUNT") == 0
    assert line.ask("SITES") == [["default", 0]]
    assert line.ask("HIT", "a", "/x") == "OK"
    assert line.ask("SITES") == [["default", 0], ["shop", 1]]
    assert line.ask("SITE", "default") == "OK"
    assert line.ask("COUNT") == 0


def test_everybody_who_speaks_of_a_site_sees_it_begin(verbs, line):
    others = [Line(verbs) for _ in range(3)]
    for other in others:
        other.ask("SITE", "shop")
    line.ask("SITE", "shop")
    elsewhere = Line(verbs)
    elsewhere.ask("SITE", "blog")
    line.ask("HIT", "a", "/x")
    assert [other.ask("COUNT") for other in others] == [1, 1, 1]
    assert others[0].ask("HIT", "b", "/x") == "OK"
    assert line.ask("COUNT") == 2
    assert elsewhere.ask("COUNT") == 0


def test_a_hit_that_is_not_taken_makes_no_site_and_is_counted(line):
    line.ask("SITE", "shop")
    assert line.ask("HIT", "a", "/x", line.now_ms - 1_800_000) == "OK"
    assert line.ask("HIT", "", "/x").startswith("RANGE user is empty")
    assert line.ask("HIT", "a", "/x", "soon").startswith("RANGE seen_ms")
    assert line.ask("SITES") == [["default", 0]]
    assert "late:1\r\nstale:0\r\nskewed:0\r\nrefused:2\r\n" in line.ask("INFO", "hits")


def test_a_batch_may_be_the_first_hit(line):
    line.ask("SITE", "shop")
    assert line.ask("hits", ["a", "/x"], ["b", "/x"]) == [2, 0, 0, None]
    assert line.ask("SITES") == [["default", 0], ["shop", 2]]


@pytest.mark.parametrize("name", ["s" * SITE_MAX_BYTES, "a b\r\n", "\x00", "größe", b"\xff"])
def test_a_site_may_have_any_name(line, name):
    assert line.ask("SITE", name) == "OK"
    line.ask("HIT", "a", "/x")
    assert [name, 1] in line.ask("SITES")


def test_a_name_of_a_site_has_limits(line):
    assert line.ask("SITE", "") == "RANGE site is empty; it takes 1 to 64 bytes"
    assert line.ask("SITE", "s" * 65).startswith("RANGE site has 65 bytes, the limit is 64")
    assert line.connection.site == b"default"


def test_one_site_too_many_is_refused(make_verbs):
    line = Line(make_verbs(max_sites=2))
    line.ask("SITE", "shop")
    assert line.ask("HIT", "a", "/x") == "OK"
    line.ask("SITE", "blog")
    assert line.ask("HIT", "a", "/x").startswith("FULL max_sites is reached: 2")
    assert line.ask("SITES") == [["default", 0], ["shop", 1]]
    assert "max_sites_reached:1\r\n" in line.ask("INFO", "limits")


def test_info_counts_what_was_refused_at_each_limit_of_a_site(make_verbs):
    line = Line(make_verbs(max_users=2, max_pages=1))
    for user, url in (("a", "/x"), ("b", "/y"), ("b", "/x"), ("c", "/x"), ("", "/x")):
        line.ask("HIT", user, url)
    limits = line.ask("INFO", "limits")
    assert "max_users_reached:1\r\nmax_pages_reached:1\r\nmax_memory_reached:0\r\n" in limits
    assert "refused:3\r\n" in line.ask("INFO", "hits")


def test_a_connection_that_has_ended_is_forgotten(verbs, line):
    line.ask("SITE", "shop")
    verbs.connections.closed(line.connection)
    verbs.connections.closed(line.connection)
    other = Line(verbs)
    other.ask("SITE", "shop")
    assert other.ask("HIT", "a", "/x") == "OK"
    assert line.connection.index is None


def test_all_sites_expire(verbs, line):
    line.ask("HIT", "a", "/x")
    line.ask("SITE", "shop")
    line.ask("HIT", "a", "/x")
    list(verbs.expire(NOW_MS + 1_800_000))
    assert whole(verbs.totals()).users == 0


def test_sites_share_the_memory(make_verbs):
    line = Line(make_verbs(max_memory=2**20))
    answers = []
    for site in range(100):
        line.ask("SITE", f"site{site}")
        answers.append(line.ask("HIT", "a", "/x"))
    assert answers[0] == "OK"
    assert any(answer.startswith("FULL max_memory is reached") for answer in answers)
    assert line.verbs.sites.budget.used_bytes <= 2**20


# AUTH and HELLO


@pytest.fixture
def guarded(make_verbs):
    return Line(make_verbs(token=b"sesame"))


def test_the_token_opens(guarded):
    assert guarded.ask("COUNT").startswith("NOAUTH ")
    assert guarded.ask("AUTH", "sesame") == "OK"
    assert guarded.ask("COUNT") == 0


@pytest.mark.parametrize("given", ["Sesame", "sesam", "sesame!", "", "\udcff".encode(errors="surrogateescape")])
def test_another_token_does_not(guarded, given):
    assert guarded.ask("AUTH", given) == "WRONGPASS the token is wrong"
    assert guarded.connection.is_closing
    assert not guarded.connection.authenticated


def test_the_user_name_selects_the_site(guarded):
    assert guarded.ask("AUTH", "shop", "sesame") == "OK"
    guarded.ask("HIT", "a", "/x")
    assert guarded.ask("SITES") == [["default", 0], ["shop", 1]]


def test_a_wrong_token_selects_nothing(guarded):
    guarded.ask("AUTH", "sesame")
    assert guarded.ask("AUTH", "shop", "wrong").startswith("WRONGPASS")
    assert guarded.connection.site == b"default"


@pytest.mark.parametrize("user", ["default", ""])
def test_the_user_name_default_is_the_site_default(guarded, user):
    assert guarded.ask("AUTH", user, "sesame") == "OK"
    assert guarded.connection.site == b"default"


def test_where_no_token_is_configured_any_is_taken(line):
    assert line.ask("AUTH", "whatever") == "OK"
    assert line.ask("AUTH", "shop", "whatever") == "OK"
    assert line.connection.site == b"shop"


def test_hello_tells_what_redis_clients_want_to_know(line):
    told = line.ask("HELLO", 3)
    assert told == {
        "server": "online",
        "version": __version__,
        "proto": 0,
        "id": line.connection.id,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }


def test_hello_chooses_the_version_of_resp(line):
    assert line.resp(b"HELLO 2").startswith(b"*14\r\n")
    assert line.resp(b"HELLO 3").startswith(b"%7\r\n")
    assert b"$5\r\nproto\r\n:3\r\n" in line.resp(b"HELLO")


@pytest.mark.parametrize("version", [b"1", b"4", b"three", b"03", b"-3"])
def test_hello_refuses_other_versions(line, version):
    assert line.resp(b"HELLO", version).startswith(b"-NOPROTO HELLO takes version 2 or 3, not")


def test_hello_may_bring_the_token_and_a_name(guarded):
    assert guarded.resp(b"HELLO 3 AUTH shop sesame SETNAME me").startswith(b"%7\r\n")
    assert guarded.resp(b"CLIENT GETNAME") == b"$2\r\nme\r\n"
    assert guarded.connection.site == b"shop"


def test_hello_without_the_token_is_refused(guarded):
    assert guarded.resp(b"HELLO 3").startswith(b'-NOAUTH "HELLO" needs a token first')
    guarded.resp(b"AUTH sesame")
    assert guarded.resp(b"HELLO 3").startswith(b"%7\r\n")


def test_hello_with_another_token_is_the_end(guarded):
    assert guarded.resp(b"HELLO 3 AUTH default wrong").startswith(b"-WRONGPASS")
    assert guarded.connection.resp_version == 2
    assert guarded.connection.is_closing
    assert guarded.connection.answers_late


@pytest.mark.parametrize("options", [b"AUTH", b"AUTH default", b"SETNAME", b"COLOUR red"])
def test_hello_refuses_half_options(line, options):
    assert line.resp(b"HELLO 3", options).startswith(b"-ERR HELLO takes a version, then AUTH")
    assert line.connection.resp_version == 2


def test_hello_that_is_refused_changes_nothing(guarded):
    bad_name = b'"a b"'
    assert guarded.resp(b"HELLO 3 AUTH shop sesame SETNAME", bad_name).startswith(b"-ERR a client name")
    assert not guarded.connection.authenticated
    assert (guarded.connection.name, guarded.connection.site) == (b"", b"default")


# SELECT, RESET, QUIT


def test_select_0_is_the_site_default(line):
    line.ask("SITE", "shop")
    assert line.ask("SELECT", 0) == "OK"
    assert line.connection.site == b"default"


def test_select_0_leads_back_to_the_site_that_was_authenticated_for(line):
    line.ask("AUTH", "shop", "x")
    assert line.ask("SELECT", 0) == "OK"
    assert line.connection.site == b"shop"


@pytest.mark.parametrize("number", ["1", "15", "-1", "shop"])
def test_select_of_another_database_is_refused(line, number):
    error = f'RANGE SELECT takes only 0, not "{number}"; to choose a site, use SITE name, or write its name as the user'
    assert line.ask("SELECT", number).startswith(error)


def test_reset_leads_back_to_the_beginning(guarded):
    guarded.resp(b"HELLO 3 AUTH shop sesame SETNAME me")
    assert guarded.resp(b"RESET") == b"+RESET\r\n"
    assert guarded.resp(b"COUNT").startswith(b"-NOAUTH")
    guarded.resp(b"AUTH sesame")
    assert guarded.resp(b"CLIENT GETNAME") == b"$-1\r\n"
    assert guarded.connection.site == b"default"
    assert guarded.resp(b"HIT a /x") == b"+OK\r\n"


def test_quit_says_goodbye(line):
    assert line.resp(b"QUIT") == b"+OK\r\n"
    assert line.connection.is_closing


# The host of the wire


def test_a_new_connection_speaks_of_the_site_default(verbs):
    connection, _ = verbs.connections.open()
    assert isinstance(connection, Connection)
    assert (connection.site, connection.index) == (b"default", verbs.sites[b"default"])


def test_the_window_and_the_limits_reach_the_sites(make_verbs):
    line = Line(make_verbs(window_s=60, max_user=3, max_url=3, max_users=1))
    for site in ("default", "shop"):
        line.ask("SITE", site)
        assert line.ask("HIT", "four", "/x").startswith("RANGE user has 4 bytes, the limit is 3")
        assert line.ask("HIT", "one", "/x") == "OK"
        assert line.ask("HIT", "two", "/x").startswith("FULL max_users")
        assert line.ask("COUNT", "", 61).startswith("RANGE within_s takes 1 to 60, not 61")


# The table


def test_a_verb_that_the_wire_hands_up_has_a_function_or_nothing_starts(monkeypatch):
    check(VERBS)
    with pytest.raises(LookupError, match=r"^nobody carries out PEEK, POKE: "):
        check(["PEAK", "POKE", "PEEK"])
    monkeypatch.setattr(wire, "RARE", (("POKE [user]", 0, 1, False),), raising=False)
    with pytest.raises(LookupError, match=r"^nobody carries out POKE: "):
        Verbs(Sites(Limits()))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_that_has_a_function_is_handed_up_by_the_wire(verbs, monkeypatch, verb):
    handed_up = []
    monkeypatch.setitem(VERBS, verb, lambda shared, connection, args, now_ms: handed_up.append(args))
    line = Line(verbs)
    for n_args in range(3):
        line.connection.receive(msgpack.packb([2, verb, ["0"] * n_args]), now_ms=NOW_MS)
    assert handed_up
