"""Where a state directory ends on the bus: a place that stands in the journal, behind all that was applied up to it.

Not its job: to read the bus (replica), and records and files (keep).

A note is `ECHO "place PLACE FINGERPRINT"`. As it stands in the journal, a crash that cuts hits off cuts the note off
that stands behind them, too.

Invariants:
1. Nothing is noted while the directory lacks hits.
2. A place is good only where everything could be read, and for servers that take what the one took who noted it: the
   same bus, window, sites, limits and slots. That is what the fingerprint tells.
"""

from typing import Protocol
from zlib import crc32

from online.bus.entries import order
from online.core.journal import Journal
from online.keep.recovery import Report

_WORD = b"place "


class Keeping(Protocol):
    """Who writes a state directory (serve/keeper.py)."""

    journal: Journal
    report: Report  #: what was found at the start
    is_whole: bool  #: the directory has every hit


class Places:
    """The places of one server."""

    def __init__(self, keeper: Keeping, taken: str) -> None:
        """`taken` says what the server takes of the bus."""
        self._keeper = keeper
        self._fingerprint = b"%08x" % crc32(taken.encode())
        self._noted = (0, b"")

    def kept(self) -> bytes | None:
        """Return the place up to which the directory has everything, or None if nobody knows."""
        report = self._keeper.report
        if not report.is_clean:
            return None
        place, _, fingerprint = report.noted.removeprefix(_WORD).partition(b" ")
        if fingerprint != self._fingerprint:
            return None
        try:
            order(place)
        except ValueError:
            return None
        return place

    def note(self, place: bytes) -> None:
        """Note that everything up to a place was applied. Each segment of the journal needs a note of its own."""
        journal = self._keeper.journal
        now = (journal.segment, place)
        if now == self._noted or not self._keeper.is_whole or journal.is_off:
            return
        journal.note(b"%s%s %s" % (_WORD, place, self._fingerprint))
        journal.flush()
        self._noted = now
