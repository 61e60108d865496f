"""The words that all modules share: the kinds of hit, the range of a time, what an index counts.

Not here: limits that an operator can set (limits.py), and errors (errors.py).
"""

from typing import NamedTuple

MEMBER, GUEST, HIDDEN, BOT = "member", "guest", "hidden", "bot"

#: Every kind of hit, in the order in which `KINDS` answers their counts.
KINDS = (MEMBER, GUEST, HIDDEN, BOT)

#: The kinds that are counted as people; a list names only the first two of them.
PEOPLE = (MEMBER, GUEST, HIDDEN)
NAMED = (MEMBER, GUEST)

#: A time outside this range is refused: it is probably in seconds or microseconds.
SEEN_MIN_MS = 10**11
SEEN_MAX_MS = 10**14

#: A hit further ahead of the clock than this is counted as skewed.
SKEW_MS = 5_000

WINDOW_MIN_S = 60
WINDOW_MAX_S = 24 * 3600


class IndexStatistics(NamedTuple):
    """What one index holds, and how many of the hits and leaves that it was given had which outcome."""

    users: int  #: sessions in the window, with those of users who left
    pages: int  #: urls with at least one session, overdue or not
    memory_bytes: int  #: taken from the system by sessions, pages and hash tables
    accepted: int  #: made, renewed or repeated a session
    late: int  #: outside the window on arrival
    stale: int  #: older than the user's session
    skewed: int  #: more than SKEW_MS ahead of the clock; also counted as accepted
    refused: int  #: malformed, or at one of the limits below
    expired: int  #: sessions that have left the window, those of users who had left before, too
    max_users_reached: int  #: refused for each limit
    max_pages_reached: int
    max_memory_reached: int
    overdue: int  #: sessions that have left the window and wait to be dropped; they are in no answer
