"""Fixtures of the controller's services; what they are made of is in perimeter.py."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from controller.storage import Storage
from controller.storage.sealing import Sealer
from tests.controller.clock import Clock
from tests.controller.perimeter import Perimeter, build, over
from tests.controller.served import Edge, Served


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def perimeter(sqlite_database: str, sealer: Sealer, clock: Clock) -> AsyncIterator[Perimeter]:
    """On SQLite, for tests that are about something else than the database."""
    async with await Storage.create(sqlite_database, sealer, domain="example.test", clock=clock) as storage:
        async for made in over(storage, clock):
            yield made


@pytest.fixture
async def any_perimeter(database_url: str, sealer: Sealer, clock: Clock) -> AsyncIterator[Perimeter]:
    """On each kind of database, for tests of what must happen once."""
    async with await Storage.create(database_url, sealer, domain="example.test", clock=clock) as storage:
        async for made in over(storage, clock):
            yield made


@pytest.fixture
def rebuild() -> Callable[[Storage, Clock], Awaitable[Perimeter]]:
    """`await rebuild(storage, clock)`: the services again, as after a restart."""
    return build


@pytest.fixture
async def served(perimeter: Perimeter) -> AsyncIterator[Served]:
    """The routes of `perimeter`, reachable."""
    made = Served(perimeter)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def edge(served: Served) -> AsyncIterator[Edge]:
    """The gateway "edge", connected."""
    await served.perimeter.add_gateway("edge", enrolled=False)
    made = await served.gateway("edge", await served.perimeter.join("edge"))
    yield made
    await made.close()
