"""The reporter against scripted servers on real sockets: what is sent, sent again, dropped, and counted."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import online_client
from online_client import AddressError, Reporter
from online_client import reporter as reporting
from online_client.buffer import BATCH_HITS

PATIENCE_S = 20.0


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make reporters that are closed at the end and do not wait for more hits, nor long between attempts."""
    monkeypatch.setattr(reporting, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(reporting, "LONGEST_PAUSE_S", 0.002)
    reporters: list[Reporter] = []

    def make(url: str, **options: Any) -> Reporter:
        reporters.append(Reporter(url, **{"interval_s": 0.0, "timeout": PATIENCE_S, **options}))
        return reporters[-1]

    yield make
    for reporter in reporters:
        reporter.close(0)


class Gate:
    """A script that answers each batch only when it is let, so that a test decides what waits."""

    def __init__(self) -> None:
        self._asked = threading.Semaphore(0)
        self._let = threading.Semaphore(0)

    def __call__(self, talk: Any) -> None:
        while request := talk.request():
            self._asked.release()
            if self._let.acquire(timeout=PATIENCE_S):
                talk.answer(request[0], [len(request[2]), 0, 0, None])

    def wait(self) -> None:
        """Wait until a batch is on its way."""
        assert self._asked.acquire(timeout=PATIENCE_S)

    def let(self, batches: int = 1) -> None:
        self._let.release(batches)


def users_in(server: Any) -> list[int]:
    return [int(hit[0]) for verb, hits in server.requests if verb == "hits" for hit in hits]


def test_hits_are_sent_with_their_time_and_kind(serve: Any, scripts: Any, report: Any) -> None:
    server = serve(scripts.answering())
    reporter = report(server.url)
    reporter.hit("theo", "/a", seen_ms=1_709_208_000_123)
    reporter.hit(17, "/b", kind="guest", seen_ms=1_709_208_000_124)
    assert reporter.flush(PATIENCE_S)
    sent = [hit for _, hits in server.requests for hit in hits]
    assert sent == [[b"theo", b"/a", 1_709_208_000_123], [b"17", b"/b", 1_709_208_000_124, "guest"]]
    assert reporter.statistics() == reporting.ReporterStatistics(2, 0, 0, 0, 0, None)


def test_leaves_are_sent_among_the_hits_in_their_order(serve: Any, scripts: Any, report: Any) -> None:
    server = serve(scripts.answering())
    reporter = report(server.url, interval_s=3_600.0)
    for user in ("a", "b"):
        reporter.hit(user, "/a", seen_ms=1_709_208_000_123)
    reporter.leave("a", seen_ms=1_709_208_000_124)
    reporter.leave("b", seen_ms=1_709_208_000_125)
    reporter.hit("a", "/b", seen_ms=1_709_208_000_126)
    assert reporter.flush(PATIENCE_S)
    assert server.requests == [
        ("hits", [[b"a", b"/a", 1_709_208_000_123], [b"b", b"/a", 1_709_208_000_123]]),
        ("leave", [b"a", 1_709_208_000_124]),
        ("leave", [b"b", 1_709_208_000_125]),
        ("hits", [[b"a", b"/b", 1_709_208_000_126]]),
    ]
    assert reporter.statistics() == reporting.ReporterStatistics(5, 0, 0, 0, 0, None)


def test_why_hits_cannot_be_reported_is_logged_once_an_outage(
    serve: Any, report: Any, caplog: pytest.LogCaptureFixture
) -> None:
    left = 0

    def script(talk: Any) -> None:
        nonlocal left
        while request := talk.request():
            if left:
                left -= 1
                return
            talk.answer(request[0], [1, 0, 0, None])

    reporter = report(serve(script).url)
    for url in ("/1", "/2"):
        left = 40
        caplog.clear()
        reporter.hit("theo", url)
        assert reporter.flush(PATIENCE_S)
        # The system may word it in two ways that alternate, by who was faster.
        assert 1 <= len(caplog.messages) == len(set(caplog.messages)) <= 2
        assert all(message.startswith("hits cannot be reported: the connection to ") for message in caplog.messages)


def test_a_leave_that_was_not_answered_is_sent_again(serve: Any, scripts: Any, report: Any) -> None:
    server = serve(scripts.closing)
    reporter = report(server.url)
    reporter.leave("a", seen_ms=1_709_208_000_124)
    assert not reporter.flush(0.01)
    server.script = scripts.answering()
    assert reporter.flush(PATIENCE_S)
    assert server.requests[-1] == ("leave", [b"a", 1_709_208_000_124])
    assert reporter.statistics().sent == 1


def test_a_leave_of_nobody_is_counted(report: Any) -> None:
    reporter = report("online://127.0.0.1:1")
    reporter.leave(None)
    assert reporter.statistics().invalid == 1


def test_a_hit_without_a_time_gets_that_of_the_call(
    serve: Any, scripts: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_709_208_000_123_456_789)
    server = serve(scripts.answering())
    reporter = report(server.url)
    reporter.hit("theo", "/a")
    assert reporter.flush(PATIENCE_S)
    assert server.requests == [("hits", [[b"theo", b"/a", 1_709_208_000_123]])]


def test_hits_are_sent_without_anybody_asking(serve: Any, report: Any) -> None:
    gate = Gate()
    reporter = report(serve(gate).url)
    reporter.hit("theo", "/a")
    gate.wait()
    gate.let()


def test_a_full_batch_does_not_wait_for_the_interval(serve: Any, report: Any) -> None:
    gate = Gate()
    server = serve(gate)
    reporter = report(server.url, interval_s=3_600.0)
    for user in range(BATCH_HITS):
        reporter.hit(user, "/a")
    gate.wait()
    gate.let()
    assert users_in(server) == list(range(BATCH_HITS))


def test_flush_does_not_wait_for_the_interval(serve: Any, scripts: Any, report: Any) -> None:
    reporter = report(serve(scripts.answering()).url, interval_s=3_600.0)
    reporter.hit("theo", "/a")
    assert reporter.flush(PATIENCE_S)
    reporter.hit("theo", "/b")
    assert reporter.flush(PATIENCE_S)


def test_flush_without_hits_is_done_at_once(report: Any) -> None:
    reporter = report("online://127.0.0.1:1")
    assert reporter.flush()
    assert reporter.close()


def test_flush_tells_when_the_time_was_not_enough(serve: Any, report: Any) -> None:
    gate = Gate()
    reporter = report(serve(gate).url)
    reporter.hit("theo", "/a")
    gate.wait()
    assert not reporter.flush(0)
    assert reporter.statistics().waiting == 1
    gate.let()
    assert reporter.flush(PATIENCE_S)


def test_flush_settles_what_came_before_it_only(serve: Any, report: Any) -> None:
    gate = Gate()
    server = serve(gate)
    reporter = report(server.url)
    reporter.hit(1, "/a")
    gate.wait()
    reporter.hit(2, "/a")
    flushed = threading.Thread(target=reporter.flush)
    flushed.start()
    gate.let()
    gate.wait()
    reporter.hit(3, "/a")
    gate.let()
    flushed.join(PATIENCE_S)
    assert not flushed.is_alive()
    gate.let()
    assert users_in(server)[:2] == [1, 2]


def test_nonsense_is_counted_and_never_raised(serve: Any, scripts: Any, report: Any) -> None:
    reporter = report(serve(scripts.answering()).url)
    nonsense: list[tuple[Any, Any, dict[str, Any]]] = [
        (None, "/a", {}),
        ("theo", None, {}),
        ("theo", 3.5, {}),
        ("\ud800", "/a", {}),
        ("theo", "/a", {"kind": 7}),
        ("theo", "/a", {"seen_ms": "now"}),
        ("theo", "/a" * 10**6, {}),
        (10**5_000, "/a", {}),
    ]
    for user, url, options in nonsense:
        reporter.hit(user, url, **options)
    statistics = reporter.statistics()
    assert statistics.invalid == len(nonsense)
    assert statistics.last_error is not None
    reporter.hit("theo", "/a")
    assert reporter.flush(PATIENCE_S)
    assert reporter.statistics().sent == 1


def test_what_the_server_refuses_is_counted(serve: Any, scripts: Any, report: Any) -> None:
    server = serve(scripts.answering({"hits": [3, 2, 1, ["RANGE", "user is empty"]]}))
    reporter = report(server.url, interval_s=3_600.0)
    for user in range(6):
        reporter.hit(user, "/a")
    assert reporter.flush(PATIENCE_S)
    assert reporter.statistics() == reporting.ReporterStatistics(5, 0, 1, 0, 0, "RANGE user is empty")


def test_a_batch_refused_as_a_whole_does_not_hold_up_the_next(serve: Any, scripts: Any, report: Any) -> None:
    def script(talk: Any) -> None:
        request = talk.request()
        talk.server.script = scripts.answering()
        talk.refuse(request[0], "FULL", "max_sites is reached")

    reporter = report(serve(script).url)
    reporter.hit("theo", "/a")
    assert reporter.flush(PATIENCE_S)
    assert reporter.statistics().refused == 1
    reporter.hit("theo", "/b")
    assert reporter.flush(PATIENCE_S)
    assert reporter.statistics().sent == 1


def test_a_server_that_takes_smaller_messages_only_gets_smaller_batches(serve: Any, report: Any) -> None:
    def script(talk: Any) -> None:
        while request := talk.request():
            if len(request[2]) > 5 or b"0" in [user for user, *_ in request[2]]:
                talk.refuse(request[0], "PROTO", "the message is too large")
                return
            talk.answer(request[0], [len(request[2]), 0, 0, None])

    server = serve(script)
    reporter = report(server.url, interval_s=3_600.0)
    for user in range(20):
        reporter.hit(user, "/a")
    assert reporter.flush(PATIENCE_S)
    assert [len(hits) for _, hits in server.requests][:5] == [20, 10, 5, 2, 1]
    assert (reporter.statistics().sent, reporter.statistics().refused) == (19, 1)


@pytest.mark.parametrize("code", ["LOADING", "PARTIAL", "MISCONF", "NOAUTH", "WRONGPASS"])
def test_a_refusal_that_passes_is_waited_out(serve: Any, scripts: Any, report: Any, code: str) -> None:
    def script(talk: Any) -> None:
        request = talk.request()
        talk.server.script = scripts.answering()
        talk.refuse(request[0], code, "not yet")

    server = serve(script)
    reporter = report(server.url)
    reporter.hit("theo", "/a", seen_ms=1_709_208_000_123)
    assert reporter.flush(PATIENCE_S)
    assert reporter.statistics() == reporting.ReporterStatistics(1, 0, 0, 0, 0, f"{code} not yet")


def test_a_batch_without_an_answer_is_sent_again(serve: Any, scripts: Any, report: Any) -> None:
    def script(talk: Any) -> None:
        talk.request()
        talk.server.script = scripts.answering()

    server = serve(script)
    reporter = report(server.url)
    reporter.hit("theo", "/a", seen_ms=1_709_208_000_123)
    assert reporter.flush(PATIENCE_S)
    assert server.requests == [("hits", [[b"theo", b"/a", 1_709_208_000_123]])] * 2
    assert reporter.statistics().sent == 1
    assert "broke" in reporter.statistics().last_error


def test_hits_wait_while_the_server_is_away(serve: Any, scripts: Any, report: Any) -> None:
    attempts = threading.Semaphore(0)

    def away(talk: Any) -> None:
        attempts.release()

    server = serve(away)
    reporter = report(server.url)
    for user in range(5):
        reporter.hit(user, "/a")
    for _ in range(3):
        assert attempts.acquire(timeout=PATIENCE_S)
    assert reporter.statistics().waiting == 5
    server.script = scripts.answering()
    assert reporter.flush(PATIENCE_S)
    assert users_in(server) == [0, 1, 2, 3, 4]


def test_hits_wait_while_the_server_is_full(serve: Any, scripts: Any, report: Any) -> None:
    def script(talk: Any) -> None:
        talk.server.script = scripts.answering()
        talk.request()
        talk.send(b"-ERR max number of clients reached\r\n")

    reporter = report(serve(script).url)
    reporter.hit("theo", "/a")
    assert reporter.flush(PATIENCE_S)
    assert reporter.statistics().sent == 1
    assert "max number of clients" in reporter.statistics().last_error


def test_the_server_may_come_late(serve: Any, scripts: Any, report: Any) -> None:
    server = serve(scripts.silent)
    reporter = report(server.url, timeout=0.01)
    reporter.hit("theo", "/a")
    assert not reporter.flush(0.05)
    server.script = scripts.answering()
    assert reporter.flush(PATIENCE_S)
    assert "did not answer within 0.01 s" in reporter.statistics().last_error


def test_when_too_many_wait_the_oldest_are_dropped(serve: Any, report: Any) -> None:
    gate = Gate()
    server = serve(gate)
    reporter = report(server.url, max_waiting=10)
    reporter.hit(0, "/a")
    gate.wait()
    for user in range(1, 16):
        reporter.hit(user, "/a")
    assert reporter.statistics().dropped == 5
    assert reporter.statistics().waiting == 11
    gate.let(2)
    assert reporter.flush(PATIENCE_S)
    assert users_in(server) == [0, *range(6, 16)]
    assert reporter.statistics() == reporting.ReporterStatistics(11, 5, 0, 0, 0, None)


def test_what_waits_is_bounded_in_bytes_too(serve: Any, report: Any) -> None:
    gate = Gate()
    server = serve(gate)
    reporter = report(server.url, max_waiting_bytes=5_500)
    reporter.hit(0, "/a")
    gate.wait()
    for user in range(1, 10):
        reporter.hit(user, "/" * 1_000)
    assert reporter.statistics().dropped == 4
    gate.let(2)
    assert reporter.flush(PATIENCE_S)
    assert users_in(server) == [0, 5, 6, 7, 8, 9]


def test_a_batch_that_comes_back_makes_no_room_for_itself(serve: Any, scripts: Any, report: Any) -> None:
    asked, let = threading.Event(), threading.Event()

    def script(talk: Any) -> None:
        talk.request()
        asked.set()
        let.wait(PATIENCE_S)
        talk.server.script = scripts.answering()

    server = serve(script)
    reporter = report(server.url, max_waiting=3)
    reporter.hit(0, "/a")
    assert asked.wait(PATIENCE_S)
    for user in range(1, 4):
        reporter.hit(user, "/a")
    let.set()
    assert reporter.flush(PATIENCE_S)
    assert users_in(server) == [0, 1, 2, 3]
    assert reporter.statistics().dropped == 1


def test_after_close_hits_are_dropped_and_counted(serve: Any, scripts: Any, report: Any) -> None:
    reporter = report(serve(scripts.answering()).url)
    reporter.hit("theo", "/a")
    assert reporter.close(PATIENCE_S)
    reporter.hit("theo", "/b")
    assert reporter.statistics() == reporting.ReporterStatistics(1, 1, 0, 0, 0, None)
    assert reporter.close(PATIENCE_S)


def test_close_gives_up_what_cannot_be_sent_in_time(serve: Any, report: Any) -> None:
    gate = Gate()
    reporter = report(serve(gate).url)
    reporter.hit(0, "/a")
    gate.wait()
    for user in range(5):
        reporter.hit(user, "/a")
    assert not reporter.close(0)
    assert reporter.statistics().dropped == 5
    gate.let()


def test_a_wrong_address_is_an_error_at_once() -> None:
    with pytest.raises(AddressError):
        Reporter("http://127.0.0.1")


def test_why_hits_are_lost_is_logged_once_a_cause(serve: Any, scripts: Any, report: Any, caplog: Any) -> None:
    why = iter(["user 300 bytes long, above max_user 256", "user 301 bytes long, above max_user 256", "FULL"])
    reporter = report(serve(scripts.answering({"hits": lambda *hits: [0, 0, len(hits), next(why)]})).url)
    for _ in range(3):
        reporter.hit("x" * 300, "/a")
        assert reporter.flush(PATIENCE_S)
    for value in (object(), object(), 1.5):
        reporter.hit(value, "/a")
    reporter.close(PATIENCE_S)
    for _ in range(2):
        reporter.hit("ada", "/a")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "hits are refused: user 300 bytes long, above max_user 256; this is logged once",
        "hits are refused: FULL; this is logged once",
        "hits are invalid: user takes str or bytes, not object; this is logged once",
        "hits are invalid: user takes str or bytes, not float; this is logged once",
        "hits are dropped: the reporter is closed; this is logged once",
    ]


