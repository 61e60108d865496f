"""`online plan`: its constants are near the truth, and more of anything never needs less."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from online.bus.engines import ENGINES
from online.cli import measured
from online.cli.arguments import Parser
from online.cli.main import main
from online.cli.plan import BUSES, BUSY, LARGEST_MACHINE_BYTES, Site, add_arguments, plan, site_of, warnings
from online.core.index import Index

NOW_MS = 1_790_000_000_000
RESULTS = Path(__file__).parents[2] / "bench" / "results" / "latest.json"

SITE = Site(users=10_000, hits=100, questions=100, pages=2_000)


def filled(n_users, n_pages, name_bytes, url_bytes):
    index = Index()
    for n in range(n_users):
        user, url = b"%d-" % n, b"/%d/" % (n % n_pages)
        index.hit(user.ljust(name_bytes, b"u"), url.ljust(url_bytes, b"p"), seen_ms=NOW_MS, now_ms=NOW_MS)
    return index.statistics().memory_bytes


@pytest.mark.parametrize("n_users", [30_000, 58_000, 65_000])
@pytest.mark.parametrize(("n_pages", "name_bytes", "url_bytes"), [(50, 8, 20), (50, 40, 20), (29_000, 22, 60)])
def test_the_memory_of_an_index_is_at_most_what_is_planned_and_not_far_below(n_users, n_pages, name_bytes, url_bytes):
    site = replace(SITE, users=n_users, pages=n_pages, name_bytes=name_bytes, url_bytes=url_bytes)
    taken = filled(n_users, n_pages, name_bytes, url_bytes)
    assert 0.65 * plan(site).sessions < taken <= plan(site).sessions


def test_a_site_with_one_user_takes_what_is_planned():
    """In a server it takes a little more: somebody observes it."""
    assert 0.65 * measured.SITE_BYTES < filled(1, 1, 10, 10) <= measured.SITE_BYTES


@pytest.mark.parametrize(
    ("work", "constant"),
    [
        ("memory of a connection that rests, of 10,000", measured.CONNECTION_BYTES),
        ("online, MessagePack batches of 500", 1e6 * measured.BATCHED_HIT_S),
    ],
)
def test_constants_are_those_of_the_last_benchmarks(work, constant):
    found = [row for row in json.loads(RESULTS.read_text())["rows"] if row["work"] == work]
    medians = [sorted(row["values"])[len(row["values"]) // 2] for row in found]
    assert any(median == pytest.approx(constant, rel=0.05) for median in medians)


@pytest.mark.parametrize(
    "more",
    [
        {"users": 20_000},
        {"hits": 200},
        {"questions": 200},
        {"pages": 4_000},
        {"sites": 2},
        {"window_s": 3_600},
        {"connections": 1_000},
        {"watchers": 1_000},
        {"name_bytes": 50},
        {"url_bytes": 60},
        {"history_days": 800},
        {"last_seen_members": 1_000},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_needs_more_of_something_and_less_of_nothing(more):
    site = replace(SITE, replicas=2)
    before, after = plan(site), plan(replace(site, **more))
    assert all(new >= old for old, new in zip(before, after, strict=True))
    assert after != before


def test_one_server_needs_no_bus():
    assert plan(SITE).bus == 0
    assert plan(replace(SITE, replicas=2)).bus == 2 * 1_800 * 100 * measured.BUS_HIT_BYTES


@pytest.mark.parametrize("bus", BUSES)
def test_every_kind_of_bus_has_a_size_and_machines(bus, capsys):
    assert main(["plan", "--users", "300000", "--hits", "5000", "--replicas", "2", "--bus", bus]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert BUSES[bus].machines in told
    assert BUSES[bus].what in told
    assert plan(replace(SITE, replicas=2, bus=bus)).bus >= plan(replace(SITE, replicas=2)).bus
    assert set(BUSES) == {scheme for scheme in ENGINES if not scheme.startswith("rediss")}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hits": 200_000}, "batches"),
        ({"hits": 5_000_000}, "one core"),
        ({"users": 20_000_000}, "--max-users"),
        ({"pages": 20_000_000}, "--max-pages"),
        ({"sites": 5_000}, "--max-sites"),
        ({"watchers": 20_000}, "--max-connections"),
    ],
    ids=["batches", "core", "users", "pages", "sites", "connections"],
)
def test_what_does_not_fit_is_said(more, said):
    site = replace(SITE, **more)
    assert any(said in warning for warning in warnings(site, plan(site)))
    assert not list(warnings(SITE, plan(SITE)))


def planned(*options):
    parser = Parser("online plan")
    add_arguments(parser)
    site = site_of(parser.parse_args(options))
    return site, plan(site)


def test_a_small_site_has_one_server():
    site, found = planned("--users", "10000")
    assert (site.partitions, site.replicas, found.servers, found.gateways, found.bus) == (1, 1, 1, 0, 0)


def test_replicas_are_planned_where_questions_need_more_than_a_core():
    site, found = planned("--users", "100000000")
    assert (site.partitions, found.gateways) == (1, 0)
    assert found.servers == site.replicas > 1
    assert found.core_batched <= BUSY < plan(replace(site, replicas=site.replicas - 1)).core_batched


def test_one_more_partition_is_planned_where_replicas_leave_too_little_of_a_server_to_questions():
    site, found = planned("--users", "1000000", "--hits", "2170000", "--questions", "2170000")
    assert site.partitions > 1
    assert found.core_batched <= BUSY


def test_questions_that_are_too_many_for_any_number_of_servers_are_said():
    site, found = planned("--users", "1000000", "--hits", "10000000", "--questions", "10000000")
    [advice] = [each for each in warnings(site, found) if "one core" in each]
    assert "100 replicas are too few" in advice


def test_partitions_and_gateways_are_planned_where_hits_need_more_than_a_core():
    site, found = planned("--users", "100000000", "--hits", "5000000", "--questions", "1000")
    assert found.servers == site.partitions * site.replicas
    assert site.partitions > 1
    assert found.core_batched <= BUSY
    assert found.gateways * BUSY >= 5_000_000 * measured.GATEWAY_HIT_S


def test_partitions_are_planned_where_a_machine_has_too_little_memory():
    site, found = planned("--users", "1000000000", "--hits", "1000", "--questions", "1000")
    assert site.partitions > 1
    assert found.machine <= LARGEST_MACHINE_BYTES < plan(replace(site, partitions=site.partitions - 1)).machine


@pytest.mark.parametrize("sites", [1, 5])
def test_sites_are_divided_only_where_there_are_several(sites):
    site = replace(SITE, hits=5_000_000, sites=sites)
    [advice] = [each for each in warnings(site, plan(site)) if "one core" in each]
    assert "--partitions" in advice
    assert ("divide the sites" in advice) == (sites > 1)


def test_a_bus_without_anybody_to_share_with_is_said(capsys):
    assert main(["plan", "--users", "10000", "--bus", "kafka"]) == 0
    assert "one server needs no bus: --bus kafka is for --replicas 2" in " ".join(capsys.readouterr().out.split())


def test_a_plan_is_shown(capsys):
    assert main(["plan", "--users", "300000", "--hits", "5000", "--replicas", "2"]) == 0
    out = capsys.readouterr().out
    assert "users online at once; 5,000 hits and 5,000 questions a second" in " ".join(out.split())
    assert {line.split()[0] for line in out.splitlines() if line[0] != " "} >= {"memory", "disk", "bus", "machines"}


def test_a_plan_as_json_has_what_was_filled_in(capsys):
    assert main(["plan", "--users", "3000", "--window", "10min", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["site"]["hits"] == told["site"]["questions"] == 30
    assert told["plan"]["memory"] > measured.PROCESS_BYTES


@pytest.mark.parametrize("users", ["1,000,000", "1_000_000", "1000000"])
def test_users_are_taken_as_numbers_are_written(users, capsys):
    assert main(["plan", "--users", users, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["site"]["users"] == 1_000_000


@pytest.mark.parametrize("users", ["1e6", "1,00", "1,000_000", ",1", "1_", "-1", "2,000,000,000", "\u0661"])
def test_users_that_are_no_number_are_refused(users, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", f"--users={users}"])
    assert ended.value.code == 2
    assert f"--users takes 1 to 1,000,000,000, not {users!r}" in capsys.readouterr().err


def test_users_are_needed(capsys):
    with pytest.raises(SystemExit):
        main(["plan"])
    assert "--users" in capsys.readouterr().err
