"""What several test modules share: the implementations of the index."""

import sys

import pytest

from online.core.index import Index
from online.core.reference import ReferenceIndex

#: The tools of the benchmarks read /proc and wait with ppoll.
collect_ignore = [] if sys.platform == "linux" else ["bench/test_bench.py"]


@pytest.fixture(params=[ReferenceIndex, Index], ids=["reference", "compiled"])
def make_index(request):
    """The class of an index: every test that asks for it runs once with each of the two."""
    return request.param
