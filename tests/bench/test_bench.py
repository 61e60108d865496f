"""The tools of the benchmarks: hits are the same in every form, answers are checked, loads do load."""

import http.server
import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import msgpack
import pytest
from bench.accesslog import combined, nginx_json, requests
from bench.inprocess import check_same, take_batches, take_hits, warm_index
from bench.native.load import closed_loop
from bench.native.yardstick import Yardstick, longest_gap_ns
from bench.openhttp import open_loop as open_http_loop
from bench.processes import cpu_ns, huge_page_bytes, idle_connections, resident_bytes, serving
from bench.serve.test_mixed import Rate, mix, placed, warm_server
from bench.serve.test_stalls import DISTURBANCES, fill, stalls
from bench.workloads import FORUM, FRAME_HITS, LATE, LONGTAIL, START_MS, SURGE, BenchHit, from_log, sized, warmed
from tests.wiring import read_resp

from online.core.index import Index
from online.core.reference import ReferenceIndex
from online.logs.formats import reader_of

SMALL = sized(FORUM, 1_000)
HITS = list(SMALL.hits())
REQUESTS = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(100)]


def hits_in(frame):
    *_, hits = msgpack.unpackb(frame)
    return [BenchHit(user.encode(), url.encode(), seen_ms) for user, url, seen_ms in hits]


