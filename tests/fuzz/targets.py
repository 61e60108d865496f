"""What is fuzzed. A target takes any bytes, and raises if something that must hold does not.

Checksums would keep a fuzzer out: those of records and heads are made right before they are read.
"""

import base64
import contextlib
import gc
import json
import sys
import tempfile
from pathlib import Path

import msgpack
from tests.core.test_wire_garbage import BATCHES, COMMANDS, LINES, check_replies
from tests.fuzz import told
from tests.fuzz.registry import TARGETS, target
from tests.keep.directories import Writer, make_sites
from tests.wiring import NOW, Wiring, drain, head_of_batch, notification, request, resp

from online.bus.entries import Entry
from online.bus.follower import Follower
from online.core.index import Index
from online.core.journal import HEAD_BYTES as RECORD_HEAD_BYTES
from online.core.journal import record, site, totals
from online.core.past import SKETCH_BYTES, estimate, merged, sketch
from online.core.replay import MAX_RECORD_BYTES, Replay
from online.core.sites import Sites
from online.core.states import States
from online.core.wire import apply_hits
from online.errors import FramingError
from online.http.messages import Request
from online.http.reader import Reader
from online.keep.folder import HEAD_BYTES, Folder, Head
from online.keep.recovery import Recovery
from online.keep.snapshots import end_frame
from online.limits import Limits
from online.logs.formats import FORMATS, reader_of
from online.logs.pages import Pages, PageView
from online.logs.rules import Rules
from online.logs.syslogheader import message_of

if sys.platform == "linux":
    from online.core.gets import PATHS, Gets

__all__ = ["TARGETS", "told"]

#: Small, so that an input of a few hundred bytes reaches them.
LIMITS = {
    "max_frame": 4_096,
    "max_frame_before_auth": 64,
    "max_items": 64,
    "max_limit": 8,
    "max_user": 16,
    "max_url": 32,
    "max_output": 1_024,
}

FAULTS = Path(__file__).parents[1] / "logs" / "faults"

# The wire

#: How a conversation is cut; its first byte chooses.
PIECES = (None, 1, 2, 3, 5, 8, 13, 64)

_wirings = [Wiring(auth_wanted=auth_wanted, **LIMITS) for auth_wanted in (False, True)]


def converse(data, piece, *, auth_wanted):
    """Talk to a server without users; return all that it says and whether it has ended the conversation."""
    wiring = _wirings[auth_wanted]
    wiring.host.sites = {b"default": Index(seed=bytes(16), max_user=16, max_url=32, max_limit=8, max_users=4)}
    connection = wiring.connect()
    output = b""
    for begin in range(0, len(data), piece or max(len(data), 1)):
        connection.receive(data[begin : begin + (piece or len(data))], now_ms=NOW)
        output += drain(connection)
    assert not connection.has_work
    assert connection.output_bytes == 0
    if wiring.service.buffered_bytes != connection.buffered_bytes:
        gc.collect()  # an open transaction and its connection refer to each other
    assert wiring.service.buffered_bytes == connection.buffered_bytes
    ended = connection.is_closing, connection.frames
    for index in wiring.host.sites.values():
        index._check()
    return output, ended


def answer(data):
    """Replies are replies, and the same wherever the input is cut."""
    knob, data = data[:1], data[1:]
    piece, auth_wanted = PIECES[knob[0] % 8 if knob else 0], bool(knob and knob[0] & 8)
    output, ended = converse(data, None, auth_wanted=auth_wanted)
    check_replies(data, output)
    if piece is not None:
        again, ended_again = converse(data, piece, auth_wanted=auth_wanted)
        assert ended_again == ended
        if b"PROTO " in output:  # it may say how long a line was, or that it was too long
            output, again = (each.partition(b"PROTO ")[0] for each in (output, again))
        assert again == output


def resp_seeds():
    yield from (b"\0" + resp(*command) for command in COMMANDS)
    yield from (b"\1" + line for line in LINES)
    yield b"\2" + resp("MULTI") + resp("HIT", "a", "/x") + resp("COUNT") + resp("EXEC") + resp("DISCARD")
    yield b"\x0b" + resp("AUTH", "secret") + resp("HIT", "a", "/x")
    yield b"\3" + b"".join(resp("HIT", f"u{number}", "/x") for number in range(6)) + resp("PAGE", "/x", 2)
    yield b"\4*2\r\n$4\r\nECHO\r\n$10000\r\n"
    yield b"\5*1000\r\n$1\r\na\r\n"


