"""What took long is counted by what it was, told to LATENCY and INFO, and logged now and then."""

import logging

import pytest

from online.serve.delays import LOG_EVERY_NS, LONG_NS, MOST_KEPT, Delays

MS = 1_000_000


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns


def info_latency(line):
    rows = line.ask("INFO", "latency").split("\r\n")
    return dict(row.split(":", 1) for row in rows if ":" in row)


def test_the_log_tells_of_what_was_long_and_how_many_it_left_out(caplog, monkeypatch):
    clock = Clock()
    delays = Delays(clock_ns=clock)
    monkeypatch.setattr(logging.getLogger("online.delays"), "disabled", False)
    with caplog.at_level(logging.INFO, logger="online"):
        delays.took("SITES", LONG_NS - 1)
        delays.took("SITES", 12 * MS)
        delays.took("expire", 13 * MS)
        delays.took("expire", 14 * MS)
        clock.now_ns = LOG_EVERY_NS
        delays.took("turn", 15 * MS)
        clock.now_ns = 2 * LOG_EVERY_NS
        delays.incident("step", 16 * MS, "SECTION", 9 * MS)
        clock.now_ns = 3 * LOG_EVERY_NS
        delays.incident("step", 16 * MS, "SECTION", 1 * MS)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["INFO"]
    assert [record.getMessage() for record in caplog.records] == [
        "clients waited for 12.0 ms (SITES)",
        "clients waited for 15.0 ms (turn); 2 more since the last such line",
        "clients waited for 16.0 ms (step with SECTION)",
        "clients waited for 16.0 ms (step with SECTION), 15.0 ms of it because the processor ran other programs",
    ]


def test_incidents_are_bounded():
    delays = Delays()
    for _ in range(MOST_KEPT + 10):
        delays.took("expire", LONG_NS)
    assert len(delays.events()["expire"].incidents) == MOST_KEPT
    assert sum(delays.events()["expire"].counts) == MOST_KEPT + 10


@pytest.mark.parametrize("ns", [0, 999, 1_000, 1_999_999, 10**18])
def test_a_time_is_below_its_bucket_and_not_below_half_of_it(ns):
    delays = Delays()
    delays.took("x", ns)
    [(below_us, count)] = delays.events()["x"].histogram_us().items()
    assert count == 1
    below_us = int(below_us)
    assert ns // 1000 < below_us or ns == 10**18
    assert below_us == 1 or ns // 1000 >= below_us // 2


def test_latency_tells_of_incidents_as_redis_does(line):
    line.verbs.delays.took("expire", 12 * MS)
    line.verbs.delays.took("expire", 30 * MS)
    line.verbs.delays.took("expire", 11 * MS)
    line.verbs.delays.took("slices", 1 * MS)
    [[event, at_s, latest_ms, longest_ms]] = line.ask("LATENCY", "LATEST")
    assert (event, latest_ms, longest_ms) == ("expire", 11, 30)
    assert [ms for _, ms in line.ask("LATENCY", "HISTORY", "EXPIRE")] == [12, 30, 11]
    assert line.ask("LATENCY", "HISTORY", "EXPIRE")[-1][0] == at_s
    assert "30.0 ms" in line.ask("LATENCY", "DOCTOR")
    assert line.ask("LATENCY", "RESET", "slices") == 0
    assert line.ask("LATENCY", "RESET") == 1
    assert line.ask("LATENCY", "LATEST") == []


def test_latency_has_a_histogram_for_each_rare_verb(line):
    for _ in range(3):
        line.ask("SITES")
    told = line.ask("LATENCY", "HISTOGRAM", "sites")
    assert list(told) == ["sites"]
    assert told["sites"]["calls"] == 3
    assert max(told["sites"]["histogram_usec"].values()) == 3


def test_info_latency_names_the_longest_call(line):
    line.verbs.delays.took("SITES", 7 * MS)
    told = info_latency(line)
    assert (told["longest_call"], told["longest_call_us"]) == ("SITES", "7000")
    assert told["latency_us_SITES"].endswith("max=7000")


def test_what_others_count_is_added_once(line):
    counted = [{"turn": ([5] + [0] * 27, 900)}, {"turn": ([0] * 28, 0)}]
    line.verbs.delays.watch(lambda: counted.pop(0))
    assert sum(line.verbs.delays.events()["turn"].counts) == 5
    assert sum(line.verbs.delays.events()["turn"].counts) == 5


def test_info_counts_who_is_overdue(line):
    for n in range(3):
        line.ask("HIT", f"user-{n}", "/x")
    assert "\r\noverdue:0\r\n" in line.ask("INFO", "hits")
    line.now_ms += 2_000_000
    assert line.ask("COUNT") == 0
    assert "\r\noverdue:3\r\n" in line.ask("INFO", "hits")
