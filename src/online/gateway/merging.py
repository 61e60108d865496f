"""Questions to partitions -> one answer, as one index with all users gives it.

Not its job: to ask (asking). A question is a generator: it yields requests, by partition, is sent what they were
answered, as packed, and returns the reply.

Why an answer is exact. Each user is in one partition, the owner's.
- Counts are sums over disjoint sets of users. What became of the hits of a batch is, too.
- PAGE, RECENT and USERS: partitions list in the order of the keys, so the least of their first rows is the first of
  all. At equal times, where the order of arrival is not known over partitions, a lower partition comes first.
- TOP is a threshold algorithm. Each partition lists its first m pages, and COUNTS gives the sums of all pages that
  were listed. A page that nobody listed has at most the last listed count of each partition, together the threshold,
  which is 0 of a partition that listed all. If the last of the best `limit` sums is greater, no other page belongs
  there. Else m is doubled. At equal sums urls decide, so greater it must be, unless the threshold is 0.
- HISTORY: hits and visitors add up, since users are in one partition each. The most people of a step are the sum of
  what partitions had at most in it, at different moments: there were no more, and exactly so many in a minute in which
  nobody went or became of another kind, as all had most at its end. A step that a partition does not know, as its
  server was away, is left out. But a server has rows of the site `default` whenever it ran: where it has them, and none
  of the site, nobody of the site had come to it yet. Nor had anybody before its partition began, as the map says.
- FORGET goes to all, as users may have been elsewhere before the map changed.
- SECTION: people add up, and pages may be in several partitions. So all list their urls in order (PAGES), as many as an
  answer has. Up to the least of the last urls of those that have more, all were listed: the different ones are
  counted, and all go on from there. Each round takes one partition further by max_limit urls: O(pages of all
  partitions) together.
- PEAK is passed on where there is one partition, and refused where there are more, as what partitions keep does not
  decide it: of each minute they know the most people, not when each came and went. Say that each of two had 5 at most
  in a minute. If they came one after the other, 5 were there at once; if together, 10. Both partitions have the same
  rows either way. The sum, which HISTORY has, is the least bound that holds for all that may have been.

The answers of a round are of one second (asking). PAGE, TOP, SECTION and HISTORY may ask for more than one round. Rows
of lists go out as they came, without being unpacked (core/merge).
"""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import msgpack

from online import errors
from online.core.merge import Listed, divide, merge
from online.core.wire import OK, Packed
from online.errors import CommandError, OnlineError, RangeError
from online.keep.history import DAY, MINUTE_MS, fitting_step_ms
from online.limits import Limits
from online.partitions import PartitionMap
from online_client.cursors import Place, checksum, place_of, text_of

#: Requests by place in the map: the verb and its arguments, packed.
Bodies = Mapping[int, bytes]


class OfDefault(dict[int, bytes]):
    """Requests about the site `default`, whichever the question is about."""


#: What a question does: yields requests, is sent their answers, and returns the reply.
Question = Generator[Bodies, Mapping[int, bytes], object]


#: What no gateway can answer, and why.
REFUSED = {
    "PAGES": "each partition lists pages of its own; a gateway counts them (SECTION)",
}

#: Why PEAK is not known of several partitions, and what is.
_NO_PEAK = (
    "a gateway cannot answer PEAK of several partitions: each had most people at a moment of its own, and the sum may "
    "be more than were ever there at once. Ask HISTORY from_ms to_ms step_s: no step had more people than its row says"
)

_TO_OWNER = {"HIT", "LEAVE"}
_FOR_USERS = {"SEEN", "LAST"}
_ADDED = {"COUNT", "DBSIZE", "FORGET"}
_ADDED_EACH = {"COUNTS", "KINDS"}
_LISTED = {"PAGE": 1, "RECENT": 2, "USERS": 0}  #: and what a list goes by: an item of its rows, 0 for their names
_MERGED = {*_LISTED, "SECTION", "TOP", "SITES", "HISTORY", "PEAK"}

VERBS = sorted(_TO_OWNER | _FOR_USERS | _ADDED | _ADDED_EACH | _MERGED | {"hits"})

