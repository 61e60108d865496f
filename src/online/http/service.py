"""The part of a server that speaks HTTP: where it listens, and whom it lets in.

Not here: what is said then (conversations).
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from online.errors import ConfigError
from online.http.access import Access
from online.http.bare import BareStream
from online.http.conversations import Conversations
from online.http.hot import TakeOver
from online.http.public import Public
from online.http.routes import Routes
from online.limits import ACCEPT_PAUSE_S
from online.logs.pages import guest_key, key_beside
from online.serve import tls
from online.serve.config import DEFAULT_HTTP, Address, Config
from online.serve.listeners import Listener, detached, open_listeners
from online.serve.parts import Part
from online.serve.streams import ACCEPT_CAPACITY_ERRORS
from online.serve.verb import Shared

logger = logging.getLogger("online")


class Http(Part):
    """The part of a server that speaks HTTP."""

    name = "http"

    def __init__(
        self,
        config: Config,
        shared: Shared,
        now_ms: Callable[[], int],
        *,
        tls_context: tls.Context | None = None,
        take_over: TakeOver | None = None,
    ) -> None:
        """Serve at `config.http`, over TLS where that is TCP and there is a `tls_context`.

        `take_over`: who carries plain sockets on which little is asked any more.
        """
        self._take_over = take_over
        self.config = config
        self.addresses: tuple[Address, ...] = ()  #: where it listens
        self._shared = shared
        self._connections = shared.connections
        self._limits = shared.limits
        self._now_ms = now_ms
        self._tls_context = tls_context
        self._listeners: list[Listener] = []
        self._accepting = trio.CancelScope()
        self.conversations: Conversations

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen. At the default address only if nobody else does; there is a warning then. Raises ConfigError."""
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(
                    open_listeners(
                        (DEFAULT_HTTP,) if self.config.http is None else self.config.http,
                        unix_mode=self.config.unix_mode,
                        tls=self._tls_context,
                        send_timeout_s=self._limits.send_timeout_s,
                    )
                )
            except ConfigError as error:
                if self.config.http is not None:
                    raise
                logger.warning("%s; so there is no dashboard and no HTTP, unless --http names another address", error)
                opened = []
            self.addresses = tuple(address for address, _ in opened)
            self._listeners = [listener for _, listener in opened]
            key = guest_key(None if self.config.state is None else key_beside(self.config.state))
            session_key = hashlib.blake2b(key, person=b"online session").digest()
            access = Access(self._shared, self.config.http_host, session_key)
            public = Public(self.config.public, self.config.http_origins)
            routes = Routes(self._shared, access, lambda: self.conversations.is_ending, public)
            self.conversations = Conversations(self._shared, routes, self._now_ms, self._take_over)
            yield

    def told(self) -> Iterator[str]:
        for place in self.places():
            yield f"dashboard and API at {place}"

    def places(self) -> Iterator[str]:
        """Yield where it is: urls for browsers, and Unix sockets."""
        scheme = "http" if self._tls_context is None else "https"
        for address in self.addresses:
            yield str(address) if address.path is not None else f"{scheme}://{address}/"

    async def serve(self) -> None:
        async with trio.open_nursery() as clients:
            self.conversations.nursery = clients
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self.conversations.comment)
                    for listener in self._listeners:
                        accepting.start_soon(self._accept, listener, clients)
            for listener in self._listeners:
                await listener.aclose()
        self.conversations.nursery = None

    def end(self) -> None:
        self._accepting.cancel()
        self.conversations.end()

    async def _accept(self, listener: Listener, clients: trio.Nursery) -> None:
        """Start a task for each connection that comes in. While the system has no room, they queue there."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in ACCEPT_CAPACITY_ERRORS:
                    raise
                self._connections.no_room(error.errno)
                await trio.sleep(ACCEPT_PAUSE_S)
            else:
                if isinstance(stream, trio.SocketStream):
                    stream = BareStream(detached(stream))
                clients.start_soon(self.conversations.serve, stream)
