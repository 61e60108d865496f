"""What clients, proxies and monitoring for Redis ask: CLIENT, CONFIG, COMMAND and verbs of features not found here."""

import re
from pathlib import Path

import pytest
from tests.serving import Line, serving, with_sockets

from online.core import verbs as table
from online.serve.verbs_command import SUMMARIES

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def test_a_client_may_have_a_name(line):
    assert line.ask("CLIENT", "GETNAME") is None
    assert line.ask("CLIENT", "setname", "worker-1") == "OK"
    assert line.ask("CLIENT", "GETNAME") == "worker-1"
    assert line.ask("CLIENT", "SETNAME", "") == "OK"
    assert line.ask("CLIENT", "GETNAME") is None


@pytest.mark.parametrize("name", ["a b", "a\n", "größe", "\x7f"])
def test_a_client_name_stands_on_one_line(line, name):
    assert line.ask("CLIENT", "SETNAME", name).startswith("ERR a client name takes printable ASCII")


def test_a_client_name_has_a_limit(line):
    assert line.ask("CLIENT", "SETNAME", "n" * 257).startswith("RANGE client name has 257 bytes, the limit is 256")


def test_clients_tell_of_their_library(line):
    assert line.ask("CLIENT", "SETINFO", "LIB-NAME", "redis-py") == "OK"


def test_clients_have_numbers(verbs):
    first, second = Line(verbs), Line(verbs)
    assert first.ask("CLIENT", "ID") == first.connection.id < second.ask("CLIENT", "ID")


def test_clients_are_listed(make_verbs):
    verbs = make_verbs(max_limit=2)
    lines = [Line(verbs) for _ in range(3)]
    lines[1].ask("AUTH", "a b", "x")
    listed = lines[0].ask("CLIENT", "LIST").splitlines()
    assert [each.split()[0] for each in listed] == [f"id={line.connection.id}" for line in lines[:2]]
    assert " site=a%20b " in lines[1].ask("CLIENT", "INFO")


def test_client_reply(line):
    assert line.resp(b"CLIENT REPLY OFF") == b""
    assert line.resp(b"COUNT") == b""
    assert line.resp(b"CLIENT REPLY ON") == b"+OK\r\n"
    assert line.resp(b"CLIENT REPLY SKIP") == b""
    assert line.resp(b"COUNT") == b""
    assert line.resp(b"COUNT") == b":0\r\n"


@pytest.mark.parametrize(
    "words", [["KILL"], ["SETNAME"], ["SETINFO", "LIB-NAME"], ["REPLY", "MAYBE"], ["ID", "1"], ["NO-EVICT", "x"], [""]]
)
def test_client_refuses_the_rest(line, words):
    assert line.ask("CLIENT", *words).startswith("ERR CLIENT takes ID, INFO, LIST")


@pytest.mark.parametrize("subcommand", ["NO-EVICT", "NO-TOUCH", "no-touch"])
@pytest.mark.parametrize("mode", ["ON", "off"])
def test_what_would_spare_a_client_from_eviction_is_taken(line, subcommand, mode):
    assert line.ask("CLIENT", subcommand, mode) == "OK"


#: What readers of Redis' lines turn into numbers (redis-py, valkey-py, coredis).
NUMBERS = (
    *("id", "fd", "age", "idle", "db", "sub", "psub", "ssub", "multi", "qbuf", "qbuf-free", "argv-mem", "multi-mem"),
    *("obl", "oll", "omem", "tot-mem", "redir"),
)


def fields(told):
    return dict(field.split("=", 1) for field in told.strip().split(" "))


def test_a_client_is_described_in_the_fields_of_redis(verbs):
    line = Line(verbs)
    assert line.ask("CLIENT", "SETNAME", "web1") == "OK"
    line.now_ms += 7_900
    other = Line(verbs, now_ms=line.now_ms)
    other.ask("PING")
    line.ask("PING")
    line.now_ms += 2_000
    told = fields(line.ask("CLIENT", "INFO"))
    assert {name: int(told[name]) for name in NUMBERS}["age"] == 9
    assert (told["id"], told["name"], told["user"], told["flags"]) == (str(line.connection.id), "web1", "default", "N")
    other.now_ms = line.now_ms + 1_000
    first, second = map(fields, other.ask("CLIENT", "LIST").splitlines())
    assert (first["age"], first["idle"], second["age"], second["idle"]) == ("10", "1", "3", "0")


def test_clients_are_listed_by_number_and_by_type(verbs):
    lines = [Line(verbs) for _ in range(3)]
    ids = [line.connection.id for line in lines]

    def listed(*options):
        return [int(fields(each)["id"]) for each in lines[0].ask("CLIENT", "LIST", *options).splitlines()]

    assert listed("ID", ids[2], ids[0], 10**9) == [ids[0], ids[2]]
    assert listed("TYPE", "normal") == ids
    assert listed("type", "PUBSUB") == []
    for options, error in (
        (["ID"], "ERR CLIENT LIST takes"),
        (["TYPE", "odd"], "ERR CLIENT LIST takes"),
        (["ID", "x"], "RANGE client id takes a whole number"),
        (["ID", "0"], "RANGE client id takes 1 to"),
    ):
        assert lines[0].ask("CLIENT", "LIST", *options).startswith(error)


