"""MULTI and EXEC: the same bytes as a real Redis, bounded, of one moment, and whole or not at all."""

import socket
import subprocess

import pytest
from tests.core.conversation import Speaker
from tests.programs import program
from tests.serving import listens, until
from tests.websites import free_port
from tests.wiring import NOW, Wiring, feed, read_pack, read_resp, request, resp

#: Pipelines of what both servers know.
ALIKE = [
    [["MULTI"], ["PING"], ["ECHO", "x"], ["EXEC"]],
    [["MULTI"], ["EXEC"]],
    [["MULTI"], ["PING"], ["DISCARD"], ["PING"]],
    [["EXEC"]],
    [["DISCARD"]],
    [["MULTI"], ["MULTI"], ["PING"], ["EXEC"]],
    [["MULTI"], ["WATCH", "k"], ["EXEC"]],
    [["WATCH", "k"], ["UNWATCH"], ["MULTI"], ["UNWATCH"], ["PING"], ["EXEC"]],
    [["MULTI"], ["PING"], ["RESET"], ["EXEC"]],
    [["MULTI"], ["PING"], ["QUIT"]],
    [["MULTI", "x"]],
    [["WATCH"]],
    [["multi"], ["ping"], ["exec"]],
    [["MULTI"], ["DISCARD", "x"], ["PING"], ["EXEC"]],
    [["MULTI"], ["PING"], ["WATCH", "k"], ["MULTI"], ["EXEC"]],
]


def bytes_of(pipeline):
    return b"".join(resp(*words) for words in pipeline)


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory):
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(lambda: listens(port))
    yield port
    process.terminate()
    process.wait()