@target(resp_seeds)
def resp_commands(data):
    """Commands of Redis clients."""
    answer(data)


def msgpack_seeds():
    yield from (b"\0" + request(*command, msgid=number) for number, command in enumerate(COMMANDS))
    yield from (b"\1" + notification(*command) for command in COMMANDS)
    yield from (bytes([number % 8]) + batch for number, batch in enumerate(BATCHES))
    yield b"\3" + head_of_batch(3) + msgpack.packb(["a", "/x"]) + msgpack.packb({"a": [1]}) + msgpack.packb([1, 2, 3])


@target(msgpack_seeds)
def msgpack_requests(data):
    """Requests, notifications and batches; frames of hits from elsewhere."""
    answer(data)
    index = Index(seed=bytes(16), max_user=16, max_url=32)
    with contextlib.suppress(FramingError):
        apply_hits(index, data[1:], now_ms=NOW)
    index._check()


# HTTP

MAX_BODY_BYTES = 64


def read_requests(data, piece):
    """What a peer asks, cut into pieces; of what is refused the status alone, as the rest may say how much had come."""
    reader = Reader(lambda request: MAX_BODY_BYTES)
    for begin in range(0, len(data), piece or max(len(data), 1)):
        reader.receive(data[begin : begin + (piece or len(data))])
    assert reader.kept_bytes <= len(data) * 2
    return [each if isinstance(each, Request) else each.status for each in reader.events]


def http_seeds():
    host = b"Host: a\r\n\r\n"
    yield b"\1GET /api/v1/page?url=%2Fa%FF HTTP/1.1\r\nAccept: */*\r\nX-Empty:\r\n" + host
    yield b"\2HEAD / HTTP/1.0\r\n\r\n"
    yield b"\3POST /x HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n" + host + b"hello"
    yield b"\4POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost:a\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nT:t\r\n\r\n"
    yield b"\5OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + host
    yield b"\6GET http://b/path?q=http://c/ HTTP/1.1\r\n" + host + b"GET /2#f HTTP/1.1\r\nCookie: a\r\n" + host
    yield b"\7GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + host + b"\x81\x05hello"
    yield b"\1POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n" + host + b"0\r\n\r\n"


@target(http_seeds)
def http_requests(data):
    """Requests of HTTP: the same wherever they are cut, their bodies within the limit."""
    knob, data = data[:1], data[1:]
    whole = read_requests(data, None)
    assert all(isinstance(each, int) or len(each.body) <= MAX_BODY_BYTES for each in whole)
    assert read_requests(data, PIECES[knob[0] % 8] if knob else None) == whole


GET, TAIL = b"GET /api/v1/", b" HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: "

_asked = Wiring()
for _number in range(40):
    _asked.index.hit(b"user-%d" % _number, b"/a" if _number else b"/\xff b", seen_ms=NOW - _number, now_ms=NOW)


def get_seeds():
    for asked in (
        "count", "count?url=/a", "count?url=%2fa", "page?url=/a&limit=3", "page?limit=30&url=%2F%FF+b", "page?url=/no",
        "seen?user=user-3", "seen?user=%00", "count?url=", "page?url=/a&limit=31", "seen?user=a&user=b",
        "count?site=default",
    ):  # fmt: skip
        yield GET + asked.encode() + TAIL
        yield 2 * (GET + asked.encode() + TAIL)


def check_state(get, state):
    """What C has said about a request of HTTP is what the index says."""
    asked, index = get.query(), _asked.index
    assert set(asked) <= {"url", "user", "limit", "site"}
    assert all(len(values) == 1 for values in asked.values())
    if get.path == PATHS[0]:
        assert state == {"people": index.count(*asked.get("url", ()), now_ms=NOW), "at_ms": NOW}
    elif get.path == PATHS[1]:
        [url], [limit] = asked["url"], asked.get("limit", [b"30"])
        assert (state["online"], state["here"]) == (40, index.count(url, now_ms=NOW))
        assert len(state["users"]) == min(int(limit), state["here"])
        assert (state["cursor"] is None) == (int(limit) == 0 or int(limit) >= state["here"])
    else:
        [(url, seen_ms)] = [found or (None, None) for found in index.seen(asked["user"], now_ms=NOW)]
        [user] = state["users"]
        assert (user["url"] is None, user["seen_ms"]) == (url is None, seen_ms)