def test_whatever_else_happens_in_a_hit_is_counted(serve: Any, scripts: Any, report: Any, caplog: Any) -> None:
    reporter = report(serve(scripts.answering()).url)

    class Broken:
        def append(self, hit: bytes) -> int:
            raise RuntimeError("broken")

        def __len__(self) -> int:
            return 0

    whole, reporter._buffer = reporter._buffer, Broken()
    for _ in range(2):
        reporter.hit("ada", "/a")
        reporter.leave("ada")
    reporter._buffer = whole
    assert reporter.statistics().dropped == 4
    assert [record.getMessage() for record in caplog.records] == [
        "hits are dropped: RuntimeError('broken'); this is logged once"
    ]


def test_hits_of_many_threads_all_arrive(serve: Any, scripts: Any, report: Any) -> None:
    server = serve(scripts.answering())
    reporter = report(server.url, interval_s=0.01)

    def work(number: int) -> None:
        for user in range(number, 4_000, 4):
            reporter.hit(user, "/a")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert reporter.flush(PATIENCE_S)
    assert sorted(users_in(server)) == list(range(4_000))
    assert reporter.statistics().sent == 4_000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reports_its_own_hits_only(serve: Any, report: Any) -> None:
    gate = Gate()
    server = serve(gate)
    reporter = report(server.url)
    reporter.hit(1, "/a")
    gate.wait()
    reporter.hit(2, "/a")
    with reporter._sync.lock:  # whatever another thread does meanwhile
        child = os.fork()
    if child == 0:
        try:
            assert reporter.statistics() == reporting.ReporterStatistics(0, 0, 0, 0, 0, None)
            reporter.hit(3, "/a")
            assert reporter.flush(PATIENCE_S)
            os._exit(0)
        finally:
            os._exit(1)
    gate.let(3)
    assert reporter.flush(PATIENCE_S)
    assert status_of(child) == 0
    assert sorted(users_in(server)) == [1, 2, 3]
    assert reporter.statistics().sent == 2


def status_of(child: int) -> int:
    timer = threading.Timer(PATIENCE_S, os.kill, (child, signal.SIGKILL))
    timer.start()
    try:
        return os.waitpid(child, 0)[1]
    finally:
        timer.cancel()


@pytest.mark.slow
def test_hits_are_sent_before_the_program_ends(serve: Any, scripts: Any) -> None:
    server = serve(scripts.answering())
    program = f"""
from online_client import Reporter
reporter = Reporter({server.url!r}, interval_s=3600.0, exit_wait_s={PATIENCE_S})
for user in range(3):
    reporter.hit(user, "/a")
"""
    run_python(program)
    assert users_in(server) == [0, 1, 2]


@pytest.mark.slow
def test_an_absent_server_does_not_keep_the_program_from_ending(serve: Any, scripts: Any) -> None:
    server = serve(scripts.silent)
    program = f"""
from online_client import Reporter
Reporter({server.url!r}, exit_wait_s=0.01, timeout=None).hit("theo", "/a")
"""
    run_python(program)


def run_python(program: str) -> None:
    source = os.path.dirname(os.path.dirname(online_client.__file__))
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
