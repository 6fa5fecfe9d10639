"""Tunnels: from an accepted socket to bytes both ways, and to their end.

1. TLS with a session certificate, then CONNECT within its deadline, then the lease's answer, then the controller's
   target: never an address from the client.
2. A tunnel is known from its verified handshake on, so a cut meets it in every stage, before its first byte too.
3. Every CONNECT ends in exactly one report: refused, or opened and then closed with the bytes that went through it.
4. Tunnels are bounded, all together and for each session, those still asking included.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import structlog

from console.address import HostPort, plain_host
from gateway import limits
from gateway.leases import Cut, Reach, Refusal
from gateway.reports import Report
from gateway.target import dial_target, keep_alive
from spa.source import Source
from wire.connect import BadRequest, ConnectRequest, NeedMore, ServerHandshake, accept_response, refuse_response
from wire.errors import TlsRefusal
from wire.limits import CONNECT_DEADLINE
from wire.messages import Address, HandshakeRefused, Permit, TunnelClosed, TunnelOpened, TunnelRefused
from wire.relay import Relay
from wire.tls import ServerTls, TlsTransport, accept_tls

log = structlog.get_logger()

Permits = Callable[[UUID, frozenset[str], str, int], Permit | Refusal]
"""(session, key ids that knocked, resource, port) -> the permit, or why not."""

_TOO_MANY: Final = Refusal(
    503, "connection_limit_reached", "too_many_tunnels", "this gateway has all the tunnels it takes", "try again later"
)
_TOO_MANY_OF_YOURS: Final = Refusal(
    429, "connection_limit_reached", "too_many_tunnels", "this session has all the tunnels it may have", "close some"
)
_NO_REQUEST: Final = Refusal(
    408, "http_request_error", "connect_deadline", "no complete CONNECT came in time", "send it at once"
)


@dataclass(frozen=True, slots=True)
class TunnelView:
    """A live tunnel, for `status`."""

    tunnel: UUID
    session: UUID
    resource: str
    port: int
    source: str
    target: str
    group: str
    bytes_up: int
    bytes_down: int
    seconds: float


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
        dial_deadline: float = limits.DIAL_DEADLINE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.tls = tls  # replaced whole when the certificate is renewed; connections keep what they began with
        self.permits = permits
        self.report = report
        self.connect_deadline = connect_deadline
        self.dial_deadline = dial_deadline
        self.now = now
        self.opened = 0
        self.refused = 0
        self._most = most
        self._most_of_session = most_of_session
        self._all: set[_Tunnel] = set()
        self._of_session: dict[UUID, set[_Tunnel]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Owns every tunnel's task until `drain` has ended them all, or until it is cancelled, which cuts them."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._stopped.wait()
        finally:
            self._group = None

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
            lambda: _Tunnel(self, source),
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
        if self._all:
            await asyncio.wait([each.ended for each in self._all], timeout=deadline)
        rest = list(self._all)
        for each in rest:
            each.cut("gateway_stopped")
        if rest:
            await asyncio.wait([each.ended for each in rest])  # their tasks, and so their reports
        self._stopped.set()
        return len(rest)

    def __len__(self) -> int:
        """Tunnels that carry bytes."""
        return sum(each.relay is not None for each in self._all)

    def views(self) -> list[TunnelView]:
        """The tunnels that carry bytes."""
        return [each.view() for each in self._all if each.relay is not None]

    # For the tunnels themselves

    def begin(self, tunnel: "_Tunnel") -> Refusal | None:
        """Takes a verified connection in; answers why it may not stay. A refused one is told, then gone."""
        mine = self._of_session.setdefault(tunnel.session, set())
        over = _TOO_MANY if len(self._all) >= self._most else None
        if over is None and len(mine) >= self._most_of_session:
            over = _TOO_MANY_OF_YOURS
        self._all.add(tunnel)
        mine.add(tunnel)
        return over

    def spawn(self, tunnel: "_Tunnel", refusal: Refusal | None) -> asyncio.Task[None] | None:
        """The task of a tunnel, owned by `run`; None once that has ended."""
        return None if self._group is None else self._group.create_task(tunnel.serve(refusal))

    def end(self, tunnel: "_Tunnel") -> None:
        """Forgets a tunnel."""
        self._all.discard(tunnel)
        mine = self._of_session.get(tunnel.session)
        if mine is not None:
            mine.discard(tunnel)
            if not mine:
                del self._of_session[tunnel.session]

    def _handshake_refused(self, refusal: TlsRefusal) -> None:
        host, port = refusal.source
        if port:
            detail = f"{refusal.sentence} ({refusal.presented})" if refusal.presented else refusal.sentence
            source = Address(host=host, port=port)
            self.report(HandshakeRefused(source=source, code=refusal.reason, detail=detail[:1024], at=self.now()))


class _Tunnel(asyncio.Protocol):
    """One connection from its verified handshake to its end; until the relay is, the protocol of its TLS transport."""

    transport: TlsTransport
    session: UUID

    def __init__(self, tunnels: Tunnels, source: Source) -> None:
        self._tunnels = tunnels
        self._source = source
        self._handshake = ServerHandshake()
        self._task: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._reason = ""
        self._target = Address(host="0.0.0.0", port=1)  # noqa: S104 - replaced by what was dialled
        loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[ConnectRequest | BadRequest | None] = loop.create_future()
        self.id = uuid4()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.reach: Reach | None = None
        self.relay: Relay | None = None

    # The protocol of the TLS transport, until the relay takes over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # wire.tls makes no other
        # The TLS policy trusts the sessions' intermediate alone, and a session's id is a UUID (certs.names).
        self.session = UUID(transport.get_extra_info("peer").id)
        refusal = self._tunnels.begin(self)
        self._task = self._tunnels.spawn(self, refusal)
        if self._task is None:
            self._finish("gateway_stopped")

    def data_received(self, data: bytes) -> None:
        if self._asked.done():
            return  # only of a connection that is being refused: nothing of it matters any more
        answer = self._handshake.receive(data)
        if not isinstance(answer, NeedMore):
            self.transport.pause_reading()
            self._asked.set_result(answer)

    def eof_received(self) -> bool:
        if not self._asked.done():
            self._asked.set_result(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if not self._asked.done():
            self._asked.set_result(None)

    # Its life

    def cut(self, code: str) -> asyncio.Future[str]:
        """Ends it now, whatever it is doing; done when both sockets are closed."""
        self._reason = self._reason or code
        if self.relay is not None:
            self.relay.cut(code)
            return self.relay.closed
        self.transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self.ended

    async def serve(self, refusal: Refusal | None) -> None:
        """The tunnel's task. A fault of ours ends this tunnel, not the gateway."""
        try:
            if refusal is not None:
                self._refuse(refusal, "")
            else:
                await self._serve()
        except asyncio.CancelledError:
            ours = bool(self._reason)
            self._reason = self._reason or "gateway_stopped"
            if self.relay is None and self.reach is not None:
                cut = Refusal(403, "http_request_denied", self._reason, "cut before it was open")
                self._report_refused(cut, self.reach.resource)
            if not ours:  # the gateway stops, not this tunnel alone
                raise
        except Exception:
            self._reason = "internal_error"
            log.exception("a tunnel failed", tunnel=str(self.id), session=str(self.session))
        finally:
            if self.relay is None and self._reason:
                self.transport.abort()
            self._finish(self._reason)

    def _finish(self, reason: str) -> None:
        self._tunnels.end(self)
        if not self.ended.done():
            self.ended.set_result(reason)

    async def _serve(self) -> None:
        try:
            async with asyncio.timeout(self._tunnels.connect_deadline):
                request = await self._asked
        except TimeoutError:
            self._refuse(_NO_REQUEST, "")
            return
        if request is None:
            self.transport.close()
            return
        if isinstance(request, BadRequest):
            self._refuse(Refusal(request.status, request.error, "bad_request", request.details), "")
            return
        permit = self._tunnels.permits(self.session, self._source.key_ids, request.name, request.port)
        if isinstance(permit, Refusal):
            self._refuse(permit, request.name)
            return
        self.reach = Reach.of(permit)
        plain = await dial_target(permit, self._tunnels.dial_deadline)
        if isinstance(plain, Refusal):
            self._refuse(plain, request.name)
            return
        await self._relay(plain, permit, request.rest)

    async def _relay(self, plain: asyncio.Transport, permit: Permit, rest: bytes) -> None:
        host, port = plain.get_extra_info("peername")[:2]
        self._target = Address(host=plain_host(host), port=port)
        if self.transport.is_closing():
            plain.abort()
            self._reason = "client_gone"
            self._report_refused(
                Refusal(408, "connection_terminated", "client_gone", "the client is gone"), permit.resource
            )
            return
        self._began = time.monotonic()
        self.transport.write(accept_response())
        self.relay = relay = Relay(self.transport, plain, to_plain=rest)
        self._tunnels.opened += 1
        self._tunnels.report(
            TunnelOpened(
                tunnel=self.id,
                session=self.session,
                resource=permit.resource,
                source=self._address(),
                target=self._target,
                group=self.transport.get_extra_info("group"),
                at=self._tunnels.now(),
            )
        )
        try:
            self._reason = await asyncio.shield(relay.closed)
            # Whoever waits for a cut to be in force goes first: a thousand reports take longer than the cuts.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            relay.cut("gateway_stopped")
            raise
        finally:
            self._tunnels.report(
                TunnelClosed(
                    tunnel=self.id,
                    session=self.session,
                    resource=permit.resource,
                    bytes_up=relay.bytes_to_plain,
                    bytes_down=relay.bytes_to_tls,
                    seconds=time.monotonic() - self._began,
                    reason=self._reason or relay.reason or "broken",
                    at=self._tunnels.now(),
                )
            )

    def _refuse(self, refusal: Refusal, resource: str) -> None:
        self.transport.write(refuse_response(refusal.status, refusal.error, refusal.details))
        self.transport.close()
        self._report_refused(refusal, resource)

    def _report_refused(self, refusal: Refusal, resource: str) -> None:
        self._tunnels.refused += 1
        self._tunnels.report(
            TunnelRefused(
                session=self.session,
                resource=resource[:1024],
                source=self._address(),
                status=refusal.status,
                code=refusal.code,
                at=self._tunnels.now(),
            )
        )

    def _address(self) -> Address:
        return Address(host=str(self._source.address), port=self._source.port)

    def view(self) -> TunnelView:
        """As `status` shows it."""
        reach, relay = self.reach, self.relay
        return TunnelView(
            tunnel=self.id,
            session=self.session,
            resource=reach.resource if reach else "",
            port=reach.port if reach else 0,
            source=str(HostPort(str(self._source.address), self._source.port)),
            target=str(HostPort(self._target.host, self._target.port)),
            group=self.transport.get_extra_info("group") or "",
            bytes_up=relay.bytes_to_plain if relay else 0,
            bytes_down=relay.bytes_to_tls if relay else 0,
            seconds=time.monotonic() - self._began,
        )
