"""Verbs, asked by Python code: a frame of MessagePack goes into a `Connection`, and its answer comes out.

So all that a verb obeys elsewhere holds here too: the token's role, LOADING, the journal, turns, and the counters.
Not here: which verbs there are, and what their answers look like in HTTP (questions, posting).
"""

from collections.abc import Sequence

import msgpack
import trio

from online import errors
from online.core.sites import DEFAULT_SITE, SITE_MAX_BYTES
from online.core.wire import Connection
from online.serve.connections import replied
from online.serve.tokens import WRITE, Grant
from online.serve.verb import Shared
from online.serve.verbs_sites import speak_of


def introduce(shared: Shared, connection: Connection, grant: Grant | None, site: bytes | None) -> None:
    """Let a connection speak of `site`, or of the only one of its token. Raises OnlineError.

    `grant` is what the token allows; None: everything.
    """
    own = None if grant is None else grant.site
    if site is not None and not 1 <= len(site) <= SITE_MAX_BYTES:
        raise errors.bad_name("site", site, SITE_MAX_BYTES)
    if site is not None and own not in (None, site):
        raise errors.other_site(site, own or b"")
    connection.authenticated = True
    connection.may_write = grant is None or grant.allows(WRITE)
    shared.connections.grant(connection, grant)
    speak_of(shared, connection, site or own or DEFAULT_SITE)


async def ask(shared: Shared, connection: Connection, verb: str, args: Sequence[object], now_ms: int) -> object:
    """Carry out a verb and return its result. Raises OnlineError.

    Long questions go on in later turns. Hits are in the journal, as safe as it was told to keep them, on return.
    """
    frame = msgpack.packb([0, 0, verb, args])
    _check_size(shared, args, len(frame))
    connection.receive(frame, now_ms=now_ms)
    output = connection.take_output()
    while connection.has_work or connection.awaited is not None:
        if connection.awaited is not None:
            await replied(connection.awaited)
        await trio.lowlevel.checkpoint()
        connection.proceed(now_ms=now_ms)
        output += connection.take_output()
    if connection.has_written and shared.service.journal is not None:
        await shared.service.journal.settled()
    connection.has_written = False
    _, _, error, result = msgpack.unpackb(output, strict_map_key=False)
    if error is not None:
        assert connection.last_error is not None
        raise connection.last_error
    return result


def _check_size(shared: Shared, args: Sequence[object], n_bytes: int) -> None:
    """Refuse what the framing would: that would end the connection."""
    limits = shared.limits
    if len(args) > limits.max_items:
        raise errors.with_facts(
            errors.RangeError(f"{len(args)} items in one request, max_items is {limits.max_items}"),
            "max_items", limits.max_items, len(args),
        )
    if n_bytes > limits.max_frame:
        raise errors.with_facts(
            errors.RangeError(f"the request has {n_bytes} bytes, max_frame is {limits.max_frame}"),
            "max_frame", limits.max_frame, n_bytes,
        )
