"""MessagePack-RPC as the client speaks it, sans-I/O: requests to bytes, bytes to responses. No sockets.

1. Responses come in the order of the requests; one that does not is not an answer of an online server.
2. Bytes that are no response raise ProtocolError and nothing else. The connection is then of no more use.
3. An error that answers no request says why the server closes the connection. It is raised as a ServerError, and
   is nothing that a request could be blamed for.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack

from online_client.errors import FramingError, LoadingError, ProtocolError, ServerError, not_ours, server_error
from online_client.verbs import Request

#: Responses beyond these sizes are garbage: 1,000 users with the longest names need 3 MB.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_RESPONSE_ITEMS = 1024 * 1024

#: The largest map that is taken. No answer has one; notifications may.
MAX_MAP_ITEMS = 64

#: States that are kept until somebody takes them; of more, the newest.
MAX_TOLD = 1_000

_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2
_REQUEST_HEADER = b"\x94\x00"  # an array of 4 that begins with _REQUEST

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Response:
    """The server's answer to one request: an error, or a result that the request knows how to read."""

    error: ServerError | None
    result: object

    def answer(self, request: Request[T], now_ms: int) -> T:
        """Return what `request` asked for.

        Raises ServerError if the server refused, ProtocolError if the result has the wrong shape.
        """
        if self.error is not None:
            raise self.error
        return request.read(self.result, now_ms)


@dataclass(frozen=True, slots=True)
class Together:
    """Requests that are sent at once, and answered one by one."""

    requests: tuple[Request[Any], ...]

    def answers(self, responses: Sequence[Response], now_ms: int) -> list[object]:
        """Return what was answered to each: a value, or the ServerError.

        Raises ProtocolError, and what holds for all of them: LoadingError and FramingError.
        """
        for response in responses:
            if isinstance(response.error, LoadingError | FramingError):
                raise response.error
        pairs = zip(self.requests, responses, strict=True)
        return [response.error or response.answer(request, now_ms) for request, response in pairs]


class Protocol:
    """One connection's conversation."""

    def __init__(self) -> None:
        self.told: deque[object] = deque(maxlen=MAX_TOLD)  #: params of notifications `state`, until somebody takes them
        self._unanswered: deque[int] = deque()
        self._next_msgid = 0
        self._unpacker = msgpack.Unpacker(
            unicode_errors="surrogateescape",
            max_buffer_size=MAX_RESPONSE_BYTES,
            max_array_len=MAX_RESPONSE_ITEMS,
            max_map_len=MAX_MAP_ITEMS,
            max_ext_len=0,
        )

    def send(self, request: Request[object]) -> bytes:
        """Return the bytes to send for `request`, and expect its response after those already expected."""
        msgid = self._next_msgid
        self._next_msgid = (msgid + 1) % 2**32
        self._unanswered.append(msgid)
        return b"".join((_REQUEST_HEADER, msgpack.packb(msgid), msgpack.packb(request.verb), request.params))

    def receive(self, data: bytes) -> list[Response]:
        """Take bytes of the server, cut anywhere, and return the responses that are complete with them.

        Notifications of states are in `told` then; others are passed over.

        Raises ProtocolError for anything that is no response, ServerError for an error that nothing asked
        for.
        """
        try:
            self._unpacker.feed(data)
            messages = list(self._unpacker)
        except (ValueError, msgpack.UnpackException) as error:
            raise _garbage(data) from error
        responses = []
        for message in messages:
            match message:
                case [int(kind), "state", list(params)] if kind == _NOTIFICATION:
                    self.told.append(params)
                case [int(kind), str() | bytes(), list()] if kind == _NOTIFICATION:
                    pass
                case _:
                    responses.append(self._response(message, data))
        return responses

    def _response(self, message: object, data: bytes) -> Response:
        match message:
            case [int(kind), int() | None as msgid, error, result] if (
                kind == _RESPONSE and not isinstance(result, dict)
            ):
                refusal = _error_in(error, data)
            case _:
                raise _garbage(data)
        if self._unanswered and msgid == self._unanswered[0]:
            self._unanswered.popleft()
            return Response(refusal, result)
        raise refusal or not_ours(data)


def _error_in(error: object, data: bytes) -> ServerError | None:
    match error:
        case None:
            return None
        case [str(code), str(message)]:
            return server_error(code, message)
        case _:
            raise not_ours(data)


def _garbage(data: bytes) -> ProtocolError | ServerError:
    """The error for bytes that are no response.

    A server that closes at once does not know our dialect yet and speaks RESP: an error is a line `-CODE
    message`.
    """
    line, end, _ = data.partition(b"\r\n")
    if end and line.startswith(b"-"):
        code, _, message = line[1:].decode("utf-8", "backslashreplace").partition(" ")
        return server_error(code, message)
    return not_ours(data)
