"""Connections to the servers of each partition, over the client for Trio.

Not its job: what is asked (merging).
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgpack

from online import errors
from online.errors import ConfigError, OnlineError, RangeError
from online.gateway.merging import AwayError
from online.partitions import Partition
from online_client import OnlineError as ClientError
from online_client.address import parse_addresses
from online_client.aio import AsyncClient
from online_client.errors import LoadingError, ServerError
from online_client.verbs import Request

#: How long a partition may take for an answer, with all of its servers.
ANSWER_S = 2.0


class Relayed(OnlineError):
    """An error with which a server has answered."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.message)
        self.code = error.code


class Partitions:
    """Asks the first server of a partition that is healthy."""

    def __init__(self, partitions: Sequence[Partition], max_sites: int) -> None:
        """Opens nothing yet. Raises ConfigError for servers that cannot be asked."""
        self._partitions = partitions
        self._max_sites = max_sites
        self._clients: dict[tuple[int, bytes], AsyncClient] = {}
        for place in range(len(partitions)):
            try:
                parse_addresses(self._url(place, b"default"))
            except (ClientError, ValueError) as error:
                raise ConfigError(f"partition.{partitions[place].number}: {error}") from None

    async def ask(self, place: int, site: bytes, verb: str, args: Sequence[bytes]) -> Any:
        """Return the answer of a partition. Raises AwayError if none of its servers answers, and OnlineError.

        A site keeps its connections: FullError for one more than max_sites.
        """
        client = self._clients.get((place, site))
        if client is None:
            if len(self._clients) >= self._max_sites * len(self._partitions):
                raise errors.full("max_sites", self._max_sites)
            client = self._clients[place, site] = AsyncClient(self._url(place, site), timeout=ANSWER_S)
        try:
            return await client.call(Request(verb, msgpack.packb(list(args)), lambda result, now_ms: result))
        except LoadingError as error:
            raise AwayError(str(error)) from None
        except ServerError as error:
            if error.code == RangeError.code:
                raise RangeError(error.message) from None
            raise Relayed(error) from None
        except ClientError as error:
            raise AwayError(str(error)) from None

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def _url(self, place: int, site: bytes) -> str:
        """Return the url of all servers of a partition; the first one's token is good for all."""
        servers = [urlsplit(each) for each in self._partitions[place].servers]
        first = servers[0]
        if any(each.scheme != first.scheme or each.path or each.query for each in servers):
            raise ValueError("servers take online://[:TOKEN@]HOST:PORT, or all onlines://, without a site")
        token, at, _ = first.netloc.rpartition("@")
        hosts = ",".join(each.netloc.rpartition("@")[2] for each in servers)
        layout = self._partitions[place].layout
        return f"{first.scheme}://{token}{at}{hosts}/{quote(site, safe='')}?map={layout}"
