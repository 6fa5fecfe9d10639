"""The on-demand cloak: the port listens only while somebody holds an open window. It needs no privileges.

A socket that is bound and does not listen answers like a closed port, and keeps the port from everybody else.
`shutdown` makes a listening socket such a one again (design: measured). While a window is open the kernel accepts
strangers too; the accept loop resets them before a byte is read. So that a scan finds the port open for moments only, a
window is spent by the connection it was opened for: each connection wants a knock of its own.

Keeping the port takes care with SO_REUSEADDR: two sockets that carry it may both bind a port on which neither listens,
so ours carries it only while it does. Connections inherit it then, and do not keep a restarted process from its port.
"""

import socket
from collections.abc import Collection

from spa.cloak.protocol import CloakName
from spa.errors import CloakError
from spa.packet import IPAddress


class OnDemand:
    """Listens while there is somebody to let in."""

    name = CloakName.ON_DEMAND
    one_shot = True

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._backlog = 0
        self.listening = False

    def cover(self, sock: socket.socket, backlog: int) -> None:
        """Nothing to do: a bound socket is dark."""
        self._sock = sock
        self._backlog = backlog

    def room_for(self, _sources: Collection[IPAddress]) -> bool:
        """Any number."""
        return True

    def let_in(self, sources: Collection[IPAddress]) -> None:
        """Listens if there is anybody, closes the port if not."""
        if self._sock is None or bool(sources) is self.listening:
            return
        if sources:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._sock.listen(self._backlog)
            except OSError as error:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                raise CloakError(
                    f"the port cannot be opened: {error.strerror}", "stop the other program that took the port"
                ) from error
            self.listening = True
        else:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            self._sock.shutdown(socket.SHUT_RDWR)
            self.listening = False

    def release(self, _connection: socket.socket) -> None:
        """Nothing was left on it."""
