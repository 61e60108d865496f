"""Questions to partitions -> one answer, as one server with all users gives it, sans-I/O. No sockets.

Not its job: to ask (divided). A question is a generator: it yields requests, by place in the map, is sent what they
were answered, and returns the answer in the shape in which a server gives it. Why an answer is exact is said where
gateways do the same (gateway/merging.py of the server): counts are sums over different users, lists go by their keys,
and TOP asks for more pages until no other can belong there.

1. What is asked of several partitions is answered as of one second by all: that of the latest. TIME goes before and
   after each question, and all are asked again if the second has changed meanwhile.
2. The answer is that of all, or an error: PartialError if somebody is away, else that of the first that refused.
"""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgpack

from online_client.cursors import Place, checksum, place_of, text_of
from online_client.errors import CommandError, OnlineError, PartialError, RangeError, ServerError
from online_client.partitions import PartitionMap
from online_client.protocol import Together
from online_client.verbs import MAX_BATCH_BYTES, MAX_LIMIT, Request

#: The most pages of a section, unless a server is told otherwise.
MAX_SCAN = 100_000

#: How often a round is begun, since a second may end while it is under way.
MOST_TRIES = 8

#: Requests by place in the map, and what they were answered.
Bodies = Mapping[int, Request[Any]]
Question = Generator[Bodies, Mapping[int, Any], object]

#: What is sent to each, and the answers, or why there are none.
Round = Mapping[int, Together]
Found = Mapping[int, list[object] | OnlineError]

T = TypeVar("T")

_ADDED = ("count", "forget")
_ADDED_EACH = ("counts", "kinds")
_FOR_USERS = ("seen", "last")
_LISTED = {"page": 1, "recent": 2, "users": 0}  #: and what a list goes by: an item of its rows, 0 for their names
_WRITES = ("hit", "leave", "hits", "forget")  #: they need not be carried out by all at one moment

_HEAD_BYTES = 16  #: more than the head of a request takes, or that of a text in it


class Latest:
    """The latest second that some server was in."""

    def __init__(self) -> None:
        self.second = 0


def asking(
    owners: PartitionMap, site: bytes, request: Request[T], latest: Latest
) -> Generator[Round, Found, object]:
    """Ask in rounds, and return the answer. Raises ServerError."""
    question = _answer(owners, site, request)
    is_shared = request.verb not in _WRITES
    try:
        bodies = next(question)
        while True:
            try:
                answers = yield from _round(owners, bodies, latest, is_shared=is_shared and len(bodies) > 1)
            except RangeError as error:
                bodies = question.throw(error)
            else:
                bodies = question.send(answers)
    except StopIteration as end:
        return end.value


def _round(
    owners: PartitionMap, bodies: Bodies, latest: Latest, *, is_shared: bool
) -> Generator[Round, Found, dict[int, object]]:
    """Ask each, until all answers are of one second if that is wanted."""
    for _ in range(MOST_TRIES):
        time = _time_request(latest.second)
        sent = {each: Together((time, body, time) if is_shared else (body,)) for each, body in bodies.items()}
        found = yield sent
        answers = _whole(owners, found)
        if not is_shared:
            return {each: answer for each, (answer,) in answers.items()}
        seconds = set()
        for each, (since, _, until) in answers.items():
            if isinstance(since, ServerError) or isinstance(until, ServerError):
                latest.second = 0
                raise _partial(owners, [each], f"it does not take the time: {since}")
            seconds |= {since, until}
        if len(seconds) == 1:
            return {each: answer for each, (_, answer, _) in answers.items()}
        latest.second = max(seconds)
    raise PartialError("PARTIAL", f"the clocks of partitions differ: by one it is {latest.second} s since 1970")


