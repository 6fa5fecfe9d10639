"""Loopback addresses: each perimeter has a block of them to itself, so several can stand side by side.

Linux answers for every address of 127.0.0.0/8 without configuration, and lets anyone bind to them. For IPv6 a network
namespace can be made to do the same (lab/own_network.py).
"""

import secrets
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from console.address import HostPort

CONTROLLER = 1
GATEWAYS = 11
RESOURCES = 101
USER = 201
STRANGER = 250
TLS_PORT = 8443
KNOCK_PORT = 62201
_HOLDER: Final = 255


class Addresses(Protocol):
    """The addresses of one perimeter. `release` lets another have them."""

    def address(self, host: int) -> str:
        """The block's address with this number, 1 to 254."""

    @property
    def stranger(self) -> str:
        """An address that never knocks."""

    def at(self, host: int, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` where this address is."""

    def release(self) -> None:
        """Let another perimeter have the block."""


class Block:
    """A /24 of 127.0.0.0/8: `block.address(11)` is "127.a.b.11". Held by a bound socket until `release`."""

    def __init__(self) -> None:
        for _ in range(64):
            self._prefix = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(254) + 1}"
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._claim.bind((self.address(_HOLDER), 9))  # discard: nobody else's, and not a port the lab uses
            except PermissionError:
                self._claim.bind((self.address(_HOLDER), 40_009))
            except OSError:
                self._claim.close()
                continue
            return
        raise RuntimeError("no free block of loopback addresses in 64 tries")

    def address(self, host: int) -> str:
        """The block's address with this last octet."""
        return f"{self._prefix}.{host}"

    @property
    def stranger(self) -> str:
        """An address that never knocks."""
        return self.address(STRANGER)

    def at(self, _host: int, argv: Sequence[str]) -> list[str]:
        """Here: the whole block is this machine."""
        return list(argv)

    def release(self) -> None:
        """Let another perimeter have the block."""
        self._claim.close()


class Block6:
    """A /64 below `prefix` ("fd00:9:c0de:"): `block.address(11)` is "fd00:9:c0de:x::11". Nobody else is in there."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}{secrets.randbelow(0xFFFE) + 1:x}"

    def address(self, host: int) -> str:
        """The block's address that ends in these digits, as people read them."""
        return f"{self._prefix}::{host}"

    @property
    def stranger(self) -> str:
        """An address that never knocks."""
        return self.address(STRANGER)

    def at(self, _host: int, argv: Sequence[str]) -> list[str]:
        """Here: the whole block is this machine."""
        return list(argv)

    def release(self) -> None:
        """Nothing is held."""


def place(host: str, port: int) -> str:
    """HOST:PORT as commands take it: an IPv6 address stands in brackets."""
    return str(HostPort(host, port))
