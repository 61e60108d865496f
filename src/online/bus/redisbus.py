"""A bus in a stream of Redis or Valkey: `redis://`, or `rediss://` for TLS, with `+sentinel` or `+cluster` behind it.

    XADD online:hits:PARTITION * s SOURCE f FRAMES

    ZADD online:hits:windows:{online:hits:PARTITION} NOW WINDOW     for how long servers need the stream

A stream is one key, so it is on one node at a time: the master that Sentinel names, or the node of a cluster that has
its slot. Which one is asked whenever a connection is opened. A node that is no longer the right one says so, or hangs
up, and that is an error like any other.

Not its job: to try again (publisher, replica).

Invariants:
1. `$` is never used as a place: what comes between two calls would be missed.
2. Nothing but BusError comes out.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import trio
from coredis import PureToken, Redis
from coredis.commands.constants import CommandName
from coredis.exceptions import RedisError

from online.bus import tls
from online.bus.entries import BEGINNING, TRIM_EVERY_S, Bus, BusError, Entry, Look, place_at
from online.errors import ConfigError

#: How long is waited for an answer, beyond the time that was asked for.
ANSWER_S = 3.0

#: The library logs each attempt as an error. What is worth telling, the replica tells once.
logging.getLogger("coredis").setLevel(logging.CRITICAL)

#: What may follow `?` in a url: always, and with Sentinel. More with TLS.
_OPTIONS = ("replicas",)
_SENTINEL = ("sentinel_user", "sentinel_password")

_Result = TypeVar("_Result")


def stream_of(partition: int) -> bytes:
    """Return the stream of a partition.

    >>> stream_of(3)
    b'online:hits:3'
    """
    return b"online:hits:%d" % partition


#: Of a site that is not divided.
STREAM = stream_of(0)


def check(url: str) -> None:
    """See that a url of ours says all that it must. Raises ConfigError."""
    parts = urlsplit(url)
    if "," in parts.netloc.rpartition("@")[2] and "+" not in parts.scheme:
        raise ConfigError(f"{parts.scheme}:// takes one host; several are for redis+sentinel:// and redis+cluster://")
    if parts.scheme.endswith("+sentinel") and not parts.path.strip("/"):
        raise ConfigError("name the master that Sentinel watches: redis+sentinel://HOST[:PORT],.../MASTER[/DB]")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    _check_options(parts.scheme, options)
    replicas = options.get("replicas", "0")
    if not (replicas.isascii() and replicas.isdigit()):
        raise ConfigError(f"?replicas={replicas} in the url of the bus is not a number")
    try:
        _tls(parts.scheme, options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the url of the bus has files or values for TLS that cannot be used: {error}") from None


def _check_options(scheme: str, options: Mapping[str, str]) -> None:
    of_tls = tls.OPTIONS if scheme.startswith("rediss") else ()
    known = [*_OPTIONS, *of_tls, *(_SENTINEL if scheme.endswith("+sentinel") else ())]
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise ConfigError(f"the url of the bus has ?{unknown[:64]}=, but {scheme}:// takes only {', '.join(known)}")


def _tls(scheme: str, options: Mapping[str, str]) -> tls.Context | None:
    """Return how TLS is spoken, if it is. Raises OSError, or ValueError if an option has no such value."""
    return tls.client_context(options) if scheme.startswith("rediss") else None


async def connected(
    url: str, work: Callable[[Bus], Awaitable[_Result]], *, partition: int = 0, window_s: int | None = None
) -> _Result:
    """See engines. `?replicas=N` in the url lets what is published wait for so many replicas of its node."""
    stream = stream_of(partition)
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    try:
        context = _tls(parts.scheme, options)
    except (OSError, ValueError) as error:  # a file that is no longer there
        raise BusError(f"files for TLS cannot be used: {error}") from None
    node = await _node(urlunsplit(parts._replace(query="")), stream, options, context)
    replicas = int(options.get("replicas", "0"))
    return await _at(node, context, lambda client: work(RedisBus(client, stream, replicas=replicas)))


async def _at(url: str, context: tls.Context | None, work: Callable[[Any], Awaitable[_Result]]) -> _Result:
    """Do some work with a client of one node. Raises BusError."""
    failures: list[Exception] = []
    try:
        await _reach(url, context)
        client: Any = Redis.from_url(url, connect_timeout=ANSWER_S, ssl_context=context, decode_components=True)
        async with client:
            try:
                return await work(client)
            except Exception as error:  # raised here it would come out in a group
                failures.append(error)
    except* Exception as group:  # the library may raise anything, and none of it is to end a server
        failures.append(BusError(_told(_first(group))))
    raise failures[0]


async def _reach(url: str, context: tls.Context | None) -> None:
    """See if somebody listens there: where nobody does, the library leaves things open behind it.

    TLS is spoken to the end: the library does not say what is wrong with it, and Redis logs it if somebody hangs up.
    """
    parts = urlsplit(url)
    where = parts.hostname or "", parts.port or 6379
    with trio.fail_after(ANSWER_S):
        if context is None:
            await (await trio.open_tcp_stream(*where)).aclose()
            return
        stream = await trio.open_ssl_over_tcp_stream(*where, ssl_context=context)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise BusError(tls.told(error.__cause__)) from None
        finally:
            await stream.aclose()


async def _node(url: str, stream: bytes, options: Mapping[str, str], context: tls.Context | None) -> str:
    """Return the url of the node that has a stream. Raises BusError if none of the hosts knows."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return url
    login, at, hosts = parts.netloc.rpartition("@")
    master, _, db = parts.path.strip("/").partition("/")
    if kind == "sentinel":
        path, login_there, default_port, ask = f"/{db or 0}", _login(options), 26379, partial(_master, name=master)
    else:
        path, login_there, default_port, ask = "/0", login + at, 6379, partial(_owner, stream=stream)
    failures = []
    for address in hosts.split(","):
        host, port = _address(address, default_port)
        there = parts._replace(scheme=scheme, netloc=f"{login_there}{_netloc(host, port)}", path="/0")
        try:
            found, port = await _at(urlunsplit(there), context, ask)
        except BusError as error:
            failures.append(f"{_netloc(host, port)}: {error}")
            continue
        return urlunsplit(parts._replace(scheme=scheme, netloc=f"{login}{at}{_netloc(found or host, port)}", path=path))
    raise BusError("; ".join(failures))


