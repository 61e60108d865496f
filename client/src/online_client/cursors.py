"""Where a list goes on, over all partitions, as a text. Gateways and divided clients take each other's.

Not its job: to list (merging; the server's gateway).

A cursor is good for one question: its text has a checksum of that question, too. The checksum has no secret, as
gateways share none. So whoever makes one up chooses where a list of his own begins, and nothing else.

A place is the key of the last row that was listed. Rows of the same time have no order over partitions, so it also has
a checksum of each that was listed. A partition's own cursor is where the rows behind the place are looked for first.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import blake2b

import msgpack

_pack = msgpack.Packer().pack


@dataclass
class Place:
    """Where a list goes on. Rows are listed in the order of their keys, the smallest first."""

    last: int | bytes | None = None  #: the key of the last row; None: nothing was listed yet
    listed: list[bytes] = field(default_factory=list)  #: checksums of the users with that key that were listed
    begins: dict[int, bytes | None] = field(default_factory=dict)  #: partition -> its cursor; None: it has no more

    def is_behind(self, key: int | bytes, user: bytes) -> bool:
        """Whether a row is still to be listed."""
        if key == self.last:
            return checksum(user) not in self.listed
        return self.last is None or key > self.last  # type: ignore[operator]  # keys of a list are of one type


def text_of(place: Place, question: bytes) -> bytes:
    """Return the cursor of a place in the answer to a question: all that says which list it is, packed."""
    packed: bytes = _pack([place.last, place.listed, place.begins])
    return urlsafe_b64encode(_sum(packed + question) + packed)


def place_of(cursor: bytes, question: bytes, key: type) -> Place:
    """Return the place of a cursor; b"" is the beginning. `key`: the type of the keys of the list.

    Raises ValueError if it is not, to the byte, a cursor that answered this question.
    """
    if not cursor:
        return Place()
    data = urlsafe_b64decode(cursor)
    if data[:8] != _sum(data[8:] + question) or urlsafe_b64encode(data) != cursor:
        raise ValueError
    try:
        place = Place(*msgpack.unpackb(data[8:], strict_map_key=False))
    except TypeError:
        raise ValueError from None
    if not _is_whole(place, key):
        raise ValueError
    return place


def _is_whole(place: Place, key: type) -> bool:
    """Whether a place is of the right types: the checksum has no secret, so anybody can write one."""
    return (
        type(place.last) is key
        and isinstance(place.listed, list)
        and all(type(each) is bytes for each in place.listed)
        and isinstance(place.begins, dict)
        and all(type(each) is int and type(begin) in (bytes, type(None)) for each, begin in place.begins.items())
    )


def checksum(user: bytes) -> bytes:
    """Return what stands for a user among those that were listed."""
    return _sum(user)


def _sum(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
