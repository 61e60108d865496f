"""Sockets that are opened: stale ones, those of others, permissions, errors, and what is removed at the end."""

import pytest
from tests.serving import LOCAL, run_in_real_time, serving

from online.serve.config import Address


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
