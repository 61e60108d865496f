"""Sockets that were open before the server: those of a `.socket` unit of systemd.

Not its job: to open any (listeners). A socket is used in place of one that would be opened at the same address.

sd_listen_fds(3): the environment says which process they are for (LISTEN_PID) and how many they are (LISTEN_FDS); they
are the descriptors from 3 on.
"""

import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

FIRST_FD = 3

#: What tells a socket from others: its type, and its name: a path, or a host and a port.
Name = tuple[socket.SocketKind, Path | tuple[str, int]]


class Handed:
    """Sockets that may be taken, each once."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take over what `environ` says is for this process; processes that it starts are not told of them."""
        self._sockets: dict[Name, socket.socket] = {}
        pid, number = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "0")
        environ.pop("LISTEN_FDNAMES", None)
        if pid == str(os.getpid()) and number.isdigit():
            for fd in range(FIRST_FD, FIRST_FD + int(number)):
                os.set_inheritable(fd, False)
                each = socket.socket(fileno=fd)
                self._sockets[each.type, _name(each)] = each

    def take(self, kind: socket.SocketKind, name: Path | tuple[str, int]) -> socket.socket | None:
        """Return the socket that has this name, which is the caller's from here on, or None."""
        return self._sockets.pop((kind, name), None)

    def left(self) -> list[str]:
        """Return the names of those that nobody took."""
        return [f"unix:{name}" if isinstance(name, Path) else f"{name[0]}:{name[1]}" for _, name in self._sockets]


def _name(each: socket.socket) -> Path | tuple[str, int]:
    name = each.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else Path(os.fsdecode(name))
