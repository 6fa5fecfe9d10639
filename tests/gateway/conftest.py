"""A small authority, a controller's end of the link over real TLS, and the parts of a gateway that need no door."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import pytest
import uvloop
from aiohttp import web

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
from controller.audit.events import Event
from controller.gateways.link import Links
from tests.gateway.tunnel_world import Echo, Gateway, give, permit
from wire.http import HttpsServer, connector
from wire.limits import ALPN_HTTP
from wire.messages import Address, ControllerAddress, Lease, Permit, ServedResource
from wire.tls import ClientTls, ServerTls

DOMAIN = "example.test"
CONTROLLER = Name(DOMAIN, NameKind.CONTROLLER, "main")


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Any:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Authority:
    issuers: dict[Purpose, Issuer]
    trust: Trust

    @classmethod
    def make(cls) -> "Authority":
        now = datetime.now(UTC)
        root = issue_root(DOMAIN, now=now)
        issuers = {purpose: issue_intermediate(root, purpose, DOMAIN, now=now) for purpose in Purpose}
        return cls(issuers, Trust.of(root.certificate, [one.certificate for one in issuers.values()]))

    def identity(self, kind: NameKind, id_: str) -> Identity:
        key = new_private_key()
        name = Name(DOMAIN, kind, id_)
        issuer = self.issuers[name.purpose]
        leaf = issue_leaf(issuer, make_csr(key), name, now=datetime.now(UTC), lifetime=timedelta(hours=1))
        return Identity(private_key_pem(key), (leaf, issuer.certificate))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.make()


@dataclass
class ControllerEnd:
    """A controller's link route on a loopback port: stopped and started at will, `links` new or kept."""

    authority: Authority
    links: Links
    notes: list[Event]
    leases: dict[UUID, Lease] = field(default_factory=dict)
    served: list[ServedResource] = field(default_factory=list)
    port: int = 0
    _listener: socket.socket | None = None
    _server: HttpsServer | None = None
    _accepting: asyncio.Task[None] | None = None

    @property
    def address(self) -> ControllerAddress:
        where = Address(host="127.0.0.1", port=self.port)
        return ControllerAddress(name="main", tls=where, knock=where)

    def told(self, kind: str) -> list[Event]:
        return [each for each in self.notes if each.kind == kind]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/link", self._handle)
        identity = self.authority.identity(NameKind.CONTROLLER, "main")
        tls = ServerTls(identity, self.authority.trust, frozenset({Purpose.SERVICES}), alpn=(ALPN_HTTP,))
        self._server = HttpsServer(app, tls)
        await self._server.start()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)  # noqa: FBT003
        self.port = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept(self._listener, self._server))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        return await self.links.handle(request)

    async def _accept(self, listener: socket.socket, server: HttpsServer) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            server.accept(sock)

    async def stop(self) -> None:
        if self._accepting is None:
            return
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listener.close()
        await self.links.close()
        await self._server.close()
        self._accepting = None


@pytest.fixture
async def controller(authority: Authority) -> AsyncIterator[ControllerEnd]:
    end = ControllerEnd(authority, make_links(), [])
    adopt(end, end.links)
    await end.start()
    yield end
    await end.stop()


def make_links(**options: Any) -> Links:
    options = {"outage_grace": timedelta(seconds=60), "ping": timedelta(seconds=5), **options}
    return Links(served_by=lambda _: (), trust=lambda: "none", note=lambda _: None, **options)


def adopt(end: ControllerEnd, links: Links) -> None:
    """Makes `links` the ones of this controller, fed from its leases."""

    async def leases_for(gateway: str) -> tuple[Lease, ...]:
        return tuple(end.leases.values())

    links.leases_for = leases_for
    links._served_by = lambda gateway: tuple(end.served) if gateway == "edge" else None
    links._note = end.notes.append
    end.links = links


@pytest.fixture
def dialler(authority: Authority) -> Iterator[Any]:
    """Links without knocks: the door is tested where it is made."""
    identity = authority.identity(NameKind.GATEWAY, "edge")

    @asynccontextmanager
    async def connect(address: ControllerAddress) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async def dial() -> socket.socket:
            sock = socket.socket()
            sock.setblocking(False)  # noqa: FBT003
            try:
                await asyncio.get_running_loop().sock_connect(sock, (address.tls.host, address.tls.port))
            except BaseException:
                sock.close()
                raise
            return sock

        tls = ClientTls(identity, authority.trust, CONTROLLER, alpn=(ALPN_HTTP,))
        async with (
            aiohttp.ClientSession(connector=connector(dial, tls)) as session,
            session.ws_connect(
                "https://main/v1/link", compress=0, timeout=aiohttp.ClientWSTimeout(ws_close=0.5)
            ) as websocket,
        ):
            yield websocket

    return connect


@pytest.fixture
def make_lease() -> Callable[..., Lease]:
    def make(number: int, *permits: Permit, device: int = 1, seconds: float = 600, **more: Any) -> Lease:
        return Lease(
            session=UUID(int=number),
            device=UUID(int=device),
            user="alice",
            knock_keys=(bytes(64),),
            permits=permits,
            valid_until=datetime.now(UTC) + timedelta(seconds=seconds),
            policy_revision=1,
            **more,
        )

    return make


@pytest.fixture
def eventually() -> Any:
    """Waits until a condition holds; the test fails if it does not within half a minute."""

    async def wait(condition: Callable[[], object], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def links_maker() -> Any:
    return make_links, adopt


@pytest.fixture
async def echo() -> AsyncIterator[Any]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    yield made
    server.close()


@pytest.fixture
async def start(authority: Any) -> AsyncIterator[Any]:
    made = []

    def start_gateway(**options: Any) -> Gateway:
        made.append(Gateway(authority, **options))
        return made[-1]

    yield start_gateway
    for each in made:
        await each.close()


@pytest.fixture
async def gateway(start: Callable[..., Gateway], echo: Any, make_lease: Any) -> Gateway:
    made = start()
    give(made, make_lease(7, permit("wiki", echo.address), permit("shop", echo.address)))
    return made


@pytest.fixture
async def stack() -> AsyncIterator[Any]:
    async with AsyncExitStack() as made:
        yield made
