"""Which cloak it is to be: the one asked for, or the first that works here. Never none."""

import socket
from dataclasses import dataclass

from spa.cloak.on_demand import OnDemand
from spa.cloak.protocol import Cloak, CloakName
from spa.cloak.socket_filter import SocketFilter
from spa.errors import CloakError


@dataclass(frozen=True, slots=True)
class Choice:
    """A cloak that covers the socket now, and `why` it is this one, in words for the log and for `status`."""

    cloak: Cloak
    why: str


def choose(name: CloakName, sock: socket.socket, backlog: int) -> Choice:
    """Covers `sock` (bound, not listening); `CloakError` if the cloak asked for does not work here."""
    if name is CloakName.ON_DEMAND:
        return Choice(_covered(OnDemand(), sock, backlog), "it was asked for")
    try:
        cloak = _covered(SocketFilter(), sock, backlog)
    except CloakError as error:
        if name is CloakName.SOCKET_FILTER:
            raise
        return Choice(_covered(OnDemand(), sock, backlog), f"{error}; {error.fix}")
    why = "it was asked for" if name is CloakName.SOCKET_FILTER else "it is the darkest that works here"
    return Choice(cloak, why)


def _covered(cloak: Cloak, sock: socket.socket, backlog: int) -> Cloak:
    cloak.cover(sock, backlog)
    return cloak
