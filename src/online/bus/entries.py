"""What a bus is: an append-only log of entries, each with a place, ordered by the time at which the bus took them.

Not its job: where the log is (engines), and what becomes of entries (follower, publisher).

An entry holds frames as the journal has them: `SITE name`, then `hits` notifications and `LEAVE`, for one site or more.
All times are wall time. An entry without frames is a call: every replica answers it with all that it knows, in entries
that begin with `SITE name`, `ECHO "dump"`.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from online.errors import OnlineError

#: Before every entry.
BEGINNING = b"0-0"

#: The frame that tells a dump from hits that have just come.
DUMP = b"\x93\x02\xa4ECHO\x91\xa4dump"


#: How often the log is trimmed by each of those who read or write it.
TRIM_EVERY_S = 30.0

#: So much of what went wrong is told.
TOLD_BYTES = 200


class BusError(OnlineError):
    """The bus cannot be reached, or does not do what was asked.

    Logs and strangers are told of it: these are the words of who refused, never what was to be written.
    """

    def __init__(self, text: str) -> None:
        """Keep one line of `text`, of 200 bytes at most, without what it quotes of a command."""
        super().__init__(in_few_words(text))


def in_few_words(text: str) -> str:
    """Return a line of at most TOLD_BYTES, without what Redis quotes of a command.

    >>> in_few_words("unknown command 'XADD', with args beginning with: 'online:hits:0' '*' 's'")
    "unknown command 'XADD'"
    """
    line = " ".join(text.partition(", with args")[0].split())
    return line.encode(errors="replace")[:TOLD_BYTES].decode(errors="ignore")


class Entry(NamedTuple):
    """What somebody has published. Without frames it is a call."""

    place: bytes
    source: bytes  #: who published it
    frames: bytes


class Look(NamedTuple):
    """What the log is like at a moment."""

    now_ms: int  #: the clock of the bus
    first: bytes  #: the place of the first entry; BEGINNING if there is none
    last: bytes  #: the place that was given last, even if its entry has gone
    added: int  #: entries so far
    held: int  #: those that are still there


def were_trimmed(before: Look, read: bytes, after: Look) -> bool:
    """Return whether entries of a window were deleted while it was read, of which that at `read` came first.

    Entries that are older than the window may go at any time: then what was read is still there, behind others.
    """
    deleted = after.added - after.held - (before.added - before.held)
    return deleted > 0 and (after.first == BEGINNING or order(after.first) > order(read))


class Bus(ABC):
    """A connection to a bus. Every method raises BusError, and may then have been carried out or not."""

    @abstractmethod
    async def publish(self, source: bytes, *entries: bytes) -> bytes:
        """Append entries of such frames, in order and in one go, and return the place of the last."""

    @abstractmethod
    async def read(self, place: bytes, most: int, *, wait_ms: int = 0) -> list[Entry]:
        """Return the next entries behind `place`, at most `most`. If there are none, wait for some."""

    @abstractmethod
    async def at(self, at_ms: int) -> bytes:
        """Return the place before all entries of a time, and of later ones."""

    @abstractmethod
    async def trim(self, window_s: int, *, is_reader: bool = True) -> set[int]:
        """Let entries go that are older than twice the longest window of those who read here; some may stay.

        Returns the windows of all who said so within 2 * TRIM_EVERY_S, which includes `window_s`, that of who asks. The
        window of a relay (`is_reader=False`) counts only if no server has told one.
        """

    @abstractmethod
    async def look(self) -> Look:
        """Return what the log is like."""

    async def kept(self) -> list[str]:
        """Return in plain words what of its settings may lose hits."""
        return []


def order(place: bytes) -> tuple[int, int]:
    """Return what places are ordered by. Raises ValueError.

    >>> order(b"1700000000000-3"), order(b"1700000000000@42")
    ((1700000000000, 3), (42, 0))
    """
    if b"@" in place:  # by number alone: times may go back (kafkabus)
        return int(place.partition(b"@")[2]), 0
    at_ms, _, sequence = place.partition(b"-")
    return int(at_ms), int(sequence or 0)


def time_of(place: bytes) -> int:
    """Return when the bus took an entry, in ms."""
    return int(place.partition(b"@" if b"@" in place else b"-")[0])


def place_at(at_ms: int) -> bytes:
    """Return the place before all entries of a time."""
    return b"%d-0" % max(0, at_ms)
