"""Where a forward listens on this machine, and what it says of it."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from client.session import Carried
from console.address import HostPort
from console.errors import CommandError, ExitCode

BACKLOG: Final = 512

Told = Callable[[str], None]
"""Gets a sentence about what went wrong, for a person."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a forward listens, and for what."""

    address: HostPort
    resource: str
    port: int
    protocol: Carried

    def __str__(self) -> str:
        """For a person."""
        kind = "/udp" if self.protocol == "udp" else ""
        return f"{self.address}{kind} leads to {self.resource}:{self.port}{kind}"


def exposed(address: HostPort) -> bool:
    """Whether others than this machine can use what listens there."""
    return not ip_address(address.host).is_loopback


Announce = Callable[[Listening], None]


async def bind(listen: HostPort, kind: socket.SocketKind) -> socket.socket:
    """A bound, non-blocking socket of this kind; one for streams listens. Raises CommandError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            listen.host, listen.port, type=kind, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _name, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            if kind == socket.SOCK_STREAM:  # for datagrams it would let another process take the port over
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            if kind == socket.SOCK_STREAM:
                bound.listen(BACKLOG)
            bound.setblocking(False)  # noqa: FBT003 - the one argument it has
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        fix = "choose another with --listen HOST:PORT (port 0 finds a free one)"
        raise CommandError(f"cannot listen on {listen}: {error.strerror}", fix, ExitCode.FAILED) from error
    return bound
