"""What tests/bus/kills.py does: three servers and the bus are killed under load. By default in a short form.

With ONLINE_BUS_KILL_SECONDS it is the whole: 20,000 hits a second of two publishers, and a kill each 20 seconds, for so
long; `make check-hard` does that for ten minutes.
"""

import os

import pytest
from tests.bus.kills import Run, shuffled

SECONDS = float(os.environ.get("ONLINE_BUS_KILL_SECONDS", "0"))

RATE = 20_000


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_nothing_acknowledged_is_lost_and_questions_are_answered_when_servers_and_the_bus_are_killed(tmp_path):
    if SECONDS:
        run = Run(tmp_path, rate=RATE, n_users=300_000)
        run.go(shuffled(0), seconds=SECONDS, every_s=20)
        assert run.hits_per_s > 0.9 * RATE, "the machine is too slow, or too busy, for this test"
        assert run.longest_s < 1
    else:
        run = Run(tmp_path, rate=1_000, n_users=5_000, away_s=0.3)
        run.go(["bus", "a"])
    assert run.n_looked > 0
