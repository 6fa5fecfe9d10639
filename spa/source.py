"""Who stands at the door: addresses as the kernel tells them, in the one form the windows are kept in."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from spa.packet import IPAddress, KnockKind, plain_address


@dataclass(frozen=True, slots=True)
class Source:
    """The peer of an accepted connection, with what its open window stood for at that moment."""

    address: IPAddress
    port: int
    kinds: frozenset[KnockKind]
    key_ids: frozenset[str]


@lru_cache(maxsize=4096)
def seen_address(host: str) -> IPAddress:
    """The address of a socket name's host part: v4-mapped becomes IPv4, and the interface is left out."""
    return plain_address(IPv6Address(host)) if ":" in host else IPv4Address(host)
