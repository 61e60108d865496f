"""The kinds of Redis that a bus may be: with a password, and over TLS."""

from contextlib import closing

import pytest
from tests.bus.servers import Broker, async_test, equal, free_port, replicas
from tests.serving import run_command

from online.bus.engines import check_url
from online.errors import ConfigError
from online_client import AddressError
from online_client.bus import BusClient


@async_test
async def share(url):
    async with replicas(url) as (one, two):
        await one.hit(b"ada", b"/a")
        await two.hit(b"kim", b"/a")
        await equal(one, two, users=2)


def test_one_with_a_password(tmp_path):
    with closing(Broker(tmp_path, "--requirepass", "secret", password="secret")) as broker:
        broker.start()
        share(f"redis://:secret@127.0.0.1:{broker.port}/0")


def test_one_over_tls(tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    files = {"--tls-cert-file": "cert.pem", "--tls-key-file": "key.pem", "--tls-ca-cert-file": "ca.pem"}
    options = [word for flag, name in files.items() for word in (flag, str(tmp_path / name))]
    with closing(Broker(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *options)) as broker:
        broker.start()
        share(f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}")


@pytest.mark.parametrize(("words", "problem"), [
    (["--bus", "http://127.0.0.1"], "--bus takes redis://HOST:PORT"),
    (["--bus", "redis://"], "--bus takes"),
    (["--bus-ack", "yes"], "--bus-ack needs a bus, too"),
])  # fmt: skip
def test_a_wrong_setting_is_told_at_once(words, problem):
    ended = run_command("serve", "--listen", "127.0.0.1:0", *words)
    assert ended.returncode != 0
    assert problem in ended.stderr


@pytest.mark.parametrize(("url", "problem"), [
    ("redis://a,b", "redis:// takes one host"),
    ("redis+sentinel://a:26379,b", "name the master that Sentinel watches"),
    ("redis+cluster://a?replicas=x", "replicas=x in the url of the bus is not a number"),
    ("rediss+cluster://:secret@a b", "the bus must be"),
    ("redis+other://a", "the bus must be"),
    ("redis://[a", "the bus must be"),
    ("redis://a/x", "the bus must be"),
    ("redis+sentinel://a/m/x", "the bus must be"),
    ("redis+sentinel://a/m/0/1", "the bus must be"),
    ("redis+cluster://a/0", "the bus must be"),
    ("kafka://a/x", "the bus must be"),
])  # fmt: skip
def test_a_url_that_lacks_something_is_an_error_without_its_password(url, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        check_url(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", [
    "redis://", "http://a", "redis+other://a", "redis://a,b", "redis://[a", "redis://a:x", "redis://a:99999", "redis://a/x",
    "redis://a?x=y", "redis+sentinel://a", "redis+sentinel://a:x/m", "redis+sentinel://a/m/x", "redis+sentinel://a/m/0/1",
    "redis+cluster://a,b:x", "redis+cluster://a/0", "kafka://", "kafka://a:x", "kafka://a/x",
])  # fmt: skip
def test_who_publishes_is_told_of_a_wrong_url_at_once(url):
    with pytest.raises(AddressError, match="the bus should be"):
        BusClient(url)
