"""The client for asyncio and Trio: anyio's streams around `Protocol`. Needs anyio, the extra `async`.

It keeps the invariants of the blocking client (client.py): a call has a connection of its own, keeps it only
after a complete answer, and is sent once more when a kept connection turns out broken. Kept connections
belong to one run of an event loop; a client may be used in several runs, one after the other or in several
threads.
"""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from functools import partial
from itertools import count
from socket import SOCK_STREAM
from ssl import SSLContext
from time import time_ns
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from online_client import verbs
from online_client.address import Address, parse_addresses
from online_client.client import DEFAULT_TIMEOUT_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, MAX_KEPT, SILENCE_S, Part
from online_client.errors import (
    ConnectionFailed,
    LoadingError,
    OnlineError,
    ServerError,
    cannot_connect,
    closed,
    lost,
    lost_unanswered,
    missing_package,
    too_late,
)
from online_client.options import check_timeout
from online_client.protocol import Protocol, Response, Together
from online_client.replies import BatchResult, Session, State, Viewer
from online_client.servers import FAILURES, Servers, share_s
from online_client.verbs import Hit, Name, Request

try:
    import anyio
    from anyio.abc import ByteStream
    from anyio.lowlevel import RunVar
except ImportError as error:
    raise missing_package("AsyncClient needs anyio", "async") from error

P = ParamSpec("P")
T = TypeVar("T")

_numbers = count()


