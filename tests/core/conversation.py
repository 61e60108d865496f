"""A conversation of every verb in every dialect, as text: what was asked, and the very bytes of the answer.

`python -m tests.core.conversation` writes it, in a process of its own so that the numbers of connections begin at 1.
"""

import msgpack
from tests.wiring import feed, notification, request, resp

from online.core.index import Index
from online.core.sites import DEFAULT_SITE, Sites
from online.limits import Limits
from online.serve.verbs import Verbs

NOW_MS = 1_700_000_000_000

#: Cursors of an index with this seed are the same in each run.
SEED = bytes(16)

COMMANDS: list[list[str | int | bytes | None]] = [
    ["PING"],
    ["PING", "hello"],
    ["ECHO", "\u00e4"],
    ["ECHO", b"\xff\x00"],
    ["HIT", "theo", "/forum/1"],
    ["hit", "ada", "/forum/1", NOW_MS - 1000, "member"],
    ["HIT", "guest-1", "/forum/1", NOW_MS - 1000, "guest"],
    ["HIT", "spider", "/forum/1", "", "bot"],
    ["HIT", "shy", "/forum/2", None, "hidden"],
    ["HIT", "kim", "/forum/2", str(NOW_MS + 6000)],
    ["HIT", "late", "/forum/2", NOW_MS - 1_800_000],
    ["HIT", b"\xff\xfe", "/b\u00fccher"],
    ["HIT", 17, "/forum/1"],
    ["HIT", "", "/x"],
    ["HIT", "u" * 257, "/x"],
    ["HIT", "u", "/" + "x" * 2048],
    ["HIT", "u", "/x", 1_700_000_000],
    ["HIT", "u", "/x", "noon"],
    ["HIT", "u", "/x", "99999999999999999999"],
    ["HIT", "u", "/x", "", "alien"],
    ["HIT", "u"],
    ["LEAVE", "kim"],
    ["LEAVE", "kim", NOW_MS - 5000],
    ["COUNT"],
    ["COUNT", "/forum/1"],
    ["COUNT", "", 300],
    ["COUNT", "/forum/1", 300],
    ["COUNT", "", 0],
    ["COUNTS", "/forum/1", "/none", "/forum/2"],
    ["COUNTS", ""],
    ["KINDS"],
    ["KINDS", "/forum/1"],
    ["KINDS", "/none"],
    ["PAGE", "/forum/1"],
    ["PAGE", "/forum/1", 2],
    ["PAGE", "/forum/1", "2", ""],
    ["PAGE", "/forum/1", 0],
    ["PAGE", "/none", 30],
    ["PAGE", "/forum/1", 1001],
    ["PAGE", "/forum/1", -1],
    ["PAGE", "/forum/1", 2, "nonsense"],
    ["PAGE"],
    ["RECENT", 3],
    ["RECENT"],
    ["USERS"],
    ["USERS", "a"],
    ["USERS", "", 2],
    ["SEEN", "theo", "spider", "shy", "kim", "nobody"],
    ["SECTION", "/forum/"],
    ["SECTION", ""],
    ["TOP"],
    ["TOP", 1],
    ["TOP", 10, "/forum/2"],
    ["TOP", "many"],
    ["PEAK"],
    ["PEAK", 100_000_000_000],
    ["PEAK", 4_000_000_000_000],
    ["PEAK", "soon"],
    ["HISTORY"],
    ["LAST"],
    ["SITE", "shop"],
    ["COUNT"],
    ["PAGE", "/a"],
    ["HIT", "zoe", "/a"],
    ["PEAK"],
    ["SITES"],
    ["SITE", ""],
    ["SELECT", 0],
    ["SELECT", 1],
    ["INFO", "hits"],
    ["INFO", "limits"],
    ["INFO", "nothing"],
    ["TIME"],
    ["CONFIG", "GET", "save"],
    ["CONFIG", "SET", "save", ""],
    ["CONFIG", "GET", "maxmem*y", "data*"],
    ["COMMAND", "INFO", "HIT", "NOTHING"],
    ["COMMAND", "DOCS", "seen"],
    ["COMMAND", "LIST", "FILTERBY", "PATTERN", "c*"],
    ["DBSIZE"],
    ["ROLE"],
    ["WAIT", 1, 100],
    ["WAIT", 1],
    ["CLUSTER", "INFO"],
    ["LATENCY", "LATEST"],
    ["SLOWLOG", "GET", 10],
    ["SLOWLOG", "LEN"],
    ["MEMORY", "USAGE", "x"],
    ["INFO", "cluster", "nothing"],
    ["CLIENT", "ID"],
    ["CLIENT", "SETNAME", "web1"],
    ["CLIENT", "GETNAME"],
    ["CLIENT", "SETINFO", "lib-name", "x"],
    ["CLIENT", "NOTHING"],
    ["CLIENT", "REPLY", "SKIP"],
    ["PING"],
    ["PING"],
    ["HELLO"],
    ["HELLO", "9"],
    ["HELLO", "2", "SETNAME", "web2"],
    ["AUTH", "secret"],
    ["AUTH", "shop", "secret"],
    ["COUNT"],
    ["NOTHING", "x"],
    ["PAGEE", "/x"],
    ["RESET"],
    ["QUIT"],
]

