"""The names of guests and bots: one visitor has one name, by whichever way a hit comes (logs, syslog, middleware).

Not its job: who is a bot (agents), and the client behind proxies (addresses).

1. A guest is `guest-<hash>` of its address and agent or, where something else tells guests apart (a cookie), of that.
   A bot is `bot-<hash>` of address and agent: so a person and a program with one address are two users.
2. The hash is blake2b of 8 bytes, in hex, under a key: nobody without the key finds an address by trying them all.
   The key is made of a secret by `guest_key`. Same secret, same names.
3. An address counts in its one form, an agent by its first MAX_CHARACTERS; an agent `-`, none and unknown are one.
"""

from hashlib import blake2b

from online_client.agents import MAX_CHARACTERS

KEY_BYTES = 32


def guest_key(secret: str | bytes) -> bytes:
    """Return the key that a secret makes, of KEY_BYTES. Raises ValueError if the secret is empty."""
    if not secret:
        raise ValueError("secret is empty; it should be long, random, and the same in all processes")
    return blake2b(secret.encode() if isinstance(secret, str) else secret, digest_size=KEY_BYTES).digest()


def guest_name(key: bytes, address: bytes, agent: bytes) -> bytes:
    """Return the name of a guest who is known by address and agent.

    >>> guest_name(guest_key("secret"), b"192.0.2.1", b"-") == guest_name(guest_key("secret"), b"192.0.2.1", b"")
    True
    """
    return b"guest-" + _digest(key, address + b" " + _known(agent), b"guest")


def visitor_name(key: bytes, visitor: bytes) -> bytes:
    """Return the name of a guest who is known by `visitor`, such as the value of a cookie."""
    return b"guest-" + _digest(key, visitor, b"visitor")


def bot_name(key: bytes, known_by: bytes, agent: bytes) -> bytes:
    """Return the name of a bot. `known_by`: its address, or whatever is known instead."""
    return b"bot-" + _digest(key, known_by + b" " + _known(agent), b"bot")


def _known(agent: bytes) -> bytes:
    return b"" if agent == b"-" else agent[:MAX_CHARACTERS]


def _digest(key: bytes, text: bytes, what: bytes) -> bytes:
    return blake2b(text, key=key, person=what, digest_size=8).hexdigest().encode()
