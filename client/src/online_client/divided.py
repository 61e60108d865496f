"""The blocking client for users who are divided among servers: a client for each partition around the merging.

Not its job: what is asked, and what answers add up to (merging).

1. Requests go to all partitions before the answer of any is awaited, on connections that are kept. A partition without
   one, or of which the first server failed, is asked afterwards, by itself.
2. A call has one time limit. What is left of it is divided among those that are asked afterwards.
3. When a partition does not answer and the file of the map has a newer version, the call is made by that, once more.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from online_client import verbs
from online_client.address import DEFAULT_SITE, Address
from online_client.client import DEFAULT_TIMEOUT_S, Client, Part, _Connection, _Deadline
from online_client.errors import AddressError, ConnectionFailed, OnlineError, PartialError
from online_client.forks import notice_fork, tell_after_fork
from online_client.merging import Found, Latest, Round, asking
from online_client.options import check_timeout
from online_client.partitions import PartitionMap, read
from online_client.protocol import Together
from online_client.replies import BatchResult, Session, Viewer
from online_client.servers import FAILURES, share_s
from online_client.verbs import Hit, Name, Request

#: The least time for an answer that was asked for, when others have used up the time for a call: it is there already.
GRACE_S = 0.01

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=Any)


def _verb(build: Callable[P, Request[T]]) -> "Callable[Concatenate[DividedClient, P], T]":
    def method(self: "DividedClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(build(*args, **kwargs))

    return verbs.as_method(method, build)


class Divided(Generic[C]):
    """A client for each partition of a map, and the newer map when there is one."""

    def __init__(self, path: str | PathLike[str], site: str, connect: Callable[[str], C]) -> None:
        """`connect` makes a client of the url of a partition. Raises AddressError."""
        self.path = Path(path)
        self.site = site
        self.latest = Latest()
        self._connect = connect
        self._read: tuple[int, ...] | None = None  #: what the file was when it was read: it is read again if it differs
        self._is_closed = False
        self.after_fork()
        tell_after_fork(self)
        owners = self._look()
        self._going = owners, self._connected(owners)  #: one attribute, as threads take both at once

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent may hold."""
        self._lock = Lock()

    @property
    def owners(self) -> PartitionMap:
        return self._going[0]

    def close(self) -> list[C]:
        """Connect to nobody any more, and return whom to take leave of."""
        with self._lock:
            self._is_closed = True
            return self._going[1]

    def _look(self) -> PartitionMap:
        found = self._state()
        owners = read(self.path)
        self._read = found
        return owners

    def _state(self) -> tuple[int, ...] | None:
        """Return what is different if the file is another."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _connected(self, owners: PartitionMap) -> list[C]:
        return [self._connect(each.url(self.site)) for each in owners.partitions]

    def asking(self, request: Request[object]) -> tuple[Any, list[C]]:
        """Return a question, and whom it is asked."""
        owners, clients = self._going
        return asking(owners, self.site.encode("utf-8", "surrogateescape"), request, self.latest), clients

    def renewed(self, before: PartitionMap) -> tuple[bool, list[C]]:
        """Go by the map as it is now, if it is newer.

        Return whether it is newer than `before`, and the clients that are not asked any more.
        """
        retired: list[C] = []
        with self._lock, suppress(AddressError):  # it is being written
            if not self._is_closed and self._state() != self._read:
                owners = self._look()
                if owners.version > self.owners.version:
                    retired, self._going = self._going[1], (owners, self._connected(owners))
        return self.owners.version > before.version, retired


@dataclass(frozen=True, slots=True)
class _Begun:
    """Requests that were sent, whose answers are to come."""

    connection: _Connection
    together: Together
    address: Address


class _OfPartition(Client):
    """A client that may send before it waits."""

    def begin(self, together: Together) -> _Begun | None:
        """Send requests on a connection that is kept to the first server. None if there is none."""
        notice_fork()
        address = self._servers.in_order()[0]
        connection = self._take(address)
        if connection is None:
            return None
        try:
            connection.send(together, _Deadline(address, self.timeout))
        except OnlineError:
            connection.close()
            self._forget(address)
            return None
        return _Begun(connection, together, address)

    def end(self, begun: _Begun, left_s: float | None) -> list[object] | None:
        """Return the answers to what was begun. None if that failed, and is to be asked anew: invariant 3 of Client."""
        within_s = share_s(left_s, len(self._servers.in_order()), without_limit_s=DEFAULT_TIMEOUT_S)
        deadline = _Deadline(begun.address, within_s, self.timeout)
        try:
            answers = self._call_on(begun.connection, begun.together, deadline, is_sent=True)
        except ConnectionFailed:
            self._forget(begun.address)
        except FAILURES:
            self._servers.failed(begun.address)
        else:
            self._servers.answered(begun.address)
            return answers
        return None

    def ask(self, together: Together, within_s: float | None) -> list[object]:
        """Ask any server of the partition."""
        return self._call_together(together, within_s=within_s)


class DividedClient:
    """Asks servers that have a part of the users each, and merges what they answer, as a gateway does.

    >>> client = DividedClient("/etc/online/map.toml", "shop")      # doctest: +SKIP
    >>> client.hit("theo", "/forum/1")                              # doctest: +SKIP
    >>> client.count()                                              # doctest: +SKIP
    1

    `map_file`: the map of partitions, the same file as that of the servers and gateways. `timeout` and `ca_file` are
    those of `Client`. Threads may share it, and forked children too.

    Each answer is that of all partitions as of one second. If one does not answer, the error is a PartialError that
    names it, never a smaller number.
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
        self._divided = Divided(map_file, site, partial(_OfPartition, timeout=timeout, ca_file=ca_file))

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

    def hits(self, hits: Iterable[Hit]) -> BatchResult:
        """Report many hits, as `Client.hits`. Each owner gets its part of a batch.

        When a PartialError is raised, the other owners may have taken theirs; to report all again changes nothing.
        """
        result = BatchResult(0, 0, 0, None)
        for request in verbs.batches(hits):
            result += self.call(request)
        return result

    def all_on_page(self, url: Name, limit: int = verbs.MAX_LIMIT) -> Iterator[Viewer]:
        """Iterate over everybody on a page who can be named, newest first, asking for `limit` at a time."""
        return self._all(partial(verbs.page, url, limit))

    def all_recent(self, limit: int = verbs.MAX_LIMIT) -> Iterator[Session]:
        """Iterate over everybody on the site who can be named, newest first, asking for `limit` at a time."""
        return self._all(partial(verbs.recent, limit))

    def all_users(self, prefix: Name = "", limit: int = verbs.MAX_LIMIT) -> Iterator[Session]:
        """Iterate over everybody on the site whose name begins with `prefix`, by name."""
        return self._all(partial(verbs.users, prefix, limit))

    def _all(self, part_after: Callable[[str | None], Request[Part[T]]]) -> Iterator[T]:
        part = self.call(part_after(None))
        yield from part.users
        while part.cursor is not None:
            part = self.call(part_after(part.cursor))
            yield from part.users

    def call(self, request: Request[T]) -> T:
        """Send a request made by one of the functions of `online_client.verbs` and return its answer."""
        owners = self._divided.owners
        try:
            return self._call(request)
        except PartialError:
            is_newer, retired = self._divided.renewed(owners)
            for client in retired:
                client.close()
            if not is_newer:
                raise
        return self._call(request)

    def _call(self, request: Request[T]) -> T:
        until_s = None if self.timeout is None else time.monotonic() + self.timeout
        question, clients = self._divided.asking(request)
        try:
            wanted = next(question)
            while True:
                wanted = question.send(_asked(clients, wanted, until_s))
        except StopIteration as end:
            return request.read(end.value, time.time_ns() // 1_000_000)

    def close(self) -> None:
        """Close the connections that are kept, and keep no more."""
        for client in self._divided.close():
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._divided.path} {self._divided.site}>"


def _asked(clients: list[_OfPartition], wanted: Round, until_s: float | None) -> Found:
    """Ask all, and return what they answered, by place, or why they did not."""
    found: dict[int, list[object] | OnlineError] = {}
    begun = {place: clients[place].begin(together) for place, together in wanted.items()}
    waiting = [(place, each) for place, each in begun.items() if each is not None]
    try:
        while waiting:
            place, each = waiting.pop()
            left_s = None if until_s is None else max(until_s - time.monotonic(), GRACE_S)
            try:
                answers = clients[place].end(each, left_s)
                if answers is not None:
                    found[place] = answers
            except OnlineError as error:
                found[place] = error
    finally:
        for _, each in waiting:
            each.connection.close()
    lacking = [place for place in wanted if place not in found]
    for nth, place in enumerate(lacking):
        left_s = None if until_s is None else max(until_s - time.monotonic(), GRACE_S) / (len(lacking) - nth)
        try:
            found[place] = clients[place].ask(wanted[place], left_s)
        except OnlineError as error:
            found[place] = error
    return found