#: They need not be carried out by all at one moment.
WRITES = _TO_OWNER | {"hits", "FORGET"}

#: More than the head of a request takes, or that of a text in it.
_HEAD_BYTES = 16

_pack = msgpack.Packer().pack
_VERB_PACKED = {verb: _pack(verb) for verb in (*VERBS, "PAGES")}


def answer(owners: PartitionMap, site: bytes, verb: str, args: list[bytes], limits: Limits, wall_ms: int) -> Question:
    """Answer a question about a site with those of partitions. `wall_ms`: what time it is.

    Requires: the arguments are right, but for cursors and those of HISTORY, PEAK and FORGET.
    Raises the OnlineError that is thrown in, or CommandError and RangeError.
    """
    if verb in _ADDED:
        return sum(_values((yield _to_all(owners, verb, args))))
    if verb in _LISTED:
        return (yield from _listing(owners, site, verb, args, limits.max_limit))
    if verb == "hits":
        return (yield from _hits(owners, args[0]))
    if verb in _TO_OWNER:
        yield {owners.place(args[0]): _body(verb, args)}
        return OK
    if verb in _FOR_USERS:
        return (yield from _for_users(owners, verb, args))
    if verb in _ADDED_EACH:
        return [sum(each) for each in zip(*_values((yield _to_all(owners, verb, args))), strict=True)]
    if verb == "SITES":
        return (yield from _sites(owners))
    if verb == "TOP":
        return (yield from _top(owners, args, limits))
    if verb == "SECTION":
        return (yield from _section(owners, args, limits))
    if verb == "HISTORY":
        return (yield from _history(owners, args, wall_ms))
    if verb == "PEAK":
        if len(owners.partitions) > 1:
            raise CommandError(_NO_PEAK)
        [peak] = _values((yield _to_all(owners, verb, args)))
        return peak
    raise CommandError(f"a gateway cannot answer {verb}: {REFUSED[verb]}")


def _body(verb: str, args: Sequence[bytes]) -> bytes:
    """Pack a request, but for its number."""
    packed: bytes = _VERB_PACKED[verb] + _pack(args)
    return packed


def _to_all(owners: PartitionMap, verb: str, args: Sequence[bytes]) -> Bodies:
    return dict.fromkeys(range(len(owners.partitions)), _body(verb, args))


def _value(packed: bytes) -> Any:
    return msgpack.unpackb(packed, raw=True)


def _values(answers: Mapping[int, bytes]) -> Iterable[Any]:
    return map(_value, answers.values())


def _hits(owners: PartitionMap, hits: bytes) -> Question:
    """Send each owner its part of a batch, and add up what became of them: [accepted, ignored, refused, error]."""
    by_owner, found = divide(hits, owners.owners)
    if not by_owner:
        return [0, 0, 0, None]
    answers = yield {place: _batch(each) for place, each in by_owner.items()}
    became = {place: _value(each) for place, each in answers.items()}
    wrong = [_error_of(found, place, each[3]) for place, each in became.items() if each[3] is not None]
    sums = [sum(each[nth] for each in became.values()) for nth in range(3)]
    return [*sums, min(wrong)[1] if wrong else None]


def _batch(hits: list[bytes]) -> bytes:
    packed: bytes = _VERB_PACKED["hits"] + msgpack.Packer().pack_array_header(len(hits)) + b"".join(hits)
    return packed


def _error_of(found: list[int], place: int, error: list[bytes]) -> tuple[int, list[bytes]]:
    """Return the number of the hit that an owner refused first, in the whole batch, and the error, which names it."""
    code, message = error
    of_part = re.match(rb"hit (\d+) of the batch", message)
    if of_part is None:
        return 0, error
    nth = [nth for nth, owner in enumerate(found, 1) if owner == place][int(of_part[1]) - 1]
    return nth, [code, b"hit %d of the batch%b" % (nth, message[of_part.end() :])]


