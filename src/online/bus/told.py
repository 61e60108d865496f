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
    is_away: bool
    last_error: str
    retries: int
    gaps: int
    dumps: int
    clock_offset_ms: int
    waits: bool

    @property
    def lag_ms(self) -> int: ...
    @property
    def lag_entries(self) -> int: ...


def lines(replica: Following) -> Iterator[tuple[str, object]]:
    """Yield the lines of INFO bus."""
    published, follower = replica.publisher.counts, replica.follower
    yield "bus_status", "away" if replica.is_away else "ok"
    yield "bus_last_error", replica.last_error or published.last_error
    yield "bus_ack", "yes" if replica.waits else "no"
    yield "source", replica.source.decode()
    yield "place", replica.place.decode()
    yield "lag_ms", replica.lag_ms
    yield "lag_entries", replica.lag_entries
    yield "published_entries", published.entries
    yield "published_hits", published.hits
    yield "published_bytes", published.n_bytes
    yield "waiting_bytes", replica.publisher.waiting_bytes
    yield "dropped", published.dropped
    yield "applied_entries", follower.entries
    yield "applied_own_entries", follower.own
    yield "applied_hits", follower.hits
    yield "poisoned_entries", follower.poisoned
    yield "clamped_hits", follower.clamped
    yield "retries", replica.retries + published.retries
    yield "gaps", replica.gaps
    yield "dumps", replica.dumps
    yield "clock_offset_ms", replica.clock_offset_ms
