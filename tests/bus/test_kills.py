"""A short form of what tests/bus/kills.py does at length: servers and the bus are killed under load.

`make check-hard` does it for ten minutes, at 20,000 hits a second: ONLINE_BUS_KILL_SECONDS says how long.
"""

import os

import pytest
from tests.bus.kills import Run, shuffled

SECONDS = float(os.environ.get("ONLINE_BUS_KILL_SECONDS", "0"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_nothing_acknowledged_is_lost_and_questions_are_answered_when_servers_and_the_bus_are_killed(tmp_path):
    if SECONDS:
        run = Run(tmp_path, rate=20_000, n_users=300_000)
        run.go(shuffled(0), seconds=SECONDS, every_s=20)
    else:
        run = Run(tmp_path, rate=1_000, n_users=5_000, away_s=0.3)
        run.go(["bus", "a"])
    assert run.n_looked > 0
