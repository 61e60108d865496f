"""The verbs: for each one function that makes the request and says how its answer is read. Opens nothing.

`Client` and `AsyncClient` have a method for each function here, with the same arguments; a new verb is one
function here and one line in each of them.

A user is `str`, `bytes` or `int` (sent as text), a url `str` or `bytes`. `str` is sent as UTF-8, with
surrogates as the bytes they stand for. Limits are the server's to judge: it answers with an error that names
the limit.
"""

import inspect
import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import index
from typing import Any, Generic, NotRequired, TypeAlias, TypedDict, TypeVar

import msgpack

from online_client.address import DEFAULT_SITE, Address
from online_client.errors import RangeError, wrong_shape
from online_client.replies import (
    BatchResult,
    Kinds,
    Listing,
    Page,
    Past,
    Peak,
    Section,
    Seen,
    Session,
    Site,
    State,
    TopPage,
    Viewer,
    Watched,
)

Name: TypeAlias = str | bytes
User: TypeAlias = str | bytes | int
#: Milliseconds since 1970, or a datetime that knows its zone.
Time: TypeAlias = int | datetime


class HitFields(TypedDict):
    """A hit with the names of its parts, as in the JSON API."""

    user: User
    url: Name
    seen_ms: NotRequired[Time | None]
    kind: NotRequired[str]


#: (user, url[, seen_ms[, kind]]), or a dict of these; None as `seen_ms` is now.
Hit: TypeAlias = (
    tuple[User, Name] | tuple[User, Name, Time | None] | tuple[User, Name, Time | None, str] | HitFields
)

MEMBER = "member"

#: What a dict that is a hit has, and what it must have.
_FIELDS, _NEEDED = HitFields.__annotations__.keys(), HitFields.__required_keys__

#: The most users in one answer, and names in one question, that a server allows unless it is told otherwise.
MAX_LIMIT = 1_000

#: What a server takes in one message unless it is told otherwise; less than 64 bytes are not the hits'.
MAX_BATCH_HITS = 65_536
MAX_BATCH_BYTES = 1024 * 1024 - 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000

#: The longest row of history.
_LONGEST_STEP_S = 366 * 86_400

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """A verb with its arguments, ready to be sent, and what makes a value of the answer."""

    verb: str
    params: bytes  #: an array, packed
    read: Callable[[object, int], T_co]  #: (result, now_ms) -> value; raises ProtocolError


def hit(user: User, url: Name, *, seen_ms: Time | None = None, kind: str = MEMBER) -> Request[None]:
    """Report that `user` loads the page `url`, now or at `seen_ms`.

    `kind`: member, guest, hidden or bot. A hit that is too old is ignored by the server.
    Raises RangeError for a name, time or kind outside its limits, FullError at a limit.
    """
    return Request("hit", _pack(_hit_params(user, url, seen_ms, kind)), _nothing)


def leave(user: User, *, seen_ms: Time | None = None) -> Request[None]:
    """Take `user` offline, now or as of `seen_ms`, until a newer hit."""
    return _request("leave", _nothing, _user(user), _time("seen_ms", seen_ms))


def count(url: Name | None = None, *, within: int | timedelta | None = None) -> Request[int]:
    """Count the people online: on the site, on one page, or on the site within the last seconds.

    `within`: seconds or a timedelta, one second to the server's window; only without `url`.
    """
    if url and within is not None:
        raise RangeError("RANGE", "within counts the whole site only; leave out url")
    within_s = within // _SECOND if isinstance(within, timedelta) else within
    return _request("count", _integer, _optional("url", url), _number(within_s))


def counts(*urls: Name) -> Request[list[int]]:
    """Count the people on each of these pages, at most 1,000 of them."""
    return _request("counts", _integers, *(_name("url", url) for url in urls))


def kinds(url: Name | None = None) -> Request[Kinds]:
    """Count visitors by kind, on the site or on one page."""
    return _request("kinds", _kinds, _optional("url", url))


