"""INFO: its sections and figures, as people and as tools for Redis read them."""

import logging
import os
import re
from pathlib import Path

import pytest
from tests.serving import NOW_MS, Line

from online import __version__
from online.cli.questions import SECTIONS as ASKED
from online.http.metrics import METRICS
from online.serve import verbs_access
from online.serve.config import Address, Config
from online.serve.info import SECTIONS, human
from online.serve.syslog import Syslog

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()

#: What it says about INFO.
ON_INFO = PROTOCOL.partition("\n### INFO\n")[2].partition("\n### ")[0]

OURS = ["# Server", "# Clients", "# Memory", "# Hits", "# Sites", "# Push", "# Limits"]
OURS += ["# Settings", "# Latency"]
OF_REDIS = ["# Persistence", "# Stats", "# Replication", "# CPU", "# Cluster", "# Keyspace"]


def titles(text):
    return [line for line in text.split("\r\n") if line.startswith("#")]


def rows(text):
    """The figures of INFO by name; each name stands there once."""
    pairs = [line.split(":", 1) for line in text.split("\r\n") if line and not line.startswith("#")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def told(line, *sections):
    return rows(line.ask("INFO", *sections))


def test_everything_stands_in_sections(busy):
    busy.verbs.started_ms = NOW_MS - 90_065_000
    busy.ask("HIT", "late", "/x", NOW_MS - 3_600_000)
    text = busy.ask("INFO")
    assert titles(text) == OURS + OF_REDIS
    figures = rows(text)
    wanted = {
        "version": __version__,
        "redis_version": __version__,
        "loading": "0",
        "uptime_in_seconds": "90065",
        "uptime_in_days": "1",
        "clock_steps": "0",
        "connected_clients": "1",
        "accepted": "5",
        "late": "1",
        "users": "5",
        "pages": "4",
        "slow": "0",
        "process_id": str(os.getpid()),
    }
    assert {name: figures[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "asked", [[], [""], ["ALL"], ["everything"], ["default"], ["memory", "all"], ["default", "nothing"]]
)
def test_every_word_for_everything_gives_everything(line, asked):
    assert titles(line.ask("INFO", *asked)) == OURS + OF_REDIS


def test_some_sections_can_be_asked_for(line):
    assert titles(line.ask("INFO", "MEMORY")) == ["# Memory"]
    assert titles(line.ask("INFO", "limits", "server", "Replication")) == ["# Server", "# Limits", "# Replication"]
    assert line.ask("INFO", "nosuchsection") == ""


def test_a_site_has_a_line(line):
    line.ask("SITE", "a:b\r\nc")
    line.ask("HIT", "a", "/x")
    assert told(line, "sites")["site_a%3Ab%0D%0Ac"].startswith("people=1,users=1,pages=1,")


def test_users_who_leave_the_window_are_counted_as_expired(busy):
    busy.ask("LEAVE", "a")
    assert told(busy, "hits")["expired"] == told(busy, "stats")["expired_keys"] == "0"
    busy.now_ms += 1_800_000
    busy.ask("COUNT")
    assert told(busy, "hits")["expired"] == told(busy, "stats")["expired_keys"] == "5"


def test_a_part_adds_sections_and_rows_and_its_rows_win(verbs):
    verbs.sections["weather"] = lambda now_ms: [("sun", 1), ("at_ms", now_ms)]
    verbs.sections["persistence"] = lambda now_ms: [("loading", 1), ("journal_bytes", 5)]
    line = Line(verbs)
    assert line.ask("INFO", "weather") == f"# Weather\r\nsun:1\r\nat_ms:{NOW_MS}\r\n"
    assert line.ask("INFO").endswith(f"\r\n\r\n# Weather\r\nsun:1\r\nat_ms:{NOW_MS}\r\n")
    persistence = told(line, "persistence")
    assert (persistence["loading"], persistence["journal_bytes"], persistence["aof_enabled"]) == ("1", "5", "0")


# What tools for Redis read


def test_clients_that_look_for_the_primary_find_it(line):
    """valkey-glide, Lettuce, HAProxy's check and others ask for exactly this section."""
    figures = told(line, "REPLICATION")
    assert (figures["role"], figures["connected_slaves"], figures["master_repl_offset"]) == ("master", "0", "0")
    assert re.fullmatch("[0-9a-f]{40}", figures["master_replid"])
    assert "role" not in told(line, "server")


def test_a_start_has_a_run_id_of_its_own(make_verbs):
    first, second = (told(Line(make_verbs()), "server")["run_id"] for _ in range(2))
    assert first != second


def test_the_names_of_redis_stand_for_the_figures_of_ours(busy):
    busy.ask("NOSUCHVERB")
    figures = told(busy)
    assert figures["maxmemory"] == figures["max_memory"] == str(2**30)
    assert figures["total_commands_processed"] == figures["commands"] == "7"
    assert figures["total_connections_received"] == figures["connections_accepted"] == "1"
    assert figures["total_error_replies"] == figures["errors"] == "1"
    assert figures["db0"] == "keys=5,expires=5,avg_ttl=0"
    assert figures["used_memory_human"] == human(int(figures["used_memory"]))
    assert int(figures["used_memory_rss"]) > 10**6
    assert float(figures["used_cpu_user"]) > 0


def test_keys_are_the_people_of_all_sites(busy):
    busy.ask("HIT", "robot", "/x", "", "bot")
    busy.ask("SITE", "shop")
    busy.ask("HIT", "a", "/x")
    assert told(busy, "keyspace")["db0"] == "keys=6,expires=6,avg_ttl=0"


def test_the_verbs_of_the_last_second_and_the_most_memory_are_kept(busy):
    list(busy.verbs.expire(NOW_MS + 1_000))
    assert told(busy, "stats")["instantaneous_ops_per_sec"] == "0"
    for _ in range(8):
        busy.ask("PING")
    list(busy.verbs.expire(NOW_MS + 4_000))
    assert told(busy, "stats")["instantaneous_ops_per_sec"] == "3"  # with INFO 9 in 3 s
    memory = told(busy, "memory")
    assert int(memory["used_memory_peak"]) >= int(memory["used_memory"]) > 0


def test_the_port_is_that_of_the_first_tcp_listener(verbs, line):
    assert told(line, "server")["tcp_port"] == "0"
    verbs.addresses = (Address(path=Path("online.sock")), Address("127.0.0.1", 8989), Address("::1", 8990))
    assert told(line, "server")["tcp_port"] == "8989"


@pytest.mark.parametrize(
    ("n_bytes", "shown"), [(0, "0B"), (1_023, "1023B"), (1_024, "1.00K"), (3 * 2**40, "3.00T"), (2**60, "1048576.00T")]
)
def test_a_size_is_written_as_redis_does(n_bytes, shown):
    assert human(n_bytes) == shown


# The documents


def described():
    """The names of figures in its tables."""
    cells = re.findall(r"^\| (.*?) \|", ON_INFO, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_section_is_described_and_online_query_knows_it():
    assert set(ASKED) == set(re.findall(r"\*\*([a-z]+)\*\*", ON_INFO)) >= set(SECTIONS)


def test_every_figure_is_described(verbs, line):
    syslog = Syslog(Config(), verbs.sites, verbs.service, lambda: NOW_MS)
    figures = told(line) | dict(syslog.info()["syslog"](NOW_MS))
    names = {re.sub("^latency_us_.*", "latency_us_EVENT", re.sub("^site_.*", "site_NAME", name)) for name in figures}
    assert names - described() == set()
    assert {name for _, name in METRICS} - described() == set()


# What is probably a mistake


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_token_that_nobody_asked_for_is_counted_and_logged_once(line, caplog):
    for command in (["AUTH", "a"], ["AUTH", "default", "b"], ["HELLO", 3, "AUTH", "", "c"]):
        line.ask(*command)
    assert told(line, "clients")["auth_without_token"] == "3"
    [warning] = warnings(caplog)
    assert warning.endswith("but this server has none and takes any: is token_file set?")


def test_a_site_that_a_user_name_opens_is_counted_and_logged_once(make_verbs, caplog):
    verbs = make_verbs(token=b"sesame")
    assert Line(verbs).ask("AUTH", "shop", "wrong").startswith("WRONGPASS")
    line = Line(verbs)
    for site in ("shoop", "shoop", "bl\nog", "default"):
        assert line.ask("AUTH", site, "sesame") == "OK"
    figures = told(line, "clients")
    assert (figures["auth_to_new_site"], figures["auth_without_token"]) == ("3", "0")
    assert [each for each in warnings(caplog) if "names the site" in each] == [
        'AUTH names the site "shoop", which is new; it begins with its first hit',
        'AUTH names the site "bl\\nog", which is new; it begins with its first hit',
    ]


def test_a_site_that_exists_is_no_news(line, caplog):
    line.ask("SITE", "shop")
    line.ask("HIT", "a", "/x")
    line.ask("AUTH", "shop", "x")
    assert told(line, "clients")["auth_to_new_site"] == "0"
    assert not any("names the site" in each for each in warnings(caplog))


def test_strangers_do_not_fill_a_disk_with_names_of_sites(line, caplog, monkeypatch):
    monkeypatch.setattr(verbs_access, "MOST_NEW_SITES", 3)
    for n in range(10):
        line.ask("AUTH", f"site{n}", "x")
    assert told(line, "clients")["auth_to_new_site"] == "10"
    assert len([each for each in warnings(caplog) if "names the site" in each]) == 3
