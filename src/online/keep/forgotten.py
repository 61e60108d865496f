"""Who was forgotten <-> the text of an ECHO in the journal: `forget at_ms site user`, the site in hexadecimal.

Not its job: to erase (serve/past), and what other servers are told (bus/forgetting).

The note stands among the hits: who reads the journal erases what stands before it, and nothing that stands behind it.
No time could say that. A hit that comes later may have been seen before.
"""

_WORD = b"forget "


def text(site: bytes, user: bytes, at_ms: int) -> bytes:
    """Return the text that says that a user was forgotten; `at_ms` is when FORGET was asked, in wall time."""
    return b"%s%d %s %s" % (_WORD, at_ms, site.hex().encode(), user)


def told_by(text: bytes) -> tuple[bytes, bytes, int] | None:
    """Return `(site, user, at_ms)`, or None if the text tells something else.

    >>> told_by(text(b"shop", b"ann lee", 1700000000000))
    (b'shop', b'ann lee', 1700000000000)
    >>> told_by(b"place 1-0 cafe")
    """
    if not text.startswith(_WORD):
        return None
    at, site, user = (text[len(_WORD) :].split(b" ", 2) + [b""] * 2)[:3]
    try:
        return (bytes.fromhex(site.decode()), user, int(at)) if user else None
    except ValueError:
        return None
