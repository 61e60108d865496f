"""Fixtures of the tests of the bus."""

from tests.bus.servers import broker

__all__ = ["broker"]
