"""No hot path takes more instructions than is written down."""

import shutil
import sys

import pytest
from bench.instructions import SIZE, TOLERANCE, counted, limits


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind (a Debian package) is not installed")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="counts are written down for Python 3.11")
def test_no_hot_path_takes_more_instructions_than_is_written_down():
    counts = counted(SIZE)
    assert counts.keys() == limits().keys()
    assert {name: count for name, count in counts.items() if count > TOLERANCE * limits()[name]} == {}
