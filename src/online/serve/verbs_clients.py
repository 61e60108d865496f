"""CLIENT: who is connected, what a client says of itself, and how one is ended."""

from collections.abc import Iterable
from itertools import islice
from urllib.parse import quote_from_bytes

from online import errors
from online.core.wire import OK, Connection, Status
from online.pieces import Pieces
from online.serve.given import client_name, number
from online.serve.listeners import ends_of
from online.serve.tokens import ADMIN
from online.serve.verb import Shared, is_heard, verb

_USAGE = (
    "ID, INFO, LIST [TYPE type] [ID id ...], GETNAME, SETNAME name, SETINFO attribute value, REPLY ON|OFF|SKIP, "
    "MAP layout, NO-EVICT ON|OFF, NO-TOUCH ON|OFF or KILL"
)
_KILL_USAGE = "IP:PORT, or any of ID id, ADDR ip:port, LADDR ip:port, USER site, TYPE normal and SKIPME yes|no"

#: Types of clients that Redis has; here all are `normal`.
_TYPES = (b"normal", b"master", b"slave", b"replica", b"pubsub")

_MOST_ID = 2**63 - 1


@verb("CLIENT")
def client(shared: Shared, connection: Connection, args: list[bytes], now_ms: int) -> object:
    match args[0].upper(), args[1:]:
        case b"ID", []:
            return connection.id
        case b"GETNAME", []:
            return connection.name or None
        case b"SETNAME", [name]:
            connection.name = client_name(name)
            return OK
        case b"SETINFO", [_, _]:  # the library's name and version: taken and not kept
            return OK
        case b"MAP", [layout]:
            shared.connections.go_by(connection, layout.decode(errors="replace"))
            return OK
        case b"REPLY", [mode] if mode.upper() in (b"ON", b"OFF", b"SKIP"):
            connection.reply = mode.lower().decode()
            return OK
        case (b"NO-EVICT" | b"NO-TOUCH"), [mode] if mode.upper() in (b"ON", b"OFF"):  # nothing here is touched
            return OK
        case b"INFO", []:
            return _line(shared, connection, now_ms)
        case (b"LIST" | b"KILL"), _ if not shared.connections.may(connection, ADMIN):
            raise errors.not_permitted("CLIENT LIST and KILL", ADMIN)
        case b"LIST", options:
            return _listed(shared, options, now_ms) if is_heard(connection) else None
        case b"KILL", [address]:
            return _kill_one(shared, connection, address, now_ms)
        case b"KILL", options if options and len(options) % 2 == 0:
            names = [name.upper().decode(errors="replace") for name in options[::2]]
            return _kill(shared, connection, dict(zip(names, options[1::2], strict=True)), now_ms)
    raise errors.unknown_subcommand("CLIENT", args[0], _USAGE)


# LIST and INFO


def _listed(shared: Shared, options: list[bytes], now_ms: int) -> Pieces[str]:
    """List the oldest connections that were asked for, as many as a reply may hold, each as it is when its line comes.

    Who goes away meanwhile may be left out.
    """
    found: Iterable[Connection] = list(shared.connections)
    match [options[0].upper(), *options[1:]] if options else []:
        case []:
            pass
        case [b"TYPE", kind] if kind.lower() in _TYPES:
            found = found if kind.lower() == b"normal" else ()
        case [b"ID", *ids] if ids:
            wanted = {_id(each) for each in ids}
            found = [each for each in found if each.id in wanted]
        case _:
            raise errors.unknown_subcommand("CLIENT LIST", options[0], "TYPE type, or ID id [id ...]")
    lines = []
    for each in islice(found, shared.limits.max_limit):
        if not each.is_closing:
            lines.append(_line(shared, each, now_ms))
        yield
    return "".join(lines)


def _line(shared: Shared, connection: Connection, now_ms: int) -> str:
    """Describe a connection in the fields that readers of Redis' CLIENT LIST look for, and in two of ours."""
    fd = shared.connections.fileno(connection)
    address, own_address = ends_of(fd)
    began_ms = connection.began_ms or now_ms
    fields = {
        "id": connection.id,
        "addr": address,
        "laddr": own_address,
        "fd": fd,
        "name": connection.name.decode(),
        "age": (now_ms - began_ms) // 1000,
        "idle": (now_ms - (connection.heard_ms or now_ms)) // 1000,
        "flags": "P" if connection.n_subscriptions else "N",
        "db": 0,
        "sub": connection.n_subscriptions,
        **dict.fromkeys(("psub", "ssub"), 0),
        "multi": -1,
        "qbuf": connection.input_bytes,
        **dict.fromkeys(("qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp", "obl", "oll"), 0),
        "omem": connection.output_bytes,
        "tot-mem": connection.buffered_bytes,
        "events": "r",
        "cmd": "NULL",
        "user": _plain(shared.connections.home(connection)),
        "redir": -1,
        "resp": connection.resp_version,
        "site": _plain(connection.site),
        "waiting": connection.buffered_bytes,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items()) + "\n"


def _plain(site: bytes) -> str:
    return quote_from_bytes(site, safe="")


# KILL


def _kill_one(shared: Shared, asker: Connection, address: bytes, now_ms: int) -> Pieces[Status]:
    if not (yield from _kill(shared, asker, {"ADDR": address, "SKIPME": b"no"}, now_ms)):
        raise errors.no_such_client(address)
    return OK


def _kill(shared: Shared, asker: Connection, options: dict[str, bytes], now_ms: int) -> Pieces[int]:
    """End all connections that fit the options, and return how many. Who asks is spared, unless SKIPME no."""
    skip_me = options.pop("SKIPME", b"yes").lower()
    kind = options.pop("TYPE", b"normal").lower()
    if skip_me not in (b"yes", b"no") or kind not in _TYPES or options.keys() - {"ID", "ADDR", "LADDR", "USER"}:
        given = b" ".join([*(name.encode() for name in options), kind, skip_me])
        raise errors.unknown_subcommand("CLIENT KILL", given, _KILL_USAGE)
    client_id = _id(options["ID"]) if "ID" in options else None
    n_ended = 0
    for each in [each for each in shared.connections if client_id in (None, each.id)]:
        yield
        if kind != b"normal" or not _fits(shared, each, options):
            continue
        if each is not asker:
            n_ended += shared.connections.end(each, errors.killed(), now_ms=now_ms)
        elif skip_me == b"no":
            asker.close()  # once it has its answer
            n_ended += 1
    return n_ended


def _fits(shared: Shared, connection: Connection, options: dict[str, bytes]) -> bool:
    """Tell if a connection speaks of the site and has the ends that the options name."""
    if "USER" in options and options["USER"] != shared.connections.home(connection):
        return False
    if not options.keys() & {"ADDR", "LADDR"}:
        return True
    ends = zip(("ADDR", "LADDR"), ends_of(shared.connections.fileno(connection)), strict=True)
    return all(options.get(name, end.encode()) == end.encode() for name, end in ends)


def _id(text: bytes) -> int:
    return number("client id", [text], 0, low=1, high=_MOST_ID, default=0)
