"""Which of its own entries a server applies again: servers on a log in memory, and all that happens in random order."""

import random

import msgpack
import pytest

from online.bus.echoes import LATE_S, Echoes
from online.bus.entries import DUMP, Entry
from online.bus.follower import Follower
from online.bus.forgetting import frames
from online.core.frames import dump
from online.core.journal import site
from online.core.observers import Trail
from online.core.sites import Sites
from online.limits import Limits
from online.terms import KINDS

NOW_MS = 1_800_000_000_000
USERS = [b"ada", b"theo", b"kim"]


class Log:
    def __init__(self):
        self.entries = []
        self.late = []  #: what a connection that broke has yet to deliver
        self.now_s = 0.0

    def add(self, source, frames):
        place = b"%d-%d" % (NOW_MS, len(self.entries) + 1)
        self.entries.append(Entry(place, source, frames))
        return place

    def deliver(self):
        for source, piece in self.late:
            self.add(source, piece)
        self.late = []

    def feed(self, rng):
        """Add a hit and a leave of the same millisecond, in two entries, of a publisher that is no server."""
        user, seen_ms = rng.choice(USERS).decode(), NOW_MS - rng.randrange(3)
        hits = [[user, f"/{rng.randrange(100)}", seen_ms, rng.choice(KINDS)]]
        self.add(b"feed", site(b"default") + msgpack.packb([2, "hits", hits]))
        self.add(b"feed", site(b"default") + msgpack.packb([2, "LEAVE", [user, seen_ms]]))

    def newest(self):
        """The newest hit of each user since it was forgotten, or None for one that names nobody.

        Of several of one millisecond it is the last in the log; only a dump's has to rank higher.
        """
        newest = {}
        for entry in self.entries:
            is_dump = entry.frames.startswith(site(b"default") + DUMP)
            unpacker = msgpack.Unpacker()
            unpacker.feed(entry.frames)
            for _, verb, params in unpacker:
                if verb == "ECHO" and not is_dump:
                    newest.pop(params[0].split()[2], None)
                hits = params if verb == "hits" else [(params[0], "", params[1], "")] if verb == "LEAVE" else ()
                for user, url, seen_ms, kind in hits:
                    found = (seen_ms, [*KINDS, ""].index(kind), url)
                    if user not in newest or (found > newest[user] if is_dump else seen_ms >= newest[user][0]):
                        newest[user] = found
        named = KINDS.index("member"), KINDS.index("guest")
        found = [newest.get(user.decode(), (0, -1, "")) for user in USERS]
        return [(url, seen_ms) if kind in named else None for seen_ms, kind, url in found]


class Server:
    def __init__(self, name, log):
        self.name, self.log = name, log
        sites = Sites(Limits())
        self.index, self.trail = sites[b"default"], Trail()
        self.trail.follow(self.index, site(b"default"))
        self.echoes = Echoes(clock=lambda: log.now_s)
        self.follower = Follower(sites, name, lambda: NOW_MS, echoes=self.echoes)
        self.follower.forget_by(lambda site, user, at_ms, is_own: self.index.forget(user, now_ms=NOW_MS))
        self.pieces, self.dumped, self.n_read = [], [], 0

    def hit(self, rng):
        url = b"/%d" % rng.randrange(100)
        self.index.hit(rng.choice(USERS), url, seen_ms=NOW_MS - rng.randrange(3), now_ms=NOW_MS)

    def forget(self, rng):
        user = rng.choice(USERS)
        self.index.forget(user, now_ms=NOW_MS)
        self.trail.note(frames(b"default", user, NOW_MS))
        self.echoes.tied()

    def take(self):
        """Take what waits to be sent, as a publisher does when nothing else is under way."""
        if self.pieces or not self.trail.n_bytes:
            return
        while self.trail.n_bytes:
            self.pieces.append(self.trail.take()[0])
        if not self.dumped:
            self.echoes.taken()

    def publish(self):
        if self.pieces:
            places = [self.log.add(self.name, piece) for piece in self.pieces]
            self.pieces = []
            self.echoes.sent(places[-1])

    def dump(self):
        """Say all that is known here; it comes into the log later, behind what others say meanwhile."""
        self.echoes.tied()
        self.dumped = self.dumped or [site(b"default") + DUMP + each for each in dump(self.index)]

    def end_dump(self):
        for piece in self.dumped:
            self.log.add(self.name, piece)
        self.dumped = []

    def fail(self, rng):
        """Hear nothing of what was sent. It is in the log, or will be, or was lost; and it is sent again."""
        for piece in self.pieces:
            match rng.randrange(3):
                case 0:
                    self.log.add(self.name, piece)
                case 1:
                    self.log.late.append((self.name, piece))
        self.echoes.failed()

    def read(self, n):
        entries = self.log.entries[self.n_read : self.n_read + n]
        self.n_read += len(entries)
        for _ in self.follower.apply(entries, self._pause, self._go_on):
            pass

    def _pause(self):
        self.trail.is_paused = True

    def _go_on(self):
        self.trail.is_paused = False

    def newest(self):
        found = self.index.seen(USERS, now_ms=NOW_MS)
        return [each and (each[0].decode(), each[1]) for each in found]


