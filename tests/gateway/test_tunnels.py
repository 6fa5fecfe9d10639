"""Tunnels: real TLS, real session certificates, real sockets, a real TCP echo. Only the door is left out."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from certs import NameKind
from tests.gateway.tunnel_world import ALICE, BOB, KNOCKED, LAPTOP, give, opened, permit
from wire.connect import Accepted, ClientHandshake, Refused
from wire.messages import Address, LeaseDrop, LeasePut, Resources, ServedResource


async def test_bytes_go_both_ways_and_are_counted_exactly(gateway: Any, echo: Any, eventually: Any) -> None:
    payload = bytes(range(256)) * 8192
    async with gateway.dial() as (reader, writer):
        answer = await gateway.ask(reader, writer, "wiki", behind=payload)
        assert isinstance(answer, Accepted)
        writer.write_eof()
        received = answer.rest + await reader.read(-1)
        assert received == payload
    await eventually(lambda: gateway.told("tunnel.closed"))
    opened, closed = gateway.reports
    assert opened.tunnel == closed.tunnel
    assert (opened.session, opened.resource, opened.target) == (ALICE, "wiki", echo.address)
    assert opened.group == "X25519MLKEM768"
    assert (closed.bytes_up, closed.bytes_down, closed.reason) == (len(payload), len(payload), "done")
    await eventually(lambda: len(gateway.tunnels) == 0)


async def test_half_close_leaves_the_other_direction_open(
    gateway: Any, start: Any, make_lease: Any, eventually: Any
) -> None:
    async def count(reader: Any, writer: Any) -> None:
        writer.write(str(len(await reader.read(-1))).encode())
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    target = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    give(gateway, make_lease(7, permit("counter", target)))
    async with gateway.dial() as (reader, writer):
        assert isinstance(await gateway.ask(reader, writer, "counter", behind=b"x" * 1000), Accepted)
        writer.write(b"y" * 234)
        writer.write_eof()
        assert await reader.read(-1) == b"1234"
    server.close()


@pytest.mark.parametrize(
    ("session", "name", "port", "knocked", "status", "error", "code"),
    [
        (ALICE, "nothing", 80, KNOCKED, 404, "destination_not_found", "not_served"),
        (ALICE, "vault", 80, KNOCKED, 403, "http_request_denied", "no_grant"),
        (ALICE, "wiki", 81, KNOCKED, 404, "destination_not_found", "wrong_port"),
        (BOB, "wiki", 80, KNOCKED, 403, "http_request_denied", "no_lease"),
        (ALICE, "wiki", 80, frozenset({"device/other"}), 403, "http_request_denied", "no_knock"),
    ],
)
async def test_a_refusal_says_why_and_is_reported(  # noqa: PLR0917
    gateway: Any,
    session: UUID,
    name: str,
    port: int,
    knocked: frozenset[str],
    status: int,
    error: str,
    code: str,
    eventually: Any,
) -> None:
    gateway.apply(Resources(seq=2, resources=(ServedResource(name="vault", port=80),)))
    gateway.knocked = knocked
    async with gateway.dial(session) as (reader, writer):
        answer = await gateway.ask(reader, writer, name, port)
        assert isinstance(answer, Refused)
        assert (answer.status, answer.error) == (status, error)
        assert answer.details
        assert await reader.read(-1) is not None
    assert [(each.session, each.resource, each.code) for each in gateway.told("tunnel.refused")] == [
        (session, name, code)
    ]
    await eventually(lambda: not len(gateway.tunnels))


async def test_what_is_no_connect_is_refused(gateway: Any) -> None:
    async with gateway.dial() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: wiki\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 405 ")
    assert gateway.told("tunnel.refused")[0].code == "bad_request"


async def test_a_target_that_refuses_is_a_502(gateway: Any, make_lease: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    give(gateway, make_lease(7, permit("wiki", Address(host="127.0.0.1", port=port))))
    async with gateway.dial() as (reader, writer):
        answer = await gateway.ask(reader, writer, "wiki")
    assert (answer.status, answer.error) == (502, "connection_refused")


@pytest.fixture
def deaf() -> Iterator[Any]:
    """The address of a target that takes no more connections: its queue is full, so the kernel drops every SYN."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)  # noqa: FBT003
            each.connect_ex(listener.getsockname())
        yield Address(host="127.0.0.1", port=listener.getsockname()[1])


async def test_a_target_that_does_not_answer_is_a_504(start: Any, deaf: Any, make_lease: Any) -> None:
    gateway = start(dial_deadline=0.2)
    give(gateway, make_lease(7, permit("wiki", deaf)))
    async with gateway.dial() as (reader, writer):
        answer = await gateway.ask(reader, writer, "wiki")
    assert (answer.status, answer.error) == (504, "connection_timeout")


async def test_who_does_not_ask_in_time_is_refused(start: Any, make_lease: Any) -> None:
    gateway = start(connect_deadline=0.2)
    async with gateway.dial() as (reader, writer):
        writer.write(b"CONNECT wiki:80 HTTP/1.1\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")


