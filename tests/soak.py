"""A server under load for hours: `python -m tests.soak --minutes 120`, reported in the end and once a minute.

Hits come at a steady rate from users who come and go, on pages that do so, too. Each second there are questions, a
connection that comes and goes, and a channel that is listened to; each minute a user is forgotten, which takes a
snapshot. It shows whether memory grows, whether files do, whether counts are exact, and how long turns took.

Not its job: to find how fast the server is (bench).

Who caused a long turn: `LATENCY` tells of each second how long its longest turn took by the clock, and by the
processor's time of the thread. A turn of 10 ms or more by the processor's time is the server's own. If the clock alone
says so, the kernel ran others, if the thread stood ready for as long as is missing (`/proc/PID/task/PID/schedstat`);
else it waited for something, such as a disk. Waits between turns and slices have no processor's time, so that all of
theirs has to be explained by the kernel's.
"""

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgpack
from tests.serving import server_process

LONG_US = 10_000

#: How far two clocks that are rounded each for itself may be apart, and more: no hit is to come from the future.
MARGIN_MS = 20

#: Hits of a frame, and how many users are about at once; each second a share of them is replaced by others.
FRAME_HITS = 100
USERS = 60_000
NEW_USERS_A_SECOND = 100
PAGES = 5_000
NEW_PAGES_A_SECOND = 2
KINDS = ("member", "member", "member", "guest", "hidden", "bot")


def just_now_ms():
    return time.time_ns() // 1_000_000 - MARGIN_MS


def user(number):
    """A name that is always the same, of a length from 5 to 36 bytes."""
    return f"u{number:x}-" + "name" * (number % 8)


class Visitors:
    """Who does what: the hits, and how many people are online by the rules."""

    def __init__(self, window_s):
        self.window_s = window_s
        self.draw = random.Random(window_s)
        self.first_user = self.first_page = 0.0
        self.seen_s = {}  # number of a user: second of the newest hit
        self.of_second = {}  # second: how many people were seen last in it

    def hits(self, n, now_ms):
        """Draw as many hits, all at this time; return them as a frame takes them."""
        draw, now_s = self.draw.random, now_ms // 1000
        hits = []
        for _ in range(n):
            number = int(self.first_user + draw() * USERS)
            page = int(self.first_page + draw() ** 3 * PAGES)
            kind = KINDS[number % 6]
            hits.append((user(number), f"/forum/topic/{page}", now_ms, kind))
            if kind != "bot":
                self._seen(number, now_s)
        return hits

    def gone(self):
        """Choose somebody who leaves, and return the name; None if that is nobody now."""
        number = int(self.first_user + self.draw.random() * USERS)
        if self.seen_s.get(number) is None:
            return None
        self._seen(number, None)
        return user(number)

    def _seen(self, number, now_s):
        before = self.seen_s.get(number)
        if before is not None and before in self.of_second:
            self.of_second[before] -= 1
        self.seen_s[number] = now_s
        if now_s is not None:
            self.of_second[now_s] = self.of_second.get(now_s, 0) + 1

    def next_second(self, now_s):
        """Let users and pages be replaced, and forget who is offline. O(users) once in a while."""
        self.first_user += NEW_USERS_A_SECOND
        self.first_page += NEW_PAGES_A_SECOND
        for second in [second for second in self.of_second if second <= now_s - self.window_s - 2]:
            del self.of_second[second]
        if len(self.seen_s) > 2 * (USERS + NEW_USERS_A_SECOND * self.window_s):
            self.seen_s = {number: seen for number, seen in self.seen_s.items() if seen in self.of_second}

    def people(self, now_s):
        return sum(n for second, n in self.of_second.items() if second > now_s - self.window_s)


class Line:
    """A connection that asks and waits, in RESP's inline commands or MessagePack."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.unpacker = msgpack.Unpacker()
        self.msgid = 0

    def request(self, verb, *params):
        """Send a request, and do not wait."""
        self.msgid += 1
        self.socket.sendall(msgpack.packb([0, self.msgid, verb, params]))

    def answer(self):
        """Return the result of the request that has waited longest."""
        while True:
            for _, _, error, result in self.unpacker:
                assert error is None, error
                return result
            received = self.socket.recv(65_536)
            assert received, "the server has gone"
            self.unpacker.feed(received)

    def ask(self, verb, *params):
        self.request(verb, *params)
        return self.answer()

    def close(self):
        self.socket.close()


def run_delay_us(pid):
    """How long the process' main thread has stood ready while the kernel ran others, since it began."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) // 1000