BATCH: list[list[object]] = [
    ["a", "/1"],
    ["b", "/1", NOW_MS - 1, "guest"],
    ["c", "/1", NOW_MS - 1_800_000],
    ["d"],
    ["", "/1"],
    ["e", "/1", [1]],
    ["f", "/1", None, "bot"],
    "no hit",  # type: ignore[list-item]
    [5, 6, str(NOW_MS), "hidden"],
]

#: Sent whole, each on a connection of its own: framing, inline commands, and the first byte.
RAW = [
    b"PING\r\n",
    b"  hit 'a b' \"/\\x41\\n\"  \r\nCOUNT\r\n",
    b"SEEN 'a b'\n",
    b"\r\nPING\n",
    b"PAGE 'x\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"*0\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPINGxx",
    b"*-2\r\n",
    b"*1\r\n:4\r\n",
    b"*1\r\n$x\r\n",
    b"*2\r\n$4\r\nECHO\r\n$-1\r\n",
    b"\x94\x00\x01\xa4PING\x90\x94\x00\xcd\x01\x00\xa4ping\x90",
    b"\x94\x00\xa1x\xa4PING\x90",
    b"\x93\x01\xa4PING\x90",
    b"\x94\x00\x01\xc1",
    b"\x94\x00\x01\xa4PING\x81\x01\x02",
    b"\x94\x00\x01\xa4ECHO\x91\xc3",
    b"\x94\x00\x01\xa4ECHO\x91\x91\x05",
    b"\x94\x00\x01\xa4ECHO\x91\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",
    b"\x94\x00\x01\xa4ECHO\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x94\x00\x01\xa4ECHO\x91\xd3\xff\xff\xff\xff\x00\x00\x00\x00",
]


class Speaker:
    """A server without sockets, and one connection to it."""

    def __init__(self) -> None:
        sites = Sites(Limits(max_memory=2**30))
        sites._indexes[DEFAULT_SITE] = Index(seed=SEED)
        self.verbs = Verbs(sites)
        self.verbs.started_ms = NOW_MS
        self.verbs.service.clock_step_ms = 0
        self.verbs.clock_ns = lambda: 0  # no verb takes long, whatever the machine does
        self.connection = self.verbs.connections.open()[0]

    def say(self, data: bytes) -> bytes:
        return feed(self.connection, data, now_ms=NOW_MS)


def lines() -> list[str]:
    """The whole conversation."""
    told = []
    for version in ("2", "3"):
        speaker = Speaker()
        told += [f"RESP{version}", repr(speaker.say(resp("HELLO", version)))]
        told += [f"{command!r}\n    {speaker.say(resp(*map(_word, command)))!r}" for command in COMMANDS]
    speaker = Speaker()
    told.append("MessagePack")
    for msgid, (verb, *params) in enumerate(COMMANDS):
        told.append(f"{[verb, *params]!r}\n    {speaker.say(request(verb, *params, msgid=msgid))!r}")
    told.append("batches")
    speaker = Speaker()
    for frame in (request("hits", *BATCH, msgid=300), notification("hits", *BATCH), request("HITS", msgid=1)):
        told.append(f"{msgpack.unpackb(frame)!r}\n    {speaker.say(frame)!r}")
    told.append("raw")
    told += [f"{data!r}\n    {Speaker().say(data)!r}" for data in RAW]
    return told


def _word(value: str | int | bytes | None) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return "" if value is None else str(value)


if __name__ == "__main__":
    print("\n".join(lines()))
