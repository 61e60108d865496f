"""Rare verbs about what was: PEAK HISTORY LAST FORGET.

What has to be read from files is a Future of the reply.
"""

from collections.abc import Iterable
from itertools import zip_longest

from online import errors
from online.core.wire import Connection
from online.errors import CommandError
from online.keep.history import DAY, MINUTE_MS, MOST_ROWS, fitting_step_ms
from online.serve.given import number
from online.serve.tokens import ADMIN
from online.serve.verb import Remembering, Shared, verb
from online.terms import MEMBER, SEEN_MAX_MS, SEEN_MIN_MS

DAY_S = 86_400

#: The longest step.
STEP_MAX_S = 366 * DAY_S


@verb("PEAK")
def peak(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    since_ms = _time("since_ms", args, 0, default=0)
    if since_ms:
        return _past(shared).peak(connection.site, since_ms)
    people, at_ms = connection.index.peak() if connection.index is not None else (0, 0)
    return [people, shared.service.wall_of(at_ms) if people else 0]


@verb("HISTORY")
def history(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    to_ms = _time("to_ms", args, 1, default=shared.service.wall_of(now_ms))
    from_ms = _time("from_ms", args, 0, default=max(0, to_ms - DAY * MINUTE_MS))
    step_s = number("step_s", args, 2, low=60, high=STEP_MAX_S, default=0)
    if step_s % 60:
        raise errors.partial_minute(step_s)
    if len(args) > 1 and args[0] and args[1] and from_ms > to_ms:
        raise errors.wrong_way(from_ms, to_ms)
    step_ms = step_s * 1000 or fitting_step_ms(to_ms - from_ms)
    if (to_ms - from_ms) // step_ms > MOST_ROWS:
        raise errors.too_many_rows((to_ms - from_ms) // step_ms, MOST_ROWS, step_ms // 1000)
    begin_ms = from_ms - from_ms % (MINUTE_MS if args and args[0] else step_ms)
    return _past(shared).rows(connection.site, begin_ms, to_ms, step_ms)


def _time(what: str, args: list[bytes], place: int, *, default: int) -> int:
    """Read a wall time; 0 is the beginning. Raises RangeError, for one in seconds too."""
    at_ms = number(what, args, place, low=-(2**63), high=2**63 - 1, default=default)
    if at_ms and not SEEN_MIN_MS <= at_ms <= SEEN_MAX_MS and at_ms != default:
        raise errors.bad_time(what, at_ms)
    return at_ms


@verb("LAST")
def last(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    users = checked_users(shared, args)
    here = [None if connection.index is None else connection.index.last(user, now_ms=now_ms) for user in users]
    past = _past(shared)

    def merged(found: Iterable[tuple[bytes, int] | None]) -> list[object]:
        return [_seen(shared, *each) for each in zip_longest(here, found)]

    return past.last(connection.site, users, merged) if past.keeps_last else merged([])


@verb("FORGET")
def forget(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if not shared.connections.may(connection, ADMIN):
        raise errors.not_permitted("FORGET", ADMIN)
    return _past(shared).forget(connection.site, checked_users(shared, args))


def _seen(
    shared: Shared, here: tuple[bytes, int, str] | None, before: tuple[bytes, int] | None
) -> tuple[bytes, int] | None:
    """Return where a user was last seen, of what the index and the file know; None if that is not to be told."""
    if here is not None and here[2] == MEMBER:
        return here[0], shared.service.wall_of(here[1])
    return before if here is None or here[2] == "departed" else None


def _past(shared: Shared) -> Remembering:
    if shared.past is None:
        raise CommandError("this server keeps no history")
    return shared.past


def checked_users(shared: Shared, users: list[bytes]) -> list[bytes]:
    """Return users, none of whom has a wrong name. Raises RangeError."""
    if len(users) > shared.limits.max_limit:
        raise errors.too_many("users", len(users), shared.limits.max_limit)
    for user in users:
        if not 1 <= len(user) <= shared.limits.max_user:
            raise errors.bad_name("user", user, shared.limits.max_user)
    return users