def _whole(owners: PartitionMap, found: Found) -> dict[int, list[Any]]:
    """Return all answers. Raises what their errors add up to."""
    away = {each: error for each, error in sorted(found.items()) if isinstance(error, OnlineError)}
    if away:
        raise _partial(owners, list(away), str(next(iter(away.values())))) from next(iter(away.values()))
    answers = {each: answer for each, answer in sorted(found.items()) if not isinstance(answer, OnlineError)}
    for answer in answers.values():
        refusal = answer[len(answer) // 2]
        if isinstance(refusal, ServerError):
            raise refusal
    return answers


def _partial(owners: PartitionMap, places: list[int], reason: str) -> PartialError:
    numbers = ", ".join(str(owners.partitions[each].number) for each in places)
    some = f"partition{'s' * (len(places) > 1)} {numbers} of {len(owners.partitions)}"
    return PartialError("PARTIAL", f"no answer from {some}: {reason}")


def _time_request(second: int) -> Request[int]:
    """Ask for the second that it is, and let it be at least this one."""
    return Request("time", msgpack.packb([1000 * second] if second else []), lambda told, now_ms: int(_item(told)))


def _item(told: Any) -> Any:
    return told[0]


def _answer(owners: PartitionMap, site: bytes, request: Request[object]) -> Question:
    verb = request.verb
    args = msgpack.unpackb(request.params, raw=True)
    if verb in ("hit", "leave"):
        place = owners.place(args[0])
        return (yield {place: _passed(request)})[place]
    if verb == "hits":
        return (yield from _hits(owners, args))
    if verb in _FOR_USERS:
        return (yield from _for_users(owners, verb, args))
    if verb in _ADDED:
        return sum((yield _to_all(owners, verb, args)).values())
    if verb in _ADDED_EACH:
        return [sum(each) for each in zip(*(yield _to_all(owners, verb, args)).values(), strict=True)]
    if verb in _LISTED:
        return (yield from _listing(owners, site, verb, args))
    if verb == "sites":
        people: dict[bytes, int] = {}
        for listed in (yield _to_all(owners, verb, args)).values():
            for name, n in listed:
                people[_bytes(name)] = people.get(_bytes(name), 0) + n
        return [list(each) for each in sorted(people.items())]
    if verb == "section":
        return (yield from _section(owners, args[0]))
    if verb == "top":
        return (yield from _top(owners, args))
    if len(owners.partitions) == 1:
        return (yield {0: _passed(request)})[0]
    raise CommandError("ERR", f"{verb.upper()} is not answered for divided users; ask a gateway, or one of the servers")


def _passed(request: Request[object]) -> Request[object]:
    return Request(request.verb, request.params, _raw)


def _raw(result: object, now_ms: int) -> object:
    return result


def _request(verb: str, args: Sequence[object]) -> Request[object]:
    return Request(verb, msgpack.packb(args), _raw)


def _to_all(owners: PartitionMap, verb: str, args: Sequence[object]) -> Bodies:
    return dict.fromkeys(range(len(owners.partitions)), _request(verb, args))


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def _hits(owners: PartitionMap, hits: list[list[Any]]) -> Question:
    """Send each owner its part of a batch, and add up what became of them."""
    by_owner: dict[int, list[int]] = {}
    for nth, hit in enumerate(hits):
        by_owner.setdefault(owners.place(hit[0]), []).append(nth)
    parts = {place: _request("hits", [hits[nth] for nth in every]) for place, every in by_owner.items()}
    answers = (yield parts) if parts else {}
    wrong = [_error_of(by_owner[place], became[3]) for place, became in answers.items() if became[3] is not None]
    sums = [sum(became[nth] for became in answers.values()) for nth in range(3)]
    return [*sums, min(wrong)[1] if wrong else None]


def _error_of(every: list[int], error: list[Any]) -> tuple[int, list[str | bytes]]:
    """Return the number of the hit that an owner refused first, in the whole batch, and the error, which names it."""
    code, message = map(_bytes, error)
    of_part = re.match(rb"hit (\d+) of the batch", message)
    if of_part is None:
        return 0, [code, message]
    nth = every[int(of_part[1]) - 1] + 1
    return nth, [code, b"hit %d of the batch%b" % (nth, message[of_part.end() :])]


def _for_users(owners: PartitionMap, verb: str, users: list[bytes]) -> Question:
    """Ask the owner of each user, and put answers into the order of the users."""
    by_owner: dict[int, list[bytes]] = {}
    for user in users:
        by_owner.setdefault(owners.place(user), []).append(user)
    answers = yield {place: _request(verb, every) for place, every in by_owner.items()} or {0: _request(verb, [])}
    found = {place: iter(each) for place, each in answers.items()}
    return [next(found[owners.place(user)]) for user in users]


def _section(owners: PartitionMap, prefix: bytes) -> Question:
    """Add up people, and count different pages: those up to the least of the last urls of all that have more."""
    after, pages = b"", 0
    while True:
        parts = (yield _to_all(owners, "pages", [prefix, MAX_LIMIT, after])).values()
        after = min((_bytes(part[3]) for part in parts if part[3] is not None), default=b"")
        urls = {_bytes(url) for part in parts for url in part[2]}
        pages += sum(url <= after for url in urls) if after else len(urls)
        if pages > MAX_SCAN:
            raise RangeError("RANGE", f"more than {MAX_SCAN} pages begin with {prefix!r}; ask for a longer prefix")
        if not after:
            return [sum(part[0] for part in parts), pages]


def _top(owners: PartitionMap, args: list[Any]) -> Question:
    given, prefix = [*args, None, None][:2]
    limit = 10 if given is None else given
    is_usual = isinstance(limit, int) and 0 <= limit <= MAX_LIMIT  # otherwise servers refuse it
    wanted = min(max(2 * limit, 10), MAX_LIMIT) if is_usual else limit
    while True:
        found = (yield _to_all(owners, "top", [wanted, prefix])).values()
        threshold = sum(listed[-1][1] for listed in found if len(listed) == wanted)
        sums = yield from _sums(owners, sorted({_bytes(url) for listed in found for url, _ in listed}))
        pages = sorted(((url, n) for url, n in sums.items() if n), key=lambda page: (-page[1], page[0]))
        best: list[list[Any]] = [list(page) for page in pages[:limit]]
        if not threshold or limit == 0 or (len(best) == limit and best[-1][1] > threshold):
            return best
        if wanted >= MAX_LIMIT:
            raise RangeError("RANGE", f"TOP {limit} is not decided by {wanted} pages of each partition; ask for fewer")
        wanted = min(2 * wanted, MAX_LIMIT)


def _sums(owners: PartitionMap, urls: list[bytes]) -> Generator[Bodies, Mapping[int, Any], dict[bytes, int]]:
    """Return how many people are on each page."""
    sums = dict.fromkeys(urls, 0)
    for some in _pieces(urls):
        for counts in (yield _to_all(owners, "counts", some)).values():
            for url, people in zip(some, counts, strict=True):
                sums[url] += people
    return sums


def _pieces(urls: Iterable[bytes]) -> Generator[list[bytes], None, None]:
    """Divide urls into as many as one question may have, in number and in bytes."""
    some: list[bytes] = []
    n_bytes = _HEAD_BYTES
    for url in urls:
        n_bytes += len(url) + _HEAD_BYTES
        if some and (len(some) == MAX_LIMIT or n_bytes > MAX_BATCH_BYTES):
            yield some
            some, n_bytes = [], 2 * _HEAD_BYTES + len(url)
        some.append(url)
    if some:
        yield some


class _Listed:
    """What one partition has listed, perhaps in several answers: rows, with their keys and users."""

    def __init__(self, key_at: int) -> None:
        self.counts: list[int] | None = None
        self.rows: list[tuple[Any, bytes, list[Any], bytes]] = []  #: key, user, row, and the cursor it came by
        self.cursor: bytes | None = None
        self._key_at = key_at

    def add(self, answer: list[Any], begin: bytes, place: Place) -> None:
        *counts, rows, cursor = answer
        self.counts = self.counts or counts
        self.cursor = None if cursor is None else _bytes(cursor)
        for row in rows:
            user = _bytes(row[0])
            key = -row[self._key_at] if self._key_at else user
            if place.is_behind(key, user):
                self.rows.append((key, user, row, begin))


def _listing(owners: PartitionMap, site: bytes, verb: str, args: list[Any], *, anew: bool = False) -> Question:
    """PAGE, RECENT or USERS. `anew`: without the partitions' own cursors."""
    leading, rest = (args[:1], args[1:]) if verb != "recent" else ([], args)
    given, cursor = [*rest, None, None][:2]
    limit = 30 if given is None else given
    question: bytes = msgpack.packb([verb.upper(), site, *leading])
    try:
        place = place_of(cursor or b"", question, int if _LISTED[verb] else bytes)
    except ValueError:
        raise RangeError("RANGE", "cursor must be the one from the last reply to the same question") from None
    parts = [_Listed(_LISTED[verb]) for _ in owners.partitions]
    begins = {each: place.begins.get(each, b"") for each in range(len(parts))}
    wanted = {each: b"" if anew else begin for each, begin in begins.items() if begin is not None}
    ended = [each for each in begins if each not in wanted and verb == "page"]  # asked for their counts
    while wanted or ended:
        requests = {each: _request(verb, [*leading, limit, begin]) for each, begin in wanted.items()}
        requests |= {each: _request(verb, [*leading, 0]) for each in ended}
        try:
            answers = yield requests
        except RangeError:
            if not any(wanted.values()):
                raise
            # A server does not know a cursor that another has made: all are asked from the beginning.
            return (yield from _listing(owners, site, verb, args, anew=True))
        for each, begin in wanted.items():
            parts[each].add(answers[each], begin, place)
        for each in ended:
            parts[each].add([*answers[each][:2], [], None], b"", place)
        ended = []
        wanted = {
            each: after
            for each in wanted
            if (after := parts[each].cursor) is not None and len(parts[each].rows) < limit
        }
    rows, then = _merged(parts, limit, place)
    counts = [sum(each) for each in zip(*(part.counts or [] for part in parts), strict=True)]
    return [*counts, rows, None if then is None else text_of(then, question)]


def _merged(parts: list[_Listed], limit: int, before: Place) -> tuple[list[Any], Place | None]:
    """Return the first rows of all, and where the rest begins; None if there is none."""
    keyed = sorted((row[0], each, nth) for each, part in enumerate(parts) for nth, row in enumerate(part.rows))
    first = [parts[each].rows[nth] for _, each, nth in keyed[:limit]]
    rows = [row for _, _, row, _ in first]
    if not first or (len(keyed) <= limit and all(part.cursor is None for part in parts)):
        return rows, None
    last = first[-1][0]
    listed = before.listed.copy() if before.last == last else []
    listed += [checksum(user) for key, user, _, _ in first if key == last]
    taken = [0] * len(parts)
    for _, each, _ in keyed[:limit]:
        taken[each] += 1
    begins = {
        each: part.rows[taken[each]][3] if taken[each] < len(part.rows) else part.cursor
        for each, part in enumerate(parts)
    }
    return rows, Place(last, listed, begins)
