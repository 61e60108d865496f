"""Verbs whose reply a thread has to make: who asks rests until it is there, and nobody else does."""

from concurrent.futures import Future

import trio
import trio.testing
from tests.serving import AtOnce, in_memory, join, make_server, reached, serving, with_sockets

from online.errors import OnlineError
from online.serve.past import PastKeeper


class Held(AtOnce):
    """A thread that does nothing until it is let go."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, /, *args):
        done = Future()
        self.waiting.append((done, function, args))
        return done

    def let_go(self):
        """Do the oldest."""
        done, function, args = self.waiting.pop(0)
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)


async def started(nursery, tmp_path, **settings):
    """A server with a state directory, and the thread that reads its history."""
    server = make_server(state=tmp_path / "state", last_seen=90, **settings)
    part = next(part for part in server.parts if isinstance(part, PastKeeper))
    await nursery.start(server.run)
    await trio.testing.wait_all_tasks_blocked()
    part.reading = Held()
    return server, part.reading


async def nothing_comes(peer):
    with trio.move_on_after(5) as scope:
        await peer.receive()
    assert scope.cancelled_caught


LAST = b"LAST ada\r\n"
ADA = b"*1\r\n*2\r\n$2\r\n/a\r\n:%d\r\n"


async def last_of_ada(peer):
    """The whole answer to LAST."""
    return await peer.receive_bytes(len(ADA % 1_700_000_000_000))


@in_memory
async def test_who_asks_rests_and_others_do_not(nursery, tmp_path):
    server, thread = await started(nursery, tmp_path)
    asking, other = join(server, nursery), join(server, nursery)
    assert await asking.ask(b"HIT ada /a") == b"+OK\r\n"
    await asking.send(b"PING\r\n" + LAST + b"COUNT\r\nPING x\r\n")
    assert await asking.receive() == b"+PONG\r\n"
    assert await other.ask(b"COUNT") == b":1\r\n"
    await nothing_comes(asking)
    await asking.send(b"PING y\r\n")
    await nothing_comes(asking)
    thread.let_go()
    assert (await last_of_ada(asking)).startswith(b"*1\r\n*2\r\n$2\r\n/a\r\n")
    assert await asking.receive_bytes(18) == b":1\r\n$1\r\nx\r\n$1\r\ny\r\n"
    assert server.slices.turns < 100


@in_memory
async def test_a_pipeline_of_questions_is_answered_in_order(nursery, tmp_path):
    server, thread = await started(nursery, tmp_path)
    peer = join(server, nursery)
    await peer.send(b"HISTORY\r\nPEAK 100000000000\r\nHIT ada /a\r\nPEAK 100000000000\r\n")
    for reply in (b"*0\r\n", b"*2\r\n:0\r\n:0\r\n+OK\r\n", b"*2\r\n:1\r\n"):
        await nothing_comes(peer)
        thread.let_go()
        assert (await peer.receive_bytes(len(reply))) == reply


@in_memory
async def test_a_transaction_waits_for_it(nursery, tmp_path):
    server, thread = await started(nursery, tmp_path)
    peer = join(server, nursery)
    for line, reply in ((b"MULTI", b"+OK\r\n"), (b"HISTORY", b"+QUEUED\r\n"), (b"COUNT", b"+QUEUED\r\n")):
        assert await peer.ask(line) == reply
    await peer.send(b"EXEC\r\nPING\r\n")
    with trio.move_on_after(5):
        assert await peer.receive() == b"*2\r\n"
        await peer.receive()
    thread.let_go()
    assert (await peer.receive_bytes(15)).endswith(b"*0\r\n:0\r\n+PONG\r\n")


@in_memory
async def test_what_cannot_be_read_is_an_error_and_the_connection_goes_on(nursery, tmp_path):
    server, thread = await started(nursery, tmp_path)
    peer = join(server, nursery)
    await peer.send(b"HISTORY\r\n")
    await nothing_comes(peer)
    done, *_ = thread.waiting.pop()
    done.set_exception(OnlineError("it cannot be read"))
    assert await peer.receive() == b"-ERR it cannot be read\r\n"
    assert await peer.ask(b"PING") == b"+PONG\r\n"


@in_memory
async def test_who_goes_meanwhile_is_not_missed(nursery, tmp_path):
    server, thread = await started(nursery, tmp_path)
    peer, other = join(server, nursery), join(server, nursery)
    await peer.send(LAST)
    await nothing_comes(peer)
    await peer.stream.aclose()
    await nothing_comes(other)
    thread.let_go()
    assert await other.ask(b"PING") == b"+PONG\r\n"
    await trio.testing.wait_all_tasks_blocked()
    assert server.statistics().connections_failed == 0
    assert server.statistics().connections == 1


@in_memory
async def test_nobody_is_out_of_time_while_a_thread_makes_the_reply(nursery, tmp_path):
    server, thread = await started(nursery, tmp_path, limits={"frame_timeout_s": 1})
    peer = join(server, nursery)
    await peer.send(LAST + b"*1\r\n$4\r\nPI")
    await nothing_comes(peer)
    thread.let_go()
    assert await peer.receive() == b"*1\r\n$-1\r\n"
    await peer.send(b"NG\r\n")
    assert await peer.receive() == b"+PONG\r\n"
    assert reached(server) == {}


@with_sockets
async def test_a_server_that_stops_answers_it_first(tmp_path):
    async with serving(state=tmp_path / "state") as served:
        part = next(part for part in served.server.parts if isinstance(part, PastKeeper))
        peer = await served.connect()
        assert await peer.ask(b"PING") == b"+PONG\r\n"
        reading, part.reading = part.reading, Held()
        await peer.send(b"HISTORY\r\n")
        while not part.reading.waiting:
            await trio.sleep(0)
        served.server.stop()
        for _ in range(10):
            await trio.sleep(0)
        part.reading.let_go()
        assert await peer.receive_rest() == b"*0\r\n"
        reading.shutdown()
