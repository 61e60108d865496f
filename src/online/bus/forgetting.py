"""Who is to be forgotten <-> frames of an entry: `SITE name`, then `ECHO "forget at_ms user"`, one for each.

Not its job: to erase (serve/past), and when it is published (replica).

`at_ms` is the clock of the bus when FORGET was asked. Who comes back later is known again, so an entry that is read
twice, or long after, erases nothing that it must not. The name is on the bus as long as the user's hits are.
"""

from collections.abc import Iterable

import msgpack

from online.core.journal import site as site_frame

_WORD = b"forget "


def frames(site: bytes, users: Iterable[bytes], at_ms: int) -> bytes:
    """Return what tells others to forget users of a site."""
    echoes = (msgpack.packb([2, "ECHO", [b"%s%d %s" % (_WORD, at_ms, user)]], use_bin_type=False) for user in users)
    return site_frame(site) + b"".join(echoes)


def told_by(text: bytes) -> tuple[bytes, int] | None:
    """Return `(user, at_ms)` of the text of an ECHO, or None if it tells something else.

    >>> told_by(b"forget 1700000000000 ann lee")
    (b'ann lee', 1700000000000)
    >>> told_by(b"forget me")
    """
    if not text.startswith(_WORD):
        return None
    at, _, user = text[len(_WORD) :].partition(b" ")
    return (user, int(at)) if at.isdigit() and user else None