def resident_kb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


class Long(NamedTuple):
    """The longest turn, slice or wait of a second, if it took LONG_US or more."""

    second: int
    event: str
    us: int
    processor_us: int
    delay_us: int  # how long the thread has stood ready in this second


@dataclass
class Report:
    """What was seen."""

    hits: int = 0
    questions: int = 0
    states: int = 0
    snapshots: int = 0
    wrong: list = field(default_factory=list)
    behind_s: float = 0.0  # the longest time that we were late
    longest_us: dict = field(default_factory=lambda: dict.fromkeys(("turn", "turn_cpu", "slices", "wait"), 0))
    own: list = field(default_factory=list)  # what was long: a `Long` for the longest of each second
    kernels: list = field(default_factory=list)
    waited: list = field(default_factory=list)
    rss_kb: list = field(default_factory=list)  # once a second
    files: list = field(default_factory=list)  # once a second: how many, and bytes

    def longest_of(self, second, info, delay_us):
        """Take note of a second's longest turn, slice and wait between turns."""
        for name in self.longest_us:
            self.longest_us[name] = max(self.longest_us[name], int(info[f"longest_{name}_us"]))
        for name in ("turn", "slices", "wait"):
            long = Long(
                second,
                name,
                us=int(info[f"longest_{name}_us"]),
                processor_us=int(info["longest_turn_cpu_us"]) if name == "turn" else 0,
                delay_us=delay_us,
            )
            if long.us >= LONG_US:
                was_ready = delay_us >= (long.us - long.processor_us) * 0.9
                kind = self.own if long.processor_us >= LONG_US else self.kernels if was_ready else self.waited
                kind.append(long)

    def growth(self, settled_s):
        """By how much RSS of the last tenth differs from that of the tenth after `settled_s` seconds, in percent."""
        settled = self.rss_kb[settled_s:]
        tenth = len(settled) // 10
        if not tenth:
            return None
        first, last = sum(settled[:tenth]) / tenth, sum(settled[-tenth:]) / tenth
        return (last / first - 1) * 100

    def lines(self, settled_s):
        """The report, for people."""
        growth = self.growth(settled_s)
        yield f"{self.hits} hits, {self.questions} questions, {self.states} states, {self.snapshots} snapshots"
        yield f"wrong answers: {len(self.wrong)} {self.wrong[:3] or ''}; at most {self.behind_s:.2f} s behind"
        shown = "too short to say" if growth is None else f"{growth:+.2f} % since it settled at {settled_s} s"
        yield f"RSS {self.rss_kb[-1]} KB, at most {max(self.rss_kb)}: {shown}"
        yield f"files: {self.files[-1]}, at most {max(n for n, _ in self.files)}, {max(b for _, b in self.files)} bytes"
        yield f"longest in us: {self.longest_us}"
        for name, found in (("the server's", self.own), ("the kernel's", self.kernels), ("waits", self.waited)):
            of = {event: sum(long.event == event for long in found) for event in ("turn", "slices", "wait")}
            longest = max(found, key=lambda long: long.us, default=None)
            yield f"seconds with one of 10 ms or more, {name}: {of}, the longest {longest}"


def figures(info):
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


