"""Arguments of rare verbs, checked: names of sites and clients, and numbers."""

import re

from online import errors
from online.core.sites import SITE_MAX_BYTES

CLIENT_NAME_MAX_BYTES = 256

_NUMBER = re.compile(rb"-?[0-9]{1,18}")


def site_name(name: bytes) -> bytes:
    """Check the name of a site. Raises RangeError."""
    if not 1 <= len(name) <= SITE_MAX_BYTES:
        raise errors.bad_name("site", name, SITE_MAX_BYTES)
    return name


def client_name(name: bytes) -> bytes:
    """Check a name as Redis does; b"" takes the name away. Raises RangeError or CommandError."""
    if len(name) > CLIENT_NAME_MAX_BYTES:
        raise errors.bad_name("client name", name, CLIENT_NAME_MAX_BYTES)
    if not all(0x21 <= byte <= 0x7E for byte in name):
        raise errors.bad_client_name(name)
    return name


def number(what: str, args: list[bytes], place: int, *, low: int, high: int, default: int) -> int:
    """Read the argument at `place` as a number; b"" stands for not given. Raises RangeError."""
    text = args[place] if place < len(args) else b""
    if not text:
        return default
    if not _NUMBER.fullmatch(text):
        raise errors.not_a_number(what, text)
    if not low <= int(text) <= high:
        raise errors.bad_number(what, int(text), low, high)
    return int(text)
