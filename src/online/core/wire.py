"""The wire protocol for Python code: connections with all dialects and verbs.

Each module in `_PARTS` registers its dialect or its verbs when it is imported. The verbs that a `Host` runs follow.
"""

from importlib import import_module
from typing import NamedTuple

from online.core import verbs
from online.core.connection import NOT_YET, OK, Connection, Packed, Service, Status, Written
from online.core.frames import apply_hits, dump

__all__ = ["NOT_YET", "OK", "Connection", "Packed", "Service", "Status", "Written", "apply_hits", "dump"]

#: In the order in which verbs are looked up: hits first.
_PARTS = ("hits", "questions", "transactions", "resp", "msgpack")

ANY = -1


class Verb(NamedTuple):
    """A verb of the host. See `verbs.register`."""

    usage: str
    fewest: int  #: arguments
    most: int  #: ANY: any number
    before_auth: bool = False  #: whether allowed before AUTH
    at_once: bool = False  #: whether run inside MULTI
    while_loading: bool = False  #: whether allowed while the server reads from disk
    while_subscribed: bool = False  #: whether allowed in RESP2 while the connection is subscribed to channels
    asks: bool = False  #: whether answered from the index


#: Verbs that the host runs.
RARE = (
    Verb("PEAK [since_ms]", 0, 1, asks=True),
    Verb("HISTORY [from_ms [to_ms [step_s]]]", 0, 3, asks=True),
    Verb("LAST user [user ...]", 1, ANY, asks=True),
    Verb("FORGET user [user ...]", 1, ANY, asks=True),
    Verb("SITE name", 1, 1),
    Verb("SITES", 0, 0, asks=True),
    Verb("INFO [section ...]", 0, 16, while_loading=True),
    Verb("TIME [at_least_ms]", 0, 1),
    Verb("QUIT", 0, ANY, before_auth=True, at_once=True, while_loading=True, while_subscribed=True),
    Verb("RESET", 0, 0, before_auth=True, at_once=True, while_subscribed=True),
    Verb("SUBSCRIBE channel [channel ...]", 1, ANY, at_once=True, while_subscribed=True, asks=True),
    Verb("UNSUBSCRIBE [channel ...]", 0, ANY, at_once=True, while_subscribed=True),
    Verb("AUTH [site] token", 1, 2, before_auth=True, while_loading=True),
    Verb("HELLO [version [AUTH site token] [SETNAME name]]", 0, 6, before_auth=True, while_loading=True),
    Verb("CLIENT subcommand [argument ...]", 1, ANY, while_loading=True),
    Verb("SELECT site_number", 1, 1, while_loading=True),
    Verb("CONFIG subcommand [argument ...]", 1, ANY),
    Verb("COMMAND [subcommand [argument ...]]", 0, ANY),
    Verb("DBSIZE", 0, 0, asks=True),
    Verb("ROLE", 0, 0),
    Verb("LATENCY subcommand [argument ...]", 1, ANY),
    Verb("SLOWLOG subcommand [argument ...]", 1, ANY),
    Verb("MEMORY subcommand [argument ...]", 1, ANY),
    Verb("WAIT numreplicas timeout", 2, 2),
    Verb("CLUSTER subcommand [argument ...]", 1, ANY),
)

for _part in _PARTS:
    import_module(f"online.core.{_part}")
for _row in RARE:
    verbs.register(*_row)
