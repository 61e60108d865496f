"""What several test modules share: the implementations of the index."""

import pytest

from online.index import Index
from online.reference import ReferenceIndex


@pytest.fixture(params=[ReferenceIndex, Index], ids=["reference", "compiled"])
def make_index(request):
    """The class of an index: every test that asks for it runs once with each of the two."""
    return request.param
