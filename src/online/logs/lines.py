"""Chunks of a log -> lines of bounded length.

Not here: where chunks come from (hitlog, follow), and decompression (packing).

1. A line is returned once its newline has arrived. Lines that are too long are cut, and stay recognisable as too long.
2. A byte order mark at the beginning is removed, and so are zeros at the start of a line: a server that goes on
   writing at its old offset after `copytruncate` leaves them.
"""

#: Longer lines are skipped. Apache and nginx accept request lines of 8 KiB by default.
MAX_LINE_BYTES = 64 * 1024

TOO_LONG = f"longer than {MAX_LINE_BYTES:,} bytes"

_BOM = b"\xef\xbb\xbf"


class Lines:
    """Splits chunks of a log into lines without their newlines."""

    def __init__(self, *, is_begun: bool = False) -> None:
        """`is_begun`: the first chunk is not the beginning of the log."""
        self._rest = b""
        self._is_begun = is_begun

    def take(self, piece: bytes) -> list[bytes]:
        """Return the lines that end in this chunk. O(length)."""
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
        """Return the last line if it has no newline, at the end of the log."""
        rest, self._rest = self._rest, b""
        rest = rest if self._is_begun else rest.removeprefix(_BOM)
        self._is_begun = True
        return [rest] if rest else []
