"""Channels over HTTP: `GET /api/v1/events?channel=...`, answered by a stream of server-sent events, and their states
as they are now at `/api/v1/states`, for who cannot have a stream.

Not here: what is sent when (serve/push), and how it leaves (conversations).

Whoever reconnects sends the id of the last event (Last-Event-ID). Nothing has to be made up for: the state that comes
at once is whole, and the newest.
"""

import trio

from online import errors
from online.core.wire import Connection
from online.errors import CommandError, FullError
from online.http.messages import JSON, Response
from online.serve.connections import Peer
from online.serve.push import Subscriber, Writer, json_of, write_event
from online.serve.verb import Shared

#: Nobody on the way keeps, changes, packs or collects events. They begin with some bytes at once, for those who wait
#: for the first before they pass anything on; `retry` is how long a browser waits before it reconnects.
_HEADERS = ((b"Cache-Control", b"no-cache, no-transform"), (b"X-Accel-Buffering", b"no"))
_BEGINNING = b"retry: 2000\n\n"


def channels_of(query: dict[str, list[bytes]]) -> list[bytes]:
    """Return the channels that a query string asks for. Raises CommandError."""
    for name in query.keys() - {"channel", "site"}:
        shown = errors.quote(name.encode())
        raise errors.with_facts(
            CommandError(f"events has no parameter {shown}; it takes channel, site"), name, None, None
        )
    if "channel" not in query:
        raise errors.with_facts(CommandError("events needs the parameter channel"), "channel", None, None)
    return query["channel"]


async def states(
    shared: Shared, connection: Connection, channels: list[bytes], public: str | None, now_ms: int
) -> Response:
    """Return the states of channels. Raises OnlineError."""
    _check_ready(shared)
    if len(channels) > shared.limits.max_subscriptions:
        raise errors.too_many_subscriptions("max_subscriptions", shared.limits.max_subscriptions)
    found = []
    for name in channels:
        while (state := shared.push.answer(connection.site, name, public, now_ms)) is None:
            await trio.lowlevel.checkpoint()
        found.append(json_of(state))
    return Response(200, b'{"states":[%b]}' % b",".join(found), JSON)


def _check_ready(shared: Shared) -> None:
    if shared.service.loading is not None:
        raise errors.LoadingError(shared.service.loading)


def subscribe(
    shared: Shared, connection: Connection, peer: Peer, channels: list[bytes], public: str | None
) -> Response:
    """Let a connection be told of channels, and return the beginning of its stream. Raises OnlineError."""
    _check_ready(shared)
    subscriber = Subscriber(shared.push, peer, _writer)
    try:
        shared.push.subscribe(subscriber, connection.site, channels, public)
    except FullError as error:
        shared.connections.reached(f"{error.field}_reached")
        raise
    shared.connections.bind(connection, subscriber)
    return Response(200, _BEGINNING, b"text/event-stream", _HEADERS, closes=True, subscriber=subscriber)


def _writer() -> Writer:
    return write_event