@with_sockets
async def test_a_client_can_end_others():
    async with serving() as running:
        asker, *others = [await running.connect() for _ in range(5)]
        described = [fields((await each.ask(b"CLIENT INFO")).decode().partition("\r\n")[2]) for each in others]
        assert described[0]["laddr"] == str(running.addresses[0])
        first, second, third, last = others
        assert await asker.ask(f"CLIENT KILL {described[0]['addr']}".encode()) == b"+OK\r\n"
        assert await first.receive_rest() == b"-ERR this connection was ended by CLIENT KILL\r\n"
        assert await asker.ask(f"CLIENT KILL ID {described[1]['id']}".encode()) == b":1\r\n"
        assert (await second.receive_rest()).startswith(b"-ERR this connection was ended")
        assert await third.ask(b"AUTH shop x") == b"+OK\r\n"
        assert await asker.ask(b"CLIENT KILL USER shop TYPE normal") == b":1\r\n"
        assert (await third.receive_rest()).startswith(b"-ERR this connection was ended")
        for nobody in (b"TYPE pubsub", b'USER ""', b"ADDR 127.0.0.1:1", b"ID 999999999"):
            assert await asker.ask(b"CLIENT KILL " + nobody) == b":0\r\n"
        assert await asker.ask(f"CLIENT KILL LADDR {running.addresses[0]}".encode()) == b":1\r\n"
        assert (await last.receive_rest()).startswith(b"-ERR this connection was ended")
        assert (await asker.ask(b"CLIENT KILL 127.0.0.1:1")).startswith(b'-ERR no such client: "127.0.0.1:1"')
        assert (await asker.ask(b"CLIENT KILL COLOUR red")).startswith(b"-ERR CLIENT KILL takes IP:PORT, or any of")
        assert (await asker.ask(b"CLIENT KILL SKIPME maybe")).startswith(b"-ERR CLIENT KILL takes IP:PORT, or any of")
        assert await asker.ask(b"CLIENT KILL SKIPME no") == b":1\r\n"
        assert await asker.receive_rest() == b""


# CONFIG


def test_config_answers_what_tools_read_of_it(make_verbs):
    line = Line(make_verbs(max_connections=77))
    assert Line(line.verbs).resp(b"CONFIG GET save") == b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n"
    assert line.ask("CONFIG", "GET", "max*") == {
        "maxclients": "77", "maxmemory": str(2**30), "maxmemory-policy": "noeviction"
    }  # fmt: skip
    assert line.ask("config", "get", "DATABASES", "nothing") == {"databases": "1"}
    assert len(line.ask("CONFIG", "GET", "*")) == 7
    assert line.ask("CONFIG", "SET", "save", "x") == 'ERR CONFIG takes GET pattern [pattern ...], not "SET"'
    assert line.ask("CONFIG", "GET").startswith("ERR CONFIG takes GET")


# COMMAND


def test_every_verb_is_described_and_summed_up(line):
    rows = {usage.split()[0]: (fewest, most) for usage, fewest, most, _ in table.rows()}
    assert set(SUMMARIES) == set(rows)
    assert line.ask("COMMAND", "COUNT") == len(rows)
    described = line.ask("COMMAND")
    assert described == line.ask("COMMAND", "INFO")
    assert [each[0] for each in described] == line.ask("COMMAND", "LIST") == [name.lower() for name in rows]
    for name, arity, *_ in described:
        fewest, most = rows[name.upper()]
        assert arity == (fewest + 1 if fewest == most else -fewest - 1)


def test_a_verb_is_described_as_redis_describes_its_own(line):
    hit, nothing, auth = line.ask("COMMAND", "INFO", "HIT", "nothing", "auth")
    assert hit == ["hit", -3, ["write"], 0, 0, 0, [], [], [], []]
    assert nothing is None
    assert (auth[1], auth[2]) == (-2, ["readonly", "no_auth"])
    redis_shape = b"*1\r\n*10\r\n$4\r\nping\r\n:-1\r\n*1\r\n+readonly\r\n"
    assert Line(line.verbs).resp(b"COMMAND INFO PING").startswith(redis_shape)


def test_commands_are_listed_by_pattern(line):
    assert line.ask("COMMAND", "LIST", "FILTERBY", "PATTERN", "CO*") == ["count", "counts", "config", "command"]
    assert line.ask("COMMAND", "LIST", "FILTERBY", "MODULE", "x").startswith("ERR COMMAND takes COUNT, LIST")
    assert line.ask("COMMAND", "GETKEYS", "HIT", "a", "/x").startswith("ERR COMMAND takes COUNT, LIST")


