"""A gateway in this process, out of a real door, TLS and relay, the resource behind it, and who certifies both."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from certs.issue import issue_intermediate, issue_leaf, issue_root, make_csr, new_private_key, private_key_pem
from certs.names import Name, NameKind, Purpose
from certs.store import Identity, Trust
from spa.admission import Admission
from spa.cloak import CloakName
from spa.door import Door
from spa.packet import KnockKind
from wire.connect import ConnectRequest, NeedMore, ServerHandshake, accept_response, refuse_response
from wire.messages import (
    Address,
    GatewayAddress,
)
from wire.relay import Held, Relay
from wire.tls import ServerTls, TlsTransport, accept_tls

DOMAIN = "example.test"


def now_us() -> int:
    return time.time_ns() // 1000


class Authority:
    def __init__(self) -> None:
        now = datetime.now(UTC)
        root = issue_root(DOMAIN, now=now)
        self.issuers = {purpose: issue_intermediate(root, purpose, DOMAIN, now=now) for purpose in Purpose}
        self.trust = Trust.of(root.certificate, [each.certificate for each in self.issuers.values()])

    def certify(self, csr: bytes, name: Name, lifetime: timedelta = timedelta(hours=1)) -> str:
        issuer = self.issuers[name.purpose]
        hosts = ("127.0.0.1",) if name.purpose is Purpose.SERVICES else ()
        leaf = issue_leaf(issuer, csr, name, now=datetime.now(UTC), lifetime=lifetime, hosts=hosts)
        return b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, issuer.certificate)).decode()

    def identity(self, name: Name) -> Identity:
        key = new_private_key()
        return Identity.from_pem(private_key_pem(key), self.certify(make_csr(key), name).encode())


def make_door(kinds: frozenset[KnockKind], on_connection: Callable[..., None]) -> tuple[Door, Admission]:
    admission = Admission(
        started_us=now_us() - 1, kinds=kinds, ports=frozenset(), lease_live=lambda _key, _session: True
    )
    door = Door(
        listen=("127.0.0.1", 0),
        knock=("127.0.0.1", 0),
        cloak=CloakName.ON_DEMAND,
        admission=admission,
        on_connection=on_connection,
    )
    return door, admission


class Resource:
    """Something hidden: a TCP server that echoes in capitals and ends when its client does."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data.upper())
                await writer.drain()
            writer.write(b"<END>")
        writer.close()

    async def close(self) -> None:
        self._server.close()


class GatewayTunnel(asyncio.Protocol):
    """A gateway's tunnel without a lease: `answers` decides."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._handshake = ServerHandshake()
        self.transport: TlsTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport
        self._gateway.peers.append(transport.get_extra_info("peer"))
        self._gateway.silent.append(self)

    def data_received(self, data: bytes) -> None:
        answer = self._handshake.receive(data)
        if isinstance(answer, NeedMore):
            return
        assert isinstance(answer, ConnectRequest)
        self._gateway.silent.remove(self)
        if self._gateway.deaf > 0:  # it is gone, and nothing says so
            self._gateway.deaf -= 1
            return
        self.transport.pause_reading()
        refusal = self._gateway.refusals.get(answer.name)
        if refusal is not None:
            self.transport.write(refuse_response(*refusal))
            self.transport.close()
            return
        self._gateway.tasks.append(asyncio.get_running_loop().create_task(self._relay(answer)))

    async def _relay(self, request: ConnectRequest) -> None:
        plain, _held = await asyncio.get_running_loop().create_connection(
            Held, "127.0.0.1", self._gateway.resource.port
        )
        self.transport.write(accept_response())
        relay = Relay(self.transport, plain, to_tls=b"", to_plain=request.rest)
        self._gateway.relays.append(relay)
        await relay.closed

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        pass


class Gateway:
    def __init__(self, name: str, authority: Authority, resource: Resource) -> None:
        self.name = Name(DOMAIN, NameKind.GATEWAY, name)
        self.resource = resource
        self.tls = ServerTls(authority.identity(self.name), authority.trust, frozenset({Purpose.SESSIONS}))
        self.refusals: dict[str, tuple[int, str, str]] = {}
        self.peers: list[Name] = []
        self.silent: list[GatewayTunnel] = []  # verified, and not asked yet
        self.deaf = 0  # so many requests get no answer
        self.relays: list[Relay] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.door, self.admission = make_door(frozenset({KnockKind.TUNNEL}), self._connection)

    def _connection(self, sock: socket.socket, _source: object) -> None:
        accept_tls(asyncio.get_running_loop(), sock, self.tls, lambda: GatewayTunnel(self))

    @property
    def address(self) -> GatewayAddress:
        return GatewayAddress(
            name=self.name.id,
            tls=Address(host="127.0.0.1", port=self.door.bound_listen.port),
            knock=Address(host="127.0.0.1", port=self.door.bound_knock.port),
        )

    async def close(self) -> None:
        await self.door.close()
        for relay in self.relays:
            if not relay.closed.done():
                relay.cut("test over")
        if self.tasks:
            await asyncio.wait(self.tasks)
