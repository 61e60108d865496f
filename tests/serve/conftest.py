"""The transports that tests of the server run over."""

import pytest
from tests.serving import TRANSPORTS


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    """Each of the transports in turn."""
    return request.param


@pytest.fixture
def streams():
    return "streams"
