"""What the tests of the wire share: a host, connections without sockets, and both dialects written and read by hand."""

import gc
import struct

import msgpack

from online import errors
from online.core.index import Index
from online.core.wire import OK, Connection, Service
from online.limits import Limits

NOW = 1_700_000_000_000
TOKEN = b"secret"

#: Every code that an error reply may begin with.
CODES = {"ERR", "RANGE", "FULL", "NOAUTH", "WRONGPASS", "NOPROTO", "PROTO", "EXECABORT"}


class SmallHost:
    """Sites, and of the rare verbs those that turn a connection's knobs."""

    def __init__(self):
        self.sites = {b"default": Index(seed=bytes(16))}
        self.calls = []
        self.answer = None  # of CONFIG
        self.refusal = None  # of new sites

    def call(self, connection, verb, args, now_ms):
        self.calls.append((verb, args, now_ms))
        match verb, args:
            case "AUTH", [*_, token] if token != TOKEN:
                raise errors.wrong_token()
            case "AUTH", _:
                connection.authenticated = True
            case "HELLO", [b"2" | b"3" as version]:
                connection.resp_version = int(version)
            case "CLIENT", [b"REPLY", b"on" | b"off" | b"skip" as mode]:
                connection.reply = mode.decode()
            case "QUIT", _:
                connection.close()
            case "RESET", _:
                connection.reset()
            case "SITE", [name]:
                connection.site = name
                connection.index = self.sites.get(name)
            case "CONFIG", _:
                return self.answer
        return OK

    def open_site(self, connection, now_ms):
        if self.refusal is not None:
            raise self.refusal
        return self.sites.setdefault(connection.site, Index(seed=bytes(16)))


class Wiring:
    """A service and its host."""

    def __init__(self, *, auth_wanted=False, **limits):
        self.host = SmallHost()
        self.index = self.host.sites[b"default"]
        self.service = Service(self.host, Limits(**limits), auth_wanted=auth_wanted)

    def connect(self, site=b"default"):
        return Connection(self.service, self.host.sites.get(site), site)

    def held(self):
        """What the service holds once nobody refers to it any more: `(connections, buffered_bytes)`."""
        gc.collect()
        return self.service.connections, self.service.buffered_bytes


def feed(connection, data, *, piece=None, now_ms=NOW):
    """Give `data` to a connection, in pieces of so many bytes, and return all of its output."""
    output = b""
    for begin in range(0, len(data), piece or max(len(data), 1)):
        connection.receive(data[begin : begin + (piece or len(data))], now_ms=now_ms)
        output += drain(connection, now_ms=now_ms)
    return output


def drain(connection, *, now_ms=NOW):
    """Let a connection do all that it can, and return its output."""
    output = connection.take_output()
    while connection.has_work:
        connection.proceed(now_ms=now_ms)
        output += connection.take_output()
    return output


# RESP


def resp(*words):
    """A command as Redis clients send it; None is not given, and so empty: a command has no nil in it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        text = word.encode() if isinstance(word, str) else b"%d" % word if isinstance(word, int) else word
        parts.append(b"$%d\r\n%s\r\n" % (len(text or b""), text or b""))
    return b"".join(parts)


class RespError(str):
    """An error reply."""


def read_resp(data):
    """Read all replies: bulk text as bytes, status lines as str, errors as RespError; RESP2 and RESP3."""
    replies = []
    while data:
        reply, data = _read_reply(data)
        replies.append(reply)
    return replies


def _read_reply(data):
    line, end, rest = data[1:].partition(b"\r\n")
    assert end, f"no line: {data!r}"
    match data[:1]:
        case b"+":
            return line.decode("ascii"), rest
        case b"-":
            return RespError(line.decode("ascii")), rest
        case b":":
            return int(line), rest
        case b"_":
            return None, rest
        case b"$" if line == b"-1":
            return None, rest
        case b"$":
            n_bytes = int(line)
            assert rest[n_bytes : n_bytes + 2] == b"\r\n", f"no end of text: {rest!r}"
            return rest[:n_bytes], rest[n_bytes + 2 :]
        case b"*":
            return _read_replies(int(line), rest)
        case b"%":
            items, rest = _read_replies(2 * int(line), rest)
            return dict(zip(items[::2], items[1::2], strict=True)), rest
    raise AssertionError(f"no reply: {data!r}")


def _read_replies(number, data):
    replies = []
    for _ in range(number):
        reply, data = _read_reply(data)
        replies.append(reply)
    return replies, data


# MessagePack


def request(method, *params, msgid=0):
    return msgpack.packb([0, msgid, method, list(params)])


def notification(method, *params):
    return msgpack.packb([2, method, list(params)])


def read_pack(data):
    """Read all responses as `(msgid, error, result)`; an error as text, as RESP says it."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    responses = list(unpacker)
    assert unpacker.tell() == len(data), f"the last response is not complete: {data!r}"
    assert all(response[0] == 1 and len(response) == 4 for response in responses)
    return [(msgid, error and RespError(" ".join(error)), result) for _, msgid, error, result in responses]


def head_of_batch(number, *, msgid=0):
    """The head of a request `hits` with so many items to follow."""
    return b"\x94\x00" + msgpack.packb(msgid) + b"\xa4hits\xdd" + struct.pack(">I", number)


# Both


def in_resp(verb, args):
    return resp(verb, *args)


def in_pack(verb, args):
    return request(verb, *args)


def one_resp(output):
    (reply,) = read_resp(output)
    return reply


def one_pack(output):
    ((_, error, result),) = read_pack(output)
    return error if error is not None else result


#: name -> (write a verb with its arguments, read its one reply)
DIALECTS = {"resp": (in_resp, one_resp), "msgpack": (in_pack, one_pack)}


def as_bytes(value):
    """A reply with all its text as bytes, so that replies in both dialects compare."""
    if isinstance(value, RespError):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list | tuple):
        return [as_bytes(item) for item in value]
    return value


def ask(connection, verb, *args, now_ms=NOW):
    """Ask in RESP and return the reply, with all text as bytes."""
    return as_bytes(one_resp(feed(connection, resp(verb, *args), now_ms=now_ms)))
