"""The blocking client: sockets around `Protocol`. What a verb sends and answers is not said here (verbs.py).

1. A call holds a connection of its own from first to last byte; none is shared while in use. So threads do
   not wait for each other, which they would with one connection and a lock: one slow answer would use up
   everybody's time. At most MAX_KEPT connections are kept between calls, the one used last is used next.
2. A connection is kept only after a complete answer. After a timeout or a broken call it is closed.
3. A call that finds its kept connection broken (the server was restarted, a firewall forgot it) is sent once
   more, on a new connection. That is safe whether or not the first was carried out: a verb asks, or repeats
   without a change, and a hit or leave without a time means now both times.
4. In a forked child all connections are forgotten: they belong to the parent.
"""

import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar
from typing import Protocol as Shape

from online_client import verbs
from online_client.address import Address, parse_addresses
from online_client.errors import (
    ConnectionFailed,
    LoadingError,
    OnlineError,
    ServerError,
    cannot_connect,
    closed,
    lost,
    lost_unanswered,
    too_late,
)
from online_client.forks import notice_fork, tell_after_fork
from online_client.options import check_timeout
from online_client.protocol import Protocol, Response, Together
from online_client.replies import BatchResult, Session, State, Viewer
from online_client.servers import FAILURES, Servers, share_s
from online_client.verbs import Hit, Name, Request

if TYPE_CHECKING:
    import ssl

DEFAULT_TIMEOUT_S = 1.0

#: Connections kept between calls: enough for the threads of one web worker.
MAX_KEPT = 8

#: How long a watched connection is silent before it is asked whether it is still there.
SILENCE_S = 20.0

#: How long `watch` waits before it makes a connection again, at first and at most.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0

_RECEIVE_BYTES = 64 * 1024

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Part(Shape[T_co]):
    """A part of a list: `Page` and `Listing`."""

    @property
    def users(self) -> tuple[T_co, ...]: ...
    @property
    def cursor(self) -> str | None: ...


