"""Load at a rate: what is due when, and what counts as the time of an answer."""

from threading import Event

import pytest

from online.cli import lanes
from online.cli.lanes import Lane
from online_client import Client, ConnectionFailed, verbs


class Time:
    """A clock that moves when somebody sleeps, or an answer takes its time."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(lanes, "time", clock)
    return clock


def ran(lane, clock, answers_s, until_s):
    """Run a lane whose answers take so long, one after the other; then 0."""
    left = iter(answers_s)
    asked = []

    def call(request):
        asked.append((request, pytest.approx(clock.now_s)))
        clock.now_s += next(left, 0.0)

    lane.run(call, 0.0, until_s, Event())
    return asked


def test_requests_are_asked_in_a_circle_at_their_rate(clock):
    lane = Lane(["a", "b", "c"], 20.0)
    assert ran(lane, clock, [], 0.24) == [("a", 0.0), ("b", 0.05), ("c", 0.1), ("a", 0.15), ("b", 0.2)]


def test_a_lane_ends_with_the_run_also_if_its_next_request_is_due_later(clock):
    assert ran(Lane(["a"], 10.0), clock, [], 0.06) == [("a", 0.0)]
    assert clock.now_s == pytest.approx(0.06)


def test_a_latency_is_the_time_of_the_answer_if_the_lane_is_not_late(clock):
    lane = Lane(["a"], 20.0)
    ran(lane, clock, [0.01, 0.02, 0.03], 0.14)
    assert lane.latencies_s == pytest.approx([0.01, 0.02, 0.03])


def test_who_waits_behind_a_late_answer_has_waited_since_it_was_due(clock):
    lane = Lane(["a"], 20.0)
    ran(lane, clock, [0.12, 0.01], 0.19)
    # Due at 0, 0.05, 0.1 and 0.15, and asked at 0, 0.12, 0.13 and 0.15.
    assert lane.latencies_s == pytest.approx([0.12, 0.08, 0.03, 0.0])


def test_without_a_rate_one_is_asked_after_the_other(clock):
    lane = Lane(["a"], 0)
    ran(lane, clock, [0.3, 0.4, 0.5], 1.0)
    assert lane.latencies_s == pytest.approx([0.3, 0.4, 0.5])


def test_an_error_ends_all_lanes():
    with Client("online://127.0.0.1:1", timeout=1) as client, pytest.raises(ConnectionFailed):
        lanes.run(client, [Lane([verbs.count()], 0), Lane([verbs.ping()], 10)], 3_600)
