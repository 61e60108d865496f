"""TLS: what certificates are refused, handshakes that fail or never come."""

import re
import ssl
from functools import partial

import pytest
import trio
import trustme
from tests.serving import LOCAL, Peer, make_server, reached, run, run_in_real_time, serving

from online.errors import ConfigError
from online.serve.config import Address, Config
from online.serve.server import Server


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority, tmp_path):
    """Settings with a certificate, and what a client needs to trust it."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}, context


def test_tls(tls, tmp_path, caplog):
    caplog.set_level("INFO")
    settings, context = tls
    unix = Address(path=tmp_path / "socket")

    async def test():
        async with serving(listen=(LOCAL, unix), **settings) as served:
            assert caplog.messages[1].endswith(f" listens on {served.addresses[0]}, {unix}, TLS over TCP")
            wrap = partial(trio.SSLStream, ssl_context=context, server_hostname="localhost")
            secure = await served.connect(wrap=wrap)
            assert await secure.ask(b"HIT theo /x") == b"+OK\r\n"
            assert await secure.ask(b"QUIT") == b"+OK\r\n"
            assert await secure.receive() == b""
            plain = await served.connect(unix)
            assert await plain.ask(b"COUNT") == b":1\r\n"
            lost = await served.connect()
            assert b":1\r\n" not in await lost.ask(b"COUNT")
        assert served.server.statistics().connections_failed == 0

    run_in_real_time(test)


@pytest.mark.parametrize(("token", "patience_s", "limit"), [(None, 30, "frame_timeout"), (b"t", 5, "auth_timeout")])
def test_who_says_nothing_where_tls_should_begin_is_closed(tls, token, patience_s, limit):
    settings, _ = tls

    async def test():
        server = make_server(token=token, **settings)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.streams.serve, trio.SSLStream(theirs, server.tls, server_side=True))
            await trio.sleep(patience_s - 1)
            assert reached(server) == {}
            assert await Peer(ours).receive() == b""
        assert reached(server) == {limit: 1}

    run(test)


def test_tls_that_fails_is_logged_with_the_address(tls, caplog):
    settings, _ = tls

    async def test():
        async with serving(listen=(LOCAL,), **settings) as served:
            lost = await served.connect()
            await lost.send(b"COUNT\r\n")
            await lost.receive()
            port = lost.stream.socket.getsockname()[1]
            while not caplog.records:
                await trio.sleep(0.01)
        assert caplog.messages == [f"TLS failed: WRONG_VERSION_NUMBER from 127.0.0.1:{port}"]

    run_in_real_time(test)


def test_certificates_that_cannot_be_used_are_named(tls, tmp_path):
    settings, _ = tls
    certificate, key = settings["tls_cert"], settings["tls_key"]
    missing, garbage, other = (tmp_path / f"{name}.pem" for name in ("missing", "garbage", "other"))
    garbage.write_text("nonsense")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(other)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text(certificate.read_text()[:200])
    for changed, message in [
        ({"tls_cert": missing}, f"tls_cert {missing}: No such file or directory"),
        ({"tls_key": missing}, f"tls_key {missing}: No such file or directory"),
        ({"tls_cert": garbage}, f"tls_cert {garbage} holds no certificate (PEM)"),
        ({"tls_key": garbage}, f"tls_key {garbage} holds no private key (PEM)"),
        ({"tls_cert": key, "tls_key": certificate}, f"tls_cert {key} holds no certificate (PEM)"),
        ({"tls_key": certificate}, f"tls_key {certificate} holds no private key (PEM)"),
        ({"tls_key": other}, f"tls_cert {certificate} and tls_key {other} do not belong together"),
        ({"tls_cert": damaged}, f"tls_cert {damaged} and tls_key {key} cannot be used: "),
    ]:
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
            Server(Config(**settings | changed))
