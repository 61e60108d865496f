"""Rare verbs about who is asking: AUTH HELLO RESET QUIT."""

import logging

from online import __version__, errors
from online.core.sites import DEFAULT_SITE
from online.core.wire import OK, Connection, Status
from online.errors import CommandError
from online.serve.given import client_name, site_name
from online.serve.tokens import WRITE, Grant
from online.serve.verb import Shared, verb
from online.serve.verbs_sites import speak_of

#: A connection asks for RESP2 unless it says HELLO 3.
RESP_VERSIONS = (b"2", b"3")

#: Names of new sites that are logged: strangers must not fill a disk.
MOST_NEW_SITES = 100

logger = logging.getLogger("online")


@verb("AUTH")
def auth(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    _enter(shared, connection, *_look_up(shared, connection, args, now_ms))
    return OK


@verb("HELLO")
def hello(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if args and args[0] not in RESP_VERSIONS:
        raise errors.bad_version(args[0])
    options = _hello_options(args[1:])
    found = _look_up(shared, connection, options["AUTH"], now_ms) if "AUTH" in options else None
    if found is None and not connection.authenticated:
        raise errors.token_wanted(b"HELLO")
    if "SETNAME" in options:
        connection.name = client_name(options["SETNAME"][0])
    if found is not None:
        _enter(shared, connection, *found)
    if args and connection.resp_version:
        connection.resp_version = int(args[0])
    return {
        "server": "online",
        "version": __version__,
        "proto": connection.resp_version,
        "id": connection.id,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }


@verb("RESET")
def reset(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    connection.reset()
    subscriber = shared.subscriber(connection)
    if subscriber is not None:
        subscriber.leave()
    shared.connections.grant(connection, None)
    speak_of(shared, connection, DEFAULT_SITE)
    shared.connections.settle(connection, DEFAULT_SITE)
    return Status("RESET")


@verb("QUIT")
def quit_(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    connection.close()
    return OK


def _look_up(
    shared: Shared, connection: Connection, credentials: list[bytes], now_ms: int
) -> tuple[Grant | None, bytes | None]:
    """Check `[site] token`; return what the token allows (None: everything), and the site, None if none was given.

    A wrong token ends the connection.
    """
    found = shared.tokens.find(credentials[-1])
    if shared.tokens and found is None:
        shared.connections.reached("wrong_token")
        shared.connections.suspected(connection, "a wrong token", now_ms=now_ms)
        connection.answers_late = True
        connection.close()
        raise errors.wrong_token()
    site = site_name(credentials[0]) if len(credentials) == 2 and credentials[0] else None
    if found is not None and found.site is not None:
        if site not in (None, found.site):
            raise errors.other_site(site or b"", found.site)
        site = found.site
    _note_what_may_be_a_mistake(shared, connection, site)
    return found, site


def _enter(shared: Shared, connection: Connection, found: Grant | None, site: bytes | None) -> None:
    """Let a connection do what its token allows, on `site`, to which SELECT 0 leads back."""
    connection.authenticated = True
    connection.may_write = found is None or found.allows(WRITE)
    shared.connections.grant(connection, found)
    subscriber = shared.subscriber(connection)
    if found is not None and found.site is not None and subscriber is not None:
        shared.push.confine(subscriber, found.site)
        connection.n_subscriptions = len(subscriber.channels)
    if site is not None:
        speak_of(shared, connection, site)
        shared.connections.settle(connection, site)


def _note_what_may_be_a_mistake(shared: Shared, connection: Connection, site: bytes | None) -> None:
    """Count a token that nobody asked for, and a site that nobody has hit; log the first, and each name once."""
    if not shared.tokens:
        shared.auth_without_token += 1
        if shared.auth_without_token == 1:
            peer = shared.connections.address(connection)
            logger.warning("a token came from %s, but this server has none and takes any: is token_file set?", peer)
    if site is not None and site not in shared.sites:
        shared.auth_to_new_site += 1
        if site not in shared.new_sites and len(shared.new_sites) < MOST_NEW_SITES:
            shared.new_sites.add(site)
            shown = errors.quote(site)
            logger.warning("AUTH names the site %s, which is new; it begins with its first hit", shown)


def _hello_options(args: list[bytes]) -> dict[str, list[bytes]]:
    """Split `[AUTH site token] [SETNAME name]` into the arguments of each option."""
    sizes = {"AUTH": 2, "SETNAME": 1}
    options = {}
    rest = list(args)
    while rest:
        option = rest.pop(0).upper().decode(errors="replace")
        size = sizes.get(option)
        if size is None or len(rest) < size:
            raise CommandError("HELLO takes a version, then AUTH site token, then SETNAME name")
        options[option], rest = rest[:size], rest[size:]
    return options