def _verb(build: Callable[P, Request[T]]) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    """Make the method of a verb: build the request, await the answer."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(build(*args, **kwargs))

    return verbs.as_method(method, build)


class AsyncClient:
    """Asks a server, from asyncio or Trio. Tasks may share it.

    >>> async with AsyncClient() as client:          # doctest: +SKIP
    ...     await client.hit("theo", "/forum/1")
    ...     page = await client.page("/forum/1")

    Arguments and errors are those of `Client`. Close it, best by `async with`, before the event loop ends.
    """

    def __init__(
        self, url: str | None = None, *, timeout: float | None = DEFAULT_TIMEOUT_S, ca_file: str | None = None
    ) -> None:
        check_timeout(timeout)
        self._servers = Servers(parse_addresses(url, ca_file=ca_file))
        self.address = self._servers.addresses[0]
        self.timeout = timeout
        self._tls = self.address.tls_context()
        # Older versions of anyio tell such variables apart by their names.
        self._kept_here: RunVar[dict[Address, list[_Connection]]] = RunVar(f"online_client {next(_numbers)}")
        self._keeps = True

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
    peak = _verb(verbs.peak)
    history = _verb(verbs.history)
    visitors = _verb(verbs.visitors)
    last = _verb(verbs.last)
    forget = _verb(verbs.forget)
    sites = _verb(verbs.sites)
    info = _verb(verbs.info)
    ping = _verb(verbs.ping)
    time = _verb(verbs.time)

    async def hits(self, hits: Iterable[Hit]) -> BatchResult:
        """Report many hits, as `Client.hits`."""
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

    def watch(self, *channels: Name) -> AsyncGenerator[State, None]:
        """Iterate over the states of channels, as `Client.watch`. To end it, leave the loop and `aclose` it.

        >>> async with aclosing(client.watch("count")) as states:       # doctest: +SKIP
        ...     async for state in states:
        ...         print(state.value)
        """
        return self._watch(verbs.subscribe(*channels))

    async def _watch(self, request: Request[int]) -> AsyncGenerator[State, None]:
        connection = await self._subscribed(request)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                while True:
                    yield verbs.state(await connection.told(self.timeout), time_ns() // 1_000_000)
                    pause_s = FIRST_PAUSE_S
            except FAILURES:
                self._servers.failed(connection.address)
            finally:
                with anyio.CancelScope(shield=True):
                    await connection.close()
            while True:
                await anyio.sleep(random.uniform(0.5, 1.0) * pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                try:
                    connection = await self._subscribed(request)
                    break
                except FAILURES:
                    continue

    async def _subscribed(self, request: Request[int]) -> "_Connection":
        """Return a connection that is told of channels, to the first server that can be reached."""

        async def subscribe(address: Address) -> "_Connection":
            connection = await self._connect(address)
            try:
                await connection.call(request)
            except BaseException:
                await connection.close()
                raise
            return connection

        return await self._at_first(subscribe)

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
        [answer] = await self._call_together(Together((request,)))
        if isinstance(answer, ServerError):
            raise answer
        return answer  # type: ignore[return-value]  # it is the answer to this request

    async def _call_together(self, together: Together) -> list[object]:
        """Send requests at once, on one connection, and return their answers: values, or ServerErrors."""
        return await self._at_first(lambda address: self._call(address, together))

    async def _at_first(self, action: Callable[[Address], Awaitable[T]]) -> T:
        """Do something at the first server that can be reached, within the time for a call."""
        deadline_s = None if self.timeout is None else anyio.current_time() + self.timeout
        tried: list[Address] = []
        while True:
            waiting = [each for each in self._servers.in_order() if each not in tried]
            address = waiting[0]
            left_s = None if deadline_s is None else max(0.0, deadline_s - anyio.current_time())
            limit_s = share_s(left_s, len(waiting), without_limit_s=DEFAULT_TIMEOUT_S)
            try:
                if self._servers.is_unsure(address):
                    self._servers.found(address, await self._within(limit_s, address, _hosts_of))
                    continue
                answer = await self._within(limit_s, address, action)
            except FAILURES:
                self._servers.failed(address)
                tried.append(address)
                if not set(self._servers.in_order()) - set(tried):
                    raise
                continue
            self._servers.answered(address)
            return answer

    async def _within(self, limit_s: float | None, address: Address, action: Callable[[Address], Awaitable[T]]) -> T:
        try:
            with anyio.fail_after(limit_s):
                return await action(address)
        except TimeoutError as error:
            if isinstance(error, OnlineError):
                raise
            raise too_late(address, self.timeout or limit_s) from error

    async def aclose(self) -> None:
        """Close the connections that are kept, and keep no more."""
        self._keeps = False
        await self._forget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    async def _call(self, address: Address, together: Together) -> list[object]:
        kept = self._kept_here.get({}).get(address)
        if kept:
            try:
                return await self._call_on(kept.pop(), together)
            except ConnectionFailed:
                await self._forget(address)
        return await self._call_on(await self._connect(address), together)

    async def _call_on(self, connection: "_Connection", together: Together) -> list[object]:
        keep = False
        try:
            answers = await connection.answers(together)
            keep = True
            return answers
        except LoadingError:
            keep = True
            raise
        finally:
            if not (keep and self._keep(connection)):
                await connection.close()

    async def _connect(self, address: Address) -> "_Connection":
        connection = _Connection(await _open(address, self._tls), address)
        try:
            for greeting in verbs.greetings(address):
                await connection.call(greeting)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _keep(self, connection: "_Connection") -> bool:
        everywhere = self._kept_here.get({})
        kept = everywhere.setdefault(connection.address, [])
        keep = self._keeps and len(kept) < MAX_KEPT
        if keep:
            kept.append(connection)
            self._kept_here.set(everywhere)
        return keep

    async def _forget(self, address: Address | None = None) -> None:
        """Close what is kept to a server, or to all."""
        everywhere = self._kept_here.get({})
        which = list(everywhere) if address is None else [address]
        for connection in [each for known in which for each in everywhere.pop(known, [])]:
            await connection.close()


class _Connection:
    """A stream and the conversation on it."""

    def __init__(self, stream: ByteStream, address: Address) -> None:
        self._stream = stream
        self.address = address
        self._protocol = Protocol()
        self._has_answered = False

    async def call(self, request: Request[Any]) -> None:
        """Ask one thing, of which only matters that it is not refused."""
        [answer] = await self.answers(Together((request,)))
        if isinstance(answer, ServerError):
            raise answer

    async def answers(self, together: Together) -> list[object]:
        responses: list[Response] = []
        try:
            await self._stream.send(b"".join(map(self._protocol.send, together.requests)))
            while len(responses) < len(together.requests):
                responses += await self._responses()
        except OnlineError:
            raise
        except anyio.EndOfStream as error:
            raise (lost if self._has_answered else lost_unanswered)(self.address) from error
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise lost(self.address, _reason(error)) from error
        return together.answers(responses, time_ns() // 1_000_000)

    async def _responses(self) -> list[Response]:
        try:
            data = await self._stream.receive()
            self._has_answered = True
            return self._protocol.receive(data)
        except ServerError as error:  # not an answer, see protocol.py
            raise closed(self.address, error) from error

    async def told(self, timeout_s: float | None) -> object:
        """Return what is told next. Raises ConnectionFailed, or Timeout if it is silent and does not answer a ping."""
        left_s, is_asked = SILENCE_S, False
        while not self._protocol.told:
            try:
                with anyio.move_on_after(left_s) as waiting:
                    self._protocol.receive(await self._stream.receive())
                if waiting.cancelled_caught and is_asked:
                    raise too_late(self.address, left_s)
                if waiting.cancelled_caught:
                    await self._stream.send(self._protocol.send(verbs.ping()))
                is_asked = waiting.cancelled_caught
                left_s = (timeout_s or SILENCE_S) if is_asked else SILENCE_S
            except ServerError as error:
                raise closed(self.address, error) from error
            except anyio.EndOfStream as error:
                raise lost(self.address) from error
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise lost(self.address, _reason(error)) from error
        return self._protocol.told.popleft()

    async def close(self) -> None:
        await anyio.aclose_forcefully(self._stream)


async def _open(address: Address, tls: SSLContext | None) -> ByteStream:
    try:
        if address.path:
            return await anyio.connect_unix(address.path)
        if tls is None:
            return await anyio.connect_tcp(address.at or address.host, address.port)
        return await anyio.connect_tcp(
            address.at or address.host,
            address.port,
            ssl_context=tls,
            tls_hostname=address.host,
            tls_standard_compatible=False,
        )
    except (anyio.BrokenResourceError, anyio.EndOfStream, OSError) as error:
        raise cannot_connect(address, _reason(error)) from error


async def _hosts_of(address: Address) -> list[str]:
    """Look up a server's name. Raises ConnectionFailed if it cannot be, and nothing is known of it."""
    try:
        found = await anyio.getaddrinfo(address.host, address.port, type=SOCK_STREAM)
    except OSError as error:
        if address.at:
            return []
        raise cannot_connect(address, error.strerror or error) from error
    return [str(where[0]) for *_, where in found]


def _reason(error: BaseException) -> object:
    """The system's words for a failure: anyio's own say little, and name as their cause what does."""
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[-1]
    return cause or str(error) or type(error).__name__
