"""Streams over sockets that give up when sending makes no progress, and know what the system still holds.

Not its job: other deadlines (streams).
"""

import errno
import fcntl
import math
import struct
import termios

import trio

#: How often a socket that is not writable is tried nevertheless: it may have room for less than makes it so.
TRY_EVERY_S = 1.0


class TooSlowError(trio.BrokenResourceError):
    """The other end has taken nothing for too long."""


class ProgressStream(trio.abc.HalfCloseableStream):
    """The stream of a socket. Each time that the system has taken some of what is being sent, that is progress."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Become the owner of `stream`."""
        self._stream = stream
        self.patience_s = math.inf  #: how long sending may be without progress

    def fileno(self) -> int:
        return self._stream.socket.fileno()

    def unsent_bytes(self) -> int:
        """Return how much was sent and has not arrived."""
        return unsent_bytes(self.fileno())

    def held_by_system(self) -> int:
        """Return how much was sent and has not arrived, and how much has come and was not read."""
        return unsent_bytes(self.fileno()) + _count(self.fileno(), termios.FIONREAD)

    def reset_at_close(self) -> None:
        """Break off when this is closed, so that the system frees what it holds."""
        self._stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))

    def is_reset(self) -> bool:
        """Whether the other end has broken off, so that nothing that is sent will arrive."""
        return bool(self._stream.socket.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_ERROR))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Raises TooSlowError when a try that began after `patience_s` without progress fails."""
        progressed = trio.current_time()
        with memoryview(data) as view:
            n_sent = 0
            while n_sent < len(view):
                began = trio.current_time()
                with trio.move_on_after(TRY_EVERY_S) as scope, view[n_sent:] as rest:
                    n_sent += await self._send(rest)
                if not scope.cancelled_caught:
                    progressed = trio.current_time()
                elif began - progressed >= self.patience_s:
                    raise TooSlowError

    async def _send(self, data: memoryview) -> int:
        try:
            return await self._stream.socket.send(data)
        except OSError as error:
            kind = TooSlowError if error.errno == errno.ETIMEDOUT else trio.BrokenResourceError
            raise kind(f"sending failed: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


def unsent_bytes(fd: int) -> int:
    """Return how much was sent by a socket and has not arrived."""
    return _count(fd, termios.TIOCOUTQ)


def _count(fd: int, question: int) -> int:
    """Ask the system for a number of bytes; 0 where it does not know."""
    try:
        answer: int = struct.unpack("i", fcntl.ioctl(fd, question, bytes(4)))[0]
    except OSError:
        return 0
    return answer


class ProgressListener(trio.abc.Listener[ProgressStream]):
    """A listener with such streams."""

    def __init__(self, listener: trio.SocketListener) -> None:
        """Become the owner of `listener`."""
        self._listener = listener

    async def accept(self) -> ProgressStream:
        return ProgressStream(await self._listener.accept())

    async def aclose(self) -> None:
        await self._listener.aclose()
