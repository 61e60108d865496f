"""The visitor cookie: tells guests apart who have one address and one browser. Off unless an application names it.

Not its job: the names of guests (guests), and which responses set it (web).

1. It is first-party, out of reach of scripts, and sent with TLS only where it was set with TLS. It holds one digit and
   128 random bits, and ends after MAX_AGE_S; then the visitor is somebody else.
2. The digit is 0 when the cookie is given, and 1 once it has come back. Who has none, or refuses it, is known by
   address and browser. So a browser without cookies is one guest, not one with each page; and who comes back with a 0
   was such a guest a moment ago, is that guest no more, and gets a 1.
3. What does not look like one of ours is none.
"""

import re
import secrets
from dataclasses import dataclass

MAX_AGE_S = 86_400

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VALUE = re.compile(r"[01][0-9a-f]{32}")
_SHARED = re.compile(r"\b(?:public|s-maxage)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor who has sent the cookie."""

    id: str
    is_new: bool  #: it has come back for the first time


class VisitorCookie:
    """The cookie of one application, under the name that the application gives it.

    Raises ValueError for a name that no cookie should have.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"the visitor cookie should have a name of letters, digits, - and _, such as 'visitor', not {name!r}"
            )
        self.name = name

    def visitor(self, cookies: str | None) -> Visitor | None:
        """Return who sent the header `Cookie`, None if it has no such cookie.

        >>> VisitorCookie("visitor").visitor("a=b; visitor=1" + 32 * "f") == Visitor(32 * "f", is_new=False)
        True
        """
        for cookie in re.split("[;,]", cookies or ""):
            name, _, value = cookie.strip().partition("=")
            if name == self.name and _VALUE.fullmatch(value):
                return Visitor(value[1:], value[0] == "0")
        return None

    def header(self, visitor: Visitor | None, *, secure: bool) -> str:
        """Return the value of `Set-Cookie` for a visitor who has no cookie yet, or has sent it for the first time.

        `secure`: whether the page goes over TLS.
        """
        value = f"0{secrets.token_hex(16)}" if visitor is None else f"1{visitor.id}"
        text = f"{self.name}={value}; Path=/; Max-Age={MAX_AGE_S}; HttpOnly; SameSite=Lax"
        return f"{text}; Secure" if secure else text


def is_shared(cache_control: str) -> bool:
    """Tell whether caches may give a response to several visitors, who would then all have its cookie."""
    return _SHARED.search(cache_control) is not None
