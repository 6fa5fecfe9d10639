"""All tunnels of a process, a worker's whole work (gateway/workers): who ends them, and the one timer they share.

1. TLS with a session certificate, then CONNECT or connect-udp within its deadline, then the answer of the process that
   decides, then the controller's target: never an address from the client. Nothing is decided here.
2. A tunnel is known from its verified handshake on, so a cut meets it in every stage, before its first byte too.
3. Every accepted socket ends in exactly one `ended`, whatever became of it, after its last report.
4. One timer wakes the loop for the earliest of all deadlines; an idle tunnel costs no task and no timer.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from gateway import limits
from gateway.deadlines import Deadlines
from gateway.leases import Carried, Reach, Refusal
from gateway.lifetimes import Lifetimes
from gateway.target import keep_alive
from gateway.tunnel import Tunnel
from gateway.workers.messages import Report, Unverified
from wire.connect import ConnectRequest, UdpRequest
from wire.errors import TlsRefusal
from wire.limits import CONNECT_DEADLINE, UDP_IDLE
from wire.tls import ServerTls, accept_tls


class Main(Protocol):
    """The process that decides, as tunnels see it: they tell it and ask it, and `Tunnels.answer` is what it says."""

    def verified(self, tunnel: UUID, session: UUID) -> None:
        """The handshake is over; the peer has `session`'s certificate. It may be refused at once."""

    def parked(self, tunnel: UUID) -> None:
        """It has said nothing for a while. It may have to leave."""

    def asks(self, tunnel: UUID, name: str, port: int, protocol: Carried) -> None:
        """The peer asks for NAME:PORT, to carry this; one answer follows, unless it has been refused already."""

    def report(self, report: Report) -> None:
        """Something the controller shall hear of."""

    def ended(self, tunnel: UUID) -> None:
        """Nothing is left of it here."""


class Tunnels:
    """All tunnels of this process. `run` owns their tasks: nothing outlives it."""

    def __init__(
        self,
        tls: ServerTls,
        main: Main,
        *,
        connect_deadline: float = CONNECT_DEADLINE,
        park_deadline: float = limits.PARK_DEADLINE,
        dial_deadline: float = limits.DIAL_DEADLINE,
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
        udp_lifetimes: Lifetimes = Lifetimes(idle=UDP_IDLE),  # noqa: B008 - frozen
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.tls = tls  # replaced whole when the certificate is renewed; connections keep what they began with
        self.main = main
        self.connect_deadline = connect_deadline
        self.park_deadline = park_deadline
        self.dial_deadline = dial_deadline
        self.lifetimes = lifetimes
        self.udp_lifetimes = udp_lifetimes
        self.now = now
        self._taken: dict[UUID, Tunnel | None] = {}  # None until the peer is verified
        self._deadlines: Deadlines[Tunnel] = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Owns every tunnel until it is cancelled, which cuts them."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await asyncio.Event().wait()
        finally:
            self._group = None
            for each in list(self):
                each.stop()
            if self._timer is not None:
                self._timer.cancel()

    def accept(self, tunnel: UUID, sock: socket.socket) -> None:
        """One connection through the door; it is ours from here on."""
        self._taken[tunnel] = None
        if self._group is None:
            sock.close()
            self.end(tunnel)
            return
        keep_alive(sock)
        accept_tls(
            asyncio.get_running_loop(),
            sock,
            self.tls,
            lambda: Tunnel(self, tunnel),
            on_refused=partial(self._handshake_refused, tunnel),
            on_over=partial(self.end, tunnel),
        )

    def answer(self, tunnel: UUID, answer: Reach | Refusal) -> None:
        """What was decided about a tunnel, asked or not. One that is gone meanwhile needs no answer."""
        if (found := self._taken.get(tunnel)) is not None:
            found.answer(answer)

    def leave(self, tunnel: UUID) -> None:
        """Its place is needed: it has asked for nothing, or is only asking now, and ends without a word."""
        if (found := self._taken.get(tunnel)) is not None:
            found.leave()

    def cut(self, tunnels: Iterable[UUID], code: str) -> list[asyncio.Future[str]]:
        """Cuts these now; the futures are done when they are gone. Those that are gone already need none."""
        return [found.cut(code) for each in tunnels if (found := self._taken.get(each)) is not None]

    def __iter__(self) -> Iterator[Tunnel]:
        """The verified ones."""
        return (each for each in self._taken.values() if each is not None)

    def __len__(self) -> int:
        """Accepted sockets that have not ended."""
        return len(self._taken)

    def byte_counts(self) -> list[tuple[UUID, int, int, int]]:
        """Of each tunnel that carries bytes: how many from the client, how many to it, and datagrams dropped."""
        return [(each.id, *each.counts) for each in self if each.relay is not None]

    # For the tunnels themselves

    def begin(self, tunnel: Tunnel) -> None:
        """Takes a verified connection in. One that may not stay will be told, then gone."""
        self._taken[tunnel.id] = tunnel
        self._due_at(tunnel, time.monotonic() + self.connect_deadline)
        self.main.verified(tunnel.id, tunnel.session)

    def asking(self, tunnel: Tunnel) -> None:
        """Its CONNECT has begun."""
        self._due_at(tunnel, time.monotonic() + self.connect_deadline)

    def asked(self, tunnel: Tunnel, request: ConnectRequest | UdpRequest) -> asyncio.Task[None] | None:
        """Its CONNECT is here; the task that serves it, owned by `run`, or None once that has ended."""
        self._deadlines.drop(tunnel)
        if self._group is None:
            return None
        self.main.asks(tunnel.id, request.name, request.port, request.protocol)
        return self._group.create_task(tunnel.serve(request))

    def carrying(self, tunnel: Tunnel, due: float) -> None:
        """It carries bytes, and is to be looked at when it is `due`."""
        self._due_at(tunnel, due)

    def ended(self, tunnel: Tunnel) -> None:
        """Forgets a tunnel, after the last report about it."""
        self._deadlines.drop(tunnel)
        self.end(tunnel.id)

    def end(self, tunnel: UUID) -> None:
        """Forgets a connection, whatever became of it."""
        if tunnel in self._taken:
            del self._taken[tunnel]
            self.main.ended(tunnel)

    # Inside

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

    def _handshake_refused(self, tunnel: UUID, refusal: TlsRefusal) -> None:
        _, port = refusal.source
        if port:
            detail = f"{refusal.sentence} ({refusal.presented})" if refusal.presented else refusal.sentence
            self.main.report(Unverified(tunnel, refusal.reason, detail[:1024]))