def said_by_redis(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
        connected.sendall(data)
        connected.shutdown(socket.SHUT_WR)
        said = b""
        while chunk := connected.recv(65_536):
            said += chunk
    return said


@pytest.mark.parametrize("pipeline", ALIKE, ids=lambda pipeline: " ".join(words[0] for words in pipeline))
def test_a_pipeline_is_answered_as_by_redis(redis_port, pipeline):
    ours = read_resp(Speaker().say(bytes_of(pipeline)))
    theirs = read_resp(said_by_redis(redis_port, bytes_of(pipeline)))
    # Errors of arity are worded each in its own way.
    assert [plain(reply) for reply in ours] == [plain(reply) for reply in theirs]


def plain(reply):
    text = str(reply)
    return "wrong arity" if "argument" in text and text.startswith("ERR") else reply


@pytest.mark.parametrize("data", [b"*-1\r\n", b"*-7\r\n", b"*-9223372036854775807\r\n", b"*0\r\n", b"\r\n"])
def test_a_command_of_nothing_has_no_answer_as_in_redis(redis_port, data):
    assert feed(Wiring().connect(), data + resp("PING")) == said_by_redis(redis_port, data + resp("PING"))


def test_hits_in_a_transaction_are_taken_at_its_end():
    wiring = Wiring()
    line, other = wiring.connect(), wiring.connect()
    feed(line, bytes_of([["MULTI"], ["HIT", "theo", "/a"], ["COUNT"]]))
    assert read_resp(feed(other, resp("COUNT"))) == [0]
    assert read_resp(feed(line, resp("EXEC"))) == [["OK", 1]]


def test_a_discarded_hit_is_not_taken():
    line = Wiring().connect()
    assert read_resp(feed(line, bytes_of([["MULTI"], ["HIT", "a", "/a"], ["DISCARD"], ["COUNT"]])))[-1] == 0


@pytest.mark.parametrize("wrong", [["NOTHING"], ["HIT", "a"], ["COUNT", "a", "b", "c"]])
def test_a_verb_that_is_wrong_in_itself_spoils_the_whole(wrong):
    line = Wiring().connect()
    replies = read_resp(feed(line, bytes_of([["MULTI"], ["HIT", "a", "/a"], wrong, ["EXEC"], ["COUNT"]])))
    assert str(replies[2]).startswith("ERR")
    assert str(replies[3]).startswith("EXECABORT")
    assert replies[4] == 0


def test_a_verb_that_fails_has_its_error_in_its_place():
    line = Wiring().connect()
    [*_, replies] = read_resp(feed(line, bytes_of([["MULTI"], ["HIT", "a", "/a", "5"], ["COUNT"], ["EXEC"]])))
    assert str(replies[0]).startswith("RANGE")
    assert replies[1] == 0


def test_a_transaction_in_messagepack_marks_errors_inside_of_its_result():
    line = Wiring().connect()
    for verb, *params in (["MULTI"], ["HIT", "a", "/a"], ["HIT", "a", "/a", 5]):
        feed(line, request(verb, *params))
    [(msgid, error, result)] = read_pack(feed(line, request("EXEC", msgid=4)))
    assert (msgid, error, result[0]) == (4, None, "OK")
    assert result[1]["error"][0] == "RANGE"


def test_a_batch_is_no_part_of_a_transaction_and_spoils_it():
    line = Wiring().connect()
    for verb in ("hits", "HITS"):
        feed(line, request("MULTI"))
        [(_, error, _)] = read_pack(feed(line, request(verb, ["a", "/a"])))
        assert error == "ERR hits inside MULTI is not allowed"
        assert "EXECABORT" in read_pack(feed(line, request("EXEC")))[0][1]


@pytest.mark.parametrize(
    ("limits", "word"), [({"max_items": 8}, "8 verbs"), ({"max_frame": 2_000}, "2000 bytes")], ids=["items", "frame"]
)
def test_what_is_kept_is_bounded(limits, word):
    wiring = Wiring(**limits)
    line = wiring.connect()
    replies = read_resp(feed(line, resp("MULTI") + 40 * resp("HIT", "a", "/a") + resp("EXEC")))
    assert word in str(replies[-2])
    assert str(replies[-1]).startswith("EXECABORT")
    assert wiring.service.buffered_bytes == 0


def test_what_is_kept_is_counted_and_given_back_with_the_connection():
    wiring = Wiring()
    line = wiring.connect()
    feed(line, resp("MULTI") + 100 * resp("HIT", "a", "/" + 50 * "x"))
    assert wiring.service.buffered_bytes == line.buffered_bytes > 5_000
    del line
    assert wiring.service.buffered_bytes == 0


def many_pages(wiring, n):
    """A transaction that asks n times for a long page, and then hits."""
    for user in range(1_000):
        wiring.index.hit(b"%04d" % user + 200 * b"u", b"/a", now_ms=NOW)
    return resp("MULTI") + n * resp("PAGE", "/a", "1000") + resp("HIT", "last", "/b") + resp("EXEC")


def test_a_long_transaction_goes_on_in_the_next_turns_and_waits_for_who_does_not_read():
    wiring = Wiring()
    line, other = wiring.connect(), wiring.connect()
    line.receive(many_pages(wiring, 100), now_ms=NOW)
    for _ in range(10):
        assert line.has_work
        line.proceed(now_ms=NOW)
        assert line.output_bytes < wiring.service.limits.max_output + 300_000  # one page more
        assert feed(other, resp("COUNT", "/b")) == b":0\r\n"
    output = b""
    while line.has_work or line.output_bytes:
        output += line.take_output()
        line.proceed(now_ms=NOW)
    assert output.count(b"*4\r\n:1000\r\n:1000\r\n") == 100
    assert output.startswith(b"+OK\r\n" + 101 * b"+QUEUED\r\n" + b"*101\r\n*4\r\n")
    assert output.endswith(b"+OK\r\n")
    assert feed(other, resp("COUNT", "/b")) == b":1\r\n"


def test_a_transaction_is_of_one_moment_though_much_came_before_it_in_the_same_turn():
    wiring = Wiring()
    line, other = wiring.connect(), wiring.connect()
    hits = [resp("HIT", f"u{n}", "/a") for n in range(3_000)]
    line.receive(b"".join(hits) + resp("MULTI") + 1_000 * resp("HIT", "v", "/b") + resp("EXEC"), now_ms=NOW)
    seen = []
    while line.has_work:
        seen.append((line.take_output()[-40:], feed(other, resp("COUNT", "/b"))))
        line.proceed(now_ms=NOW)
    assert seen
    assert {count for _, count in seen} == {b":0\r\n"}
    assert feed(other, resp("COUNT", "/b")) == b":1\r\n"


def test_a_long_transaction_in_messagepack_is_one_response():
    wiring = Wiring()
    line = wiring.connect()
    feed(line, request("MULTI"))
    for _ in range(5_000 // 100):
        feed(line, b"".join(request("HIT", "ann", "/a") for _ in range(99)) + request("COUNT", "/a"))
    line.receive(request("EXEC", msgid=7) + request("COUNT", msgid=8), now_ms=NOW)
    assert line.has_work
    assert line.frames < 5_002
    output = line.take_output()
    while line.has_work:
        line.proceed(now_ms=NOW)
        output += line.take_output()
    (msgid, error, replies), count = read_pack(output)
    assert (msgid, error) == (7, None)
    assert replies == 50 * [*(99 * ["OK"]), 1]
    assert count == (8, None, 1)


def test_who_goes_away_in_a_long_transaction_ends_it():
    wiring = Wiring()
    line = wiring.connect()
    line.receive(many_pages(wiring, 100), now_ms=NOW)
    assert line.has_work
    line.release()
    del line
    assert wiring.held() == (0, 0)
    assert wiring.index.count(b"/b", now_ms=NOW) == 0


def test_a_long_transaction_is_silent_after_client_reply_off():
    wiring = Wiring()
    line = wiring.connect()
    assert feed(line, resp("CLIENT", "REPLY", "off")) == b""
    assert feed(line, many_pages(wiring, 50)) == b""
    assert wiring.index.count(b"/b", now_ms=NOW) == 1
    assert feed(line, resp("CLIENT", "REPLY", "on")) == b"+OK\r\n"


def test_a_transaction_that_loses_its_place_ends_the_connection():
    """Nobody could read an error in the middle of a reply."""
    wiring = Wiring(auth_wanted=True)
    line = wiring.connect()
    line.authenticated = True
    line.receive(many_pages(wiring, 100), now_ms=NOW)
    line.authenticated = False
    line.take_output()
    line.proceed(now_ms=NOW)
    assert line.is_closing
    assert line.take_output().startswith(b"-NOAUTH ")


def test_a_token_is_wanted_before_a_transaction():
    line = Wiring(auth_wanted=True).connect()
    assert [str(reply).split()[0] for reply in read_resp(feed(line, resp("MULTI") + resp("EXEC")))] == ["NOAUTH"] * 2


def test_what_is_left_out_of_a_queued_verb_is_left_out_when_it_is_carried_out():
    wiring = Wiring()
    line = wiring.connect()
    feed(line, request("MULTI") + request("HIT", "ann", "/a", None, "guest"))
    [(_, error, results)] = read_pack(feed(line, request("EXEC")))
    assert (error, results) == (None, ["OK"])
    assert wiring.index.kinds(now_ms=NOW) == [0, 1, 0, 0]
