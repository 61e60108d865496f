"""The wire protocol for Python code: connections with all dialects and verbs.

Each module in `_PARTS` registers its dialect or its verbs when it is imported. The verbs that a `Host` runs follow.
"""

from importlib import import_module

from online.core import verbs
from online.core.connection import NOT_YET, OK, Connection, Packed, Service, Status, Written
from online.core.frames import apply_hits, dump

__all__ = ["NOT_YET", "OK", "Connection", "Packed", "Service", "Status", "Written", "apply_hits", "dump"]

#: In the order in which verbs are looked up: hits first.
_PARTS = ("hits", "questions", "transactions", "resp", "msgpack")

ANY = -1

#: Verbs of the host: usage, fewest and most arguments, whether allowed before AUTH, whether run inside MULTI, whether
#: allowed while the server reads from disk, and in RESP2 while the connection is subscribed to channels, and whether
#: answered from the index.
RARE = (
    ("PEAK [since_ms]", 0, 1, False, False, False, False, True),
    ("HISTORY [from_ms [to_ms [step_s]]]", 0, 3, False, False, False, False, True),
    ("LAST user [user ...]", 1, ANY, False, False, False, False, True),
    ("FORGET user [user ...]", 1, ANY, False, False, False, False, True),
    ("SITE name", 1, 1, False),
    ("SITES", 0, 0, False, False, False, False, True),
    ("INFO [section ...]", 0, 16, False, False, True),
    ("TIME [at_least_ms]", 0, 1, False),
    ("QUIT", 0, ANY, True, True, True, True),
    ("RESET", 0, 0, True, True, False, True),
    ("SUBSCRIBE channel [channel ...]", 1, ANY, False, True, False, True, True),
    ("UNSUBSCRIBE [channel ...]", 0, ANY, False, True, False, True),
    ("AUTH [site] token", 1, 2, True, False, True),
    ("HELLO [version [AUTH site token] [SETNAME name]]", 0, 6, True, False, True),
    ("CLIENT subcommand [argument ...]", 1, ANY, False, False, True),
    ("SELECT site_number", 1, 1, False, False, True),
    ("CONFIG subcommand [argument ...]", 1, ANY, False),
    ("COMMAND [subcommand [argument ...]]", 0, ANY, False),
    ("DBSIZE", 0, 0, False, False, False, False, True),
    ("ROLE", 0, 0, False),
    ("LATENCY subcommand [argument ...]", 1, ANY, False),
    ("SLOWLOG subcommand [argument ...]", 1, ANY, False),
    ("MEMORY subcommand [argument ...]", 1, ANY, False),
    ("WAIT numreplicas timeout", 2, 2, False),
    ("CLUSTER subcommand [argument ...]", 1, ANY, False),
)

for _part in _PARTS:
    import_module(f"online.core.{_part}")
for _row in RARE:
    verbs.register(*_row)
