"""The resiliency matrix: what each feature does while something goes wrong.

A row is a misfortune, which befalls a server that has a user already. A column is a feature, which is tried then. A
cell is both; what is said of it stands in docs/reliability.md, and `test_matrix` runs it.
"""

import errno
import json
import os
import resource
import shutil
import socket

import pytest
import trio
from tests.serving import START_MS, Wall, join, make_server, memory_line, unbuffered
from tests.simulation.disks import SimulatedDisk
from tests.wiring import read_resp

from online.core.datagrams import Datagrams
from online.errors import ConfigError
from online.limits import Limits
from online.serve import keeper as keeper_module
from online.serve.config import Config
from online.serve.keeper import Keeper
from online.serve.server import Server
from online.serve.syslog import Syslog

ROWS = {}
COLUMNS = {}

#: What is said of a cell where nothing else is: the feature as always.
ALWAYS = {
    "hits": "taken",
    "questions": "exact",
    "subscriptions": "told what is new",
    "log stream": "taken",
    "restart": "nobody is forgotten",
}


def row(name, **said):
    """A misfortune; `said` is of the columns in which something is not as always."""

    def registered(befall):
        befall.said = ALWAYS | {column.replace("_", " "): text for column, text in said.items()}
        ROWS[name] = befall
        return befall

    return registered


def column(try_it):
    COLUMNS[try_it.__name__.replace("_", " ")] = try_it
    return try_it


class Cell:
    """A server with the user ada on /x, and two peers of it: one that asks, and one that subscribes."""

    def __init__(self, nursery, path, draw):
        self.nursery, self.path = nursery, path / "state"
        self.wall = Wall(START_MS)
        self.disk = SimulatedDisk(draw)
        self.token = None
        self.limits = {"max_memory": 2**28}
        self.refusal = None  #: how a hit is answered, if not by OK
        self.expected = {b"ada": b"/x"}  #: who is online, and where
        self.moved_ms = 0

    async def start(self):
        self.server = make_server(
            wall=self.wall, state=self.path, limits=self.limits, token=self.token, on_disk_error="continue"
        )
        self.keeper = next(part for part in self.server.parts if isinstance(part, Keeper))
        self.keeper.folder.disk = self.disk
        self.syslog = Syslog(self.server.config, self.server.sites, self.server.service, self.server.clock.now_ms)
        self.scope, self.ended = trio.CancelScope(), trio.Event()
        await self.nursery.start(self._run)
        while self.server.service.loading:
            await trio.sleep(0.01)
        self.peer, self.subscriber = join(self.server, self.nursery), join(self.server, self.nursery)
        for peer in (self.peer, self.subscriber):
            if self.token:
                await peer.ask(b"AUTH " + self.token)

    async def _run(self, *, task_status):
        with self.scope:
            await self.server.run(task_status=task_status)
        self.ended.set()

    def is_nearly_full(self, answer):
        """A hit may still find room where hundreds have found none: the blocks of some height are left."""
        return self.refusal == b"-FULL" and answer == b"+OK\r\n"

    async def stop(self):
        self.server.stop()
        await self.ended.wait()

    async def kill(self):
        """End as kill -9 does: the next server has what is on the disk at this moment."""
        left = self.path.with_name(f"{self.path.name}-")
        self.disk.left_after(self.path, left, has_power=True)
        self.path = left
        self.scope.cancel()
        await self.ended.wait()

    async def snapshot(self):
        await self.keeper._take_snapshot()

    def connect(self, make_line=memory_line):
        return join(self.server, self.nursery, make_line=make_line)


# Columns


@column
async def hits(cell):
    answer = await cell.peer.ask(b"HIT bob /y")
    if cell.refusal and not cell.is_nearly_full(answer):
        assert answer.startswith(cell.refusal)
    else:
        assert answer == b"+OK\r\n"
        cell.expected[b"bob"] = b"/y"
    await questions(cell)