def _for_users(owners: PartitionMap, verb: str, users: list[bytes]) -> Question:
    """Ask the owner of each user, and put answers into the order of the users."""
    by_owner: dict[int, list[bytes]] = {}
    for user in users:
        by_owner.setdefault(owners.place(user), []).append(user)
    answers = yield {place: _body(verb, each) for place, each in by_owner.items()}
    found = {place: _value(each)[::-1] for place, each in answers.items()}
    return [found[owners.place(user)].pop() for user in users]


def _sites(owners: PartitionMap) -> Question:
    people: dict[bytes, int] = {}
    for listed in _values((yield _to_all(owners, "SITES", []))):
        for name, n in listed:
            people[name] = people.get(name, 0) + n
    return sorted(people.items())


def _history(owners: PartitionMap, args: list[bytes], wall_ms: int) -> Question:
    """Add up the rows of steps that all know."""
    from_ms, to_ms, step_s = [*args, b"", b"", b""][:3]
    to_ms = to_ms or b"%d" % wall_ms  # the same for all
    asked = _to_all(owners, "HISTORY", [from_ms, to_ms, step_s])
    answers = yield asked
    found = {place: {row[0]: row[1:] for row in _value(packed)} for place, packed in answers.items()}
    known = set().union(*found.values())
    lacking = {place: asked[place] for place, rows in found.items() if rows.keys() != known}
    if lacking:  # was a server away, or had it nobody of the site yet?
        try:
            there = yield OfDefault(lacking)
        except OnlineError:
            there = {}
        for place, packed in there.items():
            for row in _value(packed):
                found[place].setdefault(row[0], [0] * 6)
        step_ms = int(step_s or 0) * 1000 or fitting_step_ms(int(to_ms) - int(from_ms or int(to_ms) - DAY * MINUTE_MS))
        for place in lacking:
            was_new_ms = owners.partitions[place].began_ms - step_ms
            for at_ms in known:
                if at_ms <= was_new_ms:
                    found[place].setdefault(at_ms, [0] * 6)
    steps = known.intersection(*found.values())
    columns = ((at_ms, zip(*(rows[at_ms] for rows in found.values()), strict=True)) for at_ms in sorted(steps))
    return [[at_ms, *(None if None in each else sum(each) for each in values)] for at_ms, values in columns]


def _section(owners: PartitionMap, args: list[bytes], limits: Limits) -> Question:
    """Add up people, and count different pages."""
    prefix, after, pages = args[0], b"", 0
    while True:
        parts = list(_values((yield _to_all(owners, "PAGES", [prefix, b"%d" % limits.max_limit, after]))))
        after = min((part[3] for part in parts if part[3] is not None), default=b"")
        urls = set().union(*(part[2] for part in parts))
        pages += sum(url <= after for url in urls) if after else len(urls)
        if pages > limits.max_scan:
            raise errors.scan_too_long(prefix, limits.max_scan)
        if not after:
            return [sum(part[0] for part in parts), pages]


def _limit(args: list[bytes], max_limit: int, default: int) -> int:
    return int(args[0]) if args and args[0] else min(default, max_limit)


def _top(owners: PartitionMap, args: list[bytes], limits: Limits) -> Question:
    max_limit = limits.max_limit
    limit = _limit(args, max_limit, 10)
    prefix = args[1] if len(args) > 1 else b""
    wanted = min(max(2 * limit, 10), max_limit)
    while limit:
        found = list(_values((yield _to_all(owners, "TOP", [b"%d" % wanted, prefix]))))
        threshold = sum(listed[-1][1] for listed in found if len(listed) == wanted)
        sums = yield from _sums(owners, sorted({url for listed in found for url, _ in listed}), limits)
        best = sorted(((url, n) for url, n in sums.items() if n), key=lambda page: (-page[1], page[0]))[:limit]
        if not threshold or (len(best) == limit and best[-1][1] > threshold):
            return best
        if wanted == max_limit:
            raise RangeError(f"TOP {limit} is not decided by {max_limit} pages of each partition; ask for fewer")
        wanted = min(2 * wanted, max_limit)
    return []


