"""The demo: a simulated site that is the same for the same seed, and a server that shows it."""

import itertools
import re
import signal
import subprocess

import pytest
from tests.serving import command, environment, run_command, server_process

from online.demo import KIND_WEIGHTS, simulate
from online.index import Index

NOW_MS = 1_700_000_000_000


def hits_until(at_s, **options):
    return list(itertools.takewhile(lambda hit: hit.at_s <= at_s, simulate(window_s=1_800, **options)))


def test_the_same_seed_makes_the_same_crowd():
    assert hits_until(60, people=100, seed=1) == hits_until(60, people=100, seed=1)
    assert hits_until(60, people=100, seed=1) != hits_until(60, people=100, seed=2)


def test_hits_come_in_order_of_time():
    times = [hit.at_s for hit in hits_until(600, people=100, seed=1)]
    assert times == sorted(times)
    assert times[0] < -1_800


@pytest.mark.parametrize("at_s", [0, 3_600])
def test_about_as_many_are_online_as_asked_for(at_s):
    index = Index()
    for hit in hits_until(at_s, people=2_000, seed=1):
        at_ms = NOW_MS + int(hit.at_s * 1000)
        index.hit(hit.user.encode(), hit.url.encode(), seen_ms=at_ms, kind=hit.kind, now_ms=at_ms)
    assert 1_700 < index.count(now_ms=NOW_MS + at_s * 1000) < 2_200


def test_the_site_has_all_kinds_and_popular_pages():
    hits = hits_until(0, people=1_000, seed=1)
    assert {hit.kind for hit in hits} == set(KIND_WEIGHTS)
    visits = [hit.url for hit in hits]
    assert visits.count("/") > 50 * visits.count("/news/402") > 0


@pytest.mark.slow
def test_the_demo_runs_and_ends():
    with subprocess.Popen(
        command("demo", "--listen", "127.0.0.1:0", "--people", "100"),
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        first = popen.stdout.readline()
        address = re.match(r"online listens on (\S+)\. The site is simulated", first)[1]
        popen.send_signal(signal.SIGINT)
        assert f"redis-cli -p {address.rpartition(':')[2]} PAGE /forum/1" in popen.stdout.read()
        assert popen.stderr.read() == ""
    assert popen.returncode == 0


@pytest.mark.slow
def test_a_port_in_use_is_said_with_what_to_do():
    with server_process() as server:
        ended = run_command("demo", "--listen", server.address)
    assert ended.returncode == 2
    assert re.fullmatch(
        rf"online demo: cannot listen on {server.address}: .*; "
        rf"to listen elsewhere: online demo --listen 127\.0\.0\.1:\d+\n",
        ended.stderr,
    )


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--people", "--seed", "--listen"])
def test_a_wrong_option_is_named(option):
    ended = run_command("demo", option, "many")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"online demo: {option} takes ")
