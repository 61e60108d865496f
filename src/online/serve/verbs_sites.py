"""Rare verbs about sites and what is on them: SITE SITES SELECT."""

from online import errors
from online.core.wire import OK, Connection
from online.pieces import Pieces
from online.serve.given import site_name
from online.serve.verb import Shared, is_heard, verb


@verb("SITE")
def site(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    name, own = site_name(args[0]), shared.connections.own_site(connection)
    if own not in (None, name):
        raise errors.other_site(name, own or b"")
    speak_of(shared, connection, name)
    return OK


@verb("SITES")
def sites(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    return _listed(shared, connection, now_ms) if is_heard(connection) else None


def _listed(shared: Shared, connection: Connection, now_ms: int) -> Pieces[list[tuple[bytes, int]]]:
    """Count the people of all sites as of `now_ms`, but for hits that come meanwhile."""
    listed = []
    for name, index in shared.visible_sites(connection):
        listed.append((name, index.count(now_ms=now_ms)))
        yield
    return listed


@verb("SELECT")
def select(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    if args[0] != b"0":
        raise errors.bad_database(args[0])
    speak_of(shared, connection, shared.connections.home(connection))
    return OK


def speak_of(shared: Shared, connection: Connection, site: bytes) -> None:
    """Let a connection speak of a site, which need not exist yet. Raises NotServedError."""
    shared.sites.check(site)
    connection.site = site
    connection.index = shared.sites.get(site)
