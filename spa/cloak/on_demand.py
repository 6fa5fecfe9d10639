"""The on-demand cloak: the port listens only while somebody holds an open window. It needs no privileges.

A socket that is bound and does not listen answers like a closed port, and keeps the port from everybody else.
`shutdown` makes a listening socket such a one again (design: measured). While a window is open the kernel accepts
strangers too; the accept loop resets them before a byte is read. So that a scan finds the port open for moments only, a
window is spent by the connection it was opened for: each connection wants a knock of its own.
"""

import socket
from collections.abc import Collection, Mapping

from spa.binding import start_listening, stop_listening
from spa.cloak.protocol import Cloak, CloakName
from spa.errors import CloakError
from spa.packet import IPAddress


class OnDemand(Cloak):
    """Listens while there is somebody to let in."""

    name = CloakName.ON_DEMAND
    one_shot = True

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._backlog = 0

    def cover(self, sock: socket.socket, backlog: int) -> None:
        """Nothing to do: a bound socket is dark."""
        self._sock = sock
        self._backlog = backlog

    def let_in(self, until: Mapping[IPAddress, float], _changed: Collection[IPAddress], _now: float) -> None:
        """Listens if there is anybody, closes the port if not."""
        if self._sock is None or bool(until) is self.listening:
            return
        if until:
            try:
                start_listening(self._sock, self._backlog)
            except OSError as error:
                raise CloakError(
                    f"the port cannot be opened: {error.strerror}", "stop the other program that took the port"
                ) from error
            self.listening = True
        else:
            stop_listening(self._sock)
            self.listening = False