class Soak:
    """One run against one server."""

    def __init__(self, process, state, *, hits_a_second, window_s):
        self.pid, self.state, self.window_s = process.popen.pid, state, window_s
        self.hits_a_second = hits_a_second
        self.port = process.port
        self.visitors = Visitors(window_s)
        self.feed, self.asker, self.listener = Line(self.port), Line(self.port), Line(self.port)
        self.listener.ask("SUBSCRIBE", "count", "top", "page:/forum/topic/1")
        self.listener.socket.setblocking(False)
        self.report = Report()
        self.unanswered = deque()
        self.snapshot_ms = "0"  # when the last one was taken, as INFO says

    def run(self, seconds, tell=print):
        """Send hits for so long, a hundred times a second; do the rest each second and each minute."""
        self.asker.ask("LATENCY", "RESET")
        began_s, second = time.monotonic(), 0
        delay_us = run_delay_us(self.pid)
        while second < seconds:
            passed_s = time.monotonic() - began_s
            self.send(int(passed_s * self.hits_a_second) - self.report.hits)
            self.report.behind_s = max(self.report.behind_s, time.monotonic() - began_s - passed_s)
            if passed_s >= second + 1:
                second += 1
                delay_us = self.each_second(second, delay_us)
                if second % 60 == 1:
                    self.each_minute()
                    tell(f"{second} s: " + "; ".join(self.report.lines(self.settled_s)), flush=True)
            time.sleep(0.01)
        return self.report

    @property
    def settled_s(self):
        """From when on memory should not grow: the window has passed, and a little more."""
        return round(self.window_s * 1.2)

    def send(self, n_due):
        while n_due >= FRAME_HITS:
            self.feed.request("hits", *self.visitors.hits(FRAME_HITS, just_now_ms()))
            self.unanswered.append(FRAME_HITS)
            self.report.hits += FRAME_HITS
            n_due -= FRAME_HITS
        while self.unanswered:
            self.expect("hits", self.feed.answer(), [self.unanswered.popleft(), 0, 0, None])

    def expect(self, what, answer, *right):
        self.report.questions += 1
        if answer not in right:
            self.report.wrong.append((what, answer, right))

    def each_second(self, second, delay_before_us):
        """Ask, come and go, listen, and look at the server; return how long its thread has stood ready by now."""
        asker, visitors = self.asker, self.visitors
        if (gone := visitors.gone()) is not None:
            self.expect("LEAVE", asker.ask("LEAVE", gone, just_now_ms()), "OK")
        before_s = just_now_ms() // 1000
        people = asker.ask("COUNT")
        right = [visitors.people(second) for second in range(before_s, time.time_ns() // 10**9 + 1)]
        self.expect("COUNT", people, *right)
        brief = Line(self.port)
        page = f"/forum/topic/{int(visitors.first_page)}"
        online, here, users, _ = brief.ask("PAGE", page, 30)
        self.expect("PAGE", online >= here >= len(users), True)
        for question in (("RECENT", 100), ("USERS", "u1", 50), ("SECTION", "/forum/topic/1"), ("TOP", 10), ("PEAK",)):
            self.expect(question[0], bool(brief.ask(*question)), True)
        self.expect("HISTORY", isinstance(brief.ask("HISTORY"), list), True)
        brief.close()
        visitors.next_second(before_s)
        self.listen()
        info = figures(asker.ask("INFO"))
        asker.ask("LATENCY", "RESET")
        delay_us = run_delay_us(self.pid)
        self.report.longest_of(second, info, delay_us - delay_before_us)
        self.report.snapshots += info["last_snapshot_ms"] != self.snapshot_ms
        self.snapshot_ms = info["last_snapshot_ms"]
        self.report.rss_kb.append(resident_kb(self.pid))
        kept = [path.stat().st_size for path in self.state.iterdir() if path.exists()]
        self.report.files.append((len(kept), sum(kept)))
        return delay_us

    def listen(self):
        try:
            while received := self.listener.socket.recv(65_536):
                self.listener.unpacker.feed(received)
        except BlockingIOError:
            self.report.states += sum(1 for _ in self.listener.unpacker)

    def each_minute(self):
        """Forget somebody who is not there, which takes a snapshot that replaces all files before it."""
        self.expect("FORGET", self.asker.ask("FORGET", "nobody-by-this-name"), 0)

    def close(self):
        for line in (self.feed, self.asker, self.listener):
            line.close()


def soak(seconds, *, hits_a_second, window_s, tell=print):
    """Run a server and the load, and return the report and from when on memory should be level."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        with server_process("--state", state, "--window", window_s) as process:
            threading.Thread(target=process.log.extend, args=[process.popen.stderr], daemon=True).start()
            run = Soak(process, state, hits_a_second=hits_a_second, window_s=window_s)
            report = run.run(seconds, tell)
            run.close()
            return report, run.settled_s


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--hits-a-second", type=int, default=20_000)
    parser.add_argument("--window", type=int, default=600, help="seconds (default: 600)")
    options = parser.parse_args()
    report, settled_s = soak(options.minutes * 60, hits_a_second=options.hits_a_second, window_s=options.window)
    print(*report.lines(settled_s), sep="\n")
    growth = report.growth(settled_s)
    return bool(report.wrong or report.own or (growth is not None and abs(growth) > 1))


if __name__ == "__main__":
    sys.exit(main())
