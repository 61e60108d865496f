"""Answers for pages that are being made: a client, and what it was answered last. Never holds a page up for long.

Not its job: reporting hits (reporter.py).

1. A question waits `timeout` at most, looking up a host name apart.
2. After a failure nobody asks until a pause is over: FIRST_PAUSE_S, doubling to LONGEST_PAUSE_S. Then one asks, and
   the others go on as if the pause lasted until it was answered.
3. An answer is fresh for `fresh_s`; until then nobody asks the same again, readers apart (4). While one asks, others
   take what is known.
4. A page counts and lists its reader from the first view on, although the hit goes when the page does: `reader` is
   added to answers without it. Whether an answer has the reader is told by where the server last saw that user; an
   answer hardly older or younger than that hit is asked for anew, and so is the first of a newcomer.
5. What cannot be asked is answered with the last known answer, for KNOWN_S, and then with None.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from online_client import verbs
from online_client.client import Client
from online_client.errors import OnlineError, RangeError
from online_client.forks import tell_after_fork
from online_client.replies import Kinds, Page, Viewer
from online_client.verbs import Name, Request, User

DEFAULT_TIMEOUT_S = 0.05
DEFAULT_FRESH_S = 1.0

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0

#: The server's window unless configured: whoever was online longer ago is not.
KNOWN_S = 1_800.0

#: Answers that are kept, those used last: with 30 users each, some 10 MB. Of members alone no more are kept than shown.
MAX_KNOWN = 1_000

#: What reads the answers of `page`.
_PAGE = verbs.page("/")
_GUEST = "guest"
_NAMED = (verbs.MEMBER, _GUEST)

#: How long after a page view's time its hit may arrive at the server.
SETTLED_S = 1.0


@dataclass(frozen=True, slots=True)
class Reader:
    """Who a page is being made for, and which page that is."""

    user: str
    url: Name
    kind: str


def reader_of(user: User, url: Name, kind: str) -> Reader:
    """Make a Reader of what a hit would say."""
    return Reader(_text(user) if isinstance(user, str | bytes) else str(user), url, kind)


Question: TypeAlias = Request[Any]
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Presence:
    """Tells who is online, for templates. Threads and forked workers may share it.

    >>> presence = Presence("online://127.0.0.1:8989/default")    # doctest: +SKIP
    >>> presence.count()                                          # doctest: +SKIP
    17

    Answers are up to `fresh_s` seconds old, and older while the server fails; None is "not known". `url`, `timeout`
    and `ca_file` are those of `Client`; a wrong address is an error at once. In an event loop use `AsyncPresence`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        ca_file: str | None = None,
        fresh_s: float = DEFAULT_FRESH_S,
    ) -> None:
        self._client = Client(url, timeout=timeout, ca_file=ca_file)
        self._answers = _Answers(fresh_s)

    def count(self, url: Name | None = None, *, reader: Reader | None = None) -> int | None:
        """Count the people on the site or, with `url`, on that page; `reader` is one of them."""
        question = verbs.count(url)
        added = self._is_missing(reader, url, question)
        count = self.ask(question)
        return None if count is None else count + added

    def kinds(self, url: Name | None = None, *, reader: Reader | None = None) -> Kinds | None:
        """Count visitors by kind, on the site or on that page; `reader` is one of them."""
        question = verbs.kinds(url)
        added = self._is_missing(reader, url, question)
        kinds = self.ask(question)
        if kinds is None or reader is None or not added:
            return kinds
        if reader.kind == _GUEST:
            return replace(kinds, guests=kinds.guests + 1)
        return replace(kinds, members=kinds.members + 1)

    def page(self, url: Name, limit: int = 30) -> Page | None:
        """Tell who is on a page, as `Client.page`."""
        return self.ask(verbs.page(url, limit))

    def users(
        self, url: Name, limit: int = 30, *, guests: bool = False, reader: Reader | None = None
    ) -> tuple[Viewer, ...]:
        """List the members on a page, newest first, or members and guests; nobody when it is not known.

        `reader`, if on this page and of a kind that is listed, is put first unless there already. Members are looked
        for among the 1,000 people who came last; fewer if the server's max_limit is lower.
        """
        question = verbs.page(url, limit) if guests else _members(url, limit, self._answers.most)
        self._is_missing(reader, url, question)  # may let it be due; who is in the list, the list tells
        page = self.ask(question)
        if page is None:
            return ()
        if reader is None or reader.kind not in (_NAMED if guests else _NAMED[:1]) or _text(reader.url) != _text(url):
            return page.users
        if any(viewer.user == reader.user for viewer in page.users):
            return page.users
        return (Viewer(reader.user, datetime.now(UTC), timedelta(0), reader.kind), *page.users)[:limit]

    def _is_missing(self, reader: Reader | None, url: Name | None, question: Question) -> bool:
        """Tell whether to add the reader to the answer, and let an answer of which that is not certain be due."""
        if reader is None or reader.kind not in _NAMED or (url is not None and _text(url) != _text(reader.url)):
            return False
        where = verbs.seen(reader.user)
        [seen] = self.ask(where) or [None]
        self._answers.forget(where)  # of readers there are more than answers to keep
        if seen is None:
            self._answers.expire(question, monotonic())
            return True
        self._answers.expire(question, monotonic() - seen.age.total_seconds() + SETTLED_S)
        return url is not None and seen.url != _text(url)

    def ask(self, question: Request[T]) -> T | None:
        """Ask what one of the functions of `online_client.verbs` made, or answer from memory."""
        if self._answers.is_due(question, monotonic()):
            with self._answers.asking(question) as learn:
                learn(self._client.call(question))
        answer: T | None = self._answers.known(question, monotonic())
        return answer

    def close(self) -> None:
        """Close the connections that are kept."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncPresence:
    """The same for asyncio and Trio; its methods are awaited. Needs anyio, the extra `async`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        ca_file: str | None = None,
        fresh_s: float = DEFAULT_FRESH_S,
    ) -> None:
        from online_client.aio import AsyncClient

        self._client = AsyncClient(url, timeout=timeout, ca_file=ca_file)
        self._answers = _Answers(fresh_s)

    async def count(self, url: Name | None = None) -> int | None:
        """Count the people on the site or, with `url`, on that page."""
        return await self.ask(verbs.count(url))

    async def page(self, url: Name, limit: int = 30) -> Page | None:
        """Tell who is on a page, as `Client.page`."""
        return await self.ask(verbs.page(url, limit))

    async def users(self, url: Name, limit: int = 30, *, guests: bool = False) -> tuple[Viewer, ...]:
        """List the members on a page, as `Presence.users`."""
        page = await self.ask(verbs.page(url, limit) if guests else _members(url, limit, self._answers.most))
        return page.users if page else ()

    async def ask(self, question: Request[T]) -> T | None:
        """Ask what one of the functions of `online_client.verbs` made, or answer from memory."""
        if self._answers.is_due(question, monotonic()):
            with self._answers.asking(question) as learn:
                learn(await self._client.call(question))
        answer: T | None = self._answers.known(question, monotonic())
        return answer

    async def aclose(self) -> None:
        """Close the connections that this event loop keeps."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _text(name: Name) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _members(url: Name, limit: int, most: int) -> Request[Page]:
    """Ask for the members on a page, among `most` people."""
    return replace(verbs.page(url, most), read=_Members(limit))


@dataclass(frozen=True, slots=True)
class _Members:
    """Reads an answer of `page` without its guests: of a thousand viewers, those who are not shown cost little."""

    limit: int

    def __call__(self, result: object, now_ms: int) -> Page:
        match result:
            case [online, here, list(rows), cursor]:
                members = [row for row in rows if not (isinstance(row, list) and row[2:] == [_GUEST])]
                result = [online, here, members[: self.limit], cursor]
        return _PAGE.read(result, now_ms)


@dataclass(slots=True)
class _Answer:
    value: Any
    since_s: float
    due_s: float  #: when to ask again


class _Answers:
    """What was answered, and whether to ask. Opens nothing and never waits."""

    def __init__(self, fresh_s: float) -> None:
        self.most = verbs.MAX_LIMIT  #: people who may be asked for at once, as far as is known
        self._fresh_s = fresh_s
        self._known: OrderedDict[Question, _Answer] = OrderedDict()  #: the one used last at the end
        self._pause_s = 0.0  #: zero while the server is well
        self._pause_ends_s = 0.0
        self._lock = Lock()
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's lock, which one of its threads may have held."""
        self._lock = Lock()

    def is_due(self, question: Question, now_s: float) -> bool:
        """Tell whether to ask this now. Whoever is told so asks, and tells `asking` what came of it."""
        with self._lock:
            answer = self._known.get(question)
            if now_s < self._pause_ends_s or (answer is not None and now_s < answer.due_s):
                return False
            if self._pause_s:
                self._begin_pause(min(2 * self._pause_s, LONGEST_PAUSE_S), now_s)
            if answer is not None:
                answer.due_s = now_s + self._fresh_s
            return True

    def forget(self, question: Question) -> None:
        """Keep no answer to this."""
        with self._lock:
            self._known.pop(question, None)

    def expire(self, question: Question, before_s: float) -> None:
        """Let an answer be due that was given before `before_s`."""
        with self._lock:
            answer = self._known.get(question)
            if answer is not None and answer.since_s < before_s:
                answer.due_s = 0.0

    @contextmanager
    def asking(self, question: Question) -> Iterator[Callable[[Any], None]]:
        """Give what is to be told the answer. Errors of the client end here, in the log."""
        try:
            yield lambda value: self.learn(question, value, monotonic())
        except RangeError as error:  # the server is well, the question is not
            logger.warning("%s", error)
            if isinstance(question.read, _Members) and error.message.startswith("limit "):
                self.most = max(1, self.most // 2)
            self.learn(question, None, monotonic())
        except OnlineError as error:
            pause_s = self.fail(monotonic())
            logger.warning("%s; nobody asks for %g s", error, pause_s)

    def learn(self, question: Question, value: object, now_s: float) -> None:
        """Keep an answer; the server is well."""
        with self._lock:
            self._pause_s = self._pause_ends_s = 0.0
            self._known[question] = _Answer(value, now_s, now_s + self._fresh_s)
            self._known.move_to_end(question)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def fail(self, now_s: float) -> float:
        """Begin a pause, unless there is one: others have failed too, or this was the attempt at the end of one.

        Returns the length of the pause.
        """
        with self._lock:
            if not self._pause_s:
                self._begin_pause(FIRST_PAUSE_S, now_s)
            return self._pause_s

    def known(self, question: Question, now_s: float) -> Any:
        """Return the last known answer, None without one. O(1)."""
        with self._lock:
            answer = self._known.get(question)
            if answer is None or now_s > answer.since_s + KNOWN_S:
                return None
            self._known.move_to_end(question)
            return answer.value

    def _begin_pause(self, pause_s: float, now_s: float) -> None:
        self._pause_s = pause_s
        self._pause_ends_s = now_s + pause_s
