"""One small authority for the tests of the wire, and TLS connections on loopback."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from certs import (
    Identity,
    Issuer,
    Name,
    NameKind,
    Purpose,
    Trust,
    issue_intermediate,
    issue_leaf,
    issue_root,
    make_csr,
    new_private_key,
    private_key_pem,
)
from wire.errors import TlsRefusal
from wire.farewell import farewells_said
from wire.limits import HANDSHAKE_DEADLINE
from wire.relay import Relay
from wire.tls import ClientTls, ServerTls, TlsTransport, accept_tls, connect_tls

DOMAIN = "example.test"
GATEWAY = Name(DOMAIN, NameKind.GATEWAY, "edge")
SESSION = Name(DOMAIN, NameKind.SESSION, str(UUID(int=7)))
DEVICE = Name(DOMAIN, NameKind.DEVICE, str(UUID(int=9)))


@dataclass(frozen=True)
class Authority:
    root: Issuer
    issuers: dict[Purpose, Issuer]
    trust: Trust

    @classmethod
    def make(cls, domain: str = DOMAIN) -> "Authority":
        now = datetime.now(UTC) - timedelta(days=1)
        root = issue_root(domain, now=now)
        issuers = {purpose: issue_intermediate(root, purpose, domain, now=now) for purpose in Purpose}
        return cls(root, issuers, Trust.of(root.certificate, [one.certificate for one in issuers.values()]))

    def identity(
        self,
        name: Name,
        *,
        now: datetime | None = None,
        lifetime: timedelta = timedelta(hours=1),
        hosts: tuple[str, ...] = (),
    ) -> Identity:
        key = new_private_key()
        issuer = self.issuers[name.purpose]
        now = now or datetime.now(UTC)
        leaf = issue_leaf(issuer, make_csr(key), name, now=now, lifetime=lifetime, hosts=hosts)
        return Identity(private_key_pem(key), (leaf, issuer.certificate))


class Recorder(asyncio.Protocol):
    """Keeps what a transport tells its protocol; tests wait on its futures."""

    def __init__(self, *, keep_open: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.transport: TlsTransport
        self.made: asyncio.Future[TlsTransport] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.received = bytearray()
        self.writable = asyncio.Event()
        self.writable.set()
        self._keep_open = keep_open
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport
        self.made.set_result(transport)

    def data_received(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.ended.done()
        self.received += data
        self._news.set()

    def eof_received(self) -> bool:
        self.ended.set_result(None)
        self._news.set()
        return self._keep_open

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self.writable.set()
        self._news.set()

    async def wait_for(self, count: int) -> bytes:
        """The first `count` bytes, taken out, once they are here."""
        while len(self.received) < count:
            assert not self.lost.done(), self.lost.result()
            self._news.clear()
            await self._news.wait()
        data = bytes(self.received[:count])
        del self.received[:count]
        return data

    async def send(self, data: bytes) -> None:
        """Write as a well-behaved protocol does."""
        view = memoryview(data)
        for start in range(0, len(view), 100_000):
            await self.writable.wait()
            self.transport.write(view[start : start + 100_000])
        await self.writable.wait()


@dataclass
class Pair:
    client: Recorder
    server: Recorder


async def until(happened: Callable[[], bool]) -> None:
    """Let the loop run until something it does not announce has happened."""
    while not happened():  # noqa: ASYNC110 (nothing announces it)
        await asyncio.sleep(0)


class Wire:
    """A TLS server on loopback, and clients of it."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.trust = authority.trust
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.refusals: asyncio.Queue[TlsRefusal] = asyncio.Queue()
        self.servers: list[ServerTls] = []
        self.recorders: list[Recorder] = []
        self.relays: list[tuple[Relay, socket.socket]] = []

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return str(host), int(port)

    def server_tls(self, *purposes: Purpose, identity: Identity | None = None, **options: Any) -> ServerTls:
        identity = identity or self.authority.identity(GATEWAY, hosts=("127.0.0.1", "localhost"))
        tls = ServerTls(identity, self.trust, frozenset(purposes or {Purpose.SESSIONS}), **options)
        self.servers.append(tls)
        return tls

    def client_tls(self, identity: Identity | None = None, expect: Name = GATEWAY, **options: Any) -> ClientTls:
        return ClientTls(identity or self.authority.identity(SESSION), self.trust, expect, **options)

    def recorder(self, *, keep_open: bool = True) -> Recorder:
        """A protocol whose connection ends with the test."""
        self.recorders.append(Recorder(keep_open=keep_open))
        return self.recorders[-1]

    async def close(self) -> None:
        """Leave nothing open."""
        for tls in self.servers:
            tls.abandon_pending()
        made = [one for one in self.recorders if one.made.done()]
        for one in made:
            one.transport.abort()
        for one in made:
            await one.lost
        for relay, far in self.relays:
            relay.cut("the test is over")
            await relay.closed
            far.close()
        await farewells_said()
        self.listener.close()

    async def dial(self) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        return sock

    async def accept(self) -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        return sock

    async def serve_one(
        self, tls: ServerTls, factory: Callable[[], asyncio.BaseProtocol], deadline: float = HANDSHAKE_DEADLINE
    ) -> None:
        loop = asyncio.get_running_loop()
        accept_tls(loop, await self.accept(), tls, factory, on_refused=self.refusals.put_nowait, timeout=deadline)

    async def pair(
        self, server: ServerTls | None = None, client: ClientTls | None = None, *, keep_open: bool = True
    ) -> Pair:
        """An established connection."""
        here = self.recorder(keep_open=keep_open)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.serve_one(server or self.server_tls(), lambda: here))
            connected = group.create_task(
                connect_tls(await self.dial(), client or self.client_tls(), lambda: self.recorder(keep_open=keep_open))
            )
        _, there = connected.result()
        await here.made
        return Pair(there, here)
