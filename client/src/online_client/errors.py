"""Every error of the client, and the one place where its messages are worded.

    OnlineError                     raised when
    ├── AddressError                an address cannot be understood (a ValueError)
    ├── ConnectionFailed            the server cannot be reached, or the connection broke (a ConnectionError)
    ├── Timeout                     the server did not answer in time (a TimeoutError)
    ├── ProtocolError               what came back is not an answer of an online server
    └── ServerError                 the server refused; `code` and `message` are its own
        ├── CommandError  ERR       a verb is unknown to it, or has the wrong number of arguments
        ├── RangeError    RANGE     a value is outside its limits (a ValueError)
        ├── FullError     FULL      a limit on users, pages, sites or memory is reached
        ├── TokenWantedError  NOAUTH     it needs a token and the address has none
        ├── WrongTokenError   WRONGPASS  the token is wrong
        ├── NotPermittedError  NOPERM    the token does not allow it
        ├── LoadingError  LOADING   it is still reading its state
        ├── PartialError  PARTIAL   a gateway gets no answer from a partition that is needed
        ├── DiskRefusedError  MISCONF    its disk or bus fails, and it refuses hits that could be lost
        └── FramingError  PROTO     a message broke its limits; it closed the connection

An argument that no server could take, such as a user that is neither text nor a number or a time without a
zone, is a mistake in the program: TypeError or ValueError, before anything is sent.
"""

from collections.abc import Mapping

#: How much of an unexpected answer a message shows.
SHOWN = 64


class OnlineError(Exception):
    """Base of all errors of the client."""


class AddressError(OnlineError, ValueError):
    """An address cannot be understood, or names a file that cannot be read."""


class ConnectionFailed(OnlineError, ConnectionError):
    """The server cannot be reached, or the connection broke and a new one did too."""


class Timeout(OnlineError, TimeoutError):
    """The server did not answer in time; the request may or may not have taken effect."""


class ProtocolError(OnlineError):
    """What came back is not an answer of an online server."""


class ServerError(OnlineError):
    """The server refused: `code` is its first word (see the tree above), `message` says what was wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


class CommandError(ServerError):
    """A verb is unknown to the server, or has the wrong number of arguments."""


class RangeError(ServerError, ValueError):
    """A value is outside its limits."""


class FullError(ServerError):
    """A limit on users, pages, sites or memory is reached."""


class TokenWantedError(ServerError):
    """The server needs a token, and the address has none."""


class WrongTokenError(ServerError):
    """The token is wrong."""


class NotPermittedError(ServerError):
    """The token has too low a role, or is for another site."""


class LoadingError(ServerError):
    """The server is not ready yet."""


class PartialError(ServerError):
    """A gateway gets no answer from a partition that is needed."""


class DiskRefusedError(ServerError):
    """The server's disk or bus fails, and its operator has told it to refuse hits that could be lost."""


class FramingError(ServerError):
    """A message broke the server's limits; it closed the connection."""


_BY_CODE: Mapping[str, type[ServerError]] = {
    "ERR": CommandError,
    "RANGE": RangeError,
    "FULL": FullError,
    "NOAUTH": TokenWantedError,
    "WRONGPASS": WrongTokenError,
    "NOPERM": NotPermittedError,
    "LOADING": LoadingError,
    "PARTIAL": PartialError,
    "MISCONF": DiskRefusedError,
    "PROTO": FramingError,
}


def server_error(code: str, message: str) -> ServerError:
    """The error for a code of the server; a code unknown to this client gives a plain ServerError."""
    return _BY_CODE.get(code, ServerError)(code, message)


def cannot_connect(where: object, reason: object) -> ConnectionFailed:
    """No connection could be made."""
    hint = "; if the server does not use TLS, the url should begin with online://"
    return ConnectionFailed(f"cannot connect to {where}: {reason}{hint * ('WRONG_VERSION_NUMBER' in str(reason))}")


def lost(where: object, reason: object = "the server closed it") -> ConnectionFailed:
    """A connection broke before the answer was complete."""
    return ConnectionFailed(f"the connection to {where} broke: {reason}")


def lost_unanswered(where: object) -> ConnectionFailed:
    """The server closed a new connection without an answer, as a server with TLS does to a client without."""
    hint = "; if the server uses TLS, the url should begin with onlines://"
    return lost(where, f"the server closed it{hint * str(where).startswith('online://')}")


def closed(where: object, error: ServerError) -> ConnectionFailed:
    """The server closed a connection and said why: it has too many, say."""
    return lost(where, f"the server closed it: {error}")


def too_late(where: object, timeout_s: float | None) -> Timeout:
    """The time allowed for a call is over."""
    return Timeout(f"{where} did not answer within {timeout_s:g} s")


def not_ours(data: bytes) -> ProtocolError:
    """Bytes that are no response of MessagePack-RPC; often those of our own port for browsers."""
    if data.startswith(b"HTTP/"):
        hint = "clients need the port of --listen, 8989 by default, not that of --http"
        return ProtocolError(f"an HTTP server answered: {hint}")
    return ProtocolError(f"not an online server: it answered {_cut(ascii(data.decode('latin-1')))}")


def missing_package(what: str, extra: str) -> ImportError:
    """Something needs packages that are not installed; `extra` brings them, as in the documentation."""
    return ImportError(f"{what}: pip install './client[{extra}]' in a checkout of online")


def wrong_shape(wanted: str, value: object) -> ProtocolError:
    """A response whose result is not what the verb answers."""
    return ProtocolError(f"the answer should be {wanted}, not {_cut(ascii(value))}")


def _cut(shown: str) -> str:
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
