"""A connection to the first healthy server of a partition, for one site: requests go out, and answers come in order.

Not its job: what is asked (merging), and to put the answers of several partitions together (asking).

All that is asked in a turn leaves in one write. If some of that was asked of several partitions, the question what time
it is there follows. TIME with a time makes it at least that in the server's index. Online has the grain of a second, so
answers between two times of one second are of that second. There is a task for each line and one for what it writes,
none for a question, and one deadline: that of the answer which is due first.

Invariants:
1. `_waiting` holds all requests whose askers were not told, in the order in which they are sent; the first of them may
   have results in `_held`, which wait for the time.
2. A request is answered once: by a server, or by AwayError within ANSWER_S of being asked.
3. When a connection breaks, all that waits is sent to the next server, from the first on. Every request may be carried
   out twice: hits and leaves, too, since the newest wins.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import msgpack
import trio

from online.core.merge import Answers
from online.errors import LoadingError, OnlineError, RangeError
from online.gateway.health import Health
from online_client.address import Address
from online_client.verbs import greetings

#: How long a partition may take for an answer, with all of its servers.
ANSWER_S = 2.0

#: Of what a server sends at once.
RECEIVE_BYTES = 256 * 1024

#: Of four items, the first of which is 0, and then a number of one byte: a batch that a client may just send fits, too.
_REQUEST = b"\x94\x00"

#: Numbers of requests go up to here: they tell answers from those of another, and one that is taken for the time.
MOST_MSGID = 127

_TIME = _REQUEST + bytes(1) + msgpack.packb("TIME") + b"\x91"  # numbers of questions begin with 1


class AwayError(Exception):
    """No server of a partition answers."""


class Relayed(OnlineError):
    """An error with which a server has answered."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Asker(Protocol):
    """Who waits for an answer."""

    def answered(self, place: int, result: bytes, since_s: int, until_s: int) -> None:
        """Take a result, as it was packed. It is of a second from `since_s` to `until_s`, if `is_shared`."""

    def failed(self, place: int, error: Exception) -> None:
        """Take the error of the server, or AwayError."""


