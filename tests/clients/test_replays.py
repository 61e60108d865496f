"""What clients send that Debian and PyPI do not have, as they sent it: handshake, pipeline, transaction, farewell.

Recorded from ioredis 6.0 and node-redis 6.3, which passed; where they are installed, test_clients.py talks with them.
The last two conversations are no records: they put together what reports name of clients in other languages.
"""

import socket

import pytest
from tests.wiring import RespError, read_resp, resp

SITE = "replays"

HIT, COUNT, PING = ["HIT", "ada", "/x"], ["COUNT"], ["PING"]

LIBRARY = [["client", "SETINFO", "LIB-VER", "6.0.0"], ["client", "SETINFO", "LIB-NAME", "ioredis"]]
NODE_REDIS = [["CLIENT", "SETINFO", "LIB-VER", "6.3.1"], ["CLIENT", "SETINFO", "LIB-NAME", "node-redis"]]
MAINTENANCE = ["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "external-ip"]

#: Batches: each goes out at once, and the next when all of it is answered.
REPLAYS = {
    "ioredis": [
        *([["hello", "3", "AUTH", SITE, "token"]], LIBRARY, [["info"]], [HIT], [HIT, COUNT]),
        *([["multi"], HIT, COUNT, ["exec"]], [["quit"]]),
    ],
    "node-redis": [
        *([["AUTH", SITE, "token"], *NODE_REDIS], [HIT], [HIT, COUNT], [["MULTI"], HIT, COUNT, ["EXEC"]], [["QUIT"]]),
    ],
    "node-redis with RESP3": [
        *([["HELLO", "3", "AUTH", SITE, "token"], *NODE_REDIS, MAINTENANCE], [HIT], [HIT, COUNT]),
        *([["MULTI"], HIT, COUNT, ["EXEC"]], [["QUIT"]]),
    ],
    "who asks for the role": [
        *([["HELLO", "3", "AUTH", SITE, "token", "SETNAME", "app"]], [["ROLE"]], [["INFO", "replication"]]),
        *([["COMMAND"]], [["CONFIG", "GET", "databases"]], [["CLIENT", "ID"]], [["CLUSTER", "NODES"]], [HIT], [COUNT]),
    ],
    "who is old": [
        *([["AUTH", SITE, "token"], ["SELECT", "0"]], [PING], [["WATCH", "key"]], [["MULTI"]], [HIT], [COUNT]),
        *([["DISCARD"]], [["UNWATCH"]], [HIT], [COUNT], [["QUIT"]]),
    ],
}

#: Commands that may be refused: their clients go on without.
REFUSED = ["MAINT_NOTIFICATIONS", "NODES"]


@pytest.mark.parametrize("name", REPLAYS)
def test_a_recorded_client_is_answered(port, name):
    with socket.create_connection(("127.0.0.1", port)) as connected:
        connected.settimeout(20)
        replies = []
        for batch in REPLAYS[name]:
            connected.sendall(b"".join(resp(*command) for command in batch))
            replies += zip(batch, received(connected, len(batch)), strict=True)
        is_over = replies[-1][0][0].upper() == "QUIT"
        assert not is_over or connected.recv(1) == b""
    for command, reply in replies:
        is_refused = isinstance(reply, RespError)
        assert is_refused == any(word in REFUSED for word in command), (command, reply)
    answered = [reply for command, reply in replies if command[0].upper() in ("COUNT", "EXEC")]
    assert answered in ([1, "QUEUED", ["OK", 1]], [1], ["QUEUED", 1])


def received(connected, n_replies):
    """So many replies."""
    data = b""
    while True:
        chunk = connected.recv(65_536)
        assert chunk, data
        data += chunk
        try:
            replies = read_resp(data)
        except (AssertionError, ValueError):  # not complete yet
            continue
        if len(replies) == n_replies:
            return replies
