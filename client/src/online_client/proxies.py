"""Which proxies stand between an application and its visitors: the setting of all middleware, and what it makes.

Not its job: how addresses and headers are written (addresses).

1. Only one header is read, and only what trusted proxies wrote: a visitor can send any header.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from online_client.addresses import Network, client_of, forwarded_for, is_within, normal_address, read_network
from online_client.pageviews import Header

#: Headers that tell of visitors behind proxies.
HEADERS = ("X-Forwarded-For", "Forwarded")

#: Who asks over a Unix socket has no address; the word that trusts such a proxy.
UNIX = "unix"

_SOCKET = "127.0.0.1"  #: what stands for it


@dataclass(frozen=True)
class Proxies:
    """The trusted proxies, and the header in which they tell for whom they ask."""

    networks: tuple[Network, ...] = ()
    unix: bool = False
    header: str = HEADERS[0]
    is_told: bool = True  #: whether the application has said which proxies it trusts, be it none

    @property
    def is_set(self) -> bool:
        """Whether any proxy is trusted."""
        return self.unix or bool(self.networks)

    def trusts(self, address: str) -> bool:
        """Tell whether who asked, from `address`, is a trusted proxy."""
        return self.unix if not address else is_within(address, self.networks)

    def is_missed(self, address: str, header: Header) -> bool:
        """Tell whether a proxy seems to ask, and nobody has said whether to trust it.

        Not if the server in front of us has read the header: then who asks is one of those it tells of.
        """
        if self.is_told:
            return False
        told = [normal_address(each) for name in HEADERS for each in forwarded_for(header(name) or "")]
        return bool(told) and normal_address(address) not in told

    def client(self, address: str, header: Header) -> str:
        """Return the address of the client in its one form; as it is if it is none. `address`: who asked."""
        if not address and self.unix:
            found = client_of(_SOCKET, header(self.header) or "", (*self.networks, read_network(_SOCKET)))
            return "" if found == _SOCKET else found
        if self.networks:
            return client_of(address, header(self.header) or "", self.networks)
        return normal_address(address) or address


def read_proxies(
    trusted: str | Iterable[str] | None, header: str = HEADERS[0], *, name: str = "trust_proxy"
) -> Proxies:
    """Read the settings: networks such as `10.0.0.0/8`, or `unix`; in a list, or a text with commas or spaces.

    None says that there is no such setting. Raises ValueError, which names the setting and the value.

    >>> read_proxies("10.0.0.0/8, unix").unix
    True
    """
    if header not in HEADERS:
        raise ValueError(f"the header of {name} should be {' or '.join(HEADERS)}, not {header!r}")
    if trusted is None:
        return Proxies(header=header, is_told=False)
    given = trusted.replace(",", " ").split() if isinstance(trusted, str) else trusted
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{name} should be a list of networks such as '10.0.0.0/8', or 'unix', not {trusted!r}")
    networks = []
    for each in given:
        try:
            if each != UNIX:
                networks.append(read_network(each))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Proxies(tuple(networks), UNIX in given, header)
