"""Work is what it costs: turns end, unheard questions cost nothing, and who has broken off is worked for no longer."""

import os
import socket
from itertools import count

import msgpack
import pytest
import trio
from tests.serving import in_memory, join, make_server, peer_of
from tests.wiring import feed, notification

from online.serve.progress import ProgressStream

NOW_MS = 1_700_000_000_000


def slow_down(verbs):
    """Let each rare verb take a millisecond, by its clock."""
    times_ns = count(step=1_000_000)
    verbs.clock_ns = lambda: next(times_ns)


def is_done(connection):
    """Whether all input has been worked off."""
    return not connection.has_work


@pytest.mark.parametrize(
    "question", [["INFO"], ["SITES"], ["CLIENT", "LIST"], ["PEAK"], ["SELECT", "wrong"]], ids=" ".join
)
def test_a_turn_ends_by_what_rare_verbs_take(verbs, question):
    slow_down(verbs)
    connection, _ = verbs.connections.open()
    verb, *args = question
    connection.receive(notification(verb, *args) * 5, now_ms=NOW_MS)
    turns = 1
    while not is_done(connection):
        connection.proceed(now_ms=NOW_MS)
        turns += 1
    assert turns >= 5  # one for each, and more for one that goes on in slices
    assert connection.frames == 5


def test_what_takes_no_time_shares_a_turn(verbs):
    verbs.clock_ns = lambda: 0
    connection, _ = verbs.connections.open()
    connection.receive(notification("TIME") * 5, now_ms=NOW_MS)
    assert connection.frames == 5
    assert is_done(connection)


async def send_at_once(peer, data):
    """Send without letting anybody else have a turn, where that can be done."""
    if isinstance(peer.stream, trio.SocketStream):
        os.write(peer.stream.socket.fileno(), data)
    else:
        await peer.send(data)


@in_memory
async def test_others_have_their_turn_while_one_asks_what_is_slow(nursery):
    server = make_server()
    slow_down(server.verbs)
    busy, other = join(server, nursery), join(server, nursery)
    for peer in (busy, other):
        await peer.ask(b"PING")
    await trio.testing.wait_all_tasks_blocked()
    await send_at_once(busy, b"INFO\r\n" * 1000)
    await send_at_once(other, b"INFO clients\r\n")
    answer = b""
    while b"commands:" not in answer:
        answer += await other.receive()
    commands = int(answer.split(b"commands:")[1].split(b"\r\n")[0])
    assert commands < 10


@pytest.mark.parametrize("question", [b"INFO", b"INFO hits", b"SITES", b"CLIENT LIST"])
def test_a_question_whose_answer_nobody_hears_is_not_worked_on(verbs, monkeypatch, question):
    connection, _ = verbs.connections.open()
    connection.receive(b"HIT theo /x\r\n", now_ms=NOW_MS)
    connection.take_output()
    asked = []
    for hub in (verbs.sites, verbs.connections):
        for name in ("items", "add_up", "__iter__"):
            if hasattr(type(hub), name):
                monkeypatch.setattr(type(hub), name, asked_for(asked, name, getattr(type(hub), name)))
    connection.receive(b"CLIENT REPLY OFF\r\n" + question + b"\r\n", now_ms=NOW_MS)
    assert (connection.take_output(), asked) == (b"", [])
    connection.receive(b"CLIENT REPLY ON\r\n", now_ms=NOW_MS)
    assert connection.take_output() == b"+OK\r\n"
    assert feed(connection, question + b"\r\n", now_ms=NOW_MS)[:1] in (b"$", b"*")
    assert asked


def asked_for(asked, name, method):
    def spy(*args, **named):
        asked.append(name)
        return method(*args, **named)

    return spy


def test_errors_that_nobody_hears_are_counted_as_ever(verbs):
    connection, _ = verbs.connections.open()
    connection.receive(b"CLIENT REPLY OFF\r\nCONFIG ten\r\nCLIENT NOTHING\r\nSELECT 1\r\n", now_ms=NOW_MS)
    assert verbs.service.errors == 3


def join_by_socket(server, nursery):
    """Connect a peer by a pair of sockets, over either transport."""
    if server.sockets is not None:
        return join(server, nursery)
    ours, theirs = socket.socketpair()
    stream = ProgressStream(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
    nursery.start_soon(server.streams.serve, stream)
    return peer_of(ours)


@in_memory
async def test_who_has_broken_off_is_worked_for_no_longer(nursery):
    """To close with an answer unread resets a connection; what it had sent is then nobody's wish any more."""
    server = make_server()
    slow_down(server.verbs)
    peer = join_by_socket(server, nursery)
    await peer.send(msgpack.packb([0, 1, "ECHO", ["not read"]]))
    await trio.testing.wait_all_tasks_blocked()
    await peer.send(notification("PEAK") * 8_000)
    while server.service.commands < 3:
        await trio.lowlevel.checkpoint()
    peer.stream.socket.close()
    commands = server.service.commands
    await trio.testing.wait_all_tasks_blocked()
    assert server.service.commands <= commands + 2 < 8_000
    statistics = server.statistics()
    assert (statistics.connections, statistics.connections_failed, statistics.buffered_bytes) == (0, 0, 0)


@in_memory
async def test_who_has_sent_all_and_closes_is_worked_for_to_the_end(nursery):
    """Hits that want no answer count, although who sent them has gone by then."""
    server = make_server()
    slow_down(server.verbs)
    peer = join_by_socket(server, nursery)
    hits = b"".join(notification("HIT", f"user{n}", "/x") for n in range(50))
    await peer.send(notification("PEAK") * 200 + hits)
    while server.service.commands < 3:
        await trio.lowlevel.checkpoint()
    peer.stream.socket.close()
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().users == 50
