"""Opening a tunnel: gateway by gateway, knock, TLS with the session's certificate, CONNECT.

Laws:

1. Gateways are tried in order. One that cannot be reached, does not serve the resource or cannot reach it makes way for
   the next; one that says the session may not is believed: the others hold the same lease.
2. A tunnel is handed over only once the gateway accepted; not a byte of the application leaves before that.
3. The session's certificate is read for each tunnel, because the agent renews it while this process lives.
4. A warm connection is asked first. One that ends before it answers, or does not answer within `WARM_PATIENCE`, is
   given up for a fresh one: nothing of the application has left by then.
5. While another gateway is left, one that does not answer costs `HEAD_START`, and it comes last for a while after that.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from uuid import UUID

from certs.names import Name, NameKind
from certs.secret import Secret
from certs.store import Identity, Trust
from client.agent.messages import RouteAnswer
from client.clock import Clock
from client.connection import Answer, Connection
from client.dial import DEADLINE, CannotReach, Door, open_tls
from client.profile import Profile
from client.state import ClientState
from client.warm import Place, Warm
from console.address import HostPort
from console.errors import CommandError
from spa.packet import KnockKind
from wire.connect import Accepted, ClientHandshake, Refused, UdpHandshake, Upgraded
from wire.datagrams import Datagrams
from wire.errors import RemoteError
from wire.messages import GatewayAddress
from wire.relay import Relay
from wire.tls import ClientTls, TlsTransport

ANSWER_DEADLINE: Final = 15.0
"""Seconds for a gateway's answer to CONNECT: it dials the resource first, and gives up on that sooner."""
HEAD_START: Final = 2.0
"""Seconds for a gateway that is not the last: four knocks leave within 0.8 s; the rest is a round trip by satellite."""
REMEMBERED: Final = 30.0
"""Seconds a gateway that did not answer comes last: new connections do not wait for it, and it is soon tried again."""
WARM_PATIENCE: Final = 2.0
"""Seconds for the answer on a warm connection: a network that changed under it (another Wi-Fi, a forgetful NAT) is
silent, and the fresh connection says so or works."""
NOT_FOR_YOU: Final = 403


class TunnelDenied(Exception):  # noqa: N818 - reads as what it is
    """A gateway refused the session this resource; `str()` is the gateway's sentence."""


@dataclass(slots=True)
class Tunnel:
    """An accepted tunnel that nothing flows through yet: call `relay`, or `datagrams`, or `abort`."""

    gateway: str
    transport: TlsTransport
    _first: bytes

    def relay(self, plain: asyncio.Transport) -> Relay:
        """Copies between the tunnel and `plain` from now on."""
        return Relay(self.transport, plain, to_plain=self._first)

    def datagrams(self, deliver: Callable[[bytes], None]) -> Datagrams:
        """Carries datagrams from now on; `deliver` gets those that arrive."""
        return Datagrams(self.transport, deliver, early=self._first)

    def abort(self) -> None:
        """Gives the tunnel up."""
        self.transport.abort()


