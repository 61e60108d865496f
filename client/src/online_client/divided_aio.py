"""The client of divided users for asyncio and Trio: an AsyncClient for each partition around the merging.

It keeps the invariants of the blocking one (divided.py); only, all partitions are asked at the same time.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from os import PathLike
from time import time_ns
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio

from online_client import verbs
from online_client.address import DEFAULT_SITE
from online_client.aio import AsyncClient
from online_client.client import DEFAULT_TIMEOUT_S, Part
from online_client.divided import Divided
from online_client.errors import OnlineError, PartialError, too_late
from online_client.merging import Found, Round
from online_client.options import check_timeout
from online_client.protocol import Together
from online_client.replies import BatchResult, Session, Viewer
from online_client.verbs import Hit, Name, Request

P = ParamSpec("P")
T = TypeVar("T")


def _verb(build: Callable[P, Request[T]]) -> "Callable[Concatenate[AsyncDividedClient, P], Coroutine[Any, Any, T]]":
    async def method(self: "AsyncDividedClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(build(*args, **kwargs))

    return verbs.as_method(method, build)


class AsyncDividedClient:
    """Asks servers that have a part of the users each, from asyncio or Trio. Tasks may share it.

    Arguments and errors are those of `DividedClient`. Close it, best by `async with`, before the event loop ends.
    """

    def __init__(
        self,
        map_file: str | PathLike[str],
        site: str = DEFAULT_SITE,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        ca_file: str | None = None,
    ) -> None:
        check_timeout(timeout)
        self.timeout = timeout
        self._divided = Divided(map_file, site, partial(AsyncClient, timeout=timeout, ca_file=ca_file))

    hit = _verb(verbs.hit)
    leave = _verb(verbs.leave)
    count = _verb(verbs.count)
    counts = _verb(verbs.counts)
    kinds = _verb(verbs.kinds)
    page = _verb(verbs.page)
    recent = _verb(verbs.recent)
    users = _verb(verbs.users)
    seen = _verb(verbs.seen)
    section = _verb(verbs.section)
    top = _verb(verbs.top)
    last = _verb(verbs.last)
    forget = _verb(verbs.forget)
    sites = _verb(verbs.sites)

    async def hits(self, hits: Iterable[Hit]) -> BatchResult:
        """Report many hits, as `DividedClient.hits`."""
        result = BatchResult(0, 0, 0, None)
        for request in verbs.batches(hits):
            result += await self.call(request)
        return result

    def all_on_page(self, url: Name, limit: int = verbs.MAX_LIMIT) -> AsyncIterator[Viewer]:
        """Iterate over everybody on a page who can be named, newest first, asking for `limit` at a time."""
        return self._all(partial(verbs.page, url, limit))

    def all_recent(self, limit: int = verbs.MAX_LIMIT) -> AsyncIterator[Session]:
        """Iterate over everybody on the site who can be named, newest first, asking for `limit` at a time."""
        return self._all(partial(verbs.recent, limit))

    def all_users(self, prefix: Name = "", limit: int = verbs.MAX_LIMIT) -> AsyncIterator[Session]:
        """Iterate over everybody on the site whose name begins with `prefix`, by name."""
        return self._all(partial(verbs.users, prefix, limit))

    async def _all(self, part_after: Callable[[str | None], Request[Part[T]]]) -> AsyncIterator[T]:
        part = await self.call(part_after(None))
        for each in part.users:
            yield each
        while part.cursor is not None:
            part = await self.call(part_after(part.cursor))
            for each in part.users:
                yield each

    async def call(self, request: Request[T]) -> T:
        """Send a request made by one of the functions of `online_client.verbs` and return its answer."""
        owners = self._divided.owners
        try:
            return await self._call(request)
        except PartialError:
            is_newer, retired = self._divided.renewed(owners)
            for client in retired:
                await client.aclose()
            if not is_newer:
                raise
        return await self._call(request)

    async def _call(self, request: Request[T]) -> T:
        question, clients = self._divided.asking(request)
        until_s = float("inf") if self.timeout is None else anyio.current_time() + self.timeout
        try:
            wanted = next(question)
            while True:
                wanted = question.send(await self._asked(clients, wanted, until_s))
        except StopIteration as end:
            return request.read(end.value, time_ns() // 1_000_000)

    async def _asked(self, clients: list[AsyncClient], wanted: Round, until_s: float) -> Found:
        """Ask all, and return what they answered, by place, or why they did not."""
        found: dict[int, list[object] | OnlineError] = {}

        async def ask(place: int, together: Together) -> None:
            with anyio.CancelScope(deadline=until_s):
                try:
                    found[place] = await clients[place]._call_together(together)
                except OnlineError as error:
                    found[place] = error
            if place not in found:
                found[place] = too_late(clients[place].address, self.timeout)

        async with anyio.create_task_group() as tasks:
            for place, together in wanted.items():
                tasks.start_soon(ask, place, together)
        return found

    async def aclose(self) -> None:
        """Close the connections that are kept, and keep no more."""
        for client in self._divided.close():
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._divided.path} {self._divided.site}>"