class Line:
    """See above."""

    def __init__(self, place: int, site: str, health: Health, tls: Any, second: Callable[[], int]) -> None:
        """Open nothing yet. `second` tells of which second answers should be, or later.

        `health` and `tls`, the `tls_context` of the servers, are those of all lines to the partition.
        """
        self._place = place
        self._site = site
        self._second = second
        self._health = health
        self._server: Address | None = None  #: that is asked
        self._tls = tls
        self._share_s = ANSWER_S / len(health.servers)
        self._waiting: deque[tuple[int, bytes, bool, Asker, float]] = deque()  #: msgid, body, ..., and until when
        self._held: list[bytes | OnlineError] = []
        self._told_s = 0  #: what time it was there, as was told last
        self._out: list[bytes] = []
        self._is_time_wanted = False  #: of what is in `_out`
        self._due = trio.CancelScope()
        self._asked = trio.Event()
        self._written = trio.Event()
        self._has_answered = False
        self._open = trio.CancelScope()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._waiting

    def close(self) -> None:
        """Let `run` end, and its connection. Nobody may wait for an answer, and nobody may ask any more."""
        self._open.cancel()

    def ask(self, msgid: int, body: bytes, asker: Asker, *, is_shared: bool) -> None:
        """Send a request soon: `body` is the verb and its arguments, packed. `is_shared`: its time matters."""
        now_s = trio.current_time()
        if not self._waiting:
            self._asked.set()
            self._due.deadline = now_s + self._share_s
            if self._server not in (None, self._health.first()):  # it failed, or one before it may be well again
                self._due.cancel()
        self._waiting.append((msgid, body, is_shared, asker, now_s + ANSWER_S))
        self._send(msgid, body, is_shared)

    def _send(self, msgid: int, body: bytes, is_shared: bool) -> None:
        if not self._out:
            self._written.set()
        self._is_time_wanted |= is_shared
        self._out.append(_REQUEST + bytes((msgid,)) + body)

    async def run(self) -> None:
        """Connect when there is something to ask, until `close` is called."""
        with self._open:
            while True:
                if not self._waiting:
                    self._asked = trio.Event()
                    await self._asked.wait()
                await self._ask_servers()

    async def _ask_servers(self) -> None:
        """Let one server after the other answer what waits, until nothing does or none is left."""
        n_servers = len(self._health.servers)
        tries_left = n_servers + 1  # once more where a connection was kept, and is broken
        while self._waiting and tries_left:
            server = self._server = self._health.first()
            self._has_answered = False
            reason = await self._talk(replace(server, site=self._site))
            self._server = None
            if self._waiting:
                self._health.failed(server, reason)
                self._give_up(trio.current_time(), reason)
            tries_left = n_servers if self._has_answered else tries_left - 1
        self._give_up(float("inf"), reason)

    def _due_s(self) -> float:
        """Return until when a server has to have answered something."""
        return min(trio.current_time() + self._share_s, self._waiting[0][4]) if self._waiting else float("inf")

    def _give_up(self, now_s: float, reason: str) -> None:
        """Let those fail whose time is over."""
        while self._waiting and self._waiting[0][4] <= now_s:
            _, _, _, asker, _ = self._waiting.popleft()
            asker.failed(self._place, AwayError(reason))

    async def _talk(self, address: Address) -> str:
        """Send what waits, and what comes, and take the answers, until nothing more is to be expected; say why."""
        reason = f"{address} did not answer within {self._share_s:g} s"
        with trio.CancelScope(deadline=self._due_s()) as self._due:
            try:
                stream = await self._connect(address)
            except (OSError, trio.BrokenResourceError) as error:
                return f"cannot connect to {address}: {_words(error)}"
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, stream, address)
                    reason = await self._read(stream, address)
                    nursery.cancel_scope.cancel()
            finally:
                await trio.aclose_forcefully(stream)
        return reason

    async def _connect(self, address: Address) -> trio.abc.Stream:
        if self._tls is None:
            return await trio.open_tcp_stream(address.host, address.port)
        stream = await trio.open_ssl_over_tcp_stream(
            address.host, address.port, ssl_context=self._tls, https_compatible=True
        )
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def _write(self, stream: trio.abc.Stream, address: Address) -> None:
        """Send the token, the site and the map, and then all that waits."""
        self._out.clear()
        self._held.clear()
        self._told_s = 0
        for hello in greetings(address):
            self._out.append(_REQUEST + bytes(1) + msgpack.packb(hello.verb) + hello.params)
        n_greetings = len(self._out)
        for msgid, body, is_shared, *_ in self._waiting:
            self._send(msgid, body, is_shared)
        try:
            while True:
                if not self._out:
                    self._written = trio.Event()
                    await self._written.wait()
                if self._is_time_wanted:
                    self._add_times(n_greetings)
                n_greetings = 0
                data = b"".join(self._out)
                self._out.clear()
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass  # whoever reads is told why

    def _add_times(self, n_greetings: int) -> None:
        """Ask for the time after all that is in `_out`, and before it if the second is another than was told last."""
        self._is_time_wanted = False
        second = self._second()
        time = _TIME + msgpack.packb(second * 1000)
        if self._told_s < second:
            self._out.insert(n_greetings, time)
        self._out.append(time)

    async def _read(self, stream: trio.abc.Stream, address: Address) -> str:
        """Give answers to who waits for them, until there are no more to be expected; say why."""
        answers = Answers()
        n_greetings = len([*greetings(address)])  # that are not answered yet
        while True:
            try:
                data = bytes(await stream.receive_some(RECEIVE_BYTES))
            except (OSError, trio.BrokenResourceError) as error:
                return f"the connection to {address} broke: {_words(error)}"
            if not data:
                return f"the connection to {address} broke: the server closed it"
            try:
                for msgid, wrong, result in answers.take(data):
                    refusal = None if wrong is None else _error(wrong)
                    if isinstance(refusal, LoadingError) or (refusal is not None and n_greetings):
                        return f"{address}: {refusal.code} {refusal}"
                    if n_greetings:
                        n_greetings -= 1
                    elif msgid == 0:
                        self._take_time(refusal, result, address)
                    else:
                        self._settle(msgid, refusal or result)
            except (ValueError, TypeError, LookupError):
                return f"{address} is no online server: it answered {data[:64].decode('latin-1')!a}"
            self._due.deadline = self._due_s()

    def _settle(self, msgid: int | None, result: bytes | OnlineError) -> None:
        """Answer who has waited longest, or let it wait for the time. Raises ValueError if it is not that answer."""
        nth = len(self._held)
        if nth >= len(self._waiting) or self._waiting[nth][0] != msgid:
            raise ValueError
        if not self._has_answered and self._server is not None:
            self._has_answered = True
            self._health.answered(self._server)
        self._held.append(result)
        if nth == 0 and not self._waiting[0][2]:
            self._let_go(0)

    def _let_go(self, until_s: int) -> None:
        """Tell those whose results were held that they are of a second up to `until_s`."""
        held = self._held.copy()
        self._held.clear()
        for result in held:
            _, _, _, asker, _ = self._waiting.popleft()
            if isinstance(result, bytes):
                asker.answered(self._place, result, self._told_s, until_s)
            else:
                asker.failed(self._place, result)

    def _take_time(self, refusal: OnlineError | None, result: bytes, address: Address) -> None:
        """Take the time of the server, which is that of all that it has answered since it told it last."""
        if refusal is None:
            second = int(msgpack.unpackb(result)[0])
            self._let_go(second)
            self._told_s = second
            return
        for _ in self._held.copy():
            _, _, _, asker, _ = self._waiting.popleft()
            asker.failed(self._place, AwayError(f"{address} does not take the time: {refusal}"))
        self._held.clear()


def _error(packed: bytes) -> OnlineError:
    """Return the error that a server has answered. Raises ValueError if it is none."""
    match msgpack.unpackb(packed, unicode_errors="surrogateescape"):
        case [RangeError.code, str(message)]:
            return RangeError(message)
        case [LoadingError.code, str(message)]:
            return LoadingError(message)
        case [str(code), str(message)]:
            return Relayed(code, message)
    raise ValueError("no error of a server")


def _words(error: BaseException) -> object:
    """Return the system's words for a failure: Trio's own say little, and name as their cause what does."""
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[-1]
    return cause or str(error) or type(error).__name__
