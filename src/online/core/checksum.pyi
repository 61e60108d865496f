"""CRC-32C, the checksum of records on disk. See ext/checksum.pyx."""

def crc32c(data: bytes | bytearray | memoryview, crc: int = 0, *, by_table: bool = False) -> int:
    """Return the CRC-32C of bytes that follow those of `crc`. O(n).

    `by_table`: without the processor's instruction, for tests.
    """
