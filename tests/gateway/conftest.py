"""What the tests of the gateway share."""

import pytest
from tests.serving import PATIENCE_S

from online.gateway import lines


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The servers stand in this process, too: while it gets no time, none of them can answer."""
    monkeypatch.setattr(lines, "ANSWER_S", PATIENCE_S)