def http_gets(data):
    """What C answers without HTTP's reader: only what the reader understands, too, and as the index has it."""
    connection = _asked.connect()
    Gets(lambda now_s: HEAD, [0.001]).take(connection, TAIL, b"default", lambda *gone: None)
    connection.receive(data, now_ms=NOW)
    output = connection.take_output()
    used = len(data) - connection.input_bytes
    requests = Reader(lambda request: MAX_BODY_BYTES)
    requests.receive(data[:used])
    assert not requests.in_message
    for asked in requests.events:
        assert asked.method == "GET"
        assert output.startswith(HEAD)
        length, _, output = output.removeprefix(HEAD).partition(b"\r\n\r\n")
        check_state(asked, json.loads(output[: int(length)]))
        output = output[int(length) :]
    assert output == b""


if sys.platform == "linux":
    target(get_seeds)(http_gets)


def named(text):
    """A name as states have it."""
    with contextlib.suppress(UnicodeDecodeError):
        return text.decode()
    return {"base64": base64.b64encode(text).decode()}


def state_seeds():
    yield b"ada\0/x\0theo\0/y"
    yield "é✓💩\u2028\0/ü".encode() + b'\0"\\\x01\x7f\0/\xff\0\xed\xa0\x80\0/</script>\0\xf4\x90\x80\x80\0/\xc0\xaf'
    yield b"\0".join(b"user-%d\0/x" % number for number in range(40))


@target(state_seeds)
def states_of_names(data):
    """Names, every other one a url: the states of all channels are JSON and say what the index says; so do sketches."""
    names = data.split(b"\0")
    index, states = Index(seed=bytes(16)), States()
    pairs = list(zip(names[::2], names[1::2], strict=False))[:50]
    pairs = [(user, url) for user, url in pairs if 0 < len(user) <= 64 and 0 < len(url) <= 512]
    for user, url in pairs:
        index.hit(user, url, seen_ms=NOW, now_ms=NOW)

    def ask(channel, of):
        text, at_ms = channel(index, of, now_ms=NOW, step_ms=5)
        assert at_ms == NOW + 5
        return json.loads(text + b"}")

    for user, url in dict(pairs).items():
        here = index.count(url, now_ms=NOW)
        assert ask(states.user, user) == {"users": [{"user": named(user), "url": named(url), "seen_ms": NOW + 5}]}
        page = ask(states.page, url)
        assert (page["here"], len(page["users"])) == (here, min(here, 30))
        assert all(each["url"] == named(url) for each in page["users"])
        assert ask(states.here, url)["here"] == here
        assert len(ask(states.members, url)["users"]) == min(here, 30)
        assert ask(states.section, url)["people"] >= here
    assert ask(states.count, b"") == {"people": len(dict(pairs))}
    assert [page["people"] for page in ask(states.top, b"")["pages"]] == [n for _, n in index.top(10, now_ms=NOW)]
    one, other = [user for user, _ in pairs[::2]], [user for user, _ in pairs[1::2]]
    both = sketch(one + other)
    assert merged(sketch(one), sketch(other)) == both
    assert abs(estimate(both) - len({*one, *other})) <= 2
    with contextlib.suppress(ValueError):
        assert estimate(data[:SKETCH_BYTES]) >= 0


# The bus

BETWEEN = b"\0--\0"  #: entries


def sessions(sites):
    """Who is where at each site, and since when."""
    return {
        (name, user): (url, seen_ms, kind)
        for name, index in sites.items()
        for user, url, seen_ms, kind in index.users(b"", 1_000, now_ms=NOW)[0]
    }


def follow(entries):
    """Apply entries to sites of their own; return the follower and the sites."""
    sites = make_sites(max_sites=64)
    follower = Follower(sites, b"us", lambda: NOW)
    for _ in follower.apply(entries, lambda: None, lambda: None):
        pass
    for index in sites.values():
        index._check()
    return follower, sites


