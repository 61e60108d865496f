"""Three replicas under load, of which one, or the bus, is killed again and again: `python -m tests.bus.kills`.

    two publishers   send numbered hits in batches to the group, and note which were acknowledged (--bus-ack yes)
    two askers       ask the group without a pause, and note for how long no question was answered
    the killer       kills one of the three servers or the bus (kill -9), starts it again two seconds later, and looks
                     on all servers for the hits that were acknowledged around the kill

The third has a state directory. In the end all three are to know the same, and of each user the newest hit that was
acknowledged, or one that was sent after it. Each publisher has users of its own and sends their hits in turn, so a hit
stands until its user's next.
"""

import argparse
import itertools
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from contextlib import ExitStack, suppress
from pathlib import Path

import msgpack
import redis
from tests.bus.servers import Broker, free_port
from tests.serving import environment

from online_client import Client, OnlineError
from online_client.verbs import Request

WINDOW_S = 60

#: How long each of the killed is away.
AWAY_S = 2.0

#: From a kill, hits are looked for that were acknowledged so long before and after.
BEFORE_S, AFTER_S = 1.0, 2.0

#: How soon all servers must have what the bus has.
HEALED_S = 5.0

#: What a question to the group may take, with all of its servers.
QUESTION_S = 0.5

URLS = 500

#: Hits are so old when they are sent that no server takes them to be of the future, and as of now.
BEHIND_MS = 1_000

#: Users who are so near to the end of their window may leave it while they are looked for.
EXPIRING_S = 10


class Server:
    """A replica in a process of its own."""

    def __init__(self, name, bus, directory, *more):
        self.name, self.port = name, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._words = [sys.executable, "-m", "online", "serve", "--listen", self.address, "--http", "", "--quiet"]
        self._words += ["--bus", bus, "--bus-ack", "yes", "--window", str(WINDOW_S), *more]
        self._log = (directory / f"{name}.log").open("wb")
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._words, env=environment(), stderr=self._log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self._log.close()

    def is_ready(self):
        """Whether it has read the bus, and the bus answers it."""
        with suppress(redis.RedisError), redis.Redis(port=self.port, socket_timeout=5) as client:
            client.execute_command("COUNT")
            return client.info("bus")["bus_status"] == "ok"
        return False

    def is_quiet(self, place):
        """Whether it has applied everything up to the last entry."""
        with suppress(redis.RedisError), redis.Redis(port=self.port, socket_timeout=5) as client:
            told = client.info("bus")
            return (told["waiting_bytes"], told["place"]) == (0, place.decode())
        return False


