"""Usual lines of access logs -> page views, by what is known of their parts. See ext/usual.pyx."""

from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from online.core.datagrams import Datagrams
from online.core.jsonfields import JsonShapes
from online.core.tally import LineTally

Made = TypeVar("Made")

class UsualRecords:
    """Makes records of usual lines."""

    def __init__(
        self, make: type[tuple[Any, ...]], *, lines: str | None = None, objects: JsonShapes | None = None
    ) -> None:
        """`make`: what a record is made of, a tuple of the fields of `online.logs.records.Record`.

        `lines`: `plain` for common and combined lines, `host` for those behind a virtual host, `any` for both; None
        if lines are never usual. `objects`: how JSON is read, or None.
        """

    def read(self, line: bytes) -> Any:
        """Return the record of a line without its newline; None if the line is not usual. O(length)."""

class UsualLines(Generic[Made]):
    """Reads usual lines in one pass; all others, and those with parts never seen before, go the careful way."""

    def __init__(
        self,
        careful: Callable[[bytes], Made | str],
        judge: Callable[[Any], Made | str],
        nameless: Callable[[bytes, bytes, bytes, bytes], tuple[bytes, str] | str],
        is_bot: Callable[[bytes], bool],
        make: type[Made],
        *,
        records: UsualRecords | None,
        message_of: Callable[[bytes], bytes],
        bad_ways: Collection[str],
        bad_urls: Collection[str],
        nobody: Collection[bytes],
        key: bytes | None,
        trusts_proxies: bool,
        with_host: bool,
        ignores_queries: bool,
        guests_only: bool,
    ) -> None:
        """`careful` turns a line into a page view or a reason; it says by `note` which record it has read. `judge`
        does so with the record of a usual line. It must say the same of the same parts: method and status (a reason in
        `bad_ways`), url (`bad_urls`, and the url of the view), and who it is (user and kind of the view). The host is
        a part of the url `with_host`; its query, from the first `?` on, is none if it `ignores_queries`. Users in
        `nobody` are no user names. `nameless` says the same of who has none and no kind, by address, agent, visitor,
        X-Forwarded-For: user and kind, or why not.
        With a `key`, it says of who has an address, an agent and nothing else what `online_client.guests` does with the
        key, a bot's name if `is_bot` says so of the agent; whoever is usual is then named without it.

        `make`: what a page view is made of, a tuple (user, url, seen_ms, kind).
        `records`: which lines are usual; None: none. Its records are what `careful` reads.
        `message_of`: removes the header of a syslog message that is not usual.
        `trusts_proxies`: X-Forwarded-For says who it is. `guests_only`: user names do not.
        """

    def parse(self, line: bytes) -> Made | str:
        """Return the page view of a line without its newline, or why there is none. O(length)."""

    def parse_message(self, datagram: bytes) -> Made | str:
        """Return the page view of a syslog message, or why there is none. O(length)."""

    def pack(
        self, lines: list[bytes], most_bytes: int, too_long: str, tally: LineTally | None = None
    ) -> tuple[bytes, int, int, list[str], list[int]]:
        """Return the page views of lines as MessagePack, an item each, as `msgpack` writes them; how many there are;
        the time of the last; and why the other lines are none, with their places in `lines`, from 0. O(length).

        Lines of more than `most_bytes` are `too_long`. With a `tally`, what lines say is counted in it, and page views
        of bots are only counted.
        """

    def pack_messages(self, datagrams: list[bytes]) -> tuple[bytes, int, int, list[str], list[int]]:
        """Return the page views of syslog messages as `pack` does those of lines. O(length)."""

    def pack_received(
        self, datagrams: Datagrams, begin: int, end: int
    ) -> tuple[bytes, int, int, list[str], list[int]]:
        """Return the page views of some of the datagrams that were received last, as `pack_messages` does. O(length).

        What `url` and `host` say of the last of them holds until others are received.
        """

    def note(self, record: tuple[Any, ...]) -> None:
        """Keep what the careful way has read of the line: an `online.logs.records.Record`."""

    # Of the line that was parsed last; empty if it does not tell, or was not understood.
    @property
    def url(self) -> bytes: ...
    @property
    def host(self) -> bytes: ...
