"""The seam for what runs beside the connections: the order of opening and closing, failures, and what is told."""

from contextlib import asynccontextmanager

import pytest
import trio
from tests.serving import in_memory, join, make_server

from online.errors import ConfigError, OnlineError
from online.serve.parts import Part


class Noted(Part):
    """A part that notes what becomes of it."""

    def __init__(self, name, notes, *, refusal=None, failure=None):
        self.name = name
        self.notes = notes
        self.refusal = refusal
        self.failure = failure

    @asynccontextmanager
    async def open(self):
        if self.refusal is not None:
            raise self.refusal
        self.notes.append(f"{self.name} opens")
        try:
            yield
        except BaseException as error:
            self.notes.append(f"{self.name} sees {type(error).__name__}")
            raise
        self.notes.append(f"{self.name} closes")

    async def run(self):
        self.notes.append(f"{self.name} runs")
        if self.failure is not None:
            raise self.failure

    def told(self):
        yield f"{self.name} listens in the attic"

    def info(self):
        return {self.name: lambda now_ms: [("notes", len(self.notes))]}


@in_memory
async def test_parts_open_in_their_order_and_close_in_the_other_after_the_last_connection(nursery, caplog):
    caplog.set_level("INFO")
    notes = []
    server = make_server()
    for name in ("first", "second"):
        server.attach(Noted(name, notes))
    async with trio.open_nursery() as running:
        await running.start(server.run)
        await trio.testing.wait_all_tasks_blocked()
        assert notes[:2] == ["first opens", "second opens"]
        assert sorted(notes[2:]) == ["first runs", "second runs"]
        assert await join(server, nursery).ask(b"INFO second") == info(4)
        server.stop()
    assert notes[4:] == ["second closes", "first closes"]
    assert caplog.messages[1:3] == ["first listens in the attic", "second listens in the attic"]


def info(n_notes):
    text = b"# Second\r\nnotes:%d\r\n" % n_notes
    return b"$%d\r\n%b\r\n" % (len(text), text)


@in_memory
async def test_a_part_that_cannot_open_lets_nothing_start(nursery):
    notes = []
    server = make_server()
    server.attach(Noted("first", notes))
    server.attach(Noted("second", notes, refusal=ConfigError("there is no attic")))
    with pytest.raises(ConfigError, match=r"^there is no attic$"):
        await server.run()
    assert notes == ["first opens", "first sees ConfigError"]
    assert not server.listening.is_set()


@in_memory
async def test_a_part_that_fails_ends_the_server_and_the_others_see_that(nursery, caplog):
    notes = []
    server = make_server()
    server.attach(Noted("first", notes))
    server.attach(Noted("second", notes, failure=ZeroDivisionError()))
    with pytest.raises(OnlineError, match=r"^housekeeping failed: second: ZeroDivisionError\(\)$"):
        await server.run()
    assert notes[-2:] == ["second sees OnlineError", "first sees OnlineError"]
    assert "housekeeping failed: second" in caplog.text


@in_memory
async def test_a_part_sees_that_the_server_was_cancelled(nursery):
    notes = []
    server = make_server()
    server.attach(Noted("first", notes))
    async with trio.open_nursery() as running:
        await running.start(server.run)
        running.cancel_scope.cancel()
    assert notes[-1].startswith("first sees ")  # as Trio groups it


@in_memory
async def test_a_part_that_does_nothing_is_enough(nursery):
    server = make_server()
    server.attach(Part())
    async with trio.open_nursery() as running:
        await running.start(server.run)
        assert await join(server, nursery).ask(b"COUNT") == b":0\r\n"
        server.stop()
