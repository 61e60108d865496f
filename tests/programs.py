"""Programs that only some tests want."""

import os
import shutil

import pytest


def program(name):
    """Where a program is. A test without it is skipped; `.ci/run` installs all of them."""
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))  # where Debian keeps servers
    if path is None:
        pytest.skip(f"{name} is not installed; its package stands in .ci/packages")
    return path
