"""Addresses in every spelling -> one form, and who stands behind proxies."""

import doctest

import pytest

from online_client import addresses
from online_client.addresses import client_of, forwarded_for, is_within, normal_address, read_network


def test_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(addresses).failed == 0


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:51000", "192.0.2.1"),
        ("192.0.2.1:_obfuscated", "192.0.2.1"),
        ('"192.0.2.1:80"', "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        ("2001:db8::a", "2001:db8::a"),
        ("2001:DB8::A", "2001:db8::a"),
        ("2001:0db8:0000:0000:0000:0000:0000:000a", "2001:db8::a"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("[2001:db8::a]", "2001:db8::a"),
        ("[2001:db8::a]:443", "2001:db8::a"),
        ('"[2001:db8::a]:443"', "2001:db8::a"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_address_has_one_form(written: str, address: str) -> None:
    assert normal_address(written) == address


@pytest.mark.parametrize(
    "text",
    ["", "-", "unknown", "_hidden", "web1.example.org", "192.0.2", "192.0.2.256", "192.0.2.1:80:90", "[192.0.2.1", "[]",
     ":80", "04:20:00", "unix:", "1" * 10_000, "[" * 10_000, "<190>192.0.2.1"],
)  # fmt: skip
def test_what_is_no_address_is_none(text: str) -> None:
    assert normal_address(text) is None


@pytest.mark.parametrize(
    ("header", "hops"),
    [
        ("", []),
        ("203.0.113.9", ["203.0.113.9"]),
        ("203.0.113.9:51000, 10.0.0.2", ["203.0.113.9:51000", "10.0.0.2"]),
        (",203.0.113.9, ,", ["203.0.113.9"]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ('For="[2001:db8:cafe::17]:4711"', ["[2001:db8:cafe::17]:4711"]),
        ("for=192.0.2.43, for=198.51.100.17;by=10.0.0.1", ["192.0.2.43", "198.51.100.17"]),
        ("proto=https;for = 192.0.2.43", ["192.0.2.43"]),
        ("by=10.0.0.1;host=for.example.com", [""]),
        ("for=unknown, for=_hidden", ["unknown", "_hidden"]),
    ],
)
def test_hops_are_read_of_either_header(header: str, hops: list[str]) -> None:
    assert forwarded_for(header) == hops


PROXIES = [read_network("10.0.0.0/8"), read_network("2001:db8:1::/48")]


@pytest.mark.parametrize(
    ("address", "header", "client"),
    [
        ("10.0.0.1", "203.0.113.9:51000", "203.0.113.9"),
        ("10.0.0.1:40000", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "[2001:db8::9]:443", "2001:db8::9"),
        ("2001:DB8:1::1", "2001:DB8::A", "2001:db8::a"),
        ("10.0.0.1", "203.0.113.15,", "203.0.113.15"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", 'for="[2001:db8::9]:443";proto=https', "2001:db8::9"),
        ("10.0.0.1", "for=1.1.1.1, for=203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.13, unknown", "10.0.0.1"),
        ("10.0.0.1", "for=_hidden", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.9:51000", "1.1.1.1", "203.0.113.9"),
        ("", "1.1.1.1", ""),
    ],
)
def test_client_is_the_last_that_is_no_trusted_proxy(address: str, header: str, client: str) -> None:
    assert client_of(address, header, PROXIES) == client


@pytest.mark.parametrize("sent", ['"', 'for="', "a=b", "=", '"1.1.1.1', "x" * 1000, "for=1.1.1.1;\\"])
def test_what_a_client_sends_hides_nothing_that_its_proxy_wrote(sent: str) -> None:
    assert client_of("10.0.0.1", f"{sent}, 203.0.113.9", PROXIES) == "203.0.113.9"
    assert client_of("10.0.0.1", f"{sent}, for=203.0.113.9", PROXIES) == "203.0.113.9"


def test_network_of_mapped_addresses_is_one_of_ipv4() -> None:
    assert is_within("10.1.2.3", [read_network("::ffff:10.0.0.0/104")])
    assert not is_within("web1", PROXIES)
    with pytest.raises(ValueError, match=r"takes a network such as 10.0.0.0/8, not '10.0.0.1/8'"):
        read_network("10.0.0.1/8")
