"""Addresses as servers, proxies and logs write them -> one form, and the client behind proxies.

Not its job: where the texts come from, and which proxies are trusted.

1. The one form is that of RFC 5952. IPv4 inside IPv6 (`::ffff:`) is IPv4, and a port is no part of an address: so
   one client is one, whatever its connection, its socket and the proxies between.
2. Headers are read from the right, and only as far as trusted proxies wrote them: what a client sends itself stands
   further left.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: An address of IPv6 has 45 characters at most; a zone, brackets, quotes and a port come on top.
MAX_CHARACTERS = 128

#: `[v6]`, `[v6]:port` or `v4:port`. A port may be a word, of RFC 7239.
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[-\w.]*)?|([\d.]+):[-\w.]*")

#: IPv4 in its one form, as most addresses are written.
_V4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*"?([^";]*)', re.IGNORECASE)

_MAPPED = IPv6Network("::ffff:0:0/96")


def read_address(text: str) -> Address | None:
    """Read an address in any way of writing it: with a port, brackets, quotes or a zone. None if it is none.

    >>> read_address("[2001:DB8:0::A]:443")
    IPv6Address('2001:db8::a')
    """
    if len(text) > MAX_CHARACTERS:
        return None
    text = text.strip(' \t"')
    with_port = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address(with_port[1] or with_port[2] if with_port else text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def normal_address(text: str) -> str | None:
    """Return an address in its one form, None if it is none.

    >>> normal_address("::ffff:192.0.2.1"), normal_address("192.0.2.1:51000")
    ('192.0.2.1', '192.0.2.1')
    """
    if _V4.fullmatch(text):
        return text
    address = read_address(text)
    return None if address is None else str(address)


def read_network(text: str) -> Network:
    """Read `10.0.0.0/8` or one address. Raises ValueError."""
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(f"takes a network such as 10.0.0.0/8, not {text!r}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def is_within(text: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address lies within any of `networks`; what is no address lies nowhere."""
    address = read_address(text)
    return address is not None and any(address in network for network in networks)


def forwarded_for(header: str) -> list[str]:
    """Return for whom proxies forwarded, the last proxy's word last: of X-Forwarded-For, or of Forwarded (RFC 7239).

    An element of Forwarded that does not tell is "". What came in several headers is joined with commas before.

    >>> forwarded_for("203.0.113.9:51000, 10.0.0.2,")
    ['203.0.113.9:51000', '10.0.0.2']
    >>> forwarded_for('for="[2001:db8::9]:443";proto=https, For=10.0.0.2')
    ['[2001:db8::9]:443', '10.0.0.2']
    """
    # No proxy writes a comma in quotes, and a stray quote of the client must not swallow what proxies wrote after it.
    elements = [element for found in header.split(",") if (element := found.strip())]
    return [_said_of(element) if "=" in element else element for element in elements]


def _said_of(element: str) -> str:
    found = _FOR.search(element)
    return found[1].strip() if found else ""


def client_of(address: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Find the client behind trusted proxies: the last address that is none of theirs.

    `address`: who asked; `forwarded`: the header X-Forwarded-For or Forwarded. Where a trusted proxy tells no address
    (`unknown`), the client is that proxy. O(length).

    >>> client_of("10.0.0.1", "1.1.1.1, 203.0.113.9:51000", [read_network("10.0.0.0/8")])
    '203.0.113.9'
    """
    client = read_address(address)
    if client is None:
        return address
    for hop in reversed(forwarded_for(forwarded)):
        if not any(client in network for network in trusted):
            break
        before = read_address(hop)
        if before is None:
            break
        client = before
    return str(client)
