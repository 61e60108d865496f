"""Counts of what lines of logs say beside page views. See ext/tally.pyx."""

from collections.abc import Callable
from typing import final

@final
class LineTally:
    """Counts statuses, agents, referrers, bots and members of the lines that `UsualLines.pack` is given."""

    def __init__(
        self,
        status_of: Callable[[bytes], str],
        agent_of: Callable[[bytes], tuple[str, str]],
        host_of: Callable[[bytes, bytes, bytes], bytes],
    ) -> None:
        """What each is counted as: it must be the same for the same arguments.

        `status_of` a status, `agent_of` an agent (browser and system), `host_of` a referrer of at least two bytes,
        with url and host.
        """

    def take(
        self,
    ) -> tuple[dict[str, int], dict[tuple[str, str], int], dict[bytes, int], set[bytes], set[bytes], int, int]:
        """Return the counts since the last time: statuses of all lines; agents and referrers of page views of people;
        which bots and members there were, hidden ones, too, and their page views. O(different parts).
        Raises MemoryError, and then nothing is lost.
        """

@final
class Tally:
    """Counts of one part of lines."""
