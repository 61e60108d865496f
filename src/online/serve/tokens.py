"""Tokens: who may do what, on which site.

Not here: how a token arrives (verbs_access for AUTH and HELLO, http/access for browsers and scripts).

1. A token is never kept as it was given, only its SHA-256. It is random, so that is enough.
2. How long a search takes does not depend on the token that is looked for.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import NamedTuple

from online.core.sites import SITE_MAX_BYTES
from online.errors import ConfigError

#: Roles, each of which may do what those before it may.
READ, WRITE, ADMIN = ROLES = ("read", "write", "admin")

#: How a token is given that nobody is to read in the file: the SHA-256 of its bytes.
HASHED = "sha256:"

_ROLES_SPOKEN = f"{', '.join(ROLES[:-1])} or {ROLES[-1]}"
_FORM = "Each line is ROLE TOKEN or ROLE SITE TOKEN; or the file is one token without spaces"

_HEX = re.compile(r"[0-9a-fA-F]{64}")


class Grant(NamedTuple):
    """What one token allows."""

    role: str
    site: bytes | None  #: the only site that it is good for; None: all
    digest: bytes  #: SHA-256 of the token
    n_bytes: int | None  #: the length of the token, as far as it is known

    def allows(self, role: str) -> bool:
        """Whether it may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def grant(token: bytes, role: str = ADMIN, site: bytes | None = None) -> Grant:
    """Return what `token` allows: everything, unless told otherwise."""
    return Grant(role, site, hashlib.sha256(token).digest(), len(token))


class Tokens:
    """All tokens of a server. False if there are none, and so none is wanted."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._grants = tuple(grants)

    def __len__(self) -> int:
        return len(self._grants)

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._grants)

    def find(self, token: bytes) -> Grant | None:
        """Return what a token allows, or None if it is wrong. O(tokens)."""
        digest = hashlib.sha256(token).digest()
        found = None
        for each in self._grants:
            if hmac.compare_digest(each.digest, digest):
                found = each
        return found


def read_tokens(where: str, lines: Iterable[str], longest: int) -> tuple[Grant, ...]:
    """Read lines of `role [site] token`. Empty ones, and those that begin with #, say nothing.

    Raises ConfigError that names the line, and shows no token: not even a word that is no role, which may be one.
    """
    grants = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            grants.append(_read_line(f"{where}, line {number}", words, longest))
    if not grants:
        raise ConfigError(f"{where} holds no token")
    if len({each.digest for each in grants}) < len(grants):
        raise ConfigError(f"{where} gives the same token twice")
    return tuple(grants)


def _read_line(where: str, words: list[str], longest: int) -> Grant:
    if words[0] not in ROLES:
        near = get_close_matches(words[0].lower(), ROLES, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(f"{where} does not begin with a role: {_ROLES_SPOKEN}{hint} {_FORM}")
    if len(words) not in (2, 3):
        raise ConfigError(f"{where} has {len(words)} {'word' if len(words) == 1 else 'words'}. {_FORM}")
    role, token = words[0], words[-1].encode(errors="surrogateescape")
    site = words[1].encode(errors="surrogateescape") if len(words) == 3 else None
    if site is not None and len(site) > SITE_MAX_BYTES:
        raise ConfigError(f"{where}: a site has at most {SITE_MAX_BYTES} bytes, not {len(site)}")
    if words[-1].startswith(HASHED):
        if not _HEX.fullmatch(words[-1].removeprefix(HASHED)):
            raise ConfigError(f"{where}: {HASHED} is followed by 64 hexadecimal digits; sha256sum prints them")
        return Grant(role, site, bytes.fromhex(words[-1].removeprefix(HASHED)), None)
    if len(token) > longest:
        raise ConfigError(f"{where}: a token has at most {longest} bytes, not {len(token)}")
    return grant(token, role, site)
