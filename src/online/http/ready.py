"""Whether somebody who chooses among servers should ask this one: what /readyz says.

Not here: whether it is alive. A replica that is behind its bus still answers, with what it knows.
"""

from collections.abc import Callable

from online.serve.verb import Shared

#: How far behind the bus a replica is no longer ready, and up to where it is ready again: in between it stays as it is.
BEHIND_MS = 10_000
CAUGHT_UP_MS = 5_000


class Readiness:
    """Asks the parts of a server."""

    def __init__(self, shared: Shared, is_stopping: Callable[[], bool]) -> None:
        self._shared = shared
        self._is_stopping = is_stopping
        self._is_behind = False

    def why_not(self, now_ms: int) -> str | None:
        """Return why the server is not ready, or None if it is."""
        if self._shared.service.loading:
            return self._shared.service.loading
        if self._is_stopping():
            return "the server stops"
        if why := self._shared.unready():
            return why
        lag_ms = self._lag_ms(now_ms)
        self._is_behind = lag_ms > (CAUGHT_UP_MS if self._is_behind else BEHIND_MS)
        if self._is_behind:
            return f"the server is {lag_ms} ms behind its bus, and ready again at {CAUGHT_UP_MS} ms"
        return None

    def _lag_ms(self, now_ms: int) -> int:
        """Return how far behind the bus the server is. If the bus is away, no server knows more than this one."""
        bus = self._shared.sections.get("bus")
        rows = {} if bus is None else dict(each for each in bus(now_ms) if each is not None)
        lag_ms = rows.get("unread_ms", 0)
        return lag_ms if rows.get("bus_status") == "ok" and isinstance(lag_ms, int) else 0
