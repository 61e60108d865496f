"""`online serve` that does within a second what a server does in hours: small segments, many snapshots, always loading.

    python -m tests.keep.small_server ARGUMENT ...

With ONLINE_SPEED=30 in its environment, its clocks go thirty times as fast, since ONLINE_SINCE_MS.
"""

import os
import sys

from online.cli.main import main
from online.keep import recovery
from online.serve import clock, keeper

keeper.FIRST_S = 0.0
keeper.TEND_S = 0.02
keeper.SEGMENT_BYTES = 20_000
keeper.SNAPSHOT_BYTES = 60_000
recovery.CHUNK_BYTES = 4_096

SPEED, SINCE_MS = int(os.environ.get("ONLINE_SPEED", "1")), int(os.environ.get("ONLINE_SINCE_MS", "0"))


def fast(read):
    """A clock that since SINCE_MS goes faster than the one it reads."""
    return lambda: SINCE_MS + SPEED * (read() - SINCE_MS)


clock.Clock.__init__.__kwdefaults__.update(steady=fast(clock.steady_ms), wall=fast(clock.wall_ms))

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
