"""Loopback addresses: each perimeter has a /24 of 127.0.0.0/8 to itself, so several can stand side by side.

Linux answers for every address of 127.0.0.0/8 without configuration, and lets anyone bind to them.
"""

import secrets
import socket

CONTROLLER = 1
GATEWAYS = 11
RESOURCES = 101
STRANGER = 250
TLS_PORT = 8443
KNOCK_PORT = 62201


class Block:
    """A /24 of loopback addresses: `block.address(11)` is "127.a.b.11". Held by a bound socket until `release`."""

    def __init__(self) -> None:
        for _ in range(64):
            self._prefix = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(254) + 1}"
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._claim.bind((self.address(255), 9))  # discard: nobody else's, and not a port the lab uses
            except PermissionError:
                self._claim.bind((self.address(255), 40_009))
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

    def release(self) -> None:
        """Let another perimeter have the block."""
        self._claim.close()
