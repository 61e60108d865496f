"""One run of the simulation.

What the server must be is kept by the reference, a site each, in a time of its own: that of the run. Steps are applied
to it when they are known to be taken. Of a step without an answer either may be true; the server's sessions tell.

Two promises are weaker, as they are in the manual: when the power fails, what came since the last sync may be lost,
and while the disk fails, what came since then. There each user must be as at some moment before, and what a whole
server has synced must be there.
"""

import random
import tempfile
from collections import defaultdict
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path

import msgpack
import trio
from tests.serving import START_MS, Wall, join, make_server, run, steady, transport_in_use
from tests.simulation.clients import SimulatedClient, Step, nonsense
from tests.simulation.disks import SimulatedDisk
from tests.wiring import as_bytes, one_pack, request

from online.core.reference import DEPARTED, ReferenceIndex
from online.core.wire import dump
from online.serve import keeper as keeper_module
from online.serve.keeper import Keeper
from online.terms import KINDS

WINDOW_S = 60
ROUNDS = 7
SITES = (b"default", b"shop")
URLS = (b"/", b"/a", b"/a/b", b"/b", b"/c")
USERS = 4  #: of a client

#: What a keeper does in hours, in seconds.
SMALL = {"FIRST_S": 1e9, "SEGMENT_BYTES": 700, "SNAPSHOT_BYTES": 1_500}

#: What may happen in a round, and how often.
MISFORTUNES = {
    "nothing": 3,
    "full disk": 1,
    "cut off": 1,
    "failing sync": 1,
    "clock set": 2,
    "restart": 2,
    "kill": 3,
    "power failure": 2,
}


