"""What every cloak owes."""

import socket
from collections.abc import Collection
from enum import StrEnum
from typing import Protocol

from spa.packet import IPAddress


class CloakName(StrEnum):
    """The cloaks there are; ``auto`` is the first that works here."""

    AUTO = "auto"
    SOCKET_FILTER = "socket-filter"
    ON_DEMAND = "on-demand"


class Cloak(Protocol):
    """Keeps one TCP socket, bound and not yet listening, dark but for the sources it is told.

    It fails closed: whatever goes wrong, nobody who was not told of gets further than the accept loop, which asks the
    windows again.
    """

    @property
    def name(self) -> CloakName:
        """Which one it is."""

    @property
    def listening(self) -> bool:
        """Connections may be waiting on the socket."""

    @property
    def one_shot(self) -> bool:
        """Strangers can tell an open window, so it ends soon after the connection it was opened for."""

    def cover(self, sock: socket.socket, backlog: int) -> None:
        """Takes the socket over, dark from the first moment; `CloakError` if that cannot be done here."""

    def room_for(self, sources: Collection[IPAddress]) -> bool:
        """So many sources can be let in at once."""

    def let_in(self, sources: Collection[IPAddress]) -> None:
        """Exactly these sources may connect from now on; `CloakError` if the system refuses, and nobody new gets in."""

    def release(self, connection: socket.socket) -> None:
        """Takes off an accepted connection what the cloak left on it."""
