"""The kinds of Redis that a bus may be: with a password, and over TLS."""

from contextlib import closing

import pytest
import trio
from tests.bus.servers import Broker, async_test, equal, free_port, replicas
from tests.serving import run_command

from online.bus.engines import check_url
from online.bus.entries import BusError
from online.bus.redisbus import RedisBus, connected
from online.errors import ConfigError
from online_client import AddressError, verbs
from online_client.bus import BusClient


@async_test
async def share(url):
    async with replicas(url) as (one, two):
        await one.hit(b"ada", b"/a")
        await two.hit(b"kim", b"/a")
        await equal(one, two, users=2)


def look(url):
    return trio.run(lambda: connected(url, RedisBus.look))


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
    options += ["--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1 127.0.0.2"]
    with closing(Broker(tmp_path, "--logfile", str(tmp_path / "log"), *options)) as broker:
        broker.start()
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        look(url)
        assert "SSL" not in (tmp_path / "log").read_text()  # as of somebody who connects and does not speak TLS
        share(url)
        with closing(BusClient(f"{url}&replicas=0")) as client:
            client.call(verbs.batch([verbs.pack_hit("theo", "/a", None, "member")]))
        assert b"theo" in broker.stored()
        with pytest.raises(BusError, match=r"certificate is not trusted \(.*\); \?ssl_ca_certs=FILE names whom"):
            look(f"rediss://localhost:{port}/0")
        elsewhere = url.replace("localhost", "127.0.0.2")
        with pytest.raises(BusError, match=r"not trusted \(.*match"):
            look(elsewhere)
        look(f"{elsewhere}&ssl_check_hostname=false")
        look(f"rediss://127.0.0.2:{port}?ssl_cert_reqs=none")


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
    ("redis://127.0.0.1:99999", "port 99999: a port is a number from 1 to 65535"),
    ("redis+cluster://a:1,b:0", "port 0: a port"),
    ("kafka://a,b:70000", "port 70000: a port"),
    ("redis://a?replica=1", r"has \?replica=, but redis:// takes only replicas"),
    ("redis://a?site=shop", r"has \?site=, but"),
    ("redis://a?replicas", "replicas= in the url of the bus is not a number"),
    ("redis://a?ssl_ca_certs=x", r"has \?ssl_ca_certs=, but redis:// takes only replicas"),
    ("redis+cluster://a?sentinel_password=secret", r"has \?sentinel_password=, but"),
    ("redis+sentinel://a/m?sentinel_pasword=secret", "takes only replicas, sentinel_user, sentinel_password"),
    ("rediss://a?ssl_ca_certs=/nowhere/ca.pem", "cannot be used: .*No such file"),
    ("rediss://a?ssl_cert_reqs=maybe", "ssl_cert_reqs is one of none, optional, required"),
    ("rediss://a?ssl_check_hostname=1", "ssl_check_hostname is true or false"),
    ("kafka://a/x", "the bus must be"),
])  # fmt: skip
def test_a_url_that_lacks_something_is_an_error_without_its_password(url, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        check_url(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", [
    "redis://", "http://a", "redis+other://a", "redis://a,b", "redis://[a", "redis://a:x", "redis://a:99999", "redis://a/x",
    "redis+sentinel://a", "redis+sentinel://a:x/m", "redis+sentinel://a/m/x", "redis+sentinel://a/m/0/1",
    "redis+cluster://a,b:x", "redis+cluster://a/0", "kafka://", "kafka://a:x", "kafka://a/x",
])  # fmt: skip
def test_who_publishes_is_told_of_a_wrong_url_at_once(url):
    with pytest.raises(AddressError, match="the bus should be"):
        BusClient(url)


@pytest.mark.parametrize(("query", "problem"), [
    ("replica=1", r"has \?replica=, but rediss:// takes only site, partition, replicas, ssl_ca_certs"),
    ("replicas=x", "replicas=x in the url of the bus is not a number"),
    ("ssl_ca_certs=/nowhere/ca.pem", "cannot be used: .*No such file"),
    ("ssl_cert_reqs=maybe", "none, optional or required"),
    ("ssl_check_hostname=1", "true or false"),
])  # fmt: skip
def test_who_publishes_is_told_of_a_wrong_parameter_at_once(query, problem):
    with pytest.raises(AddressError, match=problem):
        BusClient(f"rediss://a?{query}")