class World:
    """A server, its disk, and the reference."""

    def __init__(self, number, folder, *, spoil=lambda server: None):
        self.draw = random.Random(number)
        self.folder = Path(folder)
        self.spoil = spoil
        self.wall = Wall(START_MS)
        self.settings = {
            "sync": self.draw.choice([0.0, 1.0, 1.0]),
            "on_disk_error": self.draw.choice(["continue", "refuse"]),
        }
        self.disk = SimulatedDisk(self.draw)
        self.path = self.folder / "state-0"
        self.reference = {site: ReferenceIndex(window_s=WINDOW_S) for site in SITES}
        self.history = defaultdict(set)  #: (site, user) -> all states that were ever sent
        self.unsure = defaultdict(set)  #: (site, user) -> states that may be, beside what the reference says
        self.next_ms = 0  #: no two steps are of one time
        self.is_dying = False
        self.told = []
        self.seen = blake2b()  #: of all that was found, to tell whether two runs are the same

    # The server

    async def start(self, nursery):
        """Begin a server with what is in the folder."""
        server = make_server(
            wall=self.wall, state=self.path, window_s=WINDOW_S, limits={"max_memory": 2**28}, **self.settings
        )
        ticks = count()  # what ends a slice or a turn: the machine's own clock would make each run another
        server.slices._clock = lambda: next(ticks) * 0.0003
        server.verbs.clock_ns = lambda: next(ticks) * 20_000
        self.keeper = next(part for part in server.parts if isinstance(part, Keeper))
        self.keeper.folder.disk = self.disk
        self.spoil(server)
        self.server = server
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        await nursery.start(self._run)
        with trio.fail_after(60):
            while server.service.loading:
                await trio.sleep(0.01)
        # Index time less the reference's
        self.offset_ms = server.clock.now_ms() - self.now_ms()

    async def _run(self, *, task_status):
        with self.scope:
            async with trio.open_nursery() as self.lines:
                await self.server.run(task_status=task_status)
                self.lines.cancel_scope.cancel()
        self.ended.set()

    def join(self):
        """The other end of a new connection, which goes with the server."""
        return join(self.server, self.lines)

    def now_ms(self):
        """The reference's time."""
        return START_MS + steady()

    # A round

    async def round(self, nursery):
        """Some clients, perhaps a misfortune in their midst, and then all answers."""
        misfortune = self.draw.choices(list(MISFORTUNES), list(MISFORTUNES.values()))[0]
        self.told.append(misfortune)
        clients = [self._client(name) for name in (b"m", b"r", b"s")[: self.draw.randint(1, 3)]]
        self.is_dying = misfortune in ("kill", "power failure", "restart") and self.draw.random() < 0.5
        async with trio.open_nursery() as talking:
            for client in clients:
                talking.start_soon(client.talk)
            talking.start_soon(self._talk_nonsense)
            if self.is_dying:
                await trio.sleep(self.draw.choice([0, 0, 0.3, 1.2]))
                await self._befall(misfortune, clients, nursery)
        self._learn(clients)
        if not self.is_dying:
            await self._befall(misfortune, (), nursery)
        self.is_dying = False
        await self.check()
        await trio.sleep(self.draw.choice([0, 0.4, 3, 20, *(self.draw.uniform(50, 61) for _ in range(3))]))
        await self.check()

    def _client(self, name):
        """A client with steps of its own users."""
        site = self.draw.choice(SITES)
        steps = []
        for _ in range(self.draw.randint(1, 12)):
            self.next_ms = max(self.next_ms + 1, self.wall() - 1_000 - self.draw.randrange(8_000))
            user = name + b"%d" % self.draw.randrange(USERS)
            url = b"" if self.draw.random() < 0.15 else self.draw.choice(URLS)
            steps.append(Step(user, url, self.draw.choice([*KINDS, "member"]) if url else DEPARTED, self.next_ms))
        for step in steps:
            self.history[site, step.user].add(self._state(step))
        return SimulatedClient(self, site, steps)

    def _state(self, step):
        """What a step makes of its user, in the reference's time."""
        return step.seen_ms - self.server.clock.step_ms - self.offset_ms, step.url, step.kind

    async def _talk_nonsense(self):
        peer = self.join()
        with suppress(trio.BrokenResourceError):
            await peer.send(nonsense(self.draw))
            await trio.sleep(0.1)
        await trio.aclose_forcefully(peer.stream)

    def _learn(self, clients):
        """Apply what was answered, and remember what may have been applied."""
        for client in clients:
            for step in client.taken:
                self._apply(client.site, step.user, self._state(step))
            for step in (*client.open, *client.refused):
                self.unsure[client.site, step.user].add(self._state(step))

    def _apply(self, site, user, state):
        seen_ms, url, kind = state
        if kind == DEPARTED:
            self.reference[site].leave(user, seen_ms=seen_ms, now_ms=self.now_ms())
        else:
            self.reference[site].hit(user, url, seen_ms=seen_ms, kind=kind, now_ms=self.now_ms())

    # Misfortune

    async def _befall(self, what, clients, nursery):
        match what:
            case "full disk" if self.keeper._fd >= 0:
                self.disk.fill(self.keeper._fd)
            case "cut off" if self.keeper._fd >= 0:
                self.disk.cut_off(self.keeper._fd)
            case "failing sync":
                self.disk.break_down()
            case "clock set":
                self.wall.ahead_ms += 1000 * self.draw.choice([-3600, -7, 5, 3600])
                self.next_ms = 0
                await trio.sleep(1.1)
            case "restart" | "kill" | "power failure":
                await self._end_server(what, clients, nursery)
        if what in ("full disk", "cut off", "failing sync"):
            client = self._client(b"m")
            await client.talk()
            self._learn([client])
            await self.check()
            self.disk.recover()
            await trio.sleep(12)
            await self._until_whole()

    async def _until_whole(self):
        with trio.move_on_after(60):
            while not self.keeper.is_whole:
                await trio.sleep(1)
        assert self.keeper.is_whole, "the disk works again, and the server does not know"

    async def _end_server(self, what, clients, nursery):
        is_whole = self.keeper.is_whole
        if what == "restart":
            self.server.stop()
            await self.ended.wait()
        else:
            self._learn(clients)  # what is answered by now is certain
            for client in clients:
                client.taken, client.refused, client.open = [], [], list(client.open)
                client._take = lambda answers: None
            after = self.folder / f"state-{len(self.told)}"
            has_power = what == "kill"
            self.disk.left_after(self.path, after, has_power=has_power)
            self.path = after
            self.scope.cancel()
            await self.ended.wait()
            is_surely_kept = is_whole and (has_power or self.settings["sync"] == 0)
            before_ms = self.offset_ms
        await self.start(nursery)
        if what != "restart" and not is_surely_kept:
            # If the clock was set, and that was not written either, ages have changed by as much.
            moved_ms = before_ms - self.offset_ms
            for key, states in self.history.items():
                states |= {(seen_ms + moved_ms, url, kind) for seen_ms, url, kind in states}
                self.unsure[key] |= states | {None}
        report = self.keeper.report
        assert not report.damage, report.damage
        assert not report.missing, report.missing

    # Comparing

    def sessions(self, site):
        """All sessions of the server's own index, departed ones too, in the reference's time."""
        index = self.server.sites.get(site)
        found = {}
        for frames in [] if index is None else dump(index):
            unpacker = msgpack.Unpacker(raw=True)
            unpacker.feed(frames)
            for _, method, params in unpacker:
                for item in params if method == b"hits" else [[params[0], b"", params[1], DEPARTED.encode()]]:
                    user, url, seen_ms, kind = item
                    found[user] = seen_ms - self.offset_ms, url, kind.decode()
        online = self.now_ms() // 1000 - WINDOW_S
        return {user: state for user, state in found.items() if state[0] // 1000 > online}

    def expected(self, site):
        """The same of the reference."""
        self.reference[site].expire(now_ms=self.now_ms())
        return {
            session.user: (session.seen_ms, session.url, session.kind)
            for session in self.reference[site]._sessions.values()
        }

    async def check(self):
        """Compare everything with the reference; what was unsure is known then."""
        await self._until_nobody_is_connected()
        for site in SITES:
            self._settle(site)
            assert self.sessions(site) == self.expected(site), self.told
            self.seen.update(repr((self.now_ms(), sorted(self.expected(site).items()))).encode())
            index = self.server.sites.get(site)
            if index is not None:
                index._check()
        self.unsure.clear()
        peer = self.join()
        for site in SITES:
            await self._ask(peer, "SITE", site)
            await self._compare_answers(peer, self.reference[site])
        await peer.stream.aclose()
        await self._until_nobody_is_connected()
        assert self.server.statistics().buffered_bytes == 0
        assert self.server.statistics().connections_failed == 0

    async def _until_nobody_is_connected(self):
        with trio.fail_after(60):
            while self.server.connections.n_counted:
                await trio.sleep(0.01)

    def _settle(self, site):
        """Let the reference follow the server where either may be."""
        found, expected = self.sessions(site), self.expected(site)
        online_ms = (self.now_ms() // 1000 - WINDOW_S + 1) * 1000
        lost = set()
        for user in {*found, *expected}:
            states = {None if state is None or state[0] < online_ms else state for state in self.unsure[site, user]}
            if found.get(user) != expected.get(user) and found.get(user) in states:
                lost.add(user)
        if not lost:
            return
        states = {**{user: state for user, state in expected.items() if user not in lost}}
        states |= {user: found[user] for user in lost if user in found}
        self.reference[site] = ReferenceIndex(window_s=WINDOW_S)
        for user, state in sorted(states.items(), key=lambda each: each[1][0]):
            self._apply(site, user, state)

    async def _ask(self, peer, verb, *args):
        await peer.send(request(verb, *args))
        return as_bytes(one_pack(await peer.receive()))

    async def _compare_answers(self, peer, reference):
        """Every question, its times made the reference's."""
        now_ms = self.now_ms()
        to_wall = self.offset_ms + self.server.clock.step_ms
        people = await self._ask(peer, "COUNT")
        assert people == reference.count(now_ms=now_ms), (people, self.told)
        assert await self._ask(peer, "COUNT", "", 7) == reference.count(None, 7, now_ms=now_ms), self.told
        assert await self._ask(peer, "KINDS") == reference.kinds(now_ms=now_ms)
        assert await self._ask(peer, "SECTION", "/a") == list(reference.section(b"/a", now_ms=now_ms))
        top = [[url, people] for url, people in reference.top(3, now_ms=now_ms)]
        assert await self._ask(peer, "TOP", 3) == top
        for url in self.draw.sample(URLS, 2):
            people, here, viewers, _ = reference.page(url, 100, now_ms=now_ms)
            rows = [[user, seen_ms + to_wall, kind.encode()] for user, seen_ms, kind in viewers]
            assert await self._pages(peer, 2, 2, "PAGE", url) == rows, self.told
            assert (await self._ask(peer, "PAGE", url, 0))[:2] == [people, here]
        rows = [
            [user, url, seen_ms + to_wall, kind.encode()]
            for user, url, seen_ms, kind in reference.recent(100, now_ms=now_ms)[0]
        ]
        assert await self._pages(peer, 0, 3, "RECENT") == rows, self.told

    async def _pages(self, peer, place, limit, *question):
        """A whole list, `limit` at a time."""
        rows, cursor = [], None
        while True:
            answer = await self._ask(peer, *question, limit, cursor)
            rows += answer[place]
            cursor = answer[-1]
            if cursor is None:
                return rows


@contextmanager
def patched(module, values):
    """Let names of a module stand for other values."""
    before = {name: getattr(module, name) for name in values}
    try:
        vars(module).update(values)
        yield
    finally:
        vars(module).update(before)


def simulate(number, *, spoil=lambda server: None):
    """One run. Raises AssertionError; returns what has happened, and a digest of all that was found."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio._core._run._r.seed(number)
    transport = transport_in_use.set("streams")
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as folder, patched(keeper_module, SMALL):
        world = World(number, folder, spoil=spoil)

        async def live():
            async with trio.open_nursery() as nursery:
                await world.start(nursery)
                for _ in range(ROUNDS):
                    await world.round(nursery)
                world.server.stop()
                await world.ended.wait()
                nursery.cancel_scope.cancel()

        try:
            run(live)
        finally:
            world.disk.recover()
            transport_in_use.reset(transport)
            trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = False
    return world.told, world.seen.hexdigest()
