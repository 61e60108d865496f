"""Who is to be forgotten, on the bus: frames of an entry are `SITE name`, then `ECHO "forget at_ms user"`.

They stand in the log behind the hits that came before FORGET, and before those that came later, in the order of the
server that was asked. `at_ms` is the clock of the bus when it was: a hit that was seen later stays even if the log has
it first. Who reads an entry twice reads the hits behind it again, too. The name is on the bus as long as the user's
hits are.

Its job: to have that published, to have users forgotten whom others were asked to forget, and to say it once more where
hits of before may stand behind it. Not its job: to erase (serve/past).
"""

from collections.abc import Callable
from typing import Protocol

import msgpack

from online.bus.echoes import Echoes
from online.bus.entries import BEGINNING, order
from online.core.journal import site as site_frame

_WORD = b"forget "

#: Site, user, and when that was asked (wall time).
Told = tuple[bytes, bytes, int]


def frames(site: bytes, user: bytes, at_ms: int) -> bytes:
    """Return what tells others to forget a user of a site."""
    text = b"%s%d %s" % (_WORD, at_ms, user)
    return b"".join((site_frame(site), msgpack.packb([2, "ECHO", [text]], use_bin_type=False)))


def told_by(text: bytes) -> tuple[bytes, int] | None:
    """Return `(user, at_ms)` of the text of an ECHO, or None if it tells something else.

    >>> told_by(b"forget 1700000000000 ann lee")
    (b'ann lee', 1700000000000)
    >>> told_by(b"forget me")
    """
    if not text.startswith(_WORD):
        return None
    at, _, user = text[len(_WORD) :].partition(b" ")
    return (user, int(at)) if at.isdigit() and user else None


class Past(Protocol):
    """Who erases users (serve/past.py)."""

    share: Callable[[bytes, list[bytes], int], object]
    all_know: Callable[[], bool]

    def forget_as_told(self, site: bytes, user: bytes, at_ms: int, *, is_own: bool) -> bool: ...


class Forgetting:
    """What one server tells and is told."""

    def __init__(
        self,
        past: Past | None,
        echoes: Echoes,
        publish: Callable[[bytes], object],
        offset_ms: Callable[[], int],
        place: Callable[[], bytes],
    ) -> None:
        """`publish` puts frames behind the hits that wait; `offset_ms` is the clock of the bus less ours.

        `place` is up to where the log was read.
        """
        self._past, self._echoes, self._publish = past, echoes, publish
        self._offset_ms, self._place = offset_ms, place
        self._waiting: list[Told] = []  #: not known to be on the bus
        self._n_taken = 0  #: of these, those that are being sent
        self._again: list[Told] = []  #: when the dump that is under way has ended
        self._known: set[Told] = set()  #: what the server before has told, as far as the log was read at the start
        self._is_loading, self._is_dumping, self._dumped = True, False, BEGINNING
        if past is not None:
            past.share, past.all_know = self.share, lambda: not self._waiting

    def share(self, site: bytes, users: list[bytes], at_ms: int) -> None:
        """Let the others forget users, too, at this place among our hits; while the window is read, after that."""
        told = [each for user in users if (each := (site, user, at_ms)) not in self._known]
        self._waiting += told
        if self._is_dumping:
            self._again += told
        if not self._is_loading:
            self._tell(told)

    def _tell(self, told: list[Told]) -> None:
        for name, user, at_ms in told:
            self._publish(frames(name, user, at_ms + self._offset_ms()))
            self._echoes.tied()

    def heard(self, site: bytes, user: bytes, bus_ms: int, is_own: bool) -> None:
        """Have a user forgotten, as the bus says so at this place. Raises StateError.

        What we have published behind it may still hold the user: a dump that was made before we knew, or hits that
        waited while the bus was away. Then it is said again behind them.
        """
        told = site, user, bus_ms - self._offset_ms()
        if self._past is None:
            return
        if self._is_loading:
            self._known.add(told)
            self._waiting = [each for each in self._waiting if each != told]
        was_here = self._past.forget_as_told(*told, is_own=is_own)
        if self._is_dumping:
            self._again.append(told)
        elif was_here and (self._echoes.may_be_late or order(self._dumped) > order(self._place())):
            self.share(*told[:1], [user], told[2])

    def loaded(self) -> None:
        """Tell what the server before may have kept from the others."""
        self._is_loading = False
        self._tell(self._waiting)

    def taken(self) -> None:
        """All that waits for the bus is being sent."""
        self._n_taken = len(self._waiting)

    def sent(self) -> None:
        """It is on the bus."""
        del self._waiting[: self._n_taken]
        self._n_taken = 0

    def lost(self) -> None:
        """What waited for the bus was dropped."""
        self._tell(self._waiting[self._n_taken :])

    def dumping(self) -> None:
        """Everybody is about to be published."""
        self._is_dumping = True

    def ended(self, place: bytes) -> None:
        """That has ended; its last entry is here."""
        self._is_dumping, self._dumped = False, max(self._dumped, place, key=order)
        again, self._again = self._again, []
        for site, user, at_ms in again:
            self.share(site, [user], at_ms)
