"""`online query`: every verb against a real server, as text, as a table and as JSON, and its exit codes."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.serving import server_process

from online.cli import main as cli
from online.cli.answers import Answer, as_plain_text, plain
from online.cli.questions import SECTIONS, VERBS
from online.cli.words import readable, spoken_age
from online_client import Client
from online_client.replies import Page, Seen, Viewer


@pytest.fixture(scope="module")
def server_options():
    return "--syslog", "127.0.0.1:0"


@pytest.fixture
def ask(url, capsys):
    """Run `online query` and return what it prints."""

    def ask(*args):
        assert cli.main(["query", *args]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return ask


@pytest.fixture
def site(url):
    with Client(url) as client:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        client.hits(
            [
                ("theo", "/a/1", now_ms - 185_000),
                ("dora", "/a/1", now_ms - 605_000, "guest"),
                ("ghost", "/a/2", now_ms, "hidden"),
                ("robot", "/a/2", now_ms, "bot"),
            ]
        )
        yield client


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("args", "printed"),
    [
        (["count"], "3\n"),
        (["count", "/a/1"], "2\n"),
        (["count", "", "300"], "2\n"),
        (["counts", "/a/1", "/b"], "people\turl\n2\t/a/1\n0\t/b\n"),
        (["kinds"], "people\t3\nmembers\t1\nguests\t1\nhidden\t1\nbots\t1\n"),
        (["kinds", "/a/1"], "people\t2\nmembers\t1\nguests\t1\nhidden\t0\nbots\t0\n"),
        (
            ["page", "/a/1"],
            "online\t3\nhere\t2\n\nuser\tseen\tkind\ntheo\t3 min\tmember\ndora\t10 min\tguest\n",
        ),
        (["page", "/a/1", "0"], "online\t3\nhere\t2\n\nuser\tseen\tkind\n"),
        (
            ["recent"],
            "user\turl\tseen\tkind\ntheo\t/a/1\t3 min\tmember\ndora\t/a/1\t10 min\tguest\n",
        ),
        (["users", "d", ""], "user\turl\tseen\tkind\ndora\t/a/1\t10 min\tguest\n"),
        (["seen", "theo", "nobody"], "user\turl\tseen\ntheo\t/a/1\t3 min\nnobody\t-\t-\n"),
        (["section", "/a/"], "people\t3\npages\t2\n"),
        (["top", "1"], "people\turl\n2\t/a/1\n"),
        (["top", "", "/a/2"], "people\turl\n1\t/a/2\n"),
        (["ping"], "PONG\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_as_text(ask, args, printed):
    assert ask(*args) == printed


def test_what_has_the_time_in_it(ask, site):
    assert ask("peak").startswith("people\t3\nat\t20")
    for since in ("today", "week"):
        assert ask("peak", since).startswith("people\t3\nat\t20")
    assert ask("visitors").strip().isdecimal()  # of minutes that are over
    assert ask("time").endswith(" UTC\n")
    assert "Server\tversion\t" in ask("info")
    assert ask("info", "memory").splitlines()[1].startswith("Memory\t")
    assert ask("sites").startswith("people\tsite\n")


def test_info_of_a_site_is_a_row_a_value(ask, site, monkeypatch):
    name = site.address.site
    rows = ask("info", "SITES").splitlines()
    assert f"Sites\tsite_{name} people\t3" in rows
    assert f"Sites\tsite_{name} users\t4" in rows
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    assert ["Sites", f"site_{name}", "max_memory_reached", "0"] in [
        line.split() for line in ask("info", "sites").splitlines()
    ]


def test_all_sections_of_info_may_be_asked_for(ask):
    told = {name.lower() for name in json.loads(ask("info", "--json"))}
    assert told == set(SECTIONS) - {"bus", "map", "gateway"}  # of servers with others
    assert all(len(json.loads(ask("info", name, "--json"))) == 1 for name in told)
    assert ask("info", "").splitlines()[1].startswith("Server")


def test_a_section_that_a_server_does_without_is_said(ask, monkeypatch):
    with server_process() as other:
        monkeypatch.setenv("ONLINE_URL", f"online://{other.address}")
        assert ask("info", "syslog") == "no section syslog: the server runs without --syslog\n"
        assert ask("info", "Bus") == "no section bus: the server runs without --bus\n"
        assert ask("info", "gateway") == "no section gateway: the server is no gateway\n"


def test_a_site_without_hits(ask):
    assert ask("count") == "0\n"
    assert ask("peak") == "people\t0\n"
    assert ask("top") == "people\turl\n"


def test_a_list_that_goes_on_says_how(ask, site):
    first = ask("page", "/a/1", "1")
    cursor = first.splitlines()[2].removeprefix("cursor\t")
    assert ask("page", "/a/1", "1", cursor).endswith("kind\ndora\t10 min\tguest\n")


def test_hit_and_leave(ask):
    assert ask("hit", "theo", "/a") == "OK\n"
    assert ask("hit", "dora", "/a", "", "guest") == "OK\n"
    assert ask("kinds", "/a").splitlines()[1:3] == ["members\t1", "guests\t1"]
    assert ask("leave", "theo") == "OK\n"
    assert ask("count") == "1\n"


def test_a_hit_that_is_ignored_says_so_and_why(ask):
    hour_ago, minute_ago = (str(int(datetime.now(UTC).timestamp() - ago_s) * 1000) for ago_s in (3600, 60))
    assert ask("hit", "old", "/old", hour_ago) == (
        "ignored: older than the server's window, or from before the user left\n"
    )
    assert ask("seen", "old") == "user\turl\tseen\nold\t-\t-\n"
    assert ask("hit", "theo", "/new") == "OK\n"
    assert ask("hit", "theo", "/old", minute_ago) == "ignored: the user has a newer hit\n"
    assert ask("leave", "theo") == "OK\n"
    assert ask("hit", "theo", "/old", minute_ago).startswith("ignored: older than ")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["x" * 300, "/"], "RANGE user has 300 bytes, the limit is 256"),
        (["theo", "/", "1"], "RANGE seen_ms takes milliseconds since 1970"),
        (["theo", "/", "", "king"], "RANGE kind takes member, guest, hidden or bot"),
    ],
)
def test_a_hit_that_is_refused_says_so_as_one_hit(url, capsys, args, says):
    code, said = failing(capsys, "hit", *args)
    assert (code, said.startswith(f"online query: {says}")) == (1, True)
    assert "batch" not in said


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["page", "hello"], ["/hello"]),
        (["count", "hello"], ["/hello"]),
        (["counts", "a", "/b", "c"], ["/a", "/c"]),
        (["kinds", "http://example.com/a"], ["/a"]),
        (["section", "a/"], ["/a/"]),
        (["top", "5", "a"], ["/a"]),
        (["hit", "theo", "forum/1"], ["/forum/1"]),
        (["hit", "theo", "x\x1b"], ["/x\\x1b"]),
        (["count", "/hello"], []),
        (["count"], []),
        (["users", "a"], []),
        (["seen", "a"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_url_without_a_slash_is_hinted_at(url, capsys, args, meant):
    assert cli.main(["query", *args]) == 0
    told = [f"online query: urls usually begin with /; did you mean {each}?" for each in meant]
    assert capsys.readouterr().err.splitlines() == told


def test_urls_with_a_host_are_not_hinted_at_where_they_are_known(ask, site):
    site.hit("vera", "www.example.com/a")
    assert ask("count", "www.example.com/a") == "1\n"
    assert ask("page", "www.example.com/a").startswith("online\t4\nhere\t1\n")
    assert ask("section", "www.example.com/") == "people\t1\npages\t1\n"


def test_a_time_may_have_a_unit(ask, site):
    assert ask("count", "", "5min") == ask("count", "", "300") == "2\n"


def test_what_is_wrong_with_an_address_is_said_of_what_was_typed(capsys, monkeypatch):
    monkeypatch.setenv("ONLINE_TOKEN", "secret")
    assert "'online://a:99999999' should" in failing(capsys, "count", "--url", "online://a:99999999")[1]


def test_a_missing_token_is_explained(tmp_path, capsys):
    (tmp_path / "token").write_text("s3cret-and-long-enough")
    with server_process("--token-file", tmp_path / "token") as other:
        code, said = failing(capsys, "count", "--url", f"online://{other.address}")
        wrong = failing(capsys, "count", "--url", f"online://:wrong-{'x' * 20}@{other.address}")
    way = "set ONLINE_TOKEN, or write it in the address, as in online://:TOKEN@HOST:PORT"
    wrong_way = "correct ONLINE_TOKEN, or the token in the address, which comes first"
    assert (code, said) == (1, f"online query: NOAUTH the server needs a token: {way}")
    assert wrong == (1, f"online query: WRONGPASS the token is wrong: {wrong_way}")


def test_as_json(ask, site):
    page = json.loads(ask("page", "/a/1", "1", "--json"))
    assert (page["online"], page["here"]) == (3, 2)
    (viewer,) = page["users"]
    assert (viewer["user"], viewer["kind"]) == ("theo", "member")
    assert 185 <= viewer["age_s"] < 600
    assert datetime.fromisoformat(viewer["seen_at"]).utcoffset() == timedelta(0)
    assert page["cursor"]
    assert json.loads(ask("--json", "count")) == 3
    assert json.loads(ask("counts", "/a/1", "/b", "--json")) == [2, 0]
    assert json.loads(ask("info", "hits", "--json"))["Hits"]["accepted"]
    assert json.loads(ask("hit", "theo", "/a", "--json")) == {"result": "accepted", "why": None}
    assert json.loads(ask("hit", "theo", "/a", "1000000000000", "--json"))["result"] == "ignored"


def test_on_a_terminal(ask, site, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    assert [line.split() for line in ask("page", "/a/1").splitlines()] == [
        ["online", "3"],
        ["here", "2"],
        ["user", "seen", "kind"],
        ["theo", "3", "min", "member"],
        ["dora", "10", "min", "guest"],
    ]
    assert ask("count") == "3\n"


def test_names_cannot_command_a_terminal(ask, site, monkeypatch):
    site.hit("\x1b[2J\tx", "/[bold]:smile:")
    assert "\\x1b[2J\\tx\t/[bold]:smile:" in ask("recent", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    shown = ask("recent", "1")
    assert "\\x1b[2J\\tx" in shown
    assert "/[bold]:smile:" in shown


def failing(capsys, *args):
    """Return the exit code and the line on stderr of an `online query` that fails."""
    code = cli.main(["query", *args])
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return code, line


def test_what_the_server_refuses(url, capsys):
    assert failing(capsys, "page", "/a", "-1") == (1, "online query: RANGE limit takes 0 to 1000, not -1")


def test_people_within_a_time_are_those_of_the_whole_site(url, capsys):
    told = 'online query: within_s counts the whole site only; leave the url empty: count "" 60'
    assert failing(capsys, "count", "/a", "60") == (1, told)


def test_a_server_that_is_not_there(capsys):
    code, line = failing(capsys, "--url", "online://127.0.0.1:1", "count")
    assert (code, line.startswith("online query: cannot connect to online://127.0.0.1:1/default")) == (1, True)


def test_a_wrong_address(capsys):
    code, line = failing(capsys, "count", "--url", "http://127.0.0.1")
    assert (code, "should begin with online://" in line) == (2, True)


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("args", "printed"),
    [
        (["count", "--json", "/a/1"], "2\n"),
        (["--json", "count", "/a/1"], "2\n"),
        (["count", "/a/1", "--timeout", "20", "--json"], "2\n"),
        (["count", "", "--json", "300"], "2\n"),
        (["users", "--json", "--", "-x"], '{\n  "users": [],\n  "cursor": null\n}\n'),
        (["top", "--json", "0"], "[]\n"),
        (["counts", "/a/1", "--timeout=20", "/a/2"], "people\turl\n2\t/a/1\n1\t/a/2\n"),
    ],
)
def test_options_may_stand_anywhere(ask, args, printed):
    assert ask(*args) == printed


@pytest.mark.parametrize("args", [[], ["dance"], ["page"], ["page", "/a", "many"], ["seen"], ["count", "--fast"]])
def test_wrong_usage(capsys, args):
    with pytest.raises(SystemExit) as caught:
        cli.main(["query", *args])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(" --help\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["info", "nosuch"], "cluster or keyspace, not 'nosuch'"),
        *(
            (args, f"--timeout takes 0.001s to 24h, such as 90, 90s, 30min or 2h, not {value!r}")
            for value in ("-1", "0", "x", "nan", "inf", "1e99", "")
            for args in (["--timeout", value, "count"], ["count", "--timeout", value])
        ),
    ],
)
def test_a_value_that_is_not_taken_is_named(capsys, args, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(["query", *args])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_verbs_and_shows_examples(capsys):
    with pytest.raises(SystemExit):
        cli.main(["query", "--help"])
    shown = capsys.readouterr().out
    assert "online query page /forum/1 30" in shown
    assert "list who is on a page, newest first" in shown


def test_text_layout():
    answer = Answer([("", "alone"), ("name", "a\nb")], ("x", "y"), [("1", ""), ("", "2")])
    assert as_plain_text(answer) == "alone\nname\ta\\nb\n\nx\ty\n1\t\n\t2"
    assert as_plain_text(Answer()) == ""


def test_json_layout():
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    page = Page(1, 1, (Viewer("a", at, timedelta(seconds=1.5), "member"),), None)
    assert plain(page) == {
        "online": 1,
        "here": 1,
        "users": [{"user": "a", "seen_at": "2024-02-29T12:00:00.000+00:00", "age_s": 1.5, "kind": "member"}],
        "cursor": None,
    }
    assert plain([None, Seen("/", at, timedelta(0))])[1]["age_s"] == 0


@pytest.mark.parametrize(
    ("seconds", "spoken"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (8_100, "2 h 15 min"),
        (90_060, "1 d 1 h"),
    ],
)
def test_ages(seconds, spoken):
    assert spoken_age(timedelta(seconds=seconds)) == spoken


def test_readable_text():
    assert readable("jörg 雪") == "jörg 雪"
    assert readable("\0\x7f\x85\u202e\udcff\n") == "\\x00\\x7f\\x85\\u202e\\xff\\n"


def test_days_and_weeks_begin_at_midnight():
    took = next(argument for argument in VERBS["visitors"].arguments).options["type"]
    day_ms = 86_400_000
    today, week = took("today"), took("week")
    assert today % day_ms == 0 <= time.time() * 1000 - today < day_ms + 60_000
    assert (week // day_ms + 3) % 7 == 0 <= today - week < 7 * day_ms  # 1970-01-01 was a Thursday
    assert (took(""), took("0"), took("1795934940123")) == (None, 0, 1_795_934_940_123)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["history", "1795934940"], "from_ms takes milliseconds since 1970, not '1795934940'; that looks like seconds"),
        (["visitors", "-5"], "since takes milliseconds since 1970, not '-5'\n"),
        (["history", "", "1795934940"], "to_ms takes milliseconds since 1970"),
        (["peak", "1795934940"], "since_ms takes milliseconds since 1970"),
        (["visitors", "1795934940"], "since takes milliseconds since 1970"),
        (["visitors", "month"], "since takes today, week or milliseconds since 1970, not 'month'"),
        (["history", "--last", "7d"], "unknown option --last; `online history` takes it"),
        (["history", "--lust", "7d"], "unknown option --lust"),
        (["peak", "--json", "--since=7d"], "unknown option --since"),
    ],
)
def test_times_of_the_past_that_are_not_understood(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["query", *arguments])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_the_token_of_the_variable_is_sent_where_the_url_has_none(tmp_path, capsys, monkeypatch):
    (tmp_path / "token").write_text("s3cret-and-long-enough")
    with server_process("--token-file", tmp_path / "token") as other:
        url = f"online://{other.address}"
        monkeypatch.setenv("ONLINE_TOKEN", "s3cret-and-long-enough")
        commands = ("query count", "top --once", "history --csv")
        for command in commands:
            assert cli.main([*command.split(), "--url", url]) == 0
        cli.main(["doctor", "--url", url])
        assert "NOAUTH" not in "".join(capsys.readouterr())
        assert cli.main(["bench", "--for", "1s", "--hits", "10", "--questions", "10", "--yes", "--url", url]) == 0
        monkeypatch.setenv("ONLINE_URL", url)
        assert cli.main(["query", "count"]) == 0
        capsys.readouterr()
        code, said = failing(capsys, "count", "--url", f"online://:wrong-{'x' * 20}@{other.address}")
    assert (code, said[:36]) == (1, "online query: WRONGPASS the token is")