def _verb(build: Callable[P, Request[T]]) -> "Callable[Concatenate[Client, P], T]":
    """Make the method of a verb: build the request, get the answer."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(build(*args, **kwargs))

    return verbs.as_method(method, build)


class Client:
    """Asks a server. Threads may share it, and forked children too.

    >>> client = Client("online://127.0.0.1:8989/default")    # doctest: +SKIP
    >>> client.hit("theo", "/forum/1")                        # doctest: +SKIP
    >>> client.page("/forum/1").here                          # doctest: +SKIP
    1

    `url`: see address.py; it may name several servers (servers.py says which is asked). Left out, it is ONLINE_URL or
    online://127.0.0.1:8989/default. `timeout`: seconds
    that a call may take, connecting included (looking up a host name apart); None waits for ever. `ca_file`:
    certificates to trust, instead of the url's `ca`.

    Nothing is opened before the first call. Every method raises ConnectionFailed, Timeout, ProtocolError, or
    the ServerError that the server answered; the constructor raises AddressError, and TypeError or ValueError for
    options that no client can have.
    """

    def __init__(
        self, url: str | None = None, *, timeout: float | None = DEFAULT_TIMEOUT_S, ca_file: str | None = None
    ) -> None:
        check_timeout(timeout)
        self._servers = Servers(parse_addresses(url, ca_file=ca_file))
        self.address = self._servers.addresses[0]
        self.timeout = timeout
        self._tls = self.address.tls_context()
        self._lock = Lock()
        self._kept: dict[Address, list[_Connection]] = {}
        self._keeps = True
        tell_after_fork(self)

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

    def hits(self, hits: Iterable[Hit]) -> BatchResult:
        """Report many hits, tuples `(user, url[, seen_ms[, kind]])` or dicts of these, in as few messages as may be.

        Each hit stands for itself: bad ones are refused and counted. What cannot be a hit at all is a TypeError, and
        hits before it may have been sent. `timeout` holds for each message. When
        an error is raised, what was sent before it stays reported; to report all of it again changes nothing.
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

    def watch(self, *channels: Name) -> Iterator[State]:
        """Iterate over the states of channels: at first all, then each that has changed, for ever.

        >>> for state in client.watch("count", "page:/forum/1"):          # doctest: +SKIP
        ...     print(state.channel, state.value)

        `channels`: count, top, page:URL, section:PREFIX, user:NAME. When the connection breaks it is made again, to
        any of the servers, and all states come anew; it is found broken within half a minute. States that came while
        nobody asked for the next are skipped by the server. Raises what a call raises if that fails at first, or if a
        server refuses.
        """
        return self._watch(verbs.subscribe(*channels))

    def _watch(self, request: Request[int]) -> Iterator[State]:
        connection, address = self._subscribed(request)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                for params in connection.told(_Deadline(address, None), self.timeout):
                    yield verbs.state(params, time.time_ns() // 1_000_000)
                    pause_s = FIRST_PAUSE_S
            except FAILURES:
                self._servers.failed(address)
            finally:
                connection.close()
            while True:
                time.sleep(random.uniform(0.5, 1.0) * pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                try:
                    connection, address = self._subscribed(request)
                    break
                except FAILURES:
                    continue

    def _subscribed(self, request: Request[int]) -> "tuple[_Connection, Address]":
        """Return a connection that is told of channels, to the first server that can be reached."""

        def subscribe(address: Address, deadline: _Deadline) -> "tuple[_Connection, Address]":
            connection = self._connect(deadline)
            try:
                connection.call(request, deadline)
            except BaseException:
                connection.close()
                raise
            return connection, address

        return self._at_first(subscribe)

    def _all(self, part_after: Callable[[str | None], Request[Part[T]]]) -> Iterator[T]:
        part = self.call(part_after(None))
        yield from part.users
        while part.cursor is not None:
            part = self.call(part_after(part.cursor))
            yield from part.users

    def call(self, request: Request[T]) -> T:
        """Send a request made by one of the functions of `online_client.verbs` and return its answer."""
        [answer] = self._call_together(Together((request,)))
        if isinstance(answer, ServerError):
            raise answer
        return answer  # type: ignore[return-value]  # it is the answer to this request

    def _call_together(self, together: Together, *, within_s: float | None = None) -> list[object]:
        """Send requests at once, on one connection, and return their answers: values, or ServerErrors.

        `within_s`: how long that may take, if it is not `timeout`.
        """
        return self._at_first(lambda address, deadline: self._call_at(address, together, deadline), within_s)

    def _at_first(self, action: "Callable[[Address, _Deadline], T]", within_s: float | None = None) -> T:
        """Do something at the first server that can be reached, within the time for a call."""
        notice_fork()
        deadline = _Deadline(self.address, within_s or self.timeout)
        tried: list[Address] = []
        while True:
            waiting = [each for each in self._servers.in_order() if each not in tried]
            address = waiting[0]
            try:
                if self._servers.is_unsure(address):
                    self._servers.found(address, _hosts_of(address))
                    continue
                left_s = share_s(deadline.left_s(), len(waiting), without_limit_s=DEFAULT_TIMEOUT_S)
                answer = action(address, _Deadline(address, left_s, self.timeout))
            except FAILURES:
                self._servers.failed(address)
                tried.append(address)
                if not set(self._servers.in_order()) - set(tried):
                    raise
                continue
            self._servers.answered(address)
            return answer

    def _call_at(self, address: Address, together: Together, deadline: "_Deadline") -> list[object]:
        connection = self._take(address)
        if connection is not None:
            try:
                return self._call_on(connection, together, deadline)
            except ConnectionFailed:  # invariant 3
                self._forget(address)
        return self._call_on(self._connect(deadline), together, deadline)

    def close(self) -> None:
        """Close the connections that are kept, and keep no more."""
        self._keeps = False
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def after_fork(self) -> None:
        """Forget the parent's connections. Closing them here leaves them open there."""
        self._lock = Lock()
        self._forget()

    def _call_on(
        self, connection: "_Connection", together: Together, deadline: "_Deadline", *, is_sent: bool = False
    ) -> list[object]:
        keep = False
        try:
            if not is_sent:
                connection.send(together, deadline)
            answers = connection.answers(together, deadline)
            keep = True
            return answers
        except LoadingError:
            keep = True
            raise
        finally:
            if keep:
                self._keep(deadline.address, connection)
            else:
                connection.close()

    def _connect(self, deadline: "_Deadline") -> "_Connection":
        with _as_our_errors(deadline, cannot_connect):
            connection = _Connection(_open(deadline.address, self._tls, deadline))
        try:
            for greeting in verbs.greetings(deadline.address):
                connection.call(greeting, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take(self, address: Address) -> "_Connection | None":
        with self._lock:
            kept = self._kept.get(address)
            return kept.pop() if kept else None

    def _keep(self, address: Address, connection: "_Connection") -> None:
        with self._lock:
            kept = self._kept.setdefault(address, [])
            keep = self._keeps and len(kept) < MAX_KEPT
            if keep:
                kept.append(connection)
        if not keep:
            connection.close()

    def _forget(self, address: Address | None = None) -> None:
        """Close what is kept to a server, or to all."""
        with self._lock:
            which = list(self._kept) if address is None else [address]
            kept = [connection for each in which for connection in self._kept.pop(each, [])]
        for connection in kept:
            connection.close()


class _Deadline:
    """The end of the time that a call may take."""

    def __init__(self, address: Address, timeout_s: float | None, told_s: float | None = None) -> None:
        """`told_s`: what a message says of the time; it is shared by the servers that are tried."""
        self.address = address
        self.timeout_s = told_s or timeout_s
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Return the seconds left, None for ever. Raises Timeout if none are."""
        if self._end_s is None:
            return None
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise self.error()
        return left_s

    def error(self) -> OnlineError:
        return too_late(self.address, self.timeout_s)


class _Connection:
    """A socket and the conversation on it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._protocol = Protocol()
        self._has_answered = False

    def call(self, request: Request[Any], deadline: _Deadline) -> None:
        """Ask one thing, of which only matters that it is not refused."""
        together = Together((request,))
        self.send(together, deadline)
        [answer] = self.answers(together, deadline)
        if isinstance(answer, ServerError):
            raise answer

    def send(self, together: Together, deadline: _Deadline) -> None:
        with _as_our_errors(deadline, lost):
            self._socket.settimeout(deadline.left_s())
            self._socket.sendall(b"".join(map(self._protocol.send, together.requests)))

    def answers(self, together: Together, deadline: _Deadline) -> list[object]:
        responses: list[Response] = []
        with _as_our_errors(deadline, lost):
            while len(responses) < len(together.requests):
                responses += self._responses(deadline)
        return together.answers(responses, time.time_ns() // 1_000_000)

    def _responses(self, deadline: _Deadline) -> list[Response]:
        self._socket.settimeout(deadline.left_s())
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise (lost if self._has_answered else lost_unanswered)(deadline.address)
        self._has_answered = True
        try:
            return self._protocol.receive(data)
        except ServerError as error:  # not an answer, see protocol.py
            raise closed(deadline.address, error) from error

    def told(self, forever: _Deadline, timeout_s: float | None) -> Iterator[object]:
        """Yield what it is told of. Raises ConnectionFailed, or Timeout if it is silent and does not answer a ping."""
        deadline = None  # of the answer to a ping
        while True:
            while self._protocol.told:
                yield self._protocol.told.popleft()
            with _as_our_errors(deadline or forever, lost):
                self._socket.settimeout(deadline.left_s() if deadline else SILENCE_S)
                try:
                    data = self._socket.recv(_RECEIVE_BYTES)
                except TimeoutError:
                    if deadline is not None:
                        raise
                    deadline = _Deadline(forever.address, timeout_s or SILENCE_S)
                    self._socket.sendall(self._protocol.send(verbs.ping()))
                    continue
            deadline = None
            if not data:
                raise lost(forever.address)
            try:
                self._protocol.receive(data)
            except ServerError as error:
                raise closed(forever.address, error) from error

    def close(self) -> None:
        self._socket.close()


def _open(address: Address, tls: "ssl.SSLContext | None", deadline: _Deadline) -> socket.socket:
    if address.path:
        return _connected(socket.AF_UNIX, socket.SOCK_STREAM, address.path, deadline)
    sock = _open_tcp(address, deadline)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    sock.settimeout(deadline.left_s())
    return tls.wrap_socket(sock, server_hostname=address.host)  # closes `sock` if it fails


def _open_tcp(address: Address, deadline: _Deadline) -> socket.socket:
    found = socket.getaddrinfo(address.at or address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, _, _, where = found[0]
    return _connected(family, kind, where, deadline)


def _hosts_of(address: Address) -> list[str]:
    """Look up a server's name. Raises ConnectionFailed if it cannot be, and nothing is known of it."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        if address.at:
            return []
        raise cannot_connect(address, error.strerror or error) from error
    return [str(where[0]) for *_, where in found]


def _connected(family: int, kind: int, where: Any, deadline: _Deadline) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.settimeout(deadline.left_s())
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def _as_our_errors(deadline: _Deadline, word: Callable[[object, object], OnlineError]) -> Iterator[None]:
    """Turn errors of the system into ours; `word` finds the words for one."""
    try:
        yield
    except OnlineError:
        raise
    except TimeoutError as error:
        raise deadline.error() from error
    except OSError as error:
        raise word(deadline.address, error.strerror or error) from error
