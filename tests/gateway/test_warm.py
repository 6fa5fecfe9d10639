"""The client's warm connections at the gateway's own tunnels: both ends are real, only the knock is left out."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from certs import NameKind
from client.connection import Connection
from client.dial import CannotReach
from client.warm import Place, Warm
from tests.gateway.tunnel_world import ALICE, EDGE, give, permit
from wire.connect import Accepted, ClientHandshake
from wire.errors import RemoteError
from wire.messages import LeaseDrop
from wire.tls import ClientTls, connect_tls

MOST = 2
PATIENCE = 30


class Visitor:
    """Somebody who keeps warm connections, and how often one was made."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.warm = Warm(MOST)
        self.tls = self.new_tls()
        self.made = 0
        self.connecting = False
        self.taken: list[Connection] = []
        self.fails = False

    def new_tls(self) -> ClientTls:
        authority = self.gateway.authority
        return ClientTls(authority.identity(NameKind.SESSION, str(ALICE)), authority.trust, EDGE)

    async def connect(self) -> tuple[ClientTls, Connection]:
        self.made += 1
        if self.fails:
            raise CannotReach("knock", "silent", "nobody answers", "try again")
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003
        self.connecting = True
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.gateway.where)
            return self.tls, (await connect_tls(sock, self.tls, Connection))[1]
        finally:
            self.connecting = False

    def use(self) -> None:
        self.warm.use(Place("edge", self.connect))

    def take(self) -> Connection | None:
        connection = self.warm.take("edge", self.tls)
        if connection is not None:
            self.taken.append(connection)
        return connection


@pytest.fixture
async def make_visitor(eventually: Any) -> AsyncIterator[Callable[[Any], Any]]:
    keeping, visitors = [], []

    async def make(gateway: Any, *, ready: int = MOST) -> Visitor:
        visitor = Visitor(gateway)
        visitors.append(visitor)
        keeping.append(asyncio.create_task(visitor.warm.keep()))
        visitor.use()
        # The client's end of a handshake is done before the gateway's.
        await eventually(lambda: len(visitor.warm) == len(list(gateway.tunnels)) == ready, PATIENCE)
        return visitor

    yield make
    await eventually(lambda: not any(each.connecting for each in visitors), PATIENCE)
    for task in keeping:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for visitor in visitors:
        for connection in visitor.taken:
            connection.transport.abort()


async def ask(connection: Connection | None) -> Any:
    assert connection is not None
    async with asyncio.timeout(PATIENCE):
        return await connection.ask(ClientHandshake("wiki", 80))


async def test_a_warm_connection_opens_a_tunnel_and_is_replaced(
    gateway: Any, make_visitor: Any, eventually: Any
) -> None:
    visitor = await make_visitor(gateway)
    for number in range(1, 4):
        assert isinstance(await ask(visitor.take()), Accepted)
        visitor.use()
        await eventually(lambda: len(visitor.warm) == MOST, PATIENCE)
        assert visitor.made == MOST + number
    assert gateway.ledger.open == 3
    await eventually(lambda: len(list(gateway.tunnels)) == 3 + MOST, PATIENCE)


async def test_what_the_gateway_closed_is_never_asked(start: Any, make_visitor: Any, eventually: Any) -> None:
    gateway = start(connect_deadline=0.05, park_deadline=1.0)
    visitor = await make_visitor(gateway)
    await eventually(lambda: not len(visitor.warm), PATIENCE)
    assert visitor.take() is None
    assert visitor.made == MOST  # the next ones after a pause, not at once


async def test_an_ended_session_takes_its_warm_connections_along(
    gateway: Any, make_visitor: Any, eventually: Any
) -> None:
    visitor = await make_visitor(gateway)
    gateway.apply(LeaseDrop(seq=2, session=ALICE, code="revoked", sentence="gone"))
    await eventually(lambda: not len(visitor.warm), PATIENCE)
    assert gateway.reports == []


async def test_another_certificate_is_another_session_to_it(gateway: Any, make_visitor: Any, eventually: Any) -> None:
    visitor = await make_visitor(gateway)
    visitor.tls = visitor.new_tls()  # the session was renewed
    assert visitor.take() is None
    await eventually(lambda: not list(gateway.tunnels), PATIENCE)


async def test_one_that_dies_when_it_is_asked_says_so(gateway: Any, make_visitor: Any) -> None:
    visitor = await make_visitor(gateway)
    connection = visitor.take()
    assert connection is not None
    for tunnel in list(gateway.tunnels):
        tunnel.transport.abort()
    with pytest.raises(RemoteError):
        await ask(connection)


async def test_a_gateway_that_has_no_room_is_left_alone(
    start: Any, make_visitor: Any, echo: Any, make_lease: Any, eventually: Any
) -> None:
    gateway = start(most=0)
    give(gateway, make_lease(7, permit("wiki", echo.address)))
    visitor = await make_visitor(gateway, ready=0)
    await eventually(lambda: gateway.told("tunnel.refused"), PATIENCE)
    await eventually(lambda: visitor.made and not len(visitor.warm), PATIENCE)
    assert visitor.made <= MOST


async def test_one_that_cannot_be_made_is_not_tried_again_before_the_next_tunnel(
    gateway: Any, make_visitor: Any, eventually: Any
) -> None:
    visitor = await make_visitor(gateway)
    visitor.fails = True
    for number in (1, 2):
        visitor.take()
        visitor.use()
        await eventually(lambda number=number: visitor.made == MOST + number, PATIENCE)
    visitor.fails = False
    visitor.use()
    await eventually(lambda: len(visitor.warm) == MOST, PATIENCE)


async def test_who_stops_leaves_none_behind(gateway: Any, eventually: Any) -> None:
    visitor = Visitor(gateway)
    keeping = asyncio.create_task(visitor.warm.keep())
    visitor.use()
    await eventually(lambda: len(visitor.warm) == MOST, PATIENCE)
    keeping.cancel()
    await asyncio.wait([keeping])
    await eventually(lambda: not list(gateway.tunnels), PATIENCE)
