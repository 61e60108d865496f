"""A question on its way: its requests go to partitions, and when all have answered it goes on, or ends.

Not its job: connections (lines), and what the requests are (merging).

Invariants:
1. All requests of a round leave at once; the next round begins when the last answer of this one has come.
2. All answers of a round that asks are of one second: if it changes meanwhile, or clocks differ, all are asked again.
3. The reply is that of all, or an error: PARTIAL if somebody is away, else that of the first partition that refused.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from online.errors import OnlineError, PartialError
from online.gateway.lines import AwayError
from online.gateway.merging import OfDefault, Question
from online.gateway.partitions import Partitions

#: How often a round is begun, since a second may end while it is under way.
MOST_TRIES = 8


class Reply(Future[object]):
    """A reply that one thread gives and takes: without the lock of a Future, which took 6 % of a question's time."""

    def __init__(self) -> None:
        """Begin without a result."""
        self._given: object = None
        self._error: BaseException | None = None
        self._is_done = False
        self._told: list[Callable[[Future[object]], object]] = []

    def __repr__(self) -> str:
        return f"<Reply: {self._error or self._given!r}>" if self._is_done else "<Reply: none yet>"

    def done(self) -> bool:
        """Return whether there is a result, or an error."""
        return self._is_done

    def result(self, timeout: float | None = None) -> object:
        """Return the result, or raise the error. Raises TimeoutError if neither has come: nobody can wait here."""
        if not self._is_done:
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._given

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error that has come, if it is one."""
        return self._error

    def add_done_callback(self, fn: Callable[[Future[object]], object]) -> None:
        """Call `fn` when this is done."""
        if self._is_done:
            fn(self)
        else:
            self._told.append(fn)

    def set_result(self, result: object) -> None:
        """Be done."""
        self._given = result
        self._end()

    def set_exception(self, exception: BaseException | None) -> None:
        """Be done, with an error."""
        self._error = exception
        self._end()

    def _end(self) -> None:
        self._is_done = True
        for fn in self._told:
            fn(self)
        self._told.clear()


class Asking:
    """See above."""

    __slots__ = (
        "_answers", "_bodies", "_left", "_partitions", "_question", "_reply", "_seconds", "_site", "_tries", "_writes",
        "_wrong",
    )

    def __init__(self, partitions: Partitions, site: bytes, question: Question, *, writes: bool = False) -> None:
        """`writes`: answers need not be of one moment."""
        self._writes = writes
        self._partitions = partitions
        self._site = site
        self._question = question
        self._reply = Reply()
        self._bodies: Mapping[int, bytes] = {}
        self._tries = 0
        self._seconds: set[int] = set()
        self._answers: dict[int, bytes] = {}
        self._wrong: dict[int, Exception] = {}
        self._left = 0

    def begin(self) -> Future[object]:
        """Ask. Return what will be the reply. Raises OnlineError for what cannot be asked."""
        try:
            self._send(next(self._question))
        except StopIteration as end:
            self._reply.set_result(end.value)
        return self._reply

    def _send(self, bodies: Mapping[int, bytes]) -> None:
        msgid = self._partitions.next_msgid()
        self._tries = self._tries + 1 if bodies is self._bodies else 1
        self._bodies = bodies
        self._answers, self._wrong, self._seconds = {}, {}, set()
        self._left = len(bodies)
        is_shared = self._is_shared()
        lines = self._partitions.lines(b"default" if isinstance(bodies, OfDefault) else self._site)
        for place, body in bodies.items():
            lines[place].ask(msgid, body, self, is_shared=is_shared)

    def _is_shared(self) -> bool:
        """Whether all answers of this round are to be of one second."""
        return len(self._bodies) > 1 and not self._writes

    def answered(self, place: int, result: bytes, since_s: int, until_s: int) -> None:
        """Take the answer of a partition, and of which second it is."""
        self._answers[place] = result
        self._seconds.add(since_s)
        self._seconds.add(until_s)
        self._left -= 1
        if not self._left:
            self._go_on()

    def failed(self, place: int, error: Exception) -> None:
        """Take the error of a partition."""
        self._wrong[place] = error
        self._left -= 1
        if not self._left:
            self._go_on()

    def _go_on(self) -> None:
        try:
            if self._wrong:
                self._send(self._question.throw(self._error()))
            elif len(self._seconds) > 1 and self._is_shared():
                self._ask_again()
            else:
                self._send(self._question.send(self._answers))
        except StopIteration as end:
            self._reply.set_result(end.value)
        except OnlineError as error:
            self._reply.set_exception(error)
        except (ValueError, TypeError, LookupError) as error:
            self._reply.set_exception(PartialError(f"an answer of a partition makes no sense: {error!r}"))

    def _ask_again(self) -> None:
        """Ask for answers of the latest second that somebody was in."""
        latest_s = max(self._seconds)
        if self._tries == MOST_TRIES or not self._partitions.has_come(latest_s):
            raise PartialError(f"the clocks of partitions differ: by one it is {latest_s} s since 1970")
        self._send(self._bodies)

    def _error(self) -> Exception:
        """Return what all errors of a round add up to."""
        away = sorted(place for place, error in self._wrong.items() if isinstance(error, AwayError))
        if not away:
            return self._wrong[min(self._wrong)]
        numbers = ", ".join(str(self._partitions.numbers[place]) for place in away)
        some = f"partition{'s' * (len(away) > 1)} {numbers} of {len(self._partitions.numbers)}"
        return PartialError(f"no answer from {some}: {self._wrong[away[0]]}")
