"""Addresses: what they mean, and what is said of those that mean nothing."""

from pathlib import Path

import pytest

from online_client.address import DEFAULT_PORT, Address, parse_address
from online_client.errors import AddressError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("online://h", Address(host="h", port=DEFAULT_PORT, site="default")),
        ("online://h/", Address(host="h")),
        ("online://h:1234/shop", Address(host="h", port=1234, site="shop")),
        ("online://[::1]:1234", Address(host="::1", port=1234)),
        ("online://shop:secret@h", Address(host="h", site="shop", token="secret")),
        ("online://:secret@h/shop", Address(host="h", site="shop", token="secret")),
        ("online://shop:secret@h/shop", Address(host="h", site="shop", token="secret")),
        ("online://:p%40ss%2Fword@h/a%2Fb", Address(host="h", site="a/b", token="p@ss/word")),
        ("onlines://h/shop?ca=/etc/ca.pem", Address(host="h", site="shop", tls=True, ca_file="/etc/ca.pem")),
        ("online+unix:///run/online.sock", Address(path="/run/online.sock")),
        ("online+unix:///run/online.sock?site=shop", Address(path="/run/online.sock", site="shop")),
        ("online+unix://shop:secret@/run/o.sock", Address(path="/run/o.sock", site="shop", token="secret")),
    ],
)
def test_address(url: str, address: Address) -> None:
    assert parse_address(url, environ={}) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:8989", "did you mean online://127.0.0.1:8989?"),
        ("http://h", "should begin with online://"),
        ("online://", "names no host"),
        ("online://:8989", "names no host"),
        ("online://www..example.com", "names a host that cannot be"),
        (f"online://{'h' * 64}", "names a host that cannot be"),
        ("online://h:0", "port of 1 to 65535"),
        ("online://h:65536", "port of 1 to 65535"),
        ("online://h:port", "port of 1 to 65535"),
        ("online://h/a/b", "one name after the host"),
        ("online://[::1", "cannot be understood"),
        ("online://secret@h", "no token before the @"),
        ("online://a:secret@h/b", "names two sites, a and b"),
        ("online+unix:///s?site=", "nothing after ?site="),
        ("online+unix://a:secret@/s?site=b", "names two sites, a and b"),
        ("online+unix://run/s", "three slashes, online+unix:///run/s"),
        ("online+unix:///", "names no socket"),
        ("online://h?ca=/x", "does not take"),
        ("online://h/a#b", "write %23"),
    ],
)
def test_wrong_addresses_say_what_is_wrong_and_hide_the_token(url: str, reason: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(url, environ={})
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_default_is_the_variable_and_else_this_machine() -> None:
    assert parse_address(environ={"ONLINE_URL": "online://h/shop"}) == Address(host="h", site="shop")
    assert parse_address(environ={}) == Address(host="127.0.0.1", port=8989, site="default")
    assert parse_address("online://g", environ={"ONLINE_URL": "online://h/shop"}) == Address(host="g")


def test_text_and_repr_leave_out_the_token() -> None:
    address = parse_address("online://shop:secret@[::1]")
    assert str(address) == "online://[::1]:8989/shop"
    assert "secret" not in repr(address)
    assert str(parse_address("online+unix:///run/a b?site=x")) == "online+unix:///run/a%20b?site=x"


@pytest.mark.parametrize(
    "url", ["online://h/%FF%2C", "online://%FF%2C:t@h", "online+unix:///%FE?site=%FF%2C", "onlines://h:7/%FF%2C"]
)
def test_a_site_of_any_bytes_can_be_named_and_shown(url: str) -> None:
    address = parse_address(url, environ={})
    assert address.site == "\udcff,"
    assert str(address).endswith("%FF%2C")
    assert parse_address(str(address), environ={}).site == address.site


def test_a_ca_file_needs_tls() -> None:
    with pytest.raises(AddressError, match="onlines://"):
        parse_address("online://h", ca_file="/ca.pem")
    assert parse_address("onlines://h?ca=/a", ca_file="/b").ca_file == "/b"


def test_a_ca_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(AddressError, match=r"ca\.pem .* cannot be read"):
        parse_address(f"onlines://h?ca={missing}").tls_context()
    missing.write_text("no certificate")
    with pytest.raises(AddressError, match=r"ca\.pem .* cannot be read"):
        parse_address(f"onlines://h?ca={missing}").tls_context()
