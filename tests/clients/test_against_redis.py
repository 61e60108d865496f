"""What clients may send, byte by byte, is treated as a real redis-server treats it.

Each input goes to both servers, whole and a byte at a time, with a PING behind it that shows whether the connection
goes on. All bytes that come back are compared; of an error, that it is one, since the words are ours.
"""

import re
import socket
import subprocess
from contextlib import suppress

import pytest
from tests.programs import program
from tests.serving import listens, server_process, until

PING = b"*1\r\n$4\r\nPING\r\n"

#: These bytes begin MessagePack, and Redis waits for ever behind NUL.
OTHERS = {0x00, 0x93, 0x94, 0xDC, 0xDD}

FIRST_BYTES = [bytes([first]) + rest for first in range(256) if first not in OTHERS for rest in (b"PING\r\n", b"")]

LENGTHS = [
    *(b"*0\r\n", b"*-1\r\n", b"*-2\r\n", b"*-100\r\n", b"*x\r\n", b"*\r\n", b"*1\n", b"*1 \r\n", b"* 1\r\n"),
    *(b"*1.0\r\n", b"*+1\r\n$4\r\nPING\r\n", b"*2147483648\r\n", b"*99999999999999999999\r\n"),
    *(b"*1\r\n$-1\r\n", b"*2\r\n$4\r\nECHO\r\n$-1\r\n", b"*1\r\n$-2\r\n", b"*1\r\n$x\r\n", b"*1\r\n$\r\n"),
    *(b"*1\r\n$+4\r\nPING\r\n", b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$4\nPING\r\n", b"*1\r\n$536870913\r\n"),
    *(b"*1\r\n:4\r\n", b"*1\r\n+PING\r\n", b"*1\r\n$99999999999999999999\r\n", b"*1\r\n$0\r\n\r\n"),
]

TEXTS = [
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n",
    b"*2\r\n$4\r\necho\r\n$4\r\n\x00\xff\r\n\r\n",
    b"*3\r\n$4\r\nECHO\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"*1\r\n$4\r\nECHO\r\n",
]

LINES = [
    *(b"", b"\n", b"   ", b"PING\n", b"ping", b"  PING  ", b"\tPING", b"PING hello", b"PING 'a b'", b"PING a b"),
    *(b'PING "a\\x41\\n"', b'PING "a', b"PING 'a", b'PING "a"b', b"PING 'a'b", b'PING ""', b"PING ''", b"ECHO"),
    *(b"$4", b"+PING", b"-ERR", b":1", b"_", b"%0", b"~0", b"#t", b",1.5", b"(1", b">1", b"|1", b"=4", b"!4"),
    *(b"QUIT", b"RESET", b"SELECT 0", b"SELECT 99", b"SELECT x", b"AUTH", b"HELLO 4", b"HELLO x", b"HELLO 2 SETNAME"),
    *(b"NOSUCH x", b"TIME x"),
]

TRANSACTIONS = [
    *(b"EXEC", b"DISCARD", b"UNWATCH", b"MULTI\r\nPING\r\nEXEC", b"MULTI\r\nNOSUCH\r\nEXEC", b"MULTI\r\nDISCARD"),
    *(b"MULTI\r\nMULTI\r\nEXEC", b"WATCH a\r\nMULTI\r\nPING\r\nEXEC", b"MULTI\r\nWATCH a\r\nEXEC", b"MULTI\r\nQUIT"),
    *(b"MULTI\r\nRESET\r\nEXEC", b"MULTI\r\nROLE\r\nSLOWLOG LEN\r\nCLUSTER INFO\r\nEXEC"),
]

QUESTIONS = [
    *(b"CLIENT", b"CLIENT NOSUCH", b"CLIENT ID x", b"CLIENT GETNAME", b"CLIENT SETNAME x\r\nCLIENT GETNAME"),
    *(b"CLIENT SETNAME 'a b'", b"CLIENT REPLY SKIP\r\nPING", b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON"),
    *(b"CLIENT NO-EVICT ON", b"CLIENT NO-EVICT x", b"CLIENT KILL", b"CLIENT KILL 192.0.2.1:1", b"CLIENT KILL ID x"),
    *(b"CLIENT KILL ID 999999999", b"CLIENT KILL ID 0", b"CLIENT KILL TYPE pubsub", b"CLIENT KILL SKIPME maybe"),
    *(b"CLIENT LIST TYPE pubsub", b"CLIENT LIST TYPE odd", b"CLIENT LIST ID", b"CLIENT LIST ID x"),
    *(b"CLIENT LIST ID 99999", b"ROLE", b"DBSIZE", b"DBSIZE x", b"WAIT 0 0", b"WAIT x 0", b"WAIT 0"),
    *(b"CLUSTER INFO", b"CLUSTER SLOTS", b"LATENCY RESET x", b"LATENCY NOSUCH"),
    *(b"LATENCY", b"LATENCY HISTORY x"),
    *(b"SLOWLOG GET", b"SLOWLOG GET 10", b"SLOWLOG GET -1", b"SLOWLOG GET -2", b"SLOWLOG GET x", b"SLOWLOG LEN"),
    *(b"SLOWLOG RESET", b"MEMORY USAGE x", b"MEMORY PURGE", b"MEMORY NOSUCH", b"INFO nosuch"),
    *(b"CONFIG GET save", b"CONFIG GET appendonly", b"CONFIG GET nosuch", b"CONFIG GET", b"CONFIG NOSUCH"),
    *(b"CONFIG GET maxmemory-policy", b"COMMAND INFO nosuch", b"COMMAND DOCS nosuch", b"COMMAND NOSUCH"),
    *(b"COMMAND LIST FILTERBY PATTERN nosuch*", b"COMMAND LIST FILTERBY PATTERN ech*"),
]

INPUTS = FIRST_BYTES + LENGTHS + TEXTS + [line + b"\r\n" for line in LINES + TRANSACTIONS + QUESTIONS]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    """The path of the Unix socket of a real redis-server."""
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    with subprocess.Popen(
        [program("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(path.parent)],
        stdout=subprocess.DEVNULL,
    ) as popen:
        until(lambda: listens(path))
        yield path
        popen.terminate()


def answers(connected, data, *, is_whole):
    """Send all of an input, a byte at a time or whole, then no more; return all that comes back."""
    received = b""
    connected.settimeout(20)
    with suppress(OSError):  # it may be closed while there is more to send
        for piece in [data] if is_whole else [bytes([byte]) for byte in data]:
            connected.sendall(piece)
        connected.shutdown(socket.SHUT_WR)
    with suppress(ConnectionResetError):
        while chunk := connected.recv(65_536):
            received += chunk
    return re.sub(rb"-[A-Z]+ [^\r\n]*\r\n", b"-an error\r\n", received)


@pytest.fixture(scope="module")
def empty_server():
    """The port of a server that nobody else uses: DBSIZE is 0."""
    with server_process() as server:
        yield server.port


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "a byte at a time"])
def test_every_input_is_answered_as_by_redis(empty_server, redis_server, is_whole):
    differing = []
    for data in INPUTS:
        with socket.socket(socket.AF_UNIX) as of_redis:
            of_redis.connect(str(redis_server))
            theirs = answers(of_redis, data + PING, is_whole=is_whole)
        with socket.create_connection(("127.0.0.1", empty_server)) as ours:
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found = answers(ours, data + PING, is_whole=is_whole)
        if theirs != found:
            differing.append((data, theirs, found))
    assert differing == []


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\0PING\r\n", b"+PONG\r\n+PONG\r\n"),  # Redis waits for ever
        (b"PING a'b\r\n", b"$3\r\na'b\r\n+PONG\r\n"),  # an error in Redis; urls and names have apostrophes
        (b"*1\r\n$4\r\nPINGxx", b"-an error\r\n"),  # Redis takes any two bytes for the end of a text
        (b"*01\r\n$04\r\nPING\r\n", b"+PONG\r\n+PONG\r\n"),  # an error in Redis
    ],
)
def test_where_it_differs_from_redis_it_does_so_on_purpose(port, data, answer):
    with socket.create_connection(("127.0.0.1", port)) as ours:
        assert answers(ours, data + PING, is_whole=True) == answer
