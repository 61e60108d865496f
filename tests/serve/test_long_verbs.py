"""Verbs that may take long go on in slices, so that others are served meanwhile."""

import pytest
from tests.serving import NOW_MS
from tests.wiring import DIALECTS, as_bytes, feed, in_resp, one_resp, resp

from online import errors
from online.core.sites import Sites
from online.limits import Limits
from online.serve import verbs as verbs_module
from online.serve.verbs import Verbs

N_SITES = 300


class Peer:
    """A peer without a socket, which is ended as soon as it fails."""

    def fail(self, error, *, now_ms):
        self.error = error
        return True

    def fileno(self):
        return -1


class Served:
    """A server without sockets, with many sites and connections, and one that asks."""

    def __init__(self):
        self.verbs = Verbs(Sites(Limits()))
        self.peers = [Peer() for _ in range(200)]
        self.others = [self.verbs.connections.open(peer)[0] for peer in self.peers]
        self.asker = self.verbs.connections.open()[0]
        for n in range(N_SITES):
            self.other(resp("SITE", f"site-{n:03}") + resp("HIT", "ann", "/a"))
        self.other(resp("SITE", "default"))

    def other(self, data):
        return feed(self.others[0], data, now_ms=NOW_MS)

    def ask(self, data, *, between=None):
        """Return the reply, and in how many turns it came; call `between` between them."""
        self.asker.receive(data, now_ms=NOW_MS)
        n_turns = 1
        while self.asker.has_work:
            if between is not None:
                between(n_turns)
            self.asker.proceed(now_ms=NOW_MS)
            n_turns += 1
        return self.asker.take_output(), n_turns


@pytest.fixture
def served(monkeypatch):
    """A server whose verbs rest after each piece."""
    monkeypatch.setattr(verbs_module, "SLICE_NS", 0)
    return Served()


LONG = [
    ("SITES",),
    ("INFO",),
    ("INFO", "keyspace"),
    ("INFO", "stats"),
    ("MEMORY", "STATS"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
]


@pytest.mark.parametrize("asked", LONG, ids=" ".join)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_others_are_answered_while_a_long_verb_goes_on(served, dialect, asked):
    write, read = DIALECTS[dialect]
    answers = []

    def count(n):
        answers.append(served.other(resp("COUNT")))

    reply, n_turns = served.ask(write(asked[0], asked[1:]), between=count)
    assert n_turns > 5
    assert answers == [b":0\r\n"] * (n_turns - 1)
    assert not isinstance(read(reply), Exception)


@pytest.mark.parametrize("asked", LONG, ids=" ".join)
def test_what_follows_a_long_verb_is_answered_after_it(served, asked):
    reply, _ = served.ask(resp(*asked) + resp("ECHO", "behind"))
    assert reply.endswith(b"$6\r\nbehind\r\n")


def test_sites_tells_all_sites(served):
    reply, _ = served.ask(in_resp("SITES", ()))
    listed = [[b"default", 0], *([b"site-%03d" % n, 1] for n in range(N_SITES))]
    assert as_bytes(one_resp(reply)) == listed


def test_a_site_that_opens_meanwhile_is_no_matter(served):
    reply, _ = served.ask(resp("SITES"), between=lambda n: served.other(resp("SITE", f"n{n}") + resp("HIT", "b", "/")))
    assert len(one_resp(reply)) == N_SITES + 1
    reply, _ = served.ask(resp("INFO", "sites"))
    assert b"site_n1:people=1," in reply


def test_who_goes_away_meanwhile_is_not_listed(served):
    def close_one(n):
        if n == 1:
            served.verbs.connections.closed(served.others[150])

    reply, _ = served.ask(resp("CLIENT", "LIST"), between=close_one)
    ids = {line.split()[0] for line in one_resp(reply).splitlines()}
    assert b"id=%d" % served.others[149].id in ids
    assert b"id=%d" % served.others[150].id not in ids


def test_kill_ends_all(served):
    reply, _ = served.ask(resp("CLIENT", "KILL", "TYPE", "normal"))
    assert reply == b":200\r\n"
    assert all(isinstance(peer.error, errors.OnlineError) for peer in served.peers)


def test_who_goes_away_ends_the_verb(served):
    served.asker.receive(resp("SITES"), now_ms=NOW_MS)
    assert served.asker.pieces is not None
    served.verbs.connections.closed(served.asker)
    assert served.asker.pieces is None
    assert not served.asker.has_work


def test_a_long_verb_that_fails_has_one_error(served):
    reply, n_turns = served.ask(resp("CLIENT", "KILL", "192.0.2.1:1") + resp("PING"))
    assert n_turns > 5
    assert reply.startswith(b"-ERR no such client")
    assert reply.endswith(b"\r\n+PONG\r\n")
    assert reply.count(b"\r\n") == 2


def test_a_long_verb_inside_of_a_transaction(served):
    reply, n_turns = served.ask(
        resp("MULTI") + resp("ECHO", "a") + resp("SITES") + resp("ECHO", "b") + resp("EXEC") + resp("PING")
    )
    assert n_turns > 5
    assert reply.startswith(b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n$1\r\na\r\n*301\r\n")
    assert reply.endswith(b"$1\r\nb\r\n+PONG\r\n")
