"""One tunnel: from a verified connection to its CONNECT or connect-udp, to bytes both ways, to its end.

1. A connection that says nothing is parked, for a while and while there is room: a client keeps it warm, and its
   CONNECT will cost one round trip. From its first byte on the CONNECT has its deadline.
2. What was proved when it was accepted (the certificate, whose knocks stood open) says who asks. What he may is judged
   when he asks, never before; and he asks before his certificate ends.
3. Every request ends in exactly one report: refused, or opened and then closed with the bytes that went through it.
4. A connection that never asked is not reported: nothing was refused to it.
"""

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from console.address import plain_host
from gateway.datagrams import UdpRelay, connect_target
from gateway.leases import Reach, Refusal
from gateway.lifetimes import Age, Lifetimes
from gateway.target import dial_target
from gateway.workers.messages import Closed, Declined, Opened
from wire.connect import (
    BadRequest,
    ConnectRequest,
    NeedMore,
    ServerHandshake,
    UdpRequest,
    accept_response,
    refuse_response,
    upgrade_response,
)
from wire.relay import Relay
from wire.tls import TlsTransport

if TYPE_CHECKING:
    from gateway.tunnels import Tunnels

log = structlog.get_logger()

_NO_REQUEST: Final = Refusal(
    408, "http_request_error", "connect_deadline", "no complete CONNECT came in time", "send it at once"
)


