"""Which of several servers is asked: the first of the url that is healthy. No I/O.

    online://a:8989,b:8989/site

1. The order of the url is that of preference: the nearest is written first. As long as it is healthy nobody else is
   asked, so that a user's own hit is seen by that user's next question.
2. A server that failed is left alone for a while, 1 s at first and up to 30 s, at random between half of that and all
   of it, so that not all clients come back at once. LOADING is a failure, too.
3. If none is healthy, all are tried, the one that is due first at first.
4. A name stands for as many servers as it has addresses. Who opens connections looks it up before its first use, and
   again after one of them has failed.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from online_client.address import Address
from online_client.errors import ConnectionFailed, LoadingError, Timeout

#: What another server may do better.
FAILURES = (ConnectionFailed, Timeout, LoadingError)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 30.0


class Servers:
    """The addresses of a client, and which of them are left alone."""

    def __init__(self, addresses: Sequence[Address], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.addresses = tuple(addresses)
        self._found: dict[Address, tuple[Address, ...]] = {}  #: what names stand for
        self._unsure = {address for address in addresses if _has_name(address)}  #: names to be looked up
        self._clock = clock
        self._pauses: dict[Address, tuple[float, float]] = {}  #: until when, and how long it was at most

    def in_order(self) -> list[Address]:
        """Return all, those that should be tried first at first. O(n log n)."""
        servers = self._all()
        if not self._pauses:
            return servers
        now_s, pauses = self._clock(), self._pauses.copy()
        until = {address: until_s for address, (until_s, _) in pauses.items() if until_s > now_s}
        return sorted(servers, key=lambda address: until.get(address, 0.0))

    def _all(self) -> list[Address]:
        if not self._found:
            return list(self.addresses)
        return [each for named in self.addresses for each in self._found.get(named, (named,))]

    def is_unsure(self, address: Address) -> bool:
        """Whether a server's name should be looked up before it is tried."""
        return bool(self._unsure) and _named(address) in self._unsure

    def found(self, address: Address, hosts: Iterable[str]) -> None:
        """Take the numeric addresses of a server's name; none: what was known of it holds."""
        named = _named(address)
        self._unsure.discard(named)
        servers = tuple(replace(named, at=host) for host in dict.fromkeys(hosts))
        if servers:
            gone = set(self._found.get(named, ())) - set(servers)
            self._found[named] = servers
            for each in gone:
                self._pauses.pop(each, None)

    def failed(self, address: Address) -> None:
        """Leave a server alone for a while."""
        _, longest_s = self._pauses.get(address, (0.0, FIRST_PAUSE_S / 2))
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
        self._pauses[address] = (self._clock() + random.uniform(0.5, 1.0) * longest_s, longest_s)
        if _has_name(address):
            self._unsure.add(_named(address))

    def answered(self, address: Address) -> None:
        """Take a server for healthy."""
        if self._pauses:
            self._pauses.pop(address, None)


def _has_name(address: Address) -> bool:
    """Whether a host has to be looked up."""
    if address.path:
        return False
    try:
        ip_address(address.host)
    except ValueError:
        return True
    return False


def _named(address: Address) -> Address:
    return replace(address, at="") if address.at else address


def share_s(left_s: float | None, n_servers: int, *, without_limit_s: float) -> float | None:
    """Return how long the first of `n_servers` may take, so that the time is enough for the others."""
    if n_servers == 1:
        return left_s
    return without_limit_s if left_s is None else left_s / n_servers
