"""What the servers of a map are set to: their windows, and their limits of messages and questions.

Not its job: to judge by that (serve/verbs).

Each server has a line of its own and is asked again and again, also one that stands by until another fails: so it is
known beforehand that its settings differ, and soon afterwards that a server has come back with others.

Invariants:
1. Of settings that differ the smallest holds: what the gateway lets through, no server refuses.
2. A server that does not answer has what it told last; who never answered, or does not know a setting, has no say.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgpack
import trio

from online.gateway.health import Health
from online.gateway.lines import Line
from online.limits import JUDGED
from online.serve.settings import BY_NAME, shown
from online_client.address import DEFAULT_SITE, Address

#: Time between two questions to a server.
LOOK_S = 1.0

SHARED = tuple(BY_NAME[name] for name in ("window", *JUDGED))

#: Time after which a server is asked again that refused our token: each refusal is an error at the server.
REFUSED_S = 30.0

_QUESTION = msgpack.packb("INFO") + msgpack.packb(["server", "persistence", "settings"])

logger = logging.getLogger("online")


class Settings:
    """See above."""

    def __init__(self, healths: Sequence[Health], own: Mapping[str, int], go_by: Callable[..., bool]) -> None:
        """Open nothing yet. `go_by` is called with what holds, by field, once all were heard and when it changes,
        and returns whether that can be.

        `healths`: those of the partitions, which are told who answers. `own`: what the operator has set for the gateway
        itself.
        """
        found = (_without_site(server) for health in healths for server in health.servers)
        self._healths = healths
        self.problems: list[str] = []  #: what differs, in words
        self._addresses = list(dict.fromkeys(found))
        self._own = own
        self._go_by = go_by
        self._holding: dict[str, int] = {}
        self._rests_s: dict[int, float] = {}  #: until when servers are not asked
        self._told: dict[int, Mapping[str, int]] = {}
        self._lines = [
            Line(place, address.site, Health(place, [address], is_quiet=True), address.tls_context(), lambda: 0)
            for place, address in enumerate(self._addresses)
        ]
        self._is_news = False  #: since they were compared
        self._unheard = set(range(len(self._lines)))
        self._all_heard = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Ask all servers, until `close` is called."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for line in self._lines:
                    nursery.start_soon(line.run)
                while True:
                    for place, line in enumerate(self._lines):
                        if line.is_idle and trio.current_time() >= self._rests_s.get(place, 0.0):
                            line.ask(1, _QUESTION, self, is_shared=False)
                    await trio.sleep(LOOK_S)

    def close(self) -> None:
        """Ask nobody any more, and let nobody wait."""
        self._scope.cancel()
        self._all_heard.set()

    async def heard(self) -> None:
        """Wait until each server has answered, or has not in the time that it has for it."""
        await self._all_heard.wait()

    def answered(self, place: int, result: bytes, since_s: int, until_s: int) -> None:
        """Take what a server tells."""
        rows = _rows(result)
        told = _read(rows)
        self._is_news |= told != self._told.get(place)
        self._told[place] = told
        is_loading = rows.get("loading", "0") != "0"
        self._hear(place, f"{self._name(place)} is LOADING" if is_loading else None)

    def failed(self, place: int, error: Exception) -> None:
        """Leave a server out that does not answer: who asks it something is told why."""
        if any(code in str(error) for code in ("WRONGPASS", "NOAUTH")):
            self._rests_s[place] = trio.current_time() + REFUSED_S
        self._hear(place, str(error))

    def _hear(self, place: int, reason: str | None) -> None:
        address = self._addresses[place]
        for health in self._healths:
            health.heard(address.host, address.port, reason)
        self._unheard.discard(place)
        if self._unheard:
            return
        if self._is_news:
            self._is_news = False
            self._compare()
        self._all_heard.set()

    def _compare(self) -> None:
        """Find what holds, and what differs. Logs what is new of that."""
        holding: dict[str, int] = {}
        problems = []
        for setting in SHARED:
            told = ((values[setting.field], place) for place, values in self._told.items() if setting.field in values)
            found = sorted(told)
            if not found:
                continue
            (least, place), (most, other) = found[0], found[-1]
            holding[setting.field] = least
            at_least = f"{shown(setting, least)} at {self._name(place)}"
            if most > least:
                at_most = f"{shown(setting, most)} at {self._name(other)}"
                problems.append(f"{setting.name} is {at_least} and {at_most}: the gateway goes by the smaller")
            own = self._own.get(setting.field, least)
            if own != least:
                here = f"{shown(setting, own)} at this gateway"
                problems.append(f"{setting.name} is {here} and {at_least}: the gateway goes by its servers")
        for problem in problems:
            if problem not in self.problems:
                logger.warning("%s", problem)
        self.problems = problems
        if holding != self._holding and self._go_by(**holding):
            self._holding = holding
            values = (f"{each.name} {shown(each, holding[each.field])}" for each in SHARED if each.field in holding)
            logger.info("questions are judged by %s", ", ".join(values))

    def _name(self, place: int) -> str:
        return str(self._addresses[place]).rpartition("/")[0]


def _without_site(address: Address) -> Address:
    """Return an address that a token for any one site is good for, too, by whatever map the server goes."""
    return replace(address, site=DEFAULT_SITE if address.token is None else "", map=None)


def _rows(info: bytes) -> dict[str, str]:
    """Return the lines of an answer, by name; none if it is no INFO."""
    try:
        return dict(line.partition(":")[::2] for line in msgpack.unpackb(info).splitlines())
    except (ValueError, TypeError, AttributeError):
        return {}


def _read(rows: Mapping[str, str]) -> dict[str, int]:
    """Return the settings that an answer has, by field, as far as they can be settings."""
    found: dict[str, int] = {}
    for setting in SHARED:
        try:
            found[setting.field] = setting.kind.read(rows.get(setting.field, ""))
        except ValueError:
            continue
    return found