def _sums(
    owners: PartitionMap, urls: list[bytes], limits: Limits
) -> Generator[Bodies, Mapping[int, bytes], dict[bytes, int]]:
    """Return how many people are on each page."""
    sums = dict.fromkeys(urls, 0)
    for some in _pieces(urls, limits):
        for counts in _values((yield _to_all(owners, "COUNTS", some))):
            for url, people in zip(some, counts, strict=True):
                sums[url] += people
    return sums


def _pieces(urls: list[bytes], limits: Limits) -> Generator[list[bytes], None, None]:
    """Divide urls into as many as one question may have, in number and in bytes."""
    some: list[bytes] = []
    n_bytes = _HEAD_BYTES
    for url in urls:
        n_bytes += len(url) + _HEAD_BYTES
        if some and (len(some) == limits.max_limit or n_bytes > limits.max_frame):
            yield some
            some, n_bytes = [], 2 * _HEAD_BYTES + len(url)
        some.append(url)
    if some:
        yield some


def _listing(
    owners: PartitionMap, site: bytes, verb: str, args: list[bytes], max_limit: int, *, anew: bool = False
) -> Question:
    """PAGE, RECENT or USERS. `anew`: without the partitions' own cursors."""
    leading, rest = (args[:1], args[1:]) if verb != "RECENT" else ([], args)
    if verb == "USERS" and not leading:
        leading = [b""]
    limit = _limit(rest, max_limit, 30)
    question = _pack([verb, site, *leading])
    given = rest[1] if len(rest) > 1 else b""
    try:
        place = place_of(given, question, int if _LISTED[verb] else bytes)
    except ValueError:
        raise errors.bad_cursor(given) from None
    is_behind = None if place.last is None else place.is_behind
    parts = [Listed(_LISTED[verb]) for _ in owners.partitions]
    begins = {each: place.begins.get(each, b"") for each in range(len(parts))}
    wanted = {each: b"" if anew else begin for each, begin in begins.items() if begin is not None}
    ended = [each for each in begins if each not in wanted and verb == "PAGE"]  # asked for their counts
    while wanted or ended:
        bodies = {cursor: _body(verb, [*leading, b"%d" % limit, cursor]) for cursor in set(wanted.values())}
        requests = {each: bodies[cursor] for each, cursor in wanted.items()}
        if ended:
            requests |= dict.fromkeys(ended, _body(verb, [*leading, b"0"]))
        try:
            answers = yield requests
        except RangeError:
            if not any(wanted.values()):
                raise
            # A server does not know a cursor that another has made: all are asked from the beginning.
            return (yield from _listing(owners, site, verb, args, max_limit, anew=True))
        for each, cursor in wanted.items():
            parts[each].add(answers[each], cursor, is_behind)
        for each in ended:
            parts[each].add(answers[each], b"")
            parts[each].cursor = None
        ended = []
        wanted = {
            each: after
            for each in wanted
            if (after := parts[each].cursor) is not None and len(parts[each]) < limit
        }
    rows, then = _merged(parts, limit, place)
    cursor = _pack(None if then is None else text_of(then, question).decode())
    if verb != "PAGE":
        return Packed(b"\x92" + rows + cursor)
    online, here = map(sum, zip(*[part.counts for part in parts], strict=True))
    return Packed(b"\x94" + _pack(online) + _pack(here) + rows + cursor)


def _merged(parts: list[Listed], limit: int, before: Place) -> tuple[bytes, Place | None]:
    """Return the first rows of all, packed, and where the rest begins; None if there is none."""
    rows, taken = merge(parts, limit)
    ends = [(part, n) for part, n in zip(parts, taken, strict=True) if n]
    has_more = [part for part in parts if part.cursor is not None] or sum(taken) < sum(map(len, parts))
    if not ends or not has_more:
        return rows, None
    last = max([part.key(n - 1) for part, n in ends])
    listed = before.listed.copy() if before.last == last else []
    for part, n in ends:
        for nth in range(n - 1, -1, -1):
            if part.key(nth) != last:
                break
            listed.append(checksum(part.user(nth)))
    begins = {
        each: part.begin(taken[each]) if taken[each] < len(part) else part.cursor for each, part in enumerate(parts)
    }
    return rows, Place(last, listed, begins)
