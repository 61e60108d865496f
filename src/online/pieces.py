"""Work in pieces: a generator that yields wherever it may rest, and returns its result.

Who carries it out decides when others have their turn: `serve/slices.py` for what the server does by itself,
`serve/verbs.py` for what clients ask. `whole` is for those who keep nobody waiting.
"""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Pieces = Generator[None, None, T]


def whole(pieces: Pieces[T]) -> T:
    """Carry out all of it at once, and return the result.

    >>> def three() -> Pieces[int]:
    ...     yield
    ...     return 3
    >>> whole(three())
    3
    """
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result
