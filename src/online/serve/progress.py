"""Streams over sockets that tell of progress: whenever the system has taken some of what is being sent."""

from collections.abc import Callable

import trio

#: How often a socket that is not writable is tried nevertheless: it may have room for less than makes it so.
TRY_EVERY_S = 1.0


class ProgressStream(trio.abc.HalfCloseableStream):
    """The stream of a socket, which tells whenever the system has taken some of what is being sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Become the owner of `stream`."""
        self._stream = stream
        self.progressed: Callable[[], None] = lambda: None

    def fileno(self) -> int:
        return self._stream.socket.fileno()

    def is_reset(self) -> bool:
        """Whether the other end has broken off, so that nothing that is sent will arrive."""
        return bool(self._stream.socket.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_ERROR))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            n_sent = 0
            while n_sent < len(view):
                with trio.move_on_after(TRY_EVERY_S), view[n_sent:] as rest:
                    n_sent += await self._send(rest)
                    self.progressed()

    async def _send(self, data: memoryview) -> int:
        try:
            return await self._stream.socket.send(data)
        except OSError as error:
            raise trio.BrokenResourceError(f"sending failed: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ProgressListener(trio.abc.Listener[ProgressStream]):
    """A listener whose streams tell of progress."""

    def __init__(self, listener: trio.SocketListener) -> None:
        """Become the owner of `listener`."""
        self._listener = listener

    async def accept(self) -> ProgressStream:
        return ProgressStream(await self._listener.accept())

    async def aclose(self) -> None:
        await self._listener.aclose()