def bus_seeds():
    hits = notification("hits", ["a", "/x", NOW, "member"], ["b", "/y", NOW - 1000, "bot"])
    older = notification("hits", ["a", "/z", NOW - 5, "guest"], ["c", "/x", NOW + 90_000, "hidden"])
    leave = notification("LEAVE", "a", NOW)
    default, other = site(b"default"), site(b"other")
    yield default + hits + BETWEEN + default + older + leave
    yield default + leave + BETWEEN + default + hits + other + older
    yield hits + BETWEEN + BETWEEN + default + totals(make_sites()[b"default"]) + BETWEEN + default + hits[:-4]


@target(bus_seeds)
def bus_entries(data):
    """Entries of a bus: applied again they change nothing. In any order users have their newest time.

    At equal times the order does matter, between two hits or a hit and a leave.
    """
    entries = [Entry(b"%d-0" % NOW, b"them", frames) for frames in data.split(BETWEEN)]
    follower, sites = follow(entries)
    assert follower.entries == len(entries)
    assert follower.calls + follower.poisoned <= len(entries)
    found = sessions(sites)
    assert sessions(follow(entries * 2)[1]) == found
    if not follower.poisoned:
        turned = sessions(follow(entries[::-1])[1])
        assert all(turned[who][1] == found[who][1] for who in turned.keys() & found.keys())


# Logs

_readers = {name: Pages(reader_of(name), Rules(), key=b"k" * 32) for name in FORMATS}
_nowhere = Sites(Limits(max_memory=2**28))


def take_view(view):
    """What is no page view has a reason; a page view can be sent, and is counted."""
    if not isinstance(view, PageView):
        assert isinstance(view, str)
        return
    assert view.user
    assert view.url
    assert view.kind in ("member", "guest", "bot")
    frame = msgpack.packb([2, "hits", [view]])
    assert sum(apply_hits(_nowhere[b"default"], frame, now_ms=NOW)) == 1


def log_seeds():
    for path in sorted(FAULTS.glob("*.log")):
        yield from (b"\0" + line for line in path.read_bytes().splitlines())
    common = b'::1 - theo [14/Nov/2023:22:13:20 +0000] "GET /x?a=1 HTTP/1.1" 200 2326'
    yield b"\1" + common
    yield b"\2" + common + b' "http://r/" "Mozilla/5.0 (X11)" "203.0.113.7, 10.0.0.1"'
    yield b"\3www.example.com:80 " + common
    yield b'\4{"time": 1700000000.1, "user": "", "url": "/a", "status": 200, "method": "GET", "address": "::1"}'
    yield b"\x08" + b"theo,/x,1700000000"
    yield b"\x09" + b"theo\t/x\t1700000000"


@target(log_seeds)
def log_lines(data):
    """Lines of access logs. The first byte chooses the format."""
    name = FORMATS[data[0] % len(FORMATS) if data else 0]
    take_view(_readers[name].parse(data[1:]))


USUAL = FORMATS[:8]  #: of web servers
_usual = {name: reader_of(name) for name in USUAL}
_careful = {name: Pages(_usual[name].careful, Rules(), key=b"k" * 32) for name in USUAL}


@target(log_seeds)
def usual_lines(data):
    """Lines that C reads in one pass give what they give with care: records, page views, and these packed."""
    name = USUAL[data[0] % len(USUAL) if data else 0]
    lines = data[1:].split(b"\n")
    for line in lines:
        record = _usual[name].usual.read(line)
        assert record is None or record == _usual[name].careful(line)
    found = [_careful[name].parse(line) for line in lines]
    for _ in range(2):  # what was seen before takes another way
        assert [_readers[name].parse(line) for line in lines] == found
        packed = _readers[name].pack(lines)
        assert packed.items == b"".join(msgpack.packb(each) for each in found if not isinstance(each, str))
        assert packed.reasons == [each for each in found if isinstance(each, str)]


def syslog_seeds():
    for path in sorted(FAULTS.glob("*.datagrams")):
        yield from path.read_bytes().splitlines()
    line = b'::1 - theo [14/Nov/2023:22:13:20 +0000] "GET /x HTTP/1.1" 200 2326 "-" "Mozilla/5.0"'
    for head in (
        b"<190>Nov 22 23:55:00 web1 nginx: ",
        b"<190>1 2023-11-14T22:13:20.000Z web1 nginx 12 - - ",
        b'<190>1 2023-11-14T22:13:20Z web1 nginx 12 ID [a@1 b="c\\"]"] ',
        b"",
    ):
        yield head + line


