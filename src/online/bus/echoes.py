"""A server's own entries, as they come back from the bus: which of them it has to apply again.

What stands in them was applied before it was published, and nearly always to apply it again changes nothing. But of two
hits of one user in the same millisecond, the one that comes later in the log wins. If one that was read there took the
place of ours (a tie), and ours comes later in the log, then it has to take its place back.

So own entries are passed over, but for those that may hold something from before the last tie: up to the place that
the bus gave to all that waited then. What else changes the past of an index counts as a tie, too: see `tied`.

Not its job: to apply entries (follower), and to publish them (publisher).
"""

from collections.abc import Callable
from time import monotonic

from online.bus.entries import BEGINNING, order

#: After an error, how long what was sent before may still arrive in the log, behind what was sent later.
LATE_S = 60.0


class Echoes:
    """Knows up to which place own entries are applied again."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._settled = order(BEGINNING)
        self._is_settled = True  #: behind that place, own entries hold nothing from before the last tie
        self._is_taken = False  #: all that waited at the last tie is being sent
        self._clock = clock
        self._late_until_s = 0.0

    def may_pass(self, place: bytes) -> bool:
        """Whether an own entry may be passed over."""
        return self._is_settled and order(place) > self._settled

    def tied(self) -> None:
        """A hit of the log has taken the place of another of the same millisecond.

        Or a user was forgotten, the clock was stepped, or everybody is about to be published.
        """
        self._is_settled = self._is_taken = False

    def failed(self) -> None:
        """Something was sent, and nobody knows if it will be in the log, and where."""
        self.tied()
        self._late_until_s = self._clock() + LATE_S

    @property
    def may_be_late(self) -> bool:
        """Something that was sent, or waited, before an error may stand in the log behind what is newer."""
        return self._clock() < self._late_until_s

    def taken(self) -> None:
        """All that waited was taken, and is about to be sent."""
        self._is_taken = not self._is_settled and not self.may_be_late

    def sent(self, place: bytes) -> None:
        """It is in the log, up to this place."""
        if self._is_taken:
            self._settled, self._is_settled, self._is_taken = order(place), True, False
