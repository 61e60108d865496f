"""Rare verbs about channels: SUBSCRIBE UNSUBSCRIBE. What subscribers are told is said in push.py."""

from collections.abc import Iterable
from functools import partial

from online import errors
from online.core.wire import Connection, Written
from online.errors import CommandError, FullError
from online.serve.push import Subscriber, Writer, write_msgpack, write_resp2, write_resp3
from online.serve.verb import Shared, verb

#: By the version of RESP; 0 is MessagePack.
_WRITERS = {0: write_msgpack, 2: write_resp2, 3: write_resp3}


@verb("SUBSCRIBE")
def subscribe(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if connection.in_transaction:
        raise errors.in_transaction("SUBSCRIBE")
    try:
        counts = shared.push.subscribe(_subscriber(shared, connection), connection.site, args)
    except FullError as error:
        shared.connections.reached(f"{error.field}_reached")
        raise
    return _told(connection, b"subscribe", zip(args, counts, strict=True), counts[-1])


@verb("UNSUBSCRIBE")
def unsubscribe(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if connection.in_transaction:
        raise errors.in_transaction("UNSUBSCRIBE")
    subscriber = _subscriber(shared, connection)
    told: list[tuple[bytes | None, int]] = []
    for name in args or list(subscriber.channels):
        shared.push.unsubscribe(subscriber, name)
        told.append((name, len(subscriber.channels)))
    return _told(connection, b"unsubscribe", told or [(None, 0)], len(subscriber.channels))


def _subscriber(shared: Shared, connection: Connection) -> Subscriber:
    """Return who is told by a connection."""
    found = shared.subscriber(connection)
    if found is None:
        peer = shared.connections.peer(connection)
        if peer is None:
            raise CommandError("nothing can be told by this connection but answers")
        found = Subscriber(shared.push, peer, partial(_writer, connection))
        shared.connections.bind(connection, found)
    return found


def _writer(connection: Connection) -> Writer:
    return _WRITERS[connection.resp_version]


def _told(connection: Connection, what: bytes, channels: Iterable[tuple[bytes | None, int]], n_left: int) -> object:
    """Take note of how many channels a connection has. Answer that, in RESP with a message for each channel."""
    connection.n_subscriptions = n_left
    version = connection.resp_version
    if not version:
        return n_left
    head = b"*3" if version == 2 else b">3"
    nil = b"$-1\r\n" if version == 2 else b"_\r\n"
    messages = []
    for name, n in channels:
        shown = nil if name is None else b"$%d\r\n%b\r\n" % (len(name), name)
        messages.append(b"%b\r\n$%d\r\n%b\r\n%b:%d\r\n" % (head, len(what), what, shown, n))
    return Written(b"".join(messages))
