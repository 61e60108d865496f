"""Sockets that are opened: stale ones, those of others, permissions, errors, and what is removed at the end."""

import os
import socket
import stat
import sys

import pytest
import trio
from tests.serving import LOCAL, run_in_real_time, serving, with_sockets

from online.cli.serve import assemble
from online.errors import ConfigError
from online.serve import listeners as listeners_module
from online.serve.config import Address, Config
from online.serve.listeners import open_listeners
from online.serve.server import Server


@pytest.mark.parametrize("setting", ["listen", "syslog"])
def test_a_server_that_ends_leaves_the_socket_of_its_successor(tmp_path, setting):
    address = Address(path=tmp_path / "x.sock")

    async def test():
        settings = {"listen": (LOCAL,), setting: (address,)}
        async with serving(**settings) as first:
            address.path.unlink()
            async with serving(**settings):
                first.server.stop()
                await first.ended.wait()
                assert address.path.is_socket()
            assert not address.path.exists()

    run_in_real_time(test)


@with_sockets
async def test_a_unix_socket_is_removed_at_the_end(tmp_path):
    path = tmp_path / "online.sock"
    async with serving(listen=(Address(path=path),), unix_mode=0o640) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert await (await served.connect()).ask(b"COUNT") == b":0\r\n"
    assert not path.exists()


@with_sockets
async def test_a_unix_socket_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "online.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(listen=(Address(path=path),)) as served:
        assert await (await served.connect()).ask(b"COUNT") == b":0\r\n"


@with_sockets
async def test_a_unix_socket_of_another_server_is_left_alone(tmp_path):
    path = tmp_path / "online.sock"
    async with serving(listen=(Address(path=path),)) as served:
        with pytest.raises(ConfigError, match=r"^cannot listen on unix:.*: Address already in use"):
            await Server(Config(listen=(Address(path=path),))).run()
        assert await (await served.connect()).ask(b"COUNT") == b":0\r\n"


@with_sockets
async def test_a_unix_socket_that_was_replaced_meanwhile_is_not_removed(tmp_path):
    path = tmp_path / "online.sock"
    async with serving(listen=(Address(path=path),)):
        path.rename(tmp_path / "away")
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


@with_sockets
async def test_a_path_that_cannot_be_listened_at_is_said(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path, reason in [
        (file, "exists and is not a socket"),
        (file / "below", "Not a directory"),
        (tmp_path / "missing" / "socket", "No such file or directory"),
        (tmp_path / ("x" * 200), "AF_UNIX path too long"),
    ]:
        with pytest.raises(ConfigError, match=f"^cannot listen on unix:{path}: {reason}$"):
            await Server(Config(listen=(Address(path=path),))).run()
    assert os.listdir(tmp_path) == ["file"]


@with_sockets
async def test_a_port_in_use_is_said_and_the_others_are_closed(tmp_path):
    async with serving() as served:
        taken = served.addresses[0]
        other = Server(Config(listen=(Address(path=tmp_path / "socket"), taken)))
        with pytest.raises(ConfigError, match=f"^cannot listen on {taken}: Address already in use"):
            await other.run()
        assert os.listdir(tmp_path) == []


@with_sockets
async def test_a_host_that_is_unknown_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"^cannot listen on no\.such\.invalid:1: "):
        await Server(Config(listen=(Address("no.such.invalid", 1),), token=b"x" * 16)).run()


def left_behind(path, kind):
    """A socket that nobody has open any more."""
    with socket.socket(socket.AF_UNIX, kind) as left:
        left.bind(str(path))


