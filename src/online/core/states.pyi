"""The states of channels, as JSON: what the verbs answer, as the HTTP API writes it. See ext/states.pyx."""

from online.core.index import Index

#: A JSON object without the brace at its end, and the wall time that it is of, in ms.
State = tuple[bytes, int]

def quoted(name: bytes) -> bytes:
    """Return text as JSON; bytes that are not UTF-8 as `{"base64": "..."}`."""

class States:
    """Asks indexes. Each method takes what the channel is of, and returns None if it gave up its turn: ask again.

    `step_ms`: wall time minus index time.
    """

    def count(self, index: Index, of: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return `{"people"`. O(1)."""
    def page(self, index: Index, url: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return `{"online", "here", "users", "cursor"`, with at most 30 users. O(users)."""
    def members(self, index: Index, url: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return the same with members alone: at most 30, of the 500 newest users. No cursor."""
    def here(self, index: Index, url: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return the same with no users. O(1)."""
    def user(self, index: Index, user: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return `{"users"`, with the one user and where it was seen. O(1)."""
    def section(self, index: Index, prefix: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return `{"people", "pages"`, or `{"code", "detail"` beyond max_scan. O(log n) if it was asked lately."""
    def top(self, index: Index, of: bytes, *, now_ms: int, step_ms: int) -> State | None:
        """Return `{"pages"`, at most 10. O(1) if it was asked lately."""
