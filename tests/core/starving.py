"""Every request for memory fails once: a script that runs with failing_memory.c preloaded.

    python -m tests.core.starving LIBRARY core
    python -m tests.core.starving LIBRARY all GROWTH

`core`: the requests of the compiled core, each once, and all from each on. `all`: also those of Python and its
libraries, each once; PYTHONMALLOC=malloc lets Python ask for each object. As these are many, the distance from one to
the next grows by this factor; 1 lets each fail.

A case prepares something and then acts on it. It acts again and again, and another request fails each time, until none
is left to fail. What must hold each time: the act succeeds all the same, or raises, and then nothing has changed and
the same act succeeds once there is memory. Prints a line of JSON for each case.
"""

import ctypes
import gc
import json
import os
import re
import sys
import tempfile

import msgpack
from tests.wiring import NOW, Wiring, drain, head_of_batch, notification, request, resp

from online.core import wire
from online.core.crowd import Crowd
from online.core.index import Budget, Index
from online.core.journal import Journal
from online.core.observers import Changed, Written
from online.core.past import Past, estimate
from online.core.reactor import Reactor
from online.core.replay import Replay
from online.core.states import States
from online.core.tally import LineTally
from online.errors import FullError
from online.logs.formats import reader_of
from online.logs.pages import Pages
from online.logs.rules import Rules
from online.serve.connections import Connections

LIBRARY, COUNTED, GROWTH = (*sys.argv[1:], "1")[:3]
memory = ctypes.CDLL(LIBRARY)
memory.memory_fail.argtypes = (ctypes.c_long, ctypes.c_int)
memory.memory_fail.restype = None
memory.memory_failed.restype = ctypes.c_long
memory.memory_of_core.argtypes = (ctypes.c_size_t, ctypes.c_size_t)

CASES = {}


def case_of_core(prepare):
    """A case that is worth its time only where the core's own requests fail."""
    return case(prepare) if COUNTED == "core" else prepare


def case(prepare):
    """A case: a function that prepares, and returns (act, show).

    `act` is called under want. `show` tells all that may not change when it raises; what it shows afterwards is the
    same whenever the act succeeds.
    """
    CASES[prepare.__name__] = prepare
    return prepare


