"""Programs that only some tests want."""

import os
import shutil

import pytest

#: What cannot start with ASan's library, which `make sanitize` has loaded into every process: a browser manages memory
#: in its own way, and PHP loads its modules as ASan forbids.
NEVER_WITH_ASAN = {"chromium", "php"}


def program(name):
    """Where a program is. A test without it is skipped; `.ci/run` installs all of them."""
    if name in NEVER_WITH_ASAN and "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip(f"{name} cannot start with ASan")
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))  # where Debian keeps servers
    if path is None:
        pytest.skip(f"{name} is not installed; its package stands in .ci/packages")
    return path
