"""What a user costs in memory: resident bytes, all in, of a process with a million users on ten thousand pages."""

import sys

import pytest
from bench.inprocess import memory_of
from bench.recording import Recorder
from bench.workloads import FORUM, sized, warmed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bytes_a_user(record: Recorder, quick: bool) -> None:
    """Names of 10 bytes; every user has come and moved once."""
    workload = warmed(sized(FORUM, 1_000_000), 1)
    figures = []
    for _ in range(1 if quick else 3):
        growth = memory_of(workload)
        assert growth.statistics.users == workload.n_users
        assert growth.statistics.pages > 0.99 * workload.n_urls
        figures.append(growth.resident_bytes / workload.n_users)
    record("memory, all in", figures, "bytes/user", at_most=75, note=workload.id)