async def test_a_device_certificate_is_no_session(gateway: Any, eventually: Any) -> None:
    with pytest.raises(ConnectionError):
        async with gateway.dial(LAPTOP, NameKind.DEVICE) as (reader, _):
            await reader.readexactly(1)
    await eventually(lambda: gateway.told("handshake.refused"))
    assert gateway.told("handshake.refused")[0].source.host == "127.0.0.1"
    assert gateway.told("tunnel.opened") == []


async def test_a_dropped_lease_cuts_both_sides_at_once(gateway: Any, echo: Any, stack: Any, eventually: Any) -> None:
    tunnels = [await opened(gateway, stack) for _ in range(20)]
    assert gateway.ledger.open == 20
    ended = gateway.apply(LeaseDrop(seq=2, session=ALICE, code="revoked", sentence="gone"))
    assert len(ended) == 20
    async with asyncio.timeout(30):
        await asyncio.wait(ended)
        for reader, _ in tunnels:
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
    await eventually(lambda: echo.lost == 20)
    await eventually(lambda: len(gateway.told("tunnel.closed")) == 20)
    assert {(each.reason, each.bytes_up, each.bytes_down) for each in gateway.told("tunnel.closed")} == {
        ("revoked", 5, 5)
    }


async def test_a_lost_permit_cuts_its_tunnels_and_no_others(
    gateway: Any, echo: Any, stack: Any, make_lease: Any
) -> None:
    wiki, _ = await opened(gateway, stack, "wiki")
    shop, to_shop = await opened(gateway, stack, "shop")
    await asyncio.wait(gateway.apply(LeasePut(seq=2, lease=make_lease(7, permit("shop", echo.address)))))
    with pytest.raises(ConnectionError):
        await wiki.readexactly(1)
    to_shop.write(b"still")
    assert await shop.readexactly(5) == b"still"
    assert [each.reason for each in gateway.told("tunnel.closed")] == ["permit_lost"]


async def test_a_lease_that_ends_cuts_its_tunnels(gateway: Any, stack: Any, echo: Any, make_lease: Any) -> None:
    running = asyncio.create_task(gateway.enforcement.expire_forever())
    reader, _ = await opened(gateway, stack)
    lease = make_lease(7, permit("wiki", echo.address), seconds=0.3)
    give(gateway, lease)
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    assert datetime.now(UTC) >= lease.valid_until
    running.cancel()


async def test_a_tunnel_is_cut_while_its_target_is_being_dialled(
    start: Any, deaf: Any, make_lease: Any, eventually: Any
) -> None:
    gateway = start()
    give(gateway, make_lease(7, permit("wiki", deaf)))
    async with gateway.dial() as (reader, writer):
        writer.write(ClientHandshake("wiki", 80).request())
        await eventually(lambda: [each for each in gateway.ledger if each.reach is not None])
        async with asyncio.timeout(30):
            await asyncio.wait(gateway.apply(LeaseDrop(seq=2, session=ALICE, code="revoked")))
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
    assert [each.code for each in gateway.told("tunnel.refused")] == ["revoked"]
    assert not len(gateway.tunnels)


async def test_a_session_has_its_share_and_no_more(start: Any, echo: Any, stack: Any, make_lease: Any) -> None:
    gateway = start(most_of_session=2)
    give(gateway, make_lease(7, permit("wiki", echo.address)))
    give(gateway, make_lease(8, permit("wiki", echo.address)))
    for _ in range(2):
        await opened(gateway, stack)
    async with gateway.dial() as (reader, writer):
        answer = await gateway.ask(reader, writer, "wiki")
    assert (answer.status, answer.error) == (429, "connection_limit_reached")
    await opened(gateway, stack, session=BOB)


async def test_a_gateway_has_its_most_and_no_more(
    start: Any, echo: Any, stack: Any, make_lease: Any, eventually: Any
) -> None:
    gateway = start(most=1)
    give(gateway, make_lease(7, permit("wiki", echo.address)))
    _, first = await opened(gateway, stack)
    async with gateway.dial(BOB) as (reader, writer):
        answer = await gateway.ask(reader, writer, "wiki")
    assert (answer.status, answer.error) == (503, "connection_limit_reached")
    first.transport.abort()
    await eventually(lambda: not len(gateway.tunnels))
    await opened(gateway, stack)


async def test_a_client_that_goes_away_before_it_asks_leaves_nothing(gateway: Any, eventually: Any) -> None:
    async with gateway.dial():
        await eventually(lambda: len(gateway.tunnels))
    await eventually(lambda: not len(gateway.tunnels))
    assert gateway.reports == []


async def test_stopping_at_once_cuts_everything(gateway: Any, stack: Any) -> None:
    reader, _ = await opened(gateway, stack)
    gateway.tasks[0].cancel()
    await asyncio.wait([gateway.tasks[0]])
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    assert [each.reason for each in gateway.told("tunnel.closed")] == ["gateway_stopped"]


async def test_no_socket_of_a_tunnel_waits_for_more_to_send(gateway: Any, stack: Any) -> None:
    """RFC 896 against interactive sessions: every leg has TCP_NODELAY."""
    _reader, writer = await opened(gateway, stack)
    (tunnel,) = gateway.tunnels
    legs = (writer.transport, tunnel.transport, tunnel.relay._plain)
    for leg in legs:
        assert leg.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
