"""Figures that need a look now and then: how many verbs a second, and the most memory so far."""


class Meter:
    """What INFO shows of the last second, and of the greatest there was."""

    def __init__(self) -> None:
        """Nothing has been looked at yet."""
        self.verbs_per_s = 0  #: answered between the last two looks
        self._looked_ms: int | None = None
        self._commands = 0
        self._peak_bytes = 0

    def look(self, now_ms: int, *, commands: int, used_bytes: int) -> None:
        """Take note of what there is now. To be called about once a second."""
        if self._looked_ms is not None and now_ms > self._looked_ms:
            self.verbs_per_s = (commands - self._commands) * 1000 // (now_ms - self._looked_ms)
        self._looked_ms, self._commands = now_ms, commands
        self.peak(used_bytes)

    def peak(self, used_bytes: int) -> int:
        """Return the most memory that was seen in use, with what is used now."""
        self._peak_bytes = max(self._peak_bytes, used_bytes)
        return self._peak_bytes
