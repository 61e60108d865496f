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
    def unread_ms(self) -> int: ...
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
    yield "unread_ms", replica.unread_ms
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
    away = [each for each in publishers if each.is_away]
    status = "ok" if not away else "refusing" if all(each.is_refused for each in away) else "away"
    yield "bus_status", status
    yield "bus_last_error", next((f"writing: {each.error}" for each in away if each.error), "")
    yield "source", source.decode()
    yield "lag_ms", max(each.waiting_ms for each in publishers)
    yield from _published(*publishers)
    yield "retries", sum(each.counts.retries for each in publishers)


def _published(*publishers: Publisher) -> Iterator[tuple[str, object]]:
    yield "published_entries", sum(each.counts.entries for each in publishers)
    yield "published_hits", sum(each.counts.hits for each in publishers)
    yield "published_bytes", sum(each.counts.n_bytes for each in publishers)
    yield "waiting_bytes", sum(each.waiting_bytes for each in publishers)
    yield "dropped", sum(each.counts.dropped for each in publishers)
