"""The members on a page: asked for among all people there, read without the guests.

Not its job: asking (presence), and learning how many people a server gives at once (answers).
"""

from dataclasses import dataclass, replace

from online_client import verbs
from online_client.replies import Page
from online_client.verbs import Name, Request

#: What reads the answers of `page`.
_PAGE = verbs.page("/")
_GUEST = "guest"


def members(url: Name, limit: int, most: int) -> Request[Page]:
    """Ask for the members on a page, among `most` people."""
    return replace(verbs.page(url, most), read=Members(limit))


@dataclass(frozen=True, slots=True)
class Members:
    """Reads an answer of `page` without its guests: of a thousand viewers, those who are not shown cost little."""

    limit: int

    def __call__(self, result: object, now_ms: int) -> Page:
        match result:
            case [online, here, list(rows), cursor]:
                members = [row for row in rows if not (isinstance(row, list) and row[2:] == [_GUEST])]
                result = [online, here, members[: self.limit], cursor]
        return _PAGE.read(result, now_ms)
