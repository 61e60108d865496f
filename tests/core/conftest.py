"""The dialects that tests of the wire speak."""

import pytest
from tests.wiring import DIALECTS


@pytest.fixture(params=DIALECTS)
def dialect(request):
    """(write a verb with its arguments, read its reply) of each dialect."""
    return DIALECTS[request.param]
