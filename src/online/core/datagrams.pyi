"""Datagrams that were received together. See ext/datagrams.pyx."""

from collections.abc import Callable
from typing import final

@final
class Datagrams:
    """Room for up to 64 datagrams of 64 KiB, and those that were received last."""

    #: How many of the last came from who may not send.
    @property
    def foreign(self) -> int: ...
    #: How many the socket has dropped so far, modulo 2**32, as Linux has told last.
    @property
    def dropped(self) -> int: ...
    def __init__(self, may_send: Callable[[bytes], bool] | None = None) -> None:
        """`may_send` is asked for the address of a sender, 4 or 16 bytes; its answers are kept. None: all may."""

    def receive(self, fd: int, *, one_by_one: bool = False) -> bool:
        """Receive what waits at a socket, in place of what was held; tell if more may be waiting. Never blocks.

        `one_by_one`: by a call each, as where the system has no call for many. Raises OSError.
        """

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> bytes: ...