class Tunnel(asyncio.Protocol):
    """One connection from its verified handshake to its end; until the relay is, the protocol of its TLS transport."""

    __slots__ = (
        "_age",
        "_answer",
        "_asked",
        "_handshake",
        "_parked",
        "_reason",
        "_task",
        "_tunnels",
        "ended",
        "id",
        "relay",
        "session",
        "transport",
    )
    transport: TlsTransport
    session: UUID

    def __init__(self, tunnels: "Tunnels", id_: UUID) -> None:
        self.id = id_
        self._tunnels = tunnels
        self._handshake: ServerHandshake | None = None  # once there is something to parse
        self._task: asyncio.Task[None] | None = None  # from its CONNECT until it carries bytes
        self._age = Age(time.monotonic())  # of the verified connection, then of the open tunnel
        self._answer: asyncio.Future[Reach | Refusal] | None = None  # once it has asked
        self._parked = False
        self._reason = ""
        self._asked = False
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.relay: Relay | UdpRelay | None = None

    # The protocol of the TLS transport, until the relay takes over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done and the session known."""
        self.transport = transport  # type: ignore[assignment] # wire.tls makes no other
        # The TLS policy trusts the sessions' intermediate alone, and a session's id is a UUID (certs.names).
        self.session = UUID(transport.get_extra_info("peer").id)
        self._tunnels.begin(self)

    def data_received(self, data: bytes) -> None:
        """Some of its CONNECT, usually all of it."""
        if self._answer is not None or self.ended.done():
            return
        first = self._handshake is None
        if self._handshake is None:
            self._handshake = ServerHandshake()
        match self._handshake.receive(data):
            case NeedMore():
                if first:
                    self._tunnels.asking(self)
            case BadRequest() as bad:
                self._refuse(Refusal(bad.status, bad.error, "bad_request", bad.details))
            case ConnectRequest() | UdpRequest() as request:
                self.transport.pause_reading()
                self._handshake = None
                self._asked = True
                self._answer = asyncio.get_running_loop().create_future()
                self._task = self._tunnels.asked(self, request)
                if self._task is None:
                    self.cut("gateway_stopped")
                else:
                    self._task.add_done_callback(self._served)

    def eof_received(self) -> bool:
        """Nothing more will come; of one that was asking, nothing ever."""
        if self._task is None:
            self.leave()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Gone; one that is being dialled for finds out itself."""
        if self._task is None:
            self._finish("")

    # Its life

    def leave(self) -> None:
        """Ends a connection that has not asked, or that asks just now, without a word: it may ask on another one."""
        if self.relay is not None:
            return
        if self._task is not None:
            self._asked = False  # as if it never had
            self.cut("left")
            return
        self.transport.close()
        self._finish("")

    def answer(self, answer: Reach | Refusal) -> None:
        """What was decided. A refusal may come before the question; a yes counts only for one that asked."""
        if self._answer is not None:
            if not self._answer.done():
                self._answer.set_result(answer)
        elif isinstance(answer, Refusal) and not self.ended.done():
            self._refuse(answer)

    def cut(self, code: str) -> asyncio.Future[str]:
        """Ends it now, whatever it is doing; done when both sockets are closed."""
        self._reason = self._reason or code
        if self.relay is not None:
            self.relay.cut(code)
            return self.relay.closed
        self.transport.abort()
        if self._task is None:
            self._finish(self._reason)
        else:
            self._task.cancel()
        return self.ended

    def stop(self) -> None:
        """Ends and reports it before this returns: the gateway stops at once."""
        self.cut("gateway_stopped")
        if self.relay is not None:
            self._report_closed()

    def due(self, now: float) -> float | None:
        """Its deadline has come: when the next one is, None if there is none."""
        if self.relay is not None:
            return self._look(self.relay, now)
        if self._handshake is not None:
            self._refuse(_NO_REQUEST)
        elif not self._parked:
            self._parked = True
            self._tunnels.main.parked(self.id)
            return self._age.opened + self._may_wait(now)
        else:
            self.leave()
        return None

    def _may_wait(self, now: float) -> float:
        """Seconds from its handshake until it must have asked: never past the end of its certificate."""
        ends = self.transport.get_extra_info("peer_certificate").not_valid_after_utc
        left: float = (ends - self._tunnels.now()).total_seconds()
        return min(self._tunnels.park_deadline, now - self._age.opened + left)

    def _look(self, relay: Relay | UdpRelay, now: float) -> float | None:
        limits, carried = self._limits(relay), relay.bytes_to_plain + relay.bytes_to_tls
        if isinstance(relay, UdpRelay):
            carried += relay.datagrams  # empty ones are signs of life too
        if reason := self._age.look(carried, limits, now):
            self.cut(reason)
            return None
        if self._age.quiet:
            self.transport.shrink()
        return self._age.next_look(limits, now)

    def _limits(self, relay: Relay | UdpRelay) -> Lifetimes:
        return self._tunnels.udp_lifetimes if isinstance(relay, UdpRelay) else self._tunnels.lifetimes

    async def serve(self, request: ConnectRequest | UdpRequest) -> None:
        """From its CONNECT to a refusal or a relay. A fault of ours ends this tunnel, not the gateway."""
        try:
            if self._answer is not None:
                await self._serve(request, await self._answer)
        except Exception:
            self._reason = "internal_error"
            log.exception("a tunnel failed", tunnel=str(self.id), session=str(self.session))
            if self.relay is not None:
                self.relay.cut(self._reason)

    def _served(self, _task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before its first step never runs.
        if self.relay is None and not self.ended.done():
            self._reason = self._reason or "gateway_stopped"
            if self._asked:
                cut = Refusal(403, "http_request_denied", self._reason, "cut before it was open")
                self._report_refused(cut)
            self.transport.abort()
            self._finish(self._reason)

    async def _serve(self, request: ConnectRequest | UdpRequest, answer: Reach | Refusal) -> None:
        if isinstance(answer, Refusal):
            self._refuse(answer)
            return
        dial = connect_target if answer.protocol == "udp" else dial_target
        plain = await dial(answer, self._tunnels.dial_deadline)
        if isinstance(plain, Refusal):
            self._refuse(plain)
            return
        self._relay(plain, request.rest)

    def _begin(self, plain: asyncio.Transport | socket.socket, rest: bytes) -> Relay | UdpRelay:
        """Answers yes; what follows on the connection is the resource's."""
        if isinstance(plain, socket.socket):
            self.transport.write(upgrade_response())
            return UdpRelay(self.transport, plain, early=rest)
        self.transport.write(accept_response())
        return Relay(self.transport, plain, to_plain=rest)

    def _relay(self, plain: asyncio.Transport | socket.socket, rest: bytes) -> None:
        peer = plain.getpeername() if isinstance(plain, socket.socket) else plain.get_extra_info("peername")
        host, port = peer[:2]
        if self.transport.is_closing():
            plain.close() if isinstance(plain, socket.socket) else plain.abort()
            gone = Refusal(408, "connection_terminated", "client_gone", "the client is gone")
            self._report_refused(gone)
            self._finish(gone.code)
            return
        self._age = Age(time.monotonic())
        self.relay = relay = self._begin(plain, rest)
        relay.closed.add_done_callback(self._relay_closed)
        self._tunnels.carrying(self, self._age.next_look(self._limits(relay), self._age.opened))
        group = self.transport.get_extra_info("group")
        self._tunnels.main.report(Opened(self.id, plain_host(host), port, group))

    def _relay_closed(self, _closed: asyncio.Future[str]) -> None:
        # Whoever waits for a cut to be in force goes first: a thousand reports take longer than the cuts.
        asyncio.get_running_loop().call_soon(self._report_closed)

    def _report_closed(self) -> None:
        relay = self.relay
        if relay is None or self.ended.done():
            return
        reason = relay.reason or self._reason or "broken"
        dropped = relay.dropped if isinstance(relay, UdpRelay) else 0
        seconds = time.monotonic() - self._age.opened
        self._tunnels.main.report(Closed(self.id, relay.bytes_to_plain, relay.bytes_to_tls, seconds, reason, dropped))
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        self._tunnels.ended(self)
        if not self.ended.done():
            self.ended.set_result(reason)

    def _refuse(self, refusal: Refusal) -> None:
        self.transport.write(refuse_response(refusal.status, refusal.error, refusal.details))
        self.transport.close()
        self._report_refused(refusal)
        self._finish(refusal.code)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Bytes from the client, bytes to it, and datagrams dropped; bytes never are."""
        relay = self.relay
        if relay is None:
            return 0, 0, 0
        return relay.bytes_to_plain, relay.bytes_to_tls, relay.dropped if isinstance(relay, UdpRelay) else 0

    def _report_refused(self, refusal: Refusal) -> None:
        self._tunnels.main.report(Declined(self.id, refusal.status, refusal.code))
