"""The socket filter: a classic BPF program on the listening socket drops strangers' packets before the kernel answers.

The first program drops everything and is on the socket before it listens. Each change replaces the program in one step.
A connection is born with the program of its moment, so what is established is not touched by later ones; it is taken
off once accepted, or ten thousand connections would hold as many old programs in memory.
"""

import errno
import socket
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address
from typing import Final

from spa.binding import start_listening
from spa.cloak.bpf import DROP, DROP_ALL, admit_sources, instructions_for, instructions_of, pack
from spa.cloak.protocol import Cloak, CloakName
from spa.errors import CloakError
from spa.kernel import attach_filter, detach_filter
from spa.limits import MAX_FILTER
from spa.packet import IPAddress

_TRIED_SIZES: Final = (MAX_FILTER, 2048, 1024, 512, 128)
_COSTLY: Final = 0xF000_0000  # compared with numbers from 2^31 the kernel's own form of the program is longest
_DARK: Final = pack(DROP_ALL)


class SocketFilter(Cloak):
    """Lets the kernel drop what comes from anybody else."""

    name = CloakName.SOCKET_FILTER

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._most = 0
        self._inside: AbstractSet[IPAddress] = frozenset()

    def cover(self, sock: socket.socket, backlog: int) -> None:
        """Drops everything, finds out how large a program may be, then listens."""
        try:
            attach_filter(sock, _DARK)
            self._most = _largest_program(sock)
            attach_filter(sock, _DARK)
        except OSError as error:
            raise CloakError(
                f"the socket-filter cloak does not work here: {error.strerror or error}",
                "give the process CAP_NET_ADMIN, or use the on-demand cloak",
            ) from error
        start_listening(sock, backlog)
        self._sock = sock
        self.listening = True

    def room_for(self, v4: int, v6: int, sources: Callable[[], Collection[IPAddress]]) -> bool:
        """Whether a program for them fits into what this kernel takes; for IPv6 that depends on what they share."""
        return instructions_for(v4, v6) <= self._most or (v6 > 0 and instructions_of(sources()) <= self._most)

    def let_in(self, until: Mapping[IPAddress, float], _changed: Collection[IPAddress], _now: float) -> None:
        """One program with these sources, unless it is there already."""
        if self._sock is None or until.keys() == self._inside:
            return
        sources = frozenset(until)
        program = pack(admit_sources(sources))
        try:
            attach_filter(self._sock, program)
        except OSError as error:
            raise CloakError(
                f"the kernel refused a filter for {len(sources)} sources: {error.strerror}",
                "raise net.core.optmem_max, or use the nftables cloak",
            ) from error
        self._inside = sources

    def release(self, connection: socket.socket) -> None:
        """Frees the program the connection was born with."""
        detach_filter(connection)


def _largest_program(sock: socket.socket) -> int:
    """Instructions this kernel takes, old and new program together: net.core.optmem_max bounds them. Stays dark."""
    for size in _TRIED_SIZES:
        try:
            for _ in range(2):
                attach_filter(sock, _dark_program(size))
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            attach_filter(sock, _DARK)
        else:
            return size
    raise OSError(errno.ENOMEM, "net.core.optmem_max is too small for any filter")


def _dark_program(size: int) -> bytes:
    sources = size - 1
    while instructions_for(sources, 0) >= size:
        sources -= 1
    return pack((DROP, *admit_sources([IPv4Address(_COSTLY + 2 * i) for i in range(sources)])))
