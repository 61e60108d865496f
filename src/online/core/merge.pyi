"""What goes to several servers, and comes from them, as it is packed. See ext/merge.pyx."""

from collections.abc import Callable

def divide(hits: bytes, owners: tuple[int, ...]) -> tuple[dict[int, list[bytes]], list[int]]:
    """Divide hits that stand one after the other, well formed, among the owners of their users.

    `owners` are those of the slots: crc32(user) % len(owners). Returns the hits of each owner, and the owner of each
    hit. What is no hit belongs to the owner of the user b"". O(bytes).
    """

class Answers:
    """What one server sends: responses of MessagePack-RPC, cut anywhere."""

    def take(self, data: bytes) -> list[tuple[int | None, bytes | None, bytes]]:
        """Return (msgid, error, result) of each response that is whole with this; error and result as packed.

        Notifications are passed over. Raises ValueError for anything else; the rest is of no use then. O(bytes).
        """

class Listed:
    """The rows that one server has listed, in one answer or several."""

    counts: list[int]  #: the numbers before the rows, of the first answer
    cursor: bytes | None  #: where the list goes on; None: there is no more

    def __init__(self, key_at: int) -> None:
        """Begin without rows. `key_at`: the item of a row that is its time, the newest first; 0: rows go by name."""
    def __len__(self) -> int: ...
    def add(
        self, answer: bytes, begin_at: bytes, is_behind: Callable[[int | bytes, bytes], bool] | None = None
    ) -> None:
        """Add the rows of an answer, or those for whose key and user `is_behind`. Raises ValueError for no list.

        A key is the name, or minus the time: the smallest comes first. `begin_at`: the cursor that was asked with.
        O(rows).
        """
    def key(self, nth: int) -> int | bytes:
        """Return the key of a row. Raises IndexError."""
    def user(self, nth: int) -> bytes:
        """Return the user of a row. Raises IndexError."""
    def begin(self, nth: int) -> bytes:
        """Return the cursor that a row was asked for with. Raises IndexError."""

def merge(parts: list[Listed], limit: int) -> tuple[bytes, list[int]]:
    """Return the first `limit` rows of all, packed as an array, and how many of each part they are.

    Of equal keys those of the first part come first. O(limit * parts).
    """
