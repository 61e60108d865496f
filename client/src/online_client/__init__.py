"""Ask an `online` server who is online and on which page, and report hits to it.

    Client          blocking; threads and forked children may share it
    AsyncClient     the same methods for asyncio and Trio; needs anyio, the extra `async`
    Reporter        hits from the request path: never waits, never raises
    presence        who is online, for pages: never waits for long, answers while the server is away

What web frameworks want stands in modules of its own, imported by who uses them: `django`, `flask`, `asgi`, `wsgi`.

The map, for a newcomer. An arrow is an allowed import; nothing imports against it.

    errors      every error and its wording
    replies     what the server answers, as small frozen values
    options     checks of what programs give
    address     urls -> where a server is                           -> errors, options
    verbs       what each verb sends, and how its answer is read    -> address, replies
    protocol    requests <-> bytes, sans-I/O                        -> verbs
    forks       what is told to lock and connection after a fork
    client      sockets around the protocol                         -> protocol, forks, options
    aio         anyio's streams around the protocol                 -> protocol, client
    buffer      hits that wait, within bounds
    brokers     streams of Redis and topics of Kafka                -> errors, forks
    bus         batches and leaves -> the bus that servers share    -> verbs, brokers, options
    reporter    a buffer and a thread around a client               -> client, forks, buffer, bus
    members     the members on a page, without the guests           -> verbs
    answers     what was answered last, and when to ask again       -> members, forks
    questions   what pages ask, sans-I/O                            -> answers
    presence    answers for pages: a client around the questions    -> client, aio, questions
    addresses   addresses in their one form, and the client behind proxies
    agents      which agents are bots
    guests      the names of guests and bots                        -> agents, options
    proxies     which proxies are trusted                           -> addresses, pageviews
    visitors    the cookie that tells guests apart
    pageviews   which requests are page views
    urls        one url for one page
    names       who is named, and what stands for nobody            -> verbs
    web         what a page view is, and whose                      -> reporter, questions, names
    wsgi, asgi, flask, django/      the frameworks                  -> web, presence; flask -> wsgi

A new verb is one function in `verbs` and one line in each of `client` and `aio`.
"""

from typing import TYPE_CHECKING

from online_client.client import Client
from online_client.errors import (
    AddressError,
    CommandError,
    ConnectionFailed,
    DiskRefusedError,
    FramingError,
    FullError,
    LoadingError,
    NotPermittedError,
    OnlineError,
    PartialError,
    ProtocolError,
    RangeError,
    ServerError,
    Timeout,
    TokenWantedError,
    WrongTokenError,
)
from online_client.replies import (
    BatchResult,
    Kinds,
    Listing,
    Page,
    Past,
    Peak,
    Section,
    Seen,
    Session,
    Site,
    State,
    TopPage,
    Viewer,
)
from online_client.reporter import Reporter, ReporterStatistics

if TYPE_CHECKING:
    from online_client.aio import AsyncClient as AsyncClient

__version__ = "1.0.0"

# Without AsyncClient, so that `import *` works where anyio is missing.
__all__ = [
    "AddressError",
    "BatchResult",
    "Client",
    "CommandError",
    "ConnectionFailed",
    "DiskRefusedError",
    "FramingError",
    "FullError",
    "Kinds",
    "Listing",
    "LoadingError",
    "NotPermittedError",
    "OnlineError",
    "Page",
    "PartialError",
    "Past",
    "Peak",
    "ProtocolError",
    "RangeError",
    "Reporter",
    "ReporterStatistics",
    "Section",
    "Seen",
    "ServerError",
    "Session",
    "Site",
    "State",
    "Timeout",
    "TokenWantedError",
    "TopPage",
    "Viewer",
    "WrongTokenError",
]


def __getattr__(name: str) -> object:
    """Import AsyncClient, and with it anyio, when it is first wanted."""
    if name == "AsyncClient":
        from online_client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