class Publisher(threading.Thread):
    """Sends hits of its users, so many a second, each batch until it is acknowledged."""

    def __init__(self, name, group, rate, n_users):
        super().__init__(daemon=True)
        self.prefix, self._group, self._rate = name, group, rate
        self.acknowledged = array("q", bytes(8 * n_users))  #: by user: the time of the newest such hit
        self.batches = []  #: (when it was acknowledged, first user, number of users)
        self.n_hits = self.n_failures = 0
        self.stopped = threading.Event()
        self.failure = None

    def run(self):
        with Client(self._group, timeout=3) as client:
            try:
                self._send(client)
            except Exception as error:
                self.failure = error

    def _send(self, client):
        n_batch, n_users = max(10, self._rate // 10), len(self.acknowledged)
        due_s = time.monotonic()
        for first in itertools.cycle(range(0, n_users - n_batch + 1, n_batch)):
            if self.stopped.wait(max(0.0, due_s - time.monotonic())):
                return
            due_s = max(due_s + n_batch / self._rate, time.monotonic() - 1)  # a second is made up for
            users = range(first, first + n_batch)
            while not self.stopped.is_set():
                at_ms = time.time_ns() // 1_000_000 - BEHIND_MS
                try:
                    result = client.hits([(f"{self.prefix}{n}", f"/{n % URLS}", at_ms) for n in users])
                except OnlineError:
                    self.n_failures += 1
                    time.sleep(0.02)
                    continue
                if (result.accepted, result.refused) != (n_batch, 0):
                    raise AssertionError(f"hits were not taken: {result}")
                for n in users:
                    self.acknowledged[n] = at_ms
                self.batches.append((time.monotonic(), first, n_batch))
                self.n_hits += n_batch
                break


class Asker(threading.Thread):
    """Asks the group all the time."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self._group = group
        self.n_asked = self.n_failed = 0
        self.longest_s = 0.0  #: from when a question was asked that failed until one was answered
        self.longest_at = ""
        self.stopped = threading.Event()

    def run(self):
        with Client(self._group, timeout=QUESTION_S) as client:
            failing_s = None
            while not self.stopped.wait(0.01):
                began_s = time.monotonic()
                self.n_asked += 1
                try:
                    client.page(f"/{self.n_asked % URLS}", limit=10)
                except OnlineError:
                    self.n_failed += 1
                    failing_s = began_s if failing_s is None else failing_s
                    continue
                took_s = time.monotonic() - (began_s if failing_s is None else failing_s)
                if took_s > self.longest_s:
                    self.longest_s, self.longest_at = took_s, time.strftime("%H:%M:%S")
                failing_s = None


def missing(server, prefix, wanted):
    """Return what of `wanted` a server does not have, nor a later hit of the user: (user, time of the hit)."""
    found = []
    with Client(f"online://{server.address}", timeout=30) as client:
        for begin in range(0, len(wanted), 1_000):
            some = wanted[begin : begin + 1_000]
            due_ms = time.time_ns() // 1_000_000 - 1000 * (WINDOW_S - EXPIRING_S)
            for (n, least_ms), seen in zip(some, client.seen(*(f"{prefix}{n}" for n, _ in some)), strict=True):
                if least_ms > due_ms and (seen is None or round(seen.seen_at.timestamp() * 1000) < least_ms):
                    found.append((n, least_ms))
    return found


def lost(servers, publisher, users):
    """Return which acknowledged hits some servers lack, after so long as a hit may take from the bus to each."""
    wanted = [(n, publisher.acknowledged[n]) for n in users]
    until_s = time.monotonic() + HEALED_S
    lacking = []
    for server in servers:
        found = missing(server, publisher.prefix, wanted)
        while found and time.monotonic() < until_s:
            time.sleep(0.1)
            found = missing(server, publisher.prefix, found)
        lacking += [(server.name, f"{publisher.prefix}{n}", at_ms) for n, at_ms in found]
    return lacking


def listed(server, since_ms):
    """Whom a server lists: user -> (url, time, kind) of hits since a time."""
    found, cursor = {}, ""
    with Client(f"online://{server.address}", timeout=30) as client:
        while cursor is not None:
            params = msgpack.packb(["", 1_000, cursor])
            rows, cursor = client.call(Request("users", params, lambda result, now_ms: result))
            found |= {user: tuple(rest) for user, *rest in rows if rest[1] >= since_ms}
    return found


def differences(servers, since_ms):
    """Return about whom servers say different things."""
    first, *others = (listed(server, since_ms) for server in servers)
    users = first.keys() | set().union(*others)
    return [
        (user, first.get(user), *(other.get(user) for other in others))
        for user in users
        if any(other.get(user) != first.get(user) for other in others)
    ]


def until(is_so, what, within_s=60):
    deadline_s = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what}: not within {within_s} s")
        time.sleep(0.05)
    return time.monotonic() - (deadline_s - within_s)


class Run:
    """One run; see above."""

    def __init__(self, directory, *, rate, n_users, away_s=AWAY_S, tell=print):
        """`rate` is hits a second of both publishers together, who have `n_users`."""
        self._directory, self._tell = Path(directory), tell
        self._rate, self._n_users, self._away_s = rate, n_users, away_s
        self.n_kills = self.n_looked = 0
        self.lost, self.differing = [], []
        self.longest_s = 0.0  #: no question to the group was answered
        self.hits_per_s = 0.0  #: that were acknowledged

    def go(self, names, *, seconds=math.inf, every_s=0.0):
        """Kill one after the other, every so often and for so long; then compare. Raises AssertionError."""
        with ExitStack() as stack:
            bus = Broker(self._directory, "--appendonly", "yes", "--maxmemory-policy", "noeviction").start()
            stack.callback(bus.close)
            servers = [Server(name, bus.url, self._directory) for name in "ab"]
            servers.append(Server("c", bus.url, self._directory, "--state", str(self._directory / "c")))
            for server in servers:
                stack.callback(server.close)
            until(lambda: all(server.is_ready() for server in servers), "the servers are ready")
            groups = [f"online://{','.join(each.address for each in servers[n:] + servers[:n])}" for n in range(2)]
            publishers = [Publisher(f"p{n}-", groups[n], self._rate // 2, self._n_users // 2) for n in range(2)]
            askers = [Asker(group) for group in groups]
            for thread in (*publishers, *askers):
                thread.start()
                stack.callback(thread.join)
                stack.callback(thread.stopped.set)
            until(lambda: all(each.n_hits for each in publishers), "hits are acknowledged")
            began_s = time.monotonic()
            victims = {"bus": bus} | {server.name: server for server in servers}
            for name in names:
                round_s = time.monotonic()
                if round_s - began_s >= seconds:
                    break
                self._kill(name, victims[name], servers, publishers)
                time.sleep(max(0.0, every_s - (time.monotonic() - round_s)))
            self._end(bus, servers, publishers, askers, time.monotonic() - began_s)

    def _kill(self, name, victim, servers, publishers):
        killed_s = time.monotonic()
        victim.kill()
        self.n_kills += 1
        time.sleep(self._away_s)
        victim.start()
        until(lambda: all(server.is_ready() for server in servers), f"all servers are ready after {name} was killed")
        ready_s = time.monotonic() - killed_s
        n_looked = 0
        for publisher in publishers:
            users = []
            for at_s, first, n in reversed(publisher.batches):
                if at_s < killed_s - BEFORE_S:
                    break
                if at_s < killed_s + AFTER_S:
                    users += range(first, first + n)
            n_looked += len(users)
            self.n_looked += len(users)
            self.lost += lost(servers, publisher, users)
        self._tell(
            f"{name} killed: all ready again after {ready_s:.1f} s; {n_looked:,} hits that were acknowledged "
            f"around then looked for, {len(self.lost)} lost so far"
        )

    def _end(self, bus, servers, publishers, askers, seconds):
        for thread in (*publishers, *askers):
            thread.stopped.set()
        for thread in (*publishers, *askers):
            thread.join()
        failures = [each.failure for each in publishers if each.failure is not None]
        assert not failures, failures
        last = bus.client.xinfo_stream("online:hits:0")["last-generated-id"]
        healed_s = until(lambda: all(each.is_quiet(last) for each in servers), "all servers have applied everything")
        for publisher in publishers:
            self.lost += lost(servers, publisher, range(self._n_users // 2))
        # Who is listed by all must not leave the window meanwhile.
        self.differing = differences(servers, time.time_ns() // 1_000_000 - 1000 * (WINDOW_S // 2))
        self.longest_s, longest_at = max((each.longest_s, each.longest_at) for each in askers)
        n_hits = sum(each.n_hits for each in publishers)
        self.hits_per_s = n_hits / seconds
        self._tell(
            f"{seconds:.0f} s, {self.n_kills} kills, {n_hits:,} hits acknowledged ({self.hits_per_s:,.0f}/s), "
            f"{sum(each.n_failures for each in publishers):,} batches sent again; "
            f"{len(self.lost)} acknowledged hits lost; {sum(each.n_asked for each in askers):,} questions, "
            f"{sum(each.n_failed for each in askers):,} failed, the longest without an answer "
            f"{1000 * self.longest_s:.0f} ms at {longest_at}; servers had everything {healed_s:.1f} s "
            f"after the last hit and differ about {len(self.differing)} users"
        )
        assert not self.lost, self.lost[:5]
        assert not self.differing, self.differing[:5]


def shuffled(seed):
    """Yield names of what is to be killed: all in some order, again and again in another."""
    draw = random.Random(seed)
    while True:
        yield from draw.sample(["a", "b", "c", "bus"], 4)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bus.kills", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=20, help="seconds from kill to kill")
    parser.add_argument("--rate", type=int, default=20_000, help="hits a second of both publishers")
    parser.add_argument("--users", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        run = Run(
            directory,
            rate=args.rate,
            n_users=args.users,
            tell=lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", flush=True),
        )
        run.go(shuffled(args.seed), seconds=args.seconds, every_s=args.every)
    if run.longest_s > 1:
        sys.exit("questions to the group failed for more than a second")


if __name__ == "__main__":
    main()
