"""What is said of a bus that fails: the words of who refused. Nobody's data."""

import pytest
from tests.bus.servers import async_test

from online.bus.entries import BusError
from online.bus.redisbus import connected

#: What no error may quote.
SECRET = "secret2@example.com"


def fill(broker):
    """Let the bus take nothing more."""
    broker.client.config_set("maxmemory", 1)


def test_an_error_is_a_line_of_bounded_length_without_a_command():
    assert str(BusError("a\r\nb" + "é" * 200)) == "a b" + "é" * 98
    assert str(BusError(f"unknown command 'XADD', with args beginning with: '{SECRET}'")) == "unknown command 'XADD'"


@async_test
async def test_a_command_that_is_unknown_is_not_quoted(broker):
    broker.client.execute_command("ACL SETUSER default -xadd")

    async def publish(bus):
        await bus.publish(SECRET.encode(), SECRET.encode())

    with pytest.raises(BusError, match="no permissions") as raised:
        await connected(broker.url, publish)
    assert SECRET not in str(raised.value)


@async_test
async def test_what_was_to_be_written_is_not_quoted(broker):
    fill(broker)

    async def publish(bus):
        await bus.publish(SECRET.encode(), SECRET.encode())

    with pytest.raises(BusError, match="OOM command not allowed") as raised:
        await connected(broker.url, publish)
    assert SECRET not in str(raised.value)
