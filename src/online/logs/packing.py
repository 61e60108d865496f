"""Recognises compressed logs by their first bytes, and decompresses them.

Not here: opening files (hitlog, follow), and lines (lines).

1. Memory is bounded: logs are decompressed in small pieces, whatever they contain.
2. Everything before the damage is yielded before Damage is raised.
3. A log that cannot be decompressed here is refused, with a way to read it. It is never read as lines.
"""

import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

#: How many bytes it takes to recognise a compression format.
MAGIC_BYTES = 16

_PIECE_BYTES = 128 * 1024

#: Twice what `xz -9` needs. A file that needs more is a bomb.
_XZ_MEMORY_BYTES = 128 * 1024 * 1024

_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),  # with content, and empty
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "UTF-16": re.compile(rb"\xff\xfe|\xfe\xff"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
    "zip": re.compile(rb"PK\x03\x04"),
    "compress": re.compile(rb"\x1f\x9d"),
    "lzip": re.compile(rb"LZIP"),
}

#: The program that decompresses each format that is not supported here.
_PROGRAMS = {"zstd": "zstd -dc", "lz4": "lz4 -dc", "zip": "unzip -p", "compress": "zcat", "lzip": "lzip -dc"}


class Damage(Exception):
    """The compressed data is damaged or ends early. What was yielded before is correct."""


class Unpackable(Exception):
    """The format is not supported here. The message names a program that reads it."""


def packed_with(head: bytes) -> str:
    """Return the compression format of a log that begins with `head`, or `UTF-16`; "" for plain lines."""
    return next((name for name, magic in _MAGIC.items() if magic.match(head)), "")


def way_to_read(name: str) -> str:
    """Return how to read a format that is not supported here; "" if it is supported."""
    return f"decompress it first: {_PROGRAMS[name]} FILE | online ... -" if name in _PROGRAMS else ""


def unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress `chunks` in pieces of bounded size. Plain chunks are passed on. Raises Damage and Unpackable."""
    head = b""
    while len(head) < MAGIC_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    name = packed_with(head)
    if name in _PROGRAMS:
        raise Unpackable(f"is compressed with {name}; {way_to_read(name)}")
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
    """Inflate part of `chunk`. zlib returns nothing from a damaged chunk, so that is inflated again byte by byte."""
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
    """Return a function that decompresses any number of concatenated streams."""

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