def page(url: Name, limit: int = 30, cursor: str | None = None) -> Request[Page]:
    """Tell who is on a page: people on the site, people here, and the users here, newest first.

    `limit`: users listed, 0 to 1,000. `cursor` continues an earlier answer for the same page.
    """
    return _request("page", _page, _name("url", url), _number(limit), _optional("cursor", cursor))


def recent(limit: int = 30, cursor: str | None = None) -> Request[Listing]:
    """List the users of the whole site, newest first. `limit` and `cursor` as for `page`."""
    return _request("recent", _listing, _number(limit), _optional("cursor", cursor))


def users(prefix: Name = "", limit: int = 30, cursor: str | None = None) -> Request[Listing]:
    """List the users whose name begins with `prefix`, by name. `limit` and `cursor` as for `page`."""
    return _request("users", _listing, _name("prefix", prefix), _number(limit), _optional("cursor", cursor))


def seen(*users: User) -> Request[list[Seen | None]]:
    """Tell where and when each of these users was last seen; None for who is offline or cannot be named."""
    return _request("seen", _all_seen, *(_user(user) for user in users))


def section(prefix: Name) -> Request[Section]:
    """Add up people and pages over all urls that begin with `prefix`; RangeError beyond 100,000 pages."""
    return _request("section", _section, _name("prefix", prefix))


def top(limit: int = 10, prefix: Name = "") -> Request[list[TopPage]]:
    """List the pages with most people, equals by url. The answer may be a second old."""
    return _request("top", _top, _number(limit), _name("prefix", prefix))


def peak(since: Time | None = None) -> Request[Peak]:
    """Tell the most people online at once, ever or since a time, and when that was."""
    return _request("peak", _peak, _time("since", since))


def history(
    from_: Time | None = None, to: Time | None = None, step: int | timedelta | None = None
) -> Request[list[Past]]:
    """Tell what was from one time to another, the last day unless told otherwise, in steps.

    `step`: whole minutes, as seconds or a timedelta; a fitting one if None. A step in which the server was away is
    absent. RangeError beyond 2,000 steps.
    """
    step_s = step // _SECOND if isinstance(step, timedelta) else step
    return _request("history", _history, *_filled(_time("from_", from_), _time("to", to), _number(step_s)))


def visitors(since: Time | None = None) -> Request[int | None]:
    """Estimate how many different people came since a time, of today (UTC) unless told otherwise; None if not known.

    `since` is rounded down to a whole hour. It is known for the last 60 days, and before from midnight UTC alone. The
    current minute is not over, and not in it.
    """
    since_ms = _time("since", datetime.now(UTC) if since is None else since)
    step_ms = _DAY_MS if since is None else _HOUR_MS
    from_ms = since_ms // step_ms * step_ms if isinstance(since_ms, int) else since_ms
    return _request("history", _only_visitors, *_filled(from_ms, None, _LONGEST_STEP_S))


def last(*users: User) -> Request[list[Seen | None]]:
    """Tell where and when each of these members was last seen, who may be offline; None if that is not known."""
    return _request("last", _all_seen, *(_user(user) for user in users))


def forget(*users: User) -> Request[int]:
    """Erase users everywhere, and tell how many were known."""
    return _request("forget", _integer, *(_user(user) for user in users))


def sites() -> Request[list[Site]]:
    """List the sites of the server with the people on each."""
    return _request("sites", _sites)


def info(section: str | None = None) -> Request[dict[str, dict[str, str]]]:
    """Tell about the server, all or one section: section -> name -> value, as text.

    A section that this server does not have is no error: the answer is empty then.
    """
    return _request("info", _info, _optional("section", section))


def ping() -> Request[str]:
    """Get "PONG" from a server that is well."""
    return _request("ping", _text)


def time() -> Request[datetime]:
    """Tell the server's time, in UTC."""
    return _request("time", _clock)


def subscribe(*channels: Name) -> Request[int]:
    """Ask to be told of channels; `state` reads what is told."""
    if not channels:
        raise ValueError("watch takes at least one channel")
    return _request("subscribe", _integer, *(_name("a channel", channel) for channel in channels))


