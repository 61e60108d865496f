"""The state file of a server: what a restart keeps, and what is said of a file that cannot be used."""

import os
import shutil

import pytest
import trio
from tests.serving import in_memory, join, make_server

from online.errors import OnlineError, StateError
from online.keep import state


@in_memory
async def test_a_state_that_cannot_be_saved_is_an_error_at_the_end(nursery, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    server = make_server(state=folder / "state")

    async def spoil():
        await server.listening.wait()
        shutil.rmtree(folder)
        server.stop()

    nursery.start_soon(spoil)
    with pytest.raises(OnlineError, match="cannot be written: No such file or directory"):
        await server.run()


@in_memory
async def test_a_restart_forgets_nobody(nursery, tmp_path, caplog):
    caplog.set_level("INFO")
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        await join(first, nursery).ask(b"HIT theo /x")
        first.stop()
    await trio.sleep(600)
    second = make_server(state=tmp_path / "state")
    await nursery.start(second.run)
    peer = join(second, nursery)
    assert await peer.ask(b"COUNT '' 602") == b":1\r\n"
    assert await peer.ask(b"COUNT '' 599") == b":0\r\n"
    assert f"saved 1 users to {tmp_path}/state" in caplog.text
    assert f"no state file {tmp_path}/state yet, beginning empty" in caplog.text
    assert f"read 1 users from {tmp_path}/state; 0 more had left the window meanwhile" in caplog.text


@in_memory
async def test_a_state_file_of_another_server_is_refused(nursery, tmp_path):
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        with pytest.raises(StateError, match=f"^state file {tmp_path}/state is in use by another server"):
            await make_server(state=tmp_path / "state").run()
        first.stop()
    await nursery.start(make_server(state=tmp_path / "state").run)


@in_memory
async def test_a_damaged_state_file_is_said_and_kept(nursery, tmp_path, caplog):
    (tmp_path / "state").write_bytes(state.MARK + b"\xc1")
    server = make_server(state=tmp_path / "state")
    await nursery.start(server.run)
    assert await join(server, nursery).ask(b"COUNT") == b":0\r\n"
    assert f"{tmp_path}/state is damaged, it is now {tmp_path}/state.damaged: no message among" in caplog.text
    assert sorted(os.listdir(tmp_path)) == [".state.lock", "state.damaged"]


@in_memory
async def test_users_of_a_state_file_who_do_not_fit_are_said(nursery, tmp_path, caplog):
    first = make_server(state=tmp_path / "state")
    async with trio.open_nursery() as running:
        await running.start(first.run)
        await join(first, nursery).send(b"HIT a /x\r\nHIT b /x\r\n")
        await trio.testing.wait_all_tasks_blocked()
        first.stop()
    second = make_server(state=tmp_path / "state", limits={"max_users": 1})
    await nursery.start(second.run)
    assert f"{tmp_path}/state: 1 users were refused at a limit" in caplog.text


@in_memory
async def test_a_state_file_that_cannot_be_written_is_refused_at_the_start(nursery, tmp_path):
    with pytest.raises(StateError, match="cannot be written: No such file or directory"):
        await make_server(state=tmp_path / "missing" / "state").run()