class TestWorkloads:
    def test_the_same_seed_gives_the_same_hits(self):
        assert list(SMALL.hits()) == HITS
        assert list(replace(SMALL, seed=2).hits()) != HITS

    def test_frames_hold_the_hits(self):
        frames = SMALL.frames()
        assert [len(hits_in(frame)) for frame in frames] == [FRAME_HITS] * (SMALL.n_hits // FRAME_HITS)
        assert [hit for frame in frames for hit in hits_in(frame)] == HITS

    def test_requests_are_numbered(self):
        frames = [msgpack.unpackb(frame) for frame in SMALL.frames(0, 1_001, wants_answers=True)]
        assert [frame[:3] for frame in frames] == [[0, 0, "hits"], [0, 1, "hits"], [0, 2, "hits"]]
        assert [len(frame[3]) for frame in frames] == [500, 500, 1]

    def test_commands_hold_the_hits(self):
        commands = read_resp(b"".join(SMALL.commands()))
        assert commands == [[b"HIT", hit.user, hit.url, b"%d" % hit.seen_ms] for hit in HITS]

    def test_batches_hold_the_hits_and_tell_when_they_are_over(self):
        batches = list(SMALL.batches(7, 100, 32))
        assert [batch.n_hits for batch in batches] == [32, 32, 32, 4]
        assert [hit for batch in batches for hit in hits_in(batch.frame)] == HITS[7:107]
        assert [batch.now_ms for batch in batches] == [HITS[n].seen_ms for n in (38, 70, 102, 106)]

    def test_pieces_are_the_whole(self):
        assert list(SMALL.hits(10, 5)) == HITS[10:15]
        assert list(SMALL.hits(2_990)) == HITS[2_990:]

    def test_what_is_not_there_is_refused(self):
        with pytest.raises(ValueError, match="there are 3,000 hits, not 3,001"):
            SMALL.frames(3_000, 1)
        with pytest.raises(ValueError, match="take 1 to"):
            replace(SMALL, n_users=0).frames()

    def test_urls_follow_zipfs_law(self):
        hits = list(FORUM.hits(0, 50_000))
        first, second = (sum(hit.url == FORUM.url(n) for hit in hits) for n in (0, 1))
        assert 0.09 < first / len(hits) < 0.11  # 1 of the 9.79 that the first 10,000 terms of 1/n add up to
        assert 1.8 < first / second < 2.2

    def test_an_exponent_of_0_gives_all_urls_alike(self):
        assert len({hit.url for hit in replace(LONGTAIL, n_urls=10).hits(0, 1_000)}) == 10
        assert len({hit.url for hit in LONGTAIL.hits(0, 10_000)}) > 9_900

    def test_the_users_of_a_surge_are_new(self):
        assert len({hit.user for hit in SURGE.hits(0, 10_000)}) == 10_000

    def test_a_tenth_of_the_late_hits_are_late_by_a_minute_at_most(self):
        after_ms = [LATE.seen_ms(nth) - hit.seen_ms for nth, hit in enumerate(LATE.hits(0, 20_000))]
        assert 0.09 < sum(late > 0 for late in after_ms) / 20_000 < 0.11
        assert 59_000 < max(after_ms) < 60_000
        assert min(after_ms) == 0

    @pytest.mark.parametrize("n_users", [1, 2, 1_000, 4_096, 9_999])
    def test_warm_hits_bring_each_user_once(self, n_users):
        workload = warmed(replace(SMALL, n_users=n_users), 1)
        assert len({hit.user for hit in workload.hits(0, n_users)}) == n_users
        assert workload.n_hits == workload.n_warm + 1 == 2 * n_users + 1

    def test_it_can_be_moved(self):
        moved = SMALL.ending_at(START_MS)
        assert moved.end_ms == START_MS
        assert [hit._replace(seen_ms=hit.seen_ms + SMALL.end_ms - START_MS) for hit in moved.hits()] == HITS

    @pytest.mark.parametrize("base", [FORUM, LONGTAIL, SURGE, LATE], ids=lambda base: base.name)
    def test_index_and_reference_agree_about_it(self, base):
        workload = warmed(sized(base, 200), 300)
        index, reference = warm_index(workload), ReferenceIndex()
        taken = take_batches(index, list(workload.batches(workload.n_warm)))
        assert taken.accepted + taken.ignored == 300
        assert take_hits(reference, list(workload.hits())) > 0
        check_same(index, reference, workload)
        assert index.count(now_ms=workload.end_ms) == workload.users_in_the_end


class TestLogs:
    LINE = b'10.0.0.%d - - [10/Oct/2026:13:%02d:36 +0000] "GET /%d HTTP/1.1" 200 1\n'

    def test_an_access_log_is_a_workload(self, tmp_path):
        path = tmp_path / "access.log"
        path.write_bytes(b"".join(self.LINE % (n % 3, n, n % 2) for n in range(10)))
        workload = from_log(path)
        assert (workload.n_users, workload.n_urls, workload.n_hits) == (3, 2, 10)
        assert workload.id == "access.log-3users-2urls-10hits"
        assert next(workload.hits()) == (b"10.0.0.0", b"/0", START_MS)
        assert workload.end_ms == START_MS + 9 * 60_000
        assert workload.ending_at(START_MS).end_ms == START_MS

    def test_days_are_squeezed_into_20_minutes(self, tmp_path):
        path = tmp_path / "clicks.csv"
        path.write_bytes(b"user,url,time\nada,/a,1800000000\ntheo,/b,1800086400\nada,/c,1800172800\n")
        workload = from_log(path)
        assert [hit.seen_ms - START_MS for hit in workload.hits()] == [0, 600_000, 1_200_000]
        index = Index()
        assert take_batches(index, list(workload.batches(frame_hits=2)))[1:] == (3, 0, 0)
        assert index.count(now_ms=workload.end_ms) == 2


class TestYardstick:
    @pytest.mark.parametrize("n_nodes", [2, 3, 1_000])
    @pytest.mark.parametrize("huge_pages", [False, True])
    def test_the_chain_goes_through_every_line(self, n_nodes, huge_pages):
        assert Yardstick(64 * n_nodes, huge_pages=huge_pages).circle() == n_nodes

    def test_it_tells_the_time_of_a_load(self):
        assert Yardstick(1 << 20, huge_pages=False).load_ns(10_000) > 0

    def test_too_few_bytes_are_refused(self):
        with pytest.raises(ValueError, match="at least 128, not 64"):
            Yardstick(64, huge_pages=False)

    def test_a_spinning_process_has_gaps(self):
        assert longest_gap_ns(0.001) > 0


@contextmanager
def answering(answer):
    """A server on a free port that calls `answer` with all that has come, at each piece, and sends what it returns."""

    def serve():
        accepted, _ = listener.accept()
        with accepted:
            while piece := accepted.recv(65_536):
                accepted.sendall(answer(piece))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


#: An answer with two users.
PAGE = b"*4\r\n:9\r\n:2\r\n*2\r\n*3\r\n$1\r\na\r\n:6\r\n$1\r\nm\r\n*3\r\n$1\r\nb\r\n:5\r\n$1\r\nm\r\n$-1\r\n"


class TestClosedLoop:
    def test_answers_that_are_expected(self):
        with answering(lambda piece: piece) as port:
            found = closed_loop(port, [b"+OK\r\n" * 100] * 50, "same", expected=b"+OK\r\n" * 100, window=3)
        assert found.took_s > 0

    def test_batches_are_added_up(self):
        frames = SMALL.frames(wants_answers=True)
        unpacker = msgpack.Unpacker()

        def answer(piece):
            unpacker.feed(piece)
            return b"".join(msgpack.packb([1, msgid, None, [498, 2, 300, None]]) for _, msgid, *_ in unpacker)

        with answering(answer) as port:
            assert closed_loop(port, frames, "batch").became == (6 * 498, 6 * 2, 6 * 300)

    @pytest.mark.parametrize(
        ("answer", "reply"),
        [
            ("same", b"-ERR no\r\n"),
            ("batch", msgpack.packb([1, 0, ["FULL", "no"], None])),
            ("batch", msgpack.packb([1, 0, None, [1, 0, 0, "first error"]])),
            ("count", b"+OK\r\n"),
            ("count", b":1\r\n:1\r\n"),  # one more than was asked for
            ("page", b"*4\r\n:1\r\n:2\r\n*0\r\n$-1\r\n"),  # more here than on the site
            ("page", PAGE.replace(b":5", b":7")),  # oldest first
            ("page", b"*4\r\n:9\r\n:9\r\n*31\r\n"),
        ],
    )
    def test_a_wrong_answer_is_shown(self, answer, reply):
        with answering(lambda piece: reply) as port, pytest.raises(ValueError, match="is wrong: b"):
            closed_loop(port, [b"?"] * 2, answer, expected=b"+OK\r\n", window=1)

    @pytest.mark.parametrize("piece_bytes", [1, 7])
    def test_a_page_may_come_in_pieces(self, piece_bytes):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve():
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with accepted:
                    accepted.recv(64)
                    for begin in range(0, len(PAGE), piece_bytes):
                        accepted.sendall(PAGE[begin : begin + piece_bytes])
                    accepted.recv(64)

            thread = threading.Thread(target=serve)
            thread.start()
            assert closed_loop(listener.getsockname()[1], [b"PAGE"], "page").users == 2
            thread.join()

    def test_a_server_that_goes_away_is_told(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=lambda: listener.accept()[0].close())
            thread.start()
            with pytest.raises((ConnectionError, OSError)):
                closed_loop(listener.getsockname()[1], [b"?"] * 2, "count")
            thread.join()


class TestAccessLogs:
    def test_requests_are_the_same_in_every_format(self):
        read = reader_of()
        for request in requests(200):
            one, other = read(combined(request).encode()), read(nginx_json(request).encode())
            assert one[1:7] == other[1:7]
            assert other.seen_ms - one.seen_ms < 1_000


@pytest.fixture
def website():
    """A web server, what it answers, and what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.path)
            page = pages[len(asked) % len(pages)]
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))

        def log_message(self, *args):
            pass

    pages, asked = [b"hello"], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening.server_port, pages, asked
        listening.shutdown()
        thread.join()


class TestOpenLoopOverHttp:
    def test_every_request_is_sent_and_timed(self, website):
        port, _pages, asked = website
        latencies_ms = open_http_loop(port, REQUESTS, a_second=2_000, connections=4)
        assert len(latencies_ms) == 100
        assert min(latencies_ms) > 0
        assert sorted(asked) == sorted([*(f"/{number}" for number in range(100)), "/0"])

    def test_answer_of_another_length_is_told(self, website):
        port, pages, _asked = website
        pages.append(b"hello hello")
        with pytest.raises(ValueError, match="another length"):
            open_http_loop(port, REQUESTS, a_second=2_000, connections=4)


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


class TestWithAServer:
    def test_an_open_loop_gets_all_answers_and_their_times(self, server):
        rate = Rate(10_000, 1_000)
        workload = placed(warmed(SMALL, 2_000), rate)
        warm_server(server, workload)
        found = mix(server, workload, rate)
        assert found.became == (2_000, 0, 0)
        assert len(found.batch_ns) == 4
        assert 100 < len(found.question_ns) < 400  # 0.15 s of them
        assert found.users > 0
        assert min(found.batch_ns + found.question_ns) > 0

    def test_a_process_tells_what_it_used(self, server):
        assert cpu_ns(server.pid) > 1_000_000
        assert resident_bytes(server.pid) > 1_000_000
        assert resident_bytes() > 1_000_000
        assert huge_page_bytes() >= 0
        with idle_connections(server.port, 20) as connections:
            connections[-1].sendall(b"INFO clients\r\n")
            assert b"connected_clients:20" in connections[-1].recv(65_536)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_stalls_are_seen_by_the_client_and_counted_by_the_server():
    with serving("--window", "86400") as server:
        fill(server, 1_000)
        for what in DISTURBANCES:
            took_ns, longest_us, kept_ns = stalls(server, what, 0.1)
            assert min(took_ns) > 0
            assert kept_ns >= 0
            assert longest_us["turn"] >= longest_us["step"] > 0