def greetings(address: Address) -> Iterator[Request[None]]:
    """Yield what a new connection to `address` says first: its token and its site, and its map of partitions."""
    site = _name("site", address.site)
    if address.token is not None:
        yield _request("auth", _nothing, site, _name("token", address.token))
    elif address.site != DEFAULT_SITE:
        yield _request("site", _nothing, site)
    if address.map is not None:
        yield _request("client", _nothing, b"MAP", _name("map", address.map))


def pack_hit(user: User, url: Name, seen_ms: Time | None = None, kind: str = MEMBER) -> bytes:
    """Pack one hit of a batch. Raises ValueError if no batch could hold it."""
    packed = _pack(_hit_params(user, url, seen_ms, kind))
    if len(packed) > MAX_BATCH_BYTES:
        raise ValueError(f"a hit of {len(packed)} bytes does not fit into a batch of {MAX_BATCH_BYTES}")
    return packed


def batch(hits: Sequence[bytes]) -> Request[BatchResult]:
    """Send packed hits together, within MAX_BATCH_HITS and MAX_BATCH_BYTES. Each stands for itself."""
    header: bytes = msgpack.Packer().pack_array_header(len(hits))
    return Request("hits", header + b"".join(hits), _batch_result)


def batches(hits: Iterable[Hit]) -> Iterator[Request[BatchResult]]:
    """Split hits into batches that a server takes, lazily. Raises TypeError for what is no hit."""
    waiting: list[bytes] = []
    waiting_bytes = 0
    for each in hits:
        packed = _packed(each)
        if len(waiting) == MAX_BATCH_HITS or waiting_bytes + len(packed) > MAX_BATCH_BYTES:
            yield batch(waiting)
            waiting, waiting_bytes = [], 0
        waiting.append(packed)
        waiting_bytes += len(packed)
    if waiting:
        yield batch(waiting)


def _packed(hit: Hit) -> bytes:
    """Pack a hit that a program gave."""
    parts: tuple[Any, ...] = hit if isinstance(hit, tuple) else _parts(hit)
    if not 2 <= len(parts) <= len(_FIELDS):
        raise TypeError(f"a hit is (user, url[, seen_ms[, kind]]), or a dict of these, not {hit!r:.80}")
    return pack_hit(*parts)


def _parts(hit: object) -> tuple[Any, ...]:
    """Return the parts of a hit that is a dict, or a row of a database; none of what is no hit."""
    if isinstance(hit, Mapping):
        is_hit = _NEEDED <= hit.keys() <= _FIELDS
        return (hit["user"], hit["url"], hit.get("seen_ms"), hit.get("kind") or MEMBER) if is_hit else ()
    if not isinstance(hit, Iterable) or isinstance(hit, str | bytes | bytearray | memoryview | Set):
        return ()
    return tuple(hit)


def as_method(method: F, build: Callable[..., Request[object]]) -> F:
    """Give the method of a verb the name, the arguments and the words of its function here."""
    signature = inspect.signature(build)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method


# Arguments: values of Python -> values of MessagePack. None means "not given".


def _request(verb: str, read: Callable[[object, int], T], *params: bytes | int | None) -> Request[T]:
    return Request(verb, _pack(list(params)), read)


def _pack(params: list[bytes | str | int | None]) -> bytes:
    while params and params[-1] is None:
        params.pop()
    packed: bytes = msgpack.packb(params)
    return packed


def _filled(*params: bytes | int | None) -> list[bytes | int | None]:
    """Put "" in the place of what is not given before something that is."""
    given = max((nth for nth, each in enumerate(params) if each is not None), default=-1)
    return [b"" if each is None else each for each in params[: given + 1]]


def _hit_params(user: User, url: Name, seen_ms: Time | None, kind: str) -> list[bytes | str | int | None]:
    if not isinstance(kind, str):
        raise TypeError(f"kind takes str, not {type(kind).__name__}")
    return [_user(user), _name("url", url), _time("seen_ms", seen_ms), None if kind == MEMBER else kind]