def count_core_alone():
    """Let requests count that come from the text of online's own modules."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            found = re.match(r"(\w+)-(\w+) r-xp .*/online/core/\w+\.\S*so$", line)
            if found:
                memory.memory_of_core(int(found[1], 16), int(found[2], 16))


def shown(index):
    """All that an index answers, after it has examined itself; without how often it was refused."""
    index._check()
    answers = [index.users(b"", 1_000, now_ms=NOW), index.recent(1_000, now_ms=NOW), index.kinds(now_ms=NOW)]
    statistics = index.statistics()._replace(memory_bytes=0, refused=0, max_memory_reached=0)
    return answers, statistics, index.peak()


def filled(users=0, pages=1, **settings):
    """An index with users."""
    index = Index(seed=bytes(16), **settings)
    for number in range(users):
        index.hit(b"user-%d" % number, b"/%d" % (number % pages), seen_ms=NOW - users + number, now_ms=NOW)
    return index


# Indexes


@case
def an_index_is_made():
    made = []
    return lambda: made.append(filled(3)), lambda: list(map(shown, made))


@case
def an_index_with_a_budget_is_made():
    budget, made = Budget(2**30), []
    return lambda: made.append(filled(3, budget=budget)), lambda: (len(made), budget.used_bytes)


def first_hit(users, pages):
    index = filled(users, pages)
    return lambda: index.hit(b"new", b"/new", now_ms=NOW), lambda: shown(index)


@case_of_core
def hits_of_long_urls():
    """Until the arena needs a chunk that was never writable."""
    index = filled(0)

    def act():
        for number in range(800):
            index.hit(b"user", b"/%d" % number + b"x" * 2_000, now_ms=NOW)
            index.hit(b"other-%d" % number, b"/%d" % number + b"x" * 2_000, now_ms=NOW)

    def show():
        index._check()
        return index.kinds(now_ms=NOW) if index.count(now_ms=NOW) > 800 else None

    return act, show


@case
def a_hit_when_the_table_of_users_grows():
    return first_hit(384, 1)


@case
def a_hit_when_both_tables_grow():
    return first_hit(384, 384)


@case
def a_leave_of_an_unknown_user_when_the_table_grows():
    index = filled(384)
    return lambda: index.leave(b"new", now_ms=NOW), lambda: shown(index)


@case
def users_expire_and_tables_shrink():
    index = filled(900, 900, window_s=60)
    later_ms = NOW + 61_000
    return lambda: index.expire(now_ms=later_ms), lambda: (index._check(), index.count(now_ms=later_ms))


@case
def questions():
    index = filled(300, 300)

    def act():
        index.seen([b"user-1", b"user-2"], now_ms=NOW)
        index.counts([b"/1", b"/2"], now_ms=NOW)
        index.page(b"/1", now_ms=NOW)
        index.recent(20, index.recent(20, now_ms=NOW)[1], now_ms=NOW)
        index.users(b"user", 20, index.users(b"user", 20, now_ms=NOW)[1], now_ms=NOW)

    return act, lambda: shown(index)


@case
def top_and_section():
    index = filled(300, 300)
    answers = []

    def act():
        answers[:] = index.top(5, b"/1", now_ms=NOW), index.section(b"/", now_ms=NOW)

    return act, lambda: shown(index)


@case
def names_are_ordered_after_loading():
    index = Index(seed=bytes(16))
    index.relax(True)
    for number in range(500):
        index.hit(b"user-%d" % (number * 7919 % 500), b"/", seen_ms=NOW - 500 + number, now_ms=NOW)

    acted = []

    def act():
        index.relax(False)
        acted.append(True)

    return act, lambda: shown(index) if acted else None


# What follows hits


@case
def an_observer_of_what_is_written():
    index = filled(10)
    written = Written(index)
    seen = []

    def act():
        index.hit(b"a", b"/" + b"x" * 2_000, now_ms=NOW)
        index.hit(b"b", b"/" + b"y" * 2_000, now_ms=NOW)
        index.hit(b"c", b"/" + b"z" * 2_000, now_ms=NOW)
        if written.is_incomplete:
            written.take()
            raise MemoryError
        seen.append(written.take())

    def show():
        index._check()
        return len(seen), written.is_incomplete

    return act, show


@case
def an_observer_of_what_has_changed():
    index = filled(10)
    changed = Changed(index)
    seen = []

    def act():
        index.hit(b"a", b"/a", now_ms=NOW)
        index.leave(b"a", now_ms=NOW)
        if changed.is_incomplete:
            changed.take()
            raise MemoryError
        seen.append(changed.take()[0])

    def show():
        index._check()
        return len(seen), changed.is_incomplete

    return act, show


@case
def a_journal_notes_a_turn():
    """What found no memory fails the next flush, and no hit."""
    index = filled(0)
    journal = Journal()
    failed = []
    journal.failed = failed.append
    with tempfile.TemporaryFile() as file:
        fd = os.dup(file.fileno())
    files.append(fd)
    journal.begin(fd, 1, 0)
    journal.follow(index, b"default")

    def act():
        if journal.is_off:
            journal.begin(fd, 1, os.lseek(fd, 0, os.SEEK_END))
        for number in range(5):
            index.hit(b"user-%d" % number, b"/" + b"x" * 2_000, seen_ms=NOW, now_ms=NOW)
            index.leave(b"user-%d" % number, seen_ms=NOW, now_ms=NOW)
        journal.flush()
        if journal.is_off:
            raise MemoryError

    def show():
        index._check()
        return journal.may_leave(journal.turn)

    return act, show


def replay_of(users):
    source = filled(users, users)
    with tempfile.TemporaryFile() as file:
        fd = os.dup(file.fileno())
    files.append(fd)
    journal = Journal()
    journal.begin(fd, 1, 0)
    journal.follow(source, b"default")
    for number in range(users):
        source.hit(b"user-%d" % number, b"/%d" % number, seen_ms=NOW, now_ms=NOW)
    source.leave(b"user-0", seen_ms=NOW, now_ms=NOW)
    journal.flush()
    data = os.pread(fd, 2**20, 0)
    sites = {}

    class Host:
        def open(self, name):
            if name not in sites:
                sites[name] = Index(seed=bytes(16))
            return sites[name]

        def noted(self, text):
            pass

    replay = Replay(Host())

    def act():
        refused = replay.refused
        if replay.feed(data, 1, 0, now_ms=NOW) != len(data) or replay.refused > refused:
            raise MemoryError

    def show():
        for index in sites.values():
            index._check()
        return ()

    return act, show


@case
def a_journal_is_replayed():
    return replay_of(400)


@case
def a_directory_of_sessions_is_dumped():
    index = filled(400, 10)
    frames = []

    def act():
        frames[:] = wire.dump(index)

    return act, lambda: shown(index)


# States, the past, logs


@case
def states_of_channels():
    index = filled(300, 300)
    told = []

    def act():
        states = States()
        asked = [(states.page, b"/1"), (states.user, b"user-1"), (states.section, b"/"), (states.top, b"")]
        now = {"now_ms": NOW, "step_ms": 0}
        told[:] = [states.count(index, b"", **now), *(channel(index, of, **now) for channel, of in asked)]
        if any(b'"code"' in state for state, _ in told):
            raise MemoryError

    return act, lambda: shown(index)


@case_of_core
def the_past_is_noted():
    """What found no memory is lost, and counted; no hit is refused for it."""
    index = filled(0)
    acts = []

    def act():
        acts.append(True)
        past = Past(index, keeps_last=True)
        try:
            past.begin(NOW, NOW, NOW, now_ms=NOW)
            for number in range(40):
                user = b"user-%d-%d" % (len(acts), number)
                index.hit(user, b"/" + b"x" * 2_000, seen_ms=NOW, now_ms=NOW)
                index.leave(user, seen_ms=NOW, now_ms=NOW)
            gone, registers = past.take_gone(), past.take_sketch()
            if past.lost or registers is None:
                raise MemoryError
            assert len(list(gone)) == 40
            assert 39 <= estimate(registers) <= 40  # without the visitor that found no memory
        finally:
            past.close()

    def show():
        index._check()
        return ()  # some users may have come before the fault

    return act, show


@case
def usual_lines_are_read():
    line = b'192.0.2.%d - theo [14/Nov/2023:22:13:20 +0000] "GET /%d HTTP/1.1" 200 5'
    json_line = b'{"time": 1700000000.1, "user": "theo", "url": "/%d", "status": 200, "agent": "%d"}'
    lines = [each % (number, number) for number in range(30) for each in (line, json_line)]
    found = []

    def act():
        pages = Pages(reader_of("auto"), Rules(), key=bytes(16))
        found[:] = [pages.parse(each) for each in lines], pages.pack(lines)

    return act, lambda: ()


def tallied():
    """Pages, a tally, and lines with enough agents and referrers that its tables grow."""
    line = b'192.0.2.%d - %s [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" %d 5 "https://%d.example/" "%s/%d"'
    lines = [
        line % (n, (b"-", b"theo")[n % 2], (200, 404)[n % 10 == 9], n, (b"Mozilla", b"Googlebot")[n % 5 == 4], n)
        for n in range(200)
    ]
    tally = LineTally(bytes.decode, lambda agent: (agent.decode(), ""), lambda referrer, url, host: referrer)
    return Pages(reader_of("auto"), Rules(), key=bytes(16)), tally, lines


@case
def what_lines_say_is_counted():
    def act():
        pages, tally, lines = tallied()
        pages.pack(lines, tally)
        statuses, agents, referrers, bots, members, bot_hits, member_hits = tally.take()
        assert statuses == {"200": 180, "404": 20}
        assert (len(agents), len(referrers), len(bots), len(members)) == (160, 160, 20, 1)
        assert (bot_hits, member_hits) == (20, 80)

    return act, lambda: ()


@case
def what_was_counted_of_lines_is_taken():
    pages, tally, lines = tallied()
    pages.pack(lines, tally)
    taken = [()]

    def act():
        taken[0] = tally.take()  # which needs no memory but its own

    def show():
        told = taken[0] or tally.take()
        taken[0] = ()
        pages.pack(lines, tally)
        return told

    return act, show


@case
def people_of_a_log_are_counted():
    """Users and urls are enough for the tables to grow, and hits for the queue of the last windows."""
    hits = [[b"user-%d" % (number % 90), b"/%d" % (number % 70), NOW + 1000 * number] for number in range(600)]
    items = b"".join(map(msgpack.packb, hits))

    def act():
        crowd = Crowd(60, lambda crowd, now_ms: now_ms + 60_000)
        crowd.take(items)
        assert (crowd.hits, crowd.n_users, len(crowd.pages())) == (600, 90, 70)
        assert len(crowd.pages_at_most()) == crowd.most == 60
        assert sum(hits for hits, _ in crowd.hours()) == sum(hits for hits, _ in crowd.days().values()) == 600
        crowd.stays()

    return act, lambda: ()


# Connections


def conversation(*messages, **settings):
    """A connection that a fault ends alone, and another that is asked the same afterwards.

    What it says may have been taken or not when it ends: nobody has an answer.
    """
    wiring = Wiring(**settings)
    for number in range(100):
        wiring.index.hit(b"user-%d" % number, b"/%d" % (number % 7), seen_ms=NOW, now_ms=NOW)

    def act():
        connection = wiring.connect()
        for message in messages:
            connection.receive(message, now_ms=NOW)
            drain(connection)

    def show():
        for index in wiring.host.sites.values():
            index._check()
        return wiring.held()

    return act, show


@case
def commands_in_resp():
    return conversation(
        resp("HIT", "a", "/x") + resp("PAGE", "/1") + resp("RECENT", 50) + resp("USERS", "user", 20),
        resp("HIT", "b", "/new") + resp("SEEN", "a", "b") + resp("TOP", 5) + resp("SECTION", "/") + resp("NO"),
    )


@case
def a_command_in_pieces():
    whole = resp("ECHO", b"x" * 20_000)
    return conversation(whole[:11], whole[11:700], whole[700:])


@case
def a_transaction():
    return conversation(resp("MULTI") + resp("HIT", "a", "/x") * 40, resp("PAGE", "/1") * 40 + resp("EXEC"))


@case
def requests_in_messagepack():
    return conversation(
        request("hits", *([f"new-{number}", f"/{number}"] for number in range(300))),
        request("page", "/1") + request("recent", 50) + request("nothing") + notification("HIT", "a", "/"),
    )


@case
def a_batch_in_pieces():
    items = b"".join(msgpack.packb([f"new-{number}", "/" + "x" * 100]) for number in range(200))
    whole = head_of_batch(200) + items
    return conversation(whole[:50], whole[50:5_000], whole[5_000:])


@case
def a_service_and_a_reactor():
    def act():
        wiring = Wiring()
        Reactor(Connections({b"default": wiring.index}, wiring.service), wiring.service, lambda: None).close()

    return act, lambda: ()


@case
def hits_of_a_batch_are_taken_or_refused_each():
    """Full of memory, a batch goes on with what is known."""
    index = filled(384)
    frames = request("hits", *([f"new-{number}", f"/new-{number}"] for number in range(64)))
    accepted = []

    def act():
        accepted.append(wire.apply_hits(index, frames, now_ms=NOW))
        if accepted[-1][2]:
            raise MemoryError

    def show():
        index._check()
        return ()

    return act, show


# Starving

files = []


def starve(prepare, *, goes_on):
    """Let requests fail in turn. Returns how many did, and how often the act raised."""
    act, show = prepare()
    act()
    expected = show()
    nth = n_tried = n_raised = 0
    while True:
        nth = max(nth + 1, int(nth * float(GROWTH)))
        while files:
            os.close(files.pop())
        act, show = prepare()
        before = show()
        raised = None
        memory.memory_fail(nth, goes_on)
        try:
            act()
        except (MemoryError, FullError, OSError, SystemError) as error:
            raised = type(error)
            error.__traceback__ = None  # Python keeps a MemoryError for later, and with it all that was on the stack
        n_failed = memory.memory_failed()
        after = show()
        if n_failed == 0:
            return n_tried, n_raised
        n_tried += 1
        if raised is None:
            assert after == expected, f"request {nth} failed, and the act did something else"
        else:
            assert raised is not SystemError, f"request {nth}: an error was lost"
            n_raised += 1
            assert after == before, f"request {nth} failed: {before} has become {after}"
            act()
            assert show() == expected, f"after request {nth} had failed, the act does something else"


def main():
    for prepare in CASES.values():  # modules are imported, caches filled
        act, show = prepare()
        show()
        act()
    if COUNTED == "core":
        count_core_alone()
    for name, prepare in CASES.items():
        print(json.dumps([name, "begun"]), flush=True)
        counts = {}
        for goes_on in (False, True) if COUNTED == "core" else (False,):
            counts["all from each on" if goes_on else "each"] = starve(prepare, goes_on=goes_on)
        print(json.dumps([name, counts]), flush=True)
    gc.collect()


if __name__ == "__main__":
    main()