class Tunnels:
    """Opens tunnels for one device."""

    def __init__(self, state: ClientState, profile: Profile, *, warm: int = 0) -> None:
        self.warm = Warm(warm)  # stays empty unless somebody runs its `keep`
        self._state = state
        self._profile = profile
        self._tls: dict[str, tuple[Identity, Trust, ClientTls]] = {}
        self._silent: dict[str, float] = {}  # gateways that did not answer, and when by the event loop's clock

    async def open(self, way: RouteAnswer) -> Tunnel:
        """A tunnel to the route's resource. Raises TunnelDenied, CannotReach (of the last gateway), CommandError."""
        last: CannotReach | None = None
        gateways = self._in_order(way.gateways)
        for gateway in gateways:
            try:
                return await self._through(gateway, way, DEADLINE if gateway is gateways[-1] else HEAD_START)
            except CannotReach as error:
                if error.step == "knock":
                    self._silent[gateway.name] = asyncio.get_running_loop().time()
                last = error
        raise last if last is not None else CannotReach("route", "none", "the route has no gateway", "log in again")

    def _in_order(self, gateways: Sequence[GatewayAddress]) -> list[GatewayAddress]:
        recent = asyncio.get_running_loop().time() - REMEMBERED
        return sorted(gateways, key=lambda each: self._silent.get(each.name, recent) > recent)

    def be_warm(self, way: RouteAnswer) -> None:
        """Expect a tunnel to the route's resource soon: what `warm.keep` makes is for its first gateway."""
        self._warm_at(self._in_order(way.gateways)[0], way)

    def _warm_at(self, gateway: GatewayAddress, way: RouteAnswer) -> None:
        async def connect() -> tuple[ClientTls, Connection]:
            tls = self._tls_for(gateway, way)
            _, connection = await open_tls(self._door(gateway, way, HEAD_START).dial, tls, Connection)
            return tls, connection

        self.warm.use(Place(gateway.name, connect))

    def _door(self, gateway: GatewayAddress, way: RouteAnswer, deadline: float) -> Door:
        return gateway_door(gateway, way, self._profile, self._state.knock_secret(), deadline)

    async def _ask_warm(
        self, gateway: GatewayAddress, way: RouteAnswer, tls: ClientTls
    ) -> tuple[Answer, Connection] | None:
        """The answer a warm connection brought; None if there is none that answers."""
        connection = self.warm.take(gateway.name, tls)
        if connection is None:
            return None
        try:
            async with asyncio.timeout(WARM_PATIENCE):
                return await connection.ask(_handshake(gateway, way)), connection
        except (TimeoutError, RemoteError):
            connection.transport.abort()
            return None
        except BaseException:
            connection.transport.abort()
            raise

    async def _ask(
        self, gateway: GatewayAddress, way: RouteAnswer, tls: ClientTls, deadline: float
    ) -> tuple[Answer, Connection]:
        """The answer on a fresh connection."""
        dial = self._door(gateway, way, deadline).dial
        transport, connection = await open_tls(dial, tls, lambda: Connection(_handshake(gateway, way)))
        try:
            async with asyncio.timeout(ANSWER_DEADLINE):
                return await connection.answer(), connection
        except (TimeoutError, RemoteError) as error:
            transport.abort()
            sentence = f"gateway {gateway.name} did not answer: {error or 'too slow'}"
            fix = "look at gloam status: the session may have been renewed or ended this moment; try again"
            raise CannotReach("connect", "no_answer", sentence, fix) from error
        except BaseException:
            transport.abort()
            raise

    async def _through(self, gateway: GatewayAddress, way: RouteAnswer, deadline: float) -> Tunnel:
        tls = self._tls_for(gateway, way)
        answered = await self._ask_warm(gateway, way, tls) or await self._ask(gateway, way, tls, deadline)
        answer, connection = answered
        self._warm_at(gateway, way)
        self._silent.pop(gateway.name, None)
        match answer:
            case Accepted() | Upgraded():
                return Tunnel(gateway.name, connection.transport, answer.rest)
            case Refused():
                connection.transport.close()
                said = answer.details or f"HTTP {answer.status}"
                if answer.status == NOT_FOR_YOU:
                    raise TunnelDenied(said)
                fix = "ask the administrator whether the resource runs and the gateway may reach it"
                raise CannotReach("resource", answer.error, f"gateway {gateway.name} says: {said}", fix)

    def _tls_for(self, gateway: GatewayAddress, way: RouteAnswer) -> ClientTls:
        identity = self._state.session()
        if identity is None or identity.name.id != way.session:
            raise CommandError("the session ended or was replaced this moment", "try again, or run gloam login")
        kept = self._tls.get(gateway.name)
        trust = self._state.trust()
        if kept is None or kept[0].leaf != identity.leaf or kept[1] is not trust:
            name = Name(self._profile.domain, NameKind.GATEWAY, gateway.name)
            kept = self._tls[gateway.name] = (identity, trust, ClientTls(identity, trust, name))
        return kept[2]


def _handshake(gateway: GatewayAddress, way: RouteAnswer) -> ClientHandshake | UdpHandshake:
    """What this resource is asked for with."""
    name, port = way.resource.name, way.resource.port
    if way.resource.protocol == "udp":
        return UdpHandshake(name, port, str(HostPort(gateway.tls.host, gateway.tls.port)))
    return ClientHandshake(name, port)


def gateway_door(
    gateway: GatewayAddress, way: RouteAnswer, profile: Profile, secret: Secret, deadline: float = DEADLINE
) -> Door:
    """The gateway's door, for this session."""
    return Door(
        Name(profile.domain, NameKind.GATEWAY, gateway.name),
        gateway.tls,
        gateway.knock,
        KnockKind.TUNNEL,
        Clock(way.clock),
        session=UUID(way.session),
        deadline=deadline,
        seen_at=None if way.seen_at is None else ip_address(way.seen_at),
        secret=secret,
    )
