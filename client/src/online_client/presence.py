"""Answers for pages that are being made: a client, and what it was answered last. Never holds a page up for long.

Not its job: reporting hits (reporter), what is asked (questions), and when to ask again (answers).

1. A question waits `timeout` at most, looking up a host name apart.
2. `Presence` and `AsyncPresence` ask the same: only how they wait differs.
"""

from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from online_client import questions, verbs
from online_client.answers import Answers
from online_client.client import Client
from online_client.questions import Reader as Reader  # who make pages find it here
from online_client.questions import Steps
from online_client.questions import reader_of as reader_of
from online_client.replies import Kinds, Page, Peak, Seen, Viewer
from online_client.verbs import Name, Request, Time, User

DEFAULT_TIMEOUT_S = 0.05
DEFAULT_FRESH_S = 1.0

T = TypeVar("T")


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
        self._answers = Answers(fresh_s)

    def count(self, url: Name | None = None, *, reader: Reader | None = None) -> int | None:
        """Count the people on the site or, with `url`, on that page; `reader` is one of them."""
        return self._take(questions.count(self._answers, url, reader))

    def kinds(self, url: Name | None = None, *, reader: Reader | None = None) -> Kinds | None:
        """Count visitors by kind, on the site or on that page; `reader` is one of them."""
        return self._take(questions.kinds(self._answers, url, reader))

    def peak(self, since: Time | None = None) -> Peak | None:
        """Tell the most people online at once, ever or since a time."""
        return self.ask(verbs.peak(since))

    def visitors(self, since: Time | None = None) -> int | None:
        """Estimate how many different people came since a time, of today (UTC) unless told otherwise."""
        return self.ask(verbs.visitors(since))

    def last(self, user: User) -> Seen | None:
        """Tell where and when a member was last seen; None also if the server does not know it."""
        found = self.ask(verbs.last(user))
        return found[0] if found else None

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
        return self._take(questions.users(self._answers, url, limit, guests, reader))

    def ask(self, question: Request[T]) -> T | None:
        """Ask what one of the functions of `online_client.verbs` made, or answer from memory."""
        if self._answers.is_due(question, monotonic()):
            with self._answers.asking(question) as learn:
                learn(self._client.call(question))
        answer: T | None = self._answers.known(question, monotonic())
        return answer

    def _take(self, steps: Steps[T]) -> T:
        try:
            question = next(steps)
            while True:
                question = steps.send(self.ask(question))
        except StopIteration as end:
            result: T = end.value
            return result

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
        self._answers = Answers(fresh_s)

    async def count(self, url: Name | None = None, *, reader: Reader | None = None) -> int | None:
        """Count the people, as `Presence.count`."""
        return await self._take(questions.count(self._answers, url, reader))

    async def kinds(self, url: Name | None = None, *, reader: Reader | None = None) -> Kinds | None:
        """Count visitors by kind, as `Presence.kinds`."""
        return await self._take(questions.kinds(self._answers, url, reader))

    async def peak(self, since: Time | None = None) -> Peak | None:
        """Tell the most people online at once, as `Presence.peak`."""
        return await self.ask(verbs.peak(since))

    async def visitors(self, since: Time | None = None) -> int | None:
        """Estimate how many different people came, as `Presence.visitors`."""
        return await self.ask(verbs.visitors(since))

    async def last(self, user: User) -> Seen | None:
        """Tell where and when a member was last seen, as `Presence.last`."""
        found = await self.ask(verbs.last(user))
        return found[0] if found else None

    async def page(self, url: Name, limit: int = 30) -> Page | None:
        """Tell who is on a page, as `Client.page`."""
        return await self.ask(verbs.page(url, limit))

    async def users(
        self, url: Name, limit: int = 30, *, guests: bool = False, reader: Reader | None = None
    ) -> tuple[Viewer, ...]:
        """List the members on a page, as `Presence.users`."""
        return await self._take(questions.users(self._answers, url, limit, guests, reader))

    async def ask(self, question: Request[T]) -> T | None:
        """Ask what one of the functions of `online_client.verbs` made, or answer from memory."""
        if self._answers.is_due(question, monotonic()):
            with self._answers.asking(question) as learn:
                learn(await self._client.call(question))
        answer: T | None = self._answers.known(question, monotonic())
        return answer

    async def _take(self, steps: Steps[T]) -> T:
        try:
            question = next(steps)
            while True:
                question = steps.send(await self.ask(question))
        except StopIteration as end:
            result: T = end.value
            return result

    async def aclose(self) -> None:
        """Close the connections that this event loop keeps."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