@target(syslog_seeds)
def syslog_datagrams(data):
    """Datagrams of syslog."""
    message = message_of(data)
    assert message in data
    take_view(_readers["auto"].parse(message))


# The state directory

SEGMENT = 1


def mend(data, place):
    """Records with their checksums made right; what does not have the length of a record stays."""
    mended, at = b"", 0
    while at + RECORD_HEAD_BYTES <= len(data):
        n_bytes = int.from_bytes(data[at : at + 4], "little")
        end = at + RECORD_HEAD_BYTES + n_bytes
        if not 0 < n_bytes <= MAX_RECORD_BYTES or end > len(data):
            break
        mended += record(data[at + RECORD_HEAD_BYTES : end], SEGMENT, place + at)
        at = end
    return mended + data[at:]


def records(*all_frames):
    """Records as in a file, with checksums that nobody reads."""
    return b"".join(len(frames).to_bytes(4, "little") + bytes(4) + frames for frames in all_frames)


class Opener:
    """Opens up to three sites."""

    def __init__(self):
        self.sites = make_sites(max_sites=3, max_users=8, max_pages=4)

    def open(self, name):
        return self.sites.open(name)

    def noted(self, text):
        pass


def journal_seeds():
    hits = notification("hits", ["a", "/x", NOW, "member"], ["b", "/y", NOW - 1000, "bot"])
    leave = notification("LEAVE", "a", NOW)
    noted = totals(make_sites()[b"default"])
    yield records(site(b"default") + hits)
    yield records(site(b"default") + hits + leave, site(b"other") + hits, site(b"default") + noted)
    yield records(site(b"default") + leave + hits + noted, site(b"default") + end_frame(3))
    yield records(site(b"default") + notification("hits", *([f"u{n}", "/x", NOW - n, "guest"] for n in range(40))))
    yield records(site(b"default") + hits)[:-3]


@target(journal_seeds)
def journal_records(data):
    """Records of a journal: applied whole, or not; the same however they are cut."""
    host = Opener()
    replay = Replay(host)
    data = mend(data, 0)
    used = replay.feed(data, SEGMENT, 0, now_ms=NOW)
    assert 0 <= used <= len(data)
    assert replay.is_bad or used == len(data) or len(data) - used < MAX_RECORD_BYTES + RECORD_HEAD_BYTES
    replay.totals()
    for index in host.sites.values():
        index._check()
    if used:
        again = Replay(Opener())
        assert again.feed(data[:used], SEGMENT, 0, now_ms=NOW) == used
        assert again.n_applied == replay.n_applied or replay.is_bad


def snapshot_seeds():
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder) / "state")
        for number in range(6):
            writer.sites[b"default"].hit(b"u%d" % number, b"/%d" % (number % 2), seen_ms=NOW, now_ms=NOW)
        writer.sites[b"default"].leave(b"u1", seen_ms=NOW, now_ms=NOW)
        writer.take_snapshot()
        [kept] = writer.folder.kept("snapshot")
        whole = kept.path.read_bytes()[HEAD_BYTES:]
        writer.close()
    yield b"\0" + whole
    yield b"\1" + whole
    yield from (b"\0" + seed for seed in journal_seeds())


_folder = None


@target(snapshot_seeds)
def snapshot_files(data):
    """A directory with a snapshot, and a journal behind it: read as at a start, and never more than is there."""
    global _folder
    if _folder is None:
        base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
        _folder = tempfile.TemporaryDirectory(dir=base)
    path = Path(_folder.name)
    for left in path.iterdir():
        left.unlink()
    knob, data = data[:1] or b"\0", mend(data[1:], HEAD_BYTES)
    kinds = ("snapshot", "journal") if knob[0] & 1 else ("snapshot",)
    for kind in kinds:
        head = Head(kind, SEGMENT, 0, 1, NOW).packed()
        (path / f"{kind}-{SEGMENT:012}").write_bytes(head + data)
    sites = make_sites(max_sites=3, max_users=8, max_pages=4)
    recovery = Recovery(Folder(path), sites, lambda: NOW)
    for _ in recovery.pieces():
        pass
    report = recovery.report
    assert report.users == sites.statistics().users <= 3 * 8
    assert sum(index.statistics().pages for index in sites.values()) <= 3 * 4
    for index in sites.values():
        index._check()
