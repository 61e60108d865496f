"""The names of guests and bots: one visitor has one name, by whichever way a hit comes (logs, syslog, middleware).

Not its job: who is a bot (agents), and the client behind proxies (addresses).

1. A guest is `guest-<hash>` of its address and agent or, where something else tells guests apart (a cookie), of that.
   A bot is `bot-<hash>` of address and agent: so a person and a program with one address are two users.
2. The hash is the first 8 bytes of HMAC-SHA256, in hex, of what it is made of after a word for that: nobody without
   the key finds an address by trying them all. The key is the SHA-256 of a secret. Same secret, same names, in every
   language: the guides for PHP, Ruby and Node make them, too.
3. An address counts in its one form, an agent by its first MAX_CHARACTERS; an agent `-`, none and unknown are one.
"""

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from online_client.agents import MAX_CHARACTERS
from online_client.options import check_secret

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_BLOCK_BYTES = 64  #: of SHA-256

KEY_BYTES = 32


def guest_key(secret: str | bytes) -> bytes:
    """Return the key that a secret makes, of KEY_BYTES. Raises ValueError if the secret is empty."""
    check_secret(secret)
    if not secret:
        raise ValueError("secret is empty; it should be long, random, and the same in all processes")
    return sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def guest_name(key: bytes, address: bytes, agent: bytes) -> bytes:
    """Return the name of a guest who is known by address and agent.

    >>> guest_name(guest_key("secret"), b"192.0.2.1", b"-") == guest_name(guest_key("secret"), b"192.0.2.1", b"")
    True
    """
    return b"guest-" + _hash(key, b"guest " + address + b" " + _known(agent))


def visitor_name(key: bytes, visitor: bytes) -> bytes:
    """Return the name of a guest who is known by `visitor`, such as the value of a cookie."""
    return b"guest-" + _hash(key, b"visitor " + visitor)


def bot_name(key: bytes, known_by: bytes, agent: bytes) -> bytes:
    """Return the name of a bot. `known_by`: its address, or whatever is known instead."""
    return b"bot-" + _hash(key, b"bot " + known_by + b" " + _known(agent))


def _known(agent: bytes) -> bytes:
    return b"" if agent == b"-" else agent[:MAX_CHARACTERS]


def _hash(key: bytes, text: bytes) -> bytes:
    """Return the first 8 bytes of HMAC-SHA256 (RFC 2104), in hex: in half the time of `hmac`, which begins anew."""
    begun_inner, begun_outer = _begun(key)
    inner, outer = begun_inner.copy(), begun_outer.copy()
    inner.update(text)
    outer.update(inner.digest())
    return outer.hexdigest()[:16].encode()


@lru_cache(4)
def _begun(key: bytes) -> "tuple[Hash, Hash]":
    """Return both hashes of HMAC with a key, before the text."""
    padded = (sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in padded)), sha256(bytes(byte ^ 0x5C for byte in padded))
