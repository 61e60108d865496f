"""The clock: index time goes on whatever happens to the wall clock, and the difference is known."""

import time

import pytest

from online.serve import clock
from online.serve.clock import FOLLOW_MS, Clock

START_MS = 1_700_000_000_000


class Hands:
    """Both clocks, moved by hand."""

    def __init__(self):
        self.steady_ms = 77_000
        self.wall_ms = START_MS

    def go(self, ms, *, wall_ms=None):
        self.steady_ms += ms
        self.wall_ms += ms if wall_ms is None else wall_ms


@pytest.fixture
def hands():
    return Hands()


@pytest.fixture
def made(hands):
    return Clock(steady=lambda: hands.steady_ms, wall=lambda: hands.wall_ms)


def test_begins_at_wall_time(made):
    assert made.now_ms() == START_MS
    assert (made.step_ms, made.steps) == (0, 0)


def test_goes_with_the_steady_clock(made, hands):
    hands.go(1_234)
    assert made.now_ms() == START_MS + 1_234
    assert made.follow() == 0


@pytest.mark.parametrize("set_by_ms", [3_600_000, -3_600_000, FOLLOW_MS, -FOLLOW_MS])
def test_a_step_of_the_wall_clock_is_followed_and_moves_no_index_time(made, hands, set_by_ms):
    hands.go(10_000, wall_ms=10_000 + set_by_ms)
    assert made.follow() == set_by_ms
    assert (made.step_ms, made.steps) == (set_by_ms, 1)
    assert made.now_ms() == START_MS + 10_000
    assert made.now_ms() + made.step_ms == hands.wall_ms
    assert made.follow() == 0


def test_steps_add_up(made, hands):
    for set_by_ms in (60_000, -20_000, 5_000):
        hands.go(0, wall_ms=set_by_ms)
        assert made.follow() == set_by_ms
    assert (made.step_ms, made.steps) == (45_000, 3)


def test_drift_is_followed_once_it_adds_up(made, hands):
    moved = []
    for _ in range(10):
        hands.go(1_000, wall_ms=1_000 + FOLLOW_MS // 5)
        moved.append(made.follow())
    assert moved == [0, 0, 0, 0, FOLLOW_MS, 0, 0, 0, 0, FOLLOW_MS]
    assert made.steps == 2


def test_a_process_halted_between_two_readings_follows_nothing(hands):
    def wall():
        hands.go(2_000)
        return hands.wall_ms - 2_000  # read, then halted

    halted = Clock(steady=lambda: hands.steady_ms, wall=wall)
    assert halted.follow() == 0
    assert halted.steps == 0


def test_the_clocks_of_the_system():
    made = Clock()
    before_ms = made.now_ms()
    assert abs(before_ms - time.time() * 1000) < 60_000
    assert made.now_ms() >= before_ms
    assert made.follow() == 0


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no CLOCK_BOOTTIME here")
def test_the_steady_clock_runs_through_a_suspend():
    assert abs(clock.steady_ms() - time.clock_gettime(time.CLOCK_BOOTTIME) * 1000) < 60_000
