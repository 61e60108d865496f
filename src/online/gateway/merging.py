"""Questions to partitions -> one answer, as one index with all users gives it.

Not its job: connections (partitions). `ask` may raise AwayError.

Why an answer is exact. Each user is in one partition, the owner's.
- Counts are sums over disjoint sets of users.
- PAGE, RECENT and USERS: partitions list in the order of the keys, so the least of their first rows is the first of
  all. At equal times, where the order of arrival is not known over partitions, a lower partition comes first.
- TOP is a threshold algorithm. Each partition lists its first m pages, and COUNTS gives the sums of all pages that
  were listed. A page that nobody listed has at most the last listed count of each partition, together the threshold,
  which is 0 of a partition that listed all. If the last of the best `limit` sums is greater, no other page belongs
  there. Else m is doubled. At equal sums urls decide, so greater it must be, unless the threshold is 0.
- What cannot be added up is refused. The greatest numbers of partitions are of different moments: PEAK and HISTORY.
  Pages may be in several: SECTION counts different ones, and does not tell which.

An answer is of one moment in each partition; partitions are asked at the same time, by their own clocks. PAGE and TOP
may ask twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from online.core.wire import OK
from online.errors import CommandError, OnlineError, RangeError
from online.gateway.cursors import Place, checksum, place_of, text_of
from online.partitions import PartitionMap
from online.serve.given import number


class AwayError(Exception):
    """No server of a partition answers."""


class PartialError(OnlineError):
    """Some partitions do not answer, so nobody knows."""

    code = "PARTIAL"


Ask = Callable[[int, str, Sequence[bytes]], Awaitable[Any]]

#: What no gateway can answer, and why.
REFUSED = {
    "PEAK": "partitions had most people at different moments, which does not tell the most of all",
    "HISTORY": "partitions had most people at different moments, which does not tell the most of all",
    "SECTION": "a page may be in several partitions, which do not tell which pages they count",
    "SUBSCRIBE": "it does not follow channels; ask again when you want to know",
    "FORGET": "to be sure, FORGET is to be sent to every server of the owner",
}

_TO_OWNER = {"HIT", "LEAVE"}
_FOR_USERS = {"SEEN", "LAST"}
_ADDED = {"COUNT", "DBSIZE"}
_ADDED_EACH = {"COUNTS", "KINDS"}
_MERGED = {"PAGE", "RECENT", "USERS", "TOP", "SITES"}

VERBS = sorted(_TO_OWNER | _FOR_USERS | _ADDED | _ADDED_EACH | _MERGED)


async def answer(owners: PartitionMap, ask: Ask, verb: str, args: list[bytes], max_limit: int) -> object:
    """Answer a question with those of partitions.

    Raises PartialError if one that is needed is away, and the OnlineError that one has answered.
    """
    asked = _Asked(owners, ask)
    if verb in REFUSED:
        raise CommandError(f"a gateway cannot answer {verb}: {REFUSED[verb]}")
    if verb in _TO_OWNER:
        place = owners.place(args[0])
        await asked.each(verb, {place: args})
        return OK
    if verb in _FOR_USERS:
        return await _for_users(asked, verb, args)
    if verb in _ADDED:
        return sum((await asked.all(verb, args)).values())
    if verb in _ADDED_EACH:
        return [sum(each) for each in zip(*(await asked.all(verb, args)).values(), strict=True)]
    if verb == "SITES":
        return await _sites(asked)
    if verb == "TOP":
        return await _top(asked, args, max_limit)
    return await _listing(asked, verb, args, max_limit)


class _Asked:
    """Asks several partitions at the same time."""

    def __init__(self, owners: PartitionMap, ask: Ask) -> None:
        self.owners = owners
        self._ask = ask

    async def all(self, verb: str, args: Sequence[bytes]) -> dict[int, Any]:
        return await self.each(verb, dict.fromkeys(range(len(self.owners.partitions)), args))

    async def each(self, verb: str, args: dict[int, Sequence[bytes]]) -> dict[int, Any]:
        """Return the answers by place in the map. Raises PartialError and OnlineError."""
        answers: dict[int, Any] = {}
        away: dict[int, str] = {}
        wrong: dict[int, OnlineError] = {}

        async def one(place: int, given: Sequence[bytes]) -> None:
            try:
                answers[place] = await self._ask(place, verb, given)
            except AwayError as error:
                away[place] = str(error)
            except OnlineError as error:
                wrong[place] = error

        async with trio.open_nursery() as nursery:
            for place, given in args.items():
                nursery.start_soon(one, place, given)
        if away:
            numbers = [str(self.owners.partitions[place].number) for place in sorted(away)]
            some = f"partition{'s' * (len(away) > 1)} {', '.join(numbers)}"
            raise PartialError(f"no answer from {some} of {len(self.owners.partitions)}: {away[min(away)]}")
        if wrong:
            raise wrong[min(wrong)]
        return answers


async def _for_users(asked: _Asked, verb: str, users: list[bytes]) -> list[object]:
    """Ask the owner of each user, and put answers into the order of the users."""
    by_owner: dict[int, list[bytes]] = {}
    for user in users:
        by_owner.setdefault(asked.owners.place(user), []).append(user)
    found = {place: iter(each) for place, each in (await asked.each(verb, dict(by_owner))).items()}
    return [next(found[asked.owners.place(user)]) for user in users]


async def _sites(asked: _Asked) -> list[tuple[bytes, int]]:
    people: dict[bytes, int] = {}
    for listed in (await asked.all("SITES", ())).values():
        for name, n in listed:
            people[_name(name)] = people.get(_name(name), 0) + n
    return sorted(people.items())


async def _top(asked: _Asked, args: list[bytes], max_limit: int) -> list[tuple[bytes, int]]:
    limit = number("limit", args, 0, low=0, high=max_limit, default=10)
    prefix = args[1] if len(args) > 1 else b""
    wanted = min(max(2 * limit, 10), max_limit)
    while limit:
        found = (await asked.all("TOP", (b"%d" % wanted, prefix))).values()
        threshold = sum(listed[-1][1] for listed in found if len(listed) == wanted)
        urls = sorted({_name(url) for listed in found for url, _ in listed})
        sums = dict.fromkeys(urls, 0)
        for begin in range(0, len(urls), max_limit):
            some = urls[begin : begin + max_limit]
            for counts in (await asked.all("COUNTS", some)).values():
                for url, people in zip(some, counts, strict=True):
                    sums[url] += people
        best = sorted(((url, n) for url, n in sums.items() if n), key=lambda page: (-page[1], page[0]))[:limit]
        if not threshold or (len(best) == limit and best[-1][1] > threshold):
            return best
        if wanted == max_limit:
            raise RangeError(f"TOP {limit} is not decided by {max_limit} pages of each partition; ask for fewer")
        wanted = min(2 * wanted, max_limit)
    return []


async def _listing(asked: _Asked, verb: str, args: list[bytes], max_limit: int) -> object:
    """PAGE, RECENT or USERS."""
    leading, rest = (args[:1], args[1:]) if verb != "RECENT" else ([], args)
    if verb == "USERS" and not leading:
        leading = [b""]
    limit = number("limit", rest, 0, low=0, high=max_limit, default=30)
    question = b"\0".join([verb.encode(), *leading])
    place = place_of(rest[1] if len(rest) > 1 else b"", question)
    n = len(asked.owners.partitions)
    parts = [_Part(place.begins.get(each, b"")) for each in range(n)]
    counts = [0, 0]
    is_first = True
    while True:
        short = {
            each: [*leading, b"%d" % limit, part.next or b""]
            for each, part in enumerate(parts)
            if part.next is not None and len(part.rows) < limit
        }
        if is_first:  # the counts of PAGE are asked of all
            short |= {each: [*leading, b"0", b""] for each in range(n) if each not in short and verb == "PAGE"}
        if not short:
            break
        for each, given in (await _at(asked, verb, short)).items():
            if is_first and verb == "PAGE":
                counts = [counts[0] + given[0], counts[1] + given[1]]
            if given[-2] or parts[each].next is not None:
                parts[each].take(given[-2], given[-1], verb, place)
        is_first = False
        if not limit:
            break
    rows, then = _merge(parts, limit, place)
    cursor = text_of(then, question) if then is not None else None
    return [*counts, [row for _, row in rows], cursor] if verb == "PAGE" else [[row for _, row in rows], cursor]


async def _at(asked: _Asked, verb: str, args: dict[int, list[bytes]]) -> dict[int, Any]:
    """Ask for rows. A server that does not know a cursor, as it was made by another, is asked from the beginning."""
    try:
        return await asked.each(verb, dict(args))
    except RangeError:
        if not any(given[-1] for given in args.values()):
            raise
        return await asked.each(verb, {each: [*given[:-1], b""] for each, given in args.items()})


class _Part:
    """What a partition has listed, of rows behind the place."""

    def __init__(self, begin: bytes | None) -> None:
        self.next = begin  #: where it goes on; None: it has no more
        self.rows: list[tuple[Any, list[Any]]] = []
        self.begins: list[bytes | None] = []  #: of each row: the cursor with which it was listed

    def take(self, rows: list[list[Any]], cursor: Any, verb: str, place: Place) -> None:
        for row in rows:
            row[0] = _name(row[0])
            key = row[0] if verb == "USERS" else -row[1 if verb == "PAGE" else 2]
            if place.last is None or key > place.last or (key == place.last and checksum(row[0]) not in place.listed):
                self.rows.append((key, row))
                self.begins.append(self.next)
        self.next = None if cursor is None else _name(cursor)


def _merge(parts: list[_Part], limit: int, before: Place) -> tuple[list[tuple[Any, list[Any]]], Place | None]:
    """Return the first rows of all, and where the rest begins; None if there is none."""
    order = sorted(
        ((key, each, at) for each, part in enumerate(parts) for at, (key, _) in enumerate(part.rows)),
    )
    taken = order[:limit]
    if not taken or (len(order) <= limit and all(part.next is None for part in parts)):
        return [parts[each].rows[at] for _, each, at in taken], None
    last = taken[-1][0]
    listed = [checksum(parts[each].rows[at][1][0]) for key, each, at in taken if key == last]
    then = Place(last, listed + (before.listed if before.last == last else []))
    n_taken = [0] * len(parts)
    for _, each, _ in taken:
        n_taken[each] += 1
    for each, part in enumerate(parts):
        then.begins[each] = part.begins[n_taken[each]] if n_taken[each] < len(part.rows) else part.next
    return [parts[each].rows[at] for _, each, at in taken], then


def _name(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
