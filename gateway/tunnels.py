"""All tunnels of a gateway: who may come in, who ends them, and the one timer they share.

1. TLS with a session certificate, then CONNECT or connect-udp within its deadline, then the lease's answer, then the
   controller's target: never an address from the client.
2. A tunnel is known from its verified handshake on, so a cut meets it in every stage, before its first byte too.
3. Tunnels are bounded, all together and for each session, those still asking included. Parked connections count too,
   and make way for one that comes in.
4. One timer wakes the loop for the earliest of all deadlines; an idle tunnel costs no task and no timer.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from gateway import limits
from gateway.deadlines import Deadlines
from gateway.leases import Carried, Cut, Refusal
from gateway.lifetimes import Lifetimes
from gateway.parked import Parked
from gateway.reports import Report
from gateway.target import keep_alive
from gateway.tunnel import Tunnel, TunnelView
from spa.source import Source
from wire.connect import ConnectRequest, UdpRequest
from wire.errors import TlsRefusal
from wire.limits import CONNECT_DEADLINE, UDP_IDLE
from wire.messages import Address, HandshakeRefused, Permit
from wire.tls import ServerTls, accept_tls

Permits = Callable[[UUID, frozenset[str], str, int, Carried], Permit | Refusal]
"""(session, key ids that knocked, resource, port, what it shall carry) -> the permit, or why not."""

_TOO_MANY: Final = Refusal(
    503, "connection_limit_reached", "too_many_tunnels", "this gateway has all the tunnels it takes", "try again later"
)
_TOO_MANY_OF_YOURS: Final = Refusal(
    429, "connection_limit_reached", "too_many_tunnels", "this session has all the tunnels it may have", "close some"
)


class Tunnels:
    """All tunnels of this gateway. `run` owns their tasks: nothing outlives it."""

    def __init__(
        self,
        tls: ServerTls,
        permits: Permits,
        report: Callable[[Report], None],
        *,
        most: int = limits.MAX_TUNNELS,
        most_of_session: int = limits.MAX_TUNNELS_PER_SESSION,
        connect_deadline: float = CONNECT_DEADLINE,
        park_deadline: float = limits.PARK_DEADLINE,
        most_parked: int = limits.MAX_PARKED,
        most_parked_of_session: int = limits.MAX_PARKED_PER_SESSION,
        dial_deadline: float = limits.DIAL_DEADLINE,
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
        udp_lifetimes: Lifetimes = Lifetimes(idle=UDP_IDLE),  # noqa: B008 - frozen
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.tls = tls  # replaced whole when the certificate is renewed; connections keep what they began with
        self.permits = permits
        self.report = report
        self.connect_deadline = connect_deadline
        self.park_deadline = park_deadline
        self.dial_deadline = dial_deadline
        self.lifetimes = lifetimes
        self.udp_lifetimes = udp_lifetimes
        self.now = now
        self.opened = 0
        self.refused = 0
        self._most = most
        self._most_of_session = most_of_session
        self._all: set[Tunnel] = set()
        self._of_session: dict[UUID, set[Tunnel]] = {}
        self._parked: Parked[Tunnel] = Parked(most_parked, most_parked_of_session)
        self._deadlines: Deadlines[Tunnel] = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._group: asyncio.TaskGroup | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Owns every tunnel until `drain` has ended them all, or until it is cancelled, which cuts them."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._stopped.wait()
        finally:
            self._group = None
            for each in list(self._all):
                each.stop()
            if self._timer is not None:
                self._timer.cancel()

    def accept(self, sock: socket.socket, source: Source) -> None:
        """One connection through the door; it is ours from here on."""
        if self._group is None:
            sock.close()
            return
        keep_alive(sock)
        accept_tls(
            asyncio.get_running_loop(),
            sock,
            self.tls,
            lambda: Tunnel(self, source),
            on_refused=self._handshake_refused,
        )

    def cut(self, cut: Cut) -> list[asyncio.Future[str]]:
        """Cuts the session's tunnels that reach nothing in `cut.kept`; the futures are done when they are gone."""
        # One that has not asked yet will be judged by the new lease, if there is one.
        spared = {*cut.kept, None} if cut.kept else ()
        doomed = [each for each in self._of_session.get(cut.session, ()) if each.reach not in spared]
        return [each.cut(cut.code) for each in doomed]

    async def drain(self, deadline: float) -> int:
        """Waits at most `deadline` seconds for tunnels to end, cuts the rest, ends `run`; answers how many were cut."""
        while (parked := self._parked.oldest()) is not None:
            parked.leave()
        if self._all:
            await asyncio.wait([each.ended for each in self._all], timeout=deadline)
        rest = list(self._all)
        for each in rest:
            each.cut("gateway_stopped")
        if rest:
            await asyncio.wait([each.ended for each in rest])  # their reports, too
        self._stopped.set()
        return len(rest)

    def __len__(self) -> int:
        """Tunnels that carry bytes."""
        return sum(each.relay is not None for each in self._all)

    @property
    def parked(self) -> int:
        """Verified connections that have not asked yet, and for longer than a CONNECT takes."""
        return len(self._parked)

    def views(self) -> list[TunnelView]:
        """The tunnels that carry bytes."""
        return [each.view() for each in self._all if each.relay is not None]

    # For the tunnels themselves

    def begin(self, tunnel: Tunnel) -> Refusal | None:
        """Takes a verified connection in; answers why it may not stay. A refused one is told, then gone."""
        self._make_room(tunnel.session)
        mine = self._of_session.setdefault(tunnel.session, set())
        over = _TOO_MANY if len(self._all) >= self._most else None
        if over is None and len(mine) >= self._most_of_session:
            over = _TOO_MANY_OF_YOURS
        self._all.add(tunnel)
        mine.add(tunnel)
        if over is None:
            self._due_at(tunnel, time.monotonic() + self.connect_deadline)
        return over

    def park(self, tunnel: Tunnel) -> bool:
        """Its CONNECT is not due yet; false if it has been parked for as long as it may, or there is no room."""
        if tunnel in self._parked:
            return False
        leaving = self._parked.add(tunnel)
        for each in leaving:
            if each is not tunnel:
                each.leave()
        return tunnel not in leaving

    def asking(self, tunnel: Tunnel) -> None:
        """Its CONNECT has begun."""
        self._parked.discard(tunnel)
        self._due_at(tunnel, time.monotonic() + self.connect_deadline)

    def asked(self, tunnel: Tunnel, request: ConnectRequest | UdpRequest) -> asyncio.Task[None] | None:
        """Its CONNECT is here; the task that serves it, owned by `run`, or None once that has ended."""
        self._parked.discard(tunnel)
        self._deadlines.drop(tunnel)
        return None if self._group is None else self._group.create_task(tunnel.serve(request))

    def carrying(self, tunnel: Tunnel, due: float) -> None:
        """It carries bytes, and is to be looked at when it is `due`."""
        self.opened += 1
        self._due_at(tunnel, due)

    def end(self, tunnel: Tunnel) -> None:
        """Forgets a tunnel."""
        self._all.discard(tunnel)
        self._parked.discard(tunnel)
        self._deadlines.drop(tunnel)
        mine = self._of_session.get(tunnel.session)
        if mine is not None:
            mine.discard(tunnel)
            if not mine:
                del self._of_session[tunnel.session]

    # Inside

    def _make_room(self, session: UUID) -> None:
        oldest = None
        if len(self._all) >= self._most:
            oldest = self._parked.oldest()
        elif len(self._of_session.get(session, ())) >= self._most_of_session:
            oldest = self._parked.oldest(session)
        if oldest is not None:
            oldest.leave()

    def _due_at(self, tunnel: Tunnel, at: float) -> None:
        self._deadlines.set(tunnel, at)
        if self._timer is None or at < self._timer_at:
            self._wake_at(at)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        for tunnel in self._deadlines.due(now):
            if not tunnel.ended.done() and (due := tunnel.due(now)) is not None:
                self._deadlines.set(tunnel, due)
        if (earliest := self._deadlines.earliest()) is not None:
            self._wake_at(earliest)

    def _handshake_refused(self, refusal: TlsRefusal) -> None:
        host, port = refusal.source
        if port:
            detail = f"{refusal.sentence} ({refusal.presented})" if refusal.presented else refusal.sentence
            source = Address(host=host, port=port)
            self.report(HandshakeRefused(source=source, code=refusal.reason, detail=detail[:1024], at=self.now()))
