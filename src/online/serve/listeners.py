"""Opens the sockets of a server: TCP and Unix sockets for connections, UDP and Unix sockets for datagrams.

The only file that opens any; it takes those that were open before (handover). Not its job: what comes in there
(streams, reactor, syslog).

Invariants:
1. All sockets that were asked for are open, or none is.
2. A Unix socket has its permissions before anybody can connect to it.
3. A path is removed only if nobody has its socket open: one that was left behind at the start, and our own at the
   end, unless another server has put its socket there since.
"""

import errno
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import trio

from online.errors import ConfigError
from online.limits import Limits
from online.serve.config import Address
from online.serve.handover import Handed
from online.serve.progress import ProgressListener

#: Connections that may wait to be accepted; the system takes the least of this and its own limit.
BACKLOG = 0xFFFF

#: What the system may hold of a TCP connection, in bytes. It would take megabytes for each client that never reads, and
#: nothing counts them. Output that waits in the server is counted (max_output, max_buffers).
UNSENT_BYTES = 64 * 1024
SEND_BUFFER_BYTES = 256 * 1024
RECEIVE_BUFFER_BYTES = 1024 * 1024

Listener = trio.abc.Listener[trio.abc.Stream]
Socket = socket.socket

HANDED = Handed(os.environ)

#: What tells a file from another that has its path, or its inode, later: device, inode, and when it was made. Its
#: permissions and its owner may change.
_Identity = tuple[int, int, int]


@asynccontextmanager
async def open_listeners(
    addresses: Sequence[Address],
    *,
    unix_mode: int | None = None,
    tls: ssl.SSLContext | None = None,
    send_timeout_s: float = Limits.send_timeout_s,
) -> AsyncIterator[list[tuple[Address, Listener]]]:
    """Listen for connections; with `tls`, those over TCP speak it. Raises ConfigError.

    The system ends a TCP connection whose other end took nothing for `send_timeout_s`.
    """
    async with _opened(addresses, socket.SOCK_STREAM, unix_mode, "listen on") as opened:
        for address, listening in opened:
            if address.path is None:
                _bound_connections(listening, send_timeout_s)
        yield [(address, _listener(address, listening, tls)) for address, listening in opened]


@asynccontextmanager
async def open_datagrams(
    addresses: Sequence[Address], *, unix_mode: int | None = None, purpose: str
) -> AsyncIterator[list[tuple[Address, socket.socket]]]:
    """Open sockets for datagrams, which do not block. Raises ConfigError: cannot `purpose` an address."""
    async with _opened(addresses, socket.SOCK_DGRAM, unix_mode, purpose) as opened:
        yield opened


def detached(stream: trio.SocketStream) -> Socket:
    """Take the socket of a stream, which does not block and is the caller's from here on."""
    return socket_of(stream.socket.detach())


def socket_of(fd: int) -> Socket:
    """Make a socket of a descriptor, which does not block and is the socket's from here on."""
    connected = socket.socket(fileno=fd)
    connected.setblocking(False)
    return connected


def peer_address(fd: int) -> str:
    """Say where a connected socket leads to."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connected:
            name = connected.getpeername()
    except OSError:  # there is no socket, the peer has gone, or no more files may be open
        return "an unknown address"
    return str(Address(name[0], name[1])) if isinstance(name, tuple) else "a Unix socket"


def ends_of(fd: int) -> tuple[str, str]:
    """Return where a connected socket leads to and where it ends here, written as in Redis' CLIENT LIST."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connected:
            names = connected.getpeername(), connected.getsockname()
    except OSError:
        return "?:0", "?:0"
    if isinstance(names[0], tuple):
        peer, own = (str(Address(name[0], name[1])) for name in names)
        return peer, own
    path = f"{quote(str(names[1]))}:0"  # a client of a Unix socket has no name of its own
    return path, path


def _bound_connections(listening: socket.socket, send_timeout_s: float) -> None:
    """Limit what the system holds of connections, and for how long. They inherit the options of their listener."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    for name, value in (("TCP_NOTSENT_LOWAT", UNSENT_BYTES), ("TCP_USER_TIMEOUT", round(1000 * send_timeout_s))):
        option = getattr(socket, name, None)
        if option is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _listener(address: Address, listening: socket.socket, tls: ssl.SSLContext | None) -> Listener:
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    if tls is None or address.path is not None:
        return listener
    return trio.SSLListener(ProgressListener(listener), tls)


@asynccontextmanager
async def _opened(
    addresses: Sequence[Address], kind: socket.SocketKind, unix_mode: int | None, purpose: str
) -> AsyncIterator[list[tuple[Address, socket.socket]]]:
    """Open all sockets, or none; close them at the end, and remove those that have a path."""
    opened: list[tuple[Address, socket.socket]] = []
    ours: dict[Path, _Identity] = {}
    try:
        for address in addresses:
            try:
                handed = None if address.path is None else HANDED.take(kind, address.path)
                if handed is not None:
                    _make_ready(handed, kind)
                    opened.append((address, handed))
                elif address.path is None:
                    await _open_inet(address, kind, opened)
                else:
                    opened.append((address, _open_unix(address.path, kind, unix_mode)))
                    ours[address.path] = _identity(address.path)
            except (OSError, UnicodeError) as error:
                raise ConfigError(f"cannot {purpose} {address}: {_why(error)}") from None
        yield opened
    finally:
        for path, identity in ours.items():
            with suppress(FileNotFoundError):
                if _identity(path) == identity:
                    path.unlink()
        for _, each in opened:
            each.close()


async def _open_inet(
    address: Address, kind: socket.SocketKind, opened: list[tuple[Address, socket.socket]]
) -> None:
    """Open a socket at each address of a host, and add it to `opened`. IPv6 may be unknown to the system."""
    found = await trio.socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    before = len(opened)
    unsupported = None
    for family, _, protocol, _, where in found:
        handed = HANDED.take(kind, (str(where[0]), int(where[1])))
        if handed is not None:
            _make_ready(handed, kind)
            opened.append((Address(str(where[0]), int(where[1])), handed))
            continue
        try:
            each = socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            unsupported = error
            continue
        try:
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(where)
            _make_ready(each, kind)
        except BaseException:
            each.close()
            raise
        name = each.getsockname()
        opened.append((Address(name[0], name[1]), each))
    if len(opened) == before and unsupported is not None:
        raise unsupported


def _open_unix(path: Path, kind: socket.SocketKind, mode: int | None) -> socket.socket:
    """Open a socket at a path. Between bind and listen nobody can connect: the mode is set by then."""
    _remove_stale(path, kind)
    opened = socket.socket(socket.AF_UNIX, kind)
    try:
        opened.bind(str(path))
        if mode is not None:
            path.chmod(mode)
        _make_ready(opened, kind)
    except BaseException:
        opened.close()
        raise
    return opened


def _make_ready(opened: socket.socket, kind: socket.SocketKind) -> None:
    opened.setblocking(False)
    if kind == socket.SOCK_STREAM:
        opened.listen(BACKLOG)


def _remove_stale(path: Path, kind: socket.SocketKind) -> None:
    """Remove a socket that nobody has open any more. Raises OSError if somebody does, or it is none."""
    in_use = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "exists and is not a socket")
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink()
    except FileNotFoundError:
        pass
    except BlockingIOError:  # so many wait there that one more does not fit
        raise in_use from None
    else:
        raise in_use


def _identity(path: Path) -> _Identity:
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _why(error: Exception) -> str:
    """Say in one line why nobody can listen there."""
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return f"{reason}, another server listens there"
    return reason