def test_the_arguments_of_a_verb_are_documented(line):
    docs = line.ask("COMMAND", "DOCS", "hit", "SEEN", "hello", "ping", "nothing")
    assert set(docs) == {"hit", "seen", "hello", "ping"}

    def arguments(verb):
        return [(each["name"], each.get("flags", [])) for each in docs[verb]["arguments"]]

    assert arguments("hit") == [("user", []), ("url", []), ("seen_ms", ["optional"]), ("kind", ["optional"])]
    assert arguments("seen") == [("user", ["multiple"])]
    assert [name for name, _ in arguments("hello")] == ["version", "AUTH", "site", "token", "SETNAME", "name"]
    assert {"summary", "since", "group"} <= set(docs["ping"])
    assert "arguments" not in line.ask("COMMAND", "DOCS", "sites")["sites"]
    assert len(line.ask("COMMAND", "DOCS")) == line.ask("COMMAND", "COUNT")


def test_the_version_that_a_verb_came_with_is_documented(line):
    docs = line.ask("COMMAND", "DOCS")
    since = {name: docs[name]["since"] for name in docs}
    assert {since[name] for name in ("hit", "page", "peak", "info", "command")} == {"0.1.0"}
    assert {since[name] for name in ("history", "subscribe", "pages", "exec", "dbsize")} == {"1.0.0"}
    assert set(since.values()) <= set(re.findall(r"^## (\d\S+)", CHANGELOG.read_text(), re.MULTILINE))


# What is not found here


def test_the_size_of_the_database_is_the_people_of_the_site(busy):
    busy.ask("HIT", "robot", "/x", "", "bot")
    assert busy.ask("DBSIZE") == busy.ask("COUNT") == 5
    busy.now_ms += 1_800_000
    assert busy.ask("DBSIZE") == 0
    busy.ask("SITE", "not yet")
    assert busy.ask("DBSIZE") == 0


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("ROLE", ["master", 0, []]),
        ("WAIT 1 100", 0),
        ("LATENCY LATEST", []),
        ("LATENCY HISTORY command", []),
        ("LATENCY HISTOGRAM nothing", {}),
        ("LATENCY RESET", 0),
        ("slowlog get", []),
        ("SLOWLOG GET 10", []),
        ("SLOWLOG GET -1", []),
        ("SLOWLOG LEN", 0),
        ("SLOWLOG RESET", "OK"),
        ("MEMORY USAGE key SAMPLES 5", None),
        ("MEMORY PURGE", "OK"),
    ],
)
def test_what_tools_ask_has_an_answer(line, command, reply):
    assert line.ask(*command.split()) == reply


@pytest.mark.parametrize("command", ["LATENCY DOCTOR", "MEMORY DOCTOR", "MEMORY MALLOC-STATS"])
def test_doctors_answer_in_words(line, command):
    assert re.fullmatch(r"[A-Z][^\r\n]+\.", line.ask(*command.split()))


def test_memory_stats_show_what_is_used(busy):
    told = busy.ask("MEMORY", "STATS")
    assert told["keys.count"] == 5
    assert told["keys.bytes-per-key"] == told["dataset.bytes"] // 5
    assert told["peak.allocated"] >= told["total.allocated"] > 0
    assert Line(busy.verbs).ask("MEMORY", "STATS")["clients.normal"] > 0


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("CLUSTER INFO", "ERR This instance has cluster support disabled"),
        ("CLUSTER SLOTS", "ERR This instance has cluster support disabled"),
        ("WAIT one 100", 'RANGE numreplicas takes a whole number, not "one"'),
        ("WAIT 1 -1", "RANGE timeout takes 0 to 9223372036854775807, not -1"),
        ("WAIT 1", "ERR wrong number of arguments for WAIT: 1; usage: WAIT numreplicas timeout"),
        ("SLOWLOG GET ten", 'RANGE count takes a whole number, not "ten"'),
        ("SLOWLOG LONG", 'ERR SLOWLOG takes GET [count], LEN or RESET, not "LONG"'),
        ("LATENCY GRAPH x", "ERR LATENCY takes LATEST, HISTORY event, HISTOGRAM, RESET or DOCTOR, not \"GRAPH\""),
        ("MEMORY HELP", 'ERR MEMORY takes STATS, USAGE key, PURGE, DOCTOR or MALLOC-STATS, not "HELP"'),
        ("DBSIZE x", "ERR wrong number of arguments for DBSIZE: 1; usage: DBSIZE"),
    ],
)
def test_what_is_not_here_is_refused_in_plain_words(line, command, error):
    assert line.ask(*command.split()) == error


# Unknown verbs


@pytest.mark.parametrize(
    ("verb", "meant"),
    [
        ("PAG", "PAGE"),
        ("pgae", "PAGE"),
        ("COUTN", "COUNT"),
        ("HITT", "HIT"),
        ("users-by-name", None),
        ("Recents", "RECENT"),
        ("SITS", "SITES"),
        ("INFOS", "INFO"),
        ("GET", None),
        ("SET", None),
        ("DEL", None),
        ("SCAN", None),
        ("", None),
        ("x" * 1000, None),
    ],
)
def test_an_unknown_verb_names_the_one_that_was_probably_meant(line, verb, meant):
    hint = f"did you mean {meant}?" if meant else "COMMAND LIST shows all verbs"
    line.resp(b"PING")
    error = line.resp(b'"' + verb.encode() + b'"')
    assert error.startswith(b'-ERR unknown verb "')
    assert error.endswith(f"; {hint}\r\n".encode())
