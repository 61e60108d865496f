"""Lines of JSON that `online state dump` writes -> what they say of hits and leaves: also kinds and sites.

Not its job: JSON access logs, whose lines have neither sites nor leaves (jsonlines), and what hits must be like
(hitlog).
"""

from typing import NamedTuple

from online.logs.jsonlines import loaded, text_of
from online.terms import KINDS, MEMBER


class Dumped(NamedTuple):
    """What a line says. A leave has no url."""

    user: bytes
    url: bytes | None
    time: bytes
    kind: str
    site: bytes  #: empty if the line does not say


def read_dumped(line: bytes) -> Dumped | str | None:
    """Read a line; return None if it is none of a dump, or why it cannot be sent. O(length).

    An object of a dump has a `user`, and the `kind` of a hit or a `leave`. Times are in `time`, or in `seen_ms` as in
    answers of a server.

    >>> read_dumped(b'{"time": 1511658000.25, "site": "shop", "user": "theo", "url": "/x", "kind": "hidden"}')
    Dumped(user=b'theo', url=b'/x', time=b'1511658000.25', kind='hidden', site=b'shop')
    """
    if b'"user"' not in line or (b'"kind"' not in line and b'"leave"' not in line):
        return None
    found = loaded(line)
    if type(found) is not dict or "user" not in found:
        return None
    is_leave, kind = found.get("leave") is True, found.get("kind", MEMBER)
    if not is_leave and not ("url" in found and "kind" in found and kind in KINDS):
        return None
    try:
        user, time, site = (text_of(found.get(name)) for name in ("user", "time", "site"))
        url = None if is_leave else text_of(found["url"])
    except UnicodeEncodeError:
        return "a lone surrogate in the text"
    return Dumped(user, url, time or text_of(found.get("seen_ms")), kind, site)
