"""Which cloak it is to be: the one asked for, or the darkest that works here. Never none."""

import socket
from dataclasses import dataclass
from typing import Final

from spa.cloak.nftables import Nftables, remove_left_behind
from spa.cloak.on_demand import OnDemand
from spa.cloak.protocol import Cloak, CloakName
from spa.cloak.socket_filter import SocketFilter
from spa.errors import CloakError

_BY_NAME: Final[dict[CloakName, type[Cloak]]] = {cloak.name: cloak for cloak in (Nftables, SocketFilter, OnDemand)}
"""The darkest first: filtered even if we are dead, filtered while we live, closed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A cloak that covers the socket now, and `why` it is this one, in words for the log and for `status`."""

    cloak: Cloak
    why: str


def choose(name: CloakName, sock: socket.socket, backlog: int) -> Choice:
    """Covers `sock` (bound, not listening); `CloakError` if the cloak asked for does not work here."""
    if name is not CloakName.AUTO:
        return Choice(_covered(_BY_NAME[name](), sock, backlog), "it was asked for")
    problems: list[str] = []
    for cloak in _BY_NAME.values():
        try:
            covered = _covered(cloak(), sock, backlog)
        except CloakError as error:
            problems.append(f"{error}; {error.fix}")
        else:
            return Choice(covered, ". ".join(problems) or "it is the darkest there is")
    raise CloakError("no cloak works here", "see the log for what each of them lacks")


def try_out(name: CloakName) -> None:
    """`CloakError` if the cloak asked for by name does not work here: tried on a port of the loopback, then gone."""
    if name is CloakName.AUTO:
        return
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        cloak = choose(name, sock, 1).cloak
    cloak.take_off()


def _covered(cloak: Cloak, sock: socket.socket, backlog: int) -> Cloak:
    cloak.cover(sock, backlog)
    if cloak.name is not CloakName.NFTABLES:
        remove_left_behind(sock)
    return cloak
