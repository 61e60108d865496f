"""A stream over a plain socket, with no more around it than HTTP needs: a third less work for a request.

Not here: whose turn it is. Each `receive_some` lets the others have theirs; a send that is taken whole does not.
"""

import trio

from online.serve.listeners import Socket
from online.serve.progress import unsent_bytes


class BareStream(trio.abc.HalfCloseableStream):
    """The stream of a connected socket."""

    def __init__(self, connected: Socket) -> None:
        """Become the owner of a socket, which does not block."""
        self._socket = connected

    def fileno(self) -> int:
        """Return the descriptor of the socket, which stays the stream's; -1 once it is closed."""
        return self._socket.fileno()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or 65_536)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"receiving failed: {error}") from error

    def unsent_bytes(self) -> int:
        """Return how much the system has to send still."""
        return unsent_bytes(self.fileno())

    def detach(self) -> int:
        """Give the socket away: return its descriptor, which is the caller's from here on."""
        trio.lowlevel.notify_closing(self._socket)
        return self._socket.detach()

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send as much as the system takes at once; return how many bytes that were."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"sending failed: {error}") from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        with memoryview(data) as view:
            n_sent = 0
            while n_sent < len(view):
                n_sent += self.send_now(view[n_sent:])
                if n_sent < len(view):
                    await trio.lowlevel.wait_writable(self._socket)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self._socket.shutdown(trio.socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(f"the other end has gone: {error}") from error

    async def aclose(self) -> None:
        if self.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()
