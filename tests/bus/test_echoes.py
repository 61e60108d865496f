"""Which of its own entries a server applies again: servers on a log in memory, and all that happens in random order."""

import random

import msgpack
import pytest

from online.bus.echoes import LATE_S, Echoes
from online.bus.entries import Entry
from online.bus.follower import Follower
from online.bus.forgetting import frames
from online.core.journal import site
from online.core.observers import Trail
from online.core.sites import Sites
from online.limits import Limits

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

    def newest(self):
        """The newest hit of each user since it was forgotten; of several of one millisecond, the last in the log."""
        newest = {}
        for entry in self.entries:
            unpacker = msgpack.Unpacker()
            unpacker.feed(entry.frames)
            for _, verb, params in unpacker:
                if verb == "ECHO":
                    newest.pop(params[0].split()[2], None)
                for user, url, seen_ms, _ in params if verb == "hits" else ():
                    if user not in newest or seen_ms >= newest[user][1]:
                        newest[user] = url, seen_ms
        return [newest.get(user.decode()) for user in USERS]


class Server:
    def __init__(self, name, log):
        self.name, self.log = name, log
        sites = Sites(Limits())
        self.index, self.trail = sites[b"default"], Trail()
        self.trail.follow(self.index, site(b"default"))
        self.echoes = Echoes(clock=lambda: log.now_s)
        self.follower = Follower(sites, name, lambda: NOW_MS, echoes=self.echoes)
        self.follower.forget_by(lambda site, user, at_ms, is_own: self.index.forget(user, now_ms=NOW_MS))
        self.pieces, self.n_read = [], 0

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
        self.echoes.taken()

    def publish(self):
        if self.pieces:
            places = [self.log.add(self.name, piece) for piece in self.pieces]
            self.pieces = []
            self.echoes.sent(places[-1])

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


def run(seed, *, forgets):
    """Return the servers in the end, when all of them have read everything, and the log."""
    weights = [6, forgets, 4, 4, 4, 0.1, 0.3]
    rng, log = random.Random(seed), Log()
    servers = [Server(b"server%d" % number, log) for number in range(3)]
    for _ in range(200):
        server = rng.choice(servers)
        match rng.choices(["hit", "forget", "take", "publish", "read", "fail", "wait"], weights)[0]:
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
    log.deliver()
    for server in servers:
        for _ in range(2):  # what was under way, and what waits
            server.take()
            server.publish()
    for server in servers:
        server.read(len(log.entries))
    return servers, log


@pytest.mark.parametrize("forgets", [0, 1])
def test_all_keep_of_each_millisecond_what_is_last_in_the_log(forgets):
    for seed in range(400):
        servers, log = run(seed, forgets=forgets)
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
