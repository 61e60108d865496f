"""What a page is told of its reader, and of the ways to the server."""

import shlex
from pathlib import Path

import pytest
from tests.http.browsing import jumping, web

from online.http.routes import redis_cli
from online.serve.config import Address
from online.serve.tokens import grant

SHOP = (grant(b"shop-only", "write", b"shop"),)


@jumping
async def test_a_reader_without_tokens_may_do_everything():
    async with web() as site:
        site.server.verbs.addresses = (Address("127.0.0.1", 8989),)
        told = (await site.join().get("/session")).json
    assert told == {"wants_token": False, "role": "admin", "site": None, "redis_cli": "redis-cli -p 8989"}


@jumping
async def test_a_reader_with_a_token_learns_what_it_is_good_for():
    async with web(tokens=SHOP) as site:
        told = (await site.join().get("/session", authorization="Bearer shop-only")).json
    assert told == {"wants_token": True, "role": "write", "site": "shop", "redis_cli": None}


SOCKET = Address(path=Path("/run/on line/online.sock"))


@pytest.mark.parametrize(
    ("addresses", "is_tls", "tokens", "options"),
    [
        ((Address("127.0.0.1", 8989),), False, (), ["-p", "8989"]),
        ((Address("::", 9000), Address("127.0.0.1", 1)), False, (), ["-p", "9000"]),
        ((Address("10.0.0.5", 8989),), False, (), ["-h", "10.0.0.5", "-p", "8989"]),
        ((Address("0.0.0.0", 8989),), True, SHOP, ["-p", "8989", "--tls", "-a", "TOKEN"]),
        ((SOCKET, Address("localhost", 8989)), False, (), ["-p", "8989"]),
        ((SOCKET,), True, SHOP, ["-s", str(SOCKET.path), "-a", "TOKEN"]),
    ],
    ids=["usual", "everywhere", "one address", "TLS and token", "two ways", "a Unix socket alone"],
)
@jumping
async def test_redis_cli_is_told_the_way_that_there_is(addresses, is_tls, tokens, options):
    async with web(tokens=tokens) as site:
        shared = site.server.verbs
        shared.addresses, shared.is_tls = addresses, is_tls
        assert shlex.split(redis_cli(shared)) == ["redis-cli", *options]
