"""The server that commands speak to."""

import pytest


@pytest.fixture
def url(url, monkeypatch):
    """The url of a site that no other test uses, which is also the default of commands."""
    monkeypatch.setenv("ONLINE_URL", url)
    return url
