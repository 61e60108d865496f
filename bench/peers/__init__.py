"""What people would use instead, one file each: how to start it, and the same work in its words.

`Peer` is what each of them is. Not here: measuring. Whatever a peer can do beforehand, such as making bytes or
statements of hits, it does in `hitting` and `asking`; what these return is the work that counts, answers checked.
Nobody but us is asked to leave hits of the past alone, which we do for every hit.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, Self

from bench.workloads import Workload

#: People on the site; or the 30 newest users of a page, with what else the peer says of it in the same answer.
Question = Literal["COUNT", "PAGE"]

WINDOW_MS = 1_800_000
LISTED = 30


class Peer(AbstractContextManager[Any], Protocol):
    """A peer runs inside its `with`, empty at first. Making it skips the benchmark if its program is missing."""

    name: str
    is_server: bool  #: or it works in this process
    form: str  #: how hits go to it, in the words of the report
    n_hits: int  #: to measure with: enough for some tenths of a second, too few for minutes

    def __enter__(self) -> Self: ...
    def version(self) -> str: ...

    def cpu_ns(self) -> int:
        """The processor time it has used, without that of who asks it, if they can be told apart."""

    def hitting(self, workload: Workload, first: int, n: int) -> Callable[[], None]:
        """Make hits ready, `n` of them from `first` on; what is returned sends them and waits until they all count."""

    def asking(self, question: Question, url: bytes) -> Callable[[], None]:
        """Make a question ready; what is returned asks it once. Until the next hits the answer must not change."""

    def count(self) -> int: ...

    def seen(self, url: bytes) -> list[int]:
        """When the newest users of a page were seen, newest first."""