def _name(what: str, value: Name) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    raise TypeError(f"{what} takes str or bytes, not {type(value).__name__}")


def _optional(what: str, value: Name | None) -> bytes | None:
    return None if value is None else _name(what, value)


def _user(value: User) -> bytes:
    return b"%d" % value if isinstance(value, int) else _name("user", value)


def _time(what: str, value: Time | None) -> bytes | int | None:
    if not isinstance(value, datetime):
        return _number(value)
    if value.utcoffset() is None:
        raise ValueError(f"{what} takes a datetime that knows its zone, not {value.isoformat()}")
    return (value - _EPOCH) // _MILLISECOND


def _number(value: int | None) -> bytes | int | None:
    if value is None:
        return None
    number = index(value)
    return number if -(2**63) <= number < 2**63 else b"%d" % number  # else text, to be refused


# Answers: values of MessagePack -> values of Python.


def _nothing(result: object, now_ms: int) -> None:
    """Any result will do: that it is no error is the answer."""


def _text(result: object, now_ms: int = 0) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, bytes):
        return result.decode("utf-8", "surrogateescape")
    raise wrong_shape("text", result)


def _integer(result: object, now_ms: int = 0) -> int:
    if type(result) is int:
        return result
    raise wrong_shape("a whole number", result)


def _list(result: object) -> list[object]:
    if isinstance(result, list):
        return result
    raise wrong_shape("an array", result)


def _row(result: object, length: int) -> list[object]:
    if isinstance(result, list) and len(result) == length:
        return result
    raise wrong_shape(f"an array of {length}", result)


def _integers(result: object, now_ms: int = 0) -> list[int]:
    return [_integer(item) for item in _list(result)]


def _moment(seen_ms: object, now_ms: int) -> tuple[datetime, timedelta]:
    milliseconds = _integer(seen_ms)
    try:
        return _EPOCH + milliseconds * _MILLISECOND, max(0, now_ms - milliseconds) * _MILLISECOND
    except OverflowError:
        raise wrong_shape("a time in milliseconds", seen_ms) from None


def _cursor(result: object) -> str | None:
    return None if result is None else _text(result)


def _page(result: object, now_ms: int) -> Page:
    online, here, viewers, cursor = _row(result, 4)
    named = tuple(_viewer(row, now_ms) for row in _list(viewers))
    return Page(_integer(online), _integer(here), named, _cursor(cursor))


def _viewer(result: object, now_ms: int) -> Viewer:
    user, seen_ms, kind = _row(result, 3)
    return Viewer(_text(user), *_moment(seen_ms, now_ms), _text(kind))


def _listing(result: object, now_ms: int) -> Listing:
    sessions, cursor = _row(result, 2)
    return Listing(tuple(_session(row, now_ms) for row in _list(sessions)), _cursor(cursor))


def _session(result: object, now_ms: int) -> Session:
    user, url, seen_ms, kind = _row(result, 4)
    return Session(_text(user), _text(url), *_moment(seen_ms, now_ms), _text(kind))


def _all_seen(result: object, now_ms: int) -> list[Seen | None]:
    return [None if item is None else _seen(item, now_ms) for item in _list(result)]


def _seen(result: object, now_ms: int) -> Seen:
    url, seen_ms = _row(result, 2)
    return Seen(_text(url), *_moment(seen_ms, now_ms))


def _kinds(result: object, now_ms: int) -> Kinds:
    return Kinds(*_integers(_row(result, 4)))


def _section(result: object, now_ms: int) -> Section:
    return Section(*_integers(_row(result, 2)))


def _top(result: object, now_ms: int) -> list[TopPage]:
    rows = (_row(item, 2) for item in _list(result))
    return [TopPage(_text(url), _integer(people)) for url, people in rows]


def _history(result: object, now_ms: int) -> list[Past]:
    rows = (_row(item, 7) for item in _list(result))
    return [_past(*row, now_ms=now_ms) for row in rows]


