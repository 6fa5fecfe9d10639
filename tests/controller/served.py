"""A controller's services behind TLS on loopback, and gateways that have a link to them."""

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aiohttp

from certs import Identity, Purpose
from controller.api import application
from tests.controller.perimeter import Perimeter
from wire.http import HttpsServer, connector
from wire.messages import (
    Acknowledged,
    Hello,
    Lease,
    LeaseDrop,
    LeasePut,
    Resources,
    Snapshot,
    TrustPut,
    decode,
    to_gateway,
)
from wire.tls import ClientTls, ServerTls


class Served:
    """The routes behind real TLS on loopback."""

    def __init__(self, perimeter: Perimeter) -> None:
        self.perimeter = perimeter
        identity = perimeter.authority.new_identity(
            perimeter.name, now=datetime.now(UTC), lifetime=timedelta(hours=1), hosts=["127.0.0.1"]
        )
        accept = frozenset({Purpose.DEVICES, Purpose.SERVICES})
        tls = ServerTls(identity, perimeter.authority.trust, accept, require_client=False, alpn=("http/1.1",))
        self.server = HttpsServer(application(perimeter), tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)  # noqa: FBT003 - socket's signature
        self._accepting: asyncio.Task[None] | None = None
        self._clients: list[aiohttp.ClientSession] = []

    async def start(self) -> None:
        await self.server.start()
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            self.server.accept(sock)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        if self._accepting is not None:
            self._accepting.cancel()
        self._listener.close()
        await self.perimeter.links.close()
        await self.server.close()

    async def dial(self) -> socket.socket:
        """A connection, as behind a knock."""
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - socket's signature
        await asyncio.get_running_loop().sock_connect(sock, self._listener.getsockname())
        return sock

    def client(self, identity: Identity | None) -> aiohttp.ClientSession:
        """Requests with this identity, or with no certificate."""
        tls = ClientTls(identity, self.perimeter.authority.trust, self.perimeter.name, alpn=("http/1.1",))

        client = aiohttp.ClientSession(connector=connector(self.dial, tls), base_url="https://main")
        self._clients.append(client)
        return client

    async def gateway(self, name: str, identity: Identity) -> "Edge":
        """A gateway with its link up and its snapshot applied."""
        socket_ = await self.client(identity).ws_connect("/v1/link")
        edge = Edge(name, socket_)
        await socket_.send_str(Hello(version="1", cloak="on-demand").model_dump_json())
        edge.start()
        await edge.changed(lambda: edge.snapshots > 0)
        return edge


class Edge:
    """A gateway: applies what it is told and acknowledges it, unless it is told to lag."""

    def __init__(self, name: str, socket_: aiohttp.ClientWebSocketResponse) -> None:
        self.name = name
        self.leases: dict[UUID, Lease] = {}
        self.dropped: list[LeaseDrop] = []
        self.puts = 0
        self.snapshots = 0
        self.lags = False
        self._applied = 0
        self._socket = socket_
        self._heard = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        await self._socket.close()
        if self._reading is not None:
            await self._reading

    async def acknowledge(self) -> None:
        """Says how far it is."""
        await self._socket.send_str(Acknowledged(seq=self._applied).model_dump_json())

    async def changed(self, until: Callable[[], bool]) -> None:
        """Returns when what it was told makes `until` true."""
        async with asyncio.timeout(60), self._heard:
            await self._heard.wait_for(until)

    async def _read(self) -> None:
        async for received in self._socket:
            seq = self._apply(decode(to_gateway, received.data))
            self._applied = seq if seq is not None else self._applied
            if seq is not None and not self.lags:
                await self.acknowledge()
            async with self._heard:
                self._heard.notify_all()

    def _apply(self, message: object) -> int | None:
        match message:
            case Snapshot():
                self.leases = {lease.session: lease for lease in message.leases}
                self.snapshots += 1
                return message.seq
            case LeasePut():
                self.leases[message.lease.session] = message.lease
                self.puts += 1
                return message.seq
            case LeaseDrop():
                self.leases.pop(message.session, None)
                self.dropped.append(message)
                return message.seq
            case Resources() | TrustPut():
                return message.seq
        return None
