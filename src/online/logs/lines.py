"""Pieces of a log -> lines, of bounded length.

Not here: where pieces come from (hitlog, follow), and packed ones (packing).

1. A line comes once its newline has. Of one that is too long no more is kept than shows that it is.
2. The mark of UTF-8 at the beginning is no part of a line, nor are zeros before it: `copytruncate` leaves them where
   a server goes on writing at its old place.
"""

#: A line beyond this is skipped. Apache and nginx take request lines of 8 KiB unless told otherwise.
MAX_LINE_BYTES = 64 * 1024

_BOM = b"\xef\xbb\xbf"


class Lines:
    """Cuts pieces of a log into lines without their newlines."""

    def __init__(self, *, is_begun: bool = False) -> None:
        """`is_begun`: the first piece is not the log's first."""
        self._rest = b""
        self._is_begun = is_begun

    def take(self, piece: bytes) -> list[bytes]:
        """Return the lines that a piece ends. O(length)."""
        text = self._rest + piece
        lines = text.split(b"\n")
        rest = lines.pop()
        if b"\0" in text:
            lines = [line.lstrip(b"\0") for line in lines]
            rest = rest.lstrip(b"\0")
        if lines and not self._is_begun:
            lines[0] = lines[0].removeprefix(_BOM)
            self._is_begun = True
        self._rest = rest[: MAX_LINE_BYTES + 1]
        return lines

    def last(self) -> list[bytes]:
        """Return what no newline has ended, when nothing more comes."""
        rest, self._rest = self._rest, b""
        rest = rest if self._is_begun else rest.removeprefix(_BOM)
        self._is_begun = True
        return [rest] if rest else []