def _past(at_ms: object, *counts: object, now_ms: int) -> Past:
    *others, visitors = counts
    people, members, guests, bots, hits = _integers(others)
    at, _ = _moment(at_ms, now_ms)
    return Past(at, people, members, guests, bots, hits, None if visitors is None else _integer(visitors))


def _only_visitors(result: object, now_ms: int) -> int | None:
    rows = _history(result, now_ms)
    return rows[0].visitors if len(rows) == 1 else None if rows else 0


def _peak(result: object, now_ms: int) -> Peak:
    people, at_ms = _integers(_row(result, 2))
    return Peak(people, _moment(at_ms, now_ms)[0] if at_ms else None)


def _sites(result: object, now_ms: int) -> list[Site]:
    rows = (_row(item, 2) for item in _list(result))
    return [Site(_text(name), _integer(people)) for name, people in rows]


def _number_in(result: object) -> int:
    return result if isinstance(result, int) else int(_text(result))


def _clock(result: object, now_ms: int) -> datetime:
    try:
        seconds, microseconds = map(_number_in, _row(result, 2))
        return _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)
    except (ValueError, OverflowError):
        raise wrong_shape("seconds and microseconds", result) from None


def _info(result: object, now_ms: int) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    values: dict[str, str] = {}
    for line in _text(result).splitlines():
        if line.startswith("# "):
            values = sections.setdefault(line[2:], {})
        elif line:
            name, _, value = line.partition(":")
            values[name] = value
    return sections


def _batch_result(result: object, now_ms: int) -> BatchResult:
    accepted, ignored, refused, error = _row(result, 4)
    return BatchResult(_integer(accepted), _integer(ignored), _integer(refused), _first_error(error))


def _first_error(result: object) -> str | None:
    if isinstance(result, list):
        return " ".join(_text(part) for part in result)
    return None if result is None else _text(result)


# States of channels: JSON -> values of Python.


def state(params: object, now_ms: int) -> State:
    """Read the params of a notification `state`. Raises ProtocolError."""
    channel, told = _row(params, 2)
    name = _text(channel)
    try:
        found = json.loads(_text(told), object_hook=_text_in_json)
    except ValueError:
        raise wrong_shape("JSON", told) from None
    read = _STATES.get(name.partition(":")[0])
    if read is None or not isinstance(found, dict):
        raise wrong_shape("the state of a channel", params)
    error = f"{found['code']} {found.get('detail', '')}" if "code" in found else None
    value = read(found, now_ms) if error is None else None
    return State(name, value, _moment(found.get("at_ms"), now_ms)[0], error)


def _text_in_json(found: dict[str, object]) -> object:
    """Return the text that an object stands for, if it does: text that is not UTF-8."""
    text = found.get("base64")
    return b64decode(text).decode("utf-8", "surrogateescape") if isinstance(text, str) else found


def _rows(rows: object, *fields: str) -> list[object]:
    """Return the objects of a list as the rows that a verb answers."""
    return [[row.get(field) for field in fields] for row in _list(rows) if isinstance(row, dict)]


def _page_state(found: Mapping[str, object], now_ms: int) -> Page:
    users = _rows(found.get("users"), "user", "seen_ms", "kind")
    return _page([found.get("online"), found.get("here"), users, found.get("cursor")], now_ms)


def _user_state(found: Mapping[str, object], now_ms: int) -> Seen | None:
    [row] = _row(_rows(found.get("users"), "url", "seen_ms"), 1)
    return None if row == [None, None] else _seen(row, now_ms)


_STATES: Mapping[str, Callable[[Mapping[str, object], int], Watched]] = {
    "count": lambda found, now_ms: _integer(found.get("people")),
    "page": _page_state,
    "section": lambda found, now_ms: _section([found.get("people"), found.get("pages")], now_ms),
    "top": lambda found, now_ms: tuple(_top(_rows(found.get("pages"), "url", "people"), now_ms)),
    "user": _user_state,
}
