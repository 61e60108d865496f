"""A question on its way: its requests go to partitions, and when all have answered it goes on, or ends.

Not its job: connections (lines), and what the requests are (merging).

Invariants:
1. All requests of a round leave at once; the next round begins when the last answer of this one has come.
2. The reply is that of all, or an error: PARTIAL if somebody is away, else that of the first partition that refused.
"""

from collections.abc import Mapping
from concurrent.futures import Future

from online.errors import OnlineError
from online.gateway.lines import AwayError
from online.gateway.merging import PartialError, Question
from online.gateway.partitions import Partitions


class Asking:
    """See above."""

    __slots__ = ("_answers", "_left", "_lines", "_partitions", "_question", "_reply", "_wrong")

    def __init__(self, partitions: Partitions, site: bytes, question: Question) -> None:
        """Raises FullError for a site that is one too many."""
        self._partitions = partitions
        self._lines = partitions.lines(site)
        self._question = question
        self._reply: Future[object] = Future()
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
        self._answers, self._wrong = {}, {}
        self._left = len(bodies)
        for place, body in bodies.items():
            self._lines[place].ask(msgid, body, self)

    def answered(self, place: int, result: bytes) -> None:
        """Take the answer of a partition."""
        self._answers[place] = result
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
            else:
                self._send(self._question.send(self._answers))
        except StopIteration as end:
            self._reply.set_result(end.value)
        except OnlineError as error:
            self._reply.set_exception(error)
        except (ValueError, TypeError, LookupError) as error:
            self._reply.set_exception(PartialError(f"an answer of a partition makes no sense: {error!r}"))

    def _error(self) -> Exception:
        """Return what all errors of a round add up to."""
        away = sorted(place for place, error in self._wrong.items() if isinstance(error, AwayError))
        if not away:
            return self._wrong[min(self._wrong)]
        numbers = ", ".join(str(self._partitions.numbers[place]) for place in away)
        some = f"partition{'s' * (len(away) > 1)} {numbers} of {len(self._partitions.numbers)}"
        return PartialError(f"no answer from {some}: {self._wrong[away[0]]}")
