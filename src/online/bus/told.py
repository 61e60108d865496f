"""What is said of the bus: the section `bus` of INFO.

Not its job: what happens there (replica).
"""

from collections.abc import Iterator
from typing import Protocol

from online.bus.follower import Follower
from online.bus.publisher import Publisher


class Following(Protocol):
    """What a replica knows."""

    publisher: Publisher
    follower: Follower
    source: bytes
    place: bytes
    retries: int
    gaps: int
    dumps: int
    clock_offset_ms: int
    waits: bool

    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str: ...
    @property
    def lag_ms(self) -> int: ...
    @property
    def lag_entries(self) -> int: ...


def lines(replica: Following) -> Iterator[tuple[str, object]]:
    """Yield the lines of INFO bus."""
    published, follower = replica.publisher.counts, replica.follower
    yield "bus_status", replica.status
    yield "bus_last_error", replica.error
    yield "bus_ack", "yes" if replica.waits else "no"
    yield "source", replica.source.decode()
    yield "place", replica.place.decode()
    yield "lag_ms", replica.lag_ms
    yield "lag_entries", replica.lag_entries
    yield from _published(replica.publisher)
    yield "applied_entries", follower.entries
    yield "applied_own_entries", follower.own
    yield "applied_hits", follower.hits
    yield "poisoned_entries", follower.poisoned
    yield "clamped_hits", follower.clamped
    yield "retries", replica.retries + published.retries
    yield "gaps", replica.gaps
    yield "dumps", replica.dumps
    yield "clock_offset_ms", replica.clock_offset_ms


def relayed(publisher: Publisher, source: bytes) -> Iterator[tuple[str, object]]:
    """Yield the lines of INFO bus of a relay: a part of those of a replica."""
    yield "bus_status", ("refusing" if publisher.is_refused else "away") if publisher.is_away else "ok"
    yield "bus_last_error", publisher.error
    yield "source", source.decode()
    yield "lag_ms", publisher.waiting_ms
    yield from _published(publisher)
    yield "retries", publisher.counts.retries


def _published(publisher: Publisher) -> Iterator[tuple[str, object]]:
    yield "published_entries", publisher.counts.entries
    yield "published_hits", publisher.counts.hits
    yield "published_bytes", publisher.counts.n_bytes
    yield "waiting_bytes", publisher.waiting_bytes
    yield "dropped", publisher.counts.dropped
