"""What a user costs in memory: resident bytes, all in, of a process with a million users on ten thousand pages."""

import subprocess
import sys
from typing import Any

import pytest

USERS, PAGES = 1_000_000, 10_000

#: Names of 10 bytes, urls of 11; the process prints what its resident memory grew by, in bytes a user.
FILL = f"""
import resource
from online.index import Index

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

index, now_ms = Index(), 1_800_000_000_000
before = resident()
for user in range({USERS}):
    index.hit(b"user%06d" % user, b"/page/%05d" % (user % {PAGES}), now_ms=now_ms + user // 1000)
statistics = index.statistics()
assert (statistics.users, statistics.pages) == ({USERS}, {PAGES})
print((resident() - before) / {USERS})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.benchmark(group="memory")
def test_bytes_a_user(benchmark: Any) -> None:
    def fill() -> float:
        return float(subprocess.run([sys.executable, "-c", FILL], check=True, capture_output=True, text=True).stdout)

    bytes_a_user = benchmark.pedantic(fill, rounds=1)
    benchmark.extra_info["bytes_a_user"] = round(bytes_a_user, 1)
    assert bytes_a_user > 10
