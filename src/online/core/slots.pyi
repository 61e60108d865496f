"""Whose users a server has, where users are divided among servers. See ext/slots.pyx."""

from collections.abc import Sequence

class Slots:
    """Which slots are ours, for all indexes that were given it (`Sites.divide`)."""

    def __init__(self, owners: Sequence[int], names: Sequence[str], own: int) -> None:
        """See `change`."""

    def change(self, owners: Sequence[int], names: Sequence[str], own: int) -> None:
        """Let each slot be of the owner whose number stands at its place, and those of `own` be ours. O(slots).

        `names` say by number where an owner is. Indexes refuse hits of other users from now on; those who are in them
        stay until they are forgotten. Raises ValueError unless there is a number for each slot.
        """

    @property
    def mine(self) -> int:
        """How many slots are ours. O(slots)."""
    @property
    def moved(self) -> int:
        """Hits and leaves that were refused so far."""
    def owns(self, user: bytes) -> bool:
        """Whether a user is ours. O(bytes)."""
