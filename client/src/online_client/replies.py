"""What the server answers, as small frozen values. Not here: how they are read off the wire (verbs.py).

Text that is not UTF-8 comes as `str` with surrogates (`os.fsencode` gives the bytes back) and may be sent so
too. An age is the time from the hit to the reply by this machine's clock, never below zero.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user on a page, named by it."""

    user: str
    seen_at: datetime  #: when, in UTC
    age: timedelta  #: how long ago that was at the time of the reply
    kind: str  #: member or guest; others are never named


@dataclass(frozen=True, slots=True)
class Page:
    """A page and who is on it: what `page` answers."""

    online: int  #: people on the site
    here: int  #: people on this page, hidden ones too, who are not named
    users: tuple[Viewer, ...]  #: newest first
    cursor: str | None  #: continues the list; None at its end


@dataclass(frozen=True, slots=True)
class Session:
    """A user online, and where."""

    user: str
    url: str
    seen_at: datetime
    age: timedelta
    kind: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Users of the whole site: what `recent` and `users` answer."""

    users: tuple[Session, ...]
    cursor: str | None  #: continues the list; None at its end


@dataclass(frozen=True, slots=True)
class Seen:
    """Where and when a user was last seen: what `seen` answers for each."""

    url: str
    seen_at: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class Kinds:
    """Visitors by kind, on the site or on a page."""

    members: int
    guests: int
    hidden: int
    bots: int

    @property
    def people(self) -> int:
        """All but the bots."""
        return self.members + self.guests + self.hidden


@dataclass(frozen=True, slots=True)
class Section:
    """All pages whose url begins alike."""

    people: int
    pages: int


@dataclass(frozen=True, slots=True)
class TopPage:
    url: str
    people: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The most people online at once: ever, or since a time."""

    people: int
    at: datetime | None  #: when that was first so, in UTC; None before there was anyone


@dataclass(frozen=True, slots=True)
class Past:
    """What a site had in a step of time: the greatest counts, and sums."""

    at: datetime  #: when it begins, in UTC
    people: int
    members: int
    guests: int
    bots: int
    hits: int
    visitors: int | None  #: different people, from an hour on an estimate; None if that cannot be told


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    people: int


#: The people of `count`; a page; a section; the pages of `top`; where a user is. None: the user is offline, or the
#: section has too many pages.
Watched: TypeAlias = int | Page | Section | tuple[TopPage, ...] | Seen | None


@dataclass(frozen=True, slots=True)
class State:
    """What `watch` tells of a channel: whole, and the newest."""

    channel: str
    value: Watched
    at: datetime  #: the moment that it describes, in UTC
    error: str | None = None  #: why there is no value, such as `PARTIAL no answer from partition 1 of 2: ...`


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of hits sent together."""

    accepted: int  #: made, renewed or repeated a session
    ignored: int  #: too old: outside the window, or older than what is known of the user
    refused: int  #: malformed, or at a limit
    first_error: str | None  #: why the first of those was refused

    def __add__(self, other: "BatchResult") -> "BatchResult":
        return BatchResult(
            self.accepted + other.accepted,
            self.ignored + other.ignored,
            self.refused + other.refused,
            self.first_error or other.first_error,
        )
