"""What every cloak owes."""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

from spa.packet import IPAddress


class CloakName(StrEnum):
    """The cloaks there are, the darkest first; ``auto`` is the first that works here."""

    AUTO = "auto"
    NFTABLES = "nftables"
    SOCKET_FILTER = "socket-filter"
    ON_DEMAND = "on-demand"


class Cloak(ABC):
    """Keeps one TCP socket, bound and not yet listening, dark but for the sources it is told.

    It fails closed: whatever goes wrong, nobody who was not told of gets further than the accept loop, which asks the
    windows again.
    """

    name: CloakName
    one_shot = False
    """Strangers can tell an open window, so it ends soon after the connection it was opened for."""
    alarm: socket.socket | None = None
    """Readable when somebody else may have touched what keeps the port dark; None: nobody can."""
    listening = False
    """Connections may be waiting on the socket."""

    @abstractmethod
    def cover(self, sock: socket.socket, backlog: int) -> None:
        """Takes the socket over, dark from the first moment.

        `CloakError` if that cannot be done here: then the socket does not listen, and nothing is left behind.
        """

    def room_for(self, _v4: int, _v6: int, _sources: Callable[[], Collection[IPAddress]]) -> bool:
        """So many IPv4 and IPv6 sources can be let in at once; which they are is asked if the numbers do not tell."""
        return True

    @abstractmethod
    def let_in(self, until: Mapping[IPAddress, float], changed: Collection[IPAddress], now: float) -> None:
        """Exactly the sources of `until` may connect from now on, each until then (seconds of the clock of `now`).

        Only `changed` differ from what it was last told: they came, went, or stay longer. `CloakError` if the system
        refuses: nobody new gets in, and the same has to be told again.
        """

    def release(self, _connection: socket.socket) -> None:
        """Takes off an accepted connection what the cloak left on it."""
        return

    def mend(self) -> str:
        """What had become of the cloak, if it had to be put up again and now lets nobody in; empty: it was whole.

        `CloakError` if it cannot be put up again: the port is shut until a later call succeeds.
        """
        return ""

    def take_off(self) -> None:
        """Leaves nothing behind. The socket is closed by now."""
        return