@column
async def questions(cell):
    now_ms = cell.server.clock.now_ms()
    index = cell.server.sites[b"default"]
    assert dict(row[:2] for row in index.recent(1_000, now_ms=now_ms)[0]) == cell.expected
    index._check()
    if cell.refusal == b"-NOAUTH":
        assert (await cell.peer.ask(b"COUNT")).startswith(b"-NOAUTH")
        return
    assert await cell.peer.ask(b"COUNT") == b":%d\r\n" % len(cell.expected)
    page = await cell.peer.ask(b"PAGE /x 1000")
    here = sum(url == b"/x" for url in cell.expected.values())
    assert page.startswith(b"*4\r\n:%d\r\n:%d\r\n*%d\r\n" % (len(cell.expected), here, here))


@column
async def subscriptions(cell):
    """A state at once, and another when something has changed: the newest is exact."""
    answer = await cell.subscriber.ask(b"SUBSCRIBE count page:/x")
    if cell.refusal == b"-NOAUTH":
        assert answer.startswith(b"-NOAUTH")
        return
    told = await _newest_states(cell, answer)
    assert set(told) == {b"count", b"page:/x"}
    answer = await cell.peer.ask(b"HIT bob /x")
    if answer == b"+OK\r\n":
        cell.expected[b"bob"] = b"/x"
        assert set(await _newest_states(cell)) == {b"count", b"page:/x"}
    else:
        assert answer.startswith(cell.refusal)
    await trio.sleep(2)
    with trio.move_on_after(5):
        pytest.fail(f"told although nothing has changed: {await cell.subscriber.receive()}")
    await questions(cell)


async def _newest_states(cell, received=b""):
    """The last state of each channel that comes in two seconds, which are as the cell expects."""
    with trio.move_on_after(2):
        while more := await cell.subscriber.receive():
            received += more
    messages = [reply for reply in read_resp(received) if reply[0] == b"message"]
    told = {channel: json.loads(state) for _, channel, state in messages}
    here = sum(url == b"/x" for url in cell.expected.values())
    for channel, state in told.items():
        if channel == b"count":
            assert state["people"] == len(cell.expected)
        else:
            assert (state["online"], state["here"]) == (len(cell.expected), here)
            assert len(state["users"]) == min(here, 30)
    return told


@column
async def log_stream(cell):
    line = (
        b'<190>Nov 14 22:13:20 web nginx: ::1 - %b [14/Nov/2023:22:13:%02d +0000] "GET /z HTTP/1.1" 200 1 "-" "Mozilla"'
    )
    found = {}
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sending, receiving:
        sending.send(line % (b"cleo", 20))
        datagrams = Datagrams()
        datagrams.receive(receiving.fileno())
    cell.syslog._take(datagrams, found)
    cell.syslog._give(b"default", found[b"default"])
    now_ms = cell.server.clock.now_ms()
    if cell.refusal != b"-FULL" or cell.server.sites[b"default"].seen([b"cleo"], now_ms=now_ms) != [None]:
        cell.expected[b"cleo"] = b"/z"
    await questions(cell)


@column
async def restart(cell):
    cell.disk.recover()
    await cell.stop()
    await cell.start()  # its peer has the token
    cell.refusal = None if cell.token else cell.refusal
    await questions(cell)
    assert not [left for left in os.listdir(cell.path) if left.endswith(".new")]


# Rows: the disk


@row(
    "disk full",
    hits="taken, kept in memory",
    log_stream="taken, kept in memory",
    restart="nobody is forgotten, if it has room again",
)
async def disk_full(cell):
    cell.disk.fill(cell.keeper._fd)


@row(
    "disk read-only, or it fails (EIO)",
    hits="taken, kept in memory",
    log_stream="taken, kept in memory",
    restart="nobody is forgotten, if it works again",
)
async def disk_fails(cell):
    cell.disk.code = errno.EROFS
    cell.disk.sync_code = errno.EIO
    await cell.peer.ask(b"HIT dan /x")
    cell.expected[b"dan"] = b"/x"
    await trio.sleep(2)
    assert cell.keeper.errors


