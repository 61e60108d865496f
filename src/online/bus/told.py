"""What is said of the bus: the section `bus` of INFO.

Not its job: what happens there (replica).
"""

from collections.abc import Iterator, Sequence
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
    yield from _published(replica.publisher)
    yield "applied_entries", follower.entries
    yield "applied_own_entries", follower.own
    yield "applied_hits", follower.hits
    yield "refused_hits", follower.refused
    yield "foreign_hits", follower.foreign
    yield "poisoned_entries", follower.poisoned
    yield "clamped_hits", follower.clamped
    yield "retries", replica.retries + published.retries
    yield "gaps", replica.gaps
    yield "dumps", replica.dumps
    yield "clock_offset_ms", replica.clock_offset_ms


def relayed(publishers: Sequence[Publisher], source: bytes) -> Iterator[tuple[str, object]]:
    """Yield the lines of INFO bus of a relay, those of all its streams together: a part of those of a replica."""
    away = next((each for each in publishers if each.is_away), None)
    last_error = next((each.counts.last_error for each in (away, *publishers) if each and each.counts.last_error), "")
    yield "bus_status", "ok" if away is None else "away"
    yield "bus_last_error", last_error
    yield "source", source.decode()
    yield from _published(*publishers)
    yield "retries", sum(each.counts.retries for each in publishers)


def _published(*publishers: Publisher) -> Iterator[tuple[str, object]]:
    yield "published_entries", sum(each.counts.entries for each in publishers)
    yield "published_hits", sum(each.counts.hits for each in publishers)
    yield "published_bytes", sum(each.counts.n_bytes for each in publishers)
    yield "waiting_bytes", sum(each.waiting_bytes for each in publishers)
    yield "dropped", sum(each.counts.dropped for each in publishers)
