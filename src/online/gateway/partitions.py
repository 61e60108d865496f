"""The lines to the servers of all partitions, by site.

Not its job: one line (lines), and what is asked (asking).

Invariants:
1. At most `max_sites` sites have lines. The one that was asked about longest ago, and of which nobody waits for an
   answer, gives way to a new one. So names that no server knows take no place for long.
"""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import trio

from online import errors
from online.errors import ConfigError
from online.gateway.lines import MOST_MSGID, Line
from online.partitions import Partition
from online.terms import SKEW_MS
from online_client import OnlineError as ClientError
from online_client.address import Address, parse_addresses


class Partitions:
    """Who can be asked."""

    def __init__(self, partitions: Sequence[Partition], max_sites: int, wall_ms: Callable[[], int]) -> None:
        """Open nothing yet. Raises ConfigError for servers that cannot be asked."""
        self.numbers = [partition.number for partition in partitions]
        self._partitions = partitions
        self._max_sites = max_sites
        self._lines: dict[bytes, list[Line]] = {}
        self._nursery: trio.Nursery | None = None
        self._msgid = 0
        self._wall_ms = wall_ms
        self._latest_s = 0
        self._tls: list[Any] = []
        for partition in partitions:
            try:
                self._tls.append(addresses_of(partition, b"default")[0].tls_context())
            except (ClientError, ValueError) as error:
                raise ConfigError(f"partition.{partition.number}: {error}") from None

    async def run(self) -> None:
        """Let all lines work, for ever."""
        async with trio.open_nursery() as self._nursery:
            for lines in self._lines.values():
                self._start(lines)
            await trio.sleep_forever()

    def close(self) -> None:
        """Close all connections."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def lines(self, site: bytes) -> list[Line]:
        """Return the lines of a site, one for each partition, to be asked at once. O(partitions) expected.

        Raises FullError if max_sites others wait for answers.
        """
        lines = self._lines.pop(site, None)
        if lines is None:
            if len(self._lines) >= self._max_sites:
                self._close_one()
            lines = [
                Line(place, addresses_of(each, site), tls, self.second)
                for place, (each, tls) in enumerate(zip(self._partitions, self._tls, strict=True))
            ]
            self._start(lines)
        self._lines[site] = lines  # the last: those asked about longest ago are the first
        return lines

    def _close_one(self) -> None:
        """Close the lines of the site that was asked about longest ago."""
        for site, lines in self._lines.items():
            if all(line.is_idle for line in lines):
                for line in lines:
                    line.close()
                del self._lines[site]
                return
        raise errors.full("max_sites", self._max_sites)

    def _start(self, lines: list[Line]) -> None:
        if self._nursery is not None:
            for line in lines:
                self._nursery.start_soon(line.run)

    def second(self) -> int:
        """Return of which second answers should be: this one, or a later one that a server was in already."""
        return max(self._wall_ms() // 1000, self._latest_s)

    def has_come(self, second: int) -> bool:
        """Let answers be of this second or later ones from now on; False if it is too far in the future."""
        if second > self._wall_ms() // 1000 + SKEW_MS // 1000:
            return False
        self._latest_s = max(self._latest_s, second)
        return True

    def next_msgid(self) -> int:
        """Return the number of the next request: on each line numbers go up, and begin again."""
        self._msgid = self._msgid % MOST_MSGID + 1
        return self._msgid


def addresses_of(partition: Partition, site: bytes) -> tuple[Address, ...]:
    """Return where the servers of a partition are; the first one's token is good for all. Raises ValueError."""
    servers = [urlsplit(each) for each in partition.servers]
    first = servers[0]
    if any(each.scheme != first.scheme or each.path or each.query for each in servers):
        raise ValueError("servers take online://[:TOKEN@]HOST:PORT, or all onlines://, without a site")
    token, at, _ = first.netloc.rpartition("@")
    hosts = ",".join(each.netloc.rpartition("@")[2] for each in servers)
    return parse_addresses(f"{first.scheme}://{token}{at}{hosts}/{quote(site, safe='')}?map={partition.layout}")
