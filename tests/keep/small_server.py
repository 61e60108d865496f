"""`online serve` that does within a second what a server does in hours: small segments, many snapshots, always loading.

    python -m tests.keep.small_server SEED ARGUMENT ...
"""

import sys

from online.cli.main import main
from online.keep import recovery
from online.serve import keeper

keeper.FIRST_S = 0.0
keeper.TEND_S = 0.02
keeper.SEGMENT_BYTES = 20_000
keeper.SNAPSHOT_BYTES = 60_000
recovery.CHUNK_BYTES = 4_096

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
