"""What was answered, and whether to ask: the memory of a Presence. Opens nothing and never waits.

Not its job: asking (presence), and what is asked (questions).

1. After a failure nobody asks until a pause is over: FIRST_PAUSE_S, doubling to LONGEST_PAUSE_S. Then one asks, and
   the others go on as if the pause lasted until it was answered.
2. An answer is fresh for `fresh_s`; until then nobody asks the same again, unless somebody lets it expire. While one
   asks, others take what is known.
3. What cannot be asked is answered with the last known answer, for KNOWN_S, and then with None.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, TypeAlias

from online_client import verbs
from online_client.errors import OnlineError, RangeError
from online_client.forks import notice_fork, tell_after_fork
from online_client.members import Members
from online_client.verbs import Request

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0

#: The server's window unless configured: whoever was online longer ago is not.
KNOWN_S = 1_800.0

#: Answers that are kept, those used last: with 30 users each, some 10 MB. Of members alone no more are kept than shown.
MAX_KNOWN = 1_000

Question: TypeAlias = Request[Any]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answer:
    value: Any
    since_s: float
    due_s: float  #: when to ask again


class Answers:
    """The answers of one process."""

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
        notice_fork()
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
            if isinstance(question.read, Members) and error.message.startswith("limit "):
                self.most = max(1, self.most // 2)
            self.learn(question, None, monotonic())
        except OnlineError as error:
            pause_s = self.fail(monotonic())
            logger.warning("%s; retrying in %g s", error, pause_s)

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
