"""Shared networks: the administrator's word that a client's knock and its connection may come from different addresses.

Behind some carriers and some lines with several ways out, UDP and TCP of one machine leave from different addresses of
one pool. Where an administrator lists such a pool, a knock from one of its addresses opens the door for all of them.

Laws:

1. Nothing is shared unless it is listed; outside of what is listed a knock opens for one address, as ever.
2. A network is written exactly, has few addresses and overlaps no other: each of them is a window for strangers who
   happen to be behind the same pool (what such a stranger can do is in SECURITY.md: begin a TLS handshake).
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import combinations
from typing import Final

from spa.limits import MAX_SHARED_ADDRESSES, MAX_SHARED_NETWORKS
from spa.packet import IPAddress

Network = IPv4Network | IPv6Network

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_EXAMPLE: Final = "write it as in 203.0.113.0/28 or 2001:db8::7f0/124"


class BadNetwork(ValueError):  # noqa: N818 - reads as what it is
    """Text that is no network to share, or networks that cannot be shared together; says what to write instead."""


class SharedNetworks:
    """The networks of one server. Raises BadNetwork for too many, or for two that overlap."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        listed = tuple(networks)
        if len(listed) > MAX_SHARED_NETWORKS:
            raise BadNetwork(f"more than {MAX_SHARED_NETWORKS} shared networks")
        for one, other in combinations(listed, 2):
            if one.overlaps(other):
                raise BadNetwork(f"the shared networks {one} and {other} overlap: list the larger one alone")
        self._addresses: dict[Network, tuple[IPAddress, ...]] = {each: _addresses_of(each) for each in listed}

    def together(self, address: IPAddress) -> tuple[IPAddress, ...]:
        """What a knock seen from `address` (in its plain form) opens for: the address, or its whole shared network."""
        for network, addresses in self._addresses.items():
            if address in network:
                return addresses
        return (address,)


def _addresses_of(network: Network) -> tuple[IPAddress, ...]:
    return tuple(network[number] for number in range(network.num_addresses))


def parse_networks(texts: Iterable[str]) -> SharedNetworks:
    """The networks that a setting lists. Raises BadNetwork."""
    return SharedNetworks(map(parse_network, texts))


def parse_network(text: str) -> Network:
    """The network to share that `text` spells, as in "203.0.113.0/28". Raises BadNetwork."""
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise BadNetwork(f"{text[:64]!a} is not a network: {_EXAMPLE}") from error
    if "/" not in text or "%" in text:
        raise BadNetwork(f"{text[:64]!a} is not a network: {_EXAMPLE}")
    if isinstance(network.network_address, IPv6Address) and network.network_address in _MAPPED:
        raise BadNetwork(f"{text[:64]!a} is an IPv4 network in IPv6's spelling: write the IPv4 network")
    if network.num_addresses > MAX_SHARED_ADDRESSES:
        raise BadNetwork(
            f"{network} has {network.num_addresses:,} addresses, and a knock from one would open for all: "
            f"share at most {MAX_SHARED_ADDRESSES} (a /27, or a /123 of IPv6)"
        )
    try:
        return ip_network(text)
    except ValueError:
        raise BadNetwork(f"{text[:64]!a} begins in the middle of a network: write {network}") from None
