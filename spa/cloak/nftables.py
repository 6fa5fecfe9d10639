"""The nftables cloak: a table of the kernel's packet filter drops strangers' packets, also when we are dead.

The table is there before the socket listens, and goes only after the socket is closed. A process that is killed leaves
it behind: the port stays dark, and the sources that were let in time out. The next one replaces it in one transaction.
Whoever else changes or removes it (`nft flush ruleset`) is noticed by the kernel's own news, and every few seconds
besides.
"""

import contextlib
import errno
import select
import socket
from collections.abc import Collection, Mapping
from typing import Final

from spa.binding import place_of, start_listening, stop_listening
from spa.cloak import ruleset
from spa.cloak.libnftables import LibNftables, refused
from spa.cloak.netlink import NAME_OF_TABLE, Ask, ask, packet_filter_socket
from spa.cloak.protocol import Cloak, CloakName
from spa.cloak.table import Table
from spa.errors import CloakError
from spa.packet import IPAddress

_IP_TRANSPARENT: Final = 19  # linux/in.h
_IPV6_TRANSPARENT: Final = 75  # linux/in6.h
_CHAINS: Final = ("guard", "input")
_PROOF_MS: Final = 10  # on one's own machine a refusal comes within the call that asks


class Nftables(Cloak):
    """Lets the kernel's packet filter drop what comes from anybody else."""

    name = CloakName.NFTABLES

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._backlog = 0
        self._nft: LibNftables | None = None
        self._table: Table | None = None
        self._name = ""
        self._rules = ""
        self._told: dict[IPAddress, float] = {}  # until when the kernel lets each in, by itself

    def cover(self, sock: socket.socket, backlog: int) -> None:
        """Puts the table up, sees that it works, then listens."""
        host, port = place_of(sock)
        self._name, self._rules = ruleset.table_of(host, port), ruleset.put_up(host, port)
        self._sock, self._backlog = sock, backlog
        try:
            self._nft = LibNftables()
            self._table = Table(self._name, _CHAINS)
            self._put_up()
            _prove_dark(sock)
            _set_transparent(sock, on=True)
            self._listen()
        except OSError as error:
            self.take_off()
            raise refused(error.strerror or str(error)) from error
        except CloakError:
            self.take_off()
            raise
        self.alarm = self._table.news

    def let_in(self, until: Mapping[IPAddress, float], changed: Collection[IPAddress], now: float) -> None:
        """One transaction; what is over the kernel has ended by itself."""
        if self._nft is None:
            return
        stay = {source: until[source] for source in changed if until.get(source, now) > now}
        gone = [source for source in changed if source not in until and self._told.get(source, now) > now]
        if stay or gone:
            left_ms = {source: int((end - now) * 1000) + 1 for source, end in stay.items()}
            self._nft.run(ruleset.change(self._name, left_ms, gone))
        for source in changed:
            self._told.pop(source, None)
        self._told.update(stay)

    def release(self, connection: socket.socket) -> None:
        """From now on its packets pass, whatever becomes of the window."""
        with contextlib.suppress(OSError):  # gone already
            _set_transparent(connection, on=False)

    def mend(self) -> str:
        """Puts the table up again if somebody else changed it."""
        if self._table is None:
            return ""
        self._table.read_news()
        if self.listening and self._table.unchanged:
            return ""
        try:
            self._put_up()
            if not self.listening:
                self._listen()
        except CloakError:
            self._shut()
            raise
        except OSError as error:
            self._shut()
            raise refused(error.strerror or str(error)) from error
        return f"the nftables table {self._name} was changed or removed by somebody else"

    def take_off(self) -> None:
        """Removes the table, if it is ours to remove."""
        if self._nft is not None:
            with contextlib.suppress(CloakError):
                self._nft.run(ruleset.take_away(self._name))
            self._nft.close()
        if self._table is not None:
            self._table.close()
        self._nft = self._table = self.alarm = None
        self.listening = False

    def _put_up(self) -> None:
        if self._nft is not None and self._table is not None:
            self._nft.run(self._rules)
            self._told.clear()
            self._table.remember()

    def _listen(self) -> None:
        if self._sock is not None:
            start_listening(self._sock, self._backlog)
            self.listening = True

    def _shut(self) -> None:
        """A port that nothing keeps dark does not listen: a scan says *closed*. Fails closed."""
        if self._sock is not None and self.listening:
            self.listening = False
            with contextlib.suppress(OSError):
                stop_listening(self._sock)


def remove_left_behind(sock: socket.socket) -> None:
    """Removes the table a killed process left for the port `sock` is bound to: another cloak would be dark for good."""
    host, port = place_of(sock)
    with contextlib.suppress(OSError, CloakError):  # there is none, or it is not ours to see
        with packet_filter_socket() as asking:
            list(ask(asking, Ask.TABLE, {NAME_OF_TABLE: ruleset.table_of(host, port)}))
        remove_table(host, port)


def remove_table(host: str, port: int) -> None:
    """Removes what a killed process left behind for this port; `CloakError` if that cannot be done."""
    nft = LibNftables()
    try:
        nft.run(ruleset.take_away(ruleset.table_of(host, port)))
    finally:
        nft.close()


def _set_transparent(sock: socket.socket, *, on: bool) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, on)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, on)


def _prove_dark(sock: socket.socket) -> None:
    """A bound port that does not listen refuses connections, unless the rules we put up are in force."""
    host, port = place_of(sock)
    with socket.socket(sock.family) as probe, contextlib.suppress(BlockingIOError):
        probe.setblocking(False)  # noqa: FBT003 - the socket module's own way
        answer = probe.connect_ex((host, port))
        if answer == errno.EINPROGRESS:
            waiting = select.poll()
            waiting.register(probe, select.POLLOUT)
            if waiting.poll(_PROOF_MS):
                answer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if answer in {0, errno.ECONNREFUSED}:
        raise CloakError(
            "the nftables cloak does not work here: the kernel took its rules and does not follow them",
            "use the socket-filter or on-demand cloak",
        )