def _login(options: Mapping[str, str]) -> str:
    """Return how we log in to Sentinel, as in a url."""
    user, password = (quote(options.get(name, ""), safe="") for name in _SENTINEL)
    return f"{user}:{password}@" if user or password else ""


def _address(address: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    return parts.hostname or "", parts.port or default_port


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _master(client: Any, name: str) -> tuple[str, int]:
    """Ask a Sentinel where the master is."""
    found = await _bounded(
        lambda: client.create_request(
            CommandName.SENTINEL_GET_MASTER_ADDR_BY_NAME, name, callback=lambda reply, **options: reply
        )
    )
    if not found:
        raise BusError(f"Sentinel knows no master {name!r}")
    return _text(found[0]), int(found[1])


async def _owner(client: Any, stream: bytes) -> tuple[str, int]:
    """Ask a node of a cluster which one has a stream; no name says: itself."""
    slot = await _bounded(lambda: client.cluster_keyslot(stream))
    ranges = await _bounded(
        lambda: client.create_request(CommandName.CLUSTER_SLOTS, callback=lambda reply, **options: reply)
    )
    for first, last, (host, port, *_), *_ in ranges:
        if first <= slot <= last:
            return _text(host or ""), int(port)
    raise BusError(f"no node of the cluster has slot {slot}")


async def _bounded(ask: Callable[[], Awaitable[_Result]], wait_ms: int = 0) -> _Result:
    """Ask, but not for ever. Raises BusError."""
    with trio.move_on_after(ANSWER_S + wait_ms / 1000):
        try:
            return await ask()
        except Exception as error:  # as above
            raise BusError(_told(error)) from None
    raise BusError(f"no answer within {ANSWER_S:g} s")


def _told(error: BaseException) -> str:
    """Say what went wrong. Errors that are none of Redis or of the network may quote anything, and are only named."""
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {ANSWER_S:g} s"
    text = str(error) if isinstance(error, BusError | RedisError | OSError) else ""
    return text or type(error).__name__


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class RedisBus(Bus):
    """See Bus."""

    def __init__(self, client: Any, stream: bytes = STREAM, *, replicas: int = 0) -> None:
        """Use a client that is open. What is published is there when so many `replicas` of the node have it."""
        self._client = client
        self._stream = stream
        self._windows = b"%s:windows:{%s}" % (stream.rpartition(b":")[0], stream)  # on the same node of a cluster
        self._replicas = replicas

    async def publish(self, source: bytes, *entries: bytes) -> bytes:
        async def add() -> bytes:
            n_have = self._replicas
            # The library would quote all that was to be written in the error that it raises itself.
            async with self._client.pipeline(transaction=False, raise_on_error=False) as pipeline:
                added = [pipeline.xadd(self._stream, {b"s": source, b"f": frames}) for frames in entries]
                waited = pipeline.wait(self._replicas, round(500 * ANSWER_S)) if self._replicas else None
            place: bytes = [await each for each in added][-1]
            if waited is not None:
                n_have = await waited
            if n_have < self._replicas:
                raise BusError(f"{n_have} replicas have what was published, of {self._replicas} that should")
            return place

        return await _bounded(add)

    async def read(self, place: bytes, most: int, *, wait_ms: int = 0) -> list[Entry]:
        blocking = (b"BLOCK", wait_ms) if wait_ms else ()
        words = (b"COUNT", most, *blocking, b"STREAMS", self._stream, place)
        began_s = trio.current_time()
        entries: list[Entry] = await _bounded(
            lambda: self._client.create_request(CommandName.XREAD, *words, callback=_entries), wait_ms
        )
        if not entries:
            # A server that answers at once, with nothing, must not keep us busy.
            await trio.sleep(max(0.0, wait_ms / 4000 - (trio.current_time() - began_s)))
        return entries

    async def at(self, at_ms: int) -> bytes:
        return place_at(at_ms)

    async def trim(self, window_s: int, *, is_reader: bool = True) -> set[int]:
        now_ms = await self._now_ms()
        failures = []
        if is_reader:
            try:
                await _bounded(lambda: self._client.zadd(self._windows, {str(window_s): now_ms}))
            except BusError as error:  # a bus that is full has to let go all the same
                failures.append(error)
        told = await _bounded(lambda: self._client.zrange(self._windows, 0, -1, withscores=True))
        told_ms = {int(name): at_ms for name, at_ms in told if name.isdigit()}
        needed = {window for window, at_ms in told_ms.items() if now_ms - at_ms <= 2000 * window}
        if is_reader or not needed:
            needed.add(window_s)
        before_ms = now_ms - 2000 * max(needed)
        await _bounded(
            lambda: self._client.xtrim(
                self._stream, PureToken.MINID, before_ms, trim_operator=PureToken.APPROXIMATELY
            )
        )
        if failures:
            raise failures[0]
        lately = {window for window in needed if now_ms - told_ms.get(window, 0) <= 2000 * TRIM_EVERY_S}
        return lately | {window_s} if is_reader else lately

    async def _now_ms(self) -> int:
        return await _bounded(lambda: self._client.create_request(CommandName.TIME, callback=_milliseconds))

    async def look(self) -> Look:
        try:
            info = await _bounded(lambda: self._client.xinfo_stream(self._stream))
        except BusError as error:
            if "no such key" not in str(error):
                raise
            info = {}
        now_ms = await self._now_ms()
        first = info.get("first-entry")
        return Look(
            now_ms=now_ms,
            first=first.identifier if first is not None else BEGINNING,
            last=info.get("last-generated-id") or BEGINNING,
            added=int(info.get("entries-added") or 0),
            held=int(info.get("length") or 0),
        )

    async def kept(self) -> list[str]:
        try:
            wanted = [b"maxmemory", b"maxmemory-policy", b"appendonly", b"save"]
            settings = await _bounded(lambda: self._client.config_get(wanted))
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
        if texts.get("appendonly") == "no" and texts.get("save"):
            warnings.append(
                f"the bus writes to disk only now and then (appendonly no, save {texts['save']}): when it is started "
                "again after a crash, what came since is gone until servers have published it again; set appendonly yes"
            )
        elif texts.get("appendonly") == "no":
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
