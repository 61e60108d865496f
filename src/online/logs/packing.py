"""What a log is packed with, by its first bytes, and its bytes again.

Not here: files (hitlog, follow), and lines (lines).

1. Memory is bounded: logs are unpacked piece by piece, whatever they hold.
2. All that can be read before damage is yielded before it is raised.
3. A log that cannot be read is refused once, with the way to read it, and never taken for lines.
"""

import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

#: So many bytes tell what a log is packed with.
MAGIC_BYTES = 16

_PIECE_BYTES = 128 * 1024

#: What `xz -9` wants, twice; more is a bomb.
_XZ_MEMORY_BYTES = 128 * 1024 * 1024

_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),  # of a file with content, and of an empty one
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "UTF-16": re.compile(rb"\xff\xfe|\xfe\xff"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
    "zip": re.compile(rb"PK\x03\x04"),
    "compress": re.compile(rb"\x1f\x9d"),
    "lzip": re.compile(rb"LZIP"),
}

#: What writes each that is not read here as it was.
_PROGRAMS = {"zstd": "zstd -dc", "lz4": "lz4 -dc", "zip": "unzip -p", "compress": "zcat", "lzip": "lzip -dc"}


class Damage(Exception):
    """What is packed is damaged, or ends early; what was yielded before is whole."""


class Unpackable(Exception):
    """What is packed in a way that is not read here; the message says what reads it."""


def packed_with(head: bytes) -> str:
    """Return the name of what begins so: of a program, `UTF-16`, or "" for plain lines."""
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), "")


def way_to_read(name: str) -> str:
    """Tell how to read what is packed with a program whose work is not read here; "" if it is."""
    return f"unpack it first: {_PROGRAMS[name]} FILE | online ... -" if name in _PROGRAMS else ""


def unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass plain bytes on, and unpack others, in pieces of bounded size. Raises Damage and Unpackable."""
    head = b""
    while len(head) < MAGIC_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    name = packed_with(head)
    if name in _PROGRAMS:
        raise Unpackable(f"is packed with {name}; {way_to_read(name)}")
    yield from _UNPACK[name](chain([head], chunks)) if name else chain([head], chunks)


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    for chunk in chunks:
        while chunk:
            if member is None:
                chunk = chunk.lstrip(b"\0")  # archives may be padded with zeros
                member = zlib.decompressobj(zlib.MAX_WBITS | 16) if chunk else None
                continue
            yield from _gzip_piece(member, chunk)
            chunk = member.unconsumed_tail or member.unused_data
            if member.eof:
                member = None
    if member is not None:
        yield member.flush()
        raise Damage("the gzip data ends early")


def _gzip_piece(member: "zlib._Decompress", chunk: bytes) -> Iterator[bytes]:
    """Inflate some of `chunk`. zlib gives nothing of a piece with damage in it: go again, byte by byte."""
    before = member.copy()
    try:
        yield member.decompress(chunk, _PIECE_BYTES)
    except zlib.error as error:
        try:
            for start in range(len(chunk)):
                yield before.decompress(chunk[start : start + 1])
        except zlib.error:
            raise Damage(str(error)) from None


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def _decompressed(make: Callable[[], _Decompressor], name: str) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Make what unpacks any number of streams, one after the other."""

    def decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
        stream: _Decompressor | None = None
        for chunk in chunks:
            while chunk or (stream is not None and not stream.needs_input):
                stream = stream or make()
                try:
                    yield stream.decompress(chunk, _PIECE_BYTES)
                except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
                    raise Damage(str(error)) from None
                chunk = b""
                if stream.eof:
                    chunk, stream = stream.unused_data.lstrip(b"\0"), None
        if stream is not None:
            raise Damage(f"the {name} data ends early")

    return decompressed


def _from_utf_16(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


_UNPACK = {
    "gzip": _gunzipped,
    "bzip2": _decompressed(bz2.BZ2Decompressor, "bzip2"),
    "xz": _decompressed(lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES), "xz"),
    "UTF-16": _from_utf_16,
}
