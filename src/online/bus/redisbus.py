"""A bus in a stream of Redis or Valkey: `redis://`, or `rediss://` for TLS.

    XADD online:hits:PARTITION * s SOURCE f FRAMES

Not its job: to try again (publisher, replica).

Invariants:
1. `$` is never used as a place: what comes between two calls would be missed.
2. Nothing but BusError comes out.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import trio
from coredis import PureToken, Redis
from coredis.commands.constants import CommandName

from online.bus.entries import BEGINNING, Bus, BusError, Entry, Look
from online.errors import ConfigError

SCHEMES = ("redis", "rediss")

#: How long is waited for an answer, beyond the time that was asked for.
ANSWER_S = 3.0

#: The library logs each attempt as an error. What is worth telling, the replica tells once.
logging.getLogger("coredis").setLevel(logging.CRITICAL)

_Result = TypeVar("_Result")


def check_url(url: str) -> str:
    """Return the url of a bus. Raises ConfigError, without a password."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError("the bus must be redis://HOST[:PORT][/DB], or rediss:// for TLS")
    return url


def shown(url: str) -> str:
    """Return a url without its password.

    >>> shown("redis://:secret@10.0.0.1:6379/0")
    'redis://10.0.0.1:6379/0'
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def stream_of(partition: int) -> bytes:
    """Return the stream of a partition.

    >>> stream_of(3)
    b'online:hits:3'
    """
    return b"online:hits:%d" % partition


#: Of a site that is not divided.
STREAM = stream_of(0)


async def connected(url: str, work: Callable[[Bus], Awaitable[_Result]], *, partition: int = 0) -> _Result:
    """Do some work with a connection to the bus of a partition, which is closed in the end. Raises BusError."""
    failures: list[Exception] = []
    try:
        await _reach(url)
        client: Any = Redis.from_url(url, connect_timeout=ANSWER_S)
        async with client:
            try:
                return await work(RedisBus(client, stream_of(partition)))
            except Exception as error:  # raised here it would come out in a group
                failures.append(error)
    except* Exception as group:  # the library may raise anything, and none of it is to end a server
        failures.append(BusError(_told(_first(group))))
    raise failures[0]


async def _reach(url: str) -> None:
    """See if somebody listens there: where nobody does, the library leaves things open behind it."""
    parts = urlsplit(url)
    with trio.fail_after(ANSWER_S):
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 6379)
    await stream.aclose()


def _told(error: BaseException) -> str:
    return str(error) or repr(error)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class RedisBus(Bus):
    """See Bus."""

    def __init__(self, client: Any, stream: bytes = STREAM) -> None:
        """Use a client that is open."""
        self._client = client
        self._stream = stream

    async def _ask(self, ask: Callable[[], Awaitable[_Result]], wait_ms: int = 0) -> _Result:
        with trio.move_on_after(ANSWER_S + wait_ms / 1000):
            try:
                return await ask()
            except Exception as error:  # as above
                raise BusError(_told(error)) from None
        raise BusError(f"no answer within {ANSWER_S:g} s")

    async def publish(self, source: bytes, *entries: bytes) -> bytes:
        async def add() -> bytes:
            async with self._client.pipeline(transaction=False) as pipeline:
                added = [pipeline.xadd(self._stream, {b"s": source, b"f": frames}) for frames in entries]
            place: bytes = [await each for each in added][-1]
            return place

        return await self._ask(add)

    async def read(self, place: bytes, most: int, *, wait_ms: int = 0) -> list[Entry]:
        blocking = (b"BLOCK", wait_ms) if wait_ms else ()
        words = (b"COUNT", most, *blocking, b"STREAMS", self._stream, place)
        began_s = trio.current_time()
        entries: list[Entry] = await self._ask(
            lambda: self._client.create_request(CommandName.XREAD, *words, callback=_entries), wait_ms
        )
        if not entries:
            # A server that answers at once, with nothing, must not keep us busy.
            await trio.sleep(max(0.0, wait_ms / 4000 - (trio.current_time() - began_s)))
        return entries

    async def trim(self, before_ms: int) -> None:
        await self._ask(
            lambda: self._client.xtrim(
                self._stream, PureToken.MINID, before_ms, trim_operator=PureToken.APPROXIMATELY
            )
        )

    async def look(self) -> Look:
        try:
            info = await self._ask(lambda: self._client.xinfo_stream(self._stream))
        except BusError as error:
            if "no such key" not in str(error):
                raise
            info = {}
        now_ms = await self._ask(lambda: self._client.create_request(CommandName.TIME, callback=_milliseconds))
        first = info.get("first-entry")
        return Look(
            now_ms=now_ms,
            first=first.identifier if first is not None else BEGINNING,
            last=info.get("last-generated-id") or BEGINNING,
            added=int(info.get("entries-added") or 0),
        )

    async def kept(self) -> list[str]:
        try:
            wanted = [b"maxmemory", b"maxmemory-policy", b"appendonly", b"save"]
            settings = await self._ask(lambda: self._client.config_get(wanted))
        except BusError as error:
            return [f"the settings of the bus cannot be read ({error}); docs/scale.md says what they should be"]
        texts = {_text(name): _text(value) for name, value in settings.items()}
        warnings = []
        policy = texts.get("maxmemory-policy", "noeviction")
        if policy.startswith("allkeys"):
            warnings.append(
                f"the bus deletes keys when its memory is full (maxmemory-policy {policy}), all hits at once may go; "
                "set it to noeviction"
            )
        if texts.get("appendonly") == "no" and not texts.get("save"):
            warnings.append(
                "the bus keeps nothing on disk (appendonly no): when it is started again it is empty, and servers "
                "that start before others have published again know nobody; set appendonly yes"
            )
        return warnings


def _milliseconds(reply: Any, **options: Any) -> int:
    """Read the answer to TIME: what coredis 6.9 makes of it is up to a second behind."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _entries(reply: Any, **options: Any) -> list[Entry]:
    """Read the answer to XREAD of one stream: what the library makes of it costs half as much again as reading it."""
    if not reply:
        return []
    [(_, found)] = reply.items() if isinstance(reply, dict) else reply
    return [_entry(place, fields or ()) for place, fields in found]


def _entry(place: bytes, fields: Sequence[bytes]) -> Entry:
    if len(fields) == 4 and fields[0] == b"s" and fields[2] == b"f":  # as we write it
        return Entry(place, fields[1], fields[3])
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    return Entry(place, named.get(b"s", b""), named.get(b"f", b""))
