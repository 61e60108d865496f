"""Terms that all modules share: the kinds of hits, times, and the statistics of an index.

Not here: limits that an operator can set (limits), and errors (errors).
"""

from typing import NamedTuple

MEMBER, GUEST, HIDDEN, BOT = "member", "guest", "hidden", "bot"

#: All kinds of hits, in the order of the counts that `KINDS` answers.
KINDS = (MEMBER, GUEST, HIDDEN, BOT)

#: The kinds that count as people. Lists only name members and guests.
PEOPLE = (MEMBER, GUEST, HIDDEN)
NAMED = (MEMBER, GUEST)

#: A time outside this range is refused: it is probably in seconds or microseconds.
SEEN_MIN_MS = 10**11
SEEN_MAX_MS = 10**14

#: A hit further ahead of the clock than this counts as skewed.
SKEW_MS = 5_000

WINDOW_MIN_S = 60
WINDOW_MAX_S = 24 * 3600


class IndexStatistics(NamedTuple):
    """The contents of one index, and the outcomes of the hits and leaves that it was given."""

    users: int  #: sessions in the window, including those of users who left
    pages: int  #: urls with at least one session, overdue or not
    memory_bytes: int  #: taken from the system by sessions, pages and hash tables
    accepted: int  #: created, renewed or repeated a session
    late: int  #: outside the window on arrival
    stale: int  #: older than the user's session
    skewed: int  #: more than SKEW_MS ahead of the clock; also counted as accepted
    refused: int  #: malformed, or at one of the limits below
    expired: int  #: sessions that have left the window, those of users who had left before, too
    max_users_reached: int  #: refused because of this limit
    max_pages_reached: int
    max_memory_reached: int
    overdue: int  #: sessions that have left the window but are not removed yet; no answer includes them


def span(seconds: float) -> str:
    """Write a length of time as options accept it, in the largest unit that divides it; a day is 24 hours.

    >>> [span(s) for s in (0.1, 90, 1_800, 86_400, 864_000)]
    ['0.1s', '90s', '30min', '24h', '10d']
    """
    if seconds > 86_400 and seconds % 86_400 == 0:
        return f"{seconds // 86_400:g}d"
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds and seconds % unit_s == 0:
            return f"{seconds // unit_s:g}{unit}"
    return f"{seconds:g}s"
