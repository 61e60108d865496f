"""What strangers may have, by choice of the operator: `--public`, and `--http-origins` for pages of other sites.

Not here: how it is answered (routes), and what states they are told (serve/push).

1. A page of another site is a stranger, whatever else would let it in, and may read only what strangers may.
2. Strangers are told how many; with `--public page` also which members are on a page. Never guests, hidden users, urls
   that they do not know, or where a user is.
"""

from collections.abc import Collection

from online.http.messages import Header, Request
from online.serve.push import PUBLIC_PAGE

#: The questions that strangers may ask; PAGE only where names are public.
COUNTS = {"COUNT", "COUNTS", "SECTION"}


class Public:
    """Judges what strangers may have."""

    def __init__(self, level: str | None, origins: Collection[str]) -> None:
        """`level`: None for nothing."""
        self.level = level
        self._origins = frozenset(origins)

    def may_ask(self, verb: str) -> bool:
        """Whether strangers may ask this."""
        return self.level is not None and (verb in COUNTS or (verb == "PAGE" and self.level == PUBLIC_PAGE))

    def origin(self, request: Request) -> bytes | None:
        """Return the other site whose page asks, if it may read the answer."""
        origin = request.headers.get(b"origin")
        if origin is None or not (origin.decode(errors="replace").lower() in self._origins or "*" in self._origins):
            return None
        return origin


def readable(origin: bytes) -> tuple[Header, Header]:
    """Return the headers that let a page of another site read an answer."""
    return (b"Access-Control-Allow-Origin", origin), (b"Vary", b"Origin")
