"""The simulation: no seed fails, the same seed is the same run, and what is broken on purpose is found.

ONLINE_SEEDS says how many seeds; `make check-hard` takes thousands.
"""

import os
import time
from itertools import count

import pytest
from tests.simulation.faults import FAULTS, nobody_expires_in_the_background
from tests.simulation.world import MISFORTUNES, simulate

from online.serve import verbs

SEEDS = int(os.environ.get("ONLINE_SEEDS", "48"))
AT_ONCE = max(12, SEEDS // 20)

#: Seeds in which a planted fault is looked for.
FOUND_WITHIN = 40


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_seed_fails(first):
    befallen = set()
    for number in range(first, min(first + AT_ONCE, SEEDS)):
        try:
            befallen |= set(simulate(number)[0])
        except BaseException as error:
            error.add_note(f"to see it again: python -m tests.simulation {number}")
            raise
    assert befallen == set(MISFORTUNES)


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 15])
def test_a_seed_is_the_same_run_each_time(number):
    assert simulate(number) == simulate(number)


@pytest.mark.slow
def test_a_seed_is_the_same_run_on_a_machine_that_stalls(monkeypatch):
    """What ends a turn is time, and that is of the run alone. Each look at the machine's clock finds a second gone."""
    as_ever = simulate(15)
    passed_s = count()
    monkeypatch.setattr(verbs, "perf_counter_ns", lambda: next(passed_s) * 10**9)
    with monkeypatch.context() as stalling:
        stalling.setattr(time, "perf_counter", lambda: next(passed_s))
        again = simulate(15)
    assert again == as_ever


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    for number in range(FOUND_WITHIN):
        try:
            with FAULTS[name]() as spoil:
                simulate(number, spoil=spoil)
        except BaseException:
            return
    pytest.fail(f"not in {FOUND_WITHIN} seeds")


@pytest.mark.slow
def test_answers_do_not_depend_on_expiry_in_the_background():
    for number in (3, 4):
        with nobody_expires_in_the_background() as spoil:
            simulate(number, spoil=spoil)
