"""The servers of a partition, and which of them are well: known once, for the lines of all sites.

Not its job: to ask servers (lines, settings). Which is asked first is said in online_client/servers.py.

Invariants:
1. That a server fails, and that it answers again, is logged once each; the same holds for a partition as a whole.
2. Of those who find at the same time that a server fails, only the first counts as a failure, so the pause does not
   double with each.
"""

import logging
from collections.abc import Iterator, Sequence

import trio

from online_client.address import Address
from online_client.servers import Servers

logger = logging.getLogger("online")

_SILENT = logging.Logger("online.silent", logging.CRITICAL + 1)


class Health:
    """See above."""

    def __init__(self, number: int, servers: Sequence[Address], *, is_quiet: bool = False) -> None:
        """`servers`: of whichever site. `is_quiet`: nothing is logged."""
        self._log = _SILENT if is_quiet else logger
        self.servers = tuple(servers)
        self._number = number
        self._order = Servers(servers, clock=trio.current_time)
        self._failures = dict.fromkeys(self.servers, 0)
        self._away: set[Address] = set()
        self._silent: set[Address] = set()  #: as who looks after all servers has found

    def first(self) -> Address:
        """Return which server should be asked."""
        return self._order.in_order()[0]

    def failed(self, server: Address, reason: str) -> None:
        """Leave a server alone for a while that was asked as the first, unless others found so meanwhile."""
        if server == self.first():
            self._fail(server, reason)

    def _fail(self, server: Address, reason: str) -> None:
        self._order.failed(server)
        self._failures[server] += 1
        if server in self._away:
            return
        self._away.add(server)
        self._log.warning("partition %d: %s", self._number, reason)
        if len(self._away) == len(self.servers):
            self._log.error("partition %d: no server answers", self._number)

    def answered(self, server: Address) -> None:
        """Take a server for well."""
        self._order.answered(server)
        if server not in self._away:
            return
        if len(self._away) == len(self.servers):
            self._log.info("partition %d answers again", self._number)
        self._away.discard(server)
        self._log.info("partition %d: %s answers again", self._number, _where(server))

    def heard(self, host: str, port: int, reason: str | None) -> None:
        """Learn why a server is not well, as it said or did not answer a question about itself; None: it is well.

        One that was not is well again then. Of others nothing changes: what failed may have been another question.
        """
        for server in self.servers:
            if (server.host, server.port) != (host, port):
                continue
            if reason is not None:
                self._silent.add(server)
                self._fail(server, reason)
            elif server in self._silent:
                self._silent.discard(server)
                self.answered(server)

    def info(self) -> Iterator[tuple[str, object]]:
        """Yield a line for the partition, and one for each of its servers."""
        n_up = len(self.servers) - len(self._away)
        yield f"partition_{self._number}", f"status={_word(n_up > 0)},servers={len(self.servers)},servers_up={n_up}"
        for nth, server in enumerate(self.servers):
            status, failures = _word(server not in self._away), self._failures[server]
            yield f"partition_{self._number}_server_{nth}", f"{_where(server)},status={status},failures={failures}"


def _where(server: Address) -> str:
    return str(server).rpartition("/")[0]


def _word(is_up: bool) -> str:
    return "up" if is_up else "down"
