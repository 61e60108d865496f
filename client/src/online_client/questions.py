"""What pages ask: each question as steps that yield requests and are sent the answers. Opens nothing and never waits.

Not its job: asking (presence), and remembering answers (answers).

1. A page counts and lists its reader from the first view on, although the hit goes when the page does: `reader` is
   added to answers without it. Whether an answer has the reader is told by where the server last saw that user; an
   answer hardly older or younger than that hit is asked for anew, and so is the first of a newcomer.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from online_client import verbs
from online_client.answers import Answers, Question
from online_client.members import members
from online_client.replies import Kinds, Page, Viewer
from online_client.verbs import Name, User

#: How long after a page view's time its hit may arrive at the server.
SETTLED_S = 1.0

_GUEST = "guest"
_NAMED = (verbs.MEMBER, _GUEST)

T = TypeVar("T")

#: Yields what to ask, is sent the answer (None: not known), and returns what the page wanted to know.
Steps: TypeAlias = Generator[Question, Any, T]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who a page is being made for, and which page that is."""

    user: str
    url: Name
    kind: str


def reader_of(user: User, url: Name, kind: str) -> Reader:
    """Make a Reader of what a hit would say."""
    return Reader(_text(user) if isinstance(user, str | bytes) else str(user), url, kind)


def count(answers: Answers, url: Name | None, reader: Reader | None) -> Steps[int | None]:
    """Count the people on the site or on a page; `reader` is one of them."""
    question = verbs.count(url)
    added = yield from _is_missing(answers, reader, url, question)
    people: int | None = yield question
    return None if people is None else people + added


def kinds(answers: Answers, url: Name | None, reader: Reader | None) -> Steps[Kinds | None]:
    """Count visitors by kind, on the site or on a page; `reader` is one of them."""
    question = verbs.kinds(url)
    added = yield from _is_missing(answers, reader, url, question)
    found: Kinds | None = yield question
    if found is None or reader is None or not added:
        return found
    if reader.kind == _GUEST:
        return replace(found, guests=found.guests + 1)
    return replace(found, members=found.members + 1)


def users(
    answers: Answers, url: Name, limit: int, guests: bool, reader: Reader | None
) -> Steps[tuple[Viewer, ...]]:
    """List the members on a page, or members and guests; `reader` first, unless there already."""
    question = verbs.page(url, limit) if guests else members(url, limit, answers.most)
    yield from _is_missing(answers, reader, url, question)  # may let it be due; who is in the list, the list tells
    page: Page | None = yield question
    if page is None:
        return ()
    if reader is None or reader.kind not in (_NAMED if guests else _NAMED[:1]) or _text(reader.url) != _text(url):
        return page.users
    if any(viewer.user == reader.user for viewer in page.users):
        return page.users
    return (Viewer(reader.user, datetime.now(UTC), timedelta(0), reader.kind), *page.users)[:limit]


def _is_missing(answers: Answers, reader: Reader | None, url: Name | None, question: Question) -> Steps[bool]:
    """Tell whether to add the reader to the answer, and let an answer of which that is not certain be due."""
    if reader is None or reader.kind not in _NAMED or (url is not None and _text(url) != _text(reader.url)):
        return False
    where = verbs.seen(reader.user)
    [seen] = (yield where) or [None]
    answers.forget(where)  # of readers there are more than answers to keep
    if seen is None:
        answers.expire(question, monotonic())
        return True
    answers.expire(question, monotonic() - seen.age.total_seconds() + SETTLED_S)
    return url is not None and seen.url != _text(url)


def _text(name: Name) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
