"""Connections that are verified and silent, and tunnels that end by the clock: real TLS, real sockets."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.lifetimes import Lifetimes
from tests.gateway.tunnel_world import ALICE, BOB, give, opened, permit
from wire.connect import Accepted, ClientHandshake, Refused
from wire.messages import LeaseDrop, LeasePut

SOON = 0.05
"""Seconds until a silent connection is parked: here and there it is parked before the test looks, and that is fine."""
PATIENCE = 30


@pytest.fixture
async def make_parking(start: Any, echo: Any, make_lease: Any) -> Any:
    """A gateway that parks soon, with a lease for Alice and one for Bob."""

    def make(**options: Any) -> Any:
        gateway = start(connect_deadline=SOON, **options)
        for number in (7, 8):
            give(gateway, make_lease(number, permit("wiki", echo.address)))
        return gateway

    return make


async def park(gateway: Any, stack: Any, eventually: Any, count: int, session: Any = ALICE) -> list[Any]:
    """So many more parked connections, oldest first."""
    before, made = gateway.ledger.parked, []
    for number in range(count):
        made.append(await stack.enter_async_context(gateway.dial(session)))
        await eventually(lambda number=number: gateway.ledger.parked == before + number + 1, PATIENCE)
    return made


async def test_a_parked_connection_asks_and_is_judged_when_it_asks(
    make_parking: Any, stack: Any, eventually: Any, echo: Any, make_lease: Any
) -> None:
    gateway = make_parking()
    first, second = await park(gateway, stack, eventually, 2)
    answer = await gateway.ask(*first, "wiki", behind=b"hello")
    assert isinstance(answer, Accepted)
    assert gateway.ledger.parked == 1
    gateway.apply(LeasePut(seq=2, lease=make_lease(7, permit("shop", echo.address))))
    assert isinstance(await gateway.ask(*second, "wiki"), Refused)
    assert [each.code for each in gateway.told("tunnel.refused")] == ["not_served"]


async def test_one_that_never_asks_is_closed_without_a_word(make_parking: Any, stack: Any, eventually: Any) -> None:
    gateway = make_parking(park_deadline=0.3)
    reader, _writer = await stack.enter_async_context(gateway.dial())
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    await eventually(lambda: not len(gateway.tunnels))
    assert gateway.reports == []


async def test_none_waits_past_its_certificate(make_parking: Any, stack: Any) -> None:
    ends_soon = timedelta(hours=1) - timedelta(seconds=0.5)  # the test authority's certificates live for an hour
    gateway = make_parking(park_deadline=3_600, now=lambda: datetime.now(UTC) + ends_soon)
    reader, _writer = await stack.enter_async_context(gateway.dial())
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""


async def test_from_its_first_byte_on_a_connect_has_its_deadline(
    make_parking: Any, stack: Any, eventually: Any
) -> None:
    gateway = make_parking()
    ((reader, writer),) = await park(gateway, stack, eventually, 1)
    writer.write(ClientHandshake("wiki", 80).request()[:20])
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    assert [each.code for each in gateway.told("tunnel.refused")] == ["connect_deadline"]


async def test_the_oldest_of_a_session_goes_when_it_parks_too_many(
    make_parking: Any, stack: Any, eventually: Any
) -> None:
    gateway = make_parking(most_parked_of_session=2)
    (oldest, *_rest) = await park(gateway, stack, eventually, 2)
    await park(gateway, stack, eventually, 1, BOB)
    newest = await stack.enter_async_context(gateway.dial())
    async with asyncio.timeout(PATIENCE):
        assert await oldest[0].read() == b""
    assert gateway.ledger.parked == 3
    assert isinstance(await gateway.ask(*newest, "wiki"), Accepted)


async def test_parked_connections_count_and_make_way(make_parking: Any, stack: Any, eventually: Any) -> None:
    gateway = make_parking(most_of_session=3)
    await opened(gateway, stack)
    oldest, younger = await park(gateway, stack, eventually, 2)
    await opened(gateway, stack)
    async with asyncio.timeout(PATIENCE):
        assert await oldest[0].read() == b""
    assert isinstance(await gateway.ask(*younger, "wiki"), Accepted)
    assert isinstance(await gateway.ask(*await stack.enter_async_context(gateway.dial()), "wiki"), Refused)


async def test_a_dropped_lease_cuts_what_is_parked(make_parking: Any, stack: Any, eventually: Any) -> None:
    gateway = make_parking()
    ((reader, _writer),) = await park(gateway, stack, eventually, 1)
    ended = gateway.apply(LeaseDrop(seq=2, session=ALICE, code="revoked", sentence="gone"))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(ended)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
    assert (len(ended), gateway.reports) == (1, [])


@pytest.mark.parametrize(("limits", "reason"), [((1.0, 0.0), "idle"), ((0.0, 1.0), "lifetime")])
async def test_a_tunnel_ends_by_the_clock_and_says_why(
    make_parking: Any, stack: Any, eventually: Any, limits: Any, reason: str
) -> None:
    gateway = make_parking(lifetimes=Lifetimes(*limits))
    reader, _writer = await opened(gateway, stack)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
    await eventually(lambda: gateway.told("tunnel.closed"), PATIENCE)
    (closed,) = gateway.told("tunnel.closed")
    assert (closed.reason, closed.bytes_up, closed.bytes_down) == (reason, 5, 5)