def run(seed, *, forgets=0, dumps=0):
    """Return the servers in the end, when all of them have read everything, and the log."""
    weights = [6, forgets, 4, 4, 4, 0.1, 0.3, dumps, dumps, dumps]
    rng, log = random.Random(seed), Log()
    servers = [Server(b"server%d" % number, log) for number in range(3)]
    for _ in range(200):
        server = rng.choice(servers)
        works = ["hit", "forget", "take", "publish", "read", "fail", "wait", "dump", "end dump", "feed"]
        match rng.choices(works, weights)[0]:
            case "hit":
                server.hit(rng)
            case "forget":
                server.forget(rng)
            case "take":
                server.take()
            case "publish":
                server.publish()
            case "read":
                server.read(rng.randrange(1, 4))
            case "fail":
                server.fail(rng)
            case "wait":
                log.deliver()
                log.now_s += LATE_S / 2 * rng.randrange(1, 4)
            case "dump":
                server.dump()
            case "end dump":
                server.end_dump()
            case "feed":
                log.feed(rng)
    log.deliver()
    for server in servers:
        server.end_dump()
        for _ in range(2):  # what was under way, and what waits
            server.take()
            server.publish()
    for server in servers:
        server.read(len(log.entries))
    return servers, log


@pytest.mark.parametrize("more", [{}, {"forgets": 1}, {"dumps": 1}], ids=str)
def test_all_keep_of_each_millisecond_what_is_last_in_the_log(more):
    for seed in range(400):
        servers, log = run(seed, **more)
        assert [server.newest() for server in servers] == [log.newest()] * 3, seed


def test_nearly_all_own_entries_are_passed_over_where_no_two_servers_know_of_the_same_millisecond():
    log = Log()
    servers = [Server(b"server%d" % number, log) for number in range(2)]
    for turn in range(20):
        for number, server in enumerate(servers):
            server.index.hit(USERS[number], b"/%d" % turn, seen_ms=NOW_MS - 20 + turn, now_ms=NOW_MS)
            server.take()
            server.publish()
            server.read(2)
    for server in servers:
        server.read(40)
        assert (server.follower.entries, server.follower.own) == (40, 0)
        assert server.newest() == log.newest()


@pytest.fixture
def echoes():
    made = Echoes(clock=lambda: made.now_s)
    made.now_s = 0.0
    return made


def test_own_entries_are_applied_again_after_a_tie_up_to_what_was_sent_then(echoes):
    assert echoes.may_pass(b"1-1")
    echoes.tied()
    assert not echoes.may_pass(b"9-9")
    echoes.sent(b"5-0")  # what was taken before the tie
    assert not echoes.may_pass(b"9-9")
    echoes.taken()
    assert not echoes.may_pass(b"9-9")
    echoes.sent(b"7-0")
    assert [echoes.may_pass(place) for place in (b"6-9", b"7-0", b"7-1")] == [False, False, True]


def test_after_a_second_tie_what_was_taken_before_it_settles_nothing(echoes):
    echoes.tied()
    echoes.taken()
    echoes.tied()
    echoes.sent(b"7-0")
    assert not echoes.may_pass(b"8-0")


def test_after_an_error_they_are_applied_again_for_a_while(echoes):
    echoes.failed()
    echoes.taken()
    echoes.sent(b"5-0")
    assert not echoes.may_pass(b"9-9")
    echoes.now_s = LATE_S
    echoes.taken()
    echoes.sent(b"6-0")
    assert echoes.may_pass(b"6-1")


@pytest.mark.parametrize(
    ("before", "again", "kept"),
    [
        (("/b", "member"), ("/a", "member"), "/b"),
        (("/a", "member"), ("/b", "member"), "/b"),
        (("/b", "member"), ("/a", "guest"), "/a"),
        (None, ("/a", "member"), None),
        (("/a", "member"), None, None),
        (("/a", "member"), ("/a", "member"), "/a"),
    ],
)
def test_of_one_millisecond_a_dump_keeps_what_ranks_highest_and_counts_nothing(before, again, kept):
    server = Server(b"server", Log())

    def entry(hit, note=b""):
        frame = ["hits", [["ada", hit[0], NOW_MS, hit[1]]]] if hit else ["LEAVE", ["ada", NOW_MS]]
        return Entry(b"%d-1" % NOW_MS, b"other", site(b"default") + note + msgpack.packb([2, *frame]))

    for each in (entry(before), entry(again, DUMP)):
        server.log.entries.append(each)
    server.read(2)
    assert (server.newest()[0] or (None,))[0] == kept
    statistics = server.index.statistics()
    assert (statistics.accepted, statistics.stale) == (1, 0)
    server.log.entries.append(entry(("/0", "member")))  # and the last wins, after a dump as before it
    server.read(1)
    assert server.newest()[0] == ("/0", NOW_MS)