async def change_file(cell, kind, change):
    """Stop, change the newest file of a kind, and start again."""
    await cell.stop()
    kept = cell.keeper.folder.kept(kind)[-1].path
    kept.write_bytes(change(kept.read_bytes()))
    await cell.start()


@row("damaged snapshot", restart="nobody is forgotten: the one before and the journal are read")
async def damaged_snapshot(cell):
    await cell.snapshot()
    await cell.peer.ask(b"HIT dan /x")
    cell.expected[b"dan"] = b"/x"
    await cell.snapshot()
    await change_file(cell, "snapshot", lambda data: data[:60] + b"?" + data[61:])
    assert cell.keeper.report.damage


@row("torn journal", restart="nobody who was answered is forgotten")
async def torn_journal(cell):
    await change_file(cell, "journal", lambda data: data + data[-20:-5])
    assert not cell.keeper.report.damage


@row("damaged journal", restart="what is before the bad record; the file is kept")
async def damaged_journal(cell):
    await cell.peer.ask(b"HIT lost /x")
    await cell.peer.ask(b"HIT dan /x")
    await change_file(cell, "journal", lambda data: data.replace(b"lost", b"l?st"))
    cell.expected.pop(b"dan", None)  # it stands behind the bad record of the same segment
    assert cell.keeper.report.damage


# Rows: the process ends


@row("killed during a snapshot")
async def killed_during_a_snapshot(cell):
    snapshot = keeper_module.Snapshot(cell.keeper.folder, cell.server.sites, cell.keeper._head("snapshot", 99))
    next(snapshot.pieces())
    await cell.kill()
    await cell.start()


@row("killed during recovery")
async def killed_during_recovery(cell):
    await cell.kill()
    again = shutil.copytree(cell.path, cell.path.with_name("begun"))
    first_s, keeper_module.FIRST_S = keeper_module.FIRST_S, 0.0
    try:
        with trio.move_on_after(0.001):
            server = make_server(wall=cell.wall, state=again, limits=cell.limits)
            await server.run()
    finally:
        keeper_module.FIRST_S = first_s
    cell.path = again
    await cell.start()


@row("killed under load")
async def killed_under_load(cell):
    for number in range(50):
        await cell.peer.ask(b"HIT load-%d /x" % number)
        cell.expected[b"load-%d" % number] = b"/x"
    await cell.peer.send(b"HIT load-0 /x\r\nHIT load-1")
    await cell.kill()
    await cell.start()


@row("clock set by an hour, forward and back")
async def clock_set(cell):
    for by_s in (3600, -7200, 3600):
        cell.wall.ahead_ms += 1000 * by_s
        await trio.sleep(1.5)
    assert cell.server.clock.steps == 3


# Rows: clients


@row("half-open client", hits="taken; the frame that never ends is closed after its time")
async def half_open_client(cell):
    peer = cell.connect()
    await peer.send(b"*3\r\n$3\r\nHIT\r\n$4")
    await trio.sleep(31)
    assert (await peer.receive_rest()).startswith(b"-")


@row("client that never reads", hits="taken; the client is closed after its time")
async def client_that_never_reads(cell):
    peer = cell.connect(unbuffered)
    await peer.send(b"INFO\r\n" * 2_000)
    await trio.sleep(15)
    assert cell.server.connections.limits_reached["slow"] == 1


@row("10,000 idle clients")
async def idle_clients(cell):
    held = [cell.server.connections.open()[0] for _ in range(10_000)]
    assert cell.server.service.buffered_bytes < 4096
    cell.held = held


