"""A very large site on paper (docs/scale.md): the figures of its table follow from what was measured here."""

import json
import re
from math import ceil
from pathlib import Path

import pytest

from online.cli import measured
from online.cli.plan import BUSY, MACHINE_BYTES, MACHINE_FACTOR

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "bench" / "results" / "latest.json").read_text())["rows"]
SCALE = (ROOT / "docs" / "scale.md").read_text()
SECTION = SCALE[SCALE.index("\n## On paper") :]

# What is asked for, and what was chosen.
USERS, HITS, QUESTIONS, WINDOW_S, PAGES = 10**9, 10**6, 10**5, 1_800, 10**7
PARTITIONS, REPLICAS = 16, 3
NAME_BYTES, URL_BYTES, ROW_BYTES, ROWS_OF_A_PAGE = 22, 30, 40, 30

#: Partitions of the gateway that was measured.
MEASURED_PARTITIONS = 4

#: As the section assumes: dollars a month.
CORE_PRICE, GB_PRICE, CORES = 10, 5, 2


def median(work):
    [values] = [row["values"] for row in ROWS if row["work"] == work]
    return sorted(values)[len(values) // 2]


def read_hits_per_s():
    """How many hits a second a server reads and applies as it starts, by the table above the section."""
    seconds = re.search(r"a server's start: read and applied \| ([\d.]+) s", SCALE)
    return 9_000_000 / float(seconds[1])


def rounded(figure):
    """Two digits, as the table has figures."""
    return float(f"{figure:.2g}")


def gigabytes(size):
    return 2 ** ceil(size / 1e9 - 1).bit_length()


SERVER = (
    measured.PROCESS_BYTES
    + USERS // PARTITIONS * (measured.USER_BYTES + NAME_BYTES)
    + PAGES * (measured.PAGE_BYTES + URL_BYTES)
)
STREAM = HITS // PARTITIONS * measured.BUS_HIT_BYTES * measured.BUS_WINDOWS * WINDOW_S
HIT_BYTES = NAME_BYTES + URL_BYTES + measured.JOURNALED_HIT_BYTES
COUNT_S, PAGE_S = (
    1e-6 * median(f"{each}: gateway's processor time") * PARTITIONS / MEASURED_PARTITIONS for each in ("count", "page")
)
SERVERS = PARTITIONS * REPLICAS
GATEWAYS = ceil(QUESTIONS * PAGE_S / BUSY / CORES)
RELAYS = ceil(HITS * measured.LONE_QUESTION_S / BUSY / CORES)
SERVER_GB, STREAM_GB = (gigabytes(MACHINE_FACTOR * each + MACHINE_BYTES) for each in (SERVER, STREAM))
ROWS_PER_S = QUESTIONS * PARTITIONS * ROWS_OF_A_PAGE * ROW_BYTES


def price(n, gb):
    return n * (CORES * CORE_PRICE + gb * GB_PRICE)


FIGURES = {
    "users of a partition, M": USERS / PARTITIONS / 1e6,
    "memory of a server, GB": SERVER / 1e9,
    "core of a server for hits, %": 100 * HITS / PARTITIONS * measured.BATCHED_HIT_S * measured.BUS_FACTOR,
    "core of a server for questions, %": 100 * QUESTIONS / REPLICAS * measured.LONE_QUESTION_S,
    "the same when one of three is down, %": 100 * QUESTIONS * 2 / REPLICAS * measured.LONE_QUESTION_S,
    "hits of a stream, /s": HITS / PARTITIONS,
    "memory of a stream, GB": STREAM / 1e9,
    "start of a server, s": HITS / PARTITIONS * WINDOW_S / read_hits_per_s(),
    "gateway, COUNT, us": 1e6 * COUNT_S,
    "gateway, PAGE, us": 1e6 * PAGE_S,
    "cores of gateways, COUNT": QUESTIONS * COUNT_S / BUSY,
    "cores of gateways, PAGE": QUESTIONS * PAGE_S / BUSY,
    "cores of relays": HITS * measured.LONE_QUESTION_S / BUSY,
    "hits into relays, MB/s": HITS * HIT_BYTES / 1e6,
    "bus to servers, MB/s": HITS * HIT_BYTES * REPLICAS / 1e6,
    "servers to gateways, MB/s": ROWS_PER_S / 1e6,
    "into each gateway machine, MB/s": ROWS_PER_S / GATEWAYS / 1e6,
}

MACHINES = {
    "servers": (SERVERS, SERVER_GB),
    "nodes of Redis": (2 * PARTITIONS, STREAM_GB),
    "gateways": (GATEWAYS, 4),
    "relays": (RELAYS, 4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_follows_from_what_was_measured(name):
    [written] = re.findall(rf"^\| {re.escape(name)} \| [^|]+ \| ([\d.,]+) \|$", SECTION, re.MULTILINE)
    assert rounded(float(written.replace(",", ""))) == rounded(FIGURES[name])


@pytest.mark.parametrize("name", MACHINES)
def test_machines_and_their_price_follow(name):
    n, gb = MACHINES[name]
    assert f"| {name} | {n} | {CORES} cores, {gb} GB | {price(n, gb):,} |" in SECTION


def test_the_sum_follows():
    n_machines, dollars = sum(n for n, _ in MACHINES.values()), sum(price(*each) for each in MACHINES.values())
    assert f"| together | {n_machines} | | {dollars:,} |" in SECTION