SYSLOG_PURPOSE = "receive syslog at"


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_socket_for_syslog_has_its_permissions(tmp_path, mode):
    path = tmp_path / "syslog.sock"

    async def test():
        async with serving(syslog=(Address(path=path),), unix_mode=mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode

    run_in_real_time(test)


@pytest.mark.parametrize("left", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("setting", ["listen", "syslog"])
def test_a_socket_that_was_left_behind_is_replaced_whatever_it_was(tmp_path, setting, left):
    path = tmp_path / "x.sock"
    left_behind(path, left)

    async def test():
        async with serving(**{"listen": (LOCAL,), setting: (Address(path=path),)}):
            wanted = socket.SOCK_STREAM if setting == "listen" else socket.SOCK_DGRAM
            with socket.socket(socket.AF_UNIX, wanted) as connected:
                connected.connect(str(path))

    run_in_real_time(test)


@pytest.mark.parametrize(("setting", "purpose"), [("listen", "listen on"), ("syslog", SYSLOG_PURPOSE)])
def test_a_socket_that_another_server_has_is_left_alone(tmp_path, setting, purpose):
    address = Address(path=tmp_path / "x.sock")

    async def test():
        settings = {"listen": (LOCAL,), setting: (address,)}
        async with serving(**settings):
            message = f"^cannot {purpose} {address}: Address already in use, another server listens there$"
            with pytest.raises(ConfigError, match=message):
                await assemble(Config(**settings)).run()
            assert address.path.is_socket()

    run_in_real_time(test)


def test_a_socket_whose_queue_is_full_is_in_use(tmp_path):
    """A server that hangs, before which so many wait that nobody else can, is asked nothing that would block."""
    path = tmp_path / "x.sock"

    async def test():
        with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as waiting:
            hanging.bind(str(path))
            hanging.listen(0)
            waiting.connect(str(path))
            with pytest.raises(ConfigError, match=r"Address already in use, another server listens there$"):
                await Server(Config(listen=(Address(path=path),))).run()
            assert path.is_socket()

    run_in_real_time(test)


def test_a_path_that_cannot_be_received_at_is_said(tmp_path):
    file = tmp_path / "file"
    file.touch()

    async def test():
        for path, reason in [
            (file, "exists and is not a socket"),
            (file / "below", "Not a directory"),
            (tmp_path / "missing" / "socket", "No such file or directory"),
            (tmp_path / ("x" * 200), "AF_UNIX path too long"),
        ]:
            with pytest.raises(ConfigError, match=f"^cannot {SYSLOG_PURPOSE} unix:{path}: {reason}$"):
                await assemble(Config(syslog=(Address(path=path),))).run()
        assert os.listdir(tmp_path) == ["file"]

    run_in_real_time(test)


def test_a_port_for_syslog_that_is_taken_closes_what_was_open(tmp_path):
    async def test():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            taken = Address("127.0.0.1", other.getsockname()[1])
            server = assemble(Config(syslog=(Address(path=tmp_path / "x.sock"), taken)))
            with pytest.raises(ConfigError, match=f"^cannot {SYSLOG_PURPOSE} {taken}: Address already in use"):
                await server.run()
        assert os.listdir(tmp_path) == []

    run_in_real_time(test)


@pytest.mark.parametrize("setting", ["listen", "syslog"])
def test_a_socket_whose_owner_and_permissions_were_changed_is_still_ours(tmp_path, setting):
    path = tmp_path / "x.sock"

    async def test():
        async with serving(**{"listen": (LOCAL,), setting: (Address(path=path),)}):
            path.chmod(0o600)
            os.chown(path, os.getuid(), os.getgid())
        assert not path.exists()

    run_in_real_time(test)


def test_what_the_system_holds_of_a_connection_is_limited():
    async def main():
        async with open_listeners([LOCAL], send_timeout_s=7) as [(address, listener)]:
            client = await trio.open_tcp_stream("127.0.0.1", address.port)
            stream = await listener.accept()
            option = stream.socket.getsockopt
            assert (
                option(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * listeners_module.SEND_BUFFER_BYTES
            )  # Linux doubles
            assert option(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * listeners_module.RECEIVE_BUFFER_BYTES
            if sys.platform == "linux":
                assert option(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) <= listeners_module.UNSENT_BYTES
                assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000
            await client.aclose()
            await stream.aclose()

    trio.run(main)