@row("garbage, and lengths of a gigabyte", hits="taken; the sender gets an error and is closed")
async def garbage(cell):
    for sent in (
        b"$1073741824\r\n",
        b"*2\r\n$3\r\nHIT\r\n$1073741824\r\n",
        b"\x94\x00\x01\xdb\x40\0\0\0",
        os.urandom(3_000),
    ):
        peer = cell.connect()
        await peer.send(sent + b"\r\n")
        await peer.stream.send_stream.aclose()
        await peer.receive_rest()
    assert cell.server.connections.failures == 0


@row("duplicates, reordering, late hits", hits="taken; the newest wins")
async def disorder(cell):
    now_ms = cell.wall()
    for at_ms in (now_ms - 5, now_ms - 5, now_ms - 9, now_ms - 5_000_000):
        await cell.peer.ask(b"HIT dan /x %d" % at_ms)
    cell.expected[b"dan"] = b"/x"
    statistics = cell.server.sites[b"default"].statistics()
    assert (statistics.stale, statistics.late) == (1, 1)


@row("hostile names", hits="taken as they are, or refused if too long")
async def hostile_names(cell):
    for name in (b"\r\n+OK", b"\0", b"../../etc/passwd", b"\xff\xfe", b"\x1b[2J", b"{{7*7}}"):
        answer = await _say(cell.peer, b"HIT", name, b"/x")
        assert answer == b"+OK\r\n"
        cell.expected[name] = b"/x"
    assert (await _say(cell.peer, b"HIT", b"x" * 257, b"/x")).startswith(b"-RANGE")


async def _say(peer, *words):
    await peer.send(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    return await peer.receive()


@row("flood of names made to collide", hits="taken: the hash has a secret")
async def hash_flood(cell):
    names = [b"%d" % (number << 20) for number in range(900)]
    for name in names:
        await cell.peer.send(b"HIT %b /x\r\n" % name)
        await cell.peer.receive()
    cell.expected |= dict.fromkeys(names, b"/x")


# Rows: what runs out, and who may not


@row("memory limit", hits="refused: FULL", log_stream="refused, counted")
async def memory_limit(cell):
    budget = cell.server.sites.budget
    budget.limit_bytes = budget.used_bytes
    number = refused = 0
    while refused < 300:  # a block of some size may be left for long
        user, url = b"%b-%d" % (b"x" * (number % 16), number), b"/x" if number % 2 else b"/%d" % number
        if await cell.peer.ask(b"HIT %b %b" % (user, url)) == b"+OK\r\n":
            cell.expected[user] = url
            refused = 0
        else:
            refused += 1
        number += 1
    cell.refusal = b"-FULL"


@row("file descriptors used up", hits="taken from who is connected; others wait")
async def descriptors(cell):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        cell.server.connections.no_room(errno.EMFILE)
        assert await cell.peer.ask(b"HIT dan /x") == b"+OK\r\n"
        cell.expected[b"dan"] = b"/x"
        await trio.sleep(3)  # nothing of what is tended needs another
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@row("client without the token", hits="refused: NOAUTH", questions="refused: NOAUTH", subscriptions="refused: NOAUTH")
async def without_the_token(cell):
    await cell.stop()
    cell.token = b"secret"
    await cell.start()
    cell.peer, cell.subscriber = cell.connect(), cell.connect()
    cell.refusal = b"-NOAUTH"


@row("TLS set up wrongly", hits="the server says so and does not begin; one that runs goes on")
async def tls_set_up_wrongly(cell):
    bad = cell.path / "no-certificate"
    bad.write_bytes(b"-----BEGIN NONSENSE-----")
    with pytest.raises(ConfigError, match="no-certificate"):
        Server(Config(listen=(), tls_cert=bad, tls_key=bad, limits=Limits()))
    bad.unlink()


def table():
    """The table of docs/reliability.md."""
    lines = ["| when there is | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, befall in ROWS.items():
        lines.append(f"| {name} | " + " | ".join(befall.said[each] for each in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
