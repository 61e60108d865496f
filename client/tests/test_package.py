"""The package: it works without anyio until AsyncClient is wanted."""

import sys

import pytest

import online_client


@pytest.fixture
def without_anyio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anyio", None)
    monkeypatch.delitem(sys.modules, "online_client.aio", raising=False)


@pytest.mark.usefixtures("without_anyio")
def test_without_anyio_only_the_asynchronous_client_is_missing() -> None:
    assert online_client.Client("online://h")
    with pytest.raises(ImportError, match=r"pip install '\./client\[async\]'"):
        _ = online_client.AsyncClient


def test_the_asynchronous_client_is_there() -> None:
    from online_client.aio import AsyncClient

    assert online_client.AsyncClient is AsyncClient


def test_everything_that_is_promised_is_there() -> None:
    assert all(hasattr(online_client, name) for name in online_client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = online_client.Nothing
