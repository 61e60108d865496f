"""What systemd is told of a server that it started with Type=notify: ready, what it does, alive, stopping.

sd_notify(3): datagrams of NAME=value to the socket that NOTIFY_SOCKET names. WATCHDOG_USEC says how often the server
has to say that it is alive (WatchdogSec= of the unit); it says so twice as often, and only while its turns go on.

Not its job: the sockets that systemd hands over (handover).
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

import trio

from online.serve.parts import Part

#: How often the status is renewed.
STATUS_EVERY_S = 10.0

logger = logging.getLogger("online")


class Systemd(Part):
    """The part of a server that tells systemd about it. To be attached last: it is ready when all others are."""

    name = "systemd"

    def __init__(self, environ: Mapping[str, str], status: Callable[[], str]) -> None:
        """Tell whom `environ` names. `status` says in a few words what the server does."""
        self._path = environ["NOTIFY_SOCKET"]
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_us = int(environ.get("WATCHDOG_USEC", "0")) if watched else 0
        self._watchdog_s = watchdog_us / 1e6 / 2
        self._status = status
        self._loading = trio.CancelScope()
        self._has_failed = False

    async def serve(self) -> None:
        """While the server reads what it has kept, ask for patience."""
        with self._loading:
            while True:
                self.tell(STATUS=self._status(), EXTEND_TIMEOUT_USEC=str(round(3 * STATUS_EVERY_S * 1e6)))
                await trio.sleep(STATUS_EVERY_S)

    async def run(self) -> None:
        """Say that the server is ready, and then what it does and that it is alive, for ever."""
        self._loading.cancel()
        self.tell(READY="1", STATUS=self._status())
        pause_s = min(self._watchdog_s or STATUS_EVERY_S, STATUS_EVERY_S)
        while True:
            await trio.sleep(pause_s)
            self.tell(STATUS=self._status(), **({"WATCHDOG": "1"} if self._watchdog_s else {}))

    def end(self) -> None:
        self._loading.cancel()
        self.tell(STOPPING="1")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `reloaded` follows. (Type=notify-reload)"""
        self.tell(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def reloaded(self) -> None:
        """Say that it was, or that the old one holds on."""
        self.tell(READY="1")

    def tell(self, **what: str) -> None:
        """Send a message. Without a listener there is one line in the log."""
        message = "\n".join(f"{name}={value}" for name, value in what.items())
        address = f"\0{self._path[1:]}" if self._path[:1] == "@" else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), address)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                logger.warning("cannot tell systemd at %s: %s", self._path, error)
